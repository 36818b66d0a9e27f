"""Where the normal numbers of a sampler come from.

A source is a function of (its key, the step, the shape), not a stream: whoever asks again gets the same numbers, and
how many were drawn before does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ddpm_ref.errors import RangeError

WEYL = 0x9E3779B97F4A7C15
"""The golden ratio in 64 bits: an odd number, so that its multiples differ in every 32 low bits."""


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
    LABEL_DROPOUT = 7
    MOMENTS = 8
    EVALUATION = 9


def keyed_seed(stream: Stream, seed: int, step: int = 0, first: int = 0) -> int:
    """The seed, for any generator, that belongs to this purpose, seed, step and first sample and to no other.

    The numbers go through NumPy's ``SeedSequence``, so that neighbouring keys give unrelated streams.

    Args:
        stream: the purpose.
        seed: whole number >= 0.
        step: whole number >= 0.
        first: whole number >= 0: index of the first sample of a batch.

    Returns:
        0..2^63 - 1.

    Raises:
        RangeError: a negative or fractional seed, step or first.
    """
    for name, value in {"seed": seed, "step": step, "first": first}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise RangeError(f"{name} is {value!r}; it must be a whole number >= 0")
    key = [int(stream), seed, step, first]
    if max(key) >> 32:  # a number of several words moves the words behind it, so their lengths join the key
        sequence = np.random.SeedSequence([*key, *(value.bit_length() for value in key)])
    else:
        sequence = np.random.SeedSequence(np.array(key, dtype=np.uint32))  # ready words: half the time of a list
    low, high = sequence.generate_state(2, np.uint32).tolist()
    return int(high << 32 | low) & (2**63 - 1)


def keyed_generator(device: torch.device, stream: Stream, seed: int, step: int = 0, first: int = 0) -> torch.Generator:
    """A generator on ``device`` at the start of the stream of `keyed_seed`."""
    return torch.Generator(device).manual_seed(keyed_seed(stream, seed, step, first))


@lru_cache(maxsize=256, typed=True)  # typed: True is no seed, though it equals 1
def _chain_seed(seed: int, first: int) -> int:
    return keyed_seed(Stream.SAMPLING, seed, 0, first)


@dataclass(frozen=True)
class GeneratorNoise:
    """Normal numbers from torch's own generator on the device of the samples.

    Args:
        seed: whole number >= 0.
        first: index of the first sample of the batch, so that the batches of a large set differ.

    Limits: the numbers depend on the device type, and on the batch size, and are those of the torch version at hand;
    see `ddpm_ref.sampling.philox.PhiloxNoise` for numbers that do not. On a CPU torch's generator looks at 32 bits of
    its seed: no two steps of a chain share them, but two of 10^5 chains might.

    >>> source = GeneratorNoise(seed=7)
    >>> first = source.normal(1, (2, 3), torch.float32, torch.device("cpu"))
    >>> bool((first == source.normal(1, (2, 3), torch.float32, torch.device("cpu"))).all())
    True
    """

    seed: int = 0
    first: int = 0

    def normal(self, step: int, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Standard normal numbers for this step, the same at every call."""
        # Hashing the step too would cost a third of the step, and let two steps of a long chain meet in 32 bits.
        key = (_chain_seed(self.seed, self.first) + step * WEYL) & (2**63 - 1)
        generator = torch.Generator(device).manual_seed(key)
        return torch.randn(shape, generator=generator, dtype=dtype, device=device)
