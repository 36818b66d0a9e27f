"""What the moments of a network say of the steps of a trajectory: a table, with intervals, and what had to be clipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ddpm_ref.estimation.intervals import Interval, Unknown, of_mean, of_path_cost, of_unknown, of_variance
from ddpm_ref.estimation.moments import Moments
from ddpm_ref.records import plain
from ddpm_ref.reference.analytic import analytic_variance_bounds
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.reference.trajectory import Trajectory
from ddpm_ref.typing import Array, Real


@dataclass(frozen=True, eq=False)
class Analysis:
    """The variances of the steps of a trajectory; columns have one entry per step, in sampling order."""

    moments: Moments
    trajectory: Trajectory
    form: str
    eta: float
    mean_square: Interval
    """Of the predicted noise, per level measured."""
    residual: Interval
    """Of its error, per level measured."""
    unknown: Unknown
    """Sigma-hat squared, per level measured."""
    variance: Interval
    """The optimal variance of each step."""
    lower: Array
    """Its lower bound, the variance of the generalised posterior."""
    upper: Array
    """Its upper bound."""
    beta: Array
    """The variance of the forward process over the step."""
    beta_tilde: Array
    """The variance of the posterior."""
    cost: Interval | None
    """Of the trajectory; None for eta = 0, where it is infinite."""

    def as_json(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings."""
        origin, clipping = self.moments.origin, self.unknown.clipping
        acted = dict.fromkeys(clipping.below, "below") | dict.fromkeys(clipping.above, "above")
        levels = [
            {
                "t": t,
                "mean_square": _ends(self.mean_square, k),
                "residual": _ends(self.residual, k),
                "sigma_hat_squared": _ends(self.unknown.interval, row) if row is not None else None,
                "clipped": acted.get(t),
            }
            for k, t in enumerate(self.moments.levels)
            for row in [self._row(t)]
        ]
        steps = [
            {
                "t": t,
                "s": s,
                "variance": _ends(self.variance, k),
                "lower": float(self.lower[k]),
                "upper": float(self.upper[k]),
                "beta": float(self.beta[k]),
                "beta_tilde": float(self.beta_tilde[k]),
            }
            for k, (t, s) in enumerate(self.trajectory.pairs())
        ]
        return {
            "form": self.form,
            "eta": self.eta,
            "confidence": self.variance.confidence,
            "count": self.moments.count,
            "origin": plain(origin),
            "clipping": {**plain(clipping), "clipped": clipping.clipped, "fraction": clipping.fraction},
            "path_cost": None if self.cost is None else _ends(self.cost),
            "levels": levels,
            "steps": steps,
        }

    def _row(self, t: int) -> int | None:
        rows = np.flatnonzero(self.unknown.levels == t)
        return int(rows[0]) if rows.size else None


def analyse(
    schedule: NoiseSchedule,
    moments: Moments,
    trajectory: Trajectory | None = None,
    *,
    form: str = "residual",
    eta: Real = 1.0,
    confidence: Real = 0.95,
) -> Analysis:
    """The steps of a trajectory, with intervals.

    Args:
        schedule: that of the moments.
        moments: what was measured.
        trajectory: through levels that were measured; through all of them if None.
        form: which moments, ``"residual"`` or ``"mean_square"``, see `ddpm_ref.estimation.intervals.of_unknown`.
        eta: of the forward family, in [0, 1].
        confidence: of each interval.

    Raises:
        MomentsError: another schedule, too few data for an interval, or a level that was not measured.
        RangeError: an unknown form, or an eta or a confidence out of range.

    Source: bao2022, theorems 1 to 3.
    """
    found = of_unknown(schedule, moments, form, confidence)
    walk = Trajectory((*found.levels[::-1].tolist(), 0)) if trajectory is None else trajectory
    variance = of_variance(schedule, walk, found, eta)
    t, s = walk.levels[:-1], walk.levels[1:]
    step, origin = schedule.between(t, s), moments.origin
    lower, upper = analytic_variance_bounds(schedule, t, s, origin.low, origin.high, eta)
    cost = of_path_cost(schedule, walk, moments, form, eta, confidence) if eta else None
    return Analysis(
        moments,
        walk,
        form,
        float(eta),
        of_mean(moments.mean_square, confidence),
        of_mean(moments.residual, confidence),
        found,
        variance,
        lower,
        upper,
        step.beta,
        step.beta_tilde,
        cost,
    )


def describe(analysis: Analysis, rows: int = 12) -> str:
    """An analysis for eyes: so many of the steps, spread evenly, then how often clipping acted, and the path cost."""
    steps, found, cost = list(analysis.trajectory.pairs()), analysis.variance, analysis.cost
    shown = np.unique(np.linspace(0, len(steps) - 1, min(rows, len(steps))).round().astype(int)).tolist()
    columns = {
        "sigma^2": found.estimate,
        "from": found.low,
        "to": found.high,
        "lower": analysis.lower,
        "upper": analysis.upper,
        "beta": analysis.beta,
        "beta~": analysis.beta_tilde,
    }
    lines = [f"{'t':>5}{'s':>6}{''.join(f'{name:>12}' for name in columns)}"]
    for k in shown:
        t, s = steps[k]
        lines.append(f"{t:>5}{s:>6}{''.join(f'{column[k]:>12.4g}' for column in columns.values())}")
    lines.append(
        f"{len(shown)} of {len(steps)} steps; eta {analysis.eta:g}, form {analysis.form}, intervals at {found.confidence:g}"
    )
    lines.append(f"sigma-hat^2: {analysis.unknown.clipping}")
    if cost is not None:
        lines.append(f"path cost {float(cost.estimate):.5g}, between {float(cost.low):.5g} and {float(cost.high):.5g}")
    return "\n".join(lines)


def _ends(interval: Interval, index: int | None = None) -> dict[str, float]:
    ends = {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
    return {name: float(end if index is None else end[index]) for name, end in ends.items()}
