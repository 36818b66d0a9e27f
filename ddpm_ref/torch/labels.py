r"""Labels on tensors, and what a classifier says of them: per-example gradients, and labels dropped for training."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ddpm_ref.errors import PrecisionError, RangeError, ShapeError
from ddpm_ref.torch.arguments import compute_dtype, finite, readable, same_kind

LogProbability: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def drop_condition(label: Tensor, uniform: Tensor, probability: float | int, null_label: int) -> Tensor:
    r"""Labels for classifier-free training: each is replaced on its own, where its uniform number is below p.

    Args:
        label: classes ``0 .. null_label - 1``, int64.
        uniform: independent uniform numbers in [0, 1), one per label, in its shape.
        probability: p in [0, 1].
        null_label: what stands for no label: the number of classes.

    Returns:
        int64, in the shape of ``label``.

    Raises:
        RangeError: a label or probability out of range.
        ShapeError: not one number per label.

    Source: ho2022, algorithm 1.
    """
    label = checked_labels(label, null_label)
    if label.shape != uniform.shape:
        raise ShapeError(f"label is {tuple(label.shape)}, uniform {tuple(uniform.shape)}: write one number per label")
    if isinstance(probability, bool) or not 0 <= probability <= 1:
        raise RangeError(f"probability = {probability!r} lies outside [0, 1]: 0.1 is usual")
    return label.masked_fill(uniform < probability, null_label)


def checked_labels(label: Tensor, classes: int, *, null: bool = False) -> Tensor:
    """Integer labels ``0 .. classes - 1`` (with ``null``: and ``classes``, no label) as int64; `RangeError` otherwise."""
    last = classes if null else classes - 1
    if not isinstance(label, Tensor) or label.dtype not in (torch.int64, torch.int32):
        given = label.dtype if isinstance(label, Tensor) else type(label).__name__
        raise RangeError(f"label is {given}: labels are an int64 tensor of classes 0..{last}, write torch.tensor(...)")
    if readable(label):
        outside = (label < 0) | (label > last)
        if bool(outside.any()):
            hint = f"; {classes} stands for no label" if null else ""
            raise RangeError(f"label holds {int(label[outside][0])}, and the classes are 0..{last}{hint}")
    return label.long()


def log_softmax_gradient(logits: Tensor, jacobian: Tensor, label: Tensor) -> Tensor:
    r"""Gradient of a class's log-probability, from logits and their gradients.

    .. math:: \sum_{k \ne y} p_k\,(\nabla z_y - \nabla z_k)

    Args:
        logits: z, ``(batch, classes)``.
        jacobian: gradients of each with respect to the input, ``(batch, classes, *event)``.
        label: y, int64 ``(batch,)``.

    Returns:
        ``(batch, *event)``, dtype of ``logits``.

    Raises:
        ShapeError, RangeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: relative accuracy also where the class is nearly certain. Source: dhariwal2021, section 4.
    """
    same_kind(None, logits=logits, jacobian=jacobian)
    finite(logits=logits, jacobian=jacobian)
    if logits.ndim != 2 or jacobian.shape[:2] != logits.shape or label.shape != logits.shape[:1]:
        raise ShapeError(
            f"logits {tuple(logits.shape)}, jacobian {tuple(jacobian.shape)}, label {tuple(label.shape)}: "
            "write (batch, classes), (batch, classes, *event) and (batch,)"
        )
    label, compute = checked_labels(label, logits.shape[1]), compute_dtype(logits.dtype)
    slopes = jacobian.to(compute)
    own = slopes[torch.arange(len(label), device=label.device), label]
    pull = own[:, None] - slopes
    return torch.einsum("bk,bk...->b...", logits.to(compute).softmax(1), pull).to(logits.dtype)


def classifier_gradient(log_probability: LogProbability, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
    r"""Gradient of :math:`\log f(y\mid x)` with respect to the *input*, for each example, by automatic differentiation.

    Args:
        log_probability: a classifier, called as ``log_probability(x, t)``; returns logits or log-probabilities
            ``(batch, classes)``: the logarithm of the softmax is taken of them, which leaves log-probabilities as they
            are.
        x: noisy data, ``(batch, *event)``.
        t: what the classifier takes as time, ``(batch,)``; handed on unseen.
        label: y, int64 ``(batch,)``.

    Returns:
        Shape and dtype of ``x``, detached; also inside `torch.no_grad` and `torch.inference_mode`. The gradients of the
        classifier's own weights are not touched.

    Raises:
        PrecisionError: a classifier without gradient with respect to x, or one that returned no floating tensor.
        ShapeError: an answer that is not ``(batch, classes)``, or not one label per example.
        RangeError: a label that is none of its classes; a gradient that is not finite.

    Limits: examples must not influence each other inside the classifier (no batch statistics: evaluation mode), or
    each gets the gradient of all. Source: dhariwal2021, section 4 and its code.

    >>> pair = lambda x, t: torch.stack([x[:, 0], -x[:, 0]], dim=1)   # log f(0 | x) = -log(1 + exp(-2 x))
    >>> classifier_gradient(pair, torch.zeros(1, 1), torch.ones(1), torch.tensor([0]))
    tensor([[1.]])
    """
    same_kind(None, x=x)
    if label.shape != x.shape[:1]:
        raise ShapeError(f"label is {tuple(label.shape)} beside x {tuple(x.shape)}: write one label per example")
    with torch.inference_mode(False), torch.enable_grad():
        seen = x.detach().clone().requires_grad_()
        logits = log_probability(seen, t.clone() if t.is_inference() else t)
        if not isinstance(logits, Tensor) or not logits.dtype.is_floating_point:
            given = f"{logits.dtype}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
            raise PrecisionError(f"the classifier returned {given}: write a function that returns logits as a tensor")
        if logits.ndim != 2 or len(logits) != len(x) or not logits.shape[1]:
            raise ShapeError(
                f"the classifier returned shape {tuple(logits.shape)} for x of shape {tuple(x.shape)}: "
                f"write one logit per class, ({len(x)}, classes)"
            )
        chosen = checked_labels(label.clone() if label.is_inference() else label, logits.shape[1])
        if not logits.requires_grad:
            raise PrecisionError(
                "the classifier has no gradient: its answer does not depend on x differentiably; "
                "take out detach(), no_grad(), argmax and NumPy"
            )
        # Examples do not see each other, so that the gradient of the sum is each one's own.
        wide = logits.to(compute_dtype(logits.dtype)).log_softmax(1).gather(1, chosen[:, None]).sum()
        (gradient,) = torch.autograd.grad(wide, seen, allow_unused=True)
    if gradient is None:
        raise PrecisionError(
            "the classifier has no gradient: its answer depends on its weights, but not on x; write one that reads x"
        )
    finite(**{"the classifier's gradient": gradient})
    return gradient.detach()
