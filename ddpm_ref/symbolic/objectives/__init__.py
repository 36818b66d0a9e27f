r"""Training objectives, derived: what the bound weighs errors with, what is left if it does not, and what their minima are."""

from __future__ import annotations

from ddpm_ref.symbolic.derivation import Derive
from ddpm_ref.symbolic.objectives.hybrid import hybrid_objective
from ddpm_ref.symbolic.objectives.inputs import data_scaling, time_embedding
from ddpm_ref.symbolic.objectives.losses import loss_reduction, loss_simple_l1, loss_simple_l2
from ddpm_ref.symbolic.objectives.optimality import mmse_optimality
from ddpm_ref.symbolic.objectives.relations import loss_weight_relation, x0_eps_error_relation
from ddpm_ref.symbolic.objectives.training import timestep_sampling, training_algorithm
from ddpm_ref.symbolic.objectives.weights import (
    loss_weight_eps,
    loss_weight_mu,
    loss_weight_v,
    loss_weight_x0,
)

DERIVATIONS: tuple[Derive, ...] = (
    loss_weight_mu,
    loss_weight_x0,
    loss_weight_eps,
    loss_weight_v,
    loss_weight_relation,
    x0_eps_error_relation,
    loss_simple_l2,
    loss_simple_l1,
    hybrid_objective,
    mmse_optimality,
    training_algorithm,
    timestep_sampling,
    loss_reduction,
    data_scaling,
    time_embedding,
)
