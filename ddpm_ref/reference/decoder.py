r"""The discretised Gaussian decoder: the probability of a grey level, given a normal law of the pixel.

Each of the levels :math:`x_k = -1 + 2k/(L-1)` owns the bin that reaches half-way to its neighbours; the first and the last
bin are open to the outside. With :math:`z_\pm` the edges in standard deviations from the mean,
:math:`p = \Phi(z_+) - \Phi(z_-)`. That subtracts two numbers near 1, near 0 or near each other; so :math:`\log p` is formed in
one of three ways, in which nothing cancels, from edges known to a hundred bits.
"""

from __future__ import annotations

from math import log, pi, sqrt

import numpy as np

from ddpm_ref.arithmetic import double_double
from ddpm_ref.arithmetic.double_double import TWO_PI, DoubleDouble, two_product, where
from ddpm_ref.reference.arguments import positive, real, same_shape
from ddpm_ref.reference.scaling import level_count, whole_level_index
from ddpm_ref.typing import Array, ArrayLike, BoolArray, IntArray, Real

# Nodes and weights of Gauss and Legendre: of sixteen on [-1, 1], the half that an even integrand needs.
_NODES = (
    (0.09501250983763744, 0.1894506104550685),
    (0.2816035507792589, 0.18260341504492358),
    (0.45801677765722737, 0.16915651939500254),
    (0.6178762444026438, 0.14959598881657674),
    (0.755404408355003, 0.12462897125553388),
    (0.8656312023878318, 0.09515851168249279),
    (0.9445750230732326, 0.062253523938647894),
    (0.9894009349916499, 0.027152459411754096),
)
_FARTHEST = sqrt(2) * sqrt(float(np.finfo(np.float64).max))  # half the square of this overflows
_HUGE = 900  # the exponent from which on powers of two are taken out, before products overflow or digits are lost
_ROOT_TWO_PI = double_double.sqrt(TWO_PI)
_BROAD = 1.5
_NEAR = 1.4  # standard deviations up to which quadrature beats erfcx
TANH_FLOOR = 1e-12


def discretized_gaussian_log_likelihood(
    level_index: ArrayLike, mean: ArrayLike, std: ArrayLike, levels: Real = 256
) -> Array:
    r"""Logarithm of the probability of a grey level under a normal law of the pixel, nats per element.

    .. math:: \log p = \log\left[\Phi\left(\frac{x_k + \frac1{L-1} - \mu}{\sigma}\right)
              - \Phi\left(\frac{x_k - \frac1{L-1} - \mu}{\sigma}\right)\right], \qquad x_k = -1 + \frac{2k}{L-1},

    where the upper edge of level ``L - 1`` and the lower edge of level 0 are infinite.

    Args:
        level_index: whole numbers ``k`` from 0 to ``levels - 1``; `ddpm_ref.reference.scaling.to_level_index` makes them of data.
        mean: of the normal law, on the scale of the data, whose levels fill [-1, 1].
        std: its standard deviation, > 0. All arguments broadcast.
        levels: how many grey levels there are, >= 2.

    Returns an array of the broadcast shape, <= 0, exact within 8 units in the last place and never floored (docs/decoder.md).
    Raises `RangeError` for levels that are fractions, booleans or outside, for a ``std`` that is not positive and for numbers that
    are not finite; `ShapeError`. Limits: for ``std -> 0`` it tends to 0 if the mean is inside the bin, to minus infinity if it is
    outside; for ``std -> inf`` each of the outermost levels gets half of the probability. Laws: ``decoder/log_likelihood``,
    ``decoder/open_edges``, ``decoder/sums_to_one``. Source: ho2020, eq. (13).

    >>> float(discretized_gaussian_log_likelihood(1, 0.0, 1.0, levels=2))
    -0.6931471805599453
    >>> print(f"{discretized_gaussian_log_likelihood(255, -1.0, 1e-6):.6g}")
    -1.99216e+12
    """
    k, m, s, last = _arguments(level_index, mean, std, levels)
    with np.errstate(
        over="ignore", under="ignore", invalid="ignore"
    ):  # where something overflows, another branch is taken
        return _log_likelihood(k.ravel(), m.ravel(), s.ravel(), last).reshape(k.shape)


def discretized_gaussian_log_likelihood_tanh(
    level_index: ArrayLike, mean: ArrayLike, std: ArrayLike, levels: Real = 256
) -> Array:
    r"""The widely copied approximation, nats per element: for comparison only, since it is neither exact nor a likelihood.

    .. math:: \Phi(z) \approx \tfrac12\left[1 + \tanh\sqrt{2/\pi}\,(z + 0.044715\,z^3)\right], \qquad
              p \approx \max(\Phi(z_+) - \Phi(z_-),\ 10^{-12}).

    Arguments, result and errors are those of `discretized_gaussian_log_likelihood`. The distribution function is off by up to
    1.79e-4, its tail by ever larger factors, and the floor returns about -27.6 for whatever is less probable; docs/decoder.md has a
    table of the damage. Limits: as for the exact function, but for the floor. Source: ho2020 and nichol2021, code.

    >>> float(discretized_gaussian_log_likelihood_tanh(255, -1.0, 0.01))  # 199 standard deviations away
    -27.63102...
    """
    k, m, s, last = _arguments(level_index, mean, std, levels)
    with np.errstate(over="ignore"):
        lower, upper = (_tanh_distribution(((2 * k - last + side) / last - m) / s) for side in (-1, 1))
        p = np.where(k == last, 1.0, upper) - np.where(k == 0, 0.0, lower)
    return np.asarray(np.log(np.maximum(p, TANH_FLOOR)))


def _tanh_distribution(z: Array) -> Array:
    return np.asarray((1 + np.tanh(sqrt(2 / pi) * (z + 0.044715 * z**3))) / 2)


def _arguments(
    level_index: ArrayLike, mean: ArrayLike, std: ArrayLike, levels: Real
) -> tuple[IntArray, Array, Array, int]:
    last = level_count(levels) - 1
    k, m, s = whole_level_index(level_index, last + 1), real(mean, "mean"), positive(std, "std")
    shape = same_shape(level_index=np.asarray(k, dtype=np.float64), mean=m, std=s)
    return np.broadcast_to(k, shape), np.broadcast_to(m, shape), np.broadcast_to(s, shape), last


def _log_likelihood(k: IntArray, m: Array, s: Array, last: int) -> Array:
    # The levels are symmetric: a bin on the left of the mean is one on the right of minus the mean. Open bins open to the right.
    outermost = (k == 0) | (k == last)
    turned = np.where(outermost, k == 0, 2 * k - last < m * last)
    k, m = np.where(turned, last - k, k), np.where(turned, -m, m)
    lower, centre, upper = (_standardized(2 * k - last + side, m, s, last) for side in (-1, 0, 1))
    upper = where(outermost, DoubleDouble.of(np.inf), upper)
    width = _over_std(DoubleDouble.of(np.full_like(s, 2.0)), s, last).high
    beyond = lower.high >= 0
    narrow = ~outermost & np.where(beyond, width * centre.high < 2, width < _BROAD)
    apart, around = beyond & ~narrow, ~beyond & ~narrow
    log_p = np.empty_like(s)
    log_p[narrow] = _narrow(_at(centre, narrow), width[narrow], s[narrow], last)
    log_p[apart] = _apart(_at(lower, apart), upper.high[apart], (width * centre.high)[apart])
    log_p[around] = np.log1p(-(_tail(-_at(lower, around)) + _tail(_at(upper, around))))
    return log_p


def _narrow(centre: DoubleDouble, width: Array, std: Array, last: int) -> Array:
    r"""Of centre ``c``, width ``h``: :math:`-\tfrac12c^2 + \log\frac h{\sqrt{2\pi}}\int_0^1\cosh(\tfrac12cht)e^{-h^2t^2/8}dt`."""
    # The width under a very broad law has no digits left, though its logarithm is nothing special.
    exponent = np.frexp(std)[1]
    taken = np.where(exponent > _HUGE, exponent, 0)
    scaled = _over_std(DoubleDouble.of(np.full_like(std, 2.0)), np.ldexp(std, -taken), last).high
    mass = scaled / _ROOT_TWO_PI.high * (1 + _excess(width * centre.high / 2, width**2 / 8))
    return _sum(np.log(mass) - log(2) * taken, -_half_square(centre))


def _apart(lower: DoubleDouble, upper: Array, exponent: Array) -> Array:
    r"""From ``a`` to ``b``: :math:`-\tfrac12a^2 + \log[R(a) - e^{(a^2-b^2)/2}R(b)]`, ``R`` being a tail times :math:`e^{z^2/2}`."""
    square, near = _half_square(lower), lower.high < _NEAR
    tail = np.where(near, np.exp(np.where(near, square.high, 0.0)) * _near_tail(lower), _scaled_tail(lower.high))
    return _sum(np.log(tail - np.exp(-exponent) * _scaled_tail(upper)), -square)


def _tail(z: DoubleDouble) -> Array:
    """The probability beyond ``z >= 0``, whose relative error does not grow with z."""
    square = _half_square(z)
    far = np.exp(-square.high) * (1 - square.low) * _scaled_tail(z.high)
    return np.where(z.high < _NEAR, _near_tail(z), far)


def _near_tail(z: DoubleDouble) -> Array:
    """The same for small ``z``: half of the probability, without what lies between 0 and z."""
    z = where(z.high < _NEAR, z, DoubleDouble.of(0.0))
    linear = z / _ROOT_TWO_PI
    return np.asarray((0.5 - linear.high) - (linear.low + linear.high * _excess(np.zeros_like(z.high), z.high**2 / 2)))


def _scaled_tail(z: Array) -> Array:
    """The same times the exponential of half the square; from `_NEAR` on to a few units in the last place."""
    from scipy.special import erfcx  # SciPy takes its time to load

    return np.asarray(erfcx(z / sqrt(2)) / 2)


def _excess(slope: Array, bend: Array) -> Array:
    """Of the integral of ``cosh(slope t) exp(-bend t**2)`` over [0, 1], for slopes and bends of order 1, over 1."""
    excess = np.zeros_like(slope)
    for t, weight in _NODES:
        below = np.expm1(-bend * t**2)
        excess += weight * (below + 2 * np.sinh(slope * t / 2) ** 2 * (1 + below))
    return excess


def _standardized(edge: IntArray, mean: Array, std: Array, last: int) -> DoubleDouble:
    """``(edge / last - mean) / std`` in two words; exact numbers are subtracted, so that nothing is lost near an edge."""
    taken = np.where(np.abs(mean) > 2.0**_HUGE, _HUGE, 0)
    product = DoubleDouble(*two_product(np.ldexp(mean, -taken), np.asarray(float(last))))
    return _over_std(np.ldexp(edge.astype(np.float64), -taken) - product, std, last, taken)


def _over_std(numerator: DoubleDouble, std: Array, last: int, taken: IntArray | int = 0) -> DoubleDouble:
    """``2**taken numerator / (last std)``; beyond all squares it is large and no more."""
    mantissa, exponent = np.frexp(std)
    z = numerator / DoubleDouble(*two_product(mantissa, np.asarray(float(last))))
    high = np.ldexp(z.high, taken - exponent)
    far = np.abs(high) > _FARTHEST
    return DoubleDouble(
        np.where(far, np.copysign(2 * _FARTHEST, high), high), np.where(far, 0.0, np.ldexp(z.low, taken - exponent))
    )


def _half_square(z: DoubleDouble) -> DoubleDouble:
    """In two words, or infinite."""
    far = np.abs(z.high) >= _FARTHEST
    half = where(far, DoubleDouble.of(0.0), z) * 0.5
    square = half * half
    return where(far, DoubleDouble.of(np.inf), DoubleDouble(2 * square.high, 2 * square.low))


def _sum(x: Array, y: DoubleDouble) -> Array:
    return np.asarray(y.high + (x + y.low))


def _at(z: DoubleDouble, place: BoolArray) -> DoubleDouble:
    return DoubleDouble(z.high[place], z.low[place])
