"""Gauss-Legendre quadrature on panels that are halved where, and only where, the integrand asks for it.

Sixteen nodes integrate polynomials of degree 31 exactly, so a panel across which a function looks like a polynomial of
degree 15, its last Legendre coefficients being small, integrates it to about the square of what those leave out
(trefethen2019, chapter 19).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from ddpm_ref.errors import RangeError
from ddpm_ref.typing import Array, BoolArray

MOST_PANELS = 20_000


@cache
def rule() -> tuple[Array, Array, Array]:
    """Nodes and weights on [-1, 1], and the rows that give a function's last four Legendre coefficients from its values there."""
    nodes, weights = np.polynomial.legendre.leggauss(16)
    degrees = np.arange(12, 16)
    last = np.polynomial.legendre.legvander(nodes, 15)[:, degrees] * weights[:, None] * (degrees + 0.5)
    return nodes, weights, last.T


@cache
def _to_edges() -> Array:
    """Columns that give the interpolant of degree 15 at both ends of a panel from its values at the nodes."""
    nodes, weights, _ = rule()
    degrees = np.arange(16)
    coefficients = np.polynomial.legendre.legvander(nodes, 15) * weights[:, None] * (degrees + 0.5)
    return np.asarray(coefficients @ np.polynomial.legendre.legvander(np.array([-1.0, 1.0]), 15).T)


@dataclass(frozen=True, eq=False)
class Panels:
    """Panels ``[low, high]``, ascending: 16 nodes each, with whatever was computed there."""

    low: Array
    high: Array
    values: dict[str, Array]

    @property
    def nodes(self) -> Array:
        """Shape ``(panels, 16)``, ascending."""
        return (self.low + self.high)[:, None] / 2 + self.halves[:, None] * rule()[0]

    @property
    def weights(self) -> Array:
        """Quadrature weights of the nodes."""
        return self.halves[:, None] * rule()[1]

    @property
    def edges(self) -> Array:
        """Where the panels end, shape ``(panels, 2)``."""
        return np.stack([self.low, self.high], axis=-1)

    @property
    def halves(self) -> Array:
        """Half the widths."""
        return (self.high - self.low) / 2


def unresolved(values: Array) -> Array:
    """The size of the last Legendre coefficients of a function given at the nodes ``(panels, 16)``."""
    return np.asarray(np.abs(values @ rule()[2].T).max(axis=-1))


def missed(values: Array, ends: Array) -> Array:
    """How far a function is, at the edges, from what its values at the nodes let expect: a jump beside an edge shows at no node."""
    return np.asarray(np.abs(ends - values @ _to_edges()).max(axis=-1))


def refined(
    low: float, high: float, width: float, judge: Callable[[Panels], tuple[BoolArray, dict[str, Array]]], what: str
) -> Panels:
    """Panels no wider than ``width``, halved until ``judge`` is content with each; it returns its verdict and the values.

    Raises `RangeError` if more than `MOST_PANELS` are needed.
    """
    wanted = (high - low) / width
    first = max(8, int(np.ceil(min(wanted, 2 * MOST_PANELS))))
    edges = np.linspace(low, high, first + 1)
    waiting = Panels(edges[:-1], edges[1:], {})
    kept: list[Panels] = []
    while waiting.low.size:
        if sum(panels.low.size for panels in kept) + waiting.low.size > MOST_PANELS:
            raise RangeError(
                f"{what} needs more than {16 * MOST_PANELS} nodes from {low:.3g} to {high:.3g}; take data with wider components, "
                "or a plan whose steps add more noise (or none)"
            )
        good, values = judge(waiting)
        kept.append(Panels(waiting.low[good], waiting.high[good], {k: v[good] for k, v in values.items()}))
        left, right = waiting.low[~good], waiting.high[~good]
        middle = (left + right) / 2
        halves = np.sort(np.concatenate([left, middle])), np.sort(np.concatenate([middle, right]))
        waiting = Panels(*halves, {})
    order = np.argsort(np.concatenate([panels.low for panels in kept]), kind="stable")
    join = {k: np.concatenate([panels.values[k] for panels in kept])[order] for k in kept[0].values}
    lows, highs = (np.concatenate([getattr(panels, side) for panels in kept])[order] for side in ("low", "high"))
    return Panels(lows, highs, join)
