r"""Means and co-moments of many numbers per datum, in one pass, merged without loss of digits.

The sum of squares minus the squared sum cancels; the centred sums of two parts do not, and they merge into those of the
whole. Parts merged in the same order give the same bits, whoever computed them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddpm_ref.errors import MomentsError, RangeError, ShapeError
from ddpm_ref.typing import Array, ArrayLike


@dataclass(frozen=True, eq=False)
class CoMoments:
    r"""What is kept of n data with k numbers :math:`y_i` each:

    .. math:: n, \qquad \bar y = \frac1n\sum_i y_i, \qquad M = \sum_i (y_i-\bar y)(y_i-\bar y)^\top

    in float64, of shapes ``()``, ``(k,)`` and ``(k, k)``. The numbers of one datum may depend on one another, as the
    errors of a network do at neighbouring levels; the data are independent.

    >>> found = CoMoments.of([[1.0, 0.0], [2.0, 0.0]]).merged(CoMoments.of([[6.0, 3.0]]))
    >>> found.count, found.mean.tolist(), found.covariance().tolist()
    (3, [3.0, 1.0], [[7.0, 4.5], [4.5, 3.0]])
    """

    count: int
    mean: Array
    products: Array

    @classmethod
    def of(cls, values: ArrayLike) -> CoMoments:
        """Those of some data.

        Args:
            values: ``(n, k)``, finite, n >= 1.

        Raises:
            ShapeError: other axes, or no datum.
            RangeError: a number that is not finite, or squares that overflow.
        """
        given = np.asarray(values, dtype=np.float64)
        if given.ndim != 2 or not len(given):
            raise ShapeError(f"values have shape {given.shape}; write one row per datum, at least one: (n, k)")
        if not np.isfinite(given).all():
            raise RangeError(f"values hold {given[~np.isfinite(given)][0]}; moments are of finite numbers")
        mean = given.mean(axis=0)
        centred = given - mean
        return cls(len(given), mean, _finite(centred.T @ centred))

    def merged(self, other: CoMoments) -> CoMoments:
        r"""Those of both sets of data:

        .. math:: \bar y = \bar y_a + \frac{n_b}{n}\delta, \qquad M = M_a + M_b + \frac{n_a n_b}{n}\delta\delta^\top,
                  \qquad \delta = \bar y_b - \bar y_a

        Raises `ShapeError` where they have different numbers per datum. Source: chan1983, eq. (2.1).
        """
        if self.mean.shape != other.mean.shape:
            raise ShapeError(
                f"moments of {len(self.mean)} and of {len(other.mean)} numbers per datum; merge those of the same levels"
            )
        count, difference = self.count + other.count, other.mean - self.mean
        mean = self.mean + difference * (other.count / count)
        between = np.outer(difference, difference) * (self.count * other.count / count)
        return CoMoments(count, mean, _finite(self.products + other.products + between))

    def covariance(self) -> Array:
        """Of one datum's numbers, estimated without bias: M / (n - 1), ``(k, k)``; `MomentsError` for fewer than 2 data."""
        if self.count < 2:
            raise MomentsError(
                f"{self.count} datum says nothing of the scatter; an interval needs at least 2 data, and a good one many"
            )
        return np.asarray(self.products / (self.count - 1))

    def standard_error(self) -> Array:
        """Of the mean, ``(k,)``; `MomentsError` for fewer than 2 data."""
        return np.asarray(np.sqrt(np.diagonal(self.covariance()) / self.count))


def _finite(products: Array) -> Array:
    if not np.isfinite(products).all():
        raise RangeError("the squares of the values overflow float64; moments are of numbers below 1e150")
    return np.asarray(products)
