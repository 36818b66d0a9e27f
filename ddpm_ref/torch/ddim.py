r"""The DDIM family :math:`q_\sigma(x_s | x_t, x_0)`: one free variance, the same marginals.

Every coefficient is built from positive terms, with :math:`h = \eta^2`,

.. math::
    F = (1-h)\bar\beta_t + h\alpha_{t|s}\bar\beta_s, \qquad E = \bar\beta_t + h\alpha_{t|s}\bar\beta_s, \qquad
    R = \sqrt{\alpha_{t|s}\bar\beta_s F}

so that the differences of roots in the paper's formulas lose nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.reference.schedule import Trajectory
from ddpm_ref.torch.arguments import (
    Level,
    LevelLike,
    Number,
    compute_dtype,
    expand_right,
    non_negative,
    operands,
    pair,
    readable,
)
from ddpm_ref.torch.forward import refuse_dead_level
from ddpm_ref.torch.lincomb import lincomb
from ddpm_ref.torch.tables import Between, Tables, between


@dataclass(frozen=True, eq=False)
class Member:
    """The coefficients of one step (t, s) for one eta, each computed when asked for."""

    step: Between
    eta: Tensor

    @property
    def _noisy(self) -> Tensor:
        return self.eta * self.eta * self.step.alpha * self.step.beta_bar_s

    @property
    def _e(self) -> Tensor:
        return self.step.beta_bar_t + self._noisy

    @property
    def _root_of_f(self) -> Tensor:
        r""":math:`\sqrt{\bar\beta_s F}`."""
        f = (1 - self.eta) * (1 + self.eta) * self.step.beta_bar_t + self._noisy
        return (self.step.beta_bar_s * f).sqrt()

    @property
    def std(self) -> Tensor:
        r""":math:`\sigma = \eta\sqrt{\tilde\beta_{t|s}}`."""
        return self.eta * self.step.std_tilde

    @property
    def direction(self) -> Tensor:
        r""":math:`\sqrt{\bar\beta_s - \sigma^2} = \sqrt{\bar\beta_s F/\bar\beta_t}`."""
        return self._root_of_f / self.step.sqrt_beta_bar_t

    @property
    def xt_weight(self) -> Tensor:
        r""":math:`C^x = \sqrt{\bar\beta_s F}/\bar\beta_t`."""
        return self._root_of_f / self.step.beta_bar_t

    @property
    def _gap(self) -> Tensor:
        """What both differences of roots have in common: ``b E / (beta_bar_t + R)``."""
        return self.step.beta * (self._e / (self.step.beta_bar_t + self.step.sqrt_alpha * self._root_of_f))

    @property
    def x0_weight(self) -> Tensor:
        r""":math:`C^0 = \sqrt{\bar\alpha_s}\,\beta_{t|s}E/(\bar\beta_t(\bar\beta_t + R))`; exactly 1 at s = 0."""
        weight = self.step.sqrt_alpha_bar_s * (self._gap / self.step.beta_bar_t)
        return torch.where(self.step.beta_bar_s == 0, torch.ones_like(weight), weight)

    @property
    def eps_weight(self) -> Tensor:
        r"""Weight of eps beside x_t, :math:`-\beta_{t|s}E/(\sqrt{\alpha_{t|s}\bar\beta_t}(\bar\beta_t + R))`."""
        return -self._gap * self.step.recip_sqrt_alpha / self.step.sqrt_beta_bar_t


def member(tables: Tables, t: Level, s: Level, eta: Number) -> Member:
    """The coefficients of the steps (t, s), whose levels are already checked."""
    if not isinstance(eta, Tensor):
        # a filled tensor, because a Python float would be compiled into the graph as a float64 constant
        eta = torch.full((), eta, dtype=tables.dtype, device=tables.device)
    if eta.ndim or (readable(eta) and not 0 <= float(eta) <= 1):
        shown = f"a tensor of shape {tuple(eta.shape)}" if eta.ndim else float(eta)
        raise RangeError(f"eta = {shown}; it is one number in [0, 1]: 0 is deterministic, 1 ancestral sampling")
    return Member(between(tables, t, s), eta.to(tables.beta))


def ddim_std(tables: Tables, t: LevelLike, s: LevelLike, eta: Number = 0.0) -> Tensor:
    r"""Standard deviation of the noise of a step.

    .. math:: \sigma = \eta\sqrt{\tilde\beta_{t|s}}

    Args:
        t, s: levels, ``T >= t > s >= 0``.
        eta: in [0, 1]; a 0-dim tensor where compiled code should not be made anew for each.

    Returns:
        A std, in the shape of the levels and the dtype of the tables.

    Raises:
        RangeError: eta outside [0, 1].
        LevelError, ShapeError: see `ddpm_ref.torch.arguments`.

    Limits: 0 at s = 0. Source: song2020ddim, eq. (16).
    """
    return member(tables, *pair(tables, t, s), eta).std


def ddim_direction(tables: Tables, t: LevelLike, s: LevelLike, eta: Number = 0.0) -> Tensor:
    r"""Coefficient of the predicted noise.

    .. math:: \sqrt{\bar\beta_s - \sigma^2}

    Args:
        t, s, eta: as for `ddim_std`.

    Returns:
        In the shape of the levels and the dtype of the tables.

    Raises:
        RangeError, LevelError, ShapeError: as `ddim_std`.

    Limits: 0 at s = 0; nothing cancels. Source: song2020ddim, eq. (12).
    """
    return member(tables, *pair(tables, t, s), eta).direction


def ddim_weights(tables: Tables, t: LevelLike, s: LevelLike, eta: Number = 0.0) -> tuple[Tensor, Tensor]:
    r"""The weights of x_0 and of x_t in the mean.

    .. math::
        C^0 = \sqrt{\bar\alpha_s} - \sqrt{\bar\alpha_t(\bar\beta_s - \sigma^2)/\bar\beta_t}, \qquad
        C^x = \sqrt{(\bar\beta_s - \sigma^2)/\bar\beta_t}

    Args:
        t, s, eta: as for `ddim_std`.

    Returns:
        (weight of x_0, weight of x_t), in the shape of the levels and the dtype of the tables.

    Raises:
        RangeError, LevelError, ShapeError: as `ddim_std`.

    Limits: exactly (1, 0) at s = 0. Source: song2020ddim, eq. (7), rearranged.
    """
    row = member(tables, *pair(tables, t, s), eta)
    return row.x0_weight, row.xt_weight


def ddim_posterior(
    tables: Tables,
    x0: Tensor,
    xt: Tensor,
    t: LevelLike,
    s: LevelLike,
    eta: Number | None = None,
    variance: Number | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Mean and variance of the generalised posterior, for an eta or for any admissible variance.

    .. math::
        \sqrt{\bar\alpha_s}\,x_0 + \sqrt{\bar\beta_s - \sigma^2}\,(x_t - \sqrt{\bar\alpha_t}\,x_0)/\sqrt{\bar\beta_t},
        \qquad \sigma^2

    Args:
        x0: clean data, finite, ``(*batch, *event)``.
        xt: noisy data, in the shape of ``x0``.
        t, s: levels, ``T >= t > s >= 0``, scalars or in the shape of the leading axes.
        eta: in [0, 1], the variance is then :math:`\eta^2\tilde\beta_{t|s}`; 0 if neither is given.
        variance: instead of eta: one number, or a tensor in the shape of the levels, :math:`0 \le \sigma^2 \le \bar\beta_s`.

    Returns:
        mean: shape and dtype of ``x0``. variance: in the compute format, broadcasts against ``x0``.

    Raises:
        RangeError: eta outside [0, 1], a negative variance, one above :math:`\bar\beta_s` (the message names the step),
            or both arguments.
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: s = 0 gives ``x0``. A variance near :math:`\bar\beta_s` loses digits of what is left of it; eta does not.
    Source: song2020ddim, eq. (7).
    """
    if eta is not None and variance is not None:
        raise RangeError("eta and variance were both given; write one of them")
    t, s = pair(tables, t, s)
    x0, xt = operands(tables, t, s, x0=x0, xt=xt)
    row = member(tables, t, s, 0.0 if eta is None else eta)
    if variance is None:
        from_x0, from_xt, given = row.x0_weight, row.xt_weight, row.eta.square() * row.step.beta_tilde
    else:
        given = _admissible(row.step, variance)
        from_x0, from_xt = _weights_for(row.step, given)
    mean = lincomb([from_x0, from_xt], [x0, xt])
    return mean, expand_right(given.to(compute_dtype(x0.dtype)), x0.ndim)


def _admissible(step: Between, variance: Number) -> Tensor:
    room = step.beta_bar_s
    if not isinstance(variance, Tensor):
        variance = torch.full((), variance, dtype=room.dtype, device=room.device)
    non_negative(variance=variance)
    if variance.ndim and variance.shape != room.shape:
        raise ShapeError(
            f"variance has shape {tuple(variance.shape)}, levels {tuple(room.shape)}; write one number, or one per step"
        )
    given = variance.to(room).expand(room.shape)
    if readable(given) and bool((given > room).any()):
        at = int((given > room).reshape(-1).nonzero()[0])
        t, s = (int(torch.as_tensor(v).expand(room.shape).reshape(-1)[at]) for v in (step.t, step.s))
        raise RangeError(
            f"variance {float(given.reshape(-1)[at]):g} in the step from t = {t} to s = {s} exceeds beta_bar_s = "
            f"{float(room.reshape(-1)[at]):g}: the weight of the noise would be the root of a negative number; "
            "write a smaller variance, or eta in [0, 1], which always fits"
        )
    return given


def _weights_for(step: Between, variance: Tensor) -> tuple[Tensor, Tensor]:
    from_xt = ((step.beta_bar_s - variance).clamp(min=0) / step.beta_bar_t).sqrt()
    gap = step.sqrt_alpha_bar_s * (step.beta + step.alpha * variance) / step.beta_bar_t
    from_x0 = gap / (1 + step.sqrt_alpha * from_xt)
    return torch.where(step.beta_bar_s == 0, torch.ones_like(from_x0), from_x0), from_xt


def ddim_step(
    tables: Tables,
    x0: Tensor,
    eps: Tensor,
    t: LevelLike,
    s: LevelLike,
    noise: Tensor | None = None,
    eta: Number = 0.0,
) -> Tensor:
    r"""The DDIM update from both predictions, which need not belong together.

    .. math:: x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{\bar\beta_s - \sigma^2}\,\hat\varepsilon + \sigma z

    Args:
        x0: predicted data, clipped or not, ``(*batch, *event)``.
        eps: predicted noise, in the shape of ``x0``.
        t, s: levels, ``T >= t > s >= 0``, scalars or in the shape of the leading axes.
        noise: standard normal, in the shape of ``x0``; may be left out if eta is the number 0, or s is.
        eta: in [0, 1].

    Returns:
        x_s, shape and dtype of ``x0``.

    Raises:
        RangeError: eta outside [0, 1], or noise needed and missing.
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: s = 0 gives ``x0``; at most k = 12 roundings with float32 tables. Source: song2020ddim, eq. (12).
    """
    t, s = pair(tables, t, s)
    tensors = _with_noise(tables, t, s, eta, noise, x0=x0, eps=eps)
    row = member(tables, t, s, eta)
    return lincomb([row.step.sqrt_alpha_bar_s, row.direction, row.std][: len(tensors)], tensors)


def ddim_step_from_eps(
    tables: Tables,
    xt: Tensor,
    t: LevelLike,
    s: LevelLike,
    eps: Tensor,
    noise: Tensor | None = None,
    eta: Number = 0.0,
) -> Tensor:
    r"""The DDIM update from the state and the predicted noise.

    .. math::
        x_s = x_t/\sqrt{\alpha_{t|s}}
            + \left(\sqrt{\bar\beta_s - \sigma^2} - \sqrt{\bar\beta_t/\alpha_{t|s}}\right)\hat\varepsilon + \sigma z

    Args:
        xt: noisy data, ``(*batch, *event)``.
        t, s, noise, eta: as for `ddim_step`.
        eps: predicted noise, in the shape of ``xt``.

    Returns:
        x_s, shape and dtype of ``xt``.

    Raises:
        RangeError: as `ddim_step`; also t = T at zero terminal SNR.
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: at s = 0 this is x_0; at most k = 21 roundings with float32 tables. Source: song2020ddim, eq. (12)-(13).
    """
    t, s = pair(tables, t, s)
    tensors = _with_noise(tables, t, s, eta, noise, xt=xt, eps=eps)
    refuse_dead_level(tables, t, "eps prediction does not determine the mean at zero terminal SNR; use v or x0")
    row = member(tables, t, s, eta)
    return lincomb([row.step.recip_sqrt_alpha, row.eps_weight, row.std][: len(tensors)], tensors)


def ddim_step_from_x0(
    tables: Tables,
    xt: Tensor,
    t: LevelLike,
    s: LevelLike,
    x0: Tensor,
    noise: Tensor | None = None,
    eta: Number = 0.0,
) -> Tensor:
    r"""The DDIM update from the state and the predicted data: a draw from `ddim_posterior`.

    .. math:: x_s = C^0\hat x_0 + C^x x_t + \sigma z

    Args:
        xt: noisy data, ``(*batch, *event)``.
        t, s, noise, eta: as for `ddim_step`.
        x0: predicted data, clipped or not, in the shape of ``xt``.

    Returns:
        x_s, shape and dtype of ``xt``.

    Raises:
        RangeError, LevelError, ShapeError, PrecisionError: as `ddim_step`.

    Limits: the form for clipped x0 with the noise it implies, and for zero terminal SNR. Source: song2020ddim, eq. (7).
    """
    t, s = pair(tables, t, s)
    tensors = _with_noise(tables, t, s, eta, noise, x0=x0, xt=xt)
    row = member(tables, t, s, eta)
    return lincomb([row.x0_weight, row.xt_weight, row.std][: len(tensors)], tensors)


def _with_noise(
    tables: Tables, t: Level, s: Level, eta: Number, noise: Tensor | None, **predictions: Tensor
) -> tuple[Tensor, ...]:
    """The tensors of a step in one shape, the noise last where there is any."""
    if noise is not None:
        return operands(tables, t, s, **predictions, noise=noise)
    silent = (not isinstance(eta, Tensor) and eta == 0) or (isinstance(s, int) and s == 0)
    if not silent:
        raise RangeError("eta > 0 adds noise before level 0; pass noise, standard normal in the shape of the data")
    return operands(tables, t, s, **predictions)


def ddim_inversion_step(tables: Tables, xs: Tensor, t: LevelLike, s: LevelLike, eps: Tensor) -> Tensor:
    r"""The deterministic step upwards, from level s to level t.

    .. math::
        x_t = \sqrt{\alpha_{t|s}}\,x_s + \left(\sqrt{\bar\beta_t} - \sqrt{\alpha_{t|s}\bar\beta_s}\right)\hat\varepsilon

    Args:
        xs: state at level s, ``(*batch, *event)``.
        t, s: levels, ``T >= t > s >= 0``, scalars or in the shape of the leading axes.
        eps: the noise predicted for it, in the shape of ``xs``.

    Returns:
        x_t, shape and dtype of ``xs``.

    Raises:
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: undoes `ddim_step_from_eps` with eta = 0 and the same eps. Source: song2020ddim, eq. (14).
    """
    t, s = pair(tables, t, s)
    xs, eps = operands(tables, t, s, xs=xs, eps=eps)
    return lincomb(inversion_weights(tables, t, s), [xs, eps])


def inversion_weights(tables: Tables, t: Level, s: Level) -> tuple[Tensor, Tensor]:
    """The weights of x_s and of eps on the way up, for levels that are already checked."""
    step = between(tables, t, s)
    return step.sqrt_alpha, step.beta / (step.sqrt_beta_bar_t + step.sqrt_alpha * step.beta_bar_s.sqrt())


def strided_betas(tables: Tables, trajectory: Trajectory | Sequence[int]) -> Tensor:
    r"""Betas of the Markov chain that visits only the levels of a trajectory.

    .. math:: \beta'_i = 1 - \bar\alpha_{\tau_i}/\bar\alpha_{\tau_{i-1}}, \qquad \tau_0 = 0

    Args:
        trajectory: descending levels that end with 0.

    Returns:
        ``(K,)``, ascending in the level, in the dtype of the tables.

    Raises:
        LevelError: a level above T.
        ScheduleError: levels that are no trajectory.

    Limits: the network still gets the original levels. Source: nichol2021, section 4.

    >>> from ddpm_ref.reference.schedule import NoiseSchedule
    >>> from ddpm_ref.torch.tables import tables
    >>> strided_betas(tables(NoiseSchedule.from_betas([0.5, 0.5, 0.5])), (3, 1, 0))
    tensor([0.5000, 0.7500], dtype=torch.float64)
    """
    walk = trajectory if isinstance(trajectory, Trajectory) else Trajectory(tuple(trajectory))
    ascending = torch.tensor(walk.levels[::-1], device=tables.device)
    return tables.between(ascending[1:], ascending[:-1]).beta
