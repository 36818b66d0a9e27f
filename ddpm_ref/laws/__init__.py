"""Laws: what every implementation must satisfy, and the mistakes each law must reject. One subject, one file."""

from ddpm_ref.laws import (
    analytic,
    ancestral,
    bound,
    built,
    classifier,
    conversion,
    cosine,
    ddim,
    decoder,
    divergence,
    first_step,
    forward,
    guidance,
    identified,
    laplace,
    limits,
    objectives,
    oracle,
    plan,
    posterior,
    prediction,
    reverse,
    sampling,
    scaling,
    schedule,
    seldom_given,
    spacing,
    statistics,
)
from ddpm_ref.laws.cases import Case, NumpySource, Source
from ddpm_ref.laws.registry import Law, Mistake, Registry

SUBJECTS = (
    schedule, built, cosine, laplace, forward, posterior, prediction, conversion, reverse, first_step, ancestral, ddim, plan,
    identified, oracle, spacing, analytic, statistics, guidance, classifier, sampling, divergence, decoder, scaling,
    bound, objectives, limits, seldom_given,
)  # fmt: skip
REGISTRY = Registry(law for subject in SUBJECTS for law in subject.LAWS)

__all__ = ["REGISTRY", "Case", "Law", "Mistake", "NumpySource", "Registry", "Source"]
