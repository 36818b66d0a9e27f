"""The random numbers that an implementation draws itself, replaced by given ones.

Laws of sampler steps say what noise a step adds. Most implementations draw it inside the step, so a block hands them theirs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np

from ddpm_ref.conformance.capabilities import Native
from ddpm_ref.conformance.interception import answering
from ddpm_ref.errors import AdapterError


@dataclass
class Drawn:
    """The given noises, and how many of them an implementation has asked for."""

    noises: tuple[Native, ...]
    count: int = 0

    def next(self, asked: str, shape: tuple[int, ...]) -> Native:
        """The noise that comes next, which must have the shape that was asked for."""
        if self.count == len(self.noises):
            raise AdapterError(
                f"{asked} of shape {shape} was drawn, but all {len(self.noises)} given noises are used; give given_noise one "
                "noise for every draw of the implementation"
            )
        noise = self.noises[self.count]
        if tuple(noise.shape) != shape:
            raise AdapterError(
                f"{asked} of shape {shape} was drawn, but noise {self.count + 1} of the given {len(self.noises)} has shape "
                f"{tuple(noise.shape)}; reshape it as the implementation expects"
            )
        self.count += 1
        return noise

    @property
    def generator(self) -> Generator:
        """In place of a ``numpy.random.Generator``, for implementations that take one."""
        return Generator(self)


@dataclass(frozen=True)
class Generator:
    """Answers like ``numpy.random.Generator`` (normal numbers only) with the given noises."""

    _drawn: Drawn

    def standard_normal(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        """See ``numpy.random.Generator.standard_normal``."""
        if out is not None:
            out[...] = _array(self._drawn, "standard_normal", out.shape, out.dtype)
            return out
        return _array(self._drawn, "standard_normal", _shape(size), dtype)

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        """See ``numpy.random.Generator.normal``."""
        shape = np.broadcast_shapes(np.shape(loc), np.shape(scale)) if size is None else _shape(size)
        return _moved(_array(self._drawn, "normal", shape, np.float64), loc, scale)


@contextmanager
def given_noise(noises: Iterable[Native]) -> Iterator[Drawn]:
    """A block in which an implementation that draws standard normal numbers gets these instead, in this order.

    It answers ``torch.randn``, ``torch.randn_like``, ``torch.normal`` and ``Tensor.normal_`` (and what is built on them, such
    as ``torch.distributions.Normal``), under whatever name they were imported and with any
    ``generator``; ``numpy.random.randn``, ``numpy.random.standard_normal`` and ``numpy.random.normal``. To an implementation
    that takes a ``numpy.random.Generator`` pass ``drawn.generator``. Noise comes on the device and in the dtype that is asked
    for; where ``torch.randn`` names no dtype, in its own. A mean and a standard deviation are applied to it.

    Args:
        noises: arrays or tensors, one for each draw, each of exactly the shape that will be asked for.

    Yields:
        ``drawn``; ``drawn.count`` says how many of the noises have been used.

    Raises:
        AdapterError: one draw more than noises, or a draw of another shape; the message says what was asked for.

    Limits: compiled code (``torch.compile``, TorchScript) and random numbers of another law are not seen, so an adapter
    should compare ``drawn.count`` with what it expects. Everything is restored when the block ends, in whatever way.
    Not for several threads at once.

    >>> with given_noise([np.array([0.5, -1.5])]) as drawn:
    ...     np.random.randn(2)
    array([ 0.5, -1.5])
    >>> drawn.count
    1
    >>> with given_noise([np.zeros(3)]):
    ...     np.random.standard_normal((2, 3))
    Traceback (most recent call last):
    ddpm_ref.errors.AdapterError: numpy.random.standard_normal of shape (2, 3) was drawn, but noise 1 of the given 1 has shape
    (3,); reshape it as the implementation expects
    """
    drawn = Drawn(tuple(noises))
    with ExitStack() as stack:
        for name, function in _numpy_functions(drawn).items():
            stack.enter_context(mock.patch.object(np.random, name, function))
        if "torch" in sys.modules:  # an implementation in PyTorch has imported it
            stack.enter_context(_torch_functions(drawn))
        yield drawn


# --- NumPy ------------------------------------------------------------------------------------------------------------


def _shape(size: Any) -> tuple[int, ...]:
    if size is None:
        return ()
    return (int(size),) if np.ndim(size) == 0 else tuple(int(n) for n in size)


def _array(drawn: Drawn, asked: str, shape: tuple[int, ...], dtype: Any) -> Any:
    noise = drawn.next(f"numpy.random.{asked}", shape)
    if hasattr(noise, "detach"):
        noise = noise.detach().cpu().double().numpy()
    array = np.array(noise, dtype=dtype)
    return array if shape else array[()]


def _moved(noise: Any, mean: Any, std: Any) -> Any:
    """Untouched where nothing is to be done: -0.0 + 0.0 is another number, and a product may round."""
    standard = not np.ndim(mean) and not np.ndim(std) and (float(mean), float(std)) == (0.0, 1.0)
    return noise if standard else noise * std + mean


def _numpy_functions(drawn: Drawn) -> dict[str, Callable[..., Any]]:
    source = Generator(drawn)
    return {
        "randn": lambda *shape: _array(drawn, "randn", _shape(shape), np.float64),
        "standard_normal": lambda size=None: source.standard_normal(size),
        "normal": source.normal,
    }


# --- PyTorch ----------------------------------------------------------------------------------------------------------


def _torch_functions(drawn: Drawn) -> AbstractContextManager[None]:
    import torch

    draws = _TorchDraws(drawn)
    return answering(
        {
            torch.randn: draws.randn,
            torch.randn_like: draws.randn_like,
            torch.normal: draws.normal,
            torch.Tensor.normal_: draws.normal_,
        }
    )


@dataclass(frozen=True)
class _TorchDraws:
    """PyTorch's functions, answered with the given noises."""

    drawn: Drawn

    def tensor(self, asked: str, shape: Iterable[int], dtype: Any, device: Any) -> Any:
        import torch

        noise = torch.as_tensor(self.drawn.next(asked, tuple(shape)))
        return noise.detach().to(dtype=dtype or noise.dtype, device=device or torch.get_default_device(), copy=True)

    def randn(self, *size: Any, out: Any = None, dtype: Any = None, device: Any = None, **rest: Any) -> Any:
        size = (rest["size"],) if "size" in rest else size
        shape = size[0] if len(size) == 1 and not isinstance(size[0], int) else size
        if out is not None:
            dtype, device = out.dtype, out.device
        noise = self.tensor("torch.randn", shape, dtype, device)
        return (noise if out is None else out.copy_(noise)).requires_grad_(rest.get("requires_grad", False))

    def randn_like(self, like: Any = None, *, dtype: Any = None, device: Any = None, **rest: Any) -> Any:
        like = rest.get("input", like)
        noise = self.tensor("torch.randn_like", like.shape, dtype or like.dtype, device or like.device)
        return noise.requires_grad_(rest.get("requires_grad", False))

    def normal_(self, tensor: Any, mean: Any = 0.0, std: Any = 1.0, *, generator: Any = None) -> Any:
        return tensor.copy_(_moved(self.tensor("Tensor.normal_", tensor.shape, tensor.dtype, tensor.device), mean, std))

    def normal(self, mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, out: Any = None, **rest: Any) -> Any:
        tensors = [value for value in (mean, std) if hasattr(value, "detach")]
        shape = np.broadcast_shapes(*(value.shape for value in tensors)) if size is None else size
        dtype, device = rest.get("dtype"), rest.get("device")
        if tensors:
            dtype, device = tensors[0].dtype, tensors[0].device
        noise = _moved(self.tensor("torch.normal", shape, dtype, device), mean, std)
        return noise if out is None else out.copy_(noise)
