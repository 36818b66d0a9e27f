r"""The stages of a plan on tensors: what happens to a predicted x_0 before it is used."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.torch.arguments import compute_dtype, same_kind


def dynamic_threshold(x0: Tensor, percentile: float | int = 99.5, maximum: float | int = math.inf) -> Tensor:
    r"""Predicted data brought back to [-1, 1], by a scale of each sample's own.

    .. math:: \hat x_0 \leftarrow \mathrm{clip}(\hat x_0, -r, r)/r, \qquad
              r = \min\left(\max\left(1, q_p(|\hat x_0|)\right), r_{\max}\right)

    Args:
        x0: predicted data, ``(batch, *event)``; the percentile is taken over the axes after the first.
        percentile: in percent, ``1 < p <= 100``, interpolated linearly between order statistics.
        maximum: of the threshold r, >= 1.

    Returns:
        Shape and dtype of ``x0``, within [-1, 1]; halves are computed in float32.

    Raises:
        RangeError: a percentile or maximum outside its range.
        ShapeError: no batch axis.
        PrecisionError: not a floating-point tensor.

    Limits: sorts every sample; NaN stays NaN. Source: saharia2022, section 2.3.

    >>> dynamic_threshold(torch.tensor([[0.5, -2.0], [0.25, 0.5]]), percentile=100)
    tensor([[ 0.2500, -1.0000],
            [ 0.2500,  0.5000]])
    """
    same_kind(None, x0=x0)
    if not 1 < percentile <= 100 or not maximum >= 1:
        raise RangeError(
            f"percentile = {percentile!r}, maximum = {maximum!r}; the percentile lies in (1, 100], in percent, "
            "and the maximum is >= 1: write 99.5 and math.inf"
        )
    if x0.ndim == 0:
        raise ShapeError("x0 is a single number; dynamic thresholding needs a batch axis, write x0[None]")
    if x0.numel() == 0:
        return x0.clone()
    data = x0.to(compute_dtype(x0.dtype))
    sizes = data.abs().reshape(data.shape[0], -1).sort(dim=1).values
    last = sizes.shape[1] - 1
    position = percentile / 100 * last
    below = int(position)
    low, high = sizes[:, below], sizes[:, min(below + 1, last)]
    share = torch.full((), position - below, dtype=data.dtype, device=data.device)
    radius = (low + share * (high - low)).clamp(1.0, maximum).reshape((-1,) + (1,) * (x0.ndim - 1))
    return (data.clamp(-radius, radius) / radius).to(x0.dtype)
