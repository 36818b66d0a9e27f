r"""The variational bound of the negative log-likelihood: its terms, the weights of losses in it, its units.

.. math::
    -\log p_\theta(x_0) \le \underbrace{D(q(x_T\mid x_0)\,\Vert\,p(x_T))}_{L_T}
    + \sum_{s \ge 1} \underbrace{\mathbb E_{q(x_t\mid x_0)} D(q(x_s\mid x_t, x_0)\,\Vert\,p_\theta(x_s\mid x_t))}_{L_{t-1}}
    \underbrace{- \mathbb E_{q(x_t\mid x_0)}\log p_\theta(x_0\mid x_t)}_{L_0}

over the steps ``t -> s`` of a trajectory (ho2020, eq. (5); nichol2021, eq. (4)-(7), for neighbouring levels). Every sign is a
plus: the bound is on the *negative* log-likelihood, and the reconstruction is minus a logarithm.
"""

from ddpm_ref.reference.bound.terms import bound_term, denoising_term, prior_term, reconstruction_term, variance_term
from ddpm_ref.reference.bound.units import bits_per_dim, continuous_bits_per_dim, nats_per_image
from ddpm_ref.reference.bound.weights import (
    log_snr_drop,
    loss_weight_eps,
    loss_weight_mean,
    loss_weight_v,
    loss_weight_x0,
)

__all__ = [
    "bits_per_dim",
    "bound_term",
    "continuous_bits_per_dim",
    "denoising_term",
    "log_snr_drop",
    "loss_weight_eps",
    "loss_weight_mean",
    "loss_weight_v",
    "loss_weight_x0",
    "nats_per_image",
    "prior_term",
    "reconstruction_term",
    "variance_term",
]
