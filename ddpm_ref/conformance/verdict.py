"""Verdicts: what holding one implementation against one law has shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance.judge import Element
from ddpm_ref.errors import LawViolation
from ddpm_ref.laws.registry import Law, Mistake

# How a law is broken: by more than rounding explains, by digits lost, by NaN or infinity, by a wrong number of outputs or a
# wrong shape, by an exception, by conduct that leaves nothing to judge (no answer in time, two answers, written inputs).
Kind: TypeAlias = Literal["logic", "rounding", "not finite", "form", "raised", "conduct"]
Verdict: TypeAlias = Literal["holds", "VIOLATED", "not applicable", "expected failure", "NO LONGER FAILS"]


@dataclass(frozen=True)
class Violation:
    """A broken law: under which claim, how, the smallest failing case found, and which mistakes it agrees with.

    ``summary`` is the cause of what has no numbers (an exception, misconduct), or how many digits are kept; ``element`` is
    the worst number of the smallest case; ``nearest`` a mistake that explains it in part, and what fraction; ``hint`` what the
    adapter's author may have overlooked.
    """

    claim: Claim
    kind: Kind
    summary: str
    case: str
    error_over_bound: float
    mistakes: tuple[Mistake, ...] = ()
    element: Element | None = None
    nearest: tuple[Mistake, float] | None = None
    hint: str = ""

    @property
    def description(self) -> str:
        """What came, what the law says, and for which case."""
        return "; ".join(part for part in (str(self.element or self.summary), self.case) if part)

    @property
    def diagnosis(self) -> str:
        """The known mistake the answers agree with, in words."""
        if self.mistakes:
            name = "agrees with: " + " or ".join(map(str, self.mistakes))
        elif self.nearest:
            mistake, share = self.nearest
            name = f"agrees with no known mistake; the nearest, {mistake}, explains {share:.0%} of what is wrong"
        else:
            name = "agrees with no known mistake"
        if self.kind in ("raised", "conduct", "form"):
            return self.summary
        if self.kind == "not finite" and not self.mistakes and not self.nearest:
            return "not finite"
        return f"{name} ({self.summary})" if self.kind == "rounding" else name


class ExpectedViolation(LawViolation):
    """A law is broken as it was said to be."""


@dataclass(frozen=True)
class ExpectedFailure:
    """Why a law is known to fail, and how: with mistakes or kinds named, any other violation is reported as one.

    >>> known = ExpectedFailure("tables are float32", mistake="one minus rounded product")
    >>> known.mistakes, known.kinds
    (('one minus rounded product',), ())
    """

    reason: str
    mistake: str | Sequence[str] = ()
    kind: str | Sequence[str] = ()

    @property
    def mistakes(self) -> tuple[str, ...]:
        """The names of the mistakes, one of which every violation must agree with; empty: any violation will do."""
        return tuple(name.replace("_", " ") for name in _several(self.mistake))

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds, one of which every violation must be of; empty: any."""
        return _several(self.kind)

    def covers(self, violation: Violation) -> bool:
        """Whether a violation is the expected one."""
        named = {mistake.name.replace("_", " ") for mistake in violation.mistakes}
        return (not self.mistakes or bool(named & set(self.mistakes))) and (
            not self.kinds or violation.kind in self.kinds
        )

    def __str__(self) -> str:
        how = [*self.mistakes, *(f"of kind {kind}" for kind in self.kinds)]
        return self.reason + (f" ({', '.join(how)})" if how else "")


def _several(words: str | Sequence[str]) -> tuple[str, ...]:
    return (words,) * bool(words) if isinstance(words, str) else tuple(words)


@dataclass(frozen=True)
class Finding:
    """The verdict on one law: worst error over bound per claim, cases tried, violations (the gravest first).

    ``expectation`` says why a failure was expected, and how, if it was; ``reason`` why the law does not apply; ``unserved`` what
    the adapter did not answer of a law that does. ``curve`` holds, per claim, ``t / T`` and the worst error over bound seen
    there. A claim under which no number was compared is not in ``worst``.
    """

    law: Law
    worst: Mapping[str, float]
    cases: int
    violations: tuple[Violation, ...] = ()
    applicable: bool = True
    expectation: ExpectedFailure | None = None
    curve: Mapping[str, Mapping[float, float]] = field(default_factory=dict)
    reason: str = ""
    unserved: str = ""

    @property
    def expected(self) -> str:
        """The reason why a failure was expected; empty if it was not."""
        return self.expectation.reason if self.expectation else ""

    @property
    def unexpected(self) -> tuple[Violation, ...]:
        """The violations that were not expected, the gravest first."""
        return tuple(v for v in self.violations if not (self.expectation and self.expectation.covers(v)))

    @property
    def violation(self) -> Violation | None:
        """The gravest violation, if there is one: of those that were not expected, if there is one."""
        return next(iter(self.unexpected or self.violations), None)

    @property
    def verdict(self) -> Verdict:
        """``holds``, ``VIOLATED``, ``not applicable``, ``expected failure``, or ``NO LONGER FAILS`` though expected to."""
        if not self.applicable:
            return "not applicable"
        if self.expectation and not self.unexpected:
            return "expected failure" if self.violations else "NO LONGER FAILS"
        return "VIOLATED" if self.violations else "holds"

    @property
    def good(self) -> bool:
        """Whether this verdict needs nobody's attention."""
        return self.verdict in ("holds", "not applicable", "expected failure")


@dataclass(frozen=True)
class Cause:
    """What makes some laws fail, and every violation it explains."""

    name: str
    members: tuple[tuple[Finding, Violation], ...]

    @property
    def laws(self) -> tuple[str, ...]:
        """The ids of the laws, each once."""
        return tuple(dict.fromkeys(finding.law.id for finding, _ in self.members))

    @property
    def plainest(self) -> tuple[Finding, Violation]:
        """The violation that is read most easily: one that is named, with numbers, of the shortest case."""
        return min(self.members, key=lambda m: (not m[1].mistakes, m[1].element is None, len(m[1].description)))

    @property
    def only_rounding(self) -> bool:
        """Whether nothing but digits is lost."""
        return {violation.kind for _, violation in self.members} == {"rounding"}

    @property
    def title(self) -> str:
        """The mistake, or what is known instead; with the digits that are kept where only digits are lost."""
        _, violation = self.plainest
        if not violation.mistakes:
            return violation.diagnosis
        return self.name + (f" ({violation.summary})" if violation.kind == "rounding" else "")
