"""Calls of PyTorch's functions that are answered otherwise for the length of a block, without patching anything.

PyTorch asks a mode before each of its functions, by whatever name the caller knows it; a mode ends with its block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any, no_type_check

from ddpm_ref.conformance.capabilities import Native


@contextmanager
def answering(answers: Mapping[Any, Callable[..., Any]]) -> Iterator[None]:
    """A block in which some functions of PyTorch are answered by others, which get the same arguments.

    >>> import torch
    >>> with answering({torch.linspace: lambda *arguments, **options: torch.tensor([0.0, 3.0])}):
    ...     torch.linspace(0, 10, 2)
    tensor([0., 3.])
    """
    with _mode_class()(answers):
        yield


@contextmanager
def kept_in_float64() -> Iterator[None]:
    """A block in which what is cast to float32 stays in float64: ``.float()``, ``.to(torch.float32)``, ``.type(torch.float32)``.

    Code that casts its tables to float32 can so be run in float64, where a wrong formula cannot pass for rounding.

    >>> import torch
    >>> with kept_in_float64():
    ...     torch.ones(1, dtype=torch.float64).float().to(torch.float32).dtype
    torch.float64
    """
    with _mode_class()(_wide_answers()):
        yield


def arithmetic_of(like: Native) -> AbstractContextManager[None]:
    """`kept_in_float64` for float64 data, nothing for any other: an implementation then runs in the format of its data."""
    import torch

    return kept_in_float64() if like.dtype == torch.float64 else nullcontext()


@lru_cache(maxsize=1)
def _mode_class() -> Any:
    from torch.overrides import TorchFunctionMode

    class Mode(TorchFunctionMode):
        """Answers what it knows and passes everything else on."""

        def __init__(self, answers: Mapping[Any, Callable[..., Any]]):
            super().__init__()
            self.answers = answers

        @no_type_check  # once for every call of PyTorch
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return self.answers.get(function, function)(*args, **(kwargs or {}))

    return Mode


@lru_cache(maxsize=1)
def _wide_answers() -> Mapping[Any, Callable[..., Any]]:
    import torch

    return {torch.Tensor.float: _widened, torch.Tensor.to: _to, torch.Tensor.type: _typed}


def _wide(value: Any) -> Any:
    import torch

    return torch.float64 if value is torch.float32 else value


def _to(tensor: Any, *args: Any, **kwargs: Any) -> Any:
    return tensor.to(*map(_wide, args), **{name: _wide(value) for name, value in kwargs.items()})


def _typed(tensor: Any, *args: Any, **kwargs: Any) -> Any:
    return tensor.type(*map(_wide, args), **{name: _wide(value) for name, value in kwargs.items()})


def _widened(tensor: Any, **kwargs: Any) -> Any:
    return tensor.double(**kwargs)
