r"""Laws of scaling data to [-1, 1]: :math:`x = 2u - 1` and :math:`x_k = -1 + 2k/(L-1)`, both ways."""

from __future__ import annotations

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.laws.cases import Case, Cases, Source, draw_shape
from ddpm_ref.laws.registry import Law, Mistake, Outputs, exact
from ddpm_ref.typing import Array

# Roundings of a constant or quotient, of its product, and of the difference: any way to scale a level.
LEVEL = 3


def _numbers(name: str, low: float, high: float) -> Cases:
    def cases(source: Source, claim: Claim) -> Case:
        return Case(claim, None, {name: claim.storing.round(source.numbers(draw_shape(source), low, high))})

    return cases


FROM_UNIT = Law(
    id="scaling/from_unit",
    needs="from_unit",
    statement=r"x = 2u - 1",
    source="ho2020, section 3.3",
    cases=_numbers("u", 0.0, 1.0),
    call=lambda impl, c: impl.from_unit(c.u),
    expect=lambda c: (exact(DoubleDouble.of(2 * c.u) - 1.0, 1),),  # the double is exact
    mistakes=(
        Mistake("not_centred", lambda c: (2 * c.u,)),
        Mistake("not_stretched", lambda c: (c.u - 0.5,)),
        Mistake("taken_for_grey_levels", lambda c: (c.u / 127.5 - 1,)),
        Mistake("the_other_direction", lambda c: ((c.u + 1) / 2,)),
    ),
)

TO_UNIT = Law(
    id="scaling/to_unit",
    needs="to_unit",
    statement=r"u = (x + 1)/2",
    source="ho2020, section 3.3",
    cases=_numbers("x", -1.0, 1.0),
    call=lambda impl, c: impl.to_unit(c.x),
    expect=lambda c: (exact((DoubleDouble.of(c.x) + 1.0) * 0.5, 1),),  # a half is exact
    mistakes=(
        Mistake("half_forgotten", lambda c: (c.x + 1,)),
        Mistake("not_moved", lambda c: (c.x / 2,)),
        Mistake("cut_off_at_zero", lambda c: (np.maximum(c.x, 0.0),)),
        Mistake("the_other_direction", lambda c: (2 * c.x - 1,)),
    ),
)

# --- grey levels ------------------------------------------------------------------------------------------------------

LEVELS = [256, 2, 3, 17, 1000]
LEVELS_OF_HALVES = [2, 3, 17]  # that formats of eight bits and more tell apart


def _draw_levels(source: Source, claim: Claim) -> tuple[Array, int]:
    levels = source.choice(LEVELS if claim.storing.precision >= 24 else LEVELS_OF_HALVES)
    numbers = source.numbers(draw_shape(source), 0.0, float(levels))
    return np.minimum(np.floor(numbers), levels - 1.0), levels


def _of_levels(source: Source, claim: Claim) -> Case:
    k, levels = _draw_levels(source, claim)
    return Case(claim, None, {"level_index": k.astype(np.int64), "levels": np.asarray(levels)})


def _scaled(case: Case, first: float = -1.0, steps: int = 0) -> Outputs:
    return (first + 2 * case.level_index / (int(case.levels) - 1 + steps),)


def _level_expected(case: Case) -> tuple[Expected, ...]:
    last = int(case.levels) - 1
    value = DoubleDouble.of(2.0 * case.level_index - last) / float(last)
    return (Expected(value, 1 + np.abs(value.high), LEVEL),)


FROM_LEVEL_INDEX = Law(
    id="scaling/from_level_index",
    needs="from_level_index",
    statement=r"x_k = -1 + \frac{2k}{L-1}",
    source="ho2020, section 3.3",
    cases=_of_levels,
    call=lambda impl, c: impl.from_level_index(c.level_index, c.levels),
    expect=_level_expected,
    mistakes=(
        Mistake("divided_by_the_number_of_levels", lambda c: _scaled(c, steps=1)),
        Mistake("centres_of_equal_shares", lambda c: (_scaled(c, steps=1)[0] + 1 / int(c.levels),)),
        Mistake("not_centred", lambda c: _scaled(c, first=0.0)),
        Mistake("levels_counted_from_white", lambda c: (-_scaled(c)[0],)),
    ),
    kind="coefficient",
)


def _of_data(source: Source, claim: Claim) -> Case:
    k, levels = _draw_levels(source, claim)
    x = claim.storing.round((2 * k - (levels - 1)) / (levels - 1))
    return Case(claim, None, {"x": x, "levels": np.asarray(levels)})


def _found(case: Case) -> Array:
    return np.asarray(np.rint((case.x + 1) * ((int(case.levels) - 1) / 2)))


def _cut_off(case: Case) -> Outputs:
    """Cut off to a whole number where it should be rounded, in the storage format."""
    round_ = case.claim.storing.round
    return (np.floor(round_(round_(case.x + 1) * ((int(case.levels) - 1) / 2))),)


TO_LEVEL_INDEX = Law(
    id="scaling/to_level_index",
    needs="to_level_index",
    statement=r"k\text{ with } x = x_k\text{ rounded to the format of } x",
    source="ho2020, section 3.3",
    cases=_of_data,
    call=lambda impl, c: impl.to_level_index(c.x, c.levels),
    expect=lambda c: (exact(DoubleDouble.of(_found(c)), 0),),
    mistakes=(
        # In half precision the levels that are told apart have few digits, and none is missed.
        Mistake("cut_off_for_rounded", _cut_off, claims=("fp64", "fp32")),
        Mistake("multiplied_by_the_number_of_levels", lambda c: (np.rint((c.x + 1) * (int(c.levels) / 2)),)),
        Mistake("taken_for_the_unit_interval", lambda c: (np.rint(c.x * (int(c.levels) - 1)),)),
        Mistake("levels_counted_from_white", lambda c: (int(c.levels) - 1 - _found(c),)),
    ),
    kind="exact",
)

LAWS = (FROM_UNIT, TO_UNIT, FROM_LEVEL_INDEX, TO_LEVEL_INDEX)
