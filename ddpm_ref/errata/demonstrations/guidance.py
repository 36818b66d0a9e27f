"""Guidance as it is commonly written, and what comes of it."""

from __future__ import annotations

from functools import cache

import numpy as np

from ddpm_ref.errata.demonstrations.setting import T, downwards, every_level, linear
from ddpm_ref.errata.record import Figure, figure, figures
from ddpm_ref.reference import plan
from ddpm_ref.reference.guidance import classifier_guided_eps, drop_condition, log_softmax_gradient
from ddpm_ref.reference.oracle import Gaussian, GuidedGaussian, guided_moments, mean_shift_moments
from ddpm_ref.reference.oracle.guided import GuidedMoments
from ddpm_ref.reference.reverse import reverse_variance
from ddpm_ref.typing import Array

LEVELS = [1, 2, 100, 500, T]


@cache
def observed() -> GuidedGaussian:
    """Unit data with an observation at 1, whose noise has the variance 1/4: the law of the data given it is N(0.8, 0.2)."""
    return GuidedGaussian.observed(Gaussian(0.0, 1.0), y=1.0, covariance=0.25)


def ends(moments: GuidedMoments) -> tuple[float, float]:
    """Mean and deviation of the samples."""
    return float(moments.mean[-1, 0]), float(moments.std[-1, 0])


def ancestral(stride: int = 1) -> plan.Plan:
    """With the fixed-large variance and no noise in the last step."""
    return plan.ancestral(linear(), every_level(stride), "beta", form="x0")


def _both(name: str, found: tuple[float, float], printed: str, where: str = "") -> tuple[Figure, ...]:
    kinds = zip(("mean", "deviation"), found, printed.split(), strict=True)
    return tuple(figure(f"{kind} of guided samples, {name}", value, digits, where) for kind, value, digits in kinds)


def guidance_shift_coefficient() -> tuple[Figure, ...]:
    """E67: the root of the noise in the place of beta; unit data with an observation."""
    H, t = linear(), downwards()
    factor = H.sqrt_beta_bar[t] / H.beta[t]
    rows = ancestral()
    return (
        *figures(
            "shift by the gradient, as written over right",
            factor[T - np.array(LEVELS)],
            "100 124 155 95.6 50.0",
            LEVELS,
        ),
        figure("the largest of these factors", factor.max(), "159", f"t = {int(t[factor.argmax()])}"),
        *_both("as written", ends(guided_moments(rows, observed(), guidance_scale=factor)), "1.000 0.029"),
        *_both("right", ends(guided_moments(rows, observed(), guidance_scale=1.0)), "0.80 0.448"),
        *_both(
            "exact",
            (float(observed().conditional.mean[0]), float(observed().conditional.covariance[0, 0]) ** 0.5),
            "0.8 0.447",
        ),
    )


def guidance_underbraces() -> tuple[Figure, ...]:
    """E68: what the bracket lacks of the mean."""
    H, levels = linear(), [500, T]
    return figures("mean over bracket, less 1, in per cent", 100 * (1 / H.sqrt_alpha[levels] - 1), "0.5 1.0", levels)


def condition_mean_comments() -> tuple[Figure, ...]:
    """E69: guided noise with a plus, in both samplers."""
    deterministic = plan.ddim(linear(), every_level(), form="x0")
    shown: list[Figure] = []
    for name, rows, written, right in (
        ("DDPM", ancestral(), "-3.97 3.19", "0.80 0.448"),
        ("DDIM", deterministic, "-2.20 2.23", "0.798 0.446"),
    ):
        shown += _both(
            "plus", ends(guided_moments(rows, observed(), guidance_scale=-1.0)), written, f"{name}, observation at 1"
        )
        shown += _both(
            "minus", ends(guided_moments(rows, observed(), guidance_scale=1.0)), right, f"{name}, observation at 1"
        )
    return tuple(shown)


_LISTING = """
def condition_mean(gradient_of, mean, variance, x, t, model_kwargs=None):
    gradient = gradient_of(x, t, {label})
    return mean + variance * gradient
"""


def condition_mean_unbound_label() -> tuple[Figure, ...]:
    """E70: the function with a name that nothing binds, called; and called where a variable of that name exists."""

    def gradient_of(x: float, t: int, label: int) -> float:
        logits, slopes = np.zeros((1, 2)), np.array([[[1.0], [-1.0]]])
        return float(log_softmax_gradient(logits, slopes, [label])[0, 0])

    def shift(label: str, **around: int) -> float:
        scope: dict[str, object] = dict(around)
        exec(_LISTING.format(label=label), scope)
        moved = scope["condition_mean"](gradient_of, 0.0, 0.25, 0.0, 1, {"y": 0})  # type: ignore[operator]
        return float(moved)

    failures = 0
    try:
        shift("y")
    except NameError:
        failures = 1
    return (
        figure("calls that end in a NameError, as written", failures, "1", "of 1"),
        figure("mean guided to class 0 of two, label from the keywords", shift("model_kwargs['y']"), "0.25"),
        figure("the same as written, where a variable of this name is 1", shift("y", y=1), "-0.25"),
    )


def condition_mean_gradient_point() -> tuple[Figure, ...]:
    """E71: the gradient at the state or at the mean of the step, with the fixed-large variance; and the other form."""
    shown = []
    for stride, at_state, at_mean in (
        (1, "0.79929", "0.80121"),
        (40, "0.76976", "0.85072"),
        (100, "0.71743", "0.93234"),
    ):
        rows = ancestral(stride)
        where = f"{len(rows)} steps"
        for point, says, printed in (
            ("xt", "at $x_t$, level $t$", at_state),
            ("mean", r"at $\mu_\theta$, level $s$", at_mean),
        ):
            moments = mean_shift_moments(rows, observed(), 1.0, gradient_point=point, variance="beta")
            shown.append(figure(f"mean of guided samples, gradient {says}", ends(moments)[0], printed, where))
        noise = ends(guided_moments(rows, observed(), guidance_scale=1.0))[0]
        shown.append(figure("mean of guided samples, guided noise", noise, "0.79999", where))
    shown.append(figure("mean of guided samples, exact", observed().conditional.mean[0], "0.8"))
    return tuple(shown)


def two_guidance_forms_presented_as_one() -> tuple[Figure, ...]:
    """E72: the shift by guided noise over that by the variance."""
    H = linear()

    def ratio(t: list[int], kind: str) -> Array:
        levels = np.array(t)
        return np.asarray(H.beta[levels] / (H.sqrt_alpha[levels] * reverse_variance(H, levels, levels - 1, kind)))

    large, small = [500, T], [2, 10, 500]
    return (
        *figures("guided noise over mean shift, fixed-large", ratio(large, "beta"), "1.005 1.010", large),
        *figures("guided noise over mean shift, fixed-small", ratio(small, "posterior"), "2.199 1.173 1.006", small),
    )


def one_letter_for_two_scales() -> tuple[Figure, ...]:
    """E73: the law that the value 1 stands for in either convention, for unit data with an observation."""
    laws = observed().target(guidance_scale=1.0), observed().target(guidance_weight=1.0)
    return tuple(
        figure("deviation of the law of a scale of 1", law.covariance[0, 0] ** 0.5, printed, name)
        for law, printed, name in zip(laws, ("0.447", "0.333"), ("by a classifier", "without one"), strict=True)
    )


def softmax_comment() -> tuple[Figure, ...]:
    """E74: a class of one per cent; the gradient of its probability by finite differences, over that of the logarithm."""
    logits, slopes = np.log([0.01, 0.99]), np.array([1.0, -1.0])

    def probability(x: float) -> float:
        shares = np.exp(logits + slopes * x)
        return float(shares[0] / shares.sum())

    step = 1e-5  # the error of the difference is of its square
    difference = (probability(step) - probability(-step)) / (2 * step)
    logarithm = log_softmax_gradient(logits[None], slopes[None, :, None], [0])[0, 0]
    return (figure("gradient of the probability over that of its logarithm", difference / logarithm, "0.01"),)


def guided_predictor_arguments() -> tuple[Figure, ...]:
    """E75: one state, one level, two labels."""
    H = linear()
    noises = [
        classifier_guided_eps(
            H, [0.5], 500, GuidedGaussian.observed(Gaussian(0.0, 1.0), y, 0.25).gradient(H, [0.5], 500)
        )[0]
        for y in (1.0, -1.0)
    ]
    return (
        figure("guided noise for the label 1", noises[0], "0.302", "t = 500"),
        figure("guided noise for the label -1", noises[1], "0.762", "t = 500"),
    )


def condition_dropout_periodic() -> tuple[Figure, ...]:
    """E76: examples of two classes by turns, every second label dropped; and the same with a coin for each."""
    label = np.arange(10_000) % 2
    periodic = np.where(np.arange(label.size) % 2 == 0, 2, label)
    uniform = (np.arange(label.size) * (5**0.5 - 1) / 2) % 1  # evenly spread, without drawing
    coin = drop_condition(label, uniform, 0.5, null_label=2)
    return tuple(
        figure(f"share of class {k} that loses its label, {name}", (found[label == k] == 2).mean(), printed)
        for name, found, both in (("every second", periodic, "1.00 0.00"), ("independently", coin, "0.50 0.50"))
        for k, printed in enumerate(both.split())
    )
