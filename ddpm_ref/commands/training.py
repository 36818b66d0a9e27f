"""``ddpm-ref train``, ``sample`` and ``report``."""

import contextlib
import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Literal, TextIO

import tyro

from ddpm_ref.cli import INTERRUPTED
from ddpm_ref.commands.output import refuse_unwritable
from ddpm_ref.commands.sampling_flags import plan_of
from ddpm_ref.commands.status import OK, finite
from ddpm_ref.commands.training_flags import NO_SCHEDULE, ProcessFlags, TrainingFlags, merged
from ddpm_ref.errors import RangeError
from ddpm_ref.extras import require
from ddpm_ref.reference.trajectory import Spacing


def train(
    output: Path,
    config: Annotated[TrainingFlags, tyro.conf.arg(name="")],
    schedule: tyro.conf.DisallowNone[ProcessFlags] = NO_SCHEDULE,
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
        if not resume and config.get("max_steps") is not None and "max_seconds" not in config:
            config["max_seconds"] = None  # who says how many steps to make wants all of them
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
    sampler: Literal["ddpm", "ddim"] = "ddpm",
    steps: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: 100, or T if that is less)")] = None,
    spacing: Spacing = "even",
    variance: Literal["posterior", "beta"] | None = None,
    eta: float | None = None,
    clip: bool = True,
    threshold: float | None = None,
    keep_eps: bool = False,
    noise: Literal["generator", "philox"] = "generator",
    seed: int = 0,
    batch_size: int = 256,
    states: int = 0,
    weights: Literal["ema", "raw"] | None = None,
    output: Path | None = None,
    device: str = "cpu",
    threads: int = 1,
) -> int:
    """Sample images from a trained network, on any trajectory; Ctrl-C keeps the batches that are finished.

    Args:
        run: folder of a run, or one checkpoint.
        count: how many images.
        sampler: ddpm (ancestral sampling, Algorithm 2) or ddim.
        steps: reverse steps, 1 to T.
        spacing: how the levels are spread.
        variance: of the steps of ddpm: posterior (fixed small, the default) or beta (fixed large).
        eta: of ddim, 0 (deterministic, the default) to 1 (ancestral with the posterior variance).
        clip: clip the predicted x0 to [-1, 1] in every step.
        threshold: percentile, e.g. 99.5, of dynamic thresholding, which takes the place of clipping.
        keep_eps: after clipping, ddim goes on with the network's own eps instead of the one that the clipped x0 implies.
        noise: generator (torch's, fast) or philox (the same numbers for every batch size and device).
        seed: of the noise.
        batch_size: images made at once.
        states: how many states on the way, from pure noise on and evenly spread over the steps, go into the .npz file.
        weights: the moving average or the weights of the last step; None for the average if the run kept one.
        output: FILE.png for a picture, FILE.npz for the numbers and how they were made; samples.png in the run's folder
            if left out.
        device: where to compute, e.g. cpu or cuda.
        threads: on a CPU.
    """
    _require_extras()
    from ddpm_ref.training.folder import latest
    from ddpm_ref.training.progress import console
    from ddpm_ref.training.samples import check_format, draw, write_samples

    for flag, value in {"--count": count, "--batch-size": batch_size}.items():
        if value < 1:
            raise RangeError(f"{flag} {value}: make at least 1 image")
    if states < 0 or (states and (output is None or output.suffix != ".npz")):
        raise RangeError(f"--states {states}: states are numbers >= 0 of arrays; write --output FILE.npz beside it")
    with _warnings_in_a_line(), _threads(threads):
        found = latest(run)
        checkpoint, target = found.checkpoint, found.path.parent / "samples.png" if output is None else output
        check_format(target)
        refuse_unwritable("--output", target)
        schedule = checkpoint.schedule
        if steps is None:
            steps = min(schedule.T, 100)
        if steps > schedule.T:
            raise RangeError(
                f"--steps {steps}: the run has T = {schedule.T} levels, and every step goes down by at least one; "
                f"write --steps {schedule.T} or fewer"
            )
        if states > steps:
            raise RangeError(f"--states {states}: {steps} steps begin at {steps} states; write at most {steps}")
        plan = plan_of(schedule, schedule.trajectory(steps, spacing), sampler, variance, eta, clip, threshold, keep_eps)
        levels = [plan.trajectory.levels[k * steps // states] for k in range(states)]
        with console() as report:
            drawn = draw(
                checkpoint,
                count,
                plan,
                seed,
                noise=noise,
                batch_size=batch_size,
                levels=levels,
                weights=weights,
                progress=report,
                device=device,
            )
    made = len(drawn.images)
    arguments = {
        "count": made,
        "sampler": sampler,
        "steps": steps,
        "spacing": spacing,
        "variance": (variance or "posterior") if sampler == "ddpm" else None,
        "eta": (eta or 0.0) if sampler == "ddim" else None,
        "clip": clip and threshold is None,
        "threshold": threshold,
        "keep_eps": keep_eps,
        "noise": noise,
        "seed": seed,
        "batch_size": batch_size,
        "weights": weights or ("raw" if checkpoint.average is None else "ema"),
        "training_steps": checkpoint.steps,
        "schedule_digest": schedule.digest,
    }
    write_samples(target, drawn.images.numpy(), arguments, {t: x.numpy() for t, x in drawn.states.items()})
    print(f"{made} images in {steps} steps from {found.path}\n{target}")
    if drawn.interrupted:
        print(f"ddpm-ref: interrupted; {made} of {count} images were finished and are written", file=sys.stderr)
        return INTERRUPTED
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


def _threads(count: int) -> AbstractContextManager[None]:
    from ddpm_ref.sampling.device import on_threads

    if count < 1:
        raise RangeError(f"--threads {count}: at least one is needed")
    return on_threads(count)


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
