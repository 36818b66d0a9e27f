"""The conversion that every proof stands on, against fractions: exact, directed nowhere, ties to even."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from fractions import Fraction

import pytest
from flint import arb, ctx

from ddpm_ref.certificate import rounding

TINY, LARGEST = 5e-324, math.nextafter(math.inf, 0.0)


def fraction(number: tuple[int, int]) -> Fraction:
    """A dyadic number as a fraction."""
    mantissa, exponent = number
    return Fraction(mantissa) * Fraction(2) ** exponent


def by_fractions(value: Fraction) -> float:
    """The nearest float64, by comparing distances to neighbours; ties to the even one."""
    sign, value = (-1.0 if value < 0 else 1.0), abs(value)
    if value >= Fraction(2) ** 1024 - Fraction(2) ** 970:
        return sign * math.inf
    unit = max(value.numerator.bit_length() - value.denominator.bit_length() - 54, -1074)
    while value >= Fraction(2) ** (unit + 53):
        unit += 1
    below = math.ldexp(math.floor(value / Fraction(2) ** unit), unit)
    above = math.nextafter(below, math.inf)
    down, up = value - Fraction(below), (Fraction(2) ** 1024 if above == math.inf else Fraction(above)) - value
    even = math.floor(value / Fraction(2) ** unit) % 2 == 0
    got = below if down < up or (down == up and even) else above
    return sign * got if got else 0.0


def numbers() -> Iterator[tuple[int, int]]:
    """Random dyadic numbers of every size, with their last bits near float64 boundaries, and the corners."""
    draw = random.Random(0)
    for _ in range(400):
        x = math.ldexp(draw.getrandbits(draw.choice((1, 20, 53))) + 1, draw.randint(-1074, 900))
        halves, trifle = draw.choice((0, 1, 1, 2)), draw.choice((0, 0, 1, -1))
        near = int((Fraction(x) + halves * Fraction(math.ulp(x)) / 2) * 2**2000) + trifle
        yield draw.choice((1, -1)) * near, -2000
    yield from ((1, -1075), (3, -1075), (1, -1076), (5, -1076), (-1, -1075), (2**54 - 1, 970), (2**54 - 2, 970), (0, 0))
    yield from ((2**54 - 1, -54), (2**54 - 1, -1075), (1, 1023), (1, 1024), (7, -5000), (1, 5000))


def test_nearest_agrees_with_fractions() -> None:
    checked = 0
    for number in numbers():
        got = rounding.nearest(number)
        assert got.hex() == by_fractions(fraction(number)).hex(), number
        checked += 1
    assert checked > 400


def test_every_float_is_its_own_nearest() -> None:
    for x in (0.0, TINY, 2.0**-1022, 0.1, 1.0, -2.5, LARGEST, -TINY):
        ball = rounding.exactly(x)
        assert ball.is_exact()
        assert rounding.decided(ball) == x


def test_ends_are_exact() -> None:
    """By Arb's own test of membership: the ends are inside, and what lies 2**-300 beyond is not."""
    with ctx.workprec(200):
        ball = arb(2).sqrt() / 3
    (low, exponent), (high, same) = rounding.ends(ball)
    assert exponent == same
    beyond = 300 + exponent
    assert ball.contains(arb((low, exponent)))
    assert ball.contains(arb((high, exponent)))
    assert not ball.contains(arb(((low << beyond) - 1, exponent - beyond)))
    assert not ball.contains(arb(((high << beyond) + 1, exponent - beyond)))
    assert 0 < fraction((high - low, exponent)) < Fraction(1, 2**190)


@pytest.mark.parametrize(
    ("middle", "radius", "value"),
    [
        ((1, 0), (2**20 - 1, -74), 1.0),  # nearly down to the tie below
        ((1, 0), (3, -55), None),  # beyond the tie below, 1 - 2**-54
        ((2**54 - 1, -54), (0, 0), 1.0),  # a tie itself
        ((2**54 - 1, -54), (1, -900), None),  # nearly a tie
        ((0, 0), (2**20 - 1, -1095), 0.0),
        ((0, 0), (1, -1074), None),
        ((1, -1075), (0, 0), 0.0),
        ((1, -1075), (1, -2000), None),
        ((2**54 - 1, 970), (0, 0), math.inf),  # the tie beyond the largest float64
        ((2**54 - 1, 970), (1, 100), None),
        ((1, 3000), (1, 0), math.inf),
    ],
)
def test_a_ball_is_decided_only_if_all_of_it_rounds_alike(
    middle: tuple[int, int], radius: tuple[int, int], value: float | None
) -> None:
    assert rounding.decided(arb(arb(middle), arb(radius))) == value


def test_what_is_not_finite() -> None:
    assert rounding.decided(arb.pos_inf()) == math.inf
    assert rounding.decided(arb.neg_inf()) == -math.inf
    assert rounding.decided(arb.nan()) is None
    assert rounding.decided(arb(1) / arb(0, 1)) is None
    assert rounding.within_one_ulp(-math.inf, arb.neg_inf()) is True
    assert rounding.within_one_ulp(0.0, arb.neg_inf()) is False
    assert rounding.within_one_ulp(0.0, arb.nan()) is None
    assert rounding.within_one_ulp(math.nan, arb(1)) is False
    assert rounding.within_one_ulp(math.inf, arb(1)) is False


@pytest.mark.parametrize(
    ("x", "exact", "verdict"),
    [
        (1.0, (1, 0), True),
        (math.nextafter(1.0, 0), (1, 0), True),  # half a unit of 1's own binade below it
        (math.nextafter(1.0, 2), (1, 0), False),  # a whole one above
        (math.nextafter(1.0, 2), (2**60 + 1, -60), True),
        (1.0, (2**54 - 1, -54), True),
        (1.0, (2**54 - 3, -54), False),  # below 1 the unit is 2**-53
        (0.0, (0, 0), True),
        (TINY, (0, 0), False),
        (0.0, (-1, -1075), True),
        (0.0, (-1, -1074), False),
        (-TINY, (-(2**60) - 1, -1134), True),
        (2.0, (-2, 0), False),
    ],
)
def test_one_ulp_is_that_of_the_number_not_of_the_float(x: float, exact: tuple[int, int], verdict: bool) -> None:
    assert rounding.within_one_ulp(x, arb(exact)) is verdict


def test_a_ball_too_wide_for_one_ulp_says_nothing() -> None:
    assert rounding.within_one_ulp(1.0, arb(1, 1e-15)) is None
    assert rounding.within_one_ulp(1.0, arb(1, 1e-17)) is True
    assert rounding.within_one_ulp(2.0, arb(1, 1e-15)) is False
    assert rounding.within_one_ulp(0.0, arb(0, 1e-300)) is None


def test_the_working_precision_does_not_touch_the_conversion() -> None:
    number = (2**300 + 1, -300)
    for bits in (2, 53, 4096):
        with ctx.workprec(bits):
            assert rounding.ends(arb(number)) == (number, number)
            assert rounding.exactly(0.1).man_exp() == (3602879701896397, -55)
