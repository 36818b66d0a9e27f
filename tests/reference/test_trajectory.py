"""Every spacing against its definition, recomputed here in floating point or fractions; end points, duplicates, refusals."""

import math
from fractions import Fraction

import numpy as np
import pytest

from ddpm_ref.errors import ScheduleError
from ddpm_ref.reference.named_schedules import cosine_schedule, linear_schedule
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.reference.trajectory import SPACINGS, Trajectory


def constant(T):
    return NoiseSchedule.from_betas([0.001] * T)


def even(T, K):
    return (
        [T] if K == 1 else [math.floor(Fraction(2 * (K - 1) + 2 * k * (T - 1) + K - 1, 2 * (K - 1))) for k in range(K)]
    )


def trailing(T, K):
    """diffusers: ``np.arange(T, 0, -T / K).round() - 1``, 0-based; quotients of these sizes round as the reals do."""
    return sorted(int(Fraction(T * i, K).__round__()) for i in range(1, K + 1))


def leading(T, K):
    """diffusers: ``np.arange(K) * (T // K)``, 0-based."""
    return (np.arange(K) * (T // K) + 1).tolist()


def linspace(T, K):
    """diffusers: ``np.linspace(0, T - 1, K).round()``, 0-based."""
    return (np.linspace(0, T - 1, K).round().astype(int) + 1).tolist()


def quadratic(T, K):
    """DDIM's code: ``np.linspace(0, sqrt(0.8 T), K) ** 2`` cut to integers, 0-based; here without the rounded root."""
    return [1 + (8 * T * k * k) // (10 * (K - 1) ** 2) if K > 1 else 1 for k in range(K)]


DEFINITIONS = {"even": even, "trailing": trailing, "leading": leading, "linspace": linspace, "quadratic": quadratic}


@pytest.mark.parametrize("spacing", DEFINITIONS)
@pytest.mark.parametrize("T", [1, 2, 7, 50, 1000])
def test_levels_are_those_of_the_definition(T, spacing):
    schedule = constant(T)
    refused = 0
    for K in range(1, T + 1) if T <= 50 else (1, 2, 10, 20, 50, 99, 100, 250, 333, 501, 999, 1000):
        want = DEFINITIONS[spacing](T, K)
        if len(set(want)) < K:
            refused += 1
            with pytest.raises(ScheduleError, match="more than once"):
                schedule.trajectory(K, spacing)
            continue
        trajectory = schedule.trajectory(K, spacing)
        assert trajectory.levels == (*reversed(want), 0)
        assert (trajectory.steps, len(trajectory)) == (K, K + 1)
        assert list(trajectory.pairs()) == list(zip(trajectory.levels, trajectory.levels[1:], strict=False))
    assert (refused > 0) == (spacing == "quadratic" and T > 2)


def test_numpys_linspace_agrees_with_the_exact_one_wherever_no_tie_is_rounded():
    """`numpy.linspace` rounds its multiples, so it is asked about the levels whose distance to a tie is not tiny."""
    for T, K in ((1000, 50), (1000, 7), (400, 33)):
        exact = [Fraction(k * (T - 1), K - 1) for k in range(K)]
        clear = [abs((2 * v) % 2 - 1) > Fraction(1, 10**6) for v in exact]
        got = constant(T).trajectory(K, "linspace").levels[-2::-1]
        want = np.linspace(0, T - 1, K).round() + 1
        assert all(a == b for a, b, sure in zip(got, want, clear, strict=True) if sure)


@pytest.mark.parametrize("make", [linear_schedule, cosine_schedule])
@pytest.mark.parametrize("K", [1, 2, 5, 20, 50])
def test_uniform_angle_takes_the_levels_nearest_to_equal_parts(make, K, oracle):
    schedule = make(200)
    truth = oracle(schedule.beta[1:], 40)
    mp = truth.mp
    angle = [mp.atan2(mp.sqrt(1 - a), mp.sqrt(a)) for a in truth.alpha_bar]
    want = []
    for i in range(1, K + 1):
        distance = [abs(a - angle[-1] * i / K) for a in angle]
        want.append(distance.index(min(distance)))
    assert schedule.trajectory(K, "uniform_angle").levels == (*reversed(want), 0)


def test_uniform_angle_that_would_visit_a_level_twice_is_refused():
    with pytest.raises(ScheduleError, match=r"uniform_angle.*more than once.*spacing='even'"):
        linear_schedule(100).trajectory(100, "uniform_angle")


@pytest.mark.parametrize("T", [1, 2, 17, 1000])
def test_end_points(T):
    schedule = constant(T)
    for spacing in SPACINGS:
        assert schedule.trajectory(1, spacing).levels == (
            (T if spacing in ("even", "trailing", "uniform_angle") else 1),
            0,
        )
    for spacing in ("even", "trailing", "leading", "linspace"):
        assert schedule.trajectory(T, spacing).levels == tuple(range(T, -1, -1))
    if T > 10:
        assert schedule.trajectory(10, "even").levels[0] == T
        assert schedule.trajectory(10, "even").levels[-2] == 1
        assert schedule.trajectory(10, "trailing").levels[0] == T
        assert schedule.trajectory(10, "leading").levels[-2] == 1


def test_figures_of_the_errata_use_the_trailing_grid():
    assert constant(1000).trajectory(50, "trailing").levels == tuple(range(1000, -1, -20))


@pytest.mark.parametrize("levels", [(), (0,), (5,), (5, 3), (3, 5, 0), (5, 5, 0), (5, -1, 0), (5, True, 0), (5, 0, 0)])
def test_levels_that_are_no_trajectory_are_refused(levels):
    with pytest.raises(ScheduleError, match="strictly descending order that end with 0, such as") as error:
        Trajectory(levels)
    assert f"({', '.join(map(str, levels))})" in str(error.value)


def test_numpy_integers_become_plain_ones():
    trajectory = Trajectory(tuple(np.arange(3, -1, -1).tolist()))
    assert all(type(v) is int for v in trajectory.levels)
    assert trajectory == Trajectory((3, 2, 1, 0))
    assert hash(trajectory) == hash(Trajectory((3, 2, 1, 0)))


@pytest.mark.parametrize("steps", [0, -1, 11, True, 2.5, float("nan")])
def test_impossible_numbers_of_steps_are_refused(steps):
    with pytest.raises(ScheduleError, match=r"steps = .* must be a whole number from 1 to T = 10"):
        constant(10).trajectory(steps)


def test_an_unknown_spacing_is_refused_with_the_known_ones():
    with pytest.raises(ScheduleError, match="spacing 'karras' is not known; write one of even, trailing, leading"):
        constant(10).trajectory(2, "karras")
