"""Laws of spacings: the levels that a sampler of K steps visits, and that its steps lead from each of them to the next.

A sampler takes its levels from one place and its coefficients from another; where the two disagree, every single step is right
and the chain is wrong. So the list is compared level by level, and whole samplers by the exact moments of what they make of
normal data, as in `ddpm_ref.laws.oracle`, on the trajectory that the spacing says.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from itertools import count
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.laws.cases import Case, Cases, Source, at, draw_schedule, words
from ddpm_ref.laws.family import with_eta
from ddpm_ref.laws.oracle import (
    Columns,
    ancestral_columns,
    ancestral_mistakes,
    answers,
    ddim_columns,
    ddim_mistakes,
    high,
    impulses,
    moments,
    of_impulses,
    wrong_moments,
)
from ddpm_ref.laws.registry import Law, Mistake, Outputs
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array

SPACINGS = words("spacing", "leading", "linspace", "trailing")
SOURCE = "lin2024, table 2"


# --- cases ------------------------------------------------------------------------------------------------------------


def _exact(T: int, steps: int, spacing: str) -> list[Fraction]:
    """The levels before they are rounded, upwards."""
    if spacing == "leading":
        return [Fraction(1 + k * (T // steps)) for k in range(steps)]
    if spacing == "trailing":
        return [Fraction(T * (k + 1), steps) for k in range(steps)]
    return [1 + Fraction(k * (T - 1), max(steps - 1, 1)) for k in range(steps)]


def _without_ties(T: int, steps: int, spacing: str) -> int:
    """The largest number of steps up to this one whose levels nobody need round from the middle between two.

    Which of the two a source means it does not say.
    """
    return next(K for K in count(steps, -1) if all(level.denominator != 2 for level in _exact(T, K, spacing)))


@lru_cache(maxsize=64)
def _treacherous(T: int) -> list[int]:
    """Numbers of steps for which a range in floating point, from T downwards by T/K, has a level too many."""
    return [K for K in range(1, T + 1) if len(np.arange(T, 0, -T / K)) != K and _without_ties(T, K, "trailing") == K]


def _drawn(source: Source, most: int, *, treacherous: bool = False) -> tuple[NoiseSchedule, int, int]:
    """A schedule, a number of steps, and the place of a spacing in `SPACINGS`."""
    schedule, kind = draw_schedule(source, zero_snr=False), source.integer(0, len(SPACINGS) - 1)
    steps = _without_ties(schedule.T, source.integer(1, min(schedule.T, most)), SPACINGS[kind])
    if treacherous and SPACINGS[kind] == "trailing" and (known := _treacherous(schedule.T)):
        steps = source.choice([steps, source.choice(known)])
    return schedule, steps, kind


def _lists(source: Source, claim: Claim) -> Case:
    """A schedule, a number of steps and a spacing."""
    schedule, steps, kind = _drawn(source, 1000, treacherous=True)
    return Case(claim, schedule, {"steps": np.asarray(steps), "spacing": np.asarray(kind)})


def _walks(source: Source, claim: Claim) -> Case:
    """The same, with the steps of the trajectory, downwards."""
    schedule, steps, kind = _drawn(source, 64 if source.bulk else 6)
    levels = np.array(schedule.trajectory(steps, SPACINGS[kind]).levels, dtype=np.int64)
    named = {"steps": np.asarray(steps), "spacing": np.asarray(kind)}
    return Case(claim, schedule, {"t": levels[:-1], "s": levels[1:], **named})


_SAMPLED: Cases = impulses(_walks)


def _spacing_of(case: Any) -> str:
    return SPACINGS[int(case.spacing)]


# --- the list of levels -----------------------------------------------------------------------------------------------


def _listed(impl: Any, c: Any) -> tuple[object, object]:
    """How many levels came, and as many of them as there should be and one more, the last repeated if need be."""
    levels = impl.spaced_levels(c.schedule, int(c.steps), _spacing_of(c))
    shown = [min(k, len(levels) - 1) for k in range(int(c.steps) + 2)]
    return levels[:1] * 0 + len(levels), levels[shown]


def _outputs(steps: int, levels: list[int]) -> Outputs:
    shown = [levels[min(k, len(levels) - 1)] for k in range(steps + 2)]
    return np.array([len(levels)], dtype=np.float64), np.array(shown, dtype=np.float64)


def _right(case: Case) -> list[int]:
    return list(case.noise_schedule.trajectory(int(case.steps), _spacing_of(case)).levels)


def _listed_expected(case: Case) -> tuple[Expected, ...]:
    return tuple(
        Expected(DoubleDouble.of(output), np.zeros(output.shape), 0)
        for output in _outputs(int(case.steps), _right(case))
    )


def _truncated(case: Case) -> list[int]:
    exact = _exact(case.noise_schedule.T, int(case.steps), _spacing_of(case))
    return [*(int(level) for level in reversed(exact)), 0]


def _range_of_floats(case: Case) -> list[int]:
    """What rounding ``arange(T, 0, -T / K)`` gives."""
    T, steps = case.noise_schedule.T, int(case.steps)
    return [*np.round(np.arange(T, 0, -T / steps)).astype(int).tolist(), 0]


def _leading(case: Case) -> list[int]:
    T, steps = case.noise_schedule.T, int(case.steps)
    return [*(1 + k * (T // steps) for k in reversed(range(steps))), 0]


def _list_mistake(name: str, levels: Callable[[Case], list[int]]) -> Mistake:
    return Mistake(name, lambda c: _outputs(int(c.steps), levels(c)))


LEVELS = Law(
    id="spacing/levels",
    needs="spaced_levels",
    statement=r"\text{leading}: 1 + k\lfloor T/K\rfloor,\quad \text{linspace}: 1 + k\frac{T-1}{K-1},"
    r"\quad \text{trailing}: (k+1)\frac TK\ \text{(rounded)},\quad k = K-1..0,\ \text{then}\ 0",
    source=SOURCE,
    cases=_lists,
    call=_listed,
    expect=_listed_expected,
    mistakes=(
        _list_mistake("shifted_by_one", lambda c: [*(t - 1 for t in _right(c)[:-1]), 0]),
        _list_mistake("truncated_instead_of_rounded", _truncated),
        _list_mistake("last_level_missing", lambda c: [*_right(c)[:-2], 0]),
        _list_mistake("clean_data_missing", lambda c: _right(c)[:-1]),
        _list_mistake("leading_whatever_the_spacing", _leading),
        Mistake(
            "range_of_floats_with_a_level_too_many",
            lambda c: _outputs(int(c.steps), (_range_of_floats if _spacing_of(c) == "trailing" else _right)(c)),
        ),
    ),
    kind="exact",
)

# --- whole samplers ---------------------------------------------------------------------------------------------------


def _at_even_distance(case: Case) -> Case:
    """Steps that all lead down by ``T // K`` levels, as those of the leading spacing do."""
    stride = case.noise_schedule.T // int(case.steps)
    return Case(case.claim, case.schedule, {**case.values, "s": np.maximum(case.t - stride, 0)})


def _high(columns: Columns) -> list[Array]:
    return [high(column) for column in columns]


def _moments_of(columns: Columns, case: Case) -> Outputs:
    return wrong_moments(case, _high(columns))


DDIM = Law(
    id="spacing/ddim_moments",
    needs="ddim_sample_spaced",
    statement=r"\text{the moments of}\ \texttt{oracle/ddim\_moments}\ \text{on the trajectory of a spacing}",
    source=f"{SOURCE}; song2020ddim, eq. (12) and (16)",
    cases=with_eta(_SAMPLED),
    call=lambda impl, c: of_impulses(
        impl.ddim_sample_spaced(c.schedule, int(c.steps), _spacing_of(c), answers(c), c.start, c.noises, float(c.eta))
    ),
    expect=lambda c: moments(c, ddim_columns(c)),
    mistakes=(
        Mistake("previous_level_at_even_distance", lambda c: _moments_of(ddim_columns(_at_even_distance(c)), c)),
        *ddim_mistakes(),
    ),
    kind="metamorphic",
)


def _ancestral(impl: Any, c: Any) -> tuple[object, ...]:
    made = (
        impl.ancestral_sample_spaced(c.schedule, int(c.steps), _spacing_of(c), answers(c), c.start, c.noises, kind)
        for kind in ("posterior", "beta")
    )
    return tuple(moment for x in made for moment in of_impulses(x))


def _evenly(case: Case) -> Outputs:
    pair = ancestral_columns(_at_even_distance(case))
    return tuple(moment for columns in pair for moment in _moments_of(columns, case))


def _noisy_unless_from_level_1(case: Case, mean: Case | None = None) -> Outputs:
    """The last step is taken to be that from t = 1: one that starts higher adds noise. The mean may be of other steps."""
    (_, _, small), (_, _, large) = (_high(columns) for columns in ancestral_columns(case))
    x, eps, _ = _high(ancestral_columns(mean or case)[0])
    noise = np.where((case.s == 0) & (case.t > 1), at(case, "sqrt_beta_bar"), large)
    return *wrong_moments(case, (x, eps, small)), *wrong_moments(case, (x, eps, noise))


ANCESTRAL = Law(
    id="spacing/ancestral_moments",
    needs="ancestral_sample_spaced",
    statement=r"\text{the moments of}\ \texttt{oracle/ancestral\_moments}\ \text{on the trajectory of a spacing}",
    source=f"{SOURCE}; ho2020, algorithm 2",
    cases=_SAMPLED,
    call=_ancestral,
    expect=lambda c: tuple(moment for columns in ancestral_columns(c) for moment in moments(c, columns)),
    mistakes=(
        Mistake("previous_level_at_even_distance", _evenly),
        Mistake("last_step_known_by_its_level", _noisy_unless_from_level_1),
        # The variances are those of the trajectory, and the last step is known by its level.
        Mistake("mean_of_steps_at_even_distance", lambda c: _noisy_unless_from_level_1(c, _at_even_distance(c))),
        *ancestral_mistakes(),
    ),
    kind="metamorphic",
)

LAWS = (LEVELS, DDIM, ANCESTRAL)
