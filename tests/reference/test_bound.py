"""The terms of the bound and its weights: definitions in many digits, printed figures, exact likelihoods of linear chains."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ddpm_ref.errors import LevelError, RangeError, ShapeError
from ddpm_ref.reference import bound
from ddpm_ref.reference.bound import (
    bits_per_dim,
    bound_term,
    continuous_bits_per_dim,
    denoising_term,
    log_snr_drop,
    loss_weight_eps,
    loss_weight_mean,
    loss_weight_v,
    loss_weight_x0,
    nats_per_image,
    prior_term,
    reconstruction_term,
    variance_term,
)
from ddpm_ref.reference.decoder import discretized_gaussian_log_likelihood
from ddpm_ref.reference.divergence import kl_normal
from ddpm_ref.reference.forward import q_sample, terminal_kl
from ddpm_ref.reference.named_schedules import cosine_schedule, linear_schedule
from ddpm_ref.reference.posterior import log_normal, posterior_log_variance, posterior_weights, q_posterior
from ddpm_ref.reference.prediction import v_from_eps, x0_from_eps
from ddpm_ref.reference.reverse import fixed_large_log_variance, model_mean_from_x0
from ddpm_ref.reference.scaling import from_level_index
from ddpm_ref.reference.schedule import NoiseSchedule

U = 2.0**-53
LN2 = math.log(2)


def pairs(T, lowest=0):
    return [(t, s) for t in range(1, T + 1) for s in range(lowest, t)]


def columns(steps):
    return tuple(np.array(steps, dtype=np.int64).T) if steps else (np.zeros(0, np.int64), np.zeros(0, np.int64))


# Weights


@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_weights_are_squares_of_coefficients_over_twice_the_variance(any_schedule, oracle, worst, variance):
    """By the definition of each, not the simplified forms; NUMERICS 2, k = 8: four rounded factors, three operations, one spare."""
    truth = oracle(any_schedule.beta[1:])
    steps = pairs(any_schedule.T, lowest=1 if variance == "posterior" else 0)
    wanted = {"mean": [], "x0": [], "v": [], "eps": []}
    for t, s in steps:
        entry = truth.between(t, s)
        half = 1 / (2 * entry["beta_tilde" if variance == "posterior" else "beta"])
        wanted["mean"].append(half)
        wanted["x0"].append(entry["x0_weight"] ** 2 * half)
        wanted["v"].append(entry["x0_weight"] ** 2 * half * (1 - truth.alpha_bar[t]))
        wanted["eps"].append(entry["eps_weight"] ** 2 * half)
    t, s = columns(steps)
    for name, weight in (("mean", loss_weight_mean), ("x0", loss_weight_x0), ("v", loss_weight_v)):
        if steps:
            assert worst(weight(any_schedule, t, s, variance), wanted[name], wanted[name], 8) <= 1
        assert weight(any_schedule, t, s, variance).shape == t.shape
    known = any_schedule.alpha_bar[t] > 0
    if known.any():
        values = [w for w, k in zip(wanted["eps"], known, strict=True) if k]
        assert worst(loss_weight_eps(any_schedule, t[known], s[known], variance), values, values, 8) <= 1


def test_the_comparison_of_weights_can_fail(oracle, worst):
    """The weight without its square (E29) is off by more than a hundred."""
    H = linear_schedule(100)
    entry = oracle(H.beta[1:]).between(50, 49)
    right = entry["eps_weight"] ** 2 / (2 * entry["beta_tilde"])
    assert worst([loss_weight_eps(H, 50, 49)], [right], [right], 8) <= 1
    assert worst([entry["eps_weight"] / (2 * entry["beta_tilde"])], [right], [right], 8) > 1e15


def test_names_of_variances():
    H = linear_schedule(10)
    for one, other in (("posterior", "fixed_small"), ("beta", "fixed_large")):
        for weight in (loss_weight_mean, loss_weight_x0, loss_weight_eps, loss_weight_v, variance_term):
            assert weight(H, 5, 3, one) == weight(H, 5, 3, other)


def test_printed_weights(lin1000):
    t = np.arange(2, 1001)
    w = loss_weight_x0(lin1000, t, t - 1)
    assert [f"{w[i - 2]:.4g}" for i in (2, 500, 1000)] == ["2726", "0.0004698", "4.119e-07"]
    assert f"{w[0]:.1f}" == "2726.3"
    w = loss_weight_eps(lin1000, t, t - 1)
    assert [f"{w[i - 2]:.{d}f}" for i, d in ((2, 5), (350, 6), (1000, 6))] == ["0.59967", "0.004982", "0.010205"]
    assert t[w.argmin()] == 350
    assert f"{w.max() / w.min():.0f}" == "120"
    assert f"{100 * w[:9].sum() / w.sum():.1f}" == "18.4"  # t = 2..10, against 0.9 % of the simple loss (E30)
    assert f"{1000 * loss_weight_eps(lin1000, 1000, 999):.3f}" == "10.205"
    assert loss_weight_eps(lin1000, 1, 0, "beta") == 1 / (2 * lin1000.alpha[1])
    assert f"{loss_weight_eps(lin1000, 1, 0, 'beta'):.5f}" == "0.50005"
    # E29: what leaving out the square does, at the levels printed there
    step = lin1000.between([2, 100, 500, 1000], [1, 99, 499, 999])
    assert [f"{r:.1f}" for r in 1 / step.eps_weight] == ["123.7", "154.7", "95.1", "49.5"]


@pytest.mark.parametrize("make", [linear_schedule, cosine_schedule])
def test_weights_telescope(make, worst, mp):
    """Their sum is half the fall of SNR over any trajectory: one more rounding than the weight, sums being exact (fsum)."""
    H = make(1000)
    for walk in (H.trajectory(1000), H.trajectory(37), H.trajectory(50, "trailing"), H.trajectory(12, "quadratic")):
        first, *_, last = walk.levels[:-1]
        t, s = np.array(walk.levels[:-2]), np.array(walk.levels[1:-1])
        words = H.words("snr", [last, first])
        snr = [mp.mpf(float(h)) + mp.mpf(float(low)) for h, low in zip(words.high, words.low, strict=True)]
        value = (snr[0] - snr[1]) / 2
        assert worst([math.fsum(loss_weight_x0(H, t, s).tolist())], [value], [value], 9) <= 1
        assert loss_weight_x0(H, first, last) == pytest.approx(float(value), rel=8 * U)  # NUMERICS 2, k = 8


def test_vdm_form(any_schedule, oracle, worst):
    """expm1 of the fall of log SNR, over two; and the table of log SNR, whose differences keep absolute digits only."""
    truth = oracle(any_schedule.beta[1:])
    steps = [(t, s) for t, s in pairs(any_schedule.T, 1) if any_schedule.alpha_bar[t] > 0]
    if not steps:
        return
    mp, (t, s) = truth.mp, columns(steps)
    falls = [truth.logarithms(j)["log_snr"] - truth.logarithms(i)["log_snr"] for i, j in steps]
    drop = log_snr_drop(any_schedule, t, s)
    # Two logarithms of 3 roundings each, conditioned by at most 1.45 where alpha is near 1/2, and a sum.
    assert worst(drop, falls, falls, 10) <= 1
    weights = [mp.expm1(f) / 2 for f in falls]
    # The exponential turns the absolute error of its argument into a relative one.
    assert worst(np.expm1(drop) / 2, weights, [w + f * mp.exp(f) for w, f in zip(weights, falls, strict=True)], 12) <= 1
    assert worst(loss_weight_eps(any_schedule, t, s), weights, weights, 8) <= 1
    table = any_schedule.log_snr[s] - any_schedule.log_snr[t]
    sizes = np.abs(any_schedule.log_snr[s]) + np.abs(any_schedule.log_snr[t])
    assert worst(table, falls, sizes.tolist(), 4) <= 1  # two entries within an ulp (2 u) each, one difference


def test_differences_of_tables_lose_what_log_snr_drop_keeps():
    """Neighbours whose SNR hardly differs: nearly all digits of the table are in what they share."""
    H = NoiseSchedule.from_betas([0.3, 1e-13, 0.2])
    exact = 1e-13 / 0.3  # to first order; the second is a share 1e-13 of it
    assert abs(log_snr_drop(H, 2, 1) / exact - 1) < 1e-12
    assert abs((H.log_snr[1] - H.log_snr[2]) / exact - 1) > 1e-4


def test_log_snr_drop_at_the_ends():
    H = NoiseSchedule.from_betas([1e-4, 0.3, 1.0])
    assert log_snr_drop(H, 3, 1) == np.inf
    with pytest.raises(LevelError, match="SNR is infinite at level 0"):
        log_snr_drop(H, 2, 0)
    extreme = NoiseSchedule.from_betas([1e-300, 1 - 2.0**-52])
    # log(1 / 1e-300) + 52 log 2: no intermediate overflows
    assert log_snr_drop(extreme, 2, 1) == pytest.approx(
        300 * math.log(10) + 52 * LN2, rel=16 * U
    )  # 10 roundings, and ours


def test_the_weights_are_of_one_and_the_same_error():
    """The mean part of the divergence, four ways, on random errors; on every step of an uneven trajectory."""
    H, rng = cosine_schedule(30), np.random.default_rng(3)
    for t, s in ((30, 20), (20, 7), (7, 1)):
        x0, eps, wrong = rng.standard_normal((3, 50))
        xt = q_sample(H, x0, t, eps)
        error = {"eps": eps - wrong, "x0": x0 - x0_from_eps(H, xt, t, wrong)}
        error["v"] = v_from_eps(H, xt, t, eps) - v_from_eps(H, xt, t, wrong)
        mean = model_mean_from_x0(H, xt, t, s, x0_from_eps(H, xt, t, wrong))
        error["mean"] = q_posterior(H, x0, xt, t, s)[0] - mean
        for kind in ("posterior", "beta"):
            log_variance = (posterior_log_variance if kind == "posterior" else fixed_large_log_variance)(H, t, s)
            whole = denoising_term(H, x0, xt, t, s, mean, log_variance).sum() - 50 * variance_term(H, t, s, kind)
            for name, weight in (
                ("eps", loss_weight_eps),
                ("x0", loss_weight_x0),
                ("v", loss_weight_v),
                ("mean", loss_weight_mean),
            ):
                part = weight(H, t, s, kind) * (error[name] ** 2).sum()
                # NUMERICS 2: differences of numbers of size 10 / sqrt(alpha_bar) at most, against errors of size 1, squared.
                assert part == pytest.approx(whole, rel=64 * U * 10 / H.sqrt_alpha_bar[t])


@pytest.mark.parametrize("weight", [loss_weight_mean, loss_weight_x0, loss_weight_eps, loss_weight_v, variance_term])
def test_singular_first_step(weight):
    H = linear_schedule(10)
    for kind in ("posterior", "fixed_small"):
        with pytest.raises(LevelError, match="belongs to s >= 1; the step to level 0 needs variance='beta'"):
            weight(H, [5, 1], [4, 0], kind)
        with pytest.raises(LevelError):
            weight(H, 7, 0, kind)
    with pytest.raises(RangeError, match="variance = 'analytic' is not known; write one of posterior"):
        weight(H, 5, 4, "analytic")
    if weight is variance_term:
        with pytest.raises(LevelError, match="its logarithm infinite"):
            weight(H, 5, 0, "beta")
    else:
        assert np.isfinite(weight(H, [7, 1], 0, "beta")).all()


def test_weights_at_zero_terminal_snr():
    H = NoiseSchedule.from_betas([1e-4, 0.3, 1.0])
    with pytest.raises(RangeError, match="zero terminal SNR"):
        loss_weight_eps(H, 3, 2)
    assert loss_weight_x0(H, 3, 2) == loss_weight_v(H, 3, 2) == pytest.approx(H.snr[2] / 2, rel=4 * U)  # four factors


# Terms


def test_prior_term(lin1000):
    x0 = np.linspace(-1, 1, 7)
    assert np.array_equal(prior_term(lin1000, x0), terminal_kl(lin1000, x0))
    assert f"{bits_per_dim(prior_term(lin1000, 1.0), 1):.3e}" == "2.911e-05"
    # E[x0^2] = 1/3, of uniform data: the mean over x0 = -1, 0, 1 with weights 1/6, 2/3, 1/6
    third = np.array([1, 4, 1]) / 6 @ prior_term(lin1000, [-1.0, 0.0, 1.0])
    assert f"{bits_per_dim(third, 1):.2e}" == "9.70e-06"
    # a chain that starts below T is that of the schedule cut there
    cut = NoiseSchedule.from_betas(lin1000.beta[1:301])
    a, b = lin1000.alpha_bar[300], lin1000.beta_bar[300]
    assert prior_term(cut, 0.5) == pytest.approx(
        float(kl_normal(a**0.5 * 0.5, b, 0.0, 1.0)), rel=64 * U
    )  # kl_normal: k = 8


def test_denoising_term_is_the_divergence(any_schedule, oracle, worst):
    """In many digits from the betas; the scale has every term, the logarithms with the size of their arguments."""
    truth, rng = oracle(any_schedule.beta[1:]), np.random.default_rng(5)
    mp = truth.mp
    for t, s in pairs(any_schedule.T, lowest=1):
        entry = truth.between(t, s)
        x0, xt, mean, shift = rng.standard_normal((4, 6))
        log_variance = float(mp.log(entry["beta_tilde"])) + shift * [0, 1e-6, 1e-3, 0.1, 1, 3]
        values, scales = [], []
        for data, noisy, m, ell in zip(x0.tolist(), xt.tolist(), mean.tolist(), log_variance.tolist(), strict=True):
            terms = entry["x0_weight"] * mp.mpf(data), entry["xt_weight"] * mp.mpf(noisy)
            delta = mp.log(entry["beta_tilde"]) - mp.mpf(ell)
            away = sum(terms) - mp.mpf(m)
            values.append((mp.expm1(delta) - delta + away**2 * mp.exp(-mp.mpf(ell))) / 2)
            size = sum(map(abs, terms)) + abs(mp.mpf(m))
            logs = abs(mp.log(entry["beta_tilde"])) + abs(mp.mpf(ell)) + 1
            scales.append((mp.exp(delta) + 1) * logs / 2 + size**2 * mp.exp(-mp.mpf(ell)) * logs)
        got = denoising_term(any_schedule, x0, xt, t, s, mean, log_variance)
        assert (got >= 0).all()
        # weight, product, sum, difference, twice for the square; exponential (2) and its argument; product, sum, and the series' 8
        assert worst(got, values, scales, 20) <= 1


def test_denoising_term_vanishes_where_both_moments_agree(any_schedule):
    rng = np.random.default_rng(6)
    for t, s in pairs(any_schedule.T, lowest=1):
        x0, xt = rng.standard_normal((2, 3, 4))
        mean, _ = q_posterior(any_schedule, x0, xt, t, s)
        log_variance = posterior_log_variance(any_schedule, t, s)
        assert not denoising_term(any_schedule, x0, xt, t, s, mean, log_variance).any()
        assert (denoising_term(any_schedule, x0, xt, t, s, mean, log_variance + 1e-3) > 0).all()
        assert (denoising_term(any_schedule, x0, xt, t, s, mean + 1e-3, log_variance) > 0).all()


def test_denoising_term_per_example_and_per_element():
    H, rng = linear_schedule(20), np.random.default_rng(7)
    x0, xt, mean, log_variance = rng.standard_normal((4, 3, 2, 5))
    t, s = np.array([20, 10, 5]), np.array([10, 5, 1])
    whole = denoising_term(H, x0, xt, t, s, mean, log_variance)
    for i in range(3):
        one = denoising_term(H, x0[i], xt[i], int(t[i]), int(s[i]), mean[i], log_variance[i])
        assert np.array_equal(whole[i], one)
    spread = denoising_term(H, x0, xt, t, s, mean, log_variance[:, :1, :1])
    assert np.array_equal(
        spread, denoising_term(H, x0, xt, t, s, mean, np.broadcast_to(log_variance[:, :1, :1], x0.shape))
    )


def test_denoising_term_refuses(lin1000):
    x = np.zeros((4, 4))
    with pytest.raises(LevelError, match="the posterior is the point x0"):
        denoising_term(lin1000, x, x, [1, 2, 3, 4], [0, 1, 2, 3], x, 0.0)
    with pytest.raises(ShapeError, match=r"x0 has shape \(4, 4\) and xt \(4,\)"):
        denoising_term(lin1000, x, x[0], 5, 4, x, 0.0)
    with pytest.raises(ShapeError, match=r"mean has shape \(4,\), x0 \(4, 4\)"):
        denoising_term(lin1000, x, x, 5, 4, x[0], 0.0)
    # one number per example would silently have been one per component
    for wrong in (np.zeros(4), np.zeros((2, 4)), np.zeros((4, 4, 1))):
        with pytest.raises(ShapeError, match=r"log_variance has shape .* e\.g\. \(B, 1, 1, 1\)"):
            denoising_term(lin1000, x, x, 5, 4, x, wrong)
    with pytest.raises(RangeError, match=r"log_variance is minus infinity.*first_step='replace'"):
        denoising_term(lin1000, x, x, 5, 4, x, -np.inf)
    with pytest.raises(RangeError, match="mean contains nan"):
        denoising_term(lin1000, x, x, 5, 4, np.full((4, 4), np.nan), 0.0)


def test_variance_term(any_schedule, oracle, worst):
    truth = oracle(any_schedule.beta[1:])
    steps = pairs(any_schedule.T, 1)
    t, s = columns(steps)
    assert not variance_term(any_schedule, t, s).any()
    assert variance_term(any_schedule, t, s).shape == t.shape
    values, scales = [], []
    for i, j in steps:
        r = (1 - truth.alpha_bar[j]) / (1 - truth.alpha_bar[i])
        values.append((r - 1 - truth.mp.log(r)) / 2)
        # Near 1 the series loses nothing; further off the two terms are what they are.
        scales.append(values[-1] if 1 - r <= 0.5 else (1 - r - truth.mp.log(r)) / 2)
    if steps:
        # x has 5 roundings and enters squared; the series 8 (NUMERICS 3)
        assert worst(variance_term(any_schedule, t, s, "beta"), values, scales, 20) <= 1


def test_printed_variance_terms(lin1000):
    """0.1214 nats at t = 2, 0.4864 bits over the chain; the arguments swapped (E27): 0.2055 and 0.6707."""
    t = np.arange(2, 1001)
    right = variance_term(lin1000, t, t - 1, "beta")
    assert f"{right[0]:.4f} {bits_per_dim(right.sum(), 1):.4f}" == "0.1214 0.4864"
    swapped = kl_normal(0.0, lin1000.beta[2:], 0.0, lin1000.beta_tilde[2:])
    assert f"{swapped[0]:.4f} {bits_per_dim(swapped.sum(), 1):.4f}" == "0.2055 0.6707"


def test_reconstruction_of_continuous_data(mp, worst):
    rng = np.random.default_rng(8)
    x0, mean, ell = rng.standard_normal((3, 200)) * [[1], [1], [8]]
    got = reconstruction_term(x0, mean, ell, levels=None)
    values, scales = [], []
    for x, m, v in zip(x0.tolist(), mean.tolist(), ell.tolist(), strict=True):
        x, m, v = mp.mpf(x), mp.mpf(m), mp.mpf(v)
        values.append((mp.log(2 * mp.pi) + v + (x - m) ** 2 * mp.exp(-v)) / 2)
        scales.append((mp.log(2 * mp.pi) + abs(v) + (abs(x) + abs(m)) ** 2 * mp.exp(-v) * (1 + abs(v))) / 2)
    assert worst(got, values, scales, 10) <= 1
    assert (got < 0).any()  # a density, not a probability
    assert reconstruction_term(0.5, 0.25, np.log(0.04), levels=None) == pytest.approx(
        -float(log_normal(0.5, 0.25, 0.04)), rel=16 * U
    )  # NUMERICS 2


@pytest.mark.parametrize("ell", [-700.0, -1500.0, -1e6])
def test_a_density_as_narrow_as_can_be(ell):
    """At its mean the distance is 0, also where the precision overflows; beside it nothing is likely."""
    got = reconstruction_term([1.0, 1.0], [1.0, 0.0], ell, levels=None)
    assert got[0] == pytest.approx((math.log(2 * math.pi) + ell) / 2, rel=4 * U)  # NUMERICS 2
    assert got[1] == math.inf or ell == -700.0


def test_reconstruction_of_levels():
    rng, x0 = np.random.default_rng(9), from_level_index(np.arange(256))
    mean, ell = rng.uniform(-1, 1, (2, 256))
    got = reconstruction_term(x0, mean, 4 * ell - 4)
    want = -discretized_gaussian_log_likelihood(np.arange(256), mean, np.exp((4 * ell - 4) / 2))
    assert np.array_equal(got, want)
    assert (got >= 0).all()
    # A mean and a width of their own: the probabilities of the 256 levels are all there is.
    for m, v in ((0.1, -9.0), (1.0, -3.0), (-5.0, 2.0)):
        total = np.exp(-reconstruction_term(x0, np.full(256, m), v)).sum()
        assert total == pytest.approx(1, rel=256 * 8 * U)  # NUMERICS 5: sums; the decoder errs by 8 u
    three = from_level_index([0, 1, 2], 3)
    assert np.exp(-reconstruction_term(three, np.zeros(3), 0.0, levels=3)).sum() == pytest.approx(1, rel=32 * U)  # sums
    with pytest.raises(RangeError, match="lie between the levels"):
        reconstruction_term(0.1234, 0.0, 0.0)
    with pytest.raises(RangeError, match="a variance of 0 gives no likelihood"):
        reconstruction_term(x0, x0, posterior_log_variance(linear_schedule(5), 1, 0, "exact"))


def test_a_uniform_decoder_takes_eight_bits():
    for d in (1, 3, 3072):
        assert bits_per_dim(d * math.log(256), d) == pytest.approx(8, rel=4 * U)  # NUMERICS 2
    # Two levels under a law centred between them are as likely as each other.
    assert bits_per_dim(reconstruction_term([-1.0, 1.0], [0.0, 0.0], 3.0, levels=2).sum(), 2) == pytest.approx(
        1, rel=32 * U
    )


def test_bound_term_selects():
    H, rng = linear_schedule(20), np.random.default_rng(10)
    x0 = from_level_index(rng.integers(0, 256, (4, 2, 3)))
    xt, mean, ell = rng.standard_normal((3, 4, 2, 3))
    t, s = np.array([20, 3, 9, 1]), np.array([11, 0, 8, 0])
    got = bound_term(H, x0, xt, t, s, mean, ell)
    assert got.shape == (4,)
    for i in range(4):
        if s[i]:
            nats = denoising_term(H, x0[i], xt[i], int(t[i]), int(s[i]), mean[i], ell[i])
        else:
            nats = reconstruction_term(x0[i], mean[i], ell[i])
        assert got[i] == bits_per_dim(nats.sum(), 6)
    density = bound_term(H, x0 * 0.9, xt, t, s, mean, ell, levels=None)
    assert density[1] == bits_per_dim(reconstruction_term(0.9 * x0[1], mean[1], ell[1], None).sum(), 6)
    # all of one kind; scalar levels make one example of all data; a level per number has one component
    assert np.array_equal(bound_term(H, x0[1::2], xt[1::2], t[1::2], 0, mean[1::2], ell[1::2]), got[1::2])
    assert bound_term(H, x0[0], xt[0], 20, 11, mean[0], ell[0]) == got[0]
    each = bound_term(H, x0[0, 0], xt[0, 0], [5, 5, 1], [4, 4, 0], mean[0, 0], ell[0, 0])
    assert each.shape == (3,)
    assert bound_term(H, x0, xt, t, s, mean, ell[:, :1, :1]).shape == (4,)
    # levels are known by the format the data came in
    narrow = x0.astype(np.float32)
    terms = denoising_term(H, narrow[::2].astype(np.float64), xt[::2], t[::2], s[::2], mean[::2], ell[::2])
    single = bound_term(H, narrow, xt, t, s, mean, ell)
    assert np.array_equal(single[::2], [bits_per_dim(nats.sum(), 6) for nats in terms])
    assert np.array_equal(single[1::2], got[1::2])
    assert bound_term(H, x0[:0], xt[:0], t[:0], s[:0], mean[:0], 0.0).shape == (0,)


def test_bound_term_refuses():
    H, x = linear_schedule(20), np.zeros((2, 3))
    with pytest.raises(ShapeError, match=r"x0 has shape \(2, 3\) and xt \(3,\)"):
        bound_term(H, x, x[0], [5, 4], [4, 3], x, 0.0)
    with pytest.raises(ShapeError, match="t has shape"):
        bound_term(H, x, x, [5, 4, 3], [4, 3, 2], x, 0.0)
    with pytest.raises(ShapeError, match="no bits per dimension"):
        bound_term(H, x[:, :0], x[:, :0], [5, 4], [4, 3], x[:, :0], 0.0)
    with pytest.raises(RangeError, match="lie between the levels"):
        bound_term(H, x, x, [5, 1], [4, 0], x, 0.0)
    assert bound_term(H, x, x, [5, 4], [4, 3], x, 0.0).shape == (2,)  # off the grid, but no step to level 0 asks
    with pytest.raises(LevelError):
        bound_term(H, x, x, [5, 4], [5, 3], x, 0.0)


# Units


def test_units():
    assert bits_per_dim([LN2, 0.0, -LN2], 1).tolist() == [1.0, 0.0, -1.0]
    nats = np.linspace(-3, 40, 11)
    assert nats_per_image(bits_per_dim(nats, 48), 48) == pytest.approx(nats, rel=8 * U)  # NUMERICS 2: there and back
    assert bits_per_dim(np.inf, 3) == np.inf
    assert continuous_bits_per_dim(0.0, 5) == np.log2(127.5)
    assert continuous_bits_per_dim(3 * LN2, 3, levels=3) == 1.0
    # a broad decoder's probability is density times width
    density = reconstruction_term(from_level_index(100), 0.1, 0.0, levels=None)
    probability = reconstruction_term(from_level_index(100), 0.1, 0.0)
    assert continuous_bits_per_dim(density, 1) == pytest.approx(
        float(bits_per_dim(probability, 1)), abs=(2 / 255) ** 2
    )  # order h^2
    for wrong in (0, -1, True, 2.5):
        for function in (bits_per_dim, nats_per_image, continuous_bits_per_dim):
            with pytest.raises(RangeError, match=r"dimension = .* must be a whole number"):
                function(1.0, wrong)
    with pytest.raises(RangeError, match=r"nats contains nan at index \(1,\)"):
        bits_per_dim([1.0, np.nan], 2)
    with pytest.raises(RangeError, match="levels = 1"):
        continuous_bits_per_dim(1.0, 1, levels=1)


# The bound as a whole, on linear-Gaussian chains, whose likelihood is known


class Chain:
    """x_s = g x_t + h + noise, from N(0, 1) down: p(x_0) is normal, and the bound a quadratic in x_t."""

    def __init__(self, rng, T):
        self.schedule = NoiseSchedule.from_betas(rng.uniform(0.02, 0.9, T))
        self.gain, self.shift = rng.uniform(-0.5, 1.5, T + 1), rng.standard_normal(T + 1) / 2
        self.variance = np.exp(rng.uniform(-3, 1, T + 1))

    def nll(self, x0):
        mean, variance = 0.0, 1.0
        for t in range(self.schedule.T, 0, -1):
            mean, variance = self.gain[t] * mean + self.shift[t], self.gain[t] ** 2 * variance + self.variance[t]
        return -log_normal(x0, mean, variance)

    def parts(self, x0):
        """L_T, the sum of L_{t-1}, and L_0; three Gauss-Hermite nodes are exact for quadratics."""
        H, denoising, last = self.schedule, np.zeros_like(x0), np.zeros_like(x0)
        z, weights = np.array([[0.0], [-math.sqrt(3)], [math.sqrt(3)]]), np.array([4, 1, 1]) / 6
        data = np.broadcast_to(x0, (3, len(x0)))
        for t in range(1, H.T + 1):
            xt = q_sample(H, data, t, np.broadcast_to(z, data.shape))
            mean, ell = self.gain[t] * xt + self.shift[t], np.log(self.variance[t])
            if t > 1:
                denoising += weights @ denoising_term(H, data, xt, t, t - 1, mean, ell)
            else:
                last = weights @ reconstruction_term(data, mean, ell, levels=None)
        return prior_term(H, x0), denoising, last


def test_the_bound_is_never_below_the_truth_and_its_sign_matters(compared):
    """E24: with +log p for L_0 the "bound" lies below the truth in nearly half of the cases, with minus in none."""
    rng, below, cases = np.random.default_rng(24), 0, 0
    for i in range(200):
        chain = Chain(rng, 2 + i % 4)
        x0 = rng.standard_normal(100)
        prior, denoising, reconstruction = chain.parts(x0)
        gap = prior + denoising + reconstruction - chain.nll(x0)
        assert gap.min() > 0
        below += int((prior + denoising - reconstruction < chain.nll(x0)).sum())
        cases += x0.size
    assert cases == 20_000
    assert below > cases / 4
    compared["examples of linear chains against their likelihood"] += cases


def test_the_terms_are_the_expected_log_ratio():
    """Minus the mean of log p(x_{0:T}) / q(x_{1:T} | x_0) over the chain, in draws: level 1e-9, |z| <= 6.11."""
    rng = np.random.default_rng(25)
    chain, n, x0 = Chain(rng, 4), 400_000, 0.7
    H, x, ratio = chain.schedule, np.full(400_000, 0.7), np.zeros(n)
    for t in range(1, H.T + 1):
        before, x = x, H.sqrt_alpha[t] * x + H.sqrt_beta[t] * rng.standard_normal(n)
        ratio -= log_normal(x, H.sqrt_alpha[t] * before, H.beta[t])
        ratio += log_normal(before, chain.gain[t] * x + chain.shift[t], chain.variance[t])
    ratio += log_normal(x, 0.0, 1.0)
    total = sum(part[0] for part in chain.parts(np.array([x0])))
    error = ratio.std() / math.sqrt(n)
    assert abs(-ratio.mean() - total) < 6.11 * error
    # E25: the ratio is minus the sum, not the sum
    assert abs(ratio.mean() - total) > 100 * error


@pytest.mark.parametrize("T", [1, 2, 5, 40])
def test_equality_on_unit_gaussian_data(T):
    """mu = sqrt(alpha) x_t and variance beta are the exact reversal of the chain on N(0, 1): the bound is the truth at every x0."""
    chain = Chain(np.random.default_rng(26), T)
    H = chain.schedule
    chain.gain, chain.shift, chain.variance = H.sqrt_alpha, np.zeros(T + 1), H.beta
    x0 = np.linspace(-3, 3, 13)
    prior, denoising, reconstruction = chain.parts(x0)
    # NUMERICS 2: each of the T terms within 32 roundings of its scale, which the posterior's precision sets
    scale = (1 + x0**2) * (1 / H.beta_tilde[2:]).sum() + T * 10 + x0**2 / H.beta[1]
    assert (np.abs(prior + denoising + reconstruction + log_normal(x0, 0.0, 1.0)) <= 32 * U * scale).all()
    chain.variance = H.beta * 1.01
    assert (np.sum(chain.parts(x0), axis=0) - chain.nll(x0) > 1e-7).all()


def test_the_likelihood_needs_a_width(lin1000):
    """E36: expected cost of the decoder around a mean that is off by 0.01 (standard deviation), in bits per dimension."""
    k, z = np.arange(256), np.linspace(-6, 6, 241)
    weights = np.exp(-z * z / 2) / np.exp(-z * z / 2).sum()
    x0 = from_level_index(k[8:-8:16])
    replaced = float(posterior_log_variance(lin1000, 1, 0))
    floored = float(posterior_log_variance(lin1000, 1, 0, "floor"))
    costs = []
    for ell in (replaced, float(np.log(lin1000.beta[1])), floored):
        mean = x0[:, None] + 0.01 * z
        nats = reconstruction_term(np.broadcast_to(x0[:, None], mean.shape), mean, ell)
        costs.append(float(bits_per_dim((nats @ weights).mean(), 1)))
    assert f"{costs[0]:.2f} {costs[1]:.2f}" == "2.51 2.40"
    assert costs[2] > 1e10  # without the floor of 1e-12 that hides it


def test_bound_over_a_strided_chain_and_the_first_step_rules(lin1000):
    """The sum of sampled terms over a trajectory, each rule's width in the last: the rule changes nothing but the last term."""
    rng, walk = np.random.default_rng(12), lin1000.trajectory(20, "trailing")
    x0 = from_level_index(rng.integers(0, 256, (2, 5)))
    totals = {}
    for rule in ("replace", "replace_unstrided", "floor"):
        rows = []
        for t, s in walk.pairs():
            xt = q_sample(lin1000, x0, t, np.random.default_rng(t).standard_normal(x0.shape))
            mean = model_mean_from_x0(lin1000, xt, t, s, 0.9 * x0)
            ell = posterior_log_variance(lin1000, t, s, rule, walk)
            levels = np.full(2, t), np.full(2, s)
            rows.append(bound_term(lin1000, x0, xt, *levels, mean, float(ell)))
        totals[rule] = np.array(rows)
        assert totals[rule].shape == (20, 2)
    assert np.array_equal(totals["replace"][:-1], totals["floor"][:-1])
    assert np.array_equal(totals["replace"][:-1], totals["replace_unstrided"][:-1])
    wide = lin1000.between(100, 50).beta_tilde
    by_hand = reconstruction_term(x0, 0.9 * x0, float(np.log(wide))).sum(axis=-1)
    assert totals["replace"][-1] == pytest.approx(bits_per_dim(by_hand, 5), rel=64 * U)  # mean_from_x0: k = 8, twice
    assert (totals["floor"][-1] > 1e3 * totals["replace_unstrided"][-1]).all()


def test_weights_at_the_first_step_by_rule(lin1000):
    """At s = 0 the mean is the prediction of x0: the weight on its error is 1 / (2 sigma^2) of whatever rule."""
    assert posterior_weights(lin1000, 20, 0) == (1.0, 0.0)
    for ell in (posterior_log_variance(lin1000, 20, 0), fixed_large_log_variance(lin1000, 20, 0, "exact")):
        one, zero = (float(reconstruction_term(0.0, m, float(ell), levels=None)) for m in (1e-3, 0.0))
        assert (one - zero) / 1e-6 == pytest.approx(
            0.5 / np.exp(ell), rel=1e-8
        )  # the difference of two numbers of size 4: U / 1e-6
    exact = fixed_large_log_variance(lin1000, 20, 0, "exact")
    assert 0.5 / np.exp(exact) == pytest.approx(
        loss_weight_x0(lin1000, 20, 0, "beta"), rel=32 * U
    )  # log and exp: |log beta| + 2


def test_every_public_name_is_here():
    assert sorted(bound.__all__) == [
        "bits_per_dim",
        "bound_term",
        "continuous_bits_per_dim",
        "denoising_term",
        "log_snr_drop",
        "loss_weight_eps",
        "loss_weight_mean",
        "loss_weight_v",
        "loss_weight_x0",
        "nats_per_image",
        "prior_term",
        "reconstruction_term",
        "variance_term",
    ]
