"""The matrix, looked up: rows of cells, a tally for each section, and whether all of it holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

from ddpm_ref.coverage.cells import Cell, judged
from ddpm_ref.coverage.formulas import Formula, Matrix, Section, written
from ddpm_ref.coverage.troubles import troubles


class Row(NamedTuple):
    """A formula and its cells by column."""

    formula: Formula
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Tally:
    """A section and its rows."""

    section: Section
    rows: tuple[Row, ...]

    @property
    def states(self) -> Counter[str]:
        """How many cells are in each state."""
        return Counter(cell.state for row in self.rows for cell in row.cells.values())

    @property
    def holds(self) -> bool:
        """Whether no cell is broken and, if the section is finished, none is empty."""
        states = self.states
        return not states["broken"] and not (self.section.finished and states["empty"])

    def __str__(self) -> str:
        """E.g. ``2. Forward process: complete (12 formulas, 72 cells: 72 filled)``."""
        states, section = self.states, self.section
        kept = [f"{states[state]} {state}" for state in _SHOWN if states[state]]
        gaps = states["empty"] + states["broken"]
        verdict = f"{gaps} cells empty or broken" if gaps else "complete" if section.finished else "unfinished"
        cells = f"{states.total()} cells: {', '.join(kept)}"
        return f"{section.number}. {section.title}: {verdict} ({len(self.rows)} formulas, {cells})"


_SHOWN = ("filled", "not applicable", "later", "not installed", "empty", "broken")


@dataclass(frozen=True)
class Report:
    """Everything that was looked up."""

    matrix: Matrix
    tallies: tuple[Tally, ...]
    troubles: tuple[str, ...]
    """What is wrong with the matrix as a whole; see `ddpm_ref.coverage.troubles`."""

    @property
    def holds(self) -> bool:
        """Whether every section holds and nothing else is wrong."""
        return all(tally.holds for tally in self.tallies) and not self.troubles

    def as_json(self) -> dict[str, Any]:
        """For `json.dumps`: sections with formulas and their cells, what stands beyond them, and the verdict."""
        return {
            "holds": self.holds,
            "troubles": list(self.troubles),
            "sections": [
                {
                    "number": tally.section.number,
                    "title": tally.section.title,
                    "finished": tally.section.finished,
                    "holds": tally.holds,
                    "cells": dict(tally.states),
                    "formulas": [
                        {
                            "id": row.formula.id,
                            "says": row.formula.says,
                            "cells": {column: cell._asdict() for column, cell in row.cells.items()},
                        }
                        for row in tally.rows
                    ],
                }
                for tally in self.tallies
            ],
            "beyond": [group._asdict() for group in self.matrix.beyond],
        }


def report(matrix: Matrix | None = None, section: int | None = None) -> Report:
    """Look everything up.

    Args:
        matrix: what is written; that of the package if None.
        section: the number of the only section to look at; the matrix as a whole is looked at in any case.

    Raises:
        RangeError: there is no such section.

    >>> print(report(section=2).tallies[0])
    2. Forward process: complete (12 formulas, 72 cells: 72 filled)
    """
    matrix = written() if matrix is None else matrix
    shown = matrix if section is None else matrix.only(section)
    tallies = tuple(
        Tally(each, tuple(Row(formula, judged(formula, each)) for formula in each.formulas)) for each in shown.sections
    )
    return Report(matrix, tallies, tuple(troubles(matrix)))
