"""Scaling against exact fractions, in every format."""

from fractions import Fraction

import pytest
import torch

from ddpm_ref.errors import PrecisionError, RangeError
from ddpm_ref.torch.scaling import from_level_index, from_unit, to_level_index, to_unit

FORMATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
BITS = {torch.float64: 53, torch.float32: 24, torch.float16: 11, torch.bfloat16: 8}


def rounded(value, bits):
    """A fraction of size at most 1 rounded to nearest, ties to even."""
    if not value:
        return 0.0
    exponent = 0
    while abs(value) * 2**exponent < 2 ** (bits - 1):
        exponent += 1
    return float(Fraction(round(value * 2**exponent), 2**exponent))


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("levels", [2, 3, 5, 17, 256])
def test_levels_are_rounded_once_and_found_again(dtype, levels):
    k = torch.arange(levels)
    x = from_level_index(k, levels, dtype)
    assert x.dtype == dtype
    # both subnormal and tiny levels are out of reach: the smallest is 0 or 1 / (levels - 1)
    assert x.tolist() == [rounded(Fraction(2 * i, levels - 1) - 1, BITS[dtype]) for i in range(levels)]
    assert torch.equal(to_level_index(x, levels), k)


@pytest.mark.parametrize("levels", [512, 1000, 4096, 65536, 2**20])
def test_many_levels(levels):
    k = torch.arange(levels)
    for dtype in (torch.float64, torch.float32):
        assert torch.equal(to_level_index(from_level_index(k, levels, dtype), levels), k)
    for dtype, most in ((torch.float16, 4096), (torch.bfloat16, 512)):
        if levels <= most:
            assert torch.equal(to_level_index(from_level_index(k, levels, dtype), levels), k)
        else:
            with pytest.raises(RangeError, match="tell"):
                to_level_index(from_level_index(k, levels, dtype), levels)


@pytest.mark.parametrize("dtype", FORMATS)
def test_the_unit_interval(dtype):
    u = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    x = from_unit(u)
    assert x.dtype == dtype
    assert x.tolist() == (2 * u.double() - 1).to(dtype).tolist()  # 2u - 1 is exact in float64 but for its own format
    assert to_unit(x).tolist() == ((x.double() + 1) / 2).to(dtype).tolist()
    ends = torch.tensor([0.0, 0.5, 1.0], dtype=dtype)
    assert from_unit(ends).tolist() == [-1, 0, 1]
    assert torch.equal(to_unit(from_unit(ends)), ends)


def test_eight_bit_images_come_back():
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    x = from_unit(pixels / 255)
    assert torch.equal(to_level_index(from_level_index(pixels, dtype=torch.float32)), pixels.long())
    assert float((x - from_level_index(pixels, dtype=torch.float32)).abs().max()) <= 2.0**-23  # rule: k = 3, |2u| + 1
    for scaled in (x, pixels / 127.5 - 1, pixels * (2 / 255) - 1, (pixels / 255 - 0.5) / 0.5):
        assert torch.equal(to_level_index(scaled), pixels.long())
    with pytest.raises(RangeError, match="from_level_index"):
        to_level_index(x + 2.0**-20)
    coarse = from_level_index(pixels, dtype=torch.bfloat16)
    assert torch.equal(to_level_index(coarse), pixels.long())
    with pytest.raises(RangeError, match="from_level_index"):
        to_level_index(coarse[0, 0, 1:2] + 2.0**-8)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (torch.tensor([0.0]), "1 between the 256 levels"),
        (torch.tensor([-1.0, 1.0, 1.5, 0.2]), r"0\.25 lie outside .* 0 between"),
        (torch.tensor([-1.0, 1.0, 0.5, 0.2]), r"0 lie outside .* 0\.25 between"),
        (torch.tensor([-1.0, float("nan")]), "between"),
        (torch.tensor([1 + 2 / 255], dtype=torch.float64), "1 lie outside"),  # on the grid, continued
        (torch.tensor([float("inf")]), "1 lie outside"),
        (torch.tensor([0.2], dtype=torch.float64).float().double(), "between"),  # float32 data in a float64 tensor
    ],
)
def test_data_off_the_grid(x, said):
    with pytest.raises(RangeError, match=said):
        to_level_index(x)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: to_level_index(torch.zeros(2, dtype=torch.long)), PrecisionError),
        (lambda: to_level_index(torch.ones(2), 1), RangeError),
        (lambda: to_level_index(torch.ones(2), 2**20 + 1), RangeError),
        (lambda: from_level_index(torch.zeros(2)), PrecisionError),
        (lambda: from_level_index(torch.tensor([256])), RangeError),
        (lambda: from_level_index(torch.tensor([-1])), RangeError),
        (lambda: from_level_index(torch.tensor([1]), 2, torch.int64), PrecisionError),
        (lambda: from_unit(torch.zeros(2, dtype=torch.uint8)), PrecisionError),
        (lambda: to_unit(torch.zeros(2, dtype=torch.uint8)), PrecisionError),
    ],
)
def test_bad_arguments(call, error):
    with pytest.raises(error):
        call()


def test_empty_and_strided():
    assert from_level_index(51).item() == -0.6
    assert to_level_index(torch.zeros(0, 3)).shape == (0, 3)
    x = from_level_index(torch.arange(12).reshape(3, 4)).t()
    assert torch.equal(to_level_index(x), torch.arange(12).reshape(3, 4).t())
    assert torch.equal(torch.vmap(to_level_index)(x), to_level_index(x))
