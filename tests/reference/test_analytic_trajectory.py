"""Optimal trajectories: least among all, what the cost means, and the variant of the authors' code."""

import itertools
import math
import time

import numpy as np
import pytest

from ddpm_ref.errors import LevelError, RangeError, ScheduleError, ShapeError
from ddpm_ref.reference import analytic, plan
from ddpm_ref.reference.analytic.shortest import shortest_paths
from ddpm_ref.reference.divergence import kl_normal
from ddpm_ref.reference.named_schedules import cosine_schedule, linear_schedule, zero_terminal_snr
from ddpm_ref.reference.oracle import Finite, Gaussian, Mixture, sample_density
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.reference.trajectory import Trajectory

LIN1000 = linear_schedule(1000)
BIMODAL = Mixture([0.5, 0.5], [-1.0, 1.0], [0.0625, 0.0625])


def unknown_of(data, schedule):
    t = np.arange(1, schedule.T + 1)
    floor = data.loss_floor(schedule, t)
    return np.append(np.nan, analytic.sigma_hat_squared_from_residual(schedule, t, floor))


def random_schedule(seed, T):
    return NoiseSchedule.from_betas(10 ** np.random.default_rng(seed).uniform(-4, -0.3, T))


SHORT = {
    "linear": lambda: linear_schedule(9, 0.01, 0.4),
    "cosine": lambda: cosine_schedule(9),
    "unordered": lambda: random_schedule(1, 9),
    "T = 2": lambda: NoiseSchedule.from_betas([0.1, 0.5]),
    "zero terminal SNR": lambda: zero_terminal_snr(linear_schedule(8, 0.01, 0.4)),
}


def all_walks(T, K):
    for between in itertools.combinations(range(2, T), K - 2):
        yield (*reversed((1, *between, T)), 0)


@pytest.mark.parametrize("eta", [1.0, 0.4])
@pytest.mark.parametrize("name", SHORT)
def test_the_optimum_is_the_least_of_all(name, eta):
    schedule, rng = SHORT[name](), np.random.default_rng(3)
    for v in (rng.uniform(0, 1, schedule.T + 1), np.sort(rng.uniform(0, 2, schedule.T + 1)), np.zeros(schedule.T + 1)):
        for K in range(2, schedule.T + 1):
            best = analytic.optimal_trajectory(schedule, v, K, eta)
            costs = {walk: analytic.path_cost(schedule, walk, v, eta) for walk in all_walks(schedule.T, K)}
            assert best.trajectory.levels in costs
            assert best.cost == costs[best.trajectory.levels]
            # rule: section 4 of the numerics, a sum of K costs of k = 16 each
            assert best.cost <= min(costs.values()) + 16 * K * 2.0**-53 * max(costs.values())
            assert len(best.trajectory) == K + 1


def test_planted_longest_path_is_told_from_the_shortest(monkeypatch):
    """The comparison can fail."""
    schedule, v = SHORT["linear"](), np.random.default_rng(3).uniform(0, 1, 10)
    best = analytic.optimal_trajectory(schedule, v, 4).cost
    monkeypatch.setattr(np, "argmin", lambda a, axis=None: np.where(np.isinf(a), -1, a).argmax(axis=axis))
    assert analytic.optimal_trajectory(schedule, v, 4).cost > 1.1 * best


def test_all_levels_and_one_after_another():
    schedule, v = SHORT["unordered"](), np.linspace(0.1, 1, 10)
    assert analytic.optimal_trajectory(schedule, v, 9).trajectory.levels == tuple(range(9, -1, -1))
    together = analytic.optimal_trajectories(schedule, v, [5, 2, 9, 5])
    assert together == [analytic.optimal_trajectory(schedule, v, K) for K in (5, 2, 9, 5)]
    assert shortest_paths(np.zeros((1, 1)), [1]) == [[0]]
    single = analytic.optimal_trajectory(NoiseSchedule.from_betas([0.3]), [np.nan, np.nan], 1)
    assert (single.trajectory.levels, single.cost, single.nats_per_dimension) == ((1, 0), 0.0, 0.0)


def test_more_levels_cost_no_more():
    """A level between two others splits their step into two that cost no more: the bound can only get better."""
    v = unknown_of(BIMODAL, linear_schedule(60))
    costs = [path.cost for path in analytic.optimal_trajectories(linear_schedule(60), v, range(2, 61))]
    assert (np.diff(costs) <= 1e-14).all()  # rule: K costs of k = 16 each, their sum about 2


def test_a_thousand_levels_a_hundred_nodes_in_under_a_second():
    v = np.append(np.nan, LIN1000.beta_bar[1:] / (1 + LIN1000.snr[1:]) / 2)
    began = time.process_time()
    best = analytic.optimal_trajectory(LIN1000, v, 100)
    assert time.process_time() - began < 1
    assert best.trajectory.steps == 100
    assert best.cost < analytic.path_cost(LIN1000, LIN1000.trajectory(100), v)


# --- what the cost means ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [1.0, 0.5, 0.01])
def test_a_step_costs_the_logarithm_of_two_variances(eta):
    for schedule in (linear_schedule(50), cosine_schedule(50), random_schedule(5, 20)):
        rng = np.random.default_rng(0)
        t = rng.integers(2, schedule.T + 1, 200)
        s = rng.integers(1, t)
        v = rng.uniform(0, 2, 200)
        wanted = np.log(
            analytic.analytic_variance(schedule, t, s, v, eta) / analytic.analytic_variance(schedule, t, s, 0.0, eta)
        )
        got = analytic.step_cost(schedule, t, s, v, eta)
        assert (
            np.abs(got - wanted) <= 16 * 2.0**-53 * (1 + wanted)
        ).all()  # rule: k = 16; a logarithm near 0 is absolute
        assert (got >= 0).all()
        plain = analytic.step_cost(schedule, t, s, v, 1.0)
        ratio = schedule.snr[s] - schedule.snr[t]
        cancelled = 2.0**-52 * schedule.snr[s]  # what the plain difference loses
        assert (np.abs(np.expm1(plain) - ratio * v) <= 32 * 2.0**-53 * (1 + ratio * v) + cancelled * v).all()


def test_every_trajectory_costs_the_same_on_isotropic_normal_data():
    """There the reverse kernels are normal themselves, so that no step loses anything whatever its length."""
    v = unknown_of(Gaussian(0.3, 0.25), LIN1000)
    costs = [analytic.path_cost(LIN1000, LIN1000.trajectory(K), v) for K in (2, 10, 100, 1000)]
    telescoped = math.log((1 + 0.25 * LIN1000.snr[1]) / (1 + 0.25 * LIN1000.snr[1000]))
    assert costs == pytest.approx([telescoped] * 4, rel=1000 * 2.0**-53)  # rule: at most 1000 costs


def path_divergence(schedule, walk, data, unknown, eta):
    """D(q(x_0, x_tau) || p) without the steps' closed form: the expected divergence of every step, by quadrature, and the ends."""
    made = plan.analytic(schedule, walk, unknown, eta, form="x0")
    known = plan.ddim(schedule, walk, eta, form="x0")
    total = 0.0
    for k, (t, s) in enumerate(made.trajectory.pairs()):
        if s == 0:
            continue
        # given x_t and x_0 both laws are normal, and x_0 - E[x_0 | x_t] is all by which their means differ
        x = np.linspace(-8, 8, 40_001)
        density = np.exp(-data.nll(x[:, None], schedule, t)) * (x[1] - x[0])
        spread = data.x0_covariance(schedule, x[:, None], t)[:, 0, 0]
        mean = made.prediction[k] ** 2 * float(np.sum(density * spread))
        total += float(kl_normal(0.0, known.noise[k] ** 2, 0.0, made.noise[k] ** 2)) + mean / (2 * made.noise[k] ** 2)
    return total


@pytest.mark.parametrize("eta", [1.0, 0.5])
def test_half_the_cost_is_the_divergence_of_the_path(eta):
    schedule = linear_schedule(60, 1e-3, 0.15)
    unknown = unknown_of(BIMODAL, schedule)
    for walk in (schedule.trajectory(4), Trajectory((60, 33, 7, 2, 1, 0))):
        cost = analytic.path_cost(schedule, walk, unknown, eta)
        assert path_divergence(schedule, walk, BIMODAL, unknown, eta) == pytest.approx(
            cost / 2, rel=1e-9
        )  # rule: quadrature
        # the variance is optimal: any other makes the divergence larger
        for off in (0.8, 1.25):
            assert path_divergence(schedule, walk, BIMODAL, off * unknown, eta) > cost / 2 + 1e-4


@pytest.mark.parametrize("K", [5, 10])
def test_on_a_mixture_the_path_of_the_optimal_trajectory_is_never_farther_than_the_even_one(K):
    schedule = linear_schedule(100, scale_ends=True)
    unknown = unknown_of(BIMODAL, schedule)
    best, even = analytic.optimal_trajectory(schedule, unknown, K), schedule.trajectory(K)
    bounds = [analytic.path_cost(schedule, walk, unknown) for walk in (best.trajectory, even)]
    assert bounds[0] == best.cost <= bounds[1]
    # The divergence of the samples themselves is not ordered by it; here it happens to agree.
    made = [plan.analytic(schedule, walk, unknown, form="x0") for walk in (best.trajectory, even)]
    exact = [sample_density(rows, BIMODAL).kl() for rows in made]
    assert exact[0] < exact[1]


@pytest.mark.full
@pytest.mark.parametrize(
    "data", [BIMODAL, Mixture([0.2, 0.5, 0.3], [-0.9, 0.1, 0.8], [0.01, 0.04, 0.0025])], ids=["two", "three"]
)
@pytest.mark.parametrize("schedule", [LIN1000, cosine_schedule(1000)], ids=["linear", "cosine"])
def test_the_bound_of_the_optimal_trajectory_at_every_length(schedule, data):
    unknown = unknown_of(data, schedule)
    counts = [2, 5, 10, 25, 50, 100, 250, 999, 1000]
    for K, best in zip(counts, analytic.optimal_trajectories(schedule, unknown, counts), strict=True):
        # rule: the same path may be found for both, its costs added up in one order
        assert best.cost <= analytic.path_cost(schedule, schedule.trajectory(K), unknown)


def test_clipped_variances_are_an_option():
    schedule = linear_schedule(60, 1e-3, 0.15)
    v = unknown_of(BIMODAL, schedule)
    v[50:] = -0.1
    v[20:25] = 3.0
    with pytest.raises(RangeError, match=r"x0_variance is -0.1 at level 50 \(11 of 59 negative\)"):
        analytic.optimal_trajectory(schedule, v, 5)
    clipped, _ = analytic.clip_sigma_hat_squared(schedule, v, None, -1.5, 1.5)
    assert analytic.optimal_trajectory(schedule, v, 5, clip=(-1.5, 1.5)) == analytic.optimal_trajectory(
        schedule, clipped, 5
    )


def test_levels_that_are_not_known_are_not_visited():
    schedule = linear_schedule(60, 1e-3, 0.15)
    v = unknown_of(BIMODAL, schedule)
    v[::2] = np.nan
    v[60] = 0.5
    best = analytic.optimal_trajectory(schedule, v, 6)
    assert all(level % 2 or level in (0, 60) for level in best.trajectory.levels)
    with pytest.raises(ScheduleError, match="visits from 2 to 31 levels"):
        analytic.optimal_trajectory(schedule, v, 32)
    v[60] = np.nan
    with pytest.raises(RangeError, match="not known at level T = 60"):
        analytic.optimal_trajectory(schedule, v, 6)


# --- the variant of the authors' code ---------------------------------------------------------------------------------


def test_without_an_energy_above_one_it_is_the_optimal_trajectory():
    data = Finite([-0.9, 0.3, 1.0])
    schedule, t = linear_schedule(80, 1e-3, 0.1), np.arange(1, 81)
    energy = np.append(np.nan, np.minimum(data.mean_square_eps(schedule, t), 1.0))
    unknown = np.append(np.nan, analytic.sigma_hat_squared(schedule, t, energy[1:]))
    for K in (2, 7, 80):
        assert (
            analytic.segmented_trajectory(schedule, energy, K)
            == analytic.optimal_trajectory(schedule, unknown, K).trajectory
        )


@pytest.mark.parametrize(
    ("first", "K", "trusted", "upper"),
    [
        (91, 10, 80, (100,)),  # K1 = ceil(0.84 10) = 9
        (81, 10, 60, (100, 87, 73)),  # K1 = ceil(0.68 10) = 7, three above
        (100, 50, 98, (100,)),  # ceil(0.984 50) = 50 would leave none above
        (76, 90, 50, tuple(round(100 - 1.25 * k) for k in range(40))),  # K1 = ceil(0.6 90) = 54, and 50 levels
    ],
)
def test_the_upper_levels_are_even_and_the_lower_a_shortest_path(first, K, trusted, upper):
    schedule = linear_schedule(100)
    energy = sum(schedule.beta_bar / (schedule.alpha_bar * v + schedule.beta_bar) for v in (1.0, 0.01)) / 2
    energy[first:] = 1.001
    walk = analytic.segmented_trajectory(schedule, energy, K)
    above = tuple(level for level in walk.levels if level > trusted)
    assert above == upper
    assert walk.steps == K
    below = NoiseSchedule.from_betas(schedule.beta[1 : trusted + 1])
    unknown = analytic.sigma_hat_squared(below, np.arange(1, trusted + 1), energy[1 : trusted + 1])
    rest = Trajectory(tuple(level for level in walk.levels if level <= trusted))
    best = analytic.optimal_trajectory(below, np.append(np.nan, unknown), rest.steps)
    assert rest == best.trajectory


BAD = {
    "eta = 0": (
        lambda: analytic.optimal_trajectory(LIN1000, np.ones(1001), 5, 0.0),
        RangeError,
        "the cost of every step is infinite",
    ),
    "eta = 0, step": (lambda: analytic.step_cost(LIN1000, 5, 2, 0.1, 0.0), RangeError, r"write eta in \(0, 1\]"),
    "eta = 0, path": (lambda: analytic.path_cost(LIN1000, (5, 1, 0), np.ones(1001), 0.0), RangeError, "infinite"),
    "eta": (lambda: analytic.optimal_trajectory(LIN1000, np.ones(1001), 5, 2.0), RangeError, "eta = 2.0"),
    "K = 1": (
        lambda: analytic.optimal_trajectory(LIN1000, np.ones(1001), 1),
        ScheduleError,
        "visits from 2 to 1000 levels",
    ),
    "K > T": (lambda: analytic.optimal_trajectory(LIN1000, np.ones(1001), 1001), ScheduleError, "K = 1001"),
    "K boolean": (lambda: analytic.optimal_trajectory(LIN1000, np.ones(1001), True), ScheduleError, "K = True"),
    "shape": (
        lambda: analytic.optimal_trajectory(LIN1000, np.ones(1000), 5),
        ShapeError,
        r"one number per level 0..T = 1000",
    ),
    "infinite": (
        lambda: analytic.optimal_trajectory(LIN1000, np.full(1001, np.inf), 5),
        RangeError,
        "infinite at level 0",
    ),
    "range": (
        lambda: analytic.optimal_trajectory(LIN1000, np.ones(1001), 5, clip=(1.0, -1.0)),
        RangeError,
        "low < high",
    ),
    "step to 0": (lambda: analytic.step_cost(LIN1000, 5, 0, 0.1), RangeError, "the step to level 0 has no cost"),
    "step, shapes": (
        lambda: analytic.step_cost(LIN1000, [5, 4], [2, 2], [0.1] * 3),
        ShapeError,
        "one number per level",
    ),
    "step upwards": (lambda: analytic.step_cost(LIN1000, 5, 5, 0.1), LevelError, "t > s"),
    "path above T": (lambda: analytic.path_cost(LIN1000, (1001, 1, 0), np.ones(1001)), ScheduleError, "above T = 1000"),
    "path, unknown": (
        lambda: analytic.path_cost(LIN1000, (9, 5, 1, 0), np.full(1001, np.nan)),
        RangeError,
        r"not known \(NaN\) at level 9",
    ),
    "energies, shape": (
        lambda: analytic.segmented_trajectory(LIN1000, np.ones(10), 5),
        ShapeError,
        "one number per level",
    ),
    "energies, NaN": (
        lambda: analytic.segmented_trajectory(LIN1000, np.full(1001, np.nan), 5),
        RangeError,
        "needs all of 1..T",
    ),
    "energies, all bad": (
        lambda: analytic.segmented_trajectory(LIN1000, np.full(1001, 1.5), 5),
        ScheduleError,
        "leaves no two levels",
    ),
    "energies, one node": (
        lambda: analytic.segmented_trajectory(LIN1000, np.append(np.full(901, 0.5), np.full(100, 1.5)), 1),
        ScheduleError,
        "it takes two nodes",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, error, words = BAD[name]
    with pytest.raises(error, match=words):
        call()


def test_no_trajectory_was_asked_for():
    assert analytic.optimal_trajectories(LIN1000, np.full(1001, 0.1), []) == []
