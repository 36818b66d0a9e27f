"""Reports: a verdict per law, the worst error as a fraction of its bound, and each cause of failure said once."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from typing import Any

from ddpm_ref import __version__
from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance.diagnosis import causes
from ddpm_ref.conformance.verdict import Cause, Finding, Violation
from ddpm_ref.errors import LawViolation
from ddpm_ref.laws import REGISTRY

LIBRARIES = ("numpy", "torch", "triton", "diffusers", "hypothesis")


@dataclass(frozen=True)
class Report:
    """What holding one implementation against the laws has shown."""

    implementation: str
    claims: tuple[Claim, ...]
    findings: Sequence[Finding]
    seconds: float
    device: str = "cpu"
    versions: dict[str, str] = field(default_factory=lambda: versions())
    warnings: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        """Whether every applicable law held, or failed as expected, and at least one was applicable."""
        tried = [f for f in self.findings if f.applicable]
        return bool(tried) and all(f.good for f in tried)

    @property
    def violations(self) -> list[Finding]:
        """The laws that are broken and were not expected to be."""
        return [f for f in self.findings if f.verdict == "VIOLATED"]

    @cached_property
    def causes(self) -> list[Cause]:
        """What makes laws fail, each cause once, the gravest first."""
        return causes(self.violations)

    def raise_for_violation(self) -> None:
        """Raise `LawViolation` with the first broken law, or one that was expected to fail and holds, if there is one."""
        for finding in self.findings:
            if not finding.good:
                raise LawViolation("\n".join(describe(finding)))

    def headline(self) -> str:
        """What was claimed, of what, and whether it held."""
        claims = ", ".join(map(str, self.claims))
        count = {
            verdict: sum(f.verdict == verdict for f in self.findings) for verdict in {f.verdict for f in self.findings}
        }
        applicable = len(self.findings) - count.get("not applicable", 0)
        others = [
            f"{count[verdict]} {words}"
            for verdict, words in (
                ("expected failure", "fail as expected"),
                ("NO LONGER FAILS", "no longer fail"),
                ("not applicable", "not applicable"),
            )
            if verdict in count
        ]
        held = f"{count.get('holds', 0)} of {applicable} laws hold"
        return f"{self.implementation}, claim {claims}: " + "; ".join([held, *others])

    def __str__(self) -> str:
        lines = [header(self.claims)] + [line(f, self.claims) for f in self.findings if shown(f)]
        return "\n".join([*lines, *conclusions(self), "", *footer(self)])

    def as_json(self) -> dict[str, Any]:
        """The report as plain data; its schema is ``report.schema.json`` in this package."""
        from ddpm_ref.conformance.report_json import as_json

        return as_json(self)

    def as_markdown(self) -> str:
        """The report as a page of Markdown."""
        from ddpm_ref.conformance.report_markdown import as_markdown

        return as_markdown(self)

    def as_html(self) -> str:
        """The report as one self-contained page: no script, no font and no picture is loaded from anywhere."""
        from ddpm_ref.conformance.report_html import as_html

        return as_html(self)


def versions() -> dict[str, str]:
    """Versions of what took part."""
    found = {"ddpm_ref": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


WIDTH = 2 + max(len(law.id) for law in REGISTRY)  # of the column of laws
NAMED = 5  # missing capabilities that are named where many laws do not apply


def header(claims: Sequence[Claim]) -> str:
    """The heading of the table of laws."""
    columns = "".join(f"{c!s:>11}" for c in claims)
    return f"{'law':<{WIDTH}}{'cases':>7}{columns}  verdict      (worst error as a fraction of its bound)"


def shown(finding: Finding) -> bool:
    """Whether a law has a line of its own: not if the adapter lacks what it needs."""
    return finding.applicable or not missing_of(finding)


def missing_of(finding: Finding) -> str:
    """The capabilities for the lack of which a law does not apply, joined by blanks."""
    return "" if finding.applicable else finding.reason.partition("the adapter has no ")[2]


def line(finding: Finding, claims: Sequence[Claim]) -> str:
    """One law on one line."""
    columns = "".join(f"{ratio_text(finding.worst.get(str(c))):>11}" for c in claims)
    note = f"not served: {finding.unserved}" if finding.unserved else finding.reason
    verdict = finding.verdict + (f" ({note})" if note else "")
    return f"{finding.law.id:<{WIDTH}}{finding.cases:>7}{columns}  {verdict}"


def not_applicable(report: Report, named: int = NAMED) -> str:
    """The laws that need what the adapter lacks, on one line; empty if there are none."""
    lacking = [missing for missing in map(missing_of, report.findings) if missing]
    capabilities = list(dict.fromkeys(name for missing in lacking for name in missing.split()))
    if not lacking:
        return ""
    more = f" and {len(capabilities) - named} more" if len(capabilities) > named else ""
    laws = "law is" if len(lacking) == 1 else "laws are"
    return f"{len(lacking)} {laws} not applicable: the adapter has no {', '.join(capabilities[:named])}{more}"


def ratio_text(worst: float | None) -> str:
    """An error over bound in a column of a table."""
    if worst is None:
        return "-"
    return f"{worst:.3f}" if worst < 1000 else f"{worst:.1e}"


def conclusions(report: Report) -> list[str]:
    """What does not apply, every cause of failure in full, once, and what is expected or no longer so."""
    omitted = not_applicable(report)
    lines = ["", f"{omitted}; ddpm-ref laws says what each needs"] if omitted else []
    lines += [line for warning in report.warnings for line in ("", f"warning: {warning}")]
    for cause in report.causes:
        finding, violation = cause.plainest
        lines += ["", f"{'LOST DIGITS' if cause.only_rounding else 'WRONG'}: {cause.title}"]
        lines += [f"  laws    {', '.join(cause.laws)}"]
        lines += [f"  {words}" for words in _detail(finding, violation)]
    for finding in report.findings:
        if finding.verdict == "NO LONGER FAILS":
            lines += ["", f"{finding.law.id} holds, but was expected to fail: {finding.expected}; take it off the list"]
        elif finding.verdict == "expected failure" and finding.violation:
            lines += ["", f"expected: {finding.law.id}, {finding.expected}", f"  now     {finding.violation.diagnosis}"]
        elif finding.expectation and finding.unexpected:
            lines += ["", f"{finding.law.id} fails in another way than expected: {finding.expectation}"]
    return lines


def _detail(finding: Finding, violation: Violation) -> list[str]:
    lines = [f"law     {finding.law.id}: {finding.law.statement}   [{finding.law.source}]"]
    lines += [f"case    under {violation.claim}: {violation.case}"]
    if violation.element is not None:
        worst = finding.worst.get(str(violation.claim), 0.0)
        elsewhere = f" (the smallest case found; {ratio_text(worst)} in the worst)"
        lines += [f"result  {violation.element}" + (elsewhere if worst > violation.error_over_bound else "")]
    return lines + [f"hint    {violation.hint}"] * bool(violation.hint)


def describe(finding: Finding) -> list[str]:
    """A broken law in full: statement, source, case, error, the mistake's name."""
    violation = finding.violation
    if violation is None:
        return [f"{finding.law.id} holds, but was expected to fail: {finding.expected}"] if finding.expected else []
    return [
        f"{finding.law.id} under {violation.claim}: {violation.diagnosis}",
        f"  law     {finding.law.statement}   [{finding.law.source}]",
        f"  case    {violation.description}",
        *[f"  hint    {violation.hint}"] * bool(violation.hint),
        *[f"  expected another failure: {finding.expectation}"] * bool(finding.expectation and finding.unexpected),
    ]


def footer(report: Report) -> list[str]:
    """Claim, versions, device, time."""
    names = " ".join(f"{name} {version}" for name, version in report.versions.items())
    return [report.headline(), f"{names}; device {report.device}; {report.seconds:.1f} s"]
