"""An evaluation for eyes."""

from __future__ import annotations

import numpy as np

from ddpm_ref.evaluation.record import Average, Evaluation


def describe(evaluation: Evaluation, rows: int = 12, as_levels: int | None = None) -> str:
    """So many of the steps, spread evenly, then the parts of the bound and their sum.

    Args:
        evaluation: of any count.
        rows: how many steps to show.
        as_levels: of continuous data, also say the bound as if they had so many levels.
    """
    conditions, pairs = evaluation.conditions, list(evaluation.trajectory.pairs())
    terms, eps, x0 = (evaluation.column(name) for name in ("bits_per_dim", "mse_eps", "mse_x0"))
    columns = {
        "bits/dim": terms.estimate,
        "+-": terms.standard_error,
        "mse eps": eps.estimate,
        "mse x0": x0.estimate,
    }
    shown = np.unique(np.linspace(0, len(pairs) - 1, min(rows, len(pairs))).round().astype(int)).tolist()
    lines = [f"{'t':>5}{'s':>6}{''.join(f'{name:>12}' for name in columns)}"]
    for k in shown:
        t, s = pairs[k]
        lines.append(f"{t:>5}{s:>6}{''.join(f'{column[k]:>12.4g}' for column in columns.values())}")
    rule = "" if conditions.variance == "learned" else f", first step {conditions.first_step}"
    lines.append(
        f"{len(shown)} of {len(pairs)} steps; variance {conditions.variance}{rule}, "
        f"x0 {'clipped' if conditions.clip_x0 else 'not clipped'}, {evaluation.count} images"
    )
    last = "density of the data" if conditions.levels is None else f"decoder, {conditions.levels} levels"
    between = terms.estimate[:-1].sum()
    nats = evaluation.nats_per_image()
    lines += [
        f"prior          {_said(evaluation.prior)}",
        f"{len(pairs) - 1:>4} KL terms   {between:.5g}",
        f"{last}: {terms.estimate[-1]:.5g} +- {terms.standard_error[-1]:.2g}",
        f"bits per dimension <= {_said(evaluation.total)}   (nats per image <= {_said(nats)})",
    ]
    if as_levels is not None:
        lines.append(
            f"as if the data had {as_levels} levels: {evaluation.as_if_discrete(as_levels):.5g} bits per dimension"
        )
    return "\n".join(lines)


def _said(average: Average) -> str:
    return f"{float(average.estimate):.5g} +- {float(average.standard_error):.2g}"
