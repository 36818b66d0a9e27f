"""Training: Algorithm 1 with everything around it. Needs the extra `train`."""

from __future__ import annotations

from ddpm_ref import extras

try:
    from ddpm_ref.training.checkpoint import Checkpoint
    from ddpm_ref.training.config import Config, ScheduleConfig
    from ddpm_ref.training.loop import Run, fit
    from ddpm_ref.training.progress import Progress
except ModuleNotFoundError as error:
    raise extras.missing(error, "train") from error

__all__ = ["Checkpoint", "Config", "Progress", "Run", "ScheduleConfig", "fit"]
