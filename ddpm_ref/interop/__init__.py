"""This package's samplers inside other libraries' programs: each bridge loads its library when it is first used.

`PlanScheduler` is a scheduler for the pipelines of diffusers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddpm_ref.interop.diffusers import PlanScheduler

__all__ = ["PlanScheduler"]


def __getattr__(name: str) -> Any:
    """Load a bridge, and the library it leads to, when it is first used (PEP 562)."""
    if name == "PlanScheduler":
        from ddpm_ref.interop.diffusers import PlanScheduler

        return PlanScheduler
    raise AttributeError(f"module 'ddpm_ref.interop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
