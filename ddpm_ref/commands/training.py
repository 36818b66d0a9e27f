"""``ddpm-ref train``, ``sample`` and ``report``."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ddpm_ref.commands.analytic_flags import NO_ANALYTIC, AnalyticFlags, analytic_plan, refuse_analytic
from ddpm_ref.commands.guidance_flags import NO_GUIDANCE, GuidanceFlags, guidance_of
from ddpm_ref.commands.json_numbers import finite
from ddpm_ref.commands.output import refuse_unwritable
from ddpm_ref.commands.sampling_flags import plan_of, variance_of
from ddpm_ref.commands.surroundings import require_extras, threads_of, warnings_in_a_line
from ddpm_ref.commands.training_flags import (
    NO_SCHEDULE,
    ProcessFlags,
    RunFlags,
    TrainingFlags,
    accuracy_table,
    merged,
    with_labels,
)
from ddpm_ref.errors import RangeError
from ddpm_ref.exit_status import INTERRUPTED, OK
from ddpm_ref.reference.trajectory import Spacing, make

if TYPE_CHECKING:
    from ddpm_ref.training import Config
    from ddpm_ref.training.folder import Found


def train(
    output: Path,
    config: Annotated[TrainingFlags, tyro.conf.arg(name="")],
    schedule: tyro.conf.DisallowNone[ProcessFlags] = NO_SCHEDULE,
    conditional: bool = False,
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
        conditional: tell the network the labels of the data set, most of the time (--label-dropout); then
            sample RUN --label 7 --guidance-weight 2.
        resume: go on with the run in --output; of the flags of the run only --max-steps, --max-seconds,
            --checkpoint-seconds and --log-every may then say something new.
        overwrite: replace the run in --output, if there is one.
        device: where to compute, e.g. cpu or cuda.
        threads: on a CPU. For small images one is nearly as fast as two, and much faster where others want the second.
    """
    require_extras()
    from ddpm_ref.training import Config
    from ddpm_ref.training.data import load

    dataset = config.get("dataset", "digits")
    fresh = Config.from_dict({"dataset": dataset})
    if conditional:
        config = with_labels(config, load(dataset).classes, resume)
    return run_training("train", fresh, output, config, schedule, resume, overwrite, device, threads)


def run_training(
    command: str,
    fresh: "Config",
    output: Path,
    flags: RunFlags,
    schedule: ProcessFlags,
    resume: bool,
    overwrite: bool,
    device: str,
    threads: int,
) -> int:
    """Train, and say what came of it: what `train` and `train-classifier` share.

    Args:
        command: which of them it is.
        fresh: the config of a new run without flags.
        output, flags, schedule, resume, overwrite, device, threads: as the user gave them.
    """
    from ddpm_ref.training import Config, fit
    from ddpm_ref.training.folder import latest
    from ddpm_ref.training.progress import console

    with warnings_in_a_line(), threads_of(threads):
        stored = latest(output).checkpoint.config if resume else fresh
        if stored.is_classifier != fresh.is_classifier:
            other, what = ("train-classifier", "a classifier") if stored.is_classifier else ("train", "a denoiser")
            raise RangeError(f"{output} holds {what}; go on with: ddpm-ref {other} --output {output} --resume")
        if not resume and flags.get("max_steps") is not None and "max_seconds" not in flags:
            flags["max_seconds"] = None  # who says how many steps to make wants all of them
        before = stored.to_dict()
        if flags.get("dataset", stored.dataset) != stored.dataset:
            before["network"] = {}  # that of another data set has other sizes
        wanted = Config.from_dict(merged(before, flags, schedule))
        with console() as report:
            run = fit(wanted, output, report, device=device, resume=resume, overwrite=overwrite)
    parts = ", ".join(f"{name} {mean:.4f}" for name, mean in run.held_out_parts.items())
    done, why = run.checkpoint, {"steps": "--max-steps", "time": "--max-seconds"}.get(run.stopped)
    print(
        f"{done.steps} steps in {done.seconds:.0f} s ({f'{why} reached' if why else 'interrupted'}), "
        f"held-out loss {run.held_out_loss:.4f}" + (f" ({parts})" if parts else "")
    )
    if run.accuracy is not None:
        print(accuracy_table(run.accuracy))
    print(run.path)
    if why is None:
        print(f"go on with: ddpm-ref {command} --output {output} --resume", file=sys.stderr)
        return INTERRUPTED
    return OK


def sample(
    run: tyro.conf.Positional[Path],
    count: int = 64,
    sampler: Literal["ddpm", "ddim", "analytic"] = "ddpm",
    steps: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: 100, or T if that is less)")] = None,
    spacing: Spacing | Literal["optimal"] = "even",
    variance: Literal["posterior", "beta", "learned", "learned_range", "learned-range"] | None = None,
    eta: float | None = None,
    clip: bool = True,
    threshold: float | None = None,
    keep_eps: bool = False,
    noise: Literal["generator", "philox"] = "generator",
    seed: int = 0,
    first: int = 0,
    batch_size: int = 256,
    states: int = 0,
    weights: Literal["ema", "raw"] | None = None,
    guidance: Annotated[GuidanceFlags, tyro.conf.OmitArgPrefixes] = NO_GUIDANCE,
    analytic: Annotated[AnalyticFlags, tyro.conf.OmitArgPrefixes] = NO_ANALYTIC,
    output: Path | None = None,
    device: str = "cpu",
    threads: int = 1,
) -> int:
    """Sample images from a trained network, on any trajectory; Ctrl-C keeps the batches that are finished.

    Args:
        run: folder of a run, or one checkpoint.
        count: how many images.
        sampler: ddpm (ancestral sampling, Algorithm 2), ddim, or analytic (the optimal variance; see ddpm-ref analyze).
        steps: reverse steps, 1 to T.
        spacing: how the levels are spread; optimal, of least path cost, for analytic.
        variance: of the steps of ddpm: posterior (fixed small), beta (fixed large), or that which the run has learned,
            learned_range or learned. The default is the learned one where there is one, else posterior.
        eta: of ddim, 0 (deterministic, the default) to 1 (ancestral with the posterior variance); of analytic, 0 to 1
            (the default).
        clip: clip the predicted x0 to [-1, 1] in every step; --no-clip for points.
        threshold: percentile, e.g. 99.5, of dynamic thresholding, which takes the place of clipping.
        keep_eps: after clipping, ddim goes on with the network's own eps instead of the one that the clipped x0 implies.
        noise: generator (torch's, fast) or philox (the same numbers for every batch size and device).
        seed: of the noise.
        first: index of the first image: where an interrupted run of the same seed left off.
        batch_size: images made at once.
        states: how many states on the way, from pure noise on and evenly spread over the steps, go into the .npz file.
        weights: the moving average or the weights of the last step; None for the average if the run kept one.
        guidance: which classes the images shall be of.
        analytic: what the optimal variance is made of.
        output: FILE.png for a picture, FILE.npz for the numbers and how they were made; samples.png in the run's folder
            if left out.
        device: where to compute, e.g. cpu or cuda.
        threads: on a CPU.
    """
    require_extras()
    from ddpm_ref.training.folder import latest
    from ddpm_ref.training.progress import console
    from ddpm_ref.training.samples import check_format, draw, write_samples

    for flag, value in {"--count": count, "--batch-size": batch_size}.items():
        if value < 1:
            raise RangeError(f"{flag} {value}: make at least 1 image")
    if first < 0:
        raise RangeError(f"--first {first}: images are counted from 0")
    if states < 0 or (states and (output is None or output.suffix != ".npz")):
        raise RangeError(f"--states {states}: states are numbers >= 0 of arrays; write --output FILE.npz beside it")
    with warnings_in_a_line(), threads_of(threads):
        found = latest(run)
        checkpoint, target = found.checkpoint, found.path.parent / "samples.png" if output is None else output
        check_format(target)
        refuse_unwritable("--output", target)
        schedule = checkpoint.schedule
        if clip or threshold is not None:
            refuse_points(found)
        if steps is None:
            steps = min(schedule.T, 100)
        if steps > schedule.T:
            raise RangeError(
                f"--steps {steps}: the run has T = {schedule.T} levels, and every step goes down by at least one; "
                f"write --steps {schedule.T} or fewer"
            )
        if states > steps:
            raise RangeError(f"--states {states}: {steps} steps begin at {steps} states; write at most {steps}")
        refuse_analytic(analytic, sampler, spacing, guidance.label is not None)
        guided = guidance_of(guidance, checkpoint, run)
        spread = variance_of(sampler, variance, checkpoint.config.variance)
        of_plan: dict[str, Any] = {}
        if sampler == "analytic":
            plan, of_plan = analytic_plan(
                found, weights, steps, spacing, analytic, spread, eta, clip, threshold, keep_eps
            )
        else:
            walk = make(schedule, steps, spacing)
            plan = plan_of(schedule, walk, sampler, spread, eta, clip, threshold, keep_eps)
        levels = [plan.trajectory.levels[k * steps // states] for k in range(states)]
        with console() as report:
            drawn = draw(
                checkpoint,
                count,
                plan,
                seed,
                first=first,
                noise=noise,
                batch_size=batch_size,
                levels=levels,
                weights=weights,
                progress=report,
                device=device,
                guidance=guided,
            )
    made = len(drawn.images)
    arguments = {
        "count": made,
        "first": first,
        "sampler": sampler,
        "steps": steps,
        "spacing": spacing,
        "variance": spread,
        "eta": {"ddpm": None, "ddim": eta or 0.0, "analytic": 1.0 if eta is None else eta}[sampler],
        "clip": clip and threshold is None,
        "threshold": threshold,
        "keep_eps": keep_eps,
        "noise": noise,
        "seed": seed,
        "batch_size": batch_size,
        "weights": weights or ("raw" if checkpoint.average is None else "ema"),
        "training_steps": checkpoint.steps,
        "schedule_digest": schedule.digest,
        **({} if guided is None else guided.arguments()),
        **of_plan,
    }
    columns = None if guided is None else guided.columns(made)
    write_samples(target, drawn.images.numpy(), arguments, {t: x.numpy() for t, x in drawn.states.items()}, columns)
    print(f"{made} images in {steps} steps from {found.path}\n{target}")
    if drawn.interrupted:
        rest = f"; the rest: --first {first + made} --count {count - made}"
        print(f"ddpm-ref: interrupted; {made} of {count} images were finished and are written{rest}", file=sys.stderr)
        return INTERRUPTED
    return OK


def refuse_points(found: "Found") -> None:
    """Refuse a run of points where predictions are to be clipped to the range of images (`RangeError`)."""
    if len(found.checkpoint.shape) == 1:
        raise RangeError(
            f"{found.path}: the run is of points, which lie anywhere, and not of images in [-1, 1]; write --no-clip"
        )


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
    require_extras()
    from ddpm_ref.files import write_atomically
    from ddpm_ref.training.plots import loss_figure
    from ddpm_ref.training.summary import describe, summarise

    with warnings_in_a_line():
        summary = summarise(run)
    if plot:
        picture = summary.path.parent / "loss.png"
        write_atomically(picture, loss_figure(summary.checkpoint.losses, summary.held_out_loss))
    print(json.dumps(finite(summary.as_json())) if as_json else describe(summary))
    if plot and not as_json:
        print(picture)
    return OK
