"""The forward process as it is commonly written, and what comes of it."""

from __future__ import annotations

from math import erf, erfc, sqrt

import numpy as np

from ddpm_ref.errata.demonstrations.setting import (
    T,
    best_eps,
    deviations,
    downwards,
    linear,
    mean_of,
    total_variation_from_standard,
)
from ddpm_ref.errata.record import Figure, figure, figures
from ddpm_ref.reference.forward import (
    aggregate_noise,
    aggregate_noise_correlation,
    data_marginal,
    forward_step,
    q_mean_variance,
    second_moment,
    stepwise_inversion,
    terminal_kl,
)
from ddpm_ref.reference.named_schedules import cosine_schedule
from ddpm_ref.reference.posterior import log_normal
from ddpm_ref.reference.reverse import model_mean_from_eps
from ddpm_ref.typing import Array


def forward_noise_beta_not_sqrt() -> tuple[Figure, ...]:
    """E01: the recursion of the variance, with a noise of variance beta squared."""
    H = linear()

    def written(start: float) -> Array:
        chain = [start]
        for alpha, beta in zip(H.alpha[1:], H.beta[1:], strict=True):
            chain.append(alpha * chain[-1] + beta**2)
        return np.array(chain)

    unit, given = written(1.0), written(0.0)
    marginal, conditional = data_marginal(H, 0.0, 1.0, T)[1], q_mean_variance(H, 1.0, 500)[1]
    return (
        *figures("deviation of unit data, as written", np.sqrt(unit[[500, T]]), "0.29345 0.13786", levels=[500, T]),
        figure("deviation of unit data, right", np.sqrt(marginal), "1.00000", "t = 1000"),
        figure("deviation given $x_0$, as written", np.sqrt(given[500]), "0.08673", "t = 500"),
        figure("deviation given $x_0$, right", np.sqrt(conditional), "0.95990", "t = 500"),
        *figures(
            "signal-to-noise ratio, written over right", H.beta_bar[[500, T]] / given[[500, T]], "122 52.7", [500, T]
        ),
        *figures("noise of one step, right over written", 1 / H.sqrt_beta[[1, T]], "100 7.07", levels=[1, T]),
    )


def marginal_equated_with_conditional() -> tuple[Figure, ...]:
    r"""E02: unit data; and data that are +1 or -1 with equal odds.

    For those the conditional law is one of the two halves of the marginal, at a total variation distance of half the
    distance of the halves from one another: :math:`\tfrac12\mathrm{erf}(\sqrt{\mathrm{SNR}_t/2})`.
    """
    H, levels = linear(), [100, 250, 500, 750]
    distances = [erf(sqrt(H.snr[t] / 2)) / 2 for t in levels]
    return (
        figure("variance of unit data, as written", q_mean_variance(H, 0.0, 100)[1], "0.10298", "t = 100"),
        figure("variance of unit data, right", data_marginal(H, 0.0, 1.0, 100)[1], "1.00000", "t = 100"),
        *figures(r"total variation distance, data $\pm1$", distances, "0.498 0.353 0.115 0.0231", levels),
    )


def pathwise_sum_of_squares() -> tuple[Figure, ...]:
    """E03: the square of a step less the two squares it is said to consist of, for unit data, by quadrature."""
    H, levels = linear(), [100, 500, T]

    def missing(t: int, power: int) -> float:
        def difference(x: Array, noise: Array) -> Array:
            x, noise = np.broadcast_arrays(x, noise)
            after = forward_step(H, x, t, noise)
            return np.asarray((after**2 - (H.alpha[t] * x**2 + H.beta[t] * noise**2)) ** power)

        return mean_of(difference)

    spread = [sqrt(missing(t, 2)) for t in levels]
    return (
        *figures("mean of the missing term", [missing(t, 1) for t in levels], "0.0000 0.0000 0.0000", levels),
        *figures("deviation of the missing term", spread, "0.0909 0.1994 0.2800", levels),
        figure("second moment after a step, right", second_moment(H, 1.0, 500, 499), "1.00000", "t = 500"),
    )


def product_of_gaussians_claim() -> tuple[Figure, ...]:
    """E04: moments by quadrature; the tail from the chance that one factor exceeds 3 over the size of the other."""
    kurtosis = mean_of(lambda x, y: (x * y) ** 4) / mean_of(lambda x, y: (x * y) ** 2) ** 2
    x, step = np.linspace(0, 40, 8001, retstep=True)
    exceeds = np.array([erfc(3 / size / sqrt(2)) for size in x[1:].tolist()])
    product = float(2 * (exceeds * np.exp(log_normal(x[1:], 0 * x[1:], 1 + 0 * x[1:]))).sum() * step)
    normal = erfc(3 / sqrt(2))
    return (
        figure("kurtosis of a product of two standard normal variables", kurtosis, "9.000"),
        figure("kurtosis of a normal variable", mean_of(lambda x, y: x**4 + 0 * y), "3.000"),
        figure("probability that the product exceeds 3 in size", product, "0.01964"),
        figure("the same for a normal variable", normal, "0.00270"),
        figure("their ratio", product / normal, "7.3"),
    )


def noise_symbol_conflation() -> tuple[Figure, ...]:
    """E05: the weight of the last noise in the aggregate one; and both mix-ups carried through a sampler.

    Given the noisy state the mean of the noise of the step is the correlation times the mean of the aggregate noise, for
    every law of the data.
    """
    H, t, levels = linear(), downwards(), [2, 100, 500, T]
    correlation = [aggregate_noise(H, np.eye(level)[-1], level) for level in levels]
    ends = []
    for data_variance in (1.0, 0.25):
        per_step = aggregate_noise_correlation(H, t) * best_eps(data_variance)
        ends.append(deviations(model_mean_from_eps(H, np.ones(T), t, t - 1, per_step))[0])
    inverted = stepwise_inversion(H, np.ones(T), t, best_eps(1.0))
    return (
        *figures("correlation of the two noises", correlation, "0.738 0.142 0.104 0.141", levels),
        figure("final deviation, per-step noise in the DDPM update", ends[0], "71.8", "unit data"),
        figure("final deviation, per-step noise in the DDPM update", ends[1], "60.4", "data of deviation 0.5"),
        figure(
            "decimal logarithm of the final deviation, aggregate noise in the inversion of a step",
            np.log10(np.abs(inverted)).sum(),
            "-36.7",
            "unit data",
        ),
    )


def scalar_noise_for_vector() -> tuple[Figure, ...]:
    """E06: a step of two components from 0; what each unit of noise does gives the covariance."""
    H = linear()

    def correlation(noises: Array) -> float:
        root = np.array([forward_step(H, np.zeros(2), 500, noise) for noise in noises])
        covariance = root.T @ root
        return float(covariance[0, 1] / sqrt(covariance[0, 0] * covariance[1, 1]))

    return (
        figure("correlation of two components, one number for both", correlation(np.ones((1, 2))), "1.000", "t = 500"),
        figure("correlation of two components, right", correlation(np.eye(2)), "0.000", "t = 500"),
    )


def terminal_law_stated_as_exact() -> tuple[Figure, ...]:
    """E07: how far the last state is from the prior, for a data point 1."""
    mean, variance = q_mean_variance(linear(), 1.0, T)
    distance = total_variation_from_standard(float(mean), float(variance))
    return (
        figure("divergence from the prior in nats per dimension", terminal_kl(linear(), 1.0), "2.018e-05", "$x_0 = 1$"),
        figure("total variation distance from the prior per dimension", distance, "2.53e-03", "$x_0 = 1$"),
    )


def alpha_bar_index_and_estimate() -> tuple[Figure, ...]:
    r"""E08: the logarithm of the product, the bound :math:`-\sum\beta_t` on it, and two estimates taken from the bound."""
    H = linear()
    excess = [100 * (np.exp(-exponent) / H.alpha_bar[T] - 1) for exponent in (10, 10.05)]
    return (
        figure(r"$\log\bar\alpha_T$", H.log_alpha_bar[T], "-10.11771354"),
        figure(r"$-\sum_t\beta_t$", -H.beta.sum(), "-10.05"),
        figure(r"$\bar\alpha_T$", H.alpha_bar[T], "4.03583e-05"),
        figure("excess of $e^{-10}$ in per cent", excess[0], "12.5"),
        figure("excess of $e^{-10.05}$ in per cent", excess[1], "7.0"),
    )


def beta_much_smaller_than_alpha_required() -> tuple[Figure, ...]:
    """E09: the cosine schedule."""
    H = cosine_schedule(T)
    return (
        figure("first level with more noise than signal in a step", np.flatnonzero(H.beta > H.alpha)[0], "998"),
        *figures(r"$\beta_t$ of the cosine schedule", H.beta[[999, T]], "0.75 0.999", levels=[999, T]),
    )
