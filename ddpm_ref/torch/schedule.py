"""The tables of a schedule built on the device, in float64, without the exact reference: a second opinion."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ddpm_ref.errors import ScheduleError
from ddpm_ref.torch.tables import Tables, two_sum

WANTED = "betas are T real numbers in (0, 1), the last may be 1"


def from_betas(betas: Tensor | Sequence[object], device: torch.device | str | int | None = None) -> Tables:
    r"""Tables from betas alone, in float64 and in forms that do not cancel.

    .. math::
        \bar\alpha_t = \prod_{i\le t}(1-\beta_i), \quad L_t = \sum_{i\le t}\mathrm{log1p}(-\beta_i), \quad
        \bar\beta_t = -\mathrm{expm1}(L_t), \quad \tilde\beta_t = \beta_t\,\bar\beta_{t-1}/\bar\beta_t

    Args:
        betas: ``beta_1 .. beta_T``, real floating point, in (0, 1); ``beta_T = 1`` is allowed (zero terminal SNR).
        device: where to build; None: where ``betas`` lies.

    Returns:
        Float64 `Tables` of length T + 1.

    Raises:
        ScheduleError: empty, wrong rank, complex, integer, NaN, infinite, outside (0, 1), 1 before T, or betas so large
            or so many that alpha_bar falls below ``2**-1022`` before a terminal zero.

    Limits: not correctly rounded. alpha_bar errs by at most ``2 t - 1`` roundings (NUMERICS section 3), and what is
    made of it likewise. L_t is a compensated sum of rounded logarithms of one sign, so the two words, every difference
    ``L_t - L_s``, and with them beta_bar and beta_tilde err by a few roundings at every t; exponentials of a difference
    err by its size times as many.
    Source: ho2020, eq. (2), (4), (7), (11).

    >>> from_betas(torch.tensor([0.5, 0.5], dtype=torch.float64)).alpha_bar
    tensor([1.0000, 0.5000, 0.2500], dtype=torch.float64)
    """
    beta = _checked(betas, device)
    terminal = bool(beta[-1] == 1)
    alpha = 1 - beta
    alpha_bar = alpha.cumprod(0)
    _refuse_underflow(alpha_bar, terminal)

    dead = beta == 1
    # infinity would turn the error terms of the compensated sum into NaN, so it is put back afterwards
    high, low = prefix_sums(torch.log1p(-beta).masked_fill(dead, 0))
    log_alpha_bar, low = high.masked_fill(dead, -torch.inf), low.masked_fill(dead, 0)
    beta_bar = -torch.expm1(log_alpha_bar)
    beta_bar_before = _headed(0, beta_bar)[:-1]
    alpha_bar_before = _headed(1, alpha_bar)[:-1]
    sqrt_alpha, sqrt_alpha_bar, sqrt_beta_bar = alpha.sqrt(), alpha_bar.sqrt(), beta_bar.sqrt()
    x0_weight = alpha_bar_before.sqrt() * beta / beta_bar
    x0_weight[0] = 1
    return Tables(
        beta=_headed(0, beta),
        alpha=_headed(1, alpha),
        sqrt_alpha=_headed(1, sqrt_alpha),
        sqrt_beta=_headed(0, beta.sqrt()),
        recip_sqrt_alpha=_headed(1, sqrt_alpha.reciprocal()),
        alpha_bar=_headed(1, alpha_bar),
        beta_bar=_headed(0, beta_bar),
        sqrt_alpha_bar=_headed(1, sqrt_alpha_bar),
        sqrt_beta_bar=_headed(0, sqrt_beta_bar),
        sqrt_recip_alpha_bar=_headed(1, sqrt_alpha_bar.reciprocal()),
        sqrt_recipm1_alpha_bar=_headed(0, sqrt_beta_bar / sqrt_alpha_bar),
        beta_tilde=_headed(0, beta * (beta_bar_before / beta_bar)),
        snr=_headed(torch.inf, alpha_bar / beta_bar),
        log_snr=_headed(torch.inf, log_odds(log_alpha_bar)),
        log_beta_bar=_headed(-torch.inf, log_one_minus_exp(log_alpha_bar)),
        eps_weight=_headed(0, beta / (sqrt_alpha * sqrt_beta_bar)),
        posterior_x0_weight=_headed(1, x0_weight),
        posterior_xt_weight=_headed(0, sqrt_alpha * (beta_bar_before / beta_bar)),
        log_alpha_bar_high=_headed(0, log_alpha_bar),
        log_alpha_bar_low=_headed(0, low),
        zero_terminal_snr=terminal,
    )


def linear_betas(
    T: int, beta_1: float | int, beta_T: float | int, device: torch.device | str | int | None = None
) -> Tensor:
    r"""The betas of the linear schedule, in float64.

    .. math:: \beta_t = \beta_1 + (t - 1)\frac{\beta_T - \beta_1}{T - 1}, \qquad t = 1..T

    Args:
        T: number of levels, >= 1; with one level it is ``beta_1``.
        beta_1, beta_T: the ends, in (0, 1].
        device: where to build; None: the default device.

    Raises:
        ScheduleError: no level at all.

    Limits: at most four roundings; `ddpm_ref.linear_schedule` rounds once. Source: ho2020, section 4.
    """
    if isinstance(T, bool) or not isinstance(T, int) or T < 1:
        raise ScheduleError(f"T = {T!r}: a schedule has a whole number of levels, at least one")
    if not (0 < beta_1 <= 1 and 0 < beta_T <= 1):
        raise ScheduleError(f"beta_1 = {beta_1}, beta_T = {beta_T}: both ends lie in (0, 1]")
    k = torch.arange(T, dtype=torch.float64, device=device)
    return beta_1 + k * (beta_T - beta_1) / max(T - 1, 1)


def cosine_betas(
    T: int, s: float | int = 0.008, max_beta: float | int = 0.999, device: torch.device | str | int | None = None
) -> Tensor:
    r"""The betas of the cosine schedule, in float64.

    .. math:: \beta_t = \min\left(1 - \frac{f(t)}{f(t-1)},\ \beta_{\max}\right)
              = \min\left(\frac{\sin(c_{t-1} + c_t)\,\sin(c_{t-1} - c_t)}{\sin^2 c_{t-1}},\ \beta_{\max}\right), \qquad
              c_t = \frac{1 - t/T}{1 + s}\cdot\frac\pi2

    with :math:`f(t) = \sin^2 c_t` the squared cosine of nichol2021: in the second form nothing cancels.

    Args:
        T: number of levels, >= 1.
        s: the offset, >= 0.
        max_beta: what the last beta, which would be 1, is clipped to; in (0, 1).
        device: where to build; None: the default device.

    Raises:
        ScheduleError: no level at all, a negative offset, or a clip outside (0, 1).

    Limits: at most 32 roundings; `ddpm_ref.cosine_schedule` rounds once. Source: nichol2021, eq. (17).

    >>> [round(beta, 4) for beta in cosine_betas(4).tolist()]
    [0.153, 0.417, 0.7079, 0.999]
    """
    if isinstance(T, bool) or not isinstance(T, int) or T < 1:
        raise ScheduleError(f"T = {T!r}: a schedule has a whole number of levels, at least one")
    if not (0 <= s < math.inf and 0 < max_beta < 1):
        raise ScheduleError(f"s = {s}, max_beta = {max_beta}: the offset is >= 0, and the clip lies in (0, 1)")
    unit = math.pi / 2 / (T * (1 + s))
    left = torch.arange(T, 0, -1, dtype=torch.float64, device=device)  # T + 1 - t: how far level t - 1 is from T
    # Beside a right angle the sine of a sum is that of its supplement, which has no digits to lose.
    both = torch.minimum(2 * left - 1, 2 * (T - left) + 1 + 2 * T * s)
    beta = (both * unit).sin() * math.sin(unit) / (left * unit).sin().square()
    return beta.clamp(max=max_beta)


def laplace_betas(
    T: int,
    mu: float | int = 0.0,
    b: float | int = 0.5,
    max_beta: float | int = 0.999,
    device: torch.device | str | int | None = None,
) -> Tensor:
    r"""The betas of the Laplace schedule, in float64.

    .. math:: \beta_t = \min\left(\frac{w_t - w_{t-1}}{1 + w_t},\ \beta_{\max}\right), \qquad
              w_t = \frac{1 - \bar\alpha_t}{\bar\alpha_t} = e^{-\mu}\begin{cases}(2t/T)^b & 2t \le T\\
              (2 - 2t/T)^{-b} & 2t > T\end{cases}

    Args:
        T: number of levels, >= 1.
        mu, b: mean and scale (> 0) of the log-SNR.
        max_beta: what the last beta, which would be 1, is clipped to; in (0, 1).
        device: where to build; None: the default device.

    Raises:
        ScheduleError: no level at all, a scale that is not positive, or a clip outside (0, 1).

    Limits: `ddpm_ref.laplace_schedule` rounds once. Source: hang2024, table 1.

    >>> [round(beta, 4) for beta in laplace_betas(4).tolist()]
    [0.4142, 0.1464, 0.1716, 0.999]
    """
    if isinstance(T, bool) or not isinstance(T, int) or T < 1:
        raise ScheduleError(f"T = {T!r}: a schedule has a whole number of levels, at least one")
    if not (math.isfinite(mu) and 0 < b < math.inf and 0 < max_beta < 1):
        raise ScheduleError(f"mu = {mu}, b = {b}, max_beta = {max_beta}: b is > 0, and the clip lies in (0, 1)")
    t = torch.arange(T, dtype=torch.float64, device=device)  # level T, whose odds are infinite, is put in by hand
    odds = math.exp(-mu) * torch.where(2 * t <= T, (2 * t / T) ** b, (2 * (T - t) / T) ** -b)
    beta = torch.cat([odds.diff() / (1 + odds[1:]), odds.new_ones(1)])
    return beta.clamp(max=max_beta)


def log_one_minus_exp(log_alpha: Tensor) -> Tensor:
    r""":math:`\log(1 - e^L)` for L < 0, without cancellation on either side of :math:`L = -\log 2`."""
    return torch.where(log_alpha > -0.6931471805599453, (-torch.expm1(log_alpha)).log(), torch.log1p(-log_alpha.exp()))


def log_odds(log_alpha: Tensor) -> Tensor:
    r""":math:`\log\mathrm{SNR} = L - \log(1 - e^L)`: a few roundings of the larger term, so absolutely accurate
    near its zero."""
    return log_alpha - log_one_minus_exp(log_alpha)


def prefix_sums(terms: Tensor) -> tuple[Tensor, Tensor]:
    """All prefix sums of terms of one sign, as two words, by doubling: log2(T) passes, each a double-double addition.

    The relative error of an addition is below ``2**-104`` (Joldes, Muller, Popescu 2017), so that of a sum below
    ``log2(T) * 2**-104``.
    """
    high, low = terms, torch.zeros_like(terms)
    reach = 1
    while reach < terms.shape[0]:
        more_high, more_low = _add(high[reach:], low[reach:], high[:-reach], low[:-reach])
        high, low = torch.cat([high[:reach], more_high]), torch.cat([low[:reach], more_low])
        reach *= 2
    return high, low


def _add(a_high: Tensor, a_low: Tensor, b_high: Tensor, b_low: Tensor) -> tuple[Tensor, Tensor]:
    high, high_error = two_sum(a_high, b_high)
    low, low_error = two_sum(a_low, b_low)
    high, error = two_sum(high, high_error + low)
    return two_sum(high, error + low_error)


def _headed(first: float | int, rest: Tensor) -> Tensor:
    """The entry of level 0 before the entries of levels 1..T."""
    return torch.cat([rest.new_full((1,), first), rest])


def _checked(betas: Tensor | Sequence[object], device: torch.device | str | int | None) -> Tensor:
    try:
        # by way of NumPy, which keeps Python's floats in float64 and tells integers and complex numbers from them
        given = betas if isinstance(betas, Tensor) else torch.from_numpy(np.array(betas))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ScheduleError(f"betas cannot be read as numbers ({error}): {WANTED}") from None
    if not given.is_floating_point():
        raise ScheduleError(f"betas have dtype {given.dtype}: {WANTED}; write betas.real or betas.double()")
    if given.ndim != 1:
        raise ScheduleError(f"betas have shape {tuple(given.shape)}: {WANTED}, in one axis; write betas.reshape(-1)")
    if not given.numel():
        raise ScheduleError(f"betas are empty: {WANTED}, T >= 1")
    beta = given.detach().to(dtype=torch.float64).to(device=given.device if device is None else device)
    allowed = (beta > 0) & (beta < 1)
    allowed[-1] |= beta[-1] == 1
    if not bool(allowed.all()):
        i = int((~allowed).nonzero()[0])
        advice = "only beta_T may be 1, clip the others below it" if beta[i] == 1 else "clip or mend it first"
        raise ScheduleError(f"beta_{i + 1} = {float(beta[i])!r}: {WANTED}; {advice}")
    return beta


def _refuse_underflow(alpha_bar: Tensor, terminal: bool) -> None:
    kept = alpha_bar[:-1] if terminal else alpha_bar
    small = kept < torch.finfo(torch.float64).tiny
    if bool(small.any()):
        t = int(small.nonzero()[0]) + 1
        raise ScheduleError(
            f"alpha_bar at level {t} is below 2**-1022, too small for float64: "
            "use fewer or smaller betas (for a linear schedule, scale the ends by 1000/T)"
        )
