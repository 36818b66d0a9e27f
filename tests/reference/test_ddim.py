"""The DDIM family: closed forms against mpmath, the admissible variances, the ends of the family, bad input."""

import itertools

import numpy as np
import pytest

from ddpm_ref.errors import LevelError, RangeError, ShapeError
from ddpm_ref.reference import ancestral, ddim, forward, posterior, reverse
from ddpm_ref.reference.named_schedules import linear_schedule
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.reference.trajectory import Trajectory

LATER, EARLIER = np.array([1, 2, 2, 7, 40, 40, 39]), np.array([0, 1, 0, 6, 39, 3, 2])
H = linear_schedule(40)
DATA = np.random.default_rng(0).standard_normal((4, len(LATER), 3))
ETAS = (0.0, 1e-3, 0.5, 1.0)
PAIR = 6 + 2  # roundings of a coefficient assembled from table entries, of its product and of a sum


def exact(truth, t, s, square):
    """The posterior's coefficients of x0 and x_t, and of eps, for a variance."""
    at, as_ = truth.alpha_bar[t], truth.alpha_bar[s]
    left = 1 - as_ - square if s else truth.mp.mpf(0)
    sqrt = truth.mp.sqrt
    return sqrt(as_) - sqrt(at * left / (1 - at)), sqrt(left / (1 - at)), sqrt(left)


@pytest.mark.parametrize("eta", ETAS)
def test_coefficients_are_the_exact_numbers_rounded_once(eta, oracle, rounded):
    truth = oracle(H.beta[1:])
    got = {
        "std": ddim.ddim_std(H, LATER, EARLIER, eta),
        "direction": ddim.ddim_direction(H, LATER, EARLIER, eta),
        "x0": ddim.ddim_weights(H, LATER, EARLIER, eta)[0],
        "xt": ddim.ddim_weights(H, LATER, EARLIER, eta)[1],
    }
    for i, (t, s) in enumerate(zip(LATER.tolist(), EARLIER.tolist(), strict=True)):
        square = truth.mp.mpf(eta) ** 2 * truth.between(t, s)["beta_tilde"]
        x0, xt, direction = exact(truth, t, s, square)
        want = {"std": truth.mp.sqrt(square), "direction": direction, "x0": x0, "xt": xt}
        assert {k: float(v[i]) for k, v in got.items()} == {k: rounded(v) for k, v in want.items()}
    assert ddim.ddim_std(H, 40, 3, eta).shape == ()


@pytest.mark.parametrize("share", [0.0, 1e-12, 0.5, 1.0])
def test_a_variance_of_ones_own(share, oracle, worst):
    """Up to and with all of beta_bar_s, where nothing of the old noise is left."""
    truth, x0, xt = oracle(H.beta[1:]), DATA[0], DATA[1]
    variance = share * H.beta_bar[EARLIER]
    mean, got = ddim.ddim_posterior(H, x0, xt, LATER, EARLIER, variance=variance)
    assert np.array_equal(got, variance[:, None])
    values, scales = [], []
    for i, (t, s) in enumerate(zip(LATER.tolist(), EARLIER.tolist(), strict=True)):
        room = 1 - truth.alpha_bar[s]
        square = min(truth.mp.mpf(float(variance[i])), room)
        c0, cx, _ = exact(truth, t, s, square)
        for a, b in zip(x0[i].tolist(), xt[i].tolist(), strict=True):
            values.append(c0 * truth.mp.mpf(a) + cx * truth.mp.mpf(b))
            # beta_bar_s and its float64 are the same room: what lies between them may be counted as noise or not
            slack = truth.mp.sqrt(abs(room - truth.mp.mpf(float(H.beta_bar[s]))) / (1 - truth.alpha_bar[t]))
            scales.append(abs(c0 * a) + abs(cx * b) + (slack * abs(b) * 2**53 if share == 1 else 0))
    assert worst(mean, values, scales, PAIR + 4) <= 1


def test_beta_is_inadmissible_in_the_first_steps_of_the_linear_schedule():
    """The fixed large variance is no member of the family: at t = 1 and 2 it exceeds beta_bar_s."""
    long = linear_schedule(1000)
    for t, s in ((1, 0), (2, 1)):
        with pytest.raises(RangeError, match=rf"in the step from t = {t} to s = {s} exceeds beta_bar_s = .*negative"):
            ddim.ddim_posterior(long, 0.0, 0.0, t, s, variance=long.beta[t])
    mean, _ = ddim.ddim_posterior(long, 0.0, 1.0, 3, 2, variance=long.beta[3])
    assert mean > 0
    with pytest.raises(RangeError, match="step from t = 2 to s = 1"):
        ddim.ddim_posterior(long, np.zeros(3), np.zeros(3), np.array([3, 2, 5]), np.array([2, 1, 4]), variance=1.2e-4)


def test_the_marginals_are_the_same_for_every_eta_and_stride():
    """Exact coefficients keep them to the rounding of two products."""
    for eta in ETAS:
        c0, cx = ddim.ddim_weights(H, LATER, EARLIER, eta)
        variance = cx**2 * H.beta_bar[LATER] + ddim.ddim_std(H, LATER, EARLIER, eta) ** 2
        u = 2.0**-53  # rule: section 1 of the numerics, k = 8, S is the value itself
        assert (np.abs(variance - H.beta_bar[EARLIER]) <= 8 * u * H.beta_bar[EARLIER]).all()
        signal = cx * H.sqrt_alpha_bar[LATER] + c0
        assert (np.abs(signal - H.sqrt_alpha_bar[EARLIER]) <= 8 * u * signal).all()


def test_the_ends_of_the_family():
    x0, xt, eps, z = DATA
    want = posterior.q_posterior(H, x0, xt, LATER, EARLIER)
    got = ddim.ddim_posterior(H, x0, xt, LATER, EARLIER, 1.0)
    assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))
    one = ddim.ddim_step_from_eps(H, xt, LATER, EARLIER, eps, z, 1.0)
    assert np.array_equal(one, ancestral.ancestral_step(H, xt, LATER, EARLIER, eps, z))
    noisy = forward.q_sample(H, x0, LATER, eps)
    down = ddim.ddim_step(H, x0, eps, LATER, EARLIER)  # the true eps, no fresh noise: the same noise one level lower
    assert np.array_equal(down, forward.q_sample(H, x0, EARLIER, eps))
    mean, variance = ddim.ddim_posterior(H, x0, noisy, LATER, EARLIER)
    assert (np.abs(mean - down) <= 2.0**-53 * 12 * (np.abs(x0) + np.abs(eps))).all()  # rule: section 1, k = 12
    assert not variance.any()


def test_at_level_zero_the_prediction_comes_back():
    x0, xt, eps, z = DATA[:, :1]
    for eta in ETAS:
        assert np.array_equal(ddim.ddim_posterior(H, x0, xt, 9, 0, eta)[0], x0)
        assert np.array_equal(ddim.ddim_step(H, x0, eps, 9, 0, z, eta), x0)
        assert np.array_equal(ddim.ddim_step_from_x0(H, xt, 9, 0, x0, None, eta), x0)
    assert np.array_equal(ddim.ddim_posterior(H, x0, xt, 9, 0, variance=0.0)[0], x0)


def test_ancestral_step():
    xt, eps, z = DATA[:3]
    for kind, variance in (("posterior", "beta_tilde"), ("beta", "beta")):
        got = ancestral.ancestral_step(H, xt, LATER, EARLIER, eps, z, kind)
        mean = reverse.model_mean_from_eps(H, xt, LATER, EARLIER, eps)
        std = np.sqrt(getattr(H.between(LATER, EARLIER), variance)) * (EARLIER > 0)
        assert (np.abs(got - mean - std[:, None] * z) <= 2.0**-53 * 8 * (np.abs(mean) + np.abs(z))).all()  # rule: k = 8
        assert np.array_equal(got[EARLIER == 0], mean[EARLIER == 0])


def test_strided_betas_make_the_respaced_schedule():
    walk = Trajectory((40, 31, 9, 2, 0))
    strided = NoiseSchedule.from_betas(ddim.strided_betas(H, walk))
    levels = np.array(walk.levels[::-1])
    u = 2.0**-53  # each alpha is reproduced to u / alpha: four of them, all above 1/2
    assert (np.abs(strided.alpha_bar - H.alpha_bar[levels]) <= 8 * u * H.alpha_bar[levels]).all()
    assert np.array_equal(strided.beta[1:], [H.between(t, s).beta for s, t in itertools.pairwise(levels.tolist())])
    every = Trajectory(tuple(range(40, -1, -1)))
    assert np.array_equal(ddim.strided_betas(H, every), H.beta[1:])


ONE = np.ones(2)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ddim.ddim_std(H, 3, 2, 1.5), RangeError, r"eta = 1.5; it is a number in \[0, 1\]"),
        (lambda: ddim.ddim_std(H, 3, 2, float("nan")), RangeError, "eta = nan"),
        (lambda: ddim.ddim_weights(H, 3, 3), LevelError, "step from t = 3 to s = 3; a step needs t > s"),
        (lambda: ddim.ddim_weights(H, 41, 3), LevelError, "t contains level 41"),
        (lambda: ddim.ddim_posterior(H, ONE, ONE, 3, 2, 0.5, 0.1), RangeError, "both given; write one of them"),
        (
            lambda: ddim.ddim_posterior(H, ONE, ONE, 3, 2, variance=-0.1),
            RangeError,
            "variance contains -0.1; variances must",
        ),
        (
            lambda: ddim.ddim_posterior(H, ONE, ONE, 3, 2, variance=[0.0, 0.0, 0.0]),
            ShapeError,
            r"variance has shape \(3,\)",
        ),
        (lambda: ddim.ddim_posterior(H, ONE, np.ones(3), 3, 2), ShapeError, "shapes do not fit together"),
        (lambda: ddim.ddim_step(H, ONE, ONE, 3, 2, None, 0.5), RangeError, "eta > 0 adds noise.*pass noise"),
        (lambda: ddim.ddim_step(H, ONE * np.nan, ONE, 3, 2), RangeError, "x0 contains nan"),
        (
            lambda: ancestral.ancestral_step(H, ONE, 3, 2, ONE, ONE, "large"),
            RangeError,
            "variance = 'large' is not known",
        ),
        (
            lambda: ddim.ddim_step_from_eps(NoiseSchedule.from_betas([0.1, 1.0]), ONE, 2, 1, ONE),
            RangeError,
            "zero terminal SNR",
        ),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call()
