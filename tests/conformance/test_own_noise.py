# ruff: noqa: NPY002 - old ways to draw normal numbers are what these tests are about
"""An implementation that draws its own random numbers gets the given ones, in order, shape, dtype and on every road."""

from __future__ import annotations

import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
import torch
from torch import randn as renamed

from ddpm_ref.conformance.own_noise import given_noise
from ddpm_ref.errors import AdapterError

SHAPE = (2, 3)
NOISE = np.arange(6.0).reshape(SHAPE) - 2.5
GIVEN = torch.from_numpy(NOISE)

ROADS = {
    "randn_of_numbers": lambda: torch.randn(2, 3),
    "randn_of_a_tuple": lambda: torch.randn(SHAPE),
    "randn_of_a_torch_size": lambda: torch.randn(torch.zeros(SHAPE).shape),
    "randn_of_a_named_size": lambda: torch.randn(size=SHAPE),
    "randn_with_a_generator": lambda: torch.randn(
        SHAPE, generator=torch.Generator(), device="cpu", layout=torch.strided
    ),
    "randn_imported_by_name": lambda: renamed(SHAPE),
    "randn_into_a_tensor": lambda: torch.randn(SHAPE, out=torch.zeros(SHAPE, dtype=torch.float64)),
    "randn_like": lambda: torch.randn_like(GIVEN),
    "randn_like_by_name": lambda: torch.randn_like(input=GIVEN),
    "normal_in_place": lambda: torch.empty(SHAPE).double().normal_(),
    "normal_of_a_size": lambda: torch.normal(0.0, 1.0, SHAPE),
    "normal_of_tensors": lambda: torch.normal(torch.zeros(3), torch.ones(SHAPE)),
    "distribution": lambda: torch.distributions.Normal(torch.zeros(SHAPE), torch.ones(SHAPE)).sample(),
    "numpy_randn": lambda: np.random.randn(2, 3),
    "numpy_standard_normal": lambda: np.random.standard_normal(SHAPE),
    "numpy_normal": lambda: np.random.normal(size=SHAPE),
}


@pytest.mark.parametrize("road", ROADS, ids=str)
@pytest.mark.parametrize("given", [NOISE, GIVEN], ids=["array", "tensor"])
def test_every_road_leads_to_the_given_noise(road, given):
    with given_noise([given]) as drawn:
        got = ROADS[road]()
    assert drawn.count == 1
    assert np.array_equal(np.asarray(got), NOISE)


def test_noises_come_in_order_and_are_counted():
    with given_noise([torch.full((2,), float(k)) for k in range(4)]) as drawn:
        got = [torch.randn(2)[0].item(), torch.empty(2).normal_()[0].item(), np.random.randn(2)[0]]
        assert drawn.count == 3
    assert got == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_dtype_is_the_one_asked_for(dtype):
    with given_noise([GIVEN] * 3):
        assert torch.randn(SHAPE, dtype=dtype).dtype == dtype
        assert torch.randn_like(torch.zeros(SHAPE, dtype=dtype)).dtype == dtype
        assert torch.empty(SHAPE, dtype=dtype).normal_().dtype == dtype


def test_where_no_dtype_is_asked_for_no_digit_is_lost():
    with given_noise([GIVEN / 3]):
        assert torch.equal(torch.randn(SHAPE), GIVEN / 3)


def test_mean_and_standard_deviation_are_applied():
    mean, std = torch.full(SHAPE, 10.0, dtype=torch.float64), torch.full(SHAPE, 2.0, dtype=torch.float64)
    with given_noise([GIVEN] * 5) as drawn:
        for got in (
            torch.normal(mean, std),
            torch.normal(10.0, 2.0, SHAPE),
            torch.empty(SHAPE).double().normal_(10, 2),
        ):
            assert torch.equal(got, 10 + 2 * GIVEN)
        assert np.array_equal(np.random.normal(10.0, 2.0, SHAPE), 10 + 2 * NOISE)
        assert np.array_equal(drawn.generator.normal(mean.numpy(), 2.0), 10 + 2 * NOISE)


def test_a_generator_of_numpy_has_a_substitute():
    with given_noise([NOISE, NOISE, np.float64(0.25)]) as drawn:
        assert drawn.generator.standard_normal(SHAPE, dtype=np.float32).dtype == np.float32
        assert np.array_equal(drawn.generator.standard_normal(out=np.zeros(SHAPE)), NOISE)
        assert drawn.generator.standard_normal() == 0.25


def test_the_implementation_cannot_change_what_was_given():
    noise = GIVEN.clone()
    with given_noise([noise]):
        torch.randn_like(noise).mul_(0)
    assert torch.equal(noise, GIVEN)


@pytest.mark.parametrize("road", ROADS, ids=str)
def test_one_draw_too_many_is_named(road):
    with given_noise([]), pytest.raises(AdapterError, match=r"\(2, 3\) was drawn, but all 0 given noises are used"):
        ROADS[road]()


@pytest.mark.parametrize("road", ROADS, ids=str)
def test_a_draw_of_another_shape_is_named(road):
    with given_noise([NOISE.T]), pytest.raises(AdapterError, match=r"\(2, 3\) was drawn.* has shape \(3, 2\)"):
        ROADS[road]()


def test_everything_else_still_works():
    with given_noise([]) as drawn:
        torch.manual_seed(1)
        assert torch.rand(3).shape == (3,)
        assert float(torch.ones(3) @ torch.ones(3)) == 3
        assert np.random.default_rng(0).standard_normal(2).shape == (2,)
    assert drawn.count == 0


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_restored(fails):
    before = np.random.randn, np.random.standard_normal, np.random.normal
    torch.manual_seed(5)
    own = torch.randn(SHAPE)
    try:
        with given_noise([GIVEN]):
            torch.randn(SHAPE)
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    torch.manual_seed(5)
    assert torch.equal(torch.randn(SHAPE), own)
    assert (np.random.randn, np.random.standard_normal, np.random.normal) == before


def test_blocks_can_be_nested():
    with given_noise([GIVEN]) as outer:
        with given_noise([-GIVEN]) as inner:
            assert torch.equal(torch.randn(SHAPE), -GIVEN)
        assert torch.equal(torch.randn(SHAPE), GIVEN)
    assert (outer.count, inner.count) == (1, 1)


def test_numpy_alone_needs_no_torch():
    code = (
        "import sys, numpy as np\n"
        "from ddpm_ref.conformance.own_noise import given_noise\n"
        "with given_noise([np.ones(2)]): print(np.random.randn(2).sum(), 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["2.0", "False"]


def test_without_the_block_noise_is_noise():
    """The counterpart: what these tests compare with is not what PyTorch would have drawn anyway."""
    with mock.patch.dict(ROADS):
        assert not any(np.array_equal(np.asarray(road()), NOISE) for road in ROADS.values())
