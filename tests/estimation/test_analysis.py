import io
import json

import numpy as np
import pytest
from PIL import Image

from ddpm_ref.errors import MomentsError, RangeError
from ddpm_ref.estimation.analysis import analyse, describe
from ddpm_ref.estimation.plots import figure
from ddpm_ref.reference.analytic import analytic_variance, analytic_variance_bounds, sigma_hat_squared_from_residual
from ddpm_ref.reference.trajectory import Trajectory


@pytest.fixture
def made(moments, schedule):
    """Two data; all is within the bounds but the error at level 10."""
    bounds = np.minimum(1.0, schedule.alpha_bar[1:] / schedule.beta_bar[1:])
    errors = bounds * [0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 5.0]
    return moments(
        np.stack([0.98 * errors, 1.02 * errors]), np.stack([1 - errors.clip(0, 1), 1 - 0.99 * errors.clip(0, 1)])
    )


def test_an_analysis_holds_what_the_closed_forms_say(made, schedule):
    found = analyse(schedule, made, Trajectory((9, 5, 2, 0)), eta=0.5, confidence=0.8)
    t, s = (9, 5, 2), (5, 2, 0)
    v = sigma_hat_squared_from_residual(schedule, t, made.residual.mean[[8, 4, 1]])
    lower, upper = analytic_variance_bounds(schedule, t, s, -1.0, 1.0, 0.5)
    assert np.array_equal(found.variance.estimate, analytic_variance(schedule, t, s, v, 0.5))
    assert np.array_equal(found.lower, lower)
    assert np.array_equal(found.upper, upper)
    step = schedule.between(t, s)
    assert np.array_equal(found.beta, step.beta)
    assert np.array_equal(found.beta_tilde, step.beta_tilde)
    for column in (found.variance.low, found.variance.estimate, found.variance.high):
        assert ((found.lower <= column) & (column <= found.upper)).all()


def test_through_all_levels_measured_unless_told(made, schedule):
    found = analyse(schedule, made)
    assert found.trajectory.levels == tuple(range(10, -1, -1))
    assert found.unknown.clipping.above == (10,)


def test_its_json_says_everything_and_is_json(made, schedule):
    values = json.loads(json.dumps(analyse(schedule, made).as_json(), allow_nan=False))
    assert [row["t"] for row in values["levels"]] == list(range(1, 11))
    assert [(row["t"], row["s"]) for row in values["steps"]] == [(t, t - 1) for t in range(10, 0, -1)]
    assert [row["clipped"] for row in values["levels"]] == [None] * 9 + ["above"]
    assert values["clipping"]["clipped"] == 1
    assert values["count"] == values["origin"]["count"] == 2
    cost = values["path_cost"]
    assert cost["low"] <= cost["estimate"] <= cost["high"]


def test_without_noise_of_the_posterior_a_path_has_no_cost(made, schedule):
    assert analyse(schedule, made, eta=0.0).as_json()["path_cost"] is None
    assert "path cost" not in describe(analyse(schedule, made, eta=0.0))


def test_the_description_shows_some_steps_and_what_was_clipped(made, schedule):
    lines = describe(analyse(schedule, made), rows=4).splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["10", "7", "4", "1"]
    assert lines[5].startswith("4 of 10 steps; eta 1, form residual")
    assert "1 of 10 estimates clipped" in lines[6]
    assert lines[7].startswith("path cost")


@pytest.mark.parametrize(("eta", "form"), [(0.0, "mean_square"), (1.0, "residual")])
def test_the_figure_is_a_picture(eta, form, made, schedule):
    with Image.open(io.BytesIO(figure(analyse(schedule, made, form=form, eta=eta)))) as picture:
        assert picture.format == "PNG"
        assert len(set(picture.convert("L").tobytes())) > 20  # something is drawn


def test_the_figure_of_one_step_is_a_picture_too(made, schedule):
    assert figure(analyse(schedule, made, Trajectory((3, 0)))).startswith(b"\x89PNG")


def test_what_cannot_be_analysed_is_named(made, moments, schedule):
    with pytest.raises(RangeError, match="eta"):
        analyse(schedule, made, eta=1.5)
    with pytest.raises(MomentsError, match="at least 2 data"):
        analyse(schedule, moments([[0.5]]))
