"""The forward process, derived: its kernels, and the moments and noises of its states."""

from __future__ import annotations

from ddpm_ref.symbolic.derivation import Derive
from ddpm_ref.symbolic.forward.kernels import forward_chain, forward_marginal, forward_step, q_sample
from ddpm_ref.symbolic.forward.moments import data_marginal, second_moment_recursion, terminal_distribution
from ddpm_ref.symbolic.forward.noises import aggregate_noise, single_noise_training_economy, stepwise_inversion
from ddpm_ref.symbolic.forward.sums import gaussian_sum_rule, two_step_merge

DERIVATIONS: tuple[Derive, ...] = (
    forward_chain,
    forward_step,
    gaussian_sum_rule,
    two_step_merge,
    forward_marginal,
    q_sample,
    aggregate_noise,
    data_marginal,
    second_moment_recursion,
    terminal_distribution,
    stepwise_inversion,
    single_noise_training_economy,
)
