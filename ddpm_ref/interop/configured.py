"""What the configuration of a diffusers scheduler says, in this package's terms: noise schedule, trajectory, plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from ddpm_ref.errors import RangeError, ScheduleError
from ddpm_ref.reference import named_schedules, plan
from ddpm_ref.reference.schedule import NoiseSchedule, Trajectory
from ddpm_ref.torch.prediction import NAMES

Kind: TypeAlias = Literal["ancestral", "ddim", "analytic"]
VARIANCES = {
    "fixed_small": "posterior",
    "fixed_small_log": "posterior",
    "fixed_large": "beta",
    "fixed_large_log": "beta",
}


def schedule_of(config: Mapping[str, Any]) -> NoiseSchedule:
    """The noise schedule: the betas given, or those of a name, rescaled to zero terminal SNR if asked.

    Raises `ScheduleError` for betas that are no schedule or of another length than ``num_train_timesteps``, `RangeError`
    for a name that is not known.
    """
    T, betas, name = config["num_train_timesteps"], config["trained_betas"], config["beta_schedule"]
    ends = config["beta_start"], config["beta_end"]
    if betas is not None:
        if len(betas) != T:
            raise ScheduleError(
                f"num_train_timesteps = {T}, but there are {len(betas)} trained_betas; write num_train_timesteps={len(betas)}"
            )
        schedule = NoiseSchedule.from_betas(np.asarray(betas, dtype=np.float64))
    elif name == "linear":
        schedule = named_schedules.linear_schedule(T, *ends)
    elif name == "scaled_linear":
        schedule = named_schedules.scaled_linear_schedule(T, *ends)
    elif name == "squaredcos_cap_v2":
        schedule = named_schedules.cosine_schedule(T)
    elif name == "sigmoid":
        schedule = named_schedules.sigmoid_schedule(T, *ends)
    else:
        raise RangeError(
            f"beta_schedule = {name!r} is not known; write 'linear', 'scaled_linear', 'squaredcos_cap_v2' or 'sigmoid', or "
            "take the betas of another scheduler with from_scheduler"
        )
    return named_schedules.zero_terminal_snr(schedule) if config["rescale_betas_zero_snr"] else schedule


def trajectory_of(schedule: NoiseSchedule, config: Mapping[str, Any], steps: int) -> Trajectory:
    """The levels of so many steps; ``steps_offset`` moves those of the leading spacing up, as in diffusers."""
    walk = schedule.trajectory(steps, config["timestep_spacing"])
    offset = config["steps_offset"]
    if not offset or config["timestep_spacing"] != "leading":
        return walk
    levels = (*(level + offset for level in walk.levels[:-1]), 0)
    if not 0 < offset <= schedule.T - walk.levels[0]:
        raise ScheduleError(
            f"steps_offset = {offset} leads from level {walk.levels[0]} beyond 1..{schedule.T}; write 0, fewer steps, or "
            "timestep_spacing='trailing'"
        )
    return Trajectory(levels)


def plan_of(
    schedule: NoiseSchedule,
    walk: Trajectory,
    config: Mapping[str, Any],
    *,
    eta: float | int | None = None,
    rederive_eps: bool | None = None,
) -> plan.Plan:
    """The plan of the configured kind on a trajectory; ``eta`` and ``rederive_eps`` replace those of the configuration."""
    stages = _stages(config)
    # In eps form a step adds nothing to what the network says; any other prediction enters as x0, also at zero SNR.
    of_eps = NAMES[config["prediction_type"]] == "eps" and not any(stages.values())
    form = "eps" if of_eps else "x0"
    kind, eta = config["kind"], config["eta"] if eta is None else eta
    again = config["rederive_eps"] if rederive_eps is None else rederive_eps
    if kind == "ancestral":
        return plan.ancestral(schedule, walk, VARIANCES[config["variance_type"]], form=form, **stages)
    if kind == "ddim":
        return plan.ddim(schedule, walk, 0.0 if eta is None else eta, rederive_eps=again, form=form, **stages)
    variances = [np.nan if v is None else v for v in config["x0_variance"]]
    return plan.analytic(
        schedule, walk, variances, 1.0 if eta is None else eta, rederive_eps=again, form=form, **stages
    )


def _stages(config: Mapping[str, Any]) -> dict[str, Any]:
    """What happens to a predicted x0; thresholding goes before clipping, as in diffusers."""
    if config["thresholding"]:
        percentile = 100 * config["dynamic_thresholding_ratio"]
        return {"clip": None, "threshold": plan.Threshold(percentile, config["sample_max_value"])}
    reach = float(config["clip_sample_range"])
    return {"clip": (-reach, reach) if config["clip_sample"] else None, "threshold": None}


def check(config: Mapping[str, Any]) -> None:
    """Refuse (`RangeError`) what no plan can be made of, before any step is asked for."""
    kind, variances = config["kind"], config["x0_variance"]
    _one_of("kind", kind, get_args(Kind))
    _one_of("prediction_type", config["prediction_type"], tuple(NAMES))
    if kind == "ancestral":
        _one_of("variance_type", config["variance_type"], tuple(VARIANCES))
    if (variances is not None) is not (kind == "analytic"):
        raise RangeError(
            f"kind = {kind!r} with x0_variance = {'None' if variances is None else 'given'}; the variances of x0, one per "
            "level 0..T, belong to kind='analytic' and to no other"
        )
    if kind == "ancestral" and config["eta"] is not None:
        raise RangeError(f"eta = {config['eta']!r} with kind='ancestral', which has none; write kind='ddim'")


def _one_of(name: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise RangeError(f"{name} = {value!r} is not known; write one of {', '.join(map(repr, known))}")
