r"""The variational bound, derived: why it is one, what its terms are, and in which units they are told.

Steps go from a level ``t`` to any lower level ``s``, so that a strided chain has the same bound with fewer terms.
"""

from __future__ import annotations

from ddpm_ref.symbolic.bound.decoder import discretized_gaussian_decoder
from ddpm_ref.symbolic.bound.jensen import elbo_jensen
from ddpm_ref.symbolic.bound.telescoping import elbo_decomposition, elbo_telescoping
from ddpm_ref.symbolic.bound.terms import loss_denoising, loss_prior, loss_reconstruction
from ddpm_ref.symbolic.bound.units import bits_per_dim, vlb_term_selector
from ddpm_ref.symbolic.derivation import Derive

DERIVATIONS: tuple[Derive, ...] = (
    elbo_jensen,
    elbo_telescoping,
    elbo_decomposition,
    loss_prior,
    loss_denoising,
    loss_reconstruction,
    discretized_gaussian_decoder,
    bits_per_dim,
    vlb_term_selector,
)
