"""A grid of samplers, steps and spacings, and the divergence of each from the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from ddpm_ref.errors import RangeError
from ddpm_ref.reference import plan
from ddpm_ref.reference.oracle import Gaussian, sample_density, sample_moments
from ddpm_ref.reference.plan import Plan
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.reference.trajectory import Trajectory
from ddpm_ref.study.data import Subject

SAMPLERS = ("posterior", "beta", "ddim-ETA")
"""Ancestral sampling with either fixed variance, and DDIM with an eta, e.g. ``ddim-0.5``."""


@dataclass(frozen=True)
class Planned:
    """One cell of the grid, before it is computed."""

    sampler: str
    spacing: str
    steps: int
    plan: Plan


@dataclass(frozen=True)
class Cell:
    """One cell of the grid."""

    sampler: str
    spacing: str
    steps: int
    kl: float
    """Divergence of the samples from the data, nats."""
    total_variation: float | None
    """Total variation distance of the two; None where only the divergence is computed."""


def grid(
    schedule: NoiseSchedule, samplers: Sequence[str], steps: Sequence[int], spacings: Sequence[str]
) -> list[Planned]:
    """The plans of every combination, in x0 form (which zero terminal SNR allows).

    Raises `RangeError` for an unknown sampler or an empty list, `ScheduleError` for steps or spacings that the schedule
    does not have: all before anything is computed.
    """
    for name, values in {"samplers": samplers, "steps": steps, "spacings": spacings}.items():
        if not values:
            raise RangeError(f"no {name} were given; write at least one")
    made = {sampler: _sampler(sampler) for sampler in dict.fromkeys(samplers)}
    return [
        Planned(sampler, spacing, count, make(schedule, schedule.trajectory(count, spacing)))
        for spacing in dict.fromkeys(spacings)
        for sampler, make in made.items()
        for count in dict.fromkeys(steps)
    ]


def run(cells: Sequence[Planned], subject: Subject, start: str = "normal") -> Iterator[Cell]:
    """The cells one at a time, each as soon as it is known. Raises what `sample_density` raises."""
    for cell in cells:
        kl, distance = _judged(cell.plan, subject, start)
        yield Cell(cell.sampler, cell.spacing, cell.steps, kl, distance)


def _judged(made: Plan, subject: Subject, start: str) -> tuple[float, float | None]:
    if isinstance(subject.data, Gaussian) and not subject.blur:
        return sample_moments(made, subject.data, start).kl(), None
    law = sample_density(made, subject.data, start, subject.blur)
    return law.kl(), law.total_variation


def _sampler(name: str) -> Callable[[NoiseSchedule, Trajectory], Plan]:
    if name in ("posterior", "beta"):
        return partial(plan.ancestral, variance=name, form="x0")
    kind, _, written = name.partition("-")
    try:
        if kind == "ddim":
            return partial(plan.ddim, eta=float(written), form="x0")
    except ValueError:
        pass
    raise RangeError(f"sampler {name!r} is not known; write posterior, beta, or ddim-ETA with a number, e.g. ddim-0.5")
