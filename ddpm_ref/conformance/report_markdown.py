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
    for cause in report.causes:
        lines += _cause(cause)
    lines += ["## Laws", "", *_table(report), ""]
    names = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    lines += [f"{names}; device {report.device}; {report.seconds:.1f} s. Errors are fractions of a proved bound.", ""]
    return "\n".join(lines)


def _cause(cause: Cause) -> list[str]:
    finding, violation = cause.plainest
    title = cause.name if violation.mistakes else violation.diagnosis
    lines = [f"## {title}", "", "Laws: " + ", ".join(f"`{law}`" for law in cause.laws) + ".", ""]
    lines += [f"$${finding.law.statement}$$", "", f"({finding.law.id}; source: {finding.law.source})", ""]
    lines += [f"* smallest case found, under {violation.claim}: `{violation.case}`"]
    element = violation.element
    if element is not None:
        lines += [
            f"* got `{element.got!r}`, want `{element.want!r}`, {element.ratio:.3g} times the bound"
            + (f", {violation.summary}" if violation.summary else "")
        ]
    return [*lines, ""]


def _table(report: Report) -> list[str]:
    from ddpm_ref.conformance.report import ratio_text

    claims = [str(c) for c in report.claims]

    def row(finding: Finding) -> str:
        ratios = " | ".join(ratio_text(finding.worst.get(c)) for c in claims)
        reason = f" ({finding.expected})" if finding.expected else ""
        return f"| `{finding.law.id}` | {finding.cases} | {ratios} | {finding.verdict}{reason} |"

    head = f"| law | cases | {' | '.join(claims)} | verdict |"
    return [head, "|---" * (3 + len(claims)) + "|", *map(row, report.findings)]
