"""Ancestral sampling: the reference's steps and plans against their derivations, and samplers judged by the derived recursion."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import mpmath
import numpy as np
import pytest
import sympy as sp

from ddpm_ref.errors import LevelError, ProofError, RangeError
from ddpm_ref.laws.registry import PAIR_AFFINE
from ddpm_ref.reference import ancestral as reference
from ddpm_ref.reference import plan
from ddpm_ref.reference.oracle import Gaussian
from ddpm_ref.reference.oracle.moments import sample_moments
from ddpm_ref.reference.prediction import eps_from_x0
from ddpm_ref.reference.reverse import model_mean_from_eps, model_mean_from_x0, reverse_chain_variance
from ddpm_ref.reference.schedule import Trajectory
from ddpm_ref.symbolic import ExactSchedule, Proof, ancestral, derive
from ddpm_ref.symbolic.ancestral.prediction import clip
from ddpm_ref.symbolic.symbols import alpha_bar_t, beta, beta_bar_t, data_variance, variance, x

SCHEDULE = ExactSchedule([Fraction(1, 4), Fraction(1, 3), Fraction(1, 2)])
ZERO_SNR = ExactSchedule([Fraction(1, 4), 1])

# Roundings of `sample_moments`, all of whose terms are positive in x0 form: the slope sqrt(alpha_bar) v / (alpha_bar v + beta_bar)
# passes 1 for the root, 1 for the product, 5 for the sum below and 1 for the quotient; the gain 1 for its coefficient, 1 for the
# product and 1 for the sum besides; the variance twice that, 1 for the square, 1 for the product and 1 for the sum.
SLOPE = 8
GAIN = SLOPE + 3
STEP = 2 * GAIN + 3


def test_every_formula_of_the_subject_is_derived():
    assert [made.__name__ for made in ancestral.DERIVATIONS] == [
        "ancestral_step", "sampling_algorithm", "final_step_without_noise", "output_clipping", "x0_clipping",
        "one_step_x0_jump", "gaussian_sampler_oracle",
    ]  # fmt: skip
    assert {made().subject for made in ancestral.DERIVATIONS} == {"ancestral"}


# --- the reference ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("result", "kind", "lowest"), [("draw_small", "posterior", 0), ("draw_large", "beta", 1)])
def test_ancestral_step(agree, result, kind, lowest):
    agree.functions(
        "ancestral_step",
        result,
        lambda c: reference.ancestral_step(c.schedule, c.xt, c.t, c.s, c.eps_hat, c.noise, kind),
        data=("xt", "eps_hat", "noise"),
        roundings=PAIR_AFFINE + 1,
        lowest=lowest,
    )


@cache
def _rows(schedule, t, s, kind):
    return plan.ancestral(schedule, Trajectory((t, s, 0) if s else (t, 0)), kind, last_noise="variance")


@pytest.mark.parametrize(
    ("result", "column", "kind"),
    [
        ("xt_coefficient", "x", "posterior"),
        ("eps_coefficient", "prediction", "posterior"),
        ("std_small", "noise", "posterior"),
        ("std_large", "noise", "beta"),
    ],
)
def test_rows_of_a_plan(agree, result, column, kind):
    agree.tables("ancestral_step", result, lambda c: getattr(_rows(c.schedule, c.t, c.s, kind), column)[0])


def test_two_steps_of_the_algorithm(agree):
    """A whole plan, ``t -> s -> 0``, with its exact moments; fixed large, the noise of the first step is another."""
    agree.functions(
        "sampling_algorithm",
        "two_steps_small",
        lambda c: sample_moments(
            plan.ancestral(c.schedule, (c.t, c.s, 0), form="x0"), Gaussian(0.0, c.data_variance)
        ).variances[-1, 0],
        data=("data_variance",),
        positive=("data_variance",),
        roundings=2 * STEP,
        lowest=1,
    )
    agree.functions(
        "sampling_algorithm",
        "two_steps_large",
        lambda c: reverse_chain_variance([_gain(c), _gain(c, c.s, 0)], [float(c.schedule.between(c.t, c.s).beta), 0.0])[
            -1
        ],
        data=("data_variance",),
        positive=("data_variance",),
        roundings=2 * STEP,
        lowest=1,
    )


def test_final_step(agree):
    agree.functions(
        "final_step_without_noise",
        "sample",
        lambda c: model_mean_from_eps(c.schedule, c.xt, c.t, 0, c.eps_hat),
        data=("xt", "eps_hat"),
        roundings=PAIR_AFFINE,
        step=False,
    )


def test_output_clipping(agree):
    agree.arguments(
        "output_clipping", "clipped", lambda draw: {"x": draw.uniform(-3, 3)}, lambda c: np.clip(c["x"], -1, 1)
    )


def test_mean_from_a_clipped_prediction(agree):
    agree.functions(
        "x0_clipping",
        "mean",
        lambda c: model_mean_from_x0(c.schedule, c.xt, c.t, c.s, np.clip(c.x0_hat, -1, 1)),
        data=("xt", "x0_hat"),
        roundings=PAIR_AFFINE,
    )


def test_noise_that_goes_with_a_clipped_prediction(agree):
    agree.functions(
        "x0_clipping",
        "eps",
        lambda c: eps_from_x0(c.schedule, c.xt, c.t, np.clip(c.x0_hat, -1, 1)),
        data=("xt", "x0_hat"),
        roundings=5,  # of the law prediction/eps_from_x0
        step=False,
    )


def test_one_step_jump(agree):
    """The jump is the plan of one step; all levels together have the same gain."""
    assert derive("one_step_x0_jump").results["gain"] == derive("gaussian_sampler_oracle").results["product"]
    agree.functions(
        "one_step_x0_jump",
        "gain",
        lambda c: math.sqrt(
            sample_moments(plan.ancestral(c.schedule, (c.t, 0), form="x0"), Gaussian(0.0, c.data_variance)).variances[
                -1, 0
            ]
        ),
        data=("data_variance",),
        positive=("data_variance",),
        roundings=STEP // 2 + 2,
        step=False,
    )


def _gain(c, t=None, s=0):
    t, s = (c.t, c.s) if t is None else (t, s)
    step = c.schedule.between(t, s)
    slope = c.schedule.sqrt_alpha_bar[t] * c.data_variance
    slope /= c.schedule.alpha_bar[t] * c.data_variance + c.schedule.beta_bar[t]
    return float(step.xt_weight + step.x0_weight * slope)


def test_gain_and_recursion_of_the_oracle(agree):
    data = {"data": ("data_variance",), "positive": ("data_variance",)}
    agree.functions("gaussian_sampler_oracle", "gain", _gain, roundings=GAIN, **data)
    agree.functions(
        "gaussian_sampler_oracle",
        "after",
        lambda c: reverse_chain_variance([_gain(c)], [c.variance], c.variance_t)[-1],
        data=("data_variance", "variance", "variance_t"),
        positive=("data_variance", "variance", "variance_t"),
        roundings=STEP,
    )


def test_a_wrong_reference_disagrees(agree):
    with pytest.raises(AssertionError, match="ancestral_step"):  # E40
        agree.tables("ancestral_step", "std_small", lambda c: c.schedule.between(c.t, c.s).beta_tilde)
    with pytest.raises(AssertionError, match="ancestral_step"):  # E42
        agree.functions(
            "ancestral_step",
            "draw_small",
            lambda c: reference.ancestral_step(c.schedule, c.xt, c.t, c.s, c.eps_hat, c.noise, "beta"),
            data=("xt", "eps_hat", "noise"),
            roundings=PAIR_AFFINE + 1,
        )


# --- samplers, by the derived recursion -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deviation", "small", "large"),
    [(1.0, "0.995524", "0.999950"), (0.5, "0.496110", "0.500752"), (0.1, "0.096311", "0.100766")],
)
def test_a_thousand_steps_of_the_linear_schedule(deviation, small, large):
    """Nothing of the reference: letters from the definition of the schedule, in float64, which is enough for six digits."""
    derivation = derive("gaussian_sampler_oracle")
    letters = derivation.letters("after")
    after = sp.lambdify(letters, derivation.results["after"], "math")
    ends = {}
    for kind in ("small", "large"):
        v, bars = 1.0, [1.0]
        betas = [1e-4 + (0.02 - 1e-4) * k / 999 for k in range(1000)]
        for b in betas:
            bars.append(bars[-1] * (1 - b))
        for t in range(1000, 0, -1):
            b, above, below = betas[t - 1], bars[t], bars[t - 1]
            spread = b if kind == "large" else b * (1 - below) / (1 - above)
            values = {
                "alpha": 1 - b, "alpha_bar_s": below, "alpha_bar_t": above, "beta": b, "beta_bar_s": 1 - below,
                "beta_bar_t": 1 - above, "data_variance": deviation**2, "variance_t": v,
                "variance": spread if t > 1 else 0.0,
            }  # fmt: skip
            v = after(*(values[name] for name in letters))
        ends[kind] = f"{math.sqrt(v):.6f}"
    assert ends == {"small": small, "large": large}


def test_the_variance_of_a_chain_of_three_steps_is_the_sum_that_was_derived():
    """The sum over the noises, term by term, against the recursion step by step; all numbers exact."""
    gains, spreads, first = (
        [Fraction(1, 2), Fraction(3, 4), Fraction(5, 4)],
        [0, Fraction(1, 3), Fraction(2, 3)],
        Fraction(1),
    )
    recursion = first
    for g, sigma in reversed(list(zip(gains, spreads, strict=True))):
        recursion = g**2 * recursion + sigma**2
    squares = [g**2 for g in gains]
    total = math.prod(squares) + sum(spreads[k] ** 2 * math.prod(squares[:k]) for k in range(1, 3))
    assert recursion == total


@pytest.mark.parametrize("tau2", [Fraction(1, 100), Fraction(1), Fraction(9)])
def test_with_the_true_variance_every_level_is_right(tau2):
    derivation = derive("gaussian_sampler_oracle")
    for t in range(1, SCHEDULE.T + 1):
        for s in range(t):
            v = SCHEDULE.letters(t, s)
            at_s, at_t = (v[f"alpha_bar_{k}"] * tau2 + v[f"beta_bar_{k}"] for k in "st")
            levels = {name: Fraction(int(value.p), int(value.q)) for name, value in v.items()}
            true = derivation.value("true_variance", **levels, data_variance=tau2)
            gain = derivation.value("gain", **levels, data_variance=tau2)
            with mpmath.workdps(60):
                kept = gain**2 * (mpmath.mpf(int(at_t.p)) / int(at_t.q)) + true
                # Two dozen operations of 60 digits.
                assert abs(kept - mpmath.mpf(int(at_s.p)) / int(at_s.q)) < mpmath.mpf(10) ** -57


# --- where nothing is answered ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ancestral_step", "final_step_without_noise"])
def test_no_noise_form_without_signal(name):
    with pytest.raises(LevelError, match=r"zero terminal SNR.*\(asked at t = 2, s = 1\)"):
        derive(name).at(ZERO_SNR, 2, 1, xt=1, eps_hat=1, noise=1)
    assert derive("x0_clipping").at(ZERO_SNR, 2, 1, xt=5, x0_hat=3)["mean"] ** 2 == 0.75


def test_no_chain_of_two_steps_without_a_level_between():
    with pytest.raises(LevelError, match=r"two steps visits a level between t and 0.*\(asked at t = 2, s = 0\)"):
        derive("sampling_algorithm").at(SCHEDULE, 2, 0, data_variance=1)


@pytest.mark.parametrize(
    "name", ["ancestral_step", "final_step_without_noise", "x0_clipping", "gaussian_sampler_oracle"]
)
def test_no_step_from_level_0(name):
    derivation = derive(name)
    (result, *_) = derivation.results
    with pytest.raises(RangeError, match="at t = 0 there is no step back"):
        derivation.value(result, **(dict.fromkeys(derivation.letters(result), 1) | {"beta_bar_t": 0}))


# --- steps that do not follow -----------------------------------------------------------------------------------------


def test_a_wrong_step_is_not_written():
    oracle, step = derive("gaussian_sampler_oracle").results, derive("ancestral_step").results
    wrong = {
        "E40, variance for standard deviation": (step["std_large"], beta),
        "E45, a jump with the spread of the data": (derive("one_step_x0_jump").results["variance"], data_variance),
        "the step of unit data for all": (oracle["true_variance"], beta),
        "the gain of unit data for all": (oracle["product"], sp.sqrt(alpha_bar_t)),
        "noise in the last step": (derive("final_step_without_noise").results["sample"].diff("eps_hat"), beta_bar_t),
        "what is clipped is kept": (clip(2 + variance), 2 + variance),
    }
    for says, (left, right) in wrong.items():
        with pytest.raises(ProofError, match="it is false"):
            Proof("wrong").equal(says, left, right)
    assert derive("output_clipping").results["clipped"] == clip(x)
