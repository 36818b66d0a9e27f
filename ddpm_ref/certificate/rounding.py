r"""From a ball to the float64 that every number in it rounds to: the one conversion the proofs stand on.

A ball :math:`[m - r, m + r]` of Arb has a midpoint and a radius that are integers times powers of two. Its ends are formed
in Python's integers, without rounding, and each is rounded once, in integers, to the nearest float64. Rounding is
monotone: if both ends round to one float64, so does every number between them. No floating-point operation takes part,
nor any conversion of the library.
"""

from __future__ import annotations

from math import inf, isfinite, ldexp
from typing import TypeAlias

from flint import arb

Dyadic: TypeAlias = tuple[int, int]
"""``mantissa * 2**exponent``, exactly."""

LAST_BIT = -1074  # the smallest subnormal is 2**-1074: no float64 has a bit below
PRECISION = 53


def exactly(x: float) -> arb:
    """A finite float64 as a ball of radius zero."""
    return arb(_dyadic(x))


def ends(ball: arb) -> tuple[Dyadic, Dyadic]:
    """Lower and upper end of a finite ball, exactly.

    >>> ends(arb(3) / 2)
    ((3, -1), (3, -1))
    """
    middle, exponent = map(int, ball.mid().man_exp())
    radius, scale = map(int, ball.rad().man_exp())
    if not radius:
        return (middle, exponent), (middle, exponent)
    last = min(exponent, scale)
    middle, radius = middle << (exponent - last), radius << (scale - last)
    return (middle - radius, last), (middle + radius, last)


def nearest(number: Dyadic) -> float:
    """The float64 nearest to a number, the even one of two at a tie, infinite from ``2**1024 - 2**970`` on.

    >>> nearest((2**54 - 1, -54)), nearest((1, -1075)), nearest((3, -1075)), nearest((1, 1024))
    (1.0, 0.0, 1e-323, inf)
    """
    mantissa, exponent = number
    size = abs(mantissa)
    # Where the last bit of a float64 of this size stands.
    last = max(size.bit_length() + exponent - PRECISION, LAST_BIT)
    shift = last - exponent
    if shift <= 0:
        kept = size << -shift
    else:
        kept, cut = size >> shift, size & ((1 << shift) - 1)
        half = 1 << (shift - 1)
        kept += cut > half or (cut == half and kept & 1 == 1)
    try:
        value = ldexp(kept, last)  # at most 2**53 times a power of two: exact
    except OverflowError:
        value = inf
    return -value if mantissa < 0 and value else value


def decided(ball: arb) -> float | None:
    """The float64 nearest to every number in the ball; None if there are two.

    >>> decided(arb(0.1, 1e-30)), decided(arb(0.1, 1e-3))
    (0.1, None)
    """
    if not ball.is_finite():
        return _infinite(ball)
    low, high = map(nearest, ends(ball))
    return low if low == high else None


def within_one_ulp(x: float, ball: arb) -> bool | None:
    """Whether a float64 lies less than one unit in the last place from the number in the ball; None if the ball is too wide.

    The unit is that of the number's own binade, not of ``x``; for 0 and subnormal numbers it is 2**-1074.

    >>> within_one_ulp(0.1, arb(0.1, 1e-30)), within_one_ulp(0.1, arb(0.1, 1e-3)), within_one_ulp(0.1, arb(0.2, 1e-3))
    (True, None, False)
    """
    if not ball.is_finite() or not isfinite(x):
        limit = _infinite(ball)
        return x == limit if limit is not None else (False if ball.is_finite() else None)
    numbers = (*ends(ball), _dyadic(x))
    last = min(LAST_BIT, *(exponent for _, exponent in numbers))
    low, high, got = (mantissa << (exponent - last) for mantissa, exponent in numbers)
    farthest = max(abs(got - low), abs(got - high))
    closest = max(low - got, got - high, 0)
    smallest = 0 if low <= 0 <= high else min(abs(low), abs(high))
    if farthest < _unit(smallest, last):
        return True
    return False if closest >= _unit(max(abs(low), abs(high)), last) else None


def _dyadic(x: float) -> Dyadic:
    numerator, denominator = x.as_integer_ratio()
    return numerator, 1 - denominator.bit_length()  # the denominator is a power of two


def _infinite(ball: arb) -> float | None:
    if ball == arb.pos_inf():
        return inf
    return -inf if ball == arb.neg_inf() else None


def _unit(size: int, exponent: int) -> int:
    """The unit in the last place of a float64 of size ``size * 2**exponent``, itself in units of ``2**exponent``."""
    return 1 << (max(size.bit_length() + exponent - PRECISION, LAST_BIT) - exponent)
