r"""How much the prediction leaves unknown of the data: :math:`\hat\sigma_t^2`, from either of two averages.

The covariance identity behind it: given x_t, the data and the noise are two sides of one unknown,

.. math:: \mathrm{Cov}[x_0\mid x_t] = \frac{\bar\beta_t}{\bar\alpha_t}\,\mathrm{Cov}[\varepsilon\mid x_t]

(bao2022, proof of theorem 1). Averaged over x_t and over the d dimensions, :math:`\hat\sigma_t^2 =
\mathbb E\,\mathrm{tr}\,\mathrm{Cov}[x_0\mid x_t]/d`: a variance of the data given x_t, not the noise of any step.
"""

from __future__ import annotations

import numpy as np

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.reference import combined
from ddpm_ref.reference.arguments import expand, level, positive, real, same_shape, spread
from ddpm_ref.reference.prediction import x0_from_eps
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array, ArrayLike, IntArray


def eps_mean_square(eps: ArrayLike) -> float:
    r"""Energy of predicted noise per dimension, :math:`\frac{1}{Md}\sum_m\lVert\epsilon_\theta(x_t^{(m)}, t)\rVert^2`.

    Args: ``eps``: the answers for M noisy data of one level t, ``(M, *event)``, not empty.

    Once per model, and only at the levels of a trajectory. Limits: 0 where x_t says all, 1 where it says nothing but
    the noise; its standard error on standard normal data is :math:`\bar\beta_t\sqrt{2/(Md)}`. Analytic-DPM's
    :math:`\Gamma_t` is this over :math:`\bar\beta_t`. Raises `ShapeError` if there is nothing to average. Law:
    ``analytic/eps_mean_square``. Source: bao2022, eq. (8).

    >>> eps_mean_square([[1.0, 0.0], [0.5, 0.5]])
    0.375
    """
    return _mean_of_squares(real(eps, "eps"))


def residual_mean_square(noise: ArrayLike, eps: ArrayLike) -> float:
    r"""What the prediction gets wrong, per dimension: the simple loss at one level.

    .. math:: \frac{1}{Md}\sum_m\lVert\varepsilon_m - \epsilon_\theta(x_t^{(m)}, t)\rVert^2

    Args: the noise that was mixed in and the answers, of one level t and one shape ``(M, *event)``, not empty.

    Raises `ShapeError`. Law: ``analytic/residual_mean_square``. Source: ho2020, eq. (14).

    >>> residual_mean_square([[1.0, -1.0]], [[0.5, -1.0]])
    0.125
    """
    z, answers = real(noise, "noise"), real(eps, "eps")
    same_shape(noise=z, eps=answers)
    return _mean_of_squares(z - answers)


def _mean_of_squares(values: Array) -> float:
    if not values.size:
        raise ShapeError(f"eps has shape {values.shape}: there is nothing to average; give at least one answer")
    return float(np.mean(np.square(values)))


def sigma_hat_squared(
    schedule: NoiseSchedule, t: ArrayLike, eps_mean_square: ArrayLike, *, allow_negative: bool = False
) -> Array:
    r"""Variance of the data given x_t, averaged, from the energy of the *optimal* noise prediction.

    .. math:: \hat\sigma_t^2 = \frac{\bar\beta_t}{\bar\alpha_t}\left(1 - \frac1d\mathbb E\lVert\hat\varepsilon^*
              \rVert^2\right)

    Args:
        schedule: the noise schedule.
        t: levels, ``T >= t >= 1``.
        eps_mean_square: :math:`\mathbb E\lVert\hat\varepsilon^*\rVert^2/d`, in the shape of the levels, with axes of
            its own to the right if it likes (one number per dimension).
        allow_negative: give what the formula gives for an energy above 1, to be clipped and counted by
            `clip_sigma_hat_squared`; otherwise refuse it.

    Returns:
        a variance, >= 0 unless allowed otherwise; the float64 nearest to the exact value for the number given.

    Raises `RangeError` for a negative energy, for one above 1 (the message names the level), or at zero terminal SNR;
    `LevelError`, `ShapeError`.

    Limits: only for the conditional mean of the noise. A network that is none (one trained with an L1 loss, one that
    is off by a factor) is given a variance that is wrong, even negative: `sigma_hat_squared_from_residual` is right for
    any. Ill-conditioned where the energy is near 1, see `mean_square_condition`. Law: ``analytic/sigma_hat_squared``.
    Source: bao2022, eq. (7) and (9).

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> print(f"{float(sigma_hat_squared(linear_schedule(1000), 500, 0.92141276)):.6f}")  # standard normal data
    0.921413
    """
    t, m = _moments(schedule, t, positive(eps_mean_square, "eps_mean_square", zero=True))
    if (m > 1).any() and not allow_negative:
        raise RangeError(
            f"eps_mean_square = {float(m[m > 1][0]):.6g} at t = {int(t[m > 1][0])} ({int((m > 1).sum())} of {m.size} above 1), "
            "but no conditional mean has more energy than the noise: use sigma_hat_squared_from_residual, or "
            "allow_negative=True and then clip_sigma_hat_squared"
        )
    return _scaled(schedule, t, m, complement=True)


def sigma_hat_squared_from_residual(schedule: NoiseSchedule, t: ArrayLike, residual_mean_square: ArrayLike) -> Array:
    r"""Mean square error of the predicted data per dimension, from that of the predicted noise: right for any network.

    .. math:: \hat\sigma_t^2 = \frac{\bar\beta_t}{\bar\alpha_t}\cdot\frac1d\mathbb E\lVert\varepsilon - \epsilon_\theta
              (x_t, t)\rVert^2 = \frac1d\mathbb E\lVert x_0 - \hat x_0\rVert^2

    Args:
        schedule: the noise schedule.
        t: levels, ``T >= t >= 1``.
        residual_mean_square: in the shape of the levels, as in `sigma_hat_squared`.

    Returns:
        a variance, >= 0; the float64 nearest to the exact value for the number given.

    For the conditional mean it is `sigma_hat_squared`; for any other network it is what makes the reverse variance
    optimal beside *its* mean. Nothing cancels: a relative error of the average is a relative error of the result.
    Raises `RangeError` for a negative average, or at zero terminal SNR; `LevelError`, `ShapeError`. Law:
    ``analytic/sigma_hat_squared_from_residual``. Source: bao2022, proof of theorem 1; bao2022extended, for each
    dimension.
    """
    t, r = _moments(schedule, t, positive(residual_mean_square, "residual_mean_square", zero=True))
    return _scaled(schedule, t, r, complement=False)


def x0_variance(
    schedule: NoiseSchedule,
    t: ArrayLike,
    mean_square_eps: ArrayLike | None = None,
    *,
    residual_mean_square: ArrayLike | None = None,
) -> Array:
    r"""The variance of the data given x_t, :math:`\hat\sigma_t^2`, from whichever of the two averages is given.

    .. math:: \hat\sigma_t^2 = \frac{\bar\beta_t}{\bar\alpha_t}\left(1 - \frac1d\mathbb E\lVert\hat\varepsilon^*
              \rVert^2\right) = \frac{\bar\beta_t}{\bar\alpha_t}\cdot\frac1d\mathbb E\lVert\varepsilon -
              \epsilon_\theta\rVert^2

    Args:
        schedule: the noise schedule.
        t: levels, ``T >= t >= 1``.
        mean_square_eps: energy of the optimal noise prediction per dimension, as for `sigma_hat_squared`.
        residual_mean_square: mean square error of the predicted noise per dimension, as for
            `sigma_hat_squared_from_residual`: well-conditioned, and right for an imperfect network too.

    Raises `RangeError` unless exactly one of the two is given, and as the two functions do. Limits: both agree for the
    conditional mean of the noise. Source: bao2022, eq. (7) and (9).

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> H = linear_schedule(1000)
    >>> float(x0_variance(H, 1000, residual_mean_square=H.alpha_bar[1000])) == float(H.beta_bar[1000])  # x0 ~ N(0, I)
    True
    """
    if mean_square_eps is not None and residual_mean_square is None:
        return sigma_hat_squared(schedule, t, mean_square_eps)
    if residual_mean_square is not None and mean_square_eps is None:
        return sigma_hat_squared_from_residual(schedule, t, residual_mean_square)
    given = "neither" if mean_square_eps is None else "both"
    raise RangeError(f"{given} of mean_square_eps and residual_mean_square were given; write one of them")


def mean_square_condition(eps_mean_square: ArrayLike) -> Array:
    r"""By how much `sigma_hat_squared` magnifies a relative error of the mean square: :math:`m/(1 - m)`, for m < 1.

    For normal data of variance v it is :math:`\bar\beta_t/(\bar\alpha_tv)`, the inverse signal-to-noise ratio: at the
    last level of the cosine schedule, 4e8 and more. A float64 rounded once is wrong by 2**-53 and carries the product
    of both into the variance; an average over draws by its standard error. Raises `RangeError` outside [0, 1). Source:
    bao2022, eq. (9).

    >>> float(mean_square_condition(0.75))
    3.0
    """
    m = positive(eps_mean_square, "eps_mean_square", zero=True)
    if (m >= 1).any():
        raise RangeError(f"eps_mean_square contains {float(m.max()):g}; the condition number is finite in [0, 1) only")
    return np.asarray(m / (1 - m))


def x0_posterior_covariance(schedule: NoiseSchedule, t: ArrayLike, eps_covariance: ArrayLike) -> Array:
    r"""The covariance identity for each x_t.

    .. math:: \mathrm{Cov}[x_0\mid x_t] = \frac{\bar\beta_t}{\bar\alpha_t}\mathrm{Cov}[\varepsilon\mid x_t]

    Args: levels ``t >= 1`` in the shape of the leading axes of ``eps_covariance``; this holds covariances, or variances.

    Depends on x_t, which its average does not; for normal data the two are the same. Raises `RangeError` at zero
    terminal SNR, `LevelError`, `ShapeError`. Law: ``analytic/x0_posterior_covariance``. Source: bao2022, proof of
    theorem 1.
    """
    t, covariance = level(t, schedule.T, lowest=1), real(eps_covariance, "eps_covariance")
    _refuse_dead(schedule, t)
    return np.asarray(expand(schedule.beta_bar[t] / schedule.alpha_bar[t], covariance.shape) * covariance)


def x0_posterior_covariance_averaged(schedule: NoiseSchedule, t: ArrayLike, eps_second_moment: ArrayLike) -> Array:
    r"""The same averaged over x_t, from the second moment of the optimal prediction.

    .. math:: \mathbb E\,\mathrm{Cov}[x_0\mid x_t] = \frac{\bar\beta_t}{\bar\alpha_t}\left(I -
              \mathbb E[\hat\varepsilon^*\hat\varepsilon^{*\top}]\right)

    Args: ``eps_second_moment`` of shape ``(*batch, d, d)``; levels ``t >= 1`` in the shape of the leading axes of
    ``batch``.

    Its trace over d is `sigma_hat_squared`. Raises `RangeError` at zero terminal SNR, `LevelError`, `ShapeError`. Law:
    ``analytic/x0_posterior_covariance_averaged``. Source: bao2022, theorem 1.
    """
    moment = real(eps_second_moment, "eps_second_moment")
    if moment.ndim < 2 or moment.shape[-1] != moment.shape[-2]:
        raise ShapeError(f"eps_second_moment has shape {moment.shape}; give matrices, (*batch, d, d)")
    return x0_posterior_covariance(schedule, t, np.eye(moment.shape[-1]) - moment)


def x0_gaussian_approximation(
    schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, eps: ArrayLike, x0_variance: ArrayLike
) -> tuple[Array, Array]:
    r"""The normal law that stands for the data given x_t, :math:`\mathcal N(\hat x_0(x_t), \hat\sigma_t^2I)`.

    Args: ``xt`` and the predicted ``eps`` of one shape; levels ``t >= 1`` in the shape of its leading axes, and a
    variance for each.

    Returns: the mean in the shape of the data; the variance, which broadcasts against it.

    Limits: exact on normal data whose covariance is a multiple of the identity; of any other law it has the mean, and
    the variance on average over x_t and the dimensions. Raises `RangeError` for a negative variance, or at zero
    terminal SNR; `LevelError`, `ShapeError`. Law: ``analytic/x0_gaussian_approximation``. Source: bao2022, theorem 1.
    """
    mean = x0_from_eps(schedule, xt, level(t, schedule.T, lowest=1), eps)
    variance = positive(x0_variance, "x0_variance", zero=True)
    return mean, expand(np.broadcast_to(variance, np.broadcast_shapes(variance.shape, np.shape(t))), mean.shape)


def _moments(schedule: NoiseSchedule, t: ArrayLike, values: Array) -> tuple[IntArray, Array]:
    """A level for every value, in one shape."""
    levels = level(t, schedule.T, lowest=1)
    _refuse_dead(schedule, levels)
    if not values.ndim:
        values = np.broadcast_to(values, levels.shape)
    return spread(levels, values.shape), values


def _refuse_dead(schedule: NoiseSchedule, t: IntArray) -> None:
    if (schedule.alpha_bar[t] == 0).any():
        raise RangeError(
            "alpha_bar = 0 (zero terminal SNR): the noise says nothing of x0 there, and the variance of x0 given x_T is "
            "that of the data; write that number"
        )


def _scaled(schedule: NoiseSchedule, t: IntArray, values: Array, *, complement: bool) -> Array:
    shares = map(combined.exactly, values.ravel().tolist())
    wanted = (1 - share for share in shares) if complement else shares
    return combined.noise_to_signal(schedule.products, t.ravel().tolist(), wanted).reshape(values.shape)
