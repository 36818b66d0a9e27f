r"""The exact density of the samples in one dimension: quadrature instead of sampling.

A step with noise smooths, :math:`p_s(x') = \int p_t(x)\,\mathcal N(x';\,f(x), c^2)\,dx`; a step without noise moves,
:math:`p_s(f(x)) = p_t(x)/f'(x)`. Between two noisy steps nothing has to be interpolated: masses are carried along the
maps, and each noisy step chooses nodes that resolve both the law it made and the kernel of the step that follows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import erfc, sqrt

import numpy as np

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.reference.oracle.arguments import squared
from ddpm_ref.reference.oracle.components import Conditioned
from ddpm_ref.reference.oracle.finite import Finite
from ddpm_ref.reference.oracle.gaussian import Gaussian
from ddpm_ref.reference.oracle.mixture import Mixture
from ddpm_ref.reference.oracle.moments import Start, first_law, refuse_unless_affine
from ddpm_ref.reference.oracle.panels import Panels, missed, refined, unresolved
from ddpm_ref.reference.plan import Plan
from ddpm_ref.typing import Array, BoolArray, Real

REACH = 8.5
"""Standard deviations to either side: what lies beyond has mass 2e-17."""
# A panel may span this many deviations of the product of a law and a kernel: its degree-32 coefficient is then 5e-14.
_SPAN = 4.0
_NEGLIGIBLE, _SMOOTH, _SETTLED = 1e-15, 1e-9, 1e-11
_HALVINGS = 20

Law = Gaussian | Mixture


class _Step:
    """One row of a plan on one-dimensional data: x_t to f(x_t), and the slope of f."""

    def __init__(self, plan: Plan, k: int, data: Law | Finite):
        t = plan.asked[k]
        self.x, self.prediction, self.noise = float(plan.x[k]), float(plan.prediction[k]), float(plan.noise[k])
        self.form, self.data = plan.form, data
        self.a, self.b = np.asarray(plan.schedule.sqrt_alpha_bar[t]), np.asarray(plan.schedule.sqrt_beta_bar[t])

    def __call__(self, x: Array) -> tuple[Array, Array]:
        parts, memory = self.data._parts, self.data.memory
        predicted, variance = parts.in_blocks(self._moments, self.a, self.b, x.reshape(-1, 1), memory).T
        a, b = float(self.a), float(self.b)
        known = a * variance / b**2  # the slope of E[x0 | x_t]
        slope = known if self.form == "x0" else (1 - a * known) / b
        moved = self.x * x + self.prediction * predicted.reshape(x.shape)
        return moved, self.x + self.prediction * slope.reshape(x.shape)

    def _moments(self, given: Conditioned) -> Array:
        mean = given.eps() if self.form == "eps" else given.x0()
        return np.stack([mean[:, 0], given.x0_variance()], axis=-1)


class _Known:
    """A law with a closed density."""

    def __init__(self, law: Law):
        means, deviations = law._parts.means[:, 0], np.sqrt(law._parts.variances[:, 0])
        self.law, self.width = law, float(deviations.min())
        self.low = float((means - REACH * deviations).min())
        self.high = float((means + REACH * deviations).max())

    def log_density(self, x: Array) -> Array:
        return -self.law.nll(x.reshape(-1, 1)).reshape(x.shape)


class _Smoothed:
    """Masses at points, each spread by normal noise: what a noisy step leaves behind."""

    def __init__(self, points: Array, masses: Array, width: float):
        order = np.argsort(points, axis=None)
        self.points, self.masses, self.width = points.ravel()[order], masses.ravel()[order], width
        heavy = self.points[self.masses > _NEGLIGIBLE**2]
        self.low, self.high = float(heavy[0]) - REACH * width, float(heavy[-1]) + REACH * width

    def log_density(self, x: Array) -> Array:
        flat = np.sort(x, axis=None)
        density = np.zeros(flat.size)
        # Only points within reach count; 128 targets at a time keep that stretch short.
        for i in range(0, flat.size, 128):
            some = flat[i : i + 128]
            reach = (REACH + 0.5) * self.width
            first, last = np.searchsorted(self.points, [some[0] - reach, some[-1] + reach])
            away = (some[:, None] - self.points[first:last]) / self.width
            density[i : i + 128] = np.exp(-away * away / 2) @ self.masses[first:last]
        unsorted = np.empty_like(density)
        unsorted[np.argsort(x, axis=None)] = density / (self.width * sqrt(2 * np.pi))
        with np.errstate(divide="ignore"):
            return np.log(unsorted).reshape(x.shape)


Base = _Known | _Smoothed


@dataclass(frozen=True, eq=False)
class Density:
    """The law of one-dimensional samples: where they lie, and how densely, against the law of the data.

    The nodes are those of a quadrature rule: an expectation over the samples is ``sum(mass * g(x))``.
    """

    x: Array
    """Nodes, ascending."""
    mass: Array
    """Probability that each stands for; they sum to 1 within rounding, however wrong the rest may be."""
    log_density: Array
    """Logarithm of the density of the samples at the nodes."""
    log_truth: Array
    """Logarithm of the density that they should have."""
    total_variation: float
    r"""Half the integral of :math:`|p - q|`, in [0, 1]."""

    @property
    def mean(self) -> float:
        """E[x] over the samples."""
        return float(np.sum(self.mass * self.x))

    @property
    def variance(self) -> float:
        """Variance of the samples."""
        return float(np.sum(self.mass * (self.x - self.mean) ** 2))

    def kl(self) -> float:
        r"""Divergence :math:`D(\text{samples}\,\Vert\,\text{data})` in nats."""
        there = self.mass > 0
        return float(np.sum(self.mass[there] * (self.log_density - self.log_truth)[there]))


def sample_density(plan: Plan, data: Law | Finite, start: str = "normal", blur: Real = 0.0) -> Density:
    r"""The exact law of the samples of a plan that uses the exact prediction, on one-dimensional data.

    Args:
        plan: any affine plan, with as much noise in each step as it likes.
        data: `Gaussian`, `Mixture` or `Finite` with d = 1.
        start: law of the first state, ``"normal"`` or ``"marginal"``; see `sample_moments`.
        blur: standard deviation of noise added to samples *and* data before they are compared. Points have no
            density, so `Finite` data need ``blur > 0``; divergences only fall as it grows.

    Returns:
        the law of the samples at the plan's last level beside that of the data there.

    Raises `RangeError` for a plan with stages, a start that does not fit, points without blur, a step without noise
    that does not ascend everywhere (its samples have no single origin), or laws so narrow that resolving them takes
    more than 320 000 nodes; `ShapeError` for d > 1. Limits: on Gaussian data equal to `sample_moments` to about 1e-12, on
    narrow mixtures to an integral of the map in closed form (docs/oracle.md). A mass of 1 says that the law was carried
    whole, and nothing of the divergence. Source: ho2020, algorithm 2; trefethen2019, chapter 19.

    >>> from ddpm_ref.reference import plan
    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> schedule = linear_schedule(1000)
    >>> bimodal = Mixture([0.5, 0.5], [-1.0, 1.0], [0.0625, 0.0625])
    >>> law = sample_density(plan.ddim(schedule, schedule.trajectory(20)), bimodal)
    >>> print(f"{law.kl():.6f} {law.total_variation:.6f} {law.variance:.4f}")
    0.048565 0.090886 0.9713
    """
    refuse_unless_affine(plan)
    if data.d != 1:
        raise ShapeError(f"the data have d = {data.d}; densities are computed for d = 1 (sample_moments takes any)")
    truth = _truth(plan, data, blur)
    base: Base = _Known(_beginning(plan, data, first_law(start, plan)))
    maps: list[_Step] = []
    for k in range(len(plan)):
        maps.append(_Step(plan, k, data))
        noise = sqrt(maps[-1].noise ** 2 + (squared(blur) if k == len(plan) - 1 else 0.0))
        if noise > 0:
            panels = _masses(base, maps, noise, f"step {k + 1} of {len(plan)}, of deviation {noise:.2g},")
            base, maps = _Smoothed(panels.values["x"], panels.values["mass"], noise), []
    return _compared(base, maps, _Known(truth))


def _truth(plan: Plan, data: Law | Finite, blur: Real) -> Law:
    last = plan.trajectory.levels[-1]
    if isinstance(data, Finite) and last == 0:
        if squared(blur) == 0:
            raise RangeError(
                "the data are points, from which every law with a density is infinitely far; compare both after some noise, "
                "e.g. blur=0.05"
            )
        return data.blurred(blur)
    return data.noised(plan.schedule, last).blurred(blur)


def _beginning(plan: Plan, data: Law | Finite, start: Start) -> Law:
    first = plan.trajectory.levels[0]
    return Gaussian(0.0, 1.0) if start == "normal" else data.noised(plan.schedule, first)


def _moved(maps: list[_Step], x: Array) -> tuple[Array, Array]:
    """Where the maps take x, and the logarithm of the slope of all of them; minus infinity or NaN where they do not ascend."""
    logarithm = np.zeros_like(x)
    with np.errstate(divide="ignore", invalid="ignore"):
        for step in maps:
            x, slope = step(x)
            logarithm = logarithm + np.log(slope)
    return x, logarithm


def _masses(base: Base, maps: list[_Step], noise: float, what: str) -> Panels:
    """Nodes that resolve the law and the kernel of the noisy step that ends ``maps``."""

    def judge(panels: Panels) -> tuple[BoolArray, dict[str, Array]]:
        nodes, width = panels.nodes, panels.high - panels.low
        density = np.exp(base.log_density(nodes))
        moved, ends = (_moved(maps, x)[0] for x in (nodes, panels.edges))
        present = density.max(axis=-1) * width
        stretch = (moved.max(axis=-1) - moved.min(axis=-1)) / noise
        good = (width / base.width) ** 2 + stretch**2 <= _SPAN**2
        good &= np.maximum(unresolved(moved), missed(moved, ends)) / noise * present <= _SMOOTH
        return good | (present < _NEGLIGIBLE), {"x": moved, "mass": density * panels.weights}

    return refined(base.low, base.high, _SPAN * base.width, judge, what)


def _compared(base: Base, maps: list[_Step], truth: _Known) -> Density:
    """The law at the end of the maps beside the law it should be."""

    def at(nodes: Array) -> tuple[Array, Array, Array]:
        x, slope = _moved(maps, nodes)
        if not np.isfinite(slope).all():
            where = float(nodes[~np.isfinite(slope)][0])
            raise RangeError(
                f"the steps without noise that start near x = {where:.3g} do not ascend there, so the density is no change of "
                "variables; add noise (eta > 0), or blur"
            )
        return x, base.log_density(nodes) - slope, slope

    def judge(panels: Panels) -> tuple[BoolArray, dict[str, Array]]:
        x, log_density, slope = at(np.concatenate([panels.nodes, panels.edges], axis=-1))
        log_truth = truth.log_density(x)
        here, there = np.exp(log_density + slope), np.exp(log_truth + slope)
        with np.errstate(invalid="ignore"):
            divergence = np.where(here > 0, here * (log_density - log_truth), 0.0)
        width = panels.high - panels.low
        good = np.ones(len(width), dtype=bool)
        for watched in (here, there, divergence):
            inner, ends = watched[:, :-2], watched[:, -2:]
            good &= np.maximum(unresolved(inner), missed(inner, ends)) * width <= _SETTLED
        # The map itself, in deviations of the narrowest component, squared as the divergence counts them.
        off = np.maximum(unresolved(x[:, :-2]), missed(x[:, :-2], x[:, -2:])) / truth.width
        good &= here.max(axis=-1) * width * off**2 <= _SETTLED
        values = {"x": x, "log_density": log_density, "log_truth": log_truth, "difference": here - there}
        values = {name: value[:, :-2] for name, value in values.items()} | {"mass": here[:, :-2] * panels.weights}
        return good | (width < 1e-13 * max(abs(base.low), abs(base.high))), values

    panels = refined(base.low, base.high, _SPAN * base.width, judge, "the law of the samples")

    def difference(nodes: Array) -> Array:
        x, log_density, slope = at(nodes)
        return np.asarray(np.exp(log_density + slope) - np.exp(truth.log_density(x) + slope))

    between = float(np.sum(_absolute(panels, difference)))
    ends = at(np.array([base.low, base.high]))[0]
    beyond = _tail(truth.law, float(ends[0]), -1) + _tail(truth.law, float(ends[1]), 1)
    values = {name: panels.values[name].ravel() for name in ("x", "mass", "log_density", "log_truth")}
    return Density(**values, total_variation=(between + beyond) / 2)


def _absolute(panels: Panels, difference: Callable[[Array], Array]) -> Array:
    """Integrals of the absolute value over panels, cut where the sign changes."""
    values = panels.values["difference"]
    whole: Array = np.sum(np.abs(values) * panels.weights, axis=-1)
    nodes, signs = panels.nodes.ravel(), np.sign(values.ravel())
    # Changes of sign that matter; elsewhere the two laws agree to rounding, and so does the kinked rule.
    crossing = np.flatnonzero(signs[1:] * signs[:-1] < 0)
    size = np.maximum(np.abs(values.ravel()[1:]), np.abs(values.ravel()[:-1]))[crossing]
    crossing = crossing[size > 1e-12]
    if not crossing.size:
        return whole
    low, high, left = nodes[crossing], nodes[crossing + 1], signs[crossing]
    # A cut misplaced by 1e-7 costs the square of that.
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        same = np.sign(difference(middle)) == left
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    cut = np.unique(np.clip(np.searchsorted(panels.high, low), 0, len(whole) - 1))
    edges = [
        np.concatenate([[panels.low[i]], low[(low > panels.low[i]) & (low < panels.high[i])], [panels.high[i]]])
        for i in cut
    ]
    pieces = Panels(np.concatenate([e[:-1] for e in edges]), np.concatenate([e[1:] for e in edges]), {})
    exact = np.sum(np.abs(difference(pieces.nodes)) * pieces.weights)
    return np.append(np.delete(whole, cut), exact)


def _tail(law: Law, x: float, side: int) -> float:
    """Probability below (side = -1) or above (1) a point."""
    parts = law._parts
    away = side * (x - parts.means[:, 0]) / np.sqrt(2 * parts.variances[:, 0])
    return float(np.sum(np.exp(parts.log_weights) * [erfc(z) / 2 for z in away.tolist()]))
