r"""Guidance: samples of a class, from a classifier's gradient or from two predictions of one network.

Bayes' rule :math:`\nabla\log q(x_t\mid y) = \nabla\log q(x_t) + \nabla\log q(y\mid x_t)` is the whole idea; a scale
above one sharpens. Two methods, with two scales: a classifier moves the *unconditional* prediction
(``classifier_scale`` :math:`\omega`, 1 is conditional), classifier-free guidance extrapolates the *conditional* one
(``guidance_weight`` w, 0 is conditional). With the implicit classifier :math:`\omega = 1 + w`, which is what others
call ``guidance_scale``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import numpy as np

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.reference.ancestral import ancestral_step
from ddpm_ref.reference.arguments import expand, level, positive, real, rectangular, same_shape
from ddpm_ref.reference.ddim import ddim_step_from_eps
from ddpm_ref.reference.labels import drop_condition, label_array, log_softmax_gradient
from ddpm_ref.reference.posterior import posterior_mean_from_eps
from ddpm_ref.reference.reverse import VARIANCES, reverse_variance
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array, ArrayLike, Real

__all__ = [
    "GRADIENT_POINTS",
    "Gradient",
    "GradientPoint",
    "classifier_free",
    "classifier_guided_eps",
    "classifier_guided_score",
    "classifier_mean_shift",
    "drop_condition",
    "gradient_point_named",
    "guided_ancestral_step",
    "guided_ddim_step",
    "guided_normal",
    "implicit_classifier_gradient",
    "label_array",
    "log_softmax_gradient",
    "mean_shift_step",
    "one_weight",
    "rescale",
    "scale_from_weight",
    "weight_from_scale",
]

GradientPoint = Literal["xt", "mean"]
GRADIENT_POINTS: tuple[str, ...] = get_args(GradientPoint)
Gradient: TypeAlias = Callable[[Array, ArrayLike], ArrayLike]
"""A classifier's gradient of log q(y | x) at noisy data x of a level."""


def weight_from_scale(guidance_scale: ArrayLike) -> Array:
    r"""``guidance_weight`` :math:`w = \gamma - 1` of a ``guidance_scale``.

    Law: ``guidance/weight_from_scale``. Source: ho2022, eq. (6); the scale is that of dhariwal2021.
    """
    return np.asarray(real(guidance_scale, "guidance_scale") - 1)


def scale_from_weight(guidance_weight: ArrayLike) -> Array:
    r"""``guidance_scale`` :math:`\gamma = 1 + w` of a ``guidance_weight``, and the ``classifier_scale`` that amounts to the same.

    Law: ``guidance/scale_from_weight``. Source: ho2022, eq. (6).
    """
    return np.asarray(1 + real(guidance_weight, "guidance_weight"))


def one_weight(guidance_weight: ArrayLike | None, guidance_scale: ArrayLike | None) -> Array:
    """The ``guidance_weight`` of whoever gave exactly one of the two; `RangeError` otherwise."""
    if guidance_scale is None and guidance_weight is not None:
        return real(guidance_weight, "guidance_weight")
    if guidance_weight is None and guidance_scale is not None:
        return weight_from_scale(guidance_scale)
    given = "neither" if guidance_weight is None else "both"
    raise RangeError(
        f"{given} of guidance_weight and guidance_scale were given; give one: guidance_weight=w, where 0 is the plain "
        "conditional prediction, or guidance_scale=1 + w, where 1 is"
    )


def classifier_free(
    eps_conditional: ArrayLike,
    eps_unconditional: ArrayLike,
    *,
    guidance_weight: ArrayLike | None = None,
    guidance_scale: ArrayLike | None = None,
) -> Array:
    r"""Classifier-free guidance: the conditional prediction, extrapolated away from the unconditional one.

    .. math:: \bar\varepsilon = (1 + w)\,\hat\varepsilon(x_t, y) - w\,\hat\varepsilon(x_t), \qquad \gamma = 1 + w

    Args:
        eps_conditional, eps_unconditional: predictions of one shape ``(*batch, *event)``, of one kind. The weights sum
            to one, so that combining eps, x0, v or scores is the same.
        guidance_weight: w, a number or one per example: -1 is unconditional, 0 conditional, above 0 sharpened.
        guidance_scale: instead of it :math:`\gamma`: 0 is unconditional, 1 conditional.

    Raises `RangeError` unless exactly one of the two is given, `ShapeError`. Limits: optimal predictions give the score
    of :math:`q(x_t\mid y)^{1+w} q(x_t)^{-w}`, level by level: in general these laws are the forward process of no data,
    and what a sampler ends with is not the one of level 0 (see `ddpm_ref.reference.oracle.guided_moments`). Laws:
    ``guidance/classifier_free``, ``guidance/classifier_free_scale``. Source: ho2022, eq. (6).

    >>> classifier_free([1.0], [0.5], guidance_weight=2.0), classifier_free([1.0], [0.5], guidance_scale=2.0)
    (array([2.]), array([1.5]))
    """
    c, u = real(eps_conditional, "eps_conditional"), real(eps_unconditional, "eps_unconditional")
    shape = same_shape(eps_conditional=c, eps_unconditional=u)
    w = expand(one_weight(guidance_weight, guidance_scale), shape)
    return np.asarray((1 + w) * c - w * u)


def rescale(guided: ArrayLike, conditional: ArrayLike, factor: Real = 0.7) -> Array:
    r"""A guided prediction brought back to the spread of the conditional one, example by example.

    .. math:: \varphi\,\frac{\mathrm{std}(\hat y_c)}{\mathrm{std}(\bar y)}\,\bar y + (1-\varphi)\,\bar y

    Args:
        guided, conditional: predictions of one kind, ``(batch, *event)``; the deviation is over the axes after the
            first. Not affine: eps, x0 and v give different results; the paper rescales what the network says.
        factor: :math:`\varphi` in [0, 1]: 0 leaves all as it is; 0.7 is the paper's choice.

    Raises `RangeError` for a factor outside [0, 1] or a constant guided example, which has no spread to rescale;
    `ShapeError`. Law: ``guidance/rescale``. Source: lin2024, section 3.4.

    >>> rescale([[2.0, -2.0]], [[1.0, -1.0]], factor=0.5)
    array([[ 1.5, -1.5]])
    """
    y, c = real(guided, "guided"), real(conditional, "conditional")
    if y.shape != c.shape or y.ndim < 2:
        raise ShapeError(f"guided has shape {y.shape}, conditional {c.shape}; give one shape (batch, *event)")
    if isinstance(factor, bool) or not 0 <= factor <= 1:
        raise RangeError(f"factor = {factor!r}; it lies in [0, 1]: 0 leaves guidance as it is, 0.7 is usual")
    if not y.size:
        return y
    spread, wanted = (np.std(a.reshape(len(a), -1), axis=1) for a in (y, c))
    if (spread == 0).any():
        raise RangeError(
            f"guided example {int(np.flatnonzero(spread == 0)[0])} is constant and cannot be rescaled; leave it out"
        )
    return np.asarray(expand(factor * (wanted / spread) + (1 - factor), y.shape) * y)


def classifier_guided_score(score: ArrayLike, gradient: ArrayLike, classifier_scale: ArrayLike = 1.0) -> Array:
    r""":math:`\nabla\log q(x_t) + \omega\,\nabla\log f(y\mid x_t)`: at :math:`\omega = 1` the score of :math:`q(x_t\mid y)`.

    Args: ``score`` and ``gradient`` of one shape; ``classifier_scale`` a number or one per example.
    Limits: above 1 the score of :math:`q(x_t) f(y\mid x_t)^\omega`. Law: ``guidance/score``. Source: dhariwal2021,
    section 4.2.
    """
    score, gradient = real(score, "score"), real(gradient, "gradient")
    shape = same_shape(score=score, gradient=gradient)
    return np.asarray(score + expand(real(classifier_scale, "classifier_scale"), shape) * gradient)


def classifier_guided_eps(
    schedule: NoiseSchedule, eps: ArrayLike, t: ArrayLike, gradient: ArrayLike, classifier_scale: ArrayLike = 1.0
) -> Array:
    r"""Noise prediction guided by a classifier, ``t >= 1``; the sign is *minus*, noise points away from the class.

    .. math:: \bar\varepsilon = \hat\varepsilon - \omega\sqrt{\bar\beta_t}\,\nabla_{x_t}\log f(y\mid x_t)

    Args:
        eps, gradient: prediction and gradient of one shape ``(*batch, *event)``.
        t: level, a scalar or shaped like the leading axes.
        classifier_scale: :math:`\omega`, a number or one per example; 0 is unconditional, 1 conditional.

    Raises `LevelError`, `ShapeError`. Limits: the implied x0 moves by
    :math:`+\omega\bar\beta_t/\sqrt{\bar\alpha_t}\,\nabla\log f`. Law: ``guidance/eps``. Source: dhariwal2021, eq. (14)
    and algorithm 2.
    """
    t, eps, gradient = level(t, schedule.T, lowest=1), real(eps, "eps"), real(gradient, "gradient")
    shape = same_shape(eps=eps, gradient=gradient)
    scale = expand(real(classifier_scale, "classifier_scale"), shape)
    return np.asarray(eps - scale * (expand(schedule.sqrt_beta_bar[t], shape) * gradient))


def implicit_classifier_gradient(
    schedule: NoiseSchedule, eps_conditional: ArrayLike, eps_unconditional: ArrayLike, t: ArrayLike
) -> Array:
    r"""The gradient of the classifier that two predictions imply, ``t >= 1``.

    .. math:: \nabla\log q(y\mid x_t) = -\frac{\hat\varepsilon(x_t, y) - \hat\varepsilon(x_t)}{\sqrt{\bar\beta_t}}

    Raises `LevelError`, `ShapeError`. Limits: exact for optimal predictions, 0 where y says nothing.
    Law: ``guidance/implicit_classifier``. Source: ho2022, section 3.2.
    """
    t = level(t, schedule.T, lowest=1)
    c, u = real(eps_conditional, "eps_conditional"), real(eps_unconditional, "eps_unconditional")
    noise = expand(schedule.sqrt_beta_bar[t], same_shape(eps_conditional=c, eps_unconditional=u))
    return np.asarray((u - c) / noise)


def classifier_mean_shift(
    mean: ArrayLike, variance: ArrayLike, gradient: ArrayLike, classifier_scale: ArrayLike = 1.0
) -> Array:
    r"""The mean of a reverse step moved by a classifier, :math:`\mu + \omega\Sigma\nabla\log f(y\mid\cdot)`.

    Args:
        mean, gradient: of one shape ``(*batch, *event)``. Where the gradient is taken is the caller's choice: see
            `mean_shift_step`.
        variance: :math:`\Sigma >= 0`, a *variance*; broadcasts against the mean.
        classifier_scale: :math:`\omega`, a number or one per example.

    Raises `RangeError` for a negative variance, `ShapeError`. Limits: first order in :math:`\Sigma`; void where
    :math:`\Sigma = 0`, so that a deterministic sampler needs `classifier_guided_eps`. Law: ``guidance/mean_shift``.
    Source: dhariwal2021, eq. (10) and algorithm 1.

    >>> classifier_mean_shift([1.0], 0.25, [2.0], classifier_scale=3.0)
    array([2.5])
    """
    mean, gradient = real(mean, "mean"), real(gradient, "gradient")
    variance = positive(variance, "variance", zero=True)
    shape = same_shape(mean=mean, variance=variance, gradient=gradient)
    return np.asarray(mean + expand(real(classifier_scale, "classifier_scale"), shape) * variance * gradient)


def guided_ancestral_step(
    schedule: NoiseSchedule,
    xt: ArrayLike,
    t: ArrayLike,
    s: ArrayLike,
    eps: ArrayLike,
    gradient: ArrayLike,
    noise: ArrayLike,
    classifier_scale: ArrayLike = 1.0,
    variance: str = "posterior",
) -> Array:
    r"""A step of ancestral sampling with guided noise: the score form.

    .. math:: x_s = \frac{1}{\sqrt{\alpha_{t|s}}}\left(x_t - \frac{\beta_{t|s}}{\sqrt{\bar\beta_t}}\hat\varepsilon
              + \beta_{t|s}\,\omega\,\nabla\log f(y\mid x_t)\right) + \sigma z

    Args:
        gradient: at ``xt``, the shape of the data.
        classifier_scale: :math:`\omega`, a number or one per example.
        The others are those of `ddpm_ref.reference.ancestral.ancestral_step`, as are the errors.

    Limits: with an exact classifier and :math:`\omega = 1` the mean is :math:`\mathbb E[x_s\mid x_t, y]`, at any stride.
    Law: ``guidance/ancestral_step``. Source: dhariwal2021, eq. (14); ho2020, algorithm 2.
    """
    guided = classifier_guided_eps(schedule, eps, _steps(t, s), gradient, classifier_scale)
    return ancestral_step(schedule, xt, t, s, guided, noise, variance)


def guided_ddim_step(
    schedule: NoiseSchedule,
    xt: ArrayLike,
    t: ArrayLike,
    s: ArrayLike,
    eps: ArrayLike,
    gradient: ArrayLike,
    noise: ArrayLike | None = None,
    classifier_scale: ArrayLike = 1.0,
    eta: Real = 0.0,
) -> Array:
    r"""A DDIM step with guided noise, which also takes the place of the noise in the implied x0.

    .. math:: x_s = \sqrt{\bar\alpha_s}\,\frac{x_t - \sqrt{\bar\beta_t}\,\bar\varepsilon}{\sqrt{\bar\alpha_t}}
              + \sqrt{\bar\beta_s - \sigma^2}\,\bar\varepsilon + \sigma z

    Args and errors: `guided_ancestral_step` and `ddpm_ref.reference.ddim.ddim_step_from_eps`. Law:
    ``guidance/ddim_step``. Source: dhariwal2021, algorithm 2.
    """
    guided = classifier_guided_eps(schedule, eps, _steps(t, s), gradient, classifier_scale)
    return ddim_step_from_eps(schedule, xt, t, s, guided, noise, eta)


def mean_shift_step(
    schedule: NoiseSchedule,
    xt: ArrayLike,
    t: ArrayLike,
    s: ArrayLike,
    eps: ArrayLike,
    gradient: Gradient,
    noise: ArrayLike,
    classifier_scale: ArrayLike = 1.0,
    variance: str = "posterior",
    gradient_point: str = "mean",
) -> Array:
    r"""A step of ancestral sampling whose mean a classifier moves: ADM's form.

    .. math:: x_s = \mu_\theta + \omega\,\sigma^2\,g + \sigma z, \qquad g = \nabla\log f_s(y\mid x)\big|_{x=\mu_\theta}
              \quad\text{or}\quad g = \nabla\log f_t(y\mid x)\big|_{x=x_t}

    Args:
        gradient: called as ``gradient(x, level)``, returns the shape of the data.
        variance: :math:`\sigma^2`: ``"posterior"`` or ``"beta"``. In the step to level 0 no noise is added, and the mean
            is moved all the same.
        gradient_point: ``"mean"`` is what the derivation says: the classifier of level s at :math:`\mu_\theta`;
            ``"xt"`` what the authors' code does: that of level t at :math:`x_t`.
        The others are those of `ddpm_ref.reference.ancestral.ancestral_step`, as are the errors.

    Limits: first order in the variance, on either side of the exact mean; see `guided_ancestral_step` for the form that
    is exact. Law: ``guidance/mean_shift_step``. Source: dhariwal2021, section 4.1 and algorithm 1.
    """
    point = gradient_point_named(gradient_point)
    mean = posterior_mean_from_eps(schedule, xt, t, s, eps)
    at, of = (real(xt, "xt"), t) if point == "xt" else (mean, s)
    slope = real(gradient(at, of), "gradient")
    if slope.shape != mean.shape:
        raise ShapeError(f"the gradient has shape {slope.shape}, the data {mean.shape}; return the shape of x")
    spread = expand(np.asarray(reverse_variance(schedule, t, s, variance)), mean.shape)
    moved = classifier_mean_shift(mean, spread, slope, classifier_scale)
    step, z = schedule.between(t, s), real(noise, "noise")
    same_shape(xt=mean, noise=z)
    std = step.std_tilde if VARIANCES[variance] == "beta_tilde" else np.where(step.s == 0, 0.0, step.sqrt_beta)
    return np.asarray(moved + expand(np.asarray(std), mean.shape) * z)


def gradient_point_named(point: str) -> GradientPoint:
    """``"xt"`` or ``"mean"``, or a `RangeError`."""
    if point == "xt" or point == "mean":
        return point  # type: ignore[return-value]  # mypy does not narrow by comparison
    raise RangeError(
        f"gradient_point = {point!r} is not known; write 'mean' (level s, as derived) or 'xt' (level t, as in code)"
    )


def guided_normal(
    mean_conditional: ArrayLike,
    variance_conditional: ArrayLike,
    mean_unconditional: ArrayLike,
    variance_unconditional: ArrayLike,
    *,
    guidance_weight: ArrayLike | None = None,
    guidance_scale: ArrayLike | None = None,
) -> tuple[Array, Array]:
    r"""Mean and variance of the normal law proportional to :math:`p(x\mid y)^{1+w}\,p(x)^{-w}`, element by element.

    .. math:: \frac1v = \frac{1+w}{v_c} - \frac{w}{v_u}, \qquad
              m = v\left(\frac{(1+w)\,m_c}{v_c} - \frac{w\,m_u}{v_u}\right)

    Args: means, positive variances and weights that broadcast; one of ``guidance_weight`` and ``guidance_scale``.
    Raises `RangeError` where the precision :math:`1/v` is not positive: there is no such law. Law:
    ``guidance/normal_target``. Source: ho2022, section 3.2.

    >>> [float(np.sqrt(guided_normal(0.8, 0.2, 0.0, 1.0, **one)[1]).round(4)) for one in
    ...  ({"guidance_scale": 1.0}, {"guidance_weight": 1.0})]
    [0.4472, 0.3333]
    """
    mc, mu = real(mean_conditional, "mean_conditional"), real(mean_unconditional, "mean_unconditional")
    vc = positive(variance_conditional, "variance_conditional")
    vu = positive(variance_unconditional, "variance_unconditional")
    w = one_weight(guidance_weight, guidance_scale)
    same_shape(mean_conditional=mc, variance_conditional=vc, mean_unconditional=mu, variance_unconditional=vu, weight=w)
    kept, taken = (1 + w) / vc, w / vu
    precision = kept - taken
    if (precision <= 0).any():
        raise RangeError(
            f"the precision (1 + w)/v_c - w/v_u is {float(np.min(precision)):.4g}; p(x|y)^(1+w) p(x)^-w has no integral: "
            "the conditional law is wider than the other, take a smaller weight"
        )
    return np.asarray((kept * mc - taken * mu) / precision), np.asarray(1 / precision)


def _steps(t: ArrayLike, s: ArrayLike) -> ArrayLike:
    """The levels t of some steps, of the shape that t or s has."""
    t, s = rectangular(t, "t"), rectangular(s, "s")
    return t if t.ndim else np.broadcast_to(t, s.shape)
