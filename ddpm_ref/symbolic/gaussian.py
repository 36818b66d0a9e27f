r"""Normal laws in one dimension: the few moves that all the proofs are made of."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import sympy as sp


def log_density(x: sp.Expr, mean: sp.Expr, variance: sp.Expr) -> sp.Expr:
    r"""Log of the normal density, :math:`-\tfrac12\log(2\pi\sigma^2) - (x-\mu)^2/(2\sigma^2)`; the last argument is a variance."""
    return -sp.log(2 * sp.pi * variance) / 2 - (x - mean) ** 2 / (2 * variance)


def density(x: sp.Expr, mean: sp.Expr, variance: sp.Expr) -> sp.Expr:
    r"""The normal density, :math:`(2\pi\sigma^2)^{-1/2}\exp(-(x-\mu)^2/(2\sigma^2))`."""
    return sp.exp(-((x - mean) ** 2) / (2 * variance)) / sp.sqrt(2 * sp.pi * variance)


def integral(integrand: sp.Expr, x: sp.Symbol) -> sp.Expr:
    """Over the whole real line."""
    return sp.integrate(integrand, (x, -sp.oo, sp.oo))


def expectation(f: sp.Expr, x: sp.Symbol, mean: sp.Expr, variance: sp.Expr) -> sp.Expr:
    r"""Of ``f(x)`` under a normal law, by integration after :math:`x = \mu + \sigma u`.

    >>> x, m, v = sp.Symbol("x", real=True), sp.Symbol("m", real=True), sp.Symbol("v", positive=True)
    >>> expectation((x - m) ** 2, x, m, v)
    v
    """
    u = sp.Dummy("u", real=True)
    f = sp.expand(f.subs(x, mean + sp.sqrt(variance) * u))
    if f.is_polynomial(u):
        return sp.expand(sp.Add(*(c * _moment(power) for (power,), c in sp.Poly(f, u).terms())))
    return sp.expand(integral(f * density(u, 0, 1), u))


@cache
def _moment(power: int) -> sp.Expr:
    """Of the standard normal law, by integration."""
    u = sp.Dummy("u", real=True)
    return integral(u**power * density(u, 0, 1), u)


class Square(NamedTuple):
    r"""A quadratic :math:`-\tfrac{1}{2\sigma^2}(x - \mu)^2 + c` by its parts."""

    mean: sp.Expr
    variance: sp.Expr
    constant: sp.Expr


def complete_square(exponent: sp.Expr, x: sp.Symbol) -> Square:
    r"""Mean, variance and what is left over of an exponent quadratic in ``x``.

    With the exponent :math:`-\tfrac12(a x^2 - b x + C)` the mean is :math:`b/(2a)`, the variance :math:`1/a`.

    >>> x = sp.Symbol("x")
    >>> complete_square(-(x**2) + 6 * x, x)
    Square(mean=3, variance=1/2, constant=9)
    """
    quadratic = sp.Poly(sp.expand(-2 * exponent), x)
    a, b, c = quadratic.coeff_monomial(x**2), -quadratic.coeff_monomial(x), quadratic.coeff_monomial(1)
    return Square(sp.factor(b / (2 * a)), sp.factor(1 / a), sp.factor(b**2 / (8 * a) - c / 2))
