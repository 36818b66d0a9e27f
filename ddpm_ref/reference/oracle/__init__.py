"""Exact oracles: the optimal network of Gaussian, mixture and finite data, and the exact law of the samples it leads to.

With them a sampler is judged in nats without Monte-Carlo error, and training by its excess over a known floor.
"""

from ddpm_ref.reference.oracle.bound import OracleBound, exact_bound, reverse_kl
from ddpm_ref.reference.oracle.density import Density, sample_density
from ddpm_ref.reference.oracle.finite import Finite
from ddpm_ref.reference.oracle.gaussian import Gaussian
from ddpm_ref.reference.oracle.guided import GuidedGaussian, GuidedMoments, guided_moments, mean_shift_moments
from ddpm_ref.reference.oracle.labelled import Labelled
from ddpm_ref.reference.oracle.mixture import Mixture
from ddpm_ref.reference.oracle.moments import Moments, sample_moments

__all__ = [
    "Density",
    "Finite",
    "Gaussian",
    "GuidedGaussian",
    "GuidedMoments",
    "Labelled",
    "Mixture",
    "Moments",
    "OracleBound",
    "exact_bound",
    "guided_moments",
    "mean_shift_moments",
    "reverse_kl",
    "sample_density",
    "sample_moments",
]
