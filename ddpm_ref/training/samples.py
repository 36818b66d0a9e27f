"""Images from a checkpoint, with progress, and files of them."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm_ref.errors import OutputError, RangeError
from ddpm_ref.files import write_atomically
from ddpm_ref.images import write_grid
from ddpm_ref.reference.plan import Plan
from ddpm_ref.sampling import GeneratorNoise, states
from ddpm_ref.sampling.device import usable
from ddpm_ref.training.checkpoint import Checkpoint
from ddpm_ref.training.progress import Progress, Report
from ddpm_ref.typing import AnyArray

FORMATS = (".png", ".npz")


def draw_samples(
    checkpoint: Checkpoint,
    count: int,
    plan: Plan,
    seed: int = 0,
    *,
    weights: str | None = None,
    progress: Report | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Sample images by a plan, from pure noise to level 0.

    Args:
        checkpoint: of the trained network.
        count: how many images, >= 1; they make one batch.
        plan: trajectory and coefficients, on the checkpoint's schedule.
        seed: of the noise.
        weights: ``"ema"``, ``"raw"`` or None, see `Checkpoint.state`.
        progress: told after every step.
        device: where to compute.

    Returns:
        ``(count, *checkpoint.shape)``, float32, on the CPU.

    Raises:
        RangeError: a count below 1, a negative seed, weights or a device that are not there, a plan of another schedule,
            or a network that answers with NaN.
    """
    if isinstance(count, bool) or count < 1:
        raise RangeError(f"count is {count}; make at least 1 image")
    if plan.schedule != checkpoint.schedule:
        raise RangeError("the plan is of another schedule than the checkpoint; make it from checkpoint.schedule")
    denoiser = checkpoint.denoiser(usable(device), weights=weights)
    start = time.monotonic()
    for step, (_, state) in enumerate(states(denoiser, (count, *checkpoint.shape), plan, GeneratorNoise(seed))):
        x = state
        if step and progress is not None:
            spent = time.monotonic() - start
            progress(Progress("sample", step, len(plan), spent, spent * (len(plan) - step) / step))
    return x.cpu()


def check_format(path: Path) -> None:
    """Refuse a file name that does not say how to write it (`OutputError`)."""
    if path.suffix not in FORMATS:
        raise OutputError(f"{path}: samples are written as a picture or as numbers; give a name ending in .png or .npz")


def write_samples(path: Path, images: AnyArray, arguments: Mapping[str, Any]) -> None:
    """Write images as one PNG, or as an NPZ file with ``images`` (in [-1, 1] where clipped) and ``arguments`` (JSON).

    Args:
        path: a name ending in .png or .npz.
        images: ``(n, channels, height, width)``.
        arguments: what they were made with, for the .npz file.

    Raises:
        OutputError: another ending, or the file cannot be written; an existing one is left as it was.
    """
    check_format(path)
    if path.suffix == ".png":
        write_grid(path, images)
        return
    content = io.BytesIO()
    np.savez_compressed(content, images=images, arguments=np.array(json.dumps(dict(arguments))))
    write_atomically(path, content.getvalue())
