"""The discretised decoder: fifty digits everywhere, probabilities that sum to 1, and what the usual approximation costs."""

import math
import warnings

import numpy as np
import pytest
from scipy import special

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.reference import decoder, divergence, scaling
from ddpm_ref.reference.decoder import discretized_gaussian_log_likelihood as log_likelihood
from ddpm_ref.reference.decoder import discretized_gaussian_log_likelihood_tanh as approximation

ULPS = 8  # rule: NUMERICS section 3, the decoder is within 8 units in the last place


def edges(k, mean, std, levels):
    """Of the bins, in float64: for drawing and choosing, never for comparing."""
    last = levels - 1
    return tuple(((2 * k + side) / last - 1 - mean) / std for side in (-1, 1))


def exact(mp, k, mean, std, levels):
    """From the definition: a difference of two tails on the side where they are small."""
    mean, std, last = mp.mpf(mean), mp.mpf(std), levels - 1
    lower = -mp.inf if k == 0 else (mp.mpf(2 * k - 1 - last) / last - mean) / std
    upper = mp.inf if k == last else (mp.mpf(2 * k + 1 - last) / last - mean) / std
    if lower + upper < 0:
        lower, upper = -upper, -lower

    def tail(z):
        return mp.mpf(0) if z == mp.inf else mp.erfc(z / mp.sqrt(2)) / 2

    return mp.log(tail(lower) - tail(upper)) if lower > 0 else mp.log1p(-(tail(-lower) + tail(upper)))


def ulps(mp, got, k, mean, std, levels=256):
    """Errors in units in the last place of the exact value."""
    errors = []
    for g, *arguments in zip(got.tolist(), k.tolist(), mean.tolist(), std.tolist(), strict=True):
        value = exact(mp, *arguments, levels)
        errors.append(float(abs(mp.mpf(g) - value) / mp.mpf(math.ulp(float(value)))))
    return np.array(errors)


def draws(count, seed, levels=256):
    """Deviations from 1e-6 to 1e3, means up to 40 of them from an edge or a centre, and some anywhere near the data."""
    rng = np.random.default_rng(seed)
    k = np.where(rng.uniform(size=count) < 0.15, rng.choice([0, levels - 1], count), rng.integers(0, levels, count))
    std = 10 ** rng.uniform(-6, 3, count)
    distance = rng.choice([-1, 1], count) * np.where(
        rng.uniform(size=count) < 0.5, rng.uniform(0, 40, count), 10 ** rng.uniform(-8, math.log10(40), count)
    )
    mean = (2 * k + rng.choice([-1, 0, 1], count)) / (levels - 1) - 1 + std * distance
    return k, np.where(rng.uniform(size=count) < 0.1, rng.uniform(-3, 3, count), mean), std


def at_the_seams(count, seed):
    """Where one way to compute is left for another."""
    rng = np.random.default_rng(seed)
    k, sign = rng.integers(1, 255, (4, count)), rng.choice([-1, 1], (4, count))
    near, c = 1 + 10.0 ** rng.uniform(-16, -1, (4, count)) * sign, rng.uniform(0.01, 40, (4, count))
    width, fine = 2 / 255, 10 ** rng.uniform(-6, -3, count)
    # A width of 1.5 deviations around the mean; width times centre 2; an edge 1.4 away; an edge next to the mean.
    std = np.stack([width / (1.5 * near[0]), width * c[1] / (2 * near[1]), fine, fine])
    away = np.stack([c[0] / 400, c[1], 1.4 * near[2], 10.0 ** rng.uniform(-16, -3, count)])
    side = np.array([0, 0, 1, 1])[:, None] * rng.choice([-1, 1], (4, count))
    mean = (2 * k + side) / 255 - 1 + std * away * rng.choice([-1, 1], (4, count))
    return k.ravel(), mean.ravel(), std.ravel()


@pytest.mark.parametrize("levels", [256, 2, 3, 1000])
def test_every_result_is_within_eight_units_in_the_last_place(mp, compared, levels):
    k, mean, std = draws(1500, levels, levels)
    errors = ulps(mp, log_likelihood(k, mean, std, levels), k, mean, std, levels)
    assert errors.max() <= ULPS
    compared["log-probabilities of grey levels compared"] += errors.size


def test_the_seams_are_within_eight_units_in_the_last_place(mp, compared):
    k, mean, std = at_the_seams(500, 0)
    lower, upper = edges(k, mean, std, 256)
    width, centre = upper - lower, np.abs(lower + upper) / 2
    assert min(np.sum(np.abs(width - 1.5) < 0.2), np.sum(np.abs(width * centre - 2) < 0.2)) > 100
    errors = ulps(mp, log_likelihood(k, mean, std), k, mean, std)
    assert errors.max() <= ULPS
    compared["log-probabilities of grey levels compared"] += errors.size


@pytest.mark.full
@pytest.mark.parametrize(("levels", "seed"), [(256, 1), (256, 2), (17, 3)])
def test_many_results_are_within_eight_units_in_the_last_place(mp, levels, seed):
    k, mean, std = draws(60_000, (seed, levels), levels)
    assert ulps(mp, log_likelihood(k, mean, std, levels), k, mean, std, levels).max() <= ULPS


def test_planted_usual_ways_fail_the_same_check(mp):
    """Differences of the distribution function and of its logarithm: the one is lost in the tails, the other in narrow bins."""
    k, mean, std = draws(400, 5)
    inner = (k > 0) & (k < 255)
    k, mean, std = k[inner], mean[inner], std[inner]
    lower, upper = edges(k, mean, std, 256)
    with np.errstate(divide="ignore", invalid="ignore"):
        plain = np.log(special.ndtr(upper) - special.ndtr(lower))
        first, second = special.log_ndtr(np.minimum(upper, -lower)), special.log_ndtr(np.minimum(lower, -upper))
        logarithms = first + np.log1p(-np.exp(second - first))
    for naive in (plain, logarithms):
        errors = ulps(mp, np.where(np.isfinite(naive), naive, -1e300), k, mean, std)
        assert (errors > ULPS).mean() > 0.3
        assert errors.max() > 1e5


def test_the_nodes_are_those_of_gauss_and_legendre(mp):
    """Rounded once, unlike those that NumPy computes."""
    found = np.polynomial.legendre.leggauss(16)[0][8:]
    for (node, weight), guess in zip(decoder._NODES, found.tolist(), strict=True):
        root = mp.findroot(lambda t: mp.legendre(16, t), guess)
        slope = 16 * (root * mp.legendre(16, root) - mp.legendre(15, root)) / (root**2 - 1)
        assert (node, weight) == (float(root), float(2 / ((1 - root**2) * slope**2)))


# --- far out ----------------------------------------------------------------------------------------------------------


def log_tail(mp, z):
    """Of a normal law beyond a large ``z``, by the asymptotic series."""
    terms = (mp.mpf(-1) ** n * mp.fac2(2 * n - 1) / z ** (2 * n) for n in range(8))
    return -z * z / 2 - mp.log(z * mp.sqrt(2 * mp.pi)) + mp.log(mp.fsum(terms))


@pytest.mark.parametrize("std", [1e-6, 1e-12, 1e-100, 1.2e-154])
def test_log_probabilities_far_out_are_returned_while_float64_holds_them(mp, std):
    got = float(log_likelihood(255, -1.0, std))
    value = log_tail(mp, (mp.mpf(254) / 255 + 1) / mp.mpf(std))
    assert abs(mp.mpf(got) - value) <= ULPS * mp.mpf(math.ulp(got))
    assert got < -1e12


def test_beyond_float64_the_logarithm_is_minus_infinity():
    assert log_likelihood(255, -1.0, 1e-155) == -np.inf
    assert log_likelihood(0, -1.0, 1e-155) == 0.0


@pytest.mark.parametrize(
    ("k", "mean", "std", "levels", "value"),
    [
        (7, 0.0, 1e300, 256, math.log(2 / 255 / math.sqrt(2 * math.pi)) - 300 * math.log(10)),
        (7, 1e308, 1e308, 256, math.log(2 / 255 / math.sqrt(2 * math.pi)) - 308 * math.log(10) - 0.5),
        (0, 0.0, 1e308, 256, math.log(0.5)),
        (255, -1e308, 1e308, 256, float(special.log_ndtr(-1.0))),
        (1, 0.0, 5e-324, 2, math.log(0.5)),
        (1, 0.5, 1e-310, 3, math.log(0.5)),  # 0.5 is the edge itself
        (128, 1 / 255, 1e-300, 256, 0.0),
        (7, 1.0, 1e-300, 256, -np.inf),
        (7, -1e300, 1e200, 256, -5e199),
    ],
)
def test_numbers_of_any_size_are_answered_without_a_warning(k, mean, std, levels, value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = float(log_likelihood(k, mean, std, levels))
    assert got == value or abs(got - value) <= 4 * math.ulp(
        value
    )  # rule: the value beside it passes through four roundings


# --- probabilities ----------------------------------------------------------------------------------------------------


def totals(log_p):
    return np.array([math.fsum(row) for row in np.exp(log_p).tolist()])


def pairs(count, seed):
    """Means on the data and far outside, deviations from 1e-6 to 1e3; and means on an edge."""
    rng = np.random.default_rng(seed)
    std = 10 ** rng.uniform(-6, 3, count)
    mean = np.where(
        np.arange(count) % 3 == 0,
        10 ** rng.uniform(-3, 4, count) * rng.choice([-1, 1], count),
        np.where(
            np.arange(count) % 3 == 1, rng.uniform(-1.2, 1.2, count), (2 * rng.integers(0, 255, count) + 1) / 255 - 1
        ),
    )
    return mean, std


def test_the_probabilities_of_all_levels_sum_to_one(compared):
    mean, std = pairs(1500, 0)
    sums = totals(log_likelihood(np.arange(256), mean[:, None], std[:, None]))
    assert np.max(np.abs(sums - 1)) <= ULPS * math.ulp(1.0)
    compared["sums of 256 probabilities"] += sums.size


@pytest.mark.parametrize("levels", [2, 3, 17, 4096])
def test_so_do_those_of_any_number_of_levels(levels):
    mean, std = pairs(60, levels)
    sums = totals(log_likelihood(np.arange(levels), mean[:, None], std[:, None], levels))
    assert np.max(np.abs(sums - 1)) <= ULPS * math.ulp(1.0)


def test_planted_closed_bins_do_not_sum_to_one():
    mean, std = pairs(100, 1)
    lower, upper = edges(np.arange(256), mean[:, None], std[:, None], 256)
    closed = special.ndtr(upper) - special.ndtr(lower)
    assert np.max(np.abs(closed.sum(axis=1) - 1)) > 0.5


def test_mirror_images_are_equal_to_the_bit():
    k, mean, std = draws(5000, 8)
    assert np.array_equal(log_likelihood(k, mean, std), log_likelihood(255 - k, -mean, std))


def test_no_probability_exceeds_one():
    k, mean, std = draws(20_000, 9)
    assert log_likelihood(k, mean, std).max() <= 0


def test_broad_laws_have_the_density_times_the_width(mp):
    """To second order in the width h, at c deviations: the logarithm exceeds that by h^2 (c^2 - 1) / 24."""
    k, std, c = 100, 3.0, np.linspace(-4, 4, 41)
    centre = 2 * k / 255 - 1
    h = 2 / 255 / std
    excess = log_likelihood(k, centre - c * std, std) + c**2 / 2 + math.log(math.sqrt(2 * math.pi) / h)
    # rule: the next term is of fourth order, its factor below c^4 for these c; and the roundings of the logarithms
    assert np.max(np.abs(excess - h**2 * (c**2 - 1) / 24)) <= 256 * h**4 + 4 * math.ulp(16.0)
    assert np.max(np.abs(excess)) > 1e-6


def test_the_first_and_the_last_bin_reach_to_infinity():
    outside = np.array([-50.0, -2.0])
    assert np.all(log_likelihood(0, outside, 0.01) == 0)
    assert np.all(log_likelihood(255, -outside, 0.01) == 0)
    assert float(log_likelihood(0, -1 + 1 / 255, 1e-3)) == pytest.approx(
        math.log(0.5), abs=1e-12
    )  # rule: mean rounded, by 1e-16 / 1e-3


# --- arguments --------------------------------------------------------------------------------------------------------


def test_arguments_broadcast_and_batches_may_be_empty():
    assert log_likelihood(3, 0.0, 1.0).shape == ()
    assert log_likelihood(np.zeros((0, 3), dtype=int), 0.0, np.ones(3)).shape == (0, 3)
    assert log_likelihood([[1], [2]], [0.0, 0.5, 1.0], 0.1).shape == (2, 3)
    strided = np.arange(12).reshape(3, 4).T
    assert np.array_equal(log_likelihood(strided, 0.2, 0.3)[:, 1], log_likelihood(strided[:, 1], 0.2, 0.3))
    assert np.array_equal(
        log_likelihood(np.arange(256, dtype=np.uint8), 0, 1), log_likelihood(np.arange(256), 0.0, 1.0)
    )


WRONG = {
    "fraction": (([3.5, 2.0], 0.0, 1.0), RangeError, "dtype float64, e.g. 3.5; give integers from 0 to 255"),
    "whole float": ((3.0, 0.0, 1.0), RangeError, "dtype float64; give integers"),
    "boolean": ((True, 0.0, 1.0), RangeError, "dtype bool; give integers"),
    "text": (("3", 0.0, 1.0), RangeError, "give integers"),
    "NaN level": ((np.nan, 0.0, 1.0), RangeError, "give integers"),
    "above": (
        ([0, 1, 256, 2], 0.0, 1.0),
        RangeError,
        "1 of 4 numbers of level_index (25 %) lie outside 0..255, e.g. 256",
    ),
    "below": ((-1, 0.0, 1.0), RangeError, "lie outside 0..255, e.g. -1"),
    "other levels": ((2, 0.0, 1.0, 2), RangeError, "lie outside 0..1"),
    "one level": ((0, 0.0, 1.0, 1), RangeError, "levels = 1; write a whole number from 2"),
    "half a level": ((0, 0.0, 1.0, 2.5), RangeError, "levels = 2.5"),
    "infinite levels": ((0, 0.0, 1.0, math.inf), RangeError, "levels = inf"),
    "boolean levels": ((0, 0.0, 1.0, True), RangeError, "levels = True"),
    "no deviation": ((0, 0.0, 0.0), RangeError, "std contains 0.0; "),
    "negative deviation": ((0, 0.0, -1.0), RangeError, "std contains -1.0; "),
    "infinite deviation": ((0, 0.0, np.inf), RangeError, "std contains inf"),
    "NaN mean": ((0, np.nan, 1.0), RangeError, "mean contains nan"),
    "infinite mean": ((0, [0.0, -np.inf], 1.0), RangeError, "mean contains -inf at index (1,)"),
    "complex mean": ((0, 1j, 1.0), RangeError, "mean has dtype complex128"),
    "shapes": ((np.zeros(3, int), np.zeros(2), 1.0), ShapeError, "level_index (3,), mean (2,)"),
    "ragged": (([[1], [1, 2]], 0.0, 1.0), ShapeError, "level_index is nested"),
}


@pytest.mark.parametrize("function", [log_likelihood, approximation])
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments_are_named(function, wrong):
    arguments, error, message = WRONG[wrong]
    with pytest.raises(error) as caught:
        function(*arguments)
    assert message in str(caught.value)


def test_the_divergences_offer_it_too():
    assert divergence.discretized_gaussian_log_likelihood is log_likelihood
    assert scaling.to_level_index(-1.0) == 0


# --- the approximation ------------------------------------------------------------------------------------------------


def test_the_approximate_distribution_function_is_off_by_at_most_179_millionths():
    z = np.linspace(-10, 10, 200_001)
    error = np.abs(decoder._tanh_distribution(z) - special.ndtr(z))
    assert f"{error.max():.2e}" == "1.79e-04"
    assert abs(abs(z[error.argmax()]) - 2.592) < 1e-3


def test_what_the_approximation_costs():
    """Of a bin whose centre is so many deviations from the mean, with the variance of the second level of the linear schedule."""
    std = 0.007384570171176252
    level = 2 * 200 / 255 - 1
    damage = [
        float(approximation(200, level - n * std, std) - log_likelihood(200, level - n * std, std))
        for n in (0, 3, 5, 8, 12)
    ]
    assert [f"{d:+.2f}" for d in damage] == ["-0.00", "-0.02", "-1.05", "+3.21", "+41.50"]


def test_the_floor_of_the_approximation_is_1e_12():
    assert float(approximation(255, -1.0, 0.01)) == math.log(1e-12)
    assert float(approximation(255, -5.0, 0.01)) == math.log(1e-12)
    assert float(approximation([0], [-5.0], [1e-300])[0]) == 0.0


def test_near_the_mean_the_approximation_is_near():
    """Within four times the error of the distribution function, relative to probabilities of at least a tenth."""
    k, mean, std = draws(20_000, 11)
    right = log_likelihood(k, mean, std)
    likely = right > math.log(0.1)
    assert likely.sum() > 1000
    off = np.abs(approximation(k, mean, std) - right)[likely]
    assert 1e-4 < off.max() <= 4 * 1.79e-4 / 0.1
