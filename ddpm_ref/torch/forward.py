"""The forward process q: noise is added step by step, or at once from the closed form.

Noise is always an argument. Data are float64, float32, bfloat16 or float16; halves are computed in float32 and
rounded once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ddpm_ref.errors import LevelError, RangeError, ShapeError
from ddpm_ref.torch.arguments import (
    Level,
    LevelLike,
    Number,
    at,
    common_shape,
    compute_dtype,
    expand_right,
    finite,
    first_tensor,
    level,
    non_negative,
    operands,
    pair,
    parameters,
    readable,
    same_kind,
    within,
)
from ddpm_ref.torch.lincomb import lincomb
from ddpm_ref.torch.series import gap_log1p
from ddpm_ref.torch.tables import Tables, between


def forward_step(tables: Tables, x_prev: Tensor, t: LevelLike, noise: Tensor) -> Tensor:
    r"""One step of the forward chain, from level t - 1 to level t.

    .. math:: x_t = \sqrt{\alpha_t}\,x_{t-1} + \sqrt{\beta_t}\,\varepsilon_t

    Args:
        x_prev: data at level t - 1, ``(*batch, *event)``.
        t: level in 1..T, scalar or in the shape of the leading axes.
        noise: standard normal, in the shape of ``x_prev``.

    Returns:
        x_t, shape and dtype of ``x_prev``.

    Raises:
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: k = 3 roundings. Source: ho2020, eq. (2).
    """
    t = level(tables, t, lowest=1)
    x_prev, noise = operands(tables, t, x_prev=x_prev, noise=noise)
    return lincomb([at(tables.sqrt_alpha, t), at(tables.sqrt_beta, t)], [x_prev, noise])


def q_mean_variance(tables: Tables, x: Tensor, t: LevelLike, s: LevelLike = 0) -> tuple[Tensor, Tensor]:
    r"""Mean and variance of :math:`q(x_t | x_s)`.

    .. math:: \sqrt{\alpha_{t|s}}\,x_s, \qquad \beta_{t|s} = 1 - \bar\alpha_t/\bar\alpha_s

    Args:
        x: data at level s, finite.
        t, s: levels, ``T >= t > s >= 0``.

    Returns:
        mean: shape and dtype of ``x``. variance: in the compute format (float32 for halves), broadcasts against ``x``.

    Raises:
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.
        RangeError: ``x`` is not finite.

    Limits: the variance is a variance, not a std. Source: ho2020, eq. (4).
    """
    t, s = pair(tables, t, s)
    (x,) = operands(tables, t, s, x=x)
    finite(x=x)
    step = between(tables, t, s)
    return lincomb([step.sqrt_alpha], [x]), expand_right(_for(x, step.beta), x.ndim)


def q_sample(tables: Tables, x0: Tensor, t: LevelLike, noise: Tensor) -> Tensor:
    r"""A draw of x_t given clean data, in one stroke.

    .. math:: x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon

    Args:
        x0: clean data, finite, ``(*batch, *event)``.
        t: level in 0..T, scalar or in the shape of the leading axes.
        noise: standard normal, in the shape of ``x0``.

    Returns:
        x_t, shape and dtype of ``x0``.

    Raises:
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.
        RangeError: ``x0`` is not finite.

    Limits: t = 0 returns ``x0``; k = 3 roundings. Source: ho2020, eq. (4).
    """
    t = level(tables, t)
    x0, noise = operands(tables, t, x0=x0, noise=noise)
    finite(x0=x0)
    return lincomb([at(tables.sqrt_alpha_bar, t), at(tables.sqrt_beta_bar, t)], [x0, noise])


def q_sample_between(tables: Tables, xs: Tensor, t: LevelLike, s: LevelLike, noise: Tensor) -> Tensor:
    r"""A draw of x_t given x_s, for s < t.

    .. math:: x_t = \sqrt{\alpha_{t|s}}\,x_s + \sqrt{\beta_{t|s}}\,\varepsilon

    Args:
        xs: data at level s.
        t, s: levels, ``T >= t > s >= 0``.
        noise: standard normal, independent of the noise in ``xs``.

    Returns:
        x_t, shape and dtype of ``xs``.

    Raises:
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: draws for several t from one x_s are not a chain. Source: ho2020, eq. (4).
    """
    t, s = pair(tables, t, s)
    xs, noise = operands(tables, t, s, xs=xs, noise=noise)
    step = between(tables, t, s)
    return lincomb([step.sqrt_alpha, step.sqrt_beta], [xs, noise])


def q_chain(tables: Tables, x0: Tensor, noises: Tensor) -> Tensor:
    r"""The first n states of one forward chain.

    .. math:: x_t = \sqrt{\alpha_t}\,x_{t-1} + \sqrt{\beta_t}\,\varepsilon_t, \qquad t = 1..n

    Args:
        x0: clean data, finite.
        noises: per-step noise, ``(n, *x0.shape)``, ``n <= T``.

    Returns:
        x_1 .. x_n, in the shape of ``noises``. Halves are carried in float32; each state is rounded once.

    Raises:
        LevelError: more noises than levels.
        ShapeError, PrecisionError, RangeError: see `q_sample`.

    Limits: a Python loop over n. Source: ho2020, eq. (2).
    """
    same_kind(tables, x0=x0, noises=noises)
    finite(x0=x0)
    if noises.ndim != x0.ndim + 1 or noises.shape[1:] != x0.shape:
        raise ShapeError(f"noises have shape {tuple(noises.shape)}: write one per step, (n, {str(tuple(x0.shape))[1:]}")
    if noises.shape[0] > tables.T:
        raise LevelError(f"{noises.shape[0]} noises for a schedule of T = {tables.T} levels: write noises[:{tables.T}]")
    x = x0.to(compute_dtype(x0.dtype))
    states = []
    for t, noise in enumerate(noises, start=1):
        x = lincomb([tables.sqrt_alpha[t], tables.sqrt_beta[t]], [x, noise.to(x.dtype)])
        states.append(x.to(x0.dtype))
    return torch.stack(states) if states else noises


def aggregate_noise(tables: Tables, noises: Tensor, t: LevelLike) -> Tensor:
    r"""The one noise that takes clean data to x_t as the per-step noises do.

    .. math:: \varepsilon = \frac{1}{\sqrt{1-\bar\alpha_t}}\sum_{s=1}^t\sqrt{\alpha_{t|s}}\sqrt{\beta_s}\,\varepsilon_s

    Args:
        noises: per-step noise of steps 1..t, ``(t, *event)``.
        t: one scalar level in 1..T.

    Returns:
        The aggregate noise, shape ``event``, dtype of ``noises``.

    Raises:
        LevelError: t is not one level in 1..T.
        ShapeError: not t noises.
        PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: the squared weights sum to 1. Source: unrolled from ho2020, eq. (2).
    """
    last = _one_level(tables, noises, t)
    same_kind(tables, noises=noises)
    earlier = torch.arange(1, last, device=tables.device)
    carried = between(tables, torch.full_like(earlier, last), earlier).sqrt_alpha * at(tables.sqrt_beta, earlier)
    weights = torch.cat([carried, tables.sqrt_beta[last].reshape(1)]) / tables.sqrt_beta_bar[last]
    compute = compute_dtype(noises.dtype)
    return (expand_right(weights.to(compute), noises.ndim) * noises.to(compute)).sum(0).to(noises.dtype)


def _one_level(tables: Tables, noises: Tensor, t: LevelLike) -> int:
    """The scalar level t, which is known from the number of noises without reading a tensor."""
    checked = level(tables, t, lowest=1)
    if isinstance(checked, Tensor) and checked.ndim:
        raise LevelError(
            f"t has shape {tuple(checked.shape)}: the noises are those of steps 1..t, write one scalar level"
        )
    count = noises.shape[0] if noises.ndim else 0
    known = not isinstance(checked, Tensor) or readable(checked)
    if count < 1 or count > tables.T or (known and int(checked) != count):
        raise ShapeError(f"{count} noises for t = {t}: write one per step 1..t, shape (t, *event)")
    return count


def aggregate_noise_correlation(tables: Tables, t: LevelLike) -> Tensor:
    r"""Correlation of the last per-step noise with the aggregate noise.

    .. math:: \mathrm{Corr}(\varepsilon_t, \varepsilon) = \sqrt{\beta_t/(1-\bar\alpha_t)}

    Args:
        t: level(s) in 1..T.

    Returns:
        A number in (0, 1] per level, in the shape of t and the dtype of the tables.

    Raises:
        LevelError: see `ddpm_ref.torch.arguments`.

    Limits: exactly 1 at t = 1. Source: unrolled from ho2020, eq. (2).
    """
    t = level(tables, t, lowest=1)
    return (at(tables.beta, t) / at(tables.beta_bar, t)).sqrt()


def data_marginal(tables: Tables, mean: Tensor, variance: Number, t: LevelLike) -> tuple[Tensor, Tensor]:
    r"""Mean and variance of x_t when the data have a given mean and variance.

    .. math:: \sqrt{\bar\alpha_t}\,m, \qquad \bar\alpha_t v + 1 - \bar\alpha_t

    Args:
        mean: of the data, ``(*batch, *event)``.
        variance: of each element of the data, >= 0.
        t: level in 0..T, scalar or in the shape of the leading axes.

    Returns:
        mean: shape and dtype of ``mean``. variance: in the compute format, broadcasts against ``mean``.

    Raises:
        LevelError, ShapeError, PrecisionError, RangeError: see `ddpm_ref.torch.arguments`.

    Limits: moments for any data; the law of x_t is Gaussian only for Gaussian data. Source: ho2020, eq. (4).
    """
    t = level(tables, t)
    same_kind(tables, mean=mean)
    (variance,) = parameters(mean, variance=variance)
    shape = common_shape(t, mean=mean, variance=variance)
    non_negative(variance=variance)
    mean, a_bar, b_bar = mean.expand(shape), at(tables.alpha_bar, t), at(tables.beta_bar, t)
    spread = expand_right(_for(mean, a_bar), len(shape)) * variance + expand_right(_for(mean, b_bar), len(shape))
    return lincomb([at(tables.sqrt_alpha_bar, t)], [mean]), spread


def second_moment(tables: Tables, second_moment: Number, t: LevelLike, s: LevelLike, dimension: int = 1) -> Tensor:
    r"""Mean squared norm of x_t from that of x_s.

    .. math:: E\lVert x_t\rVert^2 = \alpha_{t|s}\,E\lVert x_s\rVert^2 + \beta_{t|s}\,d

    Args:
        second_moment: :math:`E\lVert x_s\rVert^2 \ge 0`.
        t, s: levels, ``T >= t > s >= 0``.
        dimension: d, the number of elements of x.

    Returns:
        The second moment at level t; a number is answered in the dtype of the tables.

    Raises:
        LevelError, ShapeError, PrecisionError, RangeError: see `ddpm_ref.torch.arguments`.

    Limits: in expectation only, not along a path. Source: ho2020, eq. (2).
    """
    t, s = pair(tables, t, s)
    if dimension < 1:
        raise RangeError(f"dimension = {dimension}: write the number of elements of x, at least 1")
    moment = second_moment if isinstance(second_moment, Tensor) else parameters(tables.beta, m=second_moment)[0]
    step = between(tables, t, s)
    same_kind(tables, second_moment=moment)
    non_negative(second_moment=moment)
    if moment.ndim == 0:
        moment = moment.expand(step.high.shape)
    (moment,) = operands(tables, t, s, second_moment=moment)
    keep, gain = _for(moment, step.alpha), _for(moment, step.beta)
    return (expand_right(keep, moment.ndim) * moment + expand_right(gain, moment.ndim) * dimension).to(moment.dtype)


def stepwise_inversion(tables: Tables, xt: Tensor, t: LevelLike, noise: Tensor) -> Tensor:
    r"""x_{t-1} from x_t and the same per-step noise that made it.

    .. math:: x_{t-1} = (x_t - \sqrt{\beta_t}\,\varepsilon_t)/\sqrt{\alpha_t}

    Args:
        xt: data at level t.
        t: level in 1..T, scalar or in the shape of the leading axes.
        noise: the per-step noise of step t.

    Returns:
        x_{t-1}, shape and dtype of ``xt``.

    Raises:
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.
        RangeError: t = T at zero terminal SNR, where x_T is noise alone.

    Limits: an algebraic inverse, not a draw of :math:`q(x_{t-1}|x_t)`. k = 5 roundings. Source: ho2020, eq. (2).
    """
    t = level(tables, t, lowest=1)
    xt, noise = operands(tables, t, xt=xt, noise=noise)
    refuse_dead_level(tables, t, "x_T is noise alone at zero terminal SNR (beta_T = 1): x_{T-1} cannot be had from it")
    gain = at(tables.recip_sqrt_alpha, t)
    return lincomb([gain, -at(tables.sqrt_beta, t) * gain], [xt, noise])


def gaussian_sum(
    mean1: Number,
    variance1: Number,
    mean2: Number,
    variance2: Number,
    correlation: Number = 0.0,
) -> tuple[Tensor, Tensor]:
    r"""Mean and variance of the sum of two jointly Gaussian variables.

    .. math:: m_1 + m_2, \qquad v_1 + v_2 + 2\rho\sqrt{v_1 v_2}

    Args:
        mean1, variance1, mean2, variance2: of the two, elementwise; at least one is a tensor, the others may be
            numbers.
        correlation: :math:`\rho` in [-1, 1].

    Returns:
        mean: dtype of the data. variance: in the compute format.

    Raises:
        RangeError: a negative variance or a correlation outside [-1, 1].
        ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: the variance is formed without cancellation for negative correlations too. Source: standard.
    """
    like = first_tensor(mean1=mean1, mean2=mean2, variance1=variance1, variance2=variance2)
    m1, v1, m2, v2 = parameters(like, mean1=mean1, variance1=variance1, mean2=mean2, variance2=variance2)
    common_shape(mean1=m1, variance1=v1, mean2=m2, variance2=v2)
    non_negative(variance1=v1, variance2=v2)
    mean = (m1 + m2).to(like.dtype)
    if not isinstance(correlation, Tensor) and correlation == 0:
        return mean, v1 + v2
    (rho,) = parameters(like, correlation=correlation)
    within(-1, 1, correlation=rho)
    s1, s2 = v1.sqrt(), v2.sqrt()
    # for rho < 0 the square of the difference of stds is split off, and taken from the variances, which are exact
    difference = (v1 - v2) / torch.where(s1 + s2 > 0, s1 + s2, torch.ones_like(s1 + s2))
    opposed = difference * difference + 2 * (1 + rho) * (s1 * s2)
    return mean, torch.where(rho < 0, opposed, v1 + v2 + 2 * rho * (s1 * s2))


def terminal_kl(tables: Tables, x0: Tensor) -> Tensor:
    r"""How far the last level is from the prior: KL of :math:`q(x_T|x_0)` from the standard normal, in nats per
    element.

    .. math:: \tfrac12\left[\bar\alpha_T x_0^2 - \bar\alpha_T - \log(1-\bar\alpha_T)\right]

    Args:
        x0: clean data, finite.

    Returns:
        Nats per element, >= 0, shape and dtype of ``x0``.

    Raises:
        PrecisionError, RangeError: see `ddpm_ref.torch.arguments`.

    Limits: sum over elements for a whole image. Source: ho2020, section 3.1.
    """
    (x0,) = operands(tables, x0=x0)
    finite(x0=x0)
    a_bar = tables.alpha_bar[tables.T]
    # -a - log(1 - a) is a small difference for small a and wants the accurate 1 - a for large a
    gap = torch.where(a_bar < 0.5, gap_log1p(-a_bar.clamp(max=0.5)), -a_bar - tables.log_beta_bar[tables.T])
    data = x0.to(compute_dtype(x0.dtype))
    return ((_for(x0, a_bar) * (data * data) + _for(x0, gap)) / 2).to(x0.dtype)


def refuse_dead_level(tables: Tables, t: Level, message: str) -> None:
    """Refuse t = T where alpha_bar_T = 0 (RangeError), as far as t may be read."""
    if not tables.zero_terminal_snr or (isinstance(t, Tensor) and not readable(t)):
        return
    at_end = t == tables.T
    if bool(at_end.any()) if isinstance(at_end, Tensor) else at_end:
        raise RangeError(message)


def _for(x: Tensor, coefficient: Tensor) -> Tensor:
    """The coefficient in the format in which ``x`` is computed."""
    return coefficient.to(compute_dtype(x.dtype))
