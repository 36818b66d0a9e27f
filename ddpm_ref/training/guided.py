"""Samples of a class from trained runs: which labels, how strongly, and by what."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from ddpm_ref.errors import RangeError
from ddpm_ref.reference.plan import Plan
from ddpm_ref.sampling.denoiser import TIME_CODES, Denoiser
from ddpm_ref.sampling.guided import ClassifierFree, ClassifierGuided, MeanShift
from ddpm_ref.torch.arguments import one_of
from ddpm_ref.torch.guidance import GRADIENT_POINTS
from ddpm_ref.torch.tables import tables as tables_of
from ddpm_ref.training.checkpoint import Checkpoint


@dataclass(frozen=True, eq=False)
class Guidance:
    """What samples are guided to, and how.

    Raises:
        RangeError: no label, a weight or scale that is not finite, a ``rescale`` outside [0, 1] or without a conditional
            prediction to bring the spread back to, or an unknown ``gradient_at``.
    """

    labels: tuple[int, ...]
    """Classes; image i has the label ``labels[i % len(labels)]``."""
    weight: float | int | None = None
    """Of classifier-free guidance (w, not 1 + w): 0 is the conditional network, -1 the unconditional one. None is 0; or
    -1 beside a classifier, which guides the unconditional network."""
    rescale: float | int = 0.0
    """How far the spread of the guided prediction is brought back to that of the conditional one, 0..1."""
    classifier: Checkpoint | None = None
    """Of a classifier of noisy images."""
    classifier_scale: float | int = 1.0
    """What its gradient is multiplied by."""
    gradient_at: str | None = None
    """None: the classifier corrects the predicted noise, at x_t. Else it shifts the mean of the step, by its gradient at
    ``"xt"`` or at the ``"mean"``."""

    def __post_init__(self) -> None:
        if not self.labels:
            raise RangeError("labels is empty; name at least one class")
        for name, value in {"weight": self.weight or 0.0, "classifier_scale": self.classifier_scale}.items():
            if isinstance(value, bool) or not math.isfinite(value):
                raise RangeError(f"{name} is {value}; it must be a finite number")
        if isinstance(self.rescale, bool) or not 0 <= self.rescale <= 1:
            raise RangeError(f"rescale is {self.rescale}; it is a share, from 0 to 1")
        if self.rescale and self.effective_weight == -1:
            raise RangeError(
                "rescale brings the spread back to that of the conditional prediction, and weight -1, which a classifier "
                "alone means too, has none; leave rescale out"
            )
        if self.gradient_at is not None:
            one_of("gradient_at", self.gradient_at, GRADIENT_POINTS)
            if self.classifier is None:
                raise RangeError(f"gradient_at is {self.gradient_at!r}, but there is no classifier; name one")

    @property
    def effective_weight(self) -> float:
        """The weight, or what None stands for."""
        if self.weight is not None:
            return float(self.weight)
        return 0.0 if self.classifier is None else -1.0

    def arguments(self) -> dict[str, Any]:
        """Plain numbers and strings, to be written beside the samples."""
        return {
            "labels": list(self.labels),
            "guidance_weight": self.effective_weight,
            "rescale": self.rescale,
            "classifier_scale": None if self.classifier is None else self.classifier_scale,
            "classifier_training_steps": None if self.classifier is None else self.classifier.steps,
            "gradient_at": self.gradient_at,
        }

    def columns(self, count: int) -> int | None:
        """Of a picture of so many images: one for each label, or None where there is but one label."""
        return min(count, len(self.labels)) if len(self.labels) > 1 else None

    def labels_of(self, first: int, count: int) -> Tensor:
        """The labels of ``count`` images from the image of index ``first`` on, int64."""
        return torch.tensor([self.labels[i % len(self.labels)] for i in range(first, first + count)])

    def check(self, checkpoint: Checkpoint, plan: Plan) -> None:
        """Refuse a run, or a plan, that cannot be guided so.

        Raises:
            RangeError: a label that is no class of the run or of the classifier; classifier-free guidance of a run without
                labels, or of one that has never been without; a classifier of another schedule, image shape or number
                of classes, or what is none; a shift of the mean where the plan has no noise to scale it.
        """
        network, weight = checkpoint.config.network, self.effective_weight
        if checkpoint.config.is_classifier:
            raise RangeError(
                "the run trained a classifier, from which nothing is sampled; name a run of ddpm-ref train"
            )
        if network.classes == 0 and (self.classifier is None or self.weight is not None):
            raise RangeError(
                "the run was trained without labels; train one with UNetConfig(classes=...) and label_dropout "
                "(--conditional), or leave the weight out and name a classifier"
            )
        if network.classes and weight != 0 and checkpoint.config.label_dropout == 0:
            raise RangeError(
                f"weight is {weight:g}, but the run was trained with every label (label_dropout 0): it has no "
                "unconditional prediction to be guided away from; write weight 0, or train with label_dropout 0.1"
            )
        if self.classifier is not None:
            self._check_classifier(self.classifier, checkpoint, plan)
        classes = network.classes or (0 if self.classifier is None else self.classifier.config.network.classes)
        for label in self.labels:
            if isinstance(label, bool) or not 0 <= label < classes:
                raise RangeError(f"label {label} is none of the classes 0..{classes - 1} that the run knows")

    def _check_classifier(self, classifier: Checkpoint, checkpoint: Checkpoint, plan: Plan) -> None:
        if not classifier.config.is_classifier:
            raise RangeError("the classifier's run trained a denoiser; name a run of ddpm-ref train-classifier")
        if classifier.schedule != checkpoint.schedule:
            raise RangeError(
                f"the classifier was trained on another schedule ({classifier.schedule!r}) than the run "
                f"({checkpoint.schedule!r}): its levels are other noise; train one with the run's --schedule flags"
            )
        if classifier.shape != checkpoint.shape:
            raise RangeError(f"the classifier's images are {classifier.shape}, the run's {checkpoint.shape}")
        known = checkpoint.config.network.classes
        if known not in (0, classifier.config.network.classes):
            raise RangeError(
                f"the classifier knows {classifier.config.network.classes} classes, the run {known}; they must be the same"
            )
        if self.gradient_at is not None and not plan.noise.any():
            raise RangeError(
                f"gradient_at is {self.gradient_at!r}, but the plan adds no noise: the shift of the mean is a multiple of "
                "the variance, and there is none; leave it out, and the predicted noise is corrected"
            )


class Guided:
    """A run together with its guidance, put on a device once; makes what each batch needs.

    Args:
        guidance: labels and strengths.
        checkpoint: of the run.
        plan: that the samples follow.
        device: where to compute.
        weights: which, see `Checkpoint.state`; of the run, the classifier's own are chosen as for None.

    Raises:
        RangeError: as `Guidance.check`.
    """

    def __init__(
        self, guidance: Guidance, checkpoint: Checkpoint, plan: Plan, device: torch.device, weights: str | None = None
    ) -> None:
        guidance.check(checkpoint, plan)
        config = checkpoint.config
        self.guidance, self.device, self.classes = guidance, device, config.network.classes
        network = checkpoint.network(device, weights=weights)
        self.unguided = Denoiser(network, config.prediction, config.time_code, config.variance)
        self.tables = tables_of(checkpoint.schedule).to(device)
        self.classifier = None if guidance.classifier is None else guidance.classifier.classifier(device)

    def batch(self, first: int, count: int) -> tuple[Denoiser, MeanShift | None]:
        """The denoiser, and the shift of its steps if there is one, for ``count`` images from that of index ``first`` on."""
        label, guidance, classifier = self.guidance.labels_of(first, count), self.guidance, self.classifier
        denoiser = self._classifier_free(label.to(self.device)) if self.classes else self.unguided
        if classifier is None:
            return denoiser, None
        if guidance.gradient_at is not None:
            point, code, scale = guidance.gradient_at, classifier.time_code, guidance.classifier_scale
            return denoiser, MeanShift(classifier.network, label, scale, gradient_point=point, time_code=code)

        def asked(x: Tensor, time: Tensor) -> Tensor:  # by the clock of the denoiser, which may not be the classifier's
            return classifier(x, time + 1 - TIME_CODES[denoiser.time_code])

        return ClassifierGuided(denoiser, asked, label, guidance.classifier_scale, self.tables).denoiser, None

    def _classifier_free(self, label: Tensor) -> Denoiser:
        network = ClassifierFree(
            cast("Callable[[Tensor, Tensor, Tensor], Tensor]", self.unguided.network),
            label,
            guidance_weight=self.guidance.effective_weight,
            null_label=self.classes,
            rescale_factor=self.guidance.rescale,
        )
        return replace(self.unguided, network=network)
