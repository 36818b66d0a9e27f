r"""Guidance on tensors: towards a class by a classifier's gradient, or by the difference of two predictions.

``classifier_scale`` multiplies a classifier's gradient, beside the unconditional prediction: 0 leaves it, 1 makes it
conditional. ``guidance_weight`` extrapolates the conditional one: 0 leaves it. ``guidance_scale = 1 + guidance_weight``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.torch.ancestral import ancestral_step
from ddpm_ref.torch.arguments import (
    LevelLike,
    Number,
    at,
    broadcast_shapes,
    compute_dtype,
    finite,
    first_tensor,
    level,
    non_negative,
    one_of,
    operands,
    pair,
    parameters,
    positive,
    readable,
    same_kind,
)
from ddpm_ref.torch.ddim import ddim_step_from_eps
from ddpm_ref.torch.labels import checked_labels, classifier_gradient, drop_condition, log_softmax_gradient
from ddpm_ref.torch.lincomb import lincomb
from ddpm_ref.torch.posterior import posterior_mean_from_eps
from ddpm_ref.torch.reverse import KINDS
from ddpm_ref.torch.tables import Tables, between

__all__ = [
    "GRADIENT_POINTS",
    "Gradient",
    "checked_labels",
    "classifier_free",
    "classifier_gradient",
    "classifier_guided_eps",
    "classifier_guided_score",
    "classifier_mean_shift",
    "drop_condition",
    "guided_ancestral_step",
    "guided_ddim_step",
    "guided_normal",
    "implicit_classifier_gradient",
    "log_softmax_gradient",
    "mean_shift_step",
    "one_weight",
    "rescale",
    "scale_from_weight",
    "weight_from_scale",
]

GRADIENT_POINTS = ("mean", "xt")
Gradient: TypeAlias = Callable[[Tensor, LevelLike], Tensor]


def weight_from_scale(guidance_scale: Number) -> Number:
    """``guidance_weight = guidance_scale - 1``. Source: ho2022, eq. (6).

    >>> weight_from_scale(7.5)
    6.5
    """
    return guidance_scale - 1


def scale_from_weight(guidance_weight: Number) -> Number:
    """``guidance_scale = 1 + guidance_weight``, which is also the ``classifier_scale`` of the implicit classifier.

    Source: ho2022, eq. (6).
    """
    return 1 + guidance_weight


def one_weight(guidance_weight: Number | None, guidance_scale: Number | None) -> Number:
    """The ``guidance_weight``, from whichever of the two was given; `RangeError` unless exactly one was, and finite."""
    if (guidance_weight is None) == (guidance_scale is None):
        raise RangeError(
            f"guidance_weight = {guidance_weight!r} and guidance_scale = {guidance_scale!r}: write exactly one of them, "
            "guidance_weight=w (0 is the plain conditional model) or guidance_scale=1 + w"
        )
    weight = guidance_weight if guidance_scale is None else weight_from_scale(guidance_scale)
    assert weight is not None  # one of the two is there
    if not isinstance(weight, Tensor) and (isinstance(weight, bool) or weight != weight or weight in (INF, -INF)):
        raise RangeError(f"the guidance weight is {weight!r}: write a finite number")
    return weight


INF = float("inf")


def classifier_free(
    eps_conditional: Tensor,
    eps_unconditional: Tensor,
    *,
    guidance_weight: Number | None = None,
    guidance_scale: Number | None = None,
) -> Tensor:
    r"""Classifier-free guidance.

    .. math:: \bar\varepsilon = (1+w)\,\hat\varepsilon(x_t, y) - w\,\hat\varepsilon(x_t)

    Args:
        eps_conditional, eps_unconditional: predictions of one kind, ``(*batch, *event)``.
        guidance_weight: w; a number, or a tensor in the shape of leading axes.
        guidance_scale: instead of it, 1 + w.

    Returns:
        The guided prediction, of the same kind, shape and dtype.

    Raises:
        RangeError: not exactly one of weight and scale, or one that is not finite.
        ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: w = -1 is unconditional, 0 conditional; k = 3 roundings. Source: ho2022, eq. (6).

    >>> classifier_free(torch.ones(1, 2), torch.zeros(1, 2), guidance_scale=3.0)
    tensor([[3., 3.]])
    """
    c, u = operands(None, eps_conditional=eps_conditional, eps_unconditional=eps_unconditional)
    (w,) = parameters(c, guidance_weight=one_weight(guidance_weight, guidance_scale))
    return lincomb([1 + w, -w], [c, u])


def rescale(guided: Tensor, conditional: Tensor, factor: float | int = 0.7) -> Tensor:
    r"""The spread of each guided example brought towards that of the conditional one.

    .. math:: \varphi\,\frac{\mathrm{std}(\hat y_c)}{\mathrm{std}(\bar y)}\,\bar y + (1-\varphi)\,\bar y

    Args:
        guided, conditional: predictions of one kind, ``(batch, *event)``; deviations over all axes but the first.
        factor: in [0, 1]; 0 changes nothing.

    Returns:
        Shape and dtype of ``guided``; halves are computed in float32.

    Raises:
        RangeError: a factor outside [0, 1], or a guided example without any spread.
        ShapeError: different shapes, or no axes besides the batch.
        PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: not affine, so it depends on what is predicted. Source: lin2024, section 3.4.
    """
    same_kind(None, guided=guided, conditional=conditional)
    finite(guided=guided, conditional=conditional)
    if guided.shape != conditional.shape or guided.ndim < 2:
        raise ShapeError(
            f"guided is {tuple(guided.shape)}, conditional {tuple(conditional.shape)}: write one shape (batch, *event)"
        )
    if isinstance(factor, bool) or not 0 <= factor <= 1:
        raise RangeError(f"factor = {factor!r} lies outside [0, 1]: 0 changes nothing, 0.7 is the paper's choice")
    if not guided.numel():
        return guided.clone()
    compute = compute_dtype(guided.dtype)
    spread, wanted = (y.to(compute).flatten(1).std(dim=1, correction=0) for y in (guided, conditional))
    if readable(spread) and bool((spread == 0).any()):
        raise RangeError(f"guided example {int((spread == 0).nonzero()[0])} is constant: it has no spread to rescale")
    share = torch.full((), factor, dtype=compute, device=guided.device)
    return lincomb([share * (wanted / spread) + (1 - share)], [guided])


def classifier_guided_score(score: Tensor, gradient: Tensor, classifier_scale: Number = 1.0) -> Tensor:
    r"""The score with a classifier's gradient, :math:`s + \omega\nabla\log f`.

    Args:
        score, gradient: ``(*batch, *event)``.
        classifier_scale: a number, or a tensor in the shape of leading axes; 1 gives the score of q(x_t | y).

    Returns:
        Shape and dtype of ``score``.

    Raises:
        ShapeError, PrecisionError, RangeError: see `ddpm_ref.torch.arguments`.

    Limits: k = 2 roundings. Source: dhariwal2021, section 4.2.
    """
    score, gradient = operands(None, score=score, gradient=gradient)
    (scale,) = parameters(score, classifier_scale=classifier_scale)
    return lincomb([torch.ones_like(scale), scale], [score, gradient])


def classifier_guided_eps(
    tables: Tables, eps: Tensor, t: LevelLike, gradient: Tensor, classifier_scale: Number = 1.0
) -> Tensor:
    r"""The noise prediction with a classifier's gradient.

    .. math:: \bar\varepsilon = \hat\varepsilon - \omega\sqrt{\bar\beta_t}\,\nabla\log f(y\mid x_t)

    Args:
        eps, gradient: ``(*batch, *event)``.
        t: level in 1..T, scalar or in the shape of the leading axes.
        classifier_scale: a number, or a tensor in the shape of leading axes.

    Returns:
        Shape and dtype of ``eps``.

    Raises:
        LevelError, ShapeError, PrecisionError, RangeError: see `ddpm_ref.torch.arguments`.

    Limits: k = 4 roundings. Source: dhariwal2021, eq. (14).
    """
    t = level(tables, t, lowest=1)
    eps, gradient = operands(tables, t, eps=eps, gradient=gradient)
    scale, noise = _scaled(eps, classifier_scale, at(tables.sqrt_beta_bar, t))
    return lincomb([torch.ones_like(scale), -(scale * noise)], [eps, gradient])


def implicit_classifier_gradient(
    tables: Tables, eps_conditional: Tensor, eps_unconditional: Tensor, t: LevelLike
) -> Tensor:
    r"""The gradient of the classifier that two predictions imply.

    .. math:: -(\hat\varepsilon(x_t, y) - \hat\varepsilon(x_t))/\sqrt{\bar\beta_t}

    Args:
        eps_conditional, eps_unconditional: ``(*batch, *event)``.
        t: level in 1..T, scalar or in the shape of the leading axes.

    Returns:
        Shape and dtype of the predictions.

    Raises:
        LevelError, ShapeError, PrecisionError, RangeError: see `ddpm_ref.torch.arguments`.

    Limits: k = 3 roundings. Source: ho2022, section 3.2.
    """
    t = level(tables, t, lowest=1)
    c, u = operands(tables, t, eps_conditional=eps_conditional, eps_unconditional=eps_unconditional)
    gain = 1 / at(tables.sqrt_beta_bar, t)
    return lincomb([gain, -gain], [u, c])


def classifier_mean_shift(mean: Tensor, variance: Number, gradient: Tensor, classifier_scale: Number = 1.0) -> Tensor:
    r"""The mean of a reverse step moved by a classifier.

    .. math:: \mu + \omega\,\Sigma\,\nabla\log f

    Args:
        mean, gradient: ``(*batch, *event)``.
        variance: >= 0; a number, or a tensor that broadcasts against the mean.
        classifier_scale: a number, or a tensor in the shape of leading axes.

    Returns:
        Shape and dtype of ``mean``.

    Raises:
        RangeError: a negative variance.
        ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: k = 4 roundings. Source: dhariwal2021, algorithm 1.
    """
    mean, gradient = operands(None, mean=mean, gradient=gradient)
    spread, scale = parameters(mean, variance=variance, classifier_scale=classifier_scale)
    non_negative(variance=spread)
    if broadcast_shapes(spread.shape, mean.shape) != mean.shape:
        raise ShapeError(f"variance is {tuple(spread.shape)} beside a mean {tuple(mean.shape)}: write one that fits it")
    one = torch.ones((), dtype=spread.dtype, device=mean.device)
    # Element by element, so the products are formed in the compute format and rounded once at the end.
    pull = gradient.to(spread.dtype) * spread
    return lincomb([one, scale], [mean.to(spread.dtype), pull]).to(mean.dtype)


def guided_ancestral_step(
    tables: Tables,
    xt: Tensor,
    t: LevelLike,
    s: LevelLike,
    eps: Tensor,
    gradient: Tensor,
    noise: Tensor,
    classifier_scale: Number = 1.0,
    variance: str = "posterior",
) -> Tensor:
    r"""A step of ancestral sampling with guided noise.

    .. math::
        x_s = \frac{1}{\sqrt{\alpha_{t|s}}}\left(x_t - \frac{\beta_{t|s}}{\sqrt{\bar\beta_t}}\hat\varepsilon
            + \omega\beta_{t|s}\nabla\log f(y\mid x_t)\right) + \sigma z

    Args:
        xt, t, s, eps, noise, variance: as for `ddpm_ref.torch.ancestral.ancestral_step`.
        gradient: at ``xt``, in its shape.
        classifier_scale: a number, or a tensor in the shape of leading axes.

    Returns:
        x_s, shape and dtype of ``xt``.

    Raises:
        As `ddpm_ref.torch.ancestral.ancestral_step`.

    Limits: k = 10 roundings. Source: dhariwal2021, eq. (14); ho2020, algorithm 2.
    """
    one_of("variance", variance, KINDS)
    t, s = pair(tables, t, s)
    xt, eps, gradient, noise = operands(tables, t, s, xt=xt, eps=eps, gradient=gradient, noise=noise)
    compute = compute_dtype(xt.dtype)
    wide = [tensor.to(compute) for tensor in (xt, eps, gradient, noise)]
    step = between(tables, t, s)
    scale, pull = _scaled(xt, classifier_scale, step.beta * step.recip_sqrt_alpha)
    unguided = ancestral_step(tables, wide[0], t, s, wide[1], wide[3], variance)
    return lincomb([torch.ones_like(scale), scale * pull], [unguided, wide[2]]).to(xt.dtype)


def guided_ddim_step(
    tables: Tables,
    xt: Tensor,
    t: LevelLike,
    s: LevelLike,
    eps: Tensor,
    gradient: Tensor,
    noise: Tensor | None = None,
    classifier_scale: Number = 1.0,
    eta: Number = 0.0,
) -> Tensor:
    r"""A DDIM step in which the guided noise takes both places of the noise.

    .. math::
        x_s = \sqrt{\bar\alpha_s}\,\frac{x_t - \sqrt{\bar\beta_t}\,\bar\varepsilon}{\sqrt{\bar\alpha_t}}
            + \sqrt{\bar\beta_s - \sigma^2}\,\bar\varepsilon + \sigma z

    Args:
        xt, t, s, eps, noise, eta: as for `ddpm_ref.torch.ddim.ddim_step_from_eps`.
        gradient: at ``xt``, in its shape.
        classifier_scale: a number, or a tensor in the shape of leading axes.

    Returns:
        x_s, shape and dtype of ``xt``.

    Raises:
        As `ddpm_ref.torch.ddim.ddim_step_from_eps`.

    Limits: k = 13 roundings. Source: dhariwal2021, algorithm 2.
    """
    compute = compute_dtype(xt.dtype)
    same_kind(tables, xt=xt, eps=eps, gradient=gradient)
    later, _ = pair(tables, t, s)
    guided = classifier_guided_eps(tables, eps.to(compute), later, gradient.to(compute), classifier_scale)
    drawn = None if noise is None else noise.to(compute)
    return ddim_step_from_eps(tables, xt.to(compute), t, s, guided, drawn, eta).to(xt.dtype)


def mean_shift_step(
    tables: Tables,
    xt: Tensor,
    t: LevelLike,
    s: LevelLike,
    eps: Tensor,
    gradient: Gradient,
    noise: Tensor,
    classifier_scale: Number = 1.0,
    variance: str = "posterior",
    gradient_point: str = "mean",
) -> Tensor:
    r"""A step of ancestral sampling whose mean a classifier moves.

    .. math:: x_s = \mu_\theta + \omega\sigma^2 g + \sigma z

    Args:
        xt, t, s, eps, noise, variance: as for `ddpm_ref.torch.ancestral.ancestral_step`; at s = 0 no noise is added,
            and the mean is moved by the variance all the same.
        gradient: called as ``gradient(x, level)``, returns the shape and dtype of x.
        classifier_scale: a number, or a tensor in the shape of leading axes.
        gradient_point: "mean": the classifier of level s at the mean, as derived; "xt": that of level t at x_t.

    Returns:
        x_s, shape and dtype of ``xt``.

    Raises:
        RangeError: an unknown point or variance; t = T at zero terminal SNR.
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: halves: the mean at which the gradient is taken is rounded. Source: dhariwal2021, algorithm 1.
    """
    one_of("gradient_point", gradient_point, GRADIENT_POINTS)
    one_of("variance", variance, KINDS)
    later, earlier = pair(tables, t, s)
    xt, eps, noise = operands(tables, later, earlier, xt=xt, eps=eps, noise=noise)
    compute = compute_dtype(xt.dtype)
    mean = posterior_mean_from_eps(tables, xt.to(compute), later, earlier, eps.to(compute))
    slope = gradient(xt, t) if gradient_point == "xt" else gradient(mean.to(xt.dtype), s)
    if slope.shape != xt.shape:
        raise ShapeError(f"the gradient is {tuple(slope.shape)}, the data {tuple(xt.shape)}: return the shape of x")
    same_kind(tables, xt=xt, gradient=slope)
    finite(gradient=slope)
    step = between(tables, later, earlier)
    small = KINDS[variance] == "beta_tilde"
    scale, spread = _scaled(xt, classifier_scale, step.beta_tilde if small else step.beta)
    std = step.std_tilde if small else step.sqrt_beta
    std = torch.where(step.beta_bar_s == 0, torch.zeros_like(std), std)
    one = torch.ones((), dtype=compute, device=xt.device)
    return lincomb([one, scale * spread, std], [mean, slope.to(compute), noise.to(compute)]).to(xt.dtype)


def guided_normal(
    mean_conditional: Number,
    variance_conditional: Number,
    mean_unconditional: Number,
    variance_unconditional: Number,
    *,
    guidance_weight: Number | None = None,
    guidance_scale: Number | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Mean and variance of the normal law proportional to :math:`p(x\mid y)^{1+w} p(x)^{-w}`.

    .. math:: 1/v = (1+w)/v_c - w/v_u, \qquad m = v\,((1+w)\,m_c/v_c - w\,m_u/v_u)

    Args:
        Means and positive variances, numbers or tensors that broadcast, and one of weight and scale.

    Returns:
        mean, variance: dtype of the first tensor.

    Raises:
        RangeError: a precision that is not positive; not exactly one of weight and scale.
        PrecisionError: no tensor at all.

    Source: ho2022, section 3.2.
    """
    given = {
        "mean_conditional": mean_conditional,
        "variance_conditional": variance_conditional,
        "mean_unconditional": mean_unconditional,
        "variance_unconditional": variance_unconditional,
    }
    first = first_tensor(**given)
    weight = one_weight(guidance_weight, guidance_scale)
    mc, vc, mu, vu, w = parameters(first, **given, guidance_weight=weight)
    positive(variance_conditional=vc, variance_unconditional=vu)
    kept, taken = (1 + w) / vc, w / vu
    precision = kept - taken
    if readable(precision) and bool((precision <= 0).any()):
        raise RangeError(
            f"the precision (1 + w)/v_c - w/v_u is {float(precision.min()):.4g}: no such law, write a smaller weight"
        )
    return ((kept * mc - taken * mu) / precision).to(first.dtype), (1 / precision).to(first.dtype)


def _scaled(like: Tensor, classifier_scale: Number, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """A scale and a coefficient per level, each spread over the leading axes that the other has."""
    (scale,) = parameters(like, classifier_scale=classifier_scale)
    coefficient = coefficient.to(scale.dtype)
    if scale.ndim < coefficient.ndim:
        scale = scale.reshape(scale.shape + (1,) * (coefficient.ndim - scale.ndim)).expand(coefficient.shape)
    elif coefficient.ndim < scale.ndim:
        coefficient = coefficient.reshape(coefficient.shape + (1,) * (scale.ndim - coefficient.ndim)).expand(
            scale.shape
        )
    return scale, coefficient
