"""The loss of a run as a picture, and points that are no images."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.extras import require
from ddpm_ref.typing import ArrayLike, Real


def running_mean(values: ArrayLike, window: int) -> NDArray[np.float64]:
    """The mean of each value and of the up to ``window - 1`` values before it; `RangeError` for a window below 1.

    >>> running_mean([1.0, 3.0, 5.0, 7.0], 2).tolist()
    [1.0, 2.0, 4.0, 6.0]
    """
    if isinstance(window, bool) or window < 1:
        raise RangeError(f"window is {window!r}; a mean is of at least 1 value, write a whole number >= 1")
    given = np.asarray(values, dtype=np.float64)
    sums = np.cumsum(given)
    sums[window:] -= sums[:-window].copy()
    counts: NDArray[np.float64] = np.minimum(np.arange(1, len(given) + 1), window)
    return sums / counts


def loss_figure(losses: ArrayLike, held_out_loss: Real | None = None, window: int = 100) -> bytes:
    """The loss of every step, its running mean, and the held-out loss as a line, as a PNG.

    Args:
        losses: of the steps 1, 2, ..., shape ``(steps,)``, at least one.
        held_out_loss: if it was measured.
        window: steps over which the running mean goes.

    Returns:
        the bytes of the file.

    Raises:
        RangeError: no loss at all, or one that is not finite; a window below 1.
        MissingExtraError: matplotlib is not installed.
    """
    values = np.atleast_1d(np.asarray(losses, dtype=np.float64))
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise RangeError(f"losses of shape {values.shape} cannot be drawn; one finite number per step is needed")
    figure, axes = _figure(8.0, 4.5)
    steps = np.arange(1, len(values) + 1)
    axes.plot(steps, values, color="0.75", linewidth=0.8, label="each step")
    axes.plot(steps, running_mean(values, window), color="C0", label=f"mean of the last {window}")
    if held_out_loss is not None:
        axes.axhline(held_out_loss, color="C3", linestyle="--", linewidth=1, label=f"held out: {held_out_loss:.4f}")
    if values.min() > 0:
        axes.set_yscale("log")
    axes.set(xlabel="step", ylabel="loss")
    axes.legend(frameon=False)
    return _png(figure)


def scatter(points: ArrayLike) -> bytes:
    """Points in the plane, as a PNG.

    Args:
        points: ``(n, 2)``, n >= 1.

    Raises:
        ShapeError: no points, or not in the plane.
        RangeError: a coordinate that is not finite.
        MissingExtraError: matplotlib is not installed.
    """
    values = np.asarray(points, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != 2 or not len(values):
        raise ShapeError(f"points have shape {values.shape}; only points in the plane, (n, 2), can be drawn")
    if not np.isfinite(values).all():
        raise RangeError(f"{np.count_nonzero(~np.isfinite(values).all(axis=1))} of {len(values)} points are not finite")
    figure, axes = _figure(5.0, 5.0)
    axes.scatter(*values.T, s=4, alpha=0.5, linewidths=0)
    axes.set_aspect("equal")
    return _png(figure)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    # The object interface: pyplot would keep the figure, and look for a screen.
    figure = require("matplotlib.figure", "train").Figure(figsize=(width, height), dpi=120, layout="constrained")
    return figure, figure.subplots()


def _png(figure: Any) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()
