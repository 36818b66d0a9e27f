r"""Grey levels to the interval [-1, 1] and back: :math:`x = 2u - 1` for u in [0, 1], :math:`x_k = -1 + 2k/(L-1)` for levels.

The prior is a normal law of variance 1, predictions are clipped to [-1, 1], and the bins of the decoder lie around the levels:
all of it is wrong for data on another scale. So data that are not on this one are refused, with the fraction of them that is
not.
"""

from __future__ import annotations

import numpy as np

from ddpm_ref.arithmetic.bounds import gamma
from ddpm_ref.errors import RangeError
from ddpm_ref.reference.arguments import real, rectangular
from ddpm_ref.typing import AnyArray, Array, ArrayLike, BoolArray, IntArray, Real

MOST_LEVELS = 2**31  # twice a level is an integer that int64 and float64 hold
SCALING = 3  # roundings of a constant or quotient, of its product, and of the difference: any way to scale u or k


def from_unit(u: ArrayLike) -> Array:
    r"""Data in [0, 1] to [-1, 1]: :math:`x = 2u - 1`, rounded once.

    Args:
        u: any shape.

    Returns an array of the same shape. Raises `RangeError` for numbers outside [0, 1], such as grey levels 0..255.
    Law: ``scaling/from_unit``. Source: ho2020, section 3.3.

    >>> from_unit([0.0, 0.25, 1.0]).tolist()
    [-1.0, -0.5, 1.0]
    """
    u = real(u, "u")
    _refuse(u, (u < 0) | (u > 1), "u", "lie outside [0, 1]", "grey levels go through from_level_index")
    return np.asarray(2 * u - 1)


def to_unit(x: ArrayLike) -> Array:
    r"""Data in [-1, 1] to [0, 1]: :math:`u = (x + 1)/2`, rounded once.

    Args:
        x: any shape.

    Returns an array of the same shape. Raises `RangeError` for numbers outside [-1, 1]: clip samples first.
    Law: ``scaling/to_unit``. Source: ho2020, section 3.3.

    >>> to_unit([-1.0, -0.5, 1.0]).tolist()
    [0.0, 0.25, 1.0]
    """
    x = real(x, "x")
    _refuse(x, np.abs(x) > 1, "x", "lie outside [-1, 1]", "clip samples, e.g. by np.clip(x, -1, 1)")
    return np.asarray((x + 1) / 2)


def from_level_index(level_index: ArrayLike, levels: Real = 256) -> Array:
    r"""Grey levels to [-1, 1]: :math:`x_k = -1 + 2k/(L-1)`, the float64 nearest to it.

    Args:
        level_index: whole numbers ``k`` from 0 to ``levels - 1``, any shape.
        levels: how many levels there are, >= 2.

    Returns an array of the same shape. Raises `RangeError`. Law: ``scaling/from_level_index``. Source: ho2020, section 3.3.

    >>> from_level_index([0, 1, 2], levels=3).tolist()
    [-1.0, 0.0, 1.0]
    """
    count = level_count(levels)
    return _nearest(whole_level_index(level_index, count), count, np.dtype(np.float64))


def to_level_index(x: ArrayLike, levels: Real = 256) -> IntArray:
    r"""Which grey level each number is: the inverse of `from_level_index`.

    A number is on the grid if some way to scale a level in the number's own format leads to it: in three roundings,
    :math:`|x - x_k| \le \gamma_3(1 + |x_k|)`. So float32 data may come as float32, and made from levels by
    ``2 * (k / 255) - 1`` as well as by ``k / 127.5 - 1``.

    Args:
        x: any shape, float64 or a narrower format.
        levels: how many levels there are, >= 2.

    Returns an int64 array of the same shape. Raises `RangeError` for numbers outside [-1, 1] or between the levels, and names the
    fraction of them; for more levels than the format can tell apart. Law: ``scaling/to_level_index``. Source: ho2020, section 3.3.

    >>> to_level_index(from_level_index([0, 100, 255])).tolist()
    [0, 100, 255]
    >>> to_level_index([0.0, 1.0, 1.0, 1.0])
    Traceback (most recent call last):
    ddpm_ref.errors.RangeError: 1 of 4 numbers of x (25 %) lie between the levels -1 + 2 k / 255, e.g. 0.0; ...
    """
    count, array = level_count(levels), rectangular(x, "x")
    format_ = array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)
    values = real(array, "x")
    slack = gamma(SCALING, float(np.finfo(format_).eps) / 2)
    if 2 * slack >= 1 / (count - 1):  # at the ends of [-1, 1] two levels could both be meant
        raise RangeError(f"levels = {count} are more than numbers of {format_} tell apart; give float64 data")
    _refuse(values, np.abs(values) > 1 + 2 * slack, "x", "lie outside [-1, 1]", "scale them, e.g. by from_unit")
    k = np.clip(np.rint((values + 1) / 2 * (count - 1)), 0, count - 1).astype(np.int64)
    level = _nearest(k, count, format_)
    _refuse(
        values,
        np.abs(values - level) > slack * (1 + np.abs(level)),
        "x",
        f"lie between the levels -1 + 2 k / {count - 1}",
        "give data as they were stored, neither resampled nor with noise, or the right number of levels",
    )
    return np.asarray(k)


def level_count(levels: Real) -> int:
    """The number of grey levels as an int, or a `RangeError`."""
    number = np.ndim(levels) == 0 and np.asarray(levels).dtype.kind in "iuf"
    if not number or not 2 <= levels <= MOST_LEVELS or levels % 1:
        raise RangeError(f"levels = {levels!r}; write a whole number from 2 to 2**31, 256 for images of 8 bits")
    return int(levels)


def whole_level_index(level_index: ArrayLike, levels: int) -> IntArray:
    """Whole grey levels ``0..levels - 1`` as int64; fractions, booleans and anything outside are a `RangeError`."""
    k = rectangular(level_index, "level_index")
    if k.dtype.kind not in "iu":
        whole = k.dtype.kind == "f" and bool(np.all(k == np.rint(k)))
        example = "" if whole or k.dtype.kind != "f" else f", e.g. {k[k != np.rint(k)].flat[0]!s}"
        raise RangeError(
            f"level_index has dtype {k.dtype}{example}; give integers from 0 to {levels - 1}: data in [-1, 1] become levels by "
            "ddpm_ref.reference.scaling.to_level_index"
        )
    _refuse(k, (k < 0) | (k >= levels), "level_index", f"lie outside 0..{levels - 1}", "or give the right levels")
    return np.asarray(k.astype(np.int64))


def _nearest(k: IntArray, levels: int, format_: np.dtype[np.floating]) -> Array:
    """A quotient of two integers, which float64 holds exactly, is rounded once."""
    exact = (2 * k - (levels - 1)) / np.float64(levels - 1)
    return np.asarray(exact.astype(format_).astype(np.float64))


def _refuse(values: AnyArray, wrong: BoolArray, name: str, what: str, remedy: str) -> None:
    if wrong.any():
        share, example = 100 * float(wrong.mean()), values[wrong].flat[0]
        raise RangeError(
            f"{int(wrong.sum())} of {values.size} numbers of {name} ({share:.3g} %) {what}, e.g. {example!s}; {remedy}"
        )
