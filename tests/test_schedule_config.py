"""The record that names a schedule: what each kind takes, and the way to JSON and back."""

from __future__ import annotations

import dataclasses
import inspect
import json
from typing import Any

import pytest

import ddpm_ref
from ddpm_ref.errors import RangeError, ScheduleError
from ddpm_ref.schedule_config import _CONSTRUCTORS, ScheduleArguments, ScheduleConfig

# Away from the defaults, of every argument.
OTHER: dict[str, Any] = {
    "beta_1": 0.001, "beta_T": 0.03, "s": 0.01, "max_beta": 0.9, "limit": 5, "start": -2.0, "end": 2.5, "tau": 0.9,
    "scale_ends": True, "zero_terminal_snr": True,
}  # fmt: skip


def taken(kind: str) -> set[str]:
    """What the named constructor takes besides T, from its signature."""
    names = set(inspect.signature(getattr(ddpm_ref, f"{kind}_schedule")).parameters) - {"T"}
    return {"beta_1" if name == "beta" else name for name in names} | {"zero_terminal_snr"}


def test_every_argument_of_every_kind_is_there() -> None:
    fields = {field.name for field in dataclasses.fields(ScheduleArguments)}
    assert fields == set().union(*map(taken, _CONSTRUCTORS)) == set(OTHER)


@pytest.mark.parametrize("kind", _CONSTRUCTORS)
@pytest.mark.parametrize("name", OTHER)
def test_an_argument_reaches_the_constructor_or_is_refused(kind: str, name: str) -> None:
    if name not in taken(kind):
        with pytest.raises(ScheduleError, match=f"^{name} is not an argument of the {kind} schedule; leave it out"):
            ScheduleConfig(kind, 20, **{name: OTHER[name]})
        return
    config = ScheduleConfig(kind, 20, **{name: OTHER[name]})
    assert config.build() != ScheduleConfig(kind, 20).build()
    assert ScheduleConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("kind", _CONSTRUCTORS)
def test_what_is_left_out_is_the_constructor_s_default(kind: str) -> None:
    config = ScheduleConfig(kind, 12)
    constructor = getattr(ddpm_ref, f"{kind}_schedule")
    assert config.build() == constructor(12)
    assert ScheduleConfig(kind, 12, **config.arguments()).build() == constructor(12)
    zero = ScheduleConfig(kind, 12, zero_terminal_snr=True)
    assert zero.build() == ddpm_ref.zero_terminal_snr(constructor(12))


def test_the_default_is_cosine_1000_and_old_records_still_load() -> None:
    assert ScheduleConfig() == ScheduleConfig("cosine", T=1000)
    assert ScheduleConfig.from_dict({"kind": "linear", "T": 10}) == ScheduleConfig("linear", 10)
    assert ScheduleConfig.from_dict({}) == ScheduleConfig()


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"kind": "sqrt"}, RangeError, "'linear', .*'cosine'"),
        ({"T": 0}, ScheduleError, "T = 0 must be a whole number of levels"),
        ({"s": float("nan")}, ScheduleError, "s = nan must be a finite number"),
        (
            {"zero_terminal_snr": True, "kind": "linear", "scale_ends": 0.5},
            ScheduleError,
            "scale_ends = 0.5 must be True",
        ),
        ({"s": True}, ScheduleError, "s = True must be a finite number"),
    ],
)
def test_wrong_values_are_named(wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ScheduleConfig(**wrong)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"beta": 0.5}, "ScheduleConfig has no 'beta'"),
        ({"T": 2.5}, r"ScheduleConfig\.T is 2.5; it must be int"),
        ({"T": None}, r"ScheduleConfig\.T is None; it must be int"),
        ({"s": "0.008"}, "must be float or int or null"),
        ({"s": True}, "must be float or int or null"),
        ({"scale_ends": 1}, r"ScheduleConfig\.scale_ends is 1; it must be bool"),
    ],
)
def test_wrong_json_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RangeError, match=message):
        ScheduleConfig.from_dict(values)
