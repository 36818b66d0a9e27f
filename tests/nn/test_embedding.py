import numpy as np
import pytest
import torch

from ddpm_ref.arithmetic import FORMATS, Claim, DoubleDouble, Expected, gamma
from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.nn import TimeEmbedding, sinusoidal_embedding

TIMES = torch.tensor([0, 1, 2, 17, 500, 999, 1000, 99_999])


@pytest.mark.parametrize("dimension", [2, 32, 128])
def test_squared_norm_is_half_the_dimension_at_every_time(dimension):
    waves = sinusoidal_embedding(TIMES, dimension).double().numpy()
    # Each wave is rounded once to float32 and squared: two roundings; one more admits the float64 cosine's own error.
    norm = Expected(DoubleDouble.of(np.full(len(TIMES), dimension / 2)), np.full(len(TIMES), dimension / 2), 3)
    assert np.all(norm.error_over_bound((waves**2).sum(axis=1), Claim("fp32")) <= 1)


def test_inner_product_depends_on_the_difference_of_times_only():
    products = [
        float(sinusoidal_embedding(torch.tensor(pair), 32, dtype=torch.float64).prod(dim=0).sum())
        for pair in ((105, 103), (5, 3))
    ]
    # rule: transcendental. An angle below 105 is rounded once, which moves its cosine by at most 105 u; 4 angles per
    # wave, 16 waves, and 4 u per wave for the cosines, sines and their products; the sums cost gamma_32 of at most 16.
    u = FORMATS["fp64"].u
    assert abs(products[0] - products[1]) <= 16 * 2 * (105 + 103 + 4) * u + 2 * float(gamma(np.float64(32), u)) * 16


def test_waves_are_the_formula():
    angles = 17.0 * 10_000.0 ** -(np.arange(4) / 4)
    expected = np.concatenate([np.cos(angles), np.sin(angles)])
    waves = sinusoidal_embedding(torch.tensor([17]), 8)[0].double().numpy()
    # Float64 angles and waves err by less than 17 * 4 * 2^-53; k = 2 instead of one rounding to float32 covers that.
    assert np.all(Expected(DoubleDouble.of(expected), np.abs(expected), 2).error_over_bound(waves, Claim("fp32")) <= 1)


@pytest.mark.parametrize("dimension", [0, 1, 7, -2])
def test_odd_or_empty_dimensions_are_refused(dimension):
    with pytest.raises(RangeError, match=f"dimension is {dimension}"):
        sinusoidal_embedding(TIMES, dimension)


def test_other_wrong_arguments_are_refused():
    with pytest.raises(RangeError, match="max_period is 0"):
        sinusoidal_embedding(TIMES, 8, max_period=0.0)
    with pytest.raises(ShapeError, match="one number per example"):
        sinusoidal_embedding(torch.tensor(3), 8)


def test_the_module_maps_times_to_features_in_the_format_of_its_weights():
    embedding = TimeEmbedding(8, 12).double()
    assert embedding(TIMES).shape == (len(TIMES), 12)
    assert embedding(TIMES).dtype == torch.float64
