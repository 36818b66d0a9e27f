"""What the derivations of the posterior share: the forward chain they start from, and the forms they arrive at."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.derivation import Proof
from ddpm_ref.symbolic.symbols import alpha, alpha_bar_s, alpha_bar_t, beta, beta_bar_s, beta_bar_t, x0, xs, xt

# Exponents of the three forward densities: of the step, and of the two marginals given the data.
STEP = -((xt - sp.sqrt(alpha) * xs) ** 2) / (2 * beta)
MARGINAL_S = -((xs - sp.sqrt(alpha_bar_s) * x0) ** 2) / (2 * beta_bar_s)
MARGINAL_T = -((xt - sp.sqrt(alpha_bar_t) * x0) ** 2) / (2 * beta_bar_t)

# The published forms. No proof starts from them: each stands on the right of an equation whose left was computed.
WEIGHT_X0 = sp.sqrt(alpha_bar_s) * beta / beta_bar_t
WEIGHT_XT = sp.sqrt(alpha) * beta_bar_s / beta_bar_t
MEAN = WEIGHT_XT * xt + WEIGHT_X0 * x0
VARIANCE = beta * beta_bar_s / beta_bar_t

# The letters of a step to clean data.
AT_LEVEL_0 = {alpha_bar_s: 1, beta_bar_s: 0, alpha_bar_t: alpha, beta_bar_t: beta}

CHAIN = (
    r"The chain is Markov, with $q(x_t\mid x_s) = \mathcal N(\sqrt{\alpha_{t\mid s}}\,x_s,\ \beta_{t\mid s})$ and"
    r" $q(x_s\mid x_0) = \mathcal N(\sqrt{\bar\alpha_s}\,x_0,\ \bar\beta_s)$: `forward_step` and `forward_marginal`. What a"
    r" normal law has in its second place is a variance."
)
LEVELS = r"$T \ge t > s \ge 0$; the step $t \to t-1$ of the papers is $s = t - 1$."
NO_STEP = "at t = 0 there is no step back; ask for t >= 1"


def start(proof: Proof) -> None:
    """State what every derivation about a step of the chain starts from."""
    proof.assume(CHAIN)
    proof.assume(LEVELS)
