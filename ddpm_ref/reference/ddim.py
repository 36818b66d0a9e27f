r"""The DDIM family :math:`q_\sigma(x_s\mid x_t, x_0)`: posteriors with one free variance that all keep the marginals.

Source: Song, Meng and Ermon (song2020ddim), section 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ddpm_ref.arithmetic import DoubleDouble
from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.reference import implicit
from ddpm_ref.reference.arguments import expand, positive, real, same_shape
from ddpm_ref.reference.posterior import refuse_zero_snr
from ddpm_ref.reference.schedule import NoiseSchedule, Trajectory, Transition
from ddpm_ref.typing import Array, ArrayLike, Real


def exact_eta(eta: Real) -> float:
    """``eta`` as a float in [0, 1], or a `RangeError`."""
    if isinstance(eta, bool) or not isinstance(eta, int | float | np.floating) or not 0 <= eta <= 1:
        raise RangeError(
            f"eta = {eta!r}; it is a number in [0, 1]: 0 is deterministic, 1 is ancestral with the posterior variance"
        )
    return float(eta)


def _coefficients(step: Transition, eta: Real, *names: str) -> list[Array]:
    t, s = step.t.ravel().tolist(), step.s.ravel().tolist()
    columns = implicit.columns(step.products, names, t, s, exact_eta(eta))
    return [column.reshape(step.t.shape) for column in columns]


def ddim_std(schedule: NoiseSchedule, t: ArrayLike, s: ArrayLike, eta: Real = 0.0) -> Array:
    r"""Standard deviation of the noise of a step, :math:`\sigma = \eta\sqrt{\tilde\beta_{t|s}}`.

    Args: levels ``T >= t > s >= 0``; ``eta`` in [0, 1].
    Limits: linear in eta; 0 at ``s = 0``. Raises `LevelError`, `RangeError`. Law: ``ddim/std``. Source: song2020ddim,
    eq. (16).
    """
    return _coefficients(schedule.between(t, s), eta, "std")[0]


def ddim_direction(schedule: NoiseSchedule, t: ArrayLike, s: ArrayLike, eta: Real = 0.0) -> Array:
    r"""Coefficient of the predicted noise, :math:`\sqrt{\bar\beta_s - \sigma^2}`.

    .. math:: \bar\beta_s - \eta^2\tilde\beta_{t|s} = \bar\beta_s\left[(1-\eta^2)
              + \eta^2\alpha_{t|s}\bar\beta_s/\bar\beta_t\right] \ge 0

    The form on the right does not cancel. Args and errors as `ddim_std`. Law: ``ddim/direction``. Source: song2020ddim,
    eq. (12).
    """
    return _coefficients(schedule.between(t, s), eta, "direction")[0]


def ddim_weights(schedule: NoiseSchedule, t: ArrayLike, s: ArrayLike, eta: Real = 0.0) -> tuple[Array, Array]:
    r"""Weights of ``x_0`` and of ``x_t`` in the mean.

    .. math:: C^0 = \sqrt{\bar\alpha_s} - \sqrt{\frac{\bar\alpha_t(\bar\beta_s - \sigma^2)}{\bar\beta_t}}, \qquad
              C^x = \sqrt{\frac{\bar\beta_s - \sigma^2}{\bar\beta_t}}

    Args and errors as `ddim_std`. Limits: exactly 1 and 0 at ``s = 0``; at eta = 1 those of the posterior, bit for bit.
    Law: ``ddim/weights``. Source: song2020ddim, eq. (7), rearranged.
    """
    from_x0, from_xt = _coefficients(schedule.between(t, s), eta, "x0_weight", "xt_weight")
    return from_x0, from_xt


def ddim_posterior(
    schedule: NoiseSchedule,
    x0: ArrayLike,
    xt: ArrayLike,
    t: ArrayLike,
    s: ArrayLike,
    eta: Real | None = None,
    variance: ArrayLike | None = None,
) -> tuple[Array, Array]:
    r"""Mean and variance of the generalised posterior, for an eta or for any admissible variance.

    .. math:: q_\sigma(x_s\mid x_t,x_0) = \mathcal N\left(\sqrt{\bar\alpha_s}\,x_0
              + \sqrt{\bar\beta_s - \sigma^2}\,\frac{x_t - \sqrt{\bar\alpha_t}\,x_0}{\sqrt{\bar\beta_t}},\
              \sigma^2 I\right)

    Args:
        schedule: the noise schedule.
        x0, xt: data and noisy data of one shape ``(*batch, *event)``.
        t, s: levels, ``T >= t > s >= 0``; scalars or shaped like the leading axes of the data.
        eta: in [0, 1], the variance is then :math:`\eta^2\tilde\beta_{t|s}`; 0 if neither is given.
        variance: instead of eta: :math:`0 \le \sigma^2 \le \bar\beta_s`, a scalar or of the shape of the levels.

    Returns:
        mean: shape of the data.
        variance: of the shape of the levels, broadcasts against the data.

    Raises `RangeError` for a variance above ``beta_bar_s`` (the message names the step), for eta outside [0, 1] or for
    both at once; `LevelError`, `ShapeError`. Limits: ``s = 0`` returns ``x0``, with variance 0. Law:
    ``ddim/posterior_mean``, ``ddim/posterior_variance``. Source: song2020ddim, eq. (7).

    >>> H = NoiseSchedule.from_betas([1e-4, 1.2e-4])
    >>> ddim_posterior(H, [0.0], [0.0], 2, 1, variance=1.2e-4)
    Traceback (most recent call last):
    ddpm_ref.errors.RangeError: variance 0.00012 in the step from t = 2 to s = 1 exceeds beta_bar_s = 0.0001: ...
    """
    if eta is not None and variance is not None:
        raise RangeError("eta and variance were both given; write one of them")
    step, x0, xt = schedule.between(t, s), real(x0, "x0"), real(xt, "xt")
    shape = same_shape(x0=x0, xt=xt)
    if variance is None:
        chosen = 0.0 if eta is None else exact_eta(eta)
        from_x0, from_xt = _coefficients(step, chosen, "x0_weight", "xt_weight")
        given = np.asarray(step.beta_tilde * chosen**2)
    else:
        given = _admissible(schedule, step, positive(variance, "variance", zero=True))
        from_x0, from_xt = _weights_for(schedule, step, given)
    return expand(from_x0, shape) * x0 + expand(from_xt, shape) * xt, expand(given, shape)


def _admissible(schedule: NoiseSchedule, step: Transition, variance: Array) -> Array:
    """The variance of every step, if the mean has a real weight with it."""
    if variance.ndim and variance.shape != step.t.shape:
        raise ShapeError(f"variance has shape {variance.shape}, levels {step.t.shape}; give a scalar or one per step")
    variance = np.broadcast_to(variance, step.t.shape)
    room = schedule.beta_bar[step.s]
    if (variance > room).any():
        at = tuple(np.argwhere(variance > room)[0])
        raise RangeError(
            f"variance {float(variance[at]):g} in the step from t = {int(step.t[at])} to s = {int(step.s[at])} exceeds "
            f"beta_bar_s = {float(room[at]):g}: the weight of the noise would be the root of a negative number; "
            "write a smaller variance, or eta in [0, 1], which always fits"
        )
    return variance


def _weights_for(schedule: NoiseSchedule, step: Transition, variance: Array) -> tuple[Array, Array]:
    """Weights of ``x_0`` and ``x_t`` for an admissible variance; what is left of beta_bar_s comes from its two words."""
    words = schedule.words("beta_bar", np.maximum(step.s, 1))
    left = np.maximum((DoubleDouble(words.high, words.low) - variance).high, 0.0)
    left = np.where(step.s == 0, 0.0, left)
    beta_bar = schedule.beta_bar[step.t]
    from_xt = np.sqrt(left / beta_bar)
    # sqrt(alpha_bar_s) - sqrt(alpha_bar_t) from_xt, with the difference of the squares in positive terms.
    gap = schedule.sqrt_alpha_bar[step.s] * (step.beta + step.alpha * variance) / beta_bar
    return np.where(step.s == 0, 1.0, gap / (1 + step.sqrt_alpha * from_xt)), from_xt


def ddim_step(
    schedule: NoiseSchedule,
    x0: ArrayLike,
    eps: ArrayLike,
    t: ArrayLike,
    s: ArrayLike,
    noise: ArrayLike | None = None,
    eta: Real = 0.0,
) -> Array:
    r"""The DDIM update from both predictions, which need not belong together (a clipped x0 beside the network's own eps).

    .. math:: x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{\bar\beta_s - \sigma^2}\,\hat\varepsilon + \sigma z

    Args:
        schedule: the noise schedule.
        x0, eps: predicted data and noise of one shape ``(*batch, *event)``.
        t, s: levels, ``T >= t > s >= 0``; scalars or shaped like the leading axes of the data.
        noise: z, standard normal, shape of the data; may be left out where sigma is 0.
        eta: in [0, 1].

    Raises `RangeError` (also for a noise that is needed and missing), `LevelError`, `ShapeError`. Limits: ``s = 0``
    returns ``x0``; with the true eps and eta = 0 it is ``q_sample`` at level s. Law: ``ddim/step``. Source:
    song2020ddim, eq. (12).
    """
    step, x0, eps = schedule.between(t, s), real(x0, "x0"), real(eps, "eps")
    direction, std = _coefficients(step, eta, "direction", "std")
    shape = same_shape(x0=x0, eps=eps)
    mean = expand(schedule.sqrt_alpha_bar[step.s], shape) * x0 + expand(direction, shape) * eps
    return _with_noise(mean, std, noise)


def ddim_step_from_eps(
    schedule: NoiseSchedule,
    xt: ArrayLike,
    t: ArrayLike,
    s: ArrayLike,
    eps: ArrayLike,
    noise: ArrayLike | None = None,
    eta: Real = 0.0,
) -> Array:
    r"""The DDIM update from the state and the predicted noise.

    .. math:: x_s = \frac{x_t}{\sqrt{\alpha_{t|s}}} + \left(\sqrt{\bar\beta_s - \sigma^2}
              - \sqrt{\frac{\bar\beta_t}{\alpha_{t|s}}}\right)\hat\varepsilon + \sigma z

    Args and errors as `ddim_step`; `RangeError` at zero terminal SNR besides. Law: ``ddim/step_from_eps``. Source:
    song2020ddim, eq. (12)-(13).
    """
    step, xt, eps = schedule.between(t, s), real(xt, "xt"), real(eps, "eps")
    shape = same_shape(xt=xt, eps=eps)
    refuse_zero_snr(schedule, step)
    drop, std = _coefficients(step, eta, "eps_drop", "std")
    return _with_noise(expand(step.recip_sqrt_alpha, shape) * xt - expand(drop, shape) * eps, std, noise)


def ddim_step_from_x0(
    schedule: NoiseSchedule,
    xt: ArrayLike,
    t: ArrayLike,
    s: ArrayLike,
    x0: ArrayLike,
    noise: ArrayLike | None = None,
    eta: Real = 0.0,
) -> Array:
    r"""The DDIM update from the state and the predicted data: a draw from `ddim_posterior`.

    .. math:: x_s = C^0\hat x_0 + C^x x_t + \sigma z

    The form to use when x0 is clipped and eps re-derived from it, and at zero terminal SNR. Args and errors as
    `ddim_step`. Law: ``ddim/step_from_x0``. Source: song2020ddim, eq. (7).
    """
    mean, _ = ddim_posterior(schedule, x0, xt, t, s, eta)
    return _with_noise(mean, ddim_std(schedule, t, s, eta), noise)


def _with_noise(mean: Array, std: Array, noise: ArrayLike | None) -> Array:
    if noise is None:
        if (std > 0).any():
            raise RangeError("eta > 0 adds noise before level 0; pass noise, standard normal of the shape of the data")
        return mean
    z = real(noise, "noise")
    shape = same_shape(mean=mean, noise=z)
    return mean + expand(std, shape) * z


def ddim_inversion_step(schedule: NoiseSchedule, xs: ArrayLike, t: ArrayLike, s: ArrayLike, eps: ArrayLike) -> Array:
    r"""The deterministic step upwards, from level s to level t.

    .. math:: x_t = \sqrt{\alpha_{t|s}}\,x_s
              + \left(\sqrt{\bar\beta_t} - \sqrt{\alpha_{t|s}\bar\beta_s}\right)\hat\varepsilon

    Args: ``xs`` the state at level s, ``eps`` the noise predicted for it; levels ``T >= t > s >= 0``.
    Limits: undoes `ddim_step_from_eps` with eta = 0 and the same eps. Law: ``ddim/inversion_step``. Source:
    song2020ddim, eq. (14).
    """
    step, xs, eps = schedule.between(t, s), real(xs, "xs"), real(eps, "eps")
    shape = same_shape(xs=xs, eps=eps)
    (rise,) = _coefficients(step, 0.0, "eps_rise")
    return expand(step.sqrt_alpha, shape) * xs + expand(rise, shape) * eps


def strided_betas(schedule: NoiseSchedule, trajectory: Trajectory | Sequence[int]) -> Array:
    r"""Betas of the Markov chain that visits only the levels of a trajectory.

    .. math:: \beta'_i = 1 - \bar\alpha_{\tau_i}/\bar\alpha_{\tau_{i-1}}, \qquad \tau_0 = 0

    Returns shape ``(K,)``, ascending in the level, each rounded once: ``NoiseSchedule.from_betas`` of it is the
    respaced schedule, whose ``alpha_bar`` are those of the visited levels to rounding. The network still gets the
    original levels. Law: ``ddim/strided_betas``. Source: nichol2021, section 4.

    >>> strided_betas(NoiseSchedule.from_betas([0.5, 0.5, 0.5]), (3, 1, 0))
    array([0.5 , 0.75])
    """
    levels = Trajectory.of(trajectory).levels
    return schedule.between(levels[-2::-1], levels[:0:-1]).beta
