"""The posterior against Bayes' rule done by quadrature: nothing but forward kernels goes into the integrals."""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from ddpm_ref.errors import LevelError, RangeError, ScheduleError
from ddpm_ref.reference.forward import q_sample
from ddpm_ref.reference.named_schedules import linear_schedule
from ddpm_ref.reference.posterior import (
    completing_square,
    log_normal,
    log_q_posterior,
    plug_in_reverse,
    posterior_log_variance,
    posterior_mean_from_eps,
    posterior_variance,
    posterior_weights,
    q_posterior,
    true_reverse_kernel,
)
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.reference.trajectory import Trajectory

BETAS = [0.02, 0.3, 0.1, 0.45, 0.2]
STEPS = [(2, 1), (5, 4), (4, 1), (5, 2)]


@pytest.fixture(scope="module")
def problem(oracle):
    """A short schedule, its oracle at 40 digits, and the density of x_s given x_t and x_0 up to a factor."""
    schedule = NoiseSchedule.from_betas(BETAS)
    truth = oracle(BETAS, 30)
    mp = truth.mp

    def normal(x, mean, variance):
        return mp.exp(-((x - mean) ** 2) / (2 * variance)) / mp.sqrt(2 * mp.pi * variance)

    def joint(t, s, xt, prior):
        a = truth.alpha_bar[t] / truth.alpha_bar[s]
        return lambda x: normal(xt, mp.sqrt(a) * x, 1 - a) * prior(x)

    def given(s, x0):
        a = truth.alpha_bar[s]
        return lambda x: normal(x, mp.sqrt(a) * x0, 1 - a)

    def moments(density):
        edges = mp.linspace(-10, 10, 16)
        mass = mp.quad(density, edges)
        mean = mp.quad(lambda x: x * density(x), edges) / mass
        return mass, mean, mp.quad(lambda x: (x - mean) ** 2 * density(x), edges) / mass

    return SimpleNamespace(H=schedule, truth=truth, mp=mp, normal=normal, joint=joint, given=given, moments=moments)


@pytest.mark.parametrize(("t", "s"), STEPS)
def test_mean_and_variance_by_quadrature(t, s, problem, worst):
    p, (x0, xt) = problem, (0.7, -0.4)
    _, mean, variance = p.moments(p.joint(t, s, p.mp.mpf(xt), p.given(s, p.mp.mpf(x0))))
    got_mean, got_variance = q_posterior(p.H, x0, xt, t, s)
    entries = p.truth.between(t, s)
    scale = entries["x0_weight"] * x0 + entries["xt_weight"] * abs(xt)
    assert worst([got_mean], [mean], [scale], 3) <= 1
    assert worst([got_variance], [variance], [variance], 1) <= 1
    assert posterior_variance(p.H, t, s) == got_variance


@pytest.mark.parametrize(("t", "s"), STEPS)
def test_log_density_is_bayes_rule(t, s, problem, worst):
    """log q(x_t|x_s) + log q(x_s|x_0) - log q(x_t|x_0), with no constant left over, at random points."""
    p = problem
    rng = np.random.default_rng(t * 10 + s)
    x0, xt, xs = rng.standard_normal((3, 6))
    values, scales = [], []
    entries, a_t = p.truth.between(t, s), p.truth.alpha_bar[t]
    for a, b, c in zip(*(map(p.mp.mpf, v.tolist()) for v in (x0, xt, xs)), strict=True):
        normalizer = p.normal(b, p.mp.sqrt(a_t) * a, 1 - a_t)
        values.append(p.mp.log(p.joint(t, s, b, p.given(s, a))(c) / normalizer))
        variance = entries["beta_tilde"]
        reach = abs(c) + entries["x0_weight"] * abs(a) + entries["xt_weight"] * abs(b)
        # 4 for the logarithm of a product of four factors' roundings, absolutely
        scales.append((abs(p.mp.log(2 * p.mp.pi * variance)) + 4 + reach**2 / variance) / 2)
    # mean 3, difference 1, both doubled by the square, square 1, variance 1, quotient 1, sum 1, log 1
    assert worst(log_q_posterior(p.H, xs, x0, xt, t, s), values, scales, 13) <= 1


@pytest.mark.parametrize(("t", "s"), STEPS)
def test_completing_the_square_by_finite_differences(t, s, problem, worst):
    """The exponent E of the joint density is quadratic, so E(-1), E(0), E(1) determine it."""
    p, (x0, xt) = problem, (0.7, -0.4)
    a_ts, a_s = p.truth.alpha_bar[t] / p.truth.alpha_bar[s], p.truth.alpha_bar[s]

    def exponent(x):
        later = (p.mp.mpf(xt) - p.mp.sqrt(a_ts) * x) ** 2 / (1 - a_ts)
        return -(later + (x - p.mp.sqrt(a_s) * p.mp.mpf(x0)) ** 2 / (1 - a_s)) / 2

    a = -(exponent(1) - 2 * exponent(0) + exponent(-1))
    b = exponent(1) - exponent(-1)
    got_a, got_b = completing_square(p.H, x0, xt, t, s)
    scale = 2 * (p.mp.sqrt(a_ts) / (1 - a_ts) * abs(xt) + p.mp.sqrt(a_s) / (1 - a_s) * abs(x0))
    assert worst([got_a], [a], [a], 4) <= 1
    assert worst([got_b], [b], [scale], 5) <= 1
    mean, variance = q_posterior(p.H, x0, xt, t, s)
    assert worst([1 / got_a], [Fraction(float(variance))], [float(variance)], 6) <= 1
    reach = sum(w * abs(x) for w, x in zip(posterior_weights(p.H, t, s), (x0, xt), strict=True))
    assert worst([got_b / (2 * got_a)], [Fraction(float(mean))], [float(reach)], 13) <= 1


def test_weights_keep_means_and_variances(any_schedule, worst):
    """c_x sqrt(alpha_bar_t) + c_0 = sqrt(alpha_bar_s); c_x^2 beta_bar_t + beta_tilde = beta_bar_s; both weights in [0, 1]."""
    H = any_schedule
    for t in range(1, H.T + 1):
        for s in range(t):
            c0, cx = (Fraction(float(c)) for c in posterior_weights(H, t, s))
            assert c0 >= 0
            assert cx >= 0
            assert c0 + cx <= 1 + Fraction(1, 2**52)  # two entries, each rounded once
            root_t, root_s = Fraction(float(H.sqrt_alpha_bar[t])), Fraction(float(H.sqrt_alpha_bar[s]))
            assert worst([float(cx * root_t + c0)], [root_s], [float(root_s)], 4) <= 1
            variance = cx**2 * Fraction(float(H.beta_bar[t])) + Fraction(float(posterior_variance(H, t, s)))
            assert worst([float(variance)], [Fraction(float(H.beta_bar[s]))], [float(H.beta_bar[s])], 5) <= 1
            assert posterior_variance(H, t, s) <= min(H.between(t, s).beta, H.beta_bar[s])
            assert (posterior_variance(H, t, s) == 0) == (s == 0)


def test_the_step_to_clean_data_returns_it(any_schedule):
    H = any_schedule
    x0, xt = np.random.default_rng(0).standard_normal((2, 3))
    for t in range(1, H.T + 1):
        mean, variance = q_posterior(H, x0, xt, t, 0)
        assert np.array_equal(mean, x0)
        assert (variance == 0).all()
        assert [float(w) for w in posterior_weights(H, t, 0)] == [1.0, 0.0]
        for function in (log_q_posterior, completing_square):
            with pytest.raises(LevelError, match=r"s = 0: the posterior is the point mass.*use s >= 1"):
                function(*((H, xt, x0, xt, t, 0) if function is log_q_posterior else (H, x0, xt, t, 0)))


def test_mean_from_the_noise_of_xt(any_schedule, oracle, worst):
    """The mean from x0, with x0 eliminated exactly: k = 3 and one more for each of two coefficients of the solved system."""
    H, truth = any_schedule, oracle(any_schedule.beta[1:])
    mp, (xt, eps) = truth.mp, np.random.default_rng(1).standard_normal((2, 4))
    for t in range(1, H.T + 1):
        at = truth.alpha_bar[t]
        for s in range(t):
            if at == 0:
                with pytest.raises(RangeError, match=r"zero terminal SNR.*use x0 or v"):
                    posterior_mean_from_eps(H, xt, t, s, eps)
                continue
            entries, values, scales = truth.between(t, s), [], []
            for x, e in zip(map(mp.mpf, xt.tolist()), map(mp.mpf, eps.tolist()), strict=True):
                x0 = (x - mp.sqrt(1 - at) * e) / mp.sqrt(at)
                values.append(entries["x0_weight"] * x0 + entries["xt_weight"] * x)
                scales.append(entries["recip_sqrt_alpha"] * abs(x) + entries["eps_weight"] * abs(e))
            assert worst(posterior_mean_from_eps(H, xt, t, s, eps), values, scales, 3) <= 1


def test_densities_integrate_to_one():
    """The trapezoidal rule over twenty deviations in steps of a quarter errs by less than 1e-60 for a normal law."""
    for mean, variance in ((0.0, 1.0), (3.5, 1e-6), (-2.0, 1e4)):
        std = variance**0.5
        x = mean + std * np.arange(-80, 81) / 4
        log_density = log_normal(x, mean, variance)
        total = np.exp(log_density).sum() * std / 4
        # rule: sum over terms of gamma_k |log p| p h, k = 8, and 2 gamma_161 for the sums
        bound = (np.exp(log_density) * (8 * np.abs(log_density) + 8 + 322) * std / 4).sum() * 2.0**-53
        # x itself is rounded, an error of one ulp of the mean in units of the deviation
        assert abs(total - 1) <= bound + 2 * abs(mean) / std * 2.0**-52


def test_an_isotropic_density_is_a_sum_over_elements(mp, worst):
    x, mean = np.random.default_rng(2).standard_normal((2, 6))
    variance = 0.3
    distance = sum((mp.mpf(a) - mp.mpf(b)) ** 2 for a, b in zip(x, mean, strict=True))
    value = -3 * mp.log(2 * mp.pi * mp.mpf(variance)) - distance / (2 * mp.mpf(variance))
    got = float(sum(Fraction(v) for v in log_normal(x, mean, variance).tolist()))
    scale = 3 * abs(mp.log(2 * mp.pi * variance)) + 6 + distance / (2 * variance)
    assert worst([got], [value], [scale], 8) <= 1


@pytest.mark.parametrize(("t", "s"), STEPS[1:3])
def test_the_true_reverse_kernel_of_a_mixture_by_quadrature(t, s, problem, worst):
    """q(x_s | x_t) for data on three points: its moments from the integral, and from the moments of the data given x_t."""
    p, xt = problem, 0.25
    mp, points, weights = p.mp, [-1.0, 0.25, 1.0], [0.5, 0.25, 0.25]
    prior = [p.given(s, mp.mpf(m)) for m in points]

    def mixture(x):
        return sum(w * q(x) for w, q in zip(weights, prior, strict=True))

    _, mean, variance = p.moments(p.joint(t, s, mp.mpf(xt), mixture))
    a = p.truth.alpha_bar[t]
    odds = [w * p.normal(mp.mpf(xt), mp.sqrt(a) * m, 1 - a) for w, m in zip(weights, points, strict=True)]
    x0_mean = sum(o * m for o, m in zip(odds, points, strict=True)) / sum(odds)
    x0_variance = sum(o * (m - x0_mean) ** 2 for o, m in zip(odds, points, strict=True)) / sum(odds)
    got = true_reverse_kernel(p.H, xt, t, s, float(x0_mean), float(x0_variance))
    entries = p.truth.between(t, s)
    scale = entries["x0_weight"] * abs(x0_mean) + entries["xt_weight"] * xt
    assert worst([got[0]], [mean], [scale], 4) <= 1  # one more: the moments of the data are rounded
    assert worst([got[1]], [variance], [variance], 6) <= 1
    plugged = plug_in_reverse(p.H, xt, t, s, float(x0_mean))
    assert plugged[0] == got[0]
    assert plugged[1] < got[1]


def test_the_reverse_kernel_of_unit_gaussian_and_of_one_point(any_schedule, worst):
    """G(1): the variance is beta_{t|s}, the mean sqrt(alpha_{t|s}) x_t. A point: the posterior itself."""
    H, xt = any_schedule, np.array([-1.5, 0.3])
    for t in range(1, H.T + 1):
        for s in range(t):
            step = H.between(t, s)
            mean, variance = true_reverse_kernel(H, xt, t, s, H.sqrt_alpha_bar[t] * xt, H.beta_bar[t])
            beta = Fraction(float(step.beta))
            assert worst(np.broadcast_to(variance, 2), [beta, beta], [beta, beta], 7) <= 1
            values = [Fraction(float(step.sqrt_alpha)) * Fraction(x) for x in xt.tolist()]
            assert worst(mean, values, [abs(v) for v in values], 6) <= 1
            point = true_reverse_kernel(H, xt, t, s, 0.5, 0.0)
            posterior = q_posterior(H, 0.5, xt, t, s)
            assert np.array_equal(point[0], posterior[0])
            assert (point[1] == posterior[1]).all()


class TestFirstStep:
    """What stands for log 0 in the step to clean data."""

    H = linear_schedule()

    def test_figures_of_the_inventory(self):
        assert f"{posterior_log_variance(self.H, 1, 0):.3f}" == "-9.817"
        assert f"{posterior_log_variance(self.H, 1, 0, 'floor'):.2f}" == "-46.05"
        assert posterior_log_variance(self.H, 1, 0, "exact") == -np.inf

    @pytest.mark.parametrize("rule", ["replace", "replace_unstrided", "floor", "exact"])
    def test_all_other_steps_are_untouched(self, rule):
        t = np.arange(2, 1001)
        assert np.array_equal(posterior_log_variance(self.H, t, t - 1, rule), np.log(self.H.beta_tilde[2:]))

    def test_strided_chains_borrow_from_their_own_second_step(self):
        trajectory = self.H.trajectory(50, "trailing")
        got = posterior_log_variance(self.H, [20, 40], [0, 20], "replace", trajectory)
        assert got[0] == got[1] == np.log(self.H.between(40, 20).beta_tilde)
        unstrided = posterior_log_variance(self.H, 20, 0, "replace_unstrided", trajectory)
        assert unstrided == np.log(self.H.beta_tilde[2])

    def test_floor_holds_at_every_level(self):
        tiny = NoiseSchedule.from_betas([1e-25] * 3)
        assert posterior_log_variance(tiny, 3, 2, "floor") == np.log(1e-20)
        assert posterior_log_variance(tiny, 3, 2, "exact") < np.log(1e-20)

    @pytest.mark.parametrize("rule", ["replace", "replace_unstrided"])
    def test_one_level_has_nothing_to_borrow(self, rule):
        with pytest.raises(ScheduleError, match=r"chain \(1, 0\) has one step; write 'floor' or 'exact'"):
            posterior_log_variance(linear_schedule(1), 1, 0, rule)
        with pytest.raises(ScheduleError, match=r"chain \(9, 0\) has one step"):
            posterior_log_variance(self.H, 9, 0, "replace", Trajectory((9, 0)))

    def test_unknown_rules_are_refused(self):
        with pytest.raises(RangeError, match="first_step = 'clip' is not known; write one of replace"):
            posterior_log_variance(self.H, 1, 0, "clip")


def test_zero_terminal_snr():
    """alpha_{T|s} = 0: x_T says nothing, so the posterior is q(x_s | x_0)."""
    H = NoiseSchedule.from_betas([0.1, 0.3, 1.0])
    x0, xt = np.array([0.5, -2.0]), np.array([9.0, 9.0])
    for s in (1, 2):
        mean, variance = q_posterior(H, x0, xt, 3, s)
        assert np.array_equal(mean, q_sample(H, x0, s, np.zeros(2)))
        assert (variance == H.beta_bar[s]).all()


def test_batches_views_and_emptiness(any_schedule):
    H, rng = any_schedule, np.random.default_rng(3)
    x0, xt = rng.standard_normal((2, 4, 3, 2))
    t = rng.integers(1, H.T + 1, 4)
    s = rng.integers(0, t)
    mean, variance = q_posterior(H, x0, xt, t, s)
    assert (mean.shape, variance.shape) == ((4, 3, 2), (4, 1, 1))
    for i in range(4):
        one = q_posterior(H, x0[i], xt[i], int(t[i]), int(s[i]))
        assert np.array_equal(one[0], mean[i])
        assert one[1] == variance[i]
    assert np.array_equal(q_posterior(H, x0[::-1], np.asfortranarray(xt[::-1]), t[::-1], s[::-1])[0], mean[::-1])
    assert q_posterior(H, x0[:0], xt[:0], t[:0], s[:0])[0].shape == (0, 3, 2)
    assert posterior_log_variance(NoiseSchedule.from_betas([0.1, 0.2]), t[:0], s[:0]).shape == (0,)
