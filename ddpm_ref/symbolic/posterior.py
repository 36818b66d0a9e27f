"""The posterior of the forward process."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.derivation import Derive, Proof, derives
from ddpm_ref.symbolic.gaussian import complete_square, log_density
from ddpm_ref.symbolic.symbols import alpha, alpha_bar_s, beta, beta_bar_s, beta_bar_t, x0, xs, xt


@derives(r"\tilde\beta_{t\mid s} = \beta_{t\mid s}\,\bar\beta_s/\bar\beta_t", source="ho2020, eq. (7)")
def posterior_variance(proof: Proof) -> None:
    """Precisions add."""
    proof.assume("q(x_t | x_s) and q(x_s | x_0) are the forward kernels, and the chain is Markov.")
    exponent = log_density(xt, sp.sqrt(alpha) * xs, beta) + log_density(xs, sp.sqrt(alpha_bar_s) * x0, beta_bar_s)
    square = complete_square(exponent, xs)
    proof.say("The exponent in x_s has", square.variance)
    right = beta * beta_bar_s / beta_bar_t
    proof.equal("Its denominator is the noise at t,", square.variance, right)
    proof.only_where(beta_bar_t, "at t = 0 there is no step back; ask for t >= 1")
    proof.conclude(variance=right)


DERIVATIONS: tuple[Derive, ...] = (posterior_variance,)
