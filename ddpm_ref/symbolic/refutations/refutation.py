"""What a refutation is: a common statement beside the derived one, how far apart they are, and a point where that shows.

A refutation is written as a function that drives a `Case`, which is a `Proof` that can also contrast. Everything it
claims is decided on the spot: that the published form is the derived one, that the discrepancy is the one stated, and
that at the witness, a point with rational coordinates, the two sides are different numbers. A statement that is right
cannot be refuted: `ProofError`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Literal, NamedTuple

import sympy as sp

from ddpm_ref.errors import ProofError
from ddpm_ref.symbolic.derivation import Proof, Step
from ddpm_ref.symbolic.identity import vanishes
from ddpm_ref.symbolic.levels import ExactSchedule, Number
from ddpm_ref.symbolic.symbols import RELATIONS, alpha_bar_t, beta, beta_bar_s, beta_bar_t, latex, letter

WITNESS = ExactSchedule((Fraction(9, 25), Fraction(7, 16)))
"""Two steps after which the roots of alpha, of both alpha_bars and of both beta_bars are rational."""
FROM, TO = 2, 1

beta_tilde = letter("beta_tilde", r"\tilde\beta_{t\mid s}", positive=True)
snr = letter("snr", r"\mathrm{SNR}_t", positive=True)
SHORT: dict[sp.Expr, sp.Expr] = {beta_tilde: beta * beta_bar_s / beta_bar_t, snr: alpha_bar_t / beta_bar_t}
"""Names for expressions in the level letters, so that statements read as they are written."""

v0 = letter("v0", "v_0", positive=True)
"""The variance of the data, where they are taken to be normal with mean 0."""

_DIGITS = 40


class Contrast(NamedTuple):
    """One quantity: as derived, as published by those who have it right, and as it is commonly written."""

    about: str
    """What quantity it is, a phrase."""
    proved: str
    """That the derived form is the published one, as LaTeX."""
    derived: sp.Expr
    right: sp.Expr
    wrong: sp.Expr
    measure: Literal["ratio", "difference"]
    """Whether ``discrepancy`` is wrong over right or wrong minus right."""
    discrepancy: sp.Expr
    data: Mapping[str, sp.Rational]
    """The witness: values of the letters that no schedule gives; the levels are those of `WITNESS`."""
    right_there: sp.Expr
    wrong_there: sp.Expr
    """Both sides at the witness, exactly."""

    def formula(self) -> str:
        """The common form and its discrepancy, as LaTeX."""
        name = r"\frac{\text{written}}{\text{right}}" if self.measure == "ratio" else r"\text{written} - \text{right}"
        return rf"{latex(self.wrong)}, \qquad {name} = {latex(self.discrepancy)}"

    def witness(self) -> str:
        """The point where both sides were evaluated, as LaTeX; empty if there is no letter in them."""
        names = {symbol.name: latex(symbol) for symbol in self.right.free_symbols | self.wrong.free_symbols}
        where = [f"{names[name]} = {latex(value)}" for name, value in self.data.items() if name in names]
        if names.keys() - self.data.keys():
            betas = [rf"\beta_{i} = {latex(beta)}" for i, beta in enumerate(WITNESS.betas, start=1)]
            where = [*betas, f"t = T = {FROM}", f"s = {TO}", *where]
        return r",\ ".join(where)


@dataclass(frozen=True, eq=False)
class Refutation:
    """A common statement that does not follow, with what does."""

    erratum: str
    """The id of the erratum, e.g. ``E13``."""
    subject: str
    """The file it stands in."""
    introduction: str
    """What is compared and where the right side comes from, in a few sentences."""
    assumes: tuple[str, ...]
    steps: tuple[Step, ...]
    """How the right side was derived; each equation checked."""
    contrasts: tuple[Contrast, ...]
    """What is wrong; at least one."""


class Case(Proof):
    """A proof that may also say: this is what is commonly written, and it is something else."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._contrasts: list[Contrast] = []

    def contrast(
        self,
        about: str,
        *,
        derived: sp.Expr,
        right: sp.Expr,
        wrong: sp.Expr,
        ratio: sp.Expr | None = None,
        difference: sp.Expr | None = None,
        **data: Number,
    ) -> None:
        """Note that a quantity is not what is commonly written.

        Args:
            about: the quantity, a phrase.
            derived: what the computation gave.
            right: its published form.
            wrong: the common one.
            ratio: wrong over right, simplified; or
            difference: wrong minus right.
            data: values, at the witness, of the letters that no schedule gives.

        Raises:
            ProofError: ``derived`` is not ``right``, the discrepancy is not the stated one, the witness leaves a letter
                open, or both sides are equal there: then nothing is refuted.
        """
        derived, right, wrong = (sp.sympify(side) for side in (derived, right, wrong))
        shown = " = ".join(dict.fromkeys([latex(derived), latex(right)]))
        self.equal(about, derived.subs(SHORT), right.subs(SHORT), shown)
        proved = self._steps.pop().formula  # shown with the contrast, not among the steps that lead to it
        if ratio is not None:
            measure: Literal["ratio", "difference"] = "ratio"
            discrepancy, rest = sp.sympify(ratio), wrong - sp.sympify(ratio) * right
        else:
            measure = "difference"
            discrepancy, rest = sp.sympify(difference), wrong - right - sp.sympify(difference)
        if not vanishes(rest.subs(SHORT).subs(RELATIONS)):
            raise ProofError(f"{self.name}: the {measure} stated for {about} is not {discrepancy}")
        point = {name: sp.Rational(Fraction(value)) for name, value in data.items()}
        right_there, wrong_there = self._there(right, point), self._there(wrong, point)
        apart = sp.N(wrong_there - right_there, _DIGITS)
        if not abs(apart) > sp.Rational(1, 10 ** (_DIGITS // 2)):
            raise ProofError(f"{self.name}: {about} is not refuted; at {point or 'the witness'} both sides are equal")
        self._contrasts.append(
            Contrast(about, proved, derived, right, wrong, measure, discrepancy, point, right_there, wrong_there)
        )

    def _there(self, side: sp.Expr, point: Mapping[str, sp.Rational]) -> sp.Expr:
        values = WITNESS.letters(FROM, TO) | dict(point)
        side = side.subs(SHORT)
        side = side.subs({symbol: values[symbol.name] for symbol in side.free_symbols if symbol.name in values})
        if side.free_symbols or not side.is_finite:
            raise ProofError(f"{self.name}: the witness gives {side}, which is no number; give every letter a value")
        return side

    def refutation(self, subject: str, introduction: str) -> Refutation:
        """The finished record.

        Raises:
            ProofError: nothing was refuted.
        """
        if not self._contrasts:
            raise ProofError(f"{self.name}: a refutation needs a contrast")
        return Refutation(
            self.name, subject, introduction, tuple(self._assumes), tuple(self._steps), tuple(self._contrasts)
        )


Argument = Callable[[Case], None]


@dataclass(frozen=True)
class Refute:
    """What makes the refutation of an erratum, when first called."""

    erratum: str
    argument: Argument

    @cache  # noqa: B019 - there is one of these per erratum, and it lives as long as the program
    def __call__(self) -> Refutation:
        """The refutation; raises `ProofError` if anything in it does not hold."""
        case = Case(self.erratum)
        self.argument(case)
        subject = self.argument.__module__.rpartition(".")[2]
        return case.refutation(subject, " ".join(inspect.cleandoc(self.argument.__doc__ or "").split()))


def refutes(erratum: str) -> Callable[[Argument], Refute]:
    """Make a function that drives a `Case` into what makes its `Refutation`; its docstring is the introduction."""
    return lambda argument: Refute(erratum, argument)
