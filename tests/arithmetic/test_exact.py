"""Integers rounded once: against fractions and mpmath, at ties, below the normal range, and where nothing can be decided."""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest

from ddpm_ref.arithmetic import Undecided, nearest, ratio, sqrt_ratio
from ddpm_ref.arithmetic.exact import quotient, words

LARGEST = 2**1024 - 2**971


def two_power(exponent):
    return Fraction(2) ** exponent


def is_nearest(got, value):
    """No other float64 is nearer to ``value``, and in a tie the even one was chosen."""
    if got == math.inf:
        return value >= Fraction(LARGEST) + two_power(970)
    error = abs(Fraction(got) - value)
    for other in (np.nextafter(got, -np.inf), np.nextafter(got, np.inf)):
        if np.isfinite(other):
            rival = abs(Fraction(float(other)) - value)
            even = int(np.float64(got).view(np.int64)) % 2 == 0
            if rival < error or (rival == error and not even):
                return False
    return True


def integers(rng, bits, n):
    return [int.from_bytes(rng.bytes(64), "little") % (1 << int(rng.integers(2, bits))) + 1 for _ in range(n)]


def test_nearest_of_exact_integers_ties_and_subnormals():
    rng = np.random.default_rng(0)
    for mantissa in integers(rng, 200, 800):
        for exponent in (-1300, -1200, -1110, -1074, -1000, -60, 0, 300):
            assert is_nearest(nearest(mantissa, exponent), Fraction(mantissa) * two_power(exponent))
    for tie in (2**54 + 1, 2**54 + 3, (2**53 - 1) * 2 + 1):
        assert is_nearest(nearest(tie, -54), Fraction(tie, 2**54))
        assert is_nearest(nearest(tie, -54 - 1074), Fraction(tie) * two_power(-54 - 1074))
    assert (nearest(1, -1075), nearest(3, -1075), nearest(2**80 + 1, -80 - 1075)) == (0.0, 1e-323, 5e-324)


def test_nearest_answers_only_if_the_whole_enclosure_rounds_to_one_number():
    rng = np.random.default_rng(1)
    decided = refused = 0
    for mantissa in integers(rng, 90, 3000):
        for exponent in (-40, -1100, -1130):
            slack = int(rng.integers(0, 2**20)) % mantissa
            ends = [float(nearest(mantissa + end, exponent)) for end in (-slack, slack)]
            if ends[0] == ends[1]:
                assert nearest(mantissa, exponent, slack) == ends[0]
                decided += 1
            else:
                with pytest.raises(Undecided):
                    nearest(mantissa, exponent, slack)
                refused += 1
    assert decided > 500
    assert refused > 500


def test_nearest_is_undecided_at_a_tie_however_small_the_slack():
    with pytest.raises(Undecided, match="boundary"):
        nearest((2**53 + 1) << 100, -153, slack=1)
    with pytest.raises(Undecided, match="subnormal"):
        nearest(3 << 100, -1175, slack=1)


def test_ratio():
    rng = np.random.default_rng(2)
    for above, below in zip(integers(rng, 500, 1500), integers(rng, 500, 1500), strict=True):
        assert is_nearest(ratio(above, below), Fraction(above, below))
    assert (ratio(1, 0), ratio(0, 5), ratio(1, 2**1080)) == (math.inf, 0.0, 0.0)
    assert ratio(3, 2**1075) == 1e-323
    assert ratio(2**1030, 1) == math.inf


def test_sqrt_ratio_of_random_fractions():
    """The square of a float64 midpoint is exact, so the rounding is checked with no root at all."""
    rng = np.random.default_rng(3)
    for above, below in zip(integers(rng, 500, 1500), integers(rng, 500, 1500), strict=True):
        got, value = sqrt_ratio(above, below), Fraction(above, below)
        lower = (Fraction(got) + Fraction(float(np.nextafter(got, 0)))) / 2
        upper = (Fraction(got) + Fraction(float(np.nextafter(got, np.inf)))) / 2
        assert lower**2 <= value <= upper**2


def test_sqrt_ratio_at_ties_squares_subnormals_and_ends():
    for odd in (2**53 + 1, 2**53 + 3, 2**54 - 1):  # 54-bit roots: exactly between two float64
        root = Fraction(odd, 2**53)
        for sign, kept in ((-1, odd // 2), (1, odd // 2 + 1)):
            nudged = root**2 * (1 + Fraction(sign, 2**400))
            assert sqrt_ratio(nudged.numerator, nudged.denominator) == float(kept) * 2.0**-52
        assert is_nearest(sqrt_ratio((root**2).numerator, (root**2).denominator), root)
    assert (sqrt_ratio(9, 4), sqrt_ratio(0, 7), sqrt_ratio(7, 0)) == (1.5, 0.0, math.inf)
    assert sqrt_ratio(1, 2**2148) == 5e-324
    assert sqrt_ratio(1, 2**2150) == 0.0  # 2**-1075 lies between 0 and the smallest subnormal: even is 0
    assert sqrt_ratio(9, 2**2150) == 1e-323
    assert sqrt_ratio(2**2040, 3) == float(mpmath.sqrt(mpmath.mpf(2) ** 2040 / 3))


@pytest.mark.parametrize("root", [False, True])
def test_quotient_encloses_the_exact_value(root):
    rng = np.random.default_rng(4)
    for above, below in zip(integers(rng, 400, 600), integers(rng, 400, 600), strict=True):
        exponent, sure = int(rng.integers(-300, 300)), int(rng.integers(90, 200))
        error = 1 + Fraction(int(rng.integers(-100, 101)), 101) * two_power(-sure)
        value = Fraction(above, below) * two_power(exponent) * error
        mantissa, power, slack = quotient(above, below, exponent, sure, root=root)
        low, high = (mantissa - slack) * two_power(power), (mantissa + slack) * two_power(power)
        if root:
            low, high = low**2, high**2
        assert low <= value <= high
        assert mantissa.bit_length() >= 129


def test_words_hold_106_bits():
    rng = np.random.default_rng(5)
    for mantissa in integers(rng, 200, 500):
        high, low = words(mantissa, -90)
        value = Fraction(mantissa, 2**90)
        assert is_nearest(high, value)
        assert abs(Fraction(high) + Fraction(low) - value) <= value * two_power(-106)
    assert words(1, 2000) == (math.inf, 0.0)
