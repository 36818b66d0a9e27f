"""What the demonstrations share: the linear schedule of the DDPM paper, and ways to say how far apart two laws are.

Nothing is drawn at random: expectations are exact quadratures, final deviations of samplers exact recursions (on normal
data every sampler with the best network is linear), distances of laws closed forms.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import erf, sqrt

import numpy as np

from ddpm_ref.reference.named_schedules import linear_schedule
from ddpm_ref.reference.oracle import Gaussian
from ddpm_ref.reference.oracle.moments import sample_moments
from ddpm_ref.reference.plan import Plan
from ddpm_ref.reference.reverse import reverse_chain_variance, reverse_variance
from ddpm_ref.reference.schedule import NoiseSchedule, Trajectory
from ddpm_ref.typing import Array, IntArray

T = 1000


@cache
def linear() -> NoiseSchedule:
    """T = 1000, beta from 1e-4 to 0.02."""
    return linear_schedule(T)


def downwards() -> IntArray:
    """The levels T, ..., 1: the steps of an ancestral sampler, each from ``t`` to ``t - 1``."""
    return np.arange(T, 0, -1)


def every_level(stride: int = 1) -> Trajectory:
    """T, T - stride, ..., 0: all levels, or the trailing grid of ``T / stride`` steps."""
    return Trajectory(tuple(range(T, -1, -stride)))


def end(plan: Plan, deviation: float) -> float:
    """Deviation of the samples of a plan, started from unit noise, on normal data of a deviation, with the best network."""
    return float(np.sqrt(sample_moments(plan, Gaussian(0.0, deviation**2)).variances[-1, 0]))


def best_eps(data_variance: float) -> Array:
    r"""What the best network answers per unit of :math:`x_t` for data :math:`\mathcal N(0, v)`, at the levels `downwards`."""
    H, t = linear(), downwards()
    return np.asarray(H.sqrt_beta_bar[t] / (H.alpha_bar[t] * data_variance + H.beta_bar[t]))


def deviations(gains: Array) -> Array:
    """Of an ancestral chain with these gains and the posterior variance, no noise at the last step: by level, 0 to T."""
    t = downwards()
    variance = reverse_variance(linear(), t, t - 1).copy()
    variance[-1] = 0.0
    return np.asarray(np.sqrt(reverse_chain_variance(gains, variance))[::-1])


def mean_of(f: Callable[[Array, Array], Array]) -> float:
    """Of a polynomial of degree up to 15 in each of two independent standard normal variables: Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    weights = weights / weights.sum()
    return float(weights @ f(nodes[:, None], nodes[None, :]) @ weights)


def normal_cdf(x: float) -> float:
    """Of the standard normal law."""
    return (1 + erf(x / sqrt(2))) / 2


def total_variation_from_standard(mean: float, variance: float) -> float:
    r"""Of :math:`\mathcal N(\mu, \sigma^2)`, :math:`\sigma < 1`, from :math:`\mathcal N(0, 1)`.

    The first density is the greater one between the two points where they cross, the roots of a quadratic.
    """
    log_ratio = np.polynomial.Polynomial(
        [-(mean**2) / variance - np.log(variance), 2 * mean / variance, 1 - 1 / variance]
    )
    low, high = (float(root) for root in np.sort(log_ratio.roots().real))
    deviation = sqrt(variance)
    inside = normal_cdf((high - mean) / deviation) - normal_cdf((low - mean) / deviation)
    return inside - (normal_cdf(high) - normal_cdf(low))
