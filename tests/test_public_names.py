"""The names that others rely on, with the arguments they are called with: none may go missing or change its place."""

from __future__ import annotations

import inspect
from importlib import import_module

import numpy as np
import pytest

import ddpm_ref
from ddpm_ref.errors import RangeError

NAMES = {
    "ddpm_ref": {
        "linear_schedule": "T beta_1 beta_T",
        "cosine_schedule": "T s max_beta",
    },
    "ddpm_ref.reference.forward": {"q_sample": "schedule x0 t noise"},
    "ddpm_ref.reference.posterior": {"q_posterior": "schedule x0 xt t s"},
    "ddpm_ref.reference.prediction": {
        "x0_from_eps": "schedule xt t eps",
        "eps_from_x0": "schedule xt t",
        "score_from_eps": "schedule xt t eps",
    },
    "ddpm_ref.reference.divergence": {
        "kl_normal": "mean1 variance1 mean2 variance2",
        "kl_normal_logvar": "mean1 logvar1 mean2 logvar2",
    },
    "ddpm_ref.reference.analytic": {
        "x0_variance": "schedule t mean_square_eps residual_mean_square",
        "optimal_variance": "schedule t s x0_variance eta",
    },
    "ddpm_ref.reference.plan": {
        "ancestral": "schedule trajectory variance last_noise",
        "ddim": "schedule trajectory eta",
        "analytic": "schedule trajectory x0_variance",
    },
    "ddpm_ref.reference.oracle": {
        "Gaussian": "mean covariance",
        "Mixture": "weights means covariances",
        "Finite": "points",
    },
    "ddpm_ref.torch": {"tables": "schedule"},
    "ddpm_ref.torch.analytic": {
        "x0_variance": "tables t mean_square_eps residual_mean_square",
        "optimal_variance": "tables t s x0_variance eta",
    },
    "ddpm_ref.sampling": {
        "Denoiser": "network prediction time_code",
        "sample": "denoiser shape plan noise",
        "states": "denoiser shape plan noise",
    },
    "ddpm_ref.training": {"fit": "config"},
    "ddpm_ref.conformance": {"check": "adapter laws max_examples"},
}


@pytest.mark.parametrize(
    ("module", "name", "arguments"), [(m, n, a) for m, names in NAMES.items() for n, a in names.items()]
)
def test_a_public_name_takes_its_arguments_in_this_order(module: str, name: str, arguments: str) -> None:
    found = list(inspect.signature(getattr(import_module(module), name)).parameters)
    assert found[: len(arguments.split())] == arguments.split()


def test_the_variance_of_x0_takes_one_statistic() -> None:
    schedule, analytic = ddpm_ref.linear_schedule(10), import_module("ddpm_ref.reference.analytic")
    energy = analytic.x0_variance(schedule, 5, 0.75)
    assert energy == analytic.sigma_hat_squared(schedule, 5, 0.75)
    assert energy == analytic.x0_variance(schedule, 5, residual_mean_square=0.25)
    assert analytic.optimal_variance(schedule, 5, 2, energy, eta=0.0) == analytic.analytic_variance(
        schedule, 5, 2, energy, 0.0
    )
    for wrong in ({}, {"mean_square_eps": 0.5, "residual_mean_square": 0.5}):
        with pytest.raises(RangeError, match="write one of them"):
            analytic.x0_variance(schedule, 5, **wrong)


def test_the_mirror_says_the_same() -> None:
    schedule, mirror = ddpm_ref.linear_schedule(10), import_module("ddpm_ref.torch.analytic")
    tables = import_module("ddpm_ref.torch").tables(schedule)
    energy = mirror.x0_variance(tables, 5, 0.75)
    assert energy == mirror.sigma_hat_squared(tables, 5, 0.75)
    assert mirror.x0_variance(tables, 5, residual_mean_square=0.25) == mirror.sigma_hat_squared_from_residual(
        tables, 5, 0.25
    )
    assert np.isfinite(float(mirror.optimal_variance(tables, 5, 2, energy, 0.5)))
    for wrong in ({}, {"mean_square_eps": 0.5, "residual_mean_square": 0.5}):
        with pytest.raises(RangeError, match="one of them only"):
            mirror.x0_variance(tables, 5, **wrong)
