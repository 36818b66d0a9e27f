"""Images from a checkpoint, with progress, and files of them."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm_ref.errors import OutputError, RangeError
from ddpm_ref.files import write_atomically
from ddpm_ref.images import write_grid
from ddpm_ref.reference.plan import Plan
from ddpm_ref.sampling import GeneratorNoise, NoiseSource, PhiloxNoise, states
from ddpm_ref.sampling.arguments import check_visited
from ddpm_ref.sampling.device import usable
from ddpm_ref.torch.arguments import one_of
from ddpm_ref.training.checkpoint import Checkpoint
from ddpm_ref.training.guided import Guidance, Guided
from ddpm_ref.training.interruption import postponed
from ddpm_ref.training.plots import scatter
from ddpm_ref.training.progress import Progress, Report
from ddpm_ref.typing import AnyArray

FORMATS = (".png", ".npz")

SOURCES: dict[str, Callable[[int, int], NoiseSource]] = {"generator": GeneratorNoise, "philox": PhiloxNoise}
"""Sources of noise by name, made from a seed and the index of the first sample of a batch."""


@dataclass(frozen=True)
class Drawn:
    """Samples, and how far their making came."""

    images: Tensor
    """``(n, *checkpoint.shape)``, float32, on the CPU; n is what was asked for unless ``interrupted``."""
    states: dict[int, Tensor]
    """The states asked for, by level, in the order of the plan, each of the shape of ``images``."""
    interrupted: bool
    """Whether Ctrl-C or SIGTERM ended it after n samples, those of the batches that were finished."""


def draw(
    checkpoint: Checkpoint,
    count: int,
    plan: Plan,
    seed: int = 0,
    *,
    first: int = 0,
    noise: str = "generator",
    batch_size: int | None = None,
    levels: Sequence[int] = (),
    weights: str | None = None,
    progress: Report | None = None,
    device: torch.device | str = "cpu",
    guidance: Guidance | None = None,
) -> Drawn:
    """Sample images by a plan, from pure noise to level 0, batch after batch; an interruption keeps finished batches.

    Args:
        checkpoint: of the trained network.
        count: how many images, >= 1.
        plan: trajectory and coefficients, on the checkpoint's schedule.
        seed: of the noise.
        first: index of the first image, >= 0: with Philox, images 40..63 are those of 0..63 from the 40th on.
        noise: ``"generator"``, torch's, whose numbers depend on ``batch_size``, or ``"philox"``, whose do not.
        batch_size: images made at once, >= 1; all if None.
        levels: of the plan, whose states are kept too.
        weights: ``"ema"``, ``"raw"`` or None, see `Checkpoint.state`.
        progress: told after every step; may raise KeyboardInterrupt.
        device: where to compute.
        guidance: to the classes of which the images shall be, and how; None for a run without labels, or for the
            unconditional network of one with labels.

    Returns:
        images and states.

    Raises:
        KeyboardInterrupt: interrupted before one batch was finished.
        RangeError: a count or batch size below 1, a first below 0, a seed that does not fit, noise, weights or a device
            that are not there, a plan of another schedule, guidance that does not fit the run (`Guidance.check`), or a network that
            answers with NaN.
        LevelError: a level that the plan does not visit.
    """
    if isinstance(count, bool) or count < 1:
        raise RangeError(f"count is {count}; make at least 1 image")
    size = count if batch_size is None else batch_size
    if isinstance(size, bool) or size < 1:
        raise RangeError(f"batch_size is {batch_size}; make at least 1 image at once")
    if plan.schedule != checkpoint.schedule:
        raise RangeError("the plan is of another schedule than the checkpoint; make it from checkpoint.schedule")
    if isinstance(first, bool) or first < 0:
        raise RangeError(f"first is {first}; images are counted from 0")
    one_of("noise", noise, SOURCES)
    check_visited(plan, levels)
    if guidance is None:
        unguided = checkpoint.denoiser(usable(device), weights=weights)
    else:
        guided = Guided(guidance, checkpoint, plan, usable(device), weights)
    last = plan.trajectory.levels[-1]
    begun, steps = time.monotonic(), len(plan) * -(-count // size)
    finished: list[dict[int, Tensor]] = []
    with contextlib.suppress(KeyboardInterrupt), postponed() as asked_to_stop:
        for batch, index in enumerate(range(first, first + count, size)):
            shape = (min(size, first + count - index), *checkpoint.shape)
            kept: dict[int, Tensor] = {}
            denoiser, shift = (unguided, None) if guidance is None else guided.batch(index, shape[0])
            for step, (t, x) in enumerate(states(denoiser, shape, plan, SOURCES[noise](seed, index), shift=shift)):
                if t in levels or t == last:
                    kept[t] = x.cpu()
                if step == len(plan):
                    finished.append(kept)
                done = batch * len(plan) + step
                if step and progress is not None:
                    spent = time.monotonic() - begun
                    progress(Progress("sample", done, steps, spent, spent * (steps - done) / done))
                if asked_to_stop():
                    raise KeyboardInterrupt
    if not finished:
        raise KeyboardInterrupt("no batch was finished; a smaller --batch-size keeps more")
    made = {t: torch.cat([kept[t] for kept in finished]) for t in finished[0]}
    return Drawn(made[last], {t: x for t, x in made.items() if t in levels}, len(made[last]) < count)


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
    """The images of `draw`, in one batch; arguments and errors are those of `draw`.

    Returns:
        ``(count, *checkpoint.shape)``, float32, on the CPU.
    """
    return draw(checkpoint, count, plan, seed, weights=weights, progress=progress, device=device).images


def check_format(path: Path) -> None:
    """Refuse a file name that does not say how to write it (`OutputError`)."""
    if path.suffix not in FORMATS:
        raise OutputError(f"{path}: samples are written as a picture or as numbers; give a name ending in .png or .npz")


def write_samples(
    path: Path,
    images: AnyArray,
    arguments: Mapping[str, Any],
    states: Mapping[int, AnyArray] | None = None,
    columns: int | None = None,
) -> None:
    """Write images as one PNG, or as an NPZ file with ``images`` (in [-1, 1] where clipped) and ``arguments`` (JSON).

    Points, instead of images, are scattered over the picture.

    With states the NPZ file holds ``levels``, ``(k,)``, and ``states``, ``(k, n, channels, height, width)``, too.

    Args:
        path: a name ending in .png or .npz.
        images: ``(n, channels, height, width)``, or points ``(n, 2)``.
        arguments: what they were made with, for the .npz file.
        states: by level, for the .npz file.
        columns: of the PNG; nearly a square if None.

    Raises:
        OutputError: another ending, or the file cannot be written; an existing one is left as it was.
    """
    check_format(path)
    if path.suffix == ".png":
        if images.ndim == 2:
            write_atomically(path, scatter(images))
        else:
            write_grid(path, images, columns)
        return
    content = io.BytesIO()
    arrays: dict[str, Any] = {"images": images, "arguments": np.array(json.dumps(dict(arguments)))}
    if states:
        arrays |= {"levels": np.array(list(states)), "states": np.stack(list(states.values()))}
    np.savez_compressed(content, **arrays)
    write_atomically(path, content.getvalue())
