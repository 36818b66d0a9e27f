"""What commands that train or sample run in: extras, threads, warnings."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TextIO

from ddpm_ref.errors import RangeError
from ddpm_ref.extras import require


def require_extras() -> None:
    """Say which extra is missing before anything else is done (`MissingExtraError`)."""
    for module in ("torch", "safetensors", "sklearn", "PIL"):
        require(module, "train")


def threads_of(count: int) -> AbstractContextManager[None]:
    """Compute on so many threads of the processor while it is entered; `RangeError` for fewer than one."""
    from ddpm_ref.sampling.device import on_threads

    if count < 1:
        raise RangeError(f"--threads {count}: at least one is needed")
    return on_threads(count)


@contextlib.contextmanager
def warnings_in_a_line() -> Iterator[None]:
    """Warnings as a sentence on standard error, which is what a user wants, without the line of code that said it."""
    from ddpm_ref.training.folder import DamagedCheckpointWarning

    shown = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        said = f"ddpm-ref: warning: {' '.join(str(message).split())}"
        if said not in shown:
            print(said, file=sys.stderr)
        shown.add(said)

    with warnings.catch_warnings():
        warnings.simplefilter("always", DamagedCheckpointWarning)
        warnings.showwarning = show
        yield
