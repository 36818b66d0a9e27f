"""Hold an implementation against the laws: the first of three front doors (see `ddpm_ref.conformance.pytest` for the others)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance.adapters import Adapter
from ddpm_ref.conformance.judge import Court
from ddpm_ref.conformance.report import Report
from ddpm_ref.conformance.verdict import Finding
from ddpm_ref.errors import ClaimError
from ddpm_ref.extras import require
from ddpm_ref.laws import REGISTRY
from ddpm_ref.laws.registry import Law
from ddpm_ref.typing import Real

TIME_LIMIT = 30.0


def check(
    adapter: Adapter,
    laws: str | Iterable[str] = "*",
    max_examples: int = 100,
    *,
    claims: Sequence[Claim] | None = None,
    seed: int | None = None,
    expected_failures: Mapping[str, str] | None = None,
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
        expected_failures: ids of laws (or shell patterns) that are known to fail, each with the reason; those of the
            adapter's own ``expected_failures`` are added. A law that is expected to fail and holds is reported, and the
            report is not ok.
        time_limit: seconds that one question to the implementation may take; None: for ever.
        progress: called with each finding as soon as it is known.

    Returns:
        the report; ``report.ok`` says whether everything held.

    Raises `ClaimError` for a pattern that matches no law, an expected failure without a reason, or a time limit that is
    none; `MissingExtraError` without Hypothesis. Whatever the implementation raises is part of the report, but
    an adapter that has no arrays in the format it claims raises `AdapterError`.
    """
    require("hypothesis", "conformance")
    if max_examples < 1 or (time_limit is not None and not time_limit > 0):
        raise ClaimError(f"max_examples = {max_examples}, time_limit = {time_limit}; both are positive")
    reasons = reasons_of(adapter, expected_failures)
    claims = tuple(claims or adapter.claims)
    for claim in claims:
        adapter.array(np.zeros(1), claim)  # a claim in a format that the adapter's arrays do not have: wrong usage
    start, court, findings = time.perf_counter(), Court(adapter, time_limit), []
    from ddpm_ref.conformance.search import hold

    for law in REGISTRY.select(laws):
        finding = hold(law, court, claims, max_examples, seed, expected(law, reasons))
        findings.append(finding)
        if progress is not None:
            progress(finding)
    seconds = time.perf_counter() - start
    return Report(adapter.name, claims, findings, seconds, getattr(adapter, "device", "cpu"))


def reasons_of(adapter: Adapter, expected_failures: Mapping[str, str] | None = None) -> dict[str, str]:
    """Expected failures of an adapter and of a call; raises `ClaimError` for an unknown law or a missing reason."""
    reasons = {**getattr(adapter, "expected_failures", {}), **(expected_failures or {})}
    for pattern, reason in reasons.items():
        REGISTRY.select([pattern])
        if not isinstance(reason, str) or not reason.strip():
            raise ClaimError(f"expected failure {pattern!r} has no reason; write why, e.g. a link to the known issue")
    return reasons


def expected(law: Law, reasons: Mapping[str, str]) -> str:
    """Why a law is expected to fail; empty if it is not."""
    return next((reason for pattern, reason in reasons.items() if fnmatchcase(law.id, pattern)), "")
