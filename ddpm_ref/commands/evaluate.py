"""``ddpm-ref evaluate``: how many bits a trained network needs for images, an upper bound, term by term."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ddpm_ref.commands.json_numbers import finite
from ddpm_ref.commands.measurements import GO_ON, known, table_and_plot, told_how_to_go_on
from ddpm_ref.commands.surroundings import threads_of, warnings_in_a_line
from ddpm_ref.commands.training import refuse_points
from ddpm_ref.errors import RangeError
from ddpm_ref.exit_status import INTERRUPTED, OK
from ddpm_ref.extras import require
from ddpm_ref.reference.analytic import optimal_trajectory
from ddpm_ref.reference.trajectory import Spacing, Trajectory
from ddpm_ref.typing import Array

if TYPE_CHECKING:
    from ddpm_ref.training.folder import Found


def evaluate(
    run: tyro.conf.Positional[Path],
    count: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: all there are)")] = None,
    images: Literal["train", "held-out"] = "held-out",
    steps: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: all levels)")] = None,
    spacing: Spacing | Literal["optimal"] = "even",
    variance: Annotated[
        Literal["posterior", "beta", "analytic", "learned", "learned-range"] | None,
        tyro.conf.arg(help_behavior_hint="(default: what the network learned, else posterior)"),
    ] = None,
    first_step: Annotated[
        Literal["replace", "replace-unstrided", "floor", "exact"] | None,
        tyro.conf.arg(help_behavior_hint="(default: replace; exact for analytic)"),
    ] = None,
    moments: Annotated[
        Path | None, tyro.conf.arg(help_behavior_hint="(default: moments.safetensors of the run)")
    ] = None,
    form: Annotated[
        Literal["residual", "mean-square"] | None, tyro.conf.arg(help_behavior_hint="(default: residual)")
    ] = None,
    clip: bool = True,
    continuous: bool = False,
    as_levels: int | None = None,
    batch_size: int = 256,
    seed: int = 0,
    weights: Literal["ema", "raw"] | None = None,
    output: Path | None = None,
    overwrite: bool = False,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
    device: str = "cpu",
    threads: int = 1,
) -> int:
    """Bound the bits per dimension that a network needs for images; Ctrl-C keeps the work, the same command goes on.

    Leaves a file, a table (JSON) and a plot of the terms.

    Args:
        run: folder of a run, or one checkpoint.
        count: how many images.
        images: those held out, or those it was trained on, of which it knows more than it should.
        steps: of the trajectory, from T down to 0.
        spacing: of its levels: even, trailing, or another that begins at T; optimal, of least path cost, from moments.
        variance: of the reverse steps: posterior (fixed small), beta (fixed large), analytic (optimal, from moments; see
            ddpm-ref analyze), or what the network learned.
        first_step: what stands for the variance of the step to level 0: that of the second step of the trajectory
            (replace), of the step from 2 to 1 (replace-unstrided), at least 1e-20 (floor), or what it is (exact).
        moments: for analytic and optimal, what ddpm-ref analyze wrote.
        form: for these, from the error of the predicted noise or its mean square.
        clip: clip the predicted x0 to [-1, 1] in every step; --no-clip for points.
        continuous: take the images for continuous data, with a density instead of a decoder.
        as_levels: with --continuous, also say the bound as if the data had so many levels.
        batch_size: images times steps in one forward pass.
        seed: of the noise.
        weights: the moving average or the weights of the last step; None for the average if the run kept one.
        output: FILE.safetensors, beside which FILE.json and FILE.png go; evaluation.safetensors in the run's folder if
            left out.
        overwrite: replace what another evaluation left there.
        as_json: print the table as JSON.
        device: where to compute, e.g. cpu or cuda.
        threads: on a CPU.
    """
    for module in ("torch", "safetensors", "sklearn", "matplotlib"):
        require(module, "train")
    from ddpm_ref import evaluation
    from ddpm_ref.estimation.moments import network_digest
    from ddpm_ref.evaluation.plots import figure
    from ddpm_ref.evaluation.record import EVALUATION_NAME
    from ddpm_ref.evaluation.report import describe
    from ddpm_ref.files import write_atomically
    from ddpm_ref.sampling.device import usable
    from ddpm_ref.training.data import load
    from ddpm_ref.training.folder import latest
    from ddpm_ref.training.progress import console

    if as_levels is not None and (not continuous or as_levels < 2):
        raise RangeError(
            f"--as-levels {as_levels}: a number >= 2 of levels that continuous data lack; add --continuous"
        )
    if count is not None and count < 2:
        raise RangeError(f"--count {count}: a standard error needs at least 2 images, and a good one many")
    with warnings_in_a_line(), threads_of(threads):
        place, found = usable(device), latest(run)
        checkpoint = found.checkpoint
        if clip:
            refuse_points(found)
        target = found.path.parent / EVALUATION_NAME if output is None else output
        table, plot = table_and_plot(target, overwrite)
        whole = load(checkpoint.config.dataset)
        data = whole.train if images == "train" else whole.held_out
        if count is not None and count > len(data):
            raise RangeError(f"--count {count}: there are {len(data)} {images} images")
        denoiser = checkpoint.denoiser(place, weights=weights)
        kept = (variance or denoiser.variance or "posterior").replace("-", "_")
        walk, x0_variance, said = _steps(found, weights, steps, spacing, kept, moments, form)
        with told_how_to_go_on(), console() as report:
            result = evaluation.evaluate(
                denoiser,
                checkpoint.schedule,
                data[:count],
                walk,
                variance=kept,
                first_step=None if first_step is None else first_step.replace("-", "_"),
                x0_variance=x0_variance,
                clip_x0=clip,
                levels=None if continuous else whole.levels,
                batch_size=batch_size,
                seed=seed,
                network=network_digest(checkpoint, weights),
                device=device,
                output=target,
                overwrite=overwrite,
                progress=report,
            )
    if result.interrupted:
        print(GO_ON, file=sys.stderr)
        return INTERRUPTED
    values = finite(
        result.as_json() | ({} if as_levels is None else {f"as_{as_levels}_levels": result.as_if_discrete(as_levels)})
    )
    write_atomically(table, (json.dumps(values, indent=1) + "\n").encode())
    write_atomically(plot, figure(result))
    if as_json:
        print(json.dumps(values))
    else:
        print(*said, describe(result, as_levels=as_levels), target, table, plot, sep="\n")
    return OK


def _steps(
    found: "Found",
    weights: str | None,
    steps: int | None,
    spacing: str,
    variance: str,
    moments: Path | None,
    form: str | None,
) -> tuple[Trajectory | None, Array | None, list[str]]:
    """The trajectory, what is unknown of the data if the variance is made of that, and what is to be said of it."""
    schedule, measured = found.checkpoint.schedule, variance == "analytic" or spacing == "optimal"
    if not measured and (moments is not None or form is not None):
        flag = "--moments" if moments is not None else "--form"
        raise RangeError(
            f"{flag} belongs to --variance analytic and --spacing optimal; leave it out, or write one of them"
        )
    if spacing == "optimal" and steps is None:
        raise RangeError("--spacing optimal chooses some of the levels; write --steps, e.g. --steps 50")
    before = known(found, weights, moments, form) if measured else None
    if steps is None:
        walk = Trajectory(tuple(range(schedule.T, -1, -1)))
    elif spacing == "optimal":
        assert before is not None
        walk = optimal_trajectory(schedule, before.x0_variance, steps, 1.0).trajectory
    else:
        walk = schedule.trajectory(steps, spacing)
    if before is None or variance != "analytic":
        return walk, None, []
    used, clipping = before.at(found, walk.levels[:-1])
    return walk, used, [f"{before}: {clipping}"]
