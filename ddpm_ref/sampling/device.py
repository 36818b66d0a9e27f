"""Where to compute, found out before anything is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

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


@contextlib.contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Compute on so many threads of the processor, and afterwards on as many as before.

    On images of 64 pixels a second thread gains little; and where another process wants its core, the threads wait for
    each other so busily that training was seen to slow down from 9 steps a second to 0.3.

    Raises:
        RangeError: fewer than one.
    """
    if isinstance(count, bool) or count < 1:
        raise RangeError(f"threads is {count}; at least one is needed")
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
