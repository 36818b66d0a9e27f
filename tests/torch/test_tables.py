"""`Tables`: the exact columns, the steps between any two levels, conversion; and the tables that torch builds alone."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
import torch

from ddpm_ref.errors import LevelError, PrecisionError, ScheduleError
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.torch import Tables, tables
from ddpm_ref.torch.schedule import from_betas, prefix_sums
from ddpm_ref.torch.series import expm1
from ddpm_ref.torch.tables import COLUMNS

LINEAR = np.linspace(1e-4, 0.02, 300)
COSINE = np.minimum(
    1 - np.cos((np.arange(1, 301) / 300 + 0.008) / 1.008 * np.pi / 2) ** 2
    / np.cos((np.arange(300) / 300 + 0.008) / 1.008 * np.pi / 2) ** 2,
    0.999,
)  # fmt: skip
UNORDERED = np.append(np.random.default_rng(7).uniform(1e-6, 0.9, 40), 1.0)
SCHEDULES = {"linear": LINEAR, "cosine": COSINE, "unordered, zero terminal SNR": UNORDERED}

# roundings of each coefficient of a step: exp and expm1 count 2, words 0, table entries 1, every operation 1
STEP_ROUNDINGS = {
    "beta": 3,
    "alpha": 4,
    "sqrt_alpha": 4,
    "sqrt_beta": 4,
    "recip_sqrt_alpha": 4,
    "beta_tilde": 8,
    "std_tilde": 8,
    "x0_weight": 8,
    "xt_weight": 8,
    "eps_weight": 10,
}


def exact_levels(betas, exact):
    alpha_bar = [exact.mpf(1)]
    for beta in betas:
        alpha_bar.append(alpha_bar[-1] * (1 - exact.mpf(float(beta))))
    return alpha_bar


def exact_step(name, alpha_bar, t, s, exact):
    a, b_s, b_t = alpha_bar[t] / alpha_bar[s], 1 - alpha_bar[s], 1 - alpha_bar[t]
    return {
        "beta": lambda: 1 - a,
        "alpha": lambda: a,
        "sqrt_alpha": lambda: exact.sqrt(a),
        "sqrt_beta": lambda: exact.sqrt(1 - a),
        "recip_sqrt_alpha": lambda: 1 / exact.sqrt(a),
        "beta_tilde": lambda: (1 - a) * b_s / b_t,
        "std_tilde": lambda: exact.sqrt((1 - a) * b_s / b_t),
        "x0_weight": lambda: exact.sqrt(alpha_bar[s]) * (1 - a) / b_t,
        "xt_weight": lambda: exact.sqrt(a) * b_s / b_t,
        "eps_weight": lambda: (1 - a) / exact.sqrt(a * b_t),
    }[name]()


def some_pairs(T, seed=0, count=150):
    rng = np.random.default_rng(seed)
    later = rng.integers(1, T + 1, count)
    earlier = (rng.random(count) * later).astype(int)
    adjacent = np.unique(np.linspace(1, T, 100).astype(int))
    return np.concatenate([later, adjacent]), np.concatenate([earlier, adjacent - 1])


@pytest.mark.parametrize("kind", ["float64", "float32", "from_betas"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_steps_between_any_two_levels(name, kind, exact, worst):
    betas = SCHEDULES[name]
    H = from_betas(torch.tensor(betas)) if kind == "from_betas" else tables(NoiseSchedule.from_betas(betas))
    H = H.to(dtype=torch.float32) if kind == "float32" else H
    alpha_bar = exact_levels(betas, exact)
    t, s = some_pairs(len(betas))
    step = H.between(torch.tensor(t), torch.tensor(s))
    longest = 2 * int(-float(exact.log(min(level for level in alpha_bar if level))))
    ratios = {}
    for coefficient, k in STEP_ROUNDINGS.items():
        live = alpha_bar[-1] != 0 or coefficient not in ("recip_sqrt_alpha", "eps_weight")
        rows = [i for i in range(len(t)) if live or t[i] < len(betas)]
        values = [exact_step(coefficient, alpha_bar, int(t[i]), int(s[i]), exact) for i in rows]
        # rule: section 3: of rounded logarithms exp(L) errs by 2 |L| roundings, and a running product by 2 t - 1
        roundings = k + longest + len(betas) if kind == "from_betas" and "beta" not in coefficient else k
        ratios[coefficient] = worst(getattr(step, coefficient)[torch.tensor(rows)], values, values, roundings)
    assert max(ratios.values()) <= 1, ratios


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_beta_between_neighbours_is_that_of_the_schedule(dtype):
    H = tables(NoiseSchedule.from_betas(LINEAR)).to(dtype=dtype)
    t = torch.arange(1, H.T + 1)
    u = torch.finfo(dtype).eps / 2
    error = (H.between(t, t - 1).beta.double() - torch.tensor(LINEAR)).abs() / torch.tensor(LINEAR)
    assert float(error.max()) <= 3 * u  # rule: section 1, k = 3


def test_float32_words_carry_48_bits(exact):
    H = tables(NoiseSchedule.from_betas(LINEAR)).to(dtype=torch.float32)
    for t, level in enumerate(exact_levels(LINEAR, exact)):
        words = exact.mpf(float(H.log_alpha_bar_high[t])) + exact.mpf(float(H.log_alpha_bar_low[t]))
        assert abs(words - exact.log(level)) <= exact.mpf(2) ** -48 * abs(exact.log(level))


def test_columns_are_those_of_the_schedule():
    schedule = NoiseSchedule.from_betas(UNORDERED)
    H = tables(schedule)
    assert (H.T, H.dtype, H.device.type, H.zero_terminal_snr) == (len(UNORDERED), torch.float64, "cpu", True)
    for name in COLUMNS:
        column = getattr(H, name)
        assert column.shape == (H.T + 1,)
        if hasattr(schedule, name):
            assert np.array_equal(column.numpy(), getattr(schedule, name)), name
    with pytest.raises(dataclasses.FrozenInstanceError):
        H.beta = H.alpha
    for twin in (copy.deepcopy(H), pickle.loads(pickle.dumps(H))):
        assert torch.equal(twin.beta_bar, H.beta_bar)


@pytest.mark.parametrize("name", SCHEDULES)
def test_tables_built_by_torch_alone(name, exact, worst):
    betas = SCHEDULES[name]
    H, truth = from_betas(torch.tensor(betas)), tables(NoiseSchedule.from_betas(betas))
    roundings = {column: 8 for column in COLUMNS if column not in ("log_snr", "log_beta_bar", "log_alpha_bar_low")}
    products = ("alpha_bar", "sqrt_alpha_bar", "sqrt_recip_alpha_bar", "sqrt_recipm1_alpha_bar", "snr")
    roundings |= {column: 8 + 2 * len(betas) for column in (*products, "posterior_x0_weight")}  # rule: section 3
    for column, k in roundings.items():
        got, want = getattr(H, column), getattr(truth, column)
        finite = want.isfinite()
        assert torch.equal(got[~finite], want[~finite]), column
        values = [exact.mpf(float(v)) for v in want[finite]]
        assert worst(got[finite], values, [abs(v) for v in values], k) <= 1, column
    for column in ("log_snr", "log_beta_bar"):
        got, want = getattr(H, column), getattr(truth, column)
        finite = want.isfinite()
        assert torch.equal(got[~finite], want[~finite]), column
        # rule: section 3, absolute: a few roundings of log alpha_bar and of log beta_bar
        scale = 1 + truth.log_beta_bar.abs() + truth.log_alpha_bar_high.abs()
        assert bool(((got - want).abs() <= 4 * 2.0**-53 * scale)[finite].all()), column


def test_prefix_sums_are_exact_to_two_words(exact):
    terms = torch.tensor(np.log1p(-LINEAR))
    high, low = prefix_sums(terms)
    total = exact.mpf(0)
    for term, first, second in zip(terms, high, low, strict=True):
        total += exact.mpf(float(term))
        error = abs(exact.mpf(float(first)) + exact.mpf(float(second)) - total)
        assert error <= 9 * exact.mpf(2) ** -104 * abs(total)  # rule: log2(T) double-double additions


def test_expm1_as_it_is_compiled(monkeypatch, exact, worst):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    for dtype in (torch.float64, torch.float32):
        x = -torch.logspace(-12, 2, 500, dtype=dtype)
        values = [exact.expm1(exact.mpf(float(v))) for v in x]
        assert worst(expm1(x), values, [abs(v) for v in values], 5) <= 1  # sinh and exp count 2
        assert expm1(torch.tensor(-torch.inf, dtype=dtype)) == -1


def test_conversion():
    H = tables(NoiseSchedule.from_betas(LINEAR))
    short = H.to(dtype=torch.float32)
    assert short.dtype == torch.float32
    assert H.to("cpu").dtype == torch.float64
    assert H.to(torch.float32).dtype == torch.float32
    assert torch.equal(short.sqrt_alpha_bar, H.sqrt_alpha_bar.float())
    assert isinstance(H.to("meta"), Tables)


@pytest.mark.parametrize(
    "cast",
    [
        lambda H: H.half(),
        lambda H: H.bfloat16(),
        lambda H: H.to(dtype=torch.bfloat16),
        lambda H: H.to(torch.float16),
        lambda H: H.to(dtype=torch.int32),
        lambda H: H.to(dtype=torch.float32).to(dtype=torch.float64),
    ],
)
def test_refused_conversions(cast):
    with pytest.raises(PrecisionError, match=r"write|Leave"):
        cast(tables(NoiseSchedule.from_betas(LINEAR)))


def test_an_entry_that_overflows_float32_is_refused():
    steep = tables(NoiseSchedule.from_betas([1 - 1e-10] * 10))
    with pytest.raises(PrecisionError, match="overflows float32"):
        steep.to(dtype=torch.float32)


@pytest.mark.parametrize(
    ("betas", "message"),
    [
        (torch.tensor([]), "empty"),
        (torch.tensor([0.1, float("nan")]), "beta_2"),
        (torch.tensor([float("inf"), 0.1]), "beta_1"),
        (torch.tensor([0.0, 0.1]), "beta_1"),
        (torch.tensor([0.1, -0.1]), "beta_2"),
        (torch.tensor([0.1, 1.5]), "beta_2"),
        (torch.tensor([1.0, 0.5]), "only beta_T"),
        (torch.tensor(0.5), "shape"),
        (torch.full((2, 2), 0.5), "shape"),
        (torch.tensor([1, 1]), "int64"),
        (torch.tensor([0.5 + 0j]), "complex"),
        ([0.5, 0.5j], "complex128"),
        (torch.full((40000,), 0.02, dtype=torch.float64), "2\\*\\*-1022"),
    ],
)
def test_bad_betas(betas, message):
    with pytest.raises(ScheduleError, match=message):
        from_betas(betas)


def test_betas_of_other_kinds():
    assert from_betas([0.5, 1.0]).zero_terminal_snr
    assert from_betas(torch.tensor([0.5, 0.25], dtype=torch.bfloat16), device="cpu").dtype == torch.float64
    assert from_betas(torch.tensor([0.5])).T == 1


def test_between_refuses_what_is_no_step():
    H = tables(NoiseSchedule.from_betas([0.1, 0.2]))
    for t, s in ((1, 1), (1, 2), (3, 0), (0, 0), (2, -1)):
        with pytest.raises(LevelError):
            H.between(t, s)
