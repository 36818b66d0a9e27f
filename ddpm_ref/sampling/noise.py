"""Where the normal numbers of a sampler come from.

A source is a function of (its key, the step, the shape), not a stream: whoever asks again gets the same numbers, and
how many were drawn before does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ddpm_ref.errors import RangeError


@runtime_checkable
class NoiseSource(Protocol):
    """What `sample` asks of a source of noise."""

    def normal(self, step: int, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Independent standard normal numbers.

        Args:
            step: 0 for the start x_T, k >= 1 for the k-th step of the plan.
            shape: of the result.
            dtype: of the result.
            device: of the result.
        """
        ...


class Stream(IntEnum):
    """What random numbers are for: equal seeds and steps of different purposes share nothing."""

    SAMPLING = 0
    WEIGHTS = 1
    TRAINING = 2
    DROPOUT = 3
    HELD_OUT = 4
    CLASSIFIER = 5
    DEMO = 6


def keyed_seed(stream: Stream, seed: int, step: int = 0) -> int:
    """The seed, for any generator, that belongs to this purpose, seed and step and to no other.

    The numbers go through NumPy's ``SeedSequence``, so that neighbouring keys give unrelated streams.

    Args:
        stream: the purpose.
        seed: whole number >= 0.
        step: whole number >= 0.

    Returns:
        0..2^63 - 1.

    Raises:
        RangeError: a negative or fractional seed or step.
    """
    for name, value in {"seed": seed, "step": step}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise RangeError(f"{name} is {value!r}; it must be a whole number >= 0")
    low, high = np.random.SeedSequence([int(stream), seed, step]).generate_state(2, np.uint32)
    return (int(high) << 32 | int(low)) & (2**63 - 1)


def keyed_generator(device: torch.device, stream: Stream, seed: int, step: int = 0) -> torch.Generator:
    """A generator on ``device`` at the start of the stream of `keyed_seed`."""
    return torch.Generator(device).manual_seed(keyed_seed(stream, seed, step))


@dataclass(frozen=True)
class GeneratorNoise:
    """Normal numbers from torch's own generator on the device of the samples.

    Limits: the numbers depend on the device type, and on the batch size, and are those of the torch version at hand.

    >>> source = GeneratorNoise(seed=7)
    >>> first = source.normal(1, (2, 3), torch.float32, torch.device("cpu"))
    >>> bool((first == source.normal(1, (2, 3), torch.float32, torch.device("cpu"))).all())
    True
    """

    seed: int = 0

    def normal(self, step: int, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Standard normal numbers for this step, the same at every call."""
        generator = keyed_generator(device, Stream.SAMPLING, self.seed, step)
        return torch.randn(shape, generator=generator, dtype=dtype, device=device)
