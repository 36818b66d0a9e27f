"""The one computation behind every oracle: a mixture of normal laws, seen through the forward process.

A Gaussian is a mixture of one, a finite data set a mixture of points, whose variances are 0. Given
``x_t = a x_0 + b eps`` each component stays normal, so everything the oracles say is a sum over components.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ddpm_ref.errors import RangeError
from ddpm_ref.typing import Array

LOG_2PI = float(np.log(2 * np.pi))
# Arrays of (components, examples, d) that are alive at one time, and room for NumPy's own temporaries.
_TEMPORARIES = 8


@dataclass(frozen=True, eq=False)
class Components:
    """n normal laws in d dimensions, each along its own principal axes; ``axes`` is None where these are the coordinates."""

    log_weights: Array  # (n,)
    means: Array  # (n, d)
    variances: Array  # (n, d), along the axes
    axes: Array | None  # (n, d, d), columns

    def at(self, a: Array, b: Array, x: Array) -> Conditioned:
        """The components given x of shape ``(examples, d)``; a and b are scalars or ``(examples,)``."""
        a, b = (value.reshape(1, -1, 1) for value in (a, b))
        with np.errstate(over="ignore", invalid="ignore"):
            difference = x[None] - a * self.means[:, None]
            along = difference if self.axes is None else difference @ self.axes
            given = Conditioned(self, a, b, along, a * a * self.variances[:, None] + b * b)
        lost = ~np.isfinite(given.log_density)
        if lost.any():
            far = x[lost].ravel()
            raise RangeError(
                f"xt contains {far[np.abs(far).argmax()]:.4g}: its square overflows float64, in units of the noise; give "
                "noisy data, which are no further from the data than some deviations"
            )
        return given

    def in_blocks(
        self, compute: Callable[[Conditioned], Array], a: Array, b: Array, x: Array, memory: int, squares: bool = False
    ) -> Array:
        """``compute`` of all examples, so many at a time that the temporaries stay below ``memory`` bytes."""
        n, d = self.means.shape
        needed = 8 * _TEMPORARIES * n * d + 8 * (2 * n if squares and self.axes is not None else 2) * d * d * squares
        if needed > memory:
            raise RangeError(
                f"memory = {memory} bytes is too little: one example beside {n} components in {d} dimensions takes "
                f"{needed}; give at least memory={needed}"
            )
        rows = memory // needed
        if len(x) <= rows:
            return compute(self.at(a, b, x))
        starts = range(0, len(x), rows)
        cut = [(v if v.ndim == 0 else v[i : i + rows]) for i in starts for v in (a, b)]
        return np.concatenate(
            [compute(self.at(cut[2 * k], cut[2 * k + 1], x[i : i + rows])) for k, i in enumerate(starts)]
        )


class Conditioned:
    """Components given ``x_t``: responsibilities, and moments of the data and of the noise. Leading axis: examples."""

    def __init__(self, parts: Components, a: Array, b: Array, along: Array, spread: Array):
        self.parts, self.a, self.b, self.along, self.spread = parts, a, b, along, spread
        # The squared distance in units of the spread is formed from the difference itself: expanded into x.x - 2 x.m + m.m it
        # would lose at small t all that tells near components apart.
        square = np.sum(along * along / spread, axis=-1)
        volume = np.sum(np.log(spread), axis=-1) + along.shape[-1] * LOG_2PI
        joint = parts.log_weights[:, None] - (square + volume) / 2
        highest = joint.max(axis=0)
        shares = np.exp(joint - highest)
        total = shares.sum(axis=0)
        self.log_density: Array = highest + np.log(total)
        self.responsibilities: Array = shares / total  # (n, examples)

    def eps(self) -> Array:
        """E[eps | x_t], from each component's :math:`b\\,C^{-1}(x_t - a m)`: nothing cancels as b goes to 0."""
        return self._mean(self._rotated(self.b * self.along / self.spread))

    def score(self) -> Array:
        """The gradient of the log density."""
        return -self._mean(self._rotated(self.along / self.spread))

    def x0(self) -> Array:
        """E[x_0 | x_t]."""
        return self._x0

    def x0_covariance(self) -> Array:
        """Cov[x_0 | x_t], within components and between them, of shape ``(examples, d, d)``."""
        between = np.sqrt(self.responsibilities)[..., None] * (self._each_x0 - self._x0)
        between = between.transpose(1, 0, 2)
        covariance = between.swapaxes(-1, -2) @ between
        return np.asarray(covariance + self._within())

    def x0_variance(self) -> Array:
        """The trace of `x0_covariance`, without the matrix."""
        squares = np.sum((self._each_x0 - self._x0) ** 2, axis=-1) + np.sum(self._left, axis=-1)
        return np.asarray(np.sum(self.responsibilities * squares, axis=0))

    @cached_property
    def _left(self) -> Array:
        """Variances of x_0 along the axes, given x_t and the component; the same for all examples of one level."""
        return np.asarray(self.parts.variances[:, None] * (self.b**2 / self.spread))

    def _within(self) -> Array:
        left = np.broadcast_to(self._left, self.along.shape)
        if self.parts.axes is None:
            return np.eye(left.shape[-1]) * self._mean(left)[:, None, :]
        total = np.zeros((*left.shape[1:], left.shape[-1]))
        for share, axes, variances in zip(self.responsibilities, self.parts.axes, left, strict=True):
            total += share[:, None, None] * ((axes * variances[:, None, :]) @ axes.T)
        return total

    @cached_property
    def _x0(self) -> Array:
        return self._mean(self._each_x0)

    @cached_property
    def _each_x0(self) -> Array:
        gain = self.a * self.parts.variances[:, None] / self.spread
        return np.asarray(self.parts.means[:, None] + self._rotated(gain * self.along))

    def _rotated(self, along: Array) -> Array:
        return along if self.parts.axes is None else np.asarray(along @ self.parts.axes.swapaxes(-1, -2))

    def _mean(self, values: Array) -> Array:
        return np.asarray(np.einsum("kn,kni->ni", self.responsibilities, values))
