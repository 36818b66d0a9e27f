r"""The posterior of the forward process, :math:`q(x_s\mid x_t, x_0)` for ``s < t``.

Bayes' rule for the Markov chain x_0 -> x_s -> x_t: every factor is Gaussian, so the product is (Ho et al. 2020, eq.
6-7).
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from ddpm_ref.errors import LevelError, RangeError, ScheduleError
from ddpm_ref.reference.arguments import expand, positive, real, same_shape
from ddpm_ref.reference.schedule import NoiseSchedule, Trajectory, Transition
from ddpm_ref.typing import Array, ArrayLike

FirstStep = Literal["replace", "replace_unstrided", "floor", "exact"]
LOG_FLOOR = 1e-20  # the variance at which the "floor" rule clamps (ADM-style code bases use this figure)


def log_normal(x: ArrayLike, mean: ArrayLike, variance: ArrayLike) -> Array:
    r"""Log density of a normal law, nats per element: :math:`-\tfrac12\left[\log(2\pi\sigma^2) + (x-\mu)^2/\sigma^2\right]`.

    The second argument of a normal law is always a variance, > 0. An isotropic log density in d dimensions is the sum
    over elements. Law: ``posterior/log_normal``. Source: standard.

    >>> float(log_normal(0.0, 0.0, 1.0))
    -0.918938...
    """
    x, mean, variance = real(x, "x"), real(mean, "mean"), positive(variance, "variance")
    same_shape(x=x, mean=mean, variance=variance)
    return -(np.log(2 * np.pi * variance) + (x - mean) ** 2 / variance) / 2


def posterior_weights(schedule: NoiseSchedule, t: ArrayLike, s: ArrayLike) -> tuple[Array, Array]:
    r"""Weights of ``x_0`` and of ``x_t`` in the posterior mean.

    .. math:: \frac{\sqrt{\bar\alpha_s}\,\beta_{t|s}}{\bar\beta_t}, \qquad
              \frac{\sqrt{\alpha_{t|s}}\,\bar\beta_s}{\bar\beta_t}

    Both are >= 0; exactly 1 and 0 at ``s = 0``. Law: ``posterior/weights``. Source: ho2020, eq. (7).
    """
    step = schedule.between(t, s)
    return step.x0_weight, step.xt_weight


def posterior_variance(schedule: NoiseSchedule, t: ArrayLike, s: ArrayLike) -> Array:
    r"""Posterior variance :math:`\tilde\beta_{t|s} = \beta_{t|s}\bar\beta_s/\bar\beta_t` (a variance, not a standard deviation).

    Limits: exactly 0 at ``s = 0``; at most ``min(beta_{t|s}, beta_bar_s)``. Law: ``posterior/variance``. Source:
    ho2020, eq. (7).
    """
    return schedule.between(t, s).beta_tilde


def q_posterior(
    schedule: NoiseSchedule, x0: ArrayLike, xt: ArrayLike, t: ArrayLike, s: ArrayLike
) -> tuple[Array, Array]:
    r"""Mean and variance of ``x_s`` given ``x_t`` and ``x_0``.

    .. math:: \tilde\mu = \frac{\sqrt{\bar\alpha_s}\,\beta_{t|s}}{\bar\beta_t}\,x_0
              + \frac{\sqrt{\alpha_{t|s}}\,\bar\beta_s}{\bar\beta_t}\,x_t, \qquad \tilde\beta =
              \frac{\bar\beta_s}{\bar\beta_t}\,\beta_{t|s}

    Args:
        schedule: the noise schedule.
        x0, xt: data and noisy data of one shape ``(*batch, *event)``.
        t, s: levels, ``T >= t > s >= 0``; scalars or shaped like the leading axes of the data.

    Returns:
        mean: shape of the data.
        variance: >= 0, exactly 0 for ``s = 0``; broadcasts against the data.

    Raises `LevelError`, `ShapeError`, `RangeError` (non-finite input). Limits: ``s = 0`` returns ``x0``.
    Law: ``posterior/mean`` and ``posterior/variance``. Source: ho2020, eq. (6)-(7).
    """
    step, x0, xt = schedule.between(t, s), real(x0, "x0"), real(xt, "xt")
    shape = same_shape(x0=x0, xt=xt)
    mean = expand(step.x0_weight, shape) * x0 + expand(step.xt_weight, shape) * xt
    return mean, expand(step.beta_tilde, shape)


def posterior_mean_from_eps(
    schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, s: ArrayLike, eps: ArrayLike
) -> Array:
    r"""Posterior mean from the aggregate noise of ``x_t``.

    .. math:: \tilde\mu = \frac{1}{\sqrt{\alpha_{t|s}}}\left(x_t -
              \frac{\beta_{t|s}}{\sqrt{\bar\beta_t}}\,\varepsilon\right)

    Raises `RangeError` at zero terminal SNR, where the noise does not determine the data. Limits: ``s = 0`` gives
    ``x0``. Law: ``posterior/mean_from_eps``. Source: ho2020, eq. (10)-(11).
    """
    step, xt, eps = schedule.between(t, s), real(xt, "xt"), real(eps, "eps")
    shape = same_shape(xt=xt, eps=eps)
    refuse_zero_snr(schedule, step)
    return expand(step.recip_sqrt_alpha, shape) * xt - expand(step.eps_weight, shape) * eps


def refuse_zero_snr(schedule: NoiseSchedule, step: Transition) -> None:
    """Raise where the step starts at alpha_bar = 0: a noise prediction says nothing about x0 there."""
    if (schedule.alpha_bar[step.t] == 0).any():
        raise RangeError(
            f"alpha_bar = 0 at t = T = {schedule.T} (zero terminal SNR): eps does not determine x0; use x0 or v"
        )


def completing_square(
    schedule: NoiseSchedule, x0: ArrayLike, xt: ArrayLike, t: ArrayLike, s: ArrayLike
) -> tuple[Array, Array]:
    r"""Coefficients of the exponent :math:`-\tfrac12(a x_s^2 - b x_s + C)` of the posterior, ``s >= 1``.

    .. math:: a = \frac{\alpha_{t|s}}{\beta_{t|s}} + \frac1{\bar\beta_s}, \qquad
              b = 2\left(\frac{\sqrt{\alpha_{t|s}}}{\beta_{t|s}}x_t + \frac{\sqrt{\bar\alpha_s}}{\bar\beta_s}x_0\right)

    The mean is ``b / (2a)`` and the variance ``1 / a``: precisions add. Law: ``posterior/completing_square``. Source:
    ho2020, eq. (7).
    """
    step, x0, xt = schedule.between(t, s), real(x0, "x0"), real(xt, "xt")
    shape = same_shape(x0=x0, xt=xt)
    _refuse_level_0(step)
    a = step.alpha / step.beta + 1 / schedule.beta_bar[step.s]
    from_xt, from_x0 = step.sqrt_alpha / step.beta, schedule.sqrt_alpha_bar[step.s] / schedule.beta_bar[step.s]
    return expand(a, shape), 2 * (expand(from_xt, shape) * xt + expand(from_x0, shape) * x0)


def _refuse_level_0(step: Transition) -> None:
    if (step.s == 0).any():
        raise LevelError("s = 0: the posterior is the point mass at x0 and has no density; use s >= 1")


def log_q_posterior(
    schedule: NoiseSchedule, xs: ArrayLike, x0: ArrayLike, xt: ArrayLike, t: ArrayLike, s: ArrayLike
) -> Array:
    r"""Log density of the posterior by Bayes' rule, nats per element, ``s >= 1``.

    .. math:: \log q(x_s\mid x_t,x_0) = \log q(x_t\mid x_s) + \log q(x_s\mid x_0) - \log q(x_t\mid x_0)

    Computed as the normal law of mean and variance `q_posterior`, to which the three terms combine with no constant
    left over. Raises `LevelError` for ``s = 0``. Law: ``posterior/log_density``. Source: ho2020, eq. (6).
    """
    step = schedule.between(t, s)
    _refuse_level_0(step)
    mean, variance = q_posterior(schedule, x0, xt, t, s)
    return log_normal(xs, mean, variance)


def posterior_log_variance(
    schedule: NoiseSchedule,
    t: ArrayLike,
    s: ArrayLike,
    first_step: str = "replace",
    trajectory: Trajectory | None = None,
) -> Array:
    r"""Log of the posterior variance, with a named rule for the step to level 0, where it is :math:`\log 0`.

    Args:
        schedule: the noise schedule.
        t, s: levels, ``T >= t > s >= 0``.
        first_step: what a step to ``s = 0`` gets:
            ``"replace"`` the value of the step before it on ``trajectory`` (default trajectory: all levels), as
            OpenAI's code;
            ``"replace_unstrided"`` the value of the step 2 -> 1 whatever the trajectory, as Analytic-DPM's code;
            ``"floor"`` ``log(max(., 1e-20))``; ``"exact"`` minus infinity.
        trajectory: the spaced chain, for ``"replace"``.

    Only "replace" rules may feed a likelihood. Raises `ScheduleError` if the chain has no step to borrow from (one
    step). Law: ``posterior/log_variance``. Source: ho2020 and nichol2021, code.
    """
    step = schedule.between(t, s)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(with_first_step(schedule, step, step.beta_tilde, first_step, trajectory)))


def with_first_step(
    schedule: NoiseSchedule, step: Transition, variance: Array, rule: str, trajectory: Trajectory | None
) -> Array:
    """``variance`` with its entries at ``s = 0`` set by the named rule (see `posterior_log_variance`)."""
    if rule not in get_args(FirstStep):
        raise RangeError(f"first_step = {rule!r} is not known; write one of {', '.join(get_args(FirstStep))}")
    if rule == "exact":
        return variance
    if rule == "floor":
        return np.asarray(np.maximum(variance, LOG_FLOOR))
    strided = rule == "replace" and trajectory is not None
    levels = trajectory.levels if strided and trajectory is not None else tuple(range(min(schedule.T, 2), -1, -1))
    if len(levels) < 3:
        raise ScheduleError(
            f"first_step = {rule!r} borrows from the step before the last, but the chain {levels} has one step; "
            "write 'floor' or 'exact'"
        )
    return np.where(step.s == 0, schedule.between(levels[-3], levels[-2]).beta_tilde, variance)


def true_reverse_kernel(
    schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, s: ArrayLike, x0_mean: ArrayLike, x0_variance: ArrayLike
) -> tuple[Array, Array]:
    r"""Mean and variance of :math:`q(x_s\mid x_t)` from those of :math:`q(x_0\mid x_t)`, per element.

    .. math:: \tilde\mu(x_t, \mathbb E[x_0\mid x_t]), \qquad \tilde\beta_{t|s}
              + \left(\frac{\sqrt{\bar\alpha_s}\beta_{t|s}}{\bar\beta_t}\right)^2\mathrm{Var}(x_0\mid x_t)

    Args: ``x0_mean``, ``x0_variance``: moments of the data given ``x_t``; variance >= 0. Gaussian only for Gaussian
    data.
    Limits: unit Gaussian data give the variance ``beta_{t|s}``, a point mass gives beta_tilde. Law:
    ``posterior/true_reverse``.
    Source: law of total variance; bao2022, theorem 1.
    """
    step, spread = schedule.between(t, s), positive(x0_variance, "x0_variance", zero=True)
    mean, variance = q_posterior(schedule, x0_mean, xt, t, s)
    shape = same_shape(mean=mean, x0_variance=spread)
    return mean, variance + expand(step.x0_weight, shape) ** 2 * spread


def plug_in_reverse(
    schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, s: ArrayLike, x0: ArrayLike
) -> tuple[Array, Array]:
    r"""The plug-in approximation :math:`q(x_s\mid x_t) \approx q(x_s\mid x_t, x_0 = \hat x_0(x_t))`: mean and variance.

    The mean is right for :math:`\hat x_0 = \mathbb E[x_0\mid x_t]`; the variance misses the spread of the data
    (`true_reverse_kernel`). Law: ``posterior/plug_in_reverse``. Source: ho2020, section 3.2.
    """
    return q_posterior(schedule, x0, xt, t, s)
