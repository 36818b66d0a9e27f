"""The cases of the laws of spacings: no ties, all spacings, and the numbers of steps at which floats go astray."""

from __future__ import annotations

import numpy as np

from ddpm_ref.arithmetic import Claim
from ddpm_ref.laws import REGISTRY, NumpySource
from ddpm_ref.laws.spacing import SPACINGS, _exact, _treacherous, _without_ties
from ddpm_ref.reference.named_schedules import constant_schedule


def test_the_levels_are_those_of_the_named_trajectories() -> None:
    for T in (1, 2, 7, 15, 34):
        schedule = constant_schedule(T)
        for spacing in SPACINGS:
            for steps in range(1, T + 1):
                if _without_ties(T, steps, spacing) == steps:
                    rounded = [round(level) for level in _exact(T, steps, spacing)]
                    assert schedule.trajectory(steps, spacing).levels == (*reversed(rounded), 0)


def test_ties_are_left_out_and_little_else() -> None:
    assert _without_ties(10, 4, "trailing") == 3  # 2.5 and 7.5
    assert _without_ties(10, 4, "linspace") == 4
    assert all(_without_ties(T, 1, spacing) == 1 for T in (1, 2, 9) for spacing in SPACINGS)
    kept = sum(_without_ties(100, steps, spacing) == steps for steps in range(1, 101) for spacing in SPACINGS)
    assert kept > 200


def test_ranges_of_floats_go_astray_where_they_are_tried() -> None:
    assert _treacherous(30) == [13, 26]
    assert 61 in _treacherous(1000)
    assert round(float(np.arange(1000, 0, -1000 / 61)[-1])) == 0
    source = NumpySource(np.random.default_rng(0), pooled=True)
    drawn = [REGISTRY["spacing/levels"].cases(source, Claim("fp64")) for _ in range(200)]
    assert {int(case.spacing) for case in drawn} == {0, 1, 2}
    assert any(int(case.steps) in _treacherous(case.noise_schedule.T) for case in drawn if int(case.spacing) == 2)


def test_a_case_says_the_word_and_not_its_place():
    case = REGISTRY["spacing/levels"].cases(NumpySource(np.random.default_rng(0)), Claim("fp64"))
    assert f"spacing={SPACINGS[int(case.spacing)]}" in case.describe()
