"""The smallest case that tells a mistake from the law: what a reader of a law wants to see of it."""

from __future__ import annotations

import numpy as np

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance.judge import Judgement, compare
from ddpm_ref.extras import require
from ddpm_ref.laws.cases import Case
from ddpm_ref.laws.registry import Law, Mistake

CASES = 300


def rejection(law: Law, mistake: Mistake, case: Case) -> Judgement:
    """What the law says of an implementation that makes the mistake and rounds its answer to the storage format."""
    with np.errstate(all="ignore"):
        got = tuple(np.asarray(case.claim.storing.round(value)) for value in mistake.value(case))
    return compare(law, case, got)


def smallest_case(law: Law, mistake: Mistake, claim: Claim) -> Judgement | None:
    """The simplest case, as Hypothesis shrinks it, in which the mistake breaks the law; None if none was found."""
    hypothesis = require("hypothesis", "conformance")
    from ddpm_ref.conformance.strategies import cases

    settings = hypothesis.settings(
        max_examples=CASES, derandomize=True, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    try:
        found: Case = hypothesis.find(
            cases(law, claim), lambda case: rejection(law, mistake, case).worst > 1, settings=settings
        )
    except hypothesis.errors.NoSuchExample:
        return None
    return rejection(law, mistake, found)
