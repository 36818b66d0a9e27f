import numpy as np
import pytest
from PIL import Image

from ddpm_ref.errors import OutputError, RangeError, ShapeError
from ddpm_ref.images import grid, to_uint8, write_grid
from ddpm_ref.training.data import scale


def test_every_byte_comes_back_from_its_scaled_value():
    assert np.array_equal(to_uint8(scale(np.arange(256)).astype(np.float32)), np.arange(256))


def test_a_grid_puts_each_image_where_reading_order_says():
    images = np.stack([np.full((1, 2, 3), value) for value in (-1.0, 0.0, 1.0)])
    page = grid(images, columns=2, scale=2, gap=1)
    assert page.shape == (2 * 5 + 1, 2 * 7 + 1)
    assert (page[1:5, 1:7] == 0).all()
    assert (page[1:5, 8:14] == 128).all()
    assert (page[6:10, 1:7] == 255).all()
    assert (page[6:10, 8:14] == 255).all()  # no fourth image: the colour between the tiles
    assert grid(np.zeros((5, 3, 8, 8))).shape == (2 * 9 + 1, 3 * 9 + 1, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_file_holds_the_grid(tmp_path, channels):
    images = np.linspace(-1, 1, 4 * channels * 16).reshape(4, channels, 4, 4)
    write_grid(tmp_path / "page.png", images, scale=3, gap=2)
    with Image.open(tmp_path / "page.png") as picture:
        assert np.array_equal(np.asarray(picture), grid(images, scale=3, gap=2))


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 2, 8, 8), (0, 1, 8, 8)])
def test_wrong_shapes_are_named(shape):
    with pytest.raises(ShapeError, match="channels"):
        grid(np.zeros(shape))


@pytest.mark.parametrize("options", [{"columns": 0}, {"scale": 0}, {"gap": -1}])
def test_wrong_layouts_are_named(options):
    with pytest.raises(RangeError, match=f"{next(iter(options))} = "):
        grid(np.zeros((1, 1, 2, 2)), **options)


def test_pixels_that_are_not_finite_are_refused():
    with pytest.raises(RangeError, match="1 of 2 pixels"):
        to_uint8(np.array([np.nan, 0.0]))


def test_a_page_that_cannot_be_written_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        write_grid(tmp_path / "missing" / "page.png", np.zeros((1, 1, 2, 2)))
