import numpy as np
import pytest
import torch
from torch import nn

from ddpm_ref.errors import LevelError, PrecisionError, RangeError, ShapeError
from ddpm_ref.sampling import Denoiser

X = torch.zeros(3, 2)


def clock(x, time):
    """A network that answers with the time it was told."""
    return time[:, None].expand_as(x).to(x.dtype)


@pytest.mark.parametrize(("time_code", "first"), [("zero_based", 0), ("one_based", 1)])
def test_the_network_hears_its_own_clock(time_code, first):
    denoiser = Denoiser(clock, time_code=time_code)
    assert denoiser(X, 1).tolist() == [[first] * 2] * 3
    assert denoiser(X, np.int64(7)).tolist() == [[first + 6] * 2] * 3
    assert denoiser(X, torch.tensor([1, 2, 5])).tolist() == [[first + s] * 2 for s in (0, 1, 4)]


def test_the_names_of_other_libraries_are_understood():
    assert [Denoiser(clock, name).prediction for name in ("epsilon", "sample", "v_prediction")] == ["eps", "x0", "v"]


@pytest.mark.parametrize(
    ("wrong", "message"), [({"prediction": "noise"}, "'noise'"), ({"time_code": "t"}, "'one_based'")]
)
def test_unknown_conventions_are_refused(wrong, message):
    with pytest.raises(RangeError, match=message):
        Denoiser(clock, **wrong)


@pytest.mark.parametrize("t", [0, -1, 1.5, True])
def test_levels_without_noise_or_between_levels_are_refused(t):
    with pytest.raises(LevelError, match="level 0 is clean data"):
        Denoiser(clock)(X, t)


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (lambda x, time: x[:, :1], ShapeError, r"returned shape \(3, 1\)"),
        (lambda x, time: x.double(), PrecisionError, "torch.float64"),
        (lambda x, time: x.to("meta"), PrecisionError, "meta"),
    ],
)
def test_wrong_answers_are_named(network, error, message):
    with pytest.raises(error, match=message):
        Denoiser(network)(X, 1)


def test_another_number_of_levels_than_examples_is_refused():
    with pytest.raises(ShapeError, match="one level per example"):
        Denoiser(clock)(X, torch.tensor([1, 2]))


def test_evaluation_mode_is_lent_to_every_part_and_given_back():
    network = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
    network[1].eval()

    def modes():
        return [module.training for module in network.modules()]

    before = modes()
    with Denoiser(network).evaluating():
        assert not any(modes())
    assert modes() == before == [True, True, False, False]


def test_evaluation_mode_is_given_back_after_an_error_too():
    network = nn.Dropout()

    with pytest.raises(ZeroDivisionError), Denoiser(network).evaluating():
        1 // 0  # noqa: B018 - the error is the point
    assert network.training


def test_a_plain_function_has_no_mode():
    with Denoiser(clock).evaluating():
        assert Denoiser(clock)(X, 1).shape == X.shape
