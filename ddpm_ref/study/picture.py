"""The figures of a study as a picture: divergence against steps, both logarithmic, one line per sampler and spacing."""

from __future__ import annotations

import io
import itertools
import textwrap
from collections.abc import Sequence
from math import inf

from ddpm_ref.errors import RangeError
from ddpm_ref.extras import require
from ddpm_ref.study.grid import Cell

WIDTH = 80
"""Letters of a title that fit on one line."""


def figure(cells: Sequence[Cell], title: str) -> bytes:
    """A PNG. Raises `RangeError` if there is nothing to draw, `MissingExtraError` without matplotlib."""
    drawn = [cell for cell in cells if 0 < cell.kl < inf]
    if not drawn:
        raise RangeError("no divergence that is positive and finite was computed; there is nothing to draw")
    canvas = require("matplotlib.figure", "train").Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = canvas.subplots()
    styles = dict(zip(_names(drawn, "spacing"), itertools.cycle(_STYLES), strict=False))
    colours = {sampler: f"C{i % 10}" for i, sampler in enumerate(_names(drawn, "sampler"))}
    for sampler, spacing in dict.fromkeys((cell.sampler, cell.spacing) for cell in drawn):
        line = sorted((cell.steps, cell.kl) for cell in drawn if (cell.sampler, cell.spacing) == (sampler, spacing))
        label = sampler if len(styles) == 1 else f"{sampler}, {spacing}"
        axes.plot(
            *zip(*line, strict=True), styles[spacing], color=colours[sampler], marker="o", markersize=4, label=label
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="steps",
        ylabel="KL(samples || data), nats",
        title=textwrap.fill(title, WIDTH),
    )
    steps = sorted({cell.steps for cell in drawn})
    axes.set_xticks(steps, [str(count) for count in steps])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    picture = io.BytesIO()
    canvas.savefig(picture, format="png")
    return picture.getvalue()


_STYLES = ["-", "--", ":", "-."]


def _names(cells: Sequence[Cell], attribute: str) -> list[str]:
    return list(dict.fromkeys(getattr(cell, attribute) for cell in cells))
