"""Expectations over a mixture without a random number: the trapezoidal rule, halved until it stands still.

For an integrand that is analytic and vanishes at both ends the rule converges faster than any power of its step
(trefethen2014). Its nodes are the coordinates of each component, in units of its own standard deviations.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ddpm_ref.errors import RangeError
from ddpm_ref.reference.arguments import level
from ddpm_ref.reference.oracle.components import Components, Conditioned
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array, ArrayLike

REACH = 10.0
"""Standard deviations to either side: what lies beyond has weight 2e-23."""
SETTLED = 2e-14
"""The rule stands still when halving its step changes the result by less than this share of it."""
_NEGLIGIBLE = 1e-18
MOST_DIMENSIONS = 2
_FIRST, _HALVINGS = 0.5, 9


def expectation(parts: Components, a: Array, b: Array, compute: Callable[[Conditioned], Array], memory: int) -> float:
    """E[compute(x_t)] over the noised mixture, for a function of size about 1 per example, in at most two dimensions.

    Raises `RangeError` if nine halvings of the step (five in two dimensions) do not settle it to `SETTLED` of its size.
    """
    d = parts.means.shape[1]
    if d > MOST_DIMENSIONS:
        raise RangeError(
            f"this expectation is over {d} dimensions, and there is no quadrature beyond {MOST_DIMENSIONS}: "
            "average over draws of q_sample, with its standard error"
        )
    step, result = _FIRST, _rule(parts, a, b, compute, memory, _FIRST)
    for _ in range(_HALVINGS if d == 1 else _HALVINGS - 4):
        step, before = step / 2, result
        result = _rule(parts, a, b, compute, memory, step)
        if abs(result - before) <= SETTLED * abs(result) + _NEGLIGIBLE:
            return result
    raise RangeError(
        f"the expectation has not settled at a step of {step:g} standard deviations (last change {result - before:.1e} "
        f"of {result:g}): components of such different widths need another method"
    )


def _rule(
    parts: Components, a: Array, b: Array, compute: Callable[[Conditioned], Array], memory: int, step: float
) -> float:
    """The trapezoidal rule with nodes so many standard deviations apart, along the axes of each component."""
    n, d = parts.means.shape
    axes = np.broadcast_to(np.eye(d), (n, d, d)) if parts.axes is None else parts.axes
    line = np.arange(-REACH, REACH + step / 4, step)
    grid = np.stack(np.meshgrid(*[line] * d, indexing="ij"), axis=-1).reshape(-1, d)
    weights = np.exp(parts.log_weights[:, None] - np.sum(grid * grid, axis=-1) / 2) * (2 * np.pi) ** (-d / 2)
    scale = np.sqrt(a * a * parts.variances + b * b)
    x = a * parts.means[:, None] + (grid * scale[:, None]) @ axes.swapaxes(-1, -2)
    values = parts.in_blocks(compute, a, b, x.reshape(-1, d), memory)
    return float(np.sum(weights.ravel() * values) * step**d)


def averages(
    parts: Components, compute: Callable[[Conditioned], Array], schedule: NoiseSchedule, t: ArrayLike, memory: int
) -> Array:
    """`expectation` at levels ``t >= 1``, in the shape of t."""
    levels = level(t, schedule.T, lowest=1)
    a, b = schedule.sqrt_alpha_bar, schedule.sqrt_beta_bar
    values = [
        expectation(parts, a[i : i + 1].reshape(()), b[i : i + 1].reshape(()), compute, memory) for i in levels.ravel()
    ]
    return np.array(values).reshape(levels.shape)


def snr_times_variance(given: Conditioned) -> Array:
    """What is left unknown of the noise: SNR(t) tr Cov[x_0 | x_t]."""
    return (given.a / given.b).reshape(-1) ** 2 * given.x0_variance()


def square_of_eps(given: Conditioned) -> Array:
    """The squared length of the optimal noise prediction."""
    return np.asarray(np.sum(given.eps() ** 2, axis=-1))
