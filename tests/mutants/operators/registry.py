"""What an operator is, and the list of them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import TypeAlias

Wrong: TypeAlias = Iterator[ast.expr]
Operator: TypeAlias = Callable[[ast.expr, frozenset[str]], Wrong]

OPERATORS: dict[str, Operator] = {}


def operator(function: Operator) -> Operator:
    """Enter an operator under its own name."""
    OPERATORS[function.__name__] = function
    return function
