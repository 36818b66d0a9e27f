"""Laws: what every implementation must satisfy, and the mistakes each law must reject. One subject, one file."""

from ddpm_ref.laws import divergence, forward, posterior, prediction, reverse, schedule
from ddpm_ref.laws.cases import Case, NumpySource, Source
from ddpm_ref.laws.registry import Law, Mistake, Registry

REGISTRY = Registry((*schedule.LAWS, *forward.LAWS, *posterior.LAWS, *prediction.LAWS, *reverse.LAWS, *divergence.LAWS))

__all__ = ["REGISTRY", "Case", "Law", "Mistake", "NumpySource", "Registry", "Source"]
