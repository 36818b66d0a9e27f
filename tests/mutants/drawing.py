"""Which mutants are held before the laws: so many of each operator, from as many modules as possible, by a fixed seed."""

from __future__ import annotations

import hashlib
from itertools import zip_longest

from tests.mutants.operators import OPERATORS
from tests.mutants.sites import MODULES, Mutant, mutants_of

SEED = 0
OF_EACH_OPERATOR = 6


def everything() -> list[Mutant]:
    """Every mutant there is."""
    return [mutant for module in MODULES for mutant in mutants_of(module)]


def drawn(of_each: int = OF_EACH_OPERATOR) -> list[Mutant]:
    """``of_each`` mutants of each operator (or all there are), one module after the other.

    A mutant's place in the draw depends on itself alone, so that most of them stay when the mirror is edited.
    """
    chosen = []
    for operator in OPERATORS:
        of_modules = [
            sorted((m for m in mutants_of(module) if m.operator == operator), key=lambda m: _lot(m.id))
            for module in sorted(MODULES, key=lambda module: _lot(f"{operator} in {module}"))
        ]
        chosen += [m for turn in zip_longest(*of_modules) for m in turn if m is not None][:of_each]
    return sorted(chosen, key=lambda m: (m.module, m.line, m.id))


def _lot(name: str) -> str:
    return hashlib.sha256(f"{SEED} {name}".encode()).hexdigest()
