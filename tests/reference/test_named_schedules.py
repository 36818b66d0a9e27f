"""Named schedules: every beta is its formula, evaluated exactly or to 60 digits, rounded once."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from ddpm_ref.errors import ScheduleError
from ddpm_ref.reference.named_schedules import (
    constant_schedule,
    cosine_schedule,
    linear_schedule,
    scaled_linear_schedule,
    sigmoid_alpha_bar_schedule,
    sigmoid_schedule,
    zero_terminal_snr,
)
from ddpm_ref.reference.schedule import NoiseSchedule


def linear_betas(T, beta_1, beta_T):
    first, last = Fraction(beta_1), Fraction(beta_T)
    return [first + (t - 1) * (last - first) / max(T - 1, 1) for t in range(1, T + 1)]


@pytest.mark.parametrize("T", [1, 2, 3, 10, 1000, 4000])
def test_linear(T, rounded, compared):
    betas = linear_schedule(T).beta
    assert betas[1:].tolist() == [rounded(v) for v in linear_betas(T, 1e-4, 0.02)]
    assert (betas[0], betas[1], betas[-1]) == (0.0, 1e-4, 0.02 if T > 1 else 1e-4)
    compared["betas of named schedules compared by equality"] += T


def test_linear_with_scaled_ends(rounded):
    """Both ends times 1000 / T, exactly; for T = 1000 that changes nothing."""
    for T in (50, 4000):
        want = [v * Fraction(1000, T) for v in linear_betas(T, 1e-4, 0.02)]
        assert linear_schedule(T, scale_ends=True).beta[1:].tolist() == [rounded(v) for v in want]
    assert linear_schedule(1000, scale_ends=True) == linear_schedule(1000)
    with pytest.raises(ScheduleError, match="level t = "):
        linear_schedule(10, scale_ends=True)  # 0.02 * 100 is no beta


def test_linear_properties_of_lin1000(lin1000):
    """End points exact; differences constant and the sum T (beta_1 + beta_T) / 2, both up to the one rounding of each beta."""
    schedule = linear_schedule()
    assert schedule == lin1000
    exact = [Fraction(b) for b in schedule.beta[1:].tolist()]
    step, half_ulp = (Fraction(0.02) - Fraction(1e-4)) / 999, Fraction(np.spacing(0.02)) / 2
    assert all(abs(b - a - step) <= 2 * half_ulp for a, b in pairwise(exact))
    assert abs(sum(exact) - 500 * (Fraction(0.02) + Fraction(1e-4))) <= 1000 * half_ulp
    assert f"{float(sum(exact)):.2f}" == "10.05"
    # the figures that EQUATIONS prints
    assert f"{schedule.alpha_bar[-1]:.14e}" == "4.03582976537568e-05"
    assert f"{schedule.sqrt_alpha_bar[-1]:.14f}" == "0.00635281808757"
    assert f"{schedule.alpha_bar[500]:.13f}" == "0.0785872428818"
    assert f"{schedule.beta[500]:.11f}" == "0.01004004004"
    assert f"{schedule.beta_tilde[2]:.8e}" == "5.45318766e-05"
    assert f"{schedule.snr[1]:.0f}" == "9999"
    assert f"{schedule.snr[-1]:.3e}" == "4.036e-05"


def test_numpys_linspace_is_another_schedule():
    assert (linear_schedule().beta[1:] != np.linspace(1e-4, 0.02, 1000)).sum() == 394  # the figure of DESIGN section 4


def test_descending_and_constant_ends(rounded):
    assert linear_schedule(7, 0.5, 0.1).beta[1:].tolist() == [rounded(v) for v in linear_betas(7, 0.5, 0.1)]
    assert constant_schedule(5, 0.3).beta.tolist() == [0.0] + [0.3] * 5
    assert linear_schedule(4, 0.1, 1.0).alpha_bar[-1] == 0.0


@pytest.mark.parametrize("T", [1, 2, 1000])
def test_scaled_linear(T, mp, rounded, compared):
    a, b = mp.sqrt(mp.mpf(0.00085)), mp.sqrt(mp.mpf(0.012))
    want = [(a + (b - a) * mp.mpf(t - 1) / max(T - 1, 1)) ** 2 for t in range(1, T + 1)]
    betas = scaled_linear_schedule(T).beta
    assert betas[1:].tolist() == [rounded(v) for v in want]
    assert (betas[1], betas[-1]) == (0.00085, 0.012 if T > 1 else 0.00085)
    compared["betas of named schedules compared by equality"] += T


def cosine_betas(mp, T, s, max_beta):
    """1 - cos(B)^2/cos(A)^2 as sin(B - A) sin(B + A) / cos(A)^2: another form of the same number, without cancellation."""
    s = mp.mpf(s)
    angle = [(mp.mpf(t) / T + s) / (1 + s) * mp.pi / 2 for t in range(T + 1)]
    pairs = pairwise(angle)
    return [min(mp.sin(b - a) * mp.sin(b + a) / mp.cos(a) ** 2, mp.mpf(max_beta)) for a, b in pairs]


@pytest.mark.parametrize(
    ("T", "s", "max_beta"), [(1, 0.008, 0.999), (2, 0.008, 0.999), (50, 0.0, 0.9), (1000, 0.008, 0.999)]
)
def test_cosine(T, s, max_beta, mp, rounded, compared):
    want = [rounded(v) for v in cosine_betas(mp, T, s, max_beta)]
    assert cosine_schedule(T, s, max_beta).beta[1:].tolist() == want
    compared["betas of named schedules compared by equality"] += T


@pytest.mark.full
def test_cosine_t_4000(mp, rounded):
    assert cosine_schedule(4000).beta[1:].tolist() == [rounded(v) for v in cosine_betas(mp, 4000, 0.008, 0.999)]


@pytest.mark.parametrize("T", [10, 50, 100, 1000, 4000])
def test_cosine_increases_and_is_clipped_once(T):
    betas = cosine_schedule(T).beta[1:]
    assert (np.diff(betas) > 0).all()
    assert (betas == 0.999).sum() == 1
    assert betas[-1] == 0.999


def test_cosine_tends_to_three_quarters_before_the_end():
    """beta_(T-1) = 1 - (1 / 2)^2 to second order: the distance to 3/4 falls at least in proportion to 1 / T."""
    distance = [abs(cosine_schedule(T).beta[T - 1] - 0.75) for T in (10, 100, 1000)]
    assert distance[1] < distance[0] / 10
    assert distance[2] < distance[1] / 10
    assert f"{cosine_schedule(1000).beta[999]:.2f}" == "0.75"


def test_cosine_keeps_a_remainder_after_clipping():
    assert f"{cosine_schedule(1000).alpha_bar[-1]:.2e}" == "2.43e-09"


@pytest.mark.parametrize("T", [1, 2, 500])
def test_sigmoid(T, mp, rounded, compared):
    """The logistic curve as a hyperbolic tangent."""
    a, b = mp.mpf(1e-4), mp.mpf(0.02)
    x = [6 * (2 * mp.mpf(t - 1) / (T - 1) - 1) if T > 1 else mp.mpf(-6) for t in range(1, T + 1)]
    want = [rounded(a + (b - a) * (1 + mp.tanh(v / 2)) / 2) for v in x]
    assert sigmoid_schedule(T).beta[1:].tolist() == want
    compared["betas of named schedules compared by equality"] += T


@pytest.mark.parametrize(("start", "end", "tau"), [(-3.0, 3.0, 1.0), (0.0, 3.0, 0.7), (-5, 2, 1)])
def test_sigmoid_alpha_bar(start, end, tau, mp, rounded, compared):
    T = 200

    def tanh(x):
        return mp.tanh(x / mp.mpf(tau) / 2)

    low, high = mp.mpf(start), mp.mpf(end)
    bar = [(tanh(high) - tanh(low + (high - low) * t / T)) / (tanh(high) - tanh(low)) for t in range(T + 1)]
    want = [rounded(min((a - b) / a, mp.mpf(0.999))) for a, b in pairwise(bar)]
    assert sigmoid_alpha_bar_schedule(T, start, end, tau).beta[1:].tolist() == want
    assert want[-1] == 0.999
    compared["betas of named schedules compared by equality"] += T


@pytest.mark.parametrize("make", [lambda: linear_schedule(200), lambda: NoiseSchedule.from_betas([1e-300, 0.5, 0.1])])
def test_zero_terminal_snr(make, oracle, rounded, compared):
    """Affine in the roots: the first root stays, the last becomes 0, ratios of differences are kept."""
    schedule = make()
    truth = oracle(schedule.beta[1:], 700)
    roots = [truth.mp.sqrt(a) for a in truth.alpha_bar[1:]]
    scaled = [roots[0] * (r - roots[-1]) / (roots[0] - roots[-1]) for r in roots]
    before = [truth.mp.mpf(1), *(r**2 for r in scaled[:-1])]
    want = [rounded((a - r**2) / a) for a, r in zip(before, scaled, strict=True)]
    got = zero_terminal_snr(schedule)
    assert got.beta[1:].tolist() == want
    assert (got.beta[1], got.beta[-1], got.alpha_bar[-1], got.snr[-1]) == (schedule.beta[1], 1.0, 0.0, 0.0)
    compared["betas of named schedules compared by equality"] += schedule.T


def test_zero_terminal_snr_is_idempotent():
    once = zero_terminal_snr(linear_schedule(50))
    assert np.array_equal(zero_terminal_snr(once).beta[1:2], once.beta[1:2])
    assert zero_terminal_snr(once).beta[-1] == 1.0
    with pytest.raises(ScheduleError, match="use T >= 2"):
        zero_terminal_snr(linear_schedule(1))


def test_from_alpha_bars(rounded):
    rng = np.random.default_rng(0)
    alpha_bars = np.sort(rng.uniform(0, 1, 50))[::-1].copy()
    exact = [Fraction(1), *map(Fraction, alpha_bars.tolist())]
    want = [rounded(1 - b / a) for a, b in pairwise(exact)]
    assert NoiseSchedule.from_alpha_bars(alpha_bars).beta[1:].tolist() == want
    assert NoiseSchedule.from_alpha_bars([0.5, 0.0]).beta.tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("tau", [0.02, 1e-300])
def test_a_logistic_curve_too_steep_for_a_schedule_is_refused(tau):
    with pytest.raises(ScheduleError, match="larger tau"):
        sigmoid_alpha_bar_schedule(50, tau=tau)
