r"""Logarithms of the products of a schedule in two words: :math:`\log\bar\alpha_t,\ \log\bar\beta_t,\ \log\mathrm{SNR}(t)`.

For a quotient of integers ``N / D`` near ``2**k``,

.. math::
    \log\frac ND = k\log 2 + 2\,\mathrm{artanh}\,z, \qquad z = \frac{N - 2^kD}{N + 2^kD}, \qquad |z| \le 0.1716,

where the numerator is formed from integers. At ``k = 0`` it is the exact complement or difference, so the logarithm
keeps its
relative accuracy where it is nearly zero: at small levels for alpha_bar, at large ones for beta_bar, and at the zero
    crossing of log SNR.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import TypeAlias

import numpy as np

from ddpm_ref.arithmetic.double_double import DoubleDouble, log_from_atanh, where
from ddpm_ref.arithmetic.exact import quotient, words
from ddpm_ref.reference.products import BITS, CERTAIN, Factor, Products
from ddpm_ref.typing import Array

ONE: Factor = (1, 0)
_Parts: TypeAlias = Callable[[Factor, Factor], tuple[Factor, Factor, Factor]]  # above, below, above - below


def log_alpha_bar(products: Products) -> DoubleDouble:
    """``log(alpha_bar_t)`` for ``t = 1..T``; minus infinity at zero terminal SNR."""
    return _log(products, products.column("alpha_bar"), lambda at, bt: (at, ONE, (-bt[0], bt[1])))


def log_beta_bar(products: Products) -> DoubleDouble:
    """``log(1 - alpha_bar_t)`` for ``t = 1..T``."""
    return _log(products, products.column("beta_bar"), lambda at, bt: (bt, ONE, (-at[0], at[1])))


def log_snr(products: Products) -> DoubleDouble:
    """``log(alpha_bar_t / (1 - alpha_bar_t))`` for ``t = 1..T``; minus infinity at zero terminal SNR."""
    snr = products.column("snr")
    overflows = np.isposinf(snr)
    result = _log(products, np.where(overflows, 1.0, snr), lambda at, bt: (at, bt, _difference(at, bt)))
    # Where the ratio exceeds float64, alpha_bar is 1 to hundreds of digits.
    return where(overflows, -log_beta_bar(products), result) if overflows.any() else result


def _difference(p: Factor, q: Factor) -> Factor:
    (m, x), (n, y) = p, q
    low = min(x, y)
    return (m << (x - low)) - (n << (y - low)), low


def _log(products: Products, value: Array, parts: _Parts) -> DoubleDouble:
    finite = value > 0
    _, exponents = np.frexp(np.where(finite, value, 1.0))
    with np.errstate(over="ignore"):
        exponents = exponents - (np.ldexp(value, -exponents) < sqrt(0.5))
    z = [
        _area_tangent_argument(parts, *_level(products, t), k) if positive else (0.0, 0.0)
        for t, (k, positive) in enumerate(zip(exponents.tolist(), finite.tolist(), strict=True), 1)
    ]
    both = np.array(z).reshape(-1, 2)
    result = log_from_atanh(DoubleDouble(both[:, 0], both[:, 1]), exponents.astype(np.int64))
    return DoubleDouble(np.where(finite, result.high, -np.inf), np.where(finite, result.low, 0.0))


def _level(products: Products, t: int) -> tuple[Factor, Factor]:
    """alpha_bar and beta_bar, from exact integers where they agree so closely that their difference would lose its digits."""
    at, bt = products.alpha_bar.at(t), products.beta_bar.at(t)
    difference, exponent = _difference(at, bt)
    if difference.bit_length() + exponent < at[0].bit_length() + at[1] - (BITS - CERTAIN):
        return products.exact_level(t)
    return at, bt


def _area_tangent_argument(parts: _Parts, at: Factor, bt: Factor, k: int) -> tuple[float, float]:
    above, below, difference = parts(at, bt)
    scaled = (below[0], below[1] + k)
    if k != 0:
        difference = _difference(above, scaled)
    total, bottom = _difference(above, (-scaled[0], scaled[1]))
    top, exponent = difference
    if top == 0:
        return 0.0, 0.0
    mantissa, exponent, _ = quotient(abs(top), total, exponent - bottom, BITS, root=False)
    high, low = words(mantissa, exponent)
    return (high, low) if top > 0 else (-high, -low)
