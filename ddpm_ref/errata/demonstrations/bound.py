"""The variational bound and the losses as they are commonly written, and what comes of it."""

from __future__ import annotations

import ast
from functools import cache
from math import erfc, log, log2, pi, sqrt

import numpy as np

from ddpm_ref.errata.demonstrations.chains import stated_and_right
from ddpm_ref.errata.demonstrations.setting import T, linear
from ddpm_ref.errata.record import Figure, figure, figures
from ddpm_ref.reference.bound import loss_weight_eps, loss_weight_x0, variance_term
from ddpm_ref.reference.decoder import discretized_gaussian_log_likelihood
from ddpm_ref.reference.oracle import Gaussian
from ddpm_ref.reference.oracle.bound import OracleBound, exact_bound
from ddpm_ref.reference.posterior import posterior_log_variance
from ddpm_ref.typing import IntArray

UNIT = Gaussian(0.0, 1.0)


@cache
def unit_bound() -> OracleBound:
    """Of unit data with the variance beta, for which the model is right and the bound the entropy of the data."""
    return exact_bound(linear(), None, UNIT, "beta")


def above_1() -> IntArray:
    """The levels 2, ..., T, from which a step leads to a noisy level."""
    return np.arange(2, T + 1)


def l0_sign() -> tuple[Figure, ...]:
    """E24: linear chains whose likelihood is known, and unit data."""
    bound, (stated, right, truth) = unit_bound(), stated_and_right()
    kept = bound.prior + bound.terms.sum() - bound.reconstruction
    return (
        figure(
            "chains whose likelihood violates the bound, in per cent, as written", 100 * (stated < truth).mean(), "83.6"
        ),
        figure("chains whose likelihood violates the bound, in per cent, right", 100 * (right < truth).mean(), "0.0"),
        figure("negative log-likelihood in nats", bound.nll, "1.4189", "unit data"),
        figure("bound in nats, right", bound.total, "1.4189", "unit data"),
        figure("bound in nats, as written", kept, "7.7914", "unit data"),
    )


def elbo_overall_sign() -> tuple[Figure, ...]:
    """E25: the expected logarithm of the ratio of model to chain, for unit data."""
    bound = unit_bound()
    says = "expected log ratio of model and chain in nats"
    return (
        figure(f"{says}, as written", bound.prior + bound.terms.sum() - bound.reconstruction, "7.7914", "unit data"),
        figure(f"{says}, right", -bound.total, "-1.4189", "unit data"),
        figure("sum of the divergences in nats", bound.prior + bound.terms.sum(), "4.6052", "unit data"),
    )


def product_index() -> tuple[Figure, ...]:
    r"""E26: the product at the origin for :math:`x_0 = 0`, where a density is one over the deviation, and a power of one factor."""
    H = linear()
    right = np.log10(H.sqrt_beta_bar[T] / H.sqrt_beta_bar[1])
    power = (T - 1) * np.log10(H.sqrt_beta_bar[2] / H.sqrt_beta_bar[1])
    return (
        figure("decimal logarithm of the product, right", right, "2.000"),
        figure("decimal logarithm of the product, as written", power, "170.9", "the index stuck at t = 2"),
    )


def kl_arguments_swapped() -> tuple[Figure, ...]:
    """E27: what the variance beta costs in either order."""
    H, t = linear(), above_1()
    right, ratio = variance_term(H, t, t - 1, "beta"), H.beta_bar[t - 1] / H.beta_bar[t]
    written = (1 / ratio - 1 + np.log(ratio)) / 2
    says, whole = (
        "part of the variances in nats per dimension",
        "part of the variances over the chain in bits per dimension",
    )
    return (
        figure(f"{says}, as written", written[0], "0.2055", "t = 2"),
        figure(f"{says}, right", right[0], "0.1214", "t = 2"),
        figure("the one over the other", written[0] / right[0], "1.69", "t = 2"),
        figure(f"{whole}, as written", written.sum() / log(2), "0.6707"),
        figure(f"{whole}, right", right.sum() / log(2), "0.4864"),
        figure("part of the means, as written over right", 1 / ratio[0], "2.199", "t = 2"),
    )


def loss_index_and_arguments() -> tuple[Figure, ...]:
    """E28: a table of terms in which each stands one place too high, so that the term of the data has none."""
    bound = unit_bound()
    return (
        figure(
            "bound in nats, the term of the data overwritten", bound.total - bound.reconstruction, "4.6052", "unit data"
        ),
        figure("bound in nats, right", bound.total, "1.4189", "unit data"),
    )


def eps_weight_not_squared() -> tuple[Figure, ...]:
    """E29: the reciprocal of what should be squared."""
    H, t, levels = linear(), above_1(), [2, 100, 500, T]
    factor = 1 / H.between(t, t - 1).eps_weight
    return (
        *figures(
            "weight of the noise, as written over right", factor[np.array(levels) - 2], "123.7 154.7 95.1 49.5", levels
        ),
        figure("the greatest of these", factor.max(), "158.9", f"t = {t[factor.argmax()]}"),
        figure("the smallest of these", factor.min(), "49.5", f"t = {t[factor.argmin()]}"),
    )


def t_dependent_weight_called_constant() -> tuple[Figure, ...]:
    """E30: the weights; and one gain for all levels, on unit data."""
    H, t, levels = linear(), above_1(), [2, 350, T]
    weight = loss_weight_eps(H, t, t - 1)
    gain = (weight @ H.sqrt_beta_bar[t]) / weight.sum()
    says = "share of the first nine levels in per cent"
    return (
        *figures("weight of the noise in the bound", weight[np.array(levels) - 2], "0.5997 0.00498 0.0102", levels),
        figure("the greatest weight over the smallest", weight.max() / weight.min(), "120"),
        figure(f"{says}, of the weights of the bound", 100 * weight[:9].sum() / weight.sum(), "18.4"),
        figure(f"{says}, of equal weights", 100 * 9 / len(t), "0.9"),
        figure("best common gain, for the bound", gain, "0.571", "unit data"),
        figure("best common gain, for the simple loss", H.sqrt_beta_bar[t].mean(), "0.807", "unit data"),
    )


def expectation_missing() -> tuple[Figure, ...]:
    """E31: what the best network leaves, beside a network that copies the noise it is to find."""
    return (
        figure("loss of the conditional mean", UNIT.loss_floor(linear(), 500), "0.0786", "t = 500, unit data"),
        figure("loss of a copy of the noise that was drawn", 0.0, "0.0000", "t = 500, unit data"),
    )


def x0_objective_called_useless() -> tuple[Figure, ...]:
    """E32: both objectives with their weights, on unit data with the best network; and the factor between the errors."""
    H, t = linear(), above_1()
    left = H.beta_bar[t]  # what is left of the data; of the noise it is alpha_bar
    data, noise = loss_weight_x0(H, t, t - 1) * left, loss_weight_eps(H, t, t - 1) * H.alpha_bar[t]
    return (
        figure("sum of the weighted losses of the data, in nats", data.sum(), "5.0700", "unit data"),
        figure("sum of the weighted losses of the noise, in nats", noise.sum(), "5.0700", "unit data"),
        *figures(
            "squared error of the data over that of the noise", 1 / H.snr[[1, T]], "1.00e-04 24777", levels=[1, T]
        ),
    )


def target_noise_differs_from_input_noise() -> tuple[Figure, ...]:
    """E33: the least squares of a gain on unit data; the state has the variance 1."""
    H = linear()
    best = float(H.sqrt_beta_bar[500])
    return (
        figure("gain that is learned, right", best, "0.9599", "t = 500"),
        figure("gain that is learned, as written", 0 * best, "0.0000", "t = 500"),
        figure("loss that is left, right", 1 - best**2, "0.0786", "t = 500"),
        figure("loss that is left, as written", 1.0, "1.0000", "t = 500"),
    )


def t_noises_per_sample() -> tuple[Figure, ...]:
    """E34: the mean of the level."""
    return (
        figure("noises per example on average, as written", np.arange(1, T + 1).mean(), "500.5"),
        figure("noises per example on average, right", np.ones(T).mean(), "1.0"),
    )


def decoder_called_encoder() -> tuple[Figure, ...]:
    r"""E35: the probabilities of the levels given the state; and the same numbers over the states, for a deviation of 0.01."""
    level, step = np.arange(256), 1e-4
    given_state = np.exp(discretized_gaussian_log_likelihood(level, 0.3, 0.01)).sum()
    states = np.arange(-2.0, 2.0, step)
    over_states = np.exp(discretized_gaussian_log_likelihood(128, states, 0.01)).sum() * step
    return (
        figure("sum over the levels, given the state", given_state, "1.00000"),
        figure("integral over the states, of one level", over_states, "0.00784"),
    )


def _bits(deviation: float, variance: float) -> float:
    """Of a level inside the range whose mean is missed by a normal error of this deviation."""
    step = 1e-3
    z = np.arange(-8.0, 8.0 + step / 2, step)
    density = np.exp(-(z**2) / 2) / sqrt(2 * pi)
    likelihood = discretized_gaussian_log_likelihood(128, 1 / 255 + deviation * z, sqrt(variance))
    return float(-(np.maximum(likelihood, log(1e-12)) * density).sum() * step / log(2))


def zero_variance_at_t1() -> tuple[Figure, ...]:
    """E36: bits of an 8-bit component; with a vanishing variance all is won or lost at half the width of a bin."""
    H = linear()
    replaced = float(np.exp(posterior_log_variance(H, 1, 0, "replace")))
    found = []
    for deviation, known in ((0.01, "2.51 2.40 27.7"), (0.005, "1.61 1.88 17.3")):
        lost = erfc(1 / 255 / deviation / sqrt(2)) * -log2(1e-12)
        values = _bits(deviation, replaced), _bits(deviation, float(H.beta[1])), lost
        kinds = "with the variance of the second step", r"with $\beta_1$", "with a variance of $10^{-20}$"
        found += [
            figure(f"bits per dimension {kind}", value, printed, f"mean missed by {deviation:g}")
            for kind, value, printed in zip(kinds, values, known.split(), strict=True)
        ]
    return tuple(found)


def weights_singular_at_t1() -> tuple[Figure, ...]:
    """E37: the tables of both weights, as they stand and with the variance beta."""
    H = linear()
    with np.errstate(divide="ignore"):
        table = H.beta[1:] ** 2 / (2 * H.beta_tilde[1:] * H.alpha[1:] * H.beta_bar[1:])
    return (
        figure("entries that are infinite, as written", np.isinf(table).sum(), "1", "t = 1"),
        figure(r"weight of the noise, variance $\beta$", loss_weight_eps(H, 1, 0, "beta"), "0.50005", "t = 1"),
        figure(r"weight of the noise, variance $\tilde\beta$", loss_weight_eps(H, 2, 1), "0.59967", "t = 2"),
    )


def uniform_step_written_as_interval() -> tuple[Figure, ...]:
    r"""E38: lengths of what is rounded to a level, of the interval from 1 to T."""
    edges = np.clip(np.arange(0.5, T + 1), 1, T)
    mass = np.diff(edges) / (T - 1)
    return (
        figure("probability of a level, rounded", mass[0], "0.0005005", "t = 1"),
        figure("probability of a level, rounded", mass[499], "0.0010010", "t = 500"),
        figure("probability of a level, right", 1 / T, "0.0010000", "t = 1 and 500"),
        figure("probability of the last level, cut off to a whole number", 0.0, "0.0000000", "t = 1000"),
    )


LISTING = """
def term(mean, log_variance):
    # divergence of the posterior from
    {}the step of the model
    return mean, log_variance
"""


def _compiles(listing: str) -> bool:
    try:
        ast.parse(listing)
    except SyntaxError:
        return False
    return True


def code_listing_broken() -> tuple[Figure, ...]:
    """E39: a comment of two lines with one mark, and with two."""
    return (
        figure("listings that compile, as written", _compiles(LISTING.format("")), "0"),
        figure("listings that compile, right", _compiles(LISTING.format("# ")), "1"),
    )
