r"""The terms of the bound, for one example and one draw of the noisy data each; averaged over both they are the bound."""

from __future__ import annotations

import numpy as np

from ddpm_ref.errors import LevelError, RangeError, ShapeError
from ddpm_ref.reference.arguments import expand, numbers, pair, real, rectangular
from ddpm_ref.reference.bound.units import bits_per_dim
from ddpm_ref.reference.bound.weights import fixed
from ddpm_ref.reference.decoder import discretized_gaussian_log_likelihood
from ddpm_ref.reference.divergence import kl_normal_logvar, variance_divergence
from ddpm_ref.reference.forward import terminal_kl
from ddpm_ref.reference.posterior import q_posterior
from ddpm_ref.reference.reverse import VARIANCES
from ddpm_ref.reference.scaling import to_level_index
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array, ArrayLike, Real

LOG_2PI = float(np.log(2 * np.pi))


def prior_term(schedule: NoiseSchedule, x0: ArrayLike) -> Array:
    r"""The prior term :math:`L_T = D(q(x_T\mid x_0)\,\Vert\,\mathcal N(0, I))`, nats per element.

    .. math:: \tfrac12\left(\bar\alpha_T x_0^2 - \bar\alpha_T - \log\bar\beta_T\right)

    Args: ``x0``: data of any shape. Returns its shape, >= 0. Needs no network. A chain that starts at a level below T has
    the prior term of the schedule cut there, ``NoiseSchedule.from_betas(schedule.beta[1 : t + 1])``. Raises `RangeError` for
    data that are not finite. Law: ``bound/prior_term``. Source: ho2020, eq. (5); nichol2021, eq. (7).

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> print(f"{bits_per_dim(prior_term(linear_schedule(), 1.0), 1):.3e}")
    2.911e-05
    """
    return terminal_kl(schedule, x0)


def denoising_term(
    schedule: NoiseSchedule,
    x0: ArrayLike,
    xt: ArrayLike,
    t: ArrayLike,
    s: ArrayLike,
    mean: ArrayLike,
    log_variance: ArrayLike,
) -> Array:
    r"""One draw of :math:`L_{t-1}`: the divergence of the model's step from the posterior, the posterior first, nats per element.

    .. math:: D(q(x_s\mid x_t, x_0)\,\Vert\,\mathcal N(\mu_\theta, \sigma^2)) = \tfrac12\left(\frac{\tilde\beta_{t|s}}{\sigma^2} - 1
              - \log\frac{\tilde\beta_{t|s}}{\sigma^2}\right) + \frac{(\tilde\mu - \mu_\theta)^2}{2\sigma^2}

    Args:
        schedule: the noise schedule.
        x0, xt: data and a draw of q(x_t | x_0), of one shape ``(*batch, *event)``.
        t, s: levels, ``T >= t > s >= 1``; scalars or shaped like the leading axes of the data.
        mean: of the model's step, shape of the data.
        log_variance: logarithm of its variance; a scalar, or with as many axes as the data, of length 1 where it does
            not vary (one per example: ``(*batch, 1, 1, 1)``).

    Returns the shape of the data, >= 0. Raises `LevelError` for ``s = 0``, where the posterior is a point and
    `reconstruction_term` takes its place; `ShapeError`, `RangeError` (also for a variance of 0). Limits: 0 only where both
    moments agree. Laws: ``bound/denoising_term``, ``bound/zero_where_both_moments_agree``. Source: ho2020, eq. (5) and (8);
    nichol2021, eq. (5).

    >>> float(denoising_term(NoiseSchedule.from_betas([0.5, 0.5]), 1.0, 1.0, 2, 1, mean=0.0, log_variance=np.log(1 / 3)))
    1.33333...
    """
    step, x0, xt = schedule.between(t, s), real(x0, "x0"), real(xt, "xt")
    if (step.s == 0).any():
        raise LevelError(
            "s = 0: the posterior is the point x0; the step to level 0 has a reconstruction_term, not a divergence"
        )
    _one_shape(x0, xt)
    mean, log_variance = _model(x0.shape, mean, log_variance)
    posterior_mean, variance = q_posterior(schedule, x0, xt, t, s)
    return kl_normal_logvar(posterior_mean, np.log(variance), mean, log_variance)


def reconstruction_term(x0: ArrayLike, mean: ArrayLike, log_variance: ArrayLike, levels: Real | None = 256) -> Array:
    r"""One draw of :math:`L_0 = -\log p_\theta(x_0\mid x_t)`, the step to level 0: minus a logarithm, nats per element.

    Args:
        x0: data. With ``levels`` they must lie on that grid of [-1, 1], :math:`-1 + 2k/(n - 1)`.
        mean, log_variance: of the model's step, as for `denoising_term`. At ``s = 0`` the mean is the prediction of x0.
        levels: n, the probability of the bin of x0 under the discretised Gaussian
            (`ddpm_ref.reference.decoder.discretized_gaussian_log_likelihood`); None for continuous data, whose density is

            .. math:: \tfrac12\left(\log 2\pi\sigma^2 + (x_0 - \mu)^2/\sigma^2\right)

    Returns the shape of the data: >= 0 for data on a grid, of either sign for a density. Raises `RangeError` for a
    variance of 0, and for data off the grid; `ShapeError`. Laws: ``bound/reconstruction_term``,
    ``bound/reconstruction_of_grey_levels``. Source: ho2020, section 3.3 and eq. (13); nichol2021, eq. (4).

    >>> float(reconstruction_term(0.0, mean=1.0, log_variance=0.0, levels=None))
    1.418938...
    """
    data = real(x0, "x0")
    mean, log_variance = _model(data.shape, mean, log_variance)
    if levels is not None:
        index = to_level_index(x0, levels)
        return np.asarray(-discretized_gaussian_log_likelihood(index, mean, np.exp(log_variance / 2), levels))
    difference = data - mean
    with np.errstate(over="ignore", invalid="ignore"):
        # Half the exponent on each factor, so that neither overflows before their square does; and 0 however narrow the law.
        distance = np.where(difference == 0, 0.0, (difference * np.exp(-log_variance / 2)) ** 2)
    return np.asarray((LOG_2PI + log_variance + distance) / 2)


def bound_term(
    schedule: NoiseSchedule,
    x0: ArrayLike,
    xt: ArrayLike,
    t: ArrayLike,
    s: ArrayLike,
    mean: ArrayLike,
    log_variance: ArrayLike,
    levels: Real | None = 256,
) -> Array:
    r"""One draw of whichever term the step ``t -> s`` has, in **bits per dimension**, one number per example.

    `reconstruction_term` where ``s = 0``, `denoising_term` elsewhere, averaged over the components of an example. Summed over
    the steps of a trajectory, and with `prior_term` added, it is the bound; times the number of steps, at a step drawn
    uniformly, an unbiased estimate of the sum.

    Args: as the two. Components are the axes of the data after those of ``t``: with levels of shape ``(B,)`` and images
    ``(B, C, H, W)`` the result has shape ``(B,)``; with scalar levels all the data are one example. Raises as the two.
    Source: ho2020, eq. (5); nichol2021, code.

    >>> schedule = NoiseSchedule.from_betas([0.5, 0.5])
    >>> x0, xt = np.ones((2, 3)), np.ones((2, 3))
    >>> bound_term(schedule, x0, xt, t=[2, 1], s=[1, 0], mean=np.zeros((2, 3)), log_variance=0.0, levels=None).round(4)
    array([0.9528, 2.0471])
    """
    t, s = pair(t, s, schedule.T)
    stored = rectangular(x0, "x0")  # in its own format, by which the grid is known
    x0, xt = real(stored, "x0"), real(xt, "xt")
    _one_shape(x0, xt)
    expand(np.zeros(t.shape), x0.shape)
    model = (np.broadcast_to(part, x0.shape) for part in _model(x0.shape, mean, log_variance))
    event = x0.shape[t.ndim :]
    if 0 in event:
        raise ShapeError(f"x0 has shape {x0.shape}: examples without components have no bits per dimension")
    stored, x0, xt, mean, log_variance = (array.reshape((t.size, *event)) for array in (stored, x0, xt, *model))
    late, early = t.ravel(), s.ravel()
    last, nats = early == 0, np.empty_like(x0)
    if last.any():
        nats[last] = reconstruction_term(stored[last], mean[last], log_variance[last], levels)
    if not last.all():
        rest = ~last
        nats[rest] = denoising_term(
            schedule, x0[rest], xt[rest], late[rest], early[rest], mean[rest], log_variance[rest]
        )
    dimension = int(np.prod(event))
    return bits_per_dim(nats.reshape((t.size, dimension)).sum(axis=-1), dimension).reshape(t.shape)


def variance_term(schedule: NoiseSchedule, t: ArrayLike, s: ArrayLike, variance: str = "posterior") -> Array:
    r"""What a fixed variance costs in `denoising_term` whatever the mean, nats per element, ``s >= 1``.

    .. math:: \tfrac12(r - 1 - \log r), \qquad r = \frac{\tilde\beta_{t|s}}{\sigma^2}

    Exactly 0 for the posterior variance; for beta :math:`r = \bar\beta_s/\bar\beta_t`, whose difference from 1 is
    :math:`-\bar\alpha_s\beta_{t|s}/\bar\beta_t` without cancellation. Args as `loss_weight_mean`. Returns an array of the shape
    of the levels, >= 0. Raises `LevelError`, for ``s = 0`` too; `RangeError`. Law: ``bound/variance_term``.
    Source: ho2020, eq. (5).

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> round(float(variance_term(linear_schedule(), 2, 1, "beta")), 4)
    0.1214
    """
    step, _ = fixed(schedule, t, s, variance)
    if (step.s == 0).any():
        raise LevelError("s = 0: the posterior variance is 0 and its logarithm infinite; this belongs to s >= 1")
    if VARIANCES[variance] == "beta_tilde":
        return np.zeros(step.t.shape)
    late, early = schedule.beta_bar[step.t], schedule.beta_bar[step.s]
    return variance_divergence(-schedule.alpha_bar[step.s] * (step.beta / late), np.log(early / late))


def _one_shape(x0: Array, xt: Array) -> None:
    if x0.shape != xt.shape:
        raise ShapeError(f"x0 has shape {x0.shape} and xt {xt.shape}; give arrays of one shape")


def _model(shape: tuple[int, ...], mean: ArrayLike, log_variance: ArrayLike) -> tuple[Array, Array]:
    """Mean and log-variance of the model's step beside data of this shape."""
    if np.isneginf(numbers(log_variance, "log_variance")).any():
        raise RangeError(
            "log_variance is minus infinity: a variance of 0 gives no likelihood; for the step to level 0 write "
            "posterior_log_variance(..., first_step='replace'), or the logarithm of beta"
        )
    centre, logarithm = real(mean, "mean"), real(log_variance, "log_variance")
    if centre.shape != shape:
        raise ShapeError(f"mean has shape {centre.shape}, x0 {shape}; give arrays of one shape")
    # One number per example would else be matched with the last axis of the data wherever that is as long.
    fits = logarithm.ndim in (0, len(shape)) and all(n in (1, m) for n, m in zip(logarithm.shape, shape, strict=False))
    if not fits:
        raise ShapeError(
            f"log_variance has shape {logarithm.shape}, x0 {shape}; give a scalar, or as many axes as x0 has, of its lengths or 1, "
            "e.g. (B, 1, 1, 1) for one number per image"
        )
    return centre, logarithm
