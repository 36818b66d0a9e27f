"""A schedule in exact arithmetic: rational betas, and what the derivations' letters stand for at its levels."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import TypeAlias

import sympy as sp

from ddpm_ref.errors import LevelError, RangeError, ScheduleError
from ddpm_ref.symbolic.symbols import FRACTIONS

Number: TypeAlias = int | float | Fraction
"""What is taken exactly: floats as the rationals they are, and sympy's rationals too."""


def exact(value: object, name: str) -> Fraction:
    """A finite real number as the rational it is.

    Args:
        value: an int, a float of Python or NumPy, a `Fraction`, a rational of sympy.
        name: what to call it in the message.

    Raises:
        RangeError: anything else: a bool, text, a complex number, infinity, nan.

    >>> exact(0.25, "beta")
    Fraction(1, 4)
    """
    if isinstance(value, sp.Rational):
        return Fraction(int(value.p), int(value.q))
    try:
        if not isinstance(value, bool) and hasattr(value, "as_integer_ratio"):
            return Fraction(*(int(part) for part in value.as_integer_ratio()))
    except (ValueError, OverflowError):  # nan and infinity
        pass
    raise RangeError(f"{name} is {value!r}; give a finite real number: an int, a float, a Fraction")


def refuse_untied(values: Mapping[str, Fraction]) -> None:
    r"""Refuse values of level letters that no schedule has: outside [0, 1], or not tied as the letters are.

    Raises:
        RangeError: such values; what is compared is exact, so fractions are the numbers to give.

    >>> refuse_untied({"alpha": Fraction(1, 2), "beta": Fraction(1, 2), "x0": Fraction(7)})
    """
    for name in sorted(FRACTIONS & values.keys()):
        if not 0 <= values[name] <= 1:
            raise RangeError(f"{name} is {values[name]}; it lies between 0 and 1")
    kept: dict[str, Fraction] = {}
    for name in ("alpha", "alpha_bar_t", "alpha_bar_s", "alpha_bar_r", "alpha_bar_T"):
        complement = name.replace("alpha", "beta")
        found = {values[name]} if name in values else set()
        found |= {1 - values[complement]} if complement in values else set()
        if len(found) == 2:
            raise RangeError(
                f"{name} = {values[name]} and {complement} = {values[complement]} do not sum to 1; give fractions that do"
            )
        if found:
            kept[name] = found.pop()
    step, upper, lower = (kept.get(name) for name in ("alpha", "alpha_bar_t", "alpha_bar_s"))
    if step is not None and upper is not None and lower is not None and upper != step * lower:
        raise RangeError(
            f"alpha_bar_t = {upper} is not alpha * alpha_bar_s = {step * lower}, so no schedule has these values together; "
            "give fractions that fit, or ask at a level of an ExactSchedule"
        )
    larger = {"alpha_bar_s": lower, "alpha": step}
    for name, value in larger.items():
        if upper is not None and value is not None and upper > value:
            raise RangeError(f"alpha_bar_t = {upper} is greater than {name} = {value}; signal only falls from s to t")


class ExactSchedule:
    r"""Betas as exact rationals, :math:`\bar\alpha_t = \prod_{i \le t}(1 - \beta_i)`, levels ``0..T``.

    Args:
        betas: T numbers in (0, 1), the last one possibly 1; floats are read as the rationals they are.

    Raises:
        ScheduleError: no betas, or one that is no number or out of range.

    >>> schedule = ExactSchedule([Fraction(1, 2), Fraction(1, 3)])
    >>> schedule.T, schedule.alpha_bar(2), schedule.letters(t=2, s=1)["beta"]
    (2, 1/3, 1/3)
    """

    def __init__(self, betas: Iterable[Number]) -> None:
        try:
            self.betas = tuple(sp.Rational(exact(beta, f"beta_{t}")) for t, beta in enumerate(betas, start=1))
        except RangeError as error:
            raise ScheduleError(str(error)) from None
        if not self.betas:
            raise ScheduleError("a schedule needs at least one beta; none was given")
        for t, beta in enumerate(self.betas, start=1):
            if not (0 < beta < 1 or (beta == 1 and t == self.T)):
                raise ScheduleError(f"beta_{t} is {beta}; betas lie strictly between 0 and 1 (the last one may be 1)")
        self._alpha_bars = tuple(
            itertools.accumulate((1 - beta for beta in self.betas), operator.mul, initial=sp.Integer(1))
        )

    @property
    def T(self) -> int:
        """The highest level."""
        return len(self.betas)

    def alpha_bar(self, t: int) -> sp.Rational:
        """What is left of the data at level ``t``; exactly 1 at level 0. Raises `LevelError` outside ``0..T``."""
        return self._alpha_bars[self._level(t, "t")]

    def letters(self, t: int, s: int | None = None) -> dict[str, sp.Rational]:
        """The values of the level letters: those of ``t``, of ``T``, and of the step to ``s`` if that is given.

        Raises:
            LevelError: a level outside ``0..T``, or ``s >= t``.
        """
        values = {"alpha_bar_t": self.alpha_bar(t), "alpha_bar_T": self._alpha_bars[-1]}
        if s is not None:
            if self._level(s, "s") >= t:
                raise LevelError(f"t = {t}, s = {s}; a step goes from a level to a lower one, t > s >= 0")
            values["alpha_bar_s"] = self.alpha_bar(s)
            values["alpha"] = values["alpha_bar_t"] / values["alpha_bar_s"]
            values["beta"] = 1 - values["alpha"]
        values |= {name.replace("alpha", "beta"): 1 - bar for name, bar in values.items() if "bar" in name}
        return values

    def _level(self, level: int, name: str) -> int:
        whole = not isinstance(level, bool) and hasattr(level, "__index__")
        if not whole or not 0 <= level <= self.T:
            raise LevelError(f"{name} = {level!r}; levels are whole numbers from 0 to T = {self.T}")
        return operator.index(level)
