r"""The reverse model, derived: :math:`p_\theta(x_s\mid x_t) = \mathcal N(\mu_\theta(x_t, t),\ \sigma_t^2 I)`."""

from __future__ import annotations

from ddpm_ref.symbolic.derivation import Derive
from ddpm_ref.symbolic.reverse.model import (
    model_mean_from_eps,
    model_mean_from_x0,
    reverse_chain,
    reverse_step_gaussian,
)
from ddpm_ref.symbolic.reverse.variance import (
    learned_variance_interpolation,
    optimal_variance_bracket,
    variance_fixed_large,
    variance_fixed_large_first_entry,
    variance_fixed_small,
)

DERIVATIONS: tuple[Derive, ...] = (
    reverse_chain,
    reverse_step_gaussian,
    model_mean_from_eps,
    model_mean_from_x0,
    variance_fixed_small,
    variance_fixed_large,
    variance_fixed_large_first_entry,
    optimal_variance_bracket,
    learned_variance_interpolation,
)
