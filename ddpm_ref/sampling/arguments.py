"""What the functions of sampling are given: refused here if it cannot be used, in words that say what to write."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import SupportsIndex

import torch
from torch import Tensor

from ddpm_ref.errors import LevelError, PrecisionError, RangeError, ShapeError
from ddpm_ref.reference.plan import Plan
from ddpm_ref.sampling.denoiser import Denoiser
from ddpm_ref.sampling.noise import NoiseSource

FORMATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def check_denoiser(denoiser: Denoiser) -> None:
    """Refuse a bare network, of which nobody knows what it predicts (`RangeError`)."""
    if not isinstance(denoiser, Denoiser):
        raise RangeError(
            f"denoiser is a {type(denoiser).__name__}; write Denoiser(network, prediction=..., time_code=...)"
        )


def check_variance(denoiser: Denoiser, plan: Plan) -> None:
    """Refuse a plan whose noise the network is to say, and a network that says nothing of it, or something else (`RangeError`)."""
    if plan.learned is None or plan.learned == denoiser.variance:
        return
    if denoiser.variance is None:
        raise RangeError(
            f"the plan has a learned variance ({plan.learned!r}), and the denoiser says nothing of one; write "
            f"Denoiser(..., variance={plan.learned!r}) for a network that learned it, or a plan with variance='posterior'"
        )
    raise RangeError(
        f"the plan has variance {plan.learned!r} and the denoiser {denoiser.variance!r}; make the plan with "
        f"variance={denoiser.variance!r}"
    )


def check_source(noise: NoiseSource) -> None:
    """Refuse what is no source of noise (`RangeError`)."""
    if not isinstance(noise, NoiseSource):
        raise RangeError(
            f"noise is a {type(noise).__name__}; write GeneratorNoise(seed) or PhiloxNoise(seed), or anything with "
            "a method normal(step, shape, dtype, device)"
        )


def check_format(dtype: torch.dtype) -> None:
    """Refuse a number format in which states cannot be kept (`PrecisionError`)."""
    if dtype not in FORMATS:
        allowed = ", ".join(str(each) for each in FORMATS)
        raise PrecisionError(f"states cannot be {dtype}; write one of {allowed}")


def checked_shape(shape: Sequence[SupportsIndex | float]) -> tuple[int, ...]:
    """A shape with a batch axis, as whole numbers (`ShapeError`)."""
    try:
        sizes = tuple(operator.index(size) for size in shape if not isinstance(size, bool | float))
        right = 0 < len(sizes) == len(shape) and min(sizes) >= 0
    except TypeError:
        right = False
    if not right:
        raise ShapeError(f"shape is {shape!r}; write (batch, ...), whole numbers >= 0")
    return sizes


def check_like(
    name: str, x: Tensor, step: int | None, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> None:
    """Refuse noise or a start that does not fit the states (`ShapeError`, `PrecisionError`)."""
    where = "" if step is None else f" at step {step}"
    if not isinstance(x, Tensor):
        raise PrecisionError(f"{name} is a {type(x).__name__}{where}; write a tensor, {dtype} on {device}")
    if x.shape != shape:
        raise ShapeError(f"{name} has shape {tuple(x.shape)}{where}; {shape} was asked for")
    if x.dtype != dtype or x.device.type != device.type:
        raise PrecisionError(f"{name} is {x.dtype} on {x.device}{where}; {dtype} on {device} was asked for")


def check_finite(name: str, x: Tensor) -> None:
    """Refuse NaN and infinities (`RangeError`)."""
    if not finite(x):
        place = tuple(int(i) for i in torch.isfinite(x).logical_not().nonzero()[0])
        raise RangeError(f"{name} holds {float(x[place])} at index {place}; it must be finite")


def finite(x: Tensor) -> bool:
    """Whether every number is finite."""
    # A finite sum has finite terms: one pass; only a sum that overflows asks for the closer look.
    return math.isfinite(x.sum().item()) or bool(torch.isfinite(x).all())


def check_visited(plan: Plan, levels: Iterable[int]) -> None:
    """Refuse a level that a plan does not visit (`LevelError`)."""
    visited = plan.trajectory.levels
    for level in levels:
        if level not in visited:
            below, above = (
                max((v for v in visited if v < level), default=None),
                min((v for v in visited if v > level), default=None),
            )
            nearest = " and ".join(str(v) for v in (below, above) if v is not None)
            raise LevelError(f"the plan does not visit level {level}; the nearest that it visits: {nearest}")
