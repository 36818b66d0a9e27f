"""Analytic-DPM: every variance equals the exact one rounded once; its limits, and how it ascends."""

import math
from fractions import Fraction

import numpy as np
import pytest

from ddpm_ref.arithmetic.exact import Undecided, rational_minus_root
from ddpm_ref.errors import RangeError, ScheduleError
from ddpm_ref.reference import analytic, combined
from ddpm_ref.reference.named_schedules import cosine_schedule, linear_schedule, zero_terminal_snr
from ddpm_ref.reference.schedule import NoiseSchedule

H = linear_schedule(50)
LIN1000 = linear_schedule(1000)
END = zero_terminal_snr(linear_schedule(20))
ETAS = (0.0, 1e-3, 0.3, 0.5, 1.0)
UNKNOWN = (0.0, 5e-324, 1e-30, 0.1, 0.3, 1.0, 3.7, 1e12)


def random_betas(seed, low, high, T):
    return NoiseSchedule.from_betas(10 ** np.random.default_rng(seed).uniform(low, high, T))


SCHEDULES = {
    "linear": lambda: linear_schedule(300),
    "cosine": lambda: cosine_schedule(120),
    "unordered": lambda: random_betas(1, -8, -0.05, 60),
    "tiny": lambda: random_betas(2, -18, -9, 30),
    "tiny and large": lambda: random_betas(3, -30, -0.1, 30),
    "T = 1": lambda: NoiseSchedule.from_betas([0.3]),
    "dyadic": lambda: NoiseSchedule.from_betas([0.5] * 6),
    "zero terminal SNR": lambda: END,
}


def pairs_of(T):
    t = [*range(1, T + 1), T, T]
    s = [*range(T), 0, T // 2]
    kept = [(a, b) for a, b in zip(t, s, strict=True) if a > b]
    return kept[:: max(len(kept) // 40, 1)] + kept[-2:]


def exact_variance(truth, t, s, eta, v):
    """Eq. (7) of the paper as printed, cancelling in a hundred digits and more."""
    mp, at, as_ = truth.mp, truth.alpha_bar[t], truth.alpha_bar[s]
    known = mp.mpf(eta) ** 2 * truth.between(t, s)["beta_tilde"]
    left = 1 - as_ - known if s else mp.mpf(0)
    weight = mp.sqrt(as_) - mp.sqrt(at * left / (1 - at))
    return known + weight**2 * v


# --- rounded once -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
def test_variances_and_deviations_are_the_exact_numbers_rounded_once(name, oracle, rounded, compared):
    schedule = SCHEDULES[name]()
    truth, rng = oracle(schedule.beta[1:], 200), np.random.default_rng(0)
    pairs = pairs_of(schedule.T)
    t, s = (np.array(levels) for levels in zip(*pairs, strict=True))
    for eta in ETAS:
        v = rng.choice([*UNKNOWN, *rng.uniform(0, 2, 8)], len(pairs))
        got = analytic.analytic_variance(schedule, t, s, v, eta), analytic.analytic_std(schedule, t, s, v, eta)
        for i, (a, b) in enumerate(pairs):
            value = exact_variance(truth, a, b, eta, truth.mp.mpf(v[i]))
            assert (got[0][i], got[1][i]) == (rounded(value), rounded(truth.mp.sqrt(value))), (a, b, eta, v[i])
        compared["variances compared by equality"] += 2 * len(pairs)


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "zero terminal SNR"])
@pytest.mark.parametrize("ends", [(-1.0, 1.0), (0.0, 0.1), (-3.0, 0.5), (-math.inf, math.inf)])
def test_bounds_are_the_exact_numbers_rounded_once(name, ends, oracle, rounded, compared):
    schedule = SCHEDULES[name]()
    truth, pairs = oracle(schedule.beta[1:], 200), pairs_of(schedule.T)
    t, s = (np.array(levels) for levels in zip(*pairs, strict=True))
    mp = truth.mp
    half = (mp.mpf(ends[1]) - mp.mpf(ends[0])) / 2
    for eta in (0.0, 0.3, 1.0):
        lower, upper = analytic.analytic_variance_bounds(schedule, t, s, *ends, eta)
        for i, (a, b) in enumerate(pairs):
            cap = min((1 - truth.alpha_bar[a]) / truth.alpha_bar[a], half**2)
            assert lower[i] == rounded(exact_variance(truth, a, b, eta, mp.mpf(0)))
            assert upper[i] == rounded(exact_variance(truth, a, b, eta, cap))
        compared["variances compared by equality"] += 2 * len(pairs)


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "zero terminal SNR"])
def test_sigma_hat_squared_is_the_exact_number_rounded_once(name, oracle, rounded):
    schedule = SCHEDULES[name]()
    truth, t = oracle(schedule.beta[1:], 200), np.arange(1, schedule.T + 1)
    moments = np.random.default_rng(1).choice([0.0, 1.0, 0.5, 1 - 2.0**-53, 0.3, 1e-9, 1.25], len(t))
    got = analytic.sigma_hat_squared(schedule, t, moments, allow_negative=True)
    residual = analytic.sigma_hat_squared_from_residual(schedule, t, moments)
    for i, level in enumerate(t.tolist()):
        ratio, m = (1 - truth.alpha_bar[level]) / truth.alpha_bar[level], truth.mp.mpf(moments[i])
        assert got[i] == rounded(ratio * (1 - m))
        assert residual[i] == rounded(ratio * m)


def test_enclosures_and_exact_integers_agree(monkeypatch):
    """The fallback by itself gives the same numbers, and it is asked where enclosures do not decide."""
    schedules = [SCHEDULES["dyadic"](), random_betas(5, -8, -0.1, 12), NoiseSchedule.from_betas([0.75, 0.75])]
    values = [Fraction(0), Fraction(1, 4), Fraction(1), Fraction(0.3), Fraction(10**20), None]
    for schedule in schedules:
        t, s = zip(*[(a, b) for a, b in ((6, 5), (6, 2), (2, 1), (2, 0), (1, 0)) if a <= schedule.T], strict=True)
        for eta in ETAS:
            for v in values:
                for root in (False, True):
                    ask = lambda: combined.columns(schedule.products, t, s, eta, [v] * len(t), root=root)  # noqa: B023, E731
                    fast = ask()
                    with monkeypatch.context() as patched:
                        patched.setattr(type(schedule.products), "factors", _refused)
                        assert np.array_equal(ask(), fast)
        levels = range(1, schedule.T + 1)
        shares = [Fraction(-1, 3), Fraction(0), Fraction(1, 7)] * schedule.T
        fast = combined.noise_to_signal(schedule.products, levels, shares[: schedule.T])
        with monkeypatch.context() as patched:
            patched.setattr(type(schedule.products), "factors", _refused)
            assert np.array_equal(combined.noise_to_signal(schedule.products, levels, shares[: schedule.T]), fast)


def _refused(*_):
    raise Undecided("planted")


def test_ties_and_rational_differences_are_decided(mp, rounded):
    tie = (2**53 + 1, 2**53)
    assert rational_minus_root((tie[0] + tie[1], tie[1]), (1, 1), root=False) == 1.0  # half to even
    assert rational_minus_root(((tie[0] ** 2 << 2) + (tie[1] ** 2 << 2), tie[1] ** 2 << 2), (1, 1), root=True) == 1.0
    wide = mp.clone()
    wide.dps = 400
    near = (10**200 + 1, 10**200)  # the difference from its root is 2e-200
    got = rational_minus_root(near, (near[0] ** 2 * 10**20 - 10**20 * near[0], near[1] ** 2 * 10**20), root=False)
    value = wide.mpf(near[0]) / near[1]
    assert got == rounded(value - wide.sqrt(value**2 - value / near[1]))


def test_planted_naive_arithmetic_is_not_good_enough():
    """The comparison can fail: eq. (7) in float64 is wrong nearly everywhere, and by hundreds of roundings."""
    t = np.arange(2, 1001)
    step, v = LIN1000.between(t, t - 1), 0.1
    weight = LIN1000.sqrt_alpha_bar[t - 1] - LIN1000.sqrt_beta_bar[t - 1] * np.sqrt(LIN1000.snr[t])
    right = analytic.analytic_variance(LIN1000, t, t - 1, np.full(999, v), 0.0)
    assert step.t.size == 999
    assert (weight**2 * v != right).mean() > 0.9
    assert np.max(np.abs(weight**2 * v / right - 1)) > 100 * 2.0**-53


# --- order ------------------------------------------------------------------------------------------------------------


def test_the_variance_ascends_with_what_is_unknown_and_with_eta():
    rng = np.random.default_rng(4)
    for schedule in (H, SCHEDULES["unordered"](), SCHEDULES["dyadic"]()):
        for t, s in pairs_of(schedule.T)[::7]:
            unknown, etas = np.sort(rng.uniform(0, 3, 8)), np.sort(rng.uniform(0, 1, 6))
            for eta in (0.0, 0.5, 1.0):
                assert (np.diff(analytic.analytic_variance(schedule, t, s, unknown, eta)) >= 0).all()
            for v in (0.0, 0.4, 2.0):
                assert (
                    np.diff([float(analytic.analytic_variance(schedule, t, s, v, float(eta))) for eta in etas]) >= 0
                ).all()


def test_limits():
    assert analytic.analytic_variance(H, 30, 0, 0.123) == 0.123
    assert analytic.analytic_variance(H, 30, 0, 0.123, 0.0) == 0.123
    assert analytic.analytic_std(H, 30, 0, 0.25) == 0.5
    for t, s in ((50, 49), (40, 3), (9, 0)):
        step = H.between(t, s)
        assert analytic.analytic_variance(H, t, s, 0.0) == step.beta_tilde
        assert analytic.analytic_variance(H, t, s, 0.0, 0.0) == 0.0
        assert analytic.analytic_variance_bounds(H, t, s, -math.inf, math.inf)[1] == step.reverse_variance_bound
        # beta_bar_t is rounded, so beta_{t|s} of standard normal data comes back to a rounding of it
        assert abs(analytic.analytic_variance(H, t, s, H.beta_bar[t]) - step.beta) <= 2 * 2.0**-53 * step.beta
    end = END
    assert analytic.analytic_variance_bounds(end, 20, 10, -math.inf, math.inf)[1] == math.inf
    step = end.between(20, 10)
    largest = step.beta_tilde + step.x0_weight**2  # section 1: two coefficients, a square and a sum, k = 4
    assert abs(analytic.analytic_variance_bounds(end, 20, 10)[1] - largest) <= 4 * 2.0**-53 * largest


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: analytic.clip_sigma_hat_squared(H, 0.5, 3, -1e200, 1e200), RangeError, "square of that range"),
        (lambda: analytic.clip_sigma_hat_squared(H, np.array([0.5j]), [3]), RangeError, "dtype complex128"),
        (lambda: analytic.segmented_trajectory(H, np.full(H.T + 1, 0.5j), 5), RangeError, "dtype complex128"),
        (
            lambda: analytic.segmented_trajectory(H, np.full(H.T + 1, 1.5), 5),
            ScheduleError,
            "first exceeds 1 at level 1",
        ),
        (lambda: analytic.pixel_threshold_variance(1e-170), RangeError, "grey levels"),
        (lambda: analytic.pixel_threshold_variance(1e200), RangeError, "grey levels"),
    ],
)
def test_what_no_float64_holds_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
