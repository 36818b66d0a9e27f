"""Deciding whether two expressions are equal: by algebra, not by trying numbers; numbers only refute."""

from __future__ import annotations

import random
from fractions import Fraction

import sympy as sp

_POINTS, _DIGITS = 3, 40


def vanishes(expression: sp.Expr) -> bool:
    r"""Whether an expression is identically zero; False also if that could not be shown.

    Rational functions of the letters and of square roots are decided: under a common denominator each root becomes a
    letter ``r`` with ``r**2`` reduced to its radicand, and what remains is a polynomial to expand. Sums over an index are
    taken apart term by term first. Exponentials, logarithms and sums are handed to `sympy.simplify`.

    >>> a = sp.Symbol("a", positive=True)
    >>> vanishes(1 / (1 + sp.sqrt(a)) - (1 - sp.sqrt(a)) / (1 - a))
    True
    >>> vanishes(sp.sqrt(1 - a) - 1 + a)
    False
    """
    expression = sp.sympify(expression).replace(lambda part: isinstance(part, sp.Sum), _apart)
    if sp.expand(expression) == 0:
        return True
    if refuted_at(expression) is not None:
        return False
    expression = sp.expand_log(expression, force=True)
    return bool(_numerator(expression) == 0 or sp.simplify(expression) == 0)


def _apart(total: sp.Sum) -> sp.Expr:
    """A sum of terms as a sum of sums, with what does not depend on an index in front."""
    parts = []
    for term in sp.Add.make_args(sp.expand(total.function)):
        constant, rest = term.as_independent(*total.variables, as_Add=False)
        inner = sp.Sum(rest, *total.limits)
        parts.append(constant * (inner.doit() if rest == 1 else inner))
    return sp.Add(*parts)


def _numerator(expression: sp.Expr) -> sp.Expr:
    # sqrt(a) of a positive letter a becomes r with a = r**2; sqrt of a sum becomes r with r**2 reduced afterwards.
    expression = sp.powdenest(sp.expand_power_base(expression))
    letters: dict[sp.Expr, sp.Expr] = {}
    for power in expression.atoms(sp.Pow):
        if power.base.is_Symbol and power.base.is_nonnegative and power.exp.is_Rational and not power.exp.is_Integer:
            letters[power.base] = sp.Dummy(f"r_{power.base}", positive=True) ** power.exp.q
    expression = sp.powdenest(expression.subs(letters), force=True)
    radicands: dict[sp.Dummy, sp.Expr] = {}
    for power in sorted(expression.atoms(sp.Pow), key=sp.default_sort_key):
        if power.exp.is_Rational and power.exp.q == 2:
            root = next((r for r, known in radicands.items() if known == power.base), None)
            if root is None:
                root = sp.Dummy("r")
                radicands[root] = power.base
            expression = expression.subs(power, root**power.exp.p)
    numerator = sp.expand(sp.fraction(sp.together(expression))[0])
    for root, radicand in radicands.items():
        numerator = sp.expand(sp.fraction(sp.together(_reduced(numerator, root, radicand)))[0])
    return numerator


def _reduced(polynomial: sp.Expr, root: sp.Dummy, radicand: sp.Expr) -> sp.Expr:
    if not polynomial.has(root):
        return polynomial
    terms = sp.Poly(polynomial, root).terms()
    return sp.Add(*(c * radicand ** (power // 2) * root ** (power % 2) for (power,), c in terms))


def refuted_at(expression: sp.Expr) -> dict[sp.Symbol, sp.Rational] | None:
    """A point at which an expression is certainly not zero, or None if none of the few tried shows it.

    Letters that are not integers take random rational values, between 0 and 1 if they must be positive. An expression
    with other unknowns (functions, indexed letters, integers) is not tried.

    >>> refuted_at(sp.Symbol("a", positive=True) - 1) is None
    False
    """
    unknown = expression.atoms(sp.core.function.AppliedUndef, sp.Indexed, sp.MatrixSymbol)
    if unknown or any(symbol.is_integer or symbol.is_commutative is False for symbol in expression.free_symbols):
        return None
    draw = random.Random(0)
    for _ in range(_POINTS):
        point = {symbol: _value(symbol, draw) for symbol in sorted(expression.free_symbols, key=str)}
        value = sp.N(expression.subs(point), _DIGITS)
        if value.is_number and value.is_finite and abs(value) > sp.Rational(1, 10 ** (_DIGITS // 2)):
            return point
    return None


def _value(symbol: sp.Symbol, draw: random.Random) -> sp.Rational:
    share = Fraction(draw.randint(1, 999), 1000)
    return sp.Rational(share if symbol.is_positive else 4 * share - 2)
