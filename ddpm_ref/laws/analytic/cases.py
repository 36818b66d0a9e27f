"""Cases of the laws of Analytic-DPM: statistics in the shape of the levels, and ranges of the data."""

from __future__ import annotations

from math import inf

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble
from ddpm_ref.laws.cases import NEGLIGIBLE, Case, Cases, Source, at
from ddpm_ref.typing import Array

# beta_bar / alpha_bar: two entries and their quotient.
NOISE_TO_SIGNAL = 3


def draw_share(source: Source, claim: Claim, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Array:
    """Numbers of a range, ends included, representable in the storage format; what is negligible is 0."""
    values = claim.storing.round(np.clip(source.numbers(shape, low, high), low, high))
    return np.asarray(np.where(np.abs(values) < NEGLIGIBLE, 0.0, values))


def with_statistics(cases: Cases, **ranges: tuple[float, float]) -> Cases:
    """Cases with statistics besides, in the shape of the levels."""

    def drawn(source: Source, claim: Claim) -> Case:
        case = cases(source, claim)
        shape = np.shape(case.t)
        statistics = {name: draw_share(source, claim, shape, *ends) for name, ends in ranges.items()}
        return Case(claim, case.schedule, {**case.values, **statistics})

    return drawn


def with_range(cases: Cases) -> Cases:
    """Cases with a range of the data: the usual one, others, and none."""

    def drawn(source: Source, claim: Claim) -> Case:
        case = cases(source, claim)
        low, high = source.choice([(-1.0, 1.0), (0.0, 1.0), (-4.0, 0.5), (-inf, inf)])
        return Case(claim, case.schedule, {**case.values, "low": np.asarray(low), "high": np.asarray(high)})

    return drawn


def reach_of(case: Case) -> tuple[float, float]:
    """The range of the data."""
    return float(case.low), float(case.high)


def noise_to_signal(case: Case, like: Array | None = None) -> DoubleDouble:
    """beta_bar / alpha_bar in two words, shaped to broadcast against ``like``."""
    return case.level("beta_bar", like) / case.level("alpha_bar", like)


def ratio(case: Case) -> Array:
    """The same in float64."""
    return np.asarray(at(case, "beta_bar") / at(case, "alpha_bar"))


def unknown_of(case: Case) -> Array:
    """The variance of x0 given x_t, shaped to broadcast against the data."""
    return np.asarray(case.unknown.reshape(np.shape(case.unknown) + (1,) * (case.xt.ndim - np.ndim(case.unknown))))


def largest(case: Case) -> DoubleDouble:
    """The largest variance of x0 given x_t, for any data in the range."""
    ratio, half = noise_to_signal(case), (float(case.high) - float(case.low)) / 2
    below = ratio.high <= half * half
    reach = half * half if half < inf else 0.0
    return DoubleDouble(np.where(below, ratio.high, reach), np.where(below, ratio.low, 0.0))
