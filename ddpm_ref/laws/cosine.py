"""The law of the cosine schedule: betas whose exact values come from fifty digits."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.laws.cases import Case, Source
from ddpm_ref.laws.registry import Law, Mistake, Outputs, exact
from ddpm_ref.typing import Array

# The angles of the cosine are a quotient (1 + s, times T, pi / 2: four roundings) times a sum (two more); a sine of an angle below
# pi / 2 magnifies relative errors no further and adds two. Of the four sines two belong to longer sums: 9 + 6 + 2 * 7, and three
# more for the products and the quotient.
FOUR_SINES = 32
COSINE_DIGITS = 50


@lru_cache(maxsize=64)
def _cosine_words(T: int, s: float, max_beta: float) -> tuple[Array, Array]:
    """The exact betas in two words."""
    import mpmath

    mp = mpmath.mp.clone()
    mp.dps = COSINE_DIGITS
    offset = mp.mpf(s)
    f = [mp.cos((mp.mpf(t) / T + offset) / (1 + offset) * mp.pi / 2) ** 2 for t in range(T + 1)]
    betas = [min(1 - f[t] / f[t - 1], mp.mpf(max_beta)) for t in range(1, T + 1)]
    high = np.array([float(beta) for beta in betas])
    return high, np.array([float(beta - mp.mpf(first)) for beta, first in zip(betas, high.tolist(), strict=True)])


def _cosine_cases(source: Source, claim: Claim) -> Case:
    T, s, max_beta = source.choice([10, 1, 2, 50, 1000]), source.choice([0.008, 0.0, 0.1]), source.choice([0.999, 0.9])
    return Case(claim, None, {"T": np.asarray(T), "s": np.asarray(s), "max_beta": np.asarray(max_beta)})


def _cosine_expected(case: Case) -> tuple[Expected, ...]:
    return (exact(DoubleDouble(*_cosine_words(int(case.T), float(case.s), float(case.max_beta))), FOUR_SINES),)


def _cosine(
    case: Case, *, offset: float | None = None, total: float | None = None, power: float = 2, first: float = 0
) -> Array:
    """The betas in float64, by the formula as it is printed."""
    T, s = int(case.T), float(case.s) if offset is None else offset
    t = np.arange(T + 1) + first
    f = np.abs(np.cos((t / T + s) / (1 + s if total is None else total) * np.pi / 2)) ** power
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(1 - f[1:] / f[:-1])


def _clipped_cosine(case: Case, **how: float) -> Outputs:
    return (np.minimum(_cosine(case, **how), case.max_beta),)


def _cosine_of_rounded_quotients(case: Case) -> Outputs:
    """Every cosine rounded to the compute format before the quotient is subtracted from 1."""
    T, s, round_ = int(case.T), float(case.s), case.claim.computing.round
    f = round_(np.cos((np.arange(T + 1) / T + s) / (1 + s) * np.pi / 2) ** 2)
    return (np.minimum(round_(1 - round_(f[1:] / f[:-1])), case.max_beta),)


def _spread_of_rounded_quotients(case: Case) -> Outputs:
    """A cosine near its zero, and the subtraction from 1, magnify the few roundings of an angle."""
    T, s = int(case.T), float(case.s)
    angle = (np.arange(T) / T + s) / (1 + s) * np.pi / 2
    return (32 * (1 + np.abs(angle * np.tan(angle))),)


COSINE_BETAS = Law(
    id="schedule/cosine_betas",
    needs="cosine_betas",
    statement=r"\beta_t = \min\left(1 - f(t)/f(t-1),\ \beta_{\max}\right),"
    r"\quad f(t) = \cos^2\left(\frac{t/T + s}{1 + s}\cdot\frac\pi2\right)",
    source="nichol2021, eq. (17)",
    cases=_cosine_cases,
    call=lambda impl, c: impl.cosine_betas(int(c.T), float(c.s), float(c.max_beta)),
    expect=_cosine_expected,
    mistakes=(
        Mistake(
            "one_minus_a_rounded_quotient",
            _cosine_of_rounded_quotients,
            spread=_spread_of_rounded_quotients,
            rounding=True,
        ),
        Mistake("cosine_not_squared", lambda c: _clipped_cosine(c, power=1)),
        Mistake("shifted_by_one", lambda c: _clipped_cosine(c, first=-1)),
        Mistake("offset_ignored", lambda c: _clipped_cosine(c, offset=0.0)),
        Mistake("offset_not_divided_out", lambda c: _clipped_cosine(c, total=1.0)),
        Mistake("not_clipped", lambda c: (_cosine(c),)),
    ),
    kind="coefficient",
)

LAWS = (COSINE_BETAS,)
