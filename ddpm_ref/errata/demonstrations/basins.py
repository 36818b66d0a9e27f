r"""Which data point a sampler ends at, without drawing any: probabilities carried backwards through its steps.

On data in a few points of the line every step of ancestral sampling is a monotone map and a little noise. The probability
to end below a border, as a function of the state, is then a step smoothed by noise, and it is its own average over one step:
:math:`u_t(x) = \mathbb E\,u_s(f_t(x) + \sigma_tz)`. It is kept on a grid that moves and scales with it, as
:math:`\Phi^{-1}(u)`, which is nearly straight and so loses next to nothing by interpolation.
"""

from __future__ import annotations

import numpy as np

from ddpm_ref.errors import RangeError
from ddpm_ref.reference.plan import Plan
from ddpm_ref.typing import Array

_REACH, _NODES, _NOISES = 6.0, 121, 6
_SHARPEST = 1e-6  # width of the border at level 0
_CERTAIN = 8.0  # in deviations of a normal law: a probability within 1e-15 of 0 or 1
_NEWTON = 6


def end_weights(plan: Plan, points: Array, weights: Array, nodes: int = _NODES) -> Array:
    """Probability to end nearest to each of some points, from standard normal noise, with the network that is exact for them.

    ``plan`` is in x0 form and affine; ``nodes`` of the grid for each border between two points.
    """
    from scipy.special import ndtr, ndtri  # late: records load nothing heavy

    borders = (points[1:] + points[:-1]) / 2
    unit = np.sinh(np.linspace(-_REACH, _REACH, nodes))  # dense at the border, and far out
    noises, chances = np.polynomial.hermite_e.hermegauss(_NOISES)
    chances = chances / chances.sum()
    centre, width = borders.copy(), np.full(len(borders), _SHARPEST)
    probit = np.tile(np.clip(-unit, -_CERTAIN, _CERTAIN), (len(borders), 1))
    for t, _, from_x, from_x0, std in reversed(list(plan.rows())):

        def step(x: Array, t: int = t, from_x: float = from_x, from_x0: float = from_x0) -> tuple[Array, Array]:
            mean, slope = _predicted(plan, points, weights, x, t)
            return from_x * x + from_x0 * mean, from_x + from_x0 * slope

        start = centre
        for _ in range(_NEWTON):
            arrives, slope = step(start)
            start = start - (arrives - centre) / slope
        if not (np.abs(step(start)[0] - centre) <= width.min()).all():  # the grid must hold the border
            raise RangeError(f"the border between two points was lost in the step from t = {t}")
        spread = np.hypot(width, std) / step(start)[1]
        states = start[:, None] + spread[:, None] * unit
        arrives = step(states)[0][:, :, None] + std * noises
        scaled = (arrives - centre[:, None, None]) / width[:, None, None]
        found = between_nodes(scaled, probit)
        below, above = ndtr(found) @ chances, ndtr(-found) @ chances
        probit = np.clip(np.where(below < above, ndtri(below), -ndtri(above)), -_CERTAIN, _CERTAIN)
        centre, width = start, spread
    return np.diff([0.0, *_from_noise(centre, width, probit), 1.0])


def between_nodes(at: Array, known: Array, reach: float = _REACH) -> Array:
    """Cubic interpolation, row by row, in the inverse hyperbolic sine; beyond the ends what the last node has, 0 or 1."""
    nodes = known.shape[-1]
    place = np.clip((np.arcsinh(at) + reach) / (2 * reach) * (nodes - 1), 0, nodes - 1)
    left = np.clip(place.astype(np.int64), 1, nodes - 3)
    x = place - left
    rows = np.arange(len(known)).reshape((-1,) + (1,) * (at.ndim - 1))
    a, b, c, d = (known[rows, left + k] for k in (-1, 0, 1, 2))
    return np.asarray(b + x * ((c - a / 3 - b / 2 - d / 6) + x * ((a + c) / 2 - b + x * ((b - c) / 2 + (d - a) / 6))))


def _predicted(plan: Plan, points: Array, weights: Array, x: Array, t: int) -> tuple[Array, Array]:
    """Mean of the data given the state, and its derivative by the state."""
    signal, variance = plan.schedule.sqrt_alpha_bar[t], plan.schedule.beta_bar[t]
    exponent = np.log(weights) - (x[..., None] - signal * points) ** 2 / (2 * variance)
    share = np.exp(exponent - exponent.max(axis=-1, keepdims=True))
    share = share / share.sum(axis=-1, keepdims=True)
    mean = share @ points
    return mean, signal / variance * (share @ points**2 - mean**2)


def _from_noise(centre: Array, width: Array, probit: Array) -> Array:
    """The probabilities averaged over a standard normal first state: by parts, the trapezoidal rule along the border."""
    from scipy.special import ndtr

    unit = np.sinh(np.linspace(-_REACH, _REACH, 4001))
    chance = ndtr(between_nodes(np.tile(unit, (len(centre), 1)), probit))
    below = ndtr(centre[:, None] + width[:, None] * unit)
    return np.asarray(((below[:, 1:] + below[:, :-1]) / 2 * (chance[:, :-1] - chance[:, 1:])).sum(axis=1))
