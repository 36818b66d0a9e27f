"""The flags of ``ddpm-ref sample`` that belong to the optimal variance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ddpm_ref.commands.measurements import known
from ddpm_ref.errors import RangeError
from ddpm_ref.reference import plan as plans
from ddpm_ref.reference.analytic import optimal_trajectory
from ddpm_ref.reference.plan import Plan
from ddpm_ref.reference.trajectory import make

if TYPE_CHECKING:
    from ddpm_ref.training.folder import Found


def _default(value: str) -> Any:
    return tyro.conf.arg(help_behavior_hint=f"(default: {value})")


@dataclass(frozen=True, kw_only=True)
class AnalyticFlags:
    """The optimal variance, --sampler analytic."""

    moments: Annotated[Path | None, _default("moments.safetensors of the run")] = None
    """What ddpm-ref analyze wrote."""
    form: Annotated[Literal["residual", "mean-square"] | None, _default("residual")] = None
    """From the error of the predicted noise (right for every network) or its mean square (right for the optimal one)."""
    last_noise: Annotated[Literal["none", "analytic"] | None, _default("none")] = None
    """Noise of the step to level 0: none, as in the paper, or what is unknown of the data there."""
    pixel_threshold: Annotated[float | None, _default("None")] = None
    """Bound the last noise there is at so many of 255 grey levels; the authors take 1 or 2."""

    def used(self) -> list[str]:
        """The flags given, as they are written."""
        given = {name: getattr(self, name) for name in ("moments", "form", "last_noise", "pixel_threshold")}
        return [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]


NO_ANALYTIC = AnalyticFlags()


def refuse_analytic(flags: AnalyticFlags, sampler: str, spacing: str, guided: bool) -> None:
    """Refuse flags of the optimal variance beside another sampler, and guidance beside that variance (`RangeError`)."""
    used = flags.used() + (["--spacing optimal"] if spacing == "optimal" else [])
    if sampler != "analytic" and used:
        raise RangeError(f"{used[0]} belongs to --sampler analytic; leave it out, or write that sampler")
    if sampler == "analytic" and guided:
        raise RangeError(
            "--label with --sampler analytic: the moments are of the network without labels, and say nothing of a guided "
            "one; leave out one of the two"
        )


def analytic_plan(
    found: Found,
    weights: str | None,
    steps: int,
    spacing: str,
    flags: AnalyticFlags,
    variance: str | None,
    eta: float | None,
    clip: bool,
    threshold: float | None,
    keep_eps: bool,
) -> tuple[Plan, dict[str, Any]]:
    """The plan of the flags of `sample` with the optimal variance, and what is to be said and kept of it.

    Args: as the user gave them; ``found`` is the checkpoint that is sampled from.

    Returns:
        the plan, and what the arguments kept beside the samples say of it. How often and where estimates were clipped
        is printed.

    Raises:
        RangeError: flags that do not belong together, a level that was not measured, or an optimal trajectory of eta 0.
        ScheduleError: a trajectory that is none.
        MomentsError: no moments, or those of another network or schedule.
    """
    if variance is not None:
        raise RangeError(f"--variance {variance} belongs to --sampler ddpm; analytic takes --eta, and 1 is DDPM")
    if keep_eps and not (clip or threshold is not None):
        raise RangeError("--keep-eps says what happens after clipping x0; leave it out, or write --clip")
    schedule, family = found.checkpoint.schedule, 1.0 if eta is None else eta
    last_noise, before = flags.last_noise or "none", known(found, weights, flags.moments, flags.form)
    if spacing == "optimal":
        trajectory = optimal_trajectory(schedule, before.x0_variance, steps, family).trajectory
    else:
        trajectory = make(schedule, steps, spacing)
    needed = trajectory.levels[:-1] if last_noise == "analytic" else trajectory.levels[:-2]
    used, clipping = before.at(found, needed)
    plan = plans.analytic(
        schedule,
        trajectory,
        used,
        family,
        last_noise=last_noise,
        clip=(-1.0, 1.0) if clip and threshold is None else None,
        rederive_eps=not keep_eps,
        threshold=None if threshold is None else plans.Threshold(threshold),
        pixel_threshold=flags.pixel_threshold,
    )
    print(f"{before}: {clipping}")
    return plan, {
        "moments": str(before.path),
        "form": flags.form or "residual",
        "last_noise": last_noise,
        "pixel_threshold": flags.pixel_threshold,
        "clipped": sorted({*clipping.below, *clipping.above}),
        "levels": list(trajectory.levels),
    }
