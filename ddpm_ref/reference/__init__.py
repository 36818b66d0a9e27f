"""The truth: float64 closed forms on NumPy arrays, tables exact and rounded once. One subject, one file."""

from ddpm_ref.reference import (
    divergence,
    forward,
    named_schedules,
    plan,
    posterior,
    prediction,
    reverse,
    schedule,
    trajectory,
)

__all__ = [
    "divergence",
    "forward",
    "named_schedules",
    "plan",
    "posterior",
    "prediction",
    "reverse",
    "schedule",
    "trajectory",
]
