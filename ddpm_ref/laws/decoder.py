r"""Laws of the discretised Gaussian decoder (nats per element).

The expected values do without the quadrature and the cases of the reference: with Mills' ratio :math:`(1 - \Phi(z))/\varphi(z)` as
a series of Chebyshev polynomials whose coefficients come from fifty digits, the plain difference of two tails, in two words,
has digits enough. docs/decoder.md derives the bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.arithmetic.double_double import TWO_PI, exp, log, where, x_minus_log1p
from ddpm_ref.laws.cases import Case, Cases, Source, draw_shape
from ddpm_ref.laws.registry import Law, Mistake, Outputs
from ddpm_ref.typing import AnyArray, Array, BoolArray, IntArray

# --- the value --------------------------------------------------------------------------------------------------------

_TERMS, _TURN = 46, 6  # of the series in (z - 6)/(z + 6): its coefficients fall below 2**-100 at the 44th
_DIGITS = 50


@lru_cache(maxsize=1)
def _coefficients() -> list[DoubleDouble]:
    """Of ``(1 + z) R(z)`` in Chebyshev polynomials of ``(z - 6)/(z + 6)``."""
    import mpmath

    mp = mpmath.mp.clone()
    mp.dps = _DIGITS
    angles = [mp.pi * (2 * j + 1) / (2 * _TERMS) for j in range(_TERMS)]
    values = []
    for angle in angles:
        z = _TURN * (1 + mp.cos(angle)) / (1 - mp.cos(angle))
        values.append((1 + z) * mp.exp(z * z / 2) * mp.erfc(z / mp.sqrt(2)) * mp.sqrt(mp.pi / 2))
    coefficients = []
    for n in range(_TERMS):
        terms = (value * mp.cos(n * angle) for value, angle in zip(values, angles, strict=True))
        c = mp.fsum(terms) * (1 if n == 0 else 2) / _TERMS
        coefficients.append(DoubleDouble(np.asarray(float(c)), np.asarray(float(c - mp.mpf(float(c))))))
    return coefficients


def _mills(z: DoubleDouble) -> DoubleDouble:
    """The tail beyond ``z >= 0`` over the density there, by Clenshaw's recurrence."""
    t = (z - float(_TURN)) / (z + float(_TURN)) * 2.0
    above = before = DoubleDouble.of(np.zeros(z.shape))
    first, *rest = _coefficients()
    for c in reversed(rest):
        above, before = above * t - before + c, above
    return (above * t * 0.5 - before + first) / (z + 1.0)


@dataclass(frozen=True, eq=False)
class _Bin:
    """A bin in standard deviations from the mean; turned so that its centre, or its only edge, is not on the left."""

    lower: DoubleDouble
    upper: DoubleDouble
    width: DoubleDouble
    open: BoolArray  # on the right

    @staticmethod
    def of(
        level_index: AnyArray, mean: Array, std: Array, levels: int, reach: float = 1.0, closed: bool = False
    ) -> _Bin:
        """Of a level; ``reach`` is half of the width in units of ``1 / (levels - 1)``."""
        k, last = np.asarray(level_index, dtype=np.float64), levels - 1.0
        open_ = ((k == 0) | (k == last)) & (not closed)
        turned = np.where(open_, k == 0, 2 * k - last < mean * last)
        k, mean = np.where(turned, last - k, k), np.where(turned, -mean, mean)
        centre, scale = (2 * k - last) - DoubleDouble.of(mean) * last, DoubleDouble.of(std) * last
        return _Bin((centre - reach) / scale, (centre + reach) / scale, 2 * reach / scale, open_)

    def log_probability(self) -> tuple[DoubleDouble, Array, Array]:
        """And the densities at both edges over the probability: by how much an error of an edge shows."""
        beyond = self.lower.high >= 0
        below, above = _mills(abs(self.lower)), _mills(where(self.open, DoubleDouble.of(1.0), abs(self.upper)))
        # Of a bin on the right, over the density at its lower edge.
        closed, zero = beyond & ~self.open, DoubleDouble.of(0.0)
        fall = where(closed, _exp(where(closed, self.width * (self.lower + self.upper) * -0.5, zero)), zero)
        share = where(beyond, below - fall * above, DoubleDouble.of(1.0))
        right = self.lower * self.lower * -0.5 - log(TWO_PI) * 0.5 + log(share)
        # Of a bin around the mean, by what lies outside of it.
        at_lower, at_upper = (_exp(z * z * -0.5 - log(TWO_PI) * 0.5) for z in (self.lower, self.upper))
        at_upper = where(self.open, zero, at_upper)
        missing = where(beyond, DoubleDouble.of(0.5), at_lower * below + at_upper * above)
        middle = -missing - x_minus_log1p(-missing)
        inside = 1 - missing.high
        first = np.where(beyond, 1 / share.high, at_lower.high / inside)
        second = np.where(beyond, fall.high / share.high, at_upper.high / inside)
        return where(beyond, right, middle), first, second


def _exp(x: DoubleDouble) -> DoubleDouble:
    """Zero where it underflows anyway."""
    low, zero = x.high < -2000.0, DoubleDouble.of(0.0)
    return where(low, zero, exp(where(low, zero, x)))


def _bin(case: Case, **how: Any) -> _Bin:
    return _Bin.of(case.level_index, case.mean, case.std, int(case.levels), **how)


def _log_likelihood(case: Case, **how: Any) -> Outputs:
    return (_bin(case, **how).log_probability()[0].high,)


# --- the bound --------------------------------------------------------------------------------------------------------

LEVEL = 3  # roundings of a level, however it was scaled: as in `ddpm_ref.reference.scaling.to_level_index`
EDGE = 3  # the distance to the mean, and its quotient, which may be a product with a rounded reciprocal
SPECIAL = 8  # one of the functions of the tail, the exponential beside it, their product, the sum of two of them
OUTER = 3  # a square and its half, or the logarithm; the sum
LONGEST = SPECIAL + OUTER


def _charged(case: Case) -> tuple[DoubleDouble, Array]:
    """The value, and how many roundings it is charged with in all, each times what it moves."""
    bin_ = _bin(case)
    value, first, second = bin_.log_probability()
    last = int(case.levels) - 1
    lower, upper, width = bin_.lower.high, np.where(bin_.open, 0.0, bin_.upper.high), bin_.width.high
    centre = (lower + upper) / 2
    place = LEVEL * (1 + np.abs(2 * case.level_index / last - 1)) / case.std
    apart = bin_.open | (width >= 1) | (width * centre >= 2)
    edges = first * (place + EDGE * np.abs(lower)) + second * (place + EDGE * np.abs(upper))
    whole = np.abs(first - second) * (place + EDGE * np.abs(centre)) + EDGE * width * (first + second) / 2
    size = np.abs(value.high)
    # Near 1 the probability is computed by what is missing, (1 - p)/p beside it; up to 2/3 either way will do.
    relative = np.minimum(1.0, 2 * np.expm1(np.minimum(size, 1.0)))
    return value, np.where(apart, edges, whole) + SPECIAL * relative + OUTER * size


def _expected(case: Case) -> tuple[Expected, ...]:
    value, charged = _charged(case)
    return (Expected(value, charged / LONGEST, LONGEST),)


# --- cases ------------------------------------------------------------------------------------------------------------

LEVELS = [256, 2, 3, 17, 1000]
BULK = (64, 64)  # fewer elements than elsewhere: each costs two series in double-double
FINEST, BROADEST = 2.0**14, 1e3  # of a standard deviation, in units of roundoff and of the data


def _stds(source: Source, shape: tuple[int, ...], claim: Claim) -> Array:
    """Spread over the logarithm of their range; none so fine that a rounded level would be an appreciable part of it."""
    finest = max(1e-6, FINEST * claim.computing.u)
    return claim.storing.round(np.exp(source.numbers(shape, np.log(finest), np.log(BROADEST))))


def _integers(source: Source, shape: tuple[int, ...], low: int, high: int) -> IntArray:
    return np.clip(np.floor(source.numbers(shape, low, high + 1.0)), low, high).astype(np.int64)


def _cases(outermost: bool) -> Cases:
    """Means up to 40 deviations from an edge, or anywhere near the data; levels of all kinds, or the first and the last."""

    def cases(source: Source, claim: Claim) -> Case:
        shape, levels = BULK if source.bulk else draw_shape(source), source.choice(LEVELS)
        last = levels - 1
        k = last * _integers(source, shape, 0, 1) if outermost else _integers(source, shape, 0, last)
        std = _stds(source, shape, claim)
        edge = (2 * k - last + _integers(source, shape, -1, 1)) / last
        near = edge + std * source.numbers(shape, -40.0, 40.0)
        mean = near if source.choice([True, True, False]) else source.numbers(shape, -1.5, 1.5)
        values = {"level_index": k, "mean": claim.storing.round(mean), "std": std, "levels": np.asarray(levels)}
        return Case(claim, None, values)

    return cases


def _ask(impl: Any, c: Any) -> Any:
    return impl.discretized_gaussian_log_likelihood(c.level_index, c.mean, c.std, c.levels)


# --- mistakes ---------------------------------------------------------------------------------------------------------


def _standardized(case: Case, side: float) -> Array:
    last = int(case.levels) - 1
    return np.asarray(((2 * case.level_index + side) / last - 1 - case.mean) / case.std)


def _of_distribution(case: Case, distribution: Callable[[Array], Array]) -> Array:
    """The probability as a difference of two values of a distribution function."""
    k, last = case.level_index, int(case.levels) - 1
    upper = np.where(k == last, 1.0, distribution(_standardized(case, 1.0)))
    return np.asarray(upper - np.where(k == 0, 0.0, distribution(_standardized(case, -1.0))))


def _tanh(case: Case) -> Outputs:
    p = _of_distribution(case, lambda z: (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))) / 2)
    return (np.log(np.maximum(p, 1e-12)),)


def _cancelled(case: Case) -> Outputs:
    """Both values of the distribution function rounded to the compute format before they are subtracted."""
    from scipy.special import ndtr

    return (np.log(_of_distribution(case, lambda z: case.claim.computing.round(ndtr(z)))),)


def _density(case: Case) -> Outputs:
    width = 2 / (int(case.levels) - 1) / case.std
    return (-(_standardized(case, 0.0) ** 2) / 2 + np.log(width / np.sqrt(2 * np.pi)),)


def _with(case: Case, **values: AnyArray) -> Case:
    return Case(case.claim, None, dict(case.values) | values)


def _shifted(case: Case) -> Outputs:
    return _log_likelihood(_with(case, level_index=np.minimum(case.level_index + 1, int(case.levels) - 1)))


def _mirrored(case: Case) -> Outputs:
    return _log_likelihood(_with(case, level_index=int(case.levels) - 1 - case.level_index))


FLOORED = Mistake("floored_at_1e_12", lambda c: (np.maximum(_log_likelihood(c)[0], np.log(1e-12)),))
CLOSED = Mistake("outermost_bins_closed", lambda c: _log_likelihood(c, closed=True))
TANH = Mistake("tanh_for_the_distribution_function", _tanh)
REVERSED = Mistake("levels_counted_from_white", _mirrored)

LOG_LIKELIHOOD = Law(
    id="decoder/log_likelihood",
    needs="discretized_gaussian_log_likelihood",
    statement=r"\log p = \log\left[\Phi\left(\frac{x_k + 1/(L-1) - \mu}{\sigma}\right)"
    r" - \Phi\left(\frac{x_k - 1/(L-1) - \mu}{\sigma}\right)\right],\quad x_k = -1 + \frac{2k}{L-1}",
    source="ho2020, eq. (13)",
    cases=_cases(outermost=False),
    call=_ask,
    expect=_expected,
    mistakes=(
        TANH,
        FLOORED,
        CLOSED,
        Mistake("difference_of_rounded_distribution_functions", _cancelled, rounding=True),
        Mistake("density_times_width", _density),
        Mistake("half_width_of_a_256th", lambda c: _log_likelihood(c, reach=1 - 1 / int(c.levels))),
        Mistake("half_width_is_the_whole", lambda c: _log_likelihood(c, reach=2.0)),
        Mistake("log_variance_taken_for_log_std", lambda c: _log_likelihood(_with(c, std=c.std**2))),
        Mistake("level_off_by_one", _shifted),
        REVERSED,
        Mistake("sign_of_the_negative_log_likelihood", lambda c: (-_log_likelihood(c)[0],)),
    ),
)


def _turned(case: Case) -> Case:
    return _with(case, level_index=int(case.levels) - 1 - case.level_index, mean=-case.mean)


def _both(of: Callable[[Case], Outputs]) -> Callable[[Case], Outputs]:
    return lambda case: (*of(case), *of(_turned(case)))


def _ask_both(impl: Any, c: Any) -> tuple[Any, Any]:
    turned = impl.discretized_gaussian_log_likelihood(c.levels - 1 - c.level_index, -c.mean, c.std, c.levels)
    return _ask(impl, c), turned


OPEN_EDGES = Law(
    id="decoder/open_edges",
    needs="discretized_gaussian_log_likelihood",
    statement=r"\log p_0(\mu) = \log p_{L-1}(-\mu) = \log\Phi\left(\frac{-1 + 1/(L-1) - \mu}{\sigma}\right)",
    source="ho2020, eq. (13)",
    cases=_cases(outermost=True),
    call=_ask_both,
    expect=lambda c: 2 * _expected(c),
    mistakes=tuple(
        Mistake(mistake.name, _both(mistake.value))
        for mistake in (
            CLOSED,
            FLOORED,
            TANH,
            REVERSED,
            Mistake("edges_at_the_levels", lambda c: _log_likelihood(c, reach=0.0)),
            Mistake("half_width_is_the_whole", lambda c: _log_likelihood(c, reach=2.0)),
        )
    ),
    kind="metamorphic",
)

# --- all levels together ----------------------------------------------------------------------------------------------

DEPTH = 40  # of a sum of up to 256 terms, and 32 more, the rule for sums
POWER = 3  # a base rounded to the format, which the exponent magnifies; the power itself


def _all_levels(source: Source, claim: Claim) -> Case:
    levels = source.choice([256, 2, 3, 17])
    batch = 64 if source.bulk else source.integer(1, 3)
    shape = (batch, 1)
    mean = claim.storing.round(source.numbers(shape, -2.0, 2.0))
    values = {"mean": mean, "std": _stds(source, shape, claim), "levels": np.asarray(levels)}
    return Case(claim, None, {"level_index": np.arange(levels)} | values)


def _total_expected(case: Case) -> tuple[Expected, ...]:
    value, charged = _charged(case)
    p, size = np.exp(value.high), np.abs(value.high)
    each = charged + POWER * (1 + size) + DEPTH + case.stored_between_calls * (2 + size)
    total = np.sum(np.where(p > 0, p * each, 0.0), axis=-1)
    return (Expected(DoubleDouble.of(np.ones(total.shape)), total / DEPTH, DEPTH),)


def _total(log_p: Array) -> Outputs:
    return (np.exp(log_p).sum(axis=-1),)


SUMS_TO_ONE = Law(
    id="decoder/sums_to_one",
    needs="discretized_gaussian_log_likelihood",
    statement=r"\sum_{k=0}^{L-1} p_k = 1",
    source="elementary",
    cases=_all_levels,
    call=lambda impl, c: (np.e ** _ask(impl, c)).sum(-1),
    expect=_total_expected,
    mistakes=(
        Mistake("outermost_bins_closed", lambda c: _total(_log_likelihood(c, closed=True)[0])),
        Mistake("density_times_width", lambda c: _total(_density(c)[0])),
        Mistake("half_width_is_the_whole", lambda c: _total(_log_likelihood(c, reach=2.0)[0])),
        Mistake("half_width_of_a_256th", lambda c: _total(_log_likelihood(c, reach=1 - 1 / int(c.levels))[0])),
        Mistake("sign_of_the_negative_log_likelihood", lambda c: _total(-_log_likelihood(c)[0])),
    ),
    kind="reduction",
)

LAWS = (LOG_LIKELIHOOD, OPEN_EDGES, SUMS_TO_ONE)
