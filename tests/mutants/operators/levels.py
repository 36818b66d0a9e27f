"""Errors about levels and tables."""

from __future__ import annotations

import ast

from tests.mutants.expressions import (
    binary,
    called,
    changed,
    is_method,
    number,
    read_at_level,
    same,
    weights,
    with_weight,
    written,
)
from tests.mutants.operators.registry import Wrong, operator


@operator
def shifted_by_one(node: ast.expr, names: frozenset[str]) -> Wrong:
    """The neighbouring entry of a table: an index counted from 0, or the previous level."""
    if read_at_level(node):
        yield changed(node, args=[node.args[0], written("t - 1", t=node.args[1])])
        yield changed(node, args=[node.args[0], written("t + 1", t=node.args[1])])
    if isinstance(node, ast.Subscript) and isinstance(node.slice, (ast.Name, ast.Attribute)):
        yield changed(node, slice=written("t - 1", t=node.slice))


@operator
def s_for_t(node: ast.expr, names: frozenset[str]) -> Wrong:
    """The other end of the step."""
    if read_at_level(node) and isinstance(node.args[1], ast.Name) and {"s", "t"} <= names:
        other = {"t": "s", "s": "t"}.get(node.args[1].id)
        if other:
            yield changed(node, args=[node.args[0], ast.Name(other, ast.Load())])
    if isinstance(node, ast.Attribute) and node.attr in ("beta_bar_s", "beta_bar_t"):
        yield changed(node, attr="beta_bar_t" if node.attr == "beta_bar_s" else "beta_bar_s")


@operator
def strided_step_taken_for_a_single_one(node: ast.expr, names: frozenset[str]) -> Wrong:
    """``alpha_t`` for ``alpha_{t|s}``: the step from t to s as if s were t - 1."""
    if called(node) == "between" and len(node.args) >= 2 and not isinstance(node.args[-1], ast.Starred):
        t = node.args[-2]
        yield changed(node, args=[*node.args[:-1], written("t - 1", t=t)])
    if isinstance(node, ast.Attribute) and {"tables", "t"} <= names and ast.unparse(node.value) in ("step", "row.step"):
        column = {"x0_weight": "posterior_x0_weight", "xt_weight": "posterior_xt_weight"}.get(node.attr, node.attr)
        if column in SINGLE_LEVEL:
            yield written(f"tables.{column}[t]")


SINGLE_LEVEL = (
    "alpha", "beta", "sqrt_alpha", "sqrt_beta", "recip_sqrt_alpha", "beta_tilde", "eps_weight", "posterior_x0_weight",
    "posterior_xt_weight",
)  # fmt: skip


# --- tables ---

WRONG_TABLE = {
    "alpha": ("alpha_bar",),
    "alpha_bar": ("alpha", "beta_bar"),
    "beta": ("beta_tilde", "beta_bar", "alpha"),
    "beta_bar": ("beta", "alpha_bar"),
    "beta_tilde": ("beta",),
    "sqrt_alpha": ("sqrt_alpha_bar",),
    "sqrt_alpha_bar": ("sqrt_alpha", "sqrt_beta_bar"),
    "sqrt_beta": ("sqrt_beta_bar", "std_tilde"),
    "sqrt_beta_bar": ("sqrt_beta", "sqrt_alpha_bar"),
    "std_tilde": ("sqrt_beta",),
    "recip_sqrt_alpha": ("sqrt_recip_alpha_bar",),
    "sqrt_recip_alpha_bar": ("recip_sqrt_alpha", "sqrt_recipm1_alpha_bar"),
    "sqrt_recipm1_alpha_bar": ("sqrt_recip_alpha_bar",),
    "x0_weight": ("xt_weight",),
    "xt_weight": ("x0_weight",),
    "log_alpha_bar_high": ("log_alpha_bar_low",),
    "log_alpha_bar_low": ("log_alpha_bar_high",),
    "high": ("low",),
}
OF_A_STEP = (
    "alpha",
    "beta",
    "beta_tilde",
    "sqrt_alpha",
    "sqrt_beta",
    "std_tilde",
    "x0_weight",
    "xt_weight",
    "high",
    "low",
)


def has(owner: str, attribute: str) -> bool:
    """Whether tables, a step, or a member of the DDIM family know this name."""
    if owner == "tables":
        return attribute != "std_tilde"
    return attribute in (*OF_A_STEP, "recip_sqrt_alpha", "eps_weight", "direction", "std")


@operator
def wrong_table(node: ast.expr, names: frozenset[str]) -> Wrong:
    """A neighbour in the list of tables: ``alpha`` for ``alpha_bar``, ``beta`` for ``beta_tilde``."""
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
        owner = ast.unparse(node.value)
        if owner in ("tables", "step", "self.step", "row.step", "row", "member", "self"):
            for other in WRONG_TABLE.get(node.attr, ()):
                if has(owner, other):
                    yield changed(node, attr=other)


ROOTS = {
    "sqrt_alpha": "alpha",
    "sqrt_beta": "beta",
    "std_tilde": "beta_tilde",
    "sqrt_alpha_bar": "alpha_bar",
    "sqrt_beta_bar": "beta_bar",
}


@operator
def root_forgotten(node: ast.expr, names: frozenset[str]) -> Wrong:
    """A variance where a standard deviation belongs, ``alpha_bar`` for its root."""
    if is_method(node, "sqrt"):
        yield node.func.value
    if isinstance(node, ast.Attribute) and node.attr in ROOTS and has(ast.unparse(node.value), ROOTS[node.attr]):
        yield changed(node, attr=ROOTS[node.attr])
    if isinstance(node, ast.Attribute) and node.attr in ("sqrt_beta_bar_t", "sqrt_alpha_bar_s"):
        yield written("x * x", x=node)


@operator
def root_added(node: ast.expr, names: frozenset[str]) -> Wrong:
    """A standard deviation where a variance belongs."""
    squares = {square: root for root, square in ROOTS.items()}
    if isinstance(node, ast.Attribute) and node.attr in squares and has(ast.unparse(node.value), squares[node.attr]):
        yield changed(node, attr=squares[node.attr])
    if isinstance(node, ast.Attribute) and node.attr in ("beta_bar_s", "beta_bar_t"):
        yield written("x.sqrt()", x=node)


@operator
def square_forgotten(node: ast.expr, names: frozenset[str]) -> Wrong:
    """``eta`` for its square, an error for its square."""
    if is_method(node, "square"):
        yield node.func.value
    if binary(node, ast.Mult) and same(node.left, node.right):
        yield node.left
    if binary(node, ast.Mult) and binary(node.left, ast.Mult) and same(node.left.left, node.left.right):
        yield changed(node, left=node.left.left)


@operator
def reciprocal(node: ast.expr, names: frozenset[str]) -> Wrong:
    """The number itself where its reciprocal belongs, or the other way."""
    if is_method(node, "reciprocal"):
        yield node.func.value
    if binary(node, ast.Div) and number(node.left) and node.left.value == 1 and not number(node.right):
        yield node.right
    if isinstance(node, ast.Attribute) and node.attr == "recip_sqrt_alpha":
        yield changed(node, attr="sqrt_alpha")
    if isinstance(node, ast.Attribute) and node.attr == "sqrt_recip_alpha_bar":
        yield changed(node, attr="sqrt_alpha_bar")
    for place, _ in weights(node):
        yield with_weight(node, place, "1 / c")
