"""The variances of an analysis as a picture: between their bounds, beside beta and beta-tilde."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from ddpm_ref.estimation.analysis import Analysis
from ddpm_ref.extras import require
from ddpm_ref.typing import Array


def figure(analysis: Analysis, title: str = "") -> bytes:
    r"""A PNG: above, the variances of the steps over t; below, the same as shares of the way between their bounds.

    One step apart, the variances of all choices differ by less than a line is wide; what share of
    :math:`[\lambda^2, \text{upper bound}]` the optimal variance takes says how much the network knows of the data.

    Raises `MissingExtraError` without matplotlib.
    """
    canvas = require("matplotlib.figure", "train").Figure(figsize=(8, 7), dpi=120, layout="constrained")
    above, below = canvas.subplots(2, 1, sharex=True)
    t, found = np.array(analysis.trajectory.levels[:-1]), analysis.variance
    curves = {
        r"upper bound": (analysis.upper, "0.6", "--"),
        r"$\beta$": (analysis.beta, "C3", "-"),
        r"$\sigma^{*2}$, " + analysis.form.replace("_", " "): (found.estimate, "C0", "-"),
        r"$\tilde\beta$": (analysis.beta_tilde, "C2", "-"),
        r"lower bound": (analysis.lower, "0.6", ":"),
    }
    reach = analysis.upper - analysis.lower

    def share(column: Array) -> Array:
        return np.asarray(np.divide(column - analysis.lower, reach, out=np.full(len(t), np.nan), where=reach > 0))

    for name, (column, colour, style) in curves.items():
        line: dict[str, Any] = {"color": colour, "linestyle": style, "linewidth": 1.2}
        above.plot(t, np.where(column > 0, column, np.nan), label=name, **line)
        below.plot(t, share(column), **line)
    band = {"color": "C0", "alpha": 0.25, "linewidth": 0}
    above.fill_between(t, found.low, found.high, where=found.low > 0, label=f"{found.confidence:.4g} interval", **band)
    below.fill_between(t, share(found.low), share(found.high), **band)
    acted = np.isin(t, np.array([*analysis.unknown.clipping.below, *analysis.unknown.clipping.above]))
    if acted.any():
        below.plot(t[acted], share(found.estimate)[acted], "C1x", markersize=4, label=f"clipped ({int(acted.sum())})")
        below.legend(frameon=False)
    above.set(yscale="log", ylabel="variance of the step from t")
    below.set(xlabel="t", ylabel="share of the way between the bounds", ylim=(-0.05, 1.3))
    above.set_title(
        title or f"{analysis.trajectory.steps} steps, eta = {analysis.eta:g}, {analysis.moments.count} data"
    )
    above.legend(frameon=False, fontsize=8)
    for axes in (above, below):
        axes.grid(alpha=0.3)
    picture = io.BytesIO()
    canvas.savefig(picture, format="png")
    return picture.getvalue()
