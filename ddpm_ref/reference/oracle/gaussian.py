"""Normal data with any covariance: every sampler is then an affine map, and every law of its states normal."""

from __future__ import annotations

import numpy as np

from ddpm_ref.errors import ShapeError
from ddpm_ref.reference.arguments import level, real
from ddpm_ref.reference.oracle.arguments import MEMORY, principal_axes, read_only, squared
from ddpm_ref.reference.oracle.base import Oracle
from ddpm_ref.reference.oracle.components import Components
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array, ArrayLike, Real


class Gaussian(Oracle):
    r"""Data :math:`x_0\sim\mathcal N(m, \Sigma)`.

    .. math:: \varepsilon^*(x_t) = \sqrt{\bar\beta_t}\,(\bar\alpha_t\Sigma + \bar\beta_t I)^{-1}(x_t -
              \sqrt{\bar\alpha_t}\,m)

    Args:
        mean: shape ``(d,)``; a number stands for ``(1,)``.
        covariance: shape ``(d, d)``, symmetric and positive definite; a number is the variance of d = 1.
        memory: bytes that temporaries may take.

    Raises `RangeError` for a covariance that is not symmetric, not positive definite or not finite, `ShapeError`.
    Source: the prediction is linear regression of the noise on x_t; bao2022, eq. (6).

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> Gaussian(0.0, 1.0).x0(linear_schedule(1000), [[1.0]], 1000)  # sqrt(alpha_bar) x_t
    array([[0.00635282]])
    """

    def __init__(self, mean: ArrayLike, covariance: ArrayLike, memory: int = MEMORY):
        centre, matrix = real(mean, "mean"), real(covariance, "covariance")
        if centre.ndim == matrix.ndim == 0:
            centre, matrix = centre.reshape(1), matrix.reshape(1, 1)
        d = centre.shape[0] if centre.ndim else 0
        if centre.ndim != 1 or not d or matrix.shape != (d, d):
            raise ShapeError(
                f"mean {centre.shape} and covariance {matrix.shape}; give (d,) and (d, d), or two numbers for d = 1"
            )
        variances, axes = principal_axes(matrix[None], "covariance")
        super().__init__(Components(np.zeros(1), centre[None], variances, axes if d > 1 else None), memory)
        self.mean, self.covariance = read_only(centre), read_only(matrix)

    @property
    def variances(self) -> Array:
        """Variances along the principal axes, ascending, shape ``(d,)``."""
        return np.asarray(self._parts.variances[0])

    @property
    def axes(self) -> Array:
        """The principal axes as columns, shape ``(d, d)``."""
        return np.eye(self.d) if self._parts.axes is None else np.asarray(self._parts.axes[0])

    def mean_square_eps(self, schedule: NoiseSchedule, t: ArrayLike) -> Array:
        r"""The mean of :math:`\bar\beta_t/(\bar\alpha_t\lambda_i + \bar\beta_t)` over the variances :math:`\lambda_i`, ``t >= 1``.

        Source: bao2022, eq. (8).
        """
        t = level(t, schedule.T, lowest=1)
        noise = schedule.beta_bar[t][..., None]
        return np.asarray(np.mean(noise / (schedule.alpha_bar[t][..., None] * self.variances + noise), axis=-1))

    def loss_floor(self, schedule: NoiseSchedule, t: ArrayLike) -> Array:
        r"""The mean of :math:`\bar\alpha_t\lambda_i/(\bar\alpha_t\lambda_i + \bar\beta_t)`, ``t >= 1``.

        Source: ho2020, eq. (14).
        """
        t = level(t, schedule.T, lowest=1)
        signal = schedule.alpha_bar[t][..., None] * self.variances
        return np.asarray(np.mean(signal / (signal + schedule.beta_bar[t][..., None]), axis=-1))

    def noised(self, schedule: NoiseSchedule, t: int) -> Gaussian:
        r"""The law of x_t, :math:`\mathcal N(\sqrt{\bar\alpha_t}\,m, \bar\alpha_t\Sigma + \bar\beta_t I)`, as data of its own.

        Source: ho2020, eq. (4).
        """
        t = int(level(t, schedule.T))
        covariance = schedule.alpha_bar[t] * self.covariance + schedule.beta_bar[t] * np.eye(self.d)
        return Gaussian(schedule.sqrt_alpha_bar[t] * self.mean, covariance, self.memory)

    def blurred(self, std: Real) -> Gaussian:
        """The law of ``x_0 + std z`` with standard normal z."""
        return Gaussian(self.mean, self.covariance + squared(std) * np.eye(self.d), self.memory)
