"""Double-double arithmetic: a number as the unevaluated sum of two float64, about 106 significant bits.

The error-free transforms of Dekker and Knuth and the algorithms analysed by Joldes, Muller and Popescu (2017), on NumPy
arrays. Every operation here is relatively accurate to a small multiple of 2**-104 as long as no intermediate leaves
1e-290 .. 1e290.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np

from ddpm_ref.typing import Array, BoolArray, IntArray

SPLITTER = 2.0**27 + 1


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """``a + b`` rounded, and its rounding error, exactly (Knuth)."""
    s = a + b
    v = s - a
    return s, (a - (s - v)) + (b - v)


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """``a * b`` rounded, and its rounding error, exactly (Dekker, Veltkamp) unless something over- or underflows."""
    p = a * b
    a1 = SPLITTER * a
    a1 = a1 - (a1 - a)
    b1 = SPLITTER * b
    b1 = b1 - (b1 - b)
    a2, b2 = a - a1, b - b1
    return p, a2 * b2 - (((p - a1 * b1) - a2 * b1) - a1 * b2)


@dataclass(frozen=True, eq=False)
class DoubleDouble:
    """Arrays ``high + low`` with ``|low| <= ulp(high) / 2``. Supports ``+ - * /``, `sqrt`, `log`, `exp` and comparison by words.

    >>> third = DoubleDouble.of(1.0) / 3.0
    >>> float((third * 3.0 - 1.0).high)
    0.0
    """

    high: Array
    low: Array

    # NumPy must leave ``array * DoubleDouble`` to the reflected operators below.
    __array_ufunc__ = None

    @staticmethod
    def of(value: Operand) -> DoubleDouble:
        """``value`` itself, or exact numbers as double-double."""
        if isinstance(value, DoubleDouble):
            return value
        high = np.asarray(value, dtype=np.float64)
        return DoubleDouble(high, np.zeros_like(high))

    @staticmethod
    def fraction(value: Fraction) -> DoubleDouble:
        """A rational number to double-double accuracy."""
        high = float(value)
        return DoubleDouble(np.asarray(high), np.asarray(float(value - Fraction(high))))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the arrays."""
        return self.high.shape

    def reshape(self, shape: tuple[int, ...]) -> DoubleDouble:
        """The same numbers in another shape."""
        return DoubleDouble(self.high.reshape(shape), self.low.reshape(shape))

    def __neg__(self) -> DoubleDouble:
        return DoubleDouble(-self.high, -self.low)

    def __abs__(self) -> DoubleDouble:
        negative = self.high < 0
        return DoubleDouble(np.abs(self.high), np.where(negative, -self.low, self.low))

    def __add__(self, other: Operand) -> DoubleDouble:
        other = DoubleDouble.of(other)
        s, e = two_sum(self.high, other.high)
        v, w = two_sum(self.low, other.low)
        s, e = _quick_two_sum(s, e + v)
        return _normal(s, e + w)

    def __sub__(self, other: Operand) -> DoubleDouble:
        return self + (-DoubleDouble.of(other))

    def __mul__(self, other: Operand) -> DoubleDouble:
        other = DoubleDouble.of(other)
        p, e = two_product(self.high, other.high)
        return _normal(p, e + (self.high * other.low + self.low * other.high))

    def __truediv__(self, other: Operand) -> DoubleDouble:
        other = DoubleDouble.of(other)
        q = self.high / other.high
        r = self - other * q
        q2 = r.high / other.high
        r = r - other * q2
        return DoubleDouble(*_quick_two_sum(q, q2)) + r.high / other.high

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: Operand) -> DoubleDouble:
        return DoubleDouble.of(other) - self

    def __rtruediv__(self, other: Operand) -> DoubleDouble:
        return DoubleDouble.of(other) / self

    def sum(self, axis: int = -1) -> DoubleDouble:
        """Sum along one axis, in order."""
        total = DoubleDouble.of(np.zeros(np.delete(self.shape, axis)))
        for i in range(self.shape[axis]):
            total = total + DoubleDouble(np.take(self.high, i, axis), np.take(self.low, i, axis))
        return total


Operand: TypeAlias = "DoubleDouble | Array | float"


def _quick_two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    s = a + b
    return s, b - (s - a)


def _normal(high: Array, low: Array) -> DoubleDouble:
    return DoubleDouble(*_quick_two_sum(high, low))


def where(condition: BoolArray, yes: DoubleDouble, no: DoubleDouble) -> DoubleDouble:
    """Elementwise choice, like `numpy.where`."""
    return DoubleDouble(np.where(condition, yes.high, no.high), np.where(condition, yes.low, no.low))


def sqrt(x: Operand) -> DoubleDouble:
    """Square root of numbers >= 0: one Newton step (Karp) from the float64 root."""
    x = DoubleDouble.of(x)
    root = np.sqrt(x.high)
    with np.errstate(invalid="ignore", divide="ignore"):
        rest = (x - DoubleDouble.of(root) * root).high / (2 * root)
    return _normal(root, np.where(root > 0, rest, 0.0))


def series(coefficients: Iterable[Fraction]) -> list[DoubleDouble]:
    """Exact coefficients in two words, ready for `horner`."""
    return [DoubleDouble.fraction(c) for c in coefficients]


def horner(coefficients: list[DoubleDouble], x: DoubleDouble) -> DoubleDouble:
    """``coefficients[0] + coefficients[1] x + ...`` in double-double."""
    total = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        total = total * x + c
    return total


# pi and ln 2 to two words: the classical 106-bit splittings.
LN2 = DoubleDouble(
    np.asarray(float.fromhex("0x1.62e42fefa39efp-1")), np.asarray(float.fromhex("0x1.abc9e3b39803fp-56"))
)
TWO_PI = DoubleDouble(
    np.asarray(float.fromhex("0x1.921fb54442d18p+2")), np.asarray(float.fromhex("0x1.1a62633145c07p-52"))
)
_ATANH = series(Fraction(1, 2 * n + 1) for n in range(24))  # z**2 <= 0.0295 leaves 2**-122 behind
_ATANH_WIDE = series(Fraction(1, 2 * n + 3) for n in range(36))  # z**2 <= 1/9 leaves 2**-114 behind
_EXPM1 = series(Fraction(1, math.factorial(n + 1)) for n in range(12))  # |r| <= ln(2) / 2**9 leaves 2**-118 behind
_EXPM1_REST = series(Fraction(1, math.factorial(n + 2)) for n in range(28))  # |x| <= 1/2 leaves 2**-120 behind


def log_from_atanh(z: DoubleDouble, exponent: IntArray) -> DoubleDouble:
    """``log(2**exponent (1 + z) / (1 - z))`` for ``|z| <= 0.1716``: the series of the area tangent."""
    return z * horner(_ATANH, z * z) * 2.0 + LN2 * exponent.astype(np.float64)


def log(x: Operand) -> DoubleDouble:
    """Natural logarithm of positive numbers; relatively accurate except where ``x`` itself is rounded near 1."""
    x = DoubleDouble.of(x)
    _, exponent = np.frexp(x.high)
    exponent = exponent - (x.high < np.ldexp(math.sqrt(0.5), exponent))
    m = DoubleDouble(np.ldexp(x.high, -exponent), np.ldexp(x.low, -exponent))
    return log_from_atanh((m - 1.0) / (m + 1.0), exponent.astype(np.int64))


def exp(x: Operand) -> DoubleDouble:
    """Exponential: reduced by powers of two, then nine squarings of ``1 + expm1``."""
    x = DoubleDouble.of(x)
    k = np.rint(x.high / math.log(2))
    r = (x - LN2 * k) * 2.0**-9
    e = r * horner(_EXPM1, r)
    for _ in range(9):
        e = e * 2.0 + e * e
    e = e + 1.0
    return DoubleDouble(np.ldexp(e.high, k.astype(np.int64)), np.ldexp(e.low, k.astype(np.int64)))


def _split(
    x: DoubleDouble, small: Callable[[DoubleDouble], DoubleDouble], large: Callable[[DoubleDouble], DoubleDouble]
) -> DoubleDouble:
    """``small`` where ``|x| <= 1/2``, ``large`` elsewhere, each kept from seeing the other's arguments."""
    near = np.abs(x.high) <= 0.5
    zero, one = DoubleDouble.of(np.zeros(x.shape)), DoubleDouble.of(np.ones(x.shape))
    return where(near, small(where(near, x, zero)), large(where(near, one, x)))


def x_minus_log1p(x: Operand) -> DoubleDouble:
    r"""``x - log(1 + x)`` for ``x > -1`` without cancellation: :math:`xz - 2z^3(1/3 + z^2/5 + \dots)`, ``z = x/(2+x)``."""

    def near(x: DoubleDouble) -> DoubleDouble:
        z = x / (x + 2.0)
        square = z * z
        return x * z - square * z * horner(_ATANH_WIDE, square) * 2.0

    return _split(DoubleDouble.of(x), near, lambda x: x - log(x + 1.0))


def expm1_minus_x(x: Operand) -> DoubleDouble:
    """``exp(x) - 1 - x`` without cancellation: the Taylor series from its second term on."""
    return _split(DoubleDouble.of(x), lambda x: x * x * horner(_EXPM1_REST, x), lambda x: exp(x) - 1.0 - x)
