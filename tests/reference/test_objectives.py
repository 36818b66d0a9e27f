"""Losses per example, and laws of the levels: every expectation over levels is taken exhaustively, none is drawn."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest

from ddpm_ref.arithmetic.bounds import gamma
from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.reference.named_schedules import linear_schedule
from ddpm_ref.reference.objectives import (
    antithetic_levels,
    hybrid,
    importance_probabilities,
    importance_weights,
    simple_l1,
    simple_l2,
)
from ddpm_ref.reference.oracle import Gaussian, Mixture

U = 2.0**-53


@pytest.mark.parametrize(("loss", "power"), [(simple_l2, 2), (simple_l1, 1)])
@pytest.mark.parametrize("shape", [(4,), (4, 1), (3, 2, 5), (1, 3, 8, 8)])
def test_losses_are_means_over_components(loss, power, shape):
    target, prediction = np.random.default_rng(1).standard_normal((2, *shape))
    got = loss(target, prediction)
    exact = [[abs(Fraction(a) - Fraction(b)) ** power for a, b in zip(x, y, strict=True)] for x, y in zip(
        target.reshape(shape[0], -1).tolist(), prediction.reshape(shape[0], -1).tolist(), strict=True)]  # fmt: skip
    means = np.array([float(sum(row) / len(row)) for row in exact])
    # Sums of positive terms (NUMERICS 5): difference and square, the tree, the quotient.
    depth = len(exact[0]) + 4
    assert (np.abs(got - means) <= gamma(depth, U) * means).all()
    assert got.shape == shape[:1]
    assert not loss(target, target).any()


def test_reduction_is_the_squared_norm_over_d():
    """d times the loss is the squared norm; the mean over the batch is the mean over all numbers."""
    target, prediction = np.random.default_rng(2).standard_normal((2, 6, 3, 4))
    got, squares = simple_l2(target, prediction), (target - prediction) ** 2
    assert 12 * got == pytest.approx(squares.sum(axis=(1, 2)), rel=32 * U)  # NUMERICS 5: sums of 12 positive terms
    assert got.mean() == pytest.approx(squares.mean(), rel=128 * U)
    assert simple_l2(target[:0], prediction[:0]).shape == (0,)


def test_losses_refuse():
    for loss in (simple_l2, simple_l1):
        with pytest.raises(ShapeError, match=r"target has shape \(2, 3\) and prediction \(3,\); give one shape"):
            loss(np.zeros((2, 3)), np.zeros(3))
        for shape in ((), (2, 0)):
            with pytest.raises(ShapeError, match="give one shape"):
                loss(np.zeros(shape), np.zeros(shape))
        with pytest.raises(RangeError, match="prediction contains nan"):
            loss([0.0], [np.nan])


def test_simple_loss_is_least_at_the_conditional_mean_and_l1_at_the_median():
    """On a law that is not symmetric: three points with probabilities 1/2, 1/4, 1/4, the mean 3/2, any median in [0, 2]."""
    law = np.repeat([0.0, 2.0, 4.0], [5, 3, 2])[:, None]  # median 1 between 0 and 2: any number there; mean 1.4
    guesses = np.linspace(-1, 5, 121)
    means = [simple_l2(law, np.full_like(law, g)).mean() for g in guesses]
    assert guesses[np.argmin(means)] == pytest.approx(1.4, abs=0.025)  # half the grid
    absolute = np.array([simple_l1(law, np.full_like(law, g)).mean() for g in guesses])
    least = guesses[absolute <= absolute.min() * (1 + 16 * U)]  # sums of ten terms
    assert least.min() == pytest.approx(0, abs=1e-12)
    assert least.max() == pytest.approx(2, abs=1e-12)  # the grid's own rounding


def test_minimum_of_the_simple_loss_on_gaussian_data():
    """alpha_bar s^2 / V per dimension, the loss of the exact predictor: the second moment of what it leaves, three nodes each."""
    H, nodes, weights = linear_schedule(1000), np.array([-1, 0, 1]) * 3**0.5, np.array([1, 4, 1]) / 6
    for s2 in (1.0, 0.25):
        data = Gaussian(0.0, s2)
        for t in (1, 100, 1000):
            x0, eps = np.meshgrid(nodes * s2**0.5, nodes, indexing="ij")
            xt = H.sqrt_alpha_bar[t] * x0 + H.sqrt_beta_bar[t] * eps
            predicted = data.eps(H, xt[..., None], t)[..., 0]
            loss = weights @ simple_l2(eps.reshape(9, 1), predicted.reshape(9, 1)).reshape(3, 3) @ weights
            total = H.alpha_bar[t] * s2 + H.beta_bar[t]
            # eps - eps* cancels: errors of 16 u of numbers of size 2, against the root of the loss
            floor_ = H.alpha_bar[t] * s2 / total
            assert loss == pytest.approx(floor_, abs=64 * U * floor_**0.5 + 64 * U * floor_)
            assert data.loss_floor(H, t) == pytest.approx(floor_, rel=16 * U)  # NUMERICS 2


@pytest.mark.wrong_types
def test_hybrid():
    simple, vlb = np.array([0.5, 0.25]), np.array([4.0, 8.0])
    assert hybrid(simple, vlb).tolist() == [0.5 + 0.001 * 4, 0.25 + 0.001 * 8]
    assert hybrid(simple, vlb, vlb_weight=0).tolist() == simple.tolist()
    assert hybrid(simple, vlb, 1).tolist() == [4.5, 8.25]
    # nichol2021's code: the sampled term in bits per dimension times T / 1000
    term, T = 0.37, 4000
    assert hybrid(0.0, T * term) == pytest.approx(term * (T / 1000), rel=4 * U)  # NUMERICS 2
    with pytest.raises(ShapeError, match="one number per example in each"):
        hybrid(simple, 1.0)
    for wrong in (-1.0, np.inf, np.nan, "1", True, [1.0], np.ones((2, 1)), None):
        with pytest.raises(RangeError, match=r"(?s)vlb_weight = .* must be one finite number >= 0"):
            hybrid([1.0, 1.0], [0.0, 1.0], wrong)
    with pytest.raises(RangeError, match="vlb_weight = -1"):
        hybrid(simple, vlb, -1)


# Levels


def pieces(count, T):
    """One u inside each of the intervals on which no level of the batch changes, all of one length."""
    n = T * count
    return [(2 * j + 1) / (2 * n) for j in range(n)]


@pytest.mark.parametrize(("count", "T"), [(1, 7), (4, 10), (3, 10), (16, 10), (5, 1), (8, 1000)])
def test_each_antithetic_level_is_uniform(count, T):
    """The integral over u, piece by piece: each member of the batch visits each level for exactly 1/T of all u."""
    batches = np.array([antithetic_levels(u, count, T) for u in pieces(count, T)])
    assert batches.shape == (T * count, count)
    for member in batches.T:
        assert np.bincount(member, minlength=T + 1)[1:].tolist() == [count] * T
        assert member.min() >= 1
    # so the mean of any loss over the batch is unbiased: exactly, in fractions
    losses = [Fraction(i * i + 3, 7) for i in range(T)]
    total = sum(losses[t - 1] for t in batches.ravel().tolist())
    assert Fraction(total, batches.size) == sum(losses) / T


@pytest.mark.parametrize(("count", "T"), [(4, 10), (30, 10), (128, 1000)])
def test_antithetic_levels_are_spread(count, T):
    """Every stretch of levels is visited as often as its length says, to within one visit at either end."""
    for u in (0.0, 0.1234, 0.5, 1 - 2.0**-53):
        visits = np.cumsum(np.bincount(antithetic_levels(u, count, T), minlength=T + 1))[1:]
        assert (np.abs(visits - count * np.arange(1, T + 1) / T) <= 1).all()
    if count % T == 0:
        assert np.bincount(antithetic_levels(0.77, count, T))[1:].tolist() == [count // T] * T


def test_antithetic_levels_are_exact():
    """In fractions; where float64 gives level T + 1 or the wrong side of an edge, integers do not."""
    rng = np.random.default_rng(3)
    for u in [0.0, 2.0**-1074, 1 - 2.0**-53, 1 / 3, *rng.random(50).tolist()]:
        for count, T in ((3, 10), (7, 1000), (49, 49)):
            turns = [Fraction(u) + Fraction(i, count) for i in range(count)]
            want = [1 + floor(T * (f - floor(f))) for f in turns]
            assert antithetic_levels(u, count, T).tolist() == want
    # In float64 0.3 + 7/10 is 1, whose fraction is level 1; in numbers it is less, and level T.
    assert (0.3 + 7 / 10) % 1 == 0
    assert antithetic_levels(0.3, 10, 1000)[7] == 1000
    assert antithetic_levels(2.0**-1074, 3, 10).tolist() == [1, 4, 7]
    naive = [1 + floor(49 * ((0.0 + i / 49) % 1)) for i in range(49)]
    assert naive != antithetic_levels(0.0, 49, 49).tolist() == list(range(1, 50))


@pytest.mark.wrong_types
def test_antithetic_levels_refuse():
    for wrong in (-0.1, 1.0, float("nan"), True, "0.3", 1j, np.complex128(0.3)):
        with pytest.raises(RangeError, match=r"uniform = .* must be one number in \[0, 1\)"):
            antithetic_levels(wrong, 4, 10)
    for wrong in (0, -1, 2.5, True, "4"):
        with pytest.raises(RangeError, match="count = "):
            antithetic_levels(0.5, wrong, 10)
        with pytest.raises(RangeError, match="T = "):
            antithetic_levels(0.5, 4, wrong)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 1.0])
def test_importance_probabilities(share):
    moments = np.random.default_rng(4).uniform(0, 9, 50) ** 2 + 1e-3
    p = importance_probabilities(moments, share)
    # NUMERICS 2 and 5: roots, their sum, quotient, mixture
    want = (1 - share) * np.sqrt(moments) / np.sqrt(moments).sum() + share / 50
    assert p == pytest.approx(want, rel=8 * U)
    assert p.sum() == pytest.approx(1, rel=64 * U)
    assert (p >= share / 50).all()
    assert p.shape == (50,)


@pytest.mark.parametrize("share", [0.0, 0.001, 1.0])
def test_importance_sampling_is_unbiased(share):
    """Exhaustively: sum of p w L is the mean of L; in fractions of the float64 p and w, to two roundings of each w."""
    T = 200
    rng = np.random.default_rng(5)
    losses = rng.uniform(0, 9, T) ** 2
    p = importance_probabilities(losses**2, share)
    w = importance_weights(p)
    expectation = sum(
        Fraction(a) * Fraction(b) * Fraction(c) for a, b, c in zip(p.tolist(), w.tolist(), losses.tolist(), strict=True)
    )
    mean = sum(map(Fraction, losses.tolist())) / T
    assert abs(expectation / mean - 1) <= gamma(2, U)
    # and without the weights it is not
    unweighted = sum(Fraction(a) * Fraction(c) for a, c in zip(p.tolist(), losses.tolist(), strict=True))
    assert abs(unweighted / mean - 1) > 0.1 or share == 1


def test_importance_sampling_has_the_least_variance():
    """Of all laws: the Cauchy-Schwarz bound on the second moment is reached at p proportional to the roots."""
    rng = np.random.default_rng(6)
    moments = rng.uniform(0, 9, 30) ** 2
    second = lambda p: np.sum(moments / (30**2 * p))  # noqa: E731 - E[(w L)^2]
    best = importance_probabilities(moments, 0.0)
    assert second(best) == pytest.approx(np.sqrt(moments).sum() ** 2 / 30**2, rel=128 * U)  # sums of 30
    for _ in range(200):
        other = rng.dirichlet(np.ones(30))
        assert second(other) > second(best)
    # and the mixture with the uniform law costs at most 1 / (1 - share)
    assert second(importance_probabilities(moments, 0.1)) <= second(best) / 0.9


def test_importance_edges():
    assert importance_probabilities([0.0, 0.0]).tolist() == [0.5, 0.5]
    assert importance_probabilities([0.0, 4.0], 0.0).tolist() == [0.0, 1.0]
    assert importance_probabilities([1e300, 1e300], 0.0).tolist() == [0.5, 0.5]
    assert importance_weights(np.full(8, 0.125)).tolist() == [1.0] * 8
    with pytest.raises(RangeError, match=r"probabilities contain 0\.0 at level 1, whose loss would never be seen"):
        importance_weights([0.0, 1.0])
    with pytest.raises(RangeError, match=r"sum to 0\.9.*write p / p\.sum\(\)"):
        importance_weights([0.5, 0.4])
    with pytest.raises(RangeError, match="second_moments contains -1"):
        importance_probabilities([1.0, -1.0])
    with pytest.raises(RangeError, match=r"uniform_share = 1\.5"):
        importance_probabilities([1.0], 1.5)
    for wrong in (1.0, [[1.0]], []):
        with pytest.raises(ShapeError, match="one number per level"):
            importance_probabilities(wrong)
        with pytest.raises(ShapeError, match="one number per level"):
            importance_weights(wrong)


def test_importance_weights_of_a_long_schedule():
    """What a thousand roundings leave of a sum of 1 is not held against it."""
    data, H = Mixture([0.5, 0.5], [-1.0, 1.0], [0.01, 0.01]), linear_schedule(4000)
    floors = data.loss_floor(H, np.array([1, 2000, 4000]))
    moments = np.interp(np.arange(1, 4001), [1, 2000, 4000], floors**2)
    p = importance_probabilities(moments)
    assert importance_weights(p) @ p == pytest.approx(1, rel=64 * U)  # NUMERICS 5: sums
