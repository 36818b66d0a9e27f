"""``ddpm-ref analyze``: what a trained network leaves unknown of its data, for the variances of the reverse steps."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ddpm_ref.commands.json_numbers import finite
from ddpm_ref.commands.measurements import GO_ON, table_and_plot, told_how_to_go_on
from ddpm_ref.commands.surroundings import threads_of, warnings_in_a_line
from ddpm_ref.errors import RangeError
from ddpm_ref.exit_status import INTERRUPTED, OK
from ddpm_ref.extras import require
from ddpm_ref.reference.trajectory import Spacing


def analyze(
    run: tyro.conf.Positional[Path],
    count: int = 256,
    steps: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: all levels)")] = None,
    spacing: Spacing = "even",
    images: Literal["train", "held-out"] = "train",
    draws: int = 1,
    batch_size: int = 256,
    seed: int = 0,
    low: float = -1.0,
    high: float = 1.0,
    weights: Literal["ema", "raw"] | None = None,
    form: Literal["residual", "mean-square"] = "residual",
    eta: float = 1.0,
    confidence: float = 0.95,
    output: Path | None = None,
    overwrite: bool = False,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
    processes: int = 1,
    device: str = "cpu",
    threads: int = 1,
) -> int:
    """Measure what a network leaves unknown of its data, level by level; Ctrl-C keeps the work, the same command goes on.

    Leaves a file for sample --sampler analytic, a table (JSON) and a plot. Measured once, other values of --form, --eta
    and --confidence cost nothing.

    Args:
        run: folder of a run, or one checkpoint.
        count: how many images; each says the most by itself, more draws of the same say less.
        steps: measure the levels of a trajectory of so many steps instead of all.
        spacing: of that trajectory.
        images: those it was trained on, or those held out.
        draws: noises per image and level.
        batch_size: images times draws in one forward pass.
        seed: of the noise.
        low: every value of the images is at least this.
        high: every value of the images is at most this.
        weights: the moving average or the weights of the last step; None for the average if the run kept one.
        form: for table and plot, the error of the predicted noise (right for every network) or its mean square (right
            for the optimal network).
        eta: for table and plot, of the forward family, 0 (DDIM) to 1 (DDPM).
        confidence: of the intervals in table and plot, in (0, 1).
        output: FILE.safetensors, beside which FILE.json and FILE.png go; moments.safetensors in the run's folder if left
            out.
        overwrite: replace what another measurement left there.
        as_json: print the table as JSON.
        processes: how many compute; the numbers are the same for any.
        device: where to compute, e.g. cpu or cuda.
        threads: on a CPU, of each process.
    """
    for module in ("torch", "safetensors", "sklearn", "matplotlib"):
        require(module, "train")
    from ddpm_ref.estimation.analysis import analyse, describe
    from ddpm_ref.estimation.measurement import estimate
    from ddpm_ref.estimation.moments import MOMENTS_NAME, network_digest
    from ddpm_ref.estimation.plots import figure
    from ddpm_ref.files import write_atomically
    from ddpm_ref.sampling.device import usable
    from ddpm_ref.training.data import load
    from ddpm_ref.training.folder import latest
    from ddpm_ref.training.progress import console

    if count < 2:
        raise RangeError(f"--count {count}: an interval needs at least 2 images, and a good one many")
    if not 0 < confidence < 1:
        raise RangeError(f"--confidence {confidence:g} is a share in (0, 1), e.g. 0.95")
    if not 0 <= eta <= 1:
        raise RangeError(f"--eta {eta:g}: from 0 (DDIM) to 1 (DDPM)")
    with warnings_in_a_line(), threads_of(threads):
        place, found = usable(device), latest(run)
        checkpoint, schedule = found.checkpoint, found.checkpoint.schedule
        target = found.path.parent / MOMENTS_NAME if output is None else output
        table, plot = table_and_plot(target, overwrite)
        if form == "mean-square" and schedule.alpha_bar[-1] == 0:
            raise RangeError(
                "--form mean-square says nothing at level T, which has no signal (zero terminal SNR); write --form residual"
            )
        whole = load(checkpoint.config.dataset)
        data = whole.train if images == "train" else whole.held_out
        if count > len(data):
            raise RangeError(f"--count {count}: there are {len(data)} {images} images; more --draws say a little more")
        walk = None if steps is None else schedule.trajectory(steps, spacing)
        with told_how_to_go_on(), console() as report:
            measured = estimate(
                checkpoint.denoiser(place, weights=weights),
                schedule,
                data[:count],
                None if walk is None else walk.levels[:-1],
                draws=draws,
                batch_size=batch_size,
                seed=seed,
                low=low,
                high=high,
                network=network_digest(checkpoint, weights),
                processes=processes,
                device=device,
                output=target,
                overwrite=overwrite,
                progress=report,
            )
    if measured.interrupted:
        print(GO_ON, file=sys.stderr)
        return INTERRUPTED
    analysis = analyse(schedule, measured.moments, walk, form=form.replace("-", "_"), eta=eta, confidence=confidence)
    write_atomically(table, (json.dumps(finite(analysis.as_json()), indent=1) + "\n").encode())
    write_atomically(plot, figure(analysis))
    if as_json:
        print(json.dumps(finite(analysis.as_json())))
    else:
        print(describe(analysis))
        print(target, table, plot, sep="\n")
    return OK
