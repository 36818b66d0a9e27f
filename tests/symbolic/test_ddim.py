"""The DDIM family: the reference against its derivations, and the derivations against integrals, angles and whole samplers."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from functools import cache
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import sympy as sp

from ddpm_ref.arithmetic import Claim
from ddpm_ref.arithmetic.bounds import gamma
from ddpm_ref.errors import LevelError, ProofError, RangeError
from ddpm_ref.laws.registry import PAIR_AFFINE
from ddpm_ref.reference import ddim as reference
from ddpm_ref.reference import plan
from ddpm_ref.reference.oracle import Gaussian
from ddpm_ref.reference.oracle.moments import sample_moments
from ddpm_ref.reference.schedule import Trajectory
from ddpm_ref.symbolic import ExactSchedule, Proof, ddim, derive
from ddpm_ref.symbolic.ddim.family import FROM_X0
from ddpm_ref.symbolic.symbols import alpha_bar_s, alpha_bar_t, beta_bar_s, beta_bar_t, data_variance, eta, variance

SCHEDULE = ExactSchedule([Fraction(1, 4), Fraction(1, 3), Fraction(1, 2)])
ZERO_SNR = ExactSchedule([Fraction(1, 4), 1])
U = Claim("fp64").computing.u
# Numbers of 60 digits after some dozen operations.
DIGITS, TRUSTED = 60, mpmath.mpf(10) ** -55


def test_every_formula_of_the_subject_is_derived():
    assert [made.__name__ for made in ddim.DERIVATIONS] == [
        "ddim_posterior", "ddim_posterior_two_coefficients", "ddim_noise_split", "ddim_marginal_invariance", "ddim_sigma_eta",
        "ddim_step", "ddim_step_eps_form", "ddim_deterministic_step", "ddim_eta1_is_ddpm", "ddim_subsequence",
        "ddim_time_grid", "strided_schedule", "ddim_final_step", "ddim_composition", "ddim_inversion",
        "ddim_order_of_convergence",
    ]  # fmt: skip
    assert {made().subject for made in ddim.DERIVATIONS} == {"ddim"}


def exact_variance(c):
    r"""``eta**2 * beta_tilde`` of a case, a rational number."""
    v = c.levels
    return Fraction(c.eta) ** 2 * v["beta"] * v["beta_bar_s"] / v["beta_bar_t"]


# --- the reference ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("result", "at"), [("x0_weight", 0), ("xt_weight", 1)])
def test_two_coefficients(agree, result, at):
    derivation = derive("ddim_posterior_two_coefficients")
    for c in agree.cases("eta"):
        want = derivation.value(result, **c.levels, variance=exact_variance(c))
        assert reference.ddim_weights(c.schedule, c.t, c.s, c.eta)[at] == float(want)


def test_posterior_of_any_admissible_variance(agree):
    # A root of what is left (1 + 1 + 1 and the root itself), a quotient of three positive terms, a product and a sum.
    relative = float(gamma(17, U))
    weights, mean = derive("ddim_posterior_two_coefficients"), derive("ddim_posterior")
    for c in agree.cases("fraction", "x0", "xt"):
        given = c.fraction * float(c.schedule.beta_bar[c.s]) * (1 - 2.0**-20)
        got = float(reference.ddim_posterior(c.schedule, c.x0, c.xt, c.t, c.s, variance=given)[0])
        want = mean.value("mean", **c.levels, variance=given, x0=c.x0, xt=c.xt)
        terms = [
            weights.value(name, **c.levels, variance=given) * value
            for name, value in (("x0_weight", c.x0), ("xt_weight", c.xt))
        ]
        assert abs(got - want) <= relative * sum(map(abs, terms))


def test_split_of_the_noise(agree):
    derivation, relative = derive("ddim_noise_split"), float(gamma(PAIR_AFFINE + 1, U))
    for c in agree.cases("eta", "x0", "eps", "noise"):
        got = float(reference.ddim_step(c.schedule, c.x0, c.eps, c.t, c.s, c.noise, c.eta))
        data = {"x0": c.x0, "eps": c.eps, "noise": c.noise, "variance": exact_variance(c)}
        want = derivation.value("draw", **c.levels, **data)
        size = derivation.value("draw", **c.levels, **{name: abs(value) for name, value in data.items()})
        assert abs(got - want) <= relative * size


@pytest.mark.parametrize("result", ["std", "direction_squared"])
def test_eta(agree, result):
    def direction_squared(c):
        return float(reference.ddim_direction(c.schedule, c.t, c.s, c.eta)) ** 2

    if result == "std":
        agree.tables("ddim_sigma_eta", "std", lambda c: reference.ddim_std(c.schedule, c.t, c.s, c.eta), data=("eta",))
    else:  # a correctly rounded root, squared
        agree.functions("ddim_sigma_eta", result, direction_squared, data=("eta",), roundings=3, scale_of=_direction)


def _direction(v):
    return v["beta_bar_s"] * (1 - v["eta"] ** 2 + v["eta"] ** 2 * v["alpha"] * v["beta_bar_s"] / v["beta_bar_t"])


def _step_scale(v):
    # Of the law ddim/step_from_eps: the three terms of the row.
    direction = mpmath.sqrt(_direction(v))
    std = v["eta"] * mpmath.sqrt(v["beta"] * v["beta_bar_s"] / v["beta_bar_t"])
    root = mpmath.sqrt(v["alpha"])
    weight = direction - mpmath.sqrt(v["beta_bar_t"]) / root
    return abs(v["xt"]) / root + abs(weight * v["eps_hat"]) + abs(std * v["noise"])


def test_step(agree):
    agree.functions(
        "ddim_step",
        "draw",
        lambda c: reference.ddim_step_from_eps(c.schedule, c.xt, c.t, c.s, c.eps_hat, c.noise, c.eta),
        data=("xt", "eps_hat", "noise", "eta"),
        roundings=PAIR_AFFINE + 1,
        scale_of=_step_scale,
    )


@cache
def _rows(schedule, t, s, chosen):
    return plan.ddim(schedule, Trajectory((t, s, 0) if s else (t, 0)), chosen)


@pytest.mark.parametrize(
    ("result", "column"), [("xt_coefficient", "x"), ("eps_coefficient", "prediction"), ("std", "noise")]
)
def test_rows_of_a_plan(agree, result, column):
    agree.tables(
        "ddim_step_eps_form",
        result,
        lambda c: getattr(_rows(c.schedule, c.t, c.s, c.eta), column)[0],
        data=("eta",),
    )


@pytest.mark.parametrize(("result", "at"), [("x0_weight", 0), ("xt_weight", 1)])
def test_eta_1_is_the_posterior(agree, result, at):
    agree.tables("ddim_eta1_is_ddpm", result, lambda c: reference.ddim_weights(c.schedule, c.t, c.s, 1.0)[at])


@pytest.mark.parametrize(("result", "entry"), [("beta", "strided"), ("beta_tilde", "posterior")])
def test_strided_schedule(agree, result, entry):
    def value(c):
        if entry == "posterior":
            return c.schedule.between(c.t, c.s).beta_tilde
        return reference.strided_betas(c.schedule, Trajectory((c.t, c.s, 0) if c.s else (c.t, 0)))[-1]

    agree.tables("strided_schedule", result, value)


def test_final_step(agree):
    agree.functions(
        "ddim_final_step",
        "sample",
        lambda c: reference.ddim_step_from_eps(c.schedule, c.xt, c.t, 0, c.eps_hat, c.noise, c.eta),
        data=("xt", "eps_hat", "noise", "eta"),
        roundings=PAIR_AFFINE,
        step=False,
    )


# Roundings of the moments of a plan in x0 form, where all terms are positive: see test_ancestral.
MOMENTS = 2 * (8 + 3) + 3


def test_deterministic_gain_and_two_steps(agree):
    """The second variance of a plan is that after its first step, the third that of its samples."""
    gain, both = derive("ddim_deterministic_step"), derive("ddim_subsequence")
    for c in agree.cases("fraction"):
        if c.s == 0:
            continue
        data = Gaussian(0.0, c.fraction + 2.0**-20)
        got = sample_moments(plan.ddim(c.schedule, (c.t, c.s, 0), form="x0"), data).variances[1:, 0]
        letters = c.levels | {"data_variance": Fraction(c.fraction + 2.0**-20)}
        want = gain.value("gain", **letters), both.value("two_step_deviation", **letters)
        for k, (value, deviation) in enumerate(zip(got, want, strict=True), start=1):
            assert abs(value - deviation**2) <= float(gamma(k * MOMENTS, U)) * deviation**2


@pytest.mark.parametrize(("result", "column"), [("xs_coefficient", "x"), ("eps_coefficient", "prediction")])
def test_rows_of_an_inversion(agree, result, column):
    agree.tables(
        "ddim_inversion",
        result,
        lambda c: getattr(_upwards(c.schedule, c.t, c.s), column)[-1],
    )


@cache
def _upwards(schedule, t, s):
    return plan.ddim_inversion(schedule, Trajectory((t, s, 0) if s else (t, 0)))


def test_a_wrong_reference_disagrees(agree):
    with pytest.raises(AssertionError, match="ddim_sigma_eta"):  # E49
        agree.tables(
            "ddim_sigma_eta",
            "std",
            lambda c: math.sqrt(c.eta) * c.schedule.between(c.t, c.s).std_tilde,
            data=("eta",),
        )
    with pytest.raises(AssertionError, match="ddim_step"):  # E48
        agree.functions(
            "ddim_step",
            "draw",
            lambda c: reference.ddim_step_from_eps(
                c.schedule, c.xt, c.t, c.s, c.eps_hat, c.noise * reference.ddim_std(c.schedule, c.t, c.s, c.eta), c.eta
            ),
            data=("xt", "eps_hat", "noise", "eta"),
            roundings=PAIR_AFFINE + 1,
            scale_of=_step_scale,
        )


# --- independent ways -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [Fraction(1, 4), Fraction(3, 4)])
@pytest.mark.parametrize(("t", "s"), [(2, 1), (3, 1)])
def test_the_marginal_is_kept_under_the_integral(t, s, share):
    """Quadrature over the state at t, carried to 30 digits and trusted to 20."""
    letters = {name: Fraction(int(x.p), int(x.q)) for name, x in SCHEDULE.letters(t, s).items()}
    spread = share * letters["beta_bar_s"]
    with mpmath.workdps(30):
        v = {name: mpmath.mpf(x.numerator) / x.denominator for name, x in letters.items()}
        point, there = mpmath.mpf("0.75"), mpmath.mpf("-0.25")
        direction = mpmath.sqrt(v["beta_bar_s"] - spread)

        def normal(x, mean, var):
            return mpmath.exp(-((x - mean) ** 2) / (2 * var)) / mpmath.sqrt(2 * mpmath.pi * var)

        def integrand(x):
            noise = (x - mpmath.sqrt(v["alpha_bar_t"]) * point) / mpmath.sqrt(v["beta_bar_t"])
            mean = mpmath.sqrt(v["alpha_bar_s"]) * point + direction * noise
            return normal(there, mean, spread) * normal(x, mpmath.sqrt(v["alpha_bar_t"]) * point, v["beta_bar_t"])

        kept = derive("ddim_marginal_invariance").at(SCHEDULE, t, s, x0=Fraction(3, 4), variance=spread)
        integral = mpmath.quad(integrand, mpmath.linspace(-10, 10, 21))
        assert abs(integral - normal(there, kept["mean"], kept["variance"])) < mpmath.mpf(10) ** -20


def _angle(alpha_bar, beta_bar, tau2):
    return mpmath.atan2(mpmath.sqrt(beta_bar), mpmath.sqrt(tau2 * alpha_bar))


def test_gains_are_cosines(agree):
    """Computed from the two angles: one step down, and down and up again."""
    down, up = derive("ddim_deterministic_step"), derive("ddim_inversion")
    with mpmath.workdps(DIGITS):
        for c in agree.cases("fraction"):
            tau2 = Fraction(c.fraction) + Fraction(1, 2**20)
            v = {name: mpmath.mpf(x.numerator) / x.denominator for name, x in c.levels.items()}
            inexact = mpmath.mpf(tau2.numerator) / tau2.denominator
            turn = _angle(v["alpha_bar_t"], v["beta_bar_t"], inexact) - _angle(
                v["alpha_bar_s"], v["beta_bar_s"], inexact
            )
            assert abs(down.value("relative", **c.levels, data_variance=tau2) - mpmath.cos(turn)) < TRUSTED
            assert abs(up.value("round_trip", **c.levels, data_variance=tau2) - mpmath.cos(turn) ** 2) < TRUSTED


@pytest.mark.parametrize(("deviation", "final"), [("1", "0.998124"), ("0.5", "0.498495"), ("0.1", "0.098319")])
def test_a_thousand_steps_are_a_product_of_cosines(deviation, final):
    """Nothing of the reference: the linear schedule by its definition, the deviation by its angles."""
    with mpmath.workdps(30):
        tau, bar, angles = mpmath.mpf(deviation), mpmath.mpf(1), [mpmath.mpf(0)]
        for k in range(1000):
            bar *= 1 - (mpmath.mpf("1e-4") + mpmath.mpf("0.0199") * k / 999)
            angles.append(_angle(bar, 1 - bar, tau**2))
        turned = mpmath.fprod(mpmath.cos(b - a) for a, b in pairwise(angles))
        assert f"{float(tau * turned / mpmath.sqrt(bar * tau**2 + 1 - bar)):.6f}" == final


def _exactly(x):
    return mpmath.mpf(x.numerator) / x.denominator


def test_two_steps_of_one_eta_are_one_step_only_at_the_ends():
    """The variances of three pairs of levels, eta^2 beta_tilde in exact rationals, at 1000 points."""
    composed, draw, strict = derive("ddim_composition"), random.Random(0), 0
    with mpmath.workdps(DIGITS):
        for _ in range(1000):
            exact = ExactSchedule([Fraction(draw.randint(1, 999), 1000) for _ in range(5)])
            r, s, t = sorted(draw.sample(range(6), 3))
            chosen = draw.choice((Fraction(0), Fraction(1), Fraction(draw.randint(1, 99), 100)))
            bars = {level: Fraction(int(x.p), int(x.q)) for level, x in ((k, exact.alpha_bar(k)) for k in (r, s, t))}
            squares = {
                (a, b): _exactly(chosen**2 * (1 - bars[a] / bars[b]) * (1 - bars[b]) / (1 - bars[a]))
                for a, b in ((t, s), (s, r), (t, r))
            }
            letters = {name: Fraction(int(x.p), int(x.q)) for name, x in exact.letters(t, s).items()}
            letters |= {"alpha_bar_r": bars[r], "beta_bar_r": 1 - bars[r]}
            arriving = composed.value("arriving", **letters, eta=chosen)
            excess = composed.value("excess", **letters, eta=chosen)
            assert abs(arriving * squares[t, s] + squares[s, r] - squares[t, r] - excess) < TRUSTED
            assert (excess > 0) == (0 < chosen < 1 and r > 0)
            strict += excess > 0
    assert strict > 100


def test_largest_eta_of_the_linear_schedule():
    """Binding at the step 2 -> 1."""
    betas = [Fraction(1e-4) + (Fraction(0.02) - Fraction(1e-4)) * k / 999 for k in range(4)]
    schedule, largest = ExactSchedule(betas), {}
    for t in range(2, 5):
        letters = {name: Fraction(int(x.p), int(x.q)) for name, x in schedule.letters(t, t - 1).items()}
        largest[t] = derive("ddim_sigma_eta").value("largest_eta_squared", **letters, eta=1)
    assert f"{float(min(largest.values())):.4f}" == f"{float(largest[2]):.4f}" == "1.8338"
    with pytest.raises(RangeError, match="no such law keeps the marginals"):
        derive("ddim_sigma_eta").at(schedule, 2, 1, eta=Fraction(1355, 1000))
    assert derive("ddim_sigma_eta").at(schedule, 2, 1, eta=Fraction(1354, 1000))["direction_squared"] > 0


def test_time_grid():
    """The derived level is the one that code cuts to; the code's floats are let off where they miss a whole number."""
    derivation, draw = derive("ddim_time_grid"), random.Random(0)
    for _ in range(1000):
        T = draw.randint(1, 2000)
        S = draw.randint(1, T)
        k = draw.randint(0, S)
        assert derivation.value("level", T=T, steps=S, position=k) == k * T // S
    for S in range(1, 1001):
        code = np.linspace(-1, 999, S + 1).astype(np.int64) + 1
        levels = np.arange(S + 1) * 1000 // S
        off = code != levels
        assert (np.diff(code) > 0).all()
        assert (np.arange(S + 1)[off] * 1000 % S == 0).all()
    with pytest.raises(RangeError, match="S <= T"):
        derivation.value("level", T=5, steps=6, position=1)


# --- order of convergence ---------------------------------------------------------------------------------------------


def test_levels_at_equal_angles_converge_with_order_1():
    """Slope of the error by doubling the steps, within 10^-3 of the order."""
    derivation = derive("ddim_order_of_convergence")
    angle = Fraction(157, 100)
    with mpmath.workdps(30):
        errors = {K: 1 - derivation.value("equal_angles", total_angle=angle, number_of_steps=K) for K in (2048, 4096)}
        slope = mpmath.log(errors[2048] / errors[4096], 2)
        assert abs(slope - 1) < 1e-3
        assert abs(errors[4096] / derivation.value("leading", total_angle=angle, number_of_steps=4096) - 1) < 1e-3


def test_levels_at_equal_distances_lose_a_logarithm():
    derivation, angle, losses = derive("ddim_order_of_convergence"), Fraction(157, 100), {}
    with mpmath.workdps(30):
        theta = mpmath.mpf(157) / 100
        for K in (64, 1024, 2048, 4096):
            turns = [theta * (mpmath.sqrt(i) - mpmath.sqrt(i - 1)) / mpmath.sqrt(K) for i in range(1, K + 1)]
            half = mpmath.fsum(turn**2 for turn in turns) / 2
            least, most = (
                derivation.value(f"half_squares_at_{end}", total_angle=angle, number_of_steps=K)
                for end in ("least", "most")
            )
            assert least <= half <= most
            losses[K] = -mpmath.fsum(mpmath.log(mpmath.cos(turn)) for turn in turns)
            assert losses[K] >= half
            # By the fourth powers, whose sum is bounded too; the terms after that are smaller for turns below 1.
            if K > 64:
                assert losses[K] - half <= theta**4 / K**2 * (1 + mpmath.pi**2 / 96) / 12 * (1 + theta**2 / K)
        # K times the loss grows by Theta^2 log(2) / 8 when K doubles, and not at all for order 1.
        growth = 4096 * losses[4096] - 2048 * losses[2048]
        assert abs(growth / (theta**2 * mpmath.log(2) / 8) - 1) < 1e-3


# --- where nothing is answered ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ddim_posterior", "ddim_posterior_two_coefficients", "ddim_noise_split"])
def test_no_variance_above_the_noise_at_s(name):
    data = {"x0": 1, "xt": 1, "eps": 1, "noise": 1}
    with pytest.raises(RangeError, match="above beta_bar_s"):
        derive(name).at(SCHEDULE, 2, 1, **data, variance=Fraction(1, 4) + Fraction(1, 10**9))
    for s, most in ((1, Fraction(1, 4)), (0, 0)):  # the most that is allowed is allowed
        assert all(mpmath.isfinite(value) for value in derive(name).at(SCHEDULE, 2, s, **data, variance=most).values())


@pytest.mark.parametrize("name", ["ddim_step", "ddim_step_eps_form", "ddim_final_step"])
def test_no_noise_form_without_signal(name):
    with pytest.raises(LevelError, match=r"zero terminal SNR.*\(asked at t = 2, s = 1\)"):
        derive(name).at(ZERO_SNR, 2, 1, xt=1, eps_hat=1, noise=1, eta=0)


@pytest.mark.parametrize("name", ["ddim_subsequence", "ddim_composition"])
def test_two_steps_need_a_level_between(name):
    with pytest.raises((LevelError, RangeError), match=r"two steps .* a level between"):
        derive(name).at(SCHEDULE, 2, 0, data_variance=1, eta=0, alpha_bar_r=1, beta_bar_r=0)


@pytest.mark.parametrize(
    "name",
    ["ddim_posterior", "ddim_marginal_invariance", "ddim_sigma_eta", "ddim_eta1_is_ddpm", "ddim_deterministic_step",
     "strided_schedule", "ddim_final_step"],
)  # fmt: skip
def test_no_step_from_level_0(name):
    derivation = derive(name)
    (result, *_) = derivation.results
    with pytest.raises(RangeError, match="at t = 0 there is no step back"):
        derivation.value(result, **(dict.fromkeys(derivation.letters(result), 1) | {"beta_bar_t": 0}))


# --- steps that do not follow -----------------------------------------------------------------------------------------


def test_a_wrong_step_is_not_written():
    weights, member = derive("ddim_posterior_two_coefficients").results, derive("ddim_sigma_eta").results
    small = derive("posterior_variance").results["variance"]
    wrong = {
        "E47, signal of t": (weights["x0_weight"], FROM_X0 - sp.sqrt(alpha_bar_s) + sp.sqrt(alpha_bar_t)),
        "E48, variance for standard deviation": (derive("ddim_noise_split").results["draw"].diff("noise"), variance),
        "E49, eta scales the variance": (member["std"] ** 2, eta * small),
        "E52, a direction that keeps all": (member["direction_squared"], beta_bar_s),
        "the gain of unit data for all": (
            derive("ddim_deterministic_step").results["gain"],
            derive("ddim_deterministic_step").results["gain"].subs(data_variance, 1),
        ),
        "an inversion that is exact": (derive("ddim_inversion").results["round_trip"], sp.Integer(1)),
        "two steps that compose": (derive("ddim_composition").results["excess"], sp.Integer(0)),
        "beta of the full chain": (1 - alpha_bar_t / alpha_bar_s, beta_bar_t),
    }  # fmt: skip
    for says, (left, right) in wrong.items():
        with pytest.raises(ProofError, match="it is false"):
            Proof("wrong").equal(says, left, right)
