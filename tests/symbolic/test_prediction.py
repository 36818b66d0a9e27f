"""Predictions: the reference against the solved equations, and the score against a derivative."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import pytest

from ddpm_ref.errors import LevelError, ProofError
from ddpm_ref.laws.prediction import SCALED, SOLVED
from ddpm_ref.laws.registry import AFFINE
from ddpm_ref.reference import prediction as reference
from ddpm_ref.symbolic import ExactSchedule, Proof, derive
from ddpm_ref.symbolic.prediction import MIXTURE, VELOCITY
from ddpm_ref.symbolic.symbols import alpha_bar_t, beta_bar_t, eps, x0

SCHEDULE = ExactSchedule([Fraction(1, 4), Fraction(1, 3), Fraction(1, 2)])
ZERO_SNR = ExactSchedule([Fraction(1, 4), 1])

# What is given beside x_t, and the roundings that the law of the formula counts.
CONVERSIONS = {
    "x0_from_eps": ("x0", "eps", SOLVED),
    "eps_from_x0": ("eps", "x0", SOLVED),
    "x0_from_v": ("x0", "v", AFFINE),
    "eps_from_v": ("eps", "v", AFFINE),
    "v_from_eps": ("v", "eps", SOLVED),
    "v_from_x0": ("v", "x0", SOLVED),
    "eps_from_score": ("eps", "score", AFFINE - 1),
    "x0_from_score": ("x0", "score", SOLVED),
    "score_from_x0": ("score", "x0", SOLVED),
}


@pytest.mark.parametrize("name", CONVERSIONS)
def test_conversions(agree, name):
    result, given, roundings = CONVERSIONS[name]
    agree.functions(
        name,
        result,
        lambda c: getattr(reference, name)(c.schedule, c.xt, c.t, c.data[given]),
        data=("xt", given),
        roundings=roundings,
        step=False,
    )


def test_score_eps_relation(agree):
    agree.functions(
        "score_eps_relation",
        "score",
        lambda c: reference.score_from_eps(c.schedule, 0.0, c.t, c.eps),
        data=("eps",),
        roundings=SCALED,
        step=False,
    )


def test_v_target(agree):
    agree.functions(
        "v_target",
        "v",
        lambda c: reference.v_target(c.schedule, c.x0, c.t, c.eps),
        data=("x0", "eps"),
        roundings=AFFINE,
        step=False,
    )


def test_a_wrong_reference_disagrees(agree):
    with pytest.raises(AssertionError, match="eps_from_v"):
        agree.functions(
            "eps_from_v",
            "eps",
            lambda c: reference.x0_from_v(c.schedule, c.xt, c.t, c.v),
            data=("xt", "v"),
            roundings=AFFINE,
            step=False,
        )


@pytest.mark.parametrize("t", [1, 2, 3])
def test_the_score_of_a_mixture_is_the_mean_noise(t):
    """Data in three points: the derivative of the log density, by finite differences, against the derived relation."""
    with mpmath.workdps(60):
        levels = SCHEDULE.letters(t)
        signal, variance = mpmath.sqrt(mpmath.mpf(levels["alpha_bar_t"].p) / int(levels["alpha_bar_t"].q)), None
        variance = 1 - signal**2
        points = (
            (mpmath.mpf("0.25"), mpmath.mpf(1)),
            (mpmath.mpf("0.25"), mpmath.mpf(0)),
            (mpmath.mpf("0.5"), mpmath.mpf(-2)),
        )

        def masses(x):
            return [w * mpmath.exp(-((x - signal * p) ** 2) / (2 * variance)) for w, p in points]

        at = mpmath.mpf("0.375")
        mean = sum(m * p for m, (_, p) in zip(masses(at), points, strict=True)) / sum(masses(at))
        noise = Fraction(mpmath.nstr((at - signal * mean) / mpmath.sqrt(variance), 50))
        relation = derive("score_eps_relation").at(SCHEDULE, t, eps=noise)["score"]
        # Differences at 60 digits: mpmath chooses a step that keeps half of them.
        assert abs(mpmath.diff(lambda x: mpmath.log(sum(masses(x))), at) - relation) < mpmath.mpf(10) ** -25


# --- where nothing is answered ----------------------------------------------------------------------------------------

DATA = {"xt": 1, "x0": 1, "eps": 1, "v": 1, "score": 1}


@pytest.mark.parametrize("name", ["eps_from_x0", "v_from_x0", "score_eps_relation", "score_from_x0"])
def test_no_noise_at_level_0(name):
    with pytest.raises(LevelError, match=r"at t = 0 there is no noise to speak of .* \(asked at t = 0\)"):
        derive(name).at(SCHEDULE, 0, **DATA)


@pytest.mark.parametrize("name", ["x0_from_eps", "v_from_eps", "x0_from_score"])
def test_no_signal_at_zero_terminal_snr(name):
    with pytest.raises(LevelError, match=r"nothing of the data is left .* \(asked at t = 2\)"):
        derive(name).at(ZERO_SNR, 2, **DATA)


def test_v_is_defined_at_both_ends():
    for schedule, t, x0_, eps_ in ((SCHEDULE, 0, 3, -5), (ZERO_SNR, 2, -5, 3)):
        data = {"xt": 3, "v": -5} if t == 0 else {"xt": 3, "v": 5}
        assert derive("x0_from_v").at(schedule, t, **data)["x0"] == x0_
        assert derive("eps_from_v").at(schedule, t, **data)["eps"] == eps_
    assert derive("x0_from_eps").at(SCHEDULE, 0, xt=3, eps=7)["x0"] == 3
    assert derive("eps_from_score").at(SCHEDULE, 0, score=7)["eps"] == 0


# --- steps that do not follow -----------------------------------------------------------------------------------------


def test_a_wrong_step_is_not_written():
    x0_from_eps = derive("x0_from_eps").results["x0"]
    wrong = {
        "E05, noise of the step": (x0_from_eps.subs(beta_bar_t, alpha_bar_t * beta_bar_t), x0_from_eps),
        "variance for standard deviation": (MIXTURE, alpha_bar_t * x0 + beta_bar_t * eps),
        "sign of v": (VELOCITY, -VELOCITY),
        "sign of the score": (derive("score_eps_relation").results["score"], eps / beta_bar_t ** Fraction(1, 2)),
    }
    for says, (left, right) in wrong.items():
        with pytest.raises(ProofError, match="it is false"):
            Proof("wrong").equal(says, left, right)
    Proof("right").equal("v", VELOCITY, VELOCITY)
