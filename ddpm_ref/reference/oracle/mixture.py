"""Mixtures of normal laws: data with modes, whose samplers bend and whose networks are still known exactly."""

from __future__ import annotations

import numpy as np

from ddpm_ref.errors import ShapeError
from ddpm_ref.reference.arguments import level, real
from ddpm_ref.reference.oracle.arguments import MEMORY, log_weights, principal_axes, read_only, squared
from ddpm_ref.reference.oracle.base import Oracle
from ddpm_ref.reference.oracle.components import Components
from ddpm_ref.reference.oracle.quadrature import averages, snr_times_variance, square_of_eps
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array, ArrayLike, Real


class Mixture(Oracle):
    r"""Data from n normal laws: :math:`x_0\sim\mathcal N(m_k, \Sigma_k)` with probability :math:`w_k`.

    Args:
        weights: shape ``(n,)``, positive, summing to one within rounding.
        means: shape ``(n, d)``; ``(n,)`` stands for ``(n, 1)``.
        covariances: shape ``(n, d, d)``, each symmetric and positive definite; ``(n,)`` are the variances of d = 1.
        memory: bytes that temporaries may take; examples are computed so many at a time.

    Raises `RangeError` for weights that are not positive or do not sum to one, a covariance that is not symmetric or
    not positive definite, a number that is not finite; `ShapeError`. Source: Bayes' rule; efron2011.

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> two = Mixture([0.5, 0.5], [-1.0, 1.0], [0.01, 0.01])
    >>> two.x0(linear_schedule(1000), [[-0.5], [0.0], [0.5]], 300)
    array([[-0.47835786],
           [ 0.        ],
           [ 0.47835786]])
    """

    def __init__(self, weights: ArrayLike, means: ArrayLike, covariances: ArrayLike, memory: int = MEMORY):
        centres, matrices = real(means, "means"), real(covariances, "covariances")
        if centres.ndim == matrices.ndim == 1:
            centres, matrices = centres[:, None], matrices[:, None, None]
        n, d = centres.shape if centres.ndim == 2 else (0, 0)
        if not n * d or matrices.shape != (n, d, d):
            raise ShapeError(
                f"means {centres.shape} and covariances {matrices.shape}; give (n, d) and (n, d, d), or (n,) and (n,) for d = 1"
            )
        logarithms = log_weights(weights, n)
        variances, axes = principal_axes(matrices, "covariances")
        super().__init__(Components(logarithms, centres, variances, axes if d > 1 else None), memory)
        self.weights = read_only(np.exp(logarithms))
        self.means, self.covariances = read_only(centres), read_only(matrices)

    def mean_square_eps(self, schedule: NoiseSchedule, t: ArrayLike) -> Array:
        """See `Oracle.mean_square_eps`; by the trapezoidal rule in one or two dimensions.

        Raises `RangeError` in more than two, where nothing but an average over draws is known. Source: trefethen2014.
        """
        return averages(self._parts, square_of_eps, schedule, t, self.memory) / self.d

    def loss_floor(self, schedule: NoiseSchedule, t: ArrayLike) -> Array:
        """See `Oracle.loss_floor`; by the trapezoidal rule in one or two dimensions.

        Raises `RangeError` in more than two. Source: bao2022, theorem 1; trefethen2014.
        """
        return averages(self._parts, snr_times_variance, schedule, t, self.memory) / self.d

    def noised(self, schedule: NoiseSchedule, t: int) -> Mixture:
        """The law of x_t, a mixture with the same weights, as data of its own. Source: ho2020, eq. (4)."""
        t = int(level(t, schedule.T))
        covariances = schedule.alpha_bar[t] * self.covariances + schedule.beta_bar[t] * np.eye(self.d)
        return Mixture(self.weights, schedule.sqrt_alpha_bar[t] * self.means, covariances, self.memory)

    def blurred(self, std: Real) -> Mixture:
        """The law of ``x_0 + std z`` with standard normal z."""
        return Mixture(self.weights, self.means, self.covariances + squared(std) * np.eye(self.d), self.memory)
