"""The flags of ``ddpm-ref sample`` that ask for a class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ddpm_ref.errors import RangeError

if TYPE_CHECKING:
    from ddpm_ref.training.checkpoint import Checkpoint
    from ddpm_ref.training.guided import Guidance


def _default(value: str) -> Any:
    return tyro.conf.arg(help_behavior_hint=f"(default: {value})")


@dataclass(frozen=True, kw_only=True)
class GuidanceFlags:
    """Samples of a class."""

    label: Annotated[tuple[int, ...] | Literal["all"] | None, _default("None")] = None
    """Classes, which the images take in turn, a column of the picture for each; or all, in their order."""
    guidance_weight: Annotated[float | None, _default("0, or -1 beside --classifier")] = None
    """Classifier-free guidance of a run trained with --conditional: 0 is the plain conditional network, -1 the
    unconditional one, and more than 0 goes beyond."""
    guidance_scale: Annotated[float | None, _default("None")] = None
    """The same in another convention: 1 plus the weight."""
    rescale: Annotated[float | None, _default("0")] = None
    """How far the spread of what guidance makes of the prediction is brought back to that of the conditional one, 0 to
    1; 0.7 is usual."""
    classifier: Annotated[Path | None, _default("None")] = None
    """Run of train-classifier whose gradient guides the samples."""
    classifier_scale: Annotated[float | None, _default("1")] = None
    """How strongly: 1 is by Bayes' rule, more sharpens."""
    gradient_at: Annotated[Literal["xt", "mean"] | None, _default("None")] = None
    """With --sampler ddpm: shift the mean of the step, by the gradient at the state x_t or at the mean itself, instead of
    the predicted noise."""


NO_GUIDANCE = GuidanceFlags()


def guidance_of(flags: GuidanceFlags, checkpoint: Checkpoint, run: Path) -> Guidance | None:
    """The guidance of the flags of `sample`, or None, or an error that names those that do not belong together.

    Args:
        flags: as the user gave them.
        checkpoint: of the run to be sampled.
        run: its path, for messages.
    """
    from ddpm_ref.training.folder import latest
    from ddpm_ref.training.guided import Guidance
    from ddpm_ref.training.objective import LABEL

    if checkpoint.config.prediction == LABEL:
        raise RangeError(f"{run} holds a classifier; name the run to sample from, and this one as --classifier {run}")
    _check_together(flags)
    classes = checkpoint.config.network.classes
    if flags.label is None:
        if classes and checkpoint.config.label_dropout == 0:
            raise RangeError(
                f"{run} was trained with every label, and cannot do without: write --label all, or classes"
            )
        return None
    if classes == 0 and flags.classifier is None:
        raise RangeError(
            f"--label: {run} was trained without labels; train one with: ddpm-ref train --conditional --output ..., or "
            "name a classifier to guide it: --classifier RUN"
        )
    classifier = None if flags.classifier is None else latest(flags.classifier).checkpoint
    if classifier is not None and classifier.config.prediction != LABEL:
        raise RangeError(f"--classifier {flags.classifier} holds a denoiser; name a run of ddpm-ref train-classifier")
    known = classes or (0 if classifier is None else classifier.config.network.classes)
    labels = tuple(range(known)) if flags.label == "all" else flags.label
    weight = flags.guidance_weight if flags.guidance_scale is None else flags.guidance_scale - 1.0
    return Guidance(
        labels=labels,
        weight=weight,
        rescale=0.0 if flags.rescale is None else flags.rescale,
        classifier=classifier,
        classifier_scale=1.0 if flags.classifier_scale is None else flags.classifier_scale,
        gradient_at=flags.gradient_at,
    )


def _check_together(flags: GuidanceFlags) -> None:
    if flags.guidance_weight is not None and flags.guidance_scale is not None:
        raise RangeError(
            f"--guidance-weight {flags.guidance_weight:g} and --guidance-scale {flags.guidance_scale:g}: write one of "
            f"them, for the scale is the weight plus 1 (--guidance-scale {flags.guidance_scale:g} is --guidance-weight "
            f"{flags.guidance_scale - 1:g})"
        )
    given = {
        "--guidance-weight": flags.guidance_weight,
        "--guidance-scale": flags.guidance_scale,
        "--rescale": flags.rescale,
        "--classifier": flags.classifier,
        "--classifier-scale": flags.classifier_scale,
        "--gradient-at": flags.gradient_at,
    }
    for name, value in given.items():
        if value is not None and flags.label is None:
            raise RangeError(f"{name} {value} guides towards a class; write --label beside it, e.g. --label 7")
    for name in ("--classifier-scale", "--gradient-at"):
        if given[name] is not None and flags.classifier is None:
            raise RangeError(f"{name} {given[name]} is about a classifier; write --classifier RUN beside it")
    if flags.rescale is not None and flags.guidance_weight is None and flags.guidance_scale is None:
        raise RangeError(
            f"--rescale {flags.rescale:g} is about classifier-free guidance; write --guidance-weight beside it"
        )
