"""Images as an evaluation takes them: on the grid of their grey levels, or continuous."""

from __future__ import annotations

import torch
from torch import Tensor

from ddpm_ref.errors import PrecisionError, RangeError, ShapeError
from ddpm_ref.evaluation.terms import Data
from ddpm_ref.reference.analytic import refuse_outside
from ddpm_ref.torch.arguments import finite
from ddpm_ref.torch.scaling import from_level_index, to_level_index

_WHOLE = (torch.uint8, torch.int16, torch.int32, torch.int64)


def prepared(data: Tensor, levels: int | None, clip_x0: bool) -> Data:
    """Data after all that can be wrong with them was looked for.

    Args:
        data: ``(n, *event)``, n >= 2: grey levels 0..``levels`` - 1 as whole numbers, which the network is given as
            float32; or float32 or float64 on the grid :math:`-1 + 2k/(\\text{levels}-1)`; or, with ``levels`` None,
            any.
        levels: how many grey levels, >= 2; None for continuous data.
        clip_x0: whether predictions will be clipped to [-1, 1], where continuous data must then be.

    Raises:
        RangeError: data outside [-1, 1], off the grid, or not finite, with the share that is; fewer than 2.
        ShapeError, PrecisionError: no batch, or of another format.
    """
    if not isinstance(data, Tensor):
        raise PrecisionError(f"data are a {type(data).__name__}; write torch.as_tensor(data)")
    if data.ndim < 2 or not data.numel():
        raise ShapeError(f"data have shape {tuple(data.shape)}; write (n, ...), images with at least one component")
    if len(data) < 2:
        raise RangeError("data hold 1 image; a standard error needs at least 2, and a good one many")
    images = data.detach().cpu()
    if levels is None:
        return Data(_continuous(images, clip_x0), None, None)
    if isinstance(levels, bool) or not isinstance(levels, int) or levels < 2:
        raise RangeError(
            f"levels is {levels!r}; it is the number of grey levels, at least 2, or None for continuous data"
        )
    if images.dtype in _WHOLE:
        index = images.long()
        _refuse_other_levels(index, levels)
        return Data(from_level_index(index, levels).float(), index, levels)
    _refuse_format(images, " (or the levels themselves, as whole numbers)")
    refuse_outside(images.numpy(), -1.0, 1.0, "data", "scale them to [-1, 1], or give the levels themselves")
    return Data(images, to_level_index(images, levels), levels)


def _continuous(images: Tensor, clip_x0: bool) -> Tensor:
    _refuse_format(images, "")
    finite(data=images)
    if clip_x0:
        remedy = "a predicted x0 clipped to [-1, 1] never reaches them: scale the data, or write clip_x0=False"
        refuse_outside(images.numpy(), -1.0, 1.0, "data", remedy)
    return images


def _refuse_other_levels(index: Tensor, levels: int) -> None:
    outside = (index < 0) | (index >= levels)
    if bool(outside.any()):
        raise RangeError(
            f"{int(outside.sum())} of {index.numel()} numbers of data ({100 * float(outside.double().mean()):.3g} %) lie outside "
            f"0..{levels - 1}, e.g. {int(index[outside][0])}; give whole grey levels, or the right number of levels"
        )


def _refuse_format(images: Tensor, more: str) -> None:
    if images.dtype not in (torch.float32, torch.float64):
        raise PrecisionError(f"data are {images.dtype}; they are float32 or float64{more}, write data.float()")
