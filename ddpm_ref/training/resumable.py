"""Long tasks over files: taken up where they were left, never begun again for nothing, never mixed up with another."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from ddpm_ref.training import container
from ddpm_ref.training.interruption import postponed
from ddpm_ref.training.progress import Progress, Report

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SAVE_SECONDS = 10.0
"""Time between writings of the state. Each synchronises the disk, and may hold a few megabytes."""

Result = TypeVar("Result")


@runtime_checkable
class Unfinished(Protocol):
    """A task under way."""

    seconds: float
    """Time spent, over all parts."""

    @property
    def done(self) -> int:
        """How many of its parts are."""

    @property
    def tasks(self) -> int:
        """How many parts there are."""

    def save(self, path: Path) -> None:
        """Write it to a file, whole or not at all."""


def carry_on(
    state: Unfinished,
    work: Generator[None],
    task: str,
    path: Path | None = None,
    report: Report | None = None,
    every: float = SAVE_SECONDS,
) -> bool:
    """Do what is left.

    Args:
        state: what is done so far; ``work`` adds to it.
        work: yields after every part.
        task: what progress calls it.
        path: where the state is kept, written now and then and at every end: Ctrl-C, SIGTERM, an error.
        report: told after every part; may raise KeyboardInterrupt.
        every: seconds between writings.

    Returns:
        whether it was interrupted before the end.

    Raises:
        OutputError: the state cannot be written.
    """
    before, begun = state.seconds, time.monotonic()
    saved = begun
    with contextlib.ExitStack() as stack:
        asked_to_stop = stack.enter_context(postponed())
        if path is not None:
            stack.callback(lambda: state.save(path))
        stack.enter_context(contextlib.closing(work))
        try:
            for _ in work:
                now = time.monotonic()
                state.seconds = before + now - begun
                if path is not None and now - saved >= every:
                    state.save(path)
                    saved = time.monotonic()
                if report is not None:
                    left = state.seconds * (state.tasks - state.done) / state.done
                    report(Progress(task, state.done, state.tasks, state.seconds, left))
                if asked_to_stop():
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            return state.done < state.tasks
    return False


def finished(
    path: Path | None, load: Callable[[Path], Result], kind: container.Kind, overwrite: bool = False
) -> Result | None:
    """What a file holds, if it is there and the caller's; None if there is none, or another's that may be replaced.

    Args:
        path: the file; None if nothing is to be kept.
        load: reads it, and raises the error of the kind if it is damaged or another's.
        kind: of the file. What does not say that it is of this kind is never replaced.
        overwrite: whether another's may be replaced.

    Raises: what ``load`` raises.
    """
    if path is None or not path.exists():
        return None
    try:
        return load(path)
    except kind.error:
        if overwrite and container.says_it_is(path, kind):
            return None
        raise


def must_equal(path: Path, there: DataclassInstance, now: DataclassInstance, kind: container.Kind, what: str) -> None:
    """Refuse what a file holds if it is not what is wanted now (the error of the kind, naming the first difference).

    Args:
        path: the file.
        there: a record of everything that decides its numbers.
        now: the same of what is wanted.
        kind: of the file.
        what: what it is of, e.g. ``measurement``.
    """
    for field in fields(there):
        old, new = getattr(there, field.name), getattr(now, field.name)
        if old != new:
            raise kind.error(
                f"{path} is of another {what}: {field.name} is {_short(old)} there and {_short(new)} now; "
                "write the same again, replace it (overwrite=True, --overwrite), or name another file"
            )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:36]}..."
