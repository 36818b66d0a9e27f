"""Rounding into a format against the hardware's and torch's own casts; spacing; distances in ulps."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from ddpm_ref.arithmetic import FORMATS, format_named, ulp_distance
from ddpm_ref.errors import ClaimError

NUMPY = {"fp32": np.float32, "fp16": np.float16}
TORCH = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308])


def cast(x, name):
    with np.errstate(over="ignore", under="ignore"):
        return x.astype(NUMPY[name]).astype(np.float64)


def awkward(name, seed=0):
    """Random numbers of every magnitude, every tie between neighbours nearby, and one float64 step to its sides."""
    form, rng = FORMATS[name], np.random.default_rng(seed)
    exponents = rng.uniform(form.min_exponent - form.precision - 2, form.max_exponent + 2, 40_000)
    x = rng.choice([-1, 1], exponents.size) * rng.uniform(1, 2, exponents.size) * 2.0 ** np.floor(exponents)
    inside = x[np.abs(x) < form.max / 2]
    kept = np.round(inside / form.spacing(inside)) * form.spacing(inside)
    ties = kept + form.spacing(kept) / 2
    limit = form.max + form.spacing(form.max) / 2
    edges = np.array(
        [form.max, limit, np.nextafter(limit, 0), form.tiny, form.tiny / 2, np.nextafter(form.tiny / 2, 1)]
    )
    edges = np.concatenate([edges, 3 * form.tiny / 2 * np.array([1.0]), [2.0**form.min_exponent - form.tiny / 2]])
    x = np.concatenate([x, ties, edges, -edges, SPECIAL])
    with np.errstate(over="ignore"):
        return np.concatenate([x, np.nextafter(x, np.inf), np.nextafter(x, -np.inf)])


@pytest.mark.parametrize("name", NUMPY)
def test_rounding_equals_numpys_cast(name):
    x = awkward(name)
    got, want = FORMATS[name].round(x), cast(x, name)
    assert np.array_equal(got, want, equal_nan=True)
    assert np.array_equal(np.signbit(got), np.signbit(want))


def test_rounding_to_bf16_equals_torchs_cast_at_every_number_and_beside_every_tie():
    patterns = np.arange(2**16, dtype=np.int64)
    single = (patterns << 16).astype(np.uint32)
    # float32 inputs: every bf16 number, and the neighbourhood of the tie above each
    offsets = np.array([0, 1, 2, 0x4000, 0x7FFE, 0x7FFF, 0x8000, 0x8001, 0x8002, 0xC000, 0xFFFF], dtype=np.uint32)
    bits = (single[:, None] | offsets).ravel()
    x = bits.view(np.float32)
    want = torch.from_numpy(x.copy()).to(torch.bfloat16).double().numpy()
    with np.errstate(invalid="ignore"):  # signalling NaNs
        got = FORMATS["bf16"].round(x.astype(np.float64))
    assert np.array_equal(got, want, equal_nan=True)
    number = ~np.isnan(want)
    assert np.array_equal(np.signbit(got[number]), np.signbit(want[number]))


def test_rounding_to_bf16_from_float64_rounds_once():
    """Through float32 a tie of bf16 would swallow the bits beyond 24; here they decide."""
    above = 1 + 2.0**-8 + 2.0**-40
    assert FORMATS["bf16"].round(above) == 1 + 2.0**-7
    assert torch.tensor(above, dtype=torch.float64).float().bfloat16().double().item() == 1.0
    x = np.random.default_rng(1).standard_normal(3000) * 2.0 ** np.random.default_rng(2).integers(-140, 120, 3000)
    for value, got in zip(x.tolist(), FORMATS["bf16"].round(x).tolist(), strict=True):
        ulp = Fraction(2) ** max(math.frexp(value)[1] - 8, -133)
        assert abs(Fraction(got) - Fraction(value)) <= ulp / 2


def test_float64_is_left_alone():
    x = awkward("fp32")
    assert np.array_equal(FORMATS["fp64"].round(x), x, equal_nan=True)


@pytest.mark.parametrize("name", TORCH)
def test_constants_are_those_of_torch(name):
    form, info = FORMATS[name], torch.finfo(TORCH[name])
    assert (form.u, form.max, form.tiny) == (info.eps / 2, info.max, info.tiny * info.eps)
    assert str(form) == name


def test_float64_constants():
    form = FORMATS["fp64"]
    assert (form.u, form.max, form.tiny) == (2.0**-53, np.finfo(np.float64).max, 5e-324)


@pytest.mark.parametrize("name", NUMPY)
def test_spacing_is_the_distance_to_the_next_number(name):
    x = FORMATS[name].round(np.abs(awkward(name)))
    x = x[np.isfinite(x) & (x < FORMATS[name].max)]
    assert np.array_equal(FORMATS[name].spacing(x), np.spacing(x.astype(NUMPY[name])).astype(np.float64))
    assert FORMATS[name].spacing(0.0) == FORMATS[name].tiny


@pytest.mark.parametrize("name", ["float32", "FP32", "", "int8"])
def test_unknown_formats_are_refused_with_the_list_of_known_ones(name):
    with pytest.raises(ClaimError, match="write one of fp64, fp32, fp16, bf16"):
        format_named(name)


def test_ulp_distance_counts_steps():
    rng = np.random.default_rng(3)
    x = rng.standard_normal(2000) * 10.0 ** rng.integers(-320, 300, 2000)
    steps = rng.integers(0, 50, 2000)
    y = x.copy()
    for k in range(50):
        y = np.where(k < steps, np.nextafter(y, np.inf), y)
    assert np.array_equal(ulp_distance(x, y), steps)
    assert np.array_equal(ulp_distance(y, x), steps)


@pytest.mark.parametrize(
    ("x", "y", "steps"),
    [
        (0.0, -0.0, 0),
        (0.0, 5e-324, 1),
        (-5e-324, 5e-324, 2),
        (1.0, 2.0, 2**52),
        (np.finfo(np.float64).max, np.inf, 1),
        (-1.0, 1.0, 2 * 0x3FF0000000000000),
        (-np.inf, np.inf, 2**63 - 1),
    ],
)
def test_ulp_distance_across_zero_and_at_the_ends(x, y, steps):
    assert ulp_distance(x, y) == steps
    assert ulp_distance([x], [y]).tolist() == [steps]


def test_ulp_distance_of_a_strided_view():
    x = np.arange(1.0, 21.0)
    assert ulp_distance(x[::2], np.nextafter(x[::2], 0.0)).tolist() == [1] * 10


def test_ulp_distance_refuses_nan():
    with pytest.raises(ValueError, match="NaN"):
        ulp_distance([1.0, np.nan], [1.0, 1.0])
