"""Measuring a network over real data: one pass, any number of processes, taken up where it was left."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import SupportsIndex

import torch
from torch import Tensor

from ddpm_ref.errors import LevelError, MomentsError, PrecisionError, RangeError, ShapeError
from ddpm_ref.estimation.moments import KIND, Moments, Origin, data_digest
from ddpm_ref.estimation.state import State, partial_path
from ddpm_ref.estimation.values import Job
from ddpm_ref.estimation.workers import computed
from ddpm_ref.reference.analytic import refuse_outside
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.sampling.denoiser import Denoiser
from ddpm_ref.sampling.device import usable
from ddpm_ref.training.progress import Report
from ddpm_ref.training.resumable import SAVE_SECONDS, carry_on, finished, must_equal
from ddpm_ref.typing import Real


@dataclass(frozen=True, eq=False)
class Estimate:
    """What `estimate` returns."""

    moments: Moments
    """Over all data; after an interruption, over those of the finished batches."""
    interrupted: bool
    """Whether Ctrl-C or SIGTERM ended it."""


def estimate(
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    data: Tensor,
    levels: Sequence[SupportsIndex] | None = None,
    *,
    draws: int = 1,
    batch_size: int = 256,
    seed: int = 0,
    low: Real = -1.0,
    high: Real = 1.0,
    network: str = "",
    processes: int = 1,
    device: torch.device | str = "cpu",
    output: Path | None = None,
    overwrite: bool = False,
    progress: Report | None = None,
) -> Estimate:
    r"""Mean squares of a network's noise prediction and of its error, at each level, over noisy data.

    .. math:: \frac1d\mathbb E\lVert\epsilon_\theta(x_t,t)\rVert^2, \qquad
              \frac1d\mathbb E\lVert\varepsilon-\epsilon_\theta(x_t,t)\rVert^2, \qquad
              x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{\bar\beta_t}\,\varepsilon

    Args:
        denoiser: the network and its conventions, of any prediction; used in evaluation mode.
        schedule: the one it was trained on.
        data: clean data, float32 or float64, ``(n, *event)``: independent draws of what the network models.
        levels: which, of 1..T; all if None.
        draws: noises per datum and level. More data say more than more draws of the same.
        batch_size: rows (data times draws) in one forward pass.
        seed: of the noise, which is a function of (seed, level, datum, draw).
        low, high: the range of the data; bounds on variances take it from here.
        network: the digest by which the network is known again, see `ddpm_ref.estimation.network_digest`.
        processes: how many compute. The result has the same bits for any number.
        device: where to compute.
        output: file for the moments. Until they are complete their state is in a file beside it, written every ten
            seconds and at the end, however that comes, and taken up by the next call; a complete file is returned as it
            is.
        overwrite: replace what another measurement left in these files, instead of refusing it; never a file of another
            kind.
        progress: told after every level of every batch; may raise KeyboardInterrupt.

    Returns:
        the moments. After an interruption those of the finished batches, in each of which every level was visited.

    Raises:
        KeyboardInterrupt: interrupted before one batch was finished (the state is written all the same).
        RangeError: data outside [low, high], with the share that is; a count below 1; an answer that is not finite.
        LevelError: a level outside 1..T, or twice.
        ShapeError, PrecisionError: data that are no batch of float32 or float64, or that the network does not take.
        MomentsError: a file that is there is damaged or of another measurement, or a process died.
        OutputError: a file cannot be written.

    Limits: one pass in constant memory, of (levels)^2 numbers. The same bits need the same machine, torch, number of
    threads and batch size; the noise needs none of these. Source: bao2022, eq. (8).

    >>> import ddpm_ref
    >>> silent = Denoiser(lambda x, time: torch.zeros_like(x))
    >>> measured = estimate(silent, ddpm_ref.cosine_schedule(T=10), torch.zeros(4000, 3), levels=[1, 10]).moments
    >>> measured.mean_square.mean.tolist()
    [0.0, 0.0]
    >>> print(measured.residual.mean.round(1))  # the variance of the noise, which it does not see
    [1. 1.]
    """
    _check_counts(draws=draws, batch_size=batch_size, processes=processes)
    place = str(usable(device))
    wanted = _levels(levels, schedule.T)
    _check_data(data, low, high)
    job = Job(denoiser, schedule, data.detach().cpu(), draws, batch_size, seed, place)
    origin = Origin(
        schedule.digest,
        network,
        data_digest(job.data),
        wanted,
        len(data),
        draws,
        batch_size,
        seed,
        float(low),
        float(high),
    )

    def of_this_origin(path: Path) -> Moments:
        moments = Moments.load(path)
        must_equal(path, moments.origin, origin, KIND, "measurement")
        return moments

    known = finished(output, of_this_origin, KIND, overwrite)
    if known is not None:
        return Estimate(known, interrupted=False)
    partial = None if output is None else partial_path(output)
    state = _begin(origin, job, partial, overwrite)
    with job.denoiser.evaluating():  # other processes get it in this mode, too
        interrupted = carry_on(state, _work(state, job, processes), "analyze", partial, progress, SAVE_SECONDS)
    moments = state.moments()
    if moments is None:
        raise KeyboardInterrupt
    if output is not None and partial is not None and not interrupted:
        moments.save(output)
        partial.unlink(missing_ok=True)
    return Estimate(moments, interrupted)


def _begin(origin: Origin, job: Job, partial: Path | None, overwrite: bool) -> State:
    if partial is None or not partial.exists():
        return State(origin, job.data_per_batch)
    try:
        return State.load(partial, origin, job.data_per_batch)
    except MomentsError:
        if not overwrite:
            raise
        return State(origin, job.data_per_batch)


def _work(state: State, job: Job, processes: int) -> Generator[None]:
    with contextlib.closing(computed(job, state.remaining(), processes)) as found:
        for task, values in found:
            state.add(task, values)
            yield


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise RangeError(f"{name} is {value!r}; a whole number >= 1 is needed")


def _levels(levels: Sequence[SupportsIndex] | None, T: int) -> tuple[int, ...]:
    try:
        wanted = range(1, T + 1) if levels is None else [operator.index(t) for t in levels]
    except TypeError:
        raise LevelError(f"levels are {levels!r}; they are whole numbers, some of 1..{T}, or None for all") from None
    if not len(wanted):
        raise LevelError(f"no level was given; give some of 1..{T}, or None for all")
    for t in wanted:
        if not 1 <= t <= T or wanted.count(t) > 1:
            raise LevelError(f"level {t} is outside 1..{T} or given twice; each level is measured once")
    return tuple(sorted(wanted))


def _check_data(data: Tensor, low: Real, high: Real) -> None:
    if not isinstance(data, Tensor):
        raise PrecisionError(f"data are a {type(data).__name__}; write torch.as_tensor(data)")
    if data.ndim < 2 or not data.numel():
        raise ShapeError(f"data have shape {tuple(data.shape)}; write (n, ...), at least one datum with one component")
    if data.dtype not in (torch.float32, torch.float64):
        raise PrecisionError(f"data are {data.dtype}; a network is measured in float32 or float64, write data.float()")
    refuse_outside(data.cpu().numpy(), low, high, "data")
