r"""The reverse model :math:`p_\theta(x_s | x_t)`: its mean, the choices for its variance, one step, one chain."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddpm_ref.errors import ShapeError
from ddpm_ref.reference.schedule import Trajectory
from ddpm_ref.torch.arguments import (
    Level,
    LevelLike,
    Number,
    common_shape,
    compute_dtype,
    expand_right,
    finite,
    non_negative,
    one_of,
    pair,
    parameters,
    same_kind,
    within,
)
from ddpm_ref.torch.posterior import first_step_variance, log_normal, posterior_mean_from_eps, q_posterior
from ddpm_ref.torch.tables import Tables, between

KINDS = {"posterior": "beta_tilde", "fixed_small": "beta_tilde", "beta": "beta", "fixed_large": "beta"}


def model_mean_from_eps(tables: Tables, xt: Tensor, t: LevelLike, s: LevelLike, eps: Tensor) -> Tensor:
    r"""Mean of the reverse step from predicted noise.

    .. math::
        \mu_\theta = \frac{1}{\sqrt{\alpha_{t|s}}}\left(x_t -
        \frac{\beta_{t|s}}{\sqrt{\bar\beta_t}}\,\hat\varepsilon\right)

    Args:
        xt: noisy data, ``(*batch, *event)``.
        t, s: levels, ``T >= t > s >= 0``, scalars or in the shape of the leading axes.
        eps: predicted noise, in the shape of ``xt``.

    Returns:
        The mean, shape and dtype of ``xt``.

    Raises:
        RangeError: t = T at zero terminal SNR.
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: equals `model_mean_from_x0` only for unclipped x0. Source: ho2020, eq. (11).
    """
    return posterior_mean_from_eps(tables, xt, t, s, eps)


def model_mean_from_x0(tables: Tables, xt: Tensor, t: LevelLike, s: LevelLike, x0: Tensor) -> Tensor:
    r"""Mean of the reverse step from predicted clean data.

    .. math:: \mu_\theta = \tilde\mu(x_t, \hat x_0)

    Args:
        xt: noisy data, ``(*batch, *event)``.
        t, s: levels, ``T >= t > s >= 0``, scalars or in the shape of the leading axes.
        x0: predicted clean data, clipped or not, finite.

    Returns:
        The mean, shape and dtype of ``xt``.

    Raises:
        LevelError, ShapeError, PrecisionError, RangeError: see `ddpm_ref.torch.posterior.q_posterior`.

    Limits: the form for clipped x0, and for zero terminal SNR. Source: ho2020, section 3.2.
    """
    return q_posterior(tables, x0, xt, t, s)[0]


def reverse_variance(tables: Tables, t: LevelLike, s: LevelLike, kind: str = "posterior") -> Tensor:
    r"""The two fixed variances of the reverse step.

    .. math:: \tilde\beta_{t|s} \quad\text{or}\quad \beta_{t|s}

    Args:
        t, s: levels, ``T >= t > s >= 0``.
        kind: "posterior" or "fixed_small" for the first, "beta" or "fixed_large" for the second.

    Returns:
        A variance, not a std, in the shape of the levels and the dtype of the tables.

    Raises:
        RangeError: an unknown kind.
        LevelError, ShapeError: see `ddpm_ref.torch.arguments`.

    Limits: "posterior" is 0 at s = 0: fine for sampling, fatal for a likelihood. Source: ho2020, section 3.2.
    """
    one_of("kind", kind, KINDS)
    step = tables.between(t, s)
    return step.beta_tilde if KINDS[kind] == "beta_tilde" else step.beta


def fixed_large_log_variance(
    tables: Tables,
    t: LevelLike,
    s: LevelLike,
    first_step: str = "replace",
    trajectory: Trajectory | Sequence[int] | None = None,
) -> Tensor:
    r"""Logarithm of the large fixed variance, its entry at s = 0 by the same rule as the posterior's.

    .. math:: \log\beta_{t|s}, \qquad \text{at } s = 0 \text{ by default } \log\tilde\beta \text{ of the second step}

    Args:
        t, s: levels, ``T >= t > s >= 0``.
        first_step, trajectory: see `ddpm_ref.torch.posterior.posterior_log_variance`; "floor" and "exact" keep
            :math:`\beta_{t|0}`, which is not 0.

    Returns:
        Log-variance in nats, in the shape of the levels and the dtype of the tables.

    Raises:
        LevelError, ShapeError, RangeError: see `ddpm_ref.torch.posterior.posterior_log_variance`.

    Limits: the entry at s = 0 never influences samples, only the decoder likelihood. Source: ho2020 and nichol2021,
    their code.
    """
    step = between(tables, *pair(tables, t, s))
    return first_step_variance(tables, step, step.beta, first_step, trajectory).log()


def optimal_variance_bounds(tables: Tables, t: LevelLike, s: LevelLike) -> tuple[Tensor, Tensor]:
    r"""Bounds on the optimal isotropic variance of the reverse step, for any data.

    .. math:: \tilde\beta_{t|s} \le \sigma^{*2} \le \beta_{t|s}/\alpha_{t|s}

    Args:
        t, s: levels, ``T >= t > s >= 0``.

    Returns:
        (lower, upper) variances, in the shape of the levels and the dtype of the tables.

    Raises:
        LevelError, ShapeError: see `ddpm_ref.torch.arguments`.

    Limits: with the optimal mean; the upper bound is infinite at zero terminal SNR. Source: bao2022, theorem 2.
    """
    step = tables.between(t, s)
    return step.beta_tilde, step.beta / step.alpha


def learned_variance(
    tables: Tables,
    t: LevelLike,
    s: LevelLike,
    fraction: Tensor,
    first_step: str = "replace",
    trajectory: Trajectory | Sequence[int] | None = None,
) -> Tensor:
    r"""A variance between the two fixed ones, interpolated in the logarithm.

    .. math:: \exp\left(v\log\beta_{t|s} + (1-v)\log\tilde\beta_{t|s}\right)

    Args:
        t, s: levels, ``T >= t > s >= 0``, scalars or in the shape of the leading axes.
        fraction: v in [0, 1], ``(*batch, *event)``; 0 gives the posterior variance, 1 gives beta. A network's output
            in [-1, 1] enters as ``(output + 1) / 2``.
        first_step, trajectory: the rule for :math:`\log\tilde\beta` at s = 0, see
            `ddpm_ref.torch.posterior.posterior_log_variance`.

    Returns:
        A variance, shape of ``fraction``, in its compute format.

    Raises:
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.
        RangeError: a fraction outside [0, 1] (seen on CPU); an unknown rule; "exact", whose -inf
            cannot be interpolated.
        ScheduleError: no second step to replace by.

    Limits: the error of the exponential is that of its logarithm. Source: nichol2021, eq. (15).
    """
    t, s = _learned_pair(tables, t, s, first_step, fraction=fraction)
    within(0, 1, fraction=fraction)
    v = fraction.to(compute_dtype(fraction.dtype))
    small_log, large_log = _log_variances(tables, t, s, first_step, trajectory, v)
    return (v * large_log + (1 - v) * small_log).exp()


def learned_log_variance(
    tables: Tables,
    t: LevelLike,
    s: LevelLike,
    extra: Tensor,
    kind: str,
    first_step: str = "replace",
    trajectory: Trajectory | Sequence[int] | None = None,
) -> Tensor:
    r"""The log-variance of the reverse step from what a network says of it.

    .. math:: \log\sigma^2 = o \qquad\text{or}\qquad
        \log\sigma^2 = v\log\beta_{t|s} + (1-v)\log\tilde\beta_{t|s}, \quad v = \frac{o + 1}{2}

    Args:
        t, s: levels, ``T >= t > s >= 0``, scalars or in the shape of the leading axes.
        extra: o, ``(*batch, *event)``, finite.
        kind: "learned" for the first, "learned_range" for the second, where o lies in [-1, 1] by convention.
        first_step, trajectory: the rule for :math:`\log\tilde\beta` at s = 0, see
            `ddpm_ref.torch.posterior.posterior_log_variance`.

    Returns:
        Log-variance in nats per element, shape of ``extra``, in its compute format.

    Raises:
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.
        RangeError: an unknown kind or rule; "exact", whose -inf cannot be interpolated; ``extra`` is not finite (seen
            on CPU).
        ScheduleError: no second step to replace by.

    Limits: nothing is clipped: an o outside [-1, 1] extrapolates, as in the code of nichol2021, while
    `learned_variance` refuses it. Source: nichol2021, eq. (15).
    """
    one_of("kind", kind, ("learned", "learned_range"))
    t, s = _learned_pair(tables, t, s, first_step, extra=extra)
    finite(extra=extra)
    o = extra.to(compute_dtype(extra.dtype))
    if kind == "learned":
        return o
    small_log, large_log = _log_variances(tables, t, s, first_step, trajectory, o)
    return ((1 + o) * large_log + (1 - o) * small_log) / 2


def _learned_pair(tables: Tables, t: LevelLike, s: LevelLike, first_step: str, **output: Tensor) -> tuple[Level, Level]:
    """The step, checked beside what a network says of its variance."""
    one_of("first_step", first_step, ("replace", "replace_unstrided", "floor"))
    later, earlier = pair(tables, t, s)
    same_kind(tables, **output)
    common_shape(later, earlier, **output)
    return later, earlier


def _log_variances(
    tables: Tables,
    t: Level,
    s: Level,
    first_step: str,
    trajectory: Trajectory | Sequence[int] | None,
    like: Tensor,
) -> tuple[Tensor, Tensor]:
    """Logarithms of the small and of the large variance, which broadcast against ``like``."""
    step = between(tables, t, s)
    small = first_step_variance(tables, step, step.beta_tilde, first_step, trajectory)
    small_log, large_log = (expand_right(variance.log().to(like.dtype), like.ndim) for variance in (small, step.beta))
    return small_log, large_log


def reverse_step(mean: Tensor, variance: Number, noise: Tensor) -> Tensor:
    r"""A draw of x_s.

    .. math:: x_s = \mu + \sqrt{\sigma^2}\,z

    Args:
        mean: of the reverse step, ``(*batch, *event)``.
        variance: not a std, >= 0, broadcasts against ``mean``; in its format or its compute format.
        noise: standard normal, in the shape of ``mean``; ignored where the variance is 0.

    Returns:
        x_s, shape and dtype of ``mean``.

    Raises:
        RangeError: a negative variance (seen on CPU).
        ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: no noise on the last step is variance 0 there, not another function. k = 3 roundings. Source: ho2020,
    algorithm 2.
    """
    same_kind(None, mean=mean, noise=noise)
    m, v, z = parameters(mean, mean=mean, variance=variance, noise=noise)
    common_shape(mean=m, variance=v, noise=z)
    non_negative(variance=v)
    return (m + v.sqrt() * z).to(mean.dtype)


def log_reverse_step(xs: Tensor, mean: Tensor, variance: Number) -> Tensor:
    r"""Log density of x_s under the reverse step, elementwise, in nats.

    .. math:: \log\mathcal N(x_s; \mu, \sigma^2)

    Args:
        xs: data at level s. mean: of the step. variance: of the step, > 0.

    Returns:
        Nats per element, in the broadcast shape and the dtype of ``xs``.

    Raises:
        RangeError, ShapeError, PrecisionError: see `ddpm_ref.torch.posterior.log_normal`.

    Limits: undefined for variance 0. Source: ho2020, eq. (1).
    """
    return log_normal(xs, mean, variance)


def reverse_chain_variance(gains: Tensor, variances: Tensor, terminal_variance: Number = 1.0) -> Tensor:
    r"""Variances along a chain of linear Gaussian steps :math:`x \leftarrow g x + \sqrt{\sigma^2}\,z`.

    .. math:: v \leftarrow g^2 v + \sigma^2

    Args:
        gains, variances: ``(K, ...)``, one per step in sampling order, from level T down; variances are >= 0.
        terminal_variance: the variance the chain starts from.

    Returns:
        ``(K + 1, ...)``: from the first state to the sample.

    Raises:
        RangeError: a negative variance (seen on CPU).
        ShapeError: not one gain per variance, or a terminal variance of another shape than one step.
        PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: a Python loop over the steps. Source: ho2020, eq. (1), for linear means.

    >>> reverse_chain_variance(torch.tensor([0.5, 1.0]), torch.tensor([0.0, 0.25]))
    tensor([1.0000, 0.2500, 0.5000])
    """
    same_kind(None, gains=gains, variances=variances)
    g, v, start = parameters(gains, gains=gains, variances=variances, terminal_variance=terminal_variance)
    if not g.ndim or g.shape != v.shape or (start.ndim and start.shape != g.shape[1:]):
        raise ShapeError(
            f"gains {tuple(g.shape)}, variances {tuple(v.shape)}, terminal_variance {tuple(start.shape)}: "
            "write one gain and one variance per step, (K, ...), and a terminal variance of shape (...)"
        )
    non_negative(variances=v, terminal_variance=start)
    chain = [start.expand(g.shape[1:])]
    for gain, variance in zip(g, v, strict=True):
        chain.append(gain * gain * chain[-1] + variance)
    return torch.stack(chain).to(gains.dtype)
