r"""The trajectory of the authors' published code, which is not plain Algorithm 1: shortest below, even above.

A Monte-Carlo estimate of the energy can exceed 1 near level T, where no optimal prediction does. The code trusts no
level from some way below the first such on: it places nodes there evenly, somewhat sparsely, and searches a shortest
path among the levels below only. The paper does not describe this.
"""

from __future__ import annotations

from math import ceil

import numpy as np

from ddpm_ref.errors import RangeError, ScheduleError, ShapeError
from ddpm_ref.reference import combined
from ddpm_ref.reference.analytic.shortest import optimal_trajectory
from ddpm_ref.reference.arguments import numbers
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.reference.trajectory import Trajectory
from ddpm_ref.typing import ArrayLike

SPARSER = 0.8
"""Share of the levels not trusted that counts when nodes are dealt out."""


def segmented_trajectory(schedule: NoiseSchedule, eps_mean_square: ArrayLike, K: int) -> Trajectory:
    r"""The authors' variant of the optimal trajectory, by the energies themselves.

    If the energy first exceeds 1 at level g, the uppermost :math:`B = 2(T - g + 1)` levels are not trusted (none if it
    never does). Of the K nodes, :math:`K_1 = \lceil(1 - 0.8B/T)K\rceil` go to a shortest path from level 1 to level
    :math:`T - B`, the others lie evenly above, :math:`T - kB/(K - K_1)` rounded half to even. Neither part gets more
    nodes than it has levels, and the upper one, if there is any, gets at least one.

    Args:
        schedule: the noise schedule.
        eps_mean_square: the energy of the prediction per dimension, one per level 0..T (level 0 is not read), >= 0.
        K: the number of levels above 0, at least 2.

    Returns:
        the trajectory; with no energy above 1 that of `optimal_trajectory` for eta = 1.

    Raises `ScheduleError` where it cannot be done (fewer than two nodes or levels for the path); `RangeError`,
    `ShapeError`. Source: bao2022, code.

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> schedule = linear_schedule(100)
    >>> energy = sum(schedule.beta_bar / (schedule.alpha_bar * v + schedule.beta_bar) for v in (1.0, 0.01)) / 2
    >>> energy[91:] = 1.01
    >>> segmented_trajectory(schedule, energy, 10).levels
    (100, 80, 58, 43, 32, 24, 18, 13, 8, 1, 0)
    """
    energy, T = numbers(eps_mean_square, "eps_mean_square"), schedule.T
    if not isinstance(K, int | np.integer) or isinstance(K, bool):
        raise ScheduleError(f"K = {K!r}; it is a whole number of levels above 0")
    if energy.shape != (T + 1,):
        raise ShapeError(f"eps_mean_square has shape {energy.shape}; give one number per level 0..T, shape ({T + 1},)")
    if not (np.isfinite(energy[1:]) & (energy[1:] >= 0)).all():
        raise RangeError("eps_mean_square has levels without a number >= 0; this variant needs all of 1..T")
    above = np.flatnonzero(energy[1:] > 1)
    untrusted = 2 * (T - int(above[0])) if above.size else 0
    trusted = T - untrusted
    if trusted < 2:
        raise ScheduleError(
            f"the energy first exceeds 1 at level {int(above[0]) + 1} of {T}, which leaves no two levels to be trusted; "
            "estimate the energies better, or use optimal_trajectory"
        )
    lower = ceil((1 - SPARSER * untrusted / T) * K)
    lower = max(min(lower, trusted), K - untrusted)
    if untrusted and lower == K:
        lower -= 1
    if not 2 <= lower <= trusted:
        raise ScheduleError(
            f"K = {K!r} nodes, of which {lower} for a path through the {trusted} levels below the first energy above 1; "
            "it takes two nodes and no more than there are levels: estimate the energies better, or use optimal_trajectory"
        )
    exact = [1 - combined.exactly(m) for m in energy[1 : trusted + 1].tolist()]
    unknown = combined.noise_to_signal(schedule.products, range(1, trusted + 1), exact)
    part = NoiseSchedule.from_betas(schedule.beta[1 : trusted + 1])
    path = optimal_trajectory(part, np.append(np.nan, unknown), lower).trajectory.levels
    upper = [round(T - untrusted / (K - lower) * k) for k in range(K - lower)]
    return Trajectory((*upper, *path))
