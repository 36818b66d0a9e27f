r"""Labels, and what a classifier says of them: the gradient of a log-probability, and labels dropped for training.

Classes are the whole numbers ``0 .. classes - 1``; ``classes`` itself is the null label, which stands for none.
"""

from __future__ import annotations

import numpy as np

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.reference.arguments import real, rectangular
from ddpm_ref.typing import Array, ArrayLike, IntArray, Real


def drop_condition(label: ArrayLike, uniform: ArrayLike, probability: Real, null_label: int) -> IntArray:
    r"""Labels for classifier-free training: each replaced by the null label with a probability of its own.

    .. math:: y_i \leftarrow \varnothing \quad\text{where}\quad u_i < p, \qquad u_i\sim\mathcal U[0, 1)

    Args:
        label: classes, whole numbers in ``0 .. null_label - 1``, any shape.
        uniform: one independent uniform number per label, same shape.
        probability: p in [0, 1]; 0.1 to 0.2 is usual. At 0 the unconditional network, at 1 the conditional one is
            never trained.
        null_label: the label that stands for no label: the number of classes.

    Raises `RangeError` for labels out of range and a p outside [0, 1], `ShapeError`. Law: ``guidance/drop_condition``.
    Source: ho2022, algorithm 1.

    >>> drop_condition([3, 1, 4], [0.05, 0.5, 0.1], probability=0.1, null_label=10)
    array([10,  1,  4])
    """
    y, u = label_array(label, null_label), real(uniform, "uniform")
    if y.shape != u.shape:
        raise ShapeError(f"label has shape {y.shape}, uniform {u.shape}; every label needs a number of its own")
    if isinstance(probability, bool) or not 0 <= probability <= 1:
        raise RangeError(f"probability = {probability!r}; it lies in [0, 1], e.g. 0.1")
    return np.where(u < probability, np.int64(null_label), y)


def label_array(label: ArrayLike, classes: int, *, null: bool = False) -> IntArray:
    """Labels in ``0 .. classes - 1`` as int64 (with ``null`` also ``classes``, no label), or a `RangeError`."""
    y = rectangular(label, "label")
    last = classes if null else classes - 1
    allowed = f"whole numbers 0..{last}" + (f" ({classes} is no label)" if null else "")
    if y.dtype.kind not in "iu" and y.size:
        raise RangeError(f"label has dtype {y.dtype}; labels are {allowed}")
    outside = (y < 0) | (y > last)
    if outside.any():
        raise RangeError(f"label contains {int(y[outside].flat[0])}; labels are {allowed}")
    return y.astype(np.int64)


def log_softmax_gradient(logits: ArrayLike, jacobian: ArrayLike, label: ArrayLike) -> Array:
    r"""Gradient of the log-probability of a class, from the classifier's logits and their gradients.

    .. math:: \nabla_x\log\mathrm{softmax}(z)_y = \sum_{k\ne y} p_k\,(\nabla z_y - \nabla z_k)

    Args:
        logits: z, ``(batch, classes)``.
        jacobian: :math:`\nabla_x z_k`, ``(batch, classes, *event)``.
        label: y, ``(batch,)``, in ``0 .. classes - 1``.

    Returns:
        ``(batch, *event)``: of the *logarithm* of the probability (that of the probability itself is p times smaller),
        with respect to the *input*.

    Raises `ShapeError`, `RangeError`. Limits: keeps its relative accuracy where the class is nearly certain; the
    gradients of all classes, weighted by their probabilities, sum to 0. Law: ``guidance/log_softmax_gradient``. Source:
    dhariwal2021, section 4.

    >>> log_softmax_gradient([[0.0, 0.0]], [[[1.0], [3.0]]], [1])
    array([[1.]])
    """
    z, slopes = real(logits, "logits"), real(jacobian, "jacobian")
    if z.ndim != 2 or not z.shape[1] or slopes.shape[:2] != z.shape:
        raise ShapeError(
            f"logits {z.shape}, jacobian {slopes.shape}; give (batch, classes) and (batch, classes, *event)"
        )
    y = label_array(label, z.shape[1])
    if y.shape != z.shape[:1]:
        raise ShapeError(f"label has shape {y.shape} beside logits {z.shape}; give one label per example")
    return _pull_of_others(z, slopes, y)


def _pull_of_others(logits: Array, slopes: Array, label: IntArray) -> Array:
    """What the other classes pull, weighted by their probabilities; arguments are checked."""
    rows = np.arange(len(logits))
    shares = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    shares = shares / shares.sum(axis=1, keepdims=True)
    difference = slopes[rows, label][:, None] - slopes
    return np.asarray(np.einsum("bk,bk...->b...", shares, difference))
