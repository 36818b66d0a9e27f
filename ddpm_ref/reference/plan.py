r"""Plans: a sampler turned once into a trajectory and one row of exact coefficients per step.

Every step of the samplers here is :math:`x_s = a\,x_t + b\,\hat y + c\,z` with a prediction :math:`\hat y` and fresh
noise z, so a plan is all there is to know of one; each coefficient is the float64 nearest to its exact value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ddpm_ref.errors import RangeError, ScheduleError
from ddpm_ref.reference.reverse import VARIANCES
from ddpm_ref.reference.schedule import NoiseSchedule, Trajectory
from ddpm_ref.typing import Array

LastNoise = Literal["none", "variance"]


@dataclass(frozen=True, eq=False)
class Plan:
    """One row per step of ``trajectory``: ``x_s = x * x_t + prediction * y + noise * z``.

    ``form`` says what ``y`` is: the noise prediction, or (with ``clip``) the data prediction clipped to ``clip`` first.
    """

    schedule: NoiseSchedule
    trajectory: Trajectory
    form: Literal["eps", "x0"]
    x: Array
    prediction: Array
    noise: Array
    clip: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """A plan with a missing row cannot be made, nor one written over."""
        for column in (self.x, self.prediction, self.noise):
            if column.shape != (self.trajectory.steps,):
                raise ScheduleError(f"plan column of shape {column.shape} for {self.trajectory.steps} steps")
            column.setflags(write=False)

    def __len__(self) -> int:
        return self.trajectory.steps


def ancestral(
    schedule: NoiseSchedule,
    trajectory: Trajectory,
    variance: str = "posterior",
    last_noise: LastNoise = "none",
    clip: tuple[float, float] | None = None,
) -> Plan:
    r"""Ancestral sampling (Algorithm 2) on any trajectory: the mean of `model_mean_from_eps`, noise of the chosen variance.

    .. math:: x_s = \frac{1}{\sqrt{\alpha_{t|s}}}\left(x_t -
              \frac{\beta_{t|s}}{\sqrt{\bar\beta_t}}\hat\varepsilon\right) + \sigma_{t|s}z

    Args:
        schedule: the noise schedule.
        trajectory: the levels, within the schedule.
        variance: ``"posterior"`` (fixed small) or ``"beta"`` (fixed large).
        last_noise: ``"none"`` adds no noise in the step to level 0, as the papers; ``"variance"`` adds that of the
            variance.
        clip: range of the data; the plan is then in x0 form and clips the predicted x0 (ho2020's code clips to (-1,
            1)).

    Raises `ScheduleError` for a trajectory above T, `RangeError` for an unknown option, or eps form at zero terminal
    SNR. Source: ho2020, algorithm 2; nichol2021, section 4 for strided trajectories.
    """
    if trajectory.levels[0] > schedule.T:
        raise ScheduleError(
            f"trajectory starts at level {trajectory.levels[0]}, above T = {schedule.T} of the schedule"
        )
    if variance not in VARIANCES:
        raise RangeError(f"variance = {variance!r} is not known; write one of {', '.join(VARIANCES)}")
    if last_noise not in ("none", "variance"):
        raise RangeError(f"last_noise = {last_noise!r} is not known; write 'none' or 'variance'")
    if clip is not None and not clip[0] < clip[1]:
        raise RangeError(f"clip = {clip!r}; clipping needs low < high, e.g. (-1.0, 1.0)")
    steps = schedule.between(trajectory.levels[:-1], trajectory.levels[1:])
    noise = (steps.std_tilde if VARIANCES[variance] == "beta_tilde" else steps.sqrt_beta).copy()
    if last_noise == "none":
        noise[-1] = 0.0
    if clip is not None:
        return Plan(schedule, trajectory, "x0", steps.xt_weight, steps.x0_weight, noise, clip)
    if schedule.alpha_bar[trajectory.levels[0]] == 0:
        raise RangeError(
            "alpha_bar = 0 at the first level (zero terminal SNR): eps says nothing of x0; "
            "pass clip=(-1.0, 1.0) and predict v or x0"
        )
    return Plan(schedule, trajectory, "eps", steps.recip_sqrt_alpha, -steps.eps_weight, noise)
