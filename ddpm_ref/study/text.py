"""The figures of a study as a table: one row per sampler and spacing, one column per number of steps."""

from __future__ import annotations

from collections.abc import Sequence

from ddpm_ref.study.grid import Cell


def table(cells: Sequence[Cell]) -> str:
    """Divergences in nats; what was not computed is left blank.

    >>> print(table([Cell("beta", "even", 10, 0.5, None), Cell("beta", "even", 100, 1e-5, None)]))
    sampler    spacing          10        100
    beta       even         0.5000  1.000e-05
    """
    steps = list(dict.fromkeys(cell.steps for cell in cells))
    rows = {
        (cell.sampler, cell.spacing): {other.steps: other.kl for other in cells if _same(cell, other)} for cell in cells
    }
    lines = [f"{'sampler':<11}{'spacing':<9}" + "".join(f"{count:>11}" for count in steps)]
    for (sampler, spacing), found in rows.items():
        figures = (f"{_short(found[count]) if count in found else '':>11}" for count in steps)
        lines.append(f"{sampler:<11}{spacing:<9}" + "".join(figures).rstrip())
    return "\n".join(lines)


def _same(one: Cell, other: Cell) -> bool:
    return (one.sampler, one.spacing) == (other.sampler, other.spacing)


def _short(nats: float) -> str:
    return f"{nats:.4f}" if nats >= 0.01 else f"{nats:.3e}"
