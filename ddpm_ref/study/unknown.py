"""What the exact network leaves unknown of the data, computed only at the levels that are asked for."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ddpm_ref.errors import RangeError
from ddpm_ref.reference.analytic import sigma_hat_squared_from_residual
from ddpm_ref.reference.oracle import Finite, Gaussian, Mixture
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array


class Unknown:
    """Variances of the data given x_t, one per level 0..T, NaN where nobody has asked yet."""

    def __init__(self, schedule: NoiseSchedule, data: Gaussian | Mixture | Finite | None):
        self.schedule, self.data = schedule, data
        self.table = np.full(schedule.T + 1, np.nan)

    def needed_by(self, what: str) -> None:
        """Raise `RangeError` without data."""
        if self.data is None:
            raise RangeError(f"{what} depends on the data; pass subject=study.load(...)")

    def at(self, levels: Iterable[int]) -> Array:
        """The table, known at these levels at least."""
        missing = [level for level in sorted(set(levels)) if level and np.isnan(self.table[level])]
        for level in missing:
            self.table[level] = self._measured(level)
        return self.table.copy()

    def everywhere(self) -> Array:
        """The table, known at every level above 0."""
        return self.at(range(1, self.schedule.T + 1))

    def _measured(self, level: int) -> float:
        if self.data is None:
            raise RangeError("there are no data")
        if self.schedule.alpha_bar[level] == 0:  # x_T says nothing: all of the variance is unknown
            return float(np.trace(self.data.covariance)) / self.data.d
        floor = self.data.loss_floor(self.schedule, level)
        return float(sigma_hat_squared_from_residual(self.schedule, level, floor))
