"""The posterior of the forward process, :math:`q(x_s | x_t, x_0)` for s < t, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ddpm_ref.errors import ScheduleError
from ddpm_ref.reference.schedule import Trajectory
from ddpm_ref.torch.arguments import (
    LevelLike,
    Number,
    common_shape,
    compute_dtype,
    expand_right,
    finite,
    first_tensor,
    non_negative,
    one_of,
    operands,
    pair,
    parameters,
    positive,
    same_kind,
)
from ddpm_ref.torch.forward import refuse_dead_level
from ddpm_ref.torch.lincomb import lincomb
from ddpm_ref.torch.tables import Between, Tables, between

FIRST_STEP = ("replace", "replace_unstrided", "floor", "exact")
FLOOR = 1e-20
"""The smallest variance under the rule ``floor``."""


def log_normal(x: Number, mean: Number, variance: Number) -> Tensor:
    r"""Log density of a scalar Gaussian, elementwise, in nats.

    .. math:: -\tfrac12\left[(x-m)^2/v + \log(2\pi v)\right]

    Args:
        x, mean: numbers or tensors.
        variance: > 0, not a std.

    Returns:
        Nats per element, in the broadcast shape and the dtype of the data.

    Raises:
        RangeError: a variance that is not positive (seen on CPU).
        ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: sum over elements for the density of a vector. Source: standard.

    >>> log_normal(torch.zeros(1, dtype=torch.float64), 0.0, 1.0)
    tensor([-0.9189], dtype=torch.float64)
    """
    like = first_tensor(x=x, mean=mean, variance=variance)
    x, m, v = parameters(like, x=x, mean=mean, variance=variance)
    common_shape(x=x, mean=m, variance=v)
    positive(variance=v)
    return _log_normal(x, m, v).to(like.dtype)


def _log_normal(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return -((x - mean).square() / variance + variance.log() + math.log(2 * math.pi)) / 2


def posterior_weights(tables: Tables, t: LevelLike, s: LevelLike) -> tuple[Tensor, Tensor]:
    r"""The weights of x_0 and of x_t in the posterior mean.

    .. math::
        c^0 = \frac{\sqrt{\bar\alpha_s}\,\beta_{t|s}}{\bar\beta_t}, \qquad
        c^x = \frac{\sqrt{\alpha_{t|s}}\,\bar\beta_s}{\bar\beta_t}

    Args:
        t, s: levels, ``T >= t > s >= 0``.

    Returns:
        (weight of x_0, weight of x_t), in the shape of the levels and the dtype of the tables.

    Raises:
        LevelError, ShapeError: see `ddpm_ref.torch.arguments`.

    Limits: exactly (1, 0) at s = 0; no cancellation anywhere. Source: ho2020, eq. (7).
    """
    step = tables.between(t, s)
    return step.x0_weight, step.xt_weight


def posterior_variance(tables: Tables, t: LevelLike, s: LevelLike) -> Tensor:
    r"""Variance of :math:`q(x_s | x_t, x_0)`.

    .. math:: \tilde\beta_{t|s} = \beta_{t|s}\,\bar\beta_s/\bar\beta_t

    Args:
        t, s: levels, ``T >= t > s >= 0``.

    Returns:
        A variance, not a std, in the shape of the levels and the dtype of the tables.

    Raises:
        LevelError, ShapeError: see `ddpm_ref.torch.arguments`.

    Limits: exactly 0 at s = 0. Source: ho2020, eq. (7).
    """
    return tables.between(t, s).beta_tilde


def q_posterior(tables: Tables, x0: Tensor, xt: Tensor, t: LevelLike, s: LevelLike) -> tuple[Tensor, Tensor]:
    r"""Mean and variance of x_s given x_t and x_0.

    .. math::
        \tilde\mu = \frac{\sqrt{\bar\alpha_s}\,\beta_{t|s}}{\bar\beta_t}\,x_0
                  + \frac{\sqrt{\alpha_{t|s}}\,\bar\beta_s}{\bar\beta_t}\,x_t,
        \qquad \tilde\beta = \beta_{t|s}\,\bar\beta_s/\bar\beta_t

    Args:
        x0: clean data, finite, ``(*batch, *event)``.
        xt: noisy data, in the shape of ``x0``.
        t, s: levels, ``T >= t > s >= 0``, scalars or in the shape of the leading axes.

    Returns:
        mean: shape and dtype of ``x0``. variance: in the compute format (float32 for halves), broadcasts against
            ``x0``.

    Raises:
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.
        RangeError: ``x0`` is not finite.

    Limits: s = 0 gives mean ``x0`` and variance 0; k = 8 roundings with float32 tables. Source: ho2020, eq. (6)-(7).
    """
    t, s = pair(tables, t, s)
    x0, xt = operands(tables, t, s, x0=x0, xt=xt)
    finite(x0=x0)
    step = between(tables, t, s)
    mean = lincomb([step.x0_weight, step.xt_weight], [x0, xt])
    return mean, expand_right(step.beta_tilde.to(compute_dtype(x0.dtype)), x0.ndim)


def posterior_mean_from_eps(tables: Tables, xt: Tensor, t: LevelLike, s: LevelLike, eps: Tensor) -> Tensor:
    r"""The posterior mean from the aggregate noise instead of x_0.

    .. math::
        \tilde\mu = \frac{1}{\sqrt{\alpha_{t|s}}}\left(x_t - \frac{\beta_{t|s}}{\sqrt{\bar\beta_t}}\,\varepsilon\right)

    Args:
        xt: noisy data, ``(*batch, *event)``.
        t, s: levels, ``T >= t > s >= 0``.
        eps: the noise of ``q_sample``, in the shape of ``xt``.

    Returns:
        The mean, shape and dtype of ``xt``.

    Raises:
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.
        RangeError: t = T at zero terminal SNR, where the noise says nothing of x_0.

    Limits: at s = 0 this is x_0. Source: ho2020, eq. (10)-(11).
    """
    t, s = pair(tables, t, s)
    xt, eps = operands(tables, t, s, xt=xt, eps=eps)
    refuse_dead_level(tables, t, "eps prediction does not determine the mean at zero terminal SNR; use v or x0")
    step = between(tables, t, s)
    return lincomb([step.recip_sqrt_alpha, -step.eps_weight], [xt, eps])


def completing_square(tables: Tables, x0: Tensor, xt: Tensor, t: LevelLike, s: LevelLike) -> tuple[Tensor, Tensor]:
    r"""The coefficients a, b of the posterior exponent :math:`-\tfrac12(a x_s^2 - b x_s + C)`.

    .. math::
        a = \frac{\alpha_{t|s}}{\beta_{t|s}} + \frac{1}{\bar\beta_s}, \qquad
        b = \frac{2\sqrt{\alpha_{t|s}}}{\beta_{t|s}}\,x_t + \frac{2\sqrt{\bar\alpha_s}}{\bar\beta_s}\,x_0

    Args:
        x0, xt: clean and noisy data of one shape.
        t, s: levels, ``T >= t > s >= 1``.

    Returns:
        a: in the compute format, broadcasts against ``x0``. b: shape and dtype of ``x0``.
        The posterior has mean ``b / (2 a)`` and variance ``1 / a``.

    Raises:
        LevelError: also for s = 0, where the posterior is a point.
        ShapeError, PrecisionError, RangeError: see `q_posterior`.

    Limits: b carries a factor 2. Source: ho2020, eq. (7), its derivation.
    """
    t, s = pair(tables, t, s, lowest=1)
    x0, xt = operands(tables, t, s, x0=x0, xt=xt)
    finite(x0=x0)
    step = between(tables, t, s)
    a = step.alpha / step.beta + 1 / step.beta_bar_s
    from_x0, from_xt = 2 * step.sqrt_alpha_bar_s / step.beta_bar_s, 2 * step.sqrt_alpha / step.beta
    return expand_right(a.to(compute_dtype(x0.dtype)), x0.ndim), lincomb([from_x0, from_xt], [x0, xt])


def log_q_posterior(tables: Tables, xs: Tensor, x0: Tensor, xt: Tensor, t: LevelLike, s: LevelLike) -> Tensor:
    r"""Log density of x_s under the posterior, by Bayes' rule, elementwise, in nats.

    .. math:: \log q(x_t|x_s) + \log q(x_s|x_0) - \log q(x_t|x_0) = \log\mathcal N(x_s; \tilde\mu, \tilde\beta)

    Args:
        xs, x0, xt: data at levels s, 0 and t, of one shape.
        t, s: levels, ``T >= t > s >= 1``.

    Returns:
        Nats per element, shape and dtype of ``x0``.

    Raises:
        LevelError: also for s = 0, where there is no density.
        ShapeError, PrecisionError, RangeError: see `q_posterior`.

    Limits: evaluated as the one density on the right; the three on the left, each large, would cancel.
    Source: ho2020, eq. (6).
    """
    t, s = pair(tables, t, s, lowest=1)
    xs, x0, xt = operands(tables, t, s, xs=xs, x0=x0, xt=xt)
    finite(x0=x0)
    step, compute = between(tables, t, s), compute_dtype(x0.dtype)
    # half-precision data stay in the compute format until the density is known: a rounded mean would cost its digits
    mean = lincomb([step.x0_weight, step.xt_weight], [x0.to(compute), xt.to(compute)])
    variance = expand_right(step.beta_tilde.to(compute), x0.ndim)
    return _log_normal(xs.to(compute), mean, variance).to(x0.dtype)


def posterior_log_variance(
    tables: Tables,
    t: LevelLike,
    s: LevelLike,
    first_step: str = "replace",
    trajectory: Trajectory | Sequence[int] | None = None,
) -> Tensor:
    r"""Logarithm of the posterior variance, with a rule for s = 0, where the variance is 0.

    .. math:: \log\tilde\beta_{t|s}

    Args:
        t, s: levels, ``T >= t > s >= 0``.
        first_step: what stands at s = 0. ``"replace"``: the posterior variance of the second step of the trajectory
            (OpenAI's code); ``"replace_unstrided"``: that of the step (2, 1) (Analytic-DPM's code); ``"floor"``: at
            least 1e-20, everywhere; ``"exact"``: -inf.
        trajectory: the levels used, descending to 0; None: all levels, T..0.

    Returns:
        Log-variance in nats, in the shape of the levels and the dtype of the tables.

    Raises:
        LevelError, ShapeError: see `ddpm_ref.torch.arguments`.
        RangeError: unknown rule.
        ScheduleError: no second step to replace by.

    Limits: only the replacing rules may feed a decoder likelihood. Source: nichol2021, section 3.1 and its code.
    """
    t, s = pair(tables, t, s)
    step = between(tables, t, s)
    return first_step_variance(tables, step, step.beta_tilde, first_step, trajectory).log()


def first_step_variance(
    tables: Tables, step: Between, variance: Tensor, first_step: str, trajectory: Trajectory | Sequence[int] | None
) -> Tensor:
    """``variance`` with its entries at s = 0 set by the rule ``first_step``; see `posterior_log_variance`."""
    one_of("first_step", first_step, FIRST_STEP)
    if first_step == "exact":
        return variance
    if first_step == "floor":
        return variance.clamp(min=FLOOR)
    later, earlier = 2, 1
    if first_step == "replace" and trajectory is not None:
        given = trajectory.levels if isinstance(trajectory, Trajectory) else trajectory
        levels = [int(level) for level in given]
        later, earlier = levels[-3:-1] if len(levels) > 2 else (0, 0)
    if later > tables.T or later == 0:
        raise ScheduleError(
            f"first_step = {first_step!r} takes the variance of the second step, and there is only one: "
            "write 'floor', or 'exact' if -inf will do"
        )
    second = tables.between(later, earlier).beta_tilde
    return torch.where(step.beta_bar_s == 0, second, variance)


def true_reverse_kernel(
    tables: Tables, xt: Tensor, t: LevelLike, s: LevelLike, x0_mean: Tensor, x0_variance: Number
) -> tuple[Tensor, Tensor]:
    r"""Mean and variance of :math:`q(x_s|x_t)` from those of :math:`q(x_0|x_t)`.

    .. math:: c^0\,E[x_0|x_t] + c^x x_t, \qquad \tilde\beta_{t|s} + (c^0)^2\,\mathrm{Var}(x_0|x_t)

    Args:
        xt: noisy data, ``(*batch, *event)``.
        t, s: levels, ``T >= t > s >= 0``.
        x0_mean: mean of x_0 given x_t, in the shape of ``xt``.
        x0_variance: its variance per element, >= 0, broadcasts against ``xt``.

    Returns:
        mean: shape and dtype of ``xt``. variance: in the compute format, broadcasts against ``xt``.

    Raises:
        RangeError: a negative variance (seen on CPU).
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: moments; :math:`q(x_s|x_t)` is Gaussian only for Gaussian data. Source: bao2022, proof of theorem 1.
    """
    t, s = pair(tables, t, s)
    same_kind(tables, xt=xt, x0_mean=x0_mean)
    (spread,) = parameters(xt, x0_variance=x0_variance)
    shape = common_shape(t, s, xt=xt, x0_mean=x0_mean, x0_variance=spread)
    non_negative(x0_variance=spread)
    mean, variance = q_posterior(tables, x0_mean.expand(shape), xt.expand(shape), t, s)
    weight = expand_right(between(tables, t, s).x0_weight.to(spread.dtype), len(shape))
    return mean, variance + weight * weight * spread


def plug_in_reverse(tables: Tables, xt: Tensor, t: LevelLike, s: LevelLike, x0: Tensor) -> tuple[Tensor, Tensor]:
    r"""The posterior with a prediction in place of x_0.

    .. math:: q(x_s|x_t) \approx q(x_s|x_t, x_0 = \hat x_0(x_t))

    Args:
        xt: noisy data.
        t, s: levels, ``T >= t > s >= 0``.
        x0: predicted clean data, finite, in the shape of ``xt``.

    Returns:
        Mean and variance as `q_posterior` gives them.

    Raises:
        LevelError, ShapeError, PrecisionError, RangeError: see `q_posterior`.

    Limits: the variance misses that of x_0 given x_t, see `true_reverse_kernel`. Source: ho2020, section 3.2.
    """
    return q_posterior(tables, x0, xt, t, s)
