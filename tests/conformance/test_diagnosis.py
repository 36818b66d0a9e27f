"""Which of the known mistakes an implementation is told it makes, where several explain its wrong answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ddpm_ref.arithmetic import Claim, DoubleDouble
from ddpm_ref.conformance import NumpyAdapter
from ddpm_ref.conformance.diagnosis import suspected
from ddpm_ref.conformance.judge import Court
from ddpm_ref.laws import Case, Law, Mistake
from ddpm_ref.laws.registry import exact

FP64 = Claim("fp64")


def one_number(source, claim):
    """A number whose sign is drawn, so that a mistake may be right in half of the cases."""
    return Case(claim, None, {"x0": np.array([source.choice([2.0, -2.0, 3.0, -3.0])])})


# Three mistakes that agree on positive numbers: of them only the first is right on negative ones.
AMPLIFIED = Mistake("positive_doubled", lambda case: (np.maximum(case.x0, 2 * case.x0),))
DOUBLED = Mistake("doubled", lambda case: (2 * case.x0,))
FOLDED = Mistake("doubled_modulus", lambda case: (2 * np.abs(case.x0),))
LAW = Law(
    id="identity/of_one_number",
    needs="clip_x0",
    statement="what is in range stays as it is",
    source="none",
    cases=one_number,
    call=lambda adapter, asked: adapter.clip_x0(asked.x0),
    expect=lambda case: (exact(DoubleDouble.of(case.x0), 1),),
    mistakes=(DOUBLED, AMPLIFIED, FOLDED),
)


def blamed(implementation, law=LAW):
    """The names of the mistakes that an implementation of the law's one method is told it makes, and the nearest."""

    class Given(NumpyAdapter):
        name, claims = "given", (FP64,)

        def schedule(self, betas):
            return betas

        def clip_x0(self, x0):
            return implementation(x0)

    failing = Case(FP64, None, {"x0": np.array([2.0])})
    mistakes, nearest = suspected(law, Court(Given()), FP64, failing, "logic")
    return [mistake.name for mistake in mistakes], nearest and nearest[0].name


def test_a_mistake_that_is_wrong_where_the_implementation_is_right_does_not_name_it():
    assert blamed(lambda x0: np.maximum(x0, 2 * x0)) == (["positive_doubled"], None)


def test_a_mistake_that_answers_otherwise_where_the_implementation_is_wrong_does_not_name_it():
    assert blamed(lambda x0: 2 * x0) == (["doubled"], None)
    assert blamed(lambda x0: 2 * np.abs(x0)) == (["doubled_modulus"], None)


@pytest.mark.parametrize("mistakes", [(DOUBLED,), (DOUBLED, FOLDED)])
def test_mistakes_that_all_are_wrong_elsewhere_are_named_still(mistakes):
    """An implementation may make its mistake under some of its options only."""
    law = replace(LAW, mistakes=mistakes)
    assert blamed(lambda x0: np.maximum(x0, 2 * x0), law) == ([mistake.name for mistake in mistakes], None)


def test_a_mistake_that_explains_half_of_the_wrong_numbers_is_the_nearest():
    law = replace(LAW, mistakes=(FOLDED,))
    assert blamed(lambda x0: 2 * x0, law) == ([], "doubled_modulus")
    assert blamed(lambda x0: -x0, law) == ([], None)
