"""Kullback-Leibler divergences of Gaussians, in nats, the first law relative to the second."""

from __future__ import annotations

import torch
from torch import Tensor

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.torch.arguments import (
    Number,
    broadcast_shapes,
    common_shape,
    finite,
    first_tensor,
    parameters,
    positive,
    readable,
    same_kind,
)
from ddpm_ref.torch.series import gap_expm1, gap_log1p


def kl_normal(mean1: Number, variance1: Number, mean2: Number, variance2: Number) -> Tensor:
    r"""KL of two scalar Gaussians, elementwise, from variances.

    .. math:: \tfrac12\left[r - 1 - \log r + (m_1-m_2)^2/v_2\right], \qquad r = v_1/v_2

    Args:
        mean1, variance1: of the first law, whose mean the divergence takes.
        mean2, variance2: of the second. Numbers are allowed beside at least one tensor; variances are > 0.

    Returns:
        Nats per element, >= 0, in the broadcast shape and the dtype of the data.

    Raises:
        RangeError: a variance that is not positive (seen on CPU).
        ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: free of cancellation near equal variances; k = 8 roundings. Source: ho2020, eq. (5); standard.

    >>> kl_normal(torch.zeros(2, dtype=torch.float64), 2.0, 1.0, 1.0)
    tensor([0.6534, 0.6534], dtype=torch.float64)
    """
    like = first_tensor(mean1=mean1, mean2=mean2, variance1=variance1, variance2=variance2)
    m1, v1, m2, v2 = parameters(like, mean1=mean1, variance1=variance1, mean2=mean2, variance2=variance2)
    common_shape(mean1=m1, variance1=v1, mean2=m2, variance2=v2)
    positive(variance1=v1, variance2=v2)
    shift = m1 - m2
    # in this order nothing overflows before the result does
    return ((_variance_gap(v1, v2) + shift / v2 * shift) / 2).to(like.dtype)


def kl_normal_logvar(mean1: Number, logvar1: Number, mean2: Number, logvar2: Number) -> Tensor:
    r"""KL of two scalar Gaussians, elementwise, from log-variances.

    .. math:: \tfrac12\left[e^\Delta - 1 - \Delta + (m_1-m_2)^2 e^{-\ell_2}\right], \qquad \Delta = \ell_1 - \ell_2

    Args:
        mean1, logvar1: of the first law, whose mean the divergence takes.
        mean2, logvar2: of the second. Log-variances are logarithms of variances, not of stds.

    Returns:
        Nats per element, >= 0, in the broadcast shape and the dtype of the data.

    Raises:
        RangeError: a log-variance that is not finite (seen on CPU).
        ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: free of cancellation near equal log-variances; :math:`e^\Delta` carries an error :math:`|\Delta|` times
    that of :math:`\Delta`. Source: ho2020, eq. (5); standard.
    """
    like = first_tensor(mean1=mean1, mean2=mean2, logvar1=logvar1, logvar2=logvar2)
    m1, l1, m2, l2 = parameters(like, mean1=mean1, logvar1=logvar1, mean2=mean2, logvar2=logvar2)
    common_shape(mean1=m1, logvar1=l1, mean2=m2, logvar2=l2)
    finite(logvar1=l1, logvar2=l2)
    shift = m1 - m2
    # half the exponent on each factor, so that neither overflows before their square does
    distance = (shift * (l2 / -2).exp()).square().masked_fill(shift == 0, 0)
    return ((gap_expm1(l1 - l2) + distance) / 2).to(like.dtype)


def kl_normal_isotropic(mean1: Tensor, variance1: Number, mean2: Tensor, variance2: Number) -> Tensor:
    r"""KL of two isotropic Gaussians over the whole last axis.

    .. math:: \tfrac12\left[d\,(r - 1 - \log r) + \lVert m_1-m_2\rVert^2/v_2\right], \qquad r = v_1/v_2

    Args:
        mean1, mean2: ``(..., d)``.
        variance1, variance2: one > 0 per vector: numbers, 0-dim, or ``(...)``.

    Returns:
        Nats per vector, shape ``(...)``.

    Raises:
        RangeError, ShapeError, PrecisionError: see `kl_normal`.

    Limits: the sum over d is torch's. Source: ho2020, eq. (5); standard.
    """
    same_kind(None, mean1=mean1, mean2=mean2)
    m1, v1, m2, v2 = parameters(mean1, mean1=mean1, variance1=variance1, mean2=mean2, variance2=variance2)
    shape = _vectors(mean1=m1, mean2=m2)
    common_shape(mean=m1.new_empty(shape[:-1]), variance1=v1, variance2=v2)
    positive(variance1=v1, variance2=v2)
    shift = (m1 - m2).square().sum(-1)
    return ((shape[-1] * _variance_gap(v1, v2) + shift / v2) / 2).to(mean1.dtype)


def kl_normal_matched(mean1: Number, mean2: Number, variance: Number) -> Tensor:
    r"""KL of two scalar Gaussians of one variance, elementwise.

    .. math:: (m_1-m_2)^2/(2v)

    Args:
        mean1, mean2: of the two laws.
        variance: of both, > 0.

    Returns:
        Nats per element, >= 0.

    Raises:
        RangeError, ShapeError, PrecisionError: see `kl_normal`.

    Limits: symmetric in the means. Source: ho2020, eq. (8).
    """
    like = first_tensor(mean1=mean1, mean2=mean2, variance=variance)
    m1, m2, v = parameters(like, mean1=mean1, mean2=mean2, variance=variance)
    common_shape(mean1=m1, mean2=m2, variance=v)
    positive(variance=v)
    shift = m1 - m2
    return (shift / v * shift / 2).to(like.dtype)


def kl_normal_full(mean1: Tensor, covariance1: Tensor, mean2: Tensor, covariance2: Tensor) -> Tensor:
    r"""KL of two Gaussians with full covariances, over the whole last axis.

    .. math::
        \tfrac12\left[\log\frac{|\Sigma_2|}{|\Sigma_1|} - d + \mathrm{tr}(\Sigma_2^{-1}\Sigma_1)
        + (m_2-m_1)^\top\Sigma_2^{-1}(m_2-m_1)\right]

    With Cholesky factors :math:`\Sigma_i = L_iL_i^\top` and :math:`M = L_2^{-1}L_1`, lower triangular, this is a sum
    of terms that are none of them negative:
    :math:`\tfrac12[\sum_i(M_{ii}^2 - 1 - \log M_{ii}^2) + \sum_{i>j}M_{ij}^2 + \lVert L_2^{-1}(m_2-m_1)\rVert^2]`.

    Args:
        mean1, mean2: ``(..., d)``.
        covariance1, covariance2: symmetric positive definite, ``(..., d, d)``; only the lower triangle is read.

    Returns:
        Nats per vector, shape ``(...)``.

    Raises:
        RangeError: a covariance that is not positive definite (seen where it may be read).
        ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: the error grows with the condition numbers of the covariances. Source: standard.
    """
    same_kind(None, mean1=mean1, mean2=mean2)
    m1, s1, m2, s2 = parameters(mean1, mean1=mean1, covariance1=covariance1, mean2=mean2, covariance2=covariance2)
    d = _vectors(mean1=m1, mean2=m2)[-1]
    for name, matrix in (("covariance1", s1), ("covariance2", s2)):
        if matrix.shape[-2:] != (d, d):
            raise ShapeError(f"{name} has shape {tuple(matrix.shape)} beside means of {d}: write (..., {d}, {d})")
    common_shape(mean1=m1[..., None], mean2=m2[..., None], covariance1=s1, covariance2=s2)
    lower1, lower2 = _cholesky("covariance1", s1), _cholesky("covariance2", s2)
    batch = broadcast_shapes(m1.shape[:-1], m2.shape[:-1], s1.shape[:-2], s2.shape[:-2])
    right = torch.cat([lower1.expand(*batch, d, d), (m2 - m1)[..., None].expand(*batch, d, 1)], dim=-1)
    solved = torch.linalg.solve_triangular(lower2.expand(*batch, d, d), right, upper=False)
    ratio, shift = solved[..., :d], solved[..., d]
    diagonal = ratio.diagonal(dim1=-2, dim2=-1)
    gaps = gap_log1p((diagonal - 1) * (diagonal + 1)).sum(-1)
    below = ratio.tril(-1).square().sum((-2, -1))
    nats: Tensor = ((gaps + below + shift.square().sum(-1)) / 2).to(mean1.dtype)
    return nats


def _variance_gap(variance1: Tensor, variance2: Tensor) -> Tensor:
    r""":math:`r - 1 - \log r`, :math:`r = v_1/v_2`; far from 1 from r itself, near 1 from the difference of the
    variances."""
    ratio = variance1 / variance2
    far = (ratio < 0.5) | (ratio > 2)
    difference = (variance1 - variance2) / variance2
    safe = torch.where(far, ratio, torch.ones_like(ratio))
    return torch.where(far, safe - 1 - safe.log(), gap_log1p(torch.where(far, torch.zeros_like(ratio), difference)))


def _cholesky(name: str, covariance: Tensor) -> Tensor:
    lower: Tensor
    lower, info = torch.linalg.cholesky_ex(covariance)
    if readable(info) and bool(info.any()):
        raise RangeError(
            f"{name} is not positive definite: add a multiple of the identity, or use kl_normal on its diagonal"
        )
    return lower


def _vectors(**means: Tensor) -> torch.Size:
    """The broadcast shape of vectors ``(..., d)`` of one d."""
    shape = common_shape(**means)
    if not shape or any(mean.shape[-1:] != shape[-1:] for mean in means.values()):
        given = ", ".join(f"{name} {tuple(mean.shape)}" for name, mean in means.items())
        raise ShapeError(f"shapes do not fit: {given}; write (..., d) with one d")
    return shape
