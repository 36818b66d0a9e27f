"""The reverse model: means and variances against optimal predictors of Gaussian data, rational identities, chains."""

from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from ddpm_ref.errors import RangeError, ScheduleError
from ddpm_ref.reference import reverse
from ddpm_ref.reference.named_schedules import linear_schedule
from ddpm_ref.reference.posterior import log_normal, posterior_log_variance, q_posterior
from ddpm_ref.reference.reverse import (
    fixed_large_log_variance,
    learned_variance,
    log_reverse_step,
    model_mean_from_eps,
    model_mean_from_x0,
    optimal_variance_bounds,
    reverse_chain_variance,
    reverse_step,
    reverse_variance,
)
from ddpm_ref.reference.schedule import NoiseSchedule


@pytest.mark.parametrize("s2", [Fraction(1), Fraction(1, 4), Fraction(4)])
def test_optimal_mean_on_gaussian_data(s2, any_schedule, oracle, worst):
    """E[x_s | x_t] = sqrt(alpha_{t|s}) (V_s / V_t) x_t by conditioning a bivariate normal law, V = alpha_bar s^2 + beta_bar."""
    H, truth = any_schedule, oracle(any_schedule.beta[1:])
    mp, xt = truth.mp, 1.7
    variance = [a * s2.numerator / s2.denominator + 1 - a for a in truth.alpha_bar]
    for t in range(1, H.T + 1):
        a = truth.alpha_bar[t]
        if a == 0:
            continue
        x = mp.mpf(xt)
        eps, x0 = mp.sqrt(1 - a) * x / variance[t], mp.sqrt(a) * s2.numerator / s2.denominator * x / variance[t]
        for s in range(t):
            entries = truth.between(t, s)
            value = entries["sqrt_alpha"] * variance[s] / variance[t] * x
            scale = entries["recip_sqrt_alpha"] * x + entries["eps_weight"] * eps
            # one more: the prediction is rounded
            assert worst([model_mean_from_eps(H, xt, t, s, float(eps))], [value], [scale], 4) <= 1
            assert worst([model_mean_from_x0(H, xt, t, s, float(x0))], [value], [value], 4) <= 1


def test_mean_from_x0_is_the_posterior_mean():
    H = linear_schedule(30)
    x0, xt = np.random.default_rng(0).standard_normal((2, 5))
    assert np.array_equal(model_mean_from_x0(H, xt, 20, 10, x0), q_posterior(H, x0, xt, 20, 10)[0])


def test_names_of_fixed_variances(any_schedule):
    H = any_schedule
    t = np.arange(1, H.T + 1)
    for kind, table in (
        ("posterior", H.beta_tilde),
        ("fixed_small", H.beta_tilde),
        ("beta", H.beta),
        ("fixed_large", H.beta),
    ):
        assert np.array_equal(reverse_variance(H, t, t - 1, kind), table[1:])
    with pytest.raises(RangeError, match="kind = 'learned' is not known; write one of posterior"):
        reverse_variance(H, 1, 0, "learned")


def test_ratio_of_the_fixed_variances(lin1000):
    """beta / beta_tilde at the levels that EQUATIONS prints (E20)."""
    ratio = [
        float(reverse_variance(lin1000, t, t - 1, "beta") / reverse_variance(lin1000, t, t - 1))
        for t in (2, 10, 100, 500)
    ]
    assert [f"{r:.{d}f}" for r, d in zip(ratio, (3, 3, 3, 4), strict=True)] == ["2.199", "1.173", "1.018", "1.0009"]


def test_bounds_of_the_optimal_variance(any_schedule, rounded):
    """beta_tilde + c_0^2 beta_bar_t / alpha_bar_t = beta_{t|s} / alpha_{t|s}, in fractions: equality after one rounding."""
    H = any_schedule
    bar = [Fraction(1)]
    for beta in H.beta[1:].tolist():
        bar.append(bar[-1] * (1 - Fraction(beta)))
    for t in range(1, H.T + 1):
        for s in range(t):
            lower, upper = optimal_variance_bounds(H, t, s)
            alpha, late = bar[t] / bar[s], 1 - bar[t]
            tilde = (1 - alpha) * (1 - bar[s]) / late
            assert lower == rounded(tilde)
            if bar[t]:
                square = bar[s] * ((1 - alpha) / late) ** 2
                assert upper == rounded(tilde + square * late / bar[t])
            else:
                assert upper == np.inf
            assert lower <= reverse_variance(H, t, s, "beta") <= upper


def test_fixed_large_log_variance(lin1000):
    """(beta_tilde_2, beta_2, ..., beta_T); only the first entry is replaced, and "floor" and "exact" have nothing to do."""
    t = np.arange(1, 1001)
    replaced = fixed_large_log_variance(lin1000, t, t - 1)
    assert replaced[0] == np.log(lin1000.beta_tilde[2]) == posterior_log_variance(lin1000, 1, 0)
    assert np.array_equal(replaced[1:], np.log(lin1000.beta[2:]))
    for rule in ("floor", "exact"):
        assert np.array_equal(fixed_large_log_variance(lin1000, t, t - 1, rule), np.log(lin1000.beta[1:]))
    trajectory = lin1000.trajectory(50, "trailing")
    assert fixed_large_log_variance(lin1000, 20, 0, "replace", trajectory) == np.log(lin1000.between(40, 20).beta_tilde)
    with pytest.raises(ScheduleError, match="has one step"):
        fixed_large_log_variance(linear_schedule(1), 1, 0)
    with pytest.raises(RangeError, match="first_step = 'none' is not known"):
        fixed_large_log_variance(lin1000, 1, 0, "none")


def test_learned_variance_is_a_weighted_geometric_mean(any_schedule, mp, worst):
    """At v = 1/2 the root of a product; monotone between the fixed ones. Errors of logarithms are absolute in the exponent."""
    H = any_schedule
    for t in range(2, H.T + 1):
        for s in range(1, t):
            small, large = (mp.mpf(float(v)) for v in (reverse_variance(H, t, s), reverse_variance(H, t, s, "beta")))
            v = np.linspace(0, 1, 9)
            got = learned_variance(H, t, s, v)
            assert (np.diff(got) >= 0).all()
            values = [large ** mp.mpf(f) * small ** (1 - mp.mpf(f)) for f in v.tolist()]
            sizes = [x * (1 + abs(mp.log(large)) + abs(mp.log(small))) for x in values]
            assert worst(got, values, sizes, 6) <= 1


def test_learned_variance_in_the_step_to_clean_data(lin1000):
    trajectory = lin1000.trajectory(50, "trailing")
    got = learned_variance(lin1000, 20, 0, [0.0], trajectory=trajectory)
    assert got == np.exp(posterior_log_variance(lin1000, 20, 0, trajectory=trajectory))
    assert np.isfinite(learned_variance(lin1000, 1, 0, [0.0, 0.5, 1.0], "floor")).all()
    with pytest.raises(RangeError, match=r"'exact' gives log 0 at s = 0.*write 'replace' or 'floor'"):
        learned_variance(lin1000, 1, 0, [0.0, 1.0], "exact")
    assert learned_variance(lin1000, np.array([5, 9]), np.array([4, 3]), np.full((2, 3), 0.5)).shape == (2, 3)
    assert learned_variance(lin1000, 5, 4, np.zeros((0, 2))).shape == (0, 2)


@pytest.mark.parametrize("fraction", [-0.1, 1.0000001, 2.0])
def test_fractions_outside_the_unit_interval_are_refused(fraction, lin1000):
    with pytest.raises(RangeError, match=r"must lie in \[0, 1\]: map an output in \[-1, 1\] by"):
        learned_variance(lin1000, 5, 4, [0.5, fraction])


def test_a_draw_has_the_mean_and_the_variance_asked_for(mp, worst):
    mean, noise = np.random.default_rng(1).standard_normal((2, 100))
    terms = [(mp.mpf(m), mp.sqrt(mp.mpf(0.3)) * mp.mpf(z)) for m, z in zip(mean.tolist(), noise.tolist(), strict=True)]
    got = reverse_step(mean, 0.3, noise)
    assert worst(got, [a + b for a, b in terms], [abs(a) + abs(b) for a, b in terms], 3) <= 1
    assert np.array_equal(reverse_step(mean, 0.0, noise), mean)
    n, level = 50_000, 1e-9  # rule: family-wise level, one test
    draws = reverse_step(2.0, 0.09, np.random.default_rng(2).standard_normal(n))
    assert stats.chi2.ppf(level / 2, n) <= ((draws - 2) ** 2).sum() / 0.09 <= stats.chi2.isf(level / 2, n)


def test_log_density_of_a_step():
    x = np.linspace(-1, 1, 5)
    assert np.array_equal(log_reverse_step(x, 0.1, 0.2), log_normal(x, 0.1, 0.2))


def test_chain_variance_in_fractions():
    gains, variances = [0.5, 1.5, -0.25], [0.25, 0.0, 0.5]
    chain = [Fraction(2)]
    for g, v in zip(gains, variances, strict=True):
        chain.append(Fraction(g) ** 2 * chain[-1] + Fraction(v))
    assert reverse_chain_variance(gains, variances, 2.0).tolist() == [float(v) for v in chain]
    assert reverse_chain_variance([], []).tolist() == [1.0]


def gaussian_gains(H, t, s, s2):
    """Gain of the optimal mean on N(0, s2): the mean of unit x_t with the exact predictor."""
    eps = H.sqrt_beta_bar[t] / (H.alpha_bar[t] * s2 + H.beta_bar[t])
    return model_mean_from_eps(H, np.ones(len(t)), t, s, eps)


@pytest.mark.parametrize(
    ("kind", "deviations"),
    [("posterior", ["0.995524", "0.496110", "0.096311"]), ("beta", ["0.999950", "0.500752", "0.100766"])],
)
def test_final_deviations_of_ancestral_sampling(kind, deviations, lin1000):
    """The first two rows of the table in ERRATA: start N(0, 1), no noise in the last step."""
    t = np.arange(1000, 0, -1)
    variance = reverse_variance(lin1000, t, t - 1, kind).copy()
    variance[-1] = 0.0
    final = [
        reverse_chain_variance(gaussian_gains(lin1000, t, t - 1, s**2), variance)[-1] ** 0.5 for s in (1, 0.5, 0.1)
    ]
    assert [f"{v:.6f}" for v in final] == deviations


def test_fixed_large_keeps_unit_variance_on_unit_data(any_schedule, worst):
    """G(1) from the true start: alpha + beta = 1 in every step, to the roundings of the chain (five a step)."""
    H = any_schedule
    if H.alpha_bar[-1] == 0:
        H = NoiseSchedule.from_betas(H.beta[1:-1])
    t = np.arange(H.T, 0, -1)
    chain = reverse_chain_variance(gaussian_gains(H, t, t - 1, 1.0), reverse_variance(H, t, t - 1, "beta"))
    for steps, v in enumerate(chain):
        assert worst([v], [Fraction(1)], [1], 20 * steps + 1) <= 1


def test_every_public_name_is_documented_with_its_law():
    for name in ("model_mean_from_eps", "reverse_variance", "learned_variance", "reverse_chain_variance"):
        assert "Law:" in (getattr(reverse, name).__doc__ or "")
