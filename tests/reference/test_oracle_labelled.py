"""Labelled oracles against Bayes' rule, finite differences and brute force; guided samplers against independent recursions."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import ddpm_ref
from ddpm_ref.errors import LevelError, RangeError, ShapeError
from ddpm_ref.reference import oracle, plan, posterior
from ddpm_ref.reference.named_schedules import zero_terminal_snr

H = ddpm_ref.linear_schedule(1000)
RNG = np.random.default_rng(8)


def spd(d, n=1):
    root = RNG.standard_normal((n, d, d))
    return root @ root.swapaxes(-1, -2) + 0.2 * np.eye(d)


LAWS = {
    "normal": oracle.Labelled([0.2, 0.8], [oracle.Gaussian(-1.0, 0.25), oracle.Gaussian(1.0, 0.09)]),
    "plane": oracle.Labelled([0.5, 0.25, 0.25], [oracle.Gaussian(RNG.standard_normal(2), spd(2)[0]) for _ in range(3)]),
    "mixtures": oracle.Labelled(
        [0.6, 0.4],
        [oracle.Mixture([0.5, 0.5], RNG.standard_normal((2, 2)), spd(2, 2)), oracle.Gaussian([0.0, 1.0], spd(2)[0])],
    ),
    "points": oracle.Labelled(
        [0.5, 0.5], [oracle.Finite(RNG.standard_normal((4, 3))), oracle.Finite(RNG.standard_normal((2, 3)))]
    ),
}


@pytest.mark.parametrize("name", LAWS)
def test_the_gradient_is_that_of_the_log_probability_and_a_difference_of_scores(name):
    data = LAWS[name]
    x = RNG.standard_normal((20, data.d))
    for t in (60, 300, 900):
        for y in range(data.classes):
            gradient = data.gradient(H, x, t, y)
            difference = data.score(H, x, t, y) - data.score(H, x, t, data.classes)
            size = np.abs(data.score(H, x, t, y)).max() + 1
            assert np.abs(gradient - difference).max() <= 512 * 2.0**-53 * size  # sums of a dozen terms of this size
            step = 1e-5
            ends = [
                np.stack([data.log_probability(H, x + sign * step * e, t, y) for e in np.eye(data.d)], axis=-1)
                for sign in (1, -1)
            ]
            # central differences: h^2/6 third derivatives (of size^3), and the rounding of logarithms over h
            assert (
                np.abs((ends[0] - ends[1]) / (2 * step) - gradient).max() <= step**2 * size**3 + 1e-13 * size**2 / step
            )


@pytest.mark.parametrize("name", LAWS)
def test_probabilities_are_those_of_bayes_and_everything_is_a_mean_over_classes(name):
    data = LAWS[name]
    x, t = RNG.standard_normal((2, 10, data.d)), 500
    shares = np.exp(data.log_probabilities(H, x, t))
    assert shares.shape == (2, 10, data.classes)
    assert np.abs(shares.sum(-1) - 1).max() <= 8 * 2.0**-53
    densities = np.stack([np.exp(-data.nll(x, H, t, y)) for y in range(data.classes)], -1) * data.weights
    assert np.abs(shares - densities / densities.sum(-1, keepdims=True)).max() <= 256 * 2.0**-53
    for method in ("eps", "x0", "score"):
        each = np.stack([getattr(data, method)(H, x, t, y) for y in range(data.classes)], -2)
        together = getattr(data, method)(H, x, t, data.classes)
        assert np.abs((shares[..., None] * each).sum(-2) - together).max() <= 512 * 2.0**-53 * np.abs(each).max()
        assert np.array_equal(together, getattr(data.unconditional, method)(H, x, t))
    assert np.all(data.gradient(H, x, t, data.classes) == 0)
    assert np.all(data.log_probability(H, x, t, data.classes) == 0)


def test_a_nearly_certain_class_keeps_its_relative_accuracy():
    data = oracle.Labelled([0.5, 0.5], [oracle.Gaussian(-1.0, 0.25), oracle.Gaussian(1.0, 0.25)])
    x, t = 6.0, 50
    with mpmath.workdps(60):
        a, v = mpmath.mpf(float(H.sqrt_alpha_bar[t])), mpmath.mpf(0.25)
        total = a * a * v + mpmath.mpf(float(H.sqrt_beta_bar[t])) ** 2
        odds = 2 * a * x / total  # log q(1|x) - log q(0|x)
        log_p, slope = -mpmath.log1p(mpmath.exp(-odds)), 2 * a / total / (1 + mpmath.exp(odds))
    assert odds > 35
    # the exponent errs by a few roundings of its own size, some 40
    assert float(data.log_probability(H, [[x]], t, 1)[0]) == pytest.approx(float(log_p), rel=1e3 * 2.0**-53)
    assert float(data.gradient(H, [[x]], t, 1)[0, 0]) == pytest.approx(float(slope), rel=1e3 * 2.0**-53)


def test_labels_and_levels_per_example():
    data = LAWS["plane"]
    x, y, t = RNG.standard_normal((5, 2)), np.array([0, 1, 2, 3, 1]), np.array([1, 10, 100, 900, 1000])
    for method in ("eps", "x0", "score", "gradient"):
        each = getattr(data, method)(H, x, t, y)
        for k in range(5):
            alone = getattr(data, method)(H, x[k], int(t[k]), int(y[k]))
            assert np.abs(each[k] - alone).max() <= 64 * 2.0**-53 * (
                np.abs(alone).max() + np.abs(x).max() / H.sqrt_beta_bar[t[k]]
            )
    assert data.eps(H, x[:0], 5, 0).shape == (0, 2)
    assert data.gradient(H, x[:0], 5, 0).shape == (0, 2)
    assert data.nll(x, H, 5, y).shape == (5,)


def test_the_guided_density_has_the_guided_score():
    data = LAWS["mixtures"]
    x, t, step = RNG.standard_normal((10, 2)), 400, 1e-5
    eps = data.guided_eps(H, x, t, 0, guidance_weight=2.0)
    density = lambda x: data.guided_log_density(H, x, t, 0, guidance_scale=3.0)  # noqa: E731
    slope = np.stack([(density(x + step * e) - density(x - step * e)) / (2 * step) for e in np.eye(2)], -1)
    # central differences at h = 1e-5 of logarithms of size 10
    assert np.abs(-eps / H.sqrt_beta_bar[t] - slope).max() <= 1e-8


def test_the_kernel_of_a_class_against_quadrature():
    """q(x_s | x_t, y) is proportional to q(x_t | x_s) q(x_s | y): brute force on a grid, for a class that is not normal."""
    data = oracle.Labelled(
        [0.5, 0.5], [oracle.Mixture([0.3, 0.7], [-1.0, 0.5], [0.04, 0.09]), oracle.Gaussian(2.0, 1.0)]
    )
    xt, t, s = 0.4, 400, 250
    grid = np.linspace(-8, 8, 20001)
    step = H.between(t, s)
    density = np.exp(-data.nll(grid[:, None], H, s, 0) - (xt - step.sqrt_alpha * grid) ** 2 / (2 * step.beta))
    density /= density.sum()
    mean, covariance = data.kernel(H, [[xt]], t, s, 0)
    assert abs(mean[0, 0] - (density * grid).sum()) <= 1e-12  # the trapezoidal rule is exact to rounding here
    assert abs(covariance[0, 0, 0] - (density * (grid - mean[0, 0]) ** 2).sum()) <= 1e-12
    point, _ = oracle.Labelled([1.0], [oracle.Finite([0.5])]).kernel(H, [[xt]], t, s, 0)
    assert abs(point[0, 0] - posterior.q_posterior(H, 0.5, xt, t, s)[0]) <= 4 * 2.0**-53


# --- Gaussian pairs ---------------------------------------------------------------------------------------------------

GC = oracle.GuidedGaussian.observed(oracle.Gaussian(0.0, 1.0), y=1.0, covariance=0.25)


def wide_pair(d=3):
    return oracle.GuidedGaussian.observed(
        oracle.Gaussian(RNG.standard_normal(d), spd(d)[0]), RNG.standard_normal(d), spd(d)[0]
    )


def test_the_gradient_of_a_measurement():
    x = RNG.standard_normal((20, 1))
    for t in (0, 1, 500, 1000):
        a = H.sqrt_alpha_bar[t]
        exact = a * (1 - a * x) / (H.beta_bar[t] + 0.25)
        assert np.abs(GC.gradient(H, x, t) - exact).max() <= 16 * 2.0**-53 * 4 * (1 + np.abs(x).max())
    pair = wide_pair()
    x = RNG.standard_normal((20, 3))
    for t in (1, 500, 1000):
        scores = [law.score(H, x, t) for law in (pair.conditional, pair.unconditional)]
        assert np.abs(pair.gradient(H, x, t) - (scores[0] - scores[1])).max() <= 1e3 * 2.0**-53 * np.abs(scores).max()


def test_a_measurement_by_another_road():
    """Precisions add: the posterior of a normal prior and a normal measurement."""
    prior, y, noise = oracle.Gaussian(RNG.standard_normal(3), spd(3)[0]), RNG.standard_normal(3), spd(3)[0]
    pair = oracle.GuidedGaussian.observed(prior, y, noise)
    precision = np.linalg.inv(prior.covariance) + np.linalg.inv(noise)
    covariance = np.linalg.inv(precision)
    mean = covariance @ (np.linalg.solve(prior.covariance, prior.mean) + np.linalg.solve(noise, y))
    room = 64 * 2.0**-53 * np.linalg.cond(prior.covariance) * np.linalg.cond(noise)
    assert np.abs(pair.conditional.covariance - covariance).max() <= room * np.abs(covariance).max()
    assert np.abs(pair.conditional.mean - mean).max() <= room * 8


PLANS = {
    "large": lambda K: plan.ancestral(H, H.trajectory(K, "trailing"), "beta"),
    "small x0": lambda K: plan.ancestral(H, H.trajectory(K), "posterior", form="x0"),
    "ddim": lambda K: plan.ddim(H, H.trajectory(K)),
    "eta": lambda K: plan.ddim(H, H.trajectory(K), 0.5, form="x0"),
}


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("K", [1, 10, pytest.param(1000, marks=pytest.mark.full)])
def test_scale_one_is_conditional_and_scale_zero_unconditional_sampling(name, K):
    """`sample_moments` follows axes, without matrices: an independent computation, agreed with to 1e-12."""
    made, pair = PLANS[name](K), wide_pair()
    for start in ("normal", "marginal"):
        for scale, law in ((1.0, pair.conditional), (0.0, pair.unconditional)):
            if scale == 0 and start == "marginal":
                continue  # starts from the conditional law
            got = oracle.guided_moments(made, pair, guidance_scale=scale, start=start)
            want = oracle.sample_moments(made, law, start)
            # eps form divides the first step by sqrt(alpha_bar) = 1/157 of a one-step chain
            room = 1e-12 * (157 if K == 1 and made.form == "eps" else 1)
            assert np.abs(got.mean[-1] - want.mean[-1]).max() <= room
            assert np.abs(got.covariance[-1] - want.covariance[-1]).max() <= room
    weight = oracle.guided_moments(made, pair, guidance_weight=0.0)
    assert np.array_equal(weight.mean, oracle.guided_moments(made, pair, guidance_scale=1.0).mean)


@pytest.fixture(scope="module")
def exact_alpha_bar():
    """The products of the betas, in 40 digits."""
    with mpmath.workdps(40):
        alpha_bar = [mpmath.mpf(1)]
        for beta in H.beta[1:]:
            alpha_bar.append(alpha_bar[-1] * (1 - mpmath.mpf(float(beta))))
    return alpha_bar


def by_hand(alpha_bar, levels, form, scale, variance, point="xt", last="shift"):
    """The recursion of GC written out in 40 digits, from the betas: every law here is a line."""

    def line(u):
        return mpmath.sqrt(alpha_bar[u]) / (1.25 - alpha_bar[u]), alpha_bar[u] / (1.25 - alpha_bar[u])

    with mpmath.workdps(40):
        mean, spread = mpmath.mpf(0), mpmath.mpf(1)
        for t, s in zip(levels, [*levels[1:], 0], strict=True):
            beta = 1 - alpha_bar[t] / alpha_bar[s]
            gain, offset = mpmath.sqrt(1 - beta), 0  # N(0, 1) data: eps = sqrt(1 - alpha_bar) x
            sigma = beta if variance == "beta" else beta * (1 - alpha_bar[s]) / (1 - alpha_bar[t])
            if form == "noise":
                weight, (top, slope) = scale * beta / mpmath.sqrt(1 - beta), line(t)
                gain, offset = gain - weight * slope, weight * top
            else:
                weight = scale * (sigma if s or last == "shift" else 0)
                top, slope = line(t if point == "xt" else s)
                offset = weight * top
                gain = gain - weight * slope if point == "xt" else gain * (1 - weight * slope)
            mean, spread = gain * mean + offset, gain**2 * spread + (sigma if s else 0)
        return float(mean), float(mpmath.sqrt(spread))


KERNELS = 1e-12
"""What is promised of guided kernels and of what a chain of them ends in, relative."""


@pytest.mark.parametrize("K", [10, 25, pytest.param(1000, marks=pytest.mark.full)])
@pytest.mark.parametrize("variance", ["beta", "posterior"])
def test_guided_samplers_agree_with_the_recursion_by_hand(K, variance, exact_alpha_bar):
    made = plan.ancestral(H, H.trajectory(K, "trailing"), variance)
    levels = made.trajectory.levels[:-1]
    for scale in (0.5, 1.0, 3.0):
        got = oracle.guided_moments(made, GC, guidance_scale=scale)
        assert_ends_as(got, by_hand(exact_alpha_bar, levels, "noise", scale, variance))
        for point in ("xt", "mean"):
            for named, last in ((variance, "shift"), (None, "none")):
                got = oracle.mean_shift_moments(made, GC, scale, gradient_point=point, variance=named)
                assert_ends_as(got, by_hand(exact_alpha_bar, levels, "mean", scale, variance, point, last))


def assert_ends_as(moments, want):
    got = moments.mean[-1, 0], moments.std[-1, 0]
    assert all(abs(a - b) <= KERNELS * abs(b) for a, b in zip(got, want, strict=True)), (got, want)


def ends(moments):
    return round(float(moments.mean[-1, 0]), 5), round(float(moments.std[-1, 0]), 5)


def test_the_damage_of_the_known_mistakes():
    """Errata 67, 69, 71 and 73, to the printed digits."""
    every = plan.ancestral(H, H.trajectory(1000), "beta")
    t = np.array(every.asked)
    assert ends(oracle.guided_moments(every, GC, guidance_scale=1.0)) == (0.79999, 0.44802)
    assert ends(oracle.guided_moments(plan.ddim(H, H.trajectory(1000)), GC, guidance_scale=1.0)) == (0.79773, 0.44573)
    too_strong = oracle.guided_moments(every, GC, guidance_scale=H.sqrt_beta_bar[t] / H.beta[t])
    assert ends(too_strong) == (1.0, 0.02912)
    assert ends(oracle.guided_moments(every, GC, guidance_scale=-1.0)) == (-3.96982, 3.19392)
    assert ends(oracle.guided_moments(plan.ddim(H, H.trajectory(1000)), GC, guidance_scale=-1.0)) == (-2.2012, 2.23172)
    points = {
        K: [
            ends(oracle.mean_shift_moments(plan.ancestral(H, H.trajectory(K, "trailing"), "beta"), GC, 1.0,
                                           gradient_point=point, variance="beta"))[0]
            for point in ("xt", "mean")
        ]
        for K in (1000, 25, 10)
    }  # fmt: skip
    assert points == {1000: [0.79929, 0.80121], 25: [0.76976, 0.85072], 10: [0.71743, 0.93234]}
    assert float(GC.target(guidance_scale=1.0).covariance[0, 0]) ** 0.5 == pytest.approx(
        0.447214, abs=5e-7
    )  # six printed digits
    assert float(GC.target(guidance_weight=1.0).covariance[0, 0]) ** 0.5 == pytest.approx(
        1 / 3, rel=8 * 2.0**-53
    )  # k = 8


def test_the_target_and_its_score():
    pair = wide_pair()
    noised = pair.noised(H, 300)
    target = noised.target(guidance_weight=1.5)
    x = RNG.standard_normal((10, 3))
    scores = [law.score(H, x, 300) for law in (pair.conditional, pair.unconditional)]
    guided = 2.5 * scores[0] - 1.5 * scores[1]
    own = -np.linalg.solve(target.covariance, (x - target.mean).T).T
    assert np.abs(guided - own).max() <= 1e4 * 2.0**-53 * np.abs(scores).max() * np.linalg.cond(target.covariance)
    wider = oracle.GuidedGaussian(oracle.Gaussian(0.0, 1.0), oracle.Gaussian(0.0, 2.0))
    assert wider.target(guidance_weight=0.5).covariance[0, 0] == pytest.approx(4.0, rel=8 * 2.0**-53)  # k = 8
    with pytest.raises(RangeError, match=r"p\(x\)\^-1 has the eigenvalue 0; it has no integral"):
        wider.target(guidance_weight=1.0)


def test_divergence_of_guided_samples():
    made = plan.ancestral(H, H.trajectory(1000), "beta")
    conditional = oracle.guided_moments(made, GC, guidance_scale=1.0)
    assert 0 < conditional.kl(GC.conditional) < 1e-5
    sharper = oracle.guided_moments(made, GC, guidance_scale=2.0)
    assert sharper.kl(GC.target(guidance_scale=2.0)) > 0.01  # it does not sample its target
    dead = zero_terminal_snr(H)
    single = oracle.guided_moments(plan.ddim(dead, dead.trajectory(1), form="x0"), GC, guidance_scale=1.0)
    assert single.kl(GC.conditional) == np.inf  # one step from pure noise: the mean, without any spread


def test_zero_terminal_snr_in_x0_form():
    dead = zero_terminal_snr(H)
    made = plan.ddim(dead, dead.trajectory(50), form="x0")
    got = oracle.guided_moments(made, GC, guidance_scale=1.0)
    want = oracle.sample_moments(made, GC.conditional)
    assert abs(got.mean[-1, 0] - want.mean[-1, 0]) <= 1e-12


CLIPPED = plan.ddim(H, H.trajectory(5), clip=(-1.0, 1.0))
BAD = {
    "weights": (lambda: oracle.Labelled([0.5, 0.6], [oracle.Gaussian(0.0, 1.0)] * 2), RangeError, "weights sum to"),
    "no classes": (lambda: oracle.Labelled([], []), ShapeError, "one law per class"),
    "dimensions": (
        lambda: oracle.Labelled([0.5, 0.5], [oracle.Gaussian(0.0, 1.0), oracle.Gaussian([0.0, 0.0], np.eye(2))]),
        ShapeError,
        "one dimension",
    ),
    "points and densities": (
        lambda: oracle.Labelled([0.5, 0.5], [oracle.Gaussian(0.0, 1.0), oracle.Finite([0.0])]),
        ShapeError,
        "all Finite or all",
    ),
    "label": (
        lambda: LAWS["normal"].eps(H, [[0.0]], 5, 3),
        RangeError,
        "label contains 3; labels are whole numbers 0..2 (2 is no label)",
    ),
    "label shape": (lambda: LAWS["normal"].eps(H, [[0.0]], 5, [0, 1]), ShapeError, "label has shape (2,)"),
    "level": (lambda: LAWS["normal"].eps(H, [[0.0]], 0, 0), LevelError, "from 1"),
    "level shape": (lambda: LAWS["normal"].eps(H, [[0.0]], [1, 2], 0), ShapeError, "t has shape (2,)"),
    "clean points": (lambda: LAWS["points"].gradient(H, np.zeros((1, 3)), 0, 0), LevelError, "from 1"),
    "data": (lambda: LAWS["plane"].gradient(H, [[0.0]], 5, 0), ShapeError, "data of 2 dimensions"),
    "pair": (
        lambda: oracle.GuidedGaussian(oracle.Gaussian(0.0, 1.0), oracle.Gaussian([0.0, 0.0], np.eye(2))),
        ShapeError,
        "give equal ones",
    ),
    "measurement": (
        lambda: oracle.GuidedGaussian.observed(oracle.Gaussian(0.0, 1.0), [0.0, 0.0], np.eye(2)),
        ShapeError,
        "y has 2 dimensions",
    ),
    "levels": (lambda: GC.gradient(H, [[0.0]], [1, 2]), ShapeError, "give one level for all"),
    "clip": (
        lambda: oracle.guided_moments(CLIPPED, GC, guidance_scale=1.0),
        RangeError,
        "clipped states have no closed law",
    ),
    "scales": (
        lambda: oracle.guided_moments(PLANS["ddim"](5), GC, guidance_scale=[1.0, 2.0]),
        ShapeError,
        "one per step, (5,)",
    ),
    "both": (
        lambda: oracle.guided_moments(PLANS["ddim"](5), GC, guidance_scale=1.0, guidance_weight=0.0),
        RangeError,
        "both of",
    ),
    "start": (
        lambda: oracle.guided_moments(PLANS["ddim"](5), GC, guidance_scale=1.0, start="data"),
        RangeError,
        "start = 'data'",
    ),
    "inversion": (
        lambda: oracle.mean_shift_moments(plan.ddim_inversion(H, H.trajectory(5)), GC, 1.0, start="marginal"),
        RangeError,
        "inversion",
    ),
    "point": (
        lambda: oracle.mean_shift_moments(PLANS["large"](5), GC, 1.0, gradient_point="x"),
        RangeError,
        "gradient_point = 'x'",
    ),
    "variance": (
        lambda: oracle.mean_shift_moments(PLANS["large"](5), GC, 1.0, variance="large"),
        RangeError,
        "'large'",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_has_a_named_error(name):
    call, error, words = BAD[name]
    with pytest.raises(error) as raised:
        call()
    assert words in str(raised.value)
