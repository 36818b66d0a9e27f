"""The command line in this process, for the tests of every command."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ddpm_ref import cli

TINY = "--network.width 8 --network.multipliers 1 --network.groups 4 --batch-size 4 --schedule.T 10 --network.attention"
"""Flags of a run that takes a moment."""


def run(arguments: str | Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit status, output and errors."""
    with pytest.raises(SystemExit) as end:
        cli.main(arguments.split() if isinstance(arguments, str) else list(arguments))
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err
