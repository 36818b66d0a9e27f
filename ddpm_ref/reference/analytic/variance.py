r"""The optimal variance of a reverse step, for any stride and any member of the DDIM family, and its bounds.

The mean of a reverse step puts a prediction in the place of x0. What the prediction does not know of x0 belongs to the
variance of the step: beside the :math:`\lambda^2 = \eta^2\tilde\beta_{t|s}` of the posterior, the weight of x0 in its
mean, squared, times :math:`\hat\sigma_t^2`.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import isinf

import numpy as np

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.reference import combined
from ddpm_ref.reference.arguments import expand, positive, real, same_shape
from ddpm_ref.reference.ddim import ddim_step_from_eps, exact_eta
from ddpm_ref.reference.schedule import NoiseSchedule, Transition
from ddpm_ref.typing import Array, ArrayLike, Real


def analytic_variance(
    schedule: NoiseSchedule, t: ArrayLike, s: ArrayLike, x0_variance: ArrayLike, eta: Real = 1.0
) -> Array:
    r"""The optimal isotropic variance of the step from t to s, beside the mean that the prediction gives.

    .. math:: \sigma^{*2} = \lambda^2 + \left(\sqrt{\bar\alpha_s} - \sqrt{\frac{\bar\alpha_t(\bar\beta_s - \lambda^2)}
              {\bar\beta_t}}\right)^2\hat\sigma_t^2, \qquad \lambda^2 = \eta^2\tilde\beta_{t|s}

    Args:
        schedule: the noise schedule.
        t, s: levels, ``T >= t > s >= 0``; scalars, or arrays of one shape.
        x0_variance: variance of the data given x_t, >= 0, in the shape of the levels.
        eta: in [0, 1]: 1 is the DDPM forward process (Analytic-DPM), 0 DDIM (Analytic-DDIM).

    Returns:
        a variance, in the shape of the levels: the float64 nearest to the exact value for the numbers given.

    Raises `RangeError` for a negative variance or an eta outside [0, 1]; `LevelError`, `ShapeError`. Limits: ascends
    with ``x0_variance`` and with eta; :math:`\lambda^2` for data that are known; :math:`\hat\sigma_t^2` at
    ``s = 0``; :math:`\beta_{t|s}` for standard normal data and eta = 1. Law: ``analytic/variance``. Source: bao2022,
    eq. (7).

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> schedule = linear_schedule(1000)
    >>> float(analytic_variance(schedule, 500, 480, schedule.beta_bar[500])), float(schedule.between(500, 480).beta)
    (0.179624366113834, 0.179624366113834)
    """
    return _combined(schedule, t, s, x0_variance, eta, root=False)


# The same under the name that says what it is the optimum of.
optimal_variance = analytic_variance


def analytic_std(schedule: NoiseSchedule, t: ArrayLike, s: ArrayLike, x0_variance: ArrayLike, eta: Real = 1.0) -> Array:
    r"""The root of `analytic_variance`, rounded once itself: the column of noise in a plan.

    Args and errors as `analytic_variance`. Law: ``analytic/std``. Source: bao2022, eq. (7).
    """
    return _combined(schedule, t, s, x0_variance, eta, root=True)


def analytic_variance_bounds(
    schedule: NoiseSchedule, t: ArrayLike, s: ArrayLike, low: Real = -1.0, high: Real = 1.0, eta: Real = 1.0
) -> tuple[Array, Array]:
    r"""Between what the optimal variance lies for any data in ``[low, high]``.

    .. math:: \lambda^2 \le \sigma^{*2} \le \lambda^2 + (C^0)^2\min\left(\frac{\bar\beta_t}{\bar\alpha_t},
              \left(\frac{b - a}{2}\right)^2\right)

    with :math:`C^0` the weight of x0 (`ddpm_ref.reference.ddim.ddim_weights`).

    Args:
        schedule, t, s, eta: as for `analytic_variance`.
        low, high: the range of every component of the data, ``low < high``; infinite where there is none, which
            leaves the bound that holds for all data.

    Returns:
        lower, upper: variances in the shape of the levels, float64 nearest to the exact values.

    Raises `RangeError` for a range that is none or an eta outside [0, 1], `LevelError`, `ShapeError`. Limits: the
    upper bound is infinite at zero terminal SNR if the range is; at eta = 1 the bound for all data is
    :math:`\beta_{t|s}/\alpha_{t|s}`. For an imperfect network, `sigma_hat_squared_from_residual` may exceed it. Law:
    ``analytic/variance_bounds``. Source: bao2022, theorem 2, eq. (11) and (12).

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> lower, upper = analytic_variance_bounds(linear_schedule(1000), 112, 1)
    >>> print(f"{lower:.2e} {upper:.2e}")
    9.99e-05 1.45e-01
    """
    step, eta, reach = schedule.between(t, s), exact_eta(eta), half_range_squared(low, high)
    lower, upper = (_columns(step, eta, [bound] * step.t.size, root=False) for bound in (Fraction(0), None))
    if reach is not None:
        # Both are ascending functions of the variance of x0, and so is rounding.
        upper = np.minimum(upper, _columns(step, eta, [reach] * step.t.size, root=False))
    return lower, upper


WIDEST = 1e150
"""Ranges end below it: their squares are numbers of float64."""


def half_range_squared(low: Real, high: Real) -> Fraction | None:
    """The largest variance of anything in ``[low, high]``, exactly; None for a range without end."""
    low, high = float(low), float(high)
    if not low < high:
        raise RangeError(f"low = {low:g}, high = {high:g}; the range of the data needs low < high, e.g. -1.0 and 1.0")
    if isinf(low) or isinf(high):
        return None
    if max(-low, high) > WIDEST:
        raise RangeError(f"low = {low:g}, high = {high:g}; the square of that range is no float64, write infinite ends")
    return ((combined.exactly(high) - combined.exactly(low)) / 2) ** 2


def analytic_step(
    schedule: NoiseSchedule,
    xt: ArrayLike,
    t: ArrayLike,
    s: ArrayLike,
    eps: ArrayLike,
    x0_variance: ArrayLike,
    noise: ArrayLike | None = None,
    eta: Real = 1.0,
) -> Array:
    r"""One step of Analytic-DPM: the mean of DDIM with that eta, and noise of the optimal variance.

    .. math:: x_s = \frac{x_t}{\sqrt{\alpha_{t|s}}} + \left(\sqrt{\bar\beta_s - \lambda^2} - \sqrt{\frac{\bar\beta_t}
              {\alpha_{t|s}}}\right)\hat\varepsilon + \sigma^* z

    Args:
        schedule: the noise schedule.
        xt, eps: the state and the predicted noise, of one shape ``(*batch, *event)``.
        t, s: levels, ``T >= t > s >= 0``; scalars or shaped like the leading axes of the data.
        x0_variance: variance of the data given x_t, >= 0, in the shape of the levels.
        noise: z, standard normal, shape of the data; may be left out where the variance is 0.
        eta: in [0, 1]; also with eta = 0 the step is random.

    Raises `RangeError` (also for a noise that is needed and missing, and at zero terminal SNR), `LevelError`,
    `ShapeError`. Limits: with ``x0_variance = 0`` it is `ddpm_ref.reference.ddim.ddim_step_from_eps`. The last step of
    a sampler passes no noise and a variance of 0. Law: ``analytic/step``. Source: bao2022, eq. (3) and (6)-(9).
    """
    std = analytic_std(schedule, t, s, x0_variance, eta)
    still = np.zeros(np.broadcast_shapes(np.shape(xt), np.shape(eps)))
    mean = ddim_step_from_eps(schedule, xt, t, s, eps, still, eta)
    if noise is None:
        if (std > 0).any():
            raise RangeError("the step has a variance; pass noise, standard normal of the shape of the data")
        return mean
    z = real(noise, "noise")
    return np.asarray(mean + expand(std, same_shape(mean=mean, noise=z)) * z)


def _combined(
    schedule: NoiseSchedule, t: ArrayLike, s: ArrayLike, unknown: ArrayLike, eta: Real, *, root: bool
) -> Array:
    step, v = schedule.between(t, s), positive(unknown, "x0_variance", zero=True)
    if v.ndim and step.t.ndim and v.shape != step.t.shape:
        raise ShapeError(f"x0_variance has shape {v.shape}, levels {step.t.shape}; give one number per level")
    if v.ndim and not step.t.ndim:
        step = schedule.between(np.broadcast_to(step.t, v.shape), np.broadcast_to(step.s, v.shape))
    exact = [combined.exactly(value) for value in np.broadcast_to(v, step.t.shape).ravel().tolist()]
    return _columns(step, exact_eta(eta), exact, root=root)


def _columns(step: Transition, eta: float, unknown: Sequence[Fraction | None], *, root: bool) -> Array:
    t, s = step.t.ravel().tolist(), step.s.ravel().tolist()
    return combined.columns(step.products, t, s, eta, unknown, root=root).reshape(step.t.shape)
