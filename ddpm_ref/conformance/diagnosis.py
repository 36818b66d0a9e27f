"""What is wrong, in words: how grave it is, which known mistake it agrees with, and which laws fail of one cause."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, log2

import numpy as np

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance.judge import Court, Judgement, fits, reclaimed
from ddpm_ref.conformance.verdict import Cause, Finding, Kind, Violation
from ddpm_ref.laws.cases import Case, NumpySource
from ddpm_ref.laws.registry import Law, Mistake
from ddpm_ref.typing import BoolArray

# Thresholds of the diagnosis, which no verdict depends on: a wrong answer is called by a mistake's name if it lies within
# so many bounds of the mistake's value, or so much closer to it than to the law's; the nearest mistake is named if it
# explains so much of what is wrong.
AGREEMENT = 4.0
CLOSER = 0.01
NEAR = 0.5
IN_FLOAT32 = 60  # cases on which an answer must keep the bounds of float32 to be called right there


def kind_of(judged: Judgement) -> Kind:
    """How a broken law is broken: in form, by a NaN, in its logic, or in its last digits only.

    Wrong by more than the root of the unit roundoff, as a fraction of S: no rounding of sane code takes half of the digits.
    """
    if judged.misshapen:
        return "form"
    worst = judged.worst_element
    if not isfinite(worst.got):
        return "not finite"
    return "logic" if worst.share > judged.case.claim.computing.u**0.5 else "rounding"


def digits_kept(judged: Judgement, worst: float) -> str:
    """``keeps 11.6 of 24 bits``: what is left of the format in the worst element of the smallest case, and of all cases.

    ``worst`` is the largest error seen as a fraction of S.
    """
    claim = judged.case.claim
    wanted = min(claim.computing.precision, claim.storing.precision)
    smallest, least = (
        f"{min(max(0.0, -log2(share)) if isfinite(share) and share > 0 else 0.0, wanted):.1f}"
        for share in (judged.worst_element.share, max(worst, judged.worst_element.share))
    )
    both = smallest if smallest == least else f"{smallest}, in the worst case {least},"
    return f"keeps {both} of {wanted} bits"


def suspected(
    law: Law,
    court: Court,
    claim: Claim,
    failing: Case,
    kind: Kind,
    *,
    held_as: Claim | None = None,
    seed: int = 0,
    tries: int = 60,
) -> tuple[list[Mistake], tuple[Mistake, float] | None]:
    """The known mistakes that explain what the implementation returns, on the failing case and on fresh ones.

    A mistake explains it if every answer that breaks the law is what the mistake would return; where a formula is wrong,
    answers that only lose digits do not count. Of several, those that are wrong where the implementation is right are left out,
    unless all are (it may make its mistake under some options only). If none explains it, the nearest: the one that explains most
    of the wrong numbers, and what fraction of them, if that is half or more. Lost digits are near to mistakes that lose digits
    only. ``held_as`` is another claim than that under which the cases are drawn.
    """
    source = NumpySource(np.random.default_rng(seed), pooled=True)
    agrees = {m.name: True for m in law.mistakes if m.concerns(held_as or claim)}
    explained, wrong = dict.fromkeys(agrees, 0), 0
    right: list[Judgement] = []
    for case in [failing] + [law.cases(source, claim) for _ in range(tries)]:
        try:
            judged = court.judge(law, case)
            judged = judged if held_as is None else reclaimed(law, judged, held_as)
        except Exception:
            continue
        if judged.worst <= 1:
            right.append(judged)
            continue
        if judged.misshapen or (kind != "rounding" and kind_of(judged) == "rounding"):
            continue
        outside = [np.asarray(ratio > 1) for ratio in judged.ratios]
        wrong += sum(int(np.sum(o)) for o in outside)
        for mistake in [m for m in law.mistakes if m.name in agrees]:
            compatible, close = _compared(mistake, judged, loosely=kind != "rounding")
            agrees[mistake.name] &= compatible
            explained[mistake.name] += (
                sum(_explained(c, o) for c, o in zip(close, outside, strict=True)) if close else 0
            )
    full = [m for m in law.mistakes if agrees.get(m.name) and explained[m.name]]
    if full or not wrong:
        return _never_wrong_elsewhere(full, right) or full, None
    near = [m for m in law.mistakes if m.name in agrees and (kind != "rounding" or m.rounding)]
    best = max(near, key=lambda m: explained[m.name], default=None)
    share = explained[best.name] / wrong if best else 0.0
    return [], (best, share) if best and share >= NEAR else None


def _never_wrong_elsewhere(mistakes: list[Mistake], right: Sequence[Judgement]) -> list[Mistake]:
    """Of several mistakes those that would have given the right answers, too."""
    if len(mistakes) < 2:
        return mistakes
    return [m for m in mistakes if all(_compared(m, judged, loosely=False)[0] for judged in right)]


def in_shorter_format(law: Law, court: Court, claim: Claim, failing: Case) -> tuple[bool, list[Mistake]]:
    """Whether what is wrong as float64 is float32: right there (true), or there a mistake that loses digits (its name).

    The bounds of float32 are proved as those of float64 are, so what keeps them on the failing case and on fresh ones has lost
    the digits between them and nothing else.
    """
    if claim.compute != "fp64" or claim.store != "fp64":
        return False, []
    source, right = NumpySource(np.random.default_rng(0), pooled=True), True
    kind: Kind = "rounding"
    for case in [failing] + [law.cases(source, claim) for _ in range(IN_FLOAT32)]:
        try:
            judged = reclaimed(law, court.judge(law, case), Claim("fp32"))
        except Exception:
            continue
        if judged.misshapen or not judged.worst <= 1:
            right = False
            kind = "logic" if kind_of(judged) != "rounding" else kind
    if right:
        return True, []
    mistakes, _ = suspected(law, court, claim, failing, kind, held_as=Claim("fp32"))
    return False, [mistake for mistake in mistakes if mistake.rounding]


def _explained(close: BoolArray, outside: BoolArray) -> int:
    """How many of the numbers outside their bounds the mistake explains; a coefficient may have a shape of its own."""
    if close.shape == outside.shape:
        return int(np.sum(close & outside))
    return int(np.sum(outside)) if close.all() else 0


def _compared(mistake: Mistake, judged: Judgement, *, loosely: bool) -> tuple[bool, list[BoolArray]]:
    """Whether an answer may be what the mistake gives, and where it certainly is: to rounding, or far closer than to the law.

    A wrong formula may be computed in a shorter format than is claimed, so that only its first digits speak.
    """
    case = judged.case
    with np.errstate(all="ignore"):
        values = mistake.value(case)
        spreads = mistake.spread(case) if mistake.spread else (np.zeros(()),) * len(values)
    if len(values) == len(judged.names):
        values, spreads = (tuple(every[k] for k in judged.served) for every in (values, spreads))
    if len(values) != len(judged.got) or not all(fits(g, np.shape(v)) for g, v in zip(judged.got, values, strict=True)):
        return False, []
    u, where, compatible = case.claim.computing.u + case.claim.storing.u, [], True
    loose = case.claim.computing.u**0.375 if loosely else 0.0
    for value, spread, got, expected in zip(values, spreads, judged.got, judged.expected, strict=True):
        with np.errstate(invalid="ignore", over="ignore"):
            # A mistaken value is rounded as often as the right one, and may be larger than it.
            slack = expected.bound(case.claim) + u * (np.asarray(expected.roundings) * np.abs(value) + spread)
            distance, from_law = np.abs(got - value), np.abs(got - expected.value.high)
            close = (distance <= AGREEMENT * slack) | (distance <= CLOSER * from_law)
            same = (got == value) | (np.isnan(got) & np.isnan(value))
            roughly = distance <= loose * expected.scale
            rejected = np.asarray(expected.error_over_bound(value, case.claim)) > 1  # here it is a mistake at all
        compatible &= bool((close | same | roughly).all())
        where.append(np.asarray((close | same) & rejected))
    return compatible, where


# --- one cause is said once -------------------------------------------------------------------------------------------


def causes(findings: Sequence[Finding]) -> list[Cause]:
    """The violations sorted by what causes them, the gravest cause and that of most laws first.

    Laws that agree with one mistake have one cause; where a law agrees with several, the one that explains most laws counts.
    Errors are one cause if they are the same error. Lost digits that no known mistake explains are one cause per claim.
    """
    broken = [(f, v) for f in findings for v in f.unexpected]
    left, found = list(broken), []
    while left:
        votes: dict[str, int] = {}
        for _, violation in left:
            for name in _names(violation):
                votes[name] = votes.get(name, 0) + 1
        name = max(votes, key=lambda n: votes[n])
        members = [(f, v) for f, v in left if name in _names(v)]
        left = [(f, v) for f, v in left if name not in _names(v)]
        found.append(Cause(name, tuple(members)))
    order: dict[Kind, int] = {"logic": 0, "not finite": 0, "rounding": 2}
    return sorted(found, key=lambda c: (min(order.get(v.kind, 1) for _, v in c.members), -len(c.laws)))


def _names(violation: Violation) -> list[str]:
    """What the violation may be called: its mistakes, or what it says of itself."""
    if violation.mistakes:
        return [str(mistake) for mistake in violation.mistakes]
    if violation.nearest:
        return [str(violation.nearest[0])]
    if violation.kind in ("logic", "form"):
        return [f"{violation.kind}: {violation.description}"]
    if violation.kind == "not finite":
        return [f"NaN or infinity under {violation.claim}, where the law has a number"]
    if violation.kind == "rounding":
        return [f"digits lost under {violation.claim}, by no known mistake"]
    return [violation.summary]
