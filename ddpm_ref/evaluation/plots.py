"""The terms of a bound as a picture: where the bits go."""

from __future__ import annotations

import io

import numpy as np

from ddpm_ref.evaluation.record import Evaluation
from ddpm_ref.extras import require

FURTHEST = 1e-3
"""By which factor prior or decoder may lie below the least term of a step and still be shown."""


def figure(evaluation: Evaluation, title: str = "") -> bytes:
    """A PNG: above, the terms over the level where their step starts, with the prior at T and the decoder marked, each
    with its standard error; below, the mean square errors of predicted noise and predicted data.

    Both axes are logarithmic; where a density makes the last term negative, that axis is linear near 0. Prior and decoder
    may be 1e-9 and less of the rest: then they lie below the axis, and the legend still says what they are.

    Raises `MissingExtraError` without matplotlib.
    """
    canvas = require("matplotlib.figure", "train").Figure(figsize=(8, 7), dpi=120, layout="constrained")
    above, below = canvas.subplots(2, 1, sharex=True)
    t = np.array(evaluation.trajectory.levels[:-1])
    terms, prior, total = evaluation.column("bits_per_dim"), evaluation.prior, evaluation.total
    bars = {"capsize": 2, "elinewidth": 0.8, "markersize": 5}
    above.errorbar(
        t[:-1],
        terms.estimate[:-1],
        terms.standard_error[:-1],
        fmt=".-",
        color="C0",
        linewidth=0.8,
        markersize=2,
        elinewidth=0.6,
        label=r"$D_{KL}$ of each step",
    )
    last = "density of the data" if evaluation.conditions.levels is None else "decoder"
    marked = [
        (t[-1:], last, "C3s", float(terms.estimate[-1]), float(terms.standard_error[-1])),
        (t[:1], "prior", "C2D", float(prior.estimate), float(prior.standard_error)),
    ]
    for place, name, marker, estimate, error in marked:
        above.errorbar(place, [estimate], [error], fmt=marker, label=f"{name}: {estimate:.2g}", **bars)
    lowest = min(float(terms.estimate.min()), float(prior.estimate))
    if lowest > 0:
        above.set(yscale="log")
        steps = terms.estimate[:-1] if len(t) > 1 else terms.estimate
        above.set_ylim(bottom=max(lowest, FURTHEST * float(steps.min())) / 2)
    else:
        above.set_yscale("symlog", linthresh=max(float(np.median(np.abs(terms.estimate))), 1e-12))
    for name, label, colour in (("mse_eps", r"$\hat\varepsilon$", "C1"), ("mse_x0", r"$\hat x_0$", "C4")):
        errors = evaluation.column(name)
        below.errorbar(
            t,
            np.where(errors.estimate > 0, errors.estimate, np.nan),
            errors.standard_error,
            fmt=".-",
            color=colour,
            linewidth=0.8,
            markersize=2,
            elinewidth=0.6,
            label=label,
        )
    above.set(ylabel="bits per dimension")
    below.set(xlabel="t", ylabel="mean square error", xscale="log", yscale="log")
    above.set_title(
        title
        or f"{float(total.estimate):.4f} +- {float(total.standard_error):.4f} bits per dimension, {len(t)} steps, "
        f"{evaluation.conditions.variance}, {evaluation.count} images"
    )
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    picture = io.BytesIO()
    canvas.savefig(picture, format="png")
    return picture.getvalue()
