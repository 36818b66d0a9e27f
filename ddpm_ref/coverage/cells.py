"""Whether what is written of a formula is so: every name is looked up, every law asked for its mistakes, every page read.

Nothing is imported before it is asked for. A name whose package is not installed here is not judged, and the cell says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

from ddpm_ref.coverage import places
from ddpm_ref.coverage.formulas import COLUMNS, LATER, NOT_APPLICABLE, Entry, Formula, Section
from ddpm_ref.errors import MissingExtraError

State: TypeAlias = Literal["filled", "not applicable", "later", "not installed", "empty", "broken"]
REASON = 3  # words at least: what is shorter explains nothing


class Cell(NamedTuple):
    """What stands at a formula in a column, after it was looked up."""

    state: State
    names: tuple[str, ...] = ()
    """What fills it: objects, derivations, laws, errata or places on pages."""
    says: str = ""
    """Why it does not apply, what will fill it, how many mistakes, or what is wrong."""

    @property
    def holds(self) -> bool:
        """Whether nothing is missing or wrong."""
        return self.state not in ("empty", "broken")


def _found(name: str, roots: tuple[str, ...]) -> None:
    places.found(name, roots)


REFERENCE = ("ddpm_ref.reference.",)
TENSORS = (
    "ddpm_ref.torch.", "ddpm_ref.nn.", "ddpm_ref.sampling.", "ddpm_ref.training.", "ddpm_ref.estimation.", "ddpm_ref.evaluation.",
)  # fmt: skip
LOOK_UP: dict[str, Callable[[str], object]] = {
    "reference": lambda name: _found(name, REFERENCE),
    "symbolic": places.derivation,
    "torch": lambda name: _found(name, TENSORS),
    "law": places.law,
    "page": places.page,
}
"""What finds the names of a column, or raises `LookupError` with what is wrong."""


def judged(formula: Formula, section: Section) -> dict[str, Cell]:
    """All cells of a formula, by column.

    Args:
        formula: what is written of it.
        section: where it stands; if that is finished, nothing may be left for later.

    Returns:
        a cell for each of `COLUMNS`.

    >>> from ddpm_ref.coverage import written
    >>> section = written().sections[2]
    >>> cells = judged(section.formulas[5], section)
    >>> cells["law"].state, cells["mistakes"].says, cells["mistakes"].names
    ('filled', '11 mistakes', ('E14', 'E23', 'E41', 'E61'))
    """
    cells = {column: _written(column, formula.entries.get(column), section) for column in LOOK_UP}
    cells["mistakes"] = _mistakes(formula.id, cells["law"])
    return {column: cells[column] for column in COLUMNS}


def _written(column: str, entry: Entry | None, section: Section) -> Cell:
    if not entry:
        return Cell("empty", says="nothing is written here")
    if not isinstance(entry, str):
        return _named(entry, LOOK_UP[column])
    for state, prefix in _REASONS.items():
        reason = entry.removeprefix(prefix)
        if reason == entry:
            continue
        if len(reason.split()) < REASON:
            return Cell("broken", says=f"{entry!r} gives no reason")
        if state == "later" and section.finished:
            return Cell("broken", says=f"{entry!r} in a finished section")
        return Cell(state, says=reason)
    return Cell(
        "broken", says=f"{entry!r} is neither a list of names nor begins with {' or '.join(_REASONS.values())!r}"
    )


_REASONS: Mapping[State, str] = {"not applicable": NOT_APPLICABLE, "later": LATER}


def _named(names: tuple[str, ...], look_up: Callable[[str], object]) -> Cell:
    missing = ""
    for name in names:
        try:
            look_up(name)
        except MissingExtraError as error:
            missing = str(error)
        except LookupError as error:
            return Cell("broken", names, str(error.args[0]))
    return Cell("not installed", names, missing) if missing else Cell("filled", names)


def _mistakes(formula: str, law: Cell) -> Cell:
    """The planted mistakes of its laws, and the errata about it; without laws what its cell of laws says."""
    from ddpm_ref.errata import ERRATA
    from ddpm_ref.laws import REGISTRY

    errata = tuple(erratum.id for erratum in ERRATA.values() if formula in erratum.formulas)
    if law.state == "filled":
        planted = sum(len(REGISTRY[id_].mistakes) for id_ in law.names)
        return Cell("filled", errata, "1 mistake" if planted == 1 else f"{planted} mistakes")
    says = {"not applicable": "mistakes are planted in laws, and there is none here", "later": "with the laws"}
    return Cell(law.state, errata, says.get(law.state, "its laws are not known"))
