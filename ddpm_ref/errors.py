"""The exceptions of the package: one root, and one branch per kind of wrong input.

Each is also a builtin exception, so that callers who know nothing of this package can still catch what they expect.
"""

from __future__ import annotations


class DdpmRefError(Exception):
    """Root of every error this package raises on purpose."""


class ScheduleError(DdpmRefError, ValueError):
    """Betas, alpha_bars or a trajectory that do not define a noise schedule."""


class LevelError(DdpmRefError, IndexError):
    """A level outside 0..T, not a whole number, or a pair that is not ``t > s``."""


class ShapeError(DdpmRefError, ValueError):
    """Arrays or tensors whose shapes do not fit together."""


class RangeError(DdpmRefError, ValueError):
    """A number outside the domain of a formula: a negative variance, a non-finite x0, an unknown option."""


class PrecisionError(DdpmRefError, TypeError):
    """Number formats or devices that must not be mixed, or tables asked to become half precision."""


class ClaimError(DdpmRefError, ValueError):
    """A claim about arithmetic that no format supports."""


class AdapterError(DdpmRefError, TypeError):
    """An implementation under test that cannot be imported or does not answer as its protocol says."""


class CheckpointError(DdpmRefError, OSError):
    """A checkpoint that is missing, truncated, damaged, of another network, or not a safetensors file."""


class MomentsError(DdpmRefError, ValueError):
    """Measured moments that are missing, damaged, of another schedule or network, or of too few data for an interval."""


class EvaluationError(DdpmRefError, ValueError):
    """An evaluation of a network that is missing, damaged, or of another network, schedule, data or options."""


class CertificateError(DdpmRefError, ValueError):
    """A certificate that is malformed, was changed, is of a later version, of another schedule, or does not hold."""


class OutputError(DdpmRefError, OSError):
    """A place where results should be written and cannot be."""


class MissingExtraError(DdpmRefError, ImportError):
    """A part of the package whose optional dependency is not installed."""


class ProofError(DdpmRefError, ArithmeticError):
    """A derivation with a step that does not follow from the one before."""


class LawViolation(DdpmRefError, AssertionError):
    """An implementation broke a law: the message names the law, the case, the error and the likely mistake."""
