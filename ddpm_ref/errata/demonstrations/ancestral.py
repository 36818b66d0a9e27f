"""Ancestral sampling as it is commonly written, and what comes of it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from ddpm_ref.errata.demonstrations.basins import end_weights
from ddpm_ref.errata.demonstrations.setting import T, best_eps, deviations, downwards, end, every_level, linear
from ddpm_ref.errata.record import Figure, figure, figures
from ddpm_ref.reference import plan
from ddpm_ref.reference.oracle import Gaussian
from ddpm_ref.reference.oracle.moments import sample_moments
from ddpm_ref.reference.reverse import (
    fixed_large_log_variance,
    model_mean_from_eps,
    reverse_chain_variance,
    reverse_variance,
)
from ddpm_ref.typing import Array

POINTS, WEIGHTS = np.array([-1.5, -0.5, 0.5, 1.5]), np.array([0.1, 0.4, 0.2, 0.3])


def with_variance_for_deviation(right: plan.Plan) -> plan.Plan:
    """The plan that multiplies its noise by a variance."""
    return replace(right, noise=right.noise**2)


def guided_eps() -> Array:
    r"""What the network answers per unit of state, steered by the exact gradient of an observation of unit data.

    The observation is the data and noise of variance 1/4; the gradient is
    :math:`\sqrt{\bar\alpha_t}(y - \sqrt{\bar\alpha_t}x_t)/(\bar\beta_t + \tfrac14)`.
    """
    H, t = linear(), downwards()
    return np.asarray(best_eps(1.0) * (1 + H.alpha_bar[t] / (H.beta_bar[t] + 0.25)))


@cache
def shares_of_four_points() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """How many of the samples end at each of four points, as written and right."""
    right = plan.ancestral(linear(), every_level(), form="x0")
    written, kept = (end_weights(rows, POINTS, WEIGHTS) for rows in (with_variance_for_deviation(right), right))
    return tuple(written.tolist()), tuple(kept.tolist())


def variance_used_as_standard_deviation() -> tuple[Figure, ...]:
    """E40: normal data by the exact moments; four points by the borders between them; guided sampling by recursion."""
    H, t = linear(), downwards()
    right = plan.ancestral(H, every_level(), form="x0")
    wrong = with_variance_for_deviation(right)
    halfway = sample_moments(wrong, Gaussian(0.0, 1.0)).variances[T - 500, 0]
    slope = model_mean_from_eps(H, np.ones(T), t, t - 1, guided_eps())
    guided = np.sqrt(reverse_chain_variance(slope, wrong.noise**2)[-1])
    written, kept = shares_of_four_points()
    says = "deviation of samples"
    points = [f"the point {point:g}, of weight {weight:g}" for point, weight in zip(POINTS, WEIGHTS, strict=True)]
    return (
        *(
            figure(f"{says}, as written", end(wrong, spread), known, f"data of deviation {spread:g}")
            for spread, known in ((1.0, "0.0747"), (0.5, "0.0296"), (0.1, "0.00295"))
        ),
        *(
            figure(f"{says}, right", end(right, spread), known, f"data of deviation {spread:g}")
            for spread, known in ((1.0, "0.9955"), (0.5, "0.4961"), (0.1, "0.0963"))
        ),
        figure("deviation of the states of unit data, as written", np.sqrt(halfway), "0.1107", "t = 500"),
        figure("deviation of guided samples, as written", guided, "0.0254", "unit data, observed"),
        figure("deviation of guided samples, right", deviations(slope)[0], "0.4434", "unit data, observed"),
        *(
            figure("share of samples, as written", *each)
            for each in zip(written, ("0.000", "0.828", "0.172", "0.000"), points, strict=True)
        ),
        *(
            figure("share of samples, right", *each)
            for each in zip(kept, ("0.099", "0.401", "0.201", "0.299"), points, strict=True)
        ),
    )


def alpha_without_subscript() -> tuple[Figure, ...]:
    """E41: the last alpha in the place of that of the level."""
    H = linear()
    return figures(r"$1 - \alpha$ for $\alpha = \alpha_T$, over the right", [H.beta[T] / H.beta[500]], "1.99", [500])


def text_fixed_small_code_fixed_large() -> tuple[Figure, ...]:
    """E42: the two variances, and the samplers that have them."""
    H, levels = linear(), [2, 3, 10, 100, 500]
    t = np.array(levels)
    ratio = reverse_variance(H, t, t - 1, "beta") / reverse_variance(H, t, t - 1)
    plans = {kind: plan.ancestral(H, every_level(), kind, form="x0") for kind in ("posterior", "beta")}
    known = {
        ("posterior", 1.0): "0.99552",
        ("beta", 1.0): "0.99995",
        ("posterior", 0.1): "0.09631",
        ("beta", 0.1): "0.10077",
    }
    return (
        *figures("variance of the code over that of the text", ratio, "2.199 1.636 1.173 1.018 1.0009", levels),
        *(
            figure(
                f"deviation of samples, {'text' if kind == 'posterior' else 'code'}",
                end(plans[kind], spread),
                printed,
                f"data of deviation {spread:g}",
            )
            for (kind, spread), printed in known.items()
        ),
    )


def stale_comment_on_log_variance() -> tuple[Figure, ...]:
    """E43: a variance read as a logarithm; and the first entry of the table, which no sample depends on."""
    H = linear()
    logarithm = fixed_large_log_variance(H, 500, 499)
    chain = plan.ancestral(H, every_level(), "beta", form="x0")
    noisy = (np.arange(T) < T - 1).astype(np.float64)
    entries = []
    for rule in ("replace", "floor"):
        table = chain.noise.copy()
        table[-1] = np.exp(fixed_large_log_variance(H, 1, 0, rule) / 2)
        entries.append((table[-1] ** 2, end(replace(chain, noise=noisy * table), 1.0)))
    return (
        figure("what the table holds", np.exp(logarithm), "0.01004", "t = 500"),
        figure("its exponential, if it is taken for a logarithm", np.exp(np.exp(logarithm)), "1.01009", "t = 500"),
        figure("first entry of the table", entries[0][0], "5.453e-05", "as in the code"),
        figure("first entry of the table", entries[1][0], "1.000e-04", "unreplaced"),
        figure("deviation of samples of unit data", entries[0][1], "0.999950", "as in the code"),
        figure("deviation of samples of unit data", entries[1][1], "0.999950", "unreplaced"),
    )


def sampling_noise_called_source_of_diversity() -> tuple[Figure, ...]:
    """E44: a sampler without any noise after its start."""
    H = linear()
    silent = plan.ddim(H, every_level(), eta=0.0, form="x0")
    noisy = plan.ancestral(H, every_level(), form="x0")
    says = "deviation of samples"
    return (
        figure("largest coefficient of fresh noise, DDIM", np.abs(silent.noise).max(), "0.0", r"$\eta = 0$"),
        figure(f"{says}, no fresh noise", end(silent, 1.0), "0.998124", "data of deviation 1"),
        figure(f"{says}, no fresh noise", end(silent, 0.5), "0.498495", "data of deviation 0.5"),
        figure(f"{says}, with fresh noise", end(noisy, 1.0), "0.995524", "data of deviation 1"),
    )


def one_step_jump_never_used() -> tuple[Figure, ...]:
    """E45: the plan of one step; and what the same prediction is good for inside a plan of fifty."""
    H = linear()
    says = "deviation of samples of unit data"
    return (
        figure(f"{says}, the jump", end(plan.ddim(H, (T, 0), form="x0"), 1.0), "0.00635", "1 step"),
        figure(
            f"{says}, the jump in every step", end(plan.ddim(H, every_level(20), form="x0"), 1.0), "0.9636", "50 steps"
        ),
        figure(
            f"{says}, the jump in every step", end(plan.ddim(H, every_level(), form="x0"), 1.0), "0.9981", "1000 steps"
        ),
    )


def reverse_adds_negated_noise() -> tuple[Figure, ...]:
    """E46: the last state less the scaled noise of every step: what of the data and of each noise is left."""
    H = linear()
    arrives = H.sqrt_alpha_bar[T] / H.sqrt_alpha_bar[1:]  # what a noise of level t is multiplied by on its way up
    left_over = H.sqrt_beta[1:] * (arrives - 1)
    return (
        figure("factor of the data in what comes back", H.sqrt_alpha_bar[T], "0.00635"),
        figure("deviation of the noise that is left over", np.sqrt((left_over**2).sum()), "2.66"),
    )
