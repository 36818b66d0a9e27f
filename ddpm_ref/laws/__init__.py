"""Laws: what every implementation must satisfy, and the mistakes each law must reject. One subject, one file."""

from ddpm_ref.laws import (
    analytic,
    ancestral,
    built,
    classifier,
    conversion,
    cosine,
    ddim,
    divergence,
    first_step,
    forward,
    guidance,
    identified,
    laplace,
    limits,
    oracle,
    plan,
    posterior,
    prediction,
    reverse,
    sampling,
    schedule,
    seldom_given,
    spacing,
    statistics,
)
from ddpm_ref.laws.cases import Case, NumpySource, Source
from ddpm_ref.laws.registry import Law, Mistake, Registry

SUBJECTS = (
    schedule, built, cosine, laplace, forward, posterior, prediction, conversion, reverse, first_step, ancestral, ddim, plan,
    identified, oracle, spacing, analytic, statistics, guidance, classifier, sampling, divergence, limits, seldom_given,
)  # fmt: skip
REGISTRY = Registry(law for subject in SUBJECTS for law in subject.LAWS)

__all__ = ["REGISTRY", "Case", "Law", "Mistake", "NumpySource", "Registry", "Source"]
