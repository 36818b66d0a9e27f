"""Hold anybody's implementation against the laws: adapters in, a report with the name of the bug out."""

from ddpm_ref.conformance.adapters import Adapter, NumpyAdapter, TorchAdapter, load
from ddpm_ref.conformance.check import check
from ddpm_ref.conformance.front_doors import LawCheck, LawSuite, law_checks, parametrize
from ddpm_ref.conformance.identification import Identified, identify
from ddpm_ref.conformance.interception import kept_in_float64
from ddpm_ref.conformance.levelwise import as_batch, level_per_row, one_level_at_a_time, one_level_of_t_at_a_time
from ddpm_ref.conformance.lucidrains_adapter import LucidrainsAdapter
from ddpm_ref.conformance.neighbours import neighbours
from ddpm_ref.conformance.openai_adapter import OpenAIAdapter
from ddpm_ref.conformance.own_noise import given_noise
from ddpm_ref.conformance.reference_adapter import ReferenceAdapter
from ddpm_ref.conformance.report import Report
from ddpm_ref.conformance.torch_adapter import TorchMirror
from ddpm_ref.conformance.verdict import Cause, ExpectedFailure, Finding, Violation

__all__ = [
    "Adapter",
    "Cause",
    "ExpectedFailure",
    "Finding",
    "Identified",
    "LawCheck",
    "LawSuite",
    "LucidrainsAdapter",
    "NumpyAdapter",
    "OpenAIAdapter",
    "ReferenceAdapter",
    "Report",
    "TorchAdapter",
    "TorchMirror",
    "Violation",
    "as_batch",
    "check",
    "given_noise",
    "identify",
    "kept_in_float64",
    "law_checks",
    "level_per_row",
    "load",
    "neighbours",
    "one_level_at_a_time",
    "one_level_of_t_at_a_time",
    "parametrize",
]
