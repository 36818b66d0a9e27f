"""Algorithm 2 and its relatives: walk along a plan, from noise to data (or, in an inversion, from data to noise)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, SupportsIndex, runtime_checkable

import torch
from torch import Tensor, nn

from ddpm_ref.errors import LevelError, PrecisionError, RangeError, ShapeError
from ddpm_ref.reference.plan import Plan
from ddpm_ref.reference.trajectory import Trajectory
from ddpm_ref.sampling.arguments import (
    check_denoiser,
    check_finite,
    check_format,
    check_like,
    check_source,
    check_variance,
    check_visited,
    checked_shape,
    finite,
)
from ddpm_ref.sampling.denoiser import Denoiser
from ddpm_ref.sampling.device import usable
from ddpm_ref.sampling.noise import GeneratorNoise, NoiseSource
from ddpm_ref.sampling.rows import advance, learned_gain, rows
from ddpm_ref.torch.arguments import compute_dtype


@runtime_checkable
class Shift(Protocol):
    """What moves the mean of a step, such as `ddpm_ref.sampling.guided.MeanShift`."""

    def __call__(self, plan: Plan, k: int, x: Tensor, mean: Tensor, variance: Tensor | None = None) -> Tensor:
        """What to add to ``mean``, all of the k-th step but its noise, which started at state ``x``; like both.

        Both are float32 or float64. Where the network says the variance of the step's noise it is given, like ``mean``;
        for other plans the argument is left out.
        """
        ...


def step(
    denoiser: Denoiser,
    x: Tensor,
    plan: Plan,
    index: SupportsIndex,
    noise: Tensor | None = None,
    *,
    shift: Shift | None = None,
) -> Tensor:
    r"""One step of a plan: what `states` does between two states, with the noise given.

    .. math:: x_s = a_k\,x_t + b_k\,\hat y_\theta(x_t, t) + d_k\,\hat\varepsilon_\theta(x_t, t) + c_k\,z

    Args:
        denoiser: the network and its conventions; it is used in evaluation mode.
        x: the state at the level where the step starts, ``(batch, *event)``.
        plan: trajectory and coefficients.
        index: k, 0 for the first step.
        noise: z, like ``x``; may be left out where the row has no noise.
        shift: moves the mean, for guidance by a classifier; see `ddpm_ref.sampling.guided.MeanShift`.

    Returns:
        the state at the level where the step ends: a function of the arguments and of nothing else, differentiable in
        ``x`` and ``noise``.

    Raises:
        LevelError: the plan has no such step.
        RangeError: noise is needed and missing, or x, noise or the network's answer are not finite; or the plan has a
            learned variance of another kind than the denoiser.
        ShapeError, PrecisionError: the network or the noise do not fit ``x``, or ``x`` is not of a float format.

    Limits: none beside those of `states`. Source: ho2020, algorithm
    2; song2020ddim, eq. (12).

    >>> from ddpm_ref.reference.plan import ddim
    >>> from ddpm_ref.reference.schedule import NoiseSchedule
    >>> schedule = NoiseSchedule.from_betas([0.75])
    >>> silent = Denoiser(lambda x, time: torch.zeros_like(x))  # there is no noise, it says
    >>> step(silent, torch.ones(1, 2), ddim(schedule, schedule.trajectory(1)), 0)  # 1 / sqrt(alpha_bar)
    tensor([[2., 2.]])
    """
    k = operator.index(index)
    if isinstance(index, bool) or not 0 <= k < len(plan):
        raise LevelError(f"index is {index!r}; the plan has the steps 0..{len(plan) - 1}")
    check_denoiser(denoiser)
    check_format(x.dtype)
    if x.ndim == 0:
        raise ShapeError("x is a single number; write (batch, ...)")
    check_finite("x", x)
    walk = _Walk(denoiser, plan, x.shape[0], x.dtype, x.device, shift)
    if noise is not None:
        check_like("noise", noise, None, tuple(x.shape), x.dtype, x.device)
        check_finite("noise", noise)
    elif walk.rows[k].noise is not None:
        raise RangeError(f"the step of index {k} adds noise; pass noise, standard normal, like x")
    with denoiser.evaluating():
        return walk.step(k, x, noise)


def states(
    denoiser: Denoiser,
    shape: Sequence[SupportsIndex | float],
    plan: Plan,
    noise: NoiseSource | None = None,
    *,
    start: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    shift: Shift | None = None,
) -> Iterator[tuple[int, Tensor]]:
    r"""Every state of the chain, from pure noise to the sample, one at a time.

    .. math::
        x_s = a_k x_t + b_k \hat y_\theta(x_t, t) + d_k \hat\varepsilon_\theta(x_t, t) + c_k z_k, \qquad
        z_k \sim \mathcal N(0, I)

    with :math:`\hat y` the prediction in the plan's form (noise, or data after the plan's stage),
    :math:`\hat\varepsilon` the noise prediction before any stage, and :math:`(a_k, b_k, d_k, c_k)` the k-th row; in a plan
    with a learned variance :math:`c_k` is the network's, element by element.

    Args:
        denoiser: the network and its conventions.
        shape: of the samples, ``(batch, *event)``.
        plan: trajectory and coefficients, from `ddpm_ref.reference.plan`.
        noise: where the normal numbers come from; ``GeneratorNoise(0)`` if None.
        start: the first state, of this shape; normal numbers if None. An inversion starts from data and needs it.
        dtype: of the states.
        device: of the states; where the network's weights are if None.
        shift: moves the mean of every step; see `step`.

    Returns:
        an iterator over ``(t, x_t)`` for every level of the plan in its order. The network is left in the mode it was
        in, no gradient is recorded, and a state that was handed out is never written to again. Whoever stops asking
        stops the chain.

    Raises:
        ShapeError: ``shape`` is not a list of whole numbers >= 0, or network, noise or start have another.
        PrecisionError: network, noise or start have another number format or device.
        RangeError: the network returned a number that is not finite (the message names the step), its prediction does
            not determine what the plan needs, the plan has a learned variance of another kind than the denoiser, or an
            inversion without ``start``.

    Limits: where a row has no noise, as on the last step of Ho et al., none is drawn. Nothing is converted or compiled
    step by step: coefficients are tensors. A plan with a fixed variance leaves aside what the denoiser says of one. Source: ho2020,
    algorithm 2; song2020ddim, eq. (12).
    """
    x, noise, walk = _begun(denoiser, shape, plan, noise, start, dtype, device, shift)

    def chain(x: Tensor) -> Iterator[tuple[int, Tensor]]:
        yield plan.trajectory.levels[0], x
        for k, level in enumerate(plan.trajectory.levels[1:]):
            # Neither no_grad nor the evaluation mode may be left on while the caller has the word.
            with torch.no_grad(), denoiser.evaluating():
                x = walk.step(k, x, walk.drawn(noise, k, x))
            yield level, x

    return chain(x)


def sample(
    denoiser: Denoiser,
    shape: Sequence[SupportsIndex | float],
    plan: Plan,
    noise: NoiseSource | None = None,
    *,
    start: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    shift: Shift | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """The samples: the last of `states`, whose arguments and errors these are.

    Args:
        progress: called as ``progress(done, steps)`` after every step; what it raises ends the chain.

    Returns:
        x_0, of shape ``shape`` (in an inversion, the state at the last level).

    >>> import ddpm_ref
    >>> from ddpm_ref.reference import plan
    >>> schedule = ddpm_ref.cosine_schedule(T=100)
    >>> few_steps = plan.ancestral(schedule, schedule.trajectory(5), clip=(-1.0, 1.0))
    >>> origin = Denoiser(lambda x, time: torch.zeros_like(x), prediction="x0")  # all it knows is the point 0
    >>> sample(origin, (2, 3), few_steps)
    tensor([[0., 0., 0.],
            [0., 0., 0.]])
    """
    x, noise, walk = _begun(denoiser, shape, plan, noise, start, dtype, device, shift)
    # Nobody has the word between the steps, so gradients and mode need to be switched only once.
    with torch.no_grad(), denoiser.evaluating():
        for k in range(len(plan)):
            x = walk.step(k, x, walk.drawn(noise, k, x))
            if progress is not None:
                progress(k + 1, len(plan))
    return x


def snapshots(
    denoiser: Denoiser,
    shape: Sequence[SupportsIndex | float],
    plan: Plan,
    noise: NoiseSource | None = None,
    *,
    levels: Iterable[SupportsIndex],
    start: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    shift: Shift | None = None,
) -> dict[int, Tensor]:
    """The states at some levels of the plan, by level; arguments and errors otherwise those of `states`.

    Args:
        levels: which; 0 for the samples. The chain ends with the last of them.

    Raises:
        LevelError: a level that the plan does not visit.

    >>> import ddpm_ref
    >>> from ddpm_ref.reference import plan
    >>> schedule = ddpm_ref.cosine_schedule(T=100)
    >>> few_steps = plan.ddim(schedule, schedule.trajectory(5), clip=(-1.0, 1.0))
    >>> few_steps.trajectory.levels
    (100, 75, 51, 26, 1, 0)
    >>> origin = Denoiser(lambda x, time: torch.zeros_like(x), prediction="x0")
    >>> [(t, tuple(x.shape)) for t, x in snapshots(origin, (2, 3), few_steps, levels=(51, 0)).items()]
    [(51, (2, 3)), (0, (2, 3))]
    """
    wanted = [operator.index(level) for level in levels]
    check_visited(plan, wanted)
    kept: dict[int, Tensor] = {}
    for t, x in states(denoiser, shape, plan, noise, start=start, dtype=dtype, device=device, shift=shift):
        if t in wanted:
            kept[t] = x
        if len(kept) == len(set(wanted)):
            break
    return kept


class _Walk:
    """What stays the same over the steps of one chain, looked up once."""

    def __init__(
        self,
        denoiser: Denoiser,
        plan: Plan,
        batch: int,
        dtype: torch.dtype,
        device: torch.device,
        shift: Shift | None,
    ) -> None:
        check_variance(denoiser, plan)
        self.denoiser, self.plan, self.shift = denoiser, plan, shift
        self.rows = rows(plan, denoiser.prediction, dtype, device)
        self.times = denoiser.time(torch.tensor(plan.asked, device=device))[:, None].expand(-1, batch).unbind()

    def step(self, k: int, x: Tensor, z: Tensor | None) -> Tensor:
        try:
            answer, extra = self.denoiser.answers(x, self.times[k])
        except (ShapeError, PrecisionError) as error:
            raise type(error)(f"at {self._named(k)}: {error}") from error
        if not finite(answer):
            check_finite(f"the state before {self._named(k)}, from start or noise,", x)
            raise RangeError(
                f"the network's prediction is not finite at {self._named(k)}; "
                "was it trained, and with this schedule, prediction and time_code?"
            )
        gain = self._gain(k, extra)
        following = self._advanced(k, x, answer, z, gain)
        if k == len(self.plan) - 1 and not finite(following):  # before that the network says so
            check_finite(f"the state before {self._named(k)}, from start or noise,", x)
            if z is not None:
                check_finite(f"the noise of {self._named(k)}", z)
            raise RangeError(f"the state overflows {x.dtype} at {self._named(k)}; write dtype=torch.float64")
        return following

    def _gain(self, k: int, extra: Tensor | None) -> Tensor | None:
        """What the network multiplies the noise of a step with, beside the row's own coefficient."""
        if self.plan.learned is None or self.rows[k].noise is None or extra is None:
            return None
        gain = learned_gain(self.rows[k], extra)
        if not finite(gain):
            check_finite(f"what the network says of the variance at {self._named(k)}", extra)
            raise RangeError(
                f"the learned deviation overflows at {self._named(k)}, where the network says up to {float(extra.max()):g}; "
                f"was it trained with variance = {self.plan.learned!r}?"
            )
        return gain

    def _advanced(self, k: int, x: Tensor, answer: Tensor, z: Tensor | None, gain: Tensor | None) -> Tensor:
        row, plan = self.rows[k], self.plan
        if gain is not None and z is not None:
            z = z.to(gain) * gain
        if self.shift is None:
            return advance(row, x, answer, z, plan.clip, plan.threshold)
        wide = x.to(compute_dtype(x.dtype))  # the mean and its shift are not rounded to a half on the way
        mean = advance(row._replace(noise=None), wide, answer.to(wide), None, plan.clip, plan.threshold)
        if gain is None or row.noise is None:
            moved = mean + self.shift(plan, k, wide, mean)
        else:
            moved = mean + self.shift(plan, k, wide, mean, (row.noise * gain).square())
        if row.noise is not None and z is not None:
            moved = torch.addcmul(moved, z.to(wide), row.noise)
        return moved.to(x.dtype)

    def drawn(self, noise: NoiseSource, k: int, x: Tensor) -> Tensor | None:
        """The noise of a step, if it has any."""
        if self.rows[k].noise is None:
            return None
        return _normal(noise, k + 1, tuple(x.shape), x.dtype, x.device)

    def _named(self, k: int) -> str:
        here, there = list(self.plan.trajectory.pairs())[k]
        return f"step {k + 1} of {len(self.plan)} (t = {here} to s = {there})"


def _begun(
    denoiser: Denoiser,
    shape: Sequence[SupportsIndex | float],
    plan: Plan,
    noise: NoiseSource | None,
    start: Tensor | None,
    dtype: torch.dtype,
    device: torch.device | str | None,
    shift: Shift | None,
) -> tuple[Tensor, NoiseSource, _Walk]:
    """The first state, the source and the walk, after every check that can be made before the network is asked."""
    check_denoiser(denoiser)
    check_format(dtype)
    sizes = checked_shape(shape)
    place = _device_of(denoiser) if device is None else usable(device)
    noise = GeneratorNoise() if noise is None else noise
    check_source(noise)
    walk = _Walk(denoiser, plan, sizes[0], dtype, place, shift)
    if start is not None:
        check_like("start", start, None, sizes, dtype, place)
        check_finite("start", start)
        return start, noise, walk
    if not isinstance(plan.trajectory, Trajectory):
        raise RangeError("the plan is an inversion, which starts from data; pass start=..., of the shape given")
    return _normal(noise, 0, sizes, dtype, place), noise, walk


def _normal(noise: NoiseSource, step: int, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    z = noise.normal(step, shape, dtype, device)
    check_like("what the noise source returned", z, step, shape, dtype, device)
    return z


def _device_of(denoiser: Denoiser) -> torch.device:
    parameters = denoiser.network.parameters() if isinstance(denoiser.network, nn.Module) else iter(())
    first = next(parameters, None)
    return torch.device("cpu") if first is None else first.device
