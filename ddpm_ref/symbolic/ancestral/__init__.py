r"""Ancestral sampling, derived: the chain of reverse steps from noise to data, and what it makes of normal data.

Everything about a sampler that is linear can be said without sampling: `gaussian_sampler_oracle` gives the variance of its
states for normal data, step by step.
"""

from __future__ import annotations

from ddpm_ref.symbolic.ancestral.algorithm import ancestral_step, final_step_without_noise, sampling_algorithm
from ddpm_ref.symbolic.ancestral.normal_data import gaussian_sampler_oracle
from ddpm_ref.symbolic.ancestral.prediction import one_step_x0_jump, output_clipping, x0_clipping
from ddpm_ref.symbolic.derivation import Derive

DERIVATIONS: tuple[Derive, ...] = (
    ancestral_step,
    sampling_algorithm,
    final_step_without_noise,
    output_clipping,
    x0_clipping,
    one_step_x0_jump,
    gaussian_sampler_oracle,
)
