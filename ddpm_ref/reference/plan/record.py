"""The record that every sampler becomes: a trajectory, one row of coefficients per step, and the stages of x0."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias, get_args

import numpy as np

from ddpm_ref.errors import RangeError, ScheduleError
from ddpm_ref.reference.plan import stages
from ddpm_ref.reference.plan.stages import Threshold
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.reference.trajectory import Trajectory
from ddpm_ref.typing import Array

Form = Literal["eps", "x0"]
LearnedVariance = Literal["learned", "learned_range"]
Levels: TypeAlias = Trajectory | Sequence[int]


@dataclass(frozen=True)
class Ascent:
    """The levels of a trajectory walked upwards, from clean data to noise: strictly ascending, from 0.

    >>> list(Ascent.of(Trajectory((3, 1, 0))).pairs())
    [(0, 1), (1, 3)]
    """

    levels: tuple[int, ...]

    @classmethod
    def of(cls, trajectory: Trajectory) -> Ascent:
        """A trajectory in the opposite direction."""
        return cls(trajectory.levels[::-1])

    def __post_init__(self) -> None:
        """Refuse what is not a trajectory upside down."""
        object.__setattr__(self, "levels", Trajectory(tuple(self.levels)[::-1]).levels[::-1])

    @property
    def steps(self) -> int:
        """Number of steps ``K``."""
        return len(self.levels) - 1

    def pairs(self) -> Iterator[tuple[int, int]]:
        """The steps ``(from, to)``, ``from < to``, in walking order."""
        return pairwise(self.levels)

    def __len__(self) -> int:
        return len(self.levels)


@dataclass(frozen=True, eq=False)
class Plan:
    r"""One row per step of ``trajectory``: ``x_s = x * x_t + prediction * y + eps * e + noise * z``.

    Args:
        schedule: the noise schedule.
        trajectory: the levels, downwards; upwards (`Ascent`) in an inversion.
        form: what ``y`` is: the noise prediction, or the data prediction after the stages.
        x, prediction, noise: columns of coefficients, one per step; z is standard normal.
        clip: stage: the range to which a predicted x0 is clipped.
        threshold: stage: dynamic thresholding of a predicted x0.
        eps: column of a third term, the noise prediction ``e`` *as the network gave it*, before any stage; None where
            there is no such term (see `ddim`).
        learned: None where the deviation of the noise is the column ``noise``. Else the network says it, element by
            element: ``"learned"``, as :math:`\log\sigma^2`, and the factor of z is ``noise`` (1, or 0 in a step without
            noise) times :math:`\sigma`; ``"learned_range"``, as a share v, and the factor is
            :math:`\sigma_0^{1-v}\sigma_1^v` with ``noise`` for :math:`\sigma_0` and ``largest_noise`` for :math:`\sigma_1`.
        largest_noise: column of :math:`\sigma_1`; None for any other ``learned``.

    Raises `ScheduleError` for columns of the wrong length or that are not finite, `RangeError` for contradictory
    stages or ends of a learned range. Without stages and without a learned variance (`affine`) a step is affine in the
    state and in the network's answer.
    """

    schedule: NoiseSchedule
    trajectory: Trajectory | Ascent
    form: Form
    x: Array
    prediction: Array
    noise: Array
    clip: tuple[float, float] | None = None
    threshold: Threshold | None = None
    eps: Array | None = None
    learned: str | None = None
    largest_noise: Array | None = None

    def __post_init__(self) -> None:
        """A plan with a missing row cannot be made, nor one written over."""
        if max(self.trajectory.levels) > self.schedule.T:
            raise ScheduleError(
                f"trajectory has level {max(self.trajectory.levels)}, above T = {self.schedule.T} of the schedule"
            )
        for column in self._columns():
            if column.shape != (self.trajectory.steps,):
                raise ScheduleError(f"plan column of shape {column.shape} for {self.trajectory.steps} steps")
            if not np.isfinite(column).all():
                raise ScheduleError(f"plan column with {column[~np.isfinite(column)][0]}; coefficients are finite")
            column.setflags(write=False)
        stages.check(self.clip, self.threshold)
        if self.form not in get_args(Form):
            raise RangeError(f"form = {self.form!r} is not known; write 'eps' or 'x0'")
        if self.staged and self.form != "x0":
            raise RangeError("clipping and thresholding act on x0: a plan with a stage needs form 'x0'")
        if not self.staged and self.eps is not None:
            raise RangeError("the term of the raw eps stands beside a staged x0; pass clip or threshold")
        self._check_learned()

    def _check_learned(self) -> None:
        if self.learned not in (None, *get_args(LearnedVariance)):
            known = ", ".join(map(repr, get_args(LearnedVariance)))
            raise RangeError(f"learned = {self.learned!r} is not known; write None or one of {known}")
        if (self.largest_noise is None) != (self.learned != "learned_range"):
            raise RangeError(
                f"learned = {self.learned!r} and largest_noise is {'missing' if self.largest_noise is None else 'given'}; "
                "a learned range has two ends, noise and largest_noise, and nothing else has"
            )
        if self.learned == "learned" and not np.isin(self.noise, (0.0, 1.0)).all():
            raise RangeError("noise multiplies the learned deviation; write 1, or 0 in a step without noise")
        if self.largest_noise is not None:
            silent = self.noise == 0
            if (self.noise < 0).any() or (self.largest_noise < 0).any() or (silent != (self.largest_noise == 0)).any():
                raise RangeError("the ends of a learned range are deviations > 0, or both 0 in a step without noise")

    def _columns(self) -> tuple[Array, ...]:
        columns = (self.x, self.prediction, self.noise, self.eps, self.largest_noise)
        return tuple(column for column in columns if column is not None)

    @property
    def staged(self) -> bool:
        """Whether a predicted x0 is clipped or thresholded before it is used."""
        return self.clip is not None or self.threshold is not None

    @property
    def affine(self) -> bool:
        """Whether a step is affine in the state and the prediction: no clipping, no thresholding, no learned variance."""
        return not self.staged and self.learned is None

    @property
    def rederive_eps(self) -> bool:
        """Whether the noise in the step is that of the staged x0 (no third term), not the network's own."""
        return self.eps is None

    @property
    def asked(self) -> tuple[int, ...]:
        """The level at which the network is asked in each step: where the step starts.

        An inversion starts from level 0, where no network is defined; there it is asked at the first noisy level.
        """
        return tuple(level or following for level, following in self.trajectory.pairs())

    def rows(self) -> Iterator[tuple[int, int, float, float, float]]:
        """The steps in walking order: level it starts from, level it ends at, coefficients of x, prediction and noise.

        The fourth is that of z only where no variance is learned.
        """
        columns = (column.tolist() for column in (self.x, self.prediction, self.noise))
        for (start, end), x, prediction, noise in zip(self.trajectory.pairs(), *columns, strict=True):
            yield start, end, x, prediction, noise

    def __len__(self) -> int:
        return self.trajectory.steps


def descent(schedule: NoiseSchedule, trajectory: Levels) -> Trajectory:
    """The trajectory of a plan, from levels if need be; raises `ScheduleError` if it starts above T."""
    walk = Trajectory.of(trajectory)
    if walk.levels[0] > schedule.T:
        raise ScheduleError(f"trajectory starts at level {walk.levels[0]}, above T = {schedule.T} of the schedule")
    return walk


def chosen_form(
    schedule: NoiseSchedule,
    walk: Trajectory,
    form: str | None,
    clip: tuple[float, float] | None,
    threshold: Threshold | None,
) -> Form:
    """The form asked for, or the one that the stages need; eps is refused where it says nothing of x0."""
    stages.check(clip, threshold)
    affine = clip is None and threshold is None
    if form not in (None, *get_args(Form)):
        raise RangeError(f"form = {form!r} is not known; write 'eps' or 'x0'")
    if not affine and form == "eps":
        raise RangeError("form = 'eps' with clipping or thresholding, which act on x0; write form='x0' or leave it out")
    if form == "x0" or not affine:
        return "x0"
    if schedule.alpha_bar[walk.levels[0]] == 0:
        raise RangeError(
            "alpha_bar = 0 at the first level (zero terminal SNR): eps says nothing of x0; "
            "write form='x0', or pass clip=(-1.0, 1.0), and predict v or x0"
        )
    return "eps"
