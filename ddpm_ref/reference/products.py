r"""The products :math:`\bar\alpha_t` of a schedule as integers, and every table entry as one rounding of a monomial in them.

A float64 is an integer times a power of two, so the running product and its complement can be carried as integers of
`BITS` significant bits whose error is known, and every entry of every table is a product of powers of six factors:

====== ========================================== ======================
name   factor                                     level
====== ========================================== ======================
``At`` :math:`\bar\alpha_t`                        the later level ``t``
``Bt`` :math:`\bar\beta_t = 1 - \bar\alpha_t`      the later level ``t``
``As`` :math:`\bar\alpha_s`                        the earlier level ``s``
``Bs`` :math:`\bar\beta_s`                         the earlier level ``s``
``a``  :math:`\alpha_{t|s}=\bar\alpha_t/\bar\alpha_s`  the pair
``b``  :math:`\beta_{t|s}=1-\alpha_{t|s}`          the pair
====== ========================================== ======================

An entry is the float64 nearest to its exact value. Whole columns are evaluated in double-double and accepted by Ziv's
test; single entries, and what a column leaves undecided, are enclosed by the integers; and what even those leave undecided
(ties such as ``1 - 2**-54``) is decided by exact integers of whatever length it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, reduce
from math import inf, prod
from operator import mul, sub, truediv
from typing import TypeVar

import numpy as np

from ddpm_ref.arithmetic.double_double import DoubleDouble, sqrt, two_sum
from ddpm_ref.arithmetic.exact import Undecided, nearest, quotient, ratio, sqrt_ratio, words
from ddpm_ref.errors import ScheduleError
from ddpm_ref.typing import Array, IntArray

BITS = 192
FLOAT_BITS = 1000  # float(int) takes no more than 1023
# Five factors in two words (2**-106 each) and five double-double operations (2**-102 each, Joldes et al. 2017) err by less
# than this, as long as no factor leaves the tame range, so that no error term underflows.
SLACK = 2.0**-96
Entry = TypeVar("Entry")
TAME = 2.0**200
CERTAIN = 80  # bits that must survive cancellation before an enclosure is used


@dataclass(frozen=True)
class Monomial:
    """A table entry as a quotient of factor products, under a square root if ``root``."""

    above: tuple[str, ...]
    below: tuple[str, ...] = ()
    root: bool = False


ENTRIES: dict[str, Monomial] = {
    "alpha_bar": Monomial(("At",)),
    "beta_bar": Monomial(("Bt",)),
    "sqrt_alpha_bar": Monomial(("At",), root=True),
    "sqrt_beta_bar": Monomial(("Bt",), root=True),
    "snr": Monomial(("At",), ("Bt",)),
    "sqrt_recip_alpha_bar": Monomial((), ("At",), root=True),
    "sqrt_recipm1_alpha_bar": Monomial(("Bt",), ("At",), root=True),
    "alpha": Monomial(("a",)),
    "beta": Monomial(("b",)),
    "sqrt_alpha": Monomial(("a",), root=True),
    "sqrt_beta": Monomial(("b",), root=True),
    "recip_sqrt_alpha": Monomial((), ("a",), root=True),
    "beta_tilde": Monomial(("b", "Bs"), ("Bt",)),
    "std_tilde": Monomial(("b", "Bs"), ("Bt",), root=True),
    "x0_weight": Monomial(("As", "b", "b"), ("Bt", "Bt"), root=True),
    "xt_weight": Monomial(("a", "Bs", "Bs"), ("Bt", "Bt"), root=True),
    "eps_weight": Monomial(("b", "b"), ("a", "Bt"), root=True),
    "noise_share": Monomial(("b",), ("Bt",), root=True),
    "reverse_variance_bound": Monomial(("b",), ("a",)),
}

Factor = tuple[int, int]  # mantissa, exponent


def _one_minus(factor: Factor) -> Factor:
    mantissa, exponent = factor
    return (1 << -exponent) - mantissa, exponent


@dataclass(frozen=True, eq=False)
class Column:
    """One factor at many levels: Python integers of any length, and their exponents of two."""

    mantissas: list[int]
    exponents: IntArray

    def at(self, level: int) -> Factor:
        """The factor at one level."""
        return self.mantissas[level], int(self.exponents[level])

    def one_minus(self) -> Column:
        """The complements to 1, exactly."""
        return Column(
            [(1 << -k) - n for n, k in zip(self.mantissas, self.exponents.tolist(), strict=True)], self.exponents
        )

    def words(self) -> DoubleDouble:
        """All levels in two words."""
        if max(map(int.bit_length, self.mantissas)) < FLOAT_BITS:
            high = list(map(float, self.mantissas))
            low = list(map(float, map(sub, self.mantissas, map(int, high))))
            return DoubleDouble(np.ldexp(high, self.exponents), np.ldexp(low, self.exponents))
        both = np.array(list(map(words, self.mantissas, self.exponents.tolist())), dtype=np.float64).reshape(-1, 2)
        return DoubleDouble(both[:, 0], both[:, 1])


class Products:
    """Integers enclosing ``alpha_bar_t`` and ``beta_bar_t`` for every level, and the entries made from them.

    ``sure``: every stored number ``v`` satisfies ``v <= exact <= v (1 + 2**-sure)``. (Each step truncates once, an
    error of ``2**(1 - BITS)``; the complement is a sum of positive terms kept to ``BITS`` bits below the first of
    them.)
    """

    def __init__(self, betas: Array):
        self.T = len(betas)
        self.sure = BITS - 4 - self.T.bit_length()
        mantissa, exponent = np.frexp(np.concatenate([[0.0], betas]))
        self.beta = Column(np.ldexp(mantissa, 53).astype(np.int64).tolist(), exponent.astype(np.int64) - 53)
        self.alpha = self.beta.one_minus()
        self._accumulate()

    def _accumulate(self) -> None:
        a, x, b = 1, 0, 0
        unit = int(self.beta.exponents[1]) + self.beta.mantissas[1].bit_length() - BITS
        alpha_bar, exponents, beta_bar = [a], [x], [b]
        for n, m, k in zip(
            self.beta.mantissas[1:], self.alpha.mantissas[1:], self.alpha.exponents[1:].tolist(), strict=True
        ):
            shift = x + k - unit
            b += a * n << shift if shift >= 0 else a * n >> -shift
            a, x = a * m, x + k
            excess = a.bit_length() - BITS
            if excess > 0:
                a, x = a >> excess, x + excess
            alpha_bar.append(a)
            exponents.append(x)
            beta_bar.append(b)
        self.alpha_bar = Column(alpha_bar, np.array(exponents))
        self.beta_bar = Column(beta_bar, np.full(self.T + 1, unit))
        self._refuse_underflow()

    def _refuse_underflow(self) -> None:
        lengths = np.fromiter(map(int.bit_length, self.alpha_bar.mantissas), dtype=np.int64)
        below = (lengths + self.alpha_bar.exponents <= -1022) & (lengths > 0)
        vanished = np.flatnonzero(lengths == 0)
        if below.any() or (vanished.size and vanished[0] < self.T):
            t = int(np.flatnonzero(below | (lengths == 0))[0])
            raise ScheduleError(
                f"alpha_bar underflows: it falls below 2**-1022 first at level t = {t} of T = {self.T} "
                "(only beta_T = 1 may bring it to zero); use smaller betas, e.g. linear_schedule(T, scale_ends=True)"
            )

    @cached_property
    def levels(self) -> dict[str, DoubleDouble]:
        """``alpha_bar`` and ``beta_bar`` of levels 0..T in two words."""
        return {"alpha_bar": self.alpha_bar.words(), "beta_bar": self.beta_bar.words()}

    @cached_property
    def _adjacent(self) -> dict[str, DoubleDouble]:
        """The six factors of the pairs ``(t, t - 1)``, ``t = 1..T``, in two words."""
        alpha_bar, beta_bar = self.levels["alpha_bar"], self.levels["beta_bar"]
        beta = self.beta.words().high[1:]
        return {
            "At": DoubleDouble(alpha_bar.high[1:], alpha_bar.low[1:]),
            "Bt": DoubleDouble(beta_bar.high[1:], beta_bar.low[1:]),
            "As": DoubleDouble(alpha_bar.high[:-1], alpha_bar.low[:-1]),
            "Bs": DoubleDouble(beta_bar.high[:-1], beta_bar.low[:-1]),
            "a": DoubleDouble(*two_sum(np.ones(self.T), -beta)),
            "b": DoubleDouble.of(beta),
        }

    def column(self, name: str) -> Array:
        """Entries ``name`` of all adjacent pairs ``(t, t - 1)``, ``t = 1..T``: float64 nearest to the exact values.

        Ziv's test: evaluated in double-double, an entry is accepted if everything within `SLACK` of it rounds to the same
        float64; the others (ties, zeros, numbers near the ends of the range) are asked of the integers.
        """
        entry = ENTRIES[name]
        factors = [self._adjacent[f] for f in (*entry.above, *entry.below)]
        with np.errstate(all="ignore"):
            value = reduce(mul, [self._adjacent[f] for f in entry.above], DoubleDouble.of(1.0))
            value = reduce(truediv, [self._adjacent[f] for f in entry.below], value)
            value = sqrt(value) if entry.root else value
            neighbour = np.nextafter(value.high, np.copysign(np.inf, value.low))
            decided = np.abs(value.low) + SLACK * value.high < np.abs(neighbour - value.high) / 2
        for factor in factors:
            decided &= (factor.high > 1 / TAME) & (factor.high < TAME)
        values = value.high.copy()
        for i in np.flatnonzero(~decided).tolist():
            values[i] = self._pair(name, i + 1, i)
        return values

    def pairs(self, name: str, t: Iterable[int], s: Iterable[int]) -> Array:
        """Entries ``name`` of arbitrary pairs of levels ``t > s``: float64 nearest to the exact values."""
        return np.array(_each(lambda i, j: self._pair(name, i, j), t, s), dtype=np.float64)

    def words(self, name: str, t: Iterable[int], s: Iterable[int]) -> DoubleDouble:
        """The same entries in two words, about 106 bits."""
        both = np.array(_each(lambda i, j: self._pair_words(name, i, j), t, s), dtype=np.float64).reshape(-1, 2)
        return DoubleDouble(both[:, 0], both[:, 1])

    def _pair(self, name: str, t: int, s: int) -> float:
        entry = ENTRIES[name]
        try:
            above, below, exponent, sure = self._enclose(entry, t, s)
            if not above or not below:
                return 0.0 if not above else inf
            return nearest(*quotient(above, below, exponent, sure, root=entry.root))
        except Undecided:
            above, below, exponent = _collect(entry, lambda f: self._exact_factor(f, t, s))
            above, below = above << max(exponent, 0), below << max(-exponent, 0)
            return sqrt_ratio(above, below) if entry.root else ratio(above, below)

    def _pair_words(self, name: str, t: int, s: int) -> tuple[float, float]:
        entry = ENTRIES[name]
        try:
            above, below, exponent, sure = self._enclose(entry, t, s)
        except Undecided:
            above, below, exponent = _collect(entry, lambda f: self._exact_factor(f, t, s))
            sure = BITS
        if not above or not below:
            return (0.0 if not above else inf), 0.0
        return words(*quotient(above, below, exponent, sure, root=entry.root)[:2])

    def _enclose(self, entry: Monomial, t: int, s: int) -> tuple[int, int, int, int]:
        """Integers above and below the line, the exponent of two, and to how many bits their quotient is sure."""
        factors, sure = self.factors(t, s)
        # At most five factors of one entry carry an error each, so four bits of certainty are given up.
        return *_collect(entry, factors.__getitem__), sure - 4

    def factors(self, t: int, s: int) -> tuple[dict[str, Factor], int]:
        """The six factors of a pair, each right to a relative ``2**-sure``, and ``sure``; raises `Undecided`."""
        a, b, sure = self._pair_factors(t, s)
        late, early = (self.alpha_bar.at(t), self.beta_bar.at(t)), (self.alpha_bar.at(s), self.beta_bar.at(s))
        return {"At": late[0], "Bt": late[1], "As": early[0], "Bs": early[1], "a": a, "b": b}, sure

    def exact_factors(self, t: int, s: int) -> dict[str, Factor]:
        """The six factors of a pair as exact integers of whatever length it takes."""
        return {name: self._exact_factor(name, t, s) for name in ("At", "Bt", "As", "Bs", "a", "b")}

    def _pair_factors(self, t: int, s: int) -> tuple[Factor, Factor, int]:
        """``alpha_{t|s}`` and ``beta_{t|s}``, and to how many bits they are sure."""
        if s == t - 1:
            return self.alpha.at(t), self.beta.at(t), self.sure
        if s == 0:
            return self.alpha_bar.at(t), self.beta_bar.at(t), self.sure
        (m, x), (n, y) = self.alpha_bar.at(t), self.alpha_bar.at(s)
        if m == 0:
            return (0, 0), (1, 0), self.sure
        shift = BITS + 8
        a = ((m << shift) // n, x - y - shift)
        b = _one_minus(a)
        # The complement inherits the absolute error of the quotient.
        sure = self.sure - 2 - max(0, a[0].bit_length() - b[0].bit_length())
        if sure < CERTAIN:
            raise Undecided(f"1 - alpha_bar[{t}] / alpha_bar[{s}] cancels in {BITS} bits")
        return a, b, sure

    def _exact_factor(self, name: str, t: int, s: int) -> Factor:
        """One factor from exact integers of whatever length it takes."""
        ends = {"At": (0, t), "Bt": (0, t), "As": (0, s), "Bs": (0, s), "a": (s, t), "b": (s, t)}[name]
        product = self._exact_product(*ends)
        return product if name[0] in "Aa" else _one_minus(product)

    def exact_level(self, t: int) -> tuple[Factor, Factor]:
        """``alpha_bar_t`` and ``beta_bar_t`` as exact integers of whatever length it takes."""
        return self._exact_factor("At", t, 0), self._exact_factor("Bt", t, 0)

    def _exact_product(self, s: int, t: int) -> Factor:
        """The product of alpha over levels ``s < i <= t``, by halving so that long products stay cheap."""
        if t - s <= 8:
            return prod(self.alpha.mantissas[s + 1 : t + 1]), int(self.alpha.exponents[s + 1 : t + 1].sum())
        middle = (s + t) // 2
        (m, x), (n, y) = self._exact_product(s, middle), self._exact_product(middle, t)
        return m * n, x + y


def _each(compute: Callable[[int, int], Entry], t: Iterable[int], s: Iterable[int]) -> list[Entry]:
    """Of each pair; a batch holds few pairs many times, and each is computed once."""
    known: dict[tuple[int, int], Entry] = {}
    pairs = list(zip(t, s, strict=True))
    for pair in pairs:
        if pair not in known:
            known[pair] = compute(*pair)
    return [known[pair] for pair in pairs]


def _collect(entry: Monomial, factor: Callable[[str], Factor]) -> tuple[int, int, int]:
    """The products above and below the line, and the exponent of two left over."""
    above, below = [factor(f) for f in entry.above], [factor(f) for f in entry.below]
    exponent = sum(x for _, x in above) - sum(x for _, x in below)
    return prod(m for m, _ in above), prod(m for m, _ in below), exponent
