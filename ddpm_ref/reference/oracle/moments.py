r"""The exact law of the samples on Gaussian data: an affine plan carries a normal law to a normal law.

Along a principal axis with variance :math:`\lambda` of the data the optimal prediction is linear in x_t, so one step
multiplies deviations by a gain g and adds variance, :math:`v_s = g^2 v_t + c^2`. No sampling, no Monte-Carlo error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np

from ddpm_ref.errors import RangeError
from ddpm_ref.reference.divergence import kl_normal
from ddpm_ref.reference.oracle.base import Oracle
from ddpm_ref.reference.oracle.gaussian import Gaussian
from ddpm_ref.reference.plan import Plan
from ddpm_ref.typing import Array

Start = Literal["normal", "marginal"]


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance of the states at the levels of a plan, from its first level to its last (0, the samples)."""

    mean: Array
    """Means of the states, shape ``(K + 1, d)``."""
    variances: Array
    """Variances along the principal axes of the data, shape ``(K + 1, d)``: the states keep these axes."""
    true_mean: Array
    """Means that the states should have, those of q(x_t), shape ``(K + 1, d)``."""
    true_variances: Array
    """Variances along the axes that they should have, shape ``(K + 1, d)``."""
    axes: Array
    """The axes as columns, shape ``(d, d)``."""

    @property
    def covariance(self) -> Array:
        """Covariances of the states, symmetric, shape ``(K + 1, d, d)``."""
        full = (self.axes * self.variances[:, None, :]) @ self.axes.T
        return np.asarray((full + full.swapaxes(-1, -2)) / 2)

    def kl(self) -> float:
        r"""Divergence :math:`D(\text{samples}\,\Vert\,\text{data})` of the last level in nats for the whole vector.

        That of `kl_normal_full`, along the common axes, where it is a sum over dimensions; infinite for samples without
        spread.
        """
        if (self.variances[-1] == 0).any():
            return float("inf")
        shift = (self.mean[-1] - self.true_mean[-1]) @ self.axes
        return float(np.sum(kl_normal(shift, self.variances[-1], 0.0, self.true_variances[-1])))


def sample_moments(plan: Plan, data: Oracle, start: str = "normal") -> Moments:
    r"""Mean and covariance of every state of a sampler that uses the exact prediction.

    .. math:: x_s = A x_t + B\hat y + c z, \qquad \hat\varepsilon = \frac{\sqrt{\bar\beta_t}}{V_t}(x_t -
              \sqrt{\bar\alpha_t}\,m), \qquad \hat x_0 = m + \frac{\sqrt{\bar\alpha_t}\lambda}{V_t}(x_t -
              \sqrt{\bar\alpha_t}\,m), \qquad V_t = \bar\alpha_t\lambda + \bar\beta_t

    Args:
        plan: any affine plan: nothing clipped or thresholded.
        data: the data, a `Gaussian`, and the network that is exact for them.
        start: law of the first state: ``"normal"`` as samplers draw it, :math:`\mathcal N(0, I)`; ``"marginal"``
            :math:`q(x_t)` of the first level, without the error of the start (and the data, in an inversion).

    Raises `RangeError` for a plan with clipping or thresholding, other data, or a start that is unknown or does not fit. Limits:
    exact but for rounding; where alpha_bar is small a step in eps form divides by its root, and a chain of one or two
    steps loses that many digits (form="x0" loses none). Source: ho2020, algorithm 2; song2020ddim, eq. (12).

    >>> from ddpm_ref.reference import plan
    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> schedule = linear_schedule(1000)
    >>> narrow = Gaussian(0.0, 0.25)
    >>> moments = sample_moments(plan.ancestral(schedule, schedule.trajectory(1000)), narrow)
    >>> print(f"{moments.variances[-1, 0] ** 0.5:.6f} {moments.kl():.6f}")
    0.496110 0.000061
    """
    refuse_unless_affine(plan)
    if not isinstance(data, Gaussian):
        raise RangeError(f"the data are a {type(data).__name__}; moments are for Gaussian data; use sample_density")
    schedule, levels, asked = plan.schedule, list(plan.trajectory.levels), list(plan.asked)
    a, b = schedule.sqrt_alpha_bar[levels, None], schedule.sqrt_beta_bar[levels, None]
    truth = a**2 * data.variances + b**2
    centre = data.axes.T @ data.mean
    # The prediction is slope * (x_t - a m), and m besides if it is of the data.
    a_asked, b_asked = schedule.sqrt_alpha_bar[asked, None], schedule.sqrt_beta_bar[asked, None]
    total = a_asked**2 * data.variances + b_asked**2
    slope = b_asked / total if plan.form == "eps" else a_asked * data.variances / total
    fixed = (float(plan.form == "x0") - slope * a_asked) * centre

    mean, variances = np.empty_like(truth), np.empty_like(truth)
    mean[0], variances[0] = (a[0] * centre, truth[0]) if first_law(start, plan) == "marginal" else (0.0, 1.0)
    for k in range(len(plan)):
        gain = plan.x[k] + plan.prediction[k] * slope[k]
        mean[k + 1] = gain * mean[k] + plan.prediction[k] * fixed[k]
        variances[k + 1] = gain**2 * variances[k] + plan.noise[k] ** 2
    return Moments(mean @ data.axes.T, variances, a * data.mean, truth, data.axes)


def refuse_unless_affine(plan: Plan) -> None:
    """Raise `RangeError` for a plan that clips or thresholds its prediction, or whose noise the network says."""
    if plan.learned is not None:
        raise RangeError(
            f"the plan has a learned variance ({plan.learned!r}), of which no oracle knows; write variance='posterior' or 'beta'"
        )
    if not plan.affine:
        stage = f"clip = {plan.clip}" if plan.threshold is None else f"threshold = {plan.threshold}"
        raise RangeError(f"the plan has {stage}, and clipped states have no closed law; make it without that stage")


def first_law(start: str, plan: Plan) -> Start:
    """The law of the first state, by name."""
    if start not in get_args(Start):
        raise RangeError(f"start = {start!r} is not known; write 'normal' or 'marginal'")
    if start == "normal" and plan.trajectory.levels[0] == 0:
        raise RangeError("an inversion starts from the data, not from standard normal noise; write start='marginal'")
    return cast("Start", start)
