"""Reading and writing expressions of the syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from copy import deepcopy


def written(template: str, **parts: ast.expr) -> ast.expr:
    """An expression in which the names of ``parts`` stand for expressions."""

    class Fill(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return deepcopy(parts[node.id]) if node.id in parts else node

    filled: ast.expr = Fill().visit(ast.parse(template, mode="eval").body)
    return filled


def changed(node: ast.expr, **fields: object) -> ast.expr:
    """A copy of an expression with some of its fields replaced."""
    copy = deepcopy(node)
    for name, value in fields.items():
        setattr(copy, name, deepcopy(value))
    return copy


def called(node: ast.expr) -> str:
    """The name of the function or method that a call calls, empty for anything else."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def is_method(node: ast.expr, name: str) -> bool:
    """Whether this is ``x.name(...)`` of a value x, not ``torch.name(...)``."""
    return called(node) == name and isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) != "torch"


def same(a: ast.expr, b: ast.expr) -> bool:
    return ast.dump(a) == ast.dump(b)


def binary(node: ast.expr, *kinds: type[ast.operator]) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, kinds)


def number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def weights(node: ast.expr) -> Iterator[tuple[int, ast.expr]]:
    """The coefficients in ``lincomb([c_1, ..., c_m], [v_1, ..., v_m])`` and their places, without those that are 1."""
    if called(node) == "lincomb" and isinstance(node.args[0], ast.List):
        for place, weight in enumerate(node.args[0].elts):
            if ast.unparse(weight) != "one" and called(weight) != "ones_like":
                yield place, weight


def with_weight(node: ast.expr, place: int, template: str) -> ast.expr:
    """The linear combination with one coefficient ``c`` replaced."""
    copy = deepcopy(node)
    copy.args[0].elts[place] = written(template, c=node.args[0].elts[place])
    return copy


def read_at_level(node: ast.expr) -> bool:
    """Whether this is ``at(column, level)``."""
    return called(node) == "at" and len(node.args) == 2
