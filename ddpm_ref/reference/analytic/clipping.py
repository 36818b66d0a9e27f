r"""Estimates brought back between their bounds, with a record of how often and where that was needed."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import sqrt

import numpy as np

from ddpm_ref.arithmetic.double_double import TWO_PI, DoubleDouble
from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.reference import combined
from ddpm_ref.reference.analytic.variance import half_range_squared
from ddpm_ref.reference.arguments import level, numbers, real, spread
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array, ArrayLike, IntArray, Real

MOST_GREY = 1e100
"""Thresholds and their inverses lie below: their squares are numbers of float64."""


@dataclass(frozen=True)
class Clipping:
    """What clipping did: how many estimates it looked at, and where it acted."""

    estimates: int
    """How many numbers were looked at; levels that are not known (NaN) do not count."""
    below: tuple[int, ...]
    """The levels of negative estimates, ascending; a level appears once for every number clipped."""
    above: tuple[int, ...]
    """The levels of estimates above their bound."""
    lowest: float
    """The smallest estimate, 0 if none was negative: no variance, so how far the estimates go wrong."""
    excess: float
    """The largest ratio of an estimate to its upper bound, 1 if none was above."""

    @property
    def clipped(self) -> int:
        """How many estimates were moved."""
        return len(self.below) + len(self.above)

    @property
    def fraction(self) -> float:
        """The share of the estimates that were moved."""
        return self.clipped / self.estimates if self.estimates else 0.0

    def __str__(self) -> str:
        if not self.clipped:
            return f"none of {self.estimates} estimates clipped"
        parts = [f"{self.clipped} of {self.estimates} estimates clipped"]
        if self.below:
            parts.append(f"{len(self.below)} negative at levels {_span(self.below)}, down to {self.lowest:.3g}")
        if self.above:
            parts.append(
                f"{len(self.above)} above the bound at levels {_span(self.above)}, up to {self.excess:.3g} times it"
            )
        return "; ".join(parts)


def clip_sigma_hat_squared(
    schedule: NoiseSchedule,
    x0_variance: ArrayLike,
    t: ArrayLike | None = None,
    low: Real = -1.0,
    high: Real = 1.0,
) -> tuple[Array, Clipping]:
    r"""Estimated variances of the data given x_t, brought between the bounds that any data in ``[low, high]`` obey.

    .. math:: 0 \le \hat\sigma_t^2 \le \min\left(\frac{\bar\beta_t}{\bar\alpha_t}, \left(\frac{b - a}{2}\right)^2
              \right)

    Args:
        schedule: the noise schedule.
        x0_variance: estimates: one per level 0..T if ``t`` is left out, NaN where there is none (level 0 has
            none and is passed on); otherwise in the shape of ``t``, with axes of their own to the right if they like.
        t: levels, ``T >= t >= 1``.
        low, high: the range of the data, ``low < high``; infinite where there is none.

    Returns:
        the clipped variances, and a record of what was clipped. The reverse variance of a clipped estimate lies within
        `analytic_variance_bounds`, for every stride and eta.

    Raises `RangeError` for a range that is none or an infinite estimate, `ShapeError`, `LevelError`. Limits: meant for
    estimates of what the *optimal* prediction leaves unknown; the mean square error of a poor network is above the
    bound rightly, and clipping then makes the variance too small for its mean. Law: ``analytic/clip_sigma_hat_squared``.
    Source: bao2022, section 3.1 and theorem 2.

    >>> schedule = NoiseSchedule.from_betas([0.5, 0.5])
    >>> clipped, what = clip_sigma_hat_squared(schedule, [np.nan, -0.2, 5.0])
    >>> clipped
    array([nan,  0.,  1.])
    >>> print(what)
    2 of 2 estimates clipped; 1 negative at levels 1, down to -0.2; 1 above the bound at levels 2, up to 5 times it
    """
    values = numbers(x0_variance, "x0_variance")
    levels = _levels(schedule, values, t)
    if np.isinf(values).any():
        raise RangeError(f"x0_variance is infinite at t = {int(levels[np.isinf(values)][0])}; estimates are finite")
    cap, known = _caps(schedule, levels, half_range_squared(low, high)), ~np.isnan(values) & (levels > 0)
    below, above = known & (values < 0), known & (values > cap)
    clipped = np.where(below, 0.0, np.where(above, cap, values))
    return clipped, Clipping(
        estimates=int(known.sum()),
        below=tuple(np.sort(levels[below]).tolist()),
        above=tuple(np.sort(levels[above]).tolist()),
        lowest=float(values[below].min(initial=0.0)),
        excess=float((values[above] / cap[above]).max(initial=1.0)),
    )


def pixel_threshold_variance(pixels: Real) -> float:
    r"""The variance of noise whose mean absolute value is so many grey levels of 8-bit images in [-1, 1].

    .. math:: \sigma\sqrt{2/\pi} \le \frac{2y}{255} \quad\Leftrightarrow\quad
              \sigma^2 \le \left(\frac{2y}{255}\sqrt{\frac\pi2}\right)^2

    Args: ``pixels``: y > 0, in grey levels.

    The authors bound the variance of the last noisy step by it, with y = 1 or 2, for the look of the samples; an
    option of `ddpm_ref.reference.plan.analytic`, never a habit. Raises `RangeError`. Source: bao2022, appendix F.

    >>> print(f"{pixel_threshold_variance(1):.2e} {pixel_threshold_variance(2):.2e}")
    9.66e-05 3.87e-04
    """
    return float(_pixel_variance(pixels).high)


def pixel_threshold_std(pixels: Real) -> float:
    """The root of `pixel_threshold_variance`, rounded once from two words."""
    words = _pixel_variance(pixels)
    root = sqrt(float(words.high))
    return root + float((words - DoubleDouble.of(root) * root).high) / (2 * root)


def _pixel_variance(pixels: Real) -> DoubleDouble:
    if isinstance(pixels, bool | str) or not MOST_GREY**-1 < pixels < MOST_GREY:
        raise RangeError(f"pixel_threshold = {pixels!r}; it is a number of grey levels > 0, e.g. 1 or 2")
    return DoubleDouble.fraction((Fraction(2, 255) * combined.exactly(float(pixels))) ** 2 / 4) * TWO_PI


def refuse_outside(
    x0: ArrayLike,
    low: Real = -1.0,
    high: Real = 1.0,
    name: str = "x0",
    remedy: str = "scale the data, or give their range as low and high",
) -> None:
    """Refuse data of which some lie outside ``[low, high]``: bounds for that range would not hold for them.

    Raises `RangeError`, which names the fraction that lies outside and how far, and says what to do: ``remedy``.

    >>> refuse_outside([0.0, 0.5, 2.0, 255.0])
    Traceback (most recent call last):
    ddpm_ref.errors.RangeError: 2 of 4 numbers of x0 (50 %) lie outside [-1, 1], from 0 to 255; ...
    """
    half_range_squared(low, high)
    data = real(x0, name)
    outside = int(((data < low) | (data > high)).sum())
    if outside:
        raise RangeError(
            f"{outside} of {data.size} numbers of {name} ({100 * outside / data.size:.3g} %) lie outside [{low:g}, {high:g}], "
            f"from {data.min():g} to {data.max():g}; {remedy}"
        )


def _levels(schedule: NoiseSchedule, values: Array, t: ArrayLike | None) -> IntArray:
    if t is not None:
        levels = level(t, schedule.T, lowest=1)
        shape = values.shape if values.ndim else levels.shape
        return spread(levels, shape)
    if values.ndim == 0 or len(values) != schedule.T + 1:
        raise ShapeError(
            f"x0_variance has shape {values.shape}; without t there is one per level 0..T = {schedule.T}, shape "
            f"({schedule.T + 1},), NaN where there is none"
        )
    return spread(np.arange(schedule.T + 1, dtype=np.int64), values.shape)


def _caps(schedule: NoiseSchedule, levels: IntArray, reach: Fraction | None) -> Array:
    """The largest variance of x0 given x_t at every level, 0 at level 0."""
    distinct, back = np.unique(levels, return_inverse=True)
    noisy = distinct[distinct > 0].tolist()
    ratios = combined.noise_to_signal(schedule.products, noisy, [Fraction(1)] * len(noisy))
    caps = np.minimum(
        np.append([0.0] * (len(distinct) - len(noisy)), ratios), np.inf if reach is None else float(reach)
    )
    return np.asarray(caps[back.reshape(np.shape(levels))])


def _span(levels: tuple[int, ...]) -> str:
    distinct = sorted(set(levels))
    return str(distinct[0]) if len(distinct) == 1 else f"{distinct[0]}..{distinct[-1]}"
