"""Algorithm 2 and its relatives: walk down a plan from noise to data."""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Iterator, Sequence
from typing import SupportsIndex

import torch
from torch import Tensor, nn

from ddpm_ref.errors import PrecisionError, RangeError, ShapeError
from ddpm_ref.reference.plan import Plan
from ddpm_ref.sampling.denoiser import Denoiser
from ddpm_ref.sampling.noise import GeneratorNoise, NoiseSource
from ddpm_ref.torch.lincomb import lincomb
from ddpm_ref.torch.prediction import convert
from ddpm_ref.torch.tables import tables as tables_of


def states(
    denoiser: Denoiser,
    shape: Sequence[SupportsIndex | float],
    plan: Plan,
    noise: NoiseSource | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Iterator[tuple[int, Tensor]]:
    r"""Every state of the reverse chain, from pure noise to the sample, one at a time.

    .. math::
        x_s = a_k x_t + b_k \hat y_\theta(x_t, t) + c_k z_k, \qquad z_k \sim \mathcal N(0, I)

    with :math:`\hat y` the prediction in the plan's form (noise or data, clipped if the plan says so) and
    :math:`(a_k, b_k, c_k)` the k-th row of the plan.

    Args:
        denoiser: the network and its conventions.
        shape: of the samples, ``(batch, *event)``.
        plan: trajectory and coefficients, from `ddpm_ref.reference.plan`.
        noise: where the normal numbers come from; ``GeneratorNoise(0)`` if None.
        dtype: of the states.
        device: of the states; where the network's weights are if None.

    Returns:
        an iterator over ``(t, x_t)``: the plan's levels, descending, from its first to 0. The network is left in
        the mode it was in, no gradient is recorded, and a state that was handed out is never written to again.

    Raises:
        ShapeError: ``shape`` is not a list of whole numbers >= 0, or the network or the noise answer another shape.
        PrecisionError: the network or the noise answer another number format or device.
        RangeError: the network returned a number that is not finite; the message names the step.

    Limits: where a row has no noise, as on the last step of Ho et al., none is drawn. Source: ho2020, algorithm 2.
    """
    sizes = _sizes(shape)
    place = _device_of(denoiser) if device is None else torch.device(device)
    return _walk(denoiser, sizes, plan, GeneratorNoise() if noise is None else noise, dtype, place)


def sample(
    denoiser: Denoiser,
    shape: Sequence[SupportsIndex | float],
    plan: Plan,
    noise: NoiseSource | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """The samples: the last of `states`, whose arguments and errors these are.

    Returns:
        x_0, of shape ``shape``.

    >>> import ddpm_ref
    >>> from ddpm_ref.reference import plan
    >>> schedule = ddpm_ref.cosine_schedule(T=100)
    >>> few_steps = plan.ancestral(schedule, schedule.trajectory(5), clip=(-1.0, 1.0))
    >>> origin = Denoiser(lambda x, time: torch.zeros_like(x), prediction="x0")  # all it knows is the point 0
    >>> sample(origin, (2, 3), few_steps)
    tensor([[0., 0., 0.],
            [0., 0., 0.]])
    """
    last = deque(states(denoiser, shape, plan, noise, dtype=dtype, device=device), maxlen=1)
    return last[0][1]


def _walk(
    denoiser: Denoiser,
    shape: tuple[int, ...],
    plan: Plan,
    noise: NoiseSource,
    dtype: torch.dtype,
    device: torch.device,
) -> Iterator[tuple[int, Tensor]]:
    tables = tables_of(plan.schedule).to(device)
    pairs = list(plan.trajectory.pairs())
    columns = (plan.x, plan.prediction, plan.noise)
    rows = torch.stack([torch.tensor(column, dtype=torch.float64) for column in columns], dim=1).to(device)
    noisy = [bool(coefficient) for coefficient in plan.noise]

    x = _normal(noise, 0, shape, dtype, device)
    yield pairs[0][0], x
    for step, (t, s) in enumerate(pairs, start=1):
        # Neither no_grad nor the evaluation mode may be left on while the caller has the word.
        with torch.no_grad(), denoiser.evaluating():
            answer = denoiser(x, t)
            if not torch.isfinite(answer).all():
                raise RangeError(
                    f"the network's prediction is not finite at step {step} of {len(pairs)} (t = {t} to s = {s}); "
                    "was it trained, and with this schedule, prediction and time_code?"
                )
            prediction = convert(tables, x, t, answer, denoiser.prediction, plan.form)
            if plan.clip is not None:
                prediction = prediction.clamp(*plan.clip)
            terms = [x, prediction]
            if noisy[step - 1]:
                terms.append(_normal(noise, step, shape, dtype, device))
            x = lincomb(rows[step - 1, : len(terms)].unbind(), terms)
        yield s, x


def _sizes(shape: Sequence[SupportsIndex | float]) -> tuple[int, ...]:
    sizes = tuple(operator.index(size) for size in shape if not isinstance(size, bool | float))
    if not sizes or len(sizes) != len(shape) or min(sizes) < 0:
        raise ShapeError(f"shape is {tuple(shape)}; write (batch, ...), whole numbers >= 0")
    return sizes


def _normal(noise: NoiseSource, step: int, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    z = noise.normal(step, shape, dtype, device)
    if tuple(z.shape) != shape:
        raise ShapeError(f"the noise source returned shape {tuple(z.shape)} at step {step}; {shape} was asked for")
    if z.dtype != dtype or z.device.type != device.type:
        raise PrecisionError(
            f"the noise source returned {z.dtype} on {z.device} at step {step}; {dtype} on {device} was asked for"
        )
    return z


def _device_of(denoiser: Denoiser) -> torch.device:
    parameters = denoiser.network.parameters() if isinstance(denoiser.network, nn.Module) else iter(())
    first = next(parameters, None)
    return torch.device("cpu") if first is None else first.device
