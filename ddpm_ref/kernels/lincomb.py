"""Linear combinations in one pass over memory: a Triton kernel, and the custom op ``ddpm_ref::lincomb`` around it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Final, no_type_check

import torch
from torch import Tensor

from ddpm_ref.errors import PrecisionError, ShapeError
from ddpm_ref.kernels import HAS_TRITON, require_triton

if HAS_TRITON:
    import triton
    import triton.language as tl

__all__ = ["MAX_TERMS", "launch", "lincomb_kernel", "lincomb_op"]

MAX_TERMS: Final = 5
"""The longest combination that the op takes: x, prediction, two earlier predictions, noise."""

BLOCK: Final = 1024
"""Elements per program: with 4 warps, 8 per thread, so that even 16-bit formats move 16 bytes per access."""

INTERPRETED: Final = HAS_TRITON and os.environ.get("TRITON_INTERPRET") == "1"
"""Whether Triton emulates kernels on the CPU; Triton decides this when it is first imported."""


@no_type_check  # Triton reads the source of this function; nothing may be wrapped around it
def _lincomb_kernel(
    out, tensors, coefficients, strides, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr, COMPUTE: tl.constexpr
):
    r"""One tile of a linear combination, over ``(rows, columns)`` = (samples, elements of a sample).

    .. math::
        z_{bj} = \mathrm{round}\Big(\sum_{i=1}^{m} c_{i,b} \, v_{i,bj}\Big), \qquad m = 1, \dots, 5

    Args:
        out: pointer to ``rows * columns`` elements, written once.
        tensors: m pointers to as many elements each, read once.
        coefficients: m pointers to float32 or float64 numbers, gathered here.
        strides: for each coefficient 1 (one per row) or 0 (one for all).
        rows, columns: both at least 1.
        ROWS, BLOCK: extent of a tile in rows and columns, powers of two.
        COMPUTE: ``tl.float32``, or ``tl.float64`` for float64 tensors.

    The tuple's length m is known to the compiler, which unrolls the loop. Launch ``cdiv(rows, ROWS) * cdiv(columns,
    BLOCK)`` programs. Bytes moved: ``(m + 1) * rows * columns`` elements and the coefficients, the least possible.
    Limits: ``k = m + 1``, ``S = sum |c_i v_i|``; the compiler may fuse products and sums, which only removes roundings.
    Source: higham2002, section 3.1; the affine steps are ho2020, eq. (4), (7) and (11).
    """
    column_tiles = tl.cdiv(columns, BLOCK)
    tile = tl.program_id(0)
    row = (tile // column_tiles).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = (tile % column_tiles) * BLOCK + tl.arange(0, BLOCK)
    row_inside = row < rows
    inside = row_inside[:, None] & (column < columns)[None, :]
    offset = row[:, None] * columns + column[None, :]
    for i in tl.static_range(len(tensors)):
        # Conversion before arithmetic: the coefficient is rounded once, 16-bit data are exact in float32.
        c = tl.load(coefficients[i] + row * strides[i], mask=row_inside, other=0).to(COMPUTE)[:, None]
        v = tl.load(tensors[i] + offset, mask=inside, other=0).to(COMPUTE)
        total = c * v if i == 0 else total + c * v
    tl.store(out + offset, total.to(out.dtype.element_ty), mask=inside)


lincomb_kernel: Any = triton.jit(_lincomb_kernel) if HAS_TRITON else None
"""The kernel as Triton compiles it, or None without Triton."""


def launch(out: Tensor, coefficients: Sequence[Tensor], tensors: Sequence[Tensor], block: int = BLOCK) -> None:
    r"""Write the linear combination of ``tensors`` into ``out`` with the Triton kernel, and with nothing else.

    .. math::
        \mathrm{out} \leftarrow \sum_{i=1}^{m} c_i v_i

    Args:
        out: contiguous, of the shape and dtype of the tensors, sharing no memory with them.
        coefficients, tensors: as in `ddpm_ref.torch.lincomb.lincomb`, which checks them; 1 to 5 terms. Tensors that
            are not contiguous are copied first.
        block: elements per program, a power of two; large values suit the interpreter.

    Raises:
        MissingExtraError: Triton is not installed.
        PrecisionError: tensors not on a CUDA device, without Triton's interpreter.
        ShapeError: no term, or more than 5; ``out`` not contiguous.

    Limits: nothing but ``out`` is written, and nothing is launched for empty tensors. Source: ho2020, eq. (4).
    """
    require_triton()
    if not (out.is_cuda or INTERPRETED):
        raise PrecisionError(
            f"the Triton kernel was given tensors on {out.device}; it takes CUDA tensors, or CPU tensors where the "
            "environment holds TRITON_INTERPRET=1 before triton is first imported: call ddpm_ref.torch.lincomb instead"
        )
    if not 1 <= len(tensors) <= MAX_TERMS or not out.is_contiguous():
        raise ShapeError(
            f"the Triton kernel was given {len(tensors)} terms and an output of strides {out.stride()}; it takes 1 to "
            f"{MAX_TERMS} terms and a contiguous output: call ddpm_ref.torch.lincomb, which takes any"
        )
    if out.numel() == 0:
        return
    leading = out.shape[: max(c.ndim for c in coefficients)]
    rows = leading.numel()
    columns = out.numel() // rows
    width = min(block, triton.next_power_of_2(columns))
    height = min(max(block // width, 1), triton.next_power_of_2(rows))
    grid = (triton.cdiv(rows, height) * triton.cdiv(columns, width),)
    # Triton launches on the current device, which need not be that of the tensors.
    with torch.cuda.device(out.device) if out.is_cuda else nullcontext():
        lincomb_kernel[grid](
            out,
            tuple(v.contiguous() for v in tensors),
            tuple(_per_row(c, leading) for c in coefficients),
            tuple(min(c.ndim, 1) for c in coefficients),
            rows,
            columns,
            ROWS=height,
            BLOCK=width,
            COMPUTE=tl.float64 if out.dtype == torch.float64 else tl.float32,
        )


def _per_row(coefficient: Tensor, leading: torch.Size) -> Tensor:
    """The coefficient with one number per row, or untouched if it is one number for all rows."""
    if coefficient.ndim == 0:
        return coefficient
    return (
        coefficient.reshape(coefficient.shape + (1,) * (len(leading) - coefficient.ndim)).expand(leading).contiguous()
    )


@torch.library.custom_op(
    "ddpm_ref::lincomb", mutates_args=(), schema="(Tensor[] coefficients, Tensor[] tensors) -> Tensor"
)
def lincomb_op(coefficients: Sequence[Tensor], tensors: Sequence[Tensor]) -> Tensor:
    r"""The op ``torch.ops.ddpm_ref.lincomb``: the kernel where it can run, plain PyTorch elsewhere; contiguous result.

    .. math::
        z = \sum_{i=1}^{m} c_i v_i

    Args:
        coefficients, tensors: as in `ddpm_ref.torch.lincomb.lincomb`, which checks them; nothing is checked here.

    Returns:
        Tensor of the shape and dtype of ``tensors``, contiguous.

    Raises:
        ShapeError: on CUDA, more than 5 terms.

    Limits: bound as the kernel's, ``k = m + 1``, ``S = sum |c_i v_i|``. Source: ho2020, eq. (4).
    """
    out = torch.empty_like(tensors[0], memory_format=torch.contiguous_format)
    if HAS_TRITON and (out.is_cuda or INTERPRETED):
        launch(out, coefficients, tensors)
        return out
    compute = torch.float64 if out.dtype == torch.float64 else torch.float32
    total = torch.zeros_like(out, dtype=compute)
    for c, v in zip(coefficients, tensors, strict=True):
        total.addcmul_(c.to(compute).reshape(c.shape + (1,) * (v.ndim - c.ndim)), v.to(compute))
    return out.copy_(total)


@lincomb_op.register_fake
def _shape_only(coefficients: Sequence[Tensor], tensors: Sequence[Tensor]) -> Tensor:
    return torch.empty_like(tensors[0], memory_format=torch.contiguous_format)


def _remember(ctx: Any, inputs: tuple[list[Tensor], list[Tensor]], output: Tensor) -> None:
    coefficients, tensors = inputs
    ctx.terms = len(tensors)
    ctx.save_for_backward(*coefficients, *tensors)


def _gradients(ctx: Any, grad: Tensor) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """``dL/dv_i = c_i dL/dz``, one term; ``dL/dc_i``, the sum of ``v_i dL/dz`` over the elements that c_i serves."""
    saved = ctx.saved_tensors
    coefficients, tensors = saved[: ctx.terms], saved[ctx.terms :]
    needs_coefficient, needs_tensor = ctx.needs_input_grad
    return (
        [
            _inner(c, v, grad) if need else None
            for c, v, need in zip(coefficients, tensors, needs_coefficient, strict=True)
        ],
        [lincomb_op([c], [grad]) if need else None for c, need in zip(coefficients, needs_tensor, strict=True)],
    )


def _inner(coefficient: Tensor, tensor: Tensor, grad: Tensor) -> Tensor:
    """The inner product of tensor and gradient over the axes along which the coefficient is constant."""
    compute = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    product = tensor.to(compute) * grad.to(compute)
    return product.unsqueeze(-1).flatten(coefficient.ndim).sum(-1).to(coefficient.dtype)


lincomb_op.register_autograd(_gradients, setup_context=_remember)
