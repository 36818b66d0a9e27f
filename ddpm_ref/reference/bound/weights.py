r"""The weight that the bound gives to a squared error of the network, step by step, whatever the network predicts.

With the posterior variance or the variance beta in the step, the mean part of its divergence is

.. math:: \frac{\lVert\tilde\mu - \mu_\theta\rVert^2}{2\sigma^2} = w^{x}\lVert x_0 - \hat x_0\rVert^2
          = w^{\varepsilon}\lVert\varepsilon - \hat\varepsilon\rVert^2 = w^{v}\lVert v - \hat v\rVert^2

as long as nothing is clipped. Norms are squared sums over components, so weights are nats per unit of squared error; the
two variances differ by a factor :math:`\bar\beta_s/\bar\beta_t`, which is all that tells their weights apart.
"""

from __future__ import annotations

import numpy as np

from ddpm_ref.errors import LevelError
from ddpm_ref.reference.arguments import one_of
from ddpm_ref.reference.posterior import refuse_zero_snr
from ddpm_ref.reference.reverse import VARIANCES
from ddpm_ref.reference.schedule import NoiseSchedule, Transition
from ddpm_ref.typing import Array, ArrayLike


def loss_weight_mean(schedule: NoiseSchedule, t: ArrayLike, s: ArrayLike, variance: str = "posterior") -> Array:
    r"""Weight :math:`1/(2\sigma^2)` on the squared error of the mean of the step.

    Args:
        schedule: the noise schedule.
        t, s: levels, ``T >= t > s``; scalars, or arrays of one shape. ``s >= 1`` for the posterior variance, which is 0
            at ``s = 0``; beta allows ``s = 0``.
        variance: ``"posterior"`` (fixed small) or ``"beta"`` (fixed large).

    Returns an array of the shape of the levels, > 0. Raises `LevelError` (also for the posterior at ``s = 0``),
    `RangeError` for a variance that is not fixed. Source: ho2020, eq. (8).
    """
    step, _ = fixed(schedule, t, s, variance)
    with np.errstate(over="ignore"):
        return np.asarray(0.5 / (step.beta_tilde if VARIANCES[variance] == "beta_tilde" else step.beta))


def loss_weight_x0(schedule: NoiseSchedule, t: ArrayLike, s: ArrayLike, variance: str = "posterior") -> Array:
    r"""Weight on :math:`\lVert x_0 - \hat x_0\rVert^2`: for the posterior variance half the fall of the signal-to-noise ratio.

    .. math:: \frac{\bar\alpha_s\beta_{t|s}}{2\bar\beta_s\bar\beta_t} = \tfrac12(\mathrm{SNR}(s) - \mathrm{SNR}(t)), \qquad
              \frac{\bar\alpha_s\beta_{t|s}}{2\bar\beta_t^2} \quad (\sigma^2 = \beta_{t|s})

    From the factors, not from the difference, which cancels. Args and errors as `loss_weight_mean`. Limits: works at zero
    terminal SNR; over any trajectory from t to s the weights of the posterior add up to that of the one step. Source:
    kingma2021; ho2020, eq. (8).

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> print(*(f"{w:.4g}" for w in loss_weight_x0(linear_schedule(), [2, 500, 1000], [1, 499, 999])))
    2726 0.0004698 4.119e-07
    """
    step, noise = fixed(schedule, t, s, variance)
    with np.errstate(over="ignore"):
        return np.asarray(schedule.alpha_bar[step.s] * (step.beta / schedule.beta_bar[step.t]) / (2 * noise))


def loss_weight_eps(schedule: NoiseSchedule, t: ArrayLike, s: ArrayLike, variance: str = "posterior") -> Array:
    r"""Weight on :math:`\lVert\varepsilon - \hat\varepsilon\rVert^2`, which the simple loss replaces by 1.

    .. math:: \frac{\beta_{t|s}}{2\alpha_{t|s}\bar\beta_s} = \tfrac12\left(\frac{\mathrm{SNR}(s)}{\mathrm{SNR}(t)} - 1\right),
              \qquad \frac{\beta_{t|s}}{2\alpha_{t|s}\bar\beta_t} \quad (\sigma^2 = \beta_{t|s})

    Args and errors as `loss_weight_mean`; `RangeError` at zero terminal SNR, where eps does not determine x0. Limits: with
    beta it is :math:`1/(2\bar\alpha_t)` at ``s = 0``. Source: ho2020, eq. (12); kingma2021.

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> print(*(f"{w:.4g}" for w in loss_weight_eps(linear_schedule(), [2, 350, 1000], [1, 349, 999])))
    0.5997 0.004982 0.0102
    """
    step, noise = fixed(schedule, t, s, variance)
    refuse_zero_snr(schedule, step)
    with np.errstate(over="ignore"):
        return np.asarray((step.beta / noise) / (2 * step.alpha))


def loss_weight_v(schedule: NoiseSchedule, t: ArrayLike, s: ArrayLike, variance: str = "posterior") -> Array:
    r"""Weight on :math:`\lVert v - \hat v\rVert^2`: that on x0 times :math:`\bar\beta_t`.

    .. math:: \frac{\bar\alpha_s\beta_{t|s}}{2\bar\beta_s}, \qquad \frac{\bar\alpha_s\beta_{t|s}}{2\bar\beta_t} \quad
              (\sigma^2 = \beta_{t|s})

    since :math:`x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{\bar\beta_t}\,v`. Args and errors as `loss_weight_mean`. Limits: works at
    zero terminal SNR. Source: salimans2022; ho2020, eq. (8).
    """
    step, noise = fixed(schedule, t, s, variance)
    with np.errstate(over="ignore"):
        return np.asarray(schedule.alpha_bar[step.s] * step.beta / (2 * noise))


def log_snr_drop(schedule: NoiseSchedule, t: ArrayLike, s: ArrayLike) -> Array:
    r"""The fall of the logarithm of the signal-to-noise ratio from s to t, ``s >= 1``, without cancellation; > 0.

    .. math:: \log\mathrm{SNR}(s) - \log\mathrm{SNR}(t) = \log\left(1 + \frac{\bar\alpha_s\beta_{t|s}}{\bar\beta_s}\right)
              - \log\alpha_{t|s}

    ``np.expm1(log_snr_drop(...)) / 2`` is the weight on the error of eps in the form of kingma2021, that of
    `loss_weight_eps` for the posterior variance. Args: levels, ``T >= t > s >= 1``. Raises `LevelError` for ``s = 0``, where
    log SNR is infinite. Limits: infinite at zero terminal SNR. Source: kingma2021.

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> round(float(np.expm1(log_snr_drop(linear_schedule(), 2, 1)) / 2), 5)
    0.59967
    """
    step = schedule.between(t, s)
    if (step.s == 0).any():
        raise LevelError("s = 0: SNR is infinite at level 0; the fall of its logarithm belongs to s >= 1")
    noise = np.log1p(schedule.alpha_bar[step.s] * (step.beta / schedule.beta_bar[step.s]))
    # Each logarithm from whichever of alpha and beta is the smaller: that one has all its digits.
    near = step.beta <= 0.5
    with np.errstate(divide="ignore"):
        signal = np.where(near, -np.log1p(-np.where(near, step.beta, 0.0)), -np.log(step.alpha))
    return np.asarray(noise + signal)


def fixed(schedule: NoiseSchedule, t: ArrayLike, s: ArrayLike, variance: str) -> tuple[Transition, Array]:
    """The step, and the noise N with variance ``beta N / beta_bar_t``: that of the earlier level, or for beta of the later."""
    one_of("variance", variance, VARIANCES)
    step = schedule.between(t, s)
    if VARIANCES[variance] == "beta":
        return step, schedule.beta_bar[step.t]
    if (step.s == 0).any():
        raise LevelError(
            f"s = 0 with variance = {variance!r}: the posterior variance is 0 there, so this belongs to s >= 1; the step to "
            "level 0 needs variance='beta', or a first-step rule (posterior_log_variance) in reconstruction_term"
        )
    return step, schedule.beta_bar[step.s]
