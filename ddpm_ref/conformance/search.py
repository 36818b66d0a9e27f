"""The search for a case that breaks a law: bulk draws for the worst rounding, Hypothesis for structure, edges and shrinking."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import TypeVar

import numpy as np

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance import hints, serving
from ddpm_ref.conformance.conduct import Misconduct, Overtime
from ddpm_ref.conformance.diagnosis import digits_kept, in_shorter_format, kind_of, suspected
from ddpm_ref.conformance.judge import Court, Judgement, missing
from ddpm_ref.conformance.serving import Declined
from ddpm_ref.conformance.verdict import ExpectedFailure, Finding, Kind, Violation
from ddpm_ref.errors import AdapterError
from ddpm_ref.laws.cases import Case, NumpySource, Source
from ddpm_ref.laws.registry import Law
from ddpm_ref.typing import Array

T = TypeVar("T")
FULL = 53  # bits of float64

BULK_ROUNDS = 1
BULK_TRIES = 8  # draws of a bulk case, until the adapter serves one
OUTPUTS = 2  # so many that were not served are called by their names
SMALL = 40  # small cases, one of which may fail as a bulk draw did that left no numbers
HYPOTHESIS_SHARE = 10
TWICE = 1  # so many cases of a law are asked twice, to see whether the answers are the same
BINS = 50  # of the curve over t / T


@dataclass
class Tally:
    """What has been seen so far of one law under one claim; ``only`` ignores what is broken in another way."""

    only: Kind | None = None
    cases: int = 0
    declined: int = 0
    partly: set[str] = field(default_factory=set)  # outputs that were not served though others were
    worst: float | None = None  # error over bound; None: no numbers were compared
    share: float = 0.0  # the largest error outside its bound, as a fraction of S
    failed: Judgement | None = None
    kind: Kind | None = None
    error: tuple[Case, Exception] | None = None
    misfit: tuple[Case, str] | None = None
    curve: dict[float, float] = field(default_factory=dict)

    def record(self, law: Law, court: Court, case: Case) -> bool:
        """Judge one case; false if it shows what makes going on pointless: anything worse than lost digits."""
        try:
            judged = court.judge(law, case, twice=self.cases < TWICE)
        except Declined:
            self.declined += 1
            return True
        except Exception as error:
            self.cases += 1
            self.error = (case, error)
            self.kind = "conduct" if isinstance(error, Misconduct) else "raised"
            return False
        self.cases += 1
        self.worst = max(self.worst or 0.0, judged.worst)
        self.partly |= judged.unserved
        if judged.misfit and self.misfit is None:
            self.misfit = (case, judged.misfit)
        for at, ratio in judged.by_level:
            place = round(at * BINS) / BINS
            self.curve[place] = max(self.curve.get(place, 0.0), ratio)
        if judged.worst <= 1:
            return True
        kind = kind_of(judged)
        self.share = max(self.share, 0.0 if judged.misshapen else judged.worst_element.share)
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
    law: Law,
    court: Court,
    claims: Sequence[Claim],
    max_examples: int,
    seed: int | None,
    expectation: ExpectedFailure | None,
) -> Finding:
    """Try a law under some claims: the most precise first, where a wrong formula cannot hide among roundings.

    A formula that is wrong there is wrong everywhere, and the less precise claims are not tried any more. A formula that is right
    there has only lost digits where it fails under another claim, unless it makes a mistake that is known of that format.
    """
    lacking = missing(law, court.adapter)
    if lacking:
        return Finding(law, {}, 0, applicable=False, reason=f"the adapter has no {' '.join(lacking)}")
    order = sorted(claims, key=lambda claim: (-claim.computing.precision, -claim.storing.precision))
    if law.kind == "coefficient":
        # Coefficients see no data: only the most precise claim says anything about them.
        order = order[:1]
    worst, curve, violations, cases, declined = {}, {}, [], 0, 0
    partly: set[str] = set()
    for claim in order:
        tally = _tried(law, court, claim, max_examples, seed)
        cases, declined, partly = cases + tally.cases, declined + tally.declined, partly | tally.partly
        if tally.worst is not None:
            worst[str(claim)], curve[str(claim)] = tally.worst, tally.curve
        if not tally.good:
            found = _violation(law, court, claim, tally, first=claim == order[0])
            if tally.kind == "logic" and found.kind == "rounding":
                found = _mildest(law, court, claim, tally, found, max_examples, seed)
            violations.append(found)
            if violations[-1].kind != "rounding":
                break
        elif tally.misfit is not None:
            case, summary = tally.misfit
            misfit = Violation(claim, "conduct", summary, case.describe(), tally.worst or 0.0)
            violations.append(replace(misfit, hint=hints.of_format(summary, claim)))
    if declined and not cases:
        return Finding(law, {}, 0, applicable=False, reason="NotImplemented is the answer to all of it")
    violations.sort(key=lambda v: v.kind == "rounding")
    outputs = f"{len(partly)} outputs" if len(partly) > OUTPUTS else ", ".join(sorted(partly))
    unserved = [f"{declined} more cases"] * bool(declined) + [outputs] * bool(partly)
    seen = Finding(law, worst, cases, tuple(violations), expectation=expectation, curve=curve)
    return replace(seen, unserved=", ".join(unserved))


def _tried(law: Law, court: Court, claim: Claim, max_examples: int, seed: int | None) -> Tally:
    tally = Tally()
    _draw(law, court, claim, tally, max_examples, seed)
    if tally.good:
        _search(law, court, claim, tally, max(max_examples // HYPOTHESIS_SHARE, 1), seed)
    if tally.error is not None or tally.kind == "form":
        _smaller(law, court, claim, tally)
    elif tally.failed is not None:
        smaller = Tally(only=tally.kind)
        _search(law, court, claim, smaller, max_examples, seed)
        tally.failed = smaller.failed or tally.failed
        tally.cases += smaller.cases
        tally.share = max(tally.share, smaller.share)
        tally.worst = max(tally.worst or 0.0, smaller.worst or 0.0)
    return tally


def _mildest(
    law: Law, court: Court, claim: Claim, tally: Tally, found: Violation, max_examples: int, seed: int | None
) -> Violation:
    """The same violation on a smaller case: where digits are lost, cases in which less than half of them are will do."""
    milder = Tally(only="rounding")
    _search(law, court, claim, milder, max_examples, seed)
    judged = milder.failed
    if judged is None:
        return found
    summary = digits_kept(judged, tally.share)
    element, case = judged.worst_element, judged.case.describe()
    return replace(found, summary=summary, case=case, error_over_bound=judged.worst, element=element)


class _Simplest:
    """The first of all options, the lowest of all levels, zeros."""

    bulk = pooled = False

    def integer(self, low: int, high: int) -> int:
        """The lowest."""
        return low

    def choice(self, options: Sequence[T]) -> T:
        """The first."""
        return options[0]

    def numbers(self, shape: tuple[int, ...], low: float, high: float) -> Array:
        """What is nearest to 0."""
        return np.full(shape, min(max(low, 0.0), high))


def _smaller(law: Law, court: Court, claim: Claim, tally: Tally) -> None:
    """Put a small case in the place of one that failed without numbers: nothing is to be shrunk of an exception or a shape."""
    if isinstance(tally.error and tally.error[1], Overtime):
        return
    rng, found = np.random.default_rng(0), []
    sources: list[Source] = [_Simplest(), *[NumpySource(rng, pooled=True)] * SMALL]
    for source in sources:
        one = Tally()
        one.record(law, court, law.cases(source, claim))
        tally.cases += one.cases
        if one.kind == tally.kind:
            found.append(one)
        if found and isinstance(source, _Simplest):
            break
    if found:
        least = min(found, key=_size)
        tally.error, tally.failed = least.error, least.failed


def _size(tally: Tally) -> int:
    """How much there is to read of the case that failed."""
    failed = tally.error[0] if tally.error is not None else tally.failed and tally.failed.case
    if not failed:
        return 0
    return sum(v.size + v.ndim for v in failed.values.values()) + (failed.schedule.T if failed.schedule else 0)


def _violation(law: Law, court: Court, claim: Claim, tally: Tally, *, first: bool) -> Violation:
    if tally.error is not None:
        case, error = tally.error
        summary = str(error) if isinstance(error, Misconduct) else f"raised {_last_line(error)}"
        hint = "" if isinstance(error, Misconduct) else hints.of_error(law, case, error)
        return Violation(claim, tally.kind or "raised", summary, case.describe(), inf, hint=hint)
    judged = tally.failed
    if judged is None or tally.kind is None:
        raise ValueError("a tally without a failure is no violation")
    if judged.misshapen:
        hint = "" if len(judged.got) != len(judged.served) else hints.of_shape(judged.case)
        return Violation(claim, "form", judged.misshapen, judged.case.describe(), inf, hint=hint)
    kind = tally.kind
    mistakes, nearest = suspected(law, court, claim, judged.case, kind if first or kind != "logic" else "rounding")
    if kind == "logic" and not first:
        mistakes, nearest = [m for m in mistakes if m.claims], None
        kind = "logic" if mistakes else "rounding"
    hint = ""
    if not mistakes and (kind == "logic" or judged.misfit):
        short, of_short = in_shorter_format(law, court, claim, judged.case)
        if short or of_short:
            mistakes, nearest, kind = of_short, None, "conduct" if judged.misfit else "rounding"
        if short or of_short or judged.misfit:
            hint = hints.of_format(judged.misfit, claim)
        else:
            hint = hints.of_short_claim(claim) if claim.computing.precision < FULL else hints.of_step(judged.case)
    if kind == "logic" and any(mistake.rounding for mistake in mistakes):
        kind = "rounding"
    summary = digits_kept(judged, tally.share) if kind == "rounding" else judged.misfit if kind == "conduct" else ""
    element = judged.worst_element
    return Violation(
        claim, kind, summary, judged.case.describe(), judged.worst, tuple(mistakes), element, nearest, hint
    )


def _last_line(error: Exception) -> str:
    message = str(error).partition("\n")[0]
    if isinstance(error, AdapterError):
        return f"{type(error).__name__}: {message}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    # A method that cannot even be called has no line of its own.
    place = "" if frame.filename == serving.__file__ else f" ({Path(frame.filename).name}:{frame.lineno})"
    return f"{type(error).__name__}: {message}{place}"


def _draw(law: Law, court: Court, claim: Claim, tally: Tally, max_examples: int, seed: int | None) -> None:
    """Bulk draws, then small cases, until one shows more than lost digits."""
    rng = np.random.default_rng(seed or 0)
    small = max_examples - max(max_examples // HYPOTHESIS_SHARE, 1)
    for bulk in [True] * BULK_ROUNDS + [False] * small:
        for _ in range(BULK_TRIES if bulk else 1):
            cases = tally.cases
            if not tally.record(law, court, law.cases(NumpySource(rng, bulk=bulk, pooled=True), claim)):
                return
            if tally.cases > cases:
                break


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
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        report_multiple_bugs=False,
    )
    @hypothesis.given(cases(law, claim))
    def one(case: Case) -> None:
        if not tally.record(law, court, case):
            raise _Broken

    # Flaky: an answer that broke the law once and not again; the tally keeps it.
    with contextlib.suppress(_Broken, hypothesis.errors.Flaky):
        (one if seed is None else hypothesis.seed(seed)(one))()
