"""Analytic-DPM as it is commonly written, and what comes of it."""

from __future__ import annotations

from functools import cache

import numpy as np

from ddpm_ref.errata.demonstrations.ancestral import with_variance_for_deviation
from ddpm_ref.errata.demonstrations.ddim import steps_of
from ddpm_ref.errata.demonstrations.medians import share_at_one
from ddpm_ref.errata.demonstrations.setting import T, best_eps, downwards, end, every_level, linear
from ddpm_ref.errata.record import Figure, figure, figures
from ddpm_ref.reference import plan
from ddpm_ref.reference.analytic import (
    analytic_variance,
    clip_sigma_hat_squared,
    residual_mean_square,
    sigma_hat_squared,
    sigma_hat_squared_from_residual,
)
from ddpm_ref.reference.ddim import ddim_weights
from ddpm_ref.reference.forward import q_sample
from ddpm_ref.reference.oracle import Finite
from ddpm_ref.reference.posterior import posterior_variance, q_posterior
from ddpm_ref.reference.prediction import x0_from_eps
from ddpm_ref.typing import Array

LEVELS = [100, 500, T]
SIGNS = np.array([1.0, -1.0])
PLACES = ("$x_t = 0$", r"$x_t = \sqrt{\bar\alpha_t}$", r"$x_t = 2\sqrt{\bar\alpha_t}$")


def energies(deviation: float) -> Array:
    r"""Of the best prediction for normal data, :math:`\bar\beta_t/V_t`, at the levels 0 to T."""
    H = linear()
    return np.asarray(H.beta_bar / (H.alpha_bar * deviation**2 + H.beta_bar))


def known(deviation: float) -> Array:
    r"""The right :math:`\hat\sigma_t^2` of normal data at the levels 0 to T; unknown at level 0."""
    H, t = linear(), np.arange(1, T + 1)
    return np.append(np.nan, sigma_hat_squared(H, t, energies(deviation)[1:]))


def not_complemented(deviation: float) -> Array:
    """The same with the energy in the place of what it leaves."""
    H, t = linear(), np.arange(1, T + 1)
    return np.append(np.nan, sigma_hat_squared_from_residual(H, t, energies(deviation)[1:]))


def analytic_factor_not_complemented() -> tuple[Figure, ...]:
    """E54: the variances, and samplers that use them."""
    H, says = linear(), "deviation of samples"
    right, wrong = known(1.0)[LEVELS], not_complemented(1.0)[LEVELS]
    shown = [
        *figures(r"$\hat\sigma_t^2$ of unit data, as written", wrong, "0.0118 10.80 24776", LEVELS),
        *figures(r"$\hat\sigma_t^2$ of unit data, right", right, "0.1030 0.9214 0.99996", LEVELS),
    ]
    cases = (
        (100, 0.0, 1.0, "2.483", "0.947"),
        (20, 0.0, 1.0, "1.293", "0.997"),
        (1, 0.0, 1.0, "1.0151", "0.99995"),
        (100, 1.0, 1.0, "1.172", "0.947"),
        (20, 0.0, 0.1, "0.1164", "0.0796"),
    )
    for stride, eta, spread, written, printed in cases:
        walk = every_level(stride)
        where = rf"data of deviation {spread:g}, $\eta = {eta:g}$, {walk.steps} steps"
        ends = (end(plan.analytic(H, walk, of(spread), eta, form="x0"), spread) for of in (not_complemented, known))
        shown += [
            figure(f"{says}, {which}", value, digits, where)
            for which, value, digits in zip(("as written", "right"), ends, (written, printed), strict=True)
        ]
    return tuple(shown)


def plug_in_left_hand_side() -> tuple[Figure, ...]:
    """E55: with the true noise in it the approximation is the posterior itself, draw by draw."""
    H, t = linear(), downwards()
    x0, eps = np.linspace(-1, 1, T), np.linspace(2, -2, T)
    xt = q_sample(H, x0, t, eps)
    (given, _), (plugged, _) = (q_posterior(H, data, xt, t, t - 1) for data in (x0, x0_from_eps(H, xt, t, eps)))
    return (
        figure(
            "largest difference of the two means with the true noise",
            np.abs(given - plugged).max(),
            "0.000000000",
            "all steps",
        ),
    )


def covariance_equated_with_its_average() -> tuple[Figure, ...]:
    r"""E56: data :math:`\pm1`: the variance at some states, and its average over all of them, by quadrature."""
    H, data = linear(), Finite(SIGNS)
    shown = []
    for t, places, average in ((250, "1.000 0.359 0.0477", "0.419"), (100, "1.000 1.1e-07", "0.00486")):
        for times, printed in zip((0, 1, 2), places.split(), strict=False):
            state = times * H.sqrt_alpha_bar[t]
            variance = data.x0_covariance(H, [state], t)[0, 0]
            shown.append(figure(r"$\mathrm{Var}(x_0\mid x_t)$", variance, printed, f"t = {t}, {PLACES[times]}"))
        mean = sigma_hat_squared_from_residual(H, t, data.loss_floor(H, t))
        shown.append(figure("its average", mean, average, f"t = {t}"))
    return tuple(shown)


def sigma_t_versus_sigma_hat() -> tuple[Figure, ...]:
    """E57: the two variances that are called by one letter, for unit data."""
    data, step = known(1.0)[500], posterior_variance(linear(), 500, 499)
    return (
        figure(r"$\hat\sigma_t^2$, of the data given $x_t$", data, "0.9214", "t = 500"),
        figure(r"$\tilde\beta_t$, of a step", step, "0.01003", "t = 500"),
        figure("one over the other", data / step, "91.9", "t = 500"),
    )


def energy_of_the_median(p: float, t: int) -> float:
    r"""Mean square of the median prediction for data 1 with probability p and -1 otherwise: Gauss-Legendre on either side.

    The median is that of the likelier point, which changes at the border; states beyond ten deviations weigh nothing.
    """
    H = linear()
    signal, noise = H.sqrt_alpha_bar[t], H.sqrt_beta_bar[t]
    border = -np.log(p / (1 - p)) * H.beta_bar[t] / (2 * signal)
    low, high = -signal - 10 * noise, signal + 10 * noise
    nodes, weights = np.polynomial.legendre.leggauss(100)
    total = 0.0
    for start, stop, point in ((low, np.clip(border, low, high), -1.0), (np.clip(border, low, high), high, 1.0)):
        x = (start + stop) / 2 + (stop - start) / 2 * nodes
        density = sum(w * np.exp(-((x - signal * y) ** 2) / (2 * noise**2)) for w, y in ((p, 1.0), (1 - p, -1.0))) / (
            noise * np.sqrt(2 * np.pi)
        )
        total += float(((stop - start) / 2 * weights * density * ((x - signal * point) / noise) ** 2).sum())
    return total


@cache
def shares_at_one() -> tuple[tuple[float, float, float], ...]:
    """Of samples at 1 with the median: by weight of this point, by ancestral sampling and by DDIM."""
    walk, H = every_level(), linear()
    ancestral, ddim = plan.ancestral(H, walk, form="x0"), plan.ddim(H, walk, form="x0")
    return tuple((p, share_at_one(ancestral, p), share_at_one(ddim, p)) for p in (0.8, 0.95))


def l1_training_breaks_the_identity() -> tuple[Figure, ...]:
    r"""E58: data 1 with probability p and -1 otherwise; the median in the place of the mean, by quadrature and step by step."""
    H, shown = linear(), []
    for p, written, right in ((0.5, "3.70", "0.921"), (0.8, "-0.547", "0.605"), (0.95, "-0.200", "0.187")):
        where = rf"t = 500, $p = {p:g}$"
        wrong = sigma_hat_squared(H, 500, energy_of_the_median(p, 500), allow_negative=True)
        best = sigma_hat_squared_from_residual(H, 500, Finite(SIGNS, [p, 1 - p]).loss_floor(H, 500))
        shown.append(figure(r"$\hat\sigma_t^2$, as written", wrong, written, where))
        shown.append(figure(r"$\hat\sigma_t^2$, right", best, right, where))
    for (p, ancestral, ddim), printed in zip(shares_at_one(), ("0.876 0.951", "0.974 0.992"), strict=True):
        for sampler, share, digits in zip(("ancestral", "DDIM"), (ancestral, ddim), printed.split(), strict=True):
            shown.append(figure("share of samples at 1 with the median", share, digits, rf"$p = {p:g}$, {sampler}"))
    return tuple(shown)


def comment_recipm1() -> tuple[Figure, ...]:
    """E59: the radicand of the comment and of the code."""
    H = linear()
    return (
        figure("under the root, as written", 1 / (H.alpha_bar[500] - 1), "-1.085", "t = 500"),
        figure("under the root, right", 1 / H.alpha_bar[500] - 1, "11.725", "t = 500"),
    )


def comment_predict_start() -> tuple[Figure, ...]:
    """E60: the factor of the comment over that of the code."""
    H, levels = linear(), [1, 100, 500, T]
    written, right = 1 / H.sqrt_beta_bar[levels], H.sqrt_beta_bar[levels] / H.sqrt_alpha_bar[levels]
    return figures("factor of the noise, as written over right", written / right, "9999 9.20 0.304 0.00635", levels)


def comment_posterior_variance() -> tuple[Figure, ...]:
    """E61: the entry of the table, its root, and the samples of somebody who takes the one for the other."""
    variance = posterior_variance(linear(), 500, 499)
    rows = plan.ancestral(linear(), every_level(), form="x0")
    return (
        figure("the entry, a variance", variance, "0.01003", "t = 500"),
        figure("the deviation that the comment says it is", np.sqrt(variance), "0.1002", "t = 500"),
        figure("deviation of samples of unit data, as written", end(with_variance_for_deviation(rows), 1.0), "0.0747"),
        figure("deviation of samples of unit data, right", end(rows, 1.0), "0.9955"),
    )


def estimate_not_clipped() -> tuple[Figure, ...]:
    """E62: unit data, and a network whose answers are a tenth too large."""
    H, levels = linear(), [500, T]
    estimated = 1.1**2 * energies(1.0)[levels]
    values = sigma_hat_squared(H, levels, estimated, allow_negative=True)
    clipped, what = clip_sigma_hat_squared(H, values, levels, low=-np.inf, high=np.inf)
    weight = ddim_weights(H, 500, 499, 0.0)[0]
    return (
        *figures("one minus the mean square of the answers", 1 - estimated, "-0.115 -0.21", levels),
        figure(r"under the root of the noise, $\eta = 0$, as written", weight**2 * values[0], "-3.2e-06", "t = 500"),
        figure(
            r"under the root of the noise, $\eta = 0$, clipped",
            analytic_variance(H, 500, 499, clipped[0], 0.0),
            "0.000",
            "t = 500",
        ),
        figure("estimates that are moved", what.clipped, "2", "of 2"),
    )


def noise_argument() -> tuple[Figure, ...]:
    """E63: a loss that draws its own noise, and a noising that has no default, called as the signatures suggest."""
    H, x0 = linear(), np.array([0.5, -0.5])

    def q(x0: Array, t: int, noise: Array | None = None) -> Array:
        return np.asarray(H.sqrt_alpha_bar[t] * x0 + H.sqrt_beta_bar[t] * noise)

    def loss(x0: Array, t: int, noise: Array | None = None) -> float:
        noise = np.array([0.25, -1.0])  # stands for fresh noise
        return residual_mean_square(noise, np.zeros_like(q(x0, t, noise)))

    asked = [loss(x0, 500, np.full(2, value)) for value in (0.0, 3.0)]
    try:
        q(x0, 500)
        failures = 0
    except TypeError:
        failures = 1
    return (
        figure("loss with the noise 3 less loss with the noise 0", asked[1] - asked[0], "0.000", "as in the code"),
        figure("the same with the noise that is given", residual_mean_square(np.full(2, 3.0), np.zeros(2)), "9.000"),
        figure("calls without a noise that fail", failures, "1", "of 1"),
    )


def reduce_without_effect() -> tuple[Figure, ...]:
    """E64: a pattern that keeps every axis, on an array of shape (4, 3, 5, 5)."""
    losses = np.arange(300, dtype=np.float64).reshape(4, 3, 5, 5)
    kept = losses.reshape(4, -1)
    return (
        figure("entries per example afterwards", kept.shape[1], "75"),
        figure("largest change of a value", np.abs(kept.ravel() - losses.ravel()).max(), "0.000"),
        figure("global mean, before less after", losses.mean() - kept.mean(), "0.000"),
    )


def moments_recomputed_for_every_index() -> tuple[Figure, ...]:
    """E65: a network that counts how often it is asked, in fifty steps of a sampler that estimates its moments first."""

    def calls(levels_estimated: int) -> int:
        asked = 0

        def network(x: Array, t: int) -> Array:
            nonlocal asked
            asked += 1
            return np.asarray(best_eps(1.0)[T - t] * x)

        for t in range(1, levels_estimated + 1):
            network(np.ones(1), t)
        for t in steps_of(every_level(20))[0]:
            network(np.ones(1), int(t))
        return asked

    return (
        figure("calls of the network, as written", calls(T), "1050", "50 steps"),
        figure("calls of the network, estimated before", calls(0), "50", "50 steps"),
    )


def optimality_assumed_silently() -> tuple[Figure, ...]:
    """E66: the identity with answers that are a tenth too large, and the residual with the same answers."""
    H, m = linear(), float(energies(1.0)[500])
    wrong = sigma_hat_squared(H, 500, 1.1**2 * m, allow_negative=True)
    # E(eps - 1.1 eps*)^2 = 1 - 2 * 1.1 m + 1.1^2 m, as E[eps eps*] = E[eps*^2] = m.
    own = sigma_hat_squared_from_residual(H, 500, 1 - 2 * 1.1 * m + 1.1**2 * m)
    return (
        figure("variance by the identity, as written", wrong, "-1.347", "t = 500"),
        figure("variance of the data given $x_t$", known(1.0)[500], "0.921", "t = 500"),
        figure("mean squared error of these answers, by their residual", own, "1.029", "t = 500"),
    )
