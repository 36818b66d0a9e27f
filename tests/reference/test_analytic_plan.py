"""Plans with the optimal variance, clipping and its record, statistics of draws, and bad input."""

import math

import numpy as np
import pytest

from ddpm_ref.errors import LevelError, RangeError, ScheduleError, ShapeError
from ddpm_ref.reference import analytic, plan
from ddpm_ref.reference.named_schedules import linear_schedule, zero_terminal_snr

H, LIN1000 = linear_schedule(50), linear_schedule(1000)
END = zero_terminal_snr(linear_schedule(20))


# --- clipping ---------------------------------------------------------------------------------------------------------


def test_clipping_acts_where_it_says_and_nowhere_else():
    v = np.full(51, np.nan)
    v[[1, 2, 30, 40, 50]] = [-0.1, 7.0, 0.1, 1.5, -2.0]
    clipped, what = analytic.clip_sigma_hat_squared(H, v)
    cap, cap40 = (float(analytic.analytic_variance_bounds(H, t, 0)[1]) for t in (2, 40))  # at s = 0: the bound itself
    assert (what.estimates, what.below, what.above, what.clipped) == (5, (1, 50), (2, 40), 4)
    assert (what.lowest, what.fraction) == (-2.0, 0.8)
    assert what.excess == pytest.approx(7.0 / cap, rel=4 * 2.0**-53)  # section 1, k = 4
    assert clipped[[1, 30, 40, 50]].tolist() == [0.0, 0.1, cap40, 0.0]
    assert clipped[2] == pytest.approx(cap, rel=2 * 2.0**-53)  # section 1: either is rounded once
    assert np.isnan(clipped).sum() == 46
    again, nothing = analytic.clip_sigma_hat_squared(H, clipped)
    assert np.array_equal(again, clipped, equal_nan=True)
    assert str(nothing) == "none of 5 estimates clipped"
    assert (nothing.clipped, nothing.fraction, nothing.excess, nothing.lowest) == (0, 0.0, 1.0, 0.0)
    assert "negative at levels 1..50, down to -2" in str(what)
    # a range of one's own, or none; one number per dimension
    assert analytic.clip_sigma_hat_squared(LIN1000, 9.0, 1000, -5.0, 5.0)[0] == 9.0
    assert analytic.clip_sigma_hat_squared(H, 9.0, 2, -math.inf, math.inf)[0] == cap
    many, record = analytic.clip_sigma_hat_squared(LIN1000, [[0.1, -0.1], [2.0, 3.0]], [1000, 1000])
    assert many.tolist() == [[0.1, 0.0], [1.0, 1.0]]
    assert (record.estimates, record.below, record.above) == (4, (1000,), (1000, 1000))


def test_clipped_variances_give_steps_within_their_bounds():
    v = np.append(np.nan, np.random.default_rng(7).uniform(-1, 4, 50))
    clipped, what = analytic.clip_sigma_hat_squared(H, v)
    assert 0 < what.clipped < 50
    for walk in (H.trajectory(50), H.trajectory(7)):
        for eta in (0.0, 0.5, 1.0):
            t, s = np.array(walk.levels[:-1]), np.array(walk.levels[1:])
            lower, upper = analytic.analytic_variance_bounds(H, t, s, eta=eta)
            variance = analytic.analytic_variance(H, t, s, clipped[t], eta)
            assert (lower <= variance).all()
            assert (variance <= np.nextafter(upper, 9)).all()  # a clipped estimate is rounded itself


def test_pixel_threshold(mp, rounded):
    for y in (1, 2, 0.5):
        value = (mp.mpf(2) * mp.mpf(y) / 255) ** 2 * mp.pi / 2
        assert analytic.pixel_threshold_variance(y) == rounded(value)
        # the mean absolute value of such noise is y grey levels of 2/255
        assert math.sqrt(analytic.pixel_threshold_variance(y) * 2 / math.pi) * 255 / 2 == pytest.approx(
            y, rel=1e-15
        )  # k = 5
    v = np.append(np.nan, np.full(1000, 0.3))
    walk = LIN1000.trajectory(10)
    free, bounded = plan.analytic(LIN1000, walk, v), plan.analytic(LIN1000, walk, v, pixel_threshold=2)
    assert np.array_equal(free.noise[[*range(8), 9]], bounded.noise[[*range(8), 9]])
    assert bounded.noise[8] == rounded(mp.sqrt((mp.mpf(4) / 255) ** 2 * mp.pi / 2)) < free.noise[8]
    last = plan.analytic(LIN1000, walk, v, pixel_threshold=1, last_noise="analytic")
    assert last.noise[9] == rounded(mp.sqrt((mp.mpf(2) / 255) ** 2 * mp.pi / 2))
    assert last.noise[8] == free.noise[8]
    quiet = plan.analytic(LIN1000, walk, np.append(np.nan, np.zeros(1000)), pixel_threshold=2)
    assert quiet.noise[8] == LIN1000.between(112, 1).std_tilde  # below the threshold, which only ever lowers


# --- plans ------------------------------------------------------------------------------------------------------------


def test_plans_have_the_mean_of_ddim_and_the_noise_of_the_variance():
    v = np.append(np.nan, np.linspace(0.01, 0.2, 50))
    for eta in (0.0, 0.5, 1.0):
        for options in ({}, {"form": "x0"}, {"clip": (-1.0, 1.0)}, {"clip": (-1.0, 1.0), "rederive_eps": False}):
            walk = H.trajectory(7)
            made, plain = plan.analytic(H, walk, v, eta, **options), plan.ddim(H, walk, eta, **options)
            assert np.array_equal(made.x, plain.x)
            assert np.array_equal(made.prediction, plain.prediction)
            assert (made.form, made.clip, made.eps is None) == (plain.form, plain.clip, plain.eps is None)
            t, s = np.array(walk.levels[:-1]), np.array(walk.levels[1:])
            std = analytic.analytic_std(H, t, s, v[t], eta)
            assert np.array_equal(made.noise, np.append(std[:-1], 0.0))
            noisy = plan.analytic(H, walk, v, eta, last_noise="analytic", **options)
            assert np.array_equal(noisy.noise, std)
            assert noisy.noise[-1] == np.sqrt(v[1])
    known = plan.analytic(H, H.trajectory(9), np.zeros(51), 0.3)
    assert np.array_equal(known.noise, plan.ddim(H, H.trajectory(9), 0.3).noise)


def test_a_step_is_a_row_of_the_plan():
    x, eps, z = np.random.default_rng(3).standard_normal((3, 4, 2))
    v = np.append(np.nan, np.linspace(0.01, 0.2, 50))
    for t, s, a, b, c in plan.analytic(H, H.trajectory(6), v, 0.4).rows():
        noise = None if s == 0 else z
        got = analytic.analytic_step(H, x, t, s, eps, v[t] if s else 0.0, noise, 0.4)
        assert np.array_equal(got, a * x + b * eps + (c * z if s else 0.0))
    rows = analytic.analytic_step(H, x[:2], [9, 4], [3, 0], eps[:2], [0.1, 0.2], z[:2])
    assert np.array_equal(rows[1], analytic.analytic_step(H, x[1], 4, 0, eps[1], 0.2, z[1]))
    mean, variance = analytic.x0_gaussian_approximation(H, x, [9, 4, 1, 2], eps, [0.1, 0.2, 0.3, 0.4])
    assert variance.shape == (4, 1)
    last, scale = analytic.analytic_step(H, x[1], 4, 0, eps[1], 0.0), (abs(x[1]) + abs(eps[1])) / H.sqrt_alpha_bar[4]
    assert (abs(last - mean[1]) <= 8 * 2.0**-53 * scale).all()  # rule: section 1, k = 3 and 5


def test_only_the_levels_of_the_trajectory_must_be_known():
    v = np.full(51, np.nan)
    v[[50, 20]] = 0.1
    assert plan.analytic(H, (50, 20, 3, 0), np.where(np.arange(51) == 3, 0.2, v)).noise[1] > 0
    with pytest.raises(RangeError, match=r"not known \(NaN\) at level 3, which the trajectory visits"):
        plan.analytic(H, (50, 20, 3, 0), v, last_noise="analytic")
    assert plan.analytic(H, (50, 20, 0), v).noise.tolist()[1] == 0.0  # the noiseless last step asks for nothing
    with pytest.raises(RangeError, match=r"not known \(NaN\) at level 3"):
        plan.analytic(H, (50, 3, 1, 0), v)


# --- statistics and bad input -----------------------------------------------------------------------------------------


def test_statistics_of_draws():
    rng = np.random.default_rng(5)
    eps, noise = rng.standard_normal((2, 300, 4))
    assert analytic.eps_mean_square(eps) == np.mean(eps**2)
    assert analytic.residual_mean_square(noise, eps) == np.mean((noise - eps) ** 2)
    # Of standard normal data the standard error is beta_bar sqrt(2 / (M d)): two hundred estimates agree with it within five
    # standard errors of a standard deviation, a family-wise level of 1e-6.
    t, M, d, tries = 500, 16, 48, 400
    estimates = [analytic.eps_mean_square(LIN1000.sqrt_beta_bar[t] * rng.standard_normal((M, d))) for _ in range(tries)]
    want = LIN1000.beta_bar[t] * math.sqrt(2 / (M * d))
    assert abs(np.std(estimates) / want - 1) < 5 / math.sqrt(2 * tries)
    assert f"{want:.4f}" == "0.0470"


BAD = {
    "energy above one": (
        lambda: analytic.sigma_hat_squared(H, [3, 9], [0.2, 1.25]),
        RangeError,
        r"eps_mean_square = 1.25 at t = 9 \(1 of 2 above 1\)",
    ),
    "energy negative": (lambda: analytic.sigma_hat_squared(H, 3, -0.1), RangeError, "must be >= 0"),
    "energy not finite": (lambda: analytic.sigma_hat_squared(H, 3, np.nan), RangeError, "must be finite"),
    "level 0": (lambda: analytic.sigma_hat_squared(H, 0, 0.5), LevelError, "from 1 to T = 50"),
    "shapes": (lambda: analytic.sigma_hat_squared(H, [1, 2, 3], [0.5, 0.5]), ShapeError, "leading axes"),
    "residual negative": (lambda: analytic.sigma_hat_squared_from_residual(H, 3, -1.0), RangeError, "must be >= 0"),
    "zero terminal SNR": (
        lambda: analytic.sigma_hat_squared_from_residual(END, 20, 0.5),
        RangeError,
        "the variance of x0 given x_T is that of the data",
    ),
    "covariance at zero terminal SNR": (
        lambda: analytic.x0_posterior_covariance(END, 20, [0.5]),
        RangeError,
        "zero terminal SNR",
    ),
    "condition": (lambda: analytic.mean_square_condition(1.0), RangeError, r"finite in \[0, 1\) only"),
    "no matrices": (lambda: analytic.x0_posterior_covariance_averaged(H, 3, [[1.0, 2.0]]), ShapeError, "give matrices"),
    "nothing to average": (lambda: analytic.eps_mean_square(np.zeros((0, 3))), ShapeError, "nothing to average"),
    "residual of other shapes": (
        lambda: analytic.residual_mean_square(np.zeros((2, 3)), np.zeros((4, 3))),
        ShapeError,
        "do not fit",
    ),
    "variance negative": (lambda: analytic.analytic_variance(H, 3, 2, -0.5), RangeError, "must be >= 0"),
    "one number per level": (
        lambda: analytic.analytic_variance(H, [3, 4], [2, 2], [0.1, 0.2, 0.3]),
        ShapeError,
        "one number per level",
    ),
    "step upwards": (lambda: analytic.analytic_variance(H, 3, 3, 0.5), LevelError, "t > s"),
    "eta": (lambda: analytic.analytic_variance(H, 3, 2, 0.5, 1.5), RangeError, "eta = 1.5"),
    "range": (lambda: analytic.analytic_variance_bounds(H, 3, 2, 1.0, 1.0), RangeError, "needs low < high"),
    "range not a number": (
        lambda: analytic.clip_sigma_hat_squared(H, 0.5, 3, np.nan, 1.0),
        RangeError,
        "needs low < high",
    ),
    "noise missing": (lambda: analytic.analytic_step(H, [0.0], 3, 2, [0.0], 0.5), RangeError, "pass noise"),
    "step at zero terminal SNR": (
        lambda: analytic.analytic_step(END, [0.0], 20, 2, [0.0], 0.5, [0.0]),
        RangeError,
        "zero terminal SNR",
    ),
    "clip without levels": (
        lambda: analytic.clip_sigma_hat_squared(H, [0.5, 0.1]),
        ShapeError,
        r"one per level 0..T = 50, shape \(51,\)",
    ),
    "clip infinite": (lambda: analytic.clip_sigma_hat_squared(H, np.inf, 3), RangeError, "infinite at t = 3"),
    "pixels": (lambda: analytic.pixel_threshold_variance(0), RangeError, "a number of grey levels > 0"),
    "data outside": (
        lambda: analytic.refuse_outside([0.0, 0.5, 3.0, 255.0]),
        RangeError,
        r"2 of 4 numbers of x0 \(50 %\) lie outside \[-1, 1\], from 0 to 255",
    ),
    "plan, negative": (
        lambda: plan.analytic(H, (3, 1, 0), np.full(51, -0.1)),
        RangeError,
        r"x0_variance is -0.1 at level 3 \(1 of 1 negative\)",
    ),
    "plan, shape": (lambda: plan.analytic(H, (3, 1, 0), [0.1, 0.2]), ShapeError, "one number per level 0..T = 50"),
    "plan, infinite": (lambda: plan.analytic(H, (3, 1, 0), np.full(51, np.inf)), RangeError, "infinite at level 0"),
    "plan, text": (lambda: plan.analytic(H, (3, 1, 0), ["x"] * 51), RangeError, "give real numbers"),
    "plan, last noise": (
        lambda: plan.analytic(H, (3, 1, 0), np.ones(51), last_noise="variance"),
        RangeError,
        "write one of none, analytic",
    ),
    "plan, above T": (lambda: plan.analytic(H, (60, 1, 0), np.ones(51)), ScheduleError, "above T = 50"),
    "plan, one silent step": (
        lambda: plan.analytic(H, (3, 0), np.ones(51), pixel_threshold=1),
        ScheduleError,
        "this plan of one step has none",
    ),
    "plan, eps at zero terminal SNR": (lambda: plan.analytic(END, (20, 1, 0), np.ones(21)), RangeError, "form='x0'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, error, words = BAD[name]
    with pytest.raises(error, match=words):
        call()


def test_what_is_allowed_is_not_refused():
    assert float(analytic.sigma_hat_squared(H, 9, 1.25, allow_negative=True)) < 0
    analytic.refuse_outside([-1.0, 1.0])
    analytic.refuse_outside([0.0, 255.0], 0.0, 255.0)
    analytic.refuse_outside([1e9], -math.inf, math.inf)
