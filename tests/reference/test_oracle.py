"""The optimal network of known data: Bayes' rule once more by inverse matrices in 60 digits, and by integrals over the data."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from ddpm_ref.arithmetic.bounds import gamma
from ddpm_ref.errors import LevelError, RangeError, ShapeError
from ddpm_ref.reference.named_schedules import linear_schedule, zero_terminal_snr
from ddpm_ref.reference.oracle import Finite, Gaussian, Mixture, quadrature
from ddpm_ref.reference.schedule import NoiseSchedule

H = linear_schedule(1000)
U = 2.0**-53
rng = np.random.default_rng(4)


def covariance(d, least=0.02):
    """Anisotropic and turned: eigenvalues from ``least`` to 1."""
    turn, _ = np.linalg.qr(rng.standard_normal((d, d)))
    full = turn * np.geomspace(least, 1.0, d) @ turn.T
    return (full + full.T) / 2


CASES = {
    "Gaussian d=1": Gaussian(0.3, 0.25),
    "Gaussian d=3": Gaussian(rng.standard_normal(3), covariance(3)),
    "Mixture d=1": Mixture([0.2, 0.5, 0.3], [-1.0, 0.1, 1.0], [0.01, 0.3, 0.0025]),
    "Mixture d=2": Mixture([0.6, 0.4], rng.standard_normal((2, 2)), [covariance(2), covariance(2)]),
    "Mixture d=3": Mixture([0.6, 0.4], rng.standard_normal((2, 3)), [covariance(3), covariance(3)]),
    "Finite d=1": Finite([-1.0, -0.5, 1.0], [0.5, 0.25, 0.25]),
    "Finite d=3": Finite(rng.standard_normal((6, 3))),
}
LEVELS = np.array([1, 2, 30, 300, 1000])


def components(law):
    """Weights, means and covariances as they were given."""
    if isinstance(law, Gaussian):
        return [1.0], law.mean[None], law.covariance[None]
    if isinstance(law, Finite):
        return law.weights, law.points, np.zeros((len(law.points), law.d, law.d))
    return law.weights, law.means, law.covariances


class Exact:
    """What the oracles should say of one x, by inverse matrices in mpmath."""

    def __init__(self, mp, law, schedule, x, t):
        a2 = mp.mpf(1)
        for beta in schedule.beta[1 : t + 1].tolist():
            a2 *= 1 - mp.mpf(beta)
        self.mp, self.a, self.b, d = mp, mp.sqrt(a2), mp.sqrt(1 - a2), law.d
        x = mp.matrix(x.tolist())
        joint, self.eps_k, self.x0_k, self.left, self.condition = [], [], [], [], 1.0
        for weight, mean, spread in zip(*components(law), strict=True):
            mean, spread = mp.matrix(mean.tolist()), mp.matrix(spread.tolist())
            total = a2 * spread + (1 - a2) * mp.eye(d)
            away = x - self.a * mean
            solved = mp.lu_solve(total, away)
            square = sum(away[i] * solved[i] for i in range(d))
            joint.append(mp.log(mp.mpf(float(weight))) - (square + mp.log(mp.det(total)) + d * mp.log(2 * mp.pi)) / 2)
            self.eps_k.append(self.b * solved)
            self.x0_k.append(mean + self.a * (spread * solved))
            self.left.append(spread - a2 * spread * total**-1 * spread)
            self.condition = max(self.condition, float(np.linalg.cond(np.array(total.tolist(), dtype=float))))
        top = max(joint)
        self.log_density = top + mp.log(sum(mp.exp(j - top) for j in joint))
        self.share = [mp.exp(j - self.log_density) for j in joint]
        # Responsibilities err by the errors of the exponents: distances in units of b, from inputs rounded at the size of x.
        size = float(max(abs(v) for v in x)) + 1
        exponents = [float(top - j) for j in joint]
        shift = [
            U * (64 * d * self.condition + 8 * d * (e + 4) + 8 * d * size * np.sqrt(2 * e + 2) / float(self.b))
            for e in exponents
        ]
        self.slack = float(sum(float(s) * e for s, e in zip(self.share, shift, strict=True)))

    def mean(self, values):
        return sum((s * v for s, v in zip(self.share, values, strict=True)), 0 * values[0])

    def covariance(self):
        centre = self.mean(self.x0_k)
        return self.mean([c + (v - centre) * (v - centre).T for c, v in zip(self.left, self.x0_k, strict=True)])


def close(got, want, slack, scale):
    """Within a condition number times rounding (higham2002, section 3.1), carried through the responsibilities."""
    want = np.array(want.tolist(), dtype=float).reshape(got.shape)
    assert np.abs(got - want).max() <= 4 * slack * scale, (got, want, slack * scale)


@pytest.mark.parametrize("name", CASES)
def test_every_answer_against_inverse_matrices_in_sixty_digits(name, mp):
    law = CASES[name]
    weights, means, _ = components(law)
    for t in LEVELS.tolist():
        near = means[rng.integers(len(weights), size=3)]
        x = H.sqrt_alpha_bar[t] * near + H.sqrt_beta_bar[t] * rng.standard_normal(near.shape)
        answers = law.eps(H, x, t), law.score(H, x, t), law.x0(H, x, t), law.x0_covariance(H, x, t), law.nll(x, H, t)
        for i in range(3):
            exact = Exact(mp, law, H, x[i], t)
            eps, score, x0, cov, nll = (answer[i] for answer in answers)
            scale_eps = max(float(max(map(abs, e))) for e in exact.eps_k) + 1
            scale_x0 = max(float(max(map(abs, e))) for e in exact.x0_k) + 1
            # eps itself: x - a m is formed from numbers of the size of x and divided by b
            rounding = 64 * U * law.d * exact.condition * (1 + (np.abs(x[i]).max() + 1) / float(exact.b))
            close(eps, exact.mean(exact.eps_k), exact.slack + rounding, scale_eps)
            close(score, -exact.mean(exact.eps_k) / exact.b, exact.slack + rounding, scale_eps / float(exact.b))
            close(x0, exact.mean(exact.x0_k), exact.slack + 64 * U * law.d * exact.condition, scale_x0)
            close(cov, exact.covariance(), exact.slack + 64 * U * law.d * exact.condition, scale_x0**2)
            close(np.atleast_1d(-nll), np.array([exact.log_density]), exact.slack + rounding, 1 + abs(nll))


def test_the_comparison_above_can_fail(mp):
    law, x = CASES["Mixture d=2"], np.array([0.3, -0.2])
    exact = Exact(mp, law, H, x, 300)
    with pytest.raises(AssertionError):
        close(law.eps(H, x, 301), exact.mean(exact.eps_k), exact.slack, 1.0)


@pytest.mark.parametrize("t", [1, 10, 300, 1000])
def test_moments_given_xt_are_integrals_over_the_data(t):
    law = CASES["Mixture d=1"]
    x0, step = np.linspace(-4.5, 5.5, 400_001, retstep=True)
    for x in (-0.9, 0.05, 0.6):
        log = -law.nll(x0[:, None]) - (x - H.sqrt_alpha_bar[t] * x0) ** 2 / (2 * H.beta_bar[t])
        weight = np.exp(log - log.max())
        mean = weight @ x0 / weight.sum()
        variance = weight @ (x0 - mean) ** 2 / weight.sum()
        density = weight.sum() * step * np.exp(log.max()) / np.sqrt(2 * np.pi * H.beta_bar[t])
        # The trapezoidal rule is exact to rounding on entire integrands; sums of positive terms lose log2(N) roundings,
        # the exponents a few more: 1e-12 covers both (rule of sums).
        assert abs(law.x0(H, [x], t)[0] - mean) < 1e-12
        assert abs(law.x0_covariance(H, [x], t)[0, 0] - variance) < 1e-12
        assert abs(np.exp(-law.nll([x], H, t)) / density - 1) < 1e-12


@pytest.mark.parametrize("name", [name for name in CASES if "Finite" not in name])
def test_the_score_is_the_gradient_and_the_covariance_its_hessian(name):
    law, t, h = CASES[name], 100, 1e-4
    x = rng.standard_normal((4, law.d)) * 0.5
    steps = h * np.eye(law.d)
    gradient = np.stack([law.nll(x - e, H, t) - law.nll(x + e, H, t) for e in steps], axis=-1) / (2 * h)
    jacobian = np.stack([law.x0(H, x + e, t) - law.x0(H, x - e, t) for e in steps], axis=-1) / (2 * h)
    # Central differences: h^2 / 6 times a third derivative, at most of order b^-3 per mode, and U / h.
    error = h * h / H.sqrt_beta_bar[t] ** 3 * 8
    assert np.abs(law.score(H, x, t) - gradient).max() < error
    expected = H.beta_bar[t] / H.sqrt_alpha_bar[t] * jacobian
    assert np.abs(law.x0_covariance(H, x, t) - expected).max() < error


@pytest.mark.parametrize("name", CASES)
def test_predictions_explain_xt(name):
    law = CASES[name]
    x = rng.standard_normal((5, 2, law.d))
    t = LEVELS[:, None].repeat(2, axis=1)
    eps, x0, score = law.eps(H, x, t), law.x0(H, x, t), law.score(H, x, t)
    a, b = H.sqrt_alpha_bar[t][..., None], H.sqrt_beta_bar[t][..., None]
    assert eps.shape == x0.shape == score.shape == x.shape
    # Convex combinations of d-term products, of terms at most about |x| + 3 in size (divided by b in eps and the
    # score): rule of sums with 32 roundings, and 50 is the condition number of the covariances.
    size = np.abs(x).max() + 3
    assert np.all(np.abs(a * x0 + b * eps - x) <= 32 * U * 50 * size)
    assert np.all(np.abs(score * b + eps) <= 32 * U * size / b)
    assert np.array_equal(law.eps(H, x, LEVELS), eps)
    assert np.array_equal(law.eps(H, x[2], 30), eps[2])
    # A row by itself and among others: BLAS may add the d terms of a rotation in another order. What that does is what moving
    # x by as many roundings does, and the sums after it (rule of sums; their terms are at most 5 d beside the result).
    alone, among = law.nll(x[1, 0], H, 2), law.nll(x, H, LEVELS)[1, 0]
    assert abs(alone - among) <= 32 * U * (size * np.abs(score[1, 0]).sum() + abs(among) + 5 * law.d)
    assert law.x0_covariance(H, x, t).shape == (5, 2, law.d, law.d)
    assert law.eps(H, np.zeros((0, law.d)), 5).shape == (0, law.d)
    single = law.eps(H, x.astype(np.float32), t)
    assert single.dtype == np.float64
    assert np.array_equal(single, law.eps(H, x.astype(np.float32).astype(np.float64), t))


def test_ends_of_the_schedule():
    end = zero_terminal_snr(linear_schedule(10))
    for law in CASES.values():
        x = rng.standard_normal((3, law.d))
        # turned into the axes and back: two sums of d terms
        assert np.abs(law.eps(end, x, 10) - x).max() <= 16 * U * law.d
        assert np.abs(law.x0(end, x, 10) - law.mean).max() <= 16 * U * law.d  # the same, of the means
        assert np.abs(law.x0_covariance(end, x, 10) - law.covariance).max() <= 64 * U
        if not isinstance(law, Finite):
            # m + (x - m), of numbers of size 4 at most: 4 roundings and the axes' own
            assert np.abs(law.x0(H, x, 0) - x).max() <= 256 * U
            assert not law.x0_covariance(H, x, 0).any() or np.abs(law.x0_covariance(H, x, 0)).max() <= 64 * U
    for T in (1, 2):
        short, law = NoiseSchedule.from_betas([0.3] * T), Gaussian(0.0, 1.0)
        assert np.abs(law.eps(short, [[2.0]], T)[0, 0] - 2 * short.sqrt_beta_bar[T]) <= 4 * U


def test_special_cases_agree():
    one, two = CASES["Gaussian d=3"], CASES["Mixture d=2"]
    x = rng.standard_normal((4, 3))
    assert np.array_equal(Mixture([1.0], [one.mean], [one.covariance]).x0(H, x, 300), one.x0(H, x, 300))
    points = CASES["Finite d=3"]
    # A mixture so narrow that its widths are lost in b^2: relative 1e-20 / b^2.
    narrow = Mixture(points.weights, points.points, np.tile(1e-20 * np.eye(3), (6, 1, 1)))
    assert np.abs(narrow.eps(H, x, 300) - points.eps(H, x, 300)).max() <= 1024 * U
    for law in (one, two, points):
        x = rng.standard_normal((4, law.d))
        # The law of x_t as data: rounding of its covariance, at most of condition 1 / b^2.
        assert np.abs(law.noised(H, 300).nll(x) - law.nll(x, H, 300)).max() <= 1e4 * U
        weights, means, _ = components(law)
        terms = np.asarray(weights) @ np.abs(H.sqrt_alpha_bar[300] * means)  # NUMERICS 2: six terms at most, k = 8
        assert (np.abs(law.noised(H, 300).mean - H.sqrt_alpha_bar[300] * law.mean) <= gamma(8, U) * terms).all()
        wide = law.covariance + 0.25 * np.eye(law.d)
        assert np.abs(law.blurred(0.5).covariance - wide).max() <= 64 * U


@pytest.mark.parametrize("t", [1, 30, 100, 300, 1000])
def test_energy_of_the_prediction_and_floor_of_the_loss(t):
    one = CASES["Gaussian d=3"]
    total = H.alpha_bar[t] * np.linalg.eigvalsh(one.covariance) + H.beta_bar[t]
    assert one.mean_square_eps(H, t) == pytest.approx(np.mean(H.beta_bar[t] / total), rel=64 * U * 50)  # condition 50
    flat = Gaussian(np.zeros(2), covariance(2))
    as_mixture = Mixture([1.0], [flat.mean], [flat.covariance])
    assert as_mixture.mean_square_eps(H, t) == pytest.approx(flat.mean_square_eps(H, t), rel=2 * quadrature.SETTLED)
    assert as_mixture.loss_floor(H, t) == pytest.approx(flat.loss_floor(H, t), rel=2 * quadrature.SETTLED)
    for name in ("Gaussian d=3", "Mixture d=1", "Finite d=1"):
        law = CASES[name]
        assert law.mean_square_eps(H, t) + law.loss_floor(H, t) == pytest.approx(
            1, abs=2 * quadrature.SETTLED
        )  # two settled sums


def test_energy_is_an_integral():
    law, t = CASES["Mixture d=1"], 50
    x, step = np.linspace(-6, 6, 200_001, retstep=True)
    integral = np.sum(np.exp(-law.nll(x[:, None], H, t)) * law.eps(H, x[:, None], t)[:, 0] ** 2) * step
    assert law.mean_square_eps(H, t) == pytest.approx(integral, rel=1e-13)  # NUMERICS 5: a sum of 2e5 exponentials
    assert law.mean_square_eps(H, [t, 1, 1000]).shape == (3,)


def test_points_on_a_line_in_many_dimensions():
    line = Finite([-1.0, -0.5, 1.0])
    direction = np.array([1.0, 2.0, 2.0, 4.0]) / 5
    tilted = Finite(line.points * direction + np.array([1.0, -1.0, 0.5, 2.0]))
    for t in (30, 300):
        assert 4 * tilted.loss_floor(H, t) == pytest.approx(line.loss_floor(H, t), rel=1e-12)  # coordinates by SVD
        assert 4 * tilted.mean_square_eps(H, t) - 3 == pytest.approx(line.mean_square_eps(H, t), rel=1e-12)
    assert Finite([[1.0, 2.0]]).loss_floor(H, 10) == 0
    assert Finite([[1.0, 2.0]]).mean_square_eps(H, 10) == pytest.approx(
        1, rel=2 * quadrature.SETTLED
    )  # a settled sum, and mapped


def test_all_digits_at_once_in_little_memory():
    from sklearn.datasets import load_digits

    digits = load_digits().data / 8 - 1
    law = Finite(digits)
    x = H.sqrt_alpha_bar[200] * digits[:256] + H.sqrt_beta_bar[200] * rng.standard_normal((256, 64))
    tracemalloc.start()
    eps = law.eps(H, x, 200)
    law.x0_covariance(H, x[:8], 200)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**30
    # However the examples are cut into blocks, only the order of sums may change: rule of sums, of terms as large as the largest.
    apart = np.abs(Finite(digits, memory=2**23).eps(H, x[:20], 200) - eps[:20]).max()
    assert apart <= 128 * U * np.abs(x[:20]).max() / H.sqrt_beta_bar[200]
    nearest = digits[np.argmin(((x[:9, None] / H.sqrt_alpha_bar[200] - digits) ** 2).sum(-1), axis=1)]
    assert np.mean(np.abs(law.x0(H, x[:9], 200) - nearest).max(axis=1) < 1) > 0.8
    with pytest.raises(RangeError, match=r"memory = 1000 bytes is too little.*give at least memory="):
        Finite(digits, memory=1000).eps(H, x[:1], 200)
    with pytest.raises(RangeError, match=r"the points span 61 dimensions.*average over draws"):
        law.loss_floor(H, 200)


ERRORS = {
    "not positive definite": (lambda: Gaussian([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]]), RangeError, "least eigenvalue -1"),
    "singular": (lambda: Gaussian([0.0, 0.0], [[1.0, 1.0], [1.0, 1.0]]), RangeError, "use Finite for points"),
    "asymmetric": (lambda: Gaussian([0.0, 0.0], [[1.0, 0.5], [0.4, 1.0]]), RangeError, "not symmetric; symmetrise"),
    "variance": (lambda: Gaussian(0.0, -1.0), RangeError, "not positive definite"),
    "NaN": (lambda: Gaussian([0.0, np.nan], np.eye(2)), RangeError, "mean contains nan at index (1,)"),
    "covariance shape": (lambda: Gaussian([0.0, 0.0], np.eye(3)), ShapeError, "mean (2,) and covariance (3, 3)"),
    "covariance vector": (lambda: Gaussian([0.0, 0.0], [1.0, 1.0]), ShapeError, "give (d,) and (d, d)"),
    "no dimensions": (lambda: Gaussian(np.zeros(0), np.zeros((0, 0))), ShapeError, "mean (0,)"),
    "weights sum": (lambda: Mixture([0.5, 0.6], [0.0, 1.0], [1.0, 1.0]), RangeError, "weights / weights.sum()"),
    "weights negative": (lambda: Mixture([1.5, -0.5], [0.0, 1.0], [1.0, 1.0]), RangeError, "weights contain -0.5"),
    "weights shape": (lambda: Mixture([1.0], [0.0, 1.0], [1.0, 1.0]), ShapeError, "weights have shape (1,) for 2"),
    "which covariance": (lambda: Mixture([0.5, 0.5], [0.0, 1.0], [1.0, 0.0]), RangeError, "covariances[1] is not positive"),
    "mixture shapes": (lambda: Mixture([1.0], [[0.0, 1.0]], [1.0]), ShapeError, "give (n, d) and (n, d, d)"),
    "no points": (lambda: Finite(np.zeros((0, 2))), ShapeError, "points have shape (0, 2)"),
    "points NaN": (lambda: Finite([0.0, np.inf]), RangeError, "points contains inf"),
    "points weights": (lambda: Finite([0.0, 1.0], [0.5, 0.4]), RangeError, "sum to 0.9"),
    "memory": (lambda: Finite([0.0, 1.0], memory=0), RangeError, "memory = 0"),
    "eps of clean data": (lambda: CASES["Gaussian d=1"].eps(H, [[0.0]], 0), LevelError, "level 0"),
    "score of points": (lambda: CASES["Finite d=1"].score(H, [[0.0]], 0), LevelError, "level 0"),
    "density of points": (lambda: CASES["Finite d=1"].nll([[0.0]]), LevelError, "level 0"),
    "points noised": (lambda: CASES["Finite d=1"].noised(H, 0), LevelError, "level 0"),
    "points blurred": (lambda: CASES["Finite d=1"].blurred(0.0), RangeError, "standard deviation > 0"),
    "blur": (lambda: CASES["Gaussian d=1"].blurred(-1.0), RangeError, "std contains -1.0"),
    "level above T": (lambda: CASES["Gaussian d=1"].eps(H, [[0.0]], 1001), LevelError, "level 1001"),
    "energy at 0": (lambda: CASES["Gaussian d=1"].mean_square_eps(H, 0), LevelError, "level 0"),
    "floor at 0": (lambda: CASES["Mixture d=1"].loss_floor(H, [1, 0]), LevelError, "level 0"),
    "scalar data": (lambda: CASES["Gaussian d=1"].eps(H, 0.0, 1), ShapeError, "give shape (*batch, 1)"),
    "dimensions": (lambda: CASES["Gaussian d=3"].eps(H, [[0.0]], 1), ShapeError, "data of 3 dimensions"),
    "levels shape": (lambda: CASES["Gaussian d=1"].eps(H, np.zeros((2, 1)), [1, 2, 3]), ShapeError, "t has shape (3,)"),
    "level per number": (lambda: CASES["Gaussian d=1"].eps(H, np.zeros((2, 1)), [[1], [1]]), ShapeError, "t has shape (2, 1)"),
    "data NaN": (lambda: CASES["Gaussian d=1"].eps(H, [[np.nan]], 1), RangeError, "xt contains nan"),
    "level without schedule": (lambda: CASES["Gaussian d=1"].nll([[0.0]], t=3), ShapeError, "write nll(x, schedule, t)"),
    "points far out": (lambda: Finite([1.0, 2.0]).x0(H, [[0.0], [1e160]], 1), RangeError, "xt contains 1e+160: its square"),
    "mixture far out": (lambda: CASES["Mixture d=1"].x0(H, [[-1e160]], 3), RangeError, "xt contains -1e+160"),
    "density far out": (lambda: Gaussian(0.0, 1.0).nll([[1e160]]), RangeError, "its square overflows"),
    "turned far out": (lambda: CASES["Gaussian d=3"].eps(H, [[1e308, -1e308, 1e308]], 1), RangeError, "its square overflows"),
    "three dimensions": (lambda: CASES["Mixture d=3"].loss_floor(H, 1), RangeError, "over 3 dimensions"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_wrong_arguments_have_named_errors(name):
    call, error, words = ERRORS[name]
    with pytest.raises(error) as raised:
        call()
    assert words in str(raised.value)


def test_as_far_out_as_squares_reach():
    assert Gaussian(0.0, 1.0).nll([[1e150]]) == pytest.approx(5e299, rel=8 * U)  # section 1, k = 8


def test_a_quadrature_that_has_not_settled_says_so(monkeypatch):
    monkeypatch.setattr(quadrature, "_HALVINGS", 1)
    with pytest.raises(RangeError, match=r"has not settled at a step of 0.25 standard deviations"):
        CASES["Mixture d=1"].mean_square_eps(H, 30)


def test_nobody_can_write_to_an_oracle():
    law = CASES["Mixture d=1"]
    for array in (law.means, law.weights, law.covariances, law.mean, law.covariance):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    assert repr(law) == "Mixture(d=1, n=3)"
