"""Which mistakes are right in real numbers: those, and only those, that come closer to the law the more digits they keep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ddpm_ref.arithmetic import Claim
from ddpm_ref.laws import REGISTRY, Case, Law, Mistake, NumpySource

WIDE = Claim("fp64")
NARROW = (Claim("fp32"), Claim("bf16", "fp32"))
CASES = 4
ROUNDING = [(law, mistake) for law in REGISTRY for mistake in law.mistakes if mistake.rounding]


def cases(law: Law, mistake: Mistake) -> list[Case]:
    source = NumpySource(np.random.default_rng(0))
    claims = [c for c in NARROW if mistake.concerns(c) and (law.kind != "coefficient" or c.store == c.compute)]
    return [law.cases(source, claim) for claim in claims for _ in range(CASES)]


def shares(law: Law, mistake: Mistake, case: Case) -> np.ndarray:
    """The errors of the mistaken values as fractions of S, for the arithmetic of the case's claim."""
    with np.errstate(all="ignore"):
        errors = [
            np.ravel(np.abs(value - expected.value.high) / expected.scale)
            for value, expected in zip(mistake.value(case), law.expect(case), strict=True)
        ]
    return np.concatenate(errors)


@pytest.mark.parametrize(("law", "mistake"), ROUNDING, ids=[f"{law.id}-{mistake.name}" for law, mistake in ROUNDING])
def test_what_loses_digits_only_loses_fewer_where_there_are_more(law: Law, mistake: Mistake) -> None:
    drawn = cases(law, mistake)
    narrow = np.concatenate([shares(law, mistake, case) for case in drawn])
    wide = np.concatenate([shares(law, mistake, replace(case, claim=WIDE)) for case in drawn])
    lost = np.isfinite(narrow) & (narrow > 2.0**-30)
    assert (wide[lost] <= narrow[lost]).all()
    assert np.median(wide[lost] / narrow[lost]) < 2.0**-20


@pytest.mark.full
@pytest.mark.parametrize("law", list(REGISTRY), ids=lambda law: law.id)
def test_what_is_wrong_is_wrong_by_as_much_in_any_arithmetic(law: Law) -> None:
    """A mistake whose value depends on the arithmetic loses digits, and must say so."""
    for mistake in (m for m in law.mistakes if not m.rounding):
        for case in cases(law, mistake):
            with np.errstate(all="ignore"):
                values = mistake.value(case), mistake.value(replace(case, claim=WIDE))
            assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(*values, strict=True)), mistake.name
