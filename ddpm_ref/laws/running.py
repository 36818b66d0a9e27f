"""Running error analysis: a value in two words, and how far from it the roundings on the way to it may have led.

Where a result is a polynomial of other results (the square of a difference of two means), its bound is none of the few forms
of `ddpm_ref.laws.registry`. It is then found as the value is: every operation carries along what the errors of its operands do to
it, products of two errors included, and adds one rounding of its own (Higham 2002, section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddpm_ref.arithmetic import DoubleDouble, Expected
from ddpm_ref.arithmetic import double_double as two_words
from ddpm_ref.laws.cases import Case
from ddpm_ref.typing import Array

FUNCTION = 2  # roundings of an exponential or a logarithm, which are faithful to one ulp
COUNT = (
    16  # in how many equal parts an error is handed to the one bound formula; it stands for the longest way to a result
)


@dataclass(frozen=True, eq=False)
class Running:
    """``|computed - value| <= error * u``, with ``u`` the unit roundoff of the compute format of a claim."""

    value: DoubleDouble
    error: Array
    u: float

    def __add__(self, other: Running) -> Running:
        return self._rounded(self.value + other.value, self.error + other.error)

    def __sub__(self, other: Running) -> Running:
        return self._rounded(self.value - other.value, self.error + other.error)

    def __mul__(self, other: Running) -> Running:
        one, two = np.abs(self.value.high), np.abs(other.value.high)
        error = one * other.error + two * self.error + self.u * self.error * other.error
        return self._rounded(self.value * other.value, error)

    def times(self, power_of_two: float) -> Running:
        """Rounds nothing."""
        return Running(self.value * power_of_two, self.error * abs(power_of_two), self.u)

    @property
    def square(self) -> Running:
        """The product with itself."""
        return self * self

    def through(self, roundings: float) -> Running:
        """After so many roundings more, each relative to the value."""
        return Running(self.value, self.error + roundings * np.abs(self.value.high), self.u)

    def stored(self, case: Case) -> Running:
        """Handed over to another function in the storage format."""
        return self.through(case.stored_between_calls)

    def exp(self) -> Running:
        """The exponential, which turns an error of its argument into a relative one."""
        value = two_words.exp(self.value)
        return Running(value, value.high * np.expm1(self.u * self.error) / self.u, self.u).through(FUNCTION)

    def sum(self, roundings: float) -> Running:
        """Over the last axis, in any order of so many roundings."""
        total, size = self.value.sum(), np.abs(self.value.high).sum(axis=-1)
        return Running(total, self.error.sum(axis=-1) + roundings * size, self.u)

    def expected(self) -> Expected:
        """What a law expects."""
        return Expected(self.value, self.error / COUNT, COUNT)

    def _rounded(self, value: DoubleDouble, error: Array) -> Running:
        return Running(value, error + np.abs(value.high) + self.u * error, self.u)


def running(case: Case, value: DoubleDouble | Array | float, roundings: float | Array = 0) -> Running:
    """A number that has passed through so many roundings; none for what a case gives."""
    words = DoubleDouble.of(value)
    return Running(words, np.abs(words.high) * roundings, case.claim.computing.u)


def total(*terms: Running) -> Running:
    """Their sum in any order."""
    first, *rest = terms
    value, error, size = first.value, first.error, np.abs(first.value.high)
    for term in rest:
        value, error, size = value + term.value, error + term.error, size + np.abs(term.value.high)
    return Running(value, error + len(rest) * (size + first.u * error), first.u)


def depth(count: int) -> int:
    """Roundings granted to a sum of so many terms: the tree of pairs and 32 more, the rule for sums."""
    return int(np.ceil(np.log2(max(count, 1)))) + 32
