r"""The DDIM family, derived: all normal laws of :math:`x_s` given :math:`x_t` and :math:`x_0` that keep the marginals.

From the family (`family`) to its steps (`step`), to steps that leave levels out (`subsequence`), to what two steps do together
(`composition`), and to what the deterministic member makes of normal data (`normal_data`, `order`).
"""

from __future__ import annotations

from ddpm_ref.symbolic.ddim.composition import ddim_composition
from ddpm_ref.symbolic.ddim.family import (
    ddim_marginal_invariance,
    ddim_noise_split,
    ddim_posterior,
    ddim_posterior_two_coefficients,
    ddim_sigma_eta,
)
from ddpm_ref.symbolic.ddim.normal_data import ddim_deterministic_step, ddim_inversion
from ddpm_ref.symbolic.ddim.order import ddim_order_of_convergence
from ddpm_ref.symbolic.ddim.step import ddim_eta1_is_ddpm, ddim_final_step, ddim_step, ddim_step_eps_form
from ddpm_ref.symbolic.ddim.subsequence import ddim_subsequence, ddim_time_grid, strided_schedule
from ddpm_ref.symbolic.derivation import Derive

DERIVATIONS: tuple[Derive, ...] = (
    ddim_posterior,
    ddim_posterior_two_coefficients,
    ddim_noise_split,
    ddim_marginal_invariance,
    ddim_sigma_eta,
    ddim_step,
    ddim_step_eps_form,
    ddim_deterministic_step,
    ddim_eta1_is_ddpm,
    ddim_subsequence,
    ddim_time_grid,
    strided_schedule,
    ddim_final_step,
    ddim_composition,
    ddim_inversion,
    ddim_order_of_convergence,
)
