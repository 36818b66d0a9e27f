"""The public strategies: what they promise about what they draw."""

from __future__ import annotations

import hypothesis
import numpy as np
from hypothesis import strategies as st

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance import strategies
from ddpm_ref.laws import REGISTRY, NumpySource
from ddpm_ref.laws.cases import draw_schedule, draw_shape, draw_tensor
from ddpm_ref.reference.schedule import NoiseSchedule


@hypothesis.given(strategies.schedules(), st.data())
def test_schedules_levels_and_steps_fit_each_other(schedule: NoiseSchedule, data: st.DataObject) -> None:
    t = data.draw(strategies.levels(schedule.T, lowest=1, shape=(3,)))
    assert (t >= 1).all()
    assert (t <= schedule.T).all()
    late, early = data.draw(strategies.steps(schedule.T, shape=(2,)))
    assert (late > early).all()
    assert (early >= 0).all()


@hypothesis.given(strategies.claims(), strategies.shapes(), st.data())
def test_tensors_are_representable_in_their_format(claim: Claim, shape: tuple[int, ...], data: st.DataObject) -> None:
    values = data.draw(strategies.tensors(shape, claim))
    assert values.shape == shape
    np.testing.assert_array_equal(claim.storing.round(values), values)


def test_every_kind_of_schedule_shape_and_layout_is_drawn() -> None:
    source = NumpySource(np.random.default_rng(0))
    schedules = [draw_schedule(source) for _ in range(300)]
    assert {1, 2, 10, 1000} <= {s.T for s in schedules}
    assert any(s.alpha_bar[-1] == 0 for s in schedules)
    steps = [np.diff(s.beta[1:]) for s in schedules if s.T > 2]
    assert any((d < 0).all() for d in steps)
    assert any((d < 0).any() and (d > 0).any() for d in steps)
    assert {(), (0,), (2, 0, 3), (2, 3)} <= {draw_shape(source) for _ in range(100)}
    tensors = [draw_tensor(source, (2, 3), Claim("fp32")) for _ in range(50)]
    assert {True, False} == {x.flags["C_CONTIGUOUS"] for x in tensors}


def test_every_law_has_cases() -> None:
    for law in REGISTRY:
        case = law.cases(NumpySource(np.random.default_rng(0)), Claim("fp32"))
        assert case.describe() or law.needs
