"""The command line in this process, for the tests of every command."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

import pytest

from ddpm_ref import cli
from ddpm_ref.training import progress

TINY = "--network.width 8 --network.multipliers 1 --network.groups 4 --batch-size 4 --schedule.T 10 --network.attention"
"""Flags of a run that takes a moment."""


def run(arguments: str | Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit status, output and errors."""
    with pytest.raises(SystemExit) as end:
        cli.main(arguments.split() if isinstance(arguments, str) else list(arguments))
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


def run_stopped(
    arguments: str, stop: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str, str]:
    """`run` of a resumable measurement that gets SIGTERM when it tells of its step ``stop``."""

    class Impatient(progress.Progress):
        def __init__(self, task: str, step: int, *rest: float) -> None:
            super().__init__(task, step, *rest)  # type: ignore[arg-type] # as given
            if step == stop:
                os.kill(os.getpid(), signal.SIGTERM)

        __str__ = progress.Progress.__str__

    with monkeypatch.context() as patch:
        patch.setattr("ddpm_ref.training.resumable.Progress", Impatient)
        return run(arguments, capsys)
