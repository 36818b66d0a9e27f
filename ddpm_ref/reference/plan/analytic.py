r"""Plans with the optimal variance: the mean of DDIM, and noise that makes up for what the prediction does not know."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, TypeAlias, get_args

import numpy as np

from ddpm_ref.errors import RangeError, ScheduleError
from ddpm_ref.reference.analytic.clipping import pixel_threshold_std
from ddpm_ref.reference.analytic.shortest import known_at
from ddpm_ref.reference.analytic.variance import analytic_std
from ddpm_ref.reference.plan.implicit import ddim
from ddpm_ref.reference.plan.record import Levels, Plan, descent
from ddpm_ref.reference.plan.stages import Threshold
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import ArrayLike, Real

AnalyticLastNoise: TypeAlias = Literal["none", "analytic"]


def analytic(
    schedule: NoiseSchedule,
    trajectory: Levels,
    x0_variance: ArrayLike,
    eta: Real = 1.0,
    *,
    last_noise: str = "none",
    clip: tuple[float, float] | None = None,
    rederive_eps: bool = True,
    threshold: Threshold | None = None,
    form: str | None = None,
    pixel_threshold: Real | None = None,
) -> Plan:
    r"""Analytic-DPM on any trajectory, for any member of the DDIM family: the optimal variance beside its mean.

    .. math:: x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{\bar\beta_s - \lambda^2}\,\hat\varepsilon + \sigma^* z, \qquad
              \sigma^{*2} = \lambda^2 + (C^0)^2\hat\sigma_t^2, \qquad \lambda^2 = \eta^2\tilde\beta_{t|s}

    Args:
        schedule: the noise schedule.
        trajectory: the levels, within the schedule; a `Trajectory` or descending whole numbers that end with 0.
        x0_variance: variances of the data given x_t, one per level 0..T, >= 0; NaN where they are not known,
            refused only where the trajectory needs them.
        eta: in [0, 1], read exactly: 1 is Analytic-DPM, 0 Analytic-DDIM, whose steps are random all the same.
        last_noise: in the step to level 0, ``"none"`` as in the paper, or ``"analytic"``: the deviation
            :math:`\hat\sigma_t` that x0 has given x_t. On normal data only this ends with the right variance.
        clip: range to which a predicted x0 is clipped; the plan is then in x0 form. Not the bounds of the variances:
            for these, `ddpm_ref.reference.analytic.clip_sigma_hat_squared`.
        rederive_eps, threshold, form: as for `ddpm_ref.reference.plan.ddim`.
        pixel_threshold: y; bounds the last noise there is at
            `ddpm_ref.reference.analytic.pixel_threshold_variance`, as the authors do for images (y = 1 or 2).

    Raises `RangeError` where a variance is needed and is not known or negative, for eta outside [0, 1], an unknown
    option, or eps form at zero terminal SNR; `ScheduleError` for a trajectory above T, or a pixel threshold where no
    step has noise; `ShapeError`. Laws: ``analytic/plan_eps``, ``analytic/plan_x0``. Source: bao2022, eq. (3) and
    (6)-(9), corollary 1, appendix F for the threshold.

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> H = linear_schedule(1000)
    >>> unit = analytic(H, H.trajectory(2), H.beta_bar)  # standard normal data: unknown is beta_bar
    >>> [(t, s, round(noise, 6)) for t, s, x, y, noise in unit.rows()]
    [(1000, 1, 0.99998), (1, 0, 0.0)]
    """
    if last_noise not in get_args(AnalyticLastNoise):
        raise RangeError(
            f"last_noise = {last_noise!r} is not known; write one of {', '.join(get_args(AnalyticLastNoise))}"
        )
    walk = descent(schedule, trajectory)
    noisy = walk.steps if last_noise == "analytic" else walk.steps - 1
    t, s = (np.array(levels, dtype=np.int64)[:noisy] for levels in (walk.levels[:-1], walk.levels[1:]))
    noise = np.append(
        analytic_std(schedule, t, s, known_at(schedule, x0_variance, t), eta), np.zeros(walk.steps - noisy)
    )
    if pixel_threshold is not None:
        if not noisy:
            raise ScheduleError(
                "pixel_threshold bounds the last noise, and this plan of one step has none; leave it out, or write "
                "last_noise='analytic'"
            )
        noise[noisy - 1] = min(noise[noisy - 1], pixel_threshold_std(pixel_threshold))
    return replace(ddim(schedule, walk, eta, clip, rederive_eps, threshold, form), noise=noise)
