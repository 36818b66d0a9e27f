r"""Guidance on normal data: a prior and what it becomes once the label is known, both normal.

The classifier's gradient is then affine in x_t at every level, so is every guided step, and the law of guided samples is
normal and known without sampling. This is where the forms of guidance, and mistakes in them, are told apart in numbers.
With ``data = GuidedGaussian.observed(Gaussian(0.0, 1.0), y=1.0, covariance=0.25)``:

* `guided_moments` takes a scale per step: ``schedule.sqrt_beta_bar[t] / schedule.beta[t]`` is a shift whose coefficient
  was mistaken (E67), ``-1.0`` one of the wrong sign (E69);
* `mean_shift_moments` takes the gradient at either point (E71), with either variance (E72);
* `GuidedGaussian.target` reads one number as a weight or as a scale (E73).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.reference.arguments import level, real
from ddpm_ref.reference.divergence import kl_normal_full
from ddpm_ref.reference.guidance import gradient_point_named, one_weight
from ddpm_ref.reference.oracle.arguments import vectors
from ddpm_ref.reference.oracle.gaussian import Gaussian
from ddpm_ref.reference.oracle.moments import first_law, refuse_unless_affine
from ddpm_ref.reference.plan import Plan
from ddpm_ref.reference.reverse import reverse_variance
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.reference.trajectory import Trajectory
from ddpm_ref.typing import Array, ArrayLike, IntArray

Method = Literal["eps", "mean_shift"]


@dataclass(frozen=True, eq=False)
class GuidedGaussian:
    r"""Data :math:`p(x_0)` and :math:`p(x_0\mid y)`, both normal, of any covariances of one dimension.

    Args:
        unconditional: the law without the label.
        conditional: the law with it.

    Raises `ShapeError` for laws of different dimensions. Source: dhariwal2021, section 4; ho2022, section 3.2.

    >>> seen = GuidedGaussian.observed(Gaussian(0.0, 1.0), y=1.0, covariance=0.25)
    >>> print(seen.conditional.mean, seen.conditional.covariance)
    [0.8] [[0.2]]
    >>> print(seen.target(guidance_weight=1.0).covariance.round(4), seen.target(guidance_scale=1.0).covariance)
    [[0.1111]] [[0.2]]
    """

    unconditional: Gaussian
    conditional: Gaussian

    def __post_init__(self) -> None:
        """Refuse a pair that does not fit together."""
        if self.unconditional.d != self.conditional.d:
            raise ShapeError(
                f"unconditional has {self.unconditional.d} dimensions, conditional {self.conditional.d}; give equal ones"
            )

    @classmethod
    def observed(cls, prior: Gaussian, y: ArrayLike, covariance: ArrayLike) -> GuidedGaussian:
        r"""The label is a measurement, :math:`y = x_0 + n` with :math:`n\sim\mathcal N(0, R)`.

        .. math:: p(x_0\mid y) = \mathcal N\left(m + K(y - m),\ K R\right), \qquad K = \Sigma(\Sigma + R)^{-1}

        Args: ``y`` of shape ``(d,)``, ``covariance`` R of shape ``(d, d)``; two numbers for d = 1.
        Raises `RangeError` for an R that is not a covariance, `ShapeError`. Source: Bayes' rule.
        """
        noise = Gaussian(y, covariance)
        if noise.d != prior.d:
            raise ShapeError(f"y has {noise.d} dimensions, the data {prior.d}; give equal ones")
        gain = np.linalg.solve(prior.covariance + noise.covariance, prior.covariance).T
        left = gain @ noise.covariance
        return cls(prior, Gaussian(prior.mean + gain @ (noise.mean - prior.mean), (left + left.T) / 2))

    @property
    def d(self) -> int:
        """Dimensions of the data."""
        return self.unconditional.d

    def noised(self, schedule: NoiseSchedule, t: int) -> GuidedGaussian:
        """Both laws at a level. Source: ho2020, eq. (4)."""
        return GuidedGaussian(self.unconditional.noised(schedule, t), self.conditional.noised(schedule, t))

    def gradient(self, schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike) -> Array:
        r"""The exact classifier's gradient :math:`\nabla\log q(y\mid x_t)`, ``(*batch, d)``; affine, and ``t = 0`` is allowed.

        .. math:: \sqrt{\bar\alpha_t}\,C_c^{-1}\left[(m_c - m_u)
                  - \sqrt{\bar\alpha_t}\,(\Sigma_u - \Sigma_c)\,C_u^{-1}(x_t - \sqrt{\bar\alpha_t}\,m_u)\right],
                  \qquad C = \bar\alpha_t\Sigma + \bar\beta_t I

        which does not cancel; for a measurement of standard normal data
        :math:`\sqrt{\bar\alpha_t}(y - \sqrt{\bar\alpha_t}x_t)/(\bar\beta_t + \tau^2)`. One level for all. Raises
        `LevelError`, `ShapeError`. Source: dhariwal2021, section 4.2.
        """
        x, t = vectors(xt, "xt", self.d), level(t, schedule.T)
        if t.ndim:
            raise ShapeError(f"t has shape {t.shape}; give one level for all")
        slope, offset = self._pull(schedule, t.reshape(1))
        a = schedule.sqrt_alpha_bar[t]
        return np.asarray(a * (offset[0] + x @ slope[0].T))

    def target(self, *, guidance_weight: ArrayLike | None = None, guidance_scale: ArrayLike | None = None) -> Gaussian:
        r"""The normal law proportional to :math:`p(x\mid y)^{1+w}\,p(x)^{-w}`: what guidance is said to sample.

        .. math:: \Lambda = (1+w)\Sigma_c^{-1} - w\Sigma_u^{-1}, \qquad
                  m = \Lambda^{-1}\left((1+w)\Sigma_c^{-1}m_c - w\Sigma_u^{-1}m_u\right)

        Of `noised` laws it is the law whose score the guided prediction is at that level. Raises `RangeError` if the
        precision is not positive definite, and unless exactly one weight or scale is given. Source: ho2022, section
        3.2.
        """
        w = float(_scales(one_weight(guidance_weight, guidance_scale), 1)[0])
        known, unknown = (np.linalg.inv(law.covariance) for law in (self.conditional, self.unconditional))
        precision = (1 + w) * known - w * unknown
        least = float(np.linalg.eigvalsh((precision + precision.T) / 2)[0])
        if least <= 0:
            raise RangeError(
                f"the precision of p(x|y)^{1 + w:g} p(x)^{-w:g} has the eigenvalue {least:.4g}; it has no integral: the "
                "conditional law is the wider one somewhere, take a smaller weight"
            )
        covariance = np.linalg.inv(precision)
        pulled = (1 + w) * known @ self.conditional.mean - w * unknown @ self.unconditional.mean
        return Gaussian(covariance @ pulled, (covariance + covariance.T) / 2)

    def _pull(self, schedule: NoiseSchedule, t: IntArray) -> tuple[Array, Array]:
        """The gradient over sqrt(alpha_bar) as slope ``(n, d, d)`` and offset ``(n, d)``, at levels ``(n,)``."""
        a = schedule.sqrt_alpha_bar[t][:, None]
        known, unknown = (_covariances(schedule, t, law) for law in (self.conditional, self.unconditional))
        narrower = self.unconditional.covariance - self.conditional.covariance
        slope = -a[:, None] * np.linalg.solve(known, narrower @ np.linalg.inv(unknown))
        apart = np.broadcast_to(self.conditional.mean - self.unconditional.mean, (len(t), self.d))
        return slope, np.linalg.solve(known, apart[..., None])[..., 0] - a * (slope @ self.unconditional.mean)


@dataclass(frozen=True, eq=False)
class GuidedMoments:
    """Mean and covariance of the states of a guided sampler, from the first level of its plan to the last."""

    mean: Array
    """Shape ``(K + 1, d)``."""
    covariance: Array
    """Shape ``(K + 1, d, d)``."""

    @property
    def std(self) -> Array:
        """Standard deviations of the coordinates, shape ``(K + 1, d)``."""
        return np.asarray(np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2)))

    def kl(self, target: Gaussian) -> float:
        """Divergence of the last state from a law, ``D(samples || target)``, in nats; infinite for samples without spread."""
        if np.linalg.eigvalsh(self.covariance[-1])[0] <= 0:
            return float("inf")
        return float(kl_normal_full(self.mean[-1], self.covariance[-1], target.mean, target.covariance))


def guided_moments(
    plan: Plan,
    data: GuidedGaussian,
    *,
    guidance_weight: ArrayLike | None = None,
    guidance_scale: ArrayLike | None = None,
    start: str = "normal",
) -> GuidedMoments:
    r"""Mean and covariance of every state of a sampler that is guided in its prediction.

    .. math:: \bar\varepsilon = \varepsilon^*(x_t) - \gamma\sqrt{\bar\beta_t}\,\nabla\log q(y\mid x_t)
              = (1+w)\,\varepsilon^*(x_t, y) - w\,\varepsilon^*(x_t), \qquad \gamma = 1 + w

    so that a classifier with ``classifier_scale`` :math:`\gamma` and classifier-free guidance are one. Args:

    * plan: any affine plan.
    * data: both laws, and the networks and the classifier that are exact for them.
    * guidance_weight, guidance_scale: exactly one; a number, or one for each step of the plan.
    * start: law of the first state: ``"normal"``, or ``"marginal"``, the *conditional* law :math:`q(x_t\mid y)`.

    Raises `RangeError` for a plan with a stage, an unknown start or not exactly one weight; `ShapeError`. Limits: exact
    but for rounding. Source: dhariwal2021, eq. (14); ho2022, eq. (6).

    A scale of one gives the conditional law; the target of a larger one is *not* what the sampler ends with:

    >>> from ddpm_ref.reference import plan
    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> schedule = linear_schedule(1000)
    >>> data = GuidedGaussian.observed(Gaussian(0.0, 1.0), y=1.0, covariance=0.25)
    >>> every = plan.ancestral(schedule, schedule.trajectory(1000), "beta")
    >>> for scale in (1.0, 2.0):
    ...     end, target = guided_moments(every, data, guidance_scale=scale), data.target(guidance_scale=scale)
    ...     print(f"{end.mean[-1, 0]:.5f} {end.std[-1, 0]:.5f}, target {target.mean[0]:.5f} {target.covariance[0, 0] ** 0.5:.5f}")
    0.79999 0.44802, target 0.80000 0.44721
    0.96024 0.28816, target 0.88889 0.33333
    """
    refuse_unless_affine(plan)
    scales = _scales(1 + one_weight(guidance_weight, guidance_scale), len(plan))
    gain, offset = _unguided(plan, data.unconditional)
    slope, constant = data._pull(plan.schedule, np.array(plan.asked))
    asked = list(plan.asked)
    # The gradient is sqrt(alpha_bar) times the pull, and x0 moves by beta_bar / sqrt(alpha_bar) times the gradient.
    noise, signal = plan.schedule.sqrt_beta_bar[asked], plan.schedule.sqrt_alpha_bar[asked]
    weight = scales * plan.prediction * (noise**2 if plan.form == "x0" else -noise * signal)
    gain = gain + weight[:, None, None] * slope
    return _walked(plan, data, gain, offset + weight[:, None] * constant, start)


def mean_shift_moments(
    plan: Plan,
    data: GuidedGaussian,
    classifier_scale: ArrayLike,
    *,
    gradient_point: str = "mean",
    variance: str | None = None,
    start: str = "normal",
) -> GuidedMoments:
    r"""Mean and covariance of every state of a sampler whose mean a classifier moves.

    .. math:: x_s = \mu(x_t) + \omega\,\Sigma\,g + c z, \qquad g = \nabla\log q(y\mid x_s)\big|_{x_s=\mu}\quad\text{or}\quad
              \nabla\log q(y\mid x_t)

    Args:
        plan: any affine plan that leads down.
        data: both laws, and the network and the classifier that are exact for them.
        classifier_scale: :math:`\omega`, a number or one for each step.
        gradient_point: ``"mean"`` (level s at the mean, as derived) or ``"xt"`` (level t at x_t, as in code).
        variance: :math:`\Sigma` by name, ``"posterior"`` or ``"beta"``, in every step including the last; None: the
            variance of the noise that the plan adds, so that a step without noise is not moved.
        start: as for `guided_moments`.

    Raises as `guided_moments`. Source: dhariwal2021, algorithm 1.

    >>> from ddpm_ref.reference import plan
    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> schedule = linear_schedule(1000)
    >>> data = GuidedGaussian.observed(Gaussian(0.0, 1.0), y=1.0, covariance=0.25)
    >>> few = plan.ancestral(schedule, schedule.trajectory(10, "trailing"), "beta")
    >>> for point in ("xt", "mean"):
    ...     print(f"{mean_shift_moments(few, data, 1.0, gradient_point=point, variance='beta').mean[-1, 0]:.5f}")
    0.71743
    0.93234
    """
    refuse_unless_affine(plan)
    point, walk = gradient_point_named(gradient_point), plan.trajectory
    if not isinstance(walk, Trajectory):
        raise RangeError("the plan is an inversion; a mean shift belongs to a step of sampling")
    t, s = np.array(walk.levels[:-1]), np.array(walk.levels[1:])
    sigma = plan.noise**2 if variance is None else np.asarray(reverse_variance(plan.schedule, t, s, variance))
    weight = _scales(real(classifier_scale, "classifier_scale"), len(plan)) * sigma
    gain, offset = _unguided(plan, data.unconditional)
    at = t if point == "xt" else s
    weight = weight * plan.schedule.sqrt_alpha_bar[at]
    slope, constant = data._pull(plan.schedule, at)
    moved = weight[:, None, None] * slope
    if point == "xt":
        gain, offset = gain + moved, offset + weight[:, None] * constant
    else:
        offset = offset + (moved @ offset[..., None])[..., 0] + weight[:, None] * constant
        gain = gain + moved @ gain
    return _walked(plan, data, gain, offset, start)


def _covariances(schedule: NoiseSchedule, t: IntArray, law: Gaussian) -> Array:
    """Covariances of x_t at levels ``(n,)``, shape ``(n, d, d)``."""
    a, b = (table[t][:, None, None] for table in (schedule.alpha_bar, schedule.beta_bar))
    return np.asarray(a * law.covariance + b * np.eye(law.d))


def _unguided(plan: Plan, data: Gaussian) -> tuple[Array, Array]:
    """Every step without guidance as an affine map of the state: gains ``(K, d, d)``, offsets ``(K, d)``."""
    asked = np.array(plan.asked)
    a, b = (table[asked][:, None, None] for table in (plan.schedule.sqrt_alpha_bar, plan.schedule.sqrt_beta_bar))
    precision = np.linalg.inv(_covariances(plan.schedule, asked, data))
    slope = b * precision if plan.form == "eps" else a * (data.covariance @ precision)
    fixed = (float(plan.form == "x0") * np.eye(data.d) - a * slope) @ data.mean
    x, prediction = plan.x[:, None, None], plan.prediction[:, None]
    return x * np.eye(data.d) + prediction[..., None] * slope, prediction * fixed


def _walked(plan: Plan, data: GuidedGaussian, gain: Array, offset: Array, start: str) -> GuidedMoments:
    """The moments along a chain of affine maps."""
    d, first = data.d, plan.trajectory.levels[0]
    mean, covariance = np.zeros((len(plan) + 1, d)), np.empty((len(plan) + 1, d, d))
    covariance[0] = np.eye(d)
    if first_law(start, plan) == "marginal":
        mean[0] = plan.schedule.sqrt_alpha_bar[first] * data.conditional.mean
        covariance[0] = _covariances(plan.schedule, np.array([first]), data.conditional)[0]
    for k in range(len(plan)):
        mean[k + 1] = gain[k] @ mean[k] + offset[k]
        moved = gain[k] @ covariance[k] @ gain[k].T
        covariance[k + 1] = (moved + moved.T) / 2 + plan.noise[k] ** 2 * np.eye(d)
    return GuidedMoments(mean, covariance)


def _scales(value: Array, steps: int) -> Array:
    """One scale per step."""
    if value.shape not in ((), (steps,)):
        raise ShapeError(f"the weight or scale has shape {value.shape}; give one number, or one per step, ({steps},)")
    return np.broadcast_to(value, (steps,))
