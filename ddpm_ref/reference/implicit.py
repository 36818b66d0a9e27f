r"""The coefficients of the DDIM family: roots, and differences of two roots, rounded once.

With the factors of `ddpm_ref.reference.products`, :math:`h = \eta^2` for the float64 :math:`\eta` read exactly, and

.. math:: F = (1-h)\,\bar\beta_t + h\,\alpha_{t|s}\bar\beta_s, \qquad E = \bar\beta_t + h\,\alpha_{t|s}\bar\beta_s

every coefficient of a step (t, s) is :math:`\sqrt p` or :math:`\sqrt p - \sqrt q`:

============= =================================================== ============== ===================== =================
name          coefficient of                                      p              q                     p - q
============= =================================================== ============== ===================== =================
``std``       the noise                                           h b Bs / Bt
``direction`` eps, beside a prediction of x0                      Bs F / Bt
``xt_weight`` x_t, beside a prediction of x0                      Bs F / Bt^2
``x0_weight`` x0, beside x_t                                      As             At Bs F / Bt^2        As b E / Bt^2
``eps_drop``  eps, beside :math:`x_t/\sqrt{\alpha_{t|s}}`, negated Bt / a         Bs F / Bt             b E / (a Bt)
``eps_rise``  eps, beside :math:`\sqrt{\alpha_{t|s}}x_s`, upwards  Bt             a Bs                  b
============= =================================================== ============== ===================== =================

The roots of the last three cancel, all the more the shorter the step; :math:`(p - q)/(\sqrt p + \sqrt q)` does not,
because every entry of the table is a sum and product of positive terms (:math:`\bar\beta_t = b + a\bar\beta_s` makes it
so). What the enclosures of the factors leave undecided goes to `root_difference` as exact integers.

Source: song2020ddim, eq. (12) and (16).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from ddpm_ref.arithmetic.exact import Undecided, nearest, quotient, root_difference, sqrt_ratio
from ddpm_ref.reference.products import Factor, Products
from ddpm_ref.typing import Array

# The two roots are cut off at 129 bits; beside 16 times the error of a factor that leaves this many.
ROOT_SURE = 125


class Quotient(NamedTuple):
    """A number >= 0 as a quotient of products of factors, by their names."""

    above: tuple[str, ...]
    below: tuple[str, ...] = ()


class Difference(NamedTuple):
    """``sqrt(p) - sqrt(q)``, with ``p - q`` in a form that does not cancel."""

    p: Quotient
    q: Quotient
    gap: Quotient


DIRECTION = Quotient(("Bs", "F"), ("Bt",))
ENTRIES: dict[str, Quotient | Difference] = {
    "std": Quotient(("h", "b", "Bs"), ("Bt",)),
    "direction": DIRECTION,
    "xt_weight": Quotient(("Bs", "F"), ("Bt", "Bt")),
    "x0_weight": Difference(
        Quotient(("As",)), Quotient(("At", "Bs", "F"), ("Bt", "Bt")), Quotient(("As", "b", "E"), ("Bt", "Bt"))
    ),
    "eps_drop": Difference(Quotient(("Bt",), ("a",)), DIRECTION, Quotient(("b", "E"), ("a", "Bt"))),
    "eps_rise": Difference(Quotient(("Bt",)), Quotient(("a", "Bs")), Quotient(("b",))),
}

Factors = Mapping[str, Factor]


def columns(products: Products, names: Iterable[str], t: Iterable[int], s: Iterable[int], eta: float) -> list[Array]:
    """Coefficients of pairs of levels ``t > s``, one array per name: float64 nearest to the exact values.

    ``eps_drop`` needs ``alpha_bar_t > 0``; ``eps_rise`` does not depend on ``eta``.
    """
    entries, squares = [ENTRIES[name] for name in names], squares_of_eta(eta)
    rows = [_row(products, entries, i, j, squares) for i, j in zip(t, s, strict=True)]
    return list(np.array(rows, dtype=np.float64).reshape(-1, len(entries)).T.copy())


def _row(
    products: Products, entries: list[Quotient | Difference], t: int, s: int, squares: tuple[Factor, Factor]
) -> list[float]:
    try:
        factors, sure = products.factors(t, s)
        enclosed = with_sums(factors, squares)
        # At most sixteen relative errors of the factors gather in one coefficient, so four bits of certainty are given up.
        return [_rounded(entry, enclosed, sure - 4) for entry in entries]
    except Undecided:
        exact = with_sums(products.exact_factors(t, s), squares)
        return [_rounded_exactly(entry, exact) for entry in entries]


def squares_of_eta(eta: float) -> tuple[Factor, Factor]:
    """``eta**2`` and ``1 - eta**2``, exactly."""
    n, d = eta.as_integer_ratio()
    shift = 2 * (d.bit_length() - 1)
    return (n * n, -shift), ((1 << shift) - n * n, -shift)


def with_sums(f: Factors, squares: tuple[Factor, Factor]) -> Factors:
    """The factors with ``h``, ``E`` and ``F``."""
    h, rest = squares
    noisy = times(h, f["a"], f["Bs"])
    return {**f, "h": h, "E": plus(f["Bt"], noisy), "F": plus(times(rest, f["Bt"]), noisy)}


def times(*factors: Factor) -> Factor:
    """The product, exactly."""
    mantissa, exponent = 1, 0
    for m, x in factors:
        mantissa, exponent = mantissa * m, exponent + x
    return mantissa, exponent


def plus(a: Factor, b: Factor) -> Factor:
    """The sum, exactly."""
    low = min(a[1], b[1])
    return (a[0] << a[1] - low) + (b[0] << b[1] - low), low


def _value(entry: Quotient, f: Factors) -> tuple[int, int, int]:
    """Integers above and below the line, and the exponent of two."""
    (n, x), (d, y) = times(*[f[name] for name in entry.above]), times(*[f[name] for name in entry.below])
    return n, d, x - y


def _rounded(entry: Quotient | Difference, f: Factors, sure: int) -> float:
    """The float64 nearest to every real in the enclosure; raises `Undecided`."""
    if isinstance(entry, Quotient):
        n, d, x = _value(entry, f)
        return nearest(*quotient(n, d, x, sure, root=True)) if n else 0.0
    p, q = (quotient(*_value(part, f), sure, root=True)[:2] for part in (entry.p, entry.q))
    (m, z), (n, d, x) = plus(p, q), _value(entry.gap, f)
    return nearest(*quotient(n, d * m, x - z, min(sure, ROOT_SURE), root=False))


def _rounded_exactly(entry: Quotient | Difference, f: Factors) -> float:
    if isinstance(entry, Quotient):
        return sqrt_ratio(*_integers(entry, f))
    return root_difference(_integers(entry.p, f), _integers(entry.q, f))


def _integers(entry: Quotient, f: Factors) -> tuple[int, int]:
    n, d, x = _value(entry, f)
    return n << max(x, 0), d << max(-x, 0)
