"""Laws: what every implementation must satisfy, and the mistakes each law must reject. One subject, one file."""

from ddpm_ref.laws import (
    analytic,
    ancestral,
    ddim,
    divergence,
    forward,
    guidance,
    oracle,
    plan,
    posterior,
    prediction,
    reverse,
    sampling,
    schedule,
)
from ddpm_ref.laws.cases import Case, NumpySource, Source
from ddpm_ref.laws.registry import Law, Mistake, Registry

SUBJECTS = (
    schedule, forward, posterior, prediction, reverse, ancestral, ddim, plan, oracle, analytic, guidance, sampling, divergence,
)  # fmt: skip
REGISTRY = Registry(law for subject in SUBJECTS for law in subject.LAWS)

__all__ = ["REGISTRY", "Case", "Law", "Mistake", "NumpySource", "Registry", "Source"]
