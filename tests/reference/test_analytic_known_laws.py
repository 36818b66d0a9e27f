"""Analytic-DPM where the truth is known: normal data, mixtures and points, and the figures that were printed."""

import math

import numpy as np
import pytest

from ddpm_ref.reference import analytic, plan
from ddpm_ref.reference.named_schedules import cosine_schedule, linear_schedule
from ddpm_ref.reference.oracle import Finite, Gaussian, Mixture, sample_moments
from ddpm_ref.reference.schedule import NoiseSchedule

H = linear_schedule(50)
LIN1000, COS1000, COS4000 = linear_schedule(1000), cosine_schedule(1000), cosine_schedule(4000)


@pytest.mark.parametrize("schedule", [LIN1000, COS1000], ids=["linear", "cosine"])
def test_final_variance_of_isotropic_normal_data_is_exact(schedule):
    """Started from q(x_T), noise in every step, the residual form: 1e-12 relative, of which a few rounding errors are used."""
    data, t = Gaussian(0.3, 0.25), np.arange(1, 1001)
    exact = np.append(np.nan, analytic.sigma_hat_squared_from_residual(schedule, t, data.loss_floor(schedule, t)))
    short = np.append(np.nan, analytic.sigma_hat_squared(schedule, t, data.mean_square_eps(schedule, t)))
    worst = {}
    for K in (2, 5, 10, 25, 50, 100, 1000):
        for eta in (0.0, 0.5, 1.0) if K < 1000 else (1.0,):
            for form, unknown in (("residual", exact), ("mean square", short))[: 1 if K == 1000 else 2]:
                rows = plan.analytic(schedule, schedule.trajectory(K), unknown, eta, last_noise="analytic", form="x0")
                moments = sample_moments(rows, data, start="marginal")
                off = abs(moments.variances[-1, 0] / 0.25 - 1)
                worst[form] = max(worst.get(form, 0.0), off)
                if form == "residual":
                    assert off <= 2.0**-53 * 8 * K  # rule: section 4 of the numerics, k = 8 in each step
                    assert off < 1e-12
    # The mean square of float64 itself is wrong by 2^-54 of itself, and its complement by that times the condition number.
    ms = data.mean_square_eps(schedule, t)
    condition = float(analytic.mean_square_condition(ms).max())
    assert worst["mean square"] <= 8 * 2.0**-53 * condition
    assert worst["mean square"] > (1e-9 if schedule is COS1000 else 1e-13)


def test_the_mean_square_form_is_as_ill_conditioned_as_it_says():
    """On the cosine schedule it loses half of the digits; the residual form loses none."""
    data, t = Gaussian(0.3, 0.25), np.arange(1, 1001)
    for schedule, least in ((COS1000, 1e-9), (LIN1000, 1e-13)):
        residual = analytic.sigma_hat_squared_from_residual(schedule, t, data.loss_floor(schedule, t))
        exact = 0.25 * schedule.beta_bar[t] / (0.25 * schedule.alpha_bar[t] + schedule.beta_bar[t])
        ms = data.mean_square_eps(schedule, t)
        off = np.abs(analytic.sigma_hat_squared(schedule, t, ms) / exact - 1)
        u = 2.0**-53
        assert (np.abs(residual / exact - 1) <= 8 * u).all()  # rule: section 1, k = 8
        assert (off <= 8 * u * (1 + analytic.mean_square_condition(ms))).all()
        assert off.max() > least


@pytest.mark.parametrize("K", [10, 25, 50, 100, 1000])
def test_golden_final_deviations(K):
    """Bao et al. against the fixed variances: N(0.3, 0.25), even trajectory, from N(0, I); analytic noise in the last step too."""
    want = {
        10: (0.3228, 0.5988),
        25: (0.4042, 0.5365),
        50: (0.4432, 0.5176),
        100: (0.4680, 0.5086),
        1000: (0.4961, 0.5008),
    }
    data, t = Gaussian(0.3, 0.25), np.arange(1, 1001)
    unknown = np.append(np.nan, analytic.sigma_hat_squared_from_residual(LIN1000, t, data.loss_floor(LIN1000, t)))
    walk = LIN1000.trajectory(K)
    plans = [
        plan.ancestral(LIN1000, walk),
        plan.ancestral(LIN1000, walk, "beta"),
        plan.analytic(LIN1000, walk, unknown, last_noise="analytic"),
        plan.analytic(LIN1000, walk, unknown, 0.0, last_noise="analytic"),
    ]
    found = [f"{sample_moments(made, data).variances[-1, 0] ** 0.5:.4f}" for made in plans]
    assert found == [*(f"{value:.4f}" for value in want[K]), "0.5000", "0.5000"]


# Bao et al. 2022, table 7: of the step to the first level, for some numbers of steps, the upper and the lower bounds, and the
# threshold for y grey levels.
FEW, MORE, NONE = (10, 25, 50, 100), (25, 50, 100, 200), "0.00e+00 0.00e+00 0.00e+00 0.00e+00"
TABLE_7 = {
    "linear, DDPM": (
        LIN1000,
        1.0,
        FEW,
        "1.45e-01 2.24e-02 6.20e-03 2.10e-03",
        "9.99e-05 9.96e-05 9.84e-05 9.55e-05",
        2,
    ),
    "linear, DDIM": (LIN1000, 0.0, FEW, "1.37e-01 1.96e-02 4.82e-03 1.36e-03", NONE, 1),
    "cosine, DDPM": (
        COS1000,
        1.0,
        FEW,
        "3.56e-02 6.15e-03 1.85e-03 6.80e-04",
        "4.12e-05 4.10e-05 4.04e-05 3.89e-05",
        1,
    ),
    "cosine, DDIM": (COS1000, 0.0, FEW, "3.33e-02 5.22e-03 1.37e-03 4.18e-04", NONE, 1),
    "ImageNet, DDPM": (
        COS4000,
        1.0,
        MORE,
        "5.93e-03 1.84e-03 6.44e-04 2.61e-04",
        "9.85e-06 9.81e-06 9.72e-06 9.51e-06",
        1,
    ),
    "ImageNet, DDIM": (COS4000, 0.0, MORE, "5.46e-03 1.59e-03 5.03e-04 1.77e-04", NONE, 1),
}
THRESHOLDS = {1: "9.66e-05", 2: "3.87e-04"}


@pytest.mark.parametrize("row", TABLE_7)
def test_golden_bounds_of_table_7(row):
    schedule, eta, counts, upper, lower, pixels = TABLE_7[row]
    assert f"{analytic.pixel_threshold_variance(pixels):.2e}" == THRESHOLDS[pixels]
    pairs = [schedule.trajectory(K).levels[-3:-1] for K in counts]
    found = zip(*(analytic.analytic_variance_bounds(schedule, t, s, eta=eta) for t, s in pairs), strict=True)
    assert [" ".join(f"{float(bound):.2e}" for bound in bounds) for bounds in found] == [lower, upper]


def test_the_variance_is_the_true_one_on_normal_data_of_any_covariance():
    data = Gaussian([0.1, -0.2], [[0.5, 0.2], [0.2, 0.1]])
    for t, s in ((50, 49), (50, 20), (20, 1), (7, 0)):
        unknown = float(analytic.sigma_hat_squared_from_residual(H, t, data.loss_floor(H, t)))
        # Bayes' rule for a normal prior: b V_s / V_t along each axis
        spread = [H.alpha_bar[level] * data.variances + H.beta_bar[level] for level in (t, s)]
        true = np.mean(H.between(t, s).beta * spread[1] / spread[0])
        assert float(analytic.analytic_variance(H, t, s, unknown)) == pytest.approx(
            true, rel=16 * 2.0**-53
        )  # rule: k = 16


MIXTURE = Mixture([0.3, 0.7], [-0.8, 0.5], [0.04, 0.01])
POINTS = Finite([-0.9, -0.2, 0.4, 1.0], [0.1, 0.4, 0.3, 0.2])


def fine_quadrature(data, schedule, t):
    """E Var[x0 | x_t] and E eps^2 by brute force: the midpoint rule on two hundred thousand nodes, straight from Bayes' rule."""
    a, b2 = float(schedule.sqrt_alpha_bar[t]), float(schedule.beta_bar[t])
    if isinstance(data, Finite):
        w, m, c = data.weights, data.points[:, 0], np.zeros(len(data.points))
    else:
        w, m, c = data.weights, data.means[:, 0], data.covariances[:, 0, 0]
    x = np.linspace(-10, 10, 200_001)
    spread = a * a * c + b2
    joint = (
        w[:, None] * np.exp(-((x - a * m[:, None]) ** 2) / (2 * spread[:, None])) / np.sqrt(2 * np.pi * spread[:, None])
    )
    density = joint.sum(0)
    mean = m[:, None] + (a * c / spread)[:, None] * (x - a * m[:, None])
    second = mean**2 + (c * b2 / spread)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        first, second = (joint * mean).sum(0), (joint * second).sum(0)
        x0 = np.where(density > 0, first / density, 0.0)
    dx = x[1] - x[0]
    variance = float(np.sum(second - x0 * first) * dx)
    energy = float(np.sum(((x - a * x0) ** 2) * density) * dx / b2)
    return variance, energy


PROMISED = 1e-10
"""What the page promises of quadrature on data that are no normal law; the fine grid beside it is far better."""


@pytest.mark.parametrize("data", [MIXTURE, POINTS], ids=["mixture", "points"])
def test_gamma_and_variances_agree_with_brute_force(data):
    for t in (20, 30, 50):
        variance, energy = fine_quadrature(data, H, t)
        assert data.mean_square_eps(H, t) == pytest.approx(energy, abs=PROMISED)
        residual = analytic.sigma_hat_squared_from_residual(H, t, data.loss_floor(H, t))
        assert float(residual) == pytest.approx(variance, abs=PROMISED)
        assert float(analytic.sigma_hat_squared(H, t, data.mean_square_eps(H, t))) == pytest.approx(
            variance, abs=PROMISED
        )
        # of a step: the law of total variance, from the members of the family given x0
        for s, eta in ((t - 1, 1.0), (t // 2, 0.4), (0, 0.0)):
            known = float(analytic.analytic_variance(H, t, s, 0.0, eta))
            weight = float(plan.ddim(H, (t, s, 0) if s else (t, 0), eta, form="x0").prediction[0])
            got = float(analytic.analytic_variance(H, t, s, residual, eta))
            assert got == pytest.approx(known + weight**2 * variance, abs=PROMISED)


def test_covariance_identity_pointwise_and_averaged():
    data, x = (
        Mixture([0.4, 0.6], [[-0.5, 0.2], [0.6, -0.1]], [np.diag([0.1, 0.3]), [[0.2, 0.1], [0.1, 0.2]]]),
        [[0.3, -0.4]],
    )
    for t in (5, 30):
        ratio = H.beta_bar[t] / H.alpha_bar[t]
        covariance = data.x0_covariance(H, x, t)
        got = analytic.x0_posterior_covariance(H, t, covariance / ratio)
        assert np.allclose(got, covariance, rtol=4 * 2.0**-53, atol=0)  # rule: section 1, k = 4
        jacobian = (
            np.stack(
                [data.x0(H, x + np.eye(2)[i] * 1e-5, t) - data.x0(H, x - np.eye(2)[i] * 1e-5, t) for i in (0, 1)], -1
            )
            / 2e-5
        )
        tweedie = H.beta_bar[t] / H.sqrt_alpha_bar[t] * jacobian
        # rule: central differences of step h = 1e-5 truncate at h^2 and round at u/h, both magnified by the ratio
        assert np.abs(tweedie - covariance).max() <= 10 * (1e-5**2 + 2.0**-53 / 1e-5) * max(ratio, 1)
    gaussian = Gaussian([0.1, -0.2], [[0.5, 0.2], [0.2, 0.1]])
    t, ab, bb = 30, H.alpha_bar[30], H.beta_bar[30]
    moment = bb * np.linalg.inv(ab * gaussian.covariance + bb * np.eye(2))
    averaged = analytic.x0_posterior_covariance_averaged(H, t, moment)
    known = gaussian.x0_covariance(H, [[0.0, 0.0]], t)[0]
    assert (np.abs(averaged - known) <= 64 * 2.0**-53 * np.abs(known)).all()  # section 1: two 2 x 2 inverses, k = 64
    trace = analytic.sigma_hat_squared(H, t, np.trace(moment) / 2)
    assert float(trace) == pytest.approx(np.trace(averaged) / 2, rel=64 * 2.0**-53)  # the same k


def test_law_of_total_variance():
    """Var[x0] = E Var[x0 | x_t] + Var E[x0 | x_t], the second from the energy: what is unknown can only grow with t."""
    for data in (MIXTURE, POINTS):
        t = np.array([1, 5, 10, 20, 30, 40, 50])
        unknown = analytic.sigma_hat_squared_from_residual(H, t, data.loss_floor(H, t))
        assert (np.diff(unknown) > 0).all()
        assert (unknown < float(data.covariance[0, 0])).all()
        # no better than linear regression is worse: normal data of the same variance bound it
        v = float(data.covariance[0, 0])
        assert (unknown <= v * H.beta_bar[t] / (H.alpha_bar[t] * v + H.beta_bar[t])).all()


def test_bounds_bracket_the_variance_of_any_data_in_their_range():
    for data in (MIXTURE, POINTS, Finite([-1.0, 1.0]), Finite([0.25])):
        inside = isinstance(data, Finite)
        for t, s in ((50, 49), (50, 10), (30, 1), (9, 0)):
            unknown = float(analytic.sigma_hat_squared_from_residual(H, t, data.loss_floor(H, t)))
            for eta in (0.0, 0.5, 1.0):
                lower, upper = analytic.analytic_variance_bounds(H, t, s, eta=eta)
                variance = analytic.analytic_variance(H, t, s, unknown, eta)
                anywhere = analytic.analytic_variance_bounds(H, t, s, -math.inf, math.inf, eta)
                assert lower <= variance <= anywhere[1]
                assert anywhere[0] == lower
                assert not inside or variance <= upper
                wider = analytic.analytic_variance_bounds(H, t, s, -2.0, 2.0, eta)[1]
                assert upper <= wider <= anywhere[1]
    # the range is reached: at a level that says nothing, fair coins are as unknown as data in [-1, 1] can be
    end = NoiseSchedule.from_betas([0.5, 1 - 1e-12])
    coin = analytic.sigma_hat_squared_from_residual(end, 2, Finite([-1.0, 1.0]).loss_floor(end, 2))
    assert float(coin) == pytest.approx(1.0, rel=1e-11)  # rule: SNR is 5e-13
