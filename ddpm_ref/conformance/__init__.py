"""Hold anybody's implementation against the laws: adapters in, a report with the name of the bug out."""

from ddpm_ref.conformance.adapters import Adapter, NumpyAdapter, ReferenceAdapter, TorchAdapter, TorchMirror, load
from ddpm_ref.conformance.check import check
from ddpm_ref.conformance.report import Finding, Report, Violation

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
