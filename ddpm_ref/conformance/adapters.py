"""Adapters: how an implementation is asked.

A foreign adapter subclasses `NumpyAdapter` or `TorchAdapter`, says how its schedule is made from betas and which claims
it keeps, and defines those methods of `ddpm_ref.conformance.capabilities` that it has an answer to. A law whose
``needs`` it does not define is counted "not applicable". Levels are always the paper's (level 0 is clean data):
converting to a 0-based index is the adapter's first duty.
"""

from __future__ import annotations

import importlib
from typing import Protocol, runtime_checkable

import numpy as np

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance.capabilities import Handle, Native
from ddpm_ref.errors import AdapterError
from ddpm_ref.extras import require
from ddpm_ref.typing import Array, IntArray


@runtime_checkable
class Adapter(Protocol):
    """What the runner needs of every adapter, besides its capabilities."""

    name: str
    claims: tuple[Claim, ...]

    def schedule(self, betas: Array) -> Handle:
        """The implementation's own schedule object for these float64 betas of shape ``(T,)``."""

    def array(self, values: Array, claim: Claim) -> Native:
        """Numbers, exactly representable in the storage format of ``claim``, as the implementation's array type."""

    def levels(self, t: IntArray) -> Native:
        """Levels of the paper: an int for a scalar, otherwise an integer array of the implementation."""

    def numpy(self, result: Native) -> Array:
        """A result back as float64, exactly."""


NUMPY_DTYPES = {"fp64": np.float64, "fp32": np.float32, "fp16": np.float16}
TORCH_DTYPES = {"fp64": "float64", "fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


class NumpyAdapter:
    """Base of adapters whose implementation works on NumPy arrays: float64, float32 or float16."""

    name = "NumPy implementation"
    claims: tuple[Claim, ...] = (Claim("fp64"),)

    def array(self, values: Array, claim: Claim) -> Native:
        """Numbers as an array of the storage dtype."""
        if claim.store not in NUMPY_DTYPES:
            raise AdapterError(f"{self.name}: NumPy has no {claim.store}; claim fp64, fp32 or fp16")
        return values.astype(NUMPY_DTYPES[claim.store], order="K") if claim.store != "fp64" else values

    def levels(self, t: IntArray) -> Native:
        """An int, or the integer array."""
        return int(t) if t.ndim == 0 else t

    def numpy(self, result: Native) -> Array:
        """The result as float64; raises `AdapterError` for anything but real numbers."""
        found = np.asarray(result)
        if found.dtype.kind not in "fiub":
            raise AdapterError(f"{self.name} returned {_called(result)}, not an array of real numbers")
        return found.astype(np.float64)

    def format_of(self, result: Native) -> str:
        """The format of a result, by its name here; empty for a Python number."""
        dtype = getattr(result, "dtype", None)
        return {np.dtype(found): name for name, found in NUMPY_DTYPES.items()}.get(dtype, str(dtype)) if dtype else ""


class TorchAdapter:
    """Base of adapters whose implementation works on PyTorch tensors, on ``device``."""

    name = "PyTorch implementation"
    claims: tuple[Claim, ...] = (Claim("fp32"),)

    def __init__(self, device: str = "cpu"):
        torch = require("torch", "torch")
        try:
            torch.empty(0, device=device)
        except Exception as error:
            raise AdapterError(
                f"device {device!r} cannot be used here ({_said(error)}); write 'cpu' or 'cuda'"
            ) from error
        self.device = device

    def array(self, values: Array, claim: Claim) -> Native:
        """Numbers as a tensor of the storage dtype, on the device."""
        import torch

        dtype = getattr(torch, TORCH_DTYPES[claim.store])
        return (
            torch.from_numpy(values).to(self.device, dtype)
            if values.ndim
            else torch.tensor(values.item(), dtype=dtype, device=self.device)
        )

    def levels(self, t: IntArray) -> Native:
        """An int, or an int64 tensor on the device."""
        import torch

        return int(t) if t.ndim == 0 else torch.from_numpy(np.ascontiguousarray(t)).to(self.device)

    def numpy(self, result: Native) -> Array:
        """The tensor (or number) as a float64 array; raises `AdapterError` for anything else."""
        import torch

        if isinstance(result, (int, float)):
            return np.asarray(result, dtype=np.float64)
        if not isinstance(result, torch.Tensor) or result.is_complex():
            raise AdapterError(f"{self.name} returned {_called(result)}, not a real torch.Tensor")
        return np.asarray(result.detach().cpu().double().numpy())

    def format_of(self, result: Native) -> str:
        """The format of a result, by its name here; empty for a Python number."""
        import torch

        if not isinstance(result, torch.Tensor):
            return ""
        return {getattr(torch, dtype): name for name, dtype in TORCH_DTYPES.items()}.get(
            result.dtype, str(result.dtype)
        )


def load(path: str) -> Adapter:
    """The adapter named ``package.module:attribute`` (an adapter, or something callable that makes one); raises `AdapterError`."""
    module_name, separator, attribute = path.partition(":")
    if not separator or not module_name or not attribute:
        raise AdapterError(f"adapter {path!r} must be written package.module:attribute, e.g. mypkg.mine:adapter")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise AdapterError(f"adapter {path!r}: module {module_name!r} cannot be imported ({_said(error)})") from error
    if not hasattr(module, attribute):
        raise AdapterError(f"adapter {path!r}: module {module_name!r} has no {attribute!r}")
    found = getattr(module, attribute)
    try:
        adapter = found() if isinstance(found, type) or (callable(found) and not hasattr(found, "schedule")) else found
    except AdapterError:
        raise
    except Exception as error:
        raise AdapterError(f"adapter {path!r}: {attribute} cannot be made ({_said(error)})") from error
    if not isinstance(adapter, Adapter):
        raise AdapterError(
            f"adapter {path!r} lacks one of name, claims, schedule, array, levels, numpy; "
            "subclass ddpm_ref.conformance.NumpyAdapter or TorchAdapter"
        )
    return adapter


def _called(result: object) -> str:
    dtype = getattr(result, "dtype", None)
    return f"{type(result).__module__}.{type(result).__name__}" + (f" of {dtype}" if dtype is not None else "")


def _said(error: Exception) -> str:
    message = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
