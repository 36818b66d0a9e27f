"""The scale of the data: from [0, 1] or whole grey levels to [-1, 1], where the model and its prior live, and back."""

from __future__ import annotations

import torch
from torch import Tensor

from ddpm_ref.errors import PrecisionError, RangeError
from ddpm_ref.torch.arguments import FLOATING, compute_dtype, readable, same_kind, within
from ddpm_ref.torch.decoder import INTEGERS, checked_level_count


def from_unit(u: Tensor) -> Tensor:
    r"""Data in [0, 1] on the scale of the model.

    .. math:: x = 2u - 1

    Args:
        u: any shape.

    Returns:
        Shape and dtype of ``u``.

    Raises:
        PrecisionError: ``u`` is not floating point.

    Limits: one rounding; values outside [0, 1] are carried along. Source: ho2020, section 3.3.

    >>> from_unit(torch.tensor([0.0, 0.5, 1.0]))
    tensor([-1.,  0.,  1.])
    """
    same_kind(None, u=u)
    return (2 * u.to(compute_dtype(u.dtype)) - 1).to(u.dtype)


def to_unit(x: Tensor) -> Tensor:
    r"""Data of the model's scale in [0, 1].

    .. math:: u = (x + 1)/2

    Args:
        x: any shape.

    Returns:
        Shape and dtype of ``x``.

    Raises:
        PrecisionError: ``x`` is not floating point.

    Limits: one rounding; values outside [-1, 1] are carried along. Source: ho2020, section 3.3.

    >>> to_unit(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([0.0000, 0.5000, 1.0000])
    """
    same_kind(None, x=x)
    return ((x.to(compute_dtype(x.dtype)) + 1) / 2).to(x.dtype)


def from_level_index(level_index: Tensor | int, levels: int = 256, dtype: torch.dtype = torch.float64) -> Tensor:
    r"""Whole levels, such as the grey levels of an image, on the scale of the model.

    .. math:: x_k = -1 + \frac{2k}{n-1}

    Args:
        level_index: k in ``0 .. levels - 1``, an integer tensor (or one int).
        levels: n, 2 to 2**20.
        dtype: float64 (as tables are by default), float32, bfloat16 or float16.

    Returns:
        Shape of ``level_index``, in ``dtype``: the level rounded to nearest.

    Raises:
        RangeError: a level or a number of levels out of range (levels are seen on CPU).
        PrecisionError: not an integer tensor, or another dtype.

    Limits: halves are rounded from float32, which for up to 2**12 levels is the same as at once. Source: ho2020,
    section 3.3.

    >>> from_level_index(torch.tensor([0, 51, 255]))
    tensor([-1.0000, -0.6000,  1.0000], dtype=torch.float64)
    """
    checked_level_count(levels)
    if isinstance(level_index, int) and not isinstance(level_index, bool):
        level_index = torch.tensor(level_index)
    if not isinstance(level_index, Tensor) or level_index.dtype not in INTEGERS:
        given = level_index.dtype if isinstance(level_index, Tensor) else type(level_index).__name__
        raise PrecisionError(f"level_index is {given}: write an integer tensor of whole levels 0..{levels - 1}")
    if dtype not in FLOATING:
        raise PrecisionError(f"dtype = {dtype}: write one of {', '.join(map(str, FLOATING))}")
    within(0, levels - 1, level_index=level_index)
    return _centre(level_index.to(compute_dtype(dtype)), levels).to(dtype)


def to_level_index(x: Tensor, levels: int = 256) -> Tensor:
    r"""The whole levels of data that lie on the grid of levels.

    .. math:: k = \frac{(n-1)(x + 1)}{2}

    Args:
        x: data in [-1, 1], each a level in the dtype of ``x``: off by at most what the three roundings of
            ``k * (2 / (n - 1)) - 1`` cost, or, in a dtype too coarse to tell that from the next level, rounded once.
        levels: n, 2 to 2**20.

    Returns:
        int64, shape of ``x``.

    Raises:
        RangeError: data outside [-1, 1] or between the levels, NaN among them (seen in eager mode on every device,
            because a whole number cannot carry NaN along); more levels than the dtype tells apart.
        PrecisionError: ``x`` is not floating point.

    Limits: data whose values may not be read (while compiling) are rounded to the nearest level. Source: ho2020,
    section 3.3.

    >>> to_level_index(torch.tensor([-1.0, 0.2, 1.0]))
    tensor([  0, 153, 255])
    """
    same_kind(None, x=x)
    last = checked_level_count(levels) - 1
    if last > 4 / torch.finfo(x.dtype).eps:
        raise RangeError(
            f"{x.dtype} does not tell {levels} levels apart: write x.float() from data that were not rounded to it"
        )
    data = x.detach().to(compute_dtype(x.dtype))
    nearest = ((data * last + last) / 2).round().clamp(0, last)
    if readable(x):
        _refuse_off_grid(x.detach(), data, _centre(nearest, levels), levels)
    return nearest.long()


def _centre(k: Tensor, levels: int) -> Tensor:
    # both whole numbers are exact, so that the quotient is rounded once
    return (2 * k - (levels - 1)) / (levels - 1)


def _refuse_off_grid(x: Tensor, data: Tensor, nearest: Tensor, levels: int) -> None:
    off = x != nearest.to(x.dtype)
    roundings = 3 * torch.finfo(x.dtype).eps / 2
    if 2 * roundings * (levels - 1) < 1:
        # the constant, the product, the difference; not ">", for NaN is off
        off &= ~((data - nearest).abs() <= roundings / (1 - roundings) * (1 + nearest.abs()))
    if not bool(off.any()):
        return
    outside = int(((data.abs() > 1) & off).sum())
    first, count = float(x[off][0]), int(off.sum())
    raise RangeError(
        f"of {x.numel()} values {outside / x.numel():.3g} lie outside [-1, 1] and {(count - outside) / x.numel():.3g} "
        f"between the {levels} levels -1 + 2k/{levels - 1}, the first is {first!r}: write from_level_index(k, {levels}) "
        "for whole levels k, from_unit(u) for data in [0, 1], or levels=None where a likelihood of continuous data is meant"
    )
