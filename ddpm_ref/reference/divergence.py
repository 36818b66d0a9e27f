r"""Kullback-Leibler divergence of Gaussians, in nats, without cancellation where the two laws nearly agree.

The variance part of every form below is :math:`\tfrac12(x - \log(1 + x))` with :math:`x = \sigma_1^2/\sigma_2^2 - 1`.
Written as it stands it loses all digits near ``x = 0``; as a series in ``z = x / (2 + x)`` it loses none, because both
its terms are formed from the exact difference of the variances.
"""

from __future__ import annotations

from math import factorial

import numpy as np

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.reference.arguments import positive, real, same_shape
from ddpm_ref.reference.decoder import discretized_gaussian_log_likelihood as discretized_gaussian_log_likelihood
from ddpm_ref.typing import Array, ArrayLike

# Where |x| <= 1/2: z**2 <= 1/9 for the area tangent, |delta| <= 1/2 for the exponential; both tails are below 2**-58.
_AREA_TANGENT = np.array([1 / (2 * n + 3) for n in range(17)])
_EXPONENTIAL = np.array([1 / factorial(n + 2) for n in range(15)])


def _polynomial(coefficients: Array, x: Array) -> Array:
    return np.asarray(np.polynomial.polynomial.polyval(x, coefficients), dtype=np.float64)


def variance_divergence(x: ArrayLike, log_ratio: ArrayLike) -> Array:
    r""":math:`\tfrac12(x - \log(1 + x))`: the divergence of two centred Gaussians with ratio of variances ``1 + x``, ``x > -1``.

    ``log_ratio`` is ``log(1 + x)``, taken from the variances themselves because ``1 + x`` has lost digits where it is
    small. Relative error at most 8u for ``|x| <= 1/2``:
    :math:`xz - 2z^3(\tfrac13 + \tfrac{z^2}5 + \dots)` with ``z = x / (2 + x)``.

    >>> float(variance_divergence(1e-12, np.log1p(1e-12))) / (1e-24 / 4) < 1
    True
    """
    x = np.asarray(x, dtype=np.float64)
    near = np.abs(x) <= 0.5
    small = np.where(near, x, 0.0)
    z = small / (2 + small)
    series = small * z - 2 * z**3 * _polynomial(_AREA_TANGENT, z * z)
    return np.asarray(np.where(near, series, x - log_ratio) / 2)


def log_variance_divergence(delta: ArrayLike) -> Array:
    r""":math:`\tfrac12(e^\Delta - 1 - \Delta)`: the same divergence from the difference of the log-variances.

    Relative error at most 8u for ``|delta| <= 1/2``, where the Taylor series starts at its second-order term.
    """
    delta = np.asarray(delta, dtype=np.float64)
    near = np.abs(delta) <= 0.5
    small, far = np.where(near, delta, 0.0), np.where(near, 1.0, delta)
    series = small * small * _polynomial(_EXPONENTIAL, small)
    with np.errstate(over="ignore"):
        return np.asarray(np.where(near, series, np.expm1(far) - far) / 2)


def _log_ratio(v1: Array, v2: Array) -> Array:
    """``log(v1 / v2)``, also where the quotient leaves the range of normal float64."""
    with np.errstate(over="ignore", divide="ignore", under="ignore"):
        ratio = v1 / v2
        normal = (ratio >= np.finfo(np.float64).tiny) & np.isfinite(ratio)
        return np.where(normal, np.log(ratio), np.log(v1) - np.log(v2))


def kl_normal(mean1: ArrayLike, variance1: ArrayLike, mean2: ArrayLike, variance2: ArrayLike) -> Array:
    r"""KL divergence of the first normal law from the second, nats per element.

    .. math:: D = \tfrac12\left[\frac{\sigma_1^2}{\sigma_2^2} - 1 - \log\frac{\sigma_1^2}{\sigma_2^2}
              + \frac{(\mu_1 - \mu_2)^2}{\sigma_2^2}\right]

    Args:
        mean1, variance1: the first law (the posterior, in a bound); variances > 0.
        mean2, variance2: the second law (the model). All arguments broadcast.

    Returns an array of the broadcast shape, >= 0. Raises `RangeError` for a variance that is not positive,
    `ShapeError`. Limits: 0 only for equal laws; variance1 -> 0 diverges logarithmically. Law: ``divergence/kl_normal``.
    Source: ho2020, eq. (5) and (8).

    >>> float(kl_normal(0.0, 1.0, 1.0, 1.0))
    0.5
    """
    m1, m2 = real(mean1, "mean1"), real(mean2, "mean2")
    v1, v2 = positive(variance1, "variance1"), positive(variance2, "variance2")
    same_shape(mean1=m1, variance1=v1, mean2=m2, variance2=v2)
    with np.errstate(over="ignore"):  # the divergence itself may exceed the largest float64
        return np.asarray(variance_divergence((v1 - v2) / v2, _log_ratio(v1, v2)) + _distance(m1 - m2, v2))


def kl_normal_logvar(mean1: ArrayLike, logvar1: ArrayLike, mean2: ArrayLike, logvar2: ArrayLike) -> Array:
    r"""The same divergence from log-variances, nats per element: the form to use with learned variances.

    .. math:: D = \tfrac12\left[e^{\ell_1 - \ell_2} - 1 - (\ell_1 - \ell_2) + (\mu_1 - \mu_2)^2 e^{-\ell_2}\right],
              \qquad \ell = \log\sigma^2

    Arguments are finite and broadcast. Law: ``divergence/kl_normal_logvar``. Source: ho2020 and nichol2021, code.

    >>> float(kl_normal_logvar(0.0, 0.0, 1.0, 0.0))
    0.5
    """
    m1, l1, m2, l2 = real(mean1, "mean1"), real(logvar1, "logvar1"), real(mean2, "mean2"), real(logvar2, "logvar2")
    same_shape(mean1=m1, logvar1=l1, mean2=m2, logvar2=l2)
    with np.errstate(over="ignore", invalid="ignore"):
        # Half the exponent on each factor, so that neither overflows before their square does.
        distance = ((m1 - m2) * np.exp(-l2 / 2)) ** 2 / 2
        return np.asarray(log_variance_divergence(l1 - l2) + np.where(m1 == m2, 0.0, distance))


def kl_normal_isotropic(mean1: ArrayLike, variance1: ArrayLike, mean2: ArrayLike, variance2: ArrayLike) -> Array:
    r"""KL divergence of isotropic normal laws in ``d`` dimensions, nats for the whole vector.

    .. math:: D = \tfrac12\left[d(r - 1 - \log r) + \frac{\|\mu_1 - \mu_2\|^2}{\sigma_2^2}\right], \qquad r =
              \sigma_1^2/\sigma_2^2

    Args: means of shape ``(*batch, d)``; variances of shape ``batch`` or scalars, > 0. Returns shape ``batch``.
    Law: ``divergence/kl_normal_isotropic``. Source: special case of `kl_normal_full`.
    """
    m1, m2 = real(mean1, "mean1"), real(mean2, "mean2")
    v1, v2 = positive(variance1, "variance1"), positive(variance2, "variance2")
    shape = same_shape(mean1=m1, mean2=m2)
    if not shape:
        raise ShapeError("means have shape (); give vectors, shape (*batch, d), or use kl_normal for scalars")
    squared_distance = np.sum((m1 - m2) ** 2, axis=-1)
    same_shape(variance1=v1, variance2=v2, batch=np.asarray(squared_distance))
    return np.asarray(shape[-1] * variance_divergence((v1 - v2) / v2, _log_ratio(v1, v2)) + squared_distance / (2 * v2))


def kl_normal_matched(mean1: ArrayLike, mean2: ArrayLike, variance: ArrayLike) -> Array:
    r"""KL divergence of two normal laws of one variance, nats per element: :math:`(\mu_1-\mu_2)^2/(2\sigma^2)`.

    Symmetric in the means; the variance must be positive (so ``s >= 1`` with the fixed-small variance).
    Law: ``divergence/kl_normal_matched``. Source: ho2020, eq. (8).
    """
    m1, m2, v = real(mean1, "mean1"), real(mean2, "mean2"), positive(variance, "variance")
    same_shape(mean1=m1, mean2=m2, variance=v)
    return _distance(m1 - m2, v)


def kl_normal_full(mean1: ArrayLike, covariance1: ArrayLike, mean2: ArrayLike, covariance2: ArrayLike) -> Array:
    r"""KL divergence of normal laws with full covariance, nats for the whole vector.

    .. math:: D = \tfrac12\left[\log\frac{|\Sigma_2|}{|\Sigma_1|} - d + \mathrm{tr}(\Sigma_2^{-1}\Sigma_1)
              + (\mu_2-\mu_1)^\top\Sigma_2^{-1}(\mu_2-\mu_1)\right]

    Args: means ``(*batch, d)``, covariances ``(*batch, d, d)``, symmetric and positive definite. Returns shape
    ``batch``. Raises `RangeError` if a covariance is not symmetric or not positive definite, `ShapeError`. By Cholesky
    factors and triangular solves; the error grows with the condition numbers (docs/divergence.md derives the rule).
    Law: ``divergence/kl_normal_full``. Source: standard.

    >>> float(kl_normal_full([0.0, 0.0], np.eye(2), [1.0, 1.0], np.eye(2)))
    1.0
    """
    m1, m2 = real(mean1, "mean1"), real(mean2, "mean2")
    c1, c2 = real(covariance1, "covariance1"), real(covariance2, "covariance2")
    d = m1.shape[-1] if m1.ndim else 0
    if (
        not d
        or any(a.shape[-1:] != (d,) for a in (m2, c1, c2))
        or any(c.ndim < 2 or c.shape[-2] != d for c in (c1, c2))
    ):
        raise ShapeError(
            f"means {m1.shape}, {m2.shape}, covariances {c1.shape}, {c2.shape}; give (*batch, d) and (*batch, d, d)"
        )
    same_shape(mean1=m1[..., 0], mean2=m2[..., 0], covariance1=c1[..., 0, 0], covariance2=c2[..., 0, 0])
    l1, l2 = _cholesky(c1, "covariance1"), _cholesky(c2, "covariance2")
    shift = _solve_triangular(l2, (m2 - m1)[..., None])[..., 0]
    ratio = _solve_triangular(l2, l1)
    # With M = L2^-1 L1 the trace is the squared norm of M and the determinants are products of its diagonal, so the divergence is a
    # sum of terms none of which is negative: one scalar divergence per diagonal entry, and squares.
    diagonal = np.diagonal(ratio, axis1=-2, axis2=-1)
    spread = np.sum(variance_divergence((diagonal - 1) * (diagonal + 1), 2 * np.log(diagonal)), axis=-1)
    return np.asarray(spread + (np.sum(np.tril(ratio, -1) ** 2, axis=(-2, -1)) + np.sum(shift**2, axis=-1)) / 2)


def _distance(difference: Array, variance: Array) -> Array:
    """Half the squared distance in units of the variance, ordered so that nothing overflows before the result does."""
    with np.errstate(over="ignore"):
        return np.asarray(difference / variance * difference / 2)


def _solve_triangular(factor: Array, right: Array) -> Array:
    """Forward substitution with a lower triangular factor, row by row, over any batch."""
    solution = np.zeros(np.broadcast_shapes(factor.shape[:-2], right.shape[:-2]) + right.shape[-2:])
    for i in range(factor.shape[-1]):
        known = factor[..., i : i + 1, :i] @ solution[..., :i, :]
        solution[..., i : i + 1, :] = (right[..., i : i + 1, :] - known) / factor[..., i : i + 1, i : i + 1]
    return solution


def _cholesky(covariance: Array, name: str) -> Array:
    if not np.array_equal(covariance, np.swapaxes(covariance, -1, -2)):
        raise RangeError(f"{name} is not symmetric; symmetrise it first, (C + C.T) / 2")
    try:
        return np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
    except np.linalg.LinAlgError:
        least = float(np.linalg.eigvalsh(covariance).min())
        raise RangeError(
            f"{name} is not positive definite (least eigenvalue {least:.3g}); add a multiple of the identity"
        ) from None
