"""Evaluation: how many bits a trained network needs for images, an upper bound, term by term. Needs the extra `train`."""

from __future__ import annotations

from ddpm_ref import extras

try:
    from ddpm_ref.evaluation.measurement import evaluate
    from ddpm_ref.evaluation.record import Average, Conditions, Evaluation
except ModuleNotFoundError as error:
    raise extras.missing(error, "train") from error

__all__ = ["Average", "Conditions", "Evaluation", "evaluate"]
