"""Levels as an implementation wants them: one for all, or one per row of a batch.

Laws ask at a scalar level, or at one level per entry of the leading axis of the data. Many implementations know only one of
the two, and many know no data without a batch axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ddpm_ref.conformance.capabilities import Native

Answer = Any  # an array of the implementation, a number, or a tuple of these


def one_level_at_a_time(function: Callable[..., Answer], t: Native, s: Native, *tensors: Native) -> Answer:
    """Ask a function that knows only one step for all its data: once for each different step ``(t, s)``.

    Args:
        function: called as ``function(t, s, *rows)`` with ints and with those rows of the tensors that take this step.
        t, s: levels: scalars, or one for each entry of the leading axis of the tensors.
        tensors: data, arrays or tensors of one shape; possibly none.

    Returns:
        what the function returns (an array or a tuple of arrays), with its rows in the order of the data. A coefficient, that
        is a number without axes, is repeated for each level and broadcasts against the data.

    Limits: an empty batch has no levels, so the function is asked at the step (1, 0).

    >>> scale = lambda t, s, x: x * (t + s)
    >>> one_level_at_a_time(scale, np.array([2, 9, 2]), np.array([1, 0, 1]), np.array([[1.0], [2.0], [3.0]]))
    array([[ 3.],
           [18.],
           [ 9.]])
    >>> one_level_at_a_time(scale, 2, 1, np.array([1.0, 2.0]))
    array([3., 6.])
    """
    return _asked(function, (t, s), (1, 0), tensors)


def one_level_of_t_at_a_time(function: Callable[..., Answer], t: Native, *tensors: Native) -> Answer:
    """`one_level_at_a_time` for functions of one level: ``function(t, *rows)``; an empty batch is asked for at level 1.

    >>> one_level_of_t_at_a_time(lambda t: 0.5**t, np.array([1, 3, 1]))
    array([0.5  , 0.125, 0.5  ])
    """
    return _asked(function, (t,), (1,), tensors)


def level_per_row(t: Native, like: Native) -> Native:
    """A level for each row of a batch, as int64.

    Args:
        t: a level for all, or one for each entry of the leading axis of ``like``.
        like: data of shape ``(B, *event)``; data without axes count as a batch of one.

    Returns:
        shape ``(B,)``, an array or a tensor on the device of ``like``.

    >>> level_per_row(7, np.zeros((3, 2)))
    array([7, 7, 7])
    >>> level_per_row(7, np.float64(0.5))
    array([7])
    """
    rows = like.shape[0] if like.ndim else 1
    if _is_tensor(like):
        import torch

        return torch.as_tensor(t, dtype=torch.int64, device=like.device).expand(rows).contiguous()
    return np.broadcast_to(np.asarray(t, dtype=np.int64), (rows,)).copy()


def as_batch(function: Callable[..., Answer], t: Native, *tensors: Native, axes: int = 1) -> Answer:
    """Ask a function that wants a level per row and data with a batch axis: ``function(levels, *batches)``.

    Args:
        function: its levels have shape ``(B,)``, its batches ``B`` rows.
        t: a level for all, or one for each row.
        tensors: data of one shape, at least one; without axes, or with fewer than ``axes``, they get axes of length 1
            (behind those they have, a batch axis first).
        axes: how many axes the function's data must have at least, e.g. 4 for images.

    Returns:
        what the function returns; where a result has the shape of the batch, in the shape of the data.

    >>> as_batch(lambda t, x: x * t.reshape(-1, 1), 3, np.array([1.0, 2.0]), axes=2)
    array([3., 6.])
    >>> as_batch(lambda t, x: x * t, 3, np.array(2.0))
    array(6.)
    """
    shape = tuple(tensors[0].shape)
    wide = (shape or (1,)) + (1,) * (axes - max(len(shape), 1))
    answer = function(level_per_row(t, tensors[0]), *(x.reshape(wide) for x in tensors))

    parts = answer if isinstance(answer, tuple) else (answer,)
    narrow = tuple(part.reshape(shape) if tuple(part.shape) == wide else part for part in parts)
    return narrow if isinstance(answer, tuple) else narrow[0]


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "new_empty")


def _asked(
    function: Callable[..., Answer], levels: tuple[Native, ...], first: tuple[int, ...], tensors: tuple[Native, ...]
) -> Answer:
    if not any(np.ndim(level) for level in levels):
        return function(*(int(level) for level in levels), *tensors)
    groups: dict[tuple[int, ...], list[int]] = {}
    count = len(next(level for level in levels if np.ndim(level)))
    columns = [level.tolist() if np.ndim(level) else [int(level)] * count for level in levels]
    for row, key in enumerate(zip(*columns, strict=True)):
        groups.setdefault(key, []).append(row)
    answers = [(rows, function(*key, *(x[rows] for x in tensors))) for key, rows in groups.items()]
    if not answers:
        answers = [([], function(*first, *tensors))]
    axes = tensors[0].ndim if tensors else 1
    if isinstance(answers[0][1], tuple):
        parts = zip(*(answer for _, answer in answers), strict=True)
        return tuple(_put_back([rows for rows, _ in answers], part, count, axes) for part in parts)
    return _put_back([rows for rows, _ in answers], [answer for _, answer in answers], count, axes)


def _put_back(places: list[list[int]], answers: Any, count: int, axes: int) -> Native:
    """The rows of some answers in one array; coefficients, which have no rows, are repeated."""
    parts = [a if _is_tensor(a) else np.asarray(a) for a in answers]
    part: Any = parts[0]
    shape = (count, *(part.shape[1:] if part.ndim else (1,) * (axes - 1)))
    result = part.new_empty(shape) if _is_tensor(part) else np.empty(shape, part.dtype)
    for rows, answer in zip(places, parts, strict=True):
        result[rows] = answer
    return result
