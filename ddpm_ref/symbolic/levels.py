"""A schedule in exact arithmetic: rational betas, and what the derivations' letters stand for at its levels."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable
from fractions import Fraction
from typing import TypeAlias

import sympy as sp

from ddpm_ref.errors import LevelError, ScheduleError

Number: TypeAlias = int | float | Fraction
"""What is taken exactly: floats as the rationals they are, and sympy's rationals too."""


class ExactSchedule:
    r"""Betas as exact rationals, :math:`\bar\alpha_t = \prod_{i \le t}(1 - \beta_i)`, levels ``0..T``.

    Args:
        betas: T numbers in (0, 1), the last one possibly 1; floats are read as the rationals they are.

    Raises:
        ScheduleError: no betas, or one out of range.

    >>> schedule = ExactSchedule([Fraction(1, 2), Fraction(1, 3)])
    >>> schedule.T, schedule.alpha_bar(2), schedule.letters(t=2, s=1)["beta"]
    (2, 1/3, 1/3)
    """

    def __init__(self, betas: Iterable[Number]) -> None:
        self.betas = tuple(sp.Rational(Fraction(beta)) for beta in betas)
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
