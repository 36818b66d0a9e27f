"""The bound of the optimal network: in sixty digits, against draws, and against the entropy that it may never fall below."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ddpm_ref.errors import LevelError, RangeError, ScheduleError
from ddpm_ref.reference import plan
from ddpm_ref.reference.analytic import step_cost
from ddpm_ref.reference.bound import bits_per_dim, denoising_term, prior_term, reconstruction_term
from ddpm_ref.reference.forward import q_sample
from ddpm_ref.reference.named_schedules import cosine_schedule, linear_schedule, zero_terminal_snr
from ddpm_ref.reference.oracle import Finite, Gaussian, Mixture, OracleBound, exact_bound, reverse_kl, sample_moments
from ddpm_ref.reference.posterior import posterior_log_variance
from ddpm_ref.reference.reverse import model_mean_from_x0
from ddpm_ref.reference.scaling import from_level_index
from ddpm_ref.reference.schedule import NoiseSchedule

U = 2.0**-53
SETTLED = 2e-14  # rule: what the quadrature promises of each integral
UNIT, NARROW = Gaussian(0.0, 1.0), Gaussian(0.3, 0.25)
PLANE = Gaussian([0.3, 0.0], [[1.0, 0.2], [0.2, 0.25]])
MODES = Mixture([0.5, 0.3, 0.2], [-1.0, 0.2, 1.0], [0.01, 0.04, 0.0025])
FLAT = Mixture([0.6, 0.4], [[-1.0, 0.0], [0.5, 0.5]], [[[0.04, 0.01], [0.01, 0.09]], [[0.2, 0.0], [0.0, 0.01]]])
LAWS = {"unit": UNIT, "narrow": NARROW, "plane": PLANE, "modes": MODES, "flat": FLAT}
KINDS = ("posterior", "beta", "analytic")


def steps(trajectory):
    return np.array(trajectory.levels[:-1]), np.array(trajectory.levels[1:])


def entropy(law):
    """Of normal data, in closed form; of a mixture, by a rule that knows nothing of components: the trapezoid on a grid."""
    if isinstance(law, Gaussian):
        return (law.d * (1 + math.log(2 * math.pi)) + np.linalg.slogdet(law.covariance)[1]) / 2
    x, step = np.linspace(-4, 4, 40_001 if law.d == 1 else 801, retstep=True)
    grid = np.stack(np.meshgrid(*[x] * law.d, indexing="ij"), axis=-1)
    nll = law.nll(grid)
    return float(np.sum(np.exp(-nll) * nll) * step**law.d)


# Against definitions


@pytest.mark.parametrize("variance", KINDS)
def test_terms_of_normal_data_in_sixty_digits(variance, any_schedule, oracle, worst):
    """d = 1: every term from the betas; sixteen roundings, of which the sums and logarithms take most."""
    if any_schedule.T == 1 and variance == "posterior":
        return
    truth, mean, spread = oracle(any_schedule.beta[1:]), 0.3, 0.25
    mp = truth.mp
    found = exact_bound(any_schedule, None, NARROW, variance)
    at = truth.alpha_bar[any_schedule.T]
    value = (at * (mp.mpf(mean) ** 2 + mp.mpf(spread)) - at - mp.log(1 - at)) / 2
    # The prior loses nothing near 0 (NUMERICS 3), its two parts being positive.
    assert worst([found.prior], [value], [value], 20) <= 1
    left = {t: spread * (1 - a) / (a * spread + 1 - a) for t, a in enumerate(truth.alpha_bar)}
    values, scales = [], []
    for t, s in list(found.trajectory.pairs())[:-1]:
        entry = truth.between(t, s)
        hidden = entry["x0_weight"] ** 2 * left[t]
        tilde = entry["beta_tilde"]
        sigma2 = {"posterior": tilde, "beta": entry["beta"], "analytic": tilde + hidden}[variance]
        r = tilde / sigma2
        values.append((r - 1 - mp.log(r)) / 2 + hidden / (2 * sigma2))
        scales.append(values[-1] + (abs(mp.log(r)) if r < 0.5 else 0))
    if values:
        assert worst(found.terms, values, scales, 24) <= 1
    last = {"beta": truth.beta[1], "analytic": left[1]}
    sigma2 = truth.between(2, 1)["beta_tilde"] if variance == "posterior" else last[variance]
    value = (mp.log(2 * mp.pi * sigma2) + left[1] / sigma2) / 2
    scale = (mp.log(2 * mp.pi) + abs(mp.log(sigma2)) + left[1] / sigma2 + 1) / 2
    assert worst([found.reconstruction], [value], [scale], 16) <= 1
    nll = (1 + mp.log(2 * mp.pi * spread)) / 2
    assert worst([found.nll], [nll], [4], 8) <= 1
    assert found.total == pytest.approx(found.prior + found.terms.sum() + found.reconstruction, rel=64 * U)  # sums
    assert found.gap == found.total - found.nll


@pytest.mark.parametrize("name", LAWS)
def test_entropy_of_the_data(name):
    law = LAWS[name]
    found = exact_bound(linear_schedule(50), (50, 10, 0), law, "beta").nll
    # settled integrals, and grids of up to 0.6 million exponentials (NUMERICS 5)
    assert found == pytest.approx(entropy(law), abs=1e-11)


def test_full_covariance_is_a_sum_over_axes():
    H = linear_schedule(100)
    turn, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4)))
    spreads = np.array([1.0, 0.5, 0.1, 0.02])
    full = turn * spreads @ turn.T
    data, axes = Gaussian(np.zeros(4), (full + full.T) / 2), [Gaussian(0.0, float(v)) for v in spreads]
    for variance in ("posterior", "beta"):
        whole, each = exact_bound(H, None, data, variance), [exact_bound(H, None, axis, variance) for axis in axes]
        # an eigenvalue 0.02 of a matrix of norm 1 has a relative error of 50 roundings or so
        for part in ("prior", "reconstruction", "nll", "total"):
            assert getattr(whole, part) == pytest.approx(sum(getattr(one, part) for one in each), rel=1e4 * U)
        t, s = steps(H.trajectory(20))
        kl = sum(reverse_kl(H, axis, t[:-1], s[:-1], variance) for axis in axes)
        assert reverse_kl(H, data, t[:-1], s[:-1], variance) == pytest.approx(kl, rel=1e4 * U)
    # one variance for all axes is a compromise: their own optima are better
    together = exact_bound(H, None, data, "analytic").gap
    assert together > sum(exact_bound(H, None, axis, "analytic").gap for axis in axes) + 0.01


@pytest.mark.parametrize("law", [MODES, Finite([-1.0, -0.2, 1.0], [0.25, 0.25, 0.5])], ids=["mixture", "points"])
def test_terms_against_the_floor_of_the_loss(law):
    """L_{t-1} = d (variance term + w_eps * floor), with the oracle's own floor of the simple loss; analytic: step_cost."""
    from ddpm_ref.reference.bound import loss_weight_eps, variance_term

    H = cosine_schedule(60)
    t, s = (levels[:-1] for levels in steps(H.trajectory(60)))
    floor = law.loss_floor(H, t)
    for variance in ("posterior", "beta"):
        want = variance_term(H, t, s, variance) + loss_weight_eps(H, t, s, variance) * floor
        assert exact_bound(H, None, law, variance).terms == pytest.approx(want, rel=4 * SETTLED, abs=1e-15)
    cost = step_cost(H, t, s, floor / H.snr[t]) / 2
    if isinstance(law, Mixture):  # points leave nothing unknown near level 0, where "analytic" has no likelihood
        assert exact_bound(H, None, law, "analytic").terms == pytest.approx(cost, rel=4 * SETTLED, abs=1e-15)
    else:
        with pytest.raises(
            RangeError, match=r"variance = 'analytic' with first_step = 'exact' is 0 in the step to level 0"
        ):
            exact_bound(NoiseSchedule.from_betas([1e-5, 0.5]), None, law, "analytic")
        found = exact_bound(H, None, law, "analytic", first_step="replace")
        assert found.terms == pytest.approx(cost, rel=4 * SETTLED, abs=1e-15)


@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_against_draws_of_the_terms(variance):
    """The mean of `bound.*` over data and noise, with the optimal network: level 1e-9 over 8 comparisons, |z| <= 6.4."""
    H, n, rng = linear_schedule(40, beta_T=0.3), 40_000, np.random.default_rng(2)
    walk = H.trajectory(4)
    found = exact_bound(H, walk, MODES, variance)
    k = rng.choice(3, n, p=MODES.weights)
    x0 = MODES.means[k, 0] + np.sqrt(MODES.covariances[k, 0, 0]) * rng.standard_normal(n)
    rows = {"prior": (prior_term(H, x0), found.prior)}
    for i, (t, s) in enumerate(walk.pairs()):
        xt = q_sample(H, x0, t, rng.standard_normal(n))
        mean = model_mean_from_x0(H, xt, t, s, MODES.x0(H, xt[:, None], t)[:, 0])
        ell = float(np.log(found.variances[i]))
        if s:
            rows[f"{t} to {s}"] = denoising_term(H, x0, xt, t, s, mean, ell), found.terms[i]
        else:
            rows["last"] = reconstruction_term(x0, mean, ell, levels=None), found.reconstruction
    assert len(rows) == 5
    for draws, exact in rows.values():
        assert abs(draws.mean() - exact) <= 6.4 * draws.std() / math.sqrt(n) + 8 * U * abs(exact)


def test_variances_and_rules_of_the_first_step():
    H = linear_schedule(100)
    walk = H.trajectory(10)
    t, s = steps(walk)
    for rule in ("replace", "replace_unstrided", "floor"):
        found = exact_bound(H, walk, NARROW, "posterior", rule)
        assert np.array_equal(found.variances[:-1], H.between(t[:-1], s[:-1]).beta_tilde)
        want = math.exp(posterior_log_variance(H, int(t[-1]), 0, rule, walk))
        assert found.variances[-1] == pytest.approx(want, rel=64 * U)  # exp of a logarithm of size 46
    assert exact_bound(H, walk, NARROW).total == exact_bound(H, walk, NARROW, "fixed_small", "replace").total
    large = exact_bound(H, walk, NARROW, "beta")
    assert np.array_equal(large.variances, H.between(t, s).beta)
    replaced = exact_bound(H, walk, NARROW, "fixed_large", "replace")
    assert replaced.variances[-1] == exact_bound(H, walk, NARROW).variances[-1]
    assert np.array_equal(replaced.terms, large.terms)
    # OpenAI's replacement is worse here than beta, and the optimum better than both
    best = exact_bound(H, walk, NARROW, "analytic")
    assert best.total < large.total < replaced.total
    assert (best.variances[:-1] >= H.between(t[:-1], s[:-1]).beta_tilde).all()
    for wrong in ("exact",):
        with pytest.raises(RangeError, match=r"is 0 in the step to level 0, which has no likelihood"):
            exact_bound(H, walk, NARROW, "posterior", wrong)
    with pytest.raises(ScheduleError, match="and there is only one; write more steps"):
        exact_bound(H, (100, 0), NARROW)
    assert exact_bound(H, (100, 0), NARROW, "beta").terms.shape == (0,)
    with pytest.raises(RangeError, match="variance = 'learned' is not known; write one of posterior"):
        exact_bound(H, walk, NARROW, "learned")
    with pytest.raises(RangeError, match="first_step = 'none' is not known"):
        exact_bound(H, walk, NARROW, "beta", "none")
    with pytest.raises(ScheduleError, match="above T = 100"):
        exact_bound(H, (101, 0), NARROW)


@pytest.mark.wrong_types
def test_options_of_other_types_are_named_too():
    H = linear_schedule(10)
    with pytest.raises(RangeError, match=r"variance = \['beta'\] is not known; write one of posterior"):
        exact_bound(H, None, NARROW, ["beta"])
    with pytest.raises(RangeError, match=r"data is of type int; write Gaussian"):
        exact_bound(H, None, 3)


@pytest.mark.parametrize("variance", KINDS)
def test_the_optimum_is_optimal(variance):
    """No other variance of any step has a smaller bound: the terms of "analytic" are least, one by one."""
    H = cosine_schedule(20)
    for law in (NARROW, PLANE, MODES):
        best, other = exact_bound(H, None, law, "analytic"), exact_bound(H, None, law, variance)
        slack = 64 * U + 4 * SETTLED * np.abs(other.terms)
        assert (best.terms <= other.terms + slack).all()
        assert best.reconstruction <= other.reconstruction + 64 * U * (1 + abs(other.reconstruction))
        assert best.total <= other.total + 64 * U * 20


# The gap


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("variance", ["beta", "analytic"])
def test_the_gap_is_a_divergence_of_paths(law, variance):
    """total - nll = D(q(x_T) || p) + sum of reverse_kl over all steps, the last included: two ways that share v_t only."""
    cases = [(linear_schedule(50), None), (cosine_schedule(40), (37, 20, 6, 1, 0))]
    for H, levels in cases if law.d == 1 or law is PLANE else [(linear_schedule(50), (50, 5, 0))]:
        found = exact_bound(H, levels, law, variance)
        t, s = steps(found.trajectory)
        first = law.noised(H, int(t[0]))
        moment = np.trace(first.covariance) + first.mean @ first.mean
        start = (law.d * math.log(2 * math.pi) + moment) / 2 - exact_bound(H, (1, 0), first, "beta").nll
        walked = reverse_kl(H, law, t, s, variance)
        assert (walked >= -1e-13).all()  # differences of settled integrals of size about 1
        # as many settled integrals as steps, each in the difference of numbers of size 5 at most
        assert found.gap == pytest.approx(start + walked.sum(), abs=5 * len(t) * SETTLED)


def test_the_gap_with_the_posterior_variance():
    """The same with the replaced variance of the last step, whose divergence is done by hand."""
    H = linear_schedule(50)
    found = exact_bound(H, None, NARROW, "posterior")
    t, s = steps(found.trajectory)
    left = 0.25 * H.beta_bar[1] / (0.25 * H.alpha_bar[1] + H.beta_bar[1])
    r = left / found.variances[-1]
    last = (r - 1 - math.log(r)) / 2
    v = 0.25 * H.alpha_bar[50] + H.beta_bar[50]
    start = (v + H.alpha_bar[50] * 0.09 - 1 - math.log(v)) / 2
    assert found.gap == pytest.approx(
        start + reverse_kl(H, NARROW, t[:-1], s[:-1]).sum() + last, rel=1e4 * U
    )  # 50 terms, sums


def test_equality_on_standard_normal_data_only():
    """With beta the model is the exact reversal, on every trajectory: the gap is rounding, reverse_kl exactly 0."""
    for H in (linear_schedule(1000), cosine_schedule(1000), NoiseSchedule.from_betas([0.3])):
        for walk in (None, *((H.trajectory(7), H.trajectory(100)) if H.T > 1 else ())):
            for variance in ("beta", "analytic"):
                found = exact_bound(H, walk, UNIT, variance)
                # NUMERICS 5: a sum of K terms, all positive, of 32 roundings each
                size = found.prior + found.terms.sum() + abs(found.reconstruction)
                assert abs(found.gap) <= 64 * U * (size + 8)
                t, s = steps(found.trajectory)
                assert not reverse_kl(H, UNIT, t, s, "beta").any()
            if H.T > 1:
                assert exact_bound(H, walk, UNIT, "posterior").gap > 0.1
                assert exact_bound(H, walk, Gaussian(0.0, 1.01), "beta").gap > 1e-9
                assert exact_bound(H, walk, Gaussian(0.1, 1.0), "beta").gap > 1e-9 or H.alpha_bar[-1] < 1e-8


def test_normal_data_of_one_dimension_cost_nothing_with_the_optimal_variance():
    """Every step is exact then: all that is left is the start, which zero terminal SNR removes."""
    H = linear_schedule(1000)
    found = exact_bound(H, None, NARROW, "analytic")
    v = 0.25 * H.alpha_bar[1000] + H.beta_bar[1000]
    assert found.gap == pytest.approx((v + 0.09 * H.alpha_bar[1000] - 1 - math.log(v)) / 2, abs=256 * U * 8)  # sums
    t, s = steps(found.trajectory)
    assert np.abs(reverse_kl(H, NARROW, t, s, "analytic")).max() <= 64 * U**2  # (rounding of a ratio)^2
    end = zero_terminal_snr(linear_schedule(100))
    assert abs(exact_bound(end, None, NARROW, "analytic").gap) <= 256 * U * 8
    assert exact_bound(end, None, MODES, "beta").prior == 0
    assert 0 < exact_bound(end, None, MODES, "analytic").gap < exact_bound(end, None, MODES, "beta").gap


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("narrow", "beta"),
        ("plane", "beta"),
        ("plane", "analytic"),
        pytest.param("modes", "beta", marks=pytest.mark.full),  # in short: docs/bound.md
        pytest.param("modes", "analytic", marks=pytest.mark.full),
    ],
)
def test_the_gap_closes_like_one_over_T(name, variance):
    """Linear and cosine schedules scaled to T, with the optimal network: it falls, at the end in proportion to 1/T."""
    scaled = {
        "linear": (lambda T: linear_schedule(T, scale_ends=True), (50, 200, 400)),
        "cosine": (cosine_schedule, (10, 200, 400)),
    }
    for make, lengths in scaled.values():
        gaps = [exact_bound(make(T), None, LAWS[name], variance).gap for T in lengths]
        assert gaps[0] > gaps[1] > gaps[2] > 0
        assert 0.9 < math.log2(gaps[1] / gaps[2]) < 1.1  # the order, which is reached in the limit only


def test_the_gap_of_the_posterior_variance_does_not_close():
    """The first steps cost a constant, (gamma + 1 - log 2)/2 nats a dimension; and more steps may even cost more."""
    limit = (np.euler_gamma + 1 - math.log(2)) / 2
    gaps = [exact_bound(linear_schedule(T, scale_ends=True), None, NARROW).gap for T in (100, 1000, 10_000)]
    assert gaps[0] > gaps[1] > gaps[2] > limit
    assert gaps[2] - limit < (gaps[1] - limit) / 5
    short = [exact_bound(cosine_schedule(T), None, NARROW).gap for T in (10, 50, 1000)]
    assert short[0] < short[1] > short[2] > limit


@pytest.mark.parametrize("K", [2, 10, 50])
@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_the_bound_is_above_the_likelihood_of_the_samples(K, variance):
    """Jensen: entropy <= cross-entropy of the data under the law of the samples (sample_moments) <= bound; normal data."""
    H = linear_schedule(1000)
    walk = H.trajectory(K)
    for law in (UNIT, NARROW, PLANE):
        found = exact_bound(H, walk, law, variance)
        rows = plan.ancestral(H, walk, variance, last_noise=float(found.variances[-1]) ** 0.5, form="x0")
        moments = sample_moments(rows, law)
        cross = found.nll + moments_kl(law, moments)
        assert found.nll - 64 * U <= cross <= found.total + 64 * U * K
        if law is not UNIT or variance == "posterior":
            assert cross < found.total


def moments_kl(law, moments):
    """D(data || samples), the reverse of `Moments.kl`."""
    centre, spread = moments.axes.T @ (law.mean - moments.mean[-1]), moments.variances[-1]
    r = moments.true_variances[-1] / spread
    return float(np.sum(r - 1 - np.log(r) + centre**2 / spread) / 2)


# What conditioning on x0 hides


def test_printed_figures_of_the_true_kernel(lin1000):
    """E20: variance ratios on standard normal data, and 0.671 bits over the chain."""
    t = np.arange(2, 1001)
    kl = reverse_kl(lin1000, UNIT, t, t - 1)
    assert f"{bits_per_dim(kl.sum(), 1):.3f}" == "0.671"
    assert f"{kl[0]:.4f}" == "0.2055"
    for level, digits, printed in ((2, 3, "2.199"), (10, 3, "1.173"), (100, 3, "1.018"), (500, 4, "1.0009")):
        ratio = float(lin1000.beta[level] / lin1000.beta_tilde[level])
        assert f"{ratio:.{digits}f}" == printed
        # the naive form, which has lost (r - 1)^-2 roundings
        assert kl[level - 2] == pytest.approx((ratio - 1 - math.log(ratio)) / 2, rel=8 * U / (ratio - 1) ** 2 + 32 * U)


def test_conditioning_on_x0_costs_more(lin1000):
    """The term of the bound minus reverse_kl is I(x_s; x_0 | x_t) >= 0: of normal data half the log of the ratio of variances."""
    H = linear_schedule(60)
    t, s = (levels[:-1] for levels in steps(H.trajectory(60)))
    for variance in KINDS:
        found = exact_bound(H, None, NARROW, variance)
        step = H.between(t, s)
        left = 0.25 * H.beta_bar[t] / (0.25 * H.alpha_bar[t] + H.beta_bar[t])
        told = np.log1p(step.x0_weight**2 * left / step.beta_tilde) / 2
        got = found.terms - reverse_kl(H, NARROW, t, s, variance)
        # 24 roundings of each term
        assert (np.abs(got - told) <= 32 * U * (found.terms + told)).all()
    for law in (MODES, Finite([-1.0, 0.4])):
        # what x_s tells of points far from each other is nothing where both levels know them: then the two are one
        told = exact_bound(H, None, law, "beta").terms - reverse_kl(H, law, t, s, "beta")
        assert (told >= -4 * SETTLED).all()
        assert told.max() > 1e-3


def line(law, n):
    """A grid over all there is of a mixture, nine deviations beyond its outermost means."""
    means, deviations = law.means[:, 0], np.sqrt(law.covariances[:, 0, 0])
    return np.linspace((means - 9 * deviations).min(), (means + 9 * deviations).max(), n, retstep=True)


@pytest.mark.parametrize(("t", "s"), [(40, 20), (12, 11), (3, 1)])
@pytest.mark.parametrize("variance", KINDS)
def test_reverse_kl_of_mixtures_is_a_double_integral(t, s, variance):
    """q(x_s | x_t) from the joint density of both, on a grid of x_t and x_s: nothing is known of components there."""
    H = linear_schedule(40, beta_T=0.3)
    for law in (MODES, Finite([-1.0, 0.4, 1.0], [0.2, 0.5, 0.3])):
        step, early = H.between(t, s), law.noised(H, s)
        (xs, hs), (xt, ht) = line(early, 3001), line(law.noised(H, t), 801)
        joint = -early.nll(xs[:, None]) - (xt[:, None] - step.sqrt_alpha * xs) ** 2 / (2 * step.beta)
        joint -= math.log(2 * math.pi * step.beta) / 2
        left = law.loss_floor(H, t) / H.snr[t]
        sigma2 = {
            "posterior": step.beta_tilde,
            "beta": step.beta,
            "analytic": step.beta_tilde + step.x0_weight**2 * left,
        }
        mean = model_mean_from_x0(H, xt, t, s, law.x0(H, xt[:, None], t)[:, 0])
        width = float(sigma2[variance])
        model = -(math.log(2 * math.pi * width) + (xs - mean[:, None]) ** 2 / width) / 2
        density = np.exp(joint)
        marginal = density.sum(axis=-1) * hs
        with np.errstate(divide="ignore", invalid="ignore"):
            inner = np.where(density > 0, density * (joint - np.log(marginal)[:, None] - model), 0.0)
        want = inner.sum() * hs * ht
        # both rules are exact to rounding on analytic integrands; 2.4 million terms of size up to 1e3 (NUMERICS 5)
        assert reverse_kl(H, law, t, s, variance) == pytest.approx(want, abs=1e-10)


def test_reverse_kl_shapes_and_refusals():
    H, law = linear_schedule(20), Finite([[-1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    t, s = np.array([[20, 10], [5, 3]]), np.array([[10, 5], [3, 1]])
    got = reverse_kl(H, law, t, s)
    assert got.shape == (2, 2)
    assert (got > 0).all()
    assert got[1, 0] == reverse_kl(H, law, 5, 3)
    # points on a line: across it nothing is unknown, and the posterior variance is right
    length = float(np.linalg.norm(law.points[0] - law.points[1]))
    line = Finite([-length / 2, length / 2])
    assert got == pytest.approx(reverse_kl(H, line, t, s), abs=16 * SETTLED)
    for data in (UNIT, MODES, law):
        with pytest.raises(LevelError, match="s = 0, where the"):
            reverse_kl(H, data, [5, 1], [1, 0])
    with pytest.raises(LevelError, match="the data are points"):
        reverse_kl(H, law, 5, 0, "beta")
    assert np.isfinite(reverse_kl(H, MODES, [5, 1], 0, "beta")).all()
    with pytest.raises(RangeError, match="variance = 'learned' is not known"):
        reverse_kl(H, UNIT, 5, 1, "learned")
    with pytest.raises(RangeError, match="no quadrature beyond"):
        reverse_kl(H, Mixture([0.5, 0.5], np.eye(3)[:2], np.stack([np.eye(3)] * 2)), 5, 1)


# Points


def test_points_without_a_grid_have_no_likelihood():
    """The density of the model at a point grows without end: the bound is finite, bounds nothing, and says so."""
    H, data = linear_schedule(100), Finite([-1.0, -0.2, 1.0])
    found = exact_bound(H, None, data, "beta")
    assert math.isfinite(found.total)
    assert found.nll == -math.inf
    assert found.gap == math.inf
    # The last step's variance is a free parameter that no likelihood holds back.
    assert exact_bound(H, None, data, "posterior", "floor").reconstruction < -20
    assert exact_bound(H, None, data, "posterior", "floor").total < found.total


def test_points_on_a_grid_have_one():
    """With the discretised decoder the bound is above the entropy of the points, and near it where they are told apart."""
    index = np.array([0, 100, 180, 255])
    weights = np.array([0.4, 0.3, 0.2, 0.1])
    data = Finite(from_level_index(index), weights)
    want = -float(weights @ np.log(weights))
    for H in (linear_schedule(1000), cosine_schedule(200)):
        for variance in ("posterior", "beta"):
            found = exact_bound(H, H.trajectory(6), data, variance, levels=256)
            assert found.nll == pytest.approx(want, rel=16 * U)  # NUMERICS 2
            assert found.gap > 0
            assert found.reconstruction > 0
    t = 200
    wide = exact_bound(H, (t, 60, 0), data, "beta", levels=256)
    # the last term, by a rule that knows nothing of components
    x, step = np.linspace(-5, 5, 4001, retstep=True)
    joint = weights[:, None] * np.exp(-((x - H.sqrt_alpha_bar[60] * data.points) ** 2) / (2 * H.beta_bar[60]))
    joint /= math.sqrt(2 * math.pi * H.beta_bar[60])
    mean, ell = data.x0(H, x[:, None], 60)[:, 0], float(np.log(wide.variances[-1]))
    cost = [reconstruction_term(np.full_like(x, p), mean, ell) for p in data.points[:, 0]]
    assert wide.reconstruction == pytest.approx(
        np.sum(joint * np.stack(cost)) * step, rel=1e-11
    )  # NUMERICS 5: sums of 2e4
    # points that are given twice are one
    twice = Finite(from_level_index([3, 3, 9]))
    assert exact_bound(H, None, twice, "beta", levels=256).nll == pytest.approx(
        math.log(3) - math.log(4) / 3, rel=16 * U
    )


@pytest.mark.full
def test_points_of_two_components_on_a_grid():
    """Two components that do not know of each other cost what each costs alone."""
    H, first, second = cosine_schedule(200), from_level_index([0, 255]), from_level_index([100, 180])
    both = Finite([[a, b] for a in first for b in second])
    found = exact_bound(H, (200, 50, 0), both, "beta", levels=256)
    alone = [exact_bound(H, (200, 50, 0), Finite(part), "beta", levels=256) for part in (first, second)]
    for name in ("prior", "reconstruction", "nll", "total"):
        assert getattr(found, name) == pytest.approx(sum(getattr(one, name) for one in alone), rel=16 * SETTLED)


def test_grids_refuse():
    H = linear_schedule(10)
    with pytest.raises(RangeError, match="lie between the levels"):
        exact_bound(H, None, Finite([-1.0, 0.3]), "beta", levels=256)
    for law in (UNIT, MODES):
        with pytest.raises(RangeError, match="levels = 256 with data that have a density"):
            exact_bound(H, None, law, "beta", levels=256)
    with pytest.raises(RangeError, match="span 3 dimensions"):
        exact_bound(H, None, Finite(np.eye(4)), "beta")
    with pytest.raises(RangeError, match="no quadrature beyond"):
        exact_bound(H, None, Finite(from_level_index([[0, 9, 0], [255, 9, 0]])), "beta", levels=256)


def test_the_record():
    found = exact_bound(linear_schedule(10), (10, 4, 0), NARROW, "beta")
    assert isinstance(found, OracleBound)
    assert found.trajectory.levels == (10, 4, 0)
    assert found.variances.shape == (2,)
    assert found.terms.shape == (1,)
    with pytest.raises(AttributeError):
        found.nll = 0.0
