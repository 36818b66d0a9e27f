r"""Plans of the Markov chain: ancestral sampling, on any trajectory, with either fixed variance or a learned one."""

from __future__ import annotations

from math import isfinite
from typing import Literal, TypeAlias, get_args

import numpy as np

from ddpm_ref.errors import RangeError, ScheduleError
from ddpm_ref.reference.arguments import one_of
from ddpm_ref.reference.plan.record import LearnedVariance, Levels, Plan, chosen_form, descent
from ddpm_ref.reference.plan.stages import Threshold
from ddpm_ref.reference.reverse import VARIANCES
from ddpm_ref.reference.schedule import NoiseSchedule, Trajectory
from ddpm_ref.typing import Array, Real

LastNoise: TypeAlias = Literal["none", "variance", "replace", "replace_unstrided"]


def ancestral(
    schedule: NoiseSchedule,
    trajectory: Levels,
    variance: str = "posterior",
    last_noise: str | Real = "none",
    clip: tuple[float, float] | None = None,
    threshold: Threshold | None = None,
    form: str | None = None,
) -> Plan:
    r"""Ancestral sampling (Algorithm 2) on any trajectory: the mean of the posterior, noise of the chosen variance.

    .. math:: x_s = \frac{1}{\sqrt{\alpha_{t|s}}}\left(x_t -
              \frac{\beta_{t|s}}{\sqrt{\bar\beta_t}}\hat\varepsilon\right) + \sigma_{t|s}z
              = \frac{\sqrt{\alpha_{t|s}}\,\bar\beta_s}{\bar\beta_t}\,x_t
              + \frac{\sqrt{\bar\alpha_s}\,\beta_{t|s}}{\bar\beta_t}\,\hat x_0 + \sigma_{t|s}z

    Args:
        schedule: the noise schedule.
        trajectory: the levels, within the schedule; a `Trajectory` or descending whole numbers that end with 0.
        variance: ``"posterior"`` (fixed small) or ``"beta"`` (fixed large); or that which the network has learned:
            ``"learned_range"``, where v = 0 is the posterior's and v = 1 is beta,
            :math:`\sigma = \tilde\beta_{t|s}^{(1-v)/2}\beta_{t|s}^{v/2}`, or ``"learned"``, where it says
            :math:`\log\sigma^2`. A strided trajectory has its own :math:`\tilde\beta_{t|s}` and :math:`\beta_{t|s}`.
        last_noise: standard deviation of the noise in the step to level 0: ``"none"`` adds none, as the papers;
            ``"variance"`` that of ``variance``; ``"replace"`` and ``"replace_unstrided"`` that of the posterior
            variance one step earlier, on the trajectory or of the levels 2 and 1 (the rules of
            `ddpm_ref.reference.posterior.posterior_log_variance`); or a number >= 0. With a learned variance
            ``"none"`` or ``"variance"``, whose range then has the lower end of ``"replace"``.
        clip: range of the data, to which a predicted x0 is clipped; the plan is then in x0 form (ho2020's code clips
            to (-1, 1)).
        threshold: dynamic thresholding instead of clipping; x0 form.
        form: ``"eps"`` (default) or ``"x0"`` (default with a stage): what the network's answer enters as.

    Raises `ScheduleError` for a trajectory above T, or one step with nothing to replace by; `RangeError` for an unknown
    option, or eps form at zero terminal SNR. Laws: ``plan/ancestral_eps``, ``plan/ancestral_x0``. Source: ho2020,
    algorithm 2; nichol2021, section 4 for strided trajectories, eq. (15) for learned variances.
    """
    walk = descent(schedule, trajectory)
    one_of("variance", variance, (*VARIANCES, *get_args(LearnedVariance)))
    learned = variance if variance in get_args(LearnedVariance) else None
    kind = chosen_form(schedule, walk, form, clip, threshold)
    steps = schedule.between(walk.levels[:-1], walk.levels[1:])
    largest = None
    if learned is not None:
        noise, largest = _learned_ends(schedule, walk, learned, last_noise)
    else:
        noise = (steps.std_tilde if VARIANCES[variance] == "beta_tilde" else steps.sqrt_beta).copy()
        noise[-1] = _last_std(schedule, walk, last_noise, float(noise[-1]))
    if kind == "x0":
        x, prediction = steps.xt_weight, steps.x0_weight
    else:
        x, prediction = steps.recip_sqrt_alpha, np.asarray(-steps.eps_weight)
    return Plan(schedule, walk, kind, x, prediction, noise, clip, threshold, learned=learned, largest_noise=largest)


def _learned_ends(
    schedule: NoiseSchedule, walk: Trajectory, learned: str, last_noise: str | Real
) -> tuple[Array, Array | None]:
    """The columns ``noise`` and ``largest_noise`` of a plan whose variance the network says."""
    if last_noise not in ("none", "variance"):
        raise RangeError(
            f"last_noise = {last_noise!r} is a fixed deviation beside a learned variance; write 'none' or 'variance'"
        )
    silent = last_noise == "none"
    if learned == "learned":
        noise = np.ones(walk.steps)
        noise[-1] = float(not silent)
        return noise, None
    steps = schedule.between(walk.levels[:-1], walk.levels[1:])
    noise, largest = steps.std_tilde.copy(), steps.sqrt_beta.copy()
    noise[-1] = _last_std(schedule, walk, "none" if silent else "replace", 0.0)
    largest[-1] = 0.0 if silent else largest[-1]
    return noise, largest


def _last_std(schedule: NoiseSchedule, walk: Trajectory, rule: str | Real, own: float) -> float:
    """Standard deviation of the noise in the step to level 0."""
    if not isinstance(rule, str):
        if (
            isinstance(rule, bool)
            or not isinstance(rule, int | float | np.number)
            or not (isfinite(rule) and rule >= 0)
        ):
            known = ", ".join(get_args(LastNoise))
            raise RangeError(
                f"last_noise = {rule!r}; a standard deviation is a finite number >= 0; or write one of {known}"
            )
        return float(rule)
    if rule not in get_args(LastNoise):
        raise RangeError(
            f"last_noise = {rule!r} is not known; write one of {', '.join(get_args(LastNoise))}, or a number >= 0"
        )
    if rule in ("none", "variance"):
        return 0.0 if rule == "none" else own
    levels = walk.levels if rule == "replace" else tuple(range(min(schedule.T, 2), -1, -1))
    if len(levels) < 3:
        raise ScheduleError(
            f"last_noise = {rule!r} borrows from the step before the last, but the chain {levels} has one step; "
            "write 'none' or 'variance'"
        )
    return float(schedule.between(levels[-3], levels[-2]).std_tilde)
