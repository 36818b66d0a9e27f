"""Conversions between predictions: each is the solution of two linear equations, solved here as such."""

import numpy as np
import pytest

from ddpm_ref.errors import LevelError, RangeError
from ddpm_ref.reference import prediction
from ddpm_ref.reference.forward import q_sample
from ddpm_ref.reference.named_schedules import linear_schedule
from ddpm_ref.reference.prediction import clip_x0, clipped_prediction, convert, v_target
from ddpm_ref.reference.schedule import NoiseSchedule

# k of NUMERICS section 2 and S, from a = sqrt(alpha_bar), b = sqrt(beta_bar), |x_t| and |value|
FUNCTIONS = {
    ("eps", "x0"): (5, lambda a, b, x, y: (x + b * y) / a),
    ("eps", "v"): (5, lambda a, b, x, y: (y + b * x) / a),
    ("eps", "score"): (2, lambda a, b, x, y: y / b),
    ("x0", "eps"): (5, lambda a, b, x, y: (x + a * y) / b),
    ("x0", "v"): (5, lambda a, b, x, y: (a * x + y) / b),
    ("x0", "score"): (5, lambda a, b, x, y: (a * y + x) / b**2),
    ("v", "x0"): (3, lambda a, b, x, y: a * x + b * y),
    ("v", "eps"): (3, lambda a, b, x, y: b * x + a * y),
    ("score", "x0"): (5, lambda a, b, x, y: (x + b**2 * y) / a),
    ("score", "eps"): (2, lambda a, b, x, y: b * y),
}
KINDS = ("eps", "x0", "v", "score")


def rows(a, b):
    """Each quantity as a linear form in (x0, eps)."""
    return {"x": (a, b), "eps": (0, 1), "x0": (1, 0), "v": (-b, a), "score": (0, -1 / b)}


def solved(a, b, xt, value, source, target):
    """``target`` from x_t and ``source`` by Cramer's rule."""
    forms = rows(a, b)
    (p, q), (r, s) = forms["x"], forms[source]
    determinant = p * s - q * r
    x0, eps = (xt * s - q * value) / determinant, (p * value - r * xt) / determinant
    u, w = forms[target]
    return u * x0 + w * eps


@pytest.mark.parametrize(("source", "target"), FUNCTIONS)
def test_conversions_solve_the_two_equations(source, target, any_schedule, oracle, worst):
    H, truth = any_schedule, oracle(any_schedule.beta[1:])
    mp, (k, scale) = truth.mp, FUNCTIONS[source, target]
    function = getattr(prediction, f"{target}_from_{source}")
    rng = np.random.default_rng(0)
    for t in range(1, H.T + 1):
        a, b = mp.sqrt(truth.alpha_bar[t]), mp.sqrt(1 - truth.alpha_bar[t])
        if a == 0 and source in ("eps", "score"):
            continue  # the equations are dependent: see test_zero_terminal_snr
        xt, value = rng.standard_normal((2, 5))
        pairs = [(mp.mpf(x), mp.mpf(y)) for x, y in zip(xt.tolist(), value.tolist(), strict=True)]
        values = [solved(a, b, x, y, source, target) for x, y in pairs]
        got = function(H, xt, t, value)
        assert worst(got, values, [scale(a, b, abs(x), abs(y)) for x, y in pairs], k) <= 1
        assert np.array_equal(convert(H, xt, t, value, source, target), got)


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("target", KINDS)
def test_convert_knows_every_pair_and_every_name(source, target):
    H, xt, value = linear_schedule(10), np.array([0.3, -1.0]), np.array([0.5, 2.0])
    got = convert(H, xt, 4, value, source, target)
    if source == target:
        assert np.array_equal(got, value)
    if {source, target} == {"v", "score"}:
        middle = convert(H, xt, 4, value, source, "eps")
        assert np.array_equal(got, convert(H, xt, 4, middle, "eps", target))
    other = {"eps": "epsilon", "x0": "sample", "v": "v_prediction", "score": "score"}
    assert np.array_equal(convert(H, xt, 4, value, other[source], other[target]), got)


def test_the_score_is_the_gradient_of_the_log_density(oracle, worst):
    """Central differences of log N(x; sqrt(alpha_bar) x0, beta_bar), exact for a quadratic."""
    H = linear_schedule(50)
    truth = oracle(H.beta[1:])
    mp, x0 = truth.mp, 0.4
    for t in (1, 2, 25, 50):
        a, v = mp.sqrt(truth.alpha_bar[t]), 1 - truth.alpha_bar[t]
        x = float(q_sample(H, x0, t, 0.7))

        def log_density(y, a=a, v=v):
            return -((y - a * mp.mpf(x0)) ** 2) / (2 * v)

        gradient = (log_density(mp.mpf(x) + 1) - log_density(mp.mpf(x) - 1)) / 2
        scale = (a * mp.mpf(x0) + abs(mp.mpf(x))) / v
        assert worst([prediction.score_from_x0(H, x, t, x0)], [gradient], [scale], 5) <= 1


def test_tweedie_on_a_mixture(oracle, mp, worst):
    """x0_from_score of the exact score of a mixture is the mean of the data given x_t (oracle M of EQUATIONS)."""
    H = linear_schedule(50)
    truth = oracle(H.beta[1:], 60)
    points, weights = [mp.mpf(-1), mp.mpf("0.25"), mp.mpf(1)], [mp.mpf("0.5"), mp.mpf("0.3"), mp.mpf("0.2")]
    for t in (1, 20, 50):
        a, v, x = mp.sqrt(truth.alpha_bar[t]), 1 - truth.alpha_bar[t], mp.mpf("0.375")

        def density(y, a=a, v=v):
            return sum(w * mp.exp(-((y - a * m) ** 2) / (2 * v)) for w, m in zip(weights, points, strict=True))

        posterior = [w * mp.exp(-((x - a * m) ** 2) / (2 * v)) for w, m in zip(weights, points, strict=True)]
        mean = sum(p * m for p, m in zip(posterior, points, strict=True)) / sum(posterior)
        score = mp.diff(density, x) / density(x)
        got = prediction.x0_from_score(H, 0.375, t, float(score))
        assert worst([got], [mean], [(x + v * abs(score)) / a], 6) <= 1  # one more: the score is rounded


def test_the_target_of_a_v_network(any_schedule, oracle, worst):
    """Orthogonal to x_t: (x_t, v) is (x0, eps) turned by an angle, so lengths are kept."""
    H, truth = any_schedule, oracle(any_schedule.beta[1:])
    mp, (x0, noise) = truth.mp, np.random.default_rng(1).standard_normal((2, 4))
    for t in range(H.T + 1):
        a = truth.alpha_bar[t]
        xt = q_sample(H, x0, t, noise)
        v = v_target(H, x0, t, noise)
        for i in range(4):
            u, e = mp.mpf(x0[i]), mp.mpf(noise[i])
            scale = (abs(u) + abs(e)) ** 2
            length = mp.mpf(xt[i]) ** 2 + mp.mpf(v[i]) ** 2
            assert worst([float(length)], [u**2 + e**2], [2 * scale], 2 * 3 + 1) <= 1
        terms = [(mp.sqrt(a) * mp.mpf(e), mp.sqrt(1 - a) * mp.mpf(u)) for u, e in zip(x0, noise, strict=True)]
        assert worst(v, [p - q for p, q in terms], [abs(p) + abs(q) for p, q in terms], 3) <= 1
    assert np.array_equal(v_target(H, x0, 0, noise), noise)


def test_gains_of_errors_in_the_noise(lin1000):
    """d x0 / d eps = -SNR**-1/2: the figures of EQUATIONS, and v stays tame at every level."""
    gain = [float(prediction.x0_from_eps(lin1000, 0.0, t, -1.0)) for t in (1, 500, 1000)]
    assert [f"{g:.4g}" for g in gain] == ["0.01", "3.424", "157.4"]
    t = np.arange(1, 1001)
    ones = np.ones(1000)
    assert (prediction.x0_from_v(lin1000, ones, t, -ones) <= 2**0.5 * (1 + 2**-50)).all()
    assert f"{max(abs(prediction.x0_from_v(lin1000, ones, t, -ones))):.2f}" == "1.41"


def test_level_zero():
    H, x, y = linear_schedule(5), np.array([0.3, -2.0]), np.array([1.0, 5.0])
    assert np.array_equal(prediction.x0_from_eps(H, x, 0, y), x)
    assert np.array_equal(prediction.x0_from_v(H, x, 0, y), x)
    assert np.array_equal(prediction.x0_from_score(H, x, 0, y), x)
    assert np.array_equal(prediction.eps_from_v(H, x, 0, y), y)
    assert np.array_equal(prediction.v_from_eps(H, x, 0, y), y)
    for name in ("eps_from_x0", "v_from_x0", "score_from_eps", "score_from_x0"):
        with pytest.raises(LevelError, match=r"level 0; levels here are whole numbers from 1 to T = 5"):
            getattr(prediction, name)(H, x, 0, y)


def test_zero_terminal_snr():
    """Noise and score say nothing about the data there; v and x0 do."""
    H, x, y = NoiseSchedule.from_betas([0.1, 1.0]), np.array([0.3]), np.array([0.5])
    for name in ("x0_from_eps", "v_from_eps", "x0_from_score"):
        with pytest.raises(RangeError, match=r"alpha_bar = 0 \(zero terminal SNR\).*use prediction"):
            getattr(prediction, name)(H, x, 2, y)
    with pytest.raises(RangeError, match="zero terminal SNR"):
        convert(H, x, 2, y, "score", "v")
    assert prediction.x0_from_v(H, x, 2, y) == -y
    assert prediction.v_from_x0(H, x, 2, y) == -y
    assert prediction.eps_from_x0(H, x, 2, y) == x
    assert prediction.eps_from_v(H, x, 2, y) == x
    assert v_target(H, x, 2, y) == -x
    assert prediction.score_from_eps(H, x, 2, y) == -y
    assert prediction.eps_from_score(H, x, 2, y) == -y
    assert prediction.x0_from_eps(H, x, 1, y).shape == (1,)


def test_clipping():
    x = np.array([-3.0, -1.0, 0.2, 1.0, 7.5])
    assert clip_x0(x).tolist() == [-1.0, -1.0, 0.2, 1.0, 1.0]
    assert clip_x0(x, 0, 5).tolist() == [0.0, 0.0, 0.2, 1.0, 5.0]
    assert np.array_equal(clip_x0(clip_x0(x)), clip_x0(x))


@pytest.mark.parametrize("kind", KINDS)
def test_clipped_predictions_still_explain_the_noisy_data(kind, mp, worst):
    """x_t = sqrt(alpha_bar) x0 + sqrt(beta_bar) eps holds after clipping; unclipped x0 come back as they were."""
    H = linear_schedule(20)
    xt, value = 3 * np.random.default_rng(2).standard_normal((2, 40))
    for t in (1, 7, 20):
        x0, eps = clipped_prediction(H, xt, t, value, kind)
        assert (np.abs(x0) <= 1).all()
        free = convert(H, xt, t, value, kind, "x0")
        assert np.array_equal(x0[np.abs(free) <= 1], free[np.abs(free) <= 1])
        a, b = mp.mpf(H.sqrt_alpha_bar[t]), mp.mpf(H.sqrt_beta_bar[t])
        explained = [float(a * mp.mpf(p) + b * mp.mpf(q)) for p, q in zip(x0.tolist(), eps.tolist(), strict=True)]
        scale = np.abs(xt) + 2 * float(a) * np.abs(x0)
        # 4 roundings in eps, one of each factor here
        assert worst(explained, [mp.mpf(x) for x in xt.tolist()], scale.tolist(), 7) <= 1


def test_broadcasting_follows_the_data():
    H = linear_schedule(10)
    xt, value, t = np.ones((4, 3, 2)), np.full((4, 1, 2), 0.5), np.array([1, 2, 9, 10])
    for (source, target), _ in FUNCTIONS.items():
        function = getattr(prediction, f"{target}_from_{source}")
        got = function(H, xt, t, value)
        assert got.shape == (4, 3, 2)
        assert got.flags.writeable
        for i in range(4):
            assert np.array_equal(function(H, xt[i], int(t[i]), value[i]), got[i])
        assert function(H, xt[:0], t[:0], value[:0]).shape == (0, 3, 2)
