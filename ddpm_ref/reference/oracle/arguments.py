"""What the oracles ask of the laws they are given, checked once."""

from __future__ import annotations

import numpy as np

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.reference.arguments import positive, real
from ddpm_ref.typing import Array, ArrayLike, BoolArray, Real

MEMORY = 2**28
"""Bytes that an oracle's temporaries may take by default."""


def log_weights(value: ArrayLike, n: int) -> Array:
    """Logarithms of ``n`` positive weights that sum to one; of the weights divided by their sum, to be exact."""
    weights = real(value, "weights")
    if weights.shape != (n,):
        raise ShapeError(f"weights have shape {weights.shape} for {n} components; give shape ({n},)")
    if (weights <= 0).any():
        raise RangeError(f"weights contain {weights.min()}; they must be > 0: leave out components without weight")
    total = float(weights.sum())
    # n roundings of the sum, and one of each weight if they were quotients.
    if abs(total - 1) > (n + 1) * np.finfo(np.float64).eps:
        raise RangeError(f"weights sum to {total!r}, not to 1; write weights / weights.sum()")
    return np.asarray(np.log(weights / total))


def principal_axes(covariances: Array, name: str) -> tuple[Array, Array]:
    """Variances ``(n, d)`` and axes ``(n, d, d)`` of symmetric, positive definite matrices."""
    asymmetric = (covariances != covariances.swapaxes(-1, -2)).any(axis=(-2, -1))
    if asymmetric.any():
        raise RangeError(
            f"{name}{_which(asymmetric)} is not symmetric; symmetrise it first, (C + C.swapaxes(-1, -2)) / 2"
        )
    variances, axes = np.linalg.eigh(covariances)
    # What rounding alone may leave of an eigenvalue 0 (backward error of the symmetric eigenproblem).
    floor = covariances.shape[-1] * np.finfo(np.float64).eps * variances[:, -1]
    flat = variances[:, 0] <= floor
    if flat.any():
        raise RangeError(
            f"{name}{_which(flat)} is not positive definite (least eigenvalue {variances[flat][0, 0]:.3g}); "
            "add a multiple of the identity, or use Finite for points"
        )
    return np.asarray(variances), np.asarray(axes)


def vectors(value: ArrayLike, name: str, d: int) -> Array:
    """``value`` of shape ``(*batch, d)``."""
    array = real(value, name)
    if array.shape[-1:] != (d,):
        raise ShapeError(f"{name} has shape {array.shape} beside data of {d} dimensions; give shape (*batch, {d})")
    return array


def read_only(array: Array) -> Array:
    """``array``, not to be written to: whoever shares an oracle shares the truth."""
    array.setflags(write=False)
    return array


def squared(std: Real) -> float:
    """The variance of a standard deviation that is not negative."""
    return float(positive(std, "std", zero=True)) ** 2


def _which(wrong: BoolArray) -> str:
    return f"[{int(np.flatnonzero(wrong)[0])}]" if len(wrong) > 1 else ""
