"""Linear combinations: the one operation on large tensors in the forward process and in every affine sampler."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddpm_ref.errors import PrecisionError, ShapeError
from ddpm_ref.kernels import HAS_TRITON

__all__ = ["eager_lincomb", "lincomb"]

COEFFICIENT_DTYPES = (torch.float32, torch.float64)
TENSOR_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def lincomb(coefficients: Sequence[Tensor | float | int], tensors: Sequence[Tensor]) -> Tensor:
    r"""The linear combination of tensors with one coefficient per tensor, or per sample and tensor.

    .. math::
        z = \sum_{i=1}^{m} c_i v_i

    Args:
        coefficients: m float32 or float64 tensors, each 0-dim or shaped like leading axes of the tensors, over whose
            other axes it is constant. Numbers are refused: compiled code would read them as float64 and recompile for
            each.
        tensors: m >= 1 tensors of one shape, dtype (float64, float32, bfloat16 or float16) and device.

    Returns:
        Tensor of the shape and dtype of ``tensors``: float64 is computed in float64, everything else in float32 from
        coefficients rounded to it, and the result is rounded once to the dtype of the tensors. It never shares memory
        with an input.

    Raises:
        ShapeError: no term, not one coefficient per tensor, tensors of several shapes, or a coefficient that is neither
            0-dim nor shaped like leading axes.
        PrecisionError: another dtype than those above, several dtypes among the tensors, or several devices.

    Examples:
        >>> x, noise = torch.ones(2, 3), torch.ones(2, 3)
        >>> lincomb([torch.tensor([1.0, 2.0]), torch.tensor(0.5)], [x, noise])
        tensor([[1.5000, 1.5000, 1.5000],
                [2.5000, 2.5000, 2.5000]])

    Limits: error at most the bound of `ddpm_ref.arithmetic.Expected` with ``k = m + 1`` roundings and scale
    ``S = sum |c_i v_i|``: one rounding of the coefficient, one of the product, at most m - 1 of sums, in any order,
    with or without fused multiply-add. Differentiable in coefficients and tensors, any number of times. Infinite and
    NaN inputs follow IEEE 754 (looking for them would stall a GPU). On CUDA, up to five terms run as one Triton kernel
    where Triton is installed; the result is then contiguous, and `torch.func` transforms need `eager_lincomb`.
    Source: higham2002, section 3.1.
    """
    _check_terms(coefficients, tensors)
    weights = [_checked_coefficient(i, c, tensors[0]) for i, c in enumerate(coefficients)]
    if HAS_TRITON and tensors[0].is_cuda:
        from ddpm_ref.kernels.lincomb import MAX_TERMS, lincomb_op  # costs an import of triton

        if len(weights) <= MAX_TERMS:
            fused: Tensor = lincomb_op(weights, list(tensors))
            return fused
    return eager_lincomb(weights, tensors)


def eager_lincomb(coefficients: Sequence[Tensor], tensors: Sequence[Tensor]) -> Tensor:
    r"""The sum from left to right in plain PyTorch: what `lincomb` does without a kernel, and without its checks.

    .. math::
        z = (\dots((c_1 v_1) + c_2 v_2) + \dots) + c_m v_m

    Args:
        coefficients, tensors: as for `lincomb`.

    Returns:
        As `lincomb`.

    Limits: as `lincomb`; wrong input gives PyTorch's errors. Source: higham2002, section 3.1.
    """
    dtype = tensors[0].dtype
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    rank = tensors[0].ndim
    terms = [
        (c.to(compute).reshape(c.shape + (1,) * (rank - c.ndim)), v.to(compute))
        for c, v in zip(coefficients, tensors, strict=True)
    ]
    total = terms[0][0] * terms[0][1]
    for c, v in terms[1:]:
        total = torch.addcmul(total, c, v)
    return total.to(dtype)


def _check_terms(coefficients: Sequence[Tensor | float | int], tensors: Sequence[Tensor]) -> None:
    """Refuse terms that are missing, or tensors that differ in shape, dtype or device."""
    if len(tensors) == 0 or len(coefficients) != len(tensors):
        raise ShapeError(
            f"lincomb was given {len(coefficients)} coefficients and {len(tensors)} tensors; it takes one coefficient "
            "per tensor and at least one tensor: write lincomb([c_1, ..., c_m], [v_1, ..., v_m])"
        )
    first = tensors[0]
    if first.dtype not in TENSOR_DTYPES:
        raise PrecisionError(
            f"lincomb was given tensors of {first.dtype}; allowed are {_names(TENSOR_DTYPES)}: convert them first, "
            "for instance v.to(torch.float32)"
        )
    for i, tensor in enumerate(tensors):
        if tensor.shape != first.shape:
            raise ShapeError(
                f"tensor {i} of lincomb has shape {tuple(tensor.shape)} and tensor 0 has {tuple(first.shape)}; all "
                "must have one shape: write v.expand_as(...) where broadcasting is meant"
            )
        if tensor.dtype != first.dtype:
            raise PrecisionError(
                f"tensor {i} of lincomb is {tensor.dtype} and tensor 0 is {first.dtype}; all must have one dtype: "
                f"write v.to({first.dtype}) where that rounding is meant"
            )
        if tensor.device != first.device:
            raise PrecisionError(
                f"tensor {i} of lincomb is on {tensor.device} and tensor 0 is on {first.device}; all must be on one "
                f"device: write v.to({str(first.device)!r})"
            )


def _checked_coefficient(i: int, coefficient: Tensor | float | int, like: Tensor) -> Tensor:
    """The coefficient, if it is a tensor whose dtype, device and shape fit the tensors."""
    if not isinstance(coefficient, Tensor):
        raise PrecisionError(
            f"coefficient {i} of lincomb is {coefficient!r}, a {type(coefficient).__name__}; allowed are tensors of "
            f"{_names(COEFFICIENT_DTYPES)}: write torch.tensor({coefficient!r}, dtype=torch.float64, device=...)"
        )
    if coefficient.dtype not in COEFFICIENT_DTYPES:
        raise PrecisionError(
            f"coefficient {i} of lincomb is {coefficient.dtype}; allowed are {_names(COEFFICIENT_DTYPES)}: gather it "
            "from a float64 table instead of converting it"
        )
    if coefficient.device != like.device:
        raise PrecisionError(
            f"coefficient {i} of lincomb is on {coefficient.device} and the tensors are on {like.device}; all must be "
            f"on one device: write c.to({str(like.device)!r})"
        )
    if coefficient.shape != like.shape[: coefficient.ndim]:
        raise ShapeError(
            f"coefficient {i} of lincomb has shape {tuple(coefficient.shape)} and the tensors are {tuple(like.shape)}; "
            "allowed is a 0-dim coefficient or one shaped like leading axes of the tensors: write c.flatten() for a "
            "column of per-sample coefficients"
        )
    return coefficient


def _names(dtypes: Sequence[torch.dtype]) -> str:
    return ", ".join(str(dtype) for dtype in dtypes)
