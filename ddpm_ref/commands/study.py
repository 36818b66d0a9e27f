"""``ddpm-ref study``: samplers compared in nats on data whose optimal network is known, without a single sample."""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ddpm_ref.commands.json_numbers import finite
from ddpm_ref.commands.output import refuse_unwritable
from ddpm_ref.commands.schedule_flags import NO_FLAGS, ScheduleFlags, build
from ddpm_ref.exit_status import INTERRUPTED, OK
from ddpm_ref.extras import require
from ddpm_ref.schedule_config import ScheduleKind

SPEAK_EVERY_SECONDS = 5.0


def study(
    oracle: tyro.conf.Positional[Literal["gaussian", "mixture", "digits", "digits-gaussian"]] = "mixture",
    samplers: tuple[str, ...] = ("posterior", "beta", "ddim-0", "ddim-0.5"),
    steps: tuple[int, ...] = (10, 25, 50, 100, 250),
    spacings: tuple[str, ...] = ("even", "trailing"),
    first_state: Literal["normal", "marginal"] = "normal",
    blur: float | None = None,
    kind: ScheduleKind | None = None,
    schedule: Annotated[ScheduleFlags, tyro.conf.OmitArgPrefixes] = NO_FLAGS,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
    plot: Path | None = None,
) -> int:
    """Print the exact divergence of samplers from the data, in nats.

    Args:
        oracle: the data: normal, bimodal, a pixel of the digits as finite data, or normal data like the digits.
        samplers: posterior, beta and analytic (ancestral sampling, by its variance), ddim-ETA, e.g. ddim-0.5, analytic-ETA.
        steps: how many steps.
        spacings: which levels: even, trailing, leading, linspace, quadratic, uniform_angle, or optimal for these data.
        first_state: normal, as samplers draw it, or marginal, without the error of the start.
        blur: standard deviation of the noise added to samples and data before they are compared.
        kind: the schedule; linear if left out.
        schedule: its length and arguments.
        as_json: print JSON instead of a table.
        plot: draw the divergences there (a name ending in .png).
    """
    from ddpm_ref import study as studies

    if plot is not None:
        refuse_unwritable("--plot", plot, "PNG", ".png")
        require("matplotlib.figure", "train")
    subject = studies.load(oracle, blur)
    exact = build(schedule.schedule("linear" if kind is None and schedule.betas is None else kind))
    planned = studies.grid(exact, samplers, steps, spacings, subject)
    cells: list[studies.Cell] = []
    began = spoken = time.monotonic()
    try:
        for cell in studies.run(planned, subject, first_state):
            cells.append(cell)
            now = time.monotonic()
            if now - spoken >= SPEAK_EVERY_SECONDS:
                spoken = now
                print(f"study: {len(cells)} of {len(planned)} after {now - began:.0f} s", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print(f"study: interrupted; {len(cells)} of {len(planned)} are done and kept", file=sys.stderr)
    complete = len(cells) == len(planned)
    title = f"{subject.title}{f', blurred by {subject.blur:g}' if subject.blur else ''}; T = {exact.T}, first state {first_state}"
    if as_json:
        found = {
            "oracle": oracle,
            "title": title,
            "blur": subject.blur,
            "first_state": first_state,
            "digest": exact.digest,
        }
        print(json.dumps(finite(found | {"complete": complete, "cells": [asdict(cell) for cell in cells]})))
    else:
        print(f"KL(samples || data) in nats: {title}")
        print(studies.table(cells))
    if plot is not None and cells:
        from ddpm_ref.files import write_atomically

        write_atomically(plot, studies.figure(cells, title))

    return OK if complete else INTERRUPTED
