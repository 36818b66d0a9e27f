"""Errors of arithmetic: signs, terms, factors, constants."""

from __future__ import annotations

import ast
from copy import deepcopy

from tests.mutants.expressions import binary, changed, number, same, weights, with_weight
from tests.mutants.operators.registry import Wrong, operator


@operator
def sign_flipped(node: ast.expr, names: frozenset[str]) -> Wrong:
    """Minus for plus, plus for minus, a sign left out."""
    if binary(node, ast.Add):
        yield changed(node, op=ast.Sub())
    if binary(node, ast.Sub):
        yield changed(node, op=ast.Add())
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not number(node.operand):
        yield node.operand
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and number(node.operand):
        yield node.operand


@operator
def term_forgotten(node: ast.expr, names: frozenset[str]) -> Wrong:
    """One of two terms left out."""
    if binary(node, ast.Add, ast.Sub):
        yield node.left
        yield node.right if isinstance(node.op, ast.Add) else ast.UnaryOp(ast.USub(), deepcopy(node.right))


@operator
def factor_forgotten(node: ast.expr, names: frozenset[str]) -> Wrong:
    """One of two factors, or a division, left out."""
    if binary(node, ast.Mult) and not same(node.left, node.right):
        yield node.left
        yield node.right
    if binary(node, ast.Div):
        yield node.left


@operator
def plus_for_times(node: ast.expr, names: frozenset[str]) -> Wrong:
    """A sum where a product belongs, or the other way."""
    if binary(node, ast.Mult):
        yield changed(node, op=ast.Add())
    if binary(node, ast.Add):
        yield changed(node, op=ast.Mult())


@operator
def divided_instead_of_multiplied(node: ast.expr, names: frozenset[str]) -> Wrong:
    """A quotient where a product belongs, or the other way."""
    if binary(node, ast.Mult) and not same(node.left, node.right):
        yield changed(node, op=ast.Div())
    if binary(node, ast.Div):
        yield changed(node, op=ast.Mult())


@operator
def constant_changed(node: ast.expr, names: frozenset[str]) -> Wrong:
    """Another number: the next one, the one before, twice it, half of it."""
    if not number(node):
        return
    others = (node.value + 1, node.value - 1) if isinstance(node.value, int) else (2 * node.value, node.value / 2)
    for other in others:
        if other != node.value:
            yield ast.parse(f"({other!r})", mode="eval").body


@operator
def scaled(node: ast.expr, names: frozenset[str]) -> Wrong:
    """A coefficient twice or half as large."""
    for place, _ in weights(node):
        yield with_weight(node, place, "2 * c")
        yield with_weight(node, place, "c / 2")


@operator
def slightly_off(node: ast.expr, names: frozenset[str]) -> Wrong:
    """A coefficient that is wrong in the seventh digit."""
    for place, _ in weights(node):
        yield with_weight(node, place, "(1 + 2**-23) * c")


@operator
def noise_forgotten(node: ast.expr, names: frozenset[str]) -> Wrong:
    """The noise, or another of the tensors, does not enter."""
    for place, _ in weights(node):
        if place:
            yield with_weight(node, place, "0 * c")
