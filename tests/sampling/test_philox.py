"""The specified stream: published vectors, an independent implementation, Triton's own, and equality to the last bit."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from scipy import stats

from ddpm_ref.errors import RangeError
from ddpm_ref.sampling import NoiseSource, PhiloxNoise, philox

CPU = torch.device("cpu")
SHAPE = (3, 5, 7)  # 35 elements of a sample: the last block has one too many

ALL = 0xFFFFFFFF
PI = 0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0
# The known answers that Random123 is published with (philox4x32, 10 rounds): counter, key, words.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ALL, ALL, ALL, ALL), (ALL, ALL), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (PI[:4], PI[4:], (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
@pytest.mark.parametrize("kind", [int, lambda c: np.array([c]), lambda c: torch.tensor([c])])
def test_the_published_answers(counter, key, words, kind):
    assert tuple(np.asarray(w).item() for w in philox.philox4x32(tuple(map(kind, counter)), key)) == words


def independently(seed, step, first, shape):
    """The specification once more, in NumPy's unsigned integers, block by block in the order of docs/noise.md."""
    batch, event = shape[0], math.prod(shape[1:])
    out = np.empty((batch, -(-event // 4), 4), dtype=np.uint32)
    for sample in range(batch):
        for block in range(out.shape[1]):
            c = [np.uint64(v) for v in (block, step, first + sample, 0)]
            k = [seed % 2**32, seed // 2**32]
            for _ in range(10):
                p, q = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
                low, high = p & np.uint64(ALL), p >> np.uint64(32)
                c = [
                    (q >> np.uint64(32)) ^ c[1] ^ np.uint64(k[0]),
                    q & np.uint64(ALL),
                    high ^ c[3] ^ np.uint64(k[1]),
                    low,
                ]
                k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
            out[sample, block] = c
    return out


@pytest.mark.parametrize(
    ("seed", "step", "first"), [(0, 0, 0), (7, 3, 2), (2**64 - 1, 2**32 - 1, 2**32 - 3), (2**32, 1, 0)]
)
def test_the_layout_of_counter_and_key_is_the_specified_one_in_both_libraries(seed, step, first):
    want = independently(seed, step, first, SHAPE)
    for xp in (np, torch):
        words = philox.blocks(seed, step, first, SHAPE, xp=xp)
        assert np.array_equal(np.stack([np.asarray(w) for w in words], -1), want)


def test_the_layout_matters():
    want = independently(7, 3, 2, SHAPE)[0]
    for other in ((8, 3, 2), (7, 4, 2), (7, 3, 3), (7 + 2**32, 3, 2), (3, 7, 2), (7, 2, 3)):
        assert not np.intersect1d(want, independently(*other, SHAPE)[0]).size


@triton.jit
def _store4(out, j, a, b, c, d):
    tl.store(out + 4 * j, a)
    tl.store(out + 4 * j + 1, b)
    tl.store(out + 4 * j + 2, c)
    tl.store(out + 4 * j + 3, d)


@triton.jit
def _triton_stream(words, first_words, uniforms, normals, seed, step, sample, SIZE: tl.constexpr):
    j = tl.arange(0, SIZE)
    w0, w1, w2, w3 = tl.philox(seed, j, j * 0 + step, j * 0 + sample, j * 0)
    _store4(words, j, w0, w1, w2, w3)
    # Of sample 0 it is also what the functions with a seed and one 64-bit offset make: block + 2^32 step.
    offset = j.to(tl.int64) + (step.to(tl.int64) << 32)
    v0, v1, v2, v3 = tl.randint4x(seed, offset)
    _store4(first_words, j, v0, v1, v2, v3)
    u0, u1, u2, u3 = tl.rand4x(seed, offset)
    _store4(uniforms, j, u0, u1, u2, u3)
    n0, n1, n2, n3 = tl.randn4x(seed, offset)
    _store4(normals, j, n0, n1, n2, n3)


def test_triton_makes_the_same_words_and_uniforms_and_nearly_the_same_normals():
    size, seed, step, sample = 1024, 2**40 + 5, 9, 6
    words, first_words = (torch.zeros(4 * size, dtype=torch.int32) for _ in range(2))
    uniforms, normals = (torch.zeros(4 * size) for _ in range(2))
    _triton_stream[(1,)](words, first_words, uniforms, normals, seed, step, sample, SIZE=size)

    def ours(index):
        return torch.stack(philox.blocks(seed, step, index, (1, 4 * size), xp=torch), -1).flatten()

    assert torch.equal(words.long() & ALL, ours(sample))
    assert torch.equal(first_words.long() & ALL, ours(0))
    assert torch.equal(uniforms, philox.uniform(ours(0), xp=torch))
    # Box-Muller in float32 beside float64: the angle 2 pi u is rounded twice, logarithm, root, cosine and sine to a few
    # units each (rule: elementary functions, 4 units each), so the error is at most (2 pi 2 + 16) u of the radius.
    exact = PhiloxNoise(seed).normal(step, (1, 4 * size), torch.float64, CPU).flatten()
    radius = exact.view(-1, 2).norm(dim=1).repeat_interleave(2)
    assert bool(((normals.double() - exact).abs() <= (4 * math.pi + 16) * 2.0**-24 * radius).all())


def test_integers_uniforms_and_normals_are_bit_equal_in_numpy_and_torch():
    shape = (40, 3, 31, 33)
    of_numpy, of_torch = (philox.blocks(3, 2, 1, shape, xp=xp) for xp in (np, torch))
    for word, other in zip(of_numpy, of_torch, strict=True):
        assert np.array_equal(word, other.numpy())
        assert np.array_equal(philox.uniform(word), philox.uniform(other, xp=torch).numpy())
    a, b = philox.normal(3, 2, 1, shape), philox.normal(3, 2, 1, shape, xp=torch).numpy()
    assert a.dtype == b.dtype == np.float64
    assert a.tobytes() == b.tobytes()


def test_a_square_root_that_misses_by_a_unit_is_mended():
    x = np.random.default_rng(0).uniform(1e-7, 33, 100_000)

    class Careless:
        """A library whose root is a unit off, up or down."""

        @staticmethod
        def sqrt(x):
            return np.nextafter(np.sqrt(x), np.where(np.arange(len(x)) % 2, 0.0, np.inf))

    assert not np.array_equal(Careless.sqrt(x), np.sqrt(x))
    assert np.array_equal(philox._root(x, Careless), np.sqrt(x))


def test_uniforms_lie_where_they_should_and_reach_the_ends():
    ends = np.array([0, 2**31 - 1, 2**31, 2**32 - 1])
    low, high, high_too, low_too = philox.uniform(ends).tolist()
    assert low == low_too == 0.0
    assert high == high_too < 1.0
    assert high > 1 - 2**-23
    # The constant is the largest: the next float32 would give 1.
    assert np.float32(2**31 - 1) * np.nextafter(np.float32(philox.UNIFORM_SCALE), np.float32(1)) >= 1.0


def test_normals_are_those_of_box_and_muller():
    with mpmath.workprec(100):
        words = [w[0, :300] for w in philox.blocks(11, 0, 0, (1, 1200))]
        u1, u2 = (np.append(philox.uniform(w), np.float32([0, 0, 1 - 2**-24, 1e-7, 0.5])) for w in words[:2])
        for pair in zip(*map(np.ndarray.tolist, (u1, u2, *philox.normal_pair(u1, u2))), strict=True):
            u, v, cosine, sine = map(mpmath.mpf, pair)
            radius = mpmath.sqrt(-2 * mpmath.log(max(u, mpmath.mpf(float(np.float32(1e-7))))))
            assert abs(cosine - radius * mpmath.cos(2 * mpmath.pi * v)) <= 8 * 2.0**-53 * radius
            assert abs(sine - radius * mpmath.sin(2 * mpmath.pi * v)) <= 8 * 2.0**-53 * radius


def test_the_law_of_the_numbers_and_their_independence():
    z = philox.normal(1, 2, 3, (400, 500)).ravel()
    # rule: distributions, level 1e-9 shared by the four tests.
    level = 2.5e-10
    assert stats.kstest(z, "norm").pvalue > level
    low, high = stats.chi2.ppf([level / 2, 1 - level / 2], z.size)
    assert low < (z**2).sum() < high
    for lag in (1, 2):  # partners of one pair, and of one block: sums of independent products
        products = z[:-lag] * z[lag:]
        assert abs(products.sum()) / math.sqrt(z.size) < stats.norm.isf(level / 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_noise_is_the_same_for_every_split_of_a_batch(dtype):
    whole = PhiloxNoise(5).normal(4, (7, *SHAPE[1:]), dtype, CPU)
    for size in (1, 2, 3):
        parts = [
            PhiloxNoise(5, first).normal(4, (min(size, 7 - first), *SHAPE[1:]), dtype, CPU)
            for first in range(0, 7, size)
        ]
        assert torch.equal(torch.cat(parts), whole)
    assert whole.dtype == dtype
    assert isinstance(PhiloxNoise(), NoiseSource)


def test_narrower_formats_are_the_wider_ones_rounded():
    z = PhiloxNoise(5).normal(4, SHAPE, torch.float64, CPU)
    assert torch.equal(PhiloxNoise(5).normal(4, SHAPE, torch.float32, CPU), z.float())
    assert torch.equal(PhiloxNoise(5).normal(4, SHAPE, torch.bfloat16, CPU), z.float().bfloat16())


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2,), (1, 1)])
def test_small_shapes(shape):
    assert PhiloxNoise().normal(1, shape, torch.float32, CPU).shape == shape


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**64}, "seed is 18446744073709551616"),
        ({"seed": True}, "seed is True"),
        ({"first": -1}, "first is -1"),
        ({"first": 2**32}, "first is 4294967296"),
    ],
)
def test_keys_that_do_not_fit_their_words_are_refused(wrong, name):
    with pytest.raises(RangeError, match=name):
        PhiloxNoise(**wrong)


def test_a_batch_that_runs_out_of_indices_is_refused():
    with pytest.raises(RangeError, match="last sample of the batch is 4294967296"):
        PhiloxNoise(0, 2**32 - 1).normal(1, (2, 3), torch.float32, CPU)
    with pytest.raises(RangeError, match="step is 4294967296"):
        PhiloxNoise().normal(2**32, (2, 3), torch.float32, CPU)
