r"""What happens to a predicted x0 before a plan uses it: nothing, clipping, or dynamic thresholding.

Either breaks the linearity of the step, so it is a named stage, and a plan that has one takes a prediction of x0.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import TYPE_CHECKING

import numpy as np

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.reference.arguments import real
from ddpm_ref.typing import Array, ArrayLike, Real

if TYPE_CHECKING:
    from ddpm_ref.reference.plan.record import Plan


@dataclass(frozen=True)
class Threshold:
    """Dynamic thresholding: see `dynamic_threshold` for the formula.

    Args:
        percentile: of the absolute values of one sample, percent, ``1 < percentile <= 100``.
        maximum: the threshold never exceeds it, ``>= 1``; infinite by default.

    Raises `RangeError`. Source: saharia2022, section 2.3.

    >>> Threshold(99.5)
    Threshold(percentile=99.5, maximum=inf)
    >>> Threshold(0.995)
    Traceback (most recent call last):
    ddpm_ref.errors.RangeError: percentile = 0.995 lies outside (1, 100]; it is in percent: write 99.5
    """

    percentile: Real = 99.5
    maximum: Real = inf

    def __post_init__(self) -> None:
        """Refuse a fraction where a percentage is meant, and a threshold inside the range of the data."""
        if not 1 < self.percentile <= 100:
            hint = f"{100 * self.percentile:g}" if 0 < self.percentile <= 1 else "99.5"
            raise RangeError(f"percentile = {self.percentile!r} lies outside (1, 100]; it is in percent: write {hint}")
        if not self.maximum >= 1:
            raise RangeError(f"maximum = {self.maximum!r} is below 1, the edge of the data; write 1 or more")


def dynamic_threshold(x0: ArrayLike, percentile: Real = 99.5, maximum: Real = inf) -> Array:
    r"""Predicted data brought back to [-1, 1], by a scale of each sample's own.

    .. math:: \hat x_0 \leftarrow \frac{\mathrm{clip}(\hat x_0, -r, r)}{r}, \qquad
              r = \min\left(\max\left(1, q_p(|\hat x_0|)\right), r_{\max}\right)

    Args:
        x0: predicted data, ``(batch, *event)``; the percentile is taken over the axes after the first.
        percentile: p in percent, ``1 < p <= 100``, interpolated linearly between order statistics.
        maximum: of the threshold r, ``>= 1``.

    Returns:
        shape of ``x0``, within [-1, 1]; a sample whose percentile is at most 1 is only clipped.

    Raises `RangeError`, and `ShapeError` for data without a batch axis. Law: ``plan/dynamic_threshold``. Source:
    saharia2022, section 2.3.

    >>> dynamic_threshold([[0.5, -2.0], [0.25, 0.5]], percentile=100)
    array([[ 0.25, -1.  ],
           [ 0.25,  0.5 ]])
    """
    rule, x0 = Threshold(percentile, maximum), real(x0, "x0")
    if x0.ndim == 0:
        raise ShapeError("x0 is a single number; dynamic thresholding needs a batch axis, write x0[None]")
    if x0.size == 0:
        return x0
    sizes = np.sort(np.abs(x0).reshape(len(x0), -1), axis=1)
    radius = np.clip(_interpolated(sizes, rule.percentile), 1.0, rule.maximum)
    radius = radius.reshape((-1,) + (1,) * (x0.ndim - 1))
    return np.asarray(np.clip(x0, -radius, radius) / radius)


def _interpolated(ascending: Array, percentile: Real) -> Array:
    """The percentile of each row of sorted numbers, linear between its two neighbours."""
    position = percentile / 100 * (ascending.shape[1] - 1)
    below = int(position)
    above = min(below + 1, ascending.shape[1] - 1)
    low, high = ascending[:, below], ascending[:, above]
    return np.asarray(low + (position - below) * (high - low))


def staged(plan: Plan, x0: ArrayLike) -> Array:
    """A predicted x0 after the stages of a plan: clipped, thresholded, or as it was.

    Args: ``x0`` of shape ``(batch, *event)``.

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> from ddpm_ref.reference.plan import ddim
    >>> H = linear_schedule(10)
    >>> staged(ddim(H, H.trajectory(5), clip=(-1.0, 1.0)), [[0.5, -2.0]])
    array([[ 0.5, -1. ]])
    """
    if plan.threshold is not None:
        return dynamic_threshold(x0, plan.threshold.percentile, plan.threshold.maximum)
    x0 = real(x0, "x0")
    return x0 if plan.clip is None else np.asarray(np.clip(x0, *plan.clip))


def check(clip: tuple[Real, Real] | None, threshold: Threshold | None) -> None:
    """Refuse a range that is none, and two stages where each would undo the other."""
    if threshold is not None and not isinstance(threshold, Threshold):
        raise RangeError(f"threshold = {threshold!r}; write Threshold({threshold!r}), a percentile in percent")
    if clip is not None and not _is_range(clip):
        raise RangeError(f"clip = {clip!r}; clipping needs low < high, e.g. (-1.0, 1.0)")
    if clip is not None and threshold is not None:
        raise RangeError(
            "clip and threshold were both given; dynamic thresholding ends within [-1, 1] by itself: choose one"
        )


def _is_range(clip: object) -> bool:
    if not isinstance(clip, Sequence) or len(clip) != 2 or not all(isinstance(end, numbers.Real) for end in clip):
        return False
    return all(map(isfinite, clip)) and clip[0] < clip[1]
