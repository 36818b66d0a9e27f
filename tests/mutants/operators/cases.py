"""Errors about cases, bounds, and the order of things."""

from __future__ import annotations

import ast

from tests.mutants.expressions import binary, called, changed, is_method, number
from tests.mutants.operators.registry import Wrong, operator


@operator
def special_case_removed(node: ast.expr, names: frozenset[str]) -> Wrong:
    """The general formula also where it does not hold: noise in the last step, 0/0 at level 0."""
    if called(node) == "where" and len(node.args) == 3:
        yield node.args[2]
    if is_method(node, "masked_fill"):
        yield node.func.value


@operator
def special_case_everywhere(node: ast.expr, names: frozenset[str]) -> Wrong:
    """What holds in one case, for all cases."""
    if called(node) == "where" and len(node.args) == 3:
        yield node.args[1]


@operator
def branches_swapped(node: ast.expr, names: frozenset[str]) -> Wrong:
    """The right answers to the opposite question."""
    if called(node) == "where" and len(node.args) == 3:
        yield changed(node, args=[node.args[0], node.args[2], node.args[1]])
    if isinstance(node, ast.IfExp):
        yield changed(node, body=node.orelse, orelse=node.body)


@operator
def comparison_off_by_one(node: ast.expr, names: frozenset[str]) -> Wrong:
    """``>=`` for ``>``, level 1 for level 0."""
    strict = {ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Lt: ast.LtE, ast.LtE: ast.Lt}
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        if type(node.ops[0]) in strict:
            yield changed(node, ops=[strict[type(node.ops[0])]()])
        elif number(node.comparators[0]):
            yield changed(node, comparators=[ast.Constant(node.comparators[0].value + 1)])


@operator
def comparison_turned(node: ast.expr, names: frozenset[str]) -> Wrong:
    """``<`` for ``>``, unequal for equal."""
    turned = {ast.Gt: ast.Lt, ast.GtE: ast.LtE, ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in turned:
        yield changed(node, ops=[turned[type(node.ops[0])]()])


@operator
def min_max_swapped(node: ast.expr, names: frozenset[str]) -> Wrong:
    """The smaller for the larger, a lower bound for an upper one."""
    other = {"minimum": "maximum", "maximum": "minimum", "min": "max", "max": "min"}
    if called(node) in other and isinstance(node, ast.Call):
        name = other[called(node)]
        yield changed(node, func=changed(node.func, **{"id" if isinstance(node.func, ast.Name) else "attr": name}))
    if is_method(node, "clamp") and node.keywords:
        yield changed(node, keywords=[ast.keyword(other[word.arg], word.value) for word in node.keywords])


@operator
def clip_bound_forgotten(node: ast.expr, names: frozenset[str]) -> Wrong:
    """Clipped on one side only, or not at all."""
    if is_method(node, "clamp"):
        yield node.func.value
        if len(node.args) == 2:
            yield changed(node, args=[node.args[0]])
            yield changed(node, args=[], keywords=[ast.keyword("max", node.args[1])])


# --- order ---


LEVELS = ("t", "s", "later", "earlier")
NO_QUANTITIES = (
    "tables", "self", "row", "step", "eta", "classifier_scale", "factor", "first_step", "trajectory", "probability",
    "null_label", "dtype", "device", "compute", "guidance_weight", "guidance_scale", "kind", "prediction", "source", "target",
)  # fmt: skip


def _kind(node: ast.expr) -> str:
    """What an argument is, as far as its name says: exchanging unlike ones only raises an error."""
    if not isinstance(node, (ast.Name, ast.Attribute)) or ast.unparse(node) in NO_QUANTITIES:
        return ""
    return "level" if ast.unparse(node) in LEVELS else "quantity"


@operator
def arguments_swapped(node: ast.expr, names: frozenset[str]) -> Wrong:
    """Two arguments in the wrong order: ``x0`` for ``xt``, ``t`` for ``s``, the noise for the data."""
    if called(node) == "lincomb" and isinstance(node.args[1], ast.List) and len(node.args[1].elts) > 1:
        first, second, *rest = node.args[1].elts
        yield changed(node, args=[node.args[0], ast.List([second, first, *rest], ast.Load())])
    if isinstance(node, ast.Call) and called(node) not in ("lincomb", "at", "where", "type"):
        kinds = [_kind(argument) for argument in node.args]
        for i in range(len(node.args) - 1):
            if kinds[i] and kinds[i] == kinds[i + 1]:
                swapped = [*node.args[:i], node.args[i + 1], node.args[i], *node.args[i + 2 :]]
                yield changed(node, args=swapped)


@operator
def outputs_swapped(node: ast.expr, names: frozenset[str]) -> Wrong:
    """Two results in the wrong order."""
    if isinstance(node, ast.Tuple) and len(node.elts) == 2 and isinstance(node.ctx, ast.Load):
        if any(isinstance(part, ast.Constant) for part in node.elts):
            return  # the keys of a table, the axes of a sum
        yield changed(node, elts=node.elts[::-1])


@operator
def along_the_wrong_axis(node: ast.expr, names: frozenset[str]) -> Wrong:
    """A coefficient per sample spread over the last axis instead of the first."""
    if called(node) == "expand_right":
        yield node.args[0]
    if is_method(node, "reshape") and len(node.args) == 1 and binary(node.args[0], ast.Add):
        shape = node.args[0]
        yield changed(node, args=[changed(shape, left=shape.right, right=shape.left)])


@operator
def mean_for_sum(node: ast.expr, names: frozenset[str]) -> Wrong:
    """An average where a sum belongs, or the other way."""
    for name, other in (("sum", "mean"), ("mean", "sum")):
        if is_method(node, name):
            yield changed(node, func=changed(node.func, attr=other))
