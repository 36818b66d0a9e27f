"""Trajectories: the levels a sampler visits, from its first level down to 0.

A step is a pair ``(t, s)`` of neighbours on the trajectory; nobody ever writes ``t - 1`` by hand. Every spacing is
computed in exact integer arithmetic from its source's definition (`uniform_angle` alone looks for the nearest angle, in float64).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from ddpm_ref.errors import ScheduleError
from ddpm_ref.typing import Array, Real

if TYPE_CHECKING:
    from ddpm_ref.reference.schedule import NoiseSchedule

Spacing = Literal["even", "trailing", "leading", "linspace", "quadratic", "uniform_angle"]


@dataclass(frozen=True)
class Trajectory:
    """Strictly descending levels that end with 0, e.g. ``Trajectory((1000, 500, 0))``.

    Raises `ScheduleError` for anything else.

    >>> list(Trajectory((3, 1, 0)).pairs())
    [(3, 1), (1, 0)]
    """

    levels: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse levels that are not whole, not descending, or do not end at clean data."""
        levels = tuple(self.levels)
        whole = all(isinstance(v, int | np.integer) and not isinstance(v, bool) for v in levels)
        object.__setattr__(self, "levels", tuple(int(v) for v in levels) if whole else levels)
        descending = whole and all(a > b for a, b in pairwise(self.levels))
        if not whole or len(levels) < 2 or not descending or self.levels[-1] != 0:
            shown = ", ".join(map(str, levels[:8])) + (", ..." if len(levels) > 8 else "")
            raise ScheduleError(
                f"trajectory ({shown}) must be whole levels in strictly descending order that end with 0, such as (1000, 500, 0)"
            )

    @classmethod
    def of(cls, levels: Trajectory | Iterable[int]) -> Trajectory:
        """A trajectory as it is, or the one of these levels; raises `ScheduleError` for anything else."""
        if isinstance(levels, Trajectory):
            return levels
        if not isinstance(levels, Iterable):
            raise ScheduleError(
                f"trajectory is {levels!r}; write schedule.trajectory(steps), or levels such as (1000, 500, 0)"
            )
        return cls(tuple(levels))

    @property
    def steps(self) -> int:
        """Number of steps ``K``."""
        return len(self.levels) - 1

    def pairs(self) -> Iterator[tuple[int, int]]:
        """The steps ``(t, s)``, ``t > s``, in sampling order."""
        return pairwise(self.levels)

    def __len__(self) -> int:
        return len(self.levels)


def make(schedule: NoiseSchedule, steps: Real, spacing: str = "even") -> Trajectory:
    """The trajectory of ``steps`` levels above 0 with a named spacing; see `NoiseSchedule.trajectory`."""
    if spacing not in SPACINGS:
        raise ScheduleError(
            f"spacing {spacing!r} is not known; write one of {', '.join(get_args(Spacing))}, or Trajectory(levels)"
        )
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or not 1 <= steps <= schedule.T:
        raise ScheduleError(f"steps = {steps!r} must be a whole number from 1 to T = {schedule.T}")
    ascending = list(SPACINGS[spacing](schedule, int(steps)))
    repeated = next((a for a, b in pairwise(ascending) if a >= b), None)
    if repeated is not None or ascending[0] < 1:
        raise ScheduleError(
            f"spacing {spacing!r} with {steps} steps of T = {schedule.T} visits level {repeated or ascending[0]} more than once; "
            "use fewer steps, or spacing='even'"
        )
    return Trajectory((*reversed(ascending), 0))


def _half_up(x: Fraction) -> int:
    return (x + Fraction(1, 2)).__floor__()


def _even(schedule: NoiseSchedule, steps: int) -> Iterable[int]:
    """``1 + k (T - 1) / (K - 1)`` rounded half up; ``K = 1`` gives ``T`` (Bao et al. 2022, appendix E)."""
    if steps == 1:
        return [schedule.T]
    return (_half_up(1 + Fraction(k * (schedule.T - 1), steps - 1)) for k in range(steps))


def _trailing(schedule: NoiseSchedule, steps: int) -> Iterable[int]:
    """``T i / K`` rounded half to even, ``i = 1..K`` (Lin et al. 2024, table 2)."""
    return (round(Fraction(schedule.T * i, steps)) for i in range(1, steps + 1))


def _leading(schedule: NoiseSchedule, steps: int) -> Iterable[int]:
    """``1 + k floor(T / K)``: starts below ``T`` (Song et al. 2020, code; the 0-based timesteps are one less)."""
    return (1 + k * (schedule.T // steps) for k in range(steps))


def _linspace(schedule: NoiseSchedule, steps: int) -> Iterable[int]:
    """1 + the 0-based timesteps ``k (T - 1) / (K - 1)`` rounded half to even; ``K = 1`` gives level 1 (`numpy.linspace`)."""
    if steps == 1:
        return [1]
    return (1 + round(Fraction(k * (schedule.T - 1), steps - 1)) for k in range(steps))


def _quadratic(schedule: NoiseSchedule, steps: int) -> Iterable[int]:
    """1 + ``floor(0.8 T (k / (K - 1))^2)``: dense near the data, starts at 0.8 T (Song et al. 2020, appendix D.2 and code)."""
    if steps == 1:
        return [1]
    return (1 + (Fraction(4 * schedule.T, 5) * Fraction(k, steps - 1) ** 2).__floor__() for k in range(steps))


def _uniform_angle(schedule: NoiseSchedule, steps: int) -> Iterable[int]:
    """Levels nearest to ``K`` equal parts of the angle ``arctan sqrt(beta_bar / alpha_bar)`` at level ``T``."""
    angle: Array = np.arctan2(schedule.sqrt_beta_bar, schedule.sqrt_alpha_bar)
    targets = angle[-1] * np.arange(1, steps + 1) / steps
    above = np.clip(np.searchsorted(angle, targets), 1, schedule.T)
    below = above - 1
    return [int(v) for v in np.where(targets - angle[below] < angle[above] - targets, below, above)]


SPACINGS: dict[str, Callable[[NoiseSchedule, int], Iterable[int]]] = {
    "even": _even,
    "trailing": _trailing,
    "leading": _leading,
    "linspace": _linspace,
    "quadratic": _quadratic,
    "uniform_angle": _uniform_angle,
}
