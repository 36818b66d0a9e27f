"""Guidance in formulas: both conventions, both forms, limits, and what is refused by name."""

from __future__ import annotations

import numpy as np
import pytest

import ddpm_ref
from ddpm_ref.errors import LevelError, RangeError, ShapeError
from ddpm_ref.reference import ancestral, ddim, guidance, oracle
from ddpm_ref.reference.named_schedules import zero_terminal_snr

H = ddpm_ref.linear_schedule(1000)
RNG = np.random.default_rng(5)
C, U, G, X, Z = RNG.standard_normal((5, 4, 3))
PAIR = oracle.Labelled([0.3, 0.7], [oracle.Gaussian(-1.0, 0.25), oracle.Gaussian(1.0, 0.09)])


def near(a, b, terms=1.0, roundings=16):
    """NUMERICS section 1: so many roundings of terms of this size."""
    return bool(np.all(np.abs(np.asarray(a) - b) <= roundings * 2.0**-53 * terms))


def test_weight_and_scale_are_two_names_of_one_thing():
    for w in (-1.0, 0.0, 0.5, 2.0):
        assert np.array_equal(
            guidance.classifier_free(C, U, guidance_weight=w),
            guidance.classifier_free(C, U, guidance_scale=guidance.scale_from_weight(w)),
        )
    assert np.array_equal(guidance.classifier_free(C, U, guidance_weight=0.0), C)
    assert np.array_equal(guidance.classifier_free(C, U, guidance_weight=-1.0), U)
    assert float(guidance.weight_from_scale(7.5)) == 6.5


def test_a_weight_for_each_example():
    each = guidance.classifier_free(C, U, guidance_weight=[0.0, 1.0, 2.0, -1.0])
    for k, w in enumerate((0.0, 1.0, 2.0, -1.0)):
        assert np.array_equal(each[k], guidance.classifier_free(C[k], U[k], guidance_weight=w))


@pytest.mark.parametrize("w", [0.0, 1.0, 4.0])
def test_a_classifier_with_scale_one_plus_w_is_guidance_of_weight_w(w):
    x, t = 2 * RNG.standard_normal((50, 1)), 400
    known, unknown = (PAIR.eps(H, x, t, y) for y in (1, 2))
    implicit = guidance.implicit_classifier_gradient(H, known, unknown, t)
    exact = PAIR.gradient(H, x, t, 1)
    assert near(implicit, exact, np.abs(known) + np.abs(unknown), 64)
    guided = guidance.classifier_guided_eps(H, unknown, t, exact, guidance.scale_from_weight(w))
    free = guidance.classifier_free(known, unknown, guidance_weight=w)
    assert near(guided, free, (1 + w) * (np.abs(known) + np.abs(unknown)), 64)


def test_the_kernel_of_a_class_is_reached_with_scale_one_at_any_stride():
    x = 2 * RNG.standard_normal((50, 1))
    for t, s in ((1000, 999), (700, 300), (2, 1), (1, 0), (500, 0)):
        gradient, eps = PAIR.gradient(H, x, t, 0), PAIR.eps(H, x, t, 2)
        mean = guidance.guided_ancestral_step(H, x, t, s, eps, gradient, np.zeros(()), 1.0)
        true, _ = PAIR.kernel(H, x, t, s, 0)
        # to 1e-12 of the terms: what is asked of guided kernels
        assert np.all(np.abs(mean - true) <= 1e-12 * (np.abs(x) * H.between(t, s).recip_sqrt_alpha + 1))


def test_without_a_gradient_or_a_scale_the_steps_are_those_without_guidance():
    step = guidance.guided_ancestral_step(H, X, 500, 480, U, G, Z, 0.0, "beta")
    assert np.array_equal(step, ancestral.ancestral_step(H, X, 500, 480, U, Z, "beta"))
    moved = guidance.guided_ddim_step(H, X, 500, 480, U, G, classifier_scale=0.0)
    assert np.array_equal(moved, ddim.ddim_step_from_eps(H, X, 500, 480, U))
    for point in guidance.GRADIENT_POINTS:
        shifted = guidance.mean_shift_step(H, X, 500, 480, U, lambda x, t: 0 * x, Z, 3.0, "beta", point)
        assert near(shifted, ancestral.ancestral_step(H, X, 500, 480, U, Z, "beta"), 8.0)


def test_where_the_gradient_of_a_mean_shift_is_asked_for():
    asked = []

    def gradient(x, t):
        asked.append((x, t))
        return np.ones_like(x)

    at_xt = guidance.mean_shift_step(H, X, 500, 480, U, gradient, Z, 2.0, gradient_point="xt")
    at_mean = guidance.mean_shift_step(H, X, 500, 480, U, gradient, Z, 2.0)
    assert np.array_equal(at_xt, at_mean)  # a constant gradient does not care
    mean = ancestral.ancestral_step(H, X, 500, 480, U, 0 * Z)
    assert asked[0][1] == 500
    assert np.array_equal(asked[0][0], X)
    assert asked[1][1] == 480
    assert np.array_equal(asked[1][0], mean)


def test_the_two_forms_differ_by_a_known_factor():
    """E72: noise form over mean form is beta / (sqrt(alpha) Sigma)."""

    def shift(form, variance, t):
        zero, one = np.zeros(1), np.ones(1)
        if form == "noise":
            return guidance.guided_ancestral_step(H, zero, t, t - 1, zero, one, zero, 1.0, variance)[0]
        return guidance.mean_shift_step(H, zero, t, t - 1, zero, lambda x, level: one, zero, 1.0, variance)[0]

    large, small = (
        [shift("noise", v, t) / shift("mean", v, t) for t in (2, 10, 500, 1000)] for v in ("beta", "posterior")
    )
    assert np.round(large[2:], 3).tolist() == [1.005, 1.010]
    assert np.round(small[:3], 3).tolist() == [2.199, 1.173, 1.006]


def test_guided_normal_law():
    mean, variance = guidance.guided_normal(0.8, 0.2, 0.0, 1.0, guidance_weight=1.0)
    assert near(variance, 1 / 9)
    assert near(mean, 8 / 9)
    same = guidance.guided_normal(C, 0.2, U, 1.0, guidance_scale=1.0)
    assert near(same[0], C, 4 * np.abs(C) + np.abs(U))
    with pytest.raises(RangeError, match=r"precision .* is -1"):
        guidance.guided_normal(0.0, 1.0, 0.0, 0.5, guidance_weight=2.0)


def test_the_gradients_of_all_classes_cancel_and_a_certain_class_keeps_its_digits():
    logits, jacobian = RNG.standard_normal((6, 4)), RNG.standard_normal((6, 4, 2, 3))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    each = [guidance.log_softmax_gradient(logits, jacobian, np.full(6, y)) for y in range(4)]
    assert near(sum(shares[:, y, None, None] * each[y] for y in range(4)), 0.0, 4 * np.abs(jacobian).max())
    certain = guidance.log_softmax_gradient([[200.0, 0.0]], [[[1.0], [3.0]]], [0])
    assert float(certain[0, 0]) == pytest.approx(-2 * np.exp(-200.0), rel=2**-44)  # 200 roundings of an exponent of 200
    assert guidance.log_softmax_gradient(np.zeros((0, 3)), np.zeros((0, 3, 2)), np.zeros(0, int)).shape == (0, 2)


def test_rescaling_restores_the_spread_of_the_conditional_prediction():
    guided = guidance.classifier_free(C, U, guidance_weight=5.0)
    assert np.array_equal(guidance.rescale(guided, C, 0.0), guided)
    full = guidance.rescale(guided, C, 1)
    assert near(full.std(axis=1), C.std(axis=1), 4.0)
    assert guidance.rescale(guided[:0], C[:0]).shape == (0, 3)


def test_labels_are_dropped_one_by_one_at_the_rate_asked_for():
    n, p = 200_000, 0.15
    label = RNG.integers(0, 10, n)
    dropped = guidance.drop_condition(label, RNG.random(n), p, 10) == 10
    # Hoeffding at family-wise level 1e-9 for two means: sqrt(log(4e9) / 2n)
    room = np.sqrt(np.log(4e9) / (2 * n))
    assert abs(dropped.mean() - p) < room
    assert abs((dropped[1:] & dropped[:-1]).mean() - p * p) < room
    kept = guidance.drop_condition(label, np.zeros(n), 0, 10)
    assert np.array_equal(kept, label)


BAD = {
    "both": (
        lambda: guidance.classifier_free(C, U, guidance_weight=1.0, guidance_scale=2.0),
        RangeError,
        "both of guidance_weight",
    ),
    "neither": (lambda: guidance.classifier_free(C, U), RangeError, "neither of guidance_weight and guidance_scale"),
    "weight NaN": (
        lambda: guidance.classifier_free(C, U, guidance_weight=np.nan),
        RangeError,
        "guidance_weight contains nan",
    ),
    "weights": (lambda: guidance.classifier_free(C, U, guidance_weight=[1.0, 2.0]), ShapeError, "leading axes"),
    "shapes": (
        lambda: guidance.classifier_free(C, U[:, :2], guidance_weight=1.0),
        ShapeError,
        "eps_conditional (4, 3)",
    ),
    "level 0": (lambda: guidance.classifier_guided_eps(H, U, 0, G), LevelError, "levels here are whole numbers from 1"),
    "no such level": (lambda: guidance.implicit_classifier_gradient(H, C, U, 1001), LevelError, "1001"),
    "variance": (lambda: guidance.classifier_mean_shift(C, -1.0, G), RangeError, "variances must be >= 0"),
    "point": (
        lambda: guidance.mean_shift_step(H, X, 2, 1, U, lambda x, t: x, Z, gradient_point="x0"),
        RangeError,
        "'mean' (level s",
    ),
    "gradient shape": (
        lambda: guidance.mean_shift_step(H, X, 2, 1, U, lambda x, t: x[:1], Z),
        ShapeError,
        "the gradient has shape (1, 3)",
    ),
    "step": (lambda: guidance.guided_ancestral_step(H, X, 1, 2, U, G, Z), LevelError, "a step needs t > s"),
    "label": (
        lambda: guidance.drop_condition([10], [0.5], 0.1, 10),
        RangeError,
        "label contains 10; labels are whole numbers 0..9",
    ),
    "negative label": (lambda: guidance.drop_condition([-1], [0.5], 0.1, 10), RangeError, "label contains -1"),
    "fractional label": (lambda: guidance.drop_condition([0.5], [0.5], 0.1, 10), RangeError, "dtype float64"),
    "one number": (lambda: guidance.drop_condition([1, 2], [0.5], 0.1, 10), ShapeError, "a number of its own"),
    "probability": (lambda: guidance.drop_condition([1], [0.5], 1.5, 10), RangeError, "lies in [0, 1]"),
    "class": (
        lambda: guidance.log_softmax_gradient([[0.0, 0.0]], [[[1.0], [3.0]]], [2]),
        RangeError,
        "label contains 2",
    ),
    "jacobian": (
        lambda: guidance.log_softmax_gradient([[0.0, 0.0]], [[[1.0]]], [0]),
        ShapeError,
        "(batch, classes, *event)",
    ),
    "labels": (
        lambda: guidance.log_softmax_gradient([[0.0, 0.0]], [[[1.0], [3.0]]], [0, 1]),
        ShapeError,
        "one label per example",
    ),
    "factor": (lambda: guidance.rescale(C, U, 2), RangeError, "factor = 2"),
    "flat": (lambda: guidance.rescale(C[0], U[0]), ShapeError, "(batch, *event)"),
    "constant": (lambda: guidance.rescale(np.ones((2, 3)), C[:2]), RangeError, "guided example 0 is constant"),
    "dead level": (
        lambda: guidance.guided_ancestral_step(zero_terminal_snr(H), X, 1000, 999, U, G, Z),
        RangeError,
        "zero terminal SNR",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_has_a_named_error(name):
    call, error, words = BAD[name]
    with pytest.raises(error) as raised:
        call()
    assert words in str(raised.value)
