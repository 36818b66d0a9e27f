"""Where to compute, found out before anything is."""

from __future__ import annotations

import torch

from ddpm_ref.errors import RangeError


def usable(device: torch.device | str) -> torch.device:
    """The device, with its index, if something can be put there.

    Raises:
        RangeError: no such device, or none that this PyTorch can use.

    >>> usable("cpu")
    device(type='cpu')
    >>> usable("abacus")
    Traceback (most recent call last):
    ddpm_ref.errors.RangeError: device 'abacus' cannot be used here (Expected one of cpu, ...); write 'cpu' or 'cuda'
    """
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # the latter where PyTorch was built without CUDA
        said = str(error).partition("\n")[0]
        raise RangeError(f"device {str(device)!r} cannot be used here ({said}); write 'cpu' or 'cuda'") from error
