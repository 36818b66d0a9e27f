r"""What is unknown of the data at a level, :math:`\hat\sigma_t^2`, from the moments measured there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ddpm_ref.estimation.moments import Moments
from ddpm_ref.reference.analytic import (
    Clipping,
    clip_sigma_hat_squared,
    sigma_hat_squared,
    sigma_hat_squared_from_residual,
)
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array, IntArray


def unknown(schedule: NoiseSchedule, levels: IntArray, means: Array, form: str) -> Array:
    """Sigma-hat squared at some levels from means of squares in that form, unclipped.

    At zero terminal SNR the residual of level T is that of the data, and is what is unknown of them.
    """
    if form == "mean_square":
        return sigma_hat_squared(schedule, levels, means, allow_negative=True)
    alive, found = schedule.alpha_bar[levels] > 0, np.array(means, dtype=np.float64)
    found[alive] = sigma_hat_squared_from_residual(schedule, levels[alive], found[alive])
    return found


def measured_levels(schedule: NoiseSchedule, moments: Moments, form: str) -> IntArray:
    """The levels that moments of this form tell of: the mean square says nothing of one without signal."""
    levels = np.array(moments.levels, dtype=np.int64)
    return levels if form == "residual" else levels[schedule.alpha_bar[levels] > 0]


def unknown_by_level(
    schedule: NoiseSchedule, moments: Moments, form: str = "residual", only: Sequence[int] | None = None
) -> tuple[Array, Clipping]:
    """Sigma-hat squared as plans take it: one number per level 0..T, NaN where it is not known, within its bounds.

    Args:
        schedule: that of the moments.
        moments: what was measured; their origin has the range of the data, from which the bounds follow.
        form: ``"residual"``, right for every network, or ``"mean_square"``, right for the optimal one only.
        only: levels; what is not among them is not known. All that were measured if None.

    Returns:
        ``(T + 1,)``, and how many estimates were clipped, and where.

    Raises:
        MomentsError: another schedule.
        RangeError: an unknown form.

    Limits: see `ddpm_ref.reference.analytic.clip_sigma_hat_squared`. Source: bao2022, eq. (9) and theorem 2.
    """
    moments.must_belong_to(schedule)
    table, means = np.full(schedule.T + 1, np.nan), moments.by_level(form, schedule.T)
    levels = measured_levels(schedule, moments, form)
    if only is not None:
        levels = np.intersect1d(levels, np.array(only, dtype=np.int64))
    table[levels] = unknown(schedule, levels, means[levels], form)
    return clip_sigma_hat_squared(schedule, table, None, moments.origin.low, moments.origin.high)
