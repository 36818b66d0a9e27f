"""Double-double operations against exact fractions and mpmath at 60 digits.

The bounds, u = 2**-53: Joldes, Muller and Popescu (2017) prove 3 u**2 for the sum, 5 u**2 for the product without fused
operations, and 10 u**2 for the quotient; in powers of two, 2**-104, 2**-103 and 2**-102. A series of n terms adds one
product and one sum each, damped by its decreasing terms: 2**-95 leaves room for 2**7 of them.
"""

from fractions import Fraction

import mpmath
import numpy as np
import pytest

from ddpm_ref.arithmetic import DoubleDouble
from ddpm_ref.arithmetic.double_double import (
    LN2,
    TWO_PI,
    exp,
    expm1_minus_x,
    log,
    sqrt,
    two_product,
    two_sum,
    where,
    x_minus_log1p,
)

MP = mpmath.mp.clone()
MP.dps = 60
SERIES = 2.0**-95


def exact(x):
    return [Fraction(h) + Fraction(low) for h, low in zip(x.high.ravel().tolist(), x.low.ravel().tolist(), strict=True)]


def mp(x):
    return [MP.mpf(h) + MP.mpf(low) for h, low in zip(x.high.ravel().tolist(), x.low.ravel().tolist(), strict=True)]


def random_pairs(seed, n=2000, spread=30):
    rng = np.random.default_rng(seed)
    high = rng.standard_normal(n) * 2.0 ** rng.integers(-spread, spread, n)
    low = rng.uniform(-0.5, 0.5, n) * np.spacing(high)
    return DoubleDouble(high + low, low - ((high + low) - high))


def worst(got, values):
    return max(abs(g - v) / abs(v) if v else abs(g) for g, v in zip(got, values, strict=True))


def test_error_free_transforms_are_exact():
    a, b = random_pairs(0).high, random_pairs(1).high
    for got, operation in ((two_sum(a, b), Fraction.__add__), (two_product(a, b), Fraction.__mul__)):
        for x, y, s, e in zip(a.tolist(), b.tolist(), *(w.tolist() for w in got), strict=True):
            assert Fraction(s) + Fraction(e) == operation(Fraction(x), Fraction(y))


@pytest.mark.parametrize(
    ("operation", "limit"),
    [("__mul__", 2.0**-103), ("__truediv__", 2.0**-102)],
)
def test_products_and_quotients(operation, limit):
    x, y = random_pairs(2), random_pairs(3)
    values = [getattr(a, operation)(b) for a, b in zip(exact(x), exact(y), strict=True)]
    assert worst(exact(getattr(x, operation)(y)), values) <= limit


def test_sums_of_one_sign_and_of_cancelling_terms():
    """The accurate sum keeps its relative error under nearly total cancellation, which the simple one does not."""
    x, y = abs(random_pairs(4)), abs(random_pairs(5))
    assert worst(exact(x + y), [a + b for a, b in zip(exact(x), exact(y), strict=True)]) <= 2.0**-104
    near = x * (1.0 + np.random.default_rng(6).uniform(-1, 1, 2000) * 2.0 ** -(np.arange(2000) ** 0.5))
    for got, a, b in zip(exact(x - near), exact(x), exact(near), strict=True):
        assert abs(got - (a - b)) <= abs(a - b) * Fraction(2) ** -104


def test_operators_take_floats_and_arrays_on_either_side():
    x, array = DoubleDouble.of(np.array([0.1, 0.7])), np.array([3.0, -2.0])
    a, b = [Fraction(v) for v in (0.1, 0.7)], [Fraction(3), Fraction(-2)]
    results = {
        "sum": (array + x, x + array, [p + q for p, q in zip(a, b, strict=True)]),
        "product": (array * x, x * array, [p * q for p, q in zip(a, b, strict=True)]),
    }
    for left, right, values in results.values():
        assert worst(exact(left), values) <= 2.0**-103
        assert worst(exact(right), values) <= 2.0**-103
    assert worst(exact(array - x), [q - p for p, q in zip(a, b, strict=True)]) <= 2.0**-104
    assert worst(exact(array / x), [q / p for p, q in zip(a, b, strict=True)]) <= 2.0**-102
    assert worst(exact(1.0 / x), [1 / p for p in a]) <= 2.0**-102
    assert exact(-x) == [-v for v in a]
    assert exact(abs(-x)) == a


def test_shapes_choice_and_sums():
    x = random_pairs(7, 24)
    box = x.reshape((2, 3, 4))
    assert box.shape == (2, 3, 4)
    for axis in (0, 1, 2, -1):
        got, values = box.sum(axis), np.array(exact(x), dtype=object).reshape(2, 3, 4)
        scale = np.sum(np.abs(values), axis=axis).ravel()
        error = np.abs(np.array(exact(got), dtype=object) - np.sum(values, axis=axis).ravel())
        assert (error <= 8 * scale * Fraction(2) ** -104).all()  # rule: at most 4 sums of 2**-104 each, twice for room
    chosen = where(np.arange(24) % 2 == 0, x, -x)
    assert exact(chosen) == [v if i % 2 == 0 else -v for i, v in enumerate(exact(x))]


def test_fractions_and_constants():
    for value in (Fraction(1, 3), Fraction(10**30, 7), Fraction(0), Fraction(-5, 8)):
        (got,) = exact(DoubleDouble.fraction(value))
        assert abs(got - value) <= abs(value) * Fraction(2) ** -106
    assert abs(mp(LN2)[0] - MP.log(2)) <= MP.mpf(2) ** -107
    assert abs(mp(TWO_PI)[0] - 2 * MP.pi) <= 2 * MP.pi * MP.mpf(2) ** -107


def test_square_root():
    x = abs(random_pairs(8))
    assert worst(mp(sqrt(x)), [MP.sqrt(v) for v in mp(x)]) <= 2.0**-102
    assert sqrt(np.zeros(1)).high == 0


def test_logarithm():
    """Over 600 powers of ten, near sqrt(1/2) and sqrt(2) where the exponent changes, and next to 1."""
    rng = np.random.default_rng(9)
    turning = np.sqrt([0.5, 2.0])[:, None] * (1 + np.linspace(-1e-15, 1e-15, 41))
    near_one = 1 + rng.choice([-1, 1], 300) * 10.0 ** rng.uniform(-15, -1, 300)
    x = np.concatenate([10.0 ** rng.uniform(-280, 280, 1000), turning.ravel(), near_one, [1.0]])
    pairs = random_pairs(10, 500)
    both = DoubleDouble(np.append(x, abs(pairs).high), np.append(np.zeros_like(x), abs(pairs).low))
    assert worst(mp(log(both)), [MP.log(v) for v in mp(both)]) <= SERIES


def test_exponential():
    """The reduction by k ln 2 costs |x| 2**-106 absolutely, 2**-97 at |x| = 600."""
    rng = np.random.default_rng(11)
    x = np.concatenate([rng.uniform(-600, 600, 800), 10.0 ** rng.uniform(-20, 0, 200), [0.0, 0.5, -0.5]])
    pairs = DoubleDouble(x, rng.uniform(-0.5, 0.5, x.size) * np.spacing(x))
    assert worst(mp(exp(pairs)), [MP.exp(v) for v in mp(pairs)]) <= SERIES


@pytest.mark.parametrize(
    ("function", "definition"),
    [
        (x_minus_log1p, lambda c, v: v - c.log(1 + v)),
        (expm1_minus_x, lambda c, v: c.exp(v) - 1 - v),
    ],
    ids=["x - log1p(x)", "expm1(x) - x"],
)
def test_cancelling_functions(function, definition):
    """Down to |x| = 1e-60, on both sides of zero and of the switch at 1/2."""
    rng = np.random.default_rng(12)
    small = 10.0 ** rng.uniform(-60, -0.31, 800)
    switch = np.nextafter(0.5, [0.0, 1.0])
    x = np.concatenate([small, -small, switch, -switch, [0.5, -0.5], rng.uniform(0.5, 30, 300), [-0.9, -0.999]])
    context = mpmath.mp.clone()
    context.dps = 200  # 60 digits beyond what x - log(1 + x) cancels at 1e-60
    values = [definition(context, context.mpf(v)) for v in x.tolist()]
    got = function(x)
    words = [context.mpf(h) + context.mpf(low) for h, low in zip(got.high.tolist(), got.low.tolist(), strict=True)]
    assert worst(words, values) <= SERIES
    assert float(function(np.zeros(1)).high[0]) == 0.0
