"""Hold an implementation against the laws: the first of three front doors (see `ddpm_ref.conformance.pytest` for the others)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance.adapters import Adapter
from ddpm_ref.conformance.expectations import Entries, expectations, expected
from ddpm_ref.conformance.hints import near_misses
from ddpm_ref.conformance.judge import Court
from ddpm_ref.conformance.report import Report
from ddpm_ref.conformance.verdict import Finding
from ddpm_ref.errors import ClaimError
from ddpm_ref.extras import require
from ddpm_ref.laws import REGISTRY
from ddpm_ref.typing import Real

TIME_LIMIT = 30.0


def check(
    adapter: Adapter,
    laws: str | Iterable[str] = "*",
    max_examples: int = 100,
    *,
    claims: Sequence[Claim] | None = None,
    seed: int | None = None,
    expected_failures: Entries | None = None,
    time_limit: Real | None = TIME_LIMIT,
    progress: Callable[[Finding], None] | None = None,
) -> Report:
    """Hold an implementation against laws and report a verdict for each, under each claim.

    Args:
        adapter: the implementation; see `ddpm_ref.conformance.adapters`.
        laws: shell patterns of law ids, e.g. ``"forward/*"``.
        max_examples: cases per law and claim: one in ten from Hypothesis, which also shrinks what fails, the
            others from a NumPy generator, which is quicker; one bulk draw comes on top.
        claims: which of the adapter's claims to try; all by default. The most precise is tried first: a formula that is
            wrong shows there, and what fails only in a shorter format has lost digits.
        seed: another sequence of cases than the fixed one.
        expected_failures: ids of laws (or shell patterns) that are known to fail, each with the reason, or with an
            `ExpectedFailure` (or a mapping with the same names) that binds the mistake or the kind too: any other violation is
            reported then. Those of the adapter's own ``expected_failures`` are added. A law that is expected to fail and
            holds is reported, and the report is not ok.
        time_limit: seconds that one question to the implementation may take; None: for ever.
        progress: called with each finding as soon as it is known.

    Returns:
        the report; ``report.ok`` says whether everything held.

    Raises `ClaimError` for a pattern that matches no law, an expected failure without a reason or of a mistake that its laws
    do not know, or a time limit that is none; `MissingExtraError` without Hypothesis. Whatever the implementation raises is
    part of the report, but an adapter that has no arrays in the format it claims raises `AdapterError`.
    """
    require("hypothesis", "conformance")
    if max_examples < 1 or (time_limit is not None and not time_limit > 0):
        raise ClaimError(f"max_examples = {max_examples}, time_limit = {time_limit}; both are positive")
    known = expectations(getattr(adapter, "expected_failures", None), expected_failures)
    claims = tuple(claims or adapter.claims)
    for claim in claims:
        adapter.array(np.zeros(1), claim)  # a claim in a format that the adapter's arrays do not have: wrong usage
    start, court, findings = time.perf_counter(), Court(adapter, time_limit), []
    from ddpm_ref.conformance.search import hold

    for law in REGISTRY.select(laws):
        finding = hold(law, court, claims, max_examples, seed, expected(law, known))
        findings.append(finding)
        if progress is not None:
            progress(finding)
    seconds = time.perf_counter() - start
    device = getattr(adapter, "device", "cpu")
    return Report(adapter.name, claims, findings, seconds, device, warnings=near_misses(adapter))
