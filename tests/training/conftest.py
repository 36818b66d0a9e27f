import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ddpm_ref.nn import UNetConfig
from ddpm_ref.training import Config, ScheduleConfig, data, loop


@pytest.fixture(scope="session", autouse=True)
def few_held_out() -> Iterator[None]:
    """Holds out 32 digits instead of 450, and reads the file once: most of the time of a tiny run goes there.

    The whole of it is used in tests/test_cli_training.py and docs/training.md.
    """
    whole = data.load("digits")
    few = dataclasses.replace(whole, held_out=whole.held_out[:32], held_out_labels=whole.held_out_labels[:32])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "load", lambda name: few if name == "digits" else data.load(name))
        yield


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., Config]:
    """Makes configs of runs small enough for a test: 8 features, one resolution, ten levels, three steps."""

    def make(**changes: Any) -> Config:
        fields: dict[str, Any] = {
            "schedule": ScheduleConfig(T=10),
            "network": UNetConfig(width=8, multipliers=(1,), attention=(), groups=4),
            "batch_size": 4,
            "warmup_steps": 2,
            "max_steps": 3,
            "max_seconds": None,
        }
        return Config(**{**fields, **changes})

    return make
