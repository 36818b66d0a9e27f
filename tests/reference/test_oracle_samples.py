"""The exact law of samples: golden figures, brute force by matrices and by grids, and the rule that both must agree."""

from __future__ import annotations

from math import erf, log, sqrt

import numpy as np
import pytest

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.reference.divergence import kl_normal_full
from ddpm_ref.reference.named_schedules import cosine_schedule, linear_schedule, zero_terminal_snr
from ddpm_ref.reference.oracle import Finite, Gaussian, Mixture, density, panels, sample_density, sample_moments
from ddpm_ref.reference.plan import Plan, Threshold, ancestral, ddim, ddim_inversion
from ddpm_ref.reference.schedule import NoiseSchedule

H = linear_schedule(1000)
U = 2.0**-53
# Quadrature and recursion share no step; what is asked of them is 1e-9, and this is what rounding leaves.
AGREE = 1e-11
BIMODAL = Mixture([0.5, 0.5], [-1.0, 1.0], [0.0625, 0.0625])
UNEVEN = Mixture([0.3, 0.7], [-1.0, 1.0], [0.01, 0.04])


def final_std(made, data, start="normal"):
    return float(np.sqrt(sample_moments(made, data, start).variances[-1, 0]))


@pytest.mark.parametrize(
    ("deviation", "figures"),
    [
        (1.0, "0.995524 0.999950 0.998124 0.963551"),
        (0.5, "0.496110 0.500752 0.498495 0.471403"),
        (0.1, "0.096311 0.100766 0.098319 0.074173"),
    ],
)
def test_golden_deviations_of_the_linear_schedule(deviation, figures):
    every, fifty, data = H.trajectory(1000), H.trajectory(50, "trailing"), Gaussian(0.0, deviation**2)
    made = ancestral(H, every), ancestral(H, every, "beta"), ddim(H, every), ddim(H, fifty)
    assert " ".join(f"{final_std(each, data):.6f}" for each in made) == figures


@pytest.mark.parametrize(
    ("variance", "figures"),
    [("posterior", "0.3228 0.4042 0.4432 0.4680 0.4961"), ("beta", "0.5988 0.5365 0.5176 0.5086 0.5008")],
)
def test_golden_deviations_on_the_even_trajectory(variance, figures):
    data = Gaussian(0.3, 0.25)
    made = [ancestral(H, H.trajectory(steps), variance) for steps in (10, 25, 50, 100, 1000)]
    assert " ".join(f"{final_std(each, data):.4f}" for each in made) == figures


def test_the_optimal_variance_keeps_the_law_of_gaussian_data():
    # bao2022, eq. (7): beta_tilde plus what is not known of x0, noise on the last step too. The true law is a fixed point.
    data = Gaussian(0.3, 0.25)
    for steps in (1, 10, 50):
        trajectory = H.trajectory(steps)
        t, s = np.array(trajectory.levels[:-1]), np.array(trajectory.levels[1:])
        step = H.between(t, s)
        left = 0.25 * H.beta_bar[t] / (0.25 * H.alpha_bar[t] + H.beta_bar[t])
        noise = np.sqrt(step.beta_tilde + step.x0_weight**2 * left)
        made = Plan(H, trajectory, "x0", step.xt_weight.copy(), step.x0_weight.copy(), noise)
        moments = sample_moments(made, data, "marginal")
        assert np.abs(moments.variances / moments.true_variances - 1).max() <= 64 * U * steps  # rule of chains
        assert f"{final_std(made, data):.4f}" == "0.5000"


def brute_force(made, data, start):
    """Mean and covariance step by step, with the matrix of the prediction from a linear solver."""
    eye, schedule = np.eye(data.d), made.schedule
    first = made.trajectory.levels[0]
    mean, spread = np.zeros(data.d), eye
    if start == "marginal":
        mean = schedule.sqrt_alpha_bar[first] * data.mean
        spread = schedule.alpha_bar[first] * data.covariance + schedule.beta_bar[first] * eye
    yield mean, spread
    for k, t in enumerate(made.asked):
        a, b = schedule.sqrt_alpha_bar[t], schedule.sqrt_beta_bar[t]
        total = a * a * data.covariance + b * b * eye
        solve = np.linalg.solve(total, b * eye if made.form == "eps" else a * data.covariance)
        offset = (data.mean if made.form == "x0" else 0) - solve.T @ (a * data.mean)
        gain = made.x[k] * eye + made.prediction[k] * solve.T
        mean = gain @ mean + made.prediction[k] * offset
        spread = gain @ spread @ gain.T + made.noise[k] ** 2 * eye
        yield mean, spread


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("start", ["normal", "marginal"])
def test_moments_against_matrices(d, start):
    rng = np.random.default_rng(d)
    root = rng.standard_normal((d, d))
    data = Gaussian(rng.standard_normal(d), root @ root.T + 0.05 * np.eye(d))
    plans = [
        ancestral(H, H.trajectory(20), "beta"),
        ddim(H, H.trajectory(20), 0.3, form="x0"),
        ddim(H, H.trajectory(7)),
    ]
    if start == "marginal":
        plans.append(ddim_inversion(H, H.trajectory(9)))
    for made in plans:
        moments, truth = sample_moments(made, data, start), list(brute_force(made, data, start))
        assert moments.mean.shape == (len(made) + 1, d)
        for k, (mean, spread) in enumerate(truth):
            # solvers of condition at most 200, a step at a time: condition times rounding times steps
            assert np.abs(moments.mean[k] - mean).max() <= 1e-11
            assert np.abs(moments.covariance[k] - spread).max() <= 1e-11
        level = made.trajectory.levels[-1]
        last = data.noised(H, level) if level else data
        full = kl_normal_full(mean, (spread + spread.T) / 2, last.mean, (last.covariance + last.covariance.T) / 2)
        assert moments.kl() == pytest.approx(float(full), rel=1e-9, abs=1e-11)  # condition numbers as above


def test_the_chain_from_the_marginal_to_one_step():
    one = NoiseSchedule.from_betas([0.4])
    data = Gaussian(0.3, 0.25)
    moments = sample_moments(ancestral(one, one.trajectory(1)), data, "marginal")
    gain = sqrt(0.6) * 0.25 / (0.6 * 0.25 + 0.4)
    # NUMERICS 2: one product, one quotient, eight roundings at most.
    assert moments.variances[:, 0] == pytest.approx([0.55, gain**2 * 0.55], rel=8 * U)
    assert moments.mean[:, 0] == pytest.approx([sqrt(0.6) * 0.3, 0.3], rel=8 * U)
    two = NoiseSchedule.from_betas([0.4, 0.5])
    assert sample_moments(ddim(two, two.trajectory(2), 1.0), data).variances.shape == (3, 1)
    dead = zero_terminal_snr(linear_schedule(10))
    collapsed = ancestral(dead, dead.trajectory(1), form="x0")
    assert sample_moments(collapsed, data).kl() == float("inf")


GAUSSIAN = [
    (mean, variance, steps, eta)
    for mean, variance in ((0.0, 1.0), (0.3, 0.25), (-1.0, 0.01))
    for steps in (1, 2, 10)
    for eta in (0.0, 0.4, 1.0)
]


@pytest.mark.parametrize(
    ("mean", "variance", "steps", "eta"), [*GAUSSIAN, (0.3, 0.25, 100, 0.0), (0.3, 0.25, 100, 1.0)]
)
def test_densities_of_gaussian_data_are_the_exact_normal_ones(mean, variance, steps, eta):
    data, made = Gaussian(mean, variance), ddim(H, H.trajectory(steps), eta, form="x0")
    law, moments = sample_density(made, data), sample_moments(made, data)
    v1 = moments.variances[-1, 0]
    assert abs(law.mass.sum() - 1) <= AGREE
    assert abs(law.mean - moments.mean[-1, 0]) <= AGREE
    assert abs(law.variance / v1 - 1) <= AGREE
    assert abs(law.kl() - moments.kl()) <= AGREE * max(1, moments.kl())
    exact = -0.5 * np.log(2 * np.pi * v1) - (law.x - moments.mean[-1, 0]) ** 2 / (2 * v1)
    assert np.max(law.mass * np.abs(law.log_density - exact)) <= AGREE
    assert (np.diff(law.x) > 0).all()


@pytest.mark.full
@pytest.mark.parametrize("steps", [250, 1000])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_long_chains_stay_exact(steps, eta):
    data, made = Gaussian(0.3, 0.25), ddim(H, H.trajectory(steps), eta)
    law, moments = sample_density(made, data), sample_moments(made, data)
    assert abs(law.mass.sum() - 1) <= AGREE
    assert abs(law.kl() - moments.kl()) <= AGREE


def test_total_variation_of_two_normal_laws():
    data, made = Gaussian(0.0, 0.25), ddim(H, H.trajectory(10), form="x0")
    narrow, wide = final_std(made, data), 0.5
    # Both centred: the densities cross where x^2 (1/v1 - 1/v2) = log(v2/v1).
    cross = sqrt(2 * log(wide / narrow) / (narrow**-2 - wide**-2))
    exact = erf(cross / narrow / sqrt(2)) - erf(cross / wide / sqrt(2))
    assert abs(sample_density(made, data).total_variation - exact) <= AGREE


def probability_below(data, x):
    scaled = (x - data.means[:, 0]) / np.sqrt(2 * data.covariances[:, 0, 0])
    return data.weights @ [(1 + erf(z)) / 2 for z in scaled]


def uniform_grid(made, data, points=2101, reach=8.4):
    """The law of the samples by transition matrices on one grid: no panels, no maps, no windows; noise in every step but the last.

    The last grid is three times finer: log q of the data bends sharply between the modes.
    """
    x, h = np.linspace(-reach, reach, points, retstep=True)
    p = np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    for k, t in enumerate(made.asked[:-1]):
        f = made.x[k] * x + made.prediction[k] * data.x0(made.schedule, x[:, None], t)[:, 0]
        target = x if k < len(made) - 2 else np.linspace(-reach, reach, 3 * points - 2)
        c = made.noise[k]
        p = h / (c * np.sqrt(2 * np.pi)) * (np.exp(-((target[:, None] - f) ** 2) / (2 * c * c)) @ p)
    t, last = made.asked[-1], target[:, None]
    f = made.x[-1] * target + made.prediction[-1] * data.x0(made.schedule, last, t)[:, 0]
    slope = (
        made.schedule.sqrt_alpha_bar[t]
        / made.schedule.beta_bar[t]
        * data.x0_covariance(made.schedule, last, t)[:, 0, 0]
    )
    return h / 3, p, f, slope


@pytest.mark.parametrize("data", [BIMODAL, UNEVEN], ids=["bimodal", "uneven"])
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_densities_of_mixtures_against_one_fine_grid(data, eta):
    made = ddim(H, H.trajectory(6, "trailing"), eta, form="x0")
    h, p, f, slope = uniform_grid(made, data)
    law = sample_density(made, data)
    there = p > 1e-30
    log_q = -data.nll(f[:, None])
    kl = h * np.sum(p[there] * (np.log(p[there] / slope[there]) - log_q[there]))
    assert abs(law.mass.sum() - 1) <= AGREE
    assert abs(law.mean - h * p @ f) <= AGREE
    assert abs(law.variance - (h * p @ f**2 - (h * p @ f) ** 2)) <= AGREE
    assert abs(law.kl() - kl) <= AGREE
    # Data beyond the reach of the samples count too. The kink of |p - q| and the cut ends cost the uniform grid h^2.
    apart = np.abs(p - np.exp(log_q) * slope)
    tails = [probability_below(data, f[0]), 1 - probability_below(data, f[-1])]
    tv = (h * (apart.sum() - (apart[0] + apart[-1]) / 2) + sum(tails)) / 2
    assert abs(law.total_variation - tv) <= h * h


def test_the_comparison_above_can_fail():
    law = sample_density(ddim(H, H.trajectory(6, "trailing"), 1.0, form="x0"), BIMODAL)
    h, p, f, _ = uniform_grid(ddim(H, H.trajectory(6, "trailing"), 0.999, form="x0"), BIMODAL)
    assert abs(law.variance - (h * p @ f**2 - (h * p @ f) ** 2)) > 1e3 * AGREE


def test_deterministic_samples_are_quantiles():
    made = ddim(H, H.trajectory(12), form="x0")
    law = sample_density(made, UNEVEN)
    z = np.linspace(-3, 3, 9)
    x = z.copy()
    for k, t in enumerate(made.asked):
        x = made.x[k] * x + made.prediction[k] * UNEVEN.x0(H, x[:, None], t)[:, 0]
    below = np.array([law.mass[law.x < each].sum() for each in x])
    # A monotone map keeps probabilities; cutting the rule between two nodes costs the mass of one.
    cdf = np.array([(1 + erf(each / sqrt(2))) / 2 for each in z])
    assert np.all(np.abs(below - cdf) <= law.mass.max())
    h = 1e-5
    shifted = [z - h, z + h]
    for k, t in enumerate(made.asked):
        shifted = [made.x[k] * y + made.prediction[k] * UNEVEN.x0(H, y[:, None], t)[:, 0] for y in shifted]
    exact = -z * z / 2 - log(2 * np.pi) / 2 - np.log((shifted[1] - shifted[0]) / (2 * h))
    found = np.interp(x, law.x, law.log_density)
    # central difference h^2, and linear interpolation between nodes, which is what this test can see
    assert np.all(np.abs(found - exact)[np.abs(exact) < 3] < 0.02)


def test_refining_changes_nothing(monkeypatch):
    made = [ddim(H, H.trajectory(9)), ddim(H, H.trajectory(9), 0.4), ancestral(H, H.trajectory(9), "beta")]
    coarse = [sample_density(each, UNEVEN) for each in made]
    monkeypatch.setattr(density, "_SPAN", 2.5)
    monkeypatch.setattr(density, "_SETTLED", 1e-13)
    monkeypatch.setattr(density, "_SMOOTH", 1e-12)
    for each, before in zip(made, coarse, strict=True):
        fine = sample_density(each, UNEVEN)
        assert fine.x.size > before.x.size
        assert abs(fine.kl() - before.kl()) <= AGREE
        assert abs(fine.variance - before.variance) <= AGREE
        assert abs(fine.total_variation - before.total_variation) <= AGREE


def test_panels_that_are_too_wide_would_be_seen(monkeypatch):
    made = ddim(H, H.trajectory(20), 1.0, form="x0")
    truth = sample_moments(made, Gaussian(0.0, 0.01))
    monkeypatch.setattr(density, "_SPAN", 40.0)
    monkeypatch.setattr(density, "_SETTLED", 1.0)
    monkeypatch.setattr(density, "_SMOOTH", 1.0)
    law = sample_density(made, Gaussian(0.0, 0.01))
    assert abs(law.variance / truth.variances[-1, 0] - 1) > AGREE


def two_modes(made, variance):
    """The divergence of deterministic samples of two equal modes at -1 and 1, by the closed map of one half of them.

    E[x0 | x] = (a v x + b^2 tanh(a x / V)) / V with V = a^2 v + b^2. Panels shrink towards x = 0 in equal ratios, so that the
    jump of the map there is resolved however steep it is.
    """
    nodes, weights = np.polynomial.legendre.leggauss(20)
    edges = np.concatenate([[0.0], np.geomspace(1e-60, 8.5, 3000)])
    half = np.diff(edges)[:, None] / 2
    z = ((edges[1:] + edges[:-1])[:, None] / 2 + half * nodes).ravel()
    x, slope = z, np.zeros_like(z)
    for k, t in enumerate(made.asked):
        a, noise = H.sqrt_alpha_bar[t], H.beta_bar[t]
        total = a * a * variance + noise
        mean = (a * variance * x + noise * np.tanh(a * x / total)) / total
        known = a * variance / total + noise * a / total**2 / np.cosh(np.minimum(a * x / total, 350.0)) ** 2
        x, slope = made.x[k] * x + made.prediction[k] * mean, slope + np.log(made.x[k] + made.prediction[k] * known)
    log_p = -z * z / 2 - log(2 * np.pi) / 2
    near, far = (-((x - m) ** 2) / (2 * variance) for m in (1.0, -1.0))
    log_q = np.logaddexp(near, far) - log(2) - log(2 * np.pi * variance) / 2
    return 2 * float(np.sum((half * weights).ravel() * np.exp(log_p) * (log_p - slope - log_q)))


@pytest.mark.parametrize(
    ("variance", "steps"),
    [(1e-4, 10), (1e-6, 10), (1e-6, 50), pytest.param(1e-4, 50, marks=pytest.mark.full)],
)
def test_a_jump_beside_an_edge_is_seen(variance, steps):
    # The map of symmetric data jumps at 0, where two panels meet: no node of either has ever seen it.
    made, data = ddim(H, H.trajectory(steps), form="x0"), Mixture([0.5, 0.5], [-1.0, 1.0], [variance, variance])
    exact = two_modes(made, variance)
    assert abs(sample_density(made, data).kl() / exact - 1) <= AGREE


def test_the_edges_are_what_shows_it(monkeypatch):
    made, data = ddim(H, H.trajectory(10), form="x0"), Mixture([0.5, 0.5], [-1.0, 1.0], [1e-6, 1e-6])
    points = Finite([-1.0, 1.0])
    monkeypatch.setattr(density, "missed", lambda values, ends: np.zeros(len(values)))
    blind, blurred = sample_density(made, data), sample_density(made, points, blur=0.02)
    assert abs(blind.kl() - two_modes(made, 1e-6)) > 1
    assert blurred.kl() < 1e-6  # for 3.3e-3
    for law in (blind, blurred):
        assert abs(law.mass.sum() - 1) <= AGREE  # and the mass says nothing of it


def test_points_without_noise_are_judged_as_points_with_noise():
    found = [
        sample_density(ddim(H, H.trajectory(10), eta, form="x0"), Finite([-1.0, 1.0]), blur=0.02) for eta in (0.0, 0.5)
    ]
    without, little = (law.kl() for law in found)
    assert without > 1e-3
    assert without < little < 1.05 * without  # each step with noise costs a little more


SHIFTED = [
    (BIMODAL, 10, 0.0, "even", 0.0),
    (UNEVEN, 10, 0.5, "even", 0.0),
    (Mixture([0.5, 0.5], [-1.0, 1.0], [1e-4, 1e-4]), 10, 1.0, "trailing", 0.0),
    (Mixture([0.3, 0.7], [-1.0, 0.8], [1e-6, 1e-6]), 10, 0.0, "even", 0.0),
    (Finite([-1.0, 1.0]), 10, 0.0, "even", 0.02),
]


@pytest.mark.parametrize(("data", "steps", "eta", "spacing", "blur"), SHIFTED)
def test_where_the_panels_lie_does_not_matter(monkeypatch, data, steps, eta, spacing, blur):
    made = ddim(H, H.trajectory(steps, spacing), eta, form="x0")
    before, whole = sample_density(made, data, blur=blur).kl(), density.refined
    monkeypatch.setattr(density, "refined", lambda low, high, *rest: whole(low - 0.0073 * (high - low), high, *rest))
    # Beyond the reach there is nothing, so only the panels have changed (not the total variation, which adds what lies beyond).
    assert abs(sample_density(made, data, blur=blur).kl() / before - 1) <= AGREE


def test_divergences_fall_with_blur_and_agree_without():
    made = ddim(H, H.trajectory(10), 0.5)
    kl = [sample_density(made, BIMODAL, blur=blur).kl() for blur in (0.0, 0.05, 0.2, 1.0)]
    assert kl == sorted(kl, reverse=True)
    data = Gaussian(0.3, 0.25)
    moments, blurred = sample_moments(made, data), sample_density(made, data, blur=0.2)
    assert abs(blurred.variance - moments.variances[-1, 0] - 0.04) <= AGREE


@pytest.mark.parametrize("steps", [1, 2, 30])
def test_finite_data(steps):
    points = Finite([-1.0, -0.5, 1.0], [0.5, 0.25, 0.25])
    for eta in (0.0, 1.0):
        law = sample_density(ddim(H, H.trajectory(steps), eta, form="x0"), points, blur=0.05)
        assert abs(law.mass.sum() - 1) <= AGREE
        if steps == 1:
            # E[x0 | x_T] is within sqrt(alpha_bar_T) = 0.0064 of the mean, per unit of x_T and of the variance 0.92
            assert abs(law.mean - points.mean[0]) < 1e-4
            assert abs(law.variance - 0.05**2) < 0.0064**2
        if steps == 2:
            # level 1000 to level 1: near the mean, whose nearest point is then taken for certain
            assert abs(law.mean + 0.5) < 1e-9
            assert abs(law.variance - 0.05**2) < 1e-9
        if steps == 30:
            assert law.kl() < 2e-3


def test_the_marginal_start_and_other_schedules():
    for schedule in (
        cosine_schedule(100),
        zero_terminal_snr(linear_schedule(100)),
        NoiseSchedule.from_betas([0.3, 0.6]),
    ):
        made = ancestral(schedule, schedule.trajectory(2), "beta", form="x0")
        data = Gaussian(0.5, 0.5)
        law, moments = sample_density(made, data, "marginal"), sample_moments(made, data, "marginal")
        assert abs(law.kl() - moments.kl()) <= AGREE
        assert abs(law.mean - moments.mean[-1, 0]) <= AGREE
    up = ddim_inversion(H, H.trajectory(25))
    data = Gaussian(0.0, 0.9)
    assert abs(sample_density(up, data, "marginal").kl() - sample_moments(up, data, "marginal").kl()) <= AGREE


CLIPPED = ddim(H, H.trajectory(3), clip=(-1.0, 1.0))
ERRORS = {
    "clip": (lambda: sample_moments(CLIPPED, Gaussian(0.0, 1.0)), RangeError, "clip = (-1.0, 1.0)"),
    "clip density": (lambda: sample_density(CLIPPED, BIMODAL), RangeError, "without that stage"),
    "threshold": (lambda: sample_moments(ddim(H, [9, 0], threshold=Threshold()), Gaussian(0.0, 1.0)), RangeError, "threshold = "),
    "moments of a mixture": (
        lambda: sample_moments(ddim(H, H.trajectory(3)), BIMODAL),
        RangeError, "the data are a Mixture; moments are for Gaussian data; use sample_density",
    ),
    "start": (lambda: sample_moments(ddim(H, H.trajectory(3)), Gaussian(0.0, 1.0), "zero"), RangeError, "start = 'zero'"),
    "inversion": (lambda: sample_moments(ddim_inversion(H, H.trajectory(3)), Gaussian(0.0, 1.0)), RangeError, "start='marginal'"),
    "dimensions": (lambda: sample_density(ddim(H, H.trajectory(3)), Gaussian([0.0, 0.0], np.eye(2))), ShapeError, "d = 2"),
    "points": (lambda: sample_density(ddim(H, H.trajectory(3)), Finite([0.0, 1.0])), RangeError, "blur=0.05"),
    "blur": (lambda: sample_density(ddim(H, H.trajectory(3)), BIMODAL, blur=-0.1), RangeError, "std contains -0.1"),
    "bends back": (lambda: sample_density(ddim_inversion(H, H.trajectory(9)), BIMODAL, "marginal"), RangeError, "do not ascend"),
    "a jump too steep": (
        lambda: sample_density(ddim(H, H.trajectory(10), form="x0"), Mixture([0.5, 0.5], [-1.0, 1.0], [1e-10, 1e-10])),
        RangeError, "the law of the samples needs more than 320000 nodes",
    ),
    "too narrow": (
        lambda: sample_density(ddim(H, H.trajectory(3)), Mixture([0.5, 0.5], [-1.0, 1.0], [1e-18, 1.0]), "marginal", 1e-9),
        RangeError, "needs more than 320000 nodes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_what_cannot_be_computed_is_refused(name):
    call, error, words = ERRORS[name]
    with pytest.raises(error) as raised:
        call()
    assert words in str(raised.value)


def test_too_many_panels_are_refused_before_they_are_made(monkeypatch):
    monkeypatch.setattr(panels, "MOST_PANELS", 20)
    with pytest.raises(RangeError, match=r"step 1 of 20, of deviation .* needs more than 320 nodes"):
        sample_density(ddim(H, H.trajectory(20), 0.01), BIMODAL)
