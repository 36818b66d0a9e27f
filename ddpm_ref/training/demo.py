"""The demo: a minute of training on real digits, a checkpoint, and a page of digits that nobody wrote."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from ddpm_ref.errors import RangeError
from ddpm_ref.images import write_grid
from ddpm_ref.reference import plan as plans
from ddpm_ref.sampling import GeneratorNoise, states
from ddpm_ref.training.checkpoint import Checkpoint
from ddpm_ref.training.config import Config
from ddpm_ref.training.loop import CHECKPOINT_NAME, fit
from ddpm_ref.training.progress import Progress, Report, console

SAMPLES_NAME = "samples.png"


@dataclass(frozen=True)
class DemoResult:
    """What the demo did and where it put it."""

    checkpoint: Path
    """The trained network."""
    picture: Path
    """The samples, as one PNG."""
    steps: int
    """Training steps made."""
    train_seconds: float
    """Time they took."""
    held_out_loss: float
    """Mean squared error of the predicted noise on images never trained on; 1 is a network that knows nothing."""
    sample_seconds: float
    """Time that sampling took."""
    stopped: str
    """Why training ended: ``time`` or ``interrupted``."""


def run(
    output: Path | str,
    seconds: float | int = 60.0,
    seed: int = 0,
    samples: int = 64,
    steps: int = 100,
    progress: Report | None = None,
) -> DemoResult:
    """Train on the digits of scikit-learn, save, load again, and sample by Algorithm 2 on a strided trajectory.

    Args:
        output: folder for ``checkpoint.safetensors`` and ``samples.png``.
        seconds: training time.
        seed: of training and of sampling.
        samples: how many digits to make, >= 1.
        steps: reverse steps, 1..1000, evenly spaced.
        progress: told after every step; the console if None.

    Returns:
        figures and paths.

    Raises:
        OutputError: results cannot be written to ``output``; found out before training starts.
        RangeError, ScheduleError: an argument out of range, likewise.
    """
    config = Config(max_seconds=seconds, seed=seed)
    if isinstance(samples, bool) or samples < 1:
        raise RangeError(f"samples is {samples}; make at least 1")
    schedule, folder = config.schedule.build(), Path(output)
    plan = plans.ancestral(schedule, schedule.trajectory(steps), clip=(-1.0, 1.0))

    watching = contextlib.nullcontext(progress) if progress is not None else console()
    with _one_thread(), watching as report:
        trained = fit(config, folder, report)
        saved = folder / CHECKPOINT_NAME
        checkpoint = Checkpoint.load(saved)  # what is sampled is what was saved
        start = time.monotonic()
        shape, noise = (samples, *checkpoint.shape), GeneratorNoise(seed)
        for step, (_, state) in enumerate(states(checkpoint.denoiser(), shape, plan, noise)):
            x, spent = state, time.monotonic() - start
            if step:
                report(Progress("sample", step, steps, spent, spent * (steps - step) / step))
    picture = folder / SAMPLES_NAME
    write_grid(picture, x.numpy())
    return DemoResult(
        checkpoint=saved,
        picture=picture,
        steps=checkpoint.steps,
        train_seconds=checkpoint.seconds,
        held_out_loss=trained.held_out_loss,
        sample_seconds=spent,
        stopped=trained.stopped,
    )


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    # On images of 64 pixels a second thread gains little; and where another process wants its core, the threads wait
    # for each other so busily that training was seen to slow down from 9 steps a second to 0.3.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
