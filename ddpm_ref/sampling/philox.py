r"""Random numbers by counting: Philox4x32-10, uniforms and normals that are the same wherever they are computed.

A block of four words is a function of a counter and a key, so that no state is kept and nothing depends on what was
drawn before, on the batch, or on the device. The same lines run on NumPy arrays and on tensors. They use integers, and
of floating point only conversions, sums, products and quotients, each one operation rounded once as IEEE 754 says:
hence equality to the last bit, of the normal numbers too. The stream is specified in ``docs/noise.md``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ddpm_ref.errors import RangeError
from ddpm_ref.sampling.noise import Stream

Words: TypeAlias = Any
"""32-bit words: an int64 NumPy array, an int64 tensor, or a Python int, with values 0..2^32 - 1."""

MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYL = 0x9E3779B9, 0xBB67AE85
"""The key grows by these in every round: the golden ratio, and sqrt(3) - 1, in 32 bits."""
MASK = 0xFFFFFFFF
ROUNDS = 10

UNIFORM_SCALE = 4.6566127342e-10
"""In float32 the largest s with (2^31 - 1) s < 1; Triton's ``tl.rand`` takes the same."""
SMALLEST = 1e-7
"""Smallest argument of the logarithm, as in Triton's ``tl.randn``; the largest normal number is then 5.68."""

WORDS_PER_BLOCK = 4


def philox4x32(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, Words, Words, Words]:
    """Four random words from four words of counter and two of key.

    Args:
        counter: integers 0..2^32 - 1, of shapes that broadcast.
        key: integers 0..2^32 - 1.

    Returns:
        four arrays of such integers.

    Source: salmon2011, section 3.2: ten rounds, the recommended number.

    >>> [f"{word:08x}" for word in philox4x32((0, 0, 0, 0), (0, 0))]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        # In int64 a product of two words may wrap around; its 64 bits are right, and the mask takes the sign away.
        low, high = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = ((high >> 32) & MASK) ^ c1 ^ k0, high & MASK, ((low >> 32) & MASK) ^ c3 ^ k1, low & MASK
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1, c2, c3


def blocks(
    seed: int, step: int, first: int, shape: Sequence[int], *, xp: Any = np, device: torch.device | None = None
) -> tuple[Words, Words, Words, Words]:
    """The words that belong to a batch of samples at one step.

    Args:
        seed: the key, 0..2^64 - 1: low word, high word.
        step: 0..2^32 - 1.
        first: index of the first sample of the batch; sample i has the index ``first + i``, below 2^32.
        shape: ``(batch, *event)``.
        xp: ``numpy`` or ``torch``.
        device: for torch.

    Returns:
        four integer arrays of shape ``(batch, ceil(event / 4))``: word w of block j belongs to element 4 j + w of the
        event, counted in row-major order. Their counter is ``(j, step, sample index, purpose)``, with purpose 0.

    Raises:
        RangeError: a number that does not fit its word.
    """
    batch, count = shape[0], -(-math.prod(shape[1:]) // WORDS_PER_BLOCK)
    _refuse_what_does_not_fit(seed, step, first, batch, count)
    where = {} if device is None else {"device": device}
    block = xp.arange(count, dtype=xp.int64, **where)
    index = first + xp.arange(batch, dtype=xp.int64, **where)[:, None]
    return philox4x32((block, step, index, int(Stream.SAMPLING)), (seed & MASK, seed >> 32))


def _refuse_what_does_not_fit(seed: int, step: int = 0, first: int = 0, batch: int = 1, count: int = 0) -> None:
    """The words of counter and key have 32 bits each."""
    bounds = {"seed": (seed, 64), "step": (step, 32), "first": (first, 32)}
    bounds |= {
        "the last sample of the batch": (first + max(batch, 1) - 1, 32),
        "a sample's number of blocks": (count, 32),
    }
    for name, (value, bits) in bounds.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**bits:
            raise RangeError(f"{name} is {value!r}; Philox counts with whole numbers from 0 to 2^{bits} - 1")


def uniform(words: Words, *, xp: Any = np) -> Any:
    """A float32 in [0, 1) for every word: the word as a signed integer, folded to 0..2^31 - 1, rounded, and scaled.

    Bit for bit as Triton's ``tl.rand``. Source: salmon2011 for the words.
    """
    folded = words ^ ((words >> 31) * MASK)  # a negative i becomes -i - 1
    return xp.asarray(folded, dtype=xp.float32) * UNIFORM_SCALE


def normal_pair(u1: Any, u2: Any, *, xp: Any = np) -> tuple[Any, Any]:
    r"""Two independent standard normal numbers from two uniform ones (Box and Muller), in float64.

    .. math:: \sqrt{-2\log\max(u_1, 10^{-7})}\,(\cos 2\pi u_2, \sin 2\pi u_2)

    Args: float32 numbers in [0, 1). Limits: the error is at most 8 * 2^-53 of the radius, and the radius at most 5.68.
    Source: box1958.
    """
    radius = _root(-2.0 * _log(xp.asarray(u1.clip(SMALLEST), dtype=xp.float64), xp), xp)
    cosine, sine = _circle(xp.asarray(u2, dtype=xp.float64), xp)
    return radius * cosine, radius * sine


def normal(
    seed: int, step: int, first: int, shape: Sequence[int], *, xp: Any = np, device: torch.device | None = None
) -> Any:
    """Standard normal float64 numbers of a shape ``(batch, *event)``; arguments as `blocks`.

    >>> (normal(7, 1, 0, (5, 3, 2))[2:] == normal(7, 1, 2, (3, 3, 2))).all()
    np.True_
    """
    w0, w1, w2, w3 = (uniform(words, xp=xp) for words in blocks(seed, step, first, shape, xp=xp, device=device))
    numbers = xp.stack(normal_pair(xp.stack((w0, w2), -1), xp.stack((w1, w3), -1), xp=xp), -1)
    event = math.prod(shape[1:])
    return numbers.reshape(shape[0], numbers.shape[1] * WORDS_PER_BLOCK)[:, :event].reshape(tuple(shape))


@dataclass(frozen=True)
class PhiloxNoise:
    """Normal numbers keyed by seed, sample and step: the same for any batch, thread count, device and torch version.

    Args:
        seed: 0..2^64 - 1.
        first: index of the first sample of the batch, so that a batch of samples 64..127 draws what these samples draw
            in a batch of 0..127.

    Limits: float32 is the float64 number rounded, half precision is float32 rounded again; uniforms have 24 to 31 bits,
    so that no number exceeds 5.68. On a CPU about ten times slower than torch's generator. Source: salmon2011.

    >>> whole = PhiloxNoise(seed=7).normal(1, (5, 3), torch.float32, torch.device("cpu"))
    >>> rest = PhiloxNoise(seed=7, first=2).normal(1, (3, 3), torch.float32, torch.device("cpu"))
    >>> bool((whole[2:] == rest).all())
    True
    """

    seed: int = 0
    first: int = 0

    def __post_init__(self) -> None:
        """Refuse a key that does not fit."""
        _refuse_what_does_not_fit(self.seed, first=self.first)

    def normal(self, step: int, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Standard normal numbers for this step, the same at every call."""
        if device.type == "cpu":  # NumPy's short operations cost less, and the numbers are the same
            numbers = torch.from_numpy(normal(self.seed, step, self.first, shape))
        else:
            numbers = normal(self.seed, step, self.first, shape, xp=torch, device=device)
        return numbers if dtype == torch.float64 else numbers.float().to(dtype)


# Taylor coefficients. With |s| <= 3 - 2 sqrt(2) the first term of the logarithm left out is below 2^-58, with an angle of
# at most pi / 4 those of cosine and sine are below 2^-58 and 2^-60.
_LOG = [2 / (2 * k + 1) for k in range(11)]
_COS = [(-1) ** k / math.factorial(2 * k) for k in range(9)]
_SIN = [(-1) ** k / math.factorial(2 * k + 1) for k in range(9)]


def _log(x: Any, xp: Any) -> Any:
    """Natural logarithm of positive numbers: x = 2^e m with sqrt(1/2) <= m < sqrt(2), log m = 2 artanh((m-1)/(m+1))."""
    m, e = xp.frexp(x)
    small = xp.asarray(m < math.sqrt(0.5), dtype=xp.float64)
    m, e = m * (1.0 + small), e - small
    s = (m - 1.0) / (m + 1.0)
    return e * math.log(2.0) + s * _polynomial(_LOG, s * s)


def _root(x: Any, xp: Any) -> Any:
    """Square root, rounded to nearest: libraries may miss it by a unit, which the exact residual then tells."""
    root = xp.sqrt(x)
    high = 134217729.0 * root  # 2^27 + 1: Veltkamp's splitting into halves whose products are exact
    high = high - (high - root)
    low = root - high
    residual = ((x - high * high) - 2.0 * high * low) - low * low
    return root + residual / (2.0 * root)


def _circle(turns: Any, xp: Any) -> tuple[Any, Any]:
    """Cosine and sine of ``2 pi turns``: the nearest quarter turn is taken off, which is exact, and put back."""
    quarter = xp.floor(4.0 * turns + 0.5)
    angle = (turns - 0.25 * quarter) * (2.0 * math.pi)
    cosine, sine = _polynomial(_COS, angle * angle), angle * _polynomial(_SIN, angle * angle)
    quarter = quarter - 4.0 * xp.floor(0.25 * quarter)
    real, imaginary = abs(quarter - 2.0) - 1.0, 1.0 - abs(quarter - 1.0)  # i ** quarter
    return cosine * real - sine * imaginary, sine * real + cosine * imaginary


def _polynomial(coefficients: Sequence[float], x: Any) -> Any:
    total = coefficients[-1] * x
    for coefficient in coefficients[-2:0:-1]:
        total = (total + coefficient) * x  # two operations, each rounded: a fused one would differ in the last bit
    return total + coefficients[0]
