"""The discretised decoder against mpmath, in value and gradient, wherever a mean and a std may lie."""

import math

import numpy as np
import pytest
import torch

from ddpm_ref.errors import PrecisionError, RangeError, ShapeError
from ddpm_ref.torch.decoder import (
    MOST_LEVELS,
    discretized_gaussian_log_likelihood,
    discretized_gaussian_log_likelihood_tanh,
)

BITS = {torch.float64: 53, torch.float32: 24}
SMALLEST = {torch.float64: 2.0**-1074, torch.float32: 2.0**-149}


def generator(seed):
    return torch.Generator().manual_seed(seed)


def draws(count, levels, dtype, seed=0):
    """Levels, a tenth of them outermost, and Gaussians up to 40 stds from an edge or the centre, stds 1e-6 to 1e3."""
    g = generator(seed)
    k = torch.randint(0, levels, (count,), generator=g)
    outermost = (levels - 1) * torch.randint(0, 2, (count,), generator=g)
    k = torch.where(torch.rand(count, generator=g) < 0.1, outermost, k)
    std = 10 ** (9 * torch.rand(count, generator=g, dtype=torch.float64) - 6)
    stds = 80 * torch.rand(count, generator=g, dtype=torch.float64) - 40
    near = torch.rand(count, generator=g) < 0.4
    stds = torch.where(near, stds * 10 ** (-5 * torch.rand(count, generator=g, dtype=torch.float64)), stds)
    place = torch.randint(-1, 2, (count,), generator=g)  # lower edge, centre, upper edge
    mean = -1 + (2 * k.double() + place) / (levels - 1) + stds * std
    return k, mean.to(dtype), std.to(dtype)


def edges(exact, k, mean, std, levels):
    """Both edges in stds."""
    m, s, last = exact.mpf(mean), exact.mpf(std), levels - 1
    lower = -exact.inf if k == 0 else (exact.mpf(2 * k - 1) / last - 1 - m) / s
    upper = exact.inf if k == last else (exact.mpf(2 * k + 1) / last - 1 - m) / s
    return lower, upper


def tail(exact, z):
    if z > 1e6:  # erfc of mpmath goes no further; the next term is smaller by 1 / z^2
        return exact.exp(-z * z / 2) / (z * exact.sqrt(2 * exact.pi))
    return exact.erfc(z / exact.sqrt(2)) / 2


def probability(exact, lower, upper):
    """What the bin catches, or what it misses: the smaller of the two, and whether it is the first."""
    if lower > 0:
        return tail(exact, lower) - tail(exact, upper), True
    if upper < 0:
        return tail(exact, -upper) - tail(exact, -lower), True
    missed = tail(exact, -lower) + tail(exact, upper)
    return (1 - missed, True) if missed > 0.5 else (missed, False)


def log_probability(exact, *arguments):
    value, caught = probability(exact, *edges(exact, *arguments))
    return exact.log(value) if caught else exact.log1p(-value)


def worst_ulp(exact, k, mean, std, levels):
    got = discretized_gaussian_log_likelihood(k, mean, std, levels)
    worst = 0.0
    for value, *arguments in zip(got.tolist(), k.tolist(), mean.tolist(), std.tolist(), strict=True):
        want = log_probability(exact, *arguments, levels)
        # the unit of the last place; where that is below the smallest number of the format, that number
        ulp = exact.ldexp(1, exact.frexp(abs(want))[1] - BITS[mean.dtype]) if want else 0
        worst = max(worst, float(abs(exact.mpf(value) - want) / max(ulp, SMALLEST[mean.dtype])))
    return worst


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("levels", "count"), [(256, 1500), (2, 250), (3, 250), (17, 250), (65536, 250), (2**20, 250)])
def test_within_eight_ulp(exact, dtype, levels, count):
    # rule: NUMERICS section 3, decoder: 8 ulp
    assert worst_ulp(exact, *draws(count, levels, dtype), levels) <= 8


@pytest.mark.full
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_within_eight_ulp_in_many_draws(exact, dtype):
    assert worst_ulp(exact, *draws(30000, 256, dtype, seed=1), 256) <= 8  # rule: as above


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_where_the_forms_meet(exact, dtype):
    """Widths around half a std, squares of edges that differ by a half, edges at 0 and at four times the root of 2."""
    k, mean, std = [], [], []
    for width in (0.4999, 0.5, 0.5001, 1.0, 8.0):
        for lower in (-width / 2, -1e-9, 0.0, 1e-9, 0.5 / width - width / 2, 5.65, 5.66, 5.7):
            for stretch in (0.999, 1.0, 1.001):
                k.append(100)
                std.append(2 / 255 / width)
                mean.append(-1 + 199 / 255 - stretch * lower * std[-1])
    k, mean, std = torch.tensor(k), torch.tensor(mean, dtype=dtype), torch.tensor(std, dtype=dtype)
    assert worst_ulp(exact, k, mean, std, 256) <= 8  # rule: as above


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("std", [1e-6, 1e-3, 0.02, 0.3, 5.0, 1e3])
def test_the_probabilities_of_all_levels_sum_to_one(dtype, std):
    for mean in (-1.7, -1.0, -0.3, 0.0, 0.0039, 1.0, 40.0):
        p = discretized_gaussian_log_likelihood(torch.arange(256), torch.tensor(mean, dtype=dtype), std).exp()
        assert abs(math.fsum(p.tolist()) - 1) <= 8 * torch.finfo(dtype).eps  # rule: 8 ulp of 1


def test_a_mirrored_image_is_as_likely():
    k, mean, std = draws(2000, 256, torch.float32)
    mirrored = discretized_gaussian_log_likelihood(255 - k, -mean, std)
    assert torch.equal(discretized_gaussian_log_likelihood(k, mean, std), mirrored)


def test_a_narrow_bin_is_density_times_width():
    k, mean = torch.arange(1, 255), torch.tensor(0.1, dtype=torch.float64)
    c, width = (-1 + 2 * k.double() / 255 - mean) / 3.0, 2 / 255 / 3.0
    density = -c.square() / 2 - math.log(math.sqrt(2 * math.pi)) + math.log(width)
    got = discretized_gaussian_log_likelihood(k, mean, 3.0)
    # rule: the next term of the expansion is He_2(c) w^2 / 24
    assert bool(((got - density).abs() <= 1.01 * (1 + c.square()) * width**2 / 24).all())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gradients_against_the_derivatives(exact, dtype):
    k, mean, std = draws(800, 256, dtype, seed=2)
    mean, std = mean.requires_grad_(), std.requires_grad_()
    slopes = torch.autograd.grad(discretized_gaussian_log_likelihood(k, mean, std).sum(), (mean, std))
    assert all(bool(slope.isfinite().all()) for slope in slopes)
    u, tiny = 2.0 ** -BITS[dtype], torch.finfo(dtype).tiny
    for i in range(len(k)):
        m, s = float(mean[i].detach()), float(std[i].detach())
        lower, upper = edges(exact, int(k[i]), m, s, 256)
        value, caught = probability(exact, lower, upper)
        p = (value if caught else 1 - value) * exact.mpf(s)
        at_lower, at_upper = (0 if exact.isinf(z) else exact.npdf(z) / p for z in (lower, upper))
        a, b = (0 if exact.isinf(z) else z for z in (lower, upper))
        for got, want, scale in (
            (slopes[0][i], at_lower - at_upper, at_lower + at_upper),
            (slopes[1][i], a * at_lower - b * at_upper, abs(a) * at_lower + abs(b) * at_upper),
        ):
            # rule: section 5, same (S, k): 3 x^2 <= 48 roundings of a Gaussian, and 16 around it
            assert abs(exact.mpf(float(got)) - want) <= 64 * u * scale + tiny, (int(k[i]), m, s)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_gradient_in_a_narrow_bin_keeps_its_digits(exact, dtype):
    """There it is a small difference of two densities, and must not be formed as one."""
    std = 0.1
    offset = torch.logspace(-8, -3, 50, dtype=torch.float64).to(dtype).requires_grad_()
    mean = offset + torch.tensor(0.0, dtype=dtype)
    (slope,) = torch.autograd.grad(discretized_gaussian_log_likelihood(1, mean, std, levels=201).sum(), mean)
    far = torch.tensor(-0.99, dtype=dtype, requires_grad=True)
    (at_centre,) = torch.autograd.grad(discretized_gaussian_log_likelihood(1, far, std, levels=201), far)
    assert abs(float(at_centre)) <= 2 * torch.finfo(dtype).eps / std**2  # rule: one ulp of -0.99, times the curvature
    s = exact.mpf(float(torch.tensor(std, dtype=dtype)))
    for m, got in zip(offset.tolist(), slope.tolist(), strict=True):
        lower, upper = edges(exact, 1, m, s, 201)
        p = probability(exact, lower, upper)[0] * s
        want = (exact.npdf(lower) - exact.npdf(upper)) / p
        assert abs(exact.mpf(got) - want) <= 16 * 2.0 ** -BITS[dtype] * abs(want)  # rule: same (S, k), S = value


def test_gradcheck():
    stds = torch.tensor([1e-4, 1e-3, 0.004, 0.016, 0.1, 3.0], dtype=torch.float64)[:, None, None, None]
    distance = torch.tensor([-3.0, -0.7, -1e-3, 0.4, 2.0, 7.0], dtype=torch.float64)[:, None, None]
    place = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)[:, None] / 255
    k = torch.tensor([0, 100, 255])
    # in units of the std, so that one step of the differences fits all
    mean = ((-1 + 2 * k.double() / 255 + place) / stds + distance).requires_grad_()
    scale = torch.ones_like(mean, requires_grad=True)
    # the derivative of each element by itself stands above; here it is of a random direction in all of them
    assert torch.autograd.gradcheck(
        lambda m, s: discretized_gaussian_log_likelihood(k, m * stds, s * stds), (mean, scale), fast_mode=True
    )


def test_second_derivatives():
    mean = torch.tensor([0.0, 0.002, 0.05, -0.3], dtype=torch.float64, requires_grad=True)
    std = torch.tensor([0.7, 0.9, 1.1, 1.3], dtype=torch.float64, requires_grad=True)
    for k in (0, 1, 2):
        assert torch.autograd.gradgradcheck(
            lambda m, s, k=k: discretized_gaussian_log_likelihood(k, m, s, 3), (mean, std), fast_mode=True
        )


@pytest.mark.parametrize("k", [0, 127, 128, 255])
def test_a_mean_on_an_edge_or_a_centre_has_its_slope(exact, k):
    """0 is the edge between levels 127 and 128, where a magnitude has no derivative."""
    for place in (0.0, -1.0, 1.0, -1 + 2 * k / 255):
        mean = torch.tensor(place, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(discretized_gaussian_log_likelihood(k, mean, 0.001), mean)
        lower, upper = edges(exact, k, place, 0.001, 256)
        value, caught = probability(exact, lower, upper)
        p = (value if caught else 1 - value) / 1000
        at_lower, at_upper = (0 if exact.isinf(z) else exact.npdf(z) / p for z in (lower, upper))
        assert abs(float(slope) - float(at_lower - at_upper)) <= 64 * 2.0**-53 * float(at_lower + at_upper)  # as above


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_are_computed_in_float32_and_rounded_once(dtype):
    k, mean, _ = draws(500, 256, torch.float32)
    mean, std = mean.clamp(-1, 1).to(dtype), torch.full((500,), 0.05)
    want = discretized_gaussian_log_likelihood(k, mean.float(), std).to(dtype)
    assert torch.equal(discretized_gaussian_log_likelihood(k, mean, std), want)
    assert torch.equal(discretized_gaussian_log_likelihood(k, mean, 0.05), want)


def test_shapes():
    k, mean, std = draws(24, 256, torch.float32)
    want = discretized_gaussian_log_likelihood(k, mean, std)
    turned = [value.reshape(4, 6).t().contiguous().t() for value in (k.to(torch.uint8), mean, std)]
    assert not turned[1].is_contiguous()
    for function in (discretized_gaussian_log_likelihood, torch.vmap(discretized_gaussian_log_likelihood)):
        assert torch.equal(function(*turned), want.reshape(4, 6))
    assert discretized_gaussian_log_likelihood(torch.zeros(0, 3, dtype=torch.long), torch.zeros(0, 3), 1.0).shape == (
        0,
        3,
    )
    assert discretized_gaussian_log_likelihood(torch.zeros(4, 1, dtype=torch.long), mean[:3], std[0]).shape == (4, 3)
    assert discretized_gaussian_log_likelihood(7, 0.0, std).shape == (24,)


@pytest.mark.parametrize("form", [discretized_gaussian_log_likelihood, discretized_gaussian_log_likelihood_tanh])
@pytest.mark.parametrize("levels", [2, 3, 256, 2**20])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_beyond_the_domain_there_is_no_nan(dtype, levels, form):
    """From the least to the largest number, in value and gradient, also where what follows multiplies it with 0."""
    tiny, largest = torch.finfo(dtype).tiny, torch.finfo(dtype).max
    sizes = [tiny, 2 * tiny, 1e-30, 1e-19, 1e-10, 1e-3, 1.0, 10.0, 1e10, 1e19, 1e30, largest / 2, largest]
    k = torch.tensor([0, 1, levels // 2 - 1, levels // 2, levels - 1])
    std = torch.tensor([tiny * torch.finfo(dtype).eps, *sizes], dtype=dtype)
    place = torch.tensor([0.0, 1 / (levels - 1), *sizes], dtype=dtype)
    mean = torch.cat([place, -place])
    mean, std, k = (value.clone() for value in torch.broadcast_tensors(mean[:, None, None], std[:, None], k))
    mean, std = mean.requires_grad_(), std.requires_grad_()
    got = form(k, mean, std, levels)
    assert bool((got <= 0).all())
    for following in (1.0, 0.0):
        slopes = torch.autograd.grad(got, (mean, std), torch.full_like(got, following), retain_graph=True)
        assert not any(bool(slope.isnan().any()) for slope in slopes)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_beyond_the_domain_it_is_still_right(exact, dtype):
    """Gaussians far wider than all levels, narrower than any bin, and a mean as far away as a number can be."""
    largest, tiny = torch.finfo(dtype).max, torch.finfo(dtype).tiny
    pairs = [(0.0, largest), (largest, largest), (-largest, largest), (1.0, 1e30), (largest / 2, largest / 3)]
    pairs += [(0.0, tiny), (1 / 255, 1e-10), (0.001, 1e-20), (1.0, 1e-30), (-largest, 1.0), (1e25, 1e24)]
    for levels in (2, 3, 256, 2**20):
        k = torch.tensor([0, 1, levels // 2, levels - 1])[:, None].expand(-1, len(pairs)).reshape(-1)
        mean, std = (torch.tensor(c, dtype=dtype).repeat(4) for c in zip(*pairs, strict=True))
        got = discretized_gaussian_log_likelihood(k, mean, std, levels)
        for value, *arguments in zip(got.tolist(), k.tolist(), mean.tolist(), std.tolist(), strict=True):
            with exact.workdps(1000):  # edges that differ by 1e-308, and what lies between them
                want = log_probability(exact, *arguments, levels)
            if want < -exact.mpf(largest):
                assert value == -math.inf
            else:
                ulp = exact.ldexp(1, exact.frexp(abs(want))[1] - BITS[dtype]) if want else 0
                assert abs(exact.mpf(value) - want) <= 8 * max(ulp, SMALLEST[dtype]), arguments  # rule: as above


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda f, x: f(torch.tensor(256), x, 1.0), RangeError),
        (lambda f, x: f(torch.tensor(-1), x, 1.0), RangeError),
        (lambda f, x: f(17, x, 1.0, 17), RangeError),
        (lambda f, x: f(-1, x, 1.0), RangeError),
        (lambda f, x: f(2**70, x, 1.0), RangeError),
        (lambda f, x: f([1, 2, 3], x, 1.0), PrecisionError),
        (lambda f, x: f(np.array([1, 2, 3]), x, 1.0), PrecisionError),
        (lambda f, x: f(1.0, x, 1.0), PrecisionError),
        (lambda f, x: f(True, x, 1.0), PrecisionError),
        (lambda f, x: f(0, x, 0.0), RangeError),
        (lambda f, x: f(0, x, -1.0), RangeError),
        (lambda f, x: f(0, x, float("nan")), RangeError),
        (lambda f, x: f(0, x + float("nan"), 1.0), RangeError),
        (lambda f, x: f(0, x, 1.0, 1), RangeError),
        (lambda f, x: f(0, x, 1.0, MOST_LEVELS + 1), RangeError),
        (lambda f, x: f(0, x, 1.0, True), RangeError),
        (lambda f, x: f(torch.tensor(0.5), x, 1.0), PrecisionError),
        (lambda f, x: f(torch.tensor(True), x, 1.0), PrecisionError),
        (lambda f, x: f(torch.tensor(1, device="meta"), x, 1.0), PrecisionError),
        (lambda f, x: f(0, x, torch.ones(3, dtype=torch.float64)), PrecisionError),
        (lambda f, x: f(0, 0.0, 1.0), PrecisionError),
        (lambda f, x: f(torch.zeros(2, dtype=torch.long), x, 1.0), ShapeError),
    ],
)
@pytest.mark.parametrize("form", [discretized_gaussian_log_likelihood, discretized_gaussian_log_likelihood_tanh])
def test_bad_arguments(call, error, form):
    with pytest.raises(error):
        call(form, torch.zeros(3))


def test_the_copied_approximation_is_what_it_is(exact):
    k, mean, std = (
        torch.tensor([0, 40, 128, 200, 255]),
        torch.tensor([-0.9, -0.7, 0.0, 0.5, 0.8], dtype=torch.float64),
        0.1,
    )
    got = discretized_gaussian_log_likelihood_tanh(k, mean, std)

    def phi(z):
        if exact.isinf(z):
            return exact.mpf(int(z > 0))
        return (1 + exact.tanh(exact.sqrt(2 / exact.pi) * (z + exact.mpf(0.044715) * z**3))) / 2

    for value, *arguments in zip(got.tolist(), k.tolist(), mean.tolist(), strict=True):
        lower, upper = edges(exact, *arguments, std, 256)
        caught = phi(upper) - phi(lower)
        # rule: both values carry a few roundings of 1, and their difference that of the probability
        assert abs(value - float(exact.log(caught))) <= 32 * 2.0**-53 / float(caught)


def test_the_copied_approximation_errs_and_stops_at_its_floor(exact):
    z = torch.linspace(-5, 5, 2001, dtype=torch.float64)
    copied = discretized_gaussian_log_likelihood_tanh(0, -1 + 1 / 255 - z, 1.0).exp()
    assert float((copied - torch.special.ndtr(z)).abs().max()) == pytest.approx(1.79e-4, rel=1e-2)  # its known error
    mean = torch.tensor(0.5, requires_grad=True)
    floor = discretized_gaussian_log_likelihood_tanh(0, mean, 0.01)
    assert float(floor.detach()) == pytest.approx(math.log(1e-12), rel=2.0**-23)  # two roundings in float32
    assert float(torch.autograd.grad(floor, mean)[0]) == 0
    assert float(discretized_gaussian_log_likelihood(0, mean.detach(), 0.01)) < -1e4
    uniform = discretized_gaussian_log_likelihood_tanh(torch.arange(256), torch.zeros((), dtype=torch.float64), 0.01)
    assert abs(float(uniform.exp().sum()) - 1) > 1e-10  # each level below the floor is counted with 1e-12
