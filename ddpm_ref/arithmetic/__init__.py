"""Number formats, exact integers rounded once, double-double arithmetic, claims and the one bound formula."""

from ddpm_ref.arithmetic.bounds import Claim, Expected, gamma
from ddpm_ref.arithmetic.double_double import DoubleDouble
from ddpm_ref.arithmetic.emulation import Machine
from ddpm_ref.arithmetic.exact import Undecided, nearest, ratio, sqrt_ratio
from ddpm_ref.arithmetic.formats import FORMATS, Format, format_named, ulp_distance

__all__ = [
    "FORMATS",
    "Claim",
    "DoubleDouble",
    "Expected",
    "Format",
    "Machine",
    "Undecided",
    "format_named",
    "gamma",
    "nearest",
    "ratio",
    "sqrt_ratio",
    "ulp_distance",
]
