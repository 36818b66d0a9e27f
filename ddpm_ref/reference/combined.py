r"""The variance of a reverse step whose mean hides what is not known of x0, rounded once.

With the factors of `ddpm_ref.reference.products`, h, E and F of `ddpm_ref.reference.implicit`, and a variance v of x0,

.. math:: \lambda^2 + (C^0)^2 v = \frac{h\,b\,\bar\beta_s}{\bar\beta_t} + \frac{\bar\alpha_s b^2E^2}{\bar\beta_t^2
          (\bar\beta_t + R)^2}\,v, \qquad R = \sqrt{a\,\bar\beta_sF}

Everything is positive, so nothing cancels, and one quotient of integers and its root are all there is to round. What
the enclosures of the factors leave undecided goes to `rational_minus_root` as exact integers:

.. math:: \lambda^2 + (C^0)^2v = \left[\lambda^2 + v\left(\bar\alpha_s + \frac{\bar\alpha_t\bar\beta_sF}{\bar\beta_t^2}
          \right)\right] - \sqrt{4v^2\,\frac{\bar\alpha_s\bar\alpha_t\bar\beta_sF}{\bar\beta_t^2}}

Source: bao2022, eq. (7).
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from math import inf

import numpy as np

from ddpm_ref.arithmetic.exact import Undecided, nearest, quotient, ratio, rational_minus_root
from ddpm_ref.reference.implicit import Factors, plus, squares_of_eta, times, with_sums
from ddpm_ref.reference.products import Factor, Products
from ddpm_ref.typing import Array

# R is cut off at 129 bits and enters four times.
ROOT_SURE = 124

Unknown = tuple[Factor, Factor]
"""The variance of x0 as a quotient of two factors."""


def exactly(value: float) -> Fraction:
    """A float64 read as the exact number it is."""
    return Fraction(*value.as_integer_ratio())


def columns(
    products: Products,
    t: Iterable[int],
    s: Iterable[int],
    eta: float,
    unknown: Iterable[Fraction | None],
    *,
    root: bool,
) -> Array:
    r"""The combined variance of pairs of levels ``t > s``, or its root: float64 nearest to the exact values.

    ``unknown`` are the variances v; None stands for :math:`\bar\beta_t/\bar\alpha_t`, the largest there is.
    """
    squares = squares_of_eta(eta)
    pairs = zip(t, s, unknown, strict=True)
    return np.array([_entry(products, i, j, squares, v, root) for i, j, v in pairs], dtype=np.float64)


def noise_to_signal(products: Products, t: Iterable[int], shares: Iterable[Fraction]) -> Array:
    r"""Shares of :math:`\bar\beta_t/\bar\alpha_t`, rounded once; a share may be negative."""
    return np.array([_share(products, i, share) for i, share in zip(t, shares, strict=True)], dtype=np.float64)


def _entry(products: Products, t: int, s: int, squares: tuple[Factor, Factor], v: Fraction | None, root: bool) -> float:
    try:
        factors, sure = products.factors(t, s)
        return _rounded(with_sums(factors, squares), sure, v, root)
    except Undecided:
        return _rounded_exactly(with_sums(products.exact_factors(t, s), squares), v, root)


def _as_quotient(v: Fraction | None, f: Factors) -> Unknown:
    return (f["Bt"], f["At"]) if v is None else ((v.numerator, 0), (v.denominator, 0))


def _rounded(f: Factors, sure: int, v: Fraction | None, root: bool) -> float:
    """The float64 nearest to every real in the enclosure; raises `Undecided`."""
    above, below = _as_quotient(v, f)
    if not below[0]:
        return inf
    radicand = times(f["a"], f["Bs"], f["F"])
    r = quotient(*_ratio_of(radicand, (1, 0)), sure, root=True)[:2] if radicand[0] else radicand
    sum_ = plus(f["Bt"], r)
    known = times(f["h"], f["b"], f["Bs"], f["Bt"], sum_, sum_, below)
    hidden = times(f["As"], f["b"], f["b"], f["E"], f["E"], above)
    total = plus(known, hidden)
    if not total[0]:
        return 0.0
    n, d, x = _ratio_of(total, times(f["Bt"], f["Bt"], sum_, sum_, below))
    # At most fifteen relative errors of the factors gather, so four bits of certainty are given up.
    return nearest(*quotient(n, d, x, min(sure - 4, ROOT_SURE), root=root))


def _rounded_exactly(f: Factors, v: Fraction | None, root: bool) -> float:
    exact = {name: _fraction(factor) for name, factor in f.items()}
    if v is None:
        if not exact["At"]:
            return inf
        v = exact["Bt"] / exact["At"]
    q = exact["At"] * exact["Bs"] * exact["F"] / exact["Bt"] ** 2
    x = exact["h"] * exact["b"] * exact["Bs"] / exact["Bt"] + v * (exact["As"] + q)
    y = 4 * v * v * exact["As"] * q
    return rational_minus_root(x.as_integer_ratio(), y.as_integer_ratio(), root=root)


def _share(products: Products, t: int, share: Fraction) -> float:
    sign = -1.0 if share < 0 else 1.0
    size = abs(share)
    if not size:
        return 0.0
    try:
        f, sure = products.factors(t, 0)
        if not f["At"][0]:
            return sign * inf
        n, d, x = _ratio_of(times(f["Bt"], (size.numerator, 0)), times(f["At"], (size.denominator, 0)))
        return sign * nearest(*quotient(n, d, x, sure - 2, root=False))
    except Undecided:
        exact = products.exact_factors(t, 0)
        value = size * _fraction(exact["Bt"]) / _fraction(exact["At"])
        return sign * ratio(value.numerator, value.denominator)


def _ratio_of(above: Factor, below: Factor) -> tuple[int, int, int]:
    return above[0], below[0], above[1] - below[1]


def _fraction(factor: Factor) -> Fraction:
    mantissa, exponent = factor
    return Fraction(mantissa << exponent) if exponent >= 0 else Fraction(mantissa, 1 << -exponent)
