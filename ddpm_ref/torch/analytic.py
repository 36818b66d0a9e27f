r"""Analytic-DPM on tensors: what the prediction leaves unknown of the data, and the optimal variance of a reverse step.

Statistics (mean squares, variances of the data given x_t) are numbers or tensors in the shape of the levels, and the
coefficients made of them are in the format of the tables. Searching a trajectory has no use for a device and is in
`ddpm_ref.reference.analytic` only.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.torch.arguments import (
    Level,
    LevelLike,
    Number,
    at,
    common_shape,
    compute_dtype,
    expand_right,
    finite,
    level,
    non_negative,
    operands,
    pair,
    readable,
    same_kind,
)
from ddpm_ref.torch.ddim import Member, member
from ddpm_ref.torch.forward import refuse_dead_level
from ddpm_ref.torch.lincomb import lincomb
from ddpm_ref.torch.prediction import x0_from_eps
from ddpm_ref.torch.tables import Tables

_DEAD = "the noise says nothing of x0 there, and what is unknown of it is the variance of the data"


def eps_mean_square(eps: Tensor) -> Tensor:
    r"""Energy of predicted noise per dimension.

    .. math:: \frac{1}{Md}\sum_m\lVert\epsilon_\theta(x_t^{(m)}, t)\rVert^2

    Args:
        eps: the answers for M noisy data of one level, ``(M, *event)``.

    Returns:
        A 0-dim tensor in the compute format.

    Raises:
        ShapeError: nothing to average.
        PrecisionError, RangeError: see `ddpm_ref.torch.arguments`.

    Limits: sums in the compute format; accumulate float64 answers for statistics. Source: bao2022, eq. (8).

    >>> eps_mean_square(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    tensor(0.3750)
    """
    (eps,) = operands(None, eps=eps)
    return _mean_of_squares(eps.to(compute_dtype(eps.dtype)))


def residual_mean_square(noise: Tensor, eps: Tensor) -> Tensor:
    r"""What the prediction gets wrong, per dimension: the simple loss at one level.

    .. math:: \frac{1}{Md}\sum_m\lVert\varepsilon_m - \epsilon_\theta(x_t^{(m)}, t)\rVert^2

    Args:
        noise: what was mixed in, ``(M, *event)``.
        eps: the answers, in its shape.

    Returns:
        A 0-dim tensor in the compute format.

    Raises:
        ShapeError, PrecisionError, RangeError: as `eps_mean_square`.

    Limits: as `eps_mean_square`. Source: ho2020, eq. (14).
    """
    noise, eps = operands(None, noise=noise, eps=eps)
    compute = compute_dtype(eps.dtype)
    return _mean_of_squares(noise.to(compute) - eps.to(compute))


def _mean_of_squares(values: Tensor) -> Tensor:
    if not values.numel():
        raise ShapeError(f"eps has shape {tuple(values.shape)}: there is nothing to average; write at least one answer")
    return values.square().mean()


def sigma_hat_squared(tables: Tables, t: LevelLike, eps_mean_square: Number, *, allow_negative: bool = False) -> Tensor:
    r"""Variance of the data given x_t, averaged, from the energy of the optimal noise prediction.

    .. math:: \hat\sigma_t^2 = \frac{\bar\beta_t}{\bar\alpha_t}\left(1 - \frac1d\mathbb E\lVert\hat\varepsilon^*
              \rVert^2\right)

    Args:
        t: levels, ``T >= t >= 1``.
        eps_mean_square: in the shape of the levels, with axes of its own to the right if it likes.
        allow_negative: give what the formula gives for an energy above 1; otherwise refuse it (seen on CPU).

    Returns:
        A variance, in the shape of the statistic and the dtype of the tables.

    Raises:
        RangeError: an energy below 0 or above 1; t = T at zero terminal SNR.
        LevelError, ShapeError: see `ddpm_ref.torch.arguments`.

    Limits: only for the conditional mean, and ill-conditioned near energy 1; `sigma_hat_squared_from_residual` is
    neither. Source: bao2022, eq. (7) and (9).
    """
    t, m = _statistic(tables, t, eps_mean_square, "eps_mean_square")
    if not allow_negative and readable(m) and bool((m > 1).any()):
        raise RangeError(
            f"eps_mean_square holds {float(m.max()):.6g}, and no conditional mean has more energy than the noise: use "
            "sigma_hat_squared_from_residual, or allow_negative=True and then clip_sigma_hat_squared"
        )
    return _noise_to_signal(tables, t, m) * (1 - m)


def sigma_hat_squared_from_residual(tables: Tables, t: LevelLike, residual_mean_square: Number) -> Tensor:
    r"""Mean square error of the predicted data, from that of the predicted noise: right for any network.

    .. math:: \hat\sigma_t^2 = \frac{\bar\beta_t}{\bar\alpha_t}\cdot\frac1d\mathbb E\lVert\varepsilon - \epsilon_\theta
              \rVert^2

    Args:
        t: levels, ``T >= t >= 1``.
        residual_mean_square: in the shape of the levels, as in `sigma_hat_squared`.

    Returns:
        A variance, in the shape of the statistic and the dtype of the tables.

    Raises:
        RangeError: a negative average; t = T at zero terminal SNR.
        LevelError, ShapeError: see `ddpm_ref.torch.arguments`.

    Limits: nothing cancels. Source: bao2022, proof of theorem 1; bao2022extended.
    """
    t, r = _statistic(tables, t, residual_mean_square, "residual_mean_square")
    return _noise_to_signal(tables, t, r) * r


def x0_variance(
    tables: Tables,
    t: LevelLike,
    mean_square_eps: Number | None = None,
    *,
    residual_mean_square: Number | None = None,
) -> Tensor:
    r"""The variance of the data given x_t, from whichever of the two averages is given.

    .. math:: \hat\sigma_t^2 = \frac{\bar\beta_t}{\bar\alpha_t}\left(1 - \frac1d\mathbb E\lVert\hat\varepsilon^*
              \rVert^2\right) = \frac{\bar\beta_t}{\bar\alpha_t}\cdot\frac1d\mathbb E\lVert\varepsilon -
              \epsilon_\theta\rVert^2

    Args:
        t: levels, ``T >= t >= 1``.
        mean_square_eps: as for `sigma_hat_squared`.
        residual_mean_square: as for `sigma_hat_squared_from_residual`, the well-conditioned one.

    Returns:
        A variance, in the format of the tables.

    Raises:
        RangeError: unless exactly one of the two is given; see also the two functions.
        LevelError, ShapeError: see `ddpm_ref.torch.arguments`.

    Limits: both agree for the conditional mean of the noise. Source: bao2022, eq. (7) and (9).
    """
    if mean_square_eps is not None and residual_mean_square is None:
        return sigma_hat_squared(tables, t, mean_square_eps)
    if residual_mean_square is not None and mean_square_eps is None:
        return sigma_hat_squared_from_residual(tables, t, residual_mean_square)
    raise RangeError("write either mean_square_eps or residual_mean_square, and one of them only")


def x0_posterior_covariance(tables: Tables, t: LevelLike, eps_covariance: Tensor) -> Tensor:
    r"""The covariance identity for each x_t.

    .. math:: \mathrm{Cov}[x_0\mid x_t] = \frac{\bar\beta_t}{\bar\alpha_t}\mathrm{Cov}[\varepsilon\mid x_t]

    Args:
        t: levels, ``T >= t >= 1``, scalar or in the shape of the leading axes.
        eps_covariance: covariances, or variances, ``(*batch, *event)``.

    Returns:
        Shape and dtype of ``eps_covariance``.

    Raises:
        RangeError: t = T at zero terminal SNR.
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: depends on x_t, which its average does not. Source: bao2022, proof of theorem 1.
    """
    t = level(tables, t, lowest=1)
    refuse_dead_level(tables, t, _DEAD)
    (covariance,) = operands(tables, t, eps_covariance=eps_covariance)
    return lincomb([at(tables.beta_bar, t) / at(tables.alpha_bar, t)], [covariance])


def x0_posterior_covariance_averaged(tables: Tables, t: LevelLike, eps_second_moment: Tensor) -> Tensor:
    r"""The same averaged over x_t, from the second moment of the optimal prediction.

    .. math:: \frac{\bar\beta_t}{\bar\alpha_t}\left(I - \mathbb E[\hat\varepsilon^*\hat\varepsilon^{*\top}]\right)

    Args:
        t: levels, ``T >= t >= 1``, scalar or in the shape of the leading axes.
        eps_second_moment: ``(*batch, d, d)``.

    Returns:
        Shape and dtype of ``eps_second_moment``.

    Raises:
        RangeError, LevelError, ShapeError, PrecisionError: as `x0_posterior_covariance`.

    Limits: its trace over d is `sigma_hat_squared`. Source: bao2022, theorem 1.
    """
    t = level(tables, t, lowest=1)
    refuse_dead_level(tables, t, _DEAD)
    (moment,) = operands(tables, t, eps_second_moment=eps_second_moment)
    if moment.ndim < 2 or moment.shape[-1] != moment.shape[-2]:
        raise ShapeError(f"eps_second_moment has shape {tuple(moment.shape)}; write matrices, (*batch, d, d)")
    compute = compute_dtype(moment.dtype)
    one = torch.eye(moment.shape[-1], dtype=compute, device=moment.device)
    factor = (at(tables.beta_bar, t) / at(tables.alpha_bar, t)).to(compute)
    return (expand_right(factor, moment.ndim) * (one - moment.to(compute))).to(moment.dtype)


def x0_gaussian_approximation(
    tables: Tables, xt: Tensor, t: LevelLike, eps: Tensor, x0_variance: Number
) -> tuple[Tensor, Tensor]:
    r"""The normal law that stands for the data given x_t.

    .. math:: \mathcal N(\hat x_0(x_t), \hat\sigma_t^2I)

    Args:
        xt: noisy data, ``(*batch, *event)``.
        t: levels, ``T >= t >= 1``, scalar or in the shape of the leading axes.
        eps: predicted noise, in the shape of ``xt``.
        x0_variance: in the shape of the levels, >= 0.

    Returns:
        mean: shape and dtype of ``xt``. variance: in the compute format, broadcasts against it.

    Raises:
        RangeError: a negative variance; t = T at zero terminal SNR.
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: exact on isotropic normal data. Source: bao2022, theorem 1.
    """
    levels, variance = _statistic(tables, t, x0_variance, "x0_variance")
    mean = x0_from_eps(tables, xt, levels, eps)
    return mean, expand_right(variance.to(compute_dtype(mean.dtype)), mean.ndim)


def analytic_variance(tables: Tables, t: LevelLike, s: LevelLike, x0_variance: Number, eta: Number = 1.0) -> Tensor:
    r"""The optimal isotropic variance of the step from t to s, beside the mean that the prediction gives.

    .. math:: \sigma^{*2} = \lambda^2 + \left(\sqrt{\bar\alpha_s} - \sqrt{\frac{\bar\alpha_t(\bar\beta_s - \lambda^2)}
              {\bar\beta_t}}\right)^2\hat\sigma_t^2, \qquad \lambda^2 = \eta^2\tilde\beta_{t|s}

    Args:
        t, s: levels, ``T >= t > s >= 0``.
        x0_variance: in the shape of the levels, >= 0.
        eta: in [0, 1]: 1 is Analytic-DPM, 0 Analytic-DDIM.

    Returns:
        A variance, in the shape of the levels and the dtype of the tables.

    Raises:
        RangeError: a negative variance, or an eta outside [0, 1].
        LevelError, ShapeError: see `ddpm_ref.torch.arguments`.

    Limits: :math:`\hat\sigma_t^2` at s = 0. Source: bao2022, eq. (7).
    """
    row, v = _step(tables, t, s, x0_variance, eta)
    return _variance(row, v)


# The same under the name that says what it is the optimum of.
optimal_variance = analytic_variance


def analytic_std(tables: Tables, t: LevelLike, s: LevelLike, x0_variance: Number, eta: Number = 1.0) -> Tensor:
    r"""The root of `analytic_variance`, :math:`\sigma^*`.

    Args:
        t, s, x0_variance, eta: as for `analytic_variance`.

    Returns:
        A std, in the shape of the levels and the dtype of the tables.

    Raises:
        RangeError, LevelError, ShapeError: as `analytic_variance`.

    Limits: as `analytic_variance`. Source: bao2022, eq. (7).
    """
    return analytic_variance(tables, t, s, x0_variance, eta).sqrt()


def analytic_variance_bounds(
    tables: Tables,
    t: LevelLike,
    s: LevelLike,
    low: float | int = -1.0,
    high: float | int = 1.0,
    eta: Number = 1.0,
) -> tuple[Tensor, Tensor]:
    r"""Between what the optimal variance lies for any data in ``[low, high]``.

    .. math:: \lambda^2 \le \sigma^{*2} \le \lambda^2 + (C^0)^2\min\left(\frac{\bar\beta_t}{\bar\alpha_t},
              \left(\frac{b - a}{2}\right)^2\right)

    Args:
        t, s: levels, ``T >= t > s >= 0``.
        low, high: the range of the data, ``low < high``; infinite where there is none.
        eta: in [0, 1].

    Returns:
        (lower, upper) variances, in the shape of the levels and the dtype of the tables.

    Raises:
        RangeError: a range that is none, or an eta outside [0, 1].
        LevelError, ShapeError: see `ddpm_ref.torch.arguments`.

    Limits: infinite at zero terminal SNR if the range is. Source: bao2022, theorem 2.
    """
    row = member(tables, *pair(tables, t, s), eta)
    known = row.eta.square() * row.step.beta_tilde
    return known, known + row.x0_weight.square() * _largest(tables, row.step.t, low, high).expand(known.shape)


def clip_sigma_hat_squared(
    tables: Tables, x0_variance: Number, t: LevelLike, low: float | int = -1.0, high: float | int = 1.0
) -> tuple[Tensor, Tensor]:
    r"""Estimated variances of the data given x_t, brought between the bounds that any data in ``[low, high]`` obey.

    .. math:: 0 \le \hat\sigma_t^2 \le \min\left(\frac{\bar\beta_t}{\bar\alpha_t}, \left(\frac{b - a}{2}\right)^2
              \right)

    Args:
        x0_variance: estimates in the shape of the levels; negative ones are expected.
        t: levels, ``T >= t >= 1``.
        low, high: the range of the data, ``low < high``; infinite where there is none.

    Returns:
        The clipped variances in the dtype of the tables, and a mask of where clipping acted.

    Raises:
        RangeError: a range that is none.
        LevelError, ShapeError: see `ddpm_ref.torch.arguments`.

    Limits: for estimates of what the optimal prediction leaves unknown. Source: bao2022, section 3.1 and theorem 2.
    """
    t, v = _statistic(tables, t, x0_variance, "x0_variance", signed=True, dead=True)
    clipped = torch.minimum(v.clamp(min=0), expand_right(_largest(tables, t, low, high), v.ndim))
    return clipped, clipped != v


def analytic_step(
    tables: Tables,
    xt: Tensor,
    t: LevelLike,
    s: LevelLike,
    eps: Tensor,
    x0_variance: Number,
    noise: Tensor | None = None,
    eta: Number = 1.0,
) -> Tensor:
    r"""One step of Analytic-DPM: the mean of DDIM with that eta, and noise of the optimal variance.

    .. math:: x_s = x_t/\sqrt{\alpha_{t|s}} + \left(\sqrt{\bar\beta_s - \lambda^2} - \sqrt{\bar\beta_t/\alpha_{t|s}}
              \right)\hat\varepsilon + \sigma^* z

    Args:
        xt: noisy data, ``(*batch, *event)``.
        t, s: levels, ``T >= t > s >= 0``, scalars or in the shape of the leading axes.
        eps: predicted noise, in the shape of ``xt``.
        x0_variance: in the shape of the levels, >= 0.
        noise: standard normal, in the shape of ``xt``; None adds none, which is right where the variance is 0.
        eta: in [0, 1]; also with eta = 0 the step is random.

    Returns:
        x_s, shape and dtype of ``xt``.

    Raises:
        RangeError: as `analytic_variance`; t = T at zero terminal SNR; noise needed and missing (seen where the
            variance may be read).
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: the last step of a sampler passes no noise and a variance of 0. Source: bao2022, eq. (3) and (6)-(9).
    """
    row, v = _step(tables, t, s, x0_variance, eta)
    refuse_dead_level(tables, row.step.t, "eps prediction does not determine the mean at zero terminal SNR; use x0")
    std = _variance(row, v).sqrt()
    tensors = {"xt": xt, "eps": eps} | ({} if noise is None else {"noise": noise})
    if noise is None and readable(std) and bool((std > 0).any()):
        raise RangeError("the step has a variance; pass noise, standard normal in the shape of the data")
    data = operands(tables, row.step.t, row.step.s, **tensors)
    return lincomb([row.step.recip_sqrt_alpha, row.eps_weight, std][: len(data)], list(data))


def step_cost(tables: Tables, t: LevelLike, s: LevelLike, x0_variance: Number, eta: Number = 1.0) -> Tensor:
    r"""Cost of one step of a trajectory, the logarithm of the optimal variance over that of the posterior.

    .. math:: J(s, t) = \log\frac{\sigma^{*2}}{\lambda^2}

    Args:
        t, s: levels, ``T >= t > s >= 1``.
        x0_variance: in the shape of the levels, >= 0.
        eta: in (0, 1].

    Returns:
        Twice the nats per dimension, in the shape of the levels and the dtype of the tables.

    Raises:
        RangeError: eta = 0, where the cost is infinite; a negative variance.
        LevelError, ShapeError: see `ddpm_ref.torch.arguments`.

    Limits: 0 where the data are known. Source: bao2022, theorem 3.
    """
    level(tables, s, "s", lowest=1)
    row, v = _step(tables, t, s, x0_variance, eta)
    if readable(row.eta) and float(row.eta) == 0:
        raise RangeError("eta = 0: the posterior has no noise, and the cost is infinite; write eta in (0, 1]")
    return (row.x0_weight.square() / (row.eta.square() * row.step.beta_tilde) * v).log1p()


def _variance(row: Member, v: Tensor) -> Tensor:
    return row.eta.square() * row.step.beta_tilde + row.x0_weight.square() * v


def _step(tables: Tables, t: LevelLike, s: LevelLike, unknown: Number, eta: Number) -> tuple[Member, Tensor]:
    row = member(tables, *pair(tables, t, s), eta)
    shape = row.step.beta.shape
    v = _as_statistic(tables, unknown, "x0_variance")
    if v.ndim and shape and v.shape != shape:
        raise ShapeError(f"x0_variance has shape {tuple(v.shape)}, levels {tuple(shape)}; write one per level")
    return row, v


def _statistic(
    tables: Tables, t: LevelLike, value: Number, name: str, *, signed: bool = False, dead: bool = False
) -> tuple[Level, Tensor]:
    """Levels from 1 on and a statistic, in the format of the tables and at least in the shape of the levels.

    ``dead``: also at a level without signal.
    """
    levels, v = level(tables, t, lowest=1), _as_statistic(tables, value, name, signed=signed)
    if not dead:
        refuse_dead_level(tables, levels, _DEAD)
    if isinstance(levels, Tensor) and not v.ndim:
        v = v.expand(levels.shape)
    common_shape(levels, **{name: v})
    return levels, v


def _as_statistic(tables: Tables, value: Number, name: str, *, signed: bool = False) -> Tensor:
    if not isinstance(value, Tensor):
        # a filled tensor, because a Python float would be compiled into the graph as a float64 constant
        value = torch.full((), value, dtype=tables.dtype, device=tables.device)
    same_kind(None, **{name: value})
    finite(**{name: value})
    if not signed:
        non_negative(**{name: value})
    return value.to(tables.beta)


def _noise_to_signal(tables: Tables, t: Level, like: Tensor) -> Tensor:
    return expand_right(at(tables.beta_bar, t) / at(tables.alpha_bar, t), like.ndim)


def _largest(tables: Tables, t: Level, low: float | int, high: float | int) -> Tensor:
    """The largest variance of x0 given x_t."""
    if not low < high:
        raise RangeError(f"low = {low!r}, high = {high!r}; the range of the data needs low < high, e.g. -1.0 and 1.0")
    half = (high - low) / 2
    ratio = at(tables.beta_bar, t) / at(tables.alpha_bar, t)
    return ratio if math.isinf(half) else ratio.clamp(max=half * half)
