"""Coverage on the console: a table of cells for each section on a terminal, one line per cell elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from io import TextIOBase
from typing import IO, TextIO, TypeAlias, cast

from ddpm_ref.coverage.cells import Cell
from ddpm_ref.coverage.formulas import COLUMNS
from ddpm_ref.coverage.page import short
from ddpm_ref.coverage.report import Report, Tally
from ddpm_ref.extras import require

Stream: TypeAlias = TextIO | TextIOBase

_STYLES = {
    "empty": "bold red",
    "broken": "bold red",
    "later": "yellow",
    "not applicable": "dim",
    "not installed": "yellow",
}


def show(report: Report, stream: Stream | None = None) -> None:
    """Print the cells, a summary of each section, and what is wrong with the whole.

    Args:
        report: what was looked up.
        stream: where to print; standard output if None. A terminal gets tables, anything else plain lines.
    """
    stream = sys.stdout if stream is None else stream
    for tally in report.tallies:
        if stream.isatty():
            _table(tally, stream)
        else:
            print("\n".join(lines(tally)), file=stream)
    for tally in report.tallies:
        print(tally, file=stream)
    for trouble in report.troubles:
        print(f"wrong: {trouble}", file=stream)


def lines(tally: Tally) -> Iterator[str]:
    """A line per cell: formula, column, and what stands there.

    >>> from ddpm_ref.coverage import report
    >>> print(next(line for line in lines(report(section=3).tallies[0]) if "posterior_variance " in line))
    posterior_variance                reference  posterior.posterior_variance, NoiseSchedule.beta_tilde
    """
    for row in tally.rows:
        for column, cell in row.cells.items():
            yield f"{row.formula.id:<34}{column:<11}{said(cell)}"


def said(cell: Cell) -> str:
    """What stands in a cell, in words.

    >>> said(Cell("filled", ("ddpm_ref.reference.forward.q_sample",))), said(Cell("later", says="laws of the bound"))
    ('forward.q_sample', 'later: laws of the bound')
    """
    names = ", ".join(short(name) if name.startswith("ddpm_ref.") else name for name in cell.names)
    if cell.state == "filled":
        return "; ".join(part for part in (cell.says, names) if part)
    if cell.state == "not installed":
        return f"{names} (not looked up: {cell.says})"
    return f"{cell.state}: {cell.says}" + (f"; {names}" if names and cell.state != "broken" else "")


def _table(tally: Tally, stream: Stream) -> None:
    require("rich", "conformance")
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        "formula", "", "what there is", title=f"{tally.section.number}. {tally.section.title}", title_justify="left"
    )
    for row in tally.rows:
        for column, cell in row.cells.items():
            first, last = column == COLUMNS[0], column == COLUMNS[-1]
            name = Text(row.formula.id if first else "", style="bold")
            table.add_row(name, column, Text(said(cell), style=_STYLES.get(cell.state, "")), end_section=last)
    Console(file=cast("IO[str]", stream)).print(table)
