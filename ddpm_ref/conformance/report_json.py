"""Reports as data, in a versioned format: ``report.schema.json`` says what each field is."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any

from ddpm_ref.conformance.verdict import Finding, Violation
from ddpm_ref.laws.registry import Mistake

if TYPE_CHECKING:
    from ddpm_ref.conformance.report import Report

FORMAT = "ddpm_ref.report/1"


def schema() -> dict[str, Any]:
    """The JSON schema of `Report.as_json`."""
    text = resources.files("ddpm_ref.conformance").joinpath("report.schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def as_json(report: Report) -> dict[str, Any]:
    """A report as plain data; numbers that are not finite come as they are (see `ddpm_ref.commands.json_numbers`)."""
    return {
        "format": FORMAT,
        "headline": report.headline(),
        "implementation": report.implementation,
        "claims": [str(c) for c in report.claims],
        "ok": report.ok,
        "device": report.device,
        "seconds": report.seconds,
        "versions": report.versions,
        "warnings": list(report.warnings),
        "causes": [
            {
                "name": cause.name,
                "laws": list(cause.laws),
                "kinds": sorted({v.kind for _, v in cause.members}),
                "errata": sorted({m.erratum for _, v in cause.members for m in v.mistakes if m.erratum}),
            }
            for cause in report.causes
        ],
        "laws": [_law(finding) for finding in report.findings],
    }


def _law(finding: Finding) -> dict[str, Any]:
    return {
        "id": finding.law.id,
        "statement": finding.law.statement,
        "source": finding.law.source,
        "verdict": finding.verdict,
        "expected": finding.expected,
        "expected_mistakes": list(finding.expectation.mistakes if finding.expectation else ()),
        "expected_kinds": list(finding.expectation.kinds if finding.expectation else ()),
        "reason": finding.reason,
        "not_served": finding.unserved,
        "cases": finding.cases,
        "worst_error_over_bound": dict(finding.worst),
        "curve": {claim: sorted(points.items()) for claim, points in finding.curve.items()},
        "violations": [_violation(finding, v) for v in finding.violations],
    }


def _violation(finding: Finding, violation: Violation) -> dict[str, Any]:
    element, nearest = violation.element, violation.nearest
    return {
        "claim": str(violation.claim),
        "kind": violation.kind,
        "summary": violation.summary,
        "case": violation.case,
        "error_over_bound": violation.error_over_bound,
        "got": None if element is None else element.got,
        "want": None if element is None else element.want,
        "output": None if element is None else element.output,
        "output_name": None if element is None else element.name,
        "index": None if element is None else list(element.index),
        "agrees_with": [_mistake(m) for m in violation.mistakes],
        "nearest": None if nearest is None else {**_mistake(nearest[0]), "explains": nearest[1]},
        "expected": violation not in finding.unexpected,
        "hint": violation.hint,
    }


def _mistake(mistake: Mistake) -> dict[str, Any]:
    return {"name": mistake.name, "erratum": mistake.erratum, "rounding": mistake.rounding}
