"""What a law is: a statement about any implementation, what it must return, and the mistakes it must reject.

Nothing here runs an implementation or knows a device; `ddpm_ref.conformance` does. Users never call a law to compute
anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.errors import ClaimError
from ddpm_ref.laws.cases import Case, Cases
from ddpm_ref.typing import Array, IntArray

# What a law is about: every element of some data, a sum over some of them, coefficients that see no data at all, an operation
# that rounds nothing, or the agreement of two ways (metamorphic).
Kind: TypeAlias = Literal["pointwise", "reduction", "coefficient", "exact", "metamorphic"]
Outputs: TypeAlias = tuple[Array, ...]


@dataclass(frozen=True)
class Mistake:
    """A known wrong way to do it: what an implementation that makes it would return (unrounded).

    ``erratum`` is its number in the project's list of errata, ``claims`` the storage formats under which it is a
    mistake (empty: all), ``spread`` how far apart, in units of roundoff, two implementations that make it may lie because
    it amplifies their roundings. ``rounding`` says that it is right in real numbers and loses digits only.
    """

    name: str
    value: Callable[[Case], Outputs]
    erratum: str = ""
    claims: tuple[str, ...] = ()
    spread: Callable[[Case], Outputs] | None = None
    rounding: bool = False

    def concerns(self, claim: Claim) -> bool:
        """Whether a law must reject this mistake under ``claim``."""
        return not self.claims or claim.store in self.claims

    def __str__(self) -> str:
        words = self.name.replace("_", " ")
        return f"{words} ({self.erratum})" if self.erratum else words


@dataclass(frozen=True)
class Law:
    """A statement every implementation of ``needs`` (one method, or several separated by blanks) must satisfy.

    ``call`` asks the implementation (arguments in its own array type), ``expect`` says what the answer is, how far
    roundings may take it and through how many of them a term passes.
    """

    id: str
    needs: str
    statement: str
    source: str
    cases: Cases
    call: Callable[[Any, Any], object]
    expect: Callable[[Case], tuple[Expected, ...]]
    mistakes: tuple[Mistake, ...]
    kind: Kind = "pointwise"

    @property
    def subject(self) -> str:
        """The file stem the law belongs to."""
        return self.id.split("/")[0]


class Registry:
    """Laws by id, in the order in which they were stated."""

    def __init__(self, laws: Iterable[Law] = ()):
        self._laws: dict[str, Law] = {}
        for law in laws:
            self.add(law)

    def add(self, law: Law) -> Law:
        """State a law; ids are unique and every law has a source and at least one mistake."""
        if law.id in self._laws or not law.source or not law.mistakes:
            raise ClaimError(f"law {law.id!r} must have a new id, a source and at least one mistake it rejects")
        self._laws[law.id] = law
        return law

    def select(self, patterns: str | Iterable[str] = "*") -> list[Law]:
        """The laws whose ids match one of some shell patterns (``"forward/*"``); an unmatched pattern is an error."""
        patterns = patterns.split(",") if isinstance(patterns, str) else list(patterns)
        for pattern in patterns:
            if not any(fnmatchcase(id_, pattern) for id_ in self._laws):
                raise ClaimError(
                    f"no law matches {pattern!r}; the subjects are {', '.join(sorted({x.subject for x in self}))}"
                )
        return [law for law in self if any(fnmatchcase(law.id, pattern) for pattern in patterns)]

    def __iter__(self) -> Iterator[Law]:
        return iter(self._laws.values())

    def __len__(self) -> int:
        return len(self._laws)

    def __getitem__(self, id_: str) -> Law:
        return self._laws[id_]


# --- how a law says what it expects -----------------------------------------------------------------------------------


def exact(value: DoubleDouble, roundings: int | IntArray, scale: Array | None = None) -> Expected:
    """A value reached through ``roundings`` roundings; its scale is its own size unless given."""
    return Expected(value, np.abs(value.high) if scale is None else scale, roundings)


def affine(*terms: tuple[DoubleDouble, Array | DoubleDouble | float], roundings: int) -> Expected:
    """``sum c_i v_i`` with ``S = sum |c_i v_i|``."""
    products = [c * DoubleDouble.of(v) for c, v in terms]
    total, scale = products[0], np.abs(products[0].high)
    for product in products[1:]:
        total, scale = total + product, scale + np.abs(product.high)
    return Expected(total, scale, roundings)


def counted(*terms: tuple[DoubleDouble, Array | DoubleDouble | float, float]) -> Expected:
    """``sum c_i v_i`` whose coefficients pass through unlike numbers of roundings: each term is charged its own.

    The terms get one rounding more for the product and one for each sum; where one of them gets fewer roundings than the
    longest way, it weighs less in ``S``.
    """
    longest = int(np.ceil(max(k for _, _, k in terms))) + len(terms)
    parts = [affine((c, v), roundings=longest) for c, v, _ in terms]
    value, scale = parts[0].value, (terms[0][2] + len(terms)) / longest * parts[0].scale
    for part, (_, _, k) in zip(parts[1:], terms[1:], strict=True):
        value, scale = value + part.value, scale + (k + len(terms)) / longest * part.scale
    return Expected(value, scale, longest)


# One rounding for a correctly rounded coefficient, one for its product, one for the sum.
AFFINE = 3
# A square root need not be correctly rounded (PyTorch's on the CPU is not): faithful to one ulp, it counts as two roundings.
ROOT = 2
# Coefficients of a pair of levels are assembled from table entries (a complement, a root, a product, a quotient): six
# roundings are granted, which every cancellation-free form keeps and no form through rounded alpha_bar does. Those of the
# DDIM family pass through more: see `ddpm_ref.laws.family`.
PAIR_COEFFICIENT = 6
PAIR_AFFINE = PAIR_COEFFICIENT + 2
# The root of alpha_{t|s}: a quotient of table entries or an exponential of their logarithms, halved by the root, which adds one.
PAIR_ROOT = 3
