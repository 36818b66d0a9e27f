r"""The betas of the named schedules as formulas on balls, their arguments read as exact binary numbers.

Written from the definitions of `ddpm_ref.reference.named_schedules`, whose docstrings give the sources, and arranged so that a
beta that is a dyadic number comes out with radius zero.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import accumulate
from operator import mul
from typing import Any

from flint import arb, ctx

from ddpm_ref.certificate.rounding import exactly

Beta = Callable[[int], arb]
"""The real beta of level t, at the precision in force."""


def linear(T: int, *, beta_1: float, beta_T: float, scale_ends: bool = False) -> Beta:
    """A line between the ends, over one common denominator."""
    first, last = exactly(beta_1), exactly(beta_T)
    above, below = (1000, T) if scale_ends else (1, 1)
    if T == 1:
        return lambda t: first * above / below
    return lambda t: (first * (T - t) + last * (t - 1)) * above / (below * (T - 1))


def constant(T: int, *, beta_1: float) -> Beta:
    """The same beta at every level."""
    return linear(T, beta_1=beta_1, beta_T=beta_1)


def scaled_linear(T: int, *, beta_1: float, beta_T: float) -> Beta:
    r"""The square of a line between roots, multiplied out: only :math:`\sqrt{\beta_1\beta_T}` is irrational."""
    first, last = exactly(beta_1), exactly(beta_T)
    if T == 1:
        return lambda t: first

    def beta(t: int) -> arb:
        m, n = T - t, t - 1
        return (first * m**2 + last * n**2 + 2 * m * n * (first * last).sqrt()) / (T - 1) ** 2

    return beta


def cosine(T: int, *, s: float, max_beta: float) -> Beta:
    r""":math:`1 - \cos^2\theta_t/\cos^2\theta_{t-1}`, clipped."""
    offset = exactly(s)

    def level(t: int) -> arb:
        return ((t + offset * T) / ((1 + offset) * T) * arb.pi() / 2).cos() ** 2

    return _clipped(lambda t: 1 - level(t) / level(t - 1), max_beta)


def sigmoid(T: int, *, beta_1: float, beta_T: float, limit: float) -> Beta:
    """A logistic curve between the ends."""
    first, last, half_width = exactly(beta_1), exactly(beta_T), exactly(limit)

    def beta(t: int) -> arb:
        step = arb(2 * (t - 1)) / (T - 1) - 1 if T > 1 else arb(-1)
        return first + (last - first) / (1 + (-half_width * step).exp())

    return beta


def sigmoid_alpha_bar(T: int, *, start: float, end: float, tau: float, max_beta: float) -> Beta:
    """Ratios of an alpha_bar that falls along a logistic curve, clipped."""
    low, high, temperature = exactly(start), exactly(end), exactly(tau)

    def logistic(x: arb) -> arb:
        return 1 / (1 + (-x / temperature).exp())

    def level(t: int) -> arb:
        return arb(0) if t == T else logistic(high) - logistic(low + (high - low) * t / T)

    return _clipped(lambda t: 1 - level(t) / level(t - 1), max_beta)


def zero_terminal_snr(betas: list[float]) -> Beta:
    """Betas of the schedule shifted and scaled so that the root of alpha_bar_T is 0 and that of alpha_bar_1 is kept."""
    T = len(betas)

    @cache
    def roots(bits: int) -> list[arb]:
        products = accumulate((1 - exactly(beta) for beta in betas), mul, initial=arb(1))
        return [product.sqrt() for product in products]

    def beta(t: int) -> arb:
        if t in (1, T):
            return exactly(betas[0]) if t == 1 else arb(1)
        root = roots(ctx.prec)
        return 1 - ((root[t] - root[T]) / (root[t - 1] - root[T])) ** 2

    return beta


def _clipped(beta: Beta, max_beta: float) -> Beta:
    most = exactly(max_beta)
    return lambda t: beta(t).min(most)  # a ball that holds the smaller one, also where the balls overlap


FORMULAS: dict[str, Callable[..., Beta]] = {
    "linear": linear,
    "scaled_linear": scaled_linear,
    "cosine": cosine,
    "sigmoid": sigmoid,
    "sigmoid_alpha_bar": sigmoid_alpha_bar,
    "constant": constant,
}


def betas(kind: str, T: int, arguments: dict[str, Any]) -> Beta:
    """The formula of a named schedule; arguments as `ScheduleConfig.arguments` gives them."""
    numbers = {name: value if isinstance(value, bool) else float(value) for name, value in arguments.items()}
    return FORMULAS[kind](T, **numbers)
