"""The formulas, section by section, and what is said of each: read from the tables beside this file.

``sections.toml`` lists the ids, ``formulas/<file>.toml`` holds an entry for each, ``beyond.toml`` what belongs to none. Reading
believes everything; `ddpm_ref.coverage.cells` finds out whether it is so.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple, TypeAlias

from ddpm_ref.errors import RangeError

COLUMNS = ("reference", "symbolic", "torch", "law", "mistakes", "page")
"""In the order in which they are shown. What is under ``mistakes`` is counted, not written."""
WRITTEN = tuple(column for column in COLUMNS if column != "mistakes")

Entry: TypeAlias = "tuple[str, ...] | str"
"""Names that fill a cell, or a sentence that begins with `NOT_APPLICABLE` or `LATER`."""
NOT_APPLICABLE, LATER = "not applicable: ", "later: "


@dataclass(frozen=True)
class Formula:
    """One formula, and what is written in its cells."""

    id: str
    """Its name, e.g. ``posterior_variance``."""
    says: str
    """What it is, in a few words."""
    entries: Mapping[str, Entry] = field(default_factory=dict)
    """By column; a column may be missing, and is then empty."""
    unknown: tuple[str, ...] = ()
    """What else the table says of it: mistyped columns, as a rule."""


@dataclass(frozen=True)
class Section:
    """A section of formulas."""

    number: int
    title: str
    finished: bool
    """Whether every cell must be filled or say why it does not apply."""
    ids: tuple[str, ...]
    """The formulas it has to have, in order."""
    formulas: tuple[Formula, ...]
    """Those that its table holds, in order."""


class Group(NamedTuple):
    """Laws, derivations and functions that belong to no formula, for one reason."""

    why: str
    laws: tuple[str, ...] = ()
    derivations: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Matrix:
    """Everything that is written."""

    sections: tuple[Section, ...]
    beyond: tuple[Group, ...] = ()

    def only(self, number: int) -> Matrix:
        """One section of it.

        Raises:
            RangeError: there is no section of this number.

        >>> [section.title for section in written().only(2).sections]
        ['Forward process']
        """
        found = tuple(section for section in self.sections if section.number == number)
        if not found:
            have = ", ".join(f"{section.number} ({section.title})" for section in self.sections)
            raise RangeError(f"there is no section {number}; there are {have}")
        return Matrix(found, self.beyond)

    def named(self, column: str) -> set[str]:
        """All names that stand in a column."""
        entries = (formula.entries.get(column, ()) for section in self.sections for formula in section.formulas)
        return {name for entry in entries if not isinstance(entry, str) for name in entry}


@cache
def written() -> Matrix:
    """What the package says of its formulas.

    >>> written().sections[2].formulas[5].entries["law"]
    ('posterior/variance', 'schedule/beta_tilde')
    """
    folder = resources.files("ddpm_ref.coverage")
    sections = tuple(_section(each, folder) for each in _table(folder / "sections.toml")["section"])
    beyond = tuple(_group(each) for each in _table(folder / "beyond.toml")["group"])
    return Matrix(sections, beyond)


def _table(file: Traversable) -> dict[str, Any]:
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _section(section: Mapping[str, Any], folder: Traversable) -> Section:
    table = _table(folder / "formulas" / f"{section['file']}.toml")
    formulas = tuple(_formula(id_, cells) for id_, cells in table.items())
    return Section(section["number"], section["title"], section["finished"], tuple(section["ids"]), formulas)


def _formula(id_: str, cells: Mapping[str, Any]) -> Formula:
    entries = {column: _entry(cells[column]) for column in WRITTEN if column in cells}
    unknown = tuple(name for name in cells if name not in (*WRITTEN, "says"))
    return Formula(id_, cells.get("says", ""), entries, unknown)


def _entry(written: str | Iterable[str]) -> Entry:
    return written if isinstance(written, str) else tuple(written)


def _group(group: Mapping[str, Any]) -> Group:
    return Group(group["why"], *(tuple(group.get(kind, ())) for kind in ("laws", "derivations", "functions")))
