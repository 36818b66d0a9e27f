"""Deciding whether two expressions are equal: by algebra, not by trying numbers; numbers only refute."""

from __future__ import annotations

import random

import sympy as sp

from ddpm_ref.symbolic.symbols import FRACTIONS

_POINTS, _DIGITS = 4, 40


def vanishes(expression: sp.Expr) -> bool:
    r"""Whether an expression is identically zero; False also if that could not be shown.

    Rational functions of the letters and of square roots are decided: under a common denominator each root becomes a
    letter ``r`` with ``r**2`` reduced to its radicand, and what remains is a polynomial to expand. Sums over an index are
    taken apart term by term first. Exponentials, logarithms and sums are handed to `sympy.simplify`. Roots and logarithms
    of a product are taken apart only where the assumptions about the letters allow it.

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
    expression = sp.expand_log(expression.replace(sp.log, _log))
    return bool(_numerator(expression) == 0 or sp.simplify(expression) == 0)


def _log(argument: sp.Expr) -> sp.Expr:
    # What lies between 0 and 1 is written r / (1 + r), r > 0, so that sympy sees that 1 - alpha is positive.
    odds = {x: sp.Symbol(f"odds_{x.name}", positive=True) for x in argument.free_symbols if x.name in FRACTIONS}
    return sp.expand_log(sp.log(sp.factor(argument.subs({x: r / (1 + r) for x, r in odds.items()}, simultaneous=True))))


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
    expression = sp.powdenest(sp.expand_power_base(expression.subs(letters)))
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


def refuted_at(expression: sp.Expr) -> dict[sp.Expr, sp.Expr] | None:
    """A point at which an expression is certainly not zero, or None if none of the few tried shows it.

    Every letter, entry of an indexed letter and value of an undefined function takes a random value of its kind: whole
    where it is whole, below 0 too where it may be, and beyond 1 unless it is known to lie between 0 and 1
    (`ddpm_ref.symbolic.symbols.FRACTIONS`). An expression with matrices is not tried.

    >>> refuted_at(sp.Symbol("a", positive=True) - 1) is None
    False
    >>> n = sp.Symbol("n", integer=True)
    >>> refuted_at(sp.log(n**2) - 2 * sp.log(n))
    {n: -5}
    """
    if any(symbol.is_commutative is False for symbol in expression.free_symbols) or expression.has(sp.MatrixSymbol):
        return None
    for seed in range(_POINTS):
        draw = random.Random(seed)
        point = _point(expression, draw, extreme=seed == 0)
        value = sp.N(_placed(expression, point, draw, extreme=seed == 0), _DIGITS)
        if value.is_number and value.is_finite and abs(value) > sp.Rational(1, 10 ** (_DIGITS // 2)):
            return point
    return None


def _point(expression: sp.Expr, draw: random.Random, extreme: bool) -> dict[sp.Expr, sp.Expr]:
    labels = {entry.base.label for entry in expression.atoms(sp.Indexed)} | expression.atoms(sp.Indexed)
    return {symbol: _value(symbol, draw, extreme) for symbol in sorted(expression.free_symbols - labels, key=str)}


def _placed(expression: sp.Expr, point: dict[sp.Expr, sp.Expr], draw: random.Random, extreme: bool) -> sp.Expr:
    # Letters first, so that sums with whole ends can be written out, then entries and functions, the innermost first.
    expression = expression.subs(point)
    if expression.has(sp.Sum, sp.Product):
        expression = expression.replace(lambda part: isinstance(part, (sp.Sum, sp.Product)), lambda part: part.doit())
    unknowns = expression.atoms(sp.Indexed, sp.core.function.AppliedUndef)
    while unknowns:
        inner = min(unknowns, key=lambda part: (part.count_ops(), str(part)))
        point[inner] = _value(inner, draw, extreme)
        expression = expression.subs(inner, point[inner])
        unknowns = expression.atoms(sp.Indexed, sp.core.function.AppliedUndef)
    return expression


def _value(unknown: sp.Expr, draw: random.Random, extreme: bool) -> sp.Rational:
    share = sp.Rational(draw.randint(1, 999), 1000)
    if unknown.is_Symbol and unknown.name in FRACTIONS:
        return share
    size = sp.Integer(draw.randint(1, 6)) if unknown.is_integer else share + draw.choice((0, 2))
    if extreme:  # at one point everything is large, and below 0 where it may be
        size += 1
    below = unknown.is_negative or (not unknown.is_nonnegative and (extreme or draw.random() < 0.5))
    return -size if below else size
