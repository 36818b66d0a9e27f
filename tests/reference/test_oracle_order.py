"""DDIM is a method of first order on levels uniform in the angle, and h log(1/h) on levels uniform in time."""

from __future__ import annotations

import numpy as np
import pytest

from ddpm_ref.reference.oracle import Gaussian, sample_moments
from ddpm_ref.reference.plan import ddim
from ddpm_ref.reference.schedule import NoiseSchedule

T, ANGLE = 4096, 1.5
STEPS = [2**k for k in range(8, 13)]
TIME = np.arange(1, T + 1) / T


def missing_deviation(schedule, deviation, steps):
    """How much narrower than the data the samples are, started from the true law of x_T."""
    data = Gaussian(0.0, deviation**2)
    made = [ddim(schedule, schedule.trajectory(count, "trailing")) for count in steps]
    return np.array([deviation - np.sqrt(sample_moments(each, data, "marginal").variances[-1, 0]) for each in made])


@pytest.fixture(scope="module")
def even_angles():
    """alpha_bar = cos^2 of an angle that grows evenly."""
    return NoiseSchedule.from_alpha_bars(np.cos(ANGLE * TIME) ** 2)


@pytest.mark.parametrize("deviation", [1.0, 0.5, 2.0])
def test_order_one_on_even_angles(even_angles, deviation):
    error = missing_deviation(even_angles, deviation, STEPS)
    slope = np.log2(error[:-1] / error[1:])
    # Richardson: the slope tends to the order with an error that halves, which twice the next minus this one has lost
    # (within 1e-3, the rule for orders of convergence).
    assert np.abs(2 * slope[1:] - slope[:-1] - 1).max() < 1e-3
    assert abs(slope[-1] - 1) < 1e-3


def test_each_step_on_unit_data_is_a_cosine(even_angles):
    error = missing_deviation(even_angles, 1.0, STEPS)
    exact = 1 - np.cos(ANGLE / np.array(STEPS)) ** STEPS
    # betas are rounded once (2^-54 relative in alpha), and the chain has as many steps: rule of chains
    assert np.abs(error - exact).max() < 64 * 2.0**-53 * T


@pytest.mark.parametrize(("first", "last"), [(10.0, 10.0), (2.0, 20.0)])
def test_even_times_cost_a_logarithm(first, last):
    schedule = NoiseSchedule.from_alpha_bars(np.exp(-(first * TIME + (last - first) / 2 * TIME**2)))
    error = missing_deviation(schedule, 1.0, STEPS)
    growth = np.diff(np.array(STEPS) * error) / np.log(2)
    # K times the error grows by beta(0) / 8 with every doubling of log K, to which this converges with order one; taken
    # twice, Richardson's step is there within 1e-3 (NUMERICS 5, orders of convergence).
    limit = 2 * growth[1:] - growth[:-1]
    assert abs(limit[-1] - first / 8) < abs(limit[-2] - first / 8)
    assert 2 * limit[-1] - limit[-2] == pytest.approx(first / 8, rel=1e-3)
    # which is why the slope is not 1 yet, and is not on its way there as 1/K
    slope = np.log2(error[:-1] / error[1:])
    assert np.all(slope < 0.97)


def test_even_angles_have_no_logarithm(even_angles):
    error = missing_deviation(even_angles, 1.0, STEPS)
    growth = np.diff(np.array(STEPS) * error) / np.log(2)
    assert np.abs(growth[-1]) < 1e-3  # of ANGLE^2 / 2
    assert STEPS[-1] * error[-1] == pytest.approx(ANGLE**2 / 2, rel=1e-3)  # NUMERICS 5, orders of convergence
