"""The catalogue: every drawn mutant as data, with its verdict, and the proof of those that cannot be told from the original."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.mutants.drawing import OF_EACH_OPERATOR, SEED, drawn, everything
from tests.mutants.judging import Conviction, judged, named
from tests.mutants.operators import OPERATORS
from tests.mutants.sites import MODULES, Mutant, digest

HERE = Path(__file__).parent
FILE, PROOFS = HERE / "catalogue.json", HERE / "proofs.toml"


@dataclass(frozen=True)
class Entry:
    """A drawn mutant and its verdict: convicted, equivalent by proof, or surviving without any."""

    id: str
    module: str
    function: str
    line: int
    operator: str
    before: str
    after: str
    conviction: Conviction | None
    proof: str = ""

    @property
    def verdict(self) -> str:
        """``killed``, ``equivalent`` or ``survived``."""
        if self.conviction is not None:
            return "killed"
        return "equivalent" if self.proof else "survived"

    @property
    def place(self) -> tuple[str, ...]:
        """What must be found in the source; a line may move."""
        return (self.id, self.module, self.function, self.operator, self.before, self.after)


@dataclass(frozen=True)
class Catalogue:
    """All entries, and what they were drawn from."""

    digests: dict[str, str]
    sites: dict[str, int]
    entries: list[Entry]


def read() -> Catalogue:
    """The catalogue in the repository."""
    data = json.loads(FILE.read_text(encoding="utf-8"))
    return Catalogue(data["digests"], data["sites"], [_entry(row) for row in data["mutants"]])


def _entry(row: dict[str, Any]) -> Entry:
    plain = {key: row[key] for key in ("id", "module", "function", "line", "operator", "before", "after")}
    killed = row.get("killed")
    conviction = None if killed is None else Conviction(**killed | {"mistakes": tuple(killed["mistakes"])})
    return Entry(**plain, conviction=conviction, proof=row.get("proof", ""))


def proofs() -> dict[str, str]:
    """Proofs of equivalence by the ids of mutants, as they were written by hand."""
    data = tomllib.loads(PROOFS.read_text(encoding="utf-8"))
    found: dict[str, str] = {}
    for proof in data["proof"]:
        for id_ in proof["mutants"]:
            if id_ in found:
                raise ValueError(f"{id_} has two proofs")
            found[id_] = " ".join(proof["says"].split())
    return found


def sites() -> dict[str, int]:
    """How many mutants there are of each operator."""
    counts = dict.fromkeys(OPERATORS, 0)
    for mutant in everything():
        counts[mutant.operator] += 1
    return counts


def entry(mutant: Mutant, conviction: Conviction | None, proof: str) -> Entry:
    """The entry of a mutant that has been judged."""
    return Entry(
        mutant.id, mutant.module, mutant.function, mutant.line, mutant.operator, mutant.before, mutant.after, conviction, proof
    )  # fmt: skip


def judge_all() -> Catalogue:
    """Draw, judge and name; what was known of a mutant is tried first."""
    known = {e.id: e.conviction for e in read().entries} if FILE.exists() else {}
    proved, entries = proofs(), []
    for mutant in drawn():
        conviction = judged(mutant, first=known.get(mutant.id))
        if conviction is not None:
            conviction = named(mutant, conviction)
        entries.append(entry(mutant, conviction, "" if conviction is not None else proved.get(mutant.id, "")))
    return Catalogue({module: digest(module) for module in MODULES}, sites(), entries)


def as_json(catalogue: Catalogue) -> str:
    """The text of the file."""
    rows = []
    for e in catalogue.entries:
        row: dict[str, Any] = {
            key: getattr(e, key) for key in ("id", "module", "function", "line", "operator", "before", "after")
        }
        row["verdict"] = e.verdict
        if e.conviction is not None:
            c = e.conviction
            error = None if c.error_over_bound is None else float(f"{c.error_over_bound:.3g}")
            row["killed"] = asdict(c) | {"error_over_bound": error, "mistakes": list(c.mistakes)}
        elif e.proof:
            row["proof"] = e.proof
        rows.append(row)
    data = {
        "seed": SEED,
        "of_each_operator": OF_EACH_OPERATOR,
        "digests": catalogue.digests,
        "sites": catalogue.sites,
        "mutants": rows,
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"
