r"""The forward process: :math:`q(x_t\mid x_s)` and what follows from it.

Every kernel is Gaussian with mean :math:`\sqrt{\alpha_{t|s}}\,x_s` and covariance :math:`\beta_{t|s}I` (Ho et al. 2020,
eq. 2 and 4).
"""

from __future__ import annotations

import numpy as np

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.reference.arguments import expand, level, positive, real, same_shape
from ddpm_ref.reference.divergence import variance_divergence
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array, ArrayLike, Real


def _combine(a: Array, x: Array, b: Array, y: Array, shape: tuple[int, ...]) -> Array:
    return np.asarray(expand(a, shape) * x + expand(b, shape) * y)


def forward_step(schedule: NoiseSchedule, x_prev: ArrayLike, t: ArrayLike, noise: ArrayLike) -> Array:
    r"""One step of the forward chain, from level ``t - 1`` to ``t``.

    .. math:: x_t = \sqrt{\alpha_t}\,x_{t-1} + \sqrt{\beta_t}\,\varepsilon_t

    Args:
        schedule: the noise schedule.
        x_prev: state at level ``t - 1``, shape ``(*batch, *event)``.
        t: level, ``1 <= t <= T``; scalar or shaped like the leading axes of ``x_prev``.
        noise: the noise of this step, standard normal, shape of ``x_prev``.

    Raises `LevelError`, `ShapeError`, `RangeError` (non-finite input). Limits: beta -> 0 is the identity, beta = 1 pure
    noise. Law: ``forward/step``. Source: ho2020, eq. (2).
    """
    t, x_prev, noise = level(t, schedule.T, lowest=1), real(x_prev, "x_prev"), real(noise, "noise")
    shape = same_shape(x_prev=x_prev, noise=noise)
    return _combine(schedule.sqrt_alpha[t], x_prev, schedule.sqrt_beta[t], noise, shape)


def q_mean_variance(schedule: NoiseSchedule, x: ArrayLike, t: ArrayLike, s: ArrayLike = 0) -> tuple[Array, Array]:
    r"""Mean and variance of :math:`q(x_t\mid x_s) = \mathcal N(\sqrt{\alpha_{t|s}}\,x_s,\ \beta_{t|s}I)`.

    Args: ``x`` is the state at level ``s``; levels ``T >= t > s >= 0``.
    Returns the mean, of the shape of ``x``, and the variance, which broadcasts against it.
    Law: ``forward/mean_variance``. Source: ho2020, eq. (4), for ``s = 0``.

    >>> mean, variance = q_mean_variance(NoiseSchedule.from_betas([0.5, 0.25]), [1.0, 2.0], t=2)
    >>> variance
    array([0.625])
    """
    step, x = schedule.between(t, s), real(x, "x")
    return expand(step.sqrt_alpha, x.shape) * x, expand(step.beta, x.shape)


def q_sample(schedule: NoiseSchedule, x0: ArrayLike, t: ArrayLike, noise: ArrayLike) -> Array:
    r"""A draw of ``x_t`` given clean data, in one step.

    .. math:: x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{\bar\beta_t}\,\varepsilon

    Args:
        schedule: the noise schedule.
        x0: clean data, shape ``(*batch, *event)``.
        t: level, ``0 <= t <= T``; scalar or shaped like the leading axes of ``x0``.
        noise: the aggregate noise, standard normal, shape of ``x0``.

    Raises `LevelError`, `ShapeError`, `RangeError` (non-finite input). Limits: ``t = 0`` returns ``x0``.
    Law: ``forward/q_sample``. Source: ho2020, eq. (4).

    >>> q_sample(NoiseSchedule.from_betas([0.75]), [2.0, 4.0], t=1, noise=[0.0, 0.0])
    array([1., 2.])
    """
    t, x0, noise = level(t, schedule.T), real(x0, "x0"), real(noise, "noise")
    shape = same_shape(x0=x0, noise=noise)
    return _combine(schedule.sqrt_alpha_bar[t], x0, schedule.sqrt_beta_bar[t], noise, shape)


def q_sample_between(schedule: NoiseSchedule, xs: ArrayLike, t: ArrayLike, s: ArrayLike, noise: ArrayLike) -> Array:
    r"""A draw of ``x_t`` given ``x_s``, ``T >= t > s >= 0``: :math:`x_t=\sqrt{\alpha_{t|s}}\,x_s+\sqrt{\beta_{t|s}}\,\varepsilon`.

    Law: ``forward/q_sample_between``. Source: ho2020, eq. (2) and (4).
    """
    step, xs, noise = schedule.between(t, s), real(xs, "xs"), real(noise, "noise")
    shape = same_shape(xs=xs, noise=noise)
    return _combine(step.sqrt_alpha, xs, step.sqrt_beta, noise, shape)


def q_chain(schedule: NoiseSchedule, x0: ArrayLike, noises: ArrayLike) -> Array:
    """The states ``x_1 .. x_n`` of the forward chain driven by per-step ``noises`` of shape ``(n, *x0.shape)``, ``n <= T``.

    Returns an array of the shape of ``noises``. Source: ho2020, eq. (2); the chain costs n steps where `q_sample` costs
    one.
    """
    x, noises = real(x0, "x0"), real(noises, "noises")
    if noises.ndim != x.ndim + 1 or noises.shape[1:] != x.shape or noises.shape[0] > schedule.T:
        raise ShapeError(f"noises have shape {noises.shape}; give (n, *{x.shape}) with n <= T = {schedule.T}")
    states = np.empty_like(noises)
    for t, noise in enumerate(noises, 1):
        x = states[t - 1] = forward_step(schedule, x, t, noise)
    return states


def aggregate_noise(schedule: NoiseSchedule, noises: ArrayLike, t: ArrayLike) -> Array:
    r"""The one noise that `q_sample` needs to reproduce a chain driven by the noises of its ``t`` steps.

    .. math:: \varepsilon = \frac{1}{\sqrt{\bar\beta_t}} \sum_{s=1}^{t}
              \sqrt{\frac{\bar\alpha_t}{\bar\alpha_s}\beta_s}\;\varepsilon_s

    Args: ``noises`` of shape ``(t, *event)``; ``t`` a scalar level >= 1. It is not the noise of step ``t``: their
    correlation is `aggregate_noise_correlation`. Law: ``forward/aggregate_noise``. Source: the unrolled chain.
    """
    levels, noises = level(t, schedule.T, lowest=1), real(noises, "noises")
    if levels.ndim:
        raise ShapeError(f"t has shape {levels.shape}; the noises of one chain need one scalar level")
    t = int(levels)
    if noises.ndim == 0 or noises.shape[0] != t:
        raise ShapeError(f"noises have shape {noises.shape}; give one noise per step, shape ({t}, *event)")
    weights = np.ones(t)
    if t > 1:
        weights[:-1] = schedule.between(np.full(t - 1, t), np.arange(1, t)).sqrt_alpha
    weights = weights * schedule.sqrt_beta[1 : t + 1] / schedule.sqrt_beta_bar[t]
    return np.asarray(np.tensordot(weights, noises, axes=1))


def aggregate_noise_correlation(schedule: NoiseSchedule, t: ArrayLike) -> Array:
    r"""Correlation :math:`\sqrt{\beta_t/\bar\beta_t}` of the noise of step ``t`` with the aggregate noise of ``x_t``, ``t >= 1``.

    Limits: 1 at ``t = 1``, where they are the same. Law: ``forward/aggregate_noise_correlation``. Source: the unrolled
    chain.
    """
    return schedule.noise_share[level(t, schedule.T, lowest=1)]


def data_marginal(schedule: NoiseSchedule, mean: ArrayLike, variance: ArrayLike, t: ArrayLike) -> tuple[Array, Array]:
    r"""Mean and variance per element of ``x_t`` for data of the given mean and variance.

    .. math:: \mathbb E x_t = \sqrt{\bar\alpha_t}\,\mathbb E x_0, \qquad \mathrm{Var}\,x_t = \bar\alpha_t
              \mathrm{Var}\,x_0 + \bar\beta_t

    Not the conditional :math:`q(x_t\mid x_0)`: that is the case of variance 0. Law: ``forward/data_marginal``. Source:
    total variance.
    """
    t, mean, variance = level(t, schedule.T), real(mean, "mean"), positive(variance, "variance", zero=True)
    shape = same_shape(mean=mean, variance=variance)
    scale = expand(schedule.sqrt_alpha_bar[t], shape)
    return scale * mean, _combine(schedule.alpha_bar[t], variance, schedule.beta_bar[t], np.ones(()), shape)


def second_moment(
    schedule: NoiseSchedule, second_moment: ArrayLike, t: ArrayLike, s: ArrayLike, dimension: Real = 1
) -> Array:
    r"""Energy balance of the chain: :math:`\mathbb E\|x_t\|^2 = \alpha_{t|s}\,\mathbb E\|x_s\|^2 + \beta_{t|s}\,d`.

    In expectation only; along a path the cross term of signal and noise is present. Law: ``forward/second_moment``.
    """
    step, moment = schedule.between(t, s), positive(second_moment, "second_moment", zero=True)
    if isinstance(dimension, bool) or not isinstance(dimension, int | np.integer) or dimension < 1:
        raise RangeError(f"dimension = {dimension!r} must be a whole number of components, at least 1")
    return _combine(step.alpha, moment, step.beta, np.asarray(float(dimension)), moment.shape)


def stepwise_inversion(schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, noise: ArrayLike) -> Array:
    r"""The state before step ``t``, from the state after it and the *same* noise that the step used.

    .. math:: x_{t-1} = \frac{x_t - \sqrt{\beta_t}\,\varepsilon_t}{\sqrt{\alpha_t}}

    An algebraic identity, not a draw from :math:`q(x_{t-1}\mid x_t)`. Raises `RangeError` where ``beta_t = 1`` has
    erased the state. Law: ``forward/stepwise_inversion``.
    """
    t, xt, noise = level(t, schedule.T, lowest=1), real(xt, "xt"), real(noise, "noise")
    shape = same_shape(xt=xt, noise=noise)
    if (schedule.sqrt_alpha[t] == 0).any():
        raise RangeError(
            f"beta = 1 at t = T = {schedule.T}: the step keeps nothing of x_(t-1), so it cannot be inverted"
        )
    return np.asarray((xt - expand(schedule.sqrt_beta[t], shape) * noise) / expand(schedule.sqrt_alpha[t], shape))


def gaussian_sum(
    mean1: ArrayLike, variance1: ArrayLike, mean2: ArrayLike, variance2: ArrayLike, correlation: Real = 0.0
) -> tuple[Array, Array]:
    r"""Mean and variance of the sum of two Gaussians: :math:`\sigma_1^2+\sigma_2^2+2\rho\sigma_1\sigma_2`.

    Sums of independent Gaussians are Gaussian; products are not. Raises `RangeError` for a correlation outside [-1, 1].
    Law: ``forward/gaussian_sum``.
    """
    m1, m2 = real(mean1, "mean1"), real(mean2, "mean2")
    v1, v2 = positive(variance1, "variance1", zero=True), positive(variance2, "variance2", zero=True)
    same_shape(mean1=m1, mean2=m2, variance1=v1, variance2=v2)
    if not -1 <= correlation <= 1:
        raise RangeError(f"correlation = {correlation!r} must lie in [-1, 1] (0 for independent variables)")
    s1, s2 = np.sqrt(v1), np.sqrt(v2)
    if correlation >= 0:
        return np.asarray(m1 + m2), np.asarray(v1 + v2 + 2 * correlation * (s1 * s2))
    # The square of the difference of the stds is split off, so that the variance cannot become negative.
    difference = (v1 - v2) / np.where(s1 + s2 > 0, s1 + s2, 1.0)
    return np.asarray(m1 + m2), np.asarray(difference * difference + 2 * (1 + correlation) * (s1 * s2))


def terminal_kl(schedule: NoiseSchedule, x0: ArrayLike) -> Array:
    r"""How far the end of the chain is from the prior: :math:`D_{KL}(q(x_T\mid x_0)\,\|\,\mathcal N(0,1))`, nats per element.

    .. math:: \tfrac12\left(\bar\alpha_T x_0^2 - \bar\alpha_T - \log\bar\beta_T\right)

    Limits: tends to 0 with alpha_bar_T, and is exactly 0 at zero terminal SNR. Law: ``forward/terminal_kl``. Source:
    ho2020, section 3.1.

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> float(terminal_kl(linear_schedule(), 1.0))
    2.01795...e-05
    """
    x0 = real(x0, "x0")
    alpha_bar = schedule.alpha_bar[-1]
    # -alpha_bar - log(1 - alpha_bar) is of second order in alpha_bar; the divergence of variances knows how to say so.
    return np.asarray(alpha_bar * x0 * x0 / 2 + variance_divergence(-alpha_bar, schedule.log_beta_bar[-1]))
