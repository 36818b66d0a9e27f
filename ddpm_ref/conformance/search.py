"""The search for a case that breaks a law: bulk draws for the worst rounding, Hypothesis for structure, edges and shrinking."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import numpy as np

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance.conduct import Misconduct
from ddpm_ref.conformance.diagnosis import digits_kept, kind_of, suspected
from ddpm_ref.conformance.judge import Court, Judgement, missing
from ddpm_ref.conformance.verdict import Finding, Kind, Violation
from ddpm_ref.errors import AdapterError
from ddpm_ref.laws.cases import Case, NumpySource
from ddpm_ref.laws.registry import Law

BULK_ROUNDS = 1
HYPOTHESIS_SHARE = 10
TWICE = 1  # so many cases of a law are asked twice, to see whether the answers are the same
BINS = 50  # of the curve over t / T


@dataclass
class Tally:
    """What has been seen so far of one law under one claim; ``only`` ignores what is broken in another way."""

    only: Kind | None = None
    cases: int = 0
    worst: float = 0.0
    failed: Judgement | None = None
    kind: Kind | None = None
    error: tuple[Case, Exception] | None = None
    misfit: tuple[Case, str] | None = None
    curve: dict[float, float] = field(default_factory=dict)

    def record(self, law: Law, court: Court, case: Case) -> bool:
        """Judge one case; false if it shows what makes going on pointless: anything worse than lost digits."""
        self.cases += 1
        try:
            judged = court.judge(law, case, twice=self.cases <= TWICE)
        except Exception as error:
            self.error = (case, error)
            self.kind = "conduct" if isinstance(error, Misconduct) else "raised"
            return False
        self.worst = max(self.worst, judged.worst)
        if judged.misfit and self.misfit is None:
            self.misfit = (case, judged.misfit)
        for at, ratio in judged.by_level:
            place = round(at * BINS) / BINS
            self.curve[place] = max(self.curve.get(place, 0.0), ratio)
        if judged.worst <= 1:
            return True
        kind = kind_of(judged)
        if self.only is not None and kind != self.only:
            return True
        if self.failed is None or kind != "rounding" or self.kind == "rounding":
            self.failed, self.kind = judged, kind
        return kind == "rounding" and self.only is None

    @property
    def good(self) -> bool:
        """Nothing has gone wrong so far."""
        return self.failed is None and self.error is None


def hold(
    law: Law, court: Court, claims: Sequence[Claim], max_examples: int, seed: int | None, expected: str
) -> Finding:
    """Try a law under some claims: the most precise first, where a wrong formula cannot hide among roundings.

    A formula that is wrong there is wrong everywhere, and the less precise claims are not tried any more. A formula that is right
    there has only lost digits where it fails under another claim, unless it makes a mistake that is known of that format.
    """
    if missing(law, court.adapter):
        return Finding(law, {}, 0, applicable=False)
    order = sorted(claims, key=lambda claim: (-claim.computing.precision, -claim.storing.precision))
    if law.kind == "coefficient":
        # Coefficients see no data: only the most precise claim says anything about them.
        order = order[:1]
    worst, curve, violations, cases = {}, {}, [], 0
    for claim in order:
        tally = _tried(law, court, claim, max_examples, seed)
        cases += tally.cases
        worst[str(claim)], curve[str(claim)] = tally.worst, tally.curve
        if not tally.good:
            violations.append(_violation(law, court, claim, tally, first=claim == order[0]))
            if violations[-1].kind != "rounding":
                break
        elif tally.misfit is not None:
            case, summary = tally.misfit
            violations.append(Violation(claim, "conduct", summary, case.describe(), tally.worst))
    violations.sort(key=lambda v: v.kind == "rounding")
    return Finding(law, worst, cases, tuple(violations), expected=expected, curve=curve)


def _tried(law: Law, court: Court, claim: Claim, max_examples: int, seed: int | None) -> Tally:
    tally = Tally()
    _draw(law, court, claim, tally, max_examples, seed)
    if tally.good:
        _search(law, court, claim, tally, max(max_examples // HYPOTHESIS_SHARE, 1), seed)
    elif tally.error is None:
        smaller = Tally(only=tally.kind)
        _search(law, court, claim, smaller, max_examples, seed)
        tally.failed = smaller.failed or tally.failed
        tally.cases += smaller.cases
    return tally


def _violation(law: Law, court: Court, claim: Claim, tally: Tally, *, first: bool) -> Violation:
    if tally.error is not None:
        case, error = tally.error
        summary = str(error) if isinstance(error, Misconduct) else f"raised {_last_line(error)}"
        return Violation(claim, tally.kind or "raised", summary, case.describe(), inf)
    judged = tally.failed
    if judged is None or tally.kind is None:
        raise ValueError("a tally without a failure is no violation")
    if judged.misshapen:
        return Violation(claim, "form", judged.misshapen, judged.case.describe(), inf)
    kind = tally.kind
    mistakes, nearest = suspected(law, court, claim, judged.case, kind if first or kind != "logic" else "rounding")
    if kind == "logic" and not first:
        mistakes, nearest = [m for m in mistakes if m.claims], None
        kind = "logic" if mistakes else "rounding"
    summary = digits_kept(judged) if kind == "rounding" else ""
    return Violation(
        claim, kind, summary, judged.case.describe(), judged.worst, tuple(mistakes), judged.worst_element, nearest
    )


def _last_line(error: Exception) -> str:
    message = str(error).partition("\n")[0]
    if isinstance(error, AdapterError):
        return f"{type(error).__name__}: {message}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {message} ({Path(frame.filename).name}:{frame.lineno})"


def _draw(law: Law, court: Court, claim: Claim, tally: Tally, max_examples: int, seed: int | None) -> None:
    """Bulk draws, then small cases, until one shows more than lost digits."""
    rng = np.random.default_rng(seed or 0)
    small = max_examples - max(max_examples // HYPOTHESIS_SHARE, 1)
    for bulk in [True] * BULK_ROUNDS + [False] * small:
        if not tally.record(law, court, law.cases(NumpySource(rng, bulk=bulk, pooled=True), claim)):
            return


def _search(law: Law, court: Court, claim: Claim, tally: Tally, max_examples: int, seed: int | None) -> None:
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
