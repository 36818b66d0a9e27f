"""The optimal network on data whose bound is known in closed form: every term, the sum, and the errors beside them.

Each comparison is held against the normal law of the mean of thousands of images, at a level so small that all of a test's
comparisons together fail by chance once in 1e9 runs.
"""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from ddpm_ref.evaluation import evaluate
from ddpm_ref.reference.bound import loss_weight_x0
from ddpm_ref.reference.named_schedules import cosine_schedule, linear_schedule, zero_terminal_snr
from ddpm_ref.reference.oracle import Finite, Gaussian
from ddpm_ref.reference.oracle.bound import exact_bound
from ddpm_ref.sampling import Denoiser
from ddpm_ref.torch import oracle as mirror
from ddpm_ref.torch.tables import tables

FAMILY_WISE = 1e-9
COUNT = 2000
SCHEDULE = linear_schedule(T=20, beta_1=0.02, beta_T=0.5)
MEAN = np.array([0.3, -0.2, 0.1])
COVARIANCE = np.array([[0.25, 0.05, 0.0], [0.05, 0.09, 0.02], [0.0, 0.02, 0.16]])


def normal_data(count, seed=0):
    drawn = np.random.default_rng(seed).multivariate_normal(MEAN, COVARIANCE, count)
    return torch.from_numpy(drawn)


def optimal(schedule, law, prediction="eps"):
    return Denoiser(law.network(tables(schedule), prediction).double(), prediction)


def left_by_level(schedule):
    """What x_t leaves unknown of the normal data, per level."""
    values = np.linalg.eigvalsh(COVARIANCE)
    a, b = schedule.alpha_bar[:, None], schedule.beta_bar[:, None]
    return (values * b / (a * values + b)).mean(axis=1)


def far(found, truth):
    """Errors of the averages in standard errors, and the most that chance allows to all of them together."""
    errors = np.abs(np.asarray(found.estimate) - truth) / np.asarray(found.standard_error)
    return np.atleast_1d(errors), norm.isf(FAMILY_WISE / 2 / errors.size)


def agree(found, truth):
    errors, allowed = far(found, truth)
    return bool((errors <= allowed).all())


def in_bits(bound, d):
    nats = np.array([*bound.terms, bound.reconstruction])
    return nats / (d * math.log(2)), bound.prior / (d * math.log(2)), bound.total / (d * math.log(2))


@pytest.mark.parametrize(
    ("variance", "first_step", "levels", "prediction"),
    [
        ("posterior", "replace", None, "eps"),
        ("posterior", "replace_unstrided", (20, 11, 5, 1, 0), "x0"),
        ("beta", "exact", (20, 11, 5, 1, 0), "v"),
        ("beta", "exact", (20, 0), "x0"),
        ("analytic", "exact", (20, 14, 3, 0), "eps"),
        ("analytic", "replace", None, "v"),
    ],
)
def test_the_bound_of_normal_data_is_the_exact_one(variance, first_step, levels, prediction):
    truth = exact_bound(SCHEDULE, levels, Gaussian(MEAN, COVARIANCE), variance, first_step)
    found = evaluate(
        optimal(SCHEDULE, mirror.Gaussian(MEAN, COVARIANCE), prediction),
        SCHEDULE,
        normal_data(COUNT),
        levels,
        variance=variance,
        first_step=first_step,
        x0_variance=left_by_level(SCHEDULE) if variance == "analytic" else None,
        clip_x0=False,
        levels=None,
        batch_size=COUNT,
        seed=3,
    )
    terms, prior, total = in_bits(truth, 3)
    assert agree(found.column("bits_per_dim"), terms)
    assert agree(found.prior, prior)
    assert agree(found.total, total)
    left = left_by_level(SCHEDULE)[list(found.trajectory.levels[:-1])]
    assert agree(found.column("mse_x0"), left)
    ratio = (SCHEDULE.alpha_bar / SCHEDULE.beta_bar.clip(1e-300))[list(found.trajectory.levels[:-1])]
    assert agree(found.column("mse_eps"), left * ratio)
    assert float(found.total.standard_error) < 0.05 * float(found.total.estimate)  # so that agreement says something


def test_the_comparison_can_fail():
    data = Gaussian(MEAN, COVARIANCE)
    found = evaluate(
        optimal(SCHEDULE, mirror.Gaussian(MEAN, COVARIANCE)),
        SCHEDULE,
        normal_data(COUNT),
        variance="beta",
        first_step="exact",
        clip_x0=False,
        levels=None,
        batch_size=COUNT,
    )
    terms, _, total = in_bits(exact_bound(SCHEDULE, None, data, "posterior"), 3)
    errors, allowed = far(found.column("bits_per_dim"), terms)
    assert (errors > allowed).any()
    assert not agree(found.total, total)


def test_a_worse_network_has_a_larger_bound_by_what_its_errors_cost():
    data, law = normal_data(COUNT), mirror.Gaussian(MEAN, COVARIANCE)
    best = optimal(SCHEDULE, law, "x0")
    worse = Denoiser(lambda x, time: best.network(x, time) + 0.1, "x0")
    options = {"variance": "posterior", "clip_x0": False, "levels": None, "batch_size": COUNT}
    one, other = (evaluate(denoiser, SCHEDULE, data, **options) for denoiser in (best, worse))
    # The same noise in both: the difference is the weight times 0.01, but for a cross term that vanishes on average.
    weights = loss_weight_x0(SCHEDULE, np.arange(20, 1, -1), np.arange(19, 0, -1))
    mse = other.column("mse_x0").estimate - one.column("mse_x0").estimate
    cost = other.column("bits_per_dim").estimate - one.column("bits_per_dim").estimate
    # Two differences of means. NUMERICS 5, sums: a tree of 43 roundings for 2000 numbers, on the sizes of what is subtracted; a
    # number is itself made with at most as many.
    sizes = {
        name: (one.column(name).estimate + other.column(name).estimate)[:-1] for name in ("bits_per_dim", "mse_x0")
    }
    bound = 2 * 43 * 2.0**-53 * (sizes["bits_per_dim"] + weights * sizes["mse_x0"] / math.log(2))
    assert (np.abs(cost[:-1] - weights * mse[:-1] / math.log(2)) <= bound).all()
    assert other.total.estimate > one.total.estimate


@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_points_on_a_grid_have_the_bound_with_the_decoder(variance):
    points, weights = -1 + 2 * np.array([0.0, 1.0, 3.0]) / 3, np.array([0.5, 0.25, 0.25])
    data = torch.tensor([[0], [0], [1], [3]])[torch.randint(4, (COUNT,), generator=torch.Generator().manual_seed(0))]
    walk = (20, 12, 7, 4, 2, 1, 0)
    denoiser = optimal(SCHEDULE, mirror.Finite(points.tolist(), weights.tolist()), "x0")
    found = evaluate(
        denoiser, SCHEDULE, data, walk, variance=variance, first_step="replace", levels=4, batch_size=COUNT
    )
    truth = exact_bound(SCHEDULE, walk, Finite(points, weights), variance, "replace", levels=4)
    terms, prior, total = in_bits(truth, 1)
    assert agree(found.column("bits_per_dim"), terms)
    assert agree(found.prior, prior)
    assert agree(found.total, total)
    assert truth.nll == pytest.approx(1.5 * math.log(2), rel=2**-50)  # a few roundings
    assert found.total.estimate > 1.5  # bits: the entropy, below which nobody gets


def test_the_optimal_variance_is_the_least_for_each_step():
    data, law = normal_data(COUNT), mirror.Gaussian(MEAN, COVARIANCE)
    options = {"clip_x0": False, "levels": None, "batch_size": COUNT}
    walk = (20, 9, 3, 0)
    bounds = {
        variance: evaluate(
            optimal(SCHEDULE, law),
            SCHEDULE,
            data,
            walk,
            variance=variance,
            first_step="exact" if variance == "beta" else None,
            x0_variance=left_by_level(SCHEDULE) if variance == "analytic" else None,
            **options,
        )
        for variance in ("posterior", "beta", "analytic")
    }
    best = bounds["analytic"].column("bits_per_dim").estimate
    for other in ("posterior", "beta"):
        assert (best < bounds[other].column("bits_per_dim").estimate).all()


def test_at_zero_terminal_snr_the_prior_costs_nothing():
    schedule = zero_terminal_snr(cosine_schedule(T=10))
    law = mirror.Gaussian(MEAN, COVARIANCE)
    found = evaluate(
        optimal(schedule, law, "v"), schedule, normal_data(COUNT), clip_x0=False, levels=None, batch_size=COUNT
    )
    assert found.prior.estimate == found.prior.standard_error == 0
    terms, _, total = in_bits(exact_bound(schedule, None, Gaussian(MEAN, COVARIANCE), "posterior"), 3)
    assert agree(found.column("bits_per_dim"), terms)
    assert agree(found.total, total)
