r"""Logarithms of the products of a schedule in two words: :math:`\log\bar\alpha_t,\ \log\bar\beta_t,\ \log\mathrm{SNR}(t)`.

For a quotient of integers ``N / D`` near ``2**k``,

.. math::
    \log\frac ND = k\log 2 + 2\,\mathrm{artanh}\,z, \qquad z = \frac{N - 2^kD}{N + 2^kD}, \qquad |z| \le 0.1716,

where the numerator is formed without rounding: at ``k = 0`` it is the complement or the difference itself, so the logarithm keeps
its relative accuracy where it is nearly zero: at small levels for alpha_bar, at large ones for beta_bar, and at the zero
crossing of log SNR.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ldexp, sqrt
from typing import TypeAlias

import numpy as np

from ddpm_ref.arithmetic.double_double import DoubleDouble, log_from_atanh, where
from ddpm_ref.arithmetic.exact import quotient, words
from ddpm_ref.reference.products import BITS, CERTAIN, TAME, Factor, Products
from ddpm_ref.typing import BoolArray

ONE: Factor = (1, 0)
_Parts: TypeAlias = Callable[[Factor, Factor], tuple[Factor, Factor, Factor]]  # above, below, above - below
CLOSE = 2.0**-40  # nearer to zero than this, a difference of two-word numbers has lost too many digits
_TINY = 2.0**-900  # below this, 2 artanh(z) is 2z to a thousand digits


def log_alpha_bar(products: Products) -> DoubleDouble:
    """``log(alpha_bar_t)`` for ``t = 1..T``; minus infinity at zero terminal SNR."""
    alpha_bar, beta_bar = _levels(products)
    return _log(
        products, alpha_bar, DoubleDouble.of(np.ones(products.T)), -beta_bar, lambda at, bt: (at, ONE, _negative(bt))
    )


def log_beta_bar(products: Products) -> DoubleDouble:
    """``log(1 - alpha_bar_t)`` for ``t = 1..T``."""
    alpha_bar, beta_bar = _levels(products)
    return _log(
        products, beta_bar, DoubleDouble.of(np.ones(products.T)), -alpha_bar, lambda at, bt: (bt, ONE, _negative(at))
    )


def log_snr(products: Products) -> DoubleDouble:
    """``log(alpha_bar_t / (1 - alpha_bar_t))`` for ``t = 1..T``; minus infinity at zero terminal SNR."""
    alpha_bar, beta_bar = _levels(products)
    overflows = np.isposinf(products.column("snr"))
    lost = np.abs(alpha_bar.high - beta_bar.high) < CLOSE
    with np.errstate(invalid="ignore"):
        result = _log(
            products,
            alpha_bar,
            beta_bar,
            alpha_bar - beta_bar,
            lambda at, bt: (at, bt, _difference(at, bt)),
            lost | overflows,
        )
    # Where the ratio exceeds float64, alpha_bar is 1 to hundreds of digits.
    return where(overflows, -log_beta_bar(products), result) if overflows.any() else result


def _levels(products: Products) -> tuple[DoubleDouble, DoubleDouble]:
    alpha_bar, beta_bar = products.levels["alpha_bar"], products.levels["beta_bar"]
    return DoubleDouble(alpha_bar.high[1:], alpha_bar.low[1:]), DoubleDouble(beta_bar.high[1:], beta_bar.low[1:])


def _negative(factor: Factor) -> Factor:
    return -factor[0], factor[1]


def _difference(p: Factor, q: Factor) -> Factor:
    (m, x), (n, y) = p, q
    low = min(x, y)
    return (m << (x - low)) - (n << (y - low)), low


def _log(
    products: Products,
    above: DoubleDouble,
    below: DoubleDouble,
    difference: DoubleDouble,
    parts: _Parts,
    lost: BoolArray | None = None,
) -> DoubleDouble:
    """``log(above / below)`` from two-word numbers, or from integers where those have lost digits or leave the tame range."""
    finite = above.high > 0
    tame = (above.high > 1 / TAME) & (below.high > 1 / TAME) & (np.abs(difference.high) > 1 / TAME)
    top, bottom = (np.where(finite & tame, x.high, 1.0) for x in (above, below))
    _, exponents = np.frexp(top / bottom)
    exponents = exponents - (np.ldexp(top / bottom, -exponents) < sqrt(0.5))
    scaled = DoubleDouble(np.ldexp(below.high, exponents), np.ldexp(below.low, exponents))
    with np.errstate(all="ignore"):
        z = where(exponents == 0, difference, above - scaled) / (above + scaled)
    high, low = z.high.copy(), z.low.copy()
    unsure = finite & (~tame if lost is None else ~tame | lost)
    doubled: dict[int, tuple[float, float]] = {}
    for i in np.flatnonzero(unsure).tolist():
        exact, exponents[i] = _from_integers(parts, *_level(products, i + 1))
        high[i], low[i] = _words(*exact)
        if exponents[i] == 0 and abs(high[i]) < _TINY:
            doubled[i] = _words(exact[0], exact[1] + 1)
    z = DoubleDouble(np.where(finite, high, 0.0), np.where(finite, low, 0.0))
    result = log_from_atanh(z, exponents.astype(np.int64))
    logarithm = DoubleDouble(np.where(finite, result.high, -np.inf), np.where(finite, result.low, 0.0))
    # Next to 1 the logarithm is 2z to hundreds of digits, while z itself may have no last bit left to double.
    for i, (first, second) in doubled.items():
        logarithm.high[i], logarithm.low[i] = first, second
    return logarithm


def _level(products: Products, t: int) -> tuple[Factor, Factor]:
    """alpha_bar and beta_bar, from exact integers where they agree so closely that their difference would lose its digits."""
    at, bt = products.alpha_bar.at(t), products.beta_bar.at(t)
    difference, exponent = _difference(at, bt)
    if difference.bit_length() + exponent < at[0].bit_length() + at[1] - (BITS - CERTAIN):
        return products.exact_level(t)
    return at, bt


def _from_integers(parts: _Parts, at: Factor, bt: Factor) -> tuple[Factor, int]:
    """The argument of the area tangent, and the power of two taken out."""
    above, below, difference = parts(at, bt)
    k = above[0].bit_length() + above[1] - below[0].bit_length() - below[1]
    # Within a factor of two of 1 by bit lengths; one more comparison brings the quotient into [1/sqrt 2, sqrt 2].
    ratio = quotient(above[0], below[0], above[1] - below[1] - k, BITS, root=False)
    size = ldexp(float(ratio[0]), ratio[1])
    k += (size >= sqrt(2.0)) - (size < sqrt(0.5))
    scaled = (below[0], below[1] + k)
    if k != 0:
        difference = _difference(above, scaled)
    total, bottom = _difference(above, _negative(scaled))
    top, exponent = difference
    if top == 0:
        return (0, 0), k
    mantissa, exponent, _ = quotient(abs(top), total, exponent - bottom, BITS, root=False)
    return (mantissa if top > 0 else -mantissa, exponent), k


def _words(mantissa: int, exponent: int) -> tuple[float, float]:
    high, low = words(abs(mantissa), exponent)
    return (high, low) if mantissa >= 0 else (-high, -low)
