"""Every table entry equals the 60-digit value rounded once; logarithms lie within one ulp. Equality needs no tolerance."""

import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from ddpm_ref.arithmetic import Undecided, exact, ulp_distance
from ddpm_ref.errors import ScheduleError
from ddpm_ref.reference import products
from ddpm_ref.reference.named_schedules import cosine_schedule, linear_schedule
from ddpm_ref.reference.schedule import NoiseSchedule

LOGARITHMS = ("log_alpha_bar", "log_beta_bar", "log_snr")
TABLES = (
    "alpha", "beta", "alpha_bar", "beta_bar", "beta_tilde", "sqrt_alpha_bar", "sqrt_beta_bar", "snr", "sqrt_recip_alpha_bar",
    "sqrt_recipm1_alpha_bar", "sqrt_alpha", "sqrt_beta", "recip_sqrt_alpha", "eps_weight", "posterior_x0_weight",
    "posterior_xt_weight", "noise_share",
)  # fmt: skip
PAIRS = (
    "alpha", "beta", "beta_tilde", "sqrt_alpha", "sqrt_beta", "std_tilde", "recip_sqrt_alpha", "x0_weight", "xt_weight",
    "eps_weight", "reverse_variance_bound",
)  # fmt: skip


@pytest.fixture
def compare(oracle, rounded, compared):
    """Counts the entries of a schedule that differ from the oracle's."""

    def run(schedule, levels=None, names=TABLES, logarithms=True, pairs=60, digits=100, planted=""):
        truth = oracle(schedule.beta[1:], digits)
        levels = range(schedule.T + 1) if levels is None else levels
        unequal = _tables(schedule, truth, levels, names, planted)
        if logarithms:
            assert _logarithms(schedule, truth, levels) == []
        return unequal + _pairs(schedule, truth, pairs)

    def _tables(schedule, truth, levels, names, planted):
        wrong = []
        for t in levels:
            entries = truth.level(t)
            assert set(entries) == set(TABLES)
            for name in names:
                if getattr(schedule, name)[t] != rounded(entries[name]):
                    wrong.append((name, t))
        compared["table entries compared by equality"] += len(levels) * len(names)
        compared["table entries unequal" + planted] += len(wrong)
        return wrong

    def _logarithms(schedule, truth, levels):
        levels = [t for t in levels if t > 0]
        values = [truth.logarithms(t) for t in levels]
        wrong = []
        for name in LOGARITHMS:
            distance = ulp_distance(getattr(schedule, name)[levels], [rounded(value[name]) for value in values])
            compared["logarithms compared"] += distance.size
            compared["logarithms one ulp off"] += int((distance == 1).sum())
            wrong += [(name, levels[i]) for i in np.flatnonzero(distance > 1)]
        return wrong

    def _pairs(schedule, truth, count):
        if schedule.T == 1:
            t, s = np.array([1]), np.array([0])
        else:
            both = np.random.default_rng(schedule.T).integers(0, schedule.T + 1, (4 * count, 2))
            both = np.concatenate([both[both[:, 0] != both[:, 1]][:count], [[schedule.T, 0], [schedule.T, 1], [1, 0]]])
            t, s = both.max(1), both.min(1)
        step = schedule.between(t, s)
        wrong = []
        for i, (a, b) in enumerate(zip(t.tolist(), s.tolist(), strict=True)):
            entries = truth.between(a, b)
            assert set(entries) == set(PAIRS)
            wrong += [(name, a, b) for name in PAIRS if getattr(step, name)[i] != rounded(entries[name])]
        compared["entries of between(t, s) compared by equality"] += len(t) * len(PAIRS)
        compared["entries of between(t, s) unequal"] += len(wrong)
        return wrong

    return run


RANDOM = np.random.default_rng(5)
SCHEDULES = {
    "linear, T = 1": lambda: linear_schedule(1),
    "linear, T = 2": lambda: linear_schedule(2),
    "linear, T = 10": lambda: linear_schedule(10),
    "linear, T = 1000": lambda: linear_schedule(1000),
    "cosine, T = 1000": lambda: cosine_schedule(1000),
    "1e-8 to 0.999": lambda: NoiseSchedule.from_betas(10 ** np.linspace(-8, np.log10(0.999), 120)),
    "unordered": lambda: NoiseSchedule.from_betas(10 ** np.random.default_rng(6).uniform(-8, -0.01, 300)),
    "decreasing to a small beta": lambda: NoiseSchedule.from_betas(np.linspace(0.5, 1e-8, 200)),
    "zero terminal SNR": lambda: NoiseSchedule.from_betas(np.append(np.linspace(1e-4, 0.2, 60), 1.0)),
    "beta_1 = 1": lambda: NoiseSchedule.from_betas([1.0]),
    "crossing SNR = 1 closely": lambda: NoiseSchedule.from_betas([0.5 - 2**-40, 2.0**-39, 2.0**-39, 1e-9, 0.3]),
    "exactly SNR = 1": lambda: NoiseSchedule.from_betas([0.5, 0.25, 1 / 3]),
    "near underflow": lambda: NoiseSchedule.from_betas([0.9] * 306),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_table_at_every_level(name, compare):
    assert compare(SCHEDULES[name](), digits=350 if name == "near underflow" else 100) == []


@pytest.mark.parametrize("betas", [[1e-300] * 5, [1e-300, 0.5, 1e-300, 0.999], [5e-324] * 4, [5e-324, 0.25, 5e-324]])
def test_betas_at_the_edge_of_float64(betas, compare):
    """The SNR of a subnormal beta exceeds float64 and is infinity; all other entries stay finite and equal."""
    assert compare(NoiseSchedule.from_betas(betas), digits=2700) == []


def test_t_4000(compare):
    levels = range(4001)
    for schedule in (linear_schedule(4000), cosine_schedule(4000)):
        assert compare(schedule, levels, names=("alpha_bar", "beta_bar"), logarithms=False, pairs=20) == []


@pytest.mark.full
@pytest.mark.parametrize("make", [linear_schedule, cosine_schedule])
def test_every_table_of_t_4000(make, compare):
    assert compare(make(4000), pairs=500) == []


@pytest.mark.full
def test_every_table_of_t_100000_with_scaled_ends(compare):
    schedule = linear_schedule(100_000, scale_ends=True)
    assert compare(schedule, names=("alpha_bar", "beta_bar"), logarithms=False, pairs=300) == []
    assert compare(schedule, range(0, 100_001, 10), pairs=0) == []


@pytest.mark.full
def test_many_random_schedules(compare):
    rng = np.random.default_rng(7)
    for _ in range(60):
        T = int(rng.integers(1, 400))
        betas = 10 ** rng.uniform(rng.uniform(-16, -0.1), -0.01, T)
        betas = betas[: np.argmin(np.append(np.cumsum(np.log1p(-betas)), -np.inf) > -700)]  # before it underflows
        assert compare(NoiseSchedule.from_betas(betas), pairs=100, digits=140) == []


# Dyadic betas make entries that lie exactly between two float64; fractions are then the oracle.
DYADIC = {
    "1 - 3 * 2**-54": [2.0**-54 * 3, 0.5],
    "1 - 2**-54": [2.0**-54, 2.0**-54, 0.5],
    "powers of two": [0.5, 2.0**-53, 2.0**-27, 2.0**-27, 2.0**-10, 0.25],
    "halves": [0.5] * 30,
    "squares": [0.75, 0.4375, 2.0**-54 * 5, 0.5],
}


def rational_tables(betas):
    alpha_bar = [Fraction(1)]
    for beta in betas:
        alpha_bar.append(alpha_bar[-1] * (1 - Fraction(beta)))
    return alpha_bar


def root_once(value):
    """The float64 nearest to the root of a fraction: a candidate, corrected by exact comparison of squared midpoints."""
    got = float(value) ** 0.5
    for _ in range(3):
        up, down = float(np.nextafter(got, 2e300)), float(np.nextafter(got, 0))
        upper, lower = (Fraction(got) + Fraction(up)) / 2, (Fraction(got) + Fraction(down)) / 2
        even = int(np.float64(got).view(np.int64)) % 2 == 0
        if value > upper**2 or (value == upper**2 and not even):
            got = up
        elif value < lower**2 or (value == lower**2 and not even):
            got = down
    return got


@pytest.mark.parametrize("name", DYADIC)
def test_ties_are_rounded_to_even(name, compared, rounded):
    betas = DYADIC[name]
    schedule, alpha_bar = NoiseSchedule.from_betas(betas), rational_tables(betas)
    for t in range(1, len(betas) + 1):
        at, bt = alpha_bar[t], 1 - alpha_bar[t]
        entries = {"alpha_bar": at, "beta_bar": bt, "snr": at / bt, "alpha": 1 - Fraction(betas[t - 1])}
        entries["beta_tilde"] = Fraction(betas[t - 1]) * (1 - alpha_bar[t - 1]) / bt
        for entry, value in entries.items():
            assert getattr(schedule, entry)[t] == rounded(value), (entry, t)
        roots = {"sqrt_alpha_bar": at, "sqrt_beta_bar": bt, "sqrt_recip_alpha_bar": 1 / at}
        roots["sqrt_recipm1_alpha_bar"] = bt / at
        roots["posterior_x0_weight"] = alpha_bar[t - 1] * (Fraction(betas[t - 1]) / bt) ** 2
        for entry, value in roots.items():
            assert getattr(schedule, entry)[t] == root_once(value), (entry, t)
        for s in range(t):
            step, a = schedule.between(t, s), at / alpha_bar[s]
            assert step.alpha == rounded(a)
            assert step.beta == rounded(1 - a)
            assert step.sqrt_beta == root_once(1 - a)
        compared["entries at ties compared by equality"] += len(entries) + len(roots) + 3 * t


def test_the_exact_integers_behind_ziv_are_really_used(monkeypatch):
    calls = []
    original = products.Products._exact_product
    monkeypatch.setattr(
        products.Products, "_exact_product", lambda self, s, t: calls.append((s, t)) or original(self, s, t)
    )
    schedule = NoiseSchedule.from_betas([2.0**-54, 0.5])
    assert schedule.alpha_bar[1] == 1.0  # 1 - 2**-54, a tie: to even
    assert calls
    calls.clear()
    pair = NoiseSchedule.from_betas([0.1, 1e-300, 1e-300, 0.1]).between(3, 1)
    assert pair.beta == 2e-300
    assert calls  # 1 - alpha_bar_3 / alpha_bar_1 cancels in any fixed number of bits


def tie_behind_a_long_product(factor):
    """(1 - 2**-27)(1 - factor 2**-27), a tie between two float64, after nine random betas."""
    betas = np.concatenate([np.random.default_rng(0).uniform(0.001, 0.01, 9), [2.0**-27, factor * 2.0**-27]])
    return float(NoiseSchedule.from_betas(betas).between(11, 9).alpha)


TIES = {1.0: 1 - 2.0**-26, 3.0: 1 - 2.0**-25 + 2.0**-52}  # the even neighbour lies below the first, above the second


def test_a_tie_behind_a_long_product():
    assert {factor: tie_behind_a_long_product(factor) for factor in TIES} == TIES


@pytest.mark.parametrize("k", range(20, 130, 5))
def test_nearly_a_tie_behind_a_long_product(k):
    """1 - (1 - 2**-k)(1 - 2**-(k+53)) lies below the tie by 2**-(k+53) of itself: fixed precision must know when to give up."""
    betas = np.concatenate([np.random.default_rng(0).uniform(0.001, 0.01, 9), [2.0**-k, 2.0 ** -(k + 53)]])
    assert NoiseSchedule.from_betas(betas).between(11, 9).beta == 2.0**-k


def test_planted_without_the_enclosure_a_tie_is_misjudged(monkeypatch):
    """The check above can fail: rounding the truncated quotient without Ziv's test gets some of these ties wrong."""
    monkeypatch.setattr(products, "nearest", lambda mantissa, exponent, slack=0: exact.nearest(mantissa, exponent))
    assert {factor: tie_behind_a_long_product(factor) for factor in TIES} != TIES


def test_planted_without_exact_integers_nothing_is_decided(monkeypatch):
    def refuse(*_):
        raise Undecided("planted")

    monkeypatch.setattr(products, "_collect", refuse)
    with pytest.raises(Undecided):
        tie_behind_a_long_product(1.0)


def test_planted_columns_that_ignore_doubtful_entries_are_wrong(monkeypatch):
    """At a tie the double-double value is exact and its high word rounds half to even, as the integers do; beside one it is not."""
    betas = [2.0**-54, 2.0**-110]  # alpha_bar_2 lies 2**-110 below the tie between 1 - 2**-53 and 1
    assert NoiseSchedule.from_betas(betas).alpha_bar[2] == 1 - 2.0**-53
    monkeypatch.setattr(products, "SLACK", -1.0)
    assert NoiseSchedule.from_betas(betas).alpha_bar[2] == 1.0


def test_planted_cumprod_is_not_good_enough(compare):
    """The comparison itself can fail: NumPy's own tables differ from the exact ones at most levels."""
    schedule = linear_schedule(1000)
    naive = np.cumprod(1 - schedule.beta)
    assert (naive != schedule.alpha_bar).sum() > 800
    assert (1 - naive != schedule.beta_bar).sum() > 300
    schedule.__dict__["alpha_bar"] = naive
    assert len(compare(schedule, names=("alpha_bar",), logarithms=False, planted=" (planted: cumprod)")) > 800


def test_linear_t_100000_with_default_ends_is_refused_with_the_first_level():
    with pytest.raises(ScheduleError, match="level t = 83641 of T = 100000") as error:
        linear_schedule(100_000)
    assert "scale_ends=True" in str(error.value)
    logs = np.log1p(-np.linspace(1e-4, 0.02, 100_000))  # one step moves the sum by 0.017, far more than it errs
    assert math.fsum(logs[:83_640]) > -1022 * math.log(2) > math.fsum(logs[:83_641])


def test_alpha_bar_of_exactly_the_smallest_normal_number_is_allowed():
    schedule = NoiseSchedule.from_betas([0.5] * 1022)
    assert schedule.alpha_bar[-1] == 2.0**-1022
    with pytest.raises(ScheduleError, match="level t = 1023 of T = 1023"):
        NoiseSchedule.from_betas([0.5] * 1023)


def test_two_words_of_every_entry(oracle, mp):
    """The words that judge float64 claims: right to 2**-104, twice the rounding of the second word."""
    schedule = NoiseSchedule.from_betas(np.random.default_rng(8).uniform(1e-8, 0.3, 40))
    truth = oracle(schedule.beta[1:])
    t, s = np.array([1, 7, 40, 40, 23, 40]), np.array([0, 6, 0, 39, 5, 1])
    step = schedule.between(t, s)
    for name in PAIRS:
        words = step.words(name)
        for i in range(t.size):
            value = truth.between(int(t[i]), int(s[i]))[name]
            assert abs(mp.mpf(words.high[i]) + mp.mpf(words.low[i]) - value) <= abs(value) * mp.mpf(2) ** -104
    for name in ("alpha_bar", "beta_bar", "snr", "noise_share"):
        words = schedule.words(name, t)
        for i in range(t.size):
            value = truth.level(int(t[i]))[name]
            assert abs(mp.mpf(words.high[i]) + mp.mpf(words.low[i]) - value) <= value * mp.mpf(2) ** -104


@pytest.mark.parametrize("betas", [np.linspace(1e-4, 0.02, 500), [1e-300, 0.5], [0.5, 1.0]])
def test_log_alpha_bar_in_two_words(betas, oracle):
    """Right to 2**-95: the series of the double-double logarithm."""
    schedule = NoiseSchedule.from_betas(betas)
    truth, (high, low) = oracle(betas, 700), schedule.log_alpha_bar_words
    mp = truth.mp
    assert (high[0], low[0]) == (0.0, 0.0)
    for t in range(1, schedule.T + 1):
        if truth.alpha_bar[t] == 0:
            assert (high[t], low[t]) == (-np.inf, 0.0)
            continue
        value = mp.log(truth.alpha_bar[t])
        # a second word below 1e-308 has fewer digits: 5e-324 is the last
        assert abs(mp.mpf(high[t]) + mp.mpf(low[t]) - value) <= abs(value) * mp.mpf(2) ** -95 + 4 * mp.mpf(5e-324)


STOPWATCH = """
import sys, time, tracemalloc
import numpy as np
from ddpm_ref.reference.named_schedules import linear_schedule
from ddpm_ref.reference.schedule import NoiseSchedule

T, measured, names = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
betas, best = linear_schedule(T, scale_ends=True).beta[1:], np.inf
if measured == "memory":
    tracemalloc.start()
for _ in range(1 if measured == "memory" else 3):
    start = time.perf_counter()
    schedule = NoiseSchedule.from_betas(betas)
    for name in names:
        getattr(schedule, name)
    best = min(best, time.perf_counter() - start)
print(tracemalloc.get_traced_memory()[1] if measured == "memory" else best)
"""


def in_a_fresh_interpreter(T, measured, names):
    """Without the run-time type checks that the tests install, which cost more than the tables."""
    command = [sys.executable, "-c", STOPWATCH, str(T), measured, *names]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.full
def test_time_and_memory(capsys):
    """Times are printed, not asserted: cores shared with others are no place for a stopwatch. Memory is O(T)."""
    goals = {1000: "10 ms and 30 ms", 100_000: "0.6 s and 3 s"}
    with capsys.disabled():
        print()
        for T, goal in goals.items():
            first = in_a_fresh_interpreter(T, "time", ("alpha_bar", "beta_bar"))
            tables, logs = in_a_fresh_interpreter(T, "time", TABLES), in_a_fresh_interpreter(T, "time", LOGARITHMS)
            print(
                f"T = {T}: alpha_bar and beta_bar {first:.4f} s, all tables {tables:.4f} s (goals {goal}), logs {logs:.4f} s"
            )
        small, large = (in_a_fresh_interpreter(T, "memory", (*TABLES, *LOGARITHMS)) / T for T in (2000, 20_000))
        print(f"peak memory: {small:.0f} bytes a level at T = 2000, {large:.0f} at T = 20000")
    assert large < 2 * small  # rule: O(T), not a tolerance
