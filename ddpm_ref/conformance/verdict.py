"""Verdicts: what holding one implementation against one law has shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance.judge import Element
from ddpm_ref.laws.registry import Law, Mistake

# How a law is broken: by more than rounding explains, by digits lost, by NaN or infinity, by a wrong number of outputs or a
# wrong shape, by an exception, by conduct that leaves nothing to judge (no answer in time, two answers, written inputs).
Kind: TypeAlias = Literal["logic", "rounding", "not finite", "form", "raised", "conduct"]
Verdict: TypeAlias = Literal["holds", "VIOLATED", "not applicable", "expected failure", "NO LONGER FAILS"]


@dataclass(frozen=True)
class Violation:
    """A broken law: under which claim, how, the smallest failing case found, and which mistakes it agrees with.

    ``summary`` is the cause of what has no numbers (an exception, misconduct), or how many digits are kept; ``element`` is
    the worst number of the smallest case; ``nearest`` a mistake that explains it in part, and what fraction.
    """

    claim: Claim
    kind: Kind
    summary: str
    case: str
    error_over_bound: float
    mistakes: tuple[Mistake, ...] = ()
    element: Element | None = None
    nearest: tuple[Mistake, float] | None = None

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
        return f"{name} ({self.summary})" if self.kind == "rounding" else name


@dataclass(frozen=True)
class Finding:
    """The verdict on one law: worst error over bound per claim, cases tried, violations (the gravest first).

    ``expected`` is the reason why a failure was expected, if it was. ``curve`` holds, per claim, ``t / T`` and the worst
    error over bound seen there.
    """

    law: Law
    worst: Mapping[str, float]
    cases: int
    violations: tuple[Violation, ...] = ()
    applicable: bool = True
    expected: str = ""
    curve: Mapping[str, Mapping[float, float]] = field(default_factory=dict)

    @property
    def violation(self) -> Violation | None:
        """The gravest violation, if there is one."""
        return self.violations[0] if self.violations else None

    @property
    def verdict(self) -> Verdict:
        """``holds``, ``VIOLATED``, ``not applicable``, ``expected failure``, or ``NO LONGER FAILS`` though expected to."""
        if not self.applicable:
            return "not applicable"
        if self.expected:
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
