r"""Plans of the DDIM family: any eta in [0, 1] on any trajectory, and the deterministic walk back up."""

from __future__ import annotations

import numpy as np

from ddpm_ref.reference import implicit
from ddpm_ref.reference.ddim import exact_eta
from ddpm_ref.reference.plan.record import Ascent, Levels, Plan, chosen_form, descent
from ddpm_ref.reference.plan.stages import Threshold
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Real


def ddim(
    schedule: NoiseSchedule,
    trajectory: Levels,
    eta: Real = 0.0,
    clip: tuple[float, float] | None = None,
    rederive_eps: bool = True,
    threshold: Threshold | None = None,
    form: str | None = None,
) -> Plan:
    r"""DDIM on any trajectory: from deterministic (eta = 0) to ancestral sampling with the posterior variance (eta = 1).

    .. math:: x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{\bar\beta_s - \sigma^2}\,\hat\varepsilon + \sigma z, \qquad
              \sigma = \eta\sqrt{\tilde\beta_{t|s}}

    Args:
        schedule: the noise schedule.
        trajectory: the levels, within the schedule; a `Trajectory` or descending whole numbers that end with 0.
        eta: in [0, 1], read exactly; it multiplies the standard deviation.
        clip: range to which a predicted x0 is clipped; the plan is then in x0 form.
        rederive_eps: after a stage, take the noise that the staged x0 implies,
            :math:`(x_t - \sqrt{\bar\alpha_t}\hat x_0)/\sqrt{\bar\beta_t}`: two terms and the noise. If False, keep the
            network's own: the row is then ``x = 0``, ``prediction`` :math:`= \sqrt{\bar\alpha_s}` and, as a third term,
            ``eps`` :math:`= \sqrt{\bar\beta_s - \sigma^2}`. Without a stage both are the same and two terms are used.
        threshold: dynamic thresholding instead of clipping; x0 form.
        form: ``"eps"`` (default) or ``"x0"`` (default with a stage): what the network's answer enters as.

    Raises `ScheduleError` for a trajectory above T, `RangeError` for eta outside [0, 1], an unknown option, or eps form
    at zero terminal SNR. Limits: the step to level 0 has no noise and returns :math:`\hat x_0`. Laws: ``plan/ddim_eps``,
    ``plan/ddim_x0``. Source: song2020ddim, eq. (12) and (16).

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> H = linear_schedule(1000)
    >>> [(t, s, round(x, 3), round(y, 3)) for t, s, x, y, noise in ddim(H, H.trajectory(2)).rows()]
    [(1000, 1, 157.403, -157.389), (1, 0, 1.0, -0.01)]
    """
    walk, eta = descent(schedule, trajectory), exact_eta(eta)
    kind = chosen_form(schedule, walk, form, clip, threshold)
    t, s = walk.levels[:-1], walk.levels[1:]
    staged = clip is not None or threshold is not None
    if kind == "eps":
        weight, noise = implicit.columns(schedule.products, ("eps_drop", "std"), t, s, eta)
        return Plan(schedule, walk, kind, schedule.between(t, s).recip_sqrt_alpha, -weight, noise)
    if staged and not rederive_eps:
        direction, noise = implicit.columns(schedule.products, ("direction", "std"), t, s, eta)
        signal = schedule.sqrt_alpha_bar[list(s)]
        return Plan(schedule, walk, kind, np.zeros(walk.steps), signal, noise, clip, threshold, direction)
    x, x0, noise = implicit.columns(schedule.products, ("xt_weight", "x0_weight", "std"), t, s, eta)
    return Plan(schedule, walk, kind, x, x0, noise, clip, threshold)


def ddim_inversion(schedule: NoiseSchedule, trajectory: Levels) -> Plan:
    r"""Deterministic DDIM walked upwards, from data to noise, in eps form.

    .. math:: x_t = \sqrt{\alpha_{t|s}}\,x_s
              + \left(\sqrt{\bar\beta_t} - \sqrt{\alpha_{t|s}\bar\beta_s}\right)\hat\varepsilon(x_s)

    Args:
        schedule: the noise schedule.
        trajectory: the levels as for `ddim`; they are walked in the opposite order, an `Ascent`.

    Returns:
        a plan whose rows go from s up to t, without noise. The network is asked at the level a step starts from; in
        the first step, which starts from clean data, at the first noisy level (``plan.asked``), because at level 0
        there is no noise to predict.

    Raises `ScheduleError` for a trajectory above T. Limits: it inverts `ddim` with eta = 0 exactly if the prediction
    did not change along the step, and to first order in the length of the steps otherwise; zero terminal SNR is no
    obstacle on the way up. Law: ``plan/ddim_inversion``. Source: song2020ddim, section 4.3, eq. (14).

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> H = linear_schedule(1000)
    >>> up = ddim_inversion(H, H.trajectory(3))
    >>> up.trajectory.levels, up.asked
    ((0, 1, 501, 1000), (1, 1, 501))
    """
    walk = Ascent.of(descent(schedule, trajectory))
    s, t = walk.levels[:-1], walk.levels[1:]
    (rise,) = implicit.columns(schedule.products, ("eps_rise",), t, s, 0.0)
    return Plan(schedule, walk, "eps", schedule.between(t, s).sqrt_alpha, rise, np.zeros(walk.steps))
