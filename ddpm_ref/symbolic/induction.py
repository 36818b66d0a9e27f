"""Sums and products with a symbolic upper end: the recursion that defines them, which is what induction needs."""

from __future__ import annotations

from typing import TypeAlias

import sympy as sp

Repeated: TypeAlias = sp.Sum | sp.Product


def last(total: Repeated) -> sp.Expr:
    """The last term of a sum, or the last factor of a product."""
    (index, _, upper) = total.limits[0]
    return total.function.subs(index, upper)


def peeled(total: Repeated) -> sp.Expr:
    """The same with the last term (factor) written out; the empty sum is 0, the empty product 1.

    >>> a, i, n = sp.IndexedBase("a"), sp.Symbol("i", integer=True), sp.Symbol("n", integer=True)
    >>> peeled(sp.Sum(a[i], (i, 1, n + 1))) == sp.Sum(a[i], (i, 1, n)) + a[n + 1]
    True
    >>> peeled(sp.Product(a[i], (i, 1, 2))).doit() == sp.Product(a[i], (i, 1, 2)).doit()
    True
    """
    (index, lower, upper) = total.limits[0]
    rest = total.func(total.function, (index, lower, upper - 1))
    return rest * last(total) if isinstance(total, sp.Product) else rest + last(total)
