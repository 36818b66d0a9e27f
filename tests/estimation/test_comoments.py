"""Moments in one pass: exact where arithmetic is, within the bound of a sum elsewhere, and without cancellation."""

from fractions import Fraction

import numpy as np
import pytest

from ddpm_ref.arithmetic.bounds import gamma
from ddpm_ref.errors import MomentsError, RangeError, ShapeError
from ddpm_ref.estimation import CoMoments

U = 2.0**-53


def exactly(values):
    """Mean and co-moments as fractions."""
    rows = [[Fraction(float(v)) for v in row] for row in values]
    n, k = len(rows), len(rows[0])
    mean = [sum(row[j] for row in rows) / n for j in range(k)]
    return mean, [[sum((r[i] - mean[i]) * (r[j] - mean[j]) for r in rows) for j in range(k)] for i in range(k)]


def merged(values, sizes):
    parts = np.split(values, np.cumsum(sizes)[:-1])
    found = CoMoments.of(parts[0])
    for part in parts[1:]:
        found = found.merged(CoMoments.of(part))
    return found


@pytest.mark.parametrize("sizes", [(64,), (32, 32), (16, 48), (1,) * 64, (7, 1, 30, 26)])
def test_any_parts_are_within_the_bound_of_a_sum_of_the_whole(sizes):
    values = np.random.default_rng(0).normal(3.0, 2.0, (64, 3)) ** 2
    found, (mean, products) = merged(values, sizes), exactly(values)
    # NUMERICS: gamma_h times the sum of absolute values. A datum passes through the sum of its part, the division, and
    # three operations in each merge; a product of two centred numbers through that twice.
    depth = 6 + 32 + 4 * len(sizes)
    largest = np.abs(values).max(axis=0)
    for j in range(3):
        assert abs(Fraction(float(found.mean[j])) - mean[j]) <= gamma(depth, U) * largest[j]
        for i in range(3):
            scale = 64 * 4 * largest[i] * largest[j]
            assert abs(Fraction(float(found.products[i, j])) - products[i][j]) <= gamma(2 * depth, U) * scale
    assert found.count == 64


def test_nothing_cancels_where_the_mean_is_large():
    # Whole numbers beside 2^40, parts of 4: every operation is exact, while squares of the values are far from it.
    values = 2.0**40 + np.array([[0.0], [4.0], [8.0], [4.0], [16.0], [4.0], [8.0], [20.0]])
    found, (mean, products) = merged(values, (4, 4)), exactly(values)
    assert (found.mean[0], found.products[0, 0]) == (float(mean[0]), float(products[0][0]))
    naive = np.sum(values**2) - np.sum(values) ** 2 / 8  # the test can fail
    assert naive != float(products[0][0])


def test_covariance_and_standard_error_are_those_of_numpy_on_exact_numbers():
    values = np.array([[0.0, 8.0], [4.0, 0.0], [8.0, 0.0], [4.0, 8.0]])
    found = CoMoments.of(values)
    assert np.array_equal(found.covariance(), np.cov(values.T))
    assert np.array_equal(found.standard_error(), np.std(values, axis=0, ddof=1) / 2)


def test_one_datum_does_not_scatter():
    with pytest.raises(MomentsError, match="1 datum says nothing of the scatter"):
        CoMoments.of([[1.0, 2.0]]).covariance()
    with pytest.raises(MomentsError, match="at least 2 data"):
        CoMoments.of([[1.0, 2.0]]).standard_error()


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([1.0, 2.0], ShapeError, r"shape \(2,\)"),
        (np.zeros((0, 3)), ShapeError, "at least one"),
        ([[1.0, np.nan]], RangeError, "values hold nan"),
        ([[1e200], [-1e200]], RangeError, "overflow float64"),
    ],
)
def test_what_has_no_moments_is_refused(values, error, message):
    with np.errstate(over="ignore"), pytest.raises(error, match=message):
        CoMoments.of(values)


def test_moments_of_other_levels_are_not_merged():
    with pytest.raises(ShapeError, match="of 2 and of 3 numbers per datum"):
        CoMoments.of([[1.0, 2.0]]).merged(CoMoments.of([[1.0, 2.0, 3.0]]))
