"""What a derivation is: checked steps from stated assumptions to an expression that can be evaluated.

A derivation is written as a function that drives a `Proof`. Every equation it claims is decided on the spot
(`ddpm_ref.symbolic.identity`); one that does not hold raises `ProofError`, so that a `Derivation` exists only if all
of its steps do.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from typing import NamedTuple

import mpmath
import sympy as sp

from ddpm_ref.errors import LevelError, ProofError, RangeError
from ddpm_ref.symbolic.identity import refuted_at, vanishes
from ddpm_ref.symbolic.levels import ExactSchedule, Number, exact, refuse_untied
from ddpm_ref.symbolic.symbols import FRACTIONS, RELATIONS, latex

DIGITS = 60


class Step(NamedTuple):
    """One line of a derivation: a sentence, and the formula it arrives at (LaTeX; empty if there is none)."""

    says: str
    formula: str


class Condition(NamedTuple):
    """Where a result holds: what must be positive there, and what to say to somebody who asks elsewhere."""

    positive: sp.Expr
    says: str


@dataclass(frozen=True, eq=False)
class Derivation:
    """A formula with its proof."""

    id: str
    """The formula's name, e.g. ``posterior_variance``."""
    subject: str
    """The file or folder it stands in, which is its subject: ``schedule``, ``forward``, ``posterior``..."""
    states: str
    """What is shown, as LaTeX."""
    source: str
    """Citation key and equation number."""
    introduction: str
    """What it is about and how the proof goes, in a few sentences."""
    assumes: tuple[str, ...]
    """What the proof starts from."""
    steps: tuple[Step, ...]
    """The proof, each equation checked."""
    results: Mapping[str, sp.Expr]
    """What it ends in, by name; expressions in the letters of `ddpm_ref.symbolic.symbols`."""
    domain: tuple[Condition, ...]
    """Where the results hold."""

    def letters(self, result: str) -> tuple[str, ...]:
        """Names of the letters that a result depends on, in alphabetical order."""
        return _names(self._expression(result))

    def value(self, result: str, **letters: Number) -> mpmath.mpf:
        """A result at given values of its letters, to 60 digits.

        Args:
            result: its name in ``results``.
            letters: exact rationals, or floats, which are read as the rationals they are; letters it does not depend
                on are ignored, but not by the conditions of its domain.

        Raises:
            RangeError: an unknown result, a letter without a value, a value that is no finite number or not one the letter can
                have (level letters lie in [0, 1] and hang together as `RELATIONS` says, exactly), or a point outside the
                domain.

        >>> from ddpm_ref.symbolic import derive
        >>> derive("posterior_variance").value("variance", beta=0.25, beta_bar_s=0.5, beta_bar_t=0.625)
        mpf('0.2')
        """
        numbers = {name: exact(value, name) for name, value in letters.items()}
        self._refuse_missing(result, numbers)
        self._refuse_outside(numbers)  # a forbidden point has words of its own
        refuse_untied(numbers)
        return self._value(result, numbers)

    def at(self, schedule: ExactSchedule, t: int, s: int | None = None, **data: Number) -> dict[str, mpmath.mpf]:
        """Every result at a level, or at a step, of a schedule.

        Args:
            schedule: exact betas.
            t, s: levels, ``T >= t > s >= 0``; ``s`` only for formulas of a step.
            data: values of the other letters.

        Returns:
            results by name, to 60 digits.

        Raises:
            LevelError: no such level, or one at which the formula is not defined.
            RangeError: a letter without a value, or a value outside the domain.
        """
        levels = {name: exact(value, name) for name, value in schedule.letters(t, s).items()}
        taken = sorted(levels.keys() & data.keys())
        if taken:
            raise RangeError(f"{self.id}: {taken[0]} is given by the schedule and its levels; leave it out")
        try:
            self._refuse_outside(levels)
        except RangeError as error:
            raise LevelError(f"{error} (asked at t = {t}" + (")" if s is None else f", s = {s})")) from error
        numbers = levels | {name: exact(value, name) for name, value in data.items()}
        for result in self.results:
            self._refuse_missing(result, numbers)
        self._refuse_outside(numbers)
        return {result: self._value(result, numbers) for result in self.results}

    def _value(self, result: str, numbers: Mapping[str, Fraction]) -> mpmath.mpf:
        self._refuse_impossible(numbers)
        try:
            return _evaluated(self._expression(result), numbers)
        except (ZeroDivisionError, ValueError) as error:
            raise RangeError(f"{self.id}: {result} has no value there ({error}); ask where it is defined") from error

    def _refuse_missing(self, result: str, values: Mapping[str, Fraction]) -> None:
        names = self.letters(result)
        missing = [name for name in names if name not in values]
        if missing:
            raise RangeError(f"{self.id}: {result} depends on {', '.join(names)}; give a value to {missing[0]} too")

    def _refuse_outside(self, values: Mapping[str, Fraction]) -> None:
        for condition in self.domain:
            known = all(name in values for name in _names(condition.positive))
            if known and not _evaluated(condition.positive, values) > 0:
                raise RangeError(f"{self.id}: {condition.says}")

    def _refuse_impossible(self, values: Mapping[str, Fraction]) -> None:
        for name, kind in self._kinds:
            if name in values and not _KINDS[kind].allows(values[name]):
                raise RangeError(f"{self.id}: {name} is {values[name]}; it is {_KINDS[kind].says}")

    @cached_property
    def _kinds(self) -> tuple[tuple[str, str], ...]:
        # Letters of levels have been looked at by refuse_untied; they may be 0 at the ends, whatever sympy assumes of them.
        symbols = {symbol for result in self.results.values() for symbol in result.free_symbols}
        own = sorted(
            (symbol for symbol in symbols if symbol.name not in FRACTIONS), key=lambda symbol: str(symbol.name)
        )
        return tuple((symbol.name, kind) for symbol in own for kind in _KINDS if getattr(symbol, f"is_{kind}"))

    def _expression(self, result: str) -> sp.Expr:
        if result not in self.results:
            raise RangeError(f"{self.id} has no result {result!r}; it has {', '.join(self.results)}")
        return self.results[result]


# Where a letter that a proof takes to be positive must not be 0, its domain says so; elsewhere 0 is a limit (sigma of DDIM).
class _Kind(NamedTuple):
    says: str
    allows: Callable[[Fraction], bool]


_KINDS = {
    "integer": _Kind("a whole number", lambda value: value.denominator == 1),
    "nonnegative": _Kind("0 or greater", lambda value: value >= 0),
}


@cache
def _names(expression: sp.Expr) -> tuple[str, ...]:
    return tuple(sorted(symbol.name for symbol in expression.free_symbols))


@cache
def _compiled(expression: sp.Expr) -> Callable[..., mpmath.mpf]:
    letters = sorted(expression.free_symbols, key=lambda symbol: str(symbol.name))
    function: Callable[..., mpmath.mpf] = sp.lambdify(letters, expression, "mpmath")
    return function


def _evaluated(expression: sp.Expr, values: Mapping[str, Fraction]) -> mpmath.mpf:
    given = (values[name] for name in _names(expression))
    with mpmath.workdps(DIGITS):
        numbers = [mpmath.mpf(value.numerator) / value.denominator for value in given]
        return mpmath.mpf(_compiled(expression)(*numbers))


class Proof:
    """The record that a derivation writes, line by line; equations are decided when they are written."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._assumes: list[str] = []
        self._steps: list[Step] = []
        self._results: dict[str, sp.Expr] = {}
        self._domain: list[Condition] = []

    def assume(self, says: str) -> None:
        """Note what the proof starts from; LaTeX between dollar signs."""
        self._assumes.append(says)

    def say(self, says: str, formula: sp.Basic | str = "") -> None:
        """Note a line that claims nothing to be checked: a definition, a substitution, what is about to be done."""
        self._steps.append(Step(says, formula if isinstance(formula, str) else latex(formula)))

    def equal(self, says: str, left: sp.Expr, right: sp.Expr, shown: str = "") -> sp.Expr:
        """Note that two expressions are equal, if they are, given how the level letters are tied (`RELATIONS`).

        Args:
            says: why, in a sentence.
            left, right: the two.
            shown: LaTeX of the equation, if it should not be printed as ``left = right`` (or once, if sympy has written both
                alike already).

        Returns:
            ``right``, to go on with.

        Raises:
            ProofError: they are not equal, or that could not be decided.
        """
        difference = (sp.sympify(left) - sp.sympify(right)).subs(RELATIONS)
        if not vanishes(difference):
            point = refuted_at(difference)
            where = "it could not be decided" if point is None else f"it is false, e.g. at {point}"
            raise ProofError(f"{self.name}: {says!r} claims {left} = {right}; {where}")
        self._steps.append(Step(says, shown or " = ".join(dict.fromkeys([latex(left), latex(right)]))))
        return right

    def holds(self, says: str, relation: sp.Basic | Iterable[sp.Basic], shown: str = "") -> None:
        """Note an inequality, or several, that sympy can decide from the assumptions about the letters.

        Args:
            says: why, in a sentence.
            relation: what is claimed, as sympy writes it; not a bool of Python, of which nobody could say how it was decided.
            shown: LaTeX of the claim, if it should not be printed as sympy writes it; required of several, and of what sympy
                has decided already.

        Raises:
            ProofError: one came out as anything but true, is no relation, or there is none.
        """
        relations = [relation] if isinstance(relation, (sp.Basic, bool)) else list(relation)
        for each in relations:
            if not isinstance(each, sp.logic.boolalg.Boolean):
                raise ProofError(
                    f"{self.name}: {says!r} gives {each!r}, which is no relation of sympy; write e.g. x > 0"
                )
            decided = sp.simplify(each)
            if decided != sp.true:
                raise ProofError(f"{self.name}: {says!r} claims {each}; it comes out as {decided}")
        self._note_several(says, relations, shown)

    def all_vanish(self, says: str, expressions: Iterable[sp.Expr], shown: str) -> None:
        """Note that every one of some expressions is 0: entries of a matrix, derivatives by letters that do not occur.

        Raises:
            ProofError: one is not, that could not be decided, or there is none.
        """
        expressions = list(expressions)
        for each in expressions:
            if not vanishes(sp.sympify(each).subs(RELATIONS)):
                raise ProofError(f"{self.name}: {says!r} claims that {each} vanishes; that could not be shown")
        self._note_several(says, expressions, shown)

    def _note_several(self, says: str, claims: Sequence[sp.Basic], shown: str) -> None:
        if not claims or not (shown or (len(claims) == 1 and claims[0] != sp.true)):
            raise ProofError(f"{self.name}: {says!r} claims nothing that can be shown; give claims and their LaTeX")
        self._steps.append(Step(says, shown or latex(claims[0])))

    def only_where(self, positive: sp.Expr, says: str) -> None:
        """State what must be positive for the results to hold, and what to tell somebody who asks elsewhere."""
        self._domain.append(Condition(positive, says))

    def conclude(self, **results: sp.Expr) -> None:
        """Name what has been found."""
        self._results |= {name: sp.sympify(result) for name, result in results.items()}

    def derivation(self, subject: str, states: str, source: str, introduction: str) -> Derivation:
        """The finished record.

        Raises:
            ProofError: nothing was shown, or nothing concluded.
        """
        if not self._steps or not self._results:
            raise ProofError(f"{self.name}: a derivation needs steps and a conclusion")
        return Derivation(
            self.name,
            subject,
            states,
            source,
            introduction,
            tuple(self._assumes),
            tuple(self._steps),
            dict(self._results),
            tuple(self._domain),
        )


Argument = Callable[[Proof], None]
Derive = Callable[[], Derivation]


def derives(states: str, source: str) -> Callable[[Argument], Derive]:
    """Make a function that drives a `Proof` into one that returns its `Derivation`, made once.

    The function's name is the formula's id, its module (or the package that this stands in) the subject, its docstring the
    introduction.
    """

    def decorate(argument: Argument) -> Derive:
        @cache
        def derived() -> Derivation:
            proof = Proof(argument.__name__)
            argument(proof)
            subject = argument.__module__.removeprefix("ddpm_ref.symbolic.").partition(".")[0]
            return proof.derivation(subject, states, source, inspect.cleandoc(argument.__doc__ or ""))

        functools.update_wrapper(derived, argument)
        return derived

    return decorate
