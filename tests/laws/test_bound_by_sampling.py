"""The terms of the bound, drawn: their sums over many examples follow the chi-squared law that the exact bound predicts.

With the best network of normal data the error of the predicted data is normal, with the variance v that the state leaves. A term
less what its variances cost is a square of that error, times a known weight: summed over n examples and divided by weight and v,
a chi-squared number with n degrees of freedom. No tolerance is needed, only a level.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import chi2

from ddpm_ref.reference import bound, oracle
from ddpm_ref.reference.divergence import kl_normal
from ddpm_ref.reference.forward import q_sample
from ddpm_ref.reference.named_schedules import linear_schedule
from ddpm_ref.reference.posterior import q_posterior
from ddpm_ref.reference.reverse import model_mean_from_x0
from ddpm_ref.typing import Array

SCHEDULE, DATA, EXAMPLES = linear_schedule(100), oracle.Gaussian(0.5, 0.25), 20_000
WALK = (100, 60, 30, 10, 3, 1, 0)
KINDS = ("posterior", "beta")
LEVEL = 1e-9 / (len(KINDS) * (len(WALK) - 1))  # family-wise 1e-9, divided among all comparisons


def plausible(squares: float) -> bool:
    """Whether a sum of so many squares of standard normal numbers may be as large, and as small, as this."""
    return bool(min(chi2.cdf(squares, EXAMPLES), chi2.sf(squares, EXAMPLES)) > LEVEL / 2)


def drawn(t: int, s: int) -> tuple[Array, Array, Array]:
    """Data, states at t and the means of the step to s, one number per example."""
    rng = np.random.default_rng((24, t))
    x0 = (0.5 + 0.5 * rng.standard_normal(EXAMPLES))[:, None]
    xt = q_sample(SCHEDULE, x0, t, rng.standard_normal(x0.shape))
    return x0, xt, model_mean_from_x0(SCHEDULE, xt, t, s, DATA.x0(SCHEDULE, xt, t))


def left(t: int) -> float:
    """Variance of the data given a state."""
    signal, noise = float(SCHEDULE.alpha_bar[t]), float(SCHEDULE.beta_bar[t])
    return noise * 0.25 / (signal * 0.25 + noise)


@pytest.mark.parametrize("kind", KINDS)
def test_sums_of_drawn_terms_follow_the_law_that_the_exact_bound_predicts(kind: str) -> None:
    exact = oracle.exact_bound(SCHEDULE, WALK, DATA, kind)
    for k, (t, s) in enumerate(itertools.pairwise(WALK)):
        x0, xt, mean = drawn(t, s)
        logarithm = float(np.log(exact.variances[k]))
        levels = np.full(EXAMPLES, t), np.full(EXAMPLES, s)
        bits = bound.bound_term(SCHEDULE, x0, xt, *levels, mean, logarithm, levels=None)
        nats, expected = bound.nats_per_image(bits, 1), exact.terms[k] if s else exact.reconstruction
        spent = float(bound.variance_term(SCHEDULE, t, s, kind)) if s else (np.log(2 * np.pi) + logarithm) / 2
        # What the exact term has beyond the cost of its variances is weight times v, for the step to level 0 v / (2 sigma^2).
        assert plausible(float(np.sum(nats - spent) / (expected - spent))), (kind, t, s)


def test_the_divergence_taken_the_other_way_round_is_found_out() -> None:
    t, s = 10, 3
    x0, xt, mean = drawn(t, s)
    step, (centre, variance) = SCHEDULE.between(t, s), q_posterior(SCHEDULE, x0, xt, t, s)
    swapped = kl_normal(mean, step.beta, centre, variance)
    spent = float(bound.variance_term(SCHEDULE, t, s, "beta"))
    weight = float(bound.loss_weight_x0(SCHEDULE, t, s, "beta"))
    right = bound.denoising_term(SCHEDULE, x0, xt, t, s, mean, float(np.log(step.beta)))
    assert plausible(float(np.sum(right - spent)) / (weight * left(t)))
    assert not plausible(float(np.sum(swapped - spent)) / (weight * left(t)))
