from collections.abc import Callable
from typing import Any

import pytest

from ddpm_ref.nn import UNetConfig
from ddpm_ref.training import Config, ScheduleConfig


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
