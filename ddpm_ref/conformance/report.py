"""Reports: a verdict per law, the worst error as a fraction of its bound, and the name of the mistake where one is known."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from ddpm_ref import __version__
from ddpm_ref.arithmetic import Claim
from ddpm_ref.errors import LawViolation
from ddpm_ref.laws.registry import Law, Mistake

LIBRARIES = ("numpy", "torch", "triton", "hypothesis")


@dataclass(frozen=True)
class Violation:
    """A broken law: under which claim, the smallest failing case found, how wrong, and which mistakes it agrees with."""

    claim: Claim
    description: str
    error_over_bound: float
    mistakes: tuple[Mistake, ...]

    @property
    def diagnosis(self) -> str:
        """The known mistake the answers agree with, in words."""
        return (
            "agrees with: " + " or ".join(map(str, self.mistakes)) if self.mistakes else "agrees with no known mistake"
        )


@dataclass(frozen=True)
class Finding:
    """The verdict on one law: worst error over bound per claim, cases tried, and the violation if there is one."""

    law: Law
    worst: Mapping[str, float]
    cases: int
    violation: Violation | None = None
    applicable: bool = True

    @property
    def verdict(self) -> str:
        """``holds``, ``VIOLATED`` or ``not applicable``."""
        if not self.applicable:
            return "not applicable"
        return "holds" if self.violation is None else "VIOLATED"


@dataclass(frozen=True)
class Report:
    """What holding one implementation against the laws has shown."""

    implementation: str
    claims: tuple[Claim, ...]
    findings: Sequence[Finding]
    seconds: float
    device: str = "cpu"
    _versions: dict[str, str] = field(default_factory=lambda: versions())

    @property
    def ok(self) -> bool:
        """Whether every applicable law held, and at least one was applicable."""
        tried = [f for f in self.findings if f.applicable]
        return bool(tried) and all(f.violation is None for f in tried)

    @property
    def violations(self) -> list[Finding]:
        """The broken laws."""
        return [f for f in self.findings if f.violation is not None]

    def raise_for_violation(self) -> None:
        """Raise `LawViolation` with the first broken law, if there is one."""
        for finding in self.violations:
            raise LawViolation("\n".join(describe(finding)))

    def headline(self) -> str:
        """What was claimed, of what, and whether it held."""
        claims = ", ".join(map(str, self.claims))
        applicable = sum(f.applicable for f in self.findings)
        held = applicable - len(self.violations)
        return f"{self.implementation}, claim {claims}: {held} of {applicable} laws hold"

    def __str__(self) -> str:
        lines = [header(self.claims)] + [line(f, self.claims) for f in self.findings]
        for finding in self.violations:
            lines += ["", *describe(finding)]
        return "\n".join([*lines, "", *footer(self)])

    def as_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "implementation": self.implementation,
            "claims": [str(c) for c in self.claims],
            "ok": self.ok,
            "device": self.device,
            "seconds": self.seconds,
            "versions": self._versions,
            "laws": [
                {
                    "id": f.law.id,
                    "verdict": f.verdict,
                    "cases": f.cases,
                    "worst_error_over_bound": dict(f.worst),
                    "violation": None
                    if f.violation is None
                    else {
                        "claim": str(f.violation.claim),
                        "description": f.violation.description,
                        "error_over_bound": f.violation.error_over_bound,
                        "agrees_with": [m.name for m in f.violation.mistakes],
                    },
                }
                for f in self.findings
            ],
        }


def versions() -> dict[str, str]:
    """Versions of what took part."""
    found = {"ddpm_ref": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def header(claims: Sequence[Claim]) -> str:
    """The heading of the table of laws."""
    columns = "".join(f"{c!s:>11}" for c in claims)
    return f"{'law':<40}{'cases':>7}{columns}  verdict      (worst error as a fraction of its bound)"


def line(finding: Finding, claims: Sequence[Claim]) -> str:
    """One law on one line."""
    columns = "".join(f"{_ratio(finding.worst.get(str(c))):>11}" for c in claims)
    return f"{finding.law.id:<40}{finding.cases:>7}{columns}  {finding.verdict}"


def _ratio(worst: float | None) -> str:
    if worst is None:
        return "-"
    return f"{worst:.3f}" if worst < 1000 else f"{worst:.1e}"


def describe(finding: Finding) -> list[str]:
    """A broken law in full: statement, source, case, error, the mistake's name."""
    violation = finding.violation
    if violation is None:
        return []
    return [
        f"{finding.law.id} under {violation.claim}: {violation.diagnosis}",
        f"  law     {finding.law.statement}   [{finding.law.source}]",
        f"  case    {violation.description}",
    ]


def footer(report: Report) -> list[str]:
    """Claim, versions, device, time."""
    names = " ".join(f"{name} {version}" for name, version in report._versions.items())
    return [report.headline(), f"{names}; device {report.device}; {report.seconds:.1f} s"]
