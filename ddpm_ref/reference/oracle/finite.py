"""Finite data: the law of a data set itself, whose optimal network returns the data it was trained on and nothing else."""

from __future__ import annotations

import numpy as np

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.reference.arguments import level, real
from ddpm_ref.reference.oracle.arguments import MEMORY, log_weights, read_only, squared
from ddpm_ref.reference.oracle.base import Oracle
from ddpm_ref.reference.oracle.components import Components
from ddpm_ref.reference.oracle.mixture import Mixture
from ddpm_ref.reference.oracle.quadrature import (
    MOST_DIMENSIONS,
    averages,
    snr_times_variance,
    square_of_eps,
)
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array, ArrayLike, Real


class Finite(Oracle):
    r"""Data that are one of n points: the optimal network of a training set.

    .. math:: \mathbb E[x_0\mid x_t] = \sum_k r_k m_k, \qquad
              r_k \propto w_k\exp\left(-\frac{\|x_t - \sqrt{\bar\alpha_t}\,m_k\|^2}{2\bar\beta_t}\right)

    Args:
        points: shape ``(n, d)``; ``(n,)`` stands for ``(n, 1)``.
        weights: shape ``(n,)``, positive, summing to one; equal if None.
        memory: bytes that temporaries may take; examples are computed so many at a time.

    At ``t = 0`` there is no density, so levels start at 1 throughout. Raises `RangeError` for a number that is not
    finite, bad weights, or a ``memory`` too small for one example; `ShapeError`. Source: Bayes' rule; efron2011.

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> Finite([-1.0, 1.0]).x0(linear_schedule(1000), [[0.1]], 300)  # tanh(sqrt(alpha_bar) x_t / beta_bar)
    array([[0.10393729]])
    """

    _lowest = 1

    def __init__(self, points: ArrayLike, weights: ArrayLike | None = None, memory: int = MEMORY):
        centres = real(points, "points")
        centres = centres[:, None] if centres.ndim == 1 else centres
        if centres.ndim != 2 or not centres.size:
            raise ShapeError(f"points have shape {centres.shape}; give (n, d), or (n,) for d = 1")
        n = len(centres)
        logarithms = np.full(n, -np.log(n)) if weights is None else log_weights(weights, n)
        super().__init__(Components(logarithms, centres, np.zeros_like(centres), None), memory)
        self.points, self.weights = read_only(centres), read_only(np.exp(logarithms))

    def mean_square_eps(self, schedule: NoiseSchedule, t: ArrayLike) -> Array:
        """See `Oracle.mean_square_eps`; exact where the points lie on a line or in a plane, in any number of dimensions.

        Noise across the plane is known from x_t exactly and counts 1 per dimension. Raises `RangeError` for points that
        span more than two dimensions, where nothing but an average over draws is known. Source: trefethen2014.
        """
        within = self._within_their_plane()
        across = self.d - within.means.shape[1]
        return np.asarray((averages(within, square_of_eps, schedule, t, self.memory) + across) / self.d)

    def loss_floor(self, schedule: NoiseSchedule, t: ArrayLike) -> Array:
        """See `Oracle.loss_floor`; exact where the points lie on a line or in a plane, in any number of dimensions.

        Raises `RangeError` for points that span more than two. Source: bao2022, theorem 1; trefethen2014.
        """
        return averages(self._within_their_plane(), snr_times_variance, schedule, t, self.memory) / self.d

    def noised(self, schedule: NoiseSchedule, t: int) -> Mixture:
        r"""The law of x_t, ``t >= 1``: normal laws of variance :math:`\bar\beta_t` around the points. Source: ho2020, eq. (4)."""
        t = int(level(t, schedule.T, lowest=1))
        return self._around(schedule.sqrt_alpha_bar[t] * self.points, schedule.beta_bar[t])

    def blurred(self, std: Real) -> Mixture:
        """The law of ``x_0 + std z`` with standard normal z, ``std > 0``. Raises `RangeError`."""
        if squared(std) == 0:
            raise RangeError(f"std = {std}; points get a density from a standard deviation > 0")
        return self._around(self.points, squared(std))

    def _around(self, centres: Array, variance: float) -> Mixture:
        return Mixture(self.weights, centres, np.tile(variance * np.eye(self.d), (len(centres), 1, 1)), self.memory)

    def _within_their_plane(self) -> Components:
        """The points in coordinates of the least plane that holds them."""
        centred = self.points - self.mean
        _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
        # What rounding leaves of a direction that the points do not span.
        spanned = sizes > max(centred.shape) * np.finfo(np.float64).eps * max(sizes[0], np.abs(self.points).max())
        rank = max(int(spanned.sum()), 1)
        if rank > MOST_DIMENSIONS:
            raise RangeError(
                f"the points span {rank} dimensions, and there is no quadrature beyond {MOST_DIMENSIONS}: average over draws of "
                "q_sample, with its standard error"
            )
        flat = centred @ directions[:rank].T
        return Components(self._parts.log_weights, flat, np.zeros_like(flat), None)
