"""Holding the reference against the derivations at random rational points, all exactly representable.

A thousand points per formula in ``make test-full``; ``make test`` takes the first two hundred, of ten schedules.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from itertools import islice
from typing import Any

import mpmath
import pytest
import sympy as sp

from ddpm_ref.arithmetic import Claim, ulp_distance
from ddpm_ref.arithmetic.bounds import gamma
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.symbolic import derive
from ddpm_ref.symbolic.derivation import DIGITS
from ddpm_ref.symbolic.levels import ExactSchedule

POINTS, SCHEDULES = 1000, 50
FEW = 200
FP64 = Claim("fp64").computing


@dataclass(frozen=True)
class Case:
    """One point: a schedule in both worlds, a step, and data; every number is a float that is meant exactly."""

    schedule: NoiseSchedule
    exact: ExactSchedule
    t: int
    s: int
    levels: dict[str, Fraction] = field(repr=False)
    data: dict[str, float]

    def __getattr__(self, name: str) -> float:
        """Data by letter: ``case.x0``."""
        return self.data[name]


def _dyadic(draw: random.Random, positive: bool) -> float:
    value = draw.randint(1, 2**20) / 2 ** draw.choice((12, 18, 20, 26))
    return value if positive or draw.random() < 0.5 else -value


def _datum(draw: random.Random, name: str, positive: tuple[str, ...]) -> float:
    if name == "eta":  # both ends as often as anything between
        return draw.choice((0.0, 1.0, draw.randint(0, 2**20) / 2**20, draw.randint(0, 2**20) / 2**20))
    return draw.randint(0, 2**20) / 2**20 if name == "fraction" else _dyadic(draw, name in positive)


def _beta(draw: random.Random) -> float:
    return draw.randint(1, 2**16 - 1) / 2 ** draw.choice((16, 16, 20, 30))


@cache
def _steps(
    seed: int, lowest: int, adjacent: bool
) -> list[tuple[NoiseSchedule, ExactSchedule, int, int, dict[str, Fraction]]]:
    """Schedules and steps on them, with the exact letters of each; shared by all formulas."""
    draw, steps = random.Random(seed), []
    for _ in range(SCHEDULES):
        betas = [_beta(draw) for _ in range(draw.randint(lowest + 1, lowest + 8))]
        schedule, exact = NoiseSchedule.from_betas(betas), ExactSchedule(betas)
        for _ in range(POINTS // SCHEDULES):
            s = draw.randint(lowest, exact.T - 1)
            t = s + 1 if adjacent else draw.randint(s + 1, exact.T)
            letters = {name: Fraction(int(x.p), int(x.q)) for name, x in exact.letters(t, s).items()}
            steps.append((schedule, exact, t, s, letters))
    return steps


def cases(
    seed: int, letters: tuple[str, ...], positive: tuple[str, ...], lowest: int, adjacent: bool = False
) -> Iterator[Case]:
    """``POINTS`` random cases with ``t > s >= lowest``; schedules of 1 to 8 levels, betas unordered, from 2^-30 to near 1.

    ``adjacent``: only steps from ``s = t - 1``.
    """
    draw = random.Random(f"data {seed}")
    for step in _steps(seed, lowest, adjacent):
        yield Case(*step, {name: _datum(draw, name, positive) for name in letters})


def _of_level(levels: dict[str, Fraction]) -> dict[str, Fraction]:
    """Without the letters of the step: a formula of one level must not need them."""
    return {name: value for name, value in levels.items() if name.endswith(("_t", "_T"))}


def scale(expression: sp.Expr) -> Callable[..., mpmath.mpf]:
    """``S`` of the bound: the expanded expression with every term replaced by its absolute value."""
    terms = sp.Add.make_args(sp.expand(expression))
    names = sorted(x.name for x in expression.free_symbols)
    by_name = {x.name: x for x in expression.free_symbols}
    function = sp.lambdify([by_name[name] for name in names], sp.Add(*map(sp.Abs, terms), evaluate=False), "mpmath")
    return lambda values: function(*(values[name] for name in names))


@dataclass(frozen=True)
class Agreement:
    """Comparing at so many points: the first disagreement fails, and says where it was."""

    points: int

    def cases(self, *data: str, adjacent: bool = False) -> Iterator[Case]:
        """The points themselves, for a test with a comparison of its own."""
        return self._cases(0, data, (), 0, adjacent)

    def _cases(self, *which: Any) -> Iterator[Case]:
        return islice(cases(*which), self.points)

    def tables(
        self,
        name: str,
        result: str,
        reference: Callable[[Case], float],
        *,
        data: tuple[str, ...] = (),
        lowest: int = 0,
        step: bool = True,
        adjacent: bool = False,
        ulps: int = 0,
        seed: int = 0,
    ) -> None:
        """The reference's entry equals the derived value rounded once (mpmath's ``float`` rounds to nearest).

        ``ulps``: how far it may be instead, for logarithms, which the reference promises within one.
        """
        derivation, count = derive(name), 0
        for case in self._cases(seed, data, (), lowest, adjacent):
            levels = case.levels if step else _of_level(case.levels)
            want, got = derivation.value(result, **levels, **case.data), float(reference(case))
            assert ulp_distance(got, float(want)) <= ulps, (name, result, case, got, want)
            count += 1
        assert count == self.points
        print(f"{name}, {result}: {count} points, 0 disagreements")

    def functions(
        self,
        name: str,
        result: str,
        reference: Callable[[Case], float],
        *,
        data: tuple[str, ...],
        positive: tuple[str, ...] = (),
        roundings: int,
        lowest: int = 0,
        step: bool = True,
        adjacent: bool = False,
        seed: int = 0,
        scale_of: Callable[[dict[str, mpmath.mpf]], mpmath.mpf] | None = None,
    ) -> None:
        """The reference's answer is within the bound of so many roundings of the derived value."""
        derivation, count, relative = derive(name), 0, float(gamma(roundings, FP64.u))
        S = scale(derivation.results[result]) if scale_of is None else scale_of
        for case in self._cases(seed, data, positive, lowest, adjacent):
            levels = case.levels if step else _of_level(case.levels)
            want = derivation.value(result, **levels, **case.data)
            with mpmath.workdps(DIGITS):
                values = {n: mpmath.mpf(x.numerator) / x.denominator for n, x in levels.items()}
                size = S(values | {n: mpmath.mpf(x) for n, x in case.data.items()})
                bound = relative * size + roundings * FP64.tiny
                error = abs(mpmath.mpf(float(reference(case))) - want)
            assert error <= bound, (name, result, case, float(reference(case)), want, float(error / bound))
            count += 1
        assert count == self.points
        print(f"{name}, {result}: {count} points, 0 disagreements")

    def arguments(
        self,
        name: str,
        result: str,
        draw: Callable[[random.Random], dict[str, float | Fraction]],
        reference: Callable[[dict[str, float | Fraction]], float],
        *,
        roundings: int = 0,
        seed: int = 0,
        scale_of: Callable[[dict[str, mpmath.mpf]], mpmath.mpf] | None = None,
    ) -> None:
        """The same for letters that no schedule gives, drawn by the test: equality, or so many roundings of the terms."""
        derivation, source, relative = derive(name), random.Random(seed), float(gamma(roundings, FP64.u))
        S = scale_of or (scale(derivation.results[result]) if roundings else None)
        for _ in range(self.points):
            letters = draw(source)
            want, got = derivation.value(result, **letters), float(reference(letters))
            if S is None:
                assert got == float(want), (name, result, letters, got, want)
                continue
            with mpmath.workdps(DIGITS):
                size = S({n: mpmath.mpf(Fraction(x).numerator) / Fraction(x).denominator for n, x in letters.items()})
                bound = relative * size + roundings * FP64.tiny
                assert abs(got - want) <= bound, (name, result, letters, got, want)
        print(f"{name}, {result}: {self.points} points, 0 disagreements")


@pytest.fixture(scope="session")
def agree(request: pytest.FixtureRequest) -> Agreement:
    return Agreement(FEW if "not full" in request.config.getoption("markexpr") else POINTS)
