"""What is proved is true, what is false is refuted, what is undecided is said to be."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ddpm_ref import schedule_config
from ddpm_ref.certificate import certify, rounding, tables
from ddpm_ref.errors import LevelError, RangeError, ScheduleError
from ddpm_ref.reference.schedule import Entry, NoiseSchedule, Transition
from ddpm_ref.schedule_config import ScheduleConfig

LEVELS, PAIRS, LOGARITHMS = len(tables.LEVELS), len(tables.PAIRS), len(tables.LOGARITHMS)


def entries(T: int, *, named: bool, steps: int = 0) -> int:
    """How many entries a certificate must have."""
    return (LEVELS + LOGARITHMS) * (T + 1) + PAIRS * (T + steps) + T * named


def test_every_table_of_a_schedule_is_on_trial() -> None:
    def declared(of: type) -> set[str]:
        return {name for name, value in vars(of).items() if isinstance(value, Entry)}

    assert set(tables.LEVELS) | set(tables.LOGARITHMS) == declared(NoiseSchedule) | {"beta"} == set(tables.LEVEL_0)
    assert set(tables.PAIRS) == declared(Transition)


GIVEN = {
    "unordered": 10 ** np.random.default_rng(6).uniform(-8, -0.01, 60),
    "1e-300": [1e-300] * 5,
    "far apart": [1e-300, 0.5, 1e-300, 0.999],
    "subnormal": [1e-323] * 4,  # snr is infinite, posterior variances are subnormal
    "the smallest subnormal": [5e-324, 0.5],
    "just above the smallest normal": [float.fromhex("0x1.0a440c6cbb431p-1022")] * 3,
    "near underflow": [0.9] * 306,
    "halves": [0.5] * 60,
    "beta_1 = 1": [1.0],
    "zero terminal SNR": np.append(np.linspace(1e-4, 0.2, 20), 1.0),
    "exactly SNR = 1": [0.5, 0.25, 1 / 3],
    "crossing SNR = 1 closely": [0.5 - 2**-40, 2.0**-39, 2.0**-39, 1e-9, 0.3],
    "a tie": [2.0**-54],
    "ties": [2.0**-54 * 3, 0.5],
    "more ties": [0.5, 2.0**-53, 2.0**-27, 2.0**-27, 2.0**-10, 0.25],
    "beside a tie": [2.0**-54, 2.0**-110],
}


@pytest.mark.parametrize("name", GIVEN)
def test_given_betas(name: str) -> None:
    certificate = certify(NoiseSchedule.from_betas(np.array(GIVEN[name])))
    assert certificate.verdict == "proved", certificate.refutations
    assert certificate.count("proved") == entries(len(GIVEN[name]), named=False)


NAMED = {
    "linear": ScheduleConfig("linear", T=100),
    "cosine": ScheduleConfig("cosine", T=150),
    "cosine, clipped early": ScheduleConfig("cosine", T=100, s=0, max_beta=0.1),
    "cosine, exactly at the clip": ScheduleConfig("cosine", T=2, s=0, max_beta=0.5),
    "one level": ScheduleConfig("linear", T=1),
    "one level, cosine": ScheduleConfig("cosine", T=1),
    "two levels": ScheduleConfig("cosine", T=2),
    "beta_T = 1": ScheduleConfig("linear", T=100, beta_T=1),
    "scaled ends": ScheduleConfig("linear", T=70, scale_ends=True),
    "scaled linear": ScheduleConfig("scaled_linear", T=100),
    "sigmoid": ScheduleConfig("sigmoid", T=101),
    "halfway between the ends, a tie": ScheduleConfig("sigmoid", T=3, beta_1=0.5, beta_T=0.5 + 2**-53, limit=0),
    "sigmoid alpha_bar": ScheduleConfig("sigmoid_alpha_bar", T=100, tau=0.5),
    "constant": ScheduleConfig("constant", T=50),
    "zero terminal SNR, linear": ScheduleConfig("linear", T=100, zero_terminal_snr=True),
    "zero terminal SNR, scaled linear": ScheduleConfig("scaled_linear", T=100, zero_terminal_snr=True),
    "zero terminal SNR, two levels": ScheduleConfig("cosine", T=2, zero_terminal_snr=True),
}


@pytest.mark.parametrize("name", NAMED)
def test_named_schedules_and_their_betas(name: str) -> None:
    config = NAMED[name]
    certificate = certify(config)
    assert certificate.verdict == "proved", certificate.refutations
    assert certificate.count("proved") == entries(config.T, named=True)
    assert certificate.tables[0].name == "beta of the formula"


def test_every_kind_has_a_case() -> None:
    assert {config.kind for config in NAMED.values()} == set(schedule_config._CONSTRUCTORS)


@pytest.mark.full
@pytest.mark.parametrize("kind", schedule_config._CONSTRUCTORS)
def test_t_4000(kind: str) -> None:
    # The default ends of some kinds sink below float64 at this length.
    config = ScheduleConfig(kind, T=4000, **({"beta_1": 0.01} if kind == "constant" else {}))
    certificate = certify(config, config.build().trajectory(50).levels)
    assert certificate.count("proved") == certificate.count("entries") == entries(4000, named=True, steps=50)


@pytest.mark.full
def test_t_100000() -> None:
    certificate = certify(ScheduleConfig("linear", T=100_000, scale_ends=True))
    assert certificate.count("proved") == entries(100_000, named=True)


@pytest.mark.parametrize("spacing", ["even", "trailing", "leading"])
def test_the_steps_of_a_trajectory(spacing: str) -> None:
    config = ScheduleConfig("cosine", T=200)
    certificate = certify(config, config.build().trajectory(13, spacing).levels)
    assert certificate.verdict == "proved"
    assert certificate.count("proved") == entries(200, named=True, steps=13)


# An injected error of one unit must be refuted, in every table, and named.


def moved(value: float, ulps: int) -> float:
    """A float64 moved away from zero, or zero moved off itself."""
    for _ in range(ulps):
        value = math.nextafter(value, math.copysign(math.inf, value))
    return value


def with_moved_entry(name: str, t: int, ulps: int) -> NoiseSchedule:
    """A schedule with one entry of one table moved."""
    schedule = NoiseSchedule.from_betas([0.1, 0.3, 0.2])
    table = getattr(schedule, name).copy()
    table[t] = 1e300 if math.isinf(table[t]) else moved(float(table[t]), ulps)
    schedule.__dict__[name] = table
    return schedule


@pytest.mark.parametrize("name", sorted((tables.LEVELS | tables.LOGARITHMS).keys() - {"beta"}))
@pytest.mark.parametrize("t", [0, 1, 3])
def test_a_moved_entry_is_refuted(name: str, t: int) -> None:
    schedule = with_moved_entry(name, t, 2 if name in tables.LOGARITHMS else 1)
    certificate = certify(schedule)
    assert certificate.verdict == "refuted"
    (found,) = certificate.refutations
    assert (found.table, found.t) == (name, t)
    assert found.got == float(getattr(schedule, name)[t]).hex() != found.proved
    if name not in tables.LOGARITHMS:
        right = getattr(NoiseSchedule.from_betas([0.1, 0.3, 0.2]), name)[t]
        assert found.proved == float(right).hex()


@pytest.mark.parametrize("name", tables.PAIRS)
@pytest.mark.parametrize("levels", [(), (3, 1, 0)])
def test_a_moved_entry_of_a_pair_is_refuted(name: str, levels: tuple[int, ...], monkeypatch: Any) -> None:
    original: Callable[..., Transition] = NoiseSchedule.between

    def between(self: NoiseSchedule, t: Any, s: Any) -> Transition:
        step = original(self, t, s)
        if (len(step.t) == 2) == bool(levels):  # the trajectory has two steps, the adjacent pairs are three
            table = getattr(step, name).copy()
            table[1] = moved(float(table[1]), 1)
            step.__dict__[name] = table
        return step

    monkeypatch.setattr(NoiseSchedule, "between", between)
    certificate = certify(NoiseSchedule.from_betas([0.1, 0.3, 0.2]), levels)
    (found,) = certificate.refutations
    expected = (f"trajectory.{name}", 1, 0) if levels else (f"between(t, t-1).{name}", 2, 1)
    assert (found.table, found.t, found.s) == expected


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("kind", schedule_config._CONSTRUCTORS)
def test_a_moved_beta_is_not_that_of_the_formula(kind: str, zero_terminal_snr: bool, monkeypatch: Any) -> None:
    config = ScheduleConfig(kind, T=5, zero_terminal_snr=zero_terminal_snr)
    betas = config.build().beta[1:].copy()
    right, betas[2] = betas[2], moved(float(betas[2]), 1)
    monkeypatch.setattr(ScheduleConfig, "build", lambda self: NoiseSchedule.from_betas(betas))
    (found,) = certify(config).refutations
    assert (found.table, found.t) == ("beta of the formula", 3)
    assert (found.got, found.proved) == (float(betas[2]).hex(), float(right).hex())


def test_the_usual_product_is_refuted_almost_everywhere() -> None:
    schedule = ScheduleConfig("linear", T=100).build()
    schedule.__dict__["alpha_bar"] = np.append(1.0, np.cumprod(1 - schedule.beta[1:]))
    by_name = {table.name: table for table in certify(schedule).tables}
    wrong = int(np.sum(schedule.alpha_bar != ScheduleConfig("linear", T=100).build().alpha_bar))
    assert by_name["alpha_bar"].refuted == wrong > 50
    assert by_name["beta_bar"].refuted == 0


def test_planted_half_up_rounding_is_refuted_at_ties(monkeypatch: Any) -> None:
    """Ties do occur in these cases and are decided: a judge that rounds them up disagrees with the tables."""

    def half_up(number: tuple[int, int]) -> float:
        mantissa, exponent = number
        return original((mantissa * 2**2000 + (1 if mantissa > 0 else -1), exponent - 2000)) if mantissa else 0.0

    original = rounding.nearest
    monkeypatch.setattr(rounding, "nearest", half_up)
    assert certify(NoiseSchedule.from_betas(GIVEN["ties"])).count("refuted") > 0
    assert certify(NoiseSchedule.from_betas([0.5, 0.5])).verdict == "proved"
    tie = NAMED["halfway between the ends, a tie"]
    assert any(found.table == "beta of the formula" for found in certify(tie).refutations)


# Too few bits prove nothing false, and say so.


def test_too_low_a_precision_leaves_entries_unproved() -> None:
    config = ScheduleConfig("linear", T=10)
    poor, rich = certify(config, max_bits=50), certify(config)
    assert poor.verdict == "unproved"
    assert poor.count("refuted") == 0
    assert poor.count("unproved") > 100
    assert poor.count("unproved") + poor.count("proved") == poor.count("entries") == rich.count("proved")
    assert all(table.bits <= 50 for table in poor.tables)


def test_tiny_betas_need_more_bits_than_the_first_try() -> None:
    schedule = NoiseSchedule.from_betas([1e-300] * 3)
    assert certify(schedule, max_bits=1000).verdict == "unproved"
    certificate = certify(schedule)
    assert certificate.verdict == "proved"
    assert max(table.bits for table in certificate.tables) == 2048


def test_a_zero_terminal_schedule_whose_first_betas_are_undecided_is_unproved() -> None:
    certificate = certify(ScheduleConfig("cosine", T=5, zero_terminal_snr=True), max_bits=20)
    assert (certificate.tables[0].proved, certificate.tables[0].unproved) == (0, 5)


@pytest.mark.parametrize("max_bits", [1, 0, -5, True])
def test_the_greatest_precision_must_be_one(max_bits: int) -> None:
    with pytest.raises(RangeError, match="whole number of bits"):
        certify(ScheduleConfig("linear", T=2), max_bits=max_bits)


def test_wrong_trajectories_and_schedules_are_named() -> None:
    with pytest.raises(ScheduleError, match="strictly descending"):
        certify(ScheduleConfig("linear", T=5), (3, 4, 0))
    with pytest.raises(LevelError, match="T = 5"):
        certify(ScheduleConfig("linear", T=5), (6, 0))
    with pytest.raises(ScheduleError, match="alpha_bar underflows"):
        certify(ScheduleConfig("constant", T=1000, beta_1=0.9))
