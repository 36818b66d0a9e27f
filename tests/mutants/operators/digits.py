"""Errors about functions and digits."""

from __future__ import annotations

import ast

from tests.mutants.expressions import called, changed, is_method, weights, with_weight, written
from tests.mutants.operators.registry import Wrong, operator


@operator
def digits_lost(node: ast.expr, names: frozenset[str]) -> Wrong:
    """The textbook form where it cancels: ``log(1 + x)`` for log1p, ``exp(x) - 1`` for expm1."""
    for name, template in (("log1p", "(1 + x).log()"), ("expm1", "(x.exp() - 1)")):
        if called(node) == name:
            inner = node.args[0] if node.args else node.func.value
            yield written(template, x=inner)


@operator
def wrong_function(node: ast.expr, names: frozenset[str]) -> Wrong:
    """``log`` for ``log1p``, ``exp`` for ``expm1``, another base."""
    templates = {"log1p": "x.log()", "expm1": "x.exp()", "log": "x.log2()", "exp": "x.exp2()", "abs": "x"}
    if called(node) in templates and isinstance(node.func, (ast.Attribute, ast.Name)):
        if called(node) in ("log1p", "expm1"):
            yield written(templates[called(node)], x=node.args[0] if node.args else node.func.value)
        elif is_method(node, called(node)):
            yield written(templates[called(node)], x=node.func.value)
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "math.log":
        yield changed(node, func=written("math.log2"))


@operator
def computed_in_the_storage_format(node: ast.expr, names: frozenset[str]) -> Wrong:
    """Halves are not widened before they are computed with."""
    if called(node) == "compute_dtype":
        yield node.args[0]


@operator
def coefficient_rounded(node: ast.expr, names: frozenset[str]) -> Wrong:
    """A coefficient kept in bfloat16 or float32 although the data are wider."""
    for place, _ in weights(node):
        yield with_weight(node, place, "c.bfloat16().to(c.dtype)")
        yield with_weight(node, place, "c.float().to(c.dtype)")
    if ast.unparse(node) == "torch.float64":
        yield written("torch.float32")
