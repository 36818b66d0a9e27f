"""The Laplace schedule: its betas to the last bit, and the distribution it is named for."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from ddpm_ref.errors import ScheduleError
from ddpm_ref.reference.named_schedules import laplace_schedule
from ddpm_ref.torch.schedule import laplace_betas


@pytest.mark.parametrize(
    ("T", "mu", "b"), [(1, 0.0, 0.5), (2, 0.0, 0.5), (3, 1.0, 2.0), (200, 0.0, 0.5), (201, -0.5, 0.25)]
)
def test_betas_are_the_formula_rounded_once(T, mu, b, mp, rounded):
    """The log-SNR as it is printed, and alpha_bar through a hyperbolic tangent."""

    def alpha_bar(t):
        if t in (0, T):
            return mp.mpf(t == 0)
        u = mp.mpf(t) / T
        log_snr = mp.mpf(mu) - mp.mpf(b) * mp.sign(mp.mpf(1) / 2 - u) * mp.log(1 - 2 * abs(u - mp.mpf(1) / 2))
        return (1 + mp.tanh(log_snr / 2)) / 2

    bars = [alpha_bar(t) for t in range(T + 1)]
    want = [rounded(min((a - c) / a, mp.mpf(0.999))) for a, c in pairwise(bars)]
    assert laplace_schedule(T, mu, b).beta[1:].tolist() == want


def test_levels_are_quantiles_of_a_laplace_distribution():
    schedule = laplace_schedule(100, mu=0.5, b=0.75)
    x = (schedule.log_snr[1:-1] - 0.5) / 0.75
    share = np.where(x < 0, np.exp(-np.abs(x)) / 2, 1 - np.exp(-np.abs(x)) / 2)
    # Rounding beta moves 1 - beta by u beta, log alpha_bar by the sum of these over 1 - beta, and its logit by that over
    # beta_bar; log_snr is within one ulp, x and share take five roundings more, and the slope of share is at most 1/2.
    beta, u = schedule.beta[1:-1], 2.0**-53
    moved = np.cumsum(u * beta / (1 - beta)) / schedule.beta_bar[1:-1]
    bound = (moved + 7 * u * (np.abs(schedule.log_snr[1:-1]) + 0.5)) / (2 * 0.75) + 5 * u
    assert (np.abs(share - (1 - np.arange(1, 100) / 100)) <= bound).all()
    assert bound.max() < 2.0**-40  # the bound says something: neighbouring levels are 0.01 apart


@pytest.mark.parametrize("T", [1, 2, 3, 10, 1000])
def test_the_mirror_builds_the_same(T):
    ours, exact = laplace_betas(T).numpy(), laplace_schedule(T).beta[1:]
    # rule: a difference of odds, each a few roundings of itself, in units of 1 - beta (see the law)
    assert np.all(np.abs(ours - exact) <= 24 * 2.0**-53)
    assert laplace_betas(T, device="cpu").dtype == torch.float64


@pytest.mark.parametrize("arguments", [(0,), (True,), (10, np.inf), (10, 0.0, 0.0), (10, 0.0, 0.5, 1.0)])
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(ScheduleError):
        laplace_schedule(*arguments)
    with pytest.raises(ScheduleError):
        laplace_betas(*(float(a) if isinstance(a, float) else a for a in arguments))


def test_messages_say_what_is_usual():
    with pytest.raises(ScheduleError, match=r"b = 0\.0 must be a number > 0 \(0\.5 is usual\)"):
        laplace_schedule(10, b=0.0)
    with pytest.raises(ScheduleError, match="mu = nan must be a finite number"):
        laplace_schedule(10, mu=np.nan)
