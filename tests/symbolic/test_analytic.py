"""Analytic-DPM: the reference against its derivations, and the derivations against quadrature and whole samplers."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import mpmath
import numpy as np
import pytest
import sympy as sp

from ddpm_ref.arithmetic import Claim
from ddpm_ref.arithmetic.bounds import gamma
from ddpm_ref.errors import LevelError, ProofError, RangeError
from ddpm_ref.laws.registry import PAIR_COEFFICIENT
from ddpm_ref.reference import analytic as reference
from ddpm_ref.reference import plan
from ddpm_ref.reference.oracle import Finite, Gaussian
from ddpm_ref.reference.oracle.moments import sample_moments
from ddpm_ref.reference.prediction import x0_from_eps, x0_from_score
from ddpm_ref.reference.schedule import Trajectory
from ddpm_ref.symbolic import ExactSchedule, Proof, analytic, derive
from ddpm_ref.symbolic.analytic.sampler import draws
from ddpm_ref.symbolic.analytic.surrogate import energy, x0_spread
from ddpm_ref.symbolic.symbols import alpha_bar_t, beta_bar_t, data_variance, eta

SCHEDULE = ExactSchedule([Fraction(1, 4), Fraction(1, 3), Fraction(1, 2)])
ZERO_SNR = ExactSchedule([Fraction(1, 4), 1])
U = Claim("fp64").computing.u
DIGITS, TRUSTED = 60, mpmath.mpf(10) ** -50  # numbers of 60 digits after some dozen operations
TRUSTED_BY_QUADRATURE = mpmath.mpf(10) ** -15  # carried to 20 or 30 digits


def test_every_formula_of_the_subject_is_derived():
    assert [made.__name__ for made in analytic.DERIVATIONS] == [
        "x0_posterior_mean", "x0_posterior_covariance", "x0_posterior_covariance_averaged", "sigma_hat_squared",
        "x0_gaussian_approximation", "analytic_reverse_variance", "analytic_reverse_step", "analytic_mc_estimator",
        "analytic_variance_bounds", "analytic_sampler", "analytic_path_cost", "analytic_pixel_threshold",
    ]  # fmt: skip
    assert {made().subject for made in analytic.DERIVATIONS} == {"analytic"}


def exactly(x):
    return mpmath.mpf(x.numerator) / x.denominator


def _of_level(c):
    return {name: value for name, value in c.levels.items() if name.endswith(("_t", "_T"))}


# --- the reference: entries that are rounded once ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "letter", "function"),
    [
        ("from_energy", "eps_mean_square", reference.sigma_hat_squared),
        ("from_residual", "residual_mean_square", reference.sigma_hat_squared_from_residual),
    ],
)
def test_sigma_hat_squared(agree, result, letter, function):
    derivation = derive("sigma_hat_squared")
    for c in agree.cases("fraction"):
        want = derivation.value(result, **_of_level(c), **{letter: c.fraction})
        assert function(c.schedule, c.t, c.fraction) == float(want)


def test_reverse_variance_and_its_root(agree):
    variances, step = derive("analytic_reverse_variance"), derive("analytic_reverse_step")
    for c in agree.cases("fraction", "eta"):
        letters = c.levels | {"eta": c.eta, "sigma_hat_squared": c.fraction}
        given = c.schedule, c.t, c.s, c.fraction, c.eta
        assert reference.analytic_variance(*given) == float(variances.value("variance", **letters))
        assert reference.analytic_std(*given) == float(step.value("std", **letters))


def test_reverse_variance_from_what_a_network_says(agree):
    """The estimate is rounded, and then the variance: two positive terms, of which one has passed one rounding more."""
    derivation, relative = derive("analytic_reverse_variance"), float(gamma(3, U))
    for c in agree.cases("fraction", "eta"):
        for result, letter, function in (
            ("from_energy", "eps_mean_square", reference.sigma_hat_squared),
            ("from_residual", "residual_mean_square", reference.sigma_hat_squared_from_residual),
        ):
            want = derivation.value(result, **c.levels, eta=c.eta, **{letter: c.fraction})
            unknown = function(c.schedule, c.t, c.fraction)
            got = float(reference.analytic_variance(c.schedule, c.t, c.s, unknown, c.eta))
            assert abs(got - want) <= relative * want


@cache
def _rows(schedule, t, s, unknown, chosen):
    return plan.analytic(schedule, Trajectory((t, s, 0) if s else (t, 0)), unknown, chosen, last_noise="analytic")


@pytest.mark.parametrize(
    ("result", "column"), [("xt_coefficient", "x"), ("eps_coefficient", "prediction"), ("std", "noise")]
)
def test_rows_of_a_plan(agree, result, column):
    derivation = derive("analytic_reverse_step")
    for c in agree.cases("fraction", "eta"):
        letters = c.levels | {"eta": c.eta, "sigma_hat_squared": c.fraction}
        rows = _rows(c.schedule, c.t, c.s, (c.fraction,) * (c.schedule.T + 1), c.eta)
        assert getattr(rows, column)[0] == float(derivation.value(result, **letters))


def test_bounds(agree):
    derivation = derive("analytic_variance_bounds")
    for c in agree.cases("fraction", "low", "eta"):
        high = c.low + 4 * c.fraction + 2.0**-20
        letters = c.levels | {"eta": c.eta, "low": c.low, "high": high}
        lower, upper = reference.analytic_variance_bounds(c.schedule, c.t, c.s, c.low, high, c.eta)
        assert (lower, upper) == tuple(float(derivation.value(name, **letters)) for name in ("lower", "upper"))
        _, unbounded = reference.analytic_variance_bounds(c.schedule, c.t, c.s, -math.inf, math.inf, c.eta)
        assert unbounded == float(derivation.value("upper_any_data", **letters))
        clipped, what = reference.clip_sigma_hat_squared(c.schedule, [1e300], [c.t], c.low, high)
        most = derivation.value("largest_sigma_hat_squared", **letters)
        assert clipped[0] == float(most)
        assert what.clipped == 1


def test_pixel_threshold(agree):
    agree.arguments(
        "analytic_pixel_threshold",
        "variance",
        lambda draw: {"grey_levels": draw.randint(1, 2**20) / 2**14},
        lambda c: reference.pixel_threshold_variance(c["grey_levels"]),
    )


# --- the reference: functions --------------------------------------------------------------------------------------------


def test_posterior_mean_from_a_prediction(agree):
    # Of the laws prediction/x0_from_eps and prediction/x0_from_score.
    for result, data, function in (("from_eps", "eps_hat", x0_from_eps), ("from_score", "score", x0_from_score)):
        agree.functions(
            "x0_posterior_mean",
            result,
            lambda c, data=data, function=function: function(c.schedule, c.xt, c.t, c.data[data]),
            data=("xt", data),
            roundings=5,
            step=False,
        )


def test_posterior_covariance(agree):
    """Quotient of two entries and a product; averaged, a difference before it."""
    derivation, relative = derive("x0_posterior_covariance"), float(gamma(4, U))
    for c in agree.cases("fraction"):
        want = derivation.value("from_noise", **_of_level(c), noise_second_moment=c.fraction, eps_hat=0)
        assert abs(reference.x0_posterior_covariance(c.schedule, c.t, [[c.fraction]])[0, 0] - want) <= relative * want


def test_averaged_covariance(agree):
    """A difference from 1, whose terms are positive and negative, a quotient of entries and a product."""
    derivation, relative = derive("x0_posterior_covariance_averaged"), float(gamma(5, U))
    for c in agree.cases("fraction", "energy_21"):
        moments = [[c.fraction, c.energy_21], [c.energy_21, 1.0]]
        got = reference.x0_posterior_covariance_averaged(c.schedule, c.t, moments)[0]
        letters = _of_level(c) | {"energy_11": c.fraction, "energy_21": c.energy_21}
        ratio = float(c.levels["beta_bar_t"] / c.levels["alpha_bar_t"])
        for value, result, size in zip(
            got, ("diagonal", "off_diagonal"), (1 + c.fraction, abs(c.energy_21)), strict=True
        ):
            assert abs(value - derivation.value(result, **letters)) <= relative * ratio * size


def _in_two_points(c):
    """Odds, their uncertainty after roundings, and the oracle, for data in two points near each other."""
    p, a, b = c.fraction / 2 + 0.25, c.point_a / 2**12, c.point_b / 2**12
    letters = _of_level(c) | {"weight_a": p, "point_a": a, "point_b": b, "xt": c.xt}
    return letters, Finite([a, b], [p, 1 - p])


# Roundings of an exponent of the oracle: difference of state and point 4, square and quotient 4 each, the logarithm of a weight
# one; those of the softmax and of the average over two points.
ODDS, SOFTMAX = 16, 8


def test_data_in_two_points(agree):
    """The oracle for finite data; an error of the log odds moves the share by share times complement times it."""
    mean, covariance = derive("x0_posterior_mean"), derive("x0_posterior_covariance")
    for c in agree.cases("fraction", "point_a", "point_b", "xt"):
        letters, oracle = _in_two_points(c)
        a, b = letters["point_a"], letters["point_b"]
        want, spread = mean.value("two_points", **letters), covariance.value("two_points", **letters)
        scale = c.schedule.sqrt_alpha_bar[c.t] * max(abs(a), abs(b))
        exponent = (abs(c.xt) + scale) ** 2 / c.schedule.beta_bar[c.t] + 2
        odds = float(gamma(ODDS, U)) * exponent
        got = float(oracle.x0(c.schedule, [c.xt], c.t)[0])
        assert abs(got - want) <= 2 * odds * spread / abs(a - b) + float(gamma(SOFTMAX, U)) * (abs(a) + abs(b))
        found = float(oracle.x0_covariance(c.schedule, [c.xt], c.t)[0, 0])
        relative, absolute = 2 * odds + float(gamma(2 * SOFTMAX, U)), 2 * float(gamma(SOFTMAX, U)) * odds
        assert abs(found - spread) <= relative * spread + absolute * (a - b) ** 2


# See `sample_moments` in test_ancestral: gains of a plan in x0 form, where all terms are positive; the variance is twice that.
MOMENTS = 2 * (8 + 3) + 3


def test_a_whole_step_on_normal_data(agree):
    """Gain and noise of a plan: the variance after its first step is the right one, whatever eta."""
    sampler, known = derive("analytic_sampler"), derive("sigma_hat_squared")
    for c in agree.cases("fraction", "eta"):
        tau2 = c.fraction + 2.0**-20
        letters = c.levels | {"data_variance": tau2, "eta": c.eta}
        unknown = np.full(c.schedule.T + 1, math.nan)
        unknown[c.t] = known.value("normal", **_of_level(c), data_variance=tau2)
        if c.s:
            at_s = {"alpha_bar_t": c.levels["alpha_bar_s"], "beta_bar_t": c.levels["beta_bar_s"]}
            unknown[c.s] = known.value("normal", **at_s, data_variance=tau2)
        walk = (c.t, c.s, 0) if c.s else (c.t, 0)
        rows = plan.analytic(c.schedule, walk, unknown, c.eta, last_noise="analytic", form="x0")
        got = sample_moments(rows, Gaussian(0.0, tau2), start="marginal").variances[1:, 0]
        gain, std = sampler.value("gain", **letters), sampler.value("std", **letters)
        total, right = (Fraction(tau2) * c.levels[f"alpha_bar_{k}"] + c.levels[f"beta_bar_{k}"] for k in "ts")
        with mpmath.workdps(DIGITS):
            assert abs(gain**2 * exactly(total) + std**2 - exactly(right)) < TRUSTED * exactly(right)
        for k, (value, truth) in enumerate(zip(got, (right, tau2) if c.s else (right,), strict=True), start=1):
            assert abs(value - float(truth)) <= float(gamma(k * MOMENTS, U)) * float(truth)


def test_path_cost(agree):
    """Of the law analytic/step_cost: roundings relative to the cost, and those of its argument."""
    derivation = derive("analytic_path_cost")
    for c in agree.cases("fraction", "eta"):
        if c.s == 0 or c.eta == 0:
            continue
        want = derivation.value("cost", **c.levels, eta=c.eta, sigma_hat_squared=c.fraction)
        got = float(reference.step_cost(c.schedule, c.t, c.s, c.fraction, c.eta))
        assert abs(got - want) <= float(gamma(COST, U)) * want
        if c.eta == 1:
            assert abs(derivation.value("of_the_chain", **c.levels, sigma_hat_squared=c.fraction) - want) < TRUSTED * (
                1 + want
            )


COST = 3 * PAIR_COEFFICIENT + 6


def test_a_wrong_reference_disagrees(agree):
    with pytest.raises(AssertionError, match="sigma_hat_squared"):  # E54
        agree.functions(
            "sigma_hat_squared",
            "from_energy",
            lambda c: reference.sigma_hat_squared_from_residual(c.schedule, c.t, c.eps_mean_square),
            data=("eps_mean_square",),
            positive=("eps_mean_square",),
            roundings=3,
            step=False,
        )


# --- independent ways ----------------------------------------------------------------------------------------------------


def _law(points, weights, letters):
    """Density of noisy data and posterior moments, from the sums alone."""
    signal, noise = mpmath.sqrt(letters["alpha_bar_t"]), letters["beta_bar_t"]

    def at(x):
        masses = [w * mpmath.exp(-((x - signal * a) ** 2) / (2 * noise)) for a, w in zip(points, weights, strict=True)]
        total = mpmath.fsum(masses)
        mean = mpmath.fsum(m * a for m, a in zip(masses, points, strict=True)) / total
        second = mpmath.fsum(m * a * a for m, a in zip(masses, points, strict=True)) / total
        return total / mpmath.sqrt(2 * mpmath.pi * noise), mean, second - mean**2

    return at


@pytest.mark.parametrize("t", [3, pytest.param(1, marks=pytest.mark.full)])
def test_three_points_by_quadrature(t):
    """Averages over the noisy data, carried to 30 digits and trusted to 15: energy, averaged variance, bounds."""
    with mpmath.workdps(30):
        letters = {name: mpmath.mpf(int(x.p)) / int(x.q) for name, x in SCHEDULE.letters(t).items()}
        exact = {name: Fraction(int(x.p), int(x.q)) for name, x in SCHEDULE.letters(t).items()}
        points, weights = [mpmath.mpf(-1), mpmath.mpf("0.25"), mpmath.mpf(1)], [mpmath.mpf(k) / 6 for k in (1, 2, 3)]
        law = _law(points, weights, letters)
        signal, noise = mpmath.sqrt(letters["alpha_bar_t"]), mpmath.sqrt(letters["beta_bar_t"])
        grid = mpmath.linspace(-8, 8, 17)

        def average(f):
            return mpmath.quad(lambda x: law(x)[0] * f(x, *law(x)[1:]), grid)

        energy = average(lambda x, mean, _: ((x - signal * mean) / noise) ** 2)
        unknown = average(lambda x, mean, spread: spread)
        found = derive("sigma_hat_squared").value("from_energy", **exact, eps_mean_square=float(energy))
        # The energy is handed over as a float, whose error the formula multiplies.
        assert abs(found - unknown) < 4 * U * letters["beta_bar_t"] / letters["alpha_bar_t"]
        bounds = derive("analytic_variance_bounds").at(SCHEDULE, t, t - 1, low=-1, high=1, eta=1)
        assert 0 < unknown < bounds["largest_sigma_hat_squared"]
        assert (
            abs(average(lambda x, mean, _: mean) - mpmath.fsum(w * a for a, w in zip(points, weights, strict=True)))
            < TRUSTED_BY_QUADRATURE
        )
        # Tweedie's formula and the Jacobian, with derivatives by mpmath.
        x = mpmath.mpf("0.3")
        slope = mpmath.diff(lambda y: mpmath.log(law(y)[0]), x)
        assert abs((x + letters["beta_bar_t"] * slope) / signal - law(x)[1]) < TRUSTED_BY_QUADRATURE
        assert (
            abs(letters["beta_bar_t"] / signal * mpmath.diff(lambda y: law(y)[1], x) - law(x)[2])
            < TRUSTED_BY_QUADRATURE
        )


def test_the_surrogate_is_the_best_of_its_neighbours():
    """The cross entropy by quadrature, at the stated variance and beside it."""
    with mpmath.workdps(20):
        letters = {name: mpmath.mpf(int(x.p)) / int(x.q) for name, x in SCHEDULE.letters(2).items()}
        law = _law([mpmath.mpf(-1), mpmath.mpf(1)], [mpmath.mpf("0.5")] * 2, letters)
        unknown = mpmath.quad(lambda x: law(x)[0] * law(x)[2], mpmath.linspace(-8, 8, 17))
        losses = [mpmath.log(2 * mpmath.pi * v) / 2 + unknown / (2 * v) for v in (unknown * k for k in (0.9, 1, 1.1))]
        best = derive("x0_gaussian_approximation").value(
            "cross_entropy", alpha_bar_t=Fraction(1, 2), beta_bar_t=Fraction(1, 2), sigma_hat_squared=float(unknown)
        )
        assert abs(losses[1] - best) < TRUSTED_BY_QUADRATURE
        assert losses[0] > losses[1] < losses[2]


@pytest.mark.parametrize(("steps", "final"), [(10, "0.94711"), (50, "0.99711"), (1000, "0.99995")])
def test_whole_samplers_by_the_derived_recursion(steps, final):
    """Nothing of the reference: the linear schedule by its definition, unit data, no noise in the last step."""
    sampler, bars = derive("analytic_sampler"), [mpmath.mpf(1)]
    with mpmath.workdps(30):
        for k in range(1000):
            bars.append(bars[-1] * (1 - (mpmath.mpf("1e-4") + mpmath.mpf("0.0199") * k / 999)))
        first = bars[1000 // steps]
        end = sampler.results["noiseless_end"].subs({alpha_bar_t: first, beta_bar_t: 1 - first, data_variance: 1})
    assert f"{float(sp.sqrt(end)):.5f}" == final


def test_standard_error_of_the_estimate():
    """Draws of unit data: the figure that is known, and the variance of the square of a normal number by quadrature."""
    with mpmath.workdps(30):
        bar = mpmath.mpf(1)
        for k in range(500):
            bar *= 1 - (mpmath.mpf("1e-4") + mpmath.mpf("0.0199") * k / 999)
        kept = Fraction(str(mpmath.nstr(bar, 25)))
        derivation = derive("analytic_mc_estimator")
        error = derivation.value(
            "normal_standard_error", alpha_bar_t=kept, beta_bar_t=1 - kept, data_variance=1, draws=16, dimension=48
        )
        assert f"{float(error):.4f}" == "0.0470"
        square = mpmath.quad(lambda z: (z**2 - 1) ** 2 * mpmath.npdf(z), mpmath.linspace(-14, 14, 15))
        assert abs(square - 2) < TRUSTED_BY_QUADRATURE
        letters = {"alpha_bar_t": kept, "beta_bar_t": 1 - kept, "draws": 16}
        own = derivation.value("standard_error", **letters, energy_variance=Fraction(2, 48))
        assert abs(own * (1 - bar) - error) < TRUSTED_BY_QUADRATURE


# --- where nothing is answered -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["x0_posterior_mean", "x0_posterior_covariance", "x0_posterior_covariance_averaged", "sigma_hat_squared",
             "x0_gaussian_approximation", "analytic_mc_estimator"],
)  # fmt: skip
def test_nothing_is_asked_of_clean_data_or_of_pure_noise(name):
    derivation = derive(name)
    (result, *_) = derivation.results
    values = dict.fromkeys(derivation.letters(result), 1)
    with pytest.raises(RangeError, match="at t = 0"):
        derivation.value(result, **(values | {"beta_bar_t": 0, "alpha_bar_t": 1}))
    with pytest.raises(RangeError, match="zero terminal SNR"):
        derivation.value(result, **(values | {"beta_bar_t": 1, "alpha_bar_t": 0}))


@pytest.mark.parametrize(
    "name", ["analytic_reverse_variance", "analytic_reverse_step", "analytic_variance_bounds", "analytic_sampler"]
)
def test_no_step_without_signal_or_beyond_the_family(name):
    data = {"eta": 1, "sigma_hat_squared": 1, "eps_mean_square": 1, "residual_mean_square": 1, "data_variance": 1,
            "low": -1, "high": 1}  # fmt: skip
    with pytest.raises(LevelError, match=r"zero terminal SNR.*\(asked at t = 2, s = 1\)"):
        derive(name).at(ZERO_SNR, 2, 1, **data)
    with pytest.raises(RangeError, match="no such law keeps the marginals"):
        derive(name).at(SCHEDULE, 2, 1, **(data | {"eta": 10}))


def test_other_forbidden_points():
    with pytest.raises(RangeError, match="give low < high"):
        derive("analytic_variance_bounds").at(SCHEDULE, 2, 1, eta=1, low=1, high=1)
    with pytest.raises(RangeError, match="every step costs infinitely much"):
        derive("analytic_path_cost").at(SCHEDULE, 2, 1, eta=0, sigma_hat_squared=1)
    with pytest.raises(LevelError, match=r"in the constant.*s >= 1"):
        derive("analytic_path_cost").at(SCHEDULE, 2, 0, eta=1, sigma_hat_squared=1)
    with pytest.raises(RangeError, match="a point has no density"):
        derive("x0_gaussian_approximation").value("cross_entropy", sigma_hat_squared=0)


# --- steps that do not follow --------------------------------------------------------------------------------------------


def test_a_wrong_step_is_not_written():
    known, step = derive("sigma_hat_squared").results, derive("analytic_reverse_step").results
    combined, bounds = derive("analytic_reverse_variance").results, derive("analytic_variance_bounds").results
    weight = sp.diff(combined["variance"], x0_spread)
    wrong = {
        "E54, energy for what it leaves": (known["from_energy"], beta_bar_t / alpha_bar_t * energy),
        "E57, variance of a step": (known["normal"], derive("posterior_variance").results["variance"]),
        "the weight of the data not squared": (weight, sp.sqrt(weight)),
        "a step that draws nothing": (step["std"].subs(eta, 0), sp.Integer(0)),
        "variance for deviation": (step["std"], step["std"] ** 2),
        "a bound without the posterior": (bounds["upper_any_data"], bounds["upper_any_data"] - bounds["lower"]),
        "a sampler that is right without its last noise": (
            derive("analytic_sampler").results["noiseless_end"], data_variance
        ),
        "a standard error that does not fall": (
            derive("analytic_mc_estimator").results["standard_error"],
            derive("analytic_mc_estimator").results["standard_error"].subs(draws, 1),
        ),
    }  # fmt: skip
    for says, (left, right) in wrong.items():
        with pytest.raises(ProofError, match="it is false"):
            Proof("wrong").equal(says, left, right)
