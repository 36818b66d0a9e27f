"""The catalogue as Markdown: ``docs/mutants.md``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.mutants.catalogue import Catalogue, Entry
from tests.mutants.operators import OPERATORS
from tests.mutants.sites import MODULES

PAGE = Path(__file__).parents[2] / "docs" / "mutants.md"
CLOSEST = 12

_PREFACE = """\
# Mutants

Do the [laws](laws.md) bite? The formulas of `ddpm_ref/torch` are broken on purpose, one expression at a time and in the ways
in which people break them, and every broken mirror is held against the laws that run the broken function. A mutant is *killed*
by the first answer that lies beyond its bound, is not finite, has the wrong form, or does not come. One that no law can tell
from the original needs a proof that nobody could, within what the laws promise; otherwise a law is missing.

{sites} mutants can be made of the mirror. {drawn} were drawn by a fixed seed, {each} of each kind of error where there are so
many: **{killed} are killed, {equivalent} are equivalent, {survived} survive.** The unbroken copy, loaded by the same machinery,
breaks no law.

Only mathematics is mutated: not the checking of arguments, messages, annotations, shapes and devices. What stands outside:
the oracles, and code that only compiled programs run.

The page is made from `tests/mutants/catalogue.json` by `python -m tests.mutants --write`, which draws and judges anew;
tests compare the page with the data, the data with the source of the mirror, and a sample of the verdicts (`make test-full`: all)
with what happens now.
"""


def page(catalogue: Catalogue) -> str:
    """The whole page."""
    entries = catalogue.entries
    verdicts = Counter(e.verdict for e in entries)
    each = max(Counter(e.operator for e in entries).values())
    preface = _PREFACE.format(
        sites=sum(catalogue.sites.values()), drawn=len(entries), each=each, killed=verdicts["killed"],
        equivalent=verdicts["equivalent"], survived=verdicts["survived"],
    )  # fmt: skip
    parts = [
        preface,
        _by_operator(catalogue),
        _by_module(entries),
        _kills(entries),
        _closest(entries),
        _equivalent(entries),
    ]
    return "\n".join(parts)


def _count(entries: list[Entry], verdict: str) -> int:
    return sum(e.verdict == verdict for e in entries)


def _by_operator(catalogue: Catalogue) -> str:
    lines = [
        "## By kind of error\n",
        "| error | what is written instead | possible | drawn | killed | equivalent |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for name, operator in OPERATORS.items():
        of_it = [e for e in catalogue.entries if e.operator == name]
        what = " ".join((operator.__doc__ or "").split()).rstrip(".").replace("|", "\\|")
        lines.append(
            f"| {name.replace('_', ' ')} | {what} | {catalogue.sites[name]} | {len(of_it)} | {_count(of_it, 'killed')} "
            f"| {_count(of_it, 'equivalent')} |"
        )
    return "\n".join([*lines, ""])


def _by_module(entries: list[Entry]) -> str:
    lines = ["## By module\n", "| module | drawn | killed | equivalent |", "|---|--:|--:|--:|"]
    for module in MODULES:
        of_it = [e for e in entries if e.module == module]
        lines.append(f"| `{module}` | {len(of_it)} | {_count(of_it, 'killed')} | {_count(of_it, 'equivalent')} |")
    return "\n".join([*lines, ""])


def _kills(entries: list[Entry]) -> str:
    killed = [e.conviction for e in entries if e.conviction is not None]
    claims, ways = Counter(c.claim for c in killed), Counter(c.how for c in killed)
    at_once, with_name = sum(c.case == 0 for c in killed), sum(bool(c.mistakes) for c in killed)
    laws = len({c.law for c in killed})
    return (
        "## How they are killed\n\n"
        f"By {laws} different laws; {at_once} of {len(killed)} by the first case that was tried. "
        f"Under {_listed(claims)}. What was wrong: {_listed(ways)}. "
        f"Of {with_name} the report names the mistake, because a law lists it.\n"
    )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _closest(entries: list[Entry]) -> str:
    """Those that were convicted by the least."""
    measured = [(e.conviction.error_over_bound, e) for e in entries if e.conviction and e.conviction.error_over_bound]
    measured.sort(key=lambda pair: (pair[0], pair[1].id))
    lines = [
        "## By how little\n",
        "The smallest errors, as a fraction of the bound, of an answer that convicted:\n",
        "| error / bound | function | error | before | after | law |",
        "|--:|---|---|---|---|---|",
    ]
    for ratio, e in measured[:CLOSEST]:
        law = e.conviction.law if e.conviction else ""
        lines.append(
            f"| {ratio:.3g} | `{e.module}.{e.function}` | {e.operator.replace('_', ' ')} | {_code(e.before)} | {_code(e.after)} "
            f"| {law} |"
        )
    return "\n".join([*lines, ""])


def _equivalent(entries: list[Entry]) -> str:
    lines = ["## Equivalent\n"]
    proofs: dict[str, list[Entry]] = {}
    for e in entries:
        if e.verdict == "equivalent":
            proofs.setdefault(e.proof, []).append(e)
    for proof, of_it in proofs.items():
        lines += [f"* `{e.module}.{e.function}`: {_code(e.before)} → {_code(e.after)}" for e in of_it]
        lines += ["", f"  {proof}", ""]
    return "\n".join(lines)


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")
