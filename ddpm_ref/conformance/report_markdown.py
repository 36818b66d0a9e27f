"""Reports as a page of Markdown, for a repository, an issue or a summary of CI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddpm_ref.conformance.verdict import Cause, Finding

if TYPE_CHECKING:
    from ddpm_ref.conformance.report import Report


def as_markdown(report: Report) -> str:
    """Headline, every cause once, then the table of laws."""
    lines = [f"# {report.headline()}", ""]
    lines += ["Everything held." if report.ok else "Not everything held.", ""]
    lines += [line for warning in report.warnings for line in (f"Warning: {warning}", "")]
    for cause in report.causes:
        lines += _cause(cause)
    lines += ["## Laws", "", *_table(report), ""]
    names = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    lines += [f"{names}; device {report.device}; {report.seconds:.1f} s. Errors are fractions of a proved bound.", ""]
    return "\n".join(lines)


def _cause(cause: Cause) -> list[str]:
    finding, violation = cause.plainest
    grave = "Lost digits" if cause.only_rounding else "Wrong"
    lines = [f"## {grave}: {cause.title}", "", "Laws: " + ", ".join(f"`{law}`" for law in cause.laws) + ".", ""]
    lines += [f"$${finding.law.statement}$$", "", f"({finding.law.id}; source: {finding.law.source})", ""]
    lines += [f"* smallest case found, under {violation.claim}: `{violation.case}`"]
    element = violation.element
    if element is not None:
        lines += [
            f"* {f'{element.name}: ' if element.name else ''}got `{element.got!r}`, want `{element.want!r}`,"
            f" {element.ratio:.3g} times the bound"
        ]
    return [*lines, *[f"* hint: {violation.hint}"] * bool(violation.hint), ""]


def _table(report: Report) -> list[str]:
    from ddpm_ref.conformance.report import not_applicable, ratio_text, shown

    claims = [str(c) for c in report.claims]

    def row(finding: Finding) -> str:
        ratios = " | ".join(ratio_text(finding.worst.get(c)) for c in claims)
        notes = finding.expected or finding.reason or (f"not served: {finding.unserved}" if finding.unserved else "")
        reason = f" ({notes})" if notes else ""
        return f"| `{finding.law.id}` | {finding.cases} | {ratios} | {finding.verdict}{reason} |"

    head = f"| law | cases | {' | '.join(claims)} | verdict |"
    table = [head, "|---" * (3 + len(claims)) + "|", *map(row, filter(shown, report.findings))]
    omitted = not_applicable(report, named=len(report.findings))
    return [*table, *["", f"{omitted}."] * bool(omitted)]
