"""``ddpm-ref table``: the exact tables of a schedule, for eyes and for other programs."""

import json
from typing import Annotated, Any, Literal

import tyro

from ddpm_ref.commands.status import OK, finite
from ddpm_ref.errors import ScheduleError

ScheduleKind = Literal["linear", "scaled_linear", "cosine", "sigmoid", "sigmoid_alpha_bar", "constant"]
COLUMNS = ("beta", "alpha_bar", "beta_bar", "beta_tilde", "snr", "log_snr")


def table(
    kind: tyro.conf.Positional[ScheduleKind],
    T: int = 1000,
    beta_1: float | None = None,
    beta_T: float | None = None,
    scale_ends: bool = False,
    zero_terminal_snr: bool = False,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> int:
    """Print the exact tables of a named schedule.

    Args:
        kind: the schedule.
        T: how many levels.
        beta_1: first beta (linear, scaled_linear, sigmoid; the only one of constant).
        beta_T: last beta (linear, scaled_linear, sigmoid).
        scale_ends: multiply both ends by 1000 / T (linear).
        zero_terminal_snr: shift and scale so that alpha_bar_T is 0.
        as_json: print JSON instead of columns.
    """
    import ddpm_ref

    if beta_T is not None and kind not in ("linear", "scaled_linear", "sigmoid"):
        raise ScheduleError(f"--beta-T is not an argument of the {kind} schedule; leave it out")
    if beta_1 is not None and kind.startswith(("cosine", "sigmoid_alpha")):
        raise ScheduleError(f"--beta-1 is not an argument of the {kind} schedule; leave it out")
    if scale_ends and kind != "linear":
        raise ScheduleError(f"--scale-ends is not an argument of the {kind} schedule; leave it out")
    given: dict[str, Any] = {"T": T} | ({"scale_ends": True} if scale_ends else {})
    given |= {} if beta_1 is None else {"beta" if kind == "constant" else "beta_1": beta_1}
    given |= {} if beta_T is None else {"beta_T": beta_T}
    schedule = getattr(ddpm_ref, f"{kind}_schedule")(**given)
    if zero_terminal_snr:
        schedule = ddpm_ref.zero_terminal_snr(schedule)
    columns = {name: getattr(schedule, name).tolist() for name in COLUMNS}
    if as_json:
        print(json.dumps(finite({"schedule": kind, "T": schedule.T, "digest": schedule.digest, "tables": columns})))
        return OK
    print(f"{'t':>6}" + "".join(f"{name:>25}" for name in COLUMNS))
    for t, row in enumerate(zip(*columns.values(), strict=True)):
        print(f"{t:>6}" + "".join(f"{value!r:>25}" for value in row))
    return OK
