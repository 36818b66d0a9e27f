r"""Two dimensions, entry by entry: enough to see every kind of entry a matrix has, few enough to read.

A covariance is given by its lower triangular factor :math:`\Sigma = LL^\top` with positive diagonal (Cholesky), which makes
it positive definite whatever the entries, and every positive definite matrix is of this form. In the LaTeX of a vector or
a matrix ``#`` stands for the index.
"""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.gaussian import expectation
from ddpm_ref.symbolic.symbols import letter


def vector(name: str, latex: str) -> sp.Matrix:
    """Two real letters, ``name_1`` and ``name_2``."""
    return sp.Matrix([letter(f"{name}_{i}", latex.replace("#", str(i)), real=True) for i in (1, 2)])


def matrix(name: str, latex: str) -> sp.Matrix:
    """Four real letters, ``name_11`` to ``name_22``."""
    return sp.Matrix(
        2, 2, lambda i, j: letter(f"{name}_{i + 1}{j + 1}", latex.replace("#", f"{i + 1}{j + 1}"), real=True)
    )


def symmetric(name: str, latex: str) -> sp.Matrix:
    """Three letters, the diagonal positive."""
    a, b, c = (letter(f"{name}_{ij}", latex.replace("#", ij), real=True, **_positive(ij)) for ij in ("11", "21", "22"))
    return sp.Matrix([[a, b], [b, c]])


def lower(name: str, latex: str) -> sp.Matrix:
    """A lower triangular factor of three letters, the diagonal positive."""
    entries = symmetric(name, latex)
    return sp.Matrix([[entries[0, 0], 0], [entries[1, 0], entries[1, 1]]])


def inverse(of: sp.Matrix) -> sp.Matrix:
    """Cofactors over the determinant."""
    return of.adjugate() / of.det()


def quadratic(form: sp.Matrix, at: sp.Matrix) -> sp.Expr:
    r""":math:`x^\top A x`."""
    return (at.T * form * at)[0, 0]


def standard_expectation(f: sp.Expr, u: sp.Matrix) -> sp.Expr:
    """Over two independent standard normal letters: one integral after the other."""
    for one in u:
        f = expectation(f, one, 0, 1)
    return f


def _positive(entry: str) -> dict[str, bool]:
    return {"positive": True} if entry in ("11", "22") else {}
