"""The forward process: chains unrolled in exact arithmetic, recursions in fractions, integrals, and a few honest draws."""

from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from ddpm_ref.reference.forward import (
    aggregate_noise,
    aggregate_noise_correlation,
    data_marginal,
    forward_step,
    gaussian_sum,
    q_chain,
    q_mean_variance,
    q_sample,
    q_sample_between,
    second_moment,
    stepwise_inversion,
    terminal_kl,
)
from ddpm_ref.reference.named_schedules import linear_schedule
from ddpm_ref.reference.schedule import NoiseSchedule

LEVEL = 1e-9 / 8  # rule: family-wise level 1e-9 over the eight tests by draws in this file


def draws(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def unrolled(truth, x0, noises):
    """The chain of the definition, in mpmath: every state, from the state before it and the noise of its step."""
    mp, states = truth.mp, [truth.mp.mpf(x0)]
    for t, noise in enumerate(noises, 1):
        beta = truth.beta[t]
        states.append(mp.sqrt(1 - beta) * states[-1] + mp.sqrt(beta) * mp.mpf(noise))
    return states


def test_a_step_from_every_level(any_schedule, oracle, worst):
    H, truth = any_schedule, oracle(any_schedule.beta[1:])
    mp, t = truth.mp, np.arange(1, any_schedule.T + 1)
    x, noise = draws(H.T), draws(H.T, seed=1)
    terms = [
        (mp.sqrt(1 - truth.beta[k]) * mp.mpf(a), mp.sqrt(truth.beta[k]) * mp.mpf(b))
        for k, a, b in zip(t.tolist(), x.tolist(), noise.tolist(), strict=True)
    ]
    got = forward_step(H, x, t, noise)
    assert worst(got, [a + b for a, b in terms], [abs(a) + abs(b) for a, b in terms], 3) <= 1


def test_the_chain_is_its_steps(any_schedule):
    H = any_schedule
    x0, noises = draws(3, 2), draws(H.T, 3, 2, seed=1)
    states = q_chain(H, x0, noises)
    assert states.shape == noises.shape
    for t in range(1, H.T + 1):
        assert np.array_equal(states[t - 1], forward_step(H, states[t - 2] if t > 1 else x0, t, noises[t - 1]))
    assert q_chain(H, x0, noises[:1]).shape == (1, 3, 2)
    assert q_chain(H, x0, noises[:0]).shape == (0, 3, 2)


def test_aggregate_noise_reproduces_the_unrolled_chain(any_schedule, oracle, worst):
    """eps of ``x_t = sqrt(alpha_bar) x0 + sqrt(beta_bar) eps``, solved for in mpmath.

    k = 6 + t: 5 roundings in a weight, a product, t sums.
    """
    H, truth = any_schedule, oracle(any_schedule.beta[1:])
    mp, noises = truth.mp, draws(any_schedule.T, 4)
    weights = aggregate_noise(H, np.eye(H.T), H.T)
    for t in range(1, H.T + 1):
        columns = [unrolled(truth, 0.7, noises[:t, i].tolist()) for i in range(4)]
        at = truth.alpha_bar[t]
        values = [(x[t] - mp.sqrt(at) * mp.mpf(0.7)) / mp.sqrt(1 - at) for x in columns]
        weights = aggregate_noise(H, np.eye(t), t)
        scales = (np.abs(weights) @ np.abs(noises[:t]) * (1 + 1e-9)).tolist()  # rule: S may be larger, never smaller
        assert worst(aggregate_noise(H, noises[:t], t), values, scales, 6 + t) <= 1


def test_weights_of_the_aggregate_noise(any_schedule, worst):
    """Their squares sum to 1, and the last is the correlation with the noise of the last step."""
    H = any_schedule
    for t in range(1, H.T + 1):
        weights = aggregate_noise(H, np.eye(t), t)
        squares = sum(Fraction(w) ** 2 for w in weights.tolist())
        assert worst([float(squares)], [Fraction(1)], [1], 2 * 5 + 1) <= 1
        correlation = aggregate_noise_correlation(H, t)
        assert worst([weights[-1]], [Fraction(float(correlation))], [float(correlation)], 6) <= 1
    assert aggregate_noise_correlation(H, 1) == 1
    assert np.array_equal(aggregate_noise(H, draws(1, 5), 1), draws(1, 5)[0])


def test_correlation_by_draws(lin1000):
    """Of the noise of step t with the aggregate noise, by Fisher's transform of the sample correlation."""
    n, t = 40_000, 5
    noises = np.random.default_rng(0).standard_normal((t, n))
    sample = np.corrcoef(noises[-1], aggregate_noise(lin1000, noises, t))[0, 1]
    z = abs(np.arctanh(sample) - np.arctanh(aggregate_noise_correlation(lin1000, t))) * np.sqrt(n - 3)
    assert z <= stats.norm.isf(LEVEL / 2)


def test_variances_follow_the_recursion_in_fractions(any_schedule, rounded):
    """Conditional on x_s the variance starts at 0 and obeys v <- alpha v + beta: equality after one rounding."""
    H = any_schedule
    for s in range(H.T):
        variance, gain = Fraction(0), Fraction(1)
        for t in range(s + 1, H.T + 1):
            beta = Fraction(float(H.beta[t]))
            variance, gain = (1 - beta) * variance + beta, (1 - beta) * gain
            mean, got = q_mean_variance(H, [1.0, -2.0], t, s)
            assert (got == rounded(variance)).all()
            assert mean[1] == -2 * mean[0]
            lower, upper = (Fraction(float(np.nextafter(mean[0], side))) for side in (0, 2))
            assert ((lower + Fraction(mean[0])) / 2) ** 2 <= gain <= ((upper + Fraction(mean[0])) / 2) ** 2


def test_kernels_compose(any_schedule, rounded, worst):
    """q(x_t | x_s) after q(x_s | x_0) is q(x_t | x_0): means multiply (k = 3), variances combine (k = 4)."""
    H = any_schedule
    for t in range(2, H.T + 1):
        whole_mean, whole_variance = q_mean_variance(H, 1.0, t)
        for s in range(1, t):
            first_mean, first_variance = q_mean_variance(H, 1.0, s)
            mean, variance = q_mean_variance(H, first_mean, t, s)
            assert worst([mean], [Fraction(float(whole_mean))], [float(whole_mean)], 4) <= 1
            composed = variance + H.between(t, s).alpha * first_variance
            assert worst([composed], [Fraction(float(whole_variance))], [float(whole_variance)], 5) <= 1


def test_one_draw_reaches_what_the_chain_reaches(any_schedule, oracle, worst):
    H, truth = any_schedule, oracle(any_schedule.beta[1:])
    mp, noise = truth.mp, draws(any_schedule.T + 1, seed=2)
    x0, t = draws(H.T + 1), np.arange(H.T + 1)
    terms = [
        (mp.sqrt(truth.alpha_bar[k]) * mp.mpf(a), mp.sqrt(1 - truth.alpha_bar[k]) * mp.mpf(b))
        for k, a, b in zip(t.tolist(), x0.tolist(), noise.tolist(), strict=True)
    ]
    got = q_sample(H, x0, t, noise)
    assert worst(got, [a + b for a, b in terms], [abs(a) + abs(b) for a, b in terms], 3) <= 1
    assert got[0] == x0[0]


def test_the_law_of_one_draw_and_of_many_steps_is_the_same():
    """Mean, variance and distribution function of x_t given x0, by one draw and by sequential draws."""
    H, n, x0 = linear_schedule(20, 1e-3, 0.3), 20_000, 1.3
    rng = np.random.default_rng(3)
    mean, variance = q_mean_variance(H, x0, 20)
    one = q_sample(H, np.full(n, x0), 20, rng.standard_normal(n))
    many = q_chain(H, np.full(n, x0), rng.standard_normal((20, n)))[-1]
    for x in (one, many):
        standard = (x - mean) / np.sqrt(variance)
        assert abs(standard.mean()) * np.sqrt(n) <= stats.norm.isf(LEVEL / 2)
        assert stats.chi2.ppf(LEVEL / 2, n) <= (standard**2).sum() <= stats.chi2.isf(LEVEL / 2, n)
        assert stats.kstest(standard, "norm").statistic <= np.sqrt(np.log(2 / LEVEL) / (2 * n))  # rule: DKW
    step = forward_step(H, np.zeros(n), 20, rng.standard_normal(n))
    assert stats.chi2.ppf(LEVEL / 2, n) <= (step**2).sum() / H.beta[20] <= stats.chi2.isf(LEVEL / 2, n)


def test_between_levels(any_schedule, oracle, worst):
    H, truth = any_schedule, oracle(any_schedule.beta[1:])
    mp = truth.mp
    for t in range(1, H.T + 1):
        s = np.arange(t)
        xs, noise = draws(t), draws(t, seed=1)
        entries = [truth.between(t, k) for k in s.tolist()]
        terms = [
            (e["sqrt_alpha"] * mp.mpf(a), e["sqrt_beta"] * mp.mpf(b))
            for e, a, b in zip(entries, xs.tolist(), noise.tolist(), strict=True)
        ]
        got = q_sample_between(H, xs, np.full(t, t), s, noise)
        assert worst(got, [a + b for a, b in terms], [abs(a) + abs(b) for a, b in terms], 3) <= 1
        assert got[-1] == forward_step(H, xs[-1], t, noise[-1])
        assert got[0] == q_sample(H, xs[0], t, noise[0])


def test_linear_in_data_and_noise(any_schedule):
    """Scaling by powers of two is exact, and so is the superposition with zero."""
    H = any_schedule
    x0, noise = draws(6), draws(6, seed=1)
    for t in range(H.T + 1):
        whole = q_sample(H, x0, t, noise)
        assert np.array_equal(q_sample(H, 4 * x0, t, 4 * noise), 4 * whole)
        assert np.array_equal(q_sample(H, x0, t, 0 * noise) + q_sample(H, 0 * x0, t, noise), whole)


def test_data_marginal_of_a_mixture(any_schedule, oracle, worst):
    """Law of total variance over four points of data, each with its own q(x_t | x0)."""
    H, truth = any_schedule, oracle(any_schedule.beta[1:])
    mp, points = truth.mp, [Fraction(-3, 4), Fraction(1, 2), Fraction(2), Fraction(5, 4)]
    mean, square = sum(points) / 4, sum(p**2 for p in points) / 4
    for t in range(H.T + 1):
        a = truth.alpha_bar[t]
        conditional = [mp.sqrt(a) * p.numerator / p.denominator for p in points]
        center = sum(conditional) / 4
        spread = sum((m - center) ** 2 for m in conditional) / 4 + (1 - a)
        got = data_marginal(H, float(mean), float(square - mean**2), t)
        assert worst([got[0]], [center], [abs(center)], 2) <= 1
        assert worst([got[1]], [spread], [spread], 3) <= 1


def test_second_moment_is_variance_plus_squared_mean(any_schedule, rounded, worst):
    H, dimension = any_schedule, 5
    mean, variance = Fraction(3, 2), Fraction(1, 4)
    for t in range(1, H.T + 1):
        for s in range(t):
            alpha, beta = Fraction(1), Fraction(0)
            for i in range(s + 1, t + 1):
                b = Fraction(float(H.beta[i]))
                alpha, beta = alpha * (1 - b), (1 - b) * beta + b
            want = dimension * (alpha * mean**2 + alpha * variance + beta)
            got = second_moment(H, float(dimension * (mean**2 + variance)), t, s, dimension)
            assert worst([got], [want], [want], 3) <= 1


def test_unit_second_moment_is_a_fixed_point(any_schedule, worst):
    H = any_schedule
    for t in range(1, H.T + 1):
        assert worst([second_moment(H, 1.0, t, 0)], [Fraction(1)], [1], 3) <= 1
        assert worst([data_marginal(H, 0.0, 1.0, t)[1]], [Fraction(1)], [1], 3) <= 1


def test_stepwise_inversion_solves_the_step(any_schedule, oracle, worst):
    H, truth = any_schedule, oracle(any_schedule.beta[1:])
    mp, xt, noise = truth.mp, draws(any_schedule.T), draws(any_schedule.T, seed=1)
    levels = [t for t in range(1, H.T + 1) if H.beta[t] < 1]
    for t in levels:
        kept, added = mp.sqrt(1 - truth.beta[t]), mp.sqrt(truth.beta[t])
        # the root of f(x) = kept x + added noise - xt by one secant step, exact for a straight line
        f0, f1 = added * mp.mpf(noise[0]) - mp.mpf(xt[0]), kept + added * mp.mpf(noise[0]) - mp.mpf(xt[0])
        scale = (abs(mp.mpf(xt[0])) + added * abs(mp.mpf(noise[0]))) / kept
        got = stepwise_inversion(H, xt[0], t, noise[0])
        assert worst([got], [-f0 / (f1 - f0)], [scale], 5) <= 1


def test_gaussian_sums():
    """Against the quadratic form of the covariance in fractions, where the roots are exact."""
    for s1, s2 in ((Fraction(3, 2), Fraction(2)), (Fraction(0), Fraction(1, 4)), (Fraction(5), Fraction(5))):
        for rho in (Fraction(0), Fraction(1, 2), Fraction(-3, 4), Fraction(1), Fraction(-1)):
            mean, variance = gaussian_sum(1.5, float(s1**2), -0.25, float(s2**2), float(rho))
            assert (mean, variance) == (1.25, float(s1**2 + s2**2 + 2 * rho * s1 * s2))


def test_variance_of_a_sum_is_never_negative(mp, worst):
    """Total anticorrelation of equal deviations leaves exactly nothing, of nearly equal ones nearly nothing."""
    v = np.random.default_rng(4).uniform(0.1, 10, 500)
    assert (gaussian_sum(0.0, v, 0.0, v, -1.0)[1] == 0).all()
    near = v * (1 + 1e-12)
    got = gaussian_sum(0.0, v, 0.0, near, -1.0)[1]
    values = [(mp.sqrt(mp.mpf(a)) - mp.sqrt(mp.mpf(b))) ** 2 for a, b in zip(v.tolist(), near.tolist(), strict=True)]
    assert worst(got, values, values, 10) <= 1  # 4 roundings in the difference of the roots, squared, and 2 more
    assert np.array_equal(gaussian_sum(0.0, v, 0.0, near)[1], v + near)


def test_sum_of_gaussians_by_draws():
    n, rho = 50_000, -0.6
    first, rest = np.random.default_rng(5).standard_normal((2, n))
    second = rho * first + np.sqrt(1 - rho**2) * rest
    total = (1 + 2 * first) + (3 + 0.5 * second)
    mean, variance = gaussian_sum(1.0, 4.0, 3.0, 0.25, rho)
    assert stats.chi2.ppf(LEVEL / 2, n) <= ((total - mean) ** 2).sum() / variance <= stats.chi2.isf(LEVEL / 2, n)


@pytest.mark.parametrize("x0", [0.0, 1.0, -0.3])
def test_terminal_kl_is_an_integral(x0, lin1000, oracle, worst):
    """The mean of log q(x_T | x0) - log N(x; 0, 1) by quadrature; k = 8 for a quotient, a product and the series."""
    for H in (lin1000, NoiseSchedule.from_betas([0.3, 0.4]), NoiseSchedule.from_betas([1e-6])):
        truth = oracle(H.beta[1:], 40)
        mp, a = truth.mp, truth.alpha_bar[-1]
        mean, std = mp.sqrt(a) * mp.mpf(x0), mp.sqrt(1 - a)

        def integrand(z, mp=mp, mean=mean, std=std):
            # with z the standardised x_T: log q = -log std - z^2/2, log p = -x^2/2
            return mp.npdf(z) * ((mean + std * z) ** 2 - z**2 - 2 * mp.log(std)) / 2

        value = mp.quad(integrand, mp.linspace(-14, 14, 8))
        parts = a * mp.mpf(x0) ** 2 / 2 + (-a - mp.log(1 - a)) / 2
        assert worst([terminal_kl(H, x0)], [value], [parts], 8) <= 1


def test_terminal_kl_at_zero_terminal_snr():
    H = NoiseSchedule.from_betas([0.1, 1.0])
    assert np.array_equal(terminal_kl(H, draws(3)), np.zeros(3))


def test_terminal_kl_falls_with_t():
    assert (np.diff([terminal_kl(linear_schedule(T), 1.0) for T in (10, 50, 100, 500)]) < 0).all()


def test_batches_views_and_emptiness(any_schedule):
    """t a scalar, or of the shape of the leading axes; strided input; nothing at all."""
    H = any_schedule
    x0, noise = draws(4, 3, 2), draws(4, 3, 2, seed=1)
    t = np.random.default_rng(0).integers(1, H.T + 1, (4, 3))
    for function in (q_sample, forward_step):
        whole = function(H, x0, t, noise)
        for i in range(4):
            assert np.array_equal(function(H, x0[i], t[i], noise[i]), whole[i])
            for j in range(3):
                assert np.array_equal(function(H, x0[i, j], int(t[i, j]), noise[i, j]), whole[i, j])
        order = np.array([2, 0, 3, 1])
        assert np.array_equal(function(H, x0[order], t[order], noise[order]), whole[order])
        turned = [np.asfortranarray(a) for a in (x0, noise)]
        assert np.array_equal(function(H, turned[0], t, turned[1]), whole)
        assert np.array_equal(function(H, x0[::2, :, ::-1], t[::2], noise[::2, :, ::-1]), whole[::2, :, ::-1])
        assert function(H, x0[:0], t[:0, 0], noise[:0]).shape == (0, 3, 2)
        single = x0.astype(np.float32)
        assert np.array_equal(function(H, single, t, noise), function(H, single.astype(np.float64), t, noise))
    mean, variance = q_mean_variance(H, x0[:0], np.zeros(0, dtype=int) + 1)
    assert (mean.shape, variance.shape) == ((0, 3, 2), (0, 1, 1))
