"""Plans: every coefficient equals the exact number rounded once; a plan is the same sampler as the functions, step by step."""

from fractions import Fraction

import numpy as np
import pytest

from ddpm_ref.arithmetic.exact import Undecided, root_difference
from ddpm_ref.errors import RangeError, ScheduleError
from ddpm_ref.reference import ddim as steps
from ddpm_ref.reference import implicit
from ddpm_ref.reference.named_schedules import cosine_schedule, linear_schedule
from ddpm_ref.reference.plan import (
    Ascent,
    Plan,
    Threshold,
    ancestral,
    ddim,
    ddim_inversion,
    dynamic_threshold,
    staged,
)
from ddpm_ref.reference.posterior import q_posterior
from ddpm_ref.reference.prediction import eps_from_x0, x0_from_eps
from ddpm_ref.reference.reverse import model_mean_from_eps
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.reference.trajectory import Trajectory

H = linear_schedule(50)
CLIP = (-1.0, 1.0)
ETAS = (0.0, 1e-3, 0.3, 0.5, 1.0)


def random_betas(seed, low, high, T):
    return NoiseSchedule.from_betas(10 ** np.random.default_rng(seed).uniform(low, high, T))


SCHEDULES = {
    "linear, T = 1000": lambda: linear_schedule(1000),
    "cosine, T = 1000": lambda: cosine_schedule(1000),
    "unordered": lambda: random_betas(1, -8, -0.05, 120),
    "tiny": lambda: random_betas(2, -18, -9, 40),
    "tiny and large": lambda: random_betas(3, -30, -0.1, 30),
    "T = 1": lambda: NoiseSchedule.from_betas([0.3]),
    "T = 2": lambda: NoiseSchedule.from_betas([1e-4, 1.2e-4]),
    "decreasing": lambda: NoiseSchedule.from_betas(np.linspace(0.5, 1e-8, 60)),
}


def trajectories(T):
    """Every level, odd strides, one step."""
    every = Trajectory(tuple(range(T, -1, -1)))
    strides = [Trajectory((*range(T, 0, -stride), 0)) for stride in (7, 20) if stride < T]
    return [every, *strides, Trajectory((T, 0))]


def exact_row(truth, t, s, eta):
    """The coefficients by the papers' formulas, cancelling in a hundred digits of which at least sixty are left."""
    sqrt, e = truth.mp.sqrt, truth.between(t, s)
    at, as_ = truth.alpha_bar[t], truth.alpha_bar[s]
    square = truth.mp.mpf(eta) ** 2 * e["beta_tilde"]
    left = 1 - as_ - square if s else truth.mp.mpf(0)
    direction = sqrt(left)
    return {
        "x": e["recip_sqrt_alpha"],
        "eps": direction - sqrt((1 - at) / e["alpha"]) if at else None,
        "std": sqrt(square),
        "xt": sqrt(left / (1 - at)),
        "x0": sqrt(as_) - sqrt(at * left / (1 - at)),
        "direction": direction,
        "signal": sqrt(as_),
        "rise": sqrt(1 - at) - sqrt(e["alpha"] * (1 - as_)),
        "kept": e["sqrt_alpha"],
    }


@pytest.mark.parametrize("name", SCHEDULES)
def test_rows_of_ddim_are_the_exact_numbers_rounded_once(name, oracle, rounded, compared):
    schedule = SCHEDULES[name]()
    truth = oracle(schedule.beta[1:], 160)
    for walk in trajectories(schedule.T):
        # every level of a long chain with two etas, the others on its strides
        for eta in ETAS if walk.steps < 200 else (0.0, 0.3):
            plans = {"eps": ddim(schedule, walk, eta), "x0": ddim(schedule, walk, eta, form="x0")}
            plans["raw"] = ddim(schedule, walk, eta, CLIP, rederive_eps=False)
            for i, (t, s) in enumerate(walk.pairs()):
                exact = {k: rounded(v) for k, v in exact_row(truth, t, s, eta).items()}
                wanted = {
                    "eps": [exact["x"], exact["eps"], exact["std"]],
                    "x0": [exact["xt"], exact["x0"], exact["std"]],
                    "raw": [0.0, exact["signal"], exact["std"]],
                }
                for form, plan in plans.items():
                    assert [plan.x[i], plan.prediction[i], plan.noise[i]] == wanted[form], (form, eta, t, s)
                assert plans["raw"].eps[i] == exact["direction"]
                compared["plan coefficients compared by equality"] += 10


def test_rows_of_the_inversion_are_the_exact_numbers_rounded_once(oracle, rounded, compared):
    for name in ("linear, T = 1000", "unordered", "tiny"):
        schedule = SCHEDULES[name]()
        truth, walk = oracle(schedule.beta[1:], 160), schedule.trajectory(min(schedule.T, 90))
        up = ddim_inversion(schedule, walk)
        for i, (s, t) in enumerate(up.trajectory.pairs()):
            exact = exact_row(truth, t, s, 0.0)
            assert [up.x[i], up.prediction[i]] == [rounded(exact["kept"]), rounded(exact["rise"])]
        compared["plan coefficients compared by equality"] += 2 * len(up)


@pytest.mark.parametrize("variance", ["posterior", "fixed_small", "beta", "fixed_large"])
@pytest.mark.parametrize("count", [1, 7, 50])
def test_rows_of_ancestral_sampling_are_exact_entries(count, variance, oracle, rounded, compared):
    truth, trajectory = oracle(H.beta[1:]), H.trajectory(count)
    eps, x0 = (ancestral(H, trajectory, variance, "variance", clip) for clip in (None, CLIP))
    deviation = "std_tilde" if variance in ("posterior", "fixed_small") else "sqrt_beta"
    for i, (t, s) in enumerate(trajectory.pairs()):
        e = truth.between(t, s)
        row = [eps.x[i], -eps.prediction[i], eps.noise[i], x0.x[i], x0.prediction[i], x0.noise[i]]
        names = ("recip_sqrt_alpha", "eps_weight", deviation, "xt_weight", "x0_weight", deviation)
        assert row == [rounded(e[name]) for name in names]
    compared["plan coefficients compared by equality"] += 6 * count
    assert (eps.form, x0.form, x0.clip, len(eps)) == ("eps", "x0", CLIP, count)
    assert np.array_equal(ancestral(H, trajectory, variance, form="x0").x, x0.x)


@pytest.mark.parametrize("name", [*SCHEDULES, "zero terminal SNR"])
def test_eta_one_is_ancestral_sampling_bit_for_bit(name):
    zero = name == "zero terminal SNR"
    schedule = NoiseSchedule.from_betas([1e-4, 0.3, 0.5, 1.0]) if zero else SCHEDULES[name]()
    for walk in trajectories(schedule.T):
        for options in [{"form": "x0"}, {"clip": CLIP}, {"threshold": Threshold()}] + [{}] * (not zero):
            one, other = ddim(schedule, walk, 1.0, **options), ancestral(schedule, walk, **options)
            for column in ("x", "prediction", "noise"):
                assert np.array_equal(getattr(one, column), getattr(other, column)), (column, options)
            assert (one.form, one.clip, one.threshold) == (other.form, other.clip, other.threshold)


def test_level_zero_is_exact():
    for schedule in (H, NoiseSchedule.from_betas([0.1, 1.0]), random_betas(4, -300, -200, 3)):
        for eta in ETAS:
            last = list(ddim(schedule, schedule.trajectory(schedule.T), eta, form="x0").rows())[-1]
            assert last == (1, 0, 0.0, 1.0, 0.0)
            raw = ddim(schedule, schedule.trajectory(1), eta, CLIP, rederive_eps=False)
            assert (raw.x[-1], raw.prediction[-1], raw.noise[-1], raw.eps[-1]) == (0.0, 1.0, 0.0, 0.0)


# --- what enclosures cannot decide ------------------------------------------------------------------------------------


def test_ties_and_rational_differences_are_decided(mp, rounded):
    assert root_difference((1, 4), (1, 16)) == 0.25
    tie = Fraction(2**53 + 1, 2**53)
    one = (tie.numerator**2, tie.denominator**2)
    assert root_difference(one, (0, 1)) == 1.0  # half to even
    above = ((one[0] << 4000) + 1, one[1] << 4000)
    below = ((one[0] << 4000) - 1, one[1] << 4000)
    assert root_difference(above, (0, 1)) == 1 + 2**-52
    assert root_difference(below, (0, 1)) == 1.0
    # of two irrational roots a hundred and twenty decimals cancel
    near = ((2 << 400) + 1, 1 << 400)
    wide = mp.clone()
    wide.dps = 300
    assert root_difference(near, (2, 1)) == rounded(wide.sqrt(wide.mpf(2) + wide.mpf(2) ** -400) - wide.sqrt(2))


def test_enclosures_and_exact_integers_agree(monkeypatch):
    """The fallback by itself gives every coefficient of a short chain, ties of dyadic betas included."""
    schedules = [
        NoiseSchedule.from_betas([0.75, 0.75]),
        random_betas(5, -8, -0.1, 12),
        NoiseSchedule.from_betas([0.5] * 6),
    ]
    names = list(implicit.ENTRIES)
    t, s = (9, 9, 4, 1), (8, 2, 0, 0)
    for schedule in schedules:
        pairs = [(a, b) for a, b in zip(t, s, strict=True) if a <= schedule.T] + [(2, 1), (2, 0)]
        for eta in ETAS:
            fast = implicit.columns(schedule.products, names, *zip(*pairs, strict=True), eta)
            with monkeypatch.context() as patched:
                patched.setattr(type(schedule.products), "factors", _refused)
                slow = implicit.columns(schedule.products, names, *zip(*pairs, strict=True), eta)
            assert np.array_equal(fast, slow)


def _refused(*_):
    raise Undecided("planted")


def test_planted_less_certainty_falls_back_and_changes_nothing(monkeypatch):
    want = implicit.columns(H.products, list(implicit.ENTRIES), range(1, 51), range(50), 0.3)
    factors = type(H.products).factors
    monkeypatch.setattr(type(H.products), "factors", lambda *args: (factors(*args)[0], 57))
    called = []
    exact = type(H.products).exact_factors
    monkeypatch.setattr(type(H.products), "exact_factors", lambda *args: called.append(args) or exact(*args))
    assert np.array_equal(implicit.columns(H.products, list(implicit.ENTRIES), range(1, 51), range(50), 0.3), want)
    assert called


def test_planted_differences_of_rounded_roots_are_not_good_enough():
    """The comparison can fail: the paper's formula in float64 is wrong in nearly every row."""
    schedule = linear_schedule(1000)
    walk = schedule.trajectory(1000)
    step = schedule.between(walk.levels[:-1], walk.levels[1:])
    naive = schedule.sqrt_beta_bar[step.s] - schedule.sqrt_beta_bar[step.t] * step.recip_sqrt_alpha
    assert (naive != ddim(schedule, walk).prediction).sum() > 900


# --- plans and functions ----------------------------------------------------------------------------------------------


def test_a_plan_does_what_the_functions_do():
    x, y, z = np.random.default_rng(0).standard_normal((3, 5))
    plan = ancestral(H, H.trajectory(9))
    for t, s, a, b, _ in plan.rows():
        assert np.array_equal(a * x + b * y, model_mean_from_eps(H, x, t, s, y))
    for t, s, a, b, _ in ancestral(H, H.trajectory(9), clip=CLIP).rows():
        assert np.array_equal(b * y + a * x, q_posterior(H, y, x, t, s)[0])
    for t, s, a, b, c in ddim(H, H.trajectory(9), 0.3).rows():
        assert np.array_equal(a * x + b * y + c * z, steps.ddim_step_from_eps(H, x, t, s, y, z, 0.3))
    for t, s, a, b, c in ddim(H, H.trajectory(9), 0.3, CLIP).rows():
        assert np.array_equal(b * y + a * x + c * z, steps.ddim_step_from_x0(H, x, t, s, y, z, 0.3))
    raw = ddim(H, H.trajectory(9), 0.3, CLIP, rederive_eps=False)
    for (t, s, a, b, c), d in zip(raw.rows(), raw.eps, strict=True):
        assert a == 0
        assert np.array_equal(b * x + d * y + c * z, steps.ddim_step(H, x, y, t, s, z, 0.3))
    for s, t, a, b, _ in ddim_inversion(H, H.trajectory(9)).rows():
        assert np.array_equal(a * x + b * y, steps.ddim_inversion_step(H, x, t, s, y))


def test_clipping_tells_the_raw_noise_from_the_rederived():
    """With eps re-derived from the clipped x0 a step is DDIM of that x0; with the network's own it is not."""
    x, eps = np.array([[2.0, -1.5]]), np.array([[0.1, 0.4]])
    rederived, raw = (ddim(H, H.trajectory(5), 0.0, CLIP, rederive_eps=flag) for flag in (True, False))
    t, s = next(rederived.trajectory.pairs())
    x0 = staged(rederived, x0_from_eps(H, x, t, eps))
    assert not np.array_equal(x0, x0_from_eps(H, x, t, eps))
    implied = eps_from_x0(H, x, t, x0)
    one = rederived.x[0] * x + rederived.prediction[0] * x0
    other = raw.x[0] * x + raw.prediction[0] * x0 + raw.eps[0] * eps
    u, scale = 2.0**-53, np.abs(x) + np.abs(implied) + 1  # rule: section 1 of the numerics, k = 16
    assert (np.abs(one - steps.ddim_step(H, x0, implied, t, s)) <= 16 * u * scale).all()
    assert (np.abs(one - other) > 0.1).any()
    assert (rederived.rederive_eps, raw.rederive_eps) == (True, False)
    assert ddim(H, H.trajectory(5), rederive_eps=False).rederive_eps  # without a stage it is the same


def test_inversion_undoes_ddim_while_the_prediction_stays():
    down, up = ddim(H, H.trajectory(9)), ddim_inversion(H, H.trajectory(9))
    x = start = np.array([0.7, -1.3])
    eps, size = np.array([0.2, -0.9]), 1.0
    for _, _, a, b, _ in down.rows():
        x, size = a * x + b * eps, a * size + abs(b)
    assert up.trajectory.levels == down.trajectory.levels[::-1]
    for _, _, a, b, _ in up.rows():
        x = a * x + b * eps
    assert (np.abs(x - start) <= 2.0**-53 * 3 * 18 * (size + 2)).all()  # rule: section 4, eighteen steps of k = 3


def test_inversion_asks_at_the_level_it_stands_on():
    up = ddim_inversion(H, (50, 20, 3, 0))
    assert list(up.trajectory.pairs()) == [(0, 3), (3, 20), (20, 50)]
    assert up.asked == (3, 3, 20)
    assert ddim(H, (50, 20, 3, 0)).asked == (50, 20, 3)
    assert up.affine
    assert not up.noise.any()
    assert (up.x[0], up.prediction[0]) == (H.sqrt_alpha_bar[3], H.sqrt_beta_bar[3])


def test_inversion_up_to_zero_terminal_snr():
    up = ddim_inversion(NoiseSchedule.from_betas([0.1, 0.3, 1.0]), (3, 2, 1, 0))
    assert (up.x[-1], up.prediction[-1]) == (0.0, 1.0)


# --- last step and stages ---------------------------------------------------------------------------------------------


def test_noise_of_the_last_step():
    trajectory = H.trajectory(9)
    before = trajectory.levels[-3:-1]
    assert ancestral(H, trajectory, "beta").noise[-1] == 0
    assert ancestral(H, trajectory, "beta", "variance").noise[-1] == H.between(*(1, 0)).sqrt_beta
    assert ancestral(H, trajectory, "posterior", "variance").noise[-1] == 0  # beta_tilde of the step to 0
    assert ancestral(H, trajectory, "beta", "replace").noise[-1] == H.between(*before).std_tilde
    assert ancestral(H, trajectory, "beta", "replace_unstrided").noise[-1] == H.between(2, 1).std_tilde
    assert ancestral(H, trajectory, "beta", 1e-10).noise[-1] == 1e-10
    plain = ancestral(H, trajectory, "beta")
    for rule in ("variance", "replace", "replace_unstrided", 0.5):
        assert np.array_equal(ancestral(H, trajectory, "beta", rule).noise[:-1], plain.noise[:-1])


def test_dynamic_threshold():
    rng = np.random.default_rng(3)
    x = rng.normal(0, 3, (4, 3, 5, 5))
    for percentile in (50.0, 90.0, 99.5, 100.0):
        got = dynamic_threshold(x, percentile)
        for sample, one in zip(x, got, strict=True):
            radius = max(1.0, np.quantile(np.abs(sample), percentile / 100))
            want = np.clip(sample, -radius, radius) / radius
            assert (
                np.abs(one - want) <= 2.0**-53 * 8 * (1 + 75)
            ).all()  # rule: section 1, k = 8; the position is below 75
        assert np.abs(got).max() <= 1
    small = rng.uniform(-1, 1, (2, 9))
    assert np.array_equal(dynamic_threshold(small), small)
    assert np.array_equal(dynamic_threshold(x, 100, maximum=1.0), np.clip(x, -1, 1))
    assert np.array_equal(dynamic_threshold(x, 100, maximum=2), np.clip(x, -2, 2) / 2)
    assert dynamic_threshold(np.zeros((0, 3))).shape == (0, 3)


def test_stages_of_a_plan():
    x0 = np.array([[0.5, -3.0], [0.1, 0.2]])
    walk = H.trajectory(5)
    assert np.array_equal(staged(ddim(H, walk), x0), x0)
    assert np.array_equal(staged(ddim(H, walk, clip=(-2.0, 0.25)), x0), [[0.25, -2.0], [0.1, 0.2]])
    plan = ddim(H, walk, 0.5, threshold=Threshold(100))
    assert np.array_equal(staged(plan, x0), dynamic_threshold(x0, 100))
    assert (plan.affine, plan.form, plan.threshold.maximum) == (False, "x0", float("inf"))
    assert ddim(H, walk, form="x0").affine


def test_columns_are_read_only():
    plan = ancestral(H, H.trajectory(3))
    raw = ddim(H, H.trajectory(3), 0.5, CLIP, rederive_eps=False)
    for column in (plan.x, plan.prediction, plan.noise, raw.eps, raw.x):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1


def test_zero_terminal_snr():
    end = NoiseSchedule.from_betas([0.1, 0.3, 1.0])
    for make in (ancestral, ddim):
        with pytest.raises(RangeError, match=r"zero terminal SNR.*write form='x0', or pass clip=\(-1.0, 1.0\)"):
            make(end, end.trajectory(3))
        assert make(end, end.trajectory(3), clip=CLIP).x[0] == (0 if make is ancestral else end.sqrt_beta_bar[2])
        assert make(end, (2, 1, 0)).form == "eps"
    row = next(ddim(end, (3, 2, 0), 0.5, form="x0").rows())
    assert row[3] == end.sqrt_alpha_bar[2]


WALK = H.trajectory(3)
COLUMNS = (np.ones(3), np.ones(3), np.ones(3))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ancestral(H, Trajectory((51, 0))), ScheduleError, "starts at level 51, above T = 50"),
        (lambda: ddim(H, (51, 3, 0)), ScheduleError, "starts at level 51, above T = 50"),
        (lambda: ddim_inversion(H, (51, 3, 0)), ScheduleError, "starts at level 51, above T = 50"),
        (lambda: ddim(H, (50, 3)), ScheduleError, "strictly descending order that end with 0"),
        (lambda: ddim(H, (0, 3, 50)), ScheduleError, "strictly descending order that end with 0"),
        (lambda: ddim(H, (50, -1, 0)), ScheduleError, "strictly descending order that end with 0"),
        (lambda: ddim(H, ()), ScheduleError, "strictly descending order that end with 0"),
        (lambda: H.trajectory(0), ScheduleError, "steps = 0 must be a whole number from 1 to T = 50"),
        (lambda: H.trajectory(51), ScheduleError, "steps = 51 must be a whole number from 1 to T = 50"),
        (lambda: Ascent((0, 3, 2)), ScheduleError, "strictly descending"),
        (lambda: ancestral(H, WALK, "guessed"), RangeError, "variance = 'guessed' is not known; write one of"),
        (
            lambda: ancestral(H, WALK, "beta", "some"),
            RangeError,
            "last_noise = 'some' is not known; write one of none,",
        ),
        (lambda: ancestral(H, WALK, "beta", -0.1), RangeError, "last_noise = -0.1; a standard deviation is a finite"),
        (lambda: ancestral(H, WALK, "beta", float("nan")), RangeError, "last_noise = nan"),
        (lambda: ancestral(H, (9, 0), "beta", "replace"), ScheduleError, r"the chain \(9, 0\) has one step"),
        (lambda: ancestral(H, WALK, clip=(1.0, -1.0)), RangeError, r"clip = \(1.0, -1.0\)"),
        (lambda: ddim(H, WALK, clip=(0.0, float("nan"))), RangeError, "clipping needs low < high"),
        (lambda: ddim(H, WALK, clip=CLIP, threshold=Threshold()), RangeError, "both given.*choose one"),
        (lambda: ddim(H, WALK, clip=CLIP, form="eps"), RangeError, "form = 'eps' with clipping"),
        (lambda: ddim(H, WALK, form="v"), RangeError, "form = 'v' is not known; write 'eps' or 'x0'"),
        (lambda: ddim(H, WALK, 1.1), RangeError, r"eta = 1.1; it is a number in \[0, 1\]"),
        (lambda: ddim(H, WALK, -1e-9), RangeError, "eta = -1e-09; it is a number"),
        (lambda: ddim(H, WALK, float("nan")), RangeError, "eta = nan; it is a number"),
        (lambda: ddim(H, WALK, True), RangeError, "eta = True; it is a number"),
        (lambda: Threshold(0.995), RangeError, "it is in percent: write 99.5"),
        (lambda: Threshold(101), RangeError, r"percentile = 101 lies outside \(1, 100\]"),
        (lambda: Threshold(99.5, 0.5), RangeError, "maximum = 0.5 is below 1"),
        (lambda: Plan(H, WALK, "eps", np.ones(2), np.ones(3), np.ones(3)), ScheduleError, r"shape \(2,\) for 3 steps"),
        (lambda: Plan(H, WALK, "eps", np.full(3, np.inf), np.ones(3), np.ones(3)), ScheduleError, "column with inf"),
        (lambda: Plan(H, Trajectory((60, 3, 1, 0)), "eps", *COLUMNS), ScheduleError, "has level 60, above T = 50"),
        (lambda: Plan(H, WALK, "eps", *COLUMNS, CLIP), RangeError, "a plan with a stage needs form 'x0'"),
        (lambda: Plan(H, WALK, "x0", *COLUMNS, eps=np.ones(3)), RangeError, "pass clip or threshold"),
    ],
)
def test_plans_that_cannot_be_made(call, error, words):
    with pytest.raises(error, match=words):
        call()
