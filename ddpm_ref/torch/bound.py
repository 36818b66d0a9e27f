r"""The variational bound, term by term: :math:`-\log p_\theta(x_0) \le L_T + \sum_{t\ge2} L_{t-1} + L_0`.

Nats are per element, or per image where the name says so; bits are per dimension. `bits_per_dim` is the one place
where nats become bits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddpm_ref.errors import LevelError, RangeError, ShapeError
from ddpm_ref.torch.arguments import (
    Level,
    LevelLike,
    Number,
    compute_dtype,
    expand_right,
    one_of,
    operands,
    pair,
    parameters,
    readable,
    same_kind,
)
from ddpm_ref.torch.decoder import checked_level_count, discretized_gaussian_log_likelihood
from ddpm_ref.torch.divergence import kl_normal_logvar
from ddpm_ref.torch.forward import refuse_dead_level, terminal_kl
from ddpm_ref.torch.lincomb import lincomb
from ddpm_ref.torch.reverse import KINDS
from ddpm_ref.torch.scaling import to_level_index
from ddpm_ref.torch.series import gap_log1p
from ddpm_ref.torch.tables import Between, Tables, between


def prior_term(tables: Tables, x0: Tensor) -> Tensor:
    r"""The prior term L_T, in nats per element: the divergence of :math:`q(x_T|x_0)` from the standard normal.

    .. math:: \tfrac12\left[\bar\alpha_T x_0^2 - \bar\alpha_T - \log(1-\bar\alpha_T)\right]

    Args:
        x0: clean data, finite.

    Returns:
        Nats per element, >= 0, shape and dtype of ``x0``.

    Raises:
        PrecisionError, RangeError: see `ddpm_ref.torch.forward.terminal_kl`.

    Limits: nothing in it is learned. Source: ho2020, eq. (5), section 3.1.
    """
    return terminal_kl(tables, x0)


def denoising_term(
    tables: Tables, x0: Tensor, xt: Tensor, t: LevelLike, s: LevelLike, mean: Tensor, log_variance: Number
) -> Tensor:
    r"""The denoising term of the step from t to s, in nats per element.

    .. math:: D_{KL}\left(q(x_s|x_t,x_0)\,\Vert\,\mathcal N(\mu, \sigma^2)\right)
        = \tfrac12\left[\frac{\tilde\beta}{\sigma^2} - 1 - \log\frac{\tilde\beta}{\sigma^2}
        + \frac{(\tilde\mu - \mu)^2}{\sigma^2}\right]

    Args:
        x0: clean data, finite, ``(*batch, *event)``.
        xt: noisy data, in the shape of ``x0``.
        t, s: levels, ``T >= t > s >= 1``, scalars or in the shape of the leading axes.
        mean: of the reverse step, in the shape of ``x0``; in its format or its compute format.
        log_variance: :math:`\log\sigma^2` of the reverse step: a scalar, or with as many axes as ``x0``, of length 1
            where it does not vary (one per example: ``(*batch, 1, 1, 1)``).

    Returns:
        Nats per element, >= 0, shape and dtype of ``x0``.

    Raises:
        LevelError: also for s = 0, where `reconstruction_term` stands.
        ShapeError, PrecisionError, RangeError: see `ddpm_ref.torch.arguments`.

    Limits: the posterior is the first argument of the divergence; one draw of x_t, not the expectation. Source: ho2020,
    eq. (5), (8).
    """
    t, s = _later_pair(tables, t, s, "the term of the last step is reconstruction_term")
    x0, xt, m, logvar = _step_arguments(tables, t, s, x0, xt, mean, log_variance)
    return _denoising(x0, xt, between(tables, t, s), m, logvar).to(x0.dtype)


def reconstruction_term(x0: Tensor, mean: Tensor, log_variance: Number, levels: int | None = 256) -> Tensor:
    r"""The reconstruction term L_0, in nats per element.

    .. math:: -\log p_\theta(x_0|x_1)

    the probability of the bin of x_0 under :math:`\mathcal N(\mu, \sigma^2)`, or for continuous data its density.

    Args:
        x0: clean data: levels rounded to its dtype, see `ddpm_ref.torch.scaling.to_level_index`.
        mean: of the last reverse step, in the shape of ``x0``; in its format or its compute format.
        log_variance: :math:`\log\sigma^2`, finite, in a shape as for `denoising_term`.
        levels: the number of levels of discrete data, or None for continuous data.

    Returns:
        Nats per element, shape and dtype of ``x0``; >= 0 for discrete data, of either sign for a density.

    Raises:
        RangeError: data off the grid, a log-variance that is not finite: the posterior variance is 0 at s = 0, and a
            first-step rule or :math:`\beta` must stand there.
        ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: the exact decoder, without a floor; one draw of x_1, not the expectation. Source: ho2020, eq. (13).
    """
    x0, m, logvar = _reconstruction_arguments(x0, mean, log_variance)
    level_index = None if levels is None else to_level_index(x0, levels)
    return _reconstruction(x0, level_index, m, logvar, levels).to(x0.dtype)


def bound_term(
    tables: Tables,
    x0: Tensor,
    xt: Tensor,
    t: LevelLike,
    s: LevelLike,
    mean: Tensor,
    log_variance: Number,
    levels: int | None = 256,
) -> Tensor:
    r"""The term of the bound that belongs to a step, in bits per dimension, one number per example.

    .. math:: \frac1{d\ln2}\begin{cases}L_{t\to s} & s \ge 1\\ L_0 & s = 0\end{cases}

    Args:
        x0, xt: clean and noisy data of one shape, ``(*batch, *event)``.
        t, s: levels, ``T >= t > s >= 0``, scalars or of shape ``batch``.
        mean, log_variance: of the reverse step, see `denoising_term`.
        levels: see `reconstruction_term`; it says what ``x0`` must be whatever s is.

    Returns:
        Bits per dimension in the shape of the levels: the mean over the axes of ``x0`` after those of t and s, in the
        dtype of ``x0``. The sum over all steps of a trajectory plus `prior_term` in bits is the bound.

    Raises:
        LevelError, ShapeError, PrecisionError, RangeError: see `denoising_term` and `reconstruction_term`.

    Limits: both cases are evaluated where s is a tensor, each on harmless numbers where the other one is meant, so that
    gradients are finite. Continuous data need `continuous_bits_per_dim` for s = 0 to be comparable. For the hybrid
    objective hand in ``mean.detach()``. Source: ho2020, eq. (5); nichol2021, eq. (4)-(7).
    """
    t, s = pair(tables, t, s)
    x0, xt, m, logvar = _step_arguments(tables, t, s, x0, xt, mean, log_variance)
    level_index = None if levels is None else to_level_index(x0, levels)
    step, axes = between(tables, t, s), max(value.ndim if isinstance(value, Tensor) else 0 for value in (t, s))
    if isinstance(s, int):
        nats = _reconstruction(x0, level_index, m, logvar, levels) if s == 0 else _denoising(x0, xt, step, m, logvar)
    else:
        # Each case is evaluated on harmless numbers where the other one is meant: what overflows in a case that is not
        # chosen would still put NaN into the gradient.
        last = expand_right(s == 0, x0.ndim)
        clean = x0.to(m.dtype)
        reconstruction = _reconstruction(
            x0, level_index, torch.where(last, m, clean), logvar.masked_fill(~last, 0), levels
        )
        denoising = _denoising(x0, xt, step, torch.where(last, clean, m), logvar.masked_fill(last, 0))
        nats = torch.where(last, reconstruction, denoising)
    per_image = nats.flatten(axes).sum(-1) if nats.ndim > axes else nats
    return bits_per_dim(per_image, x0.shape[axes:].numel()).to(x0.dtype)


def variance_term(tables: Tables, t: LevelLike, s: LevelLike, variance: str = "posterior") -> Tensor:
    r"""What a fixed variance costs in the denoising term whatever the mean, in nats per element.

    .. math:: \tfrac12(r - 1 - \log r), \qquad r = \tilde\beta_{t|s}/\sigma^2

    Args:
        t, s: levels, ``T >= t > s >= 1``.
        variance: "posterior" (or "fixed_small"), for which it is 0, or "beta" (or "fixed_large").

    Returns:
        Nats per element, >= 0, in the shape of the levels and the dtype of the tables.

    Raises:
        LevelError: also for s = 0, where the posterior variance is 0.
        RangeError: an unknown variance. ShapeError: see `ddpm_ref.torch.arguments`.

    Limits: for "beta" r = beta_bar_s / beta_bar_t, and r - 1 comes from beta, not from a difference of near numbers.
    Source: ho2020, eq. (5), for the variances of section 3.2.
    """
    one_of("variance", variance, KINDS)
    t, s = _later_pair(tables, t, s, "a term of the last step is a likelihood, see reconstruction_term")
    step = between(tables, t, s)
    if KINDS[variance] == "beta_tilde":
        return torch.zeros_like(step.beta)
    ratio = step.beta_bar_s / step.beta_bar_t
    less_one = -step.sqrt_alpha_bar_s.square() * step.beta / step.beta_bar_t
    far = ratio < 0.5
    near_gap = gap_log1p(less_one.masked_fill(far, 0))
    return torch.where(far, ratio - 1 - ratio.log(), near_gap) / 2


def bits_per_dim(nats: Tensor, dimension: int) -> Tensor:
    r"""Bits per dimension from the nats of a whole image.

    .. math:: \frac{\text{nats}}{d\,\ln 2}

    Args:
        nats: per image, any shape.
        dimension: d >= 1, the number of components of an image; 1 for nats per element.

    Returns:
        Shape and dtype of ``nats``.

    Raises:
        RangeError: no dimension. PrecisionError: ``nats`` is not a floating-point tensor.

    Limits: k = 3 roundings. Source: ho2020, section 4.

    >>> bits_per_dim(torch.tensor(8 * 3 * math.log(2)), 3)
    tensor(8.)
    """
    same_kind(None, nats=nats)
    return (nats.to(compute_dtype(nats.dtype)) / (_components(dimension) * math.log(2))).to(nats.dtype)


def nats_per_image(bits_per_dim: Tensor, dimension: int) -> Tensor:
    r"""Nats of a whole image from its bits per dimension: the way back.

    .. math:: \text{bits}\cdot d\,\ln 2

    Args:
        bits_per_dim: any shape.
        dimension: d >= 1, the number of components of an image.

    Returns:
        Shape and dtype of ``bits_per_dim``.

    Raises:
        RangeError, PrecisionError: see `bits_per_dim`.

    Limits: k = 3 roundings. Source: ho2020, section 4.
    """
    same_kind(None, bits_per_dim=bits_per_dim)
    bits = bits_per_dim.to(compute_dtype(bits_per_dim.dtype))
    return (bits * (_components(dimension) * math.log(2))).to(bits_per_dim.dtype)


def continuous_bits_per_dim(nats: Tensor, dimension: int, levels: int = 256) -> Tensor:
    r"""Bits per dimension from a density on [-1, 1], comparable with those of discrete data.

    .. math:: \frac{\text{nats}}{d\,\ln 2} + \log_2\frac{n-1}2

    which is the code length if the density is constant over each of the n bins, of width 2/(n-1).

    Args:
        nats: minus the log-density of an image, any shape.
        dimension: d >= 1, the number of components of an image.
        levels: n, 2 to 2**20.

    Returns:
        Shape and dtype of ``nats``.

    Raises:
        RangeError, PrecisionError: see `bits_per_dim`.

    Limits: the two terms may cancel. Source: ho2020, section 4, for a density.
    """
    same_kind(None, nats=nats)
    width = math.log2((checked_level_count(levels) - 1) / 2)
    return (bits_per_dim(nats.to(compute_dtype(nats.dtype)), dimension) + width).to(nats.dtype)


def loss_weight_mean(tables: Tables, t: LevelLike, s: LevelLike, variance: str = "posterior") -> Tensor:
    r"""The weight of :math:`\lVert\tilde\mu - \mu\rVert^2` in the bound, in nats.

    .. math:: \frac1{2\sigma^2}, \qquad \sigma^2 = \tilde\beta_{t|s} \text{ or } \beta_{t|s}

    Args:
        t, s: levels, ``T >= t > s >= 1``; with "beta" also s = 0.
        variance: "posterior" (or "fixed_small"), or "beta" (or "fixed_large").

    Returns:
        Weights, in the shape of the levels and the dtype of the tables.

    Raises:
        LevelError: also for s = 0 with "posterior", whose variance is 0 there.
        RangeError: an unknown variance. ShapeError: see `ddpm_ref.torch.arguments`.

    Limits: times the squared error it is a divergence of equal variances; with "beta" `variance_term` is to be added.
    Source: ho2020, eq. (8).
    """
    step, later = _weighted(tables, t, s, variance)
    return later / (2 * step.beta)


def loss_weight_x0(tables: Tables, t: LevelLike, s: LevelLike, variance: str = "posterior") -> Tensor:
    r"""The weight of :math:`\lVert x_0 - \hat x_0\rVert^2` in the bound, in nats.

    .. math::
        \sigma^2 = \tilde\beta: \ \tfrac12(\mathrm{SNR}_s - \mathrm{SNR}_t)
        = \frac{\bar\alpha_s\beta_{t|s}}{2\bar\beta_s\bar\beta_t}, \qquad
        \sigma^2 = \beta: \ \frac{\bar\alpha_s\beta_{t|s}}{2\bar\beta_t^2}

    Args:
        t, s, variance: see `loss_weight_mean`.

    Returns:
        Weights, in the shape of the levels and the dtype of the tables.

    Raises:
        LevelError, RangeError, ShapeError: see `loss_weight_mean`.

    Limits: no difference is formed. Over the steps of a trajectory the first sums to half the loss of SNR. Source:
    kingma2021, the loss in discrete time.
    """
    step, later = _weighted(tables, t, s, variance)
    return later * step.sqrt_alpha_bar_s.square() * (step.beta / step.beta_bar_t / step.beta_bar_t) / 2


def loss_weight_eps(tables: Tables, t: LevelLike, s: LevelLike, variance: str = "posterior") -> Tensor:
    r"""The weight of :math:`\lVert\varepsilon - \hat\varepsilon\rVert^2` in the bound, in nats.

    .. math::
        \frac{\beta_{t|s}^2}{2\sigma^2\alpha_{t|s}\bar\beta_t}: \qquad
        \sigma^2 = \tilde\beta: \ \frac{\beta_{t|s}}{2\alpha_{t|s}\bar\beta_s}, \qquad
        \sigma^2 = \beta: \ \frac{\beta_{t|s}}{2\alpha_{t|s}\bar\beta_t}

    Args:
        t, s, variance: see `loss_weight_mean`.

    Returns:
        Weights, in the shape of the levels and the dtype of the tables.

    Raises:
        LevelError, RangeError, ShapeError: see `loss_weight_mean`; RangeError also for t = T at zero terminal SNR, where
            the noise says nothing of x_0.

    Limits: depends on t: the simple loss, which leaves it out, is not the bound. Source: ho2020, eq. (12).
    """
    step, later = _weighted(tables, t, s, variance)
    refuse_dead_level(tables, step.t, "no error in eps determines x0 at zero terminal SNR; use v or x0")
    return later * (step.beta / (step.alpha * step.beta_bar_t)) / 2


def loss_weight_v(tables: Tables, t: LevelLike, s: LevelLike, variance: str = "posterior") -> Tensor:
    r"""The weight of :math:`\lVert v - \hat v\rVert^2` in the bound, in nats.

    .. math::
        \sigma^2 = \tilde\beta: \ \frac{\bar\alpha_s\beta_{t|s}}{2\bar\beta_s}, \qquad
        \sigma^2 = \beta: \ \frac{\bar\alpha_s\beta_{t|s}}{2\bar\beta_t}

    Args:
        t, s, variance: see `loss_weight_mean`.

    Returns:
        Weights, in the shape of the levels and the dtype of the tables.

    Raises:
        LevelError, RangeError, ShapeError: see `loss_weight_mean`.

    Limits: that of x_0 times :math:`\bar\beta_t`, because :math:`x_0 = \sqrt{\bar\alpha_t}x_t -
    \sqrt{\bar\beta_t}v`. Source: salimans2022, section 4.
    """
    step, later = _weighted(tables, t, s, variance)
    return later * step.sqrt_alpha_bar_s.square() * (step.beta / step.beta_bar_t) / 2


def _weighted(tables: Tables, t: LevelLike, s: LevelLike, variance: str) -> tuple[Between, Tensor]:
    r"""The step, and :math:`\beta/\sigma^2`: 1, or :math:`\bar\beta_t/\bar\beta_s` for the posterior variance."""
    one_of("variance", variance, KINDS)
    if KINDS[variance] == "beta":
        step = tables.between(t, s)
        return step, torch.ones_like(step.beta)
    later, earlier = _later_pair(
        tables, t, s, f"variance = {variance!r} is 0 there and its weight infinite, write 'beta' or a first-step rule"
    )
    step = between(tables, later, earlier)
    return step, step.beta_bar_t / step.beta_bar_s


def _later_pair(tables: Tables, t: LevelLike, s: LevelLike, instead: str) -> tuple[Level, Level]:
    """A step that does not end at level 0."""
    later, earlier = pair(tables, t, s)
    first = earlier == 0
    if bool(first.any()) if isinstance(first, Tensor) and readable(first) else first is True:
        raise LevelError(f"s = 0, and this belongs to s >= 1: {instead}")
    return later, earlier


def _components(dimension: int) -> int:
    if isinstance(dimension, bool) or not isinstance(dimension, int) or dimension < 1:
        raise RangeError(f"dimension = {dimension!r}: write the number of components of an image, at least 1")
    return dimension


def _step_arguments(
    tables: Tables, t: Level, s: Level, x0: Tensor, xt: Tensor, mean: Tensor, log_variance: Number
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x0 and xt in one shape, and the mean and log-variance of a reverse step in it, in the compute format."""
    if xt.shape != x0.shape:
        raise ShapeError(f"xt has shape {tuple(xt.shape)}, x0 {tuple(x0.shape)}: give tensors of one shape")
    x0, xt = operands(tables, t, s, x0=x0, xt=xt)
    return x0, xt, *_model(x0, mean, log_variance)


def _reconstruction_arguments(x0: Tensor, mean: Tensor, log_variance: Number) -> tuple[Tensor, Tensor, Tensor]:
    (x0,) = operands(None, x0=x0)
    return x0, *_model(x0, mean, log_variance)


def _model(x0: Tensor, mean: Tensor, log_variance: Number) -> tuple[Tensor, Tensor]:
    """The mean and log-variance of a reverse step in the shape of x0, in the compute format."""
    m, logvar = parameters(x0, mean=mean, log_variance=log_variance)
    if m.shape != x0.shape:
        raise ShapeError(f"mean has shape {tuple(m.shape)}, x0 {tuple(x0.shape)}: give tensors of one shape")
    # One number per example would else be matched with the last axis of the data wherever that is as long.
    fits = logvar.ndim in (0, x0.ndim) and all(n in (1, d) for n, d in zip(logvar.shape, x0.shape, strict=False))
    if not fits:
        raise ShapeError(
            f"log_variance has shape {tuple(logvar.shape)}, x0 {tuple(x0.shape)}: give a scalar, or as many axes as x0 "
            "has, of its lengths or 1, e.g. (B, 1, 1, 1) for one number per image"
        )
    return m, logvar.expand(x0.shape)


def _denoising(x0: Tensor, xt: Tensor, step: Between, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Nats per element in the compute format; finite also at s = 0, where the variance of the posterior is 0."""
    compute = mean.dtype
    # half-precision data stay in the compute format until the divergence is known: a rounded mean would cost its digits
    posterior_mean = lincomb([step.x0_weight, step.xt_weight], [x0.to(compute), xt.to(compute)])
    posterior_logvar = step.beta_tilde.masked_fill(step.beta_bar_s == 0, 1).log().to(compute)
    return kl_normal_logvar(posterior_mean, expand_right(posterior_logvar, x0.ndim), mean, log_variance)


def _reconstruction(
    x0: Tensor, level_index: Tensor | None, mean: Tensor, log_variance: Tensor, levels: int | None
) -> Tensor:
    """Nats per element in the compute format."""
    if levels is None or level_index is None:
        difference = x0.to(mean.dtype) - mean
        # 0 times a precision that overflows is NaN, in the gradient too; where nothing is to be scaled any finite one serves
        overflows = (difference == 0) & (log_variance / -2).exp().isinf()
        precision = (log_variance.masked_fill(overflows, 0) / -2).exp()
        distance = (difference * precision).square()
        return (distance + log_variance + math.log(2 * math.pi)) / 2
    return -discretized_gaussian_log_likelihood(level_index, mean, (log_variance / 2).exp(), levels)
