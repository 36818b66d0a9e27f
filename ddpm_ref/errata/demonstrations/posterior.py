"""The posterior as it is commonly written, and what comes of it."""

from __future__ import annotations

import numpy as np

from ddpm_ref.errata.demonstrations.setting import T, best_eps, deviations, downwards, linear
from ddpm_ref.errata.record import Figure, figure, figures
from ddpm_ref.reference.divergence import kl_normal
from ddpm_ref.reference.forward import (
    aggregate_noise_correlation,
    data_marginal,
    q_mean_variance,
    stepwise_inversion,
)
from ddpm_ref.reference.posterior import (
    completing_square,
    log_normal,
    log_q_posterior,
    posterior_variance,
    posterior_weights,
    q_posterior,
    true_reverse_kernel,
)
from ddpm_ref.reference.reverse import reverse_chain_variance
from ddpm_ref.typing import Array


def _std(levels: list[int]) -> Array:
    """Posterior deviations of the steps down from these levels."""
    t = np.array(levels)
    return np.asarray(np.sqrt(posterior_variance(linear(), t, t - 1)))


def bayes_denominator_inverted() -> tuple[Figure, ...]:
    """E10: for unit data the two products differ by the ratio of the marginal densities; and the masses of the factors."""
    H, x, step = linear(), *np.linspace(-60, 60, 24001, retstep=True)
    x0 = np.full_like(x, 0.3)
    factors = (log_normal(x0, *q_mean_variance(H, x, 500)), log_normal(x, *q_mean_variance(H, x0, 500)))
    mass = [np.exp(factor).sum() * step for factor in factors]
    log_q = [log_normal(x, 0.0, data_marginal(H, 0.0, 1.0, t)[1]) for x, t in ((0.3, 0), (0.7, 500))]
    return (
        figure(
            "written over right density, $x_0 = 0.3$, $x_t = 0.7$", np.exp(log_q[0] - log_q[1]), "1.2214", "t = 500"
        ),
        figure("integral of the second factor over $x_t$, as written", mass[0], "3.57", "t = 500"),
        figure("integral of the second factor over $x_t$, right", mass[1], "1.00", "t = 500"),
    )


def exponent_uses_sqrt_alpha_bar() -> tuple[Figure, ...]:
    """E11: the coefficient of the square with one quadratic replaced, and the weight of the state that follows from it."""
    H, levels = linear(), [100, 250, 500, 750, T]
    t = np.array(levels)
    right, _ = completing_square(H, np.zeros(5), np.zeros(5), t, t - 1)
    written = right - H.alpha[t] / H.beta[t] + H.alpha_bar[t] / H.beta[t]
    weight = H.sqrt_alpha_bar[500] / H.beta[500] / written[2]
    return (
        *figures("variance, written over right", right / written, "1.11 1.88 11.2 54.3 49.9", levels),
        figure("weight of $x_t$, as written", weight, "3.13", "t = 500"),
        figure("weight of $x_t$, right", posterior_weights(H, 500, 499)[1], "0.994", "t = 500"),
    )


def exponent_third_denominator() -> tuple[Figure, ...]:
    """E12: one conditional deviation off, the third quadratic should be 1 and is written as noise over signal."""
    H, levels = linear(), [100, 500]
    off_by_one = H.beta_bar[levels]
    written = np.exp((off_by_one / H.alpha_bar[levels] - off_by_one / H.beta_bar[levels]) / 2)
    return figures("written over right density, $x_t$ one deviation off its mean", written, "0.642 213", levels)


def posterior_mean_sqrt_alpha_bar() -> tuple[Figure, ...]:
    """E13: the weight; the mean it gives on average; the sampler that uses it, on unit data."""
    H, levels = linear(), [100, 250, 500, 750, T]
    t = downwards()
    c0, ct = posterior_weights(H, t, t - 1)
    written = H.sqrt_alpha_bar[t] * H.beta_bar[t - 1] / H.beta_bar[t]
    step = T - 500  # the position of t = 500 on the way down
    average = (written * H.sqrt_alpha_bar[t] + c0)[step] / H.sqrt_alpha_bar[499]
    x0 = H.sqrt_alpha_bar[t]  # the best guess of unit data, per unit of x_t
    end, right_end = (deviations(weight * 1.0 + c0 * x0) for weight in (written, ct))
    rows = [T - level for level in levels]
    error = 100 * (1 - written[rows] / ct[rows])
    return (
        *figures("error of the weight of $x_t$ in per cent", error, "5.2 27.4 71.8 94.2 99.4", levels),
        figure("mean of $x_{t-1}$ on average, written over right", average, "0.2896", "t = 500"),
        figure("deviation of samples of unit data, as written", end[0], "0.198", "the end"),
        figure("deviation of samples of unit data, as written", end[500], "0.104", "t = 500"),
        figure("deviation of samples of unit data, right", right_end[0], "0.9955", "the end"),
    )


def sigma_equals_variance_in_appendix() -> tuple[Figure, ...]:
    """E14: the deviation over its square."""
    levels = [2, 100, 500, T]
    right = _std(levels)
    return figures("deviation, right over written", right / right**2, "135 22.2 9.98 7.07", levels)


def vertex_formula_inverted() -> tuple[Figure, ...]:
    """E15: both vertex formulas on the coefficients of the posterior."""
    levels = [500, 2]
    squares = [completing_square(linear(), 0.3, 0.7, t, t - 1) for t in levels]
    point = "posterior mean at $x_0 = 0.3$, $x_t = 0.7$"
    return (
        *figures(f"{point}, as written", [2 * a / b for a, b in squares], "1.4351 2.0752", levels),
        *figures(f"{point}, right", [b / (2 * a) for a, b in squares], "0.6968 0.4819", levels),
    )


def final_exponent_sign() -> tuple[Figure, ...]:
    """E16: the distance of the two centres, in posterior deviations."""
    levels = [2, 10, 100, 500]
    t = np.array(levels)
    c0, ct = posterior_weights(linear(), t, t - 1)
    xt, x0 = 0.7, 1.0
    shift = ((ct * xt + c0 * x0) - (ct * xt - c0 * x0)) / _std(levels)
    return figures("centre displaced by, in deviations, $x_0 = 1$", shift, "148 19.1 0.846 0.0613", levels)


def final_exponent_variance_squared() -> tuple[Figure, ...]:
    """E17: the log density one deviation from the mean."""
    levels, errors = [2, 100, 500], []
    for t in levels:
        mean, variance = q_posterior(linear(), 0.3, 0.7, t, t - 1)
        x = mean + np.sqrt(variance)
        written = -np.log(2 * np.pi * variance) / 2 - (x - mean) ** 2 / (2 * variance**2)
        errors.append(float(log_q_posterior(linear(), x, 0.3, 0.7, t, t - 1) - written))
    return figures("log density too low by, in nats, one deviation from the mean", errors, "9168 245 49.3", levels)


def one_symbol_for_three_arguments() -> tuple[Figure, ...]:
    """E18: the coefficient of the square when all three densities are functions of it."""
    H, levels = linear(), [2, 10, 100, 500]
    t = np.array(levels)
    written = 1 / H.beta[t] + 1 / H.beta_bar[t - 1] - 1 / H.beta_bar[t]
    error = 100 * (written * posterior_variance(H, t, t - 1) - 1)
    return figures("error of the precision in per cent", error, "-24.8 -12.5 -1.8 -0.09", levels)


def false_conditional_independence() -> tuple[Figure, ...]:
    """E19: partial correlations of unit data: from the inverse covariance of the three states."""
    H, levels = linear(), [2, 100, 500, T]
    open_, independent = [], []
    for t in levels:
        # Loadings of x_0, x_(t-1), x_t on the data and the two noises; their inverse is exact enough, being triangular.
        kept, added = H.sqrt_alpha[t], H.sqrt_beta[t]
        signal, noise = H.sqrt_alpha_bar[t - 1], H.sqrt_beta_bar[t - 1]
        loadings = np.array([[1.0, 0.0, 0.0], [signal, noise, 0.0], [kept * signal, kept * noise, added]])
        root = np.linalg.inv(loadings)
        precision = root.T @ root
        scale = np.sqrt(np.diag(precision))
        correlation = -precision / np.outer(scale, scale)
        open_.append(correlation[0, 1])
        independent.append(correlation[0, 2])
    return (
        *figures("correlation of $x_0$ and $x_{t-1}$ given $x_t$", open_, "0.738 0.134 0.0294 0.00091", levels),
        figure(
            "correlation of $x_0$ and $x_t$ given $x_{t-1}$ (the Markov property), in size",
            np.abs(independent).max(),
            "0.0000000000000",
            "at all of these",
        ),
    )


def conditioning_dropped() -> tuple[Figure, ...]:
    """E20: on unit data, of which the state leaves the variance beta_bar open."""
    H, levels = linear(), [2, 10, 100, 500]
    t = np.arange(2, T + 1)
    _, true = true_reverse_kernel(H, np.zeros(T - 1), t, t - 1, np.zeros(T - 1), H.beta_bar[t])
    stated = posterior_variance(H, t, t - 1)
    bits = kl_normal(np.zeros(T - 1), true, np.zeros(T - 1), stated).sum() / np.log(2)
    ratio = (true / stated)[[level - 2 for level in levels]]
    return (
        *figures("true over stated variance of the step back, unit data", ratio, "2.199 1.173 1.018 1.0009", levels),
        figure("divergence summed over the chain, in bits per dimension", bits, "0.671"),
    )


def deterministic_reverse_kernel() -> tuple[Figure, ...]:
    """E21: the inversion of a step with the best prediction of its noise, iterated without fresh noise."""
    H, t = linear(), downwards()
    ends = []
    for data_variance in (1.0, 0.25, 0.01):
        per_step = aggregate_noise_correlation(H, t) * best_eps(data_variance)
        gains = stepwise_inversion(H, np.ones(T), t, per_step)
        ends.append(np.sqrt(reverse_chain_variance(gains, np.zeros(T))[-1]))
    says = "deviation of samples"
    return (
        figure(says, ends[0], "0.00635282", "data of deviation 1"),
        figure(says, ends[1], "0.00158825", "data of deviation 0.5"),
        figure(says, ends[2], "6.35e-05", "data of deviation 0.1"),
        figure(r"$\sqrt{\bar\alpha_T}$", H.sqrt_alpha_bar[T], "0.00635282"),
    )


def gaussian_argument_convention() -> tuple[Figure, ...]:
    """E22: the posterior variance in a slot that is said to hold a deviation."""
    levels = [2, 500, T]
    right = _std(levels)
    return figures("deviation, right over read literally", right / right**2, "135 9.98 7.07", levels)


def sigma_symbol_sometimes_squared() -> tuple[Figure, ...]:
    """E23: the variance that the literal equation gives."""
    levels = [2, 500, T]
    right = _std(levels) ** 2
    return figures("variance, read literally over right", np.sqrt(right) / right, "135 9.98 7.07", levels)
