"""What a run folder says of its run, in a few numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddpm_ref.training import log
from ddpm_ref.training.checkpoint import Checkpoint
from ddpm_ref.training.config import leaves
from ddpm_ref.training.folder import LOG_NAME, latest
from ddpm_ref.training.loop import WINDOW


@dataclass(frozen=True, eq=False)
class Summary:
    """A checkpoint, and what only the log knows."""

    checkpoint: Checkpoint
    path: Path
    """The file it was read from."""
    held_out_loss: float | None
    """As measured when the run last ended; None if it was killed, still runs, or has no log."""
    accuracy: dict[int, float] | None = None
    """Of a classifier, by level, measured at the same time."""
    held_out_parts: Mapping[str, float] = field(default_factory=dict)
    """The parts of the held-out loss by name, where it is a sum."""

    def as_json(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings."""
        checkpoint, losses = self.checkpoint, self.checkpoint.losses
        recent = losses[-WINDOW:]
        return {
            "checkpoint": str(self.path),
            "steps": checkpoint.steps,
            "seconds": checkpoint.seconds,
            "parameters": sum(math.prod(weight.shape) for weight in checkpoint.weights.values()),
            "image": list(checkpoint.shape),
            "schedule_digest": checkpoint.schedule.digest,
            "loss": {
                "first": float(losses[0]),
                "last": float(losses[-1]),
                "mean_of_last": len(recent),
                "smoothed": float(recent.mean()),
            },
            "held_out_loss": self.held_out_loss,
            "held_out_parts": dict(self.held_out_parts),
            "accuracy": self.accuracy,
            "weights": "raw" if checkpoint.average is None else "ema",
            "config": checkpoint.config.to_dict(),
        }


def summarise(run: Path | str) -> Summary:
    """Read the folder of a run, or one checkpoint (of which no log tells).

    Raises:
        CheckpointError: as `ddpm_ref.training.folder.latest`, or the log is damaged.
    """
    found = latest(run)
    log_path, held_out_loss, accuracy = Path(run) / LOG_NAME, None, None
    parts: dict[str, float] = {}
    if log_path.exists():
        told = log.read(log_path)
        if told.is_of(found.checkpoint.config) and told.events and told.events[-1]["step"] == found.checkpoint.steps:
            held_out_loss, accuracy, parts = told.held_out_loss, told.accuracy, told.held_out_parts
    return Summary(found.checkpoint, found.path, held_out_loss, accuracy, parts)


def describe(summary: Summary) -> str:
    """A summary for eyes: a line for every number, then the config field by field."""
    values = summary.as_json()
    loss, held_out = values["loss"], values["held_out_loss"]
    mean = f"{loss['smoothed']:.4f} on average over the last {loss['mean_of_last']} steps"
    said = "not measured since the last step" if held_out is None else f"{held_out:.4f} ({values['weights']} weights)"
    found = {
        "checkpoint": values["checkpoint"],
        "steps": f"{values['steps']} in {values['seconds']:.0f} s",
        "parameters": f"{values['parameters']}, images of {' x '.join(map(str, values['image']))}",
        "schedule": f"{summary.checkpoint.schedule!r}, digest {values['schedule_digest']}",
        "loss": f"{loss['first']:.4f} in the first step, {loss['last']:.4f} in the last, {mean}",
        "held-out loss": said,
        **{f"held-out loss, {name}": f"{mean:.4f}" for name, mean in summary.held_out_parts.items()},
    }
    if summary.accuracy is not None:
        found["right on held-out images"] = ", ".join(f"{share:.1%} at {t}" for t, share in summary.accuracy.items())
    asked = {f"config.{name}": value for name, value in leaves(values["config"]) if value is not None}
    return "\n".join(f"{name:<36}{value}" for name, value in {**found, **asked}.items())
