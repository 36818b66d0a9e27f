"""Telling whoever waits how far a long task is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import TextIOBase
from typing import IO, TextIO, TypeAlias, cast

from ddpm_ref.extras import require

PLAIN_EVERY_SECONDS = 5.0

Stream: TypeAlias = TextIO | TextIOBase


@dataclass(frozen=True)
class Progress:
    """How far a task is.

    >>> print(Progress("train", step=30, steps=None, seconds=15.0, remaining=45.0, loss=0.125))
    train: step 30, loss 0.1250, 2.0 steps/s, 45 s left
    """

    task: str
    """What is being done: ``train`` or ``sample``."""
    step: int
    """Steps made."""
    steps: int | None
    """Steps to make, if that is known."""
    seconds: float
    """Time spent."""
    remaining: float | None
    """Time left, if that can be said."""
    loss: float | None = None
    """Mean loss of the last steps, in training."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Means of its parts over the last steps (of this process), by name, where it is a sum."""

    @property
    def steps_per_second(self) -> float:
        """Mean speed so far."""
        return self.step / self.seconds if self.seconds > 0 else 0.0

    @property
    def fraction(self) -> float | None:
        """Share of the task that is done, 0..1, if that can be said."""
        if self.remaining is not None:
            return self.seconds / max(self.seconds + self.remaining, 1e-9)
        return self.step / self.steps if self.steps else None

    def __str__(self) -> str:
        parts = [f"step {self.step}" + (f" of {self.steps}" if self.steps else "")]
        if self.loss is not None:
            of = ", ".join(f"{name} {mean:.4f}" for name, mean in self.parts.items())
            parts.append(f"loss {self.loss:.4f}" + (f" ({of})" if of else ""))
        parts.append(f"{self.steps_per_second:.1f} steps/s")
        if self.remaining is not None:
            parts.append(f"{self.remaining:.0f} s left")
        return f"{self.task}: {', '.join(parts)}"


Report = Callable[[Progress], None]
"""Who is told of progress, after every step. May raise KeyboardInterrupt to end the task early, keeping its work."""


@contextlib.contextmanager
def console(stream: Stream | None = None) -> Iterator[Report]:
    """Report on the console: a bar if ``stream`` (standard error if None) is a terminal, plain lines otherwise."""
    stream = sys.stderr if stream is None else stream
    with _bars(stream) if stream.isatty() else _lines(stream) as report:
        yield report


@contextlib.contextmanager
def _lines(stream: Stream) -> Iterator[Report]:
    shown: dict[str, float] = {}
    latest: Progress | None = None

    def report(progress: Progress) -> None:
        nonlocal latest
        if latest is not None and latest.task != progress.task:
            finish()
        latest = progress
        if progress.seconds - shown.get(progress.task, 0.0) >= PLAIN_EVERY_SECONDS:
            show(progress)

    def show(progress: Progress) -> None:
        shown[progress.task] = progress.seconds
        print(progress, file=stream, flush=True)

    def finish() -> None:
        # However short the task was, its last state is worth a line.
        if latest is not None and shown.get(latest.task) != latest.seconds:
            show(latest)

    try:
        yield report
    finally:
        finish()


@contextlib.contextmanager
def _bars(stream: Stream) -> Iterator[Report]:
    require("rich", "train")
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TextColumn
    from rich.progress import Progress as Bars

    columns = (BarColumn(), TextColumn("{task.description}"))
    with Bars(*columns, console=Console(file=cast("IO[str]", stream))) as bars:
        ids: dict[str, TaskID] = {}

        def report(progress: Progress) -> None:
            if progress.task not in ids:
                ids[progress.task] = bars.add_task(progress.task, total=1.0)
            fraction = progress.fraction
            if fraction is not None:
                bars.update(ids[progress.task], completed=fraction)
            bars.update(ids[progress.task], description=str(progress))

        yield report
