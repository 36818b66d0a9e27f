"""Coverage: for every formula of the field, what of it is implemented, derived, mirrored, held by laws and explained.

``sections.toml`` lists the formulas, the tables in ``formulas`` say what there is of each, and everything said is looked up.
A finished section has no empty cell: what does not apply says why.
"""

from __future__ import annotations

from ddpm_ref.coverage.cells import Cell, judged
from ddpm_ref.coverage.formulas import COLUMNS, Formula, Group, Matrix, Section, written
from ddpm_ref.coverage.report import Report, Row, Tally, report
from ddpm_ref.coverage.troubles import troubles

__all__ = [
    "COLUMNS", "Cell", "Formula", "Group", "Matrix", "Report", "Row", "Section", "Tally", "judged", "report", "troubles", "written",
]  # fmt: skip
