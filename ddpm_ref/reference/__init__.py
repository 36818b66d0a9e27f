"""The truth: float64 closed forms on NumPy arrays, tables exact and rounded once. One subject, one file."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ddpm_ref.reference import (
    analytic,
    ancestral,
    bound,
    ddim,
    decoder,
    divergence,
    forward,
    guidance,
    labels,
    named_schedules,
    objectives,
    plan,
    posterior,
    prediction,
    reverse,
    scaling,
    schedule,
    trajectory,
)

if TYPE_CHECKING:
    from ddpm_ref.reference import oracle

__all__ = [
    "analytic",
    "ancestral",
    "bound",
    "ddim",
    "decoder",
    "divergence",
    "forward",
    "guidance",
    "labels",
    "named_schedules",
    "objectives",
    "oracle",
    "plan",
    "posterior",
    "prediction",
    "reverse",
    "scaling",
    "schedule",
    "trajectory",
]


def __getattr__(name: str) -> Any:
    """The oracles stand on all the rest and are loaded when first used (PEP 562)."""
    if name == "oracle":
        return importlib.import_module("ddpm_ref.reference.oracle")
    raise AttributeError(f"module 'ddpm_ref.reference' has no attribute {name!r}")
