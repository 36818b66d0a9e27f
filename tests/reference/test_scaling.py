"""Scaling of data: every level comes back, however it was scaled; what is not on the grid is refused, and its fraction named."""

from fractions import Fraction

import numpy as np
import pytest

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.reference.scaling import from_level_index, from_unit, to_level_index, to_unit

COUNTS = [2, 3, 17, 255, 256, 1000, 65536]


@pytest.mark.parametrize("levels", COUNTS)
def test_every_level_comes_back(levels, compared):
    k = np.arange(levels)
    assert np.array_equal(to_level_index(from_level_index(k, levels), levels), k)
    compared["grey levels there and back"] += levels


@pytest.mark.parametrize("levels", COUNTS)
def test_every_level_is_the_nearest_float(levels):
    x = from_level_index(np.arange(levels), levels)
    assert x.tolist() == [float(Fraction(2 * k, levels - 1) - 1) for k in range(levels)]


WAYS = {
    "k / 127.5 - 1": lambda k: k / k.dtype.type(127.5) - 1,
    "2 (k / 255) - 1": lambda k: 2 * (k / k.dtype.type(255)) - 1,
    "(k / 255 - 1/2) / (1/2)": lambda k: (k / k.dtype.type(255) - k.dtype.type(0.5)) / k.dtype.type(0.5),
    "k (2 / 255) - 1": lambda k: k * k.dtype.type(2 / 255) - 1,
    "rounded once": lambda k: from_level_index(k.astype(int)).astype(k.dtype),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("way", WAYS)
def test_levels_scaled_in_any_usual_way_and_format_come_back(way, dtype):
    k = np.arange(256)
    x = WAYS[way](k.astype(dtype))
    assert x.dtype == dtype
    assert np.array_equal(to_level_index(x), k)


def test_the_unit_interval_there_and_back():
    u = np.random.default_rng(0).uniform(size=1000)
    assert np.max(np.abs(to_unit(from_unit(u)) - u)) <= 2.0**-53  # rule: both ways round once, half of it at the end
    assert np.array_equal(to_level_index(from_unit(np.arange(256) / 255)), np.arange(256))
    assert from_unit([0.0, 1.0]).tolist() == [-1.0, 1.0]
    assert to_unit([-1.0, 1.0]).tolist() == [0.0, 1.0]


def test_scaling_by_the_number_of_levels_is_refused():
    """Planted: k / 128 - 1, as if 256 levels had 256 gaps."""
    with pytest.raises(RangeError, match=r"255 of 256 numbers of x \(99.6 %\) lie between the levels"):
        to_level_index(np.arange(256) / 128 - 1)


def test_shapes_and_empty_batches_are_kept():
    assert to_level_index(np.zeros((0, 2))).shape == (0, 2)
    assert to_level_index(1.0) == 255
    assert to_level_index(1).dtype == np.int64
    assert from_level_index(np.zeros((3, 0), dtype=int)).shape == (3, 0)
    assert from_unit(np.zeros((2, 1, 3))).shape == to_unit(np.zeros((2, 1, 3))).shape == (2, 1, 3)


WRONG = {
    "between": (to_level_index, ([0.0, 1.0, -1.0, 1.0],), RangeError, "1 of 4 numbers of x (25 %) lie between the levels"),
    "noisy": (to_level_index, (from_level_index(np.arange(256)) * 0.999,), RangeError, "256 of 256 numbers of x (100 %)"),
    "narrow and noisy": (to_level_index, (np.float32([1.0, 0.99999]),), RangeError, "1 of 2 numbers of x (50 %)"),
    "outside": (to_level_index, ([2.0, 1.0, 255.0],), RangeError, "2 of 3 numbers of x (66.7 %) lie outside [-1, 1], e.g. 2.0"),
    "just outside": (to_level_index, (1 + 1e-9,), RangeError, "1 of 1 numbers of x (100 %) lie outside [-1, 1]"),
    "other levels": (to_level_index, (from_level_index(np.arange(256)), 17), RangeError, "lie between the levels -1 + 2 k / 16"),
    "too many for the format": (to_level_index, (np.float16([0.0]), 1000), RangeError, "levels = 1000 are more than"),
    "NaN": (to_level_index, ([np.nan],), RangeError, "x contains nan"),
    "text": (to_level_index, (["1"],), RangeError, "x has dtype"),
    "ragged": (to_level_index, ([[1.0], [1.0, 1.0]],), ShapeError, "x is nested"),
    "one level": (to_level_index, (1.0, 1), RangeError, "levels = 1; write a whole number from 2"),
    "NaN levels": (from_level_index, (0, np.nan), RangeError, "levels = nan"),
    "too many": (from_level_index, (0, 2**32), RangeError, "levels = 4294967296"),
    "fraction": (from_level_index, ([0.5],), RangeError, "dtype float64, e.g. 0.5; give integers from 0 to 255"),
    "above": (from_level_index, ([0, 256],), RangeError, "1 of 2 numbers of level_index (50 %) lie outside 0..255, e.g. 256"),
    "grey levels as unit": (from_unit, ([0.0, 255.0],), RangeError, "1 of 2 numbers of u (50 %) lie outside [0, 1], e.g. 255.0"),
    "scaled twice": (from_unit, ([-1.0, 1.0],), RangeError, "lie outside [0, 1], e.g. -1.0"),
    "infinite": (from_unit, ([np.inf],), RangeError, "u contains inf"),
    "not clipped": (to_unit, ([1.5, 0.0],), RangeError, "1 of 2 numbers of x (50 %) lie outside [-1, 1], e.g. 1.5; clip"),
}  # fmt: skip


@pytest.mark.wrong_types
@pytest.mark.parametrize("levels", ["256", None, [256], np.array([256])])
def test_a_number_of_levels_that_is_no_number_is_named(levels):
    with pytest.raises(RangeError, match=r"levels = .*; write a whole number from 2"):
        to_level_index(1.0, levels)


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_named(wrong):
    function, arguments, error, message = WRONG[wrong]
    with pytest.raises(error) as caught:
        function(*arguments)
    assert message in str(caught.value)
