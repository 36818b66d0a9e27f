from collections.abc import Callable
from typing import Any

import pytest
import torch

from ddpm_ref.estimation import CoMoments, Moments, Origin
from ddpm_ref.reference.named_schedules import cosine_schedule
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.sampling import Denoiser


@pytest.fixture(scope="session")
def schedule() -> NoiseSchedule:
    return cosine_schedule(T=10)


@pytest.fixture(scope="session")
def data() -> torch.Tensor:
    """Seven data of three components in [-1, 1]."""
    return torch.linspace(-1, 1, 21).sin().reshape(7, 3)


@pytest.fixture(scope="session")
def half() -> Denoiser:
    """A network whose answer does not depend on the batch, to the bit: it takes half of x for noise."""
    return Denoiser(lambda x, time: 0.5 * x)


@pytest.fixture
def moments(schedule: NoiseSchedule) -> Callable[..., Moments]:
    """Makes moments from the values of each datum, ``(n, levels)``, as `estimate` would have measured them."""

    def make(residual: Any, mean_square: Any = None, **changes: Any) -> Moments:
        found = CoMoments.of(residual)
        fields = {
            "schedule_digest": schedule.digest,
            "network_digest": "a" * 64,
            "data_digest": "b" * 64,
            "levels": tuple(range(1, len(found.mean) + 1)),
            "count": found.count,
            "draws": 1,
            "batch_size": 256,
            "seed": 0,
            "low": -1.0,
            "high": 1.0,
        }
        other = found if mean_square is None else CoMoments.of(mean_square)
        return Moments(Origin(**{**fields, **changes}), other, found)

    return make
