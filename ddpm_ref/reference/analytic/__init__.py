r"""Analytic-DPM: the best variance of a reverse step, from how much the best prediction leaves unknown of the data.

The network of a diffusion model says where the data probably are; the mean square of its output says how well it
knows. From that one number per level follow the optimal variance of every reverse step, of any stride and of every
member of the DDIM family, bounds on it that hold for all data, and the trajectory on which the bound of the likelihood
is best (Bao et al. 2022).
"""

from ddpm_ref.reference.analytic.clipping import (
    Clipping,
    clip_sigma_hat_squared,
    pixel_threshold_variance,
    refuse_outside,
)
from ddpm_ref.reference.analytic.estimate import (
    eps_mean_square,
    mean_square_condition,
    residual_mean_square,
    sigma_hat_squared,
    sigma_hat_squared_from_residual,
    x0_gaussian_approximation,
    x0_posterior_covariance,
    x0_posterior_covariance_averaged,
    x0_variance,
)
from ddpm_ref.reference.analytic.segmented import segmented_trajectory
from ddpm_ref.reference.analytic.shortest import Path, optimal_trajectories, optimal_trajectory, path_cost, step_cost
from ddpm_ref.reference.analytic.variance import (
    analytic_std,
    analytic_step,
    analytic_variance,
    analytic_variance_bounds,
    optimal_variance,
)

__all__ = [
    "Clipping",
    "Path",
    "analytic_std",
    "analytic_step",
    "analytic_variance",
    "analytic_variance_bounds",
    "clip_sigma_hat_squared",
    "eps_mean_square",
    "mean_square_condition",
    "optimal_trajectories",
    "optimal_trajectory",
    "optimal_variance",
    "path_cost",
    "pixel_threshold_variance",
    "refuse_outside",
    "residual_mean_square",
    "segmented_trajectory",
    "sigma_hat_squared",
    "sigma_hat_squared_from_residual",
    "step_cost",
    "x0_gaussian_approximation",
    "x0_posterior_covariance",
    "x0_posterior_covariance_averaged",
    "x0_variance",
]
