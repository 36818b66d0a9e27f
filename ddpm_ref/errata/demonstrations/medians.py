r"""Where a sampler ends whose network says the median instead of the mean: data in two points, and nothing drawn.

For data that are 1 with probability p and -1 otherwise the median of the data given noisy data is the likelier of the two: a
jump at a border :math:`b_t`. On either side of it a step is affine, with a little noise. As in
`ddpm_ref.errata.demonstrations.basins` the probability to end at 1 is carried backwards,

.. math:: u_t(x) = H_t(f_t(x)), \qquad H_t(m) = \mathbb E\,u_s(m + \sigma_tz)

with H as a probit on a grid that moves and scales; the jump of :math:`u_s` at its border is an end of the integral over z.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from ddpm_ref.errata.demonstrations.basins import between_nodes
from ddpm_ref.reference.plan import Plan
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array

_REACH, _NODES, _POINTS = 9.0, 161, 8  # as far as the start is from the middle, in deviations of the noise of a step
_FAR = 8.0  # deviations of the noise that are looked at
_CERTAIN = 8.0  # in deviations of a normal law: a probability within 1e-15 of 0 or 1


def border(schedule: NoiseSchedule, t: int, p: float) -> float:
    r"""Where both points are equally likely: :math:`2\sqrt{\bar\alpha_t}\,x/\bar\beta_t + \log\frac{p}{1-p} = 0`."""
    return float(-np.log(p / (1 - p)) * schedule.beta_bar[t] / (2 * schedule.sqrt_alpha_bar[t]))


def share_at_one(plan: Plan, p: float, nodes: int = _NODES) -> float:
    """Probability to end at 1 from standard normal noise; ``plan`` in x0 form, whose last step is the prediction."""
    rows = list(plan.rows())
    jumps = [border(plan.schedule, t, p) for t, *_ in rows]
    if not plan.noise.any():
        return _without_noise(plan, jumps)
    unit = np.sinh(np.linspace(-_REACH, _REACH, nodes))  # dense where it changes, and far out
    centre = jumps[-1]

    def last(x: Array) -> Array:
        return np.where(x > jumps[-1], _CERTAIN, -_CERTAIN)

    ends: Callable[[Array], Array] = last
    for (_, _, from_x, from_x0, std), jump, below in reversed(list(zip(rows, jumps, jumps[1:], strict=False))):
        probit = _smoothed(ends, centre + std * unit, std, below)
        ends = _before(probit, centre, std, from_x, from_x0, jump)
        middle = centre + std * float(np.interp(0.0, probit, unit))
        centre = _origin(middle, from_x, from_x0, jump)
    return _over_the_start(ends, jumps[0])


def _before(
    probit: Array, centre: float, std: float, from_x: float, from_x0: float, jump: float
) -> Callable[[Array], Array]:
    """The probability at the state that a step starts from, as a probit."""

    def ends(x: Array) -> Array:
        arrives = from_x * x + np.where(x > jump, from_x0, -from_x0)
        return np.asarray(between_nodes(((arrives - centre) / std)[None], probit[None], _REACH)[0])

    return ends


def _smoothed(ends: Callable[[Array], Array], m: Array, std: float, jump: float) -> Array:
    """Average over the noise of a step, as a probit: two panels on either side of the jump."""
    from scipy.special import ndtr, ndtri  # late: records load nothing heavy

    nodes, weights = np.polynomial.legendre.leggauss(_POINTS)
    cut = np.clip((jump - m) / std, -_FAR, _FAR)
    edges = np.array([np.full_like(m, -_FAR), (cut - _FAR) / 2, cut, (cut + _FAR) / 2, np.full_like(m, _FAR)])
    up, down = np.zeros_like(m), np.zeros_like(m)
    for start, end in pairwise(edges):
        half = (end - start)[:, None] / 2
        z = start[:, None] + half * (1 + nodes)
        chance = half * weights * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
        found = ends(m[:, None] + std * z)
        up, down = up + (chance * ndtr(found)).sum(axis=1), down + (chance * ndtr(-found)).sum(axis=1)
    total = up + down
    return np.asarray(np.clip(np.where(up < down, ndtri(up / total), -ndtri(down / total)), -_CERTAIN, _CERTAIN))


def _origin(middle: float, from_x: float, from_x0: float, jump: float) -> float:
    """The state from which a step leads to this one; the border, if the jump there leads past it."""
    above, below = (middle - from_x0) / from_x, (middle + from_x0) / from_x
    return above if above >= jump else min(below, jump)


def _without_noise(plan: Plan, jumps: list[float]) -> float:
    """A deterministic sampler ascends, so the samples that end at 1 are those that start above one point."""
    from scipy.special import ndtr

    centre = jumps[-1]
    for (_, _, from_x, from_x0, _), jump in reversed(list(zip(plan.rows(), jumps[:-1], strict=False))):
        centre = _origin(centre, from_x, from_x0, jump)
    return float(ndtr(-centre))


def _over_the_start(ends: Callable[[Array], Array], jump: float) -> float:
    """Over standard normal first states, with Gauss-Legendre panels that end at the jump."""
    from scipy.special import ndtr

    edges = np.unique(np.clip([*np.linspace(-_FAR, _FAR, 33), jump], -_FAR, _FAR))
    nodes, weights = np.polynomial.legendre.leggauss(_POINTS)
    half = np.diff(edges)[:, None] / 2
    x = edges[:-1, None] + half * (1 + nodes)
    return float((half * weights * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi) * ndtr(ends(x))).sum())
