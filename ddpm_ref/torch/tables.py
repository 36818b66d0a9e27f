"""The tables of a noise schedule as tensors, and the coefficients of a step between any two levels.

The float64 master is the exact schedule of `ddpm_ref.reference`; `ddpm_ref.torch.schedule.from_betas` builds the same
record on the device, independently of it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from ddpm_ref.errors import PrecisionError
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.torch.arguments import HALF, Level, LevelLike, at, pair
from ddpm_ref.torch.series import expm1

WORDS = ("log_alpha_bar_high", "log_alpha_bar_low")


@dataclass(frozen=True, eq=False)
class Tables:
    r"""Coefficient tables of length ``T + 1``, indexed by the paper's t; level 0 is clean data.

    All are float64, or all float32 after ``.to(dtype=torch.float32)``. The logarithm of alpha_bar is kept as an
    unevaluated sum of two words, because :math:`\beta_{t|s} = 1 - \bar\alpha_t/\bar\alpha_s` of near levels cannot be
    had from rounded tables.

    Limits: never half precision (see `to`). Source: ho2020, eq. (2), (4), (6)-(7), (11).
    """

    beta: Tensor
    alpha: Tensor
    sqrt_alpha: Tensor
    sqrt_beta: Tensor
    recip_sqrt_alpha: Tensor
    alpha_bar: Tensor
    beta_bar: Tensor
    sqrt_alpha_bar: Tensor
    sqrt_beta_bar: Tensor
    sqrt_recip_alpha_bar: Tensor
    sqrt_recipm1_alpha_bar: Tensor
    beta_tilde: Tensor
    snr: Tensor
    log_snr: Tensor
    log_beta_bar: Tensor
    eps_weight: Tensor
    posterior_x0_weight: Tensor
    posterior_xt_weight: Tensor
    log_alpha_bar_high: Tensor
    log_alpha_bar_low: Tensor
    zero_terminal_snr: bool
    """Whether ``alpha_bar[T]`` is 0; a Python bool, so that asking never waits for a device."""

    @property
    def T(self) -> int:
        """The last level."""
        return self.alpha_bar.shape[0] - 1

    @property
    def device(self) -> torch.device:
        """Where the tables lie."""
        return self.alpha_bar.device

    @property
    def dtype(self) -> torch.dtype:
        """float64 or float32."""
        return self.alpha_bar.dtype

    def to(
        self, device: torch.device | torch.dtype | str | int | None = None, dtype: torch.dtype | None = None
    ) -> Tables:
        """The tables on ``device`` in ``dtype``.

        Args:
            device: anything `torch.Tensor.to` takes; None: stay.
            dtype: `torch.float64` or `torch.float32`; None: stay. In float32 the two words of log alpha_bar are split
                anew and together still carry about 48 bits.

        Raises:
            PrecisionError: a half or integer format, float64 from float32, or an entry that overflows float32.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        wanted = self.dtype if dtype is None else dtype
        _refuse_format(self.dtype, wanted)
        columns = {name: getattr(self, name) for name in COLUMNS}
        if wanted != self.dtype:
            columns = _shortened(columns)
        return replace(self, **{name: column.to(device=device) for name, column in columns.items()})

    def half(self) -> Tables:
        """Refused: see `to`."""
        return self.to(dtype=torch.float16)

    def bfloat16(self) -> Tables:
        """Refused: see `to`."""
        return self.to(dtype=torch.bfloat16)

    def between(self, t: LevelLike, s: LevelLike) -> Between:
        r"""The coefficients of the step from level t down to level s.

        Args:
            t, s: levels, ``T >= t > s >= 0``; scalars, or int tensors of one shape.

        Returns:
            A `Between`, each coefficient in the shape of the levels and the dtype of the tables.

        Raises:
            LevelError: a level outside the schedule, or ``s >= t``.

        Limits: :math:`\beta_{t|s}` is within about two roundings of the exact number for every pair (three when
        compiled). In float32 the words err by ``2**-48 |log alpha_bar|`` besides, felt only below a beta of ``1e-5``.
        Source: ho2020, eq. (4), (6)-(7), for any pair instead of neighbours.
        """
        return between(self, *pair(self, t, s))


COLUMNS = tuple(field.name for field in fields(Tables) if field.name != "zero_terminal_snr")


@dataclass(frozen=True, eq=False)
class Between:
    r"""The coefficients of one step ``(t, s)``, each computed when asked for, all from factors that do not cancel.

    ``high + low`` is the logarithm of :math:`\alpha_{t|s} = \bar\alpha_t/\bar\alpha_s`, and
    :math:`\beta_{t|s} = 1 - \alpha_{t|s} = -(\mathrm{expm1}(h) + e^h l)`.
    """

    t: Level
    s: Level
    high: Tensor
    low: Tensor
    beta: Tensor
    sqrt_alpha_bar_s: Tensor
    beta_bar_s: Tensor
    beta_bar_t: Tensor
    sqrt_beta_bar_t: Tensor

    @property
    def alpha(self) -> Tensor:
        r""":math:`\alpha_{t|s} = \bar\alpha_t/\bar\alpha_s`."""
        return self.high.exp() * (1 + self.low)

    @property
    def sqrt_alpha(self) -> Tensor:
        r""":math:`\sqrt{\alpha_{t|s}}`."""
        return (self.high / 2).exp() * (1 + self.low / 2)

    @property
    def recip_sqrt_alpha(self) -> Tensor:
        r""":math:`1/\sqrt{\alpha_{t|s}}`; infinite where :math:`\bar\alpha_t = 0`."""
        return (-self.high / 2).exp() * (1 - self.low / 2)

    @property
    def sqrt_beta(self) -> Tensor:
        r""":math:`\sqrt{\beta_{t|s}}`, the std of :math:`q(x_t|x_s)`."""
        return self.beta.sqrt()

    @property
    def beta_tilde(self) -> Tensor:
        r""":math:`\tilde\beta_{t|s} = \beta_{t|s}\bar\beta_s/\bar\beta_t`, a variance, exactly 0 at s = 0."""
        return self.beta * (self.beta_bar_s / self.beta_bar_t)

    @property
    def std_tilde(self) -> Tensor:
        r""":math:`\sqrt{\tilde\beta_{t|s}}`."""
        return self.beta_tilde.sqrt()

    @property
    def x0_weight(self) -> Tensor:
        r"""Weight of x_0 in the posterior mean, :math:`\sqrt{\bar\alpha_s}\beta_{t|s}/\bar\beta_t`; 1 at s = 0."""
        weight = self.sqrt_alpha_bar_s * self.beta / self.beta_bar_t
        return torch.where(self.beta_bar_s == 0, torch.ones_like(weight), weight)

    @property
    def xt_weight(self) -> Tensor:
        r"""Weight of x_t in the posterior mean, :math:`\sqrt{\alpha_{t|s}}\bar\beta_s/\bar\beta_t`; 0 at s = 0."""
        return self.sqrt_alpha * (self.beta_bar_s / self.beta_bar_t)

    @property
    def eps_weight(self) -> Tensor:
        r"""Weight of the noise in the posterior mean, :math:`\beta_{t|s}/(\sqrt{\alpha_{t|s}}\sqrt{\bar\beta_t})`."""
        return self.beta * self.recip_sqrt_alpha / self.sqrt_beta_bar_t


def between(tables: Tables, t: Level, s: Level) -> Between:
    """The step ``(t, s)`` of levels that are already checked ."""
    high_t = at(tables.log_alpha_bar_high, t)
    dead = high_t.isneginf()
    # log alpha_bar = -inf (beta_T = 1) minus anything is -inf; the error terms of the sum would be NaN there
    high, low = two_sum(high_t.masked_fill(dead, 0), -at(tables.log_alpha_bar_high, s))
    low = low + (at(tables.log_alpha_bar_low, t) - at(tables.log_alpha_bar_low, s))
    high, low, shape = high.masked_fill(dead, -torch.inf), low.masked_fill(dead, 0), high.shape
    return Between(
        t=t,
        s=s,
        high=high,
        low=low,
        beta=-(expm1(high) + high.exp() * low),
        sqrt_alpha_bar_s=at(tables.sqrt_alpha_bar, s).expand(shape),
        beta_bar_s=at(tables.beta_bar, s).expand(shape),
        beta_bar_t=at(tables.beta_bar, t).expand(shape),
        sqrt_beta_bar_t=at(tables.sqrt_beta_bar, t).expand(shape),
    )


def two_sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """``a + b`` rounded, and the error of that rounding, exactly (Knuth 1969)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def tables(schedule: NoiseSchedule) -> Tables:
    """The exact float64 tables of ``schedule`` as CPU tensors.

    Args:
        schedule: any `NoiseSchedule`.

    Returns:
        Float64 `Tables`; move them with ``.to(device)``.

    Limits: the entries are copies, so their agreement with the reference proves nothing. Source: ho2020, eq. (2),
    (4), (7), (11).
    """
    high, low = schedule.log_alpha_bar_words
    columns = {name: getattr(schedule, name) for name in COLUMNS if hasattr(schedule, name)}
    columns |= {WORDS[0]: high, WORDS[1]: low}
    copies = {name: torch.tensor(column, dtype=torch.float64) for name, column in columns.items()}
    return Tables(**copies, zero_terminal_snr=bool(schedule.alpha_bar[-1] == 0))


def _refuse_format(have: torch.dtype, wanted: torch.dtype) -> None:
    if wanted == have or wanted == torch.float32:
        return
    if wanted == torch.float64:
        raise PrecisionError(
            "float64 tables cannot be made from float32 ones, the digits are gone: write tables(schedule) again"
        )
    if wanted in HALF:
        raise PrecisionError(
            f"tables cannot be {wanted}: at small t sqrt(alpha_bar) rounds to 1 and 1 - alpha_bar to 0, so "
            "q_sample would add no noise. Leave the tables in float64 or float32 and pass half-precision data: "
            "they are computed in float32 and rounded once"
        )
    raise PrecisionError(f"tables cannot be {wanted}: write torch.float64 or torch.float32")


def _shortened(columns: dict[str, Tensor]) -> dict[str, Tensor]:
    """Float64 columns rounded to float32, the two words of the logarithm split anew."""
    short = {name: column.float() for name, column in columns.items()}
    for name, column in columns.items():
        lost = short[name].isinf() & column.isfinite()
        if bool(lost.any()):
            t = int(lost.nonzero()[0])
            raise PrecisionError(f"{name}[{t}] = {float(column[t])!r} overflows float32: keep the tables in float64")
    high, low = (columns[name] for name in WORDS)
    rest = (high - short[WORDS[0]].double()) + low
    short[WORDS[1]] = rest.masked_fill(high.isneginf(), 0).float()
    return short
