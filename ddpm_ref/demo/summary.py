"""What the demo has to say for itself, in figures."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from ddpm_ref.demo.quality import Quality


@dataclass(frozen=True)
class Summary:
    """What the demo did; goes into ``summary.json`` as it stands."""

    ddpm_ref: str
    """Version of this package."""
    torch: str
    """Version of PyTorch."""
    seed: int
    """Of training, sampling and judging."""
    parameters: int
    """Of the network."""
    training_steps: int
    """Made."""
    training_seconds: float
    """Time they took."""
    stopped: str
    """Why training ended: ``time`` or ``interrupted``."""
    held_out_loss: float
    """Mean squared error of the predicted noise on images never trained on; 1 is a network that knows nothing."""
    sampler: str
    """In words."""
    reverse_steps: int
    """Network evaluations per sample."""
    samples: int
    """Digits made."""
    sampling_seconds: float
    """Time they took."""
    schedule_digest: str
    """SHA-256 of the schedule's betas."""
    quality: Quality | None
    """How the samples compare; None if fewer than 450 were made."""
    files: tuple[str, ...]
    """What lies in the folder."""

    def to_json(self) -> str:
        """As JSON, with the two ratios beside the distances."""
        values: dict[str, Any] = dataclasses.asdict(self)
        if self.quality is not None:
            values["quality"] |= {"of_gaussian": self.quality.of_gaussian, "of_held_out": self.quality.of_held_out}
        return json.dumps(values, indent=1) + "\n"
