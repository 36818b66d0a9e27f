r"""Confidence intervals: of the moments, and of everything that follows from them.

The data are independent, so that a mean over n of them is nearly normal, and Student's t with n - 1 degrees of freedom
says how far it may be off. What ascends or descends with one mean has the interval of its ends mapped; a sum over
levels, whose errors share their data, has the variance that the covariance of the levels gives it (delta method).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddpm_ref.errors import MomentsError, RangeError
from ddpm_ref.estimation.comoments import CoMoments
from ddpm_ref.estimation.moments import Moments
from ddpm_ref.estimation.unknown import measured_levels, unknown
from ddpm_ref.reference.analytic import (
    Clipping,
    analytic_variance,
    clip_sigma_hat_squared,
    path_cost,
    step_cost,
)
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.reference.trajectory import Trajectory
from ddpm_ref.typing import Array, IntArray, Real


@dataclass(frozen=True, eq=False)
class Interval:
    """Estimates, each between two ends: where the ends are drawn anew with new data, they enclose the truth this often."""

    estimate: Array
    low: Array
    high: Array
    confidence: float
    """Of each interval by itself, not of all at once."""


@dataclass(frozen=True, eq=False)
class Unknown:
    """What a network leaves unknown of the data, level by level."""

    levels: IntArray
    interval: Interval
    """Of sigma-hat squared, within the bounds of Theorem 2."""
    clipping: Clipping
    """How many estimates, and where, had to be brought there."""
    inside: Array
    """1 where the estimate was within its bounds, 0 where it was clipped: there it does not move with the moment."""


def of_mean(moments: CoMoments, confidence: Real = 0.95) -> Interval:
    r"""The means of squares, between :math:`\bar y\pm t_{n-1}\,s/\sqrt n`, cut off at 0.

    Args:
        moments: of n >= 2 data.
        confidence: of each interval, in (0, 1).

    Raises:
        MomentsError: a single datum, which does not scatter.
        RangeError: a confidence outside (0, 1).

    Limits: exact for normal y. What skewness costs falls like 1/n; the mean over d components is less skewed than one.
    Source: any textbook; the moments are those of bao2022, eq. (8).

    >>> found = of_mean(CoMoments.of([[1.0], [2.0], [3.0]]), 0.5)
    >>> print(found.low.round(3), found.high.round(3))
    [1.529] [2.471]
    """
    reach = _quantile(moments.count, confidence) * moments.standard_error()
    return Interval(moments.mean, np.maximum(moments.mean - reach, 0.0), moments.mean + reach, float(confidence))


def of_unknown(schedule: NoiseSchedule, moments: Moments, form: str = "residual", confidence: Real = 0.95) -> Unknown:
    r"""Sigma-hat squared at every level measured, clipped to the bounds for data in the range that was measured.

    .. math:: \hat\sigma_t^2 = \frac{\bar\beta_t}{\bar\alpha_t}\Big(1-\frac1d\mathbb E\lVert\epsilon_\theta\rVert^2\Big)
              \quad\text{or}\quad
              \frac{\bar\beta_t}{\bar\alpha_t}\,\frac1d\mathbb E\lVert\varepsilon-\epsilon_\theta\rVert^2

    Args:
        schedule: that of the moments.
        moments: what was measured.
        form: ``"residual"``, right for every network, or ``"mean_square"``, right for the optimal one only.
        confidence: of each interval.

    Raises:
        MomentsError: another schedule, or a single datum.
        RangeError: an unknown form, or a confidence outside (0, 1).

    Limits: clipping ascends, so a clipped interval encloses the clipped truth at least as often. At zero terminal SNR
    the mean square tells nothing of level T, which is left out; the residual is that of the data there, as it is.
    Source: bao2022, eq. (9) and theorem 2.
    """
    moments.must_belong_to(schedule)
    means = of_mean(moments.of(form), confidence)
    levels = measured_levels(schedule, moments, form)
    rows = np.searchsorted(np.array(moments.levels), levels)
    ends = [unknown(schedule, levels, end[rows], form) for end in (means.estimate, means.low, means.high)]
    if form == "mean_square":
        ends = [ends[0], ends[2], ends[1]]  # the less energy, the more is unknown
    low, high = moments.origin.low, moments.origin.high
    clipped = [clip_sigma_hat_squared(schedule, end, levels, low, high) for end in ends]
    inside = (clipped[0][0] == ends[0]).astype(np.float64)
    interval = Interval(clipped[0][0], clipped[1][0], clipped[2][0], means.confidence)
    return Unknown(levels, interval, clipped[0][1], inside)


def of_variance(schedule: NoiseSchedule, trajectory: Trajectory, found: Unknown, eta: Real = 1.0) -> Interval:
    """The variance of every step of a trajectory, which ascends with what is unknown at the level where it starts.

    Raises:
        MomentsError: a step starts at a level that was not measured.
        RangeError: an eta outside [0, 1].

    Limits: the last entry is that of the step to level 0, in which most samplers add no noise. Source: bao2022, eq. (7).
    """
    t, s = np.array(trajectory.levels[:-1]), np.array(trajectory.levels[1:])
    rows = _rows(found, t)
    ends = (found.interval.estimate, found.interval.low, found.interval.high)
    estimate, low, high = (analytic_variance(schedule, t, s, end[rows], eta) for end in ends)
    return Interval(estimate, low, high, found.interval.confidence)


def of_path_cost(
    schedule: NoiseSchedule,
    trajectory: Trajectory,
    moments: Moments,
    form: str = "residual",
    eta: Real = 1.0,
    confidence: Real = 0.95,
) -> Interval:
    r"""The cost of a trajectory, :math:`\sum_{k\ge2}\log(\sigma^{*2}/\lambda^2)`, see `ddpm_ref.reference.analytic.path_cost`.

    Its variance is :math:`g^\top\Sigma g/n` with the covariance of the moments of one datum, so that what the levels owe
    to the same data is counted, and

    .. math:: g_t = \frac{\partial}{\partial m_t}\log(1+r_tv_t) = \frac{r_t}{1+r_tv_t}\frac{\partial v_t}{\partial m_t},
              \qquad r_t = (C^0)^2/\lambda^2, \quad v_t=\hat\sigma_t^2.

    Args: as `of_unknown` and `of_variance`, with eta in (0, 1].

    Returns:
        numbers without axes; the low end is cut off at 0.

    Raises:
        MomentsError: another schedule, a single datum, or a level that was not measured.
        RangeError: eta = 0, where the cost is infinite.

    Limits: first order in the errors of the moments. A level that was clipped has no slope; its own interval is added
    whole, and k of them share the risk with the rest, each at confidence 1 - (1 - c)/(k + 1): more than is needed.
    Source: bao2022, theorem 3; the delta method.
    """
    t, s = np.array(trajectory.levels[:-2], dtype=np.int64), np.array(trajectory.levels[1:-1], dtype=np.int64)
    found = of_unknown(schedule, moments, form, confidence)
    rows = _rows(found, t)
    inside, v = found.inside[rows], found.interval.estimate[rows]
    per_level = np.full(schedule.T + 1, np.nan)
    per_level[t] = v
    cost = path_cost(schedule, trajectory, per_level, eta)

    clipped = inside == 0
    share = 1 - (1 - confidence) / (1 + np.count_nonzero(clipped))
    ratio = np.expm1(step_cost(schedule, t, s, np.ones(len(t)), eta))
    slope = unknown(schedule, t, np.ones(len(t)), "residual") * (1.0 if form == "residual" else -1.0)
    gradient = ratio / (1.0 + ratio * v) * slope * inside
    at = np.searchsorted(np.array(moments.levels), t)
    covariance = moments.of(form).covariance()[np.ix_(at, at)]
    reach = _quantile(moments.count, share) * np.sqrt(max(float(gradient @ covariance @ gradient), 0.0) / moments.count)

    if clipped.any():
        ends = of_unknown(schedule, moments, form, share).interval
        below, here, above = (np.log1p(ratio * end)[clipped].sum() for end in (ends.low[rows], v, ends.high[rows]))
    else:
        below = here = above = 0.0
    low, high = cost - reach - (here - below), cost + reach + (above - here)
    return Interval(np.asarray(cost), np.asarray(max(low, 0.0)), np.asarray(high), float(confidence))


def _quantile(count: int, confidence: Real) -> float:
    from scipy.special import stdtrit  # SciPy takes its time to load

    if not 0 < confidence < 1:
        raise RangeError(f"confidence is {confidence!r}; it is a share in (0, 1), e.g. 0.95")
    return float(stdtrit(count - 1, (1 + confidence) / 2)) if count > 1 else np.inf


def _rows(found: Unknown, t: IntArray) -> IntArray:
    missing = sorted(set(t.tolist()) - set(found.levels.tolist()))
    if missing:
        raise MomentsError(
            f"nothing is known of level {missing[0]} ({len(missing)} of {len(t)} levels of the trajectory), where a step "
            "starts; measure all levels, or those of this trajectory, with ddpm-ref analyze"
        )
    return np.searchsorted(found.levels, t)
