"""``ddpm-ref train``, ``sample`` and ``report``."""

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, TextIO

import tyro

from ddpm_ref.cli import INTERRUPTED
from ddpm_ref.commands.status import OK, finite
from ddpm_ref.commands.training_flags import NO_SCHEDULE, ScheduleFlags, TrainingFlags, merged
from ddpm_ref.errors import OutputError, RangeError
from ddpm_ref.extras import require
from ddpm_ref.reference.trajectory import Spacing


def train(
    output: Path,
    config: Annotated[TrainingFlags, tyro.conf.arg(name="")],
    schedule: ScheduleFlags = NO_SCHEDULE,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
    threads: int = 1,
) -> int:
    """Train a U-Net; Ctrl-C keeps the work, and --resume goes on with it.

    Args:
        output: folder for checkpoints and log.
        config: what to train, and how.
        schedule: the forward process.
        resume: go on with the run in --output; of the flags of the run only --max-steps, --max-seconds,
            --checkpoint-seconds and --log-every may then say something new.
        overwrite: replace the run in --output, if there is one.
        device: where to compute, e.g. cpu or cuda.
        threads: on a CPU. For small images one is nearly as fast as two, and much faster where others want the second.
    """
    _require_extras()
    from ddpm_ref.training import Config, fit
    from ddpm_ref.training.folder import latest
    from ddpm_ref.training.progress import console

    with _warnings_in_a_line(), _threads(threads):
        stored = latest(output).checkpoint.config if resume else Config()
        wanted = Config.from_dict(merged(stored.to_dict(), config, schedule))
        with console() as report:
            run = fit(wanted, output, report, device=device, resume=resume, overwrite=overwrite)
    done, why = run.checkpoint, {"steps": "--max-steps", "time": "--max-seconds"}.get(run.stopped)
    print(
        f"{done.steps} steps in {done.seconds:.0f} s ({f'{why} reached' if why else 'interrupted'}), "
        f"held-out loss {run.held_out_loss:.4f}\n{run.path}"
    )
    if why is None:
        print(f"go on with: ddpm-ref train --output {output} --resume", file=sys.stderr)
        return INTERRUPTED
    return OK


def sample(
    run: tyro.conf.Positional[Path],
    count: int = 64,
    steps: int = 100,
    spacing: Spacing = "even",
    variance: Literal["posterior", "beta"] = "posterior",
    clip: bool = True,
    seed: int = 0,
    weights: Literal["ema", "raw"] | None = None,
    output: Path | None = None,
    device: str = "cpu",
    threads: int = 1,
) -> int:
    """Sample images from a trained network, by Algorithm 2 on a strided trajectory.

    Args:
        run: folder of a run, or one checkpoint.
        count: how many images.
        steps: reverse steps, 1 to T.
        spacing: how the levels are spread.
        variance: of the reverse steps: posterior (fixed small) or beta (fixed large).
        clip: clip the predicted x0 to [-1, 1] in every step.
        seed: of the noise.
        weights: the moving average or the weights of the last step; None for the average if the run kept one.
        output: FILE.png for a picture, FILE.npz for the numbers and how they were made; samples.png in the run's folder
            if left out.
        device: where to compute, e.g. cpu or cuda.
        threads: on a CPU.
    """
    _require_extras()
    from ddpm_ref.reference import plan as plans
    from ddpm_ref.training.folder import latest
    from ddpm_ref.training.progress import console
    from ddpm_ref.training.samples import draw_samples, write_samples

    if count < 1:
        raise RangeError(f"--count {count}: make at least 1 image")
    with _warnings_in_a_line(), _threads(threads):
        found = latest(run)
        checkpoint, target = found.checkpoint, found.path.parent / "samples.png" if output is None else output
        _refuse_unwritable(target)
        trajectory = checkpoint.schedule.trajectory(steps, spacing)
        plan = plans.ancestral(checkpoint.schedule, trajectory, variance, clip=(-1.0, 1.0) if clip else None)
        with console() as report:
            images = draw_samples(checkpoint, count, plan, seed, weights=weights, progress=report, device=device)
    arguments = {
        "count": count,
        "steps": steps,
        "spacing": spacing,
        "variance": variance,
        "clip": clip,
        "seed": seed,
        "weights": weights or ("raw" if checkpoint.average is None else "ema"),
        "training_steps": checkpoint.steps,
        "schedule_digest": checkpoint.schedule.digest,
    }
    write_samples(target, images.numpy(), arguments)
    print(f"{count} images in {steps} steps from {found.path}\n{target}")
    return OK


def report(
    run: tyro.conf.Positional[Path],
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
    plot: bool = False,
) -> int:
    """Say what a run has done: config, steps, losses.

    Args:
        run: folder of a run.
        as_json: print JSON.
        plot: write loss.png into the folder.
    """
    _require_extras()
    from ddpm_ref.files import write_atomically
    from ddpm_ref.training.plots import loss_figure
    from ddpm_ref.training.summary import describe, summarise

    with _warnings_in_a_line():
        summary = summarise(run)
    if plot:
        picture = summary.path.parent / "loss.png"
        write_atomically(picture, loss_figure(summary.checkpoint.losses, summary.held_out_loss))
    print(json.dumps(finite(summary.as_json())) if as_json else describe(summary))
    if plot and not as_json:
        print(picture)
    return OK


def _require_extras() -> None:
    for module in ("torch", "safetensors", "sklearn", "PIL"):
        require(module, "train")


def _refuse_unwritable(path: Path) -> None:
    # Before any work is done.
    from ddpm_ref.training.samples import check_format

    check_format(path)
    if path.is_dir():
        raise OutputError(f"--output {path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise OutputError(f"--output {path}: the folder {path.parent} does not exist; make it first")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"--output {path}: {path.parent} cannot be written; name a folder you may write to")


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    if count < 1:
        raise RangeError(f"--threads {count}: at least one is needed")
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    # A user of the command line wants the sentence, not the line of code that said it.
    from ddpm_ref.training.folder import DamagedCheckpointWarning

    shown = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        said = f"ddpm-ref: warning: {' '.join(str(message).split())}"
        if said not in shown:
            print(said, file=sys.stderr)
        shown.add(said)

    with warnings.catch_warnings():
        warnings.simplefilter("always", DamagedCheckpointWarning)
        warnings.showwarning = show
        yield
