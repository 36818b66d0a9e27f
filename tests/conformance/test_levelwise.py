"""Rows are grouped by level and come back in order, for arrays and tensors, data and coefficients, and empty batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ddpm_ref.conformance.levelwise import as_batch, level_per_row, one_level_at_a_time, one_level_of_t_at_a_time

T = np.array([5, 2, 5, 9, 2])
S = np.array([4, 0, 4, 1, 1])
X = np.arange(10.0).reshape(5, 2)


@pytest.fixture(params=[np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def native(request):
    return request.param


def recorded(function):
    asked = []

    def asking(*arguments):
        asked.append(arguments)
        return function(*arguments)

    return asking, asked


def test_rows_come_back_in_order_and_each_step_is_asked_once(native):
    function, asked = recorded(lambda t, s, x: 100 * t + 10 * s + x)
    got = one_level_at_a_time(function, native(T), native(S), native(X))
    assert np.array_equal(np.asarray(got), (100 * T + 10 * S)[:, None] + X)
    assert sorted((t, s, len(x)) for t, s, x in asked) == [(2, 0, 1), (2, 1, 1), (5, 4, 2), (9, 1, 1)]
    assert all(type(level) is int for arguments in asked for level in arguments[:2])


def test_scalar_levels_are_asked_at_once(native):
    function, asked = recorded(lambda t, s, x: x * t - s)
    for t, s in ((3, 1), (native(np.array(3)), native(np.array(1)))):
        assert np.array_equal(np.asarray(one_level_at_a_time(function, t, s, native(X))), 3 * X - 1)
    assert len(asked) == 2


def test_data_without_axes_pass_through(native):
    got = one_level_at_a_time(lambda t, s, x: x * t, 3, 0, native(np.array(2.0)))
    assert tuple(got.shape) == ()
    assert float(got) == 6


def test_tuples_come_back_as_tuples_and_coefficients_broadcast(native):
    got = one_level_at_a_time(
        lambda t, s, x: (x * t, native(np.array(0.5 * s)), 2.0 * t), native(T), native(S), native(X)
    )
    assert isinstance(got, tuple)
    data, tensor, number = (np.asarray(part) for part in got)
    assert np.array_equal(data, X * T[:, None])
    assert np.array_equal(tensor, 0.5 * S[:, None])
    assert np.array_equal(number, 2.0 * T[:, None])


def test_coefficients_without_data_have_the_shape_of_the_levels(native):
    got = one_level_at_a_time(lambda t, s: native(np.array(t - 0.5 * s)), native(T), native(S))
    assert np.array_equal(np.asarray(got), T - 0.5 * S)
    assert np.array_equal(np.asarray(one_level_of_t_at_a_time(lambda t: 0.5 * t, native(T))), 0.5 * T)


def test_an_empty_batch_has_the_shapes_of_the_answer(native):
    none = native(np.zeros(0, dtype=np.int64))
    data, coefficient = one_level_at_a_time(lambda t, s, x: (x * t, 0.5), none, none, native(np.zeros((0, 3))))
    assert tuple(data.shape) == (0, 3)
    assert tuple(coefficient.shape) == (0, 1)


def test_a_level_for_all_may_stand_beside_one_per_row(native):
    got = one_level_at_a_time(lambda t, s, x: x * t - s, native(T), 1, native(X))
    assert np.array_equal(np.asarray(got), X * T[:, None] - 1)


def test_a_level_per_row(native):
    for t, expected in ((7, [7] * 5), (native(T), T)):
        rows = level_per_row(t, native(X))
        assert isinstance(rows, type(native(X)))
        assert np.array_equal(np.asarray(rows), expected)
        assert str(rows.dtype).endswith("int64")
    assert level_per_row(7, native(np.zeros((0, 2)))).shape == (0,)


@pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 3), (2, 3, 4, 5), (2, 1, 3, 4, 5)])
@pytest.mark.parametrize("axes", [1, 4])
def test_a_batch_axis_is_added_and_removed(native, shape, axes):
    x = native(np.random.default_rng(0).normal(size=shape))
    seen = []

    def function(t, a, b):
        assert a.ndim == b.ndim >= axes
        assert len(t) == len(a)
        seen.append(a.shape)
        return a - b, t * 0.5, (a * 0)[..., None]

    difference, levels, other = as_batch(function, 3, x, 2 * x, axes=axes)
    assert tuple(difference.shape) == shape
    assert np.array_equal(np.asarray(difference), -np.asarray(x))
    assert tuple(levels.shape) == shape[:1] or axes > 1
    assert tuple(other.shape) == (*seen[0], 1)
    assert not isinstance(as_batch(lambda t, a: a, 3, x), tuple)
