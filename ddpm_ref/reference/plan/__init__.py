r"""Plans: a sampler turned once into a trajectory and one row of exact coefficients per step.

Every step of the samplers here is :math:`x_s = a\,x_t + b\,\hat y + c\,z` with a prediction :math:`\hat y` and fresh
noise z, so a plan is all there is to know of one; each coefficient is the float64 nearest to its exact value.
"""

from ddpm_ref.reference.plan.analytic import AnalyticLastNoise, analytic
from ddpm_ref.reference.plan.implicit import ddim, ddim_inversion
from ddpm_ref.reference.plan.markov import LastNoise, ancestral
from ddpm_ref.reference.plan.record import Ascent, Form, LearnedVariance, Plan
from ddpm_ref.reference.plan.stages import Threshold, dynamic_threshold, staged

__all__ = [
    "AnalyticLastNoise",
    "Ascent",
    "Form",
    "LastNoise",
    "LearnedVariance",
    "Plan",
    "Threshold",
    "analytic",
    "ancestral",
    "ddim",
    "ddim_inversion",
    "dynamic_threshold",
    "staged",
]
