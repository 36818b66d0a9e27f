r"""Data with labels: every class of a known law, so that the perfect classifier of noisy data is known at every level.

By Bayes' rule :math:`q(y\mid x_t) = w_y\,q(x_t\mid y)/q(x_t)`, and its gradient is a difference of scores. So are the
optimal networks with and without a label, and both kinds of guidance meet on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from ddpm_ref.errors import ShapeError
from ddpm_ref.reference.arguments import expand, level
from ddpm_ref.reference.guidance import classifier_free, one_weight
from ddpm_ref.reference.labels import label_array
from ddpm_ref.reference.oracle.arguments import log_weights, read_only, vectors
from ddpm_ref.reference.oracle.finite import Finite
from ddpm_ref.reference.oracle.gaussian import Gaussian
from ddpm_ref.reference.oracle.mixture import Mixture
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array, ArrayLike, IntArray

Law = Gaussian | Mixture | Finite


class Labelled:
    r"""Classes ``0 .. classes - 1``: :math:`x_0\mid y` of law ``laws[y]``, y with probability ``weights[y]``.

    Args:
        weights: probabilities of the classes, shape ``(classes,)``, positive, summing to one within rounding.
        laws: one `Gaussian`, `Mixture` or `Finite` per class, of equal dimension; points do not mix with densities.

    In all methods ``xt`` is ``(*batch, d)``; levels ``t`` and labels are one for all, or have the shape of leading axes
    of the batch. The null label, ``classes``, stands for no label: the answer is then that of all data together.

    Raises `RangeError` for wrong weights or a label out of range, `ShapeError`, and the errors of the laws.
    Source: Bayes' rule; dhariwal2021, section 4.

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> schedule = linear_schedule(1000)
    >>> pair = Labelled([0.5, 0.5], [Gaussian(-1.0, 0.25), Gaussian(1.0, 0.25)])
    >>> print(np.exp(pair.log_probabilities(schedule, [[0.5]], 300)).round(4))
    [[0.2899 0.7101]]
    >>> print(pair.gradient(schedule, [[0.5]], 300, 1).round(4), pair.gradient(schedule, [[0.5]], 300, 2).round(4))
    [[0.5195]] [[0.]]
    """

    def __init__(self, weights: ArrayLike, laws: Sequence[Law]):
        if not laws or len({law.d for law in laws}) > 1 or len({isinstance(law, Finite) for law in laws}) > 1:
            raise ShapeError(
                f"laws = {list(laws)}; give one law per class, of one dimension, all Finite or all with a density"
            )
        self._log_prior = log_weights(weights, len(laws))
        self.laws: tuple[Law, ...] = tuple(laws)
        self.weights = read_only(np.exp(self._log_prior))

    @property
    def classes(self) -> int:
        """How many classes there are; also the null label."""
        return len(self.laws)

    @property
    def d(self) -> int:
        """Dimensions of the data."""
        return self.laws[0].d

    def __repr__(self) -> str:
        return f"Labelled(classes={self.classes}, d={self.d})"

    @cached_property
    def unconditional(self) -> Law:
        """All data together, whatever their label: what a network without labels, or given the null label, learns."""
        shares = np.concatenate(
            [w * np.exp(law._parts.log_weights) for w, law in zip(self.weights, self.laws, strict=True)]
        )
        memory = max(law.memory for law in self.laws)
        centres = np.concatenate([law._parts.means for law in self.laws])
        if isinstance(self.laws[0], Finite):
            return Finite(centres, shares / shares.sum(), memory)
        matrices = [np.reshape(getattr(law, "covariances", law.covariance), (-1, self.d, self.d)) for law in self.laws]
        return Mixture(shares / shares.sum(), centres, np.concatenate(matrices), memory)

    def law(self, label: int) -> Law:
        """The data of one class; of all for the null label."""
        y = int(label_array(label, self.classes, null=True))
        return self.unconditional if y == self.classes else self.laws[y]

    def eps(self, schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, label: ArrayLike) -> Array:
        r""":math:`\mathbb E[\varepsilon\mid x_t, y]`, ``t >= 1``, the optimal conditional network.

        Source: ho2022, section 3.2; bao2022, eq. (6).
        """
        return self._ask("eps", schedule, xt, t, label)

    def x0(self, schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, label: ArrayLike) -> Array:
        r""":math:`\mathbb E[x_0\mid x_t, y]`. Source: efron2011."""
        return self._ask("x0", schedule, xt, t, label)

    def score(self, schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, label: ArrayLike) -> Array:
        r""":math:`\nabla\log q(x_t\mid y)`. Source: vincent2011."""
        return self._ask("score", schedule, xt, t, label)

    def nll(self, xt: ArrayLike, schedule: NoiseSchedule, t: ArrayLike, label: ArrayLike) -> Array:
        r""":math:`-\log q(x_t\mid y)` in nats for the whole vector, shape ``batch``. Source: kingma2021."""
        return self._ask("nll", schedule, xt, t, label)

    def log_probabilities(self, schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike) -> Array:
        r"""The exact classifier: :math:`\log q(y\mid x_t)` of every class, shape ``(*batch, classes)``.

        .. math:: \log q(y\mid x_t) = (l_y - l_{\max})
                  - \log\left(1 + \sum_{k\ne\max} e^{l_k - l_{\max}}\right), \qquad l_k = \log w_k + \log q(x_t\mid k)

        Limits: keeps its relative accuracy where a class is nearly certain; the log prior at zero terminal SNR.
        Source: dhariwal2021, section 4; Bayes' rule.
        """
        logits = np.stack([-law.nll(xt, schedule, t) for law in self.laws], axis=-1) + self._log_prior
        above = logits - logits.max(axis=-1, keepdims=True, initial=-np.inf)
        shares = np.exp(above)
        shares[np.arange(self.classes) == np.argmax(logits, axis=-1)[..., None]] = 0.0
        return np.asarray(above - np.log1p(shares.sum(axis=-1, keepdims=True)))

    def log_probability(self, schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, label: ArrayLike) -> Array:
        r""":math:`\log q(y\mid x_t)`, shape ``batch``; 0 for the null label. Source: Bayes' rule."""
        known = self.log_probabilities(schedule, xt, t)
        y = self._labels(label, known.shape[:-1])
        certain = np.concatenate([known, np.zeros((*known.shape[:-1], 1))], axis=-1)
        return np.take_along_axis(certain, y[..., None], axis=-1)[..., 0]

    def gradient(self, schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, label: ArrayLike) -> Array:
        r"""The exact classifier's gradient.

        .. math:: \nabla\log q(y\mid x_t) = \nabla\log q(x_t\mid y) - \nabla\log q(x_t)
                  = \sum_{k\ne y} q(k\mid x_t)\left(\nabla\log q(x_t\mid y) - \nabla\log q(x_t\mid k)\right)

        from the last form, which keeps its relative accuracy where the class is nearly certain; 0 for the null label.
        Source: dhariwal2021, section 4.2.
        """
        x = vectors(xt, "xt", self.d)
        y = self._labels(label, x.shape[:-1])
        shares = np.exp(self.log_probabilities(schedule, x, t))
        scores = np.stack([law.score(schedule, x, t) for law in self.laws], axis=-2)
        own = np.take_along_axis(scores, np.minimum(y, self.classes - 1)[..., None, None], axis=-2)
        pull = np.einsum("...k,...ki->...i", shares, own - scores)
        return np.where((y < self.classes)[..., None], pull, 0.0)

    def guided_eps(
        self,
        schedule: NoiseSchedule,
        xt: ArrayLike,
        t: ArrayLike,
        label: ArrayLike,
        *,
        guidance_weight: ArrayLike | None = None,
        guidance_scale: ArrayLike | None = None,
    ) -> Array:
        r"""The guided prediction of the optimal network, ``t >= 1``.

        :math:`(1 + w)\,\varepsilon^*(x_t, y) - w\,\varepsilon^*(x_t)`, which is also that of the exact classifier with
        ``classifier_scale = guidance_scale``. Source: ho2022, eq. (6).
        """
        known, unknown = (self.eps(schedule, xt, t, y) for y in (label, self.classes))
        return classifier_free(known, unknown, guidance_weight=guidance_weight, guidance_scale=guidance_scale)

    def guided_log_density(
        self,
        schedule: NoiseSchedule,
        xt: ArrayLike,
        t: ArrayLike,
        label: ArrayLike,
        *,
        guidance_weight: ArrayLike | None = None,
        guidance_scale: ArrayLike | None = None,
    ) -> Array:
        r"""What guidance aims at, :math:`\log\left(q(x_t\mid y)^{1+w} q(x_t)^{-w}\right)`, shape ``batch``, not normalised.

        Its gradient is the guided score. Limits: with w > 0 and a class that reaches further than all others together
        it has no integral. Source: ho2022, section 3.2.
        """
        w = one_weight(guidance_weight, guidance_scale)
        known, unknown = (-self.nll(xt, schedule, t, y) for y in (label, self.classes))
        w = expand(w, known.shape)
        return np.asarray((1 + w) * known - w * unknown)

    def kernel(
        self, schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, s: ArrayLike, label: ArrayLike
    ) -> tuple[Array, Array]:
        r"""Mean ``(*batch, d)`` and covariance ``(*batch, d, d)`` of :math:`q(x_s\mid x_t, y)`: one true step back in a class.

        .. math:: \tilde\mu\left(x_t, \mathbb E[x_0\mid x_t, y]\right), \qquad
                  \tilde\beta_{t|s}I + (C^0)^2\,\mathrm{Cov}[x_0\mid x_t, y]

        Limits: the kernel is normal for a `Gaussian` class, else these are its first two moments. Source: bao2022,
        theorem 1; ho2020, eq. (7).
        """
        x = vectors(xt, "xt", self.d)
        step = schedule.between(t, s)
        mean, left = (self._ask(name, schedule, x, step.t, label) for name in ("x0", "x0_covariance"))
        from_x0, from_xt = (expand(np.asarray(c), x.shape) for c in (step.x0_weight, step.xt_weight))
        spread = expand(np.asarray(step.beta_tilde), left.shape) * np.eye(self.d)
        return from_x0 * mean + from_xt * x, spread + expand(np.asarray(step.x0_weight), left.shape) ** 2 * left

    def _labels(self, label: ArrayLike, batch: tuple[int, ...]) -> IntArray:
        """One label per example of the batch."""
        y = label_array(label, self.classes, null=True)
        if y.shape != batch[: y.ndim]:
            raise ShapeError(
                f"label has shape {y.shape}, the batch {batch}; give one, or the leading axes of the batch"
            )
        return np.broadcast_to(y.reshape(y.shape + (1,) * (len(batch) - y.ndim)), batch)

    def _ask(self, name: str, schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, label: ArrayLike) -> Array:
        """Every example put to the oracle of its class."""
        x, t = vectors(xt, "xt", self.d), level(t, schedule.T)
        batch = x.shape[:-1]
        y = self._labels(label, batch).reshape(-1)
        if t.shape != batch[: t.ndim]:
            raise ShapeError(
                f"t has shape {t.shape}, the batch {batch}; give a scalar or the leading axes of the batch"
            )
        times = np.broadcast_to(t.reshape(t.shape + (1,) * (len(batch) - t.ndim)), batch).reshape(-1)
        flat = x.reshape(-1, self.d)
        tail = {"nll": (), "x0_covariance": (self.d, self.d)}.get(name, (self.d,))
        answer = np.empty((len(flat), *tail))
        for k in np.unique(y).tolist():
            some, law = y == k, self.law(k)
            asked = (flat[some], schedule, times[some]) if name == "nll" else (schedule, flat[some], times[some])
            answer[some] = getattr(law, name)(*asked)
        return answer.reshape(batch + tail)


__all__ = ["Labelled"]
