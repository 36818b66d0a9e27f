"""Triton kernels behind ``ddpm_ref.torch``, one file each; importing them needs PyTorch only.

A kernel is an optional fast path: every one has a plain PyTorch fallback, and the functions of `ddpm_ref.torch` choose
between the two. Whoever asks for a kernel by name, without the triton extra, is told how to install it.
"""

from __future__ import annotations

import importlib.util
from typing import Final

from ddpm_ref.errors import MissingExtraError

__all__ = ["HAS_TRITON", "require_triton"]

HAS_TRITON: Final[bool] = importlib.util.find_spec("triton") is not None
"""Whether Triton is installed; decided once, so that compiled code can treat it as a constant."""


def require_triton() -> None:
    """Raise `MissingExtraError` where Triton is not installed."""
    if not HAS_TRITON:
        raise MissingExtraError(
            "this kernel was asked for by name and triton is not installed; write: pip install 'ddpm-ref[triton]' "
            "(Linux), or call the function of the same name in ddpm_ref.torch, which works without it"
        )
