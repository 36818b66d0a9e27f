"""The DDIM family as it is commonly written, and what comes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ddpm_ref.errata.demonstrations.setting import T, end, every_level, linear
from ddpm_ref.errata.record import Figure, figure, figures
from ddpm_ref.reference import plan
from ddpm_ref.reference.ddim import ddim_direction, ddim_std, ddim_step, ddim_step_from_eps, ddim_weights
from ddpm_ref.reference.posterior import posterior_weights
from ddpm_ref.reference.prediction import x0_from_eps
from ddpm_ref.reference.reverse import reverse_chain_variance, reverse_variance
from ddpm_ref.reference.schedule import Trajectory
from ddpm_ref.typing import Array, IntArray


def steps_of(walk: Trajectory) -> tuple[IntArray, IntArray]:
    """Levels that the steps start from, and those they end at."""
    levels = np.array(walk.levels)
    return levels[:-1], levels[1:]


def ending(t: IntArray, signal: Array, direction: Array, spread: float) -> float:
    r"""Deviation of samples without fresh noise, :math:`x_s = A\hat x_0 + B\hat\varepsilon` with the best network."""
    H = linear()
    total = H.alpha_bar[t] * spread**2 + H.beta_bar[t]
    gains = (signal * H.sqrt_alpha_bar[t] * spread**2 + direction * H.sqrt_beta_bar[t]) / total
    return float(np.sqrt(reverse_chain_variance(gains, np.zeros(len(gains)))[-1]))


def ddim_signal_coefficient() -> tuple[Figure, ...]:
    """E47: the signal of the level that a step starts from, at every step."""
    H, says = linear(), "deviation of samples"
    cases = ((1, 1.0, "0.6057", "0.9981"), (1, 0.5, "0.3957", "0.4985"), (20, 1.0, "0.5895", "0.9636"))
    shown = [figure("mean too small by, in per cent, one step", 100 * (1 - H.sqrt_alpha[500]), "0.50", "t = 500")]
    for stride, spread, written, right in cases:
        walk = every_level(stride)
        t, s = steps_of(walk)
        where = f"data of deviation {spread:g}, {walk.steps} steps"
        wrong = ending(t, H.sqrt_alpha_bar[t], H.sqrt_beta_bar[s], spread)
        shown.append(figure(f"{says}, as written", wrong, written, where))
        shown.append(figure(f"{says}, right", end(plan.ddim(H, walk, form="x0"), spread), right, where))
    return tuple(shown)


def ddim_sigma_squared_times_noise() -> tuple[Figure, ...]:
    r"""E48: the noise multiplied by a variance, for :math:`\eta = 1`."""
    H, says = linear(), "deviation of samples of unit data"
    kept, std = float(ddim_direction(H, T, T - 1, 1.0)) ** 2, float(ddim_std(H, T, T - 1, 1.0))
    shown = [
        figure("variance of the noise at 999, as written", kept + std**4, "0.98036", "t = 1000"),
        figure("variance of the noise at 999, right", kept + std**2, "0.99996", "t = 1000"),
    ]
    for stride, written, right in ((1, "0.0747", "0.9955"), (20, "0.297", "0.926")):
        rows = plan.ddim(H, every_level(stride), eta=1.0, form="x0")
        where = f"{len(rows)} steps"
        shown.append(figure(f"{says}, as written", end(replace(rows, noise=rows.noise**2), 1.0), written, where))
        shown.append(figure(f"{says}, right", end(rows, 1.0), right, where))
    return tuple(shown)


def eta_scales_the_variance() -> tuple[Figure, ...]:
    r"""E49: the root of :math:`\eta\tilde\beta_t` over :math:`\eta` times the root of :math:`\tilde\beta_t`."""
    H = linear()
    variance = reverse_variance(H, 500, 499)
    return tuple(
        figure(
            "deviation, as written over right",
            np.sqrt(eta * variance) / ddim_std(H, 500, 499, eta),
            known,
            rf"$\eta = {eta}$",
        )
        for eta, known in ((0.1, "3.16"), (0.2, "2.24"), (0.5, "1.41"), (0.8, "1.12"))
    )


def subsequence_indices() -> tuple[Figure, ...]:
    r"""E50: the level below t for the level that the step ends at, but for the last step; 50 steps, :math:`\eta = 0`."""
    H, walk = linear(), every_level(20)
    t, s = steps_of(walk)
    below = np.where(s == 0, 0, t - 1)
    shown = []
    for spread, written, right in ((1.0, "0.997", "0.964"), (0.5, "0.947", "0.471"), (0.1, "0.576", "0.0742")):
        where = f"data of deviation {spread:g}"
        wrong = ending(t, H.sqrt_alpha_bar[below], H.sqrt_beta_bar[below], spread)
        shown.append(figure("deviation of samples, as written", wrong, written, where))
        shown.append(figure("deviation of samples, right", end(plan.ddim(H, walk, form="x0"), spread), right, where))
    return (
        *shown,
        *figures("factor of the signal, as written", H.sqrt_alpha_bar[[499]], "0.28175", levels=[500]),
        figure("factor of the signal, right", H.sqrt_alpha_bar[480], "0.30951", "t = 500 of 50 steps"),
        figure("factor of the signal, right", H.sqrt_alpha_bar[400], "0.44175", "t = 500 of 10 steps"),
    )


def improved_ddpm_label() -> tuple[Figure, ...]:
    """E51: what the two methods share, and what neither has of the other."""
    H, walk = linear(), every_level(20)
    t, s = steps_of(walk)
    shared = np.abs(np.array(ddim_weights(H, t, s, 1.0)) - np.array(posterior_weights(H, t, s))).max()
    quarter = ddim_std(H, 500, 480, 0.5) ** 2 / reverse_variance(H, 500, 480)
    return (
        figure(r"largest difference of the coefficients, $\eta = 1$", shared, "0.000000000000000", "50 steps"),
        figure(r"variance of DDIM with $\eta = 0.5$ over the strided one", quarter, "0.25", "t = 500"),
        figure("fixed-large variance of the step to level 1", H.beta[2], "1.199e-04", "t = 2"),
        figure("largest variance that the DDIM family has there", H.beta_bar[1], "1.000e-04", "t = 2"),
    )


def strided_sigma_from_full_chain() -> tuple[Figure, ...]:
    r"""E52: the :math:`\eta` that the deviation of a single step amounts to."""
    H = linear()
    single = np.sqrt(reverse_variance(H, 500, 499))
    return tuple(
        figure(
            r"$\eta$ that is meant to be 1 acts like",
            single / np.sqrt(reverse_variance(H, 500, s)),
            known,
            f"t = 500 of {K} steps",
        )
        for s, K, known in ((480, 50, "0.239"), (400, 10, "0.139"))
    )


def equality_sign_missing() -> tuple[Figure, ...]:
    """E53: both sides of the line, computed: it is an equality that is meant."""
    H, (t, s) = linear(), steps_of(every_level(20))
    xt, eps = np.linspace(-2, 2, len(t)), np.linspace(1, -1, len(t))
    left = ddim_step_from_eps(H, xt, t, s, eps)
    right = ddim_step(H, x0_from_eps(H, xt, t, eps), eps, t, s)
    return (figure("largest difference of the two sides", np.abs(left - right).max(), "0.00000000000", "50 steps"),)
