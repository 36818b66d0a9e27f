"""The truth: float64 closed forms on NumPy arrays, tables exact and rounded once. One subject, one file."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ddpm_ref.reference import (
    analytic,
    ancestral,
    ddim,
    divergence,
    forward,
    guidance,
    labels,
    named_schedules,
    plan,
    posterior,
    prediction,
    reverse,
    schedule,
    trajectory,
)

if TYPE_CHECKING:
    from ddpm_ref.reference import oracle

__all__ = [
    "analytic",
    "ancestral",
    "ddim",
    "divergence",
    "forward",
    "guidance",
    "labels",
    "named_schedules",
    "oracle",
    "plan",
    "posterior",
    "prediction",
    "reverse",
    "schedule",
    "trajectory",
]


def __getattr__(name: str) -> Any:
    """The oracles stand on all the rest and are loaded when first used (PEP 562)."""
    if name == "oracle":
        return importlib.import_module("ddpm_ref.reference.oracle")
    raise AttributeError(f"module 'ddpm_ref.reference' has no attribute {name!r}")
