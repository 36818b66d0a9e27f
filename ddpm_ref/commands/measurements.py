"""What the commands that measure a trained network share: where results go, how to go on, moments measured before."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_ref.commands.output import refuse_unwritable
from ddpm_ref.errors import OutputError, RangeError
from ddpm_ref.reference.analytic import Clipping
from ddpm_ref.typing import Array

if TYPE_CHECKING:
    from ddpm_ref.estimation import Moments
    from ddpm_ref.training.folder import Found

GO_ON = "what was measured is kept; the same command goes on"


def table_and_plot(target: Path, overwrite: bool) -> tuple[Path, Path]:
    """Where the table and the plot beside a file of tensors go: FILE.json and FILE.png (`OutputError` if they cannot)."""
    refuse_unwritable("--output", target, "safetensors", ".safetensors")
    table, plot = target.with_suffix(".json"), target.with_suffix(".png")
    if not overwrite and not target.exists():  # beside a measurement of ours lie its own table and plot
        for file in (table, plot):
            if file.exists():
                raise OutputError(f"{file} exists; name another --output, or write --overwrite")
    return table, plot


@contextlib.contextmanager
def told_how_to_go_on() -> Iterator[None]:
    """Say so where Ctrl-C comes before anything is finished."""
    try:
        yield
    except KeyboardInterrupt:
        print(GO_ON, file=sys.stderr)
        raise


@dataclass(frozen=True, eq=False)
class Known:
    """What was measured of a run before: how much is unknown of its data."""

    path: Path
    moments: Moments
    form: str
    """``"residual"`` or ``"mean_square"``."""
    x0_variance: Array
    """One number per level 0..T, within its bounds, NaN where it was not measured."""

    def at(self, found: Found, levels: tuple[int, ...]) -> tuple[Array, Clipping]:
        """The same, known at these levels only, and what of them had to be clipped."""
        from ddpm_ref.estimation.unknown import unknown_by_level

        return unknown_by_level(found.checkpoint.schedule, self.moments, self.form, levels)

    def __str__(self) -> str:
        return f"sigma-hat^2 of {self.moments.count} images, {self.form.replace('_', '-')}"


def known(found: Found, weights: str | None, path: Path | None, form: str | None) -> Known:
    """The moments of a run, for these weights.

    Args:
        found: the checkpoint they must be of.
        weights: which of its weights.
        path: the file; that of the run if None.
        form: ``residual`` (None, too) or ``mean-square``.

    Raises:
        MomentsError: no moments, or those of another network or schedule.
        RangeError: mean squares at zero terminal SNR.
    """
    from ddpm_ref.estimation.moments import MOMENTS_NAME, Moments, network_digest
    from ddpm_ref.estimation.unknown import unknown_by_level

    path = found.path.parent / MOMENTS_NAME if path is None else path
    schedule, moments = found.checkpoint.schedule, Moments.load(path)
    moments.must_belong_to(schedule, network_digest(found.checkpoint, weights))
    name = (form or "residual").replace("-", "_")
    if name == "mean_square" and schedule.alpha_bar[-1] == 0:
        raise RangeError(
            "--form mean-square says nothing at level T, which has no signal (zero terminal SNR); write --form residual"
        )
    return Known(path, moments, name, unknown_by_level(schedule, moments, name)[0])
