"""Hold an implementation against the laws: Hypothesis for structure, edges and shrinking, bulk draws for the worst rounding."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import numpy as np

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance.adapters import Adapter
from ddpm_ref.conformance.judge import Court, Judgement, agreeing_mistakes
from ddpm_ref.conformance.report import Finding, Report, Violation
from ddpm_ref.errors import AdapterError
from ddpm_ref.extras import require
from ddpm_ref.laws import REGISTRY
from ddpm_ref.laws.cases import Case, NumpySource
from ddpm_ref.laws.registry import Law

BULK_ROUNDS = 1
HYPOTHESIS_SHARE = 10


def check(
    adapter: Adapter,
    laws: str | Iterable[str] = "*",
    max_examples: int = 100,
    *,
    claims: Sequence[Claim] | None = None,
    seed: int | None = None,
    progress: Callable[[Finding], None] | None = None,
) -> Report:
    """Hold an implementation against laws and report a verdict for each, under each claim.

    Args:
        adapter: the implementation; see `ddpm_ref.conformance.adapters`.
        laws: shell patterns of law ids, e.g. ``"forward/*"``.
        max_examples: cases per law and claim: one in ten from Hypothesis, which also shrinks what fails, the
            others from a NumPy generator, which is quicker; one bulk draw comes on top.
        claims: which of the adapter's claims to try; all by default.
        seed: another sequence of cases than the fixed one.
        progress: called with each finding as soon as it is known.

    Returns:
        the report; ``report.ok`` says whether everything held.

    Raises `ClaimError` for a pattern that matches no law, `MissingExtraError` without Hypothesis.
    """
    require("hypothesis", "conformance")
    start, court, findings = time.perf_counter(), Court(adapter), []
    for law in REGISTRY.select(laws):
        finding = _try_law(law, court, tuple(claims or adapter.claims), max_examples, seed)
        findings.append(finding)
        if progress is not None:
            progress(finding)
    seconds = time.perf_counter() - start
    return Report(adapter.name, tuple(claims or adapter.claims), findings, seconds, getattr(adapter, "device", "cpu"))


@dataclass
class _Tally:
    """What has been seen so far of one law under one claim."""

    cases: int = 0
    worst: float = 0.0
    failed: Judgement | None = field(default=None)
    error: tuple[Case, Exception] | None = field(default=None)

    def record(self, law: Law, court: Court, case: Case) -> bool:
        """Judge one case; false if the law is broken or the implementation raised."""
        self.cases += 1
        try:
            judged = court.judge(law, case)
        except AdapterError:
            raise  # the adapter itself is at fault, not what it adapts
        except Exception as error:
            self.error = (case, error)
            return False
        self.worst = max(self.worst, judged.worst)
        if judged.worst > 1:
            self.failed = judged
        return judged.worst <= 1

    @property
    def good(self) -> bool:
        """Nothing has gone wrong so far."""
        return self.failed is None and self.error is None


def _try_law(law: Law, court: Court, claims: Sequence[Claim], max_examples: int, seed: int | None) -> Finding:
    if not all(hasattr(court.adapter, method) for method in law.needs.split()):
        return Finding(law, {}, 0, applicable=False)
    if law.kind == "coefficient":
        # Coefficients see no data: only the most precise claim says anything about them.
        claims = [max(claims, key=lambda claim: claim.computing.precision)]
    worst: dict[str, float] = {}
    cases = 0
    for claim in claims:
        tally = _Tally()
        _draw(law, court, claim, tally, max_examples, seed)
        if tally.good:
            _search(law, court, claim, tally, max(max_examples // HYPOTHESIS_SHARE, 1), seed)
        elif tally.failed is not None:
            _search(law, court, claim, smaller := _Tally(), max_examples, seed)
            tally.failed = smaller.failed or tally.failed
        cases += tally.cases
        worst[str(claim)] = tally.worst
        if not tally.good:
            return Finding(law, worst, cases, violation=_violation(law, court, claim, tally))
    return Finding(law, worst, cases)


def _violation(law: Law, court: Court, claim: Claim, tally: _Tally) -> Violation:
    if tally.error is not None:
        case, error = tally.error
        return Violation(claim, f"raised {_last_line(error)}; {case.describe()}", inf, ())
    if tally.failed is None:
        raise ValueError("a tally without a failure is no violation")
    mistakes = agreeing_mistakes(law, court, claim, tally.failed.case)
    return Violation(claim, tally.failed.describe(), tally.failed.worst, tuple(mistakes))


def _last_line(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    message = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {message} ({Path(frame.filename).name}:{frame.lineno})"


def _draw(law: Law, court: Court, claim: Claim, tally: _Tally, max_examples: int, seed: int | None) -> None:
    """Bulk draws, then small cases, until one fails."""
    rng = np.random.default_rng(seed or 0)
    small = max_examples - max(max_examples // HYPOTHESIS_SHARE, 1)
    for bulk in [True] * BULK_ROUNDS + [False] * small:
        if not tally.record(law, court, law.cases(NumpySource(rng, bulk=bulk, pooled=True), claim)):
            return


def _search(law: Law, court: Court, claim: Claim, tally: _Tally, max_examples: int, seed: int | None) -> None:
    """Small cases from Hypothesis, shrunk if the law is broken."""
    import hypothesis

    from ddpm_ref.conformance.strategies import cases

    class _Broken(Exception):
        """Tells Hypothesis that this case fails, so that it looks for a smaller one."""

    @hypothesis.settings(
        max_examples=max_examples,
        deadline=None,
        database=None,
        derandomize=seed is None,
        suppress_health_check=list(hypothesis.HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
        report_multiple_bugs=False,
    )
    @hypothesis.given(cases(law, claim))
    def one(case: Case) -> None:
        if not tally.record(law, court, case):
            raise _Broken

    # Flaky: an answer that broke the law once and not again; the tally keeps it.
    with contextlib.suppress(_Broken, hypothesis.errors.Flaky):
        (one if seed is None else hypothesis.seed(seed)(one))()
