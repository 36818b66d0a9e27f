"""The reverse model: the reference against its derivations."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import pytest
import sympy as sp

from ddpm_ref.errors import LevelError, ProofError, RangeError
from ddpm_ref.laws.registry import PAIR_AFFINE, PAIR_COEFFICIENT, ROOT
from ddpm_ref.reference import reverse as reference
from ddpm_ref.reference.schedule import Trajectory
from ddpm_ref.symbolic import ExactSchedule, Proof, derive
from ddpm_ref.symbolic.symbols import alpha, beta, beta_bar_t, gain, variance

SCHEDULE = ExactSchedule([Fraction(1, 4), Fraction(1, 3), Fraction(1, 2)])
ZERO_SNR = ExactSchedule([Fraction(1, 4), 1])


def test_reverse_chain(agree):
    agree.functions(
        "reverse_chain",
        "variance",
        lambda c: reference.reverse_chain_variance([c.gain], [c.variance], c.variance_t)[-1],
        data=("gain", "variance", "variance_t"),
        positive=("variance", "variance_t"),
        roundings=3,
    )


def test_reverse_chain_of_many_steps():
    """Step by step, all numbers exact: three steps of the derived recursion are three of the reference's."""
    gains, variances, v = [0.5, -1.25, 0.75], [0.25, 0.5, 0.125], Fraction(1)
    derived = [mpmath.mpf(1)]
    for g, step in zip(gains, variances, strict=True):
        derived.append(derive("reverse_chain").value("variance", gain=g, variance=step, variance_t=v))
        v = Fraction(g) ** 2 * v + Fraction(step)
    assert reference.reverse_chain_variance(gains, variances).tolist() == [float(value) for value in derived]


def test_draw(agree):
    agree.functions(
        "reverse_step_gaussian",
        "draw",
        lambda c: reference.reverse_step(c.mean, c.variance, c.noise),
        data=("mean", "variance", "noise"),
        positive=("variance",),
        roundings=ROOT + 2,
    )


def test_log_density_of_a_draw(agree):
    agree.functions(
        "reverse_step_gaussian",
        "log_density",
        lambda c: reference.log_reverse_step(c.xs, c.mean, c.variance),
        data=("xs", "mean", "variance"),
        positive=("variance",),
        roundings=6,
        # Of the law posterior/log_normal.
        scale_of=lambda v: (
            (abs(mpmath.log(2 * mpmath.pi * v["variance"])) + 1 + (v["xs"] - v["mean"]) ** 2 / v["variance"]) / 2
        ),
    )


def test_model_mean_from_eps(agree):
    agree.functions(
        "model_mean_from_eps",
        "mean",
        lambda c: reference.model_mean_from_eps(c.schedule, c.xt, c.t, c.s, c.eps_hat),
        data=("xt", "eps_hat"),
        roundings=PAIR_AFFINE,
    )


@pytest.mark.parametrize(("result", "entry"), [("xt_weight", "recip_sqrt_alpha"), ("eps_weight", "eps_weight")])
def test_tables_of_the_mean_from_eps(agree, result, entry):
    agree.tables("model_mean_from_eps", result, lambda c: getattr(c.schedule.between(c.t, c.s), entry))


def test_model_mean_from_x0(agree):
    agree.functions(
        "model_mean_from_x0",
        "mean",
        lambda c: reference.model_mean_from_x0(c.schedule, c.xt, c.t, c.s, c.x0_hat),
        data=("xt", "x0_hat"),
        roundings=PAIR_AFFINE,
    )


@pytest.mark.parametrize("kind", ["fixed_small", "fixed_large"])
def test_fixed_variances(agree, kind):
    agree.tables(f"variance_{kind}", "variance", lambda c: reference.reverse_variance(c.schedule, c.t, c.s, kind))


def test_fixed_large_log_variance(agree):
    agree.functions(
        "variance_fixed_large_first_entry",
        "log_variance",
        lambda c: reference.fixed_large_log_variance(c.schedule, c.t, c.s),
        data=(),
        roundings=PAIR_COEFFICIENT + 1,
        lowest=1,
        # Of the law reverse/fixed_large_log_variance: the logarithm, and 1 for the relative error of its argument.
        scale_of=lambda v: abs(mpmath.log(v["beta"])) + 1,
    )


def test_first_entry_of_fixed_large(agree):
    agree.functions(
        "variance_fixed_large_first_entry",
        "borrowed",
        lambda c: reference.fixed_large_log_variance(c.schedule, c.s, 0, "replace", Trajectory((c.t, c.s, 0))),
        data=(),
        roundings=PAIR_COEFFICIENT + 1,
        lowest=1,
        scale_of=lambda v: abs(mpmath.log(v["beta"] * v["beta_bar_s"] / v["beta_bar_t"])) + 1,
    )


@pytest.mark.parametrize("which", ["lower", "upper"])
def test_optimal_variance_bracket(agree, which):
    at = ("lower", "upper").index(which)
    agree.tables(
        "optimal_variance_bracket", which, lambda c: reference.optimal_variance_bounds(c.schedule, c.t, c.s)[at]
    )


def _learned_scale(v):
    # Of the law reverse/learned_variance: an exponential turns absolute errors of its argument into relative ones.
    large, small = mpmath.log(v["beta"]), mpmath.log(v["beta"] * v["beta_bar_s"] / v["beta_bar_t"])
    nu = v["fraction"]
    return mpmath.exp(nu * large + (1 - nu) * small) * (1 + nu * (1 + abs(large)) + (1 - nu) * (1 + abs(small)))


def test_learned_variance_interpolation(agree):
    agree.functions(
        "learned_variance_interpolation",
        "variance",
        lambda c: reference.learned_variance(c.schedule, c.t, c.s, c.fraction),
        data=("fraction",),
        roundings=PAIR_COEFFICIENT + 2,
        lowest=1,
        scale_of=_learned_scale,
    )


def test_a_wrong_reference_disagrees(agree):
    with pytest.raises(AssertionError, match="variance_fixed_small"):
        agree.tables("variance_fixed_small", "variance", lambda c: c.schedule.between(c.t, c.s).beta)
    with pytest.raises(AssertionError, match="reverse_step_gaussian"):  # E40: the variance for the standard deviation
        agree.functions(
            "reverse_step_gaussian",
            "draw",
            lambda c: c.mean + c.variance * c.noise,
            data=("mean", "variance", "noise"),
            positive=("variance",),
            roundings=ROOT + 2,
        )


@pytest.mark.parametrize("tau2", [Fraction(1, 100), Fraction(1), Fraction(9)])
def test_the_best_variance_lies_in_the_bracket(tau2):
    """Normal data of any variance, conditioned exactly by the covariance of two levels."""
    for t in range(1, SCHEDULE.T + 1):
        for s in range(t):
            v = SCHEDULE.letters(t, s)
            at_s, at_t = (v[f"alpha_bar_{k}"] * tau2 + v[f"beta_bar_{k}"] for k in "st")
            best = at_s - v["alpha"] * at_s**2 / at_t
            bracket = derive("optimal_variance_bracket").at(SCHEDULE, t, s)
            small = derive("variance_fixed_small").at(SCHEDULE, t, s)["variance"]
            assert bracket["lower"] == small < float(best) < bracket["upper"]
            if tau2 == 1:
                assert best == v["beta"]


# --- where nothing is answered ----------------------------------------------------------------------------------------


def test_no_density_of_a_step_of_variance_0():
    with pytest.raises(RangeError, match="a step of variance 0 is a point"):
        derive("reverse_step_gaussian").value("log_density", xs=0, mean=0, variance=0)


@pytest.mark.parametrize("name", ["model_mean_from_eps", "optimal_variance_bracket"])
def test_nothing_from_the_noise_without_signal(name):
    with pytest.raises(LevelError, match=r"zero terminal SNR.*\(asked at t = 2, s = 1\)"):
        derive(name).at(ZERO_SNR, 2, 1, xt=1, eps_hat=1)
    assert derive("variance_fixed_large").at(ZERO_SNR, 2, 1)["variance"] == 1


@pytest.mark.parametrize("name", ["variance_fixed_large_first_entry", "learned_variance_interpolation"])
def test_no_logarithm_on_the_step_to_level_0(name):
    with pytest.raises(LevelError, match=r"at s = 0 the .* step before.*\(asked at t = 2, s = 0\)"):
        derive(name).at(SCHEDULE, 2, 0, fraction=Fraction(1, 2))


@pytest.mark.parametrize("name", ["model_mean_from_x0", "variance_fixed_small", "optimal_variance_bracket"])
def test_no_step_from_level_0(name):
    derivation = derive(name)
    (result, *_) = derivation.results
    with pytest.raises(RangeError, match="at t = 0 there is no step back"):
        derivation.value(result, **(dict.fromkeys(derivation.letters(result), 1) | {"beta_bar_t": 0}))


# --- steps that do not follow -----------------------------------------------------------------------------------------


def test_a_wrong_step_is_not_written():
    chain = derive("reverse_chain").results["variance"]
    mean = derive("model_mean_from_eps").results
    wrong = {
        "E40, variance for standard deviation": (chain, gain**2 * sp.Symbol("variance_t", positive=True) + variance**2),
        "E21, root of beta in the weight": (mean["eps_weight"], sp.sqrt(beta) / sp.sqrt(alpha)),
        "weight without the root of the noise": (mean["eps_weight"], beta / (sp.sqrt(alpha) * beta_bar_t)),
        "beta as upper bound": (derive("optimal_variance_bracket").results["upper"], beta),
    }
    for says, (left, right) in wrong.items():
        with pytest.raises(ProofError, match="it is false"):
            Proof("wrong").equal(says, left, right)
    Proof("right").equal("weight", mean["eps_weight"], beta / sp.sqrt(alpha * beta_bar_t))
