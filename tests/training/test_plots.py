import io

import numpy as np
import pytest
from PIL import Image

from ddpm_ref.errors import RangeError
from ddpm_ref.training.plots import loss_figure, running_mean


@pytest.mark.parametrize("window", [1, 3, 10, 50])
def test_the_running_mean_is_the_mean_of_the_last_values(window):
    values = np.arange(20.0) ** 2  # whole numbers: the sums are exact
    wanted = [values[max(0, k - window + 1) : k + 1].mean() for k in range(20)]
    assert running_mean(values, window).tolist() == wanted


@pytest.mark.parametrize("window", [0, -1, True])
def test_a_mean_of_no_values_is_refused(window):
    for draws in (running_mean, lambda values, window: loss_figure(values, window=window)):
        with pytest.raises(RangeError, match=f"window is {window}; a mean is of at least 1 value"):
            draws([1.0, 2.0], window)


def pixels(content):
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


@pytest.mark.parametrize("losses", [[0.5], np.linspace(2.0, 0.0, 300)])
def test_losses_become_a_picture_and_the_held_out_loss_a_red_line(losses):
    plain, lined = pixels(loss_figure(losses)), pixels(loss_figure(losses, 0.375))
    reddish = [(page[..., 0] - page[..., 2] > 100).sum() for page in (plain, lined)]
    assert plain.std() > 0
    assert reddish[0] == 0 < reddish[1]


@pytest.mark.parametrize("losses", [[], [1.0, np.nan], [[1.0, 2.0]]])
def test_what_cannot_be_drawn_is_refused(losses):
    with pytest.raises(RangeError, match="one finite number per step"):
        loss_figure(losses)
