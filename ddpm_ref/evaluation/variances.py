"""The variances of the reverse steps that a bound is of, one per step of a trajectory, none of them 0."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ddpm_ref.errors import RangeError, ScheduleError
from ddpm_ref.reference.analytic.shortest import known_at
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.reference.trajectory import Trajectory
from ddpm_ref.sampling.denoiser import LEARNED
from ddpm_ref.torch.analytic import analytic_variance
from ddpm_ref.torch.arguments import one_of
from ddpm_ref.torch.posterior import FIRST_STEP, first_step_variance
from ddpm_ref.torch.reverse import KINDS, reverse_variance
from ddpm_ref.torch.tables import tables
from ddpm_ref.typing import ArrayLike

ANALYTIC = "analytic"
FIXED = {name: "posterior" if kind == "beta_tilde" else "beta" for name, kind in KINDS.items()}
"""By name, the name that is kept."""

VARIANCES = (*FIXED, ANALYTIC, *LEARNED)


def variance_and_rule(variance: str, first_step: str | None) -> tuple[str, str]:
    """The variance and the rule for the step to level 0 by the names that are kept.

    Args:
        variance: one of `VARIANCES`.
        first_step: a rule of `ddpm_ref.torch.posterior.posterior_log_variance`; None for the usual one: ``"replace"``,
            as OpenAI's code does, and for the optimal variance, which there is not 0, ``"exact"``. ``"learned"`` asks for no
            rule, and takes none.

    Raises:
        RangeError: an unknown name; a rule that leaves the posterior variance at 0, or near it (``"floor"``); a rule
            beside ``"learned"``.

    >>> variance_and_rule("fixed_large", None), variance_and_rule("analytic", None)
    (('beta', 'replace'), ('analytic', 'exact'))
    """
    one_of("variance", variance, VARIANCES)
    kept = FIXED.get(variance, variance)
    if kept == "learned" and first_step is not None:
        raise RangeError(
            f"first_step = {first_step!r}: the network says the variance of every step itself; leave it out"
        )
    rule = first_step or ("exact" if kept == ANALYTIC else "replace")
    one_of("first_step", rule, FIRST_STEP)
    if rule in ("exact", "floor") and kept in ("posterior", "learned_range"):
        raise RangeError(
            f"first_step = {rule!r} leaves the variance {kept!r} of the step to level 0 at {'0' if rule == 'exact' else '1e-20'}, "
            "where a likelihood says nothing; write 'replace' or 'replace_unstrided', or another variance"
        )
    return kept, rule


def log_variances(
    schedule: NoiseSchedule,
    trajectory: Trajectory,
    variance: str,
    first_step: str,
    x0_variance: ArrayLike | None = None,
) -> Tensor:
    r"""Logarithms of the variances of all steps, :math:`\log\sigma^2_{t|s}`, of one that no network says.

    Args:
        schedule: the noise schedule.
        trajectory: through levels of it.
        variance, first_step: as `variance_and_rule` returns them.
        x0_variance: for ``"analytic"``, what is unknown of the data at each level 0..T, NaN where that is not known.

    Returns:
        ``(K,)``, float64, natural logarithms, in sampling order, on the CPU.

    Raises:
        RangeError: an ``x0_variance`` that is missing, not wanted, negative or not known at a level; a variance of 0.
        ShapeError: not one per level.
        ScheduleError: a trajectory of one step, which has no second one to replace by.

    Source: ho2020, section 3.2; bao2022, eq. (7); nichol2021, section 3.1 and its code for the first step.
    """
    of_schedule, levels = tables(schedule), torch.tensor(trajectory.levels)
    t, s = levels[:-1], levels[1:]
    if variance == ANALYTIC:
        if x0_variance is None:
            raise RangeError(
                "variance = 'analytic' needs x0_variance; write ddpm_ref.estimation's unknown_by_level(...)[0]"
            )
        used = known_at(schedule, x0_variance, np.array(trajectory.levels[:-1]))
        found = analytic_variance(of_schedule, t, s, torch.from_numpy(used), 1.0)
    elif x0_variance is not None:
        raise RangeError(f"x0_variance belongs to variance = 'analytic', not to {variance!r}; leave it out")
    else:
        found = reverse_variance(of_schedule, t, s, variance)
    refuse_no_second_step(schedule.T, trajectory, first_step)
    found = first_step_variance(of_schedule, of_schedule.between(t, s), found, first_step, trajectory)
    if not bool((found > 0).all()):
        raise RangeError(
            f"the {variance} variance of the step from t = {trajectory.levels[-2]} to 0 is 0, a point without a density: nothing "
            "is unknown of the data there, so it was said; write first_step='replace'"
        )
    return found.log()


def refuse_no_second_step(T: int, trajectory: Trajectory, first_step: str) -> None:
    """Refuse to replace the variance of the step to level 0 by that of a step which there is none of (`ScheduleError`)."""
    if (first_step == "replace" and trajectory.steps == 1) or (first_step == "replace_unstrided" and T == 1):
        raise ScheduleError(
            f"first_step = {first_step!r} takes the variance of the second step, and the trajectory ({T}, 0) has only one; "
            "write more steps, or variance='beta', first_step='exact'"
        )
