"""The cosine schedule of the mirror beside the exact one, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ddpm_ref.arithmetic import Claim
from ddpm_ref.errors import ScheduleError
from ddpm_ref.laws.cosine import FOUR_SINES
from ddpm_ref.reference.named_schedules import cosine_schedule
from ddpm_ref.torch.schedule import cosine_betas


@pytest.mark.parametrize("T", [1, 2, 3, 10, 1000, 4000])
@pytest.mark.parametrize("s", [0.0, 0.008, 0.1, 3.0])
def test_betas_are_within_the_roundings_that_are_claimed(T: int, s: float) -> None:
    ours, exact = cosine_betas(T, s).numpy(), cosine_schedule(T, s).beta[1:]
    bound = (FOUR_SINES + 1) * Claim("fp64").computing.u  # one more for the rounding of the table itself
    assert np.all(np.abs(ours - exact) <= bound * exact)


def test_the_formula_as_printed_is_not() -> None:
    f = torch.cos((torch.arange(1001, dtype=torch.float64) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    printed, exact = (1 - f[1:] / f[:-1]).numpy(), cosine_schedule(1000).beta[1:]
    worst = np.max(np.abs(printed[:-1] / exact[:-1] - 1)) / Claim("fp64").computing.u
    assert worst > 50 * FOUR_SINES


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0,), "T = 0: a schedule has a whole number of levels"),
        ((True,), "T = True"),
        ((10, -0.1), "s = -0.1"),
        ((10, float("nan")), "s = nan"),
        ((10, 0.008, 1.0), "the clip lies in \\(0, 1\\)"),
    ],
)
def test_what_makes_no_schedule_is_refused(arguments: tuple[int, ...], words: str) -> None:
    with pytest.raises(ScheduleError, match=words):
        cosine_betas(*arguments)
