"""Laws of the logarithms of variances in the step to level 0, where the posterior variance is 0 and its logarithm is not a number.

The table of a chain that visits the levels of a trajectory has one entry per step. What stands in the one of the last step of
a sampler (the first of the chain) is a convention: these laws say what each convention means, so that an implementation which
claims one of them can be held to it. Nothing here touches a sample, since that step adds no noise; in a likelihood the entry is
the width of the decoder.
"""

from __future__ import annotations

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.arithmetic.double_double import log
from ddpm_ref.laws.cases import Case, Source, step, whole_schedule
from ddpm_ref.laws.family import levels_of, walks
from ddpm_ref.laws.registry import PAIR_COEFFICIENT, Law, Mistake, Outputs
from ddpm_ref.typing import Array

FLOOR = 1e-20
LOGARITHM = (
    PAIR_COEFFICIENT + 1
)  # relative errors of a variance are absolute ones of its logarithm; one more for itself


def _two_steps_or_more(source: Source, claim: Claim) -> Case:
    """A trajectory with a step to borrow from; a schedule of one level has none, and is left out."""
    while True:
        case = walks()(source, claim)
        if len(case.t) > 1:
            return case
        schedule = case.noise_schedule
        if schedule.T > 1:
            return Case(claim, schedule, {"t": np.array([schedule.T, 1]), "s": np.array([1, 0])})


def _expected(words: DoubleDouble) -> tuple[Expected, ...]:
    value = log(words)
    return (Expected(value, np.abs(value.high) + 1, LOGARITHM),)


def _with_last(words: DoubleDouble, last: DoubleDouble) -> DoubleDouble:
    """A column of steps, downwards, whose last entry is replaced."""
    return DoubleDouble(np.append(words.high[:-1], last.high), np.append(words.low[:-1], last.low))


def _borrowed(case: Case) -> DoubleDouble:
    """The posterior variance of the step before the last of the trajectory."""
    return case.noise_schedule.between(case.t[-2], case.s[-2]).words("beta_tilde")


def _ended(case: Case, column: str, last: float) -> Outputs:
    return (np.log(np.append(step(case, column)[:-1], last)),)


def _of_levels_2_and_1(case: Case) -> float:
    return float(case.noise_schedule.between(2, 1).beta_tilde)


REPLACED = Law(
    id="posterior/replaced_log_variance",
    needs="replaced_log_variance",
    statement=r"\log\tilde\beta_{t|s},\quad\text{at } s = 0\text{ that of the step before it: } \log\tilde\beta_{\tau_2|\tau_1}",
    source="ho2020 and nichol2021, code",
    cases=_two_steps_or_more,
    call=lambda impl, c: impl.replaced_log_variance(c.schedule, levels_of(c)),
    expect=lambda c: _expected(_with_last(c.step("beta_tilde"), _borrowed(c))),
    mistakes=(
        Mistake("floored_instead_of_replaced", lambda c: _ended(c, "beta_tilde", FLOOR)),
        Mistake("levels_2_and_1_whatever_the_trajectory", lambda c: _ended(c, "beta_tilde", _of_levels_2_and_1(c))),
        Mistake("replaced_by_the_large_variance", lambda c: _ended(c, "beta_tilde", step(c, "beta")[-1])),
        Mistake("log_of_the_standard_deviation", lambda c: (expect_replaced(c) / 2,)),
    ),
    kind="coefficient",
)


def expect_replaced(case: Case) -> Array:
    """The right answer in float64."""
    return _ended(case, "beta_tilde", float(_borrowed(case).high))[0]


LARGE_REPLACED = Law(
    id="reverse/replaced_log_variance",
    needs="replaced_fixed_large_log_variance",
    statement=r"\log\beta_{t|s},\quad\text{at } s = 0\text{ posterior, of the step before it: } \log\tilde\beta_{\tau_2|\tau_1}",
    source="ho2020 and nichol2021, code",
    cases=_two_steps_or_more,
    call=lambda impl, c: impl.replaced_fixed_large_log_variance(c.schedule, levels_of(c)),
    expect=lambda c: _expected(_with_last(c.step("beta"), _borrowed(c))),
    mistakes=(
        Mistake("first_entry_as_it_is", lambda c: (np.log(step(c, "beta")),)),
        Mistake("replaced_by_the_next_large_variance", lambda c: _ended(c, "beta", step(c, "beta")[-2])),
        Mistake("levels_2_and_1_whatever_the_trajectory", lambda c: _ended(c, "beta", _of_levels_2_and_1(c))),
        Mistake("posterior_variance_in_every_step", lambda c: (expect_replaced(c),)),
    ),
    kind="coefficient",
)


def _floored_words(case: Case) -> DoubleDouble:
    """All levels 1..T; no other posterior variance of a schedule here is below the floor, and one that were would be raised."""
    words = case.noise_schedule.words("beta_tilde", np.arange(1, case.noise_schedule.T + 1))
    low = words.high < FLOOR
    return DoubleDouble(np.where(low, FLOOR, words.high), np.where(low, 0.0, words.low))


def _floored(case: Case, **first: float) -> Outputs:
    values = np.log(_floored_words(case).high)
    values[0] = first.get("first", values[0])
    return (values,)


FLOORED = Law(
    id="posterior/floored_log_variance",
    needs="floored_log_variance",
    statement=r"\log\max(\tilde\beta_t, 10^{-20}),\quad t = 1..T",
    source="common PyTorch code",
    cases=whole_schedule(),
    call=lambda impl, c: impl.floored_log_variance(c.schedule),
    expect=lambda c: _expected(_floored_words(c)),
    mistakes=(
        Mistake("decimal_logarithm_of_the_floor", lambda c: _floored(c, first=-20.0)),
        Mistake("log_of_the_standard_deviation", lambda c: (_floored(c)[0] / 2,)),
        Mistake("shifted_by_one", lambda c: (np.roll(_floored(c)[0], -1),)),
    ),
    kind="coefficient",
)

LAWS = (REPLACED, FLOORED, LARGE_REPLACED)
