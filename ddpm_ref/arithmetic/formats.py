"""Binary floating-point formats: unit roundoff, smallest subnormal, and rounding into them from float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddpm_ref.errors import ClaimError
from ddpm_ref.typing import Array, ArrayLike, IntArray


@dataclass(frozen=True)
class Format:
    """A binary format with ``precision`` significant bits and normal exponents ``min_exponent..max_exponent``."""

    name: str
    precision: int
    min_exponent: int
    max_exponent: int

    @property
    def u(self) -> float:
        """Unit roundoff, ``2**-precision``: the largest relative error of one rounding to nearest."""
        return 2.0**-self.precision

    @property
    def tiny(self) -> float:
        """The smallest positive subnormal number; rounding errs by at most half of it below the normal range."""
        return float(np.ldexp(1.0, self.min_exponent - self.precision + 1))

    @property
    def max(self) -> float:
        """The largest finite number."""
        return float(np.ldexp(2.0 - 2.0 ** (1 - self.precision), self.max_exponent))

    def spacing(self, x: ArrayLike) -> Array:
        """Distance between neighbouring numbers of the format in the binade of ``x`` (one ulp).

        >>> float(FORMATS["bf16"].spacing(1.0))
        0.0078125
        """
        x = np.asarray(x, dtype=np.float64)
        exponent = np.where(x == 0, self.min_exponent + 1, np.frexp(x)[1])
        return np.asarray(np.ldexp(1.0, np.maximum(exponent, self.min_exponent + 1) - self.precision))

    def round(self, x: ArrayLike) -> Array:
        """The number of this format nearest to ``x`` (ties to even, overflow to infinity), as float64.

        >>> FORMATS["bf16"].round([1.00390625, 3.0e-45, 3.4e38]).tolist()
        [1.0, 0.0, inf]
        """
        x = np.asarray(x, dtype=np.float64)
        if self.precision == 53:
            return x
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            spacing = self.spacing(np.where(np.isfinite(x), x, 1.0))
            nearest = np.rint(x / spacing) * spacing
        return np.where(np.abs(nearest) > self.max, np.copysign(np.inf, x), nearest)

    def __str__(self) -> str:
        return self.name


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format("fp64", 53, -1022, 1023),
        Format("fp32", 24, -126, 127),
        Format("fp16", 11, -14, 15),
        Format("bf16", 8, -126, 127),
    )
}


def format_named(name: str) -> Format:
    """The format called ``name``, or a `ClaimError` that lists the known ones."""
    try:
        return FORMATS[name]
    except (KeyError, TypeError):
        raise ClaimError(f"number format {name!r} is not known; write one of {', '.join(FORMATS)}") from None


def ulp_distance(x: ArrayLike, y: ArrayLike) -> IntArray:
    """How many float64 steps lie between ``x`` and ``y`` (0: equal; 1: neighbours; signed zeros are equal).

    Raises `ValueError` for NaN, which has no place among the ordered numbers. Distances above 2**63 - 1 saturate.

    >>> int(ulp_distance(1.0, np.nextafter(1.0, 2.0)))
    1
    >>> int(ulp_distance(-5e-324, 5e-324))
    2
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if np.isnan(x).any() or np.isnan(y).any():
        raise ValueError("ulp_distance was given NaN; compare finite numbers or infinities")

    def place(value: Array) -> IntArray:
        bits = value.view(np.int64) if value.ndim else np.asarray(value.reshape(1).view(np.int64)[0])
        return np.where(bits < 0, np.int64(-(2**63)) - bits, bits)

    a, b = place(x), place(y)
    opposite = (a < 0) != (b < 0)
    room = np.abs(a.astype(np.float64)) + np.abs(b.astype(np.float64)) >= 2.0**63
    with np.errstate(over="ignore"):
        return np.where(opposite & room, np.int64(2**63 - 1), np.abs(a - b))
