r"""The posterior of the forward process, derived: :math:`q(x_s\mid x_t, x_0)` for ``s < t``, reached by three ways.

By Bayes' rule with the densities as they are, prefactors included; by completing the square in their exponent; and by
conditioning the joint normal law of two levels. Then what follows when the data are not given: the true reverse kernel.
"""

from __future__ import annotations

from ddpm_ref.symbolic.derivation import Derive
from ddpm_ref.symbolic.posterior.density import gaussian_density, posterior_bayes, posterior_completing_square
from ddpm_ref.symbolic.posterior.kernel import plug_in_reverse_approximation, true_reverse_kernel
from ddpm_ref.symbolic.posterior.mean import (
    posterior_log_variance_clipped,
    posterior_mean_coefficients,
    posterior_mean_from_eps,
    posterior_mean_from_x0,
    posterior_variance,
)

DERIVATIONS: tuple[Derive, ...] = (
    gaussian_density,
    posterior_bayes,
    posterior_completing_square,
    posterior_mean_from_x0,
    posterior_mean_coefficients,
    posterior_variance,
    posterior_mean_from_eps,
    posterior_log_variance_clipped,
    true_reverse_kernel,
    plug_in_reverse_approximation,
)
