"""Exact integers rounded once: how a real number defined by rationals becomes the float64 nearest to it.

CPython's ``int / int`` and ``float(int)`` are correctly rounded, and `math.isqrt` is exact, so a quotient or a root of
integers needs a single rounding. Where only an enclosure is known, `nearest` performs Ziv's test: it answers only if
every real in the enclosure rounds to the same float64.
"""

from __future__ import annotations

from math import inf, isqrt, ldexp

from ddpm_ref.errors import DdpmRefError

WORDS_BITS = 256  # more than two words can hold, and few enough for float(int)
ROOT_BITS = 260  # a radicand this wide gives a root of 130 bits: 77 more than float64 needs


class Undecided(DdpmRefError, ArithmeticError):
    """An enclosure holds two candidates for the nearest float64: more bits or exact integers are needed."""


def nearest(mantissa: int, exponent: int, slack: int = 0) -> float:
    """The float64 nearest to every real within ``slack`` units of ``mantissa * 2**exponent`` (``mantissa > slack``).

    Raises `Undecided` if the enclosure reaches across a rounding boundary.

    >>> nearest(3, -1), nearest(2**80 + 1, -80, slack=8)
    (1.5, 1.0)
    """
    low, high = mantissa - slack, mantissa + slack
    if exponent + mantissa.bit_length() > -1020:
        a, b = float(low), float(high)
        if a != b:
            raise Undecided(
                f"{slack} units around a {mantissa.bit_length()}-bit mantissa reach across a rounding boundary"
            )
        return _scaled(a, exponent)
    # Below the normal range the position of the last bit is fixed; int / int rounds there once as well.
    a, b = low / (1 << -exponent), high / (1 << -exponent)
    if a != b:
        raise Undecided("the enclosure of a subnormal number reaches across a rounding boundary")
    return a


def ratio(numerator: int, denominator: int) -> float:
    """The float64 nearest to ``numerator / denominator >= 0``; ``inf`` for a zero denominator or on overflow.

    >>> ratio(1, 3) == 1 / 3, ratio(1, 0)
    (True, inf)
    """
    try:
        return numerator / denominator if denominator else inf
    except OverflowError:
        return inf


def sqrt_ratio(numerator: int, denominator: int) -> float:
    """The float64 nearest to ``sqrt(numerator / denominator)``; ``inf`` for a zero denominator.

    The integer root keeps 130 bits and a sticky bit for what was cut off, so ties cannot be misjudged.

    >>> sqrt_ratio(2, 1) == 2**0.5, sqrt_ratio(1, 4)
    (True, 0.5)
    """
    if not denominator:
        return inf
    if not numerator:
        return 0.0
    shift = ROOT_BITS - numerator.bit_length() + denominator.bit_length()
    shift += shift & 1
    quotient, rest = divmod(numerator << shift, denominator) if shift >= 0 else divmod(numerator, denominator << -shift)
    root = isqrt(quotient)
    sticky = int(rest != 0 or root * root != quotient)
    return nearest(root << 1 | sticky, -shift // 2 - 1)


def root_difference(p: tuple[int, int], q: tuple[int, int]) -> float:
    """The float64 nearest to ``sqrt(p) - sqrt(q)`` of quotients ``p >= q >= 0``, each a pair of exact integers.

    Over a common denominator it is a difference of roots of integers. If both are squares it is rational; otherwise it
    is irrational (``sqrt(q)`` would follow rationally from a rational difference), hence no tie, and some number of
    bits decides it.

    >>> root_difference((9, 16), (1, 4)), root_difference((2, 1), (2, 1)) == 0, root_difference((2, 1), (0, 1)) == 2**0.5
    (0.25, True, True)
    """
    denominator = p[1] * q[1]
    first, second = p[0] * q[1] * denominator, q[0] * p[1] * denominator
    if first == second:
        return 0.0
    if isqrt(first) ** 2 == first and isqrt(second) ** 2 == second:
        return ratio(isqrt(first) - isqrt(second), denominator)
    bits = ROOT_BITS
    while True:
        # Each root is cut off by less than one unit, so their difference is within one unit on either side.
        units = isqrt(first << 2 * bits) - isqrt(second << 2 * bits)
        low, high = (ratio(units + i, denominator << bits) for i in (-1, 1))
        if units > 1 and low == high:
            return low
        bits *= 2


def rational_minus_root(x: tuple[int, int], y: tuple[int, int], *, root: bool) -> float:
    """The float64 nearest to ``x - sqrt(y) >= 0``, or to its square root, of quotients of exact integers.

    If y is the square of a rational number the difference is rational. Otherwise it is irrational, and its root with
    it, hence no tie, and some number of bits decides it.

    >>> rational_minus_root((9, 4), (4, 1), root=False), rational_minus_root((9, 4), (4, 1), root=True)
    (0.25, 0.5)
    >>> rational_minus_root((2, 1), (2, 1), root=True)
    0.7653668647301796
    """
    denominator = x[1] * y[1]
    first, second = x[0] * y[1], y[0] * y[1] * x[1] ** 2
    rounded = sqrt_ratio if root else ratio
    if isqrt(second) ** 2 == second:
        return rounded(first - isqrt(second), denominator)
    bits = ROOT_BITS
    while True:
        # The root is cut off by less than one unit.
        units = (first << bits) - isqrt(second << 2 * bits)
        low, high = (rounded(units - i, denominator << bits) for i in (1, 0))
        if units > 1 and low == high:
            return low
        bits *= 2


def quotient(numerator: int, denominator: int, exponent: int, sure: int, *, root: bool) -> tuple[int, int, int]:
    """Mantissa, exponent and slack of ``(numerator / denominator) 2**exponent``, or of its square root.

    ``sure``: the operands are right to a relative ``2**-sure`` altogether. The mantissa has at least 129 bits.
    """
    width = ROOT_BITS if root else ROOT_BITS // 2
    shift = width - numerator.bit_length() + denominator.bit_length()
    if root and (exponent - shift) & 1:
        shift += 1
    mantissa = (numerator << shift) // denominator if shift >= 0 else numerator // (denominator << -shift)
    exponent -= shift
    if root:
        mantissa, exponent = isqrt(mantissa), exponent >> 1
    return mantissa, exponent, (mantissa >> sure) + 2


def words(mantissa: int, exponent: int) -> tuple[float, float]:
    """``mantissa * 2**exponent`` as an unevaluated sum of two float64 (about 106 bits)."""
    excess = mantissa.bit_length() - WORDS_BITS
    if excess > 0:
        mantissa, exponent = mantissa >> excess, exponent + excess
    high = float(mantissa)
    scaled = _scaled(high, exponent)
    return scaled, 0.0 if scaled == inf else ldexp(float(mantissa - int(high)), exponent)


def _scaled(x: float, exponent: int) -> float:
    """``x * 2**exponent`` for ``x >= 0``, infinite where it exceeds the largest float64."""
    try:
        return ldexp(x, exponent)
    except OverflowError:
        return inf
