"""A grid of samplers, steps and spacings, and the divergence of each from the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from ddpm_ref.errors import RangeError
from ddpm_ref.reference import plan
from ddpm_ref.reference.analytic import optimal_trajectories
from ddpm_ref.reference.oracle import Gaussian, sample_density, sample_moments
from ddpm_ref.reference.plan import Plan
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.reference.trajectory import Trajectory
from ddpm_ref.study.data import Subject
from ddpm_ref.study.unknown import Unknown

SAMPLERS = ("posterior", "beta", "ddim-ETA", "analytic", "analytic-ETA")
"""Ancestral sampling with either fixed variance, DDIM with an eta, e.g. ``ddim-0.5``, and either with the optimal variance."""
OPTIMAL = "optimal"
"""The spacing on which the bound of the likelihood is best; it depends on the data."""


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
    schedule: NoiseSchedule,
    samplers: Sequence[str],
    steps: Sequence[int],
    spacings: Sequence[str],
    subject: Subject | None = None,
) -> list[Planned]:
    """The plans of every combination, in x0 form (which zero terminal SNR allows).

    The sampler ``analytic`` and the spacing ``optimal`` depend on the data, ``subject``; an optimal trajectory asks for
    what is unknown of them at every level, some seconds for data that are no normal law. Raises `RangeError` for an
    unknown sampler, an empty list or data that are needed and not given, `ScheduleError` for steps or spacings that the
    schedule does not have: all before any divergence is computed.
    """
    for name, values in {"samplers": samplers, "steps": steps, "spacings": spacings}.items():
        if not values:
            raise RangeError(f"no {name} were given; write at least one")
    unknown = Unknown(schedule, None if subject is None else subject.data)
    made = {sampler: _sampler(sampler, unknown) for sampler in dict.fromkeys(samplers)}
    walks = {spacing: _trajectories(schedule, steps, spacing, unknown) for spacing in dict.fromkeys(spacings)}
    return [
        Planned(sampler, spacing, count, make(schedule, walks[spacing][count]))
        for spacing in walks
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


def _trajectories(
    schedule: NoiseSchedule, steps: Sequence[int], spacing: str, unknown: Unknown
) -> dict[int, Trajectory]:
    counts = list(dict.fromkeys(steps))
    if spacing != OPTIMAL:
        return {count: schedule.trajectory(count, spacing) for count in counts}
    unknown.needed_by(f"spacing {spacing!r}")
    paths = optimal_trajectories(schedule, unknown.everywhere(), counts)
    return {count: path.trajectory for count, path in zip(counts, paths, strict=True)}


def _sampler(name: str, unknown: Unknown) -> Callable[[NoiseSchedule, Trajectory], Plan]:
    if name in ("posterior", "beta"):
        return partial(plan.ancestral, variance=name, form="x0")
    kind, _, written = name.partition("-")
    try:
        eta = 1.0 if name == "analytic" else float(written)
    except ValueError:
        eta = None
    if kind not in ("ddim", "analytic") or eta is None:
        raise RangeError(
            f"sampler {name!r} is not known; write posterior, beta, analytic, or ddim-ETA or analytic-ETA with a number, "
            "e.g. ddim-0.5"
        )
    if kind == "ddim":
        return partial(plan.ddim, eta=eta, form="x0")
    unknown.needed_by(f"sampler {name!r}")
    return partial(_analytic, unknown=unknown, eta=eta)


def _analytic(schedule: NoiseSchedule, walk: Trajectory, unknown: Unknown, eta: float) -> Plan:
    return plan.analytic(schedule, walk, unknown.at(walk.levels[:-1]), eta, form="x0")
