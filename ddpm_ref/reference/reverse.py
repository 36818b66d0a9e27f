r"""The reverse model :math:`p_\theta(x_s\mid x_t) = \mathcal N(\mu_\theta(x_t, t),\ \sigma_t^2 I)` and its variances.

Source: Ho et al. 2020, eq. (1) and section 3.2.
"""

from __future__ import annotations

import numpy as np

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.reference.arguments import expand, one_of, positive, real, same_shape
from ddpm_ref.reference.posterior import (
    log_normal,
    posterior_log_variance,
    posterior_mean_from_eps,
    q_posterior,
    with_first_step,
)
from ddpm_ref.reference.schedule import NoiseSchedule, Trajectory
from ddpm_ref.typing import Array, ArrayLike

VARIANCES = {"posterior": "beta_tilde", "fixed_small": "beta_tilde", "beta": "beta", "fixed_large": "beta"}


def model_mean_from_eps(schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, s: ArrayLike, eps: ArrayLike) -> Array:
    r"""Model mean from the predicted noise.

    .. math:: \mu_\theta=\frac{1}{\sqrt{\alpha_{t|s}}}\left(x_t-\frac{\beta_{t|s}}{\sqrt{\bar\beta_t}}\hat\varepsilon\right)

    Equals `model_mean_from_x0` as long as the implied x0 is not clipped. Law: ``reverse/mean_from_eps``. Source:
    ho2020, eq. (11).
    """
    return posterior_mean_from_eps(schedule, xt, t, s, eps)


def model_mean_from_x0(schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, s: ArrayLike, x0: ArrayLike) -> Array:
    r"""Model mean :math:`\mu_\theta = \tilde\mu(x_t, \hat x_0)` from the predicted data: the form to use when x0 is clipped.

    Law: ``reverse/mean_from_x0``. Source: ho2020, section 3.2.
    """
    return q_posterior(schedule, x0, xt, t, s)[0]


def reverse_variance(schedule: NoiseSchedule, t: ArrayLike, s: ArrayLike, kind: str = "posterior") -> Array:
    r"""A fixed reverse variance of the step ``t -> s``.

    ``"posterior"`` (fixed small): :math:`\tilde\beta_{t|s}`, exact when the data are one point, 0 at ``s = 0``.
    ``"beta"`` (fixed large): :math:`\beta_{t|s}`, exact for unit Gaussian data, never 0.

    Also accepted: "fixed_small", "fixed_large". Law: ``reverse/variance``. Source: ho2020, section 3.2.
    """
    one_of("kind", kind, VARIANCES)
    step = schedule.between(t, s)
    return step.beta_tilde if VARIANCES[kind] == "beta_tilde" else step.beta


def fixed_large_log_variance(
    schedule: NoiseSchedule,
    t: ArrayLike,
    s: ArrayLike,
    first_step: str = "replace",
    trajectory: Trajectory | None = None,
) -> Array:
    r""":math:`\log\beta_{t|s}`, with the step to level 0 replaced by a named rule.

    The rules are those of `posterior_log_variance`; "floor" and "exact" keep beta, which is not 0.

    The replaced entry never touches a sample (the last step adds no noise); it is the width of the decoder in a
    likelihood. Law: ``reverse/fixed_large_log_variance``. Source: ho2020 and nichol2021, code.
    """
    step = schedule.between(t, s)
    return np.asarray(np.log(with_first_step(schedule, step, step.beta, first_step, trajectory)))


def optimal_variance_bounds(schedule: NoiseSchedule, t: ArrayLike, s: ArrayLike) -> tuple[Array, Array]:
    r"""The bounds of the optimal isotropic reverse variance, whatever the data.

    .. math:: \tilde\beta_{t|s}\le\sigma^{*2}\le\beta_{t|s}/\alpha_{t|s}

    Limits: unit Gaussian data give exactly ``beta_{t|s}``. The upper bound is infinite at zero terminal SNR.
    Law: ``reverse/optimal_variance_bounds``. Source: bao2022, theorem 2, eq. (11).
    """
    step = schedule.between(t, s)
    return step.beta_tilde, step.reverse_variance_bound


def learned_variance(
    schedule: NoiseSchedule,
    t: ArrayLike,
    s: ArrayLike,
    fraction: ArrayLike,
    first_step: str = "replace",
    trajectory: Trajectory | None = None,
) -> Array:
    r"""Learned variance, interpolated between the fixed ones in the logarithm.

    .. math:: \Sigma = \exp\left(v\log\beta_{t|s} + (1 - v)\log\tilde\beta_{t|s}\right), \qquad v \in [0, 1]

    Args: ``fraction``: the network's v, per element, in [0, 1] (map an output in [-1, 1] by ``(o + 1) / 2`` first).
    Raises `RangeError` outside. Limits: v = 0 and 1 give fixed small and fixed large. Law:
    ``reverse/learned_variance``. Source: nichol2021, eq. (15).
    """
    v = real(fraction, "fraction")
    if ((v < 0) | (v > 1)).any():
        raise RangeError(
            f"fraction spans [{v.min():g}, {v.max():g}]; it must lie in [0, 1]: map an output in [-1, 1] by (o + 1) / 2"
        )
    small = posterior_log_variance(schedule, t, s, first_step, trajectory)
    if np.isneginf(small).any():
        raise RangeError(
            "first_step = 'exact' gives log 0 at s = 0, which cannot be interpolated; write 'replace' or 'floor'"
        )
    large = np.log(schedule.between(t, s).beta)
    return np.exp(v * expand(large, v.shape) + (1 - v) * expand(small, v.shape))


def learned_log_variance(
    schedule: NoiseSchedule,
    t: ArrayLike,
    s: ArrayLike,
    extra: ArrayLike,
    kind: str,
    first_step: str = "replace",
    trajectory: Trajectory | None = None,
) -> Array:
    r"""Log-variance of the reverse step from what a network says of it in its extra channels.

    ``"learned"``: :math:`\log\sigma^2 = o`, the output itself. ``"learned_range"``: an o in [-1, 1] by convention,

    .. math:: \log\sigma^2 = v\log\beta_{t|s} + (1 - v)\log\tilde\beta_{t|s}, \qquad v = \tfrac12(o + 1)

    Args: ``extra``: the output, per element, finite. ``first_step``, ``trajectory``: of :math:`\log\tilde\beta` at
    ``s = 0``, see `posterior_log_variance`. Returns the shape of ``extra``. Raises `RangeError` for another kind and for
    "exact", whose minus infinity cannot be interpolated. Limits: an o outside [-1, 1] extrapolates, while
    `learned_variance` refuses its fraction. Law: ``reverse/learned_log_variance``. Source: nichol2021, eq. (15).

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> schedule = linear_schedule()
    >>> float(learned_log_variance(schedule, 2, 1, 1.0, "learned_range")) == float(np.log(schedule.beta[2]))
    True
    """
    if kind not in ("learned", "learned_range"):
        raise RangeError(f"kind = {kind!r} is not a learned variance; write 'learned' or 'learned_range'")
    o = real(extra, "extra")
    small = posterior_log_variance(schedule, t, s, first_step, trajectory)
    if np.isneginf(small).any():
        raise RangeError(
            "first_step = 'exact' gives log 0 at s = 0, which cannot be interpolated; write 'replace' or 'floor'"
        )
    if kind == "learned":
        return o.copy()
    large = np.log(schedule.between(t, s).beta)
    return np.asarray(((1 + o) * expand(large, o.shape) + (1 - o) * expand(small, o.shape)) / 2)


def reverse_step(mean: ArrayLike, variance: ArrayLike, noise: ArrayLike) -> Array:
    r"""A draw :math:`x_s = \mu + \sqrt{\sigma^2}\,z` from the reverse kernel: the noise is multiplied by a standard deviation.

    Law: ``reverse/step``. Source: ho2020, algorithm 2, line 4.
    """
    mean, variance, noise = real(mean, "mean"), positive(variance, "variance", zero=True), real(noise, "noise")
    same_shape(mean=mean, variance=variance, noise=noise)
    return mean + np.sqrt(variance) * noise


def log_reverse_step(xs: ArrayLike, mean: ArrayLike, variance: ArrayLike) -> Array:
    """Log density of the reverse kernel at ``xs``, nats per element; ``variance > 0``. Law: ``posterior/log_normal``."""
    return log_normal(xs, mean, variance)


def reverse_chain_variance(gains: ArrayLike, variances: ArrayLike, terminal_variance: ArrayLike = 1.0) -> Array:
    r"""Variances along a linear-Gaussian reverse chain: :math:`v_s = g^2 v_t + \sigma^2`, step by step.

    Args: ``gains`` and ``variances`` of shape ``(K,)`` in sampling order; ``terminal_variance`` of the first state.
    Returns shape ``(K + 1,)``, from the first state to the sample: with a linear predictor every sampler can be judged
    without sampling.
    Law: ``reverse/chain_variance``. Source: ho2020, eq. (1).

    >>> reverse_chain_variance([0.5, 1.0], [0.0, 0.25])
    array([1.  , 0.25, 0.5 ])
    """
    gains, variances = real(gains, "gains"), positive(variances, "variances", zero=True)
    if gains.ndim != 1 or gains.shape != variances.shape:
        raise ShapeError(f"gains {gains.shape} and variances {variances.shape} must both have shape (K,)")
    first = positive(terminal_variance, "terminal_variance", zero=True)
    if first.ndim:
        raise ShapeError(f"terminal_variance has shape {first.shape}; give one number")
    chain = [float(first)]
    for g, v in zip(gains.tolist(), variances.tolist(), strict=True):
        chain.append(g * g * chain[-1] + v)
    return np.array(chain)
