"""Reports as one self-contained page of HTML: formulas in MathML, curves in SVG, nothing loaded from anywhere, no script."""

from __future__ import annotations

from html import escape
from math import isfinite, log10
from typing import TYPE_CHECKING

from ddpm_ref.conformance.verdict import Cause, Finding
from ddpm_ref.extras import require

if TYPE_CHECKING:
    from ddpm_ref.conformance.report import Report

STYLE = """
:root { color-scheme: light dark; --good: #1a7f37; --bad: #c9281d; --warn: #9a6700; --line: #8885; --mild: #8881; }
@media (prefers-color-scheme: dark) { :root { --good: #4ac26b; --bad: #ff7b72; --warn: #d4a72c; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; } h3 { font-size: 1.05rem; margin-bottom: .3rem; }
code, td.number { font-family: ui-monospace, monospace; font-size: .85em; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; }
math { font-size: 1.1em; } .formula { overflow-x: auto; overflow-y: hidden; padding: .5rem 0; }
section { border-left: 4px solid var(--bad); padding: .1rem 1rem; margin: 1rem 0; background: var(--mild); }
section.digits { border-color: var(--warn); }
.holds { color: var(--good); } .violated, .nolongerfails { color: var(--bad); font-weight: bold; }
.expectedfailure, .notapplicable { color: var(--warn); }
svg { width: 100%; height: auto; } summary { cursor: pointer; }
"""
PALETTE = ("#0969da", "#bf5700", "#8250df", "#1a7f37")


def as_html(report: Report) -> str:
    """Headline with the claim, every cause once, the table of laws, and error over bound along t for each law."""
    names = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    verdict = "Everything held." if report.ok else "Not everything held."
    body = [
        f"<h1>{escape(report.headline())}</h1>",
        f'<p class="{"holds" if report.ok else "violated"}">{verdict}</p>',
        "<p>Errors are given as fractions of a proved bound: at most 1 is right, for the number formats claimed above.</p>",
        *(f'<p class="expectedfailure">Warning: {escape(warning)}</p>' for warning in report.warnings),
        *(["<h2>What is wrong</h2>"] if report.causes else []),
        *map(_cause, report.causes),
        "<h2>Laws</h2>",
        _table(report),
        "<h2>Error over bound along the chain</h2>",
        *(_curve(finding) for finding in report.findings if any(finding.curve.values())),
        f"<p><small>{escape(names)}; device {escape(report.device)}; {report.seconds:.1f} s</small></p>",
    ]
    title = escape(f"{report.implementation}: conformance")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def formula(statement: str) -> str:
    """A LaTeX formula as MathML, which browsers show without help."""
    convert = require("latex2mathml.converter", "conformance").convert
    return f'<div class="formula">{convert(statement, display="block")}</div>'


def _cause(cause: Cause) -> str:
    finding, violation = cause.plainest
    digits = cause.only_rounding
    laws = ", ".join(f"<code>{escape(law)}</code>" for law in cause.laws)
    rows = [
        ("law", f"<code>{finding.law.id}</code>, source: {escape(finding.law.source)}"),
        ("claim", escape(str(violation.claim))),
    ]
    rows += [("smallest case", f"<code>{escape(violation.case)}</code>")]
    element = violation.element
    if element is not None:
        rows += [("got", f"<code>{element.got!r}</code>"), ("want", f"<code>{element.want!r}</code>")]
        rows += [("output", escape(element.name))] * bool(element.name)
        rows += [("error over bound", f"{element.ratio:.3g}")]
    rows += [("hint", escape(violation.hint))] * bool(violation.hint)
    cells = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows)
    return (
        f'<section class="{"digits" if digits else "logic"}"><h3>{"Digits lost" if digits else "Wrong"}: {escape(cause.title)}</h3>'
        f"<p>Laws: {laws}</p>{formula(finding.law.statement)}<table>{cells}</table></section>"
    )


def _table(report: Report) -> str:
    from ddpm_ref.conformance.report import ratio_text

    claims = [str(c) for c in report.claims]
    head = "".join(f'<th class="number">{escape(c)}</th>' for c in claims)
    rows = []
    for finding in [f for f in report.findings if f.applicable]:
        ratios = "".join(f'<td class="number">{ratio_text(finding.worst.get(c))}</td>' for c in claims)
        style = finding.verdict.lower().replace(" ", "")
        notes = finding.expected or (f"not served: {finding.unserved}" if finding.unserved else "")
        reason = f": {escape(notes)}" if notes else ""
        rows.append(
            f"<tr><td><code>{finding.law.id}</code></td><td class='number'>{finding.cases}</td>{ratios}"
            f'<td class="{style}">{finding.verdict}{reason}</td></tr>'
        )
    table = f"<table><tr><th>law</th><th class='number'>cases</th>{head}<th>verdict</th></tr>{''.join(rows)}</table>"
    others = [f for f in report.findings if not f.applicable]
    needs = "".join(f"<li><code>{f.law.id}</code>: {escape(f.reason)}</li>" for f in others)
    return table + (
        f"<details><summary>{len(others)} laws not applicable</summary><ul>{needs}</ul></details>" if others else ""
    )


# --- curves ------------------------------------------------------------------------------------------------------------

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 200, 60, 30, 10


def _curve(finding: Finding) -> str:
    drawn = {claim: points for claim, points in finding.curve.items() if points}
    sizes = [min(max(r, 1e-3), 1e18) if isfinite(r) else 1e18 for points in drawn.values() for r in points.values()]
    low, high = -3.0, max(1.0, log10(max(sizes)) + 0.3)

    def y(ratio: float) -> float:
        size = min(max(ratio, 1e-3), 1e18) if isfinite(ratio) else 1e18
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - log10(size)) / (high - low)

    def x(at: float) -> float:
        return LEFT + (WIDTH - LEFT - 10) * at

    marks = range(int(low), int(high) + 1, max(1, int((high - low) / 5)))
    grid = "".join(
        f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{y(10.0**m):.1f}" y2="{y(10.0**m):.1f}" stroke="currentColor" opacity=".15"/>'
        f'<text x="{LEFT - 6}" y="{y(10.0**m) + 4:.1f}" text-anchor="end" font-size="11" fill="currentColor">1e{m}</text>'
        for m in marks
    )
    one = f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{y(1.0):.1f}" y2="{y(1.0):.1f}" stroke="var(--bad)" stroke-dasharray="5 4"/>'
    ends = "".join(
        f'<text x="{x(at):.0f}" y="{HEIGHT - 10}" text-anchor="middle" font-size="11" fill="currentColor">{label}</text>'
        for at, label in ((0.0, "t = 0"), (0.5, "T/2"), (0.97, "T"))
    )
    dots, keys = [], []
    for colour, (claim, points) in zip(PALETTE * 4, drawn.items(), strict=False):
        dots += [
            f'<circle cx="{x(at):.1f}" cy="{y(r):.1f}" r="3" fill="{colour}"/>' for at, r in sorted(points.items())
        ]
        keys.append(f'<span style="color:{colour}">● {escape(claim)}</span>')
    view = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="error over bound along t"'
    picture = f"<svg {view}>{grid}{one}{ends}{''.join(dots)}</svg>"
    opened = " open" if finding.violations else ""
    return (
        f"<details{opened}><summary><code>{finding.law.id}</code> {finding.verdict}</summary>"
        f"{formula(finding.law.statement)}{picture}<p>{' '.join(keys)}; dashed: the bound</p></details>"
    )
