r"""Guided sampling: networks that are guided inside, and steps whose mean a classifier moves.

`ClassifierFree` and `ClassifierGuided` are networks: what they return is a prediction, so every sampler, plan and stage
works on it. `MeanShift` changes the step itself, and is handed to `ddpm_ref.sampling.sample` beside the plan.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from typing import SupportsIndex, TypeAlias

import torch
from torch import Tensor, nn

from ddpm_ref.errors import PrecisionError, RangeError, ShapeError
from ddpm_ref.reference.plan import Plan
from ddpm_ref.reference.trajectory import Trajectory
from ddpm_ref.sampling.denoiser import TIME_CODES, Denoiser, evaluating
from ddpm_ref.torch.arguments import Number, at, compute_dtype, expand_right, one_of, parameters
from ddpm_ref.torch.forward import refuse_dead_level
from ddpm_ref.torch.guidance import GRADIENT_POINTS, one_weight, rescale
from ddpm_ref.torch.labels import checked_labels, classifier_gradient
from ddpm_ref.torch.lincomb import lincomb
from ddpm_ref.torch.reverse import KINDS, reverse_variance
from ddpm_ref.torch.tables import Tables, tables

LabelLike: TypeAlias = Tensor | SupportsIndex | float
"""A class for all, or int64 ``(batch,)``. Floats are accepted only to be refused by name."""

Classifier: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Called as ``classifier(x, time)`` with its network's clock; returns logits ``(batch, classes)``."""


class ClassifierFree(nn.Module):
    r"""A conditional network, guided: the prediction with the label and the one without, from one batch.

    .. math:: \bar y = (1 + w)\,\hat y(x_t, y) - w\,\hat y(x_t, \varnothing), \qquad \gamma = 1 + w

    Args:
        network: called as ``network(x, time, label)`` with int64 labels ``(batch,)``.
        label: a class for all, or int64 ``(batch,)``; whoever samples must then take that batch.
        guidance_weight: w, a number or a tensor ``(batch,)``: 0 is plain conditional, -1 unconditional.
        guidance_scale: instead of it, :math:`\gamma`: 1 is plain conditional, 0 unconditional.
        null_label: what stands for no label: the number of classes.
        rescale_factor: 0 leaves the guided prediction as it is; up to 1 it is brought back to the spread of the
            conditional one (lin2024), example by example, in what the network predicts.

    ``guided(x, time)`` has the network's own kind of prediction: use it as the ``network`` of a `Denoiser` with the same
    ``prediction``, ``time_code`` and ``variance``. The weights sum to one, so guiding eps, x0, v or scores is the same, at
    zero terminal SNR too. Of a network that answers with twice the channels the first half is guided; the second, about
    the variance, is the conditional one.

    Raises:
        RangeError: not exactly one of weight and scale; a label that is no class; a factor outside [0, 1].
        ShapeError: not as many labels or weights as examples; an answer of another shape than the two batches.
        PrecisionError: an answer that is no tensor.

    Limits: with a weight of 0 or -1 (a number) the network is asked once. Source: ho2022, algorithm 2.

    >>> knows = lambda x, time, label: x * 0 + label[:, None]     # it predicts its label; 2 is the null label
    >>> ClassifierFree(knows, 1, guidance_weight=3.0, null_label=2)(torch.zeros(1, 1), torch.zeros(1))
    tensor([[-2.]])
    """

    label: Tensor

    def __init__(
        self,
        network: Callable[[Tensor, Tensor, Tensor], Tensor],
        label: LabelLike,
        *,
        null_label: int,
        guidance_weight: Number | None = None,
        guidance_scale: Number | None = None,
        rescale_factor: float | int = 0.0,
    ) -> None:
        super().__init__()
        self.weight = one_weight(guidance_weight, guidance_scale)
        self.network, self.null_label = network, _class_count("null_label", null_label)
        if isinstance(rescale_factor, bool) or not 0 <= rescale_factor <= 1:
            raise RangeError(
                f"rescale_factor = {rescale_factor!r} lies outside [0, 1]; 0 is no rescaling, 0.7 is usual"
            )
        self.rescale_factor = rescale_factor
        self.register_buffer("label", checked_labels(_tensor(label), null_label), persistent=False)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """The guided prediction for x ``(batch, *event)`` at the network's times ``(batch,)``."""
        label = _for_batch(self.label, x)
        null = torch.full_like(label, self.null_label)
        w = self.weight
        if not isinstance(w, Tensor) and w in (0, -1) and self.rescale_factor == 0:
            return _tensor_of(self.network(x, time, label if w == 0 else null))
        both = _tensor_of(self.network(torch.cat([x, x]), torch.cat([time, time]), torch.cat([label, null])))
        doubled = both.ndim > 1 and both.shape == (2 * len(x), 2 * x.shape[1], *x.shape[2:])
        if both.shape != (2 * len(x), *x.shape[1:]) and not doubled:
            raise ShapeError(
                f"the network returned shape {tuple(both.shape)} for x of shape {(2 * len(x), *x.shape[1:])}, twice the "
                "batch: its output must have the shape of its input"
            )
        extra = both[: len(x), x.shape[1] :] if doubled else None
        predictions = both[:, : x.shape[1]] if doubled else both
        conditional, unconditional = predictions.chunk(2) if len(x) else (predictions, predictions)
        (weight,) = parameters(both, guidance_weight=_wide(w, both))
        if weight.ndim and weight.shape != label.shape:
            raise ShapeError(f"the guidance weight is {tuple(weight.shape)}, the batch {len(x)}; write one per example")
        guided = lincomb([1 + weight, -weight], [conditional, unconditional])
        if self.rescale_factor:
            guided = rescale(guided, conditional, self.rescale_factor)
        return guided if extra is None else torch.cat([guided, extra], dim=1)


class ClassifierGuided(nn.Module):
    r"""An unconditional network whose prediction a classifier of noisy data moves.

    .. math:: \bar\varepsilon = \hat\varepsilon - \omega\sqrt{\bar\beta_t}\,\nabla\log f(y\mid x_t), \qquad
              \bar x_0 = \hat x_0 + \omega\frac{\bar\beta_t}{\sqrt{\bar\alpha_t}}\nabla\log f, \qquad
              \bar v = \hat v - \omega\sqrt{\frac{\bar\beta_t}{\bar\alpha_t}}\,\nabla\log f

    and the score :math:`\hat s + \omega\nabla\log f`: one and the same shift, in the network's own kind of prediction.

    Args:
        denoiser: the network and its conventions.
        classifier: called as ``classifier(x, time)`` with the clock of the denoiser; returns logits ``(batch, classes)``.
        label: a class for all, or int64 ``(batch,)``.
        classifier_scale: :math:`\omega`, a number or a tensor ``(batch,)``; 0 is unconditional, and does not ask the
            classifier, 1 conditional.
        tables: of the schedule, or the schedule of the plan turned into `ddpm_ref.torch.tables`.
        classes: how many classes the classifier must have; None: as many as it answers for.

    ``guided(x, time)`` predicts as ``denoiser`` does; `denoiser` is a `Denoiser` of it.

    Raises:
        RangeError: a label that is no class; a gradient that is not finite; an x0 or v prediction at zero terminal SNR.
        ShapeError: not as many labels as examples; a classifier whose output is not ``(batch, classes)``.
        PrecisionError: a classifier without gradient.

    Limits: one forward and one backward pass of the classifier per step; gradients are not recorded through it. In its
    training mode a classifier may mix examples: samplers evaluate it in the other. Source: dhariwal2021, algorithm 2.
    """

    label: Tensor

    def __init__(
        self,
        denoiser: Denoiser,
        classifier: Classifier,
        label: LabelLike,
        classifier_scale: Number,
        tables: Tables,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        self.unguided, self.network, self.tables = denoiser, denoiser.network, tables
        self.classifier, self.scale = classifier, _scale(classifier_scale)
        self.classes = None if classes is None else _class_count("classes", classes)
        self.register_buffer("label", _labels(label, self.classes), persistent=False)

    @property
    def prediction(self) -> str:
        """What it predicts: what the network it guides does."""
        return self.unguided.prediction

    @property
    def denoiser(self) -> Denoiser:
        """Itself with the conventions of the network it guides, ready to be sampled from."""
        return dataclasses.replace(self.unguided, network=self)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """The guided prediction for x ``(batch, *event)`` at the network's times ``(batch,)``.

        What the network says of a variance stands behind it, as it was.
        """
        answer, extra = self.unguided.answers(x, time)
        if not isinstance(self.scale, Tensor) and self.scale == 0:
            return answer if extra is None else torch.cat([answer, extra], dim=1)
        pull = _gradient(self.classifier, x, time, self.label, self.classes)
        weight = self._weight(time + 1 - TIME_CODES[self.unguided.time_code], x)
        (scale,) = parameters(x, classifier_scale=_wide(self.scale, x))
        if scale.ndim and scale.shape != x.shape[:1]:
            raise ShapeError(f"classifier_scale is {tuple(scale.shape)}, the batch {len(x)}; write one per example")
        guided = lincomb([torch.ones_like(weight), scale * weight], [answer, pull])
        return guided if extra is None else torch.cat([guided, extra], dim=1)

    def _weight(self, t: Tensor, x: Tensor) -> Tensor:
        """The coefficient of the gradient at levels t, in the kind of the prediction."""
        of = self.tables if self.tables.device == x.device else self.tables.to(x.device)
        noise = at(of.sqrt_beta_bar, t)
        if self.prediction in ("x0", "v"):
            refuse_dead_level(
                of, t, f"a gradient does not move {self.prediction} at zero terminal SNR; use eps or score"
            )
        weight = {
            "eps": lambda: -noise,
            "score": lambda: torch.ones_like(noise),
            "x0": lambda: noise * at(of.sqrt_recipm1_alpha_bar, t),
            "v": lambda: -at(of.sqrt_recipm1_alpha_bar, t),
        }[self.prediction]()
        return weight.to(compute_dtype(x.dtype))


class MeanShift:
    r"""A step whose mean a classifier moves: pass it as ``shift`` to `step`, `states`, `sample` or `snapshots`.

    .. math:: x_s = \mu + \omega\,\Sigma\,g + c z, \qquad g = \nabla\log f_s(y\mid x)\big|_{x=\mu}\quad\text{or}\quad
              \nabla\log f_t(y\mid x)\big|_{x=x_t}

    with :math:`\mu` all of the step but its noise, after the stages of the plan.

    Args:
        classifier: called as ``classifier(x, time)``; returns logits ``(batch, classes)``.
        label: a class for all, or int64 ``(batch,)``.
        classifier_scale: :math:`\omega`, a number or a tensor ``(batch,)``.
        gradient_point: ``"mean"``: at the mean, by the classifier of level s, as the derivation says; ``"xt"``: at the
            state, by that of level t, as the authors' code does.
        variance: :math:`\Sigma`: None is the variance of the noise that the plan adds, learned or not, so that a step
            without noise is not moved; ``"posterior"`` or ``"beta"`` that of the step by name, the last one included, as
            the authors'.
        time_code: the classifier's clock, as for a `Denoiser`.
        lowest_level: the first level the classifier knows. In the step to level 0 the mean is given to this one: 1 for
            trained classifiers, 0 for one of clean data too.
        classes: how many classes the classifier must have; None: as many as it answers for.

    Raises:
        RangeError: an unknown option; a label that is no class; a plan that leads upwards.
        ShapeError, PrecisionError: as `ClassifierGuided`.

    Limits: exact to first order in the variance only, and nothing at all where it is 0, as in a deterministic plan:
    there `ClassifierGuided` is the form to use. Source: dhariwal2021, algorithm 1.
    """

    def __init__(
        self,
        classifier: Classifier,
        label: LabelLike,
        classifier_scale: Number = 1.0,
        *,
        gradient_point: str = "mean",
        variance: str | None = None,
        time_code: str = "zero_based",
        lowest_level: int = 1,
        classes: int | None = None,
    ) -> None:
        one_of("gradient_point", gradient_point, GRADIENT_POINTS)
        one_of("time_code", time_code, TIME_CODES)
        if variance is not None:
            one_of("variance", variance, KINDS)
        if isinstance(lowest_level, bool) or lowest_level not in (0, 1):
            raise RangeError(
                f"lowest_level = {lowest_level!r}; write 1, or 0 for a classifier that knows clean data too"
            )
        self.classifier, self.scale = classifier, _scale(classifier_scale)
        self.gradient_point, self.variance = gradient_point, variance
        self.first, self.lowest = TIME_CODES[time_code], lowest_level
        self.classes = None if classes is None else _class_count("classes", classes)
        self.label = _labels(label, self.classes)

    def __call__(self, plan: Plan, k: int, x: Tensor, mean: Tensor, variance: Tensor | None = None) -> Tensor:
        """What to add to the mean of the k-th step of a plan that starts at state x; float32 or float64, like both.

        ``variance``: of the noise of each element, where the network says it.
        """
        if not isinstance(plan.trajectory, Trajectory):
            raise RangeError("the plan is an inversion; a mean shift belongs to a step of sampling")
        t, s = list(plan.trajectory.pairs())[k]
        spread: Number = float(plan.noise[k]) ** 2 if variance is None else variance
        if self.variance is not None:
            spread = float(reverse_variance(tables(plan.schedule), t, s, self.variance))
        if (not isinstance(spread, Tensor) and spread == 0) or (not isinstance(self.scale, Tensor) and self.scale == 0):
            return torch.zeros_like(mean)
        point, level = (x, t) if self.gradient_point == "xt" else (mean, max(s, self.lowest))
        time = torch.full(point.shape[:1], level - 1 + self.first, device=point.device)
        with evaluating(self.classifier):
            pull = _gradient(self.classifier, point, time, self.label.to(x.device), self.classes)
        scale = expand_right(self.scale.to(pull), pull.ndim) if isinstance(self.scale, Tensor) else self.scale
        return pull * (scale * spread)


def _gradient(classifier: Classifier, x: Tensor, time: Tensor, label: Tensor, classes: int | None) -> Tensor:
    """The classifier's gradient for a batch, after a look at how many classes it has."""

    def sized(x: Tensor, time: Tensor) -> Tensor:
        logits = classifier(x, time)
        if classes is not None and isinstance(logits, Tensor) and logits.shape[-1:] != (classes,):
            raise ShapeError(f"the classifier returned shape {tuple(logits.shape)}; ({len(x)}, {classes}) was expected")
        return logits

    return classifier_gradient(sized, x, time, _for_batch(label, x))


def _tensor_of(answer: object) -> Tensor:
    if not isinstance(answer, Tensor):
        raise PrecisionError(f"the network returned a {type(answer).__name__}; it must return one tensor")
    return answer


def _tensor(label: LabelLike) -> Tensor:
    if isinstance(label, Tensor):
        return label
    if isinstance(label, bool | float):
        raise RangeError(f"label = {label!r}; write a class, a whole number, or an int64 tensor with one per example")
    try:
        return torch.tensor(operator.index(label))
    except TypeError:
        raise RangeError(f"label is {label!r}; write a class, a whole number, or an int64 tensor") from None


def _labels(label: LabelLike, classes: int | None) -> Tensor:
    """Labels, in range if the number of classes is known yet."""
    return checked_labels(_tensor(label), torch.iinfo(torch.int64).max if classes is None else classes)


def _for_batch(label: Tensor, x: Tensor) -> Tensor:
    """One label per example, on their device."""
    if label.ndim > 1 or (label.ndim and label.shape != x.shape[:1]):
        raise ShapeError(
            f"label is {tuple(label.shape)}, the batch {len(x)}; write one class for all, or one per example"
        )
    return label.to(x.device).expand(x.shape[:1])


def _wide(value: Number, like: Tensor) -> Number:
    """A weight or scale per example beside data, not rounded to a half."""
    return value.to(like.device, compute_dtype(like.dtype)) if isinstance(value, Tensor) else value


def _class_count(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RangeError(f"{name} = {value!r}; write the number of classes, a whole number >= 1")
    return value


def _scale(value: Number) -> Number:
    if not isinstance(value, Tensor) and (isinstance(value, bool) or not -float("inf") < value < float("inf")):
        raise RangeError(f"classifier_scale = {value!r}; write a finite number: 0 is unconditional, 1 conditional")
    return value
