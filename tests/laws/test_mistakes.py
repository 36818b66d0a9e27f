"""Every law rejects every mistake it lists, in float32 and in every other claim, and does so within 100 cases."""

from __future__ import annotations

import numpy as np
import pytest

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance.judge import compare
from ddpm_ref.conformance.smallest import rejection, smallest_case
from ddpm_ref.laws import REGISTRY, Law, Mistake, NumpySource

CLAIMS = [Claim("fp32"), Claim("fp64"), Claim("bf16", "fp32")]
CASES = 100
MISTAKES = [(law, mistake) for law in REGISTRY for mistake in law.mistakes]


def first_rejected(law: Law, mistake: Mistake, claim: Claim) -> int | None:
    """How many cases it takes until an implementation that makes the mistake, rounded as it claims, is rejected."""
    source = NumpySource(np.random.default_rng(0))
    for n in range(1, CASES + 1):
        if rejection(law, mistake, law.cases(source, claim)).worst > 1:
            return n
    return None


def claims_of(law: Law, mistake: Mistake) -> list[Claim]:
    """Tables and coefficients are not stored in half precision; some mistakes are only made there."""
    return [c for c in CLAIMS if mistake.concerns(c) and (law.kind != "coefficient" or c.store == c.compute)]


@pytest.mark.parametrize(("law", "mistake"), MISTAKES, ids=[f"{law.id}-{mistake.name}" for law, mistake in MISTAKES])
def test_every_mistake_is_rejected_under_each_claim_it_concerns(law: Law, mistake: Mistake) -> None:
    survived = [str(c) for c in claims_of(law, mistake) if first_rejected(law, mistake, c) is None]
    assert not survived, f"{law.id} does not reject {mistake} under {survived}"


def test_the_registry_is_complete_and_its_ids_are_places() -> None:
    subjects = {law.subject for law in REGISTRY}
    chain = {"schedule", "forward", "posterior", "prediction", "reverse", "divergence"}
    assert subjects == chain | {
        "ancestral",
        "ddim",
        "plan",
        "identified",
        "oracle",
        "spacing",
        "analytic",
        "guidance",
        "sampling",
        "decoder",
        "scaling",
        "bound",
        "objectives",
    }
    assert all(law.source and law.mistakes and law.statement for law in REGISTRY)
    assert len({law.id for law in REGISTRY}) == len(REGISTRY)


NUMERICAL_ERRATA = {  # class A and B of the list of errata, and C where it is A if taken literally
    "E01", "E02", "E03", "E05", "E10", "E11", "E12", "E13", "E14", "E15", "E16", "E17", "E18", "E19", "E20", "E21", "E23",
    "E24", "E25", "E27", "E29", "E30", "E33", "E34", "E36",
    "E40", "E41", "E42", "E47", "E48", "E49", "E50", "E51", "E52", "E54", "E56", "E57", "E58", "E62",
    "E66", "E67", "E68", "E69", "E71", "E72", "E73", "E74", "E76",
}  # fmt: skip


def test_every_numerical_erratum_is_planted() -> None:
    planted = {mistake.erratum for _, mistake in MISTAKES if mistake.erratum}
    assert planted >= NUMERICAL_ERRATA


def test_shifted_by_one_is_planted_in_every_law_that_looks_up_a_level() -> None:
    shifted = {law.id for law, mistake in MISTAKES if mistake.name == "shifted_by_one"}
    assert {law.subject for law in REGISTRY if law.id in shifted} >= {
        "schedule",
        "forward",
        "posterior",
        "prediction",
        "reverse",
    }


@pytest.mark.parametrize("law", list(REGISTRY), ids=lambda law: law.id)
def test_a_right_answer_is_not_rejected(law: Law) -> None:
    """The counterpart, without which a law that rejects everything would pass: the exact value, rounded once."""
    for claim in [c for c in CLAIMS if law.kind != "coefficient" or c.store == c.compute]:
        source = NumpySource(np.random.default_rng(1))
        for _ in range(4):
            case = law.cases(source, claim)
            got = tuple(claim.storing.round(e.value.high) for e in law.expect(case))
            worst = compare(law, case, got).worst
            assert worst <= 1, f"{law.id} under {claim}: the exact value rounded once is {worst} bounds off"


def test_the_smallest_case_of_a_mistake_is_small_and_of_none_is_none() -> None:
    law = REGISTRY["forward/q_sample"]
    shifted = next(m for m in law.mistakes if m.name == "shifted_by_one")
    found = smallest_case(law, shifted, Claim("fp32"))
    assert found is not None
    assert found.worst > 1
    assert found.case.noise_schedule.T == 10
    assert int(found.case.t.max()) == 1
    right = Mistake("none", lambda case: tuple(e.value.high for e in law.expect(case)))
    assert smallest_case(law, right, Claim("fp32")) is None
