"""Schedules: the tables of the reference against what has been derived of them."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from functools import cache

import mpmath
import numpy as np
import pytest
import sympy as sp

from ddpm_ref.errors import LevelError, ProofError, RangeError, ScheduleError
from ddpm_ref.reference.forward import q_sample
from ddpm_ref.reference.named_schedules import cosine_schedule, linear_schedule
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.symbolic import ExactSchedule, derive, schedule
from ddpm_ref.symbolic.derivation import DIGITS, derives

HALVES = ExactSchedule([Fraction(1, 2), Fraction(1, 4), 1])
RESCALE = 1000  # what `scale_ends` divides by T


def small(draw):
    """A beta with room above it: dyadic, from 2^-8 to 1/2."""
    return draw.randint(2**8, 2**15) / 2**16


def linear_arguments(draw):
    T = draw.randint(2, 12)
    return {"T": T, "t": draw.randint(1, T), "beta_1": small(draw), "beta_T": small(draw)}


def cosine_arguments(draw, shortest=1):
    """One of 240 schedules, each with its own clip; making one takes longer than all else here."""
    T, number = draw.randint(shortest, 12), draw.randint(0, 19)
    clip = (3 * 2**8 + 12 * number + T) / 2**10
    return {"T": T, "t": draw.randint(1, T), "offset": number**2 / 2**12, "max_beta": clip}


def linear(c, **options):
    return linear_schedule(c["T"], c["beta_1"], c["beta_T"], **options)


@cache
def _cosine(T, offset, max_beta):
    return cosine_schedule(T, offset, max_beta)


def cosine(c):
    return _cosine(c["T"], c["offset"], c["max_beta"])


def test_order_and_count():
    assert [made.__name__ for made in schedule.DERIVATIONS] == [
        "beta_schedule",
        "linear_beta_schedule",
        "cosine_alpha_bar_schedule",
        "alpha_and_alpha_bar",
        "alpha_bar_prev",
        "one_minus_alpha_bar",
        "alpha_bar_terminal_bound",
        "snr",
        "schedule_tables",
        "extract_coefficients",
    ]
    assert {made().subject for made in schedule.DERIVATIONS} == {"schedule"}


# --- betas by a formula -----------------------------------------------------------------------------------------------


def test_beta_schedule(agree):
    agree.tables("beta_schedule", "alpha", lambda c: c.schedule.alpha[c.t], adjacent=True)
    agree.tables("beta_schedule", "signal", lambda c: c.schedule.between(c.t, c.s).sqrt_alpha)
    agree.tables("beta_schedule", "beta", lambda c: c.schedule.between(c.t, c.s).beta)

    def two_levels(draw):
        low, high = sorted(draw.sample(range(1, 2**16), 2))
        return {"alpha_bar_t": low / 2**16, "alpha_bar_s": high / 2**16}

    agree.arguments(
        "beta_schedule",
        "beta",
        two_levels,
        lambda c: NoiseSchedule.from_alpha_bars([c["alpha_bar_s"], c["alpha_bar_t"]]).beta[2],
    )


def test_linear_beta_schedule(agree):
    agree.arguments("linear_beta_schedule", "beta", linear_arguments, lambda c: linear(c).beta[c["t"]])
    # Every beta is rounded once and `math.fsum` rounds once: k = 2, and S is the sum itself.
    agree.arguments("linear_beta_schedule", "sum", linear_arguments, lambda c: math.fsum(linear(c).beta), roundings=2)

    def small_ends(draw):
        c = linear_arguments(draw)
        return c | {end: c[end] * 2**-8 for end in ("beta_1", "beta_T")}

    agree.arguments(
        "linear_beta_schedule",
        "sum_of_scaled",
        small_ends,
        lambda c: math.fsum(linear(c, scale_ends=True).beta),
        roundings=2,
    )
    assert derive("linear_beta_schedule").value("sum_of_scaled", beta_1=1, beta_T=1, T=7, t=1) == RESCALE


def test_cosine_alpha_bar_schedule(agree):
    name = "cosine_alpha_bar_schedule"
    agree.arguments(name, "beta", cosine_arguments, lambda c: cosine(c).beta[c["t"]])
    agree.arguments(
        name,
        "before_last",
        lambda draw: cosine_arguments(draw, shortest=2),
        lambda c: cosine(c).beta[c["T"] - 1],
    )
    # Before the clip the product of the alphas is f(t) / f(0).
    for T in (2, 5, 9):
        betas = [derive(name).value("beta", T=T, t=t, offset=0.008, max_beta=0.999) for t in range(1, T)]
        with mpmath.workdps(DIGITS):
            product = mpmath.fprod(1 - beta for beta in betas)
            # Sixty digits, a few of which are lost in 1 - f(t) / f(t-1).
            assert (
                abs(derive(name).value("alpha_bar", T=T, t=T - 1, offset=0.008) / product - 1) < mpmath.mpf(10) ** -50
            )


@pytest.mark.parametrize("T", [2, 10, 50, 1000])
def test_only_the_last_cosine_beta_is_clipped(T):
    betas = cosine_schedule(T).beta[1:]
    limit = float(derive("cosine_alpha_bar_schedule").value("limit"))
    assert betas[-1] == 0.999
    assert (betas[:-1] < limit).all()
    assert (np.diff(betas) > 0).all()


# --- what follows from any betas --------------------------------------------------------------------------------------


def test_alpha_and_alpha_bar(agree):
    agree.tables("alpha_and_alpha_bar", "alpha", lambda c: c.schedule.between(c.t, c.s).alpha)
    agree.tables("alpha_and_alpha_bar", "alpha_bar", lambda c: c.schedule.alpha_bar[c.t])
    agree.tables("alpha_and_alpha_bar", "log_alpha_bar", lambda c: c.schedule.log_alpha_bar[c.t], ulps=1, step=False)


def test_alpha_bar_prev(agree):
    agree.tables("alpha_bar_prev", "prev", lambda c: c.schedule.alpha_bar_prev[c.s])
    agree.tables("alpha_bar_prev", "beta", lambda c: c.schedule.beta[c.t], adjacent=True)


def test_one_minus_alpha_bar(agree):
    agree.tables("one_minus_alpha_bar", "beta_bar", lambda c: c.schedule.beta_bar[c.t])
    agree.tables("one_minus_alpha_bar", "log_beta_bar", lambda c: c.schedule.log_beta_bar[c.t], ulps=1, step=False)
    agree.tables("one_minus_alpha_bar", "amplification", lambda c: c.schedule.snr[c.t], step=False)
    for case in agree.cases():
        levels = case.exact.letters(case.t)
        assert 0 < derive("one_minus_alpha_bar").value("stable_amplification", **levels) <= 1


def test_alpha_bar_terminal_bound(agree):
    derived, count = derive("alpha_bar_terminal_bound"), 0

    def excess(c):
        """Of the second-order estimate over the truth, in two words."""
        high, low = (words[-1] for words in linear(c).log_alpha_bar_words)
        with mpmath.workdps(DIGITS):
            true = mpmath.mpf(float(high)) + mpmath.mpf(float(low))
            assert true < derived.value("bound", **c)
            return derived.value("second_order", **c) - true

    draw = random.Random(0)
    for _ in range(200):
        c = linear_arguments(draw)
        least = derived.value("excess_at_least", **c)
        # Betas rounded once change the logarithm by far less than the cube of the smallest of them, 2^-24.
        assert least < excess(c) < least / (1 - max(c["beta_1"], c["beta_T"]))
        count += 1
    assert count == 200
    lin1000 = {"T": 1000, "beta_1": 1e-4, "beta_T": 0.02}
    assert f"{float(derived.value('bound', **lin1000)):.2f}" == "-10.05"
    assert f"{float(derived.value('second_order', **lin1000)):.8f}" == "-10.11703470"


def test_snr(agree):
    agree.tables("snr", "snr", lambda c: c.schedule.snr[c.t], step=False)
    agree.tables("snr", "log_snr", lambda c: c.schedule.log_snr[c.t], ulps=1, step=False)
    agree.tables("snr", "relative_deviation", lambda c: c.schedule.sqrt_recipm1_alpha_bar[c.t], step=False)


@pytest.mark.parametrize("name", ["sqrt_alpha_bar", "sqrt_beta_bar", "sqrt_recip_alpha_bar", "sqrt_recipm1_alpha_bar"])
def test_schedule_tables_of_a_level(agree, name):
    agree.tables("schedule_tables", name, lambda c: getattr(c.schedule, name)[c.t])


@pytest.mark.parametrize("name", ["recip_sqrt_alpha", "eps_weight"])
def test_schedule_tables_of_a_step(agree, name):
    agree.tables("schedule_tables", name, lambda c: getattr(c.schedule.between(c.t, c.s), name))
    agree.tables("schedule_tables", name, lambda c: getattr(c.schedule, name)[c.t], adjacent=True)


def test_schedule_tables_logarithm(agree):
    agree.tables("schedule_tables", "log_beta_bar", lambda c: c.schedule.log_beta_bar[c.t], ulps=1)


def test_extract_coefficients(agree):
    schedules = [NoiseSchedule.from_betas([small(draw) for _ in range(3)]) for draw in map(random.Random, range(50))]

    def table_and_index(draw):
        number = draw.randrange(len(schedules))
        entries = schedules[number].sqrt_alpha_bar.tolist()
        return {"number": number, "index": draw.randint(0, 3)} | {f"entry_{n}": each for n, each in enumerate(entries)}

    def looked_up(c):
        """Data of ones without noise become the coefficients themselves, one per example of the batch."""
        levels, ones = [c["index"], 3 - c["index"], c["index"], 0], np.ones((4, 2, 1))
        noised = q_sample(schedules[c["number"]], ones, levels, 0 * ones)
        assert (noised == noised[:, :1]).all()
        assert (noised[0] == noised[2]).all()
        assert (noised[3] == 1).all()
        return noised[0, 1, 0]

    agree.arguments("extract_coefficients", "entry", table_and_index, looked_up)


# --- where nothing is defined -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["one_minus_alpha_bar", "snr", "schedule_tables"])
def test_level_0_has_no_noise(name):
    with pytest.raises(LevelError, match="t >= 1"):
        derive(name).at(HALVES, 0)


@pytest.mark.parametrize("name", ["alpha_and_alpha_bar", "one_minus_alpha_bar", "snr", "schedule_tables"])
def test_nothing_is_left_at_zero_terminal_snr(name):
    with pytest.raises(LevelError, match="alpha_bar is 0"):
        derive(name).at(HALVES, 3, 2)


@pytest.mark.parametrize(
    ("name", "result", "letters", "says"),
    [
        ("beta_schedule", "alpha", {"beta": 0}, "beta > 0"),
        ("beta_schedule", "alpha", {"beta": 1.5}, "beta <= 1"),
        ("linear_beta_schedule", "sum", {"T": 1, "beta_1": 0.1, "beta_T": 0.1}, "T = 1"),
        ("linear_beta_schedule", "beta", {"T": 3, "t": 4, "beta_1": 0.1, "beta_T": 0.1}, "above T"),
        ("linear_beta_schedule", "beta", {"T": 3, "t": 0, "beta_1": 0.1, "beta_T": 0.1}, "t = 1"),
        ("cosine_alpha_bar_schedule", "beta", {"T": 3, "t": 0, "offset": 0, "max_beta": 0.9}, "t = 1"),
        ("cosine_alpha_bar_schedule", "beta", {"T": 3, "t": 4, "offset": 0, "max_beta": 0.9}, "above T"),
        ("cosine_alpha_bar_schedule", "beta", {"T": 3, "t": 1, "offset": -0.25, "max_beta": 0.9}, "s >= 0"),
        ("alpha_bar_prev", "beta", {"alpha_bar_s": 0, "alpha_bar_t": 0}, "keep a share"),
        ("alpha_bar_terminal_bound", "bound", {"T": 1, "beta_1": 0.1, "beta_T": 0.1}, "T >= 2"),
        ("extract_coefficients", "entry", {"index": -1} | {f"entry_{n}": n for n in range(4)}, "below 0"),
        ("extract_coefficients", "entry", {"index": 4} | {f"entry_{n}": n for n in range(4)}, "0 to 3"),
    ],
)
def test_forbidden_points(name, result, letters, says):
    with pytest.raises(RangeError, match=says):
        derive(name).value(result, **letters)


def test_betas_out_of_range():
    with pytest.raises(ScheduleError):
        ExactSchedule([Fraction(1, 2), Fraction(5, 4)])
    assert derive("beta_schedule").value("alpha", beta=1) == 0


# --- the tests of the tests -------------------------------------------------------------------------------------------


def test_a_bound_taken_for_the_value_is_not_proved():
    b = sp.Symbol("b", positive=True)

    @derives(r"\log(1-b) = -b", source="E08")
    def wrong(proof):
        proof.equal("Logarithms are linear.", sp.log(1 - b), -b)
        proof.conclude(log=-b)

    with pytest.raises(ProofError, match="it is false"):
        wrong()


def test_a_wrong_reference_disagrees(agree):
    with pytest.raises(AssertionError, match="linear_beta_schedule"):
        agree.arguments("linear_beta_schedule", "beta", linear_arguments, lambda c: c["beta_1"])
    with pytest.raises(AssertionError, match="linear_beta_schedule"):
        agree.arguments(
            "linear_beta_schedule", "sum", linear_arguments, lambda c: sum(linear(c).beta[:-1]), roundings=2
        )
    with pytest.raises(AssertionError, match="log_snr"):
        agree.tables("snr", "log_snr", lambda c: c.schedule.log_snr[c.t] * (1 + 2.0**-50), ulps=1, step=False)
