"""Named schedules: real betas by a formula whose float64 arguments are read as exact numbers, each rounded once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from ddpm_ref.errors import ScheduleError
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Real

Number: TypeAlias = Any  # an mpmath number, or mpmath's context: mpmath carries no types
DIGITS = 60


def _rounded_once(betas: Callable[[Number], Iterable[Number]]) -> NoiseSchedule:
    """The schedule of real betas computed to `DIGITS` digits by ``betas(mp)`` and then rounded to float64."""
    import mpmath

    mp = mpmath.mp.clone()
    mp.dps = DIGITS
    return NoiseSchedule.from_betas(np.array([float(beta) for beta in betas(mp)]))


def _count(T: Real) -> int:
    if isinstance(T, bool) or not isinstance(T, int | np.integer) or T < 1:
        raise ScheduleError(f"T = {T!r} must be a whole number of levels, at least 1")
    return int(T)


def _ends(T: int, beta_1: Real, beta_T: Real, scale_ends: bool = False) -> tuple[Fraction, Fraction]:
    for name, value in (("beta_1", beta_1), ("beta_T", beta_T)):
        if isinstance(value, bool) or not (isinstance(value, int | float | np.floating) and 0 < value <= 1):
            raise ScheduleError(f"{name} = {value!r} must be a number with 0 < {name} <= 1")
    factor = Fraction(1000, T) if scale_ends else Fraction(1)
    return Fraction(float(beta_1)) * factor, Fraction(float(beta_T)) * factor


def linear_schedule(
    T: Real = 1000, beta_1: Real = 1e-4, beta_T: Real = 0.02, *, scale_ends: bool = False
) -> NoiseSchedule:
    r"""The linear schedule of DDPM.

    .. math:: \beta_t = \beta_1 + (t - 1)\frac{\beta_T - \beta_1}{T - 1}, \qquad \beta_1 \text{ alone for } T = 1

    With ``scale_ends`` both ends are multiplied by ``1000 / T``, so that alpha_bar_T hardly depends on T
    (improved-diffusion's habit). Raises `ScheduleError`, in particular where alpha_bar underflows (T = 100000 with the
    default ends). Source: ho2020, section 4.

    >>> linear_schedule(T=4).beta
    array([0.        , 0.0001    , 0.00673333, 0.01336667, 0.02      ])
    """
    T = _count(T)
    first, last = _ends(T, beta_1, beta_T, scale_ends)
    step = (last - first) / max(T - 1, 1)
    # One common denominator keeps the loop in plain integers; int / int rounds once.
    common = first.denominator * step.denominator
    start, increment = first.numerator * step.denominator, step.numerator * first.denominator
    return NoiseSchedule.from_betas(np.array([(start + k * increment) / common for k in range(T)]))


def constant_schedule(T: Real = 1000, beta: Real = 0.02) -> NoiseSchedule:
    """The same beta at every level. Source: ho2020, code ("const")."""
    return linear_schedule(T, beta, beta)


def scaled_linear_schedule(T: Real = 1000, beta_1: Real = 0.00085, beta_T: Real = 0.012) -> NoiseSchedule:
    r"""Square roots of beta linear in t, the habit of latent diffusion.

    .. math:: \beta_t = \left((1 - w)\sqrt{\beta_1} + w\sqrt{\beta_T}\right)^2, \qquad w = \frac{t - 1}{T - 1}

    Source: rombach2022, code ("linear" there, "scaled_linear" in diffusers); the defaults are Stable Diffusion's.
    """
    T = _count(T)
    first, last = _ends(T, beta_1, beta_T)

    def betas(mp: Number) -> Iterable[Number]:
        a, b = (mp.sqrt(mp.mpf(end.numerator) / end.denominator) for end in (first, last))
        if T == 1:
            return [a * a]
        return (((a * (T - 1 - k) + b * k) / (T - 1)) ** 2 for k in range(T))

    return _rounded_once(betas)


def _clipped_betas(alpha_bars: Iterable[Number], max_beta: Real) -> Iterable[Number]:
    """``min(1 - f(t) / f(t - 1), max_beta)`` for consecutive ``f(0), f(1), ...``."""
    before = None
    for t, value in enumerate(alpha_bars):
        if before is not None:
            if before == 0:
                raise ScheduleError(
                    f"alpha_bar cannot be told from 0 at level {t - 1} already, so that no beta follows; "
                    "take a larger tau or a smaller range"
                )
            yield min(1 - value / before, max_beta)
        before = value


def _max_beta(max_beta: Real) -> float:
    if not (isinstance(max_beta, int | float | np.floating) and 0 < max_beta < 1):
        raise ScheduleError(f"max_beta = {max_beta!r} must be a number with 0 < max_beta < 1 (0.999 is usual)")
    return float(max_beta)


def cosine_schedule(T: Real = 1000, s: Real = 0.008, max_beta: Real = 0.999) -> NoiseSchedule:
    r"""The cosine schedule of Improved DDPM.

    .. math:: \beta_t = \min\left(1 - \frac{f(t)}{f(t-1)},\ \beta_{\max}\right), \qquad
              f(t) = \cos^2\left(\frac{t/T + s}{1 + s}\cdot\frac\pi2\right)

    ``f(T) = 0``, so the clip keeps beta_T below 1; alpha_bar is the product of the clipped alphas. Source: nichol2021,
    eq. (17).

    >>> float(cosine_schedule(T=1000).beta[999])
    0.749999...
    """
    T, max_beta = _count(T), _max_beta(max_beta)
    if not (isinstance(s, int | float | np.floating) and 0 <= s < np.inf):
        raise ScheduleError(f"s = {s!r} must be a number >= 0 (0.008 is usual)")

    def betas(mp: Number) -> Iterable[Number]:
        offset = mp.mpf(float(s))
        angle = mp.pi / 2 / (1 + offset)
        return _clipped_betas((mp.cos((mp.mpf(t) / T + offset) * angle) ** 2 for t in range(T + 1)), max_beta)

    return _rounded_once(betas)


def sigmoid_schedule(T: Real = 1000, beta_1: Real = 1e-4, beta_T: Real = 0.02, limit: Real = 6.0) -> NoiseSchedule:
    r"""Betas along a logistic curve, as in the code of DDIM (and "sigmoid" in diffusers).

    .. math:: \beta_t = \beta_1 + (\beta_T - \beta_1)\,\sigma\left(-L + 2L\frac{t-1}{T-1}\right), \qquad L = 6

    Source: song2020ddim, code.
    """
    T = _count(T)
    first, last = _ends(T, beta_1, beta_T)

    def betas(mp: Number) -> Iterable[Number]:
        a, b = (mp.mpf(end.numerator) / end.denominator for end in (first, last))
        steps = ((mp.mpf(2 * k) / (T - 1) - 1 if T > 1 else mp.mpf(-1)) for k in range(T))
        return (a + (b - a) / (1 + mp.exp(-mp.mpf(float(limit)) * step)) for step in steps)

    return _rounded_once(betas)


def sigmoid_alpha_bar_schedule(
    T: Real = 1000, start: Real = -3.0, end: Real = 3.0, tau: Real = 1.0, max_beta: Real = 0.999
) -> NoiseSchedule:
    r"""alpha_bar along a logistic curve.

    .. math:: \bar\alpha_t = \frac{\sigma(e/\tau) - \sigma((s + (e - s)t/T)/\tau)}{\sigma(e/\tau) - \sigma(s/\tau)},
              \qquad \beta_t = \min(1 - \bar\alpha_t/\bar\alpha_{t-1},\ \beta_{\max})

    Source: jabri2022, appendix (their gamma is alpha_bar).
    """
    T, max_beta = _count(T), _max_beta(max_beta)
    if not -np.inf < start < end < np.inf or not 0 < tau < np.inf:
        raise ScheduleError(
            f"start = {start!r}, end = {end!r}, tau = {tau!r}; allowed: finite, start < end and tau > 0"
        )

    def betas(mp: Number) -> Iterable[Number]:
        low, high, temperature = mp.mpf(float(start)), mp.mpf(float(end)), mp.mpf(float(tau))

        def logistic(x: Number) -> Number:
            return 1 / (1 + mp.exp(-x / temperature))

        return _clipped_betas((logistic(high) - logistic(low + (high - low) * t / T) for t in range(T + 1)), max_beta)

    return _rounded_once(betas)


def laplace_schedule(T: Real = 1000, mu: Real = 0.0, b: Real = 0.5, max_beta: Real = 0.999) -> NoiseSchedule:
    r"""The log-SNR of levels spread evenly follows a Laplace distribution: most levels where signal and noise are alike.

    .. math:: \log\frac{\bar\alpha_t}{1 - \bar\alpha_t} = \mu - b\,\mathrm{sgn}(\tfrac12 - u)\ln(1 - 2|u - \tfrac12|), \quad
              u = \frac tT, \qquad \beta_t = \min(1 - \bar\alpha_t/\bar\alpha_{t-1},\ \beta_{\max})

    ``mu`` is the mean of the log-SNR, ``b`` the scale of the distribution. alpha_bar would be 0 at level T: the clip keeps
    beta_T below 1. Law: ``schedule/laplace_betas``. Source: hang2024, table 1.

    >>> laplace_schedule(T=4).alpha_bar.round(4)
    array([1.000e+00, 5.858e-01, 5.000e-01, 4.142e-01, 4.000e-04])
    """
    T, max_beta = _count(T), _max_beta(max_beta)
    if not (isinstance(mu, int | float | np.floating) and -np.inf < mu < np.inf):
        raise ScheduleError(f"mu = {mu!r} must be a finite number (0 is usual)")
    if not (isinstance(b, int | float | np.floating) and 0 < b < np.inf):
        raise ScheduleError(f"b = {b!r} must be a number > 0 (0.5 is usual)")

    def betas(mp: Number) -> Iterable[Number]:
        odds, scale = mp.exp(-mp.mpf(float(mu))), mp.mpf(float(b))

        def alpha_bar(t: int) -> Number:
            if t == T:
                return mp.mpf(0)
            # 1 - 2|u - 1/2| is 2u in the first half and 2(1 - u) in the second, where its power is inverted.
            power = (mp.mpf(2 * t) / T) ** scale if 2 * t <= T else (mp.mpf(2 * (T - t)) / T) ** -scale
            return 1 / (1 + odds * power)

        return _clipped_betas((alpha_bar(t) for t in range(T + 1)), max_beta)

    return _rounded_once(betas)


def zero_terminal_snr(schedule: NoiseSchedule) -> NoiseSchedule:
    r"""The schedule shifted and scaled so that alpha_bar_T is exactly 0 while alpha_bar_1 is kept.

    .. math:: \sqrt{\bar\alpha'_t} = \sqrt{\bar\alpha_1}\,
              \frac{\sqrt{\bar\alpha_t} - \sqrt{\bar\alpha_T}}{\sqrt{\bar\alpha_1} - \sqrt{\bar\alpha_T}}

    Betas are those of the exact alpha_bar', rounded once. Raises `ScheduleError` for ``T = 1``, where both ends
    coincide. Source: lin2024, algorithm 1.

    >>> float(zero_terminal_snr(linear_schedule(T=10)).alpha_bar[-1])
    0.0
    """
    if schedule.T == 1:
        raise ScheduleError("a schedule with T = 1 cannot keep alpha_bar_1 and bring alpha_bar_T to 0; use T >= 2")

    def betas(mp: Number) -> Iterable[Number]:
        mp.dps += math.ceil(-math.log10(schedule.beta[1:].min()))  # what 1 - alpha_bar'_t / alpha_bar'_(t-1) cancels
        product, roots = mp.mpf(1), []
        for beta in schedule.beta[1:].tolist():
            product *= 1 - mp.mpf(beta)
            roots.append(mp.sqrt(product))
        scale = roots[0] / (roots[0] - roots[-1])
        return _clipped_betas((mp.mpf(1), *(((root - roots[-1]) * scale) ** 2 for root in roots)), 1.0)

    return _rounded_once(betas)
