"""Operators: the errors people make in such formulas, each as a function from an expression to wrong ones.

An operator is handed an expression of the syntax tree and the names that are in reach, and gives what somebody might have
written instead (nothing, where it does not apply). It never sees argument checking, messages or annotations: see
`tests.mutants.sites`.
"""

from tests.mutants.operators import arithmetic, cases, digits, levels
from tests.mutants.operators.registry import OPERATORS, Operator, Wrong

__all__ = ["OPERATORS", "Operator", "Wrong", "arithmetic", "cases", "digits", "levels"]
