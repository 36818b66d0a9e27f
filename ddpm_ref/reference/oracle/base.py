r"""What every oracle answers: the exact optimal network of its data, and their density at every level.

With :math:`x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{\bar\beta_t}\,\varepsilon` the best prediction in mean square is the
conditional mean (Tweedie's formula, efron2011), and for the laws here it is in closed form.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property

import numpy as np

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.reference.arguments import level
from ddpm_ref.reference.oracle.arguments import read_only, vectors
from ddpm_ref.reference.oracle.components import Components, Conditioned
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array, ArrayLike, IntArray


class Oracle(ABC):
    """Data of a known law in d dimensions. Arguments of all methods: ``xt`` of shape ``(*batch, d)``, levels ``t``.

    A level is one for all, or has the shape of the leading axes of ``batch``. Every method raises `LevelError` for a
    level outside its range, `ShapeError`, and `RangeError` for numbers that are not finite or whose squares overflow,
    and where not one example fits in ``memory``.
    """

    _lowest = 0  # the first level with a density

    def __init__(self, parts: Components, memory: int):
        if isinstance(memory, bool) or not isinstance(memory, int) or memory < 1:
            raise RangeError(f"memory = {memory!r} must be a whole number of bytes, e.g. 2**28")
        self._parts, self.memory = parts, memory

    @property
    def d(self) -> int:
        """Dimensions of the data."""
        return int(self._parts.means.shape[-1])

    @cached_property
    def mean(self) -> Array:
        """E[x_0], shape ``(d,)``."""
        return read_only(np.asarray(np.exp(self._parts.log_weights) @ self._parts.means))

    @cached_property
    def covariance(self) -> Array:
        """Cov[x_0], shape ``(d, d)``."""
        # At a = 0 the noisy data say nothing of the clean ones.
        given = self._parts.at(np.array(0.0), np.array(1.0), np.zeros((1, self.d)))
        return read_only(given.x0_covariance()[0])

    def __repr__(self) -> str:
        n, d = self._parts.means.shape
        return f"{type(self).__name__}(d={d}{f', n={n}' if n > 1 else ''})"

    def eps(self, schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike) -> Array:
        r"""The optimal noise prediction, ``t >= 1``.

        .. math:: \varepsilon^*(x_t) = \mathbb E[\varepsilon\mid x_t]
                  = \sum_k r_k\,\sqrt{\bar\beta_t}\,C_k^{-1}(x_t - \sqrt{\bar\alpha_t}\,m_k),
                  \qquad C_k = \bar\alpha_t\Sigma_k + \bar\beta_t I

        with :math:`r_k` the probability of component k given x_t. Limits: ``xt`` itself at zero terminal SNR. Source:
        bao2022, eq. (6); vincent2011.
        """
        return self._ask(Conditioned.eps, schedule, xt, t, lowest=1)

    def score(self, schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike) -> Array:
        r""":math:`\nabla\log q(x_t) = -\varepsilon^*(x_t)/\sqrt{\bar\beta_t}`, also at ``t = 0`` if the data have a density.

        Source: vincent2011.
        """
        return self._ask(Conditioned.score, schedule, xt, t, lowest=self._lowest)

    def x0(self, schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike) -> Array:
        r"""The optimal data prediction :math:`\mathbb E[x_0\mid x_t]`.

        Limits: the mean of the data at zero terminal SNR; ``xt`` at ``t = 0``, if the data have a density. Source:
        efron2011; bao2022, eq. (6).
        """
        return self._ask(Conditioned.x0, schedule, xt, t, lowest=self._lowest)

    def x0_covariance(self, schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike) -> Array:
        r"""What is not known of the data, :math:`\mathrm{Cov}[x_0\mid x_t]`, shape ``(*batch, d, d)``.

        .. math:: \mathrm{Cov}[x_0\mid x_t] = \frac{\bar\beta_t}{\bar\alpha_t}\mathrm{Cov}[\varepsilon\mid x_t]
                  = \frac{\bar\beta_t}{\sqrt{\bar\alpha_t}}\nabla\,\mathbb E[x_0\mid x_t]^\top

        A sum of positive terms. Limits: 0 at ``t = 0``, that of the data at zero terminal SNR. Source: bao2022, theorem
        1.
        """
        return self._ask(Conditioned.x0_covariance, schedule, xt, t, lowest=self._lowest, squares=True)

    def nll(self, x: ArrayLike, schedule: NoiseSchedule | None = None, t: ArrayLike = 0) -> Array:
        r"""Negative log density :math:`-\log q(x_t)` in nats for the whole vector, shape ``batch``; of the data without a schedule.

        Raises `LevelError` where there is no density. Source: kingma2021; of a mixture, by log-sum-exp.
        """
        if schedule is None:
            if np.ndim(np.asarray(t)) or t != 0:
                raise ShapeError(f"t = {t!r} means nothing without a schedule; write nll(x, schedule, t)")
            schedule = _CLEAN
        return self._ask(lambda given: -given.log_density, schedule, x, t, lowest=self._lowest, name="x")

    @abstractmethod
    def mean_square_eps(self, schedule: NoiseSchedule, t: ArrayLike) -> Array:
        r"""Energy of the optimal noise prediction per dimension, :math:`\mathbb E\|\varepsilon^*\|^2/d`, ``t >= 1``.

        In the shape of t. This is Analytic-DPM's :math:`\bar\beta_t\Gamma_t`. Source: bao2022, eq. (8).
        """

    @abstractmethod
    def loss_floor(self, schedule: NoiseSchedule, t: ArrayLike) -> Array:
        r"""The least value of the simple loss per dimension, in the shape of t, ``t >= 1``: no network can do better.

        .. math:: \mathbb E\|\varepsilon - \varepsilon^*\|^2/d = 1 - \mathbb E\|\varepsilon^*\|^2/d
                  = \mathrm{SNR}(t)\,\mathbb E\,\mathrm{tr}\,\mathrm{Cov}[x_0\mid x_t]/d

        from the last form, which does not cancel. Source: ho2020, eq. (14); bao2022, theorem 1.
        """

    def _ask(
        self,
        compute: Callable[[Conditioned], Array],
        schedule: NoiseSchedule,
        xt: ArrayLike,
        t: ArrayLike,
        *,
        lowest: int,
        name: str = "xt",
        squares: bool = False,
    ) -> Array:
        x, t = vectors(xt, name, self.d), level(t, schedule.T, lowest=lowest)
        batch = x.shape[:-1]
        a, b = (_along(table[t], t, batch) for table in (schedule.sqrt_alpha_bar, schedule.sqrt_beta_bar))
        answer = self._parts.in_blocks(compute, a, b, x.reshape(-1, self.d), self.memory, squares)
        return np.asarray(answer.reshape(batch + answer.shape[1:]))


def _along(values: Array, t: IntArray, batch: tuple[int, ...]) -> Array:
    """One coefficient for all, or one per example of the flattened batch."""
    if t.ndim == 0:
        return np.asarray(values)
    if t.shape != batch[: t.ndim]:
        raise ShapeError(f"t has shape {t.shape}, the batch {batch}; give a scalar or the leading axes of the batch")
    return np.broadcast_to(values.reshape(t.shape + (1,) * (len(batch) - t.ndim)), batch).reshape(-1)


# Only its level 0 is ever read.
_CLEAN = NoiseSchedule.from_betas([0.5])
