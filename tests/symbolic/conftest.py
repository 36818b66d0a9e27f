"""Holding the reference against the derivations: a thousand random rational points per formula, all exactly representable."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import mpmath
import pytest
import sympy as sp

from ddpm_ref.arithmetic import Claim
from ddpm_ref.arithmetic.bounds import gamma
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.symbolic import derive
from ddpm_ref.symbolic.derivation import DIGITS
from ddpm_ref.symbolic.levels import ExactSchedule

POINTS, SCHEDULES = 1000, 50
FP64 = Claim("fp64").computing


@dataclass(frozen=True)
class Case:
    """One point: a schedule in both worlds, a step, and data; every number is a float that is meant exactly."""

    schedule: NoiseSchedule
    exact: ExactSchedule
    t: int
    s: int
    data: dict[str, float]

    def __getattr__(self, name: str) -> float:
        """Data by letter: ``case.x0``."""
        return self.data[name]


def _dyadic(draw: random.Random, positive: bool) -> float:
    value = draw.randint(1, 2**20) / 2 ** draw.choice((12, 18, 20, 26))
    return value if positive or draw.random() < 0.5 else -value


def _beta(draw: random.Random) -> float:
    return draw.randint(1, 2**16 - 1) / 2 ** draw.choice((16, 16, 20, 30))


def cases(seed: int, letters: tuple[str, ...], positive: tuple[str, ...], lowest: int) -> Iterator[Case]:
    """``POINTS`` random cases with ``t > s >= lowest``; schedules of 1 to 8 levels, betas unordered, from 2^-30 to near 1."""
    draw = random.Random(seed)
    for _ in range(SCHEDULES):
        betas = [_beta(draw) for _ in range(draw.randint(lowest + 1, lowest + 8))]
        schedule, exact = NoiseSchedule.from_betas(betas), ExactSchedule(betas)
        for _ in range(POINTS // SCHEDULES):
            s = draw.randint(lowest, exact.T - 1)
            t = draw.randint(s + 1, exact.T)
            yield Case(schedule, exact, t, s, {name: _dyadic(draw, name in positive) for name in letters})


def scale(expression: sp.Expr) -> Callable[..., mpmath.mpf]:
    """``S`` of the bound: the expanded expression with every term replaced by its absolute value."""
    terms = sp.Add.make_args(sp.expand(expression))
    names = sorted(x.name for x in expression.free_symbols)
    by_name = {x.name: x for x in expression.free_symbols}
    function = sp.lambdify([by_name[name] for name in names], sp.Add(*map(sp.Abs, terms), evaluate=False), "mpmath")
    return lambda values: function(*(values[name] for name in names))


class Agreement:
    """Comparing at `POINTS` points: the first disagreement fails, and says where it was."""

    def tables(
        self,
        name: str,
        result: str,
        reference: Callable[[Case], float],
        *,
        lowest: int = 0,
        step: bool = True,
        seed: int = 0,
    ) -> None:
        """The reference's entry equals the derived value rounded once (mpmath's ``float`` rounds to nearest)."""
        derivation, count = derive(name), 0
        for case in cases(seed, (), (), lowest):
            want = derivation.at(case.exact, case.t, case.s if step else None)[result]
            got = float(reference(case))
            assert got == float(want), (name, result, case, got, want)
            count += 1
        assert count == POINTS
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
        seed: int = 0,
        scale_of: Callable[[dict[str, mpmath.mpf]], mpmath.mpf] | None = None,
    ) -> None:
        """The reference's answer is within the bound of so many roundings of the derived value."""
        derivation, count = derive(name), 0
        S = scale(derivation.results[result]) if scale_of is None else scale_of
        for case in cases(seed, data, positive, lowest):
            want = derivation.at(case.exact, case.t, case.s if step else None, **case.data)[result]
            values = case.exact.letters(case.t, case.s) | {n: sp.Rational(Fraction(x)) for n, x in case.data.items()}
            with mpmath.workdps(DIGITS):
                size = S({n: mpmath.mpf(int(x.p)) / int(x.q) for n, x in values.items()})
                bound = float(gamma(roundings, FP64.u)) * size + roundings * FP64.tiny
                error = abs(mpmath.mpf(float(reference(case))) - want)
            assert error <= bound, (name, result, case, float(reference(case)), want, float(error / bound))
            count += 1
        assert count == POINTS
        print(f"{name}, {result}: {count} points, 0 disagreements")


@pytest.fixture(scope="session")
def agree() -> Agreement:
    return Agreement()
