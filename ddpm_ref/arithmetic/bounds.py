"""Claims about arithmetic and the one bound formula: no tolerance is written by hand anywhere in this package.

A law knows the exact value, the scale ``S`` (the same expression with every term replaced by its absolute value) and
how many roundings ``k`` a term can pass through. An implementation claims in which format it stores and in which it
computes. From the two follows the only bound there is (Higham 2002, *Accuracy and Stability of Numerical Algorithms*,
section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddpm_ref.arithmetic.double_double import DoubleDouble
from ddpm_ref.arithmetic.formats import Format, format_named
from ddpm_ref.errors import ClaimError
from ddpm_ref.typing import Array, ArrayLike, IntArray


def gamma(k: ArrayLike, u: float) -> Array:
    r"""``gamma_k = k u / (1 - k u)``: bounds :math:`|\prod_{i\le k}(1+\delta_i)^{\pm1} - 1|` for :math:`|\delta_i|\le u`.

    Raises `ClaimError` where ``k u >= 1``: so many roundings leave no correct digit and nothing can be claimed.

    >>> float(gamma(3, 0.0)), float(gamma(1, 0.25))
    (0.0, 0.3333333333333333)
    """
    ku = np.asarray(k, dtype=np.float64) * u
    if np.any(ku >= 1):
        raise ClaimError(
            f"{np.max(k):g} roundings with unit roundoff {u:g} leave no correct digit: compute in a wider format"
        )
    return np.asarray(ku / (1 - ku))


@dataclass(frozen=True)
class Claim:
    """What an implementation promises about its arithmetic: the format it stores and the one it computes in.

    Eager float32 is ``Claim("fp32")``; a kernel that reads and writes bfloat16 and computes in float32 is
    ``Claim("bf16", "fp32")``. Raises `ClaimError` for unknown formats or a compute format narrower than the storage.

    >>> str(Claim("bf16", "fp32"))
    'bf16/fp32'
    """

    store: str
    compute: str = ""

    def __post_init__(self) -> None:
        """Fill in ``compute`` and refuse what no machine does."""
        if not self.compute:
            object.__setattr__(self, "compute", self.store)
        store, compute = self.storing, self.computing
        if compute.precision < store.precision or compute.max_exponent < store.max_exponent:
            raise ClaimError(
                f"claim {self.store}/{self.compute}: the compute format is narrower than the storage; "
                f"write Claim({self.compute!r}) or Claim({self.store!r})"
            )

    @property
    def storing(self) -> Format:
        """The format of inputs and results."""
        return format_named(self.store)

    @property
    def computing(self) -> Format:
        """The format in which intermediate results are rounded."""
        return format_named(self.compute)

    def __str__(self) -> str:
        return f"{self.store}/{self.compute}"


@dataclass(frozen=True, eq=False)
class Expected:
    """What a law knows of one result: its value (in two words), its scale ``S`` and its count of roundings ``k``.

    ``scale`` and ``roundings`` broadcast against ``value``. ``name`` is what a result is called that is one of several.
    """

    value: DoubleDouble
    scale: Array
    roundings: int | IntArray
    name: str = ""

    def bound(self, claim: Claim) -> Array:
        r"""How far a result may be from the value under ``claim``.

        .. math::
            |\hat z - z| \le \gamma_k(u_c) S + k\eta_c \quad (d = c), \qquad
            |\hat z - z| \le u_d|z| + (1 + u_d)(\gamma_k(u_c) S + k\eta_c) + \eta_d \quad (d \ne c)

        with ``d`` the storage and ``c`` the compute format, ``u`` the unit roundoff, ``eta`` the smallest subnormal.
        """
        store, compute, k = claim.storing, claim.computing, np.asarray(self.roundings)
        inner = gamma(k, compute.u) * self.scale + k * compute.tiny
        if store != compute:
            inner = store.u * np.abs(self.value.high) + (1 + store.u) * inner + store.tiny
        return np.broadcast_to(inner, self.value.shape)

    def error_over_bound(self, got: ArrayLike, claim: Claim) -> Array:
        """Elementwise error as a fraction of the bound: at most 1 where the result keeps the claim.

        A result is infinitely wrong where it is NaN, or infinite without need. An infinity is right where the value is
        that infinity, or where value plus bound overflows the storage format.
        """
        got = np.asarray(got, dtype=np.float64)
        value, bound = self.value, self.bound(claim)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            error = np.where(got == value.high, np.abs(value.low), np.abs((got - value.high) - value.low))
            ratio = np.where(error == 0, 0.0, error / bound)
            overflows = np.abs(value.high) + bound >= claim.storing.max
            rightly_infinite = np.isinf(got) & (np.sign(got) == np.sign(value.high)) & overflows
        return np.where(rightly_infinite, 0.0, np.where(np.isnan(ratio) | np.isnan(got), np.inf, ratio))
