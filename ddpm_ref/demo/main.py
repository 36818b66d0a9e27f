"""The demo from start to end: a minute and a half of training, a checkpoint, digits that nobody wrote, and their judge."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import torch

import ddpm_ref
from ddpm_ref.demo import page, pictures
from ddpm_ref.demo.quality import COUNT, judge
from ddpm_ref.demo.summary import Summary
from ddpm_ref.errors import OutputError, RangeError
from ddpm_ref.files import claim_folder, write_atomically
from ddpm_ref.reference import plan as plans
from ddpm_ref.sampling.device import on_threads
from ddpm_ref.training.checkpoint import Checkpoint
from ddpm_ref.training.config import Config
from ddpm_ref.training.data import load
from ddpm_ref.training.folder import CHECKPOINT_NAME, LOG_NAME
from ddpm_ref.training.loop import fit
from ddpm_ref.training.plots import loss_figure
from ddpm_ref.training.progress import Report, console
from ddpm_ref.training.samples import draw_samples

MARK_NAME = "demo.json"
"""The file by which a folder is known as a demo's."""

RESULTS = ("samples.png", "forward.png", "posterior.png", "loss.png", "summary.json", "index.html")
"""What is made after training."""

SHOWN = 64
"""How many digits a picture shows."""

SHOWN_DIGIT = 3
"""Of which the first held-out image is shown under noise."""


def run(
    output: Path | str,
    seconds: float | int = 90.0,
    seed: int = 0,
    samples: int = COUNT,
    steps: int = 100,
    threads: int = 1,
    progress: Report | None = None,
) -> Summary:
    """Train on the digits of scikit-learn, save, load again, sample by Algorithm 2 on a strided trajectory, and judge.

    Args:
        output: folder for the checkpoint, the pictures, ``summary.json`` and ``index.html``.
        seconds: training time.
        seed: of everything.
        samples: how many digits to make, >= 1; from 450 on they are judged.
        steps: reverse steps, 1..1000, evenly spaced.
        threads: of the processor, >= 1. Two are faster only where no other process wants the second.
        progress: told after every step; the console if None.

    Returns:
        the figures.

    Raises:
        OutputError: results cannot be written to ``output``, or it holds a run that is not a demo's; found out before
            training starts.
        RangeError, ScheduleError: an argument out of range, likewise.
    """
    config = Config(max_seconds=seconds, seed=seed)
    if isinstance(samples, bool) or samples < 1:
        raise RangeError(f"samples is {samples}; make at least 1")
    schedule, folder = config.schedule.build(), Path(output)
    plan = plans.ancestral(schedule, schedule.trajectory(steps), clip=(-1.0, 1.0))

    watching = contextlib.nullcontext(progress) if progress is not None else console()
    with on_threads(threads), watching as report:
        _begin(folder)
        trained = fit(config, folder, report, overwrite=True)
        checkpoint = Checkpoint.load(folder / CHECKPOINT_NAME)  # what is sampled is what was saved
        begun = time.monotonic()
        x = draw_samples(checkpoint, samples, plan, seed, progress=report)
        sampling_seconds = time.monotonic() - begun
        images = load(config.dataset)
        quality = judge(images, x, seed) if samples >= COUNT else None

    digit = images.held_out[images.held_out_labels == SHOWN_DIGIT][0]
    drawn = {
        "samples.png": pictures.samples_beside_real(images.held_out[: len(x[:SHOWN])], x[:SHOWN]),
        "forward.png": pictures.under_noise(schedule, digit, checkpoint.denoiser(), seed),
        "posterior.png": pictures.three_points(schedule, digit, seed),
        "loss.png": loss_figure(checkpoint.losses, trained.held_out_loss),
    }
    for name, png in drawn.items():
        write_atomically(folder / name, png)
    summary = Summary(
        ddpm_ref=ddpm_ref.__version__,
        torch=torch.__version__,
        seed=seed,
        parameters=sum(weight.numel() for weight in checkpoint.weights.values()),
        training_steps=checkpoint.steps,
        training_seconds=checkpoint.seconds,
        stopped=trained.stopped,
        held_out_loss=trained.held_out_loss,
        sampler="ancestral, posterior variance, even spacing, predicted x0 clipped to [-1, 1], no noise on the last step",
        reverse_steps=steps,
        samples=samples,
        sampling_seconds=sampling_seconds,
        schedule_digest=schedule.digest,
        quality=quality,
        files=(CHECKPOINT_NAME, LOG_NAME, *RESULTS),
    )
    write_atomically(folder / "summary.json", summary.to_json().encode())
    write_atomically(folder / "index.html", page.render(summary).encode())
    return summary


def _begin(folder: Path) -> None:
    # A demo replaces a demo, never somebody's own run; and an older page must not stand beside a newer checkpoint.
    if (folder / CHECKPOINT_NAME).exists() and not (folder / MARK_NAME).exists():
        raise OutputError(
            f"{folder} holds a run that is not a demo's; it is left alone, name a new folder or that of an earlier demo"
        )
    claim_folder(folder)
    write_atomically(folder / MARK_NAME, b"{}\n")
    for name in RESULTS:
        (folder / name).unlink(missing_ok=True)
