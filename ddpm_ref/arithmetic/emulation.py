"""Arithmetic of a narrower format emulated in float64, with or without fused multiply-add.

Used to show that the bounds are sound: any order of operations, fused or not, must stay inside them. Products of two
numbers of at most 24 bits are exact in float64; sums are rounded to odd first, so that the second rounding equals a
single one (Boldo and Melquiond 2008).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ddpm_ref.arithmetic.double_double import two_sum
from ddpm_ref.arithmetic.formats import Format
from ddpm_ref.errors import ClaimError
from ddpm_ref.typing import Array


def _sum_rounded_to_odd(a: Array, b: Array) -> Array:
    """``a + b`` where an inexact result always has an odd last bit: safe to round once more."""
    with np.errstate(invalid="ignore"):  # an infinite term has no rounding error to speak of
        s, error = two_sum(a, b)
    error = np.where(np.isfinite(s), error, 0.0)
    even = (np.asarray(s).view(np.int64) & 1) == 0
    return np.where((error != 0) & even, np.nextafter(s, np.copysign(np.inf, error)), s)


@dataclass(frozen=True)
class Machine:
    """A machine that computes in ``format`` (24 bits or fewer), contracting ``a * b + c`` into one rounding if ``fused``."""

    format: Format
    fused: bool = False

    def __post_init__(self) -> None:
        """Refuse formats whose products float64 cannot hold exactly."""
        if self.format.precision > 24:
            raise ClaimError(f"{self.format} cannot be emulated in float64; choose fp32, fp16 or bf16")

    def add(self, a: Array, b: Array) -> Array:
        """``a + b`` rounded once."""
        return self.format.round(_sum_rounded_to_odd(a, b))

    def multiply(self, a: Array, b: Array) -> Array:
        """``a * b`` rounded once (the float64 product is exact)."""
        return self.format.round(a * b)

    def divide(self, a: Array, b: Array) -> Array:
        """``a / b`` rounded once: float64 has more than twice the digits, so its own rounding is harmless (Figueroa 1995)."""
        return self.format.round(a / b)

    def multiply_add(self, a: Array, b: Array, c: Array) -> Array:
        """``a * b + c``: one rounding if fused, two otherwise."""
        if self.fused:
            return self.format.round(_sum_rounded_to_odd(a * b, c))
        return self.add(self.multiply(a, b), c)

    def lincomb(self, coefficients: Sequence[Array], values: Sequence[Array]) -> Array:
        """``sum c_i v_i`` from the first term to the last, coefficients rounded into the format first."""
        rounded = [self.format.round(c) for c in coefficients]
        total = self.multiply(rounded[0], values[0])
        for c, v in zip(rounded[1:], values[1:], strict=True):
            total = self.multiply_add(c, v, total)
        return total
