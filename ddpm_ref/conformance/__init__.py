"""Hold anybody's implementation against the laws: adapters in, a report with the name of the bug out."""

from ddpm_ref.conformance.adapters import Adapter, NumpyAdapter, TorchAdapter, load
from ddpm_ref.conformance.check import check
from ddpm_ref.conformance.reference_adapter import ReferenceAdapter
from ddpm_ref.conformance.report import Finding, Report, Violation
from ddpm_ref.conformance.torch_adapter import TorchMirror

__all__ = [
    "Adapter",
    "Finding",
    "NumpyAdapter",
    "ReferenceAdapter",
    "Report",
    "TorchAdapter",
    "TorchMirror",
    "Violation",
    "check",
    "load",
]
