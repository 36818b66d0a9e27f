"""Evaluating a network over images: term by term of the bound, taken up where it was left."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ddpm_ref.errors import EvaluationError, RangeError, ScheduleError
from ddpm_ref.estimation.moments import data_digest
from ddpm_ref.estimation.state import partial_path
from ddpm_ref.evaluation.data import prepared
from ddpm_ref.evaluation.record import KIND, Conditions, Evaluation
from ddpm_ref.evaluation.state import Running
from ddpm_ref.evaluation.terms import Model, Terms
from ddpm_ref.evaluation.variances import ANALYTIC, log_variances, refuse_no_second_step, variance_and_rule
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.reference.trajectory import Trajectory
from ddpm_ref.sampling.denoiser import LEARNED, Denoiser
from ddpm_ref.sampling.device import usable
from ddpm_ref.training import container
from ddpm_ref.training.progress import Report
from ddpm_ref.training.resumable import SAVE_SECONDS, carry_on, finished, must_equal
from ddpm_ref.typing import Array, ArrayLike


def evaluate(
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    data: Tensor,
    trajectory: Trajectory | Sequence[int] | None = None,
    *,
    variance: str = "posterior",
    first_step: str | None = None,
    x0_variance: ArrayLike | None = None,
    clip_x0: bool = True,
    levels: int | None = 256,
    batch_size: int = 256,
    seed: int = 0,
    network: str = "",
    device: torch.device | str = "cpu",
    output: Path | str | None = None,
    overwrite: bool = False,
    progress: Report | None = None,
) -> Evaluation:
    r"""An upper bound on the negative log likelihood of images, in bits per dimension.

    .. math:: L = \frac1{d\ln2}\Big[D_{KL}(q(x_T|x_0)\Vert\mathcal N(0,I)) + \sum_{s\ge1}
              D_{KL}(q(x_s|x_t,x_0)\Vert p_\theta(x_s|x_t)) - \log p_\theta(x_0|x_{t_K})\Big],
              \qquad x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{\bar\beta_t}\,\varepsilon

    over the steps (t, s) of a trajectory, with one :math:`\varepsilon` for each image and level: an unbiased estimate.

    Args:
        denoiser: the network and its conventions, of any prediction; used in evaluation mode.
        schedule: the one it was trained on.
        data: images, independent draws, ``(n, *event)``, n >= 2: grey levels as whole numbers, or float32 or float64 on
            their grid in [-1, 1]; any float32 or float64 for ``levels`` None.
        trajectory: levels from T down to 0; all if None.
        variance: of the reverse steps: ``"posterior"``, ``"beta"`` (also ``"fixed_small"``, ``"fixed_large"``),
            ``"analytic"``, or what the network says, ``"learned"`` or ``"learned_range"``.
        first_step: the rule for the variance of the step to level 0, where that of the posterior is 0, see
            `ddpm_ref.torch.posterior.posterior_log_variance`. None for ``"replace"``, by the posterior variance of the
            second step of the trajectory; for ``"analytic"`` for ``"exact"``, what is unknown of the data there.
        x0_variance: for ``"analytic"``, what is unknown of the data, one number per level 0..T, NaN where not known; see
            `ddpm_ref.estimation.unknown.unknown_by_level`.
        clip_x0: clip the predicted data to [-1, 1], as OpenAI's loop does. Right for data in this range, and then
            never worse for a step whose mean it brings nearer.
        levels: grey levels of the data, e.g. 17 for scikit-learn's digits: the last step is a discretised decoder. None
            for continuous data: it is a density.
        batch_size: rows (images times steps) in one forward pass.
        seed: of the noise, which is a function of (seed, image, level).
        network: the digest by which the network is known again, see `ddpm_ref.estimation.network_digest`.
        device: where to compute.
        output: file for the result. Until it is complete its state is in a file beside it, written every ten seconds
            and at the end, however that comes, and taken up by the next call; a complete file is returned as it is.
        overwrite: replace what another evaluation left in these files, instead of refusing it; never a file of another
            kind.
        progress: told after every forward pass; may raise KeyboardInterrupt.

    Returns:
        the bound and its terms, bits per dimension, with standard errors. After an interruption those of the images in
        finished batches.

    Raises:
        KeyboardInterrupt: interrupted before two images were finished (the state is written all the same).
        RangeError: data outside [-1, 1] or off the grid, with the share that is; fewer than 2; a count below 1; an
            unknown variance or rule, or options that do not belong together; a variance that is 0 or negative; an
            answer of the network, or a term, that is not finite, with its level.
        ScheduleError: a trajectory that does not go from T to 0, or that has no second step where a rule needs it.
        ShapeError, PrecisionError: data or tables of other shapes and formats, or that the network does not take.
        EvaluationError: a file that is there is damaged or of another evaluation.
        OutputError: a file cannot be written.

    Limits: the bound of the *model with these variances*; less noise in it needs more images, not more seeds. Terms are
    computed in float64 from what the network answers. The same bits need the same machine, torch, number of threads and
    batch size; the noise needs none of these. Source: ho2020, eq. (5) and (13); nichol2021, section 2 and its code.

    >>> import ddpm_ref
    >>> silent = Denoiser(lambda x, time: torch.zeros_like(x), prediction="x0")
    >>> images = torch.randint(2, (100, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    >>> found = evaluate(silent, ddpm_ref.cosine_schedule(T=10), images, levels=2, variance="beta", first_step="exact")
    >>> print(found.total.estimate > 1)  # coins have one bit each, and nobody who knows nothing of them needs less
    True
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise RangeError(f"batch_size is {batch_size!r}; a whole number >= 1 is needed")
    place, target = usable(device), None if output is None else Path(output)
    walk = _from_end_to_end(schedule, trajectory)
    kept, rule = variance_and_rule(variance, first_step)
    images = prepared(data, levels, clip_x0)
    chosen = _fixed(denoiser, schedule, walk, kept, rule, x0_variance)
    conditions = Conditions(
        schedule.digest,
        network,
        data_digest(images.x0),
        denoiser.prediction,
        denoiser.time_code,
        walk.levels,
        kept,
        rule,
        "" if kept != ANALYTIC or chosen is None else container.digest({}, {"log_variance": chosen}),
        clip_x0,
        levels,
        images.dimension,
        len(data),
        batch_size,
        seed,
    )
    model = Model(denoiser, schedule, walk, kept, rule, chosen, clip_x0)
    terms = Terms(model, images, seed, place)

    def of_these_conditions(path: Path) -> Evaluation:
        found = Evaluation.load(path)
        must_equal(path, found.conditions, conditions, KIND, "evaluation")
        return found

    found = finished(target, of_these_conditions, KIND, overwrite)
    if found is not None:
        return found
    partial = None if target is None else partial_path(target)
    state = _begin(conditions, terms.priors(batch_size), partial, overwrite)
    with denoiser.evaluating():
        interrupted = carry_on(state, _work(state, terms), "evaluate", partial, progress, SAVE_SECONDS)
    found = state.evaluation(interrupted)
    if found is None:
        raise KeyboardInterrupt
    if target is not None and partial is not None and not interrupted:
        found.save(target)
        partial.unlink(missing_ok=True)
    return found


def _work(state: Running, terms: Terms) -> Generator[None]:
    for first, size, steps in state.passes():
        state.add(terms.values(first, size, steps))
        yield


def _begin(conditions: Conditions, priors: Array, partial: Path | None, overwrite: bool) -> Running:
    if partial is None or not partial.exists():
        return Running(conditions, priors)
    try:
        return Running.load(partial, conditions, priors)
    except EvaluationError:
        if not overwrite:
            raise
        return Running(conditions, priors)


def _from_end_to_end(schedule: NoiseSchedule, trajectory: Trajectory | Sequence[int] | None) -> Trajectory:
    if trajectory is None:
        return Trajectory(tuple(range(schedule.T, -1, -1)))
    walk = Trajectory.of(trajectory)
    if walk.levels[0] != schedule.T:
        raise ScheduleError(
            f"trajectory begins at level {walk.levels[0]}, the wrong end: a bound begins where the prior is, at T = "
            f"{schedule.T}; write levels ({schedule.T}, ..., 0), e.g. schedule.trajectory(steps, 'even') or 'trailing'"
        )
    return walk


def _fixed(
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    walk: Trajectory,
    variance: str,
    rule: str,
    x0_variance: ArrayLike | None,
) -> Tensor | None:
    """The log variances of the steps, if not the network says them."""
    if variance not in LEARNED:
        return log_variances(schedule, walk, variance, rule, x0_variance)
    if x0_variance is not None:
        raise RangeError(f"x0_variance belongs to variance = 'analytic', not to {variance!r}; leave it out")
    if denoiser.variance != variance:
        says = "says nothing of a variance" if denoiser.variance is None else f"says {denoiser.variance!r}"
        raise RangeError(
            f"variance = {variance!r}, but the network {says}; write 'posterior', 'beta' or 'analytic', or train a network "
            f"with extra channels for it (Denoiser(..., variance={variance!r}))"
        )
    if variance == "learned_range":
        refuse_no_second_step(schedule.T, walk, rule)
    return None
