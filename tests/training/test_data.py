import numpy as np
import pytest
import torch

from ddpm_ref.errors import RangeError
from ddpm_ref.training import data


def test_every_byte_survives_scaling_to_float32_and_back():
    levels = np.arange(256)
    x = data.scale(levels).astype(np.float32)
    assert x.min() == -1
    assert x.max() == 1
    assert np.array_equal(np.rint(data.unscale(x)), levels)


def test_digits_are_in_range_exact_and_split_without_overlap():
    images = data.digits()
    assert images.train.shape == (1347, 1, 8, 8)
    assert images.held_out.shape == (450, 1, 8, 8)
    assert images.shape == (1, 8, 8)
    everything = torch.cat([images.train, images.held_out])
    assert set(everything.unique().tolist()) == {k / 8 - 1 for k in range(17)}
    as_rows = lambda part: {tuple(row) for row in part.flatten(1).tolist()}  # noqa: E731
    assert not as_rows(images.train) & as_rows(images.held_out)


def test_the_split_is_random_but_the_same_for_everybody():
    images = data.digits()
    assert torch.bincount(images.held_out_labels).tolist() == [37, 43, 44, 45, 38, 48, 52, 48, 48, 47]
    assert images.held_out_labels[:10].tolist() == [2, 8, 2, 6, 6, 7, 1, 9, 8, 5]
    again = data.digits()
    assert torch.equal(images.train, again.train)


@pytest.mark.parametrize("levels", [[-1, 3], [0, 17], [np.nan]])
def test_levels_outside_the_scale_are_refused(levels):
    with pytest.raises(RangeError, match=r"must be in 0\.\.16"):
        data.scale(np.array(levels), largest=16)


def test_an_unknown_data_set_is_refused():
    with pytest.raises(RangeError, match="'digits'"):
        data.load("cifar10")
