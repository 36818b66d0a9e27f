"""``ddpm-ref table``: the exact tables of a schedule, for eyes and for other programs."""

import json
from typing import Annotated

import tyro

from ddpm_ref.commands.json_numbers import finite
from ddpm_ref.commands.schedule_flags import NO_FLAGS, ScheduleFlags, build
from ddpm_ref.exit_status import OK
from ddpm_ref.schedule_config import ScheduleKind

COLUMNS = ("beta", "alpha_bar", "beta_bar", "beta_tilde", "snr", "log_snr")


def table(
    kind: tyro.conf.Positional[ScheduleKind | None] = None,
    schedule: Annotated[ScheduleFlags, tyro.conf.OmitArgPrefixes] = NO_FLAGS,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> int:
    """Print the exact tables of a named schedule, or of given betas.

    Args:
        kind: the schedule; left out only with --betas.
        schedule: its length and arguments.
        as_json: print JSON instead of columns.
    """
    exact = build(schedule.schedule(kind))
    columns = {name: getattr(exact, name).tolist() for name in COLUMNS}
    if as_json:
        print(json.dumps(finite({"schedule": kind, "T": exact.T, "digest": exact.digest, "tables": columns})))
        return OK
    print(f"{'t':>6}" + "".join(f"{name:>25}" for name in COLUMNS))
    for t, row in enumerate(zip(*columns.values(), strict=True)):
        print(f"{t:>6}" + "".join(f"{value!r:>25}" for value in row))
    return OK
