"""The public door of `reference`: arguments are checked and given their shape here, once, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_ref.errors import LevelError, RangeError, ShapeError
from ddpm_ref.typing import Array, ArrayLike, IntArray


def rectangular(value: ArrayLike, name: str) -> NDArray[Any]:
    """``value`` as an array of whatever dtype, or a `ShapeError` for nested lists of unequal lengths."""
    try:
        return np.asarray(value)
    except ValueError:
        raise ShapeError(f"{name} is nested with rows of unequal lengths; give a rectangular array") from None


def numbers(value: ArrayLike, name: str) -> Array:
    """``value`` as a float64 array (float32 and integers are exact in it), NaN and infinities included."""
    array = rectangular(value, name)
    if array.dtype.kind not in "fiu":
        raise RangeError(f"{name} has dtype {array.dtype}; give real numbers, for example a float64 array")
    return array.astype(np.float64)


def real(value: ArrayLike, name: str) -> Array:
    """``value`` as a finite float64 array, or a named error."""
    array = numbers(value, name)
    array = array.astype(np.float64)
    finite = np.isfinite(array)
    if not finite.all():
        index = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise RangeError(f"{name} contains {array[index]} at index {index}; all entries must be finite")
    return array


def positive(value: ArrayLike, name: str, *, zero: bool = False) -> Array:
    """A finite array of variances: positive, or not negative if ``zero`` is allowed."""
    array = real(value, name)
    wrong = array < 0 if zero else array <= 0
    if wrong.any():
        worst = float(array[wrong].min())
        raise RangeError(f"{name} contains {worst}; variances must be {'>= 0' if zero else '> 0'}")
    return array


def one_of(name: str, value: object, choices: Iterable[str]) -> None:
    """Refuse an option that is not among ``choices``, of whatever type it is."""
    if value not in list(choices):
        raise RangeError(f"{name} = {value!r} is not known; write one of {', '.join(choices)}")


def same_shape(**arrays: Array) -> tuple[int, ...]:
    """The common broadcast shape of named arrays, or a `ShapeError` that names them."""
    try:
        return np.broadcast_shapes(*(a.shape for a in arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {a.shape}" for name, a in arrays.items())
        raise ShapeError(f"shapes do not fit together: {shapes}; give equal shapes or shapes that broadcast") from None


def level(value: ArrayLike, T: int, *, lowest: int = 0, name: str = "t") -> IntArray:
    """Whole levels ``lowest <= value <= T`` as int64; refuses booleans, fractions and anything outside."""
    array = rectangular(value, name)
    allowed = f"whole numbers from {lowest} to T = {T} (level 0 is clean data)"
    if array.dtype.kind not in "iu":
        given = f"{value!r}" if array.ndim == 0 else f"an array of dtype {array.dtype}"
        raise LevelError(f"{name} was given as {given}; levels are {allowed}; write an int or an integer array")
    array = array.astype(np.int64)
    outside = (array < lowest) | (array > T)
    if outside.any():
        raise LevelError(f"{name} contains level {int(array[outside].flat[0])}; levels here are {allowed}")
    return array


def pair(t: ArrayLike, s: ArrayLike, T: int) -> tuple[IntArray, IntArray]:
    """Steps ``T >= t > s >= 0`` as int64 arrays of one shape (a scalar serves for all)."""
    t, s = level(t, T, lowest=1), level(s, T, name="s")
    if t.shape != s.shape and t.ndim and s.ndim:
        raise ShapeError(f"t has shape {t.shape} and s {s.shape}; give scalars or arrays of one shape")
    t, s = np.broadcast_arrays(t, s)
    if (s >= t).any():
        at = np.argwhere(s >= t)[0]
        raise LevelError(f"step from t = {int(t[tuple(at)])} to s = {int(s[tuple(at)])}; a step needs t > s")
    return t, s


def expand(coefficient: Array, shape: tuple[int, ...]) -> Array:
    """A coefficient per level, given the shape of the leading axes of ``shape``, made to broadcast to the right."""
    if coefficient.shape != shape[: coefficient.ndim]:
        raise ShapeError(
            f"t has shape {coefficient.shape}, data {shape}; t must be a scalar or have the shape of the leading axes of the data"
        )
    return coefficient.reshape(coefficient.shape + (1,) * (len(shape) - coefficient.ndim))


def spread(levels: IntArray, shape: tuple[int, ...]) -> IntArray:
    """A level for every number of data of ``shape``, from levels given as for `expand`."""
    expand(np.zeros(levels.shape), shape)
    return np.broadcast_to(levels.reshape(levels.shape + (1,) * (len(shape) - levels.ndim)), shape)
