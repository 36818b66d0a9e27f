"""The reference for the mathematics of denoising diffusion models.

Exact tables and closed forms in float64 (`ddpm_ref.reference`), a PyTorch mirror (`ddpm_ref.torch`), and laws that any
implementation can be held against (`ddpm_ref.conformance`). Importing this package loads NumPy only; everything else
loads when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ddpm_ref import (
        arithmetic,
        certificate,
        conformance,
        coverage,
        demo,
        errata,
        errors,
        estimation,
        evaluation,
        interop,
        kernels,
        laws,
        nn,
        reference,
        sampling,
        study,
        symbolic,
        torch,
        training,
    )
    from ddpm_ref.arithmetic import Claim
    from ddpm_ref.reference.named_schedules import (
        constant_schedule,
        cosine_schedule,
        laplace_schedule,
        linear_schedule,
        scaled_linear_schedule,
        sigmoid_alpha_bar_schedule,
        sigmoid_schedule,
        zero_terminal_snr,
    )
    from ddpm_ref.reference.schedule import NoiseSchedule, Trajectory

_SUBPACKAGES = (
    "arithmetic",
    "certificate",
    "conformance",
    "coverage",
    "demo",
    "errata",
    "errors",
    "estimation",
    "evaluation",
    "interop",
    "kernels",
    "laws",
    "nn",
    "reference",
    "sampling",
    "study",
    "symbolic",
    "torch",
    "training",
)
_NAMES = {
    "Claim": "ddpm_ref.arithmetic",
    "NoiseSchedule": "ddpm_ref.reference.schedule",
    "Trajectory": "ddpm_ref.reference.schedule",
    "constant_schedule": "ddpm_ref.reference.named_schedules",
    "cosine_schedule": "ddpm_ref.reference.named_schedules",
    "laplace_schedule": "ddpm_ref.reference.named_schedules",
    "linear_schedule": "ddpm_ref.reference.named_schedules",
    "scaled_linear_schedule": "ddpm_ref.reference.named_schedules",
    "sigmoid_alpha_bar_schedule": "ddpm_ref.reference.named_schedules",
    "sigmoid_schedule": "ddpm_ref.reference.named_schedules",
    "zero_terminal_snr": "ddpm_ref.reference.named_schedules",
}

__all__ = [
    "Claim",
    "NoiseSchedule",
    "Trajectory",
    "__version__",
    "arithmetic",
    "certificate",
    "conformance",
    "constant_schedule",
    "cosine_schedule",
    "coverage",
    "demo",
    "errata",
    "errors",
    "estimation",
    "evaluation",
    "interop",
    "kernels",
    "laplace_schedule",
    "laws",
    "linear_schedule",
    "nn",
    "reference",
    "sampling",
    "scaled_linear_schedule",
    "sigmoid_alpha_bar_schedule",
    "sigmoid_schedule",
    "study",
    "symbolic",
    "torch",
    "training",
    "zero_terminal_snr",
]


def __getattr__(name: str) -> Any:
    """Load subpackages and public names when first used (PEP 562)."""
    if name in _SUBPACKAGES:
        return importlib.import_module(f"ddpm_ref.{name}")
    if name in _NAMES:
        value = getattr(importlib.import_module(_NAMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'ddpm_ref' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
