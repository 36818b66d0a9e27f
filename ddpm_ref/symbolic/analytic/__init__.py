r"""Analytic-DPM, derived: what noisy data leave open about the data, and the variance that a step gets by it.

From the data given noisy data, any data (`data_set`, `moments`), to the normal law put in their place (`surrogate`), to the
variance of a step (`variance`) and its bounds (`bounds`), to the estimate and the sampler (`sampler`), and to the cost of a
trajectory (`trajectory`).
"""

from __future__ import annotations

from ddpm_ref.symbolic.analytic.bounds import analytic_variance_bounds
from ddpm_ref.symbolic.analytic.moments import (
    x0_posterior_covariance,
    x0_posterior_covariance_averaged,
    x0_posterior_mean,
)
from ddpm_ref.symbolic.analytic.sampler import analytic_mc_estimator, analytic_sampler
from ddpm_ref.symbolic.analytic.surrogate import sigma_hat_squared, x0_gaussian_approximation
from ddpm_ref.symbolic.analytic.trajectory import analytic_path_cost, analytic_pixel_threshold
from ddpm_ref.symbolic.analytic.variance import analytic_reverse_step, analytic_reverse_variance
from ddpm_ref.symbolic.derivation import Derive

DERIVATIONS: tuple[Derive, ...] = (
    x0_posterior_mean,
    x0_posterior_covariance,
    x0_posterior_covariance_averaged,
    sigma_hat_squared,
    x0_gaussian_approximation,
    analytic_reverse_variance,
    analytic_reverse_step,
    analytic_mc_estimator,
    analytic_variance_bounds,
    analytic_sampler,
    analytic_path_cost,
    analytic_pixel_threshold,
)
