"""Common statements about ancestral sampling, refuted."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.gaussian import complete_square, expectation, log_density
from ddpm_ref.symbolic.refutations.posterior import square
from ddpm_ref.symbolic.refutations.refutation import Case, Refute, beta_tilde, refutes, v0
from ddpm_ref.symbolic.symbols import (
    alpha,
    alpha_bar_s,
    alpha_bar_t,
    beta,
    beta_bar_s,
    beta_bar_t,
    letter,
    noise,
    x0,
    xs,
    xt,
)  # fmt: skip

factor = letter("factor", "c", positive=True)
elsewhere = letter("beta_elsewhere", r"\beta_{t'}", positive=True)
UNIT = r"The data are standard normal, so every $x_t$ is; the network is the best one."


@refutes("E40")
def variance_for_deviation(case: Case) -> None:
    """The factor of a standard normal number that gives a step its variance is solved for; and the variance is computed
    that it has with the common factor."""
    case.assume(r"$z \sim \mathcal N(0, 1)$ is fresh, and the kernel has the variance $\tilde\beta_{t\mid s}$.")
    added = expectation((factor * noise) ** 2, noise, 0, 1)
    case.say("The variance of $c z$ is", added)
    (needed,) = sp.solve(added - beta_tilde, factor)
    case.contrast(
        "the factor of the noise",
        derived=needed,
        right=sp.sqrt(beta_tilde),
        wrong=beta_tilde,
        ratio=sp.sqrt(beta_tilde),
    )
    case.contrast(
        "the variance of the step",
        derived=added.subs(factor, needed),
        right=beta_tilde,
        wrong=added.subs(factor, beta_tilde),
        ratio=beta_tilde,
    )


@refutes("E41")
def alpha_of_another_level(case: Case) -> None:
    """The posterior variance comes out of completing the square, with the beta of the step in it; an alpha without an index
    can be any."""
    case.assume("The chain is Markov, and its kernels are the forward kernels.")
    case.contrast(
        "the variance of the step",
        derived=square().variance,
        right=beta * beta_bar_s / beta_bar_t,
        wrong=elsewhere * beta_bar_s / beta_bar_t,
        ratio=elsewhere / beta,
        beta_elsewhere=sp.Rational(9, 25),
    )


@refutes("E42")
def two_samplers_taken_for_one(case: Case) -> None:
    """Two variances are derived: of the posterior, which is what the text has, and of the step back for standard normal
    data, which is what the code has. They are not the same."""
    case.assume(UNIT)
    back = complete_square(log_density(xt, sp.sqrt(alpha) * xs, beta) + log_density(xs, 0, sp.S.One), xs)
    case.equal("For standard normal data the step back has the variance", back.variance, beta)
    case.contrast(
        "the variance that the text states",
        derived=square().variance,
        right=beta_tilde,
        wrong=back.variance,
        ratio=beta_bar_t / beta_bar_s,
    )


def _best() -> tuple[sp.Expr, sp.Expr]:
    """What the best network says of normal data of variance ``v0``: data and noise, by completing the square."""
    data = complete_square(log_density(xt, sp.sqrt(alpha_bar_t) * x0, beta_bar_t) + log_density(x0, 0, v0), x0).mean
    return data, sp.factor((xt - sp.sqrt(alpha_bar_t) * data) / sp.sqrt(beta_bar_t))


@refutes("E44")
def spread_without_fresh_noise(case: Case) -> None:
    """The deterministic step is written down for standard normal data. It draws nothing, and yet what it returns varies,
    with the state it started from."""
    case.assume(UNIT)
    data, eps = (each.subs(v0, 1) for each in _best())
    step = sp.sqrt(alpha_bar_s) * data + sp.sqrt(beta_bar_s) * eps
    kept = (sp.sqrt(alpha_bar_s) * sp.sqrt(alpha_bar_t) + sp.sqrt(beta_bar_s) * sp.sqrt(beta_bar_t)) ** 2
    case.say("The step without fresh noise is", step)
    case.contrast(
        "the variance of $x_s$ if no noise is drawn",
        derived=expectation(step**2, xt, 0, 1),
        right=kept,
        wrong=sp.Integer(0),
        difference=-kept,
    )


@refutes("E45")
def jump_without_use(case: Case) -> None:
    """The deterministic step of DDIM is collected by the jump that it contains, whose weight is not 0. As a sample the jump
    is too narrow: its variance is computed for normal data."""
    case.assume(r"$x_0 \sim \mathcal N(0, v_0)$; the network is the best one.")
    step = sp.sqrt(alpha_bar_s) * x0 + sp.sqrt(beta_bar_s) * (xt - sp.sqrt(alpha_bar_t) * x0) / sp.sqrt(beta_bar_t)
    weight = sp.sqrt(alpha_bar_s) - sp.sqrt(alpha_bar_t) * sp.sqrt(beta_bar_s) / sp.sqrt(beta_bar_t)
    case.contrast(
        r"the weight of the jump in a step of DDIM with $\eta = 0$",
        derived=sp.diff(step, x0),
        right=weight,
        wrong=sp.Integer(0),
        difference=-weight,
    )
    jump, _ = _best()
    spread = alpha_bar_t * v0 + beta_bar_t
    case.contrast(
        r"the variance of the jump, taken for a sample",
        derived=expectation(jump**2, xt, 0, spread),
        right=alpha_bar_t * v0**2 / spread,
        wrong=v0,
        ratio=spread / (alpha_bar_t * v0),
        v0=1,
    )


@refutes("E46")
def noise_taken_off(case: Case) -> None:
    """From a forward step its own noise is subtracted, and what is left of the earlier state is read off; the subtraction
    does not bring it back."""
    case.assume(r"$x_t = \sqrt{\alpha_{t\mid s}}\,x_s + \sqrt{\beta_{t\mid s}}\,z$.")
    later = sp.sqrt(alpha) * xs + sp.sqrt(beta) * noise
    case.contrast(
        "what a step leaves of $x_s$ when its noise is taken off",
        derived=sp.diff(later - sp.sqrt(beta) * noise, xs),
        right=sp.sqrt(alpha),
        wrong=sp.Integer(1),
        ratio=1 / sp.sqrt(alpha),
    )


REFUTATIONS: tuple[Refute, ...] = (
    variance_for_deviation, alpha_of_another_level, two_samplers_taken_for_one, spread_without_fresh_noise,
    jump_without_use, noise_taken_off,
)  # fmt: skip
