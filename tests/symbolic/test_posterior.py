"""The posterior: the reference against its derivations, and the derivations against integrals."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import pytest
import sympy as sp

from ddpm_ref.arithmetic import Claim
from ddpm_ref.errors import LevelError, ProofError, RangeError
from ddpm_ref.laws.registry import PAIR_AFFINE, PAIR_COEFFICIENT
from ddpm_ref.reference import posterior as reference
from ddpm_ref.reference.schedule import Trajectory
from ddpm_ref.symbolic import ExactSchedule, Proof, derive
from ddpm_ref.symbolic.gaussian import complete_square
from ddpm_ref.symbolic.posterior.chain import MARGINAL_S, MEAN, STEP, VARIANCE, WEIGHT_X0
from ddpm_ref.symbolic.symbols import alpha, alpha_bar_s, alpha_bar_t, beta, beta_bar_s, beta_bar_t, x0, xs, xt

U = Claim("fp64").computing.u
SCHEDULE = ExactSchedule([Fraction(1, 4), Fraction(1, 3), Fraction(1, 2)])
ZERO_SNR = ExactSchedule([Fraction(3, 4), 1])

# --- the reference ----------------------------------------------------------------------------------------------------


def _log_normal_scale(v):
    # Of the law posterior/log_normal: a relative error of the argument of a logarithm is an absolute error of its value.
    return (abs(mpmath.log(2 * mpmath.pi * v["variance"])) + 1 + (v["x"] - v["mean"]) ** 2 / v["variance"]) / 2


def test_gaussian_density(agree):
    agree.functions(
        "gaussian_density",
        "log_density",
        lambda c: reference.log_normal(c.x, c.mean, c.variance),
        data=("x", "mean", "variance"),
        positive=("variance",),
        roundings=6,
        scale_of=_log_normal_scale,
    )


def _log_posterior_scale(v):
    # Of the law posterior/log_density, in units of the roundings of the mean: the logarithm and the variance in it, the
    # square over the variance, and the mean, whose roundings the square amplifies (to second order too).
    variance = v["beta"] * v["beta_bar_s"] / v["beta_bar_t"]
    parts = (
        mpmath.sqrt(v["alpha_bar_s"]) * v["beta"] / v["beta_bar_t"] * v["x0"],
        mpmath.sqrt(v["alpha"]) * v["beta_bar_s"] / v["beta_bar_t"] * v["xt"],
    )
    distance, reach = abs(v["xs"] - sum(parts)), abs(v["xs"]) + sum(map(abs, parts))
    in_log, in_square, in_mean = PAIR_COEFFICIENT + 1, PAIR_COEFFICIENT + 5, PAIR_AFFINE + 1
    return (
        in_log * (abs(mpmath.log(2 * mpmath.pi * variance)) + 1) / 2
        + in_square * distance**2 / (2 * variance)
        + in_mean * (distance * reach + PAIR_AFFINE * U * reach**2) / variance
    ) / in_mean


def test_posterior_bayes(agree):
    agree.functions(
        "posterior_bayes",
        "log_density",
        lambda c: reference.log_q_posterior(c.schedule, c.xs, c.x0, c.xt, c.t, c.s),
        data=("xs", "x0", "xt"),
        roundings=PAIR_AFFINE + 1,
        lowest=1,
        scale_of=_log_posterior_scale,
    )


@pytest.mark.parametrize("which", ["a", "b"])
def test_posterior_completing_square(agree, which):
    agree.functions(
        "posterior_completing_square",
        which,
        lambda c: reference.completing_square(c.schedule, c.x0, c.xt, c.t, c.s)["ab".index(which)],
        data=("x0", "xt"),
        roundings=PAIR_AFFINE,
        lowest=1,
    )


def test_posterior_mean_from_x0(agree):
    agree.functions(
        "posterior_mean_from_x0",
        "mean",
        lambda c: reference.q_posterior(c.schedule, c.x0, c.xt, c.t, c.s)[0],
        data=("x0", "xt"),
        roundings=PAIR_AFFINE,
    )


@pytest.mark.parametrize("which", ["x0_weight", "xt_weight"])
def test_posterior_mean_coefficients(agree, which):
    at = ("x0_weight", "xt_weight").index(which)
    agree.tables("posterior_mean_coefficients", which, lambda c: reference.posterior_weights(c.schedule, c.t, c.s)[at])


def test_posterior_variance(agree):
    agree.tables("posterior_variance", "variance", lambda c: reference.posterior_variance(c.schedule, c.t, c.s))


def test_posterior_mean_from_eps(agree):
    agree.functions(
        "posterior_mean_from_eps",
        "mean",
        lambda c: reference.posterior_mean_from_eps(c.schedule, c.xt, c.t, c.s, c.eps),
        data=("xt", "eps"),
        roundings=PAIR_AFFINE,
    )


def _log_scale(v):
    # Of the law posterior/log_variance: the logarithm itself, and 1 for the relative error of its argument.
    return abs(mpmath.log(v["beta"] * v["beta_bar_s"] / v["beta_bar_t"])) + 1


def test_posterior_log_variance(agree):
    agree.functions(
        "posterior_log_variance_clipped",
        "log_variance",
        lambda c: reference.posterior_log_variance(c.schedule, c.t, c.s),
        data=(),
        roundings=PAIR_COEFFICIENT + 1,
        lowest=1,
        scale_of=_log_scale,
    )


def test_convention_a_borrows_the_step_before(agree):
    agree.functions(
        "posterior_log_variance_clipped",
        "log_variance",
        lambda c: reference.posterior_log_variance(c.schedule, c.s, 0, "replace", Trajectory((c.t, c.s, 0))),
        data=(),
        roundings=PAIR_COEFFICIENT + 1,
        lowest=1,
        scale_of=_log_scale,
    )


def test_convention_b_clamps(agree):
    agree.functions(
        "posterior_log_variance_clipped",
        "floored",
        lambda c: reference.posterior_log_variance(c.schedule, c.t, c.s, "floor"),
        data=(),
        roundings=PAIR_COEFFICIENT + 1,
        scale_of=lambda v: 21 * mpmath.log(10) if v["beta_bar_s"] == 0 else _log_scale(v),
    )


@pytest.mark.parametrize(("which", "roundings"), [("mean", PAIR_AFFINE), ("variance", 2 * PAIR_COEFFICIENT + 3)])
def test_true_reverse_kernel(agree, which, roundings):
    agree.functions(
        "true_reverse_kernel",
        which,
        lambda c: reference.true_reverse_kernel(c.schedule, c.xt, c.t, c.s, c.x0_mean, c.x0_variance)[
            ("mean", "variance").index(which)
        ],
        data=("xt", "x0_mean", "x0_variance"),
        positive=("x0_variance",),
        roundings=roundings,
    )


def test_plug_in_mean(agree):
    agree.functions(
        "plug_in_reverse_approximation",
        "mean",
        lambda c: reference.plug_in_reverse(c.schedule, c.xt, c.t, c.s, c.x0_hat)[0],
        data=("xt", "x0_hat"),
        roundings=PAIR_AFFINE,
    )


def test_plug_in_variance(agree):
    agree.tables(
        "plug_in_reverse_approximation",
        "variance",
        lambda c: reference.plug_in_reverse(c.schedule, 0.0, c.t, c.s, 0.0)[1],
    )


def test_a_wrong_reference_disagrees(agree):
    with pytest.raises(AssertionError, match="posterior_variance"):
        agree.tables("posterior_variance", "variance", lambda c: c.schedule.between(c.t, c.s).beta)
    with pytest.raises(AssertionError, match="posterior_mean_from_eps"):
        agree.functions(
            "posterior_mean_from_eps",
            "mean",
            lambda c: reference.posterior_mean_from_eps(c.schedule, c.xt, c.t, c.s, c.eps) * (1 + 64 * U),
            data=("xt", "eps"),
            roundings=PAIR_AFFINE,
        )


# --- independent integrals --------------------------------------------------------------------------------------------

# Quadrature of smooth integrands is carried to 30 digits; what it returns is trusted to 20 of them.
QUADRATURE, TRUSTED = 30, mpmath.mpf(10) ** -20


def _normal(x, mean, variance):
    return mpmath.exp(-((x - mean) ** 2) / (2 * variance)) / mpmath.sqrt(2 * mpmath.pi * variance)


@pytest.mark.parametrize(("t", "s"), [(2, 1), (3, 1), (3, 2)])
def test_posterior_is_the_quotient_of_its_integrals(t, s):
    with mpmath.workdps(QUADRATURE):
        v = {name: mpmath.mpf(int(x.p)) / int(x.q) for name, x in SCHEDULE.letters(t, s).items()}
        x0_, xt_, xs_ = mpmath.mpf("0.75"), mpmath.mpf("-0.5"), mpmath.mpf("0.25")

        def joint(x):
            return _normal(xt_, mpmath.sqrt(v["alpha"]) * x, v["beta"]) * _normal(
                x, mpmath.sqrt(v["alpha_bar_s"]) * x0_, v["beta_bar_s"]
            )

        total, first, second = (
            mpmath.quad(lambda x, k=k: x**k * joint(x), mpmath.linspace(-12, 12, 13)) for k in (0, 1, 2)
        )
        data = {"x0": 0.75, "xt": -0.5, "xs": 0.25}
        mean = derive("posterior_mean_from_x0").at(SCHEDULE, t, s, **data)["mean"]
        variance = derive("posterior_variance").at(SCHEDULE, t, s)["variance"]
        assert abs(first / total - mean) < TRUSTED
        assert abs(second / total - mean**2 - variance) < TRUSTED
        log_density = derive("posterior_bayes").at(SCHEDULE, t, s, **data)["log_density"]
        assert abs(mpmath.log(joint(xs_) / total) - log_density) < TRUSTED


@pytest.mark.parametrize(("t", "s"), [(2, 1), (3, 1), (3, 2)])
def test_true_reverse_kernel_of_data_in_two_points(t, s):
    """Neither normal nor symmetric: moments of ``q(x_s | x_t)`` by quadrature over ``x_s`` from the marginal at ``s``."""
    with mpmath.workdps(QUADRATURE):
        v = {name: mpmath.mpf(int(x.p)) / int(x.q) for name, x in SCHEDULE.letters(t, s).items()}
        points, xt_ = ((mpmath.mpf("0.25"), mpmath.mpf(1)), (mpmath.mpf("0.75"), mpmath.mpf("-0.5"))), mpmath.mpf("0.5")
        masses = [w * _normal(xt_, mpmath.sqrt(v["alpha_bar_t"]) * p, v["beta_bar_t"]) for w, p in points]
        centre = sum(m * p for m, (_, p) in zip(masses, points, strict=True)) / sum(masses)
        spread = sum(m * p**2 for m, (_, p) in zip(masses, points, strict=True)) / sum(masses) - centre**2

        def joint(x):
            marginal = sum(w * _normal(x, mpmath.sqrt(v["alpha_bar_s"]) * p, v["beta_bar_s"]) for w, p in points)
            return _normal(xt_, mpmath.sqrt(v["alpha"]) * x, v["beta"]) * marginal

        total, first, second = (
            mpmath.quad(lambda x, k=k: x**k * joint(x), mpmath.linspace(-12, 12, 13)) for k in (0, 1, 2)
        )
        exact = {name: Fraction(int(x.p), int(x.q)) for name, x in SCHEDULE.letters(t, s).items()}
        moments = {
            name: Fraction(mpmath.nstr(x, QUADRATURE)) for name, x in (("x0_mean", centre), ("x0_variance", spread))
        }
        kernel = derive("true_reverse_kernel")
        mean = kernel.value("mean", **exact, **moments, xt=Fraction(1, 2))
        assert abs(first / total - mean) < TRUSTED
        assert abs(second / total - mean**2 - kernel.value("variance", **exact, **moments)) < TRUSTED
        plug_in = derive("plug_in_reverse_approximation")
        missing = plug_in.value("missing_variance", **exact, **moments)
        assert missing > 0
        assert abs(second / total - mean**2 - plug_in.value("variance", **exact) - missing) < TRUSTED


# --- where nothing is answered ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["posterior_bayes", "posterior_completing_square"])
def test_no_density_at_level_0(name):
    with pytest.raises(LevelError, match=r"s = 0 the .* point mass at x_0.* \(asked at t = 2, s = 0\)"):
        derive(name).at(SCHEDULE, 2, 0, x0=1, xt=1, xs=1)


def test_no_noise_form_without_signal():
    with pytest.raises(LevelError, match=r"the noise does not determine the data; use x_0 \(asked at t = 2, s = 1\)"):
        derive("posterior_mean_from_eps").at(ZERO_SNR, 2, 1, xt=1, eps=1)
    assert derive("posterior_mean_from_x0").at(ZERO_SNR, 2, 1, xt=5, x0=1)["mean"] == mpmath.mpf("0.5")


def test_no_normal_density_of_variance_0():
    with pytest.raises(RangeError, match="a variance must be positive"):
        derive("gaussian_density").value("log_density", x=0, mean=0, variance=0)


@pytest.mark.parametrize(
    "name",
    [
        "posterior_mean_from_x0", "posterior_mean_coefficients", "posterior_variance", "posterior_mean_from_eps",
        "posterior_log_variance_clipped", "true_reverse_kernel", "plug_in_reverse_approximation",
    ],
)  # fmt: skip
def test_no_step_from_level_0(name):
    derivation = derive(name)
    (result, *_) = derivation.results
    letters = dict.fromkeys(derivation.letters(result), 1) | {"beta_bar_t": 0}
    with pytest.raises(RangeError, match="at t = 0 there is no step back"):
        derivation.value(result, **letters)
    with pytest.raises(LevelError, match="t > s >= 0"):
        derivation.at(SCHEDULE, 0, 0)


def test_the_last_step_is_exact():
    data = {"x0": Fraction(3, 4), "xt": Fraction(-1, 2), "eps": 1}
    assert derive("posterior_mean_from_x0").at(SCHEDULE, 3, 0, **data)["mean"] == mpmath.mpf("0.75")
    assert derive("posterior_variance").at(SCHEDULE, 3, 0)["variance"] == 0
    assert derive("posterior_log_variance_clipped").at(SCHEDULE, 3, 0)["log_variance"] == -mpmath.inf


# --- steps that do not follow -----------------------------------------------------------------------------------------

SQUARE = complete_square(STEP + MARGINAL_S, xs)
WRONG_STEP = complete_square(STEP.subs(alpha, alpha_bar_t) + MARGINAL_S, xs)

WRONG = {
    "E11, exponent with alpha_bar": (WRONG_STEP.variance, VARIANCE),
    "E12, third quadratic over alpha_bar": (
        complete_square(STEP + MARGINAL_S + (xt - sp.sqrt(alpha_bar_t) * x0) ** 2 / (2 * alpha_bar_t), xs).constant,
        sp.S.Zero,
    ),
    "E13, alpha_bar in the weight of x_t": (SQUARE.mean, MEAN.subs(alpha, alpha_bar_t)),
    "E14, standard deviation for variance": (SQUARE.variance, sp.sqrt(VARIANCE)),
    "E15, vertex inverted": (SQUARE.mean, 1 / MEAN),
    "E16, sign of the data": (SQUARE.mean, MEAN.subs(x0, -x0)),
    "E20, condition dropped": (derive("true_reverse_kernel").results["variance"], VARIANCE),
    "weights without their roots": (sp.diff(SQUARE.mean, x0), WEIGHT_X0 * sp.sqrt(alpha_bar_s)),
    "precisions do not average": (1 / SQUARE.variance, (alpha / beta + 1 / beta_bar_s) / 2),
    "noise at the wrong level": (alpha * beta_bar_s + beta, beta_bar_s),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_step_is_not_written(name):
    left, right = WRONG[name]
    with pytest.raises(ProofError, match=r"it is false, e\.g\. at"):
        Proof("wrong").equal(name, left, right)


def test_the_right_steps_are():
    proof = Proof("right")
    proof.equal("mean", SQUARE.mean, MEAN)
    proof.equal("variance", SQUARE.variance, beta * beta_bar_s / beta_bar_t)
