"""Common statements about the variational bound, refuted."""

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
    mean,
    mean1,
    variance,
    variance1,
    x0,
    xs,
    xt,
)  # fmt: skip

FORWARDS = sp.sqrt(alpha_bar_t) * x0, beta_bar_t
UNIT = (
    r"$x_0 \sim \mathcal N(0, 1)$, one step from $t$ to 0, and the model that is right for such data:"
    r" $p_\theta(x_0\mid x_t) = \mathcal N(\sqrt{\bar\alpha_t}\,x_t,\ \bar\beta_t)$ and $p(x_t) = \mathcal N(0, 1)$."
)
PRIOR = (alpha_bar_t * x0**2 - alpha_bar_t - sp.log(beta_bar_t)) / 2
DATA = (sp.log(2 * sp.pi * beta_bar_t) + beta_bar_t * x0**2 + alpha_bar_t) / 2
LIKELIHOOD = (sp.log(2 * sp.pi) + x0**2) / 2

missed = letter("missed", r"\delta", positive=True)
floor = letter("floor", "c", positive=True)
marginals = [letter(f"marginal_{k}", f"q_{k}", positive=True) for k in (1, 2, 3)]


def along_the_chain(f: sp.Expr) -> sp.Expr:
    """Expectation over the noisy data, given the data; logarithms of products taken apart."""
    return sp.expand_log(expectation(f, xt, *FORWARDS), force=True)


def of_model() -> sp.Expr:
    """Log density of the data given the noisy data."""
    return log_density(x0, sp.sqrt(alpha_bar_t) * xt, beta_bar_t)


@refutes("E24")
def sign_of_the_reconstruction(case: Case) -> None:
    r"""For standard normal data and the model that is right for them the bound is the negative log-likelihood itself, which is
    known. What it must contain besides the term of the prior, which is integrated, is therefore known too."""
    case.assume(UNIT)
    prior = along_the_chain(log_density(xt, *FORWARDS) - log_density(xt, 0, sp.S.One))
    case.equal("The term of the prior, integrated, is", prior, PRIOR)
    case.contrast(
        r"what the upper bound on $-\log p_\theta(x_0)$ contains besides the term of the prior",
        derived=sp.expand_log(-log_density(x0, 0, sp.S.One), force=True) - prior,
        right=DATA,
        wrong=-DATA,
        ratio=sp.Integer(-1),
        x0=1,
    )
    case.equal(r"It is $-\mathbb E\log p_\theta(x_0\mid x_t)$, integrated:", -along_the_chain(of_model()), DATA)
    case.contrast(
        r"the upper bound on $-\log p_\theta(x_0)$",
        derived=prior - along_the_chain(of_model()),
        right=LIKELIHOOD,
        wrong=PRIOR - DATA,
        difference=-2 * DATA,
        x0=1,
    )


@refutes("E25")
def sign_of_the_bound(case: Case) -> None:
    r"""The log ratio of the model to the chain is the logarithm of the likelihood, whatever the path, if the model is right. Its
    mean, by integration, contains the divergence from the prior with a minus."""
    case.assume(UNIT)
    ratio = log_density(xt, 0, sp.S.One) + of_model() - log_density(xt, *FORWARDS)
    case.equal("The term of the data, integrated, is", along_the_chain(of_model()), -DATA)
    case.contrast(
        r"$\mathbb E_q\log\frac{p_\theta(x_0, x_t)}{q(x_t\mid x_0)}$",
        derived=along_the_chain(ratio),
        right=-LIKELIHOOD,
        wrong=PRIOR - DATA,
        difference=2 * PRIOR,
        x0=1,
    )
    posterior, model = (mean1, variance1), (mean, variance)
    step = expectation(log_density(xs, *model) - log_density(xs, *posterior), xs, *posterior)
    divergence = (variance1 / variance - 1 - sp.log(variance1 / variance) + (mean1 - mean) ** 2 / variance) / 2
    case.contrast(
        r"what a step adds to it, if the posterior is $\mathcal N(\mu_1, \sigma_1^2)$ and the model $\mathcal N(\mu, \sigma^2)$",
        derived=sp.expand_log(step, force=True),
        right=-divergence,
        wrong=divergence,
        ratio=sp.Integer(-1),
        mean1=1,
        mean=0,
        variance1=1,
        variance=2,
    )


@refutes("E26")
def index_that_does_not_run(case: Case) -> None:
    r"""The product over three levels, factor by factor, and the power of one factor that stands there if the index of the product
    is not that of the factors."""
    case.assume(r"$q_1, q_2, q_3$ are the densities of three states given the data.")
    one, two, three = marginals
    case.contrast(
        r"$\prod_{t=2}^3\frac{q_{t-1}}{q_t}$",
        derived=(one / two) * (two / three),
        right=one / three,
        wrong=(one / two) ** 2,
        ratio=one * three / two**2,
        marginal_1=1,
        marginal_2=2,
        marginal_3=3,
    )


@refutes("E27")
def divergence_the_wrong_way(case: Case) -> None:
    r"""The divergence of the posterior from a step of the model with the variance $\beta_{t\mid s}$ is integrated, under the
    posterior; what is commonly written is the divergence of the model from the posterior, which is integrated too."""
    case.assume(
        r"$q(x_s\mid x_t, x_0) = \mathcal N(\tilde\mu, \tilde\beta_{t\mid s})$,"
        r" $p_\theta(x_s\mid x_t) = \mathcal N(\mu_\theta, \beta_{t\mid s})$."
    )
    case.equal(r"The posterior has the variance", square().variance, beta * beta_bar_s / beta_bar_t)
    centre = letter("centre", r"\tilde\mu", real=True)
    spread = sp.Dummy("spread", positive=True)

    def divergence(first: tuple[sp.Expr, sp.Expr], second: tuple[sp.Expr, sp.Expr]) -> sp.Expr:
        found = expectation(log_density(xs, *first) - log_density(xs, *second), xs, *first)
        return sp.expand_log(found, force=True)

    right, wrong = (
        divergence(*laws).subs(spread, beta_tilde)
        for laws in (((centre, spread), (mean, beta)), ((mean, beta), (centre, spread)))
    )
    narrower = beta_bar_s / beta_bar_t
    case.contrast(
        "the part of the variances",
        derived=right.subs(centre, mean),
        right=(narrower - 1 - sp.log(narrower)) / 2,
        wrong=(1 / narrower - 1 + sp.log(narrower)) / 2,
        difference=(1 / narrower - narrower) / 2 + sp.log(narrower),
    )
    case.equal(
        "The other order has, integrated, what is commonly written.",
        wrong.subs(centre, mean).subs(beta_tilde, beta * narrower),
        (1 / narrower - 1 + sp.log(narrower)) / 2,
    )
    case.contrast(
        r"what $(\tilde\mu - \mu_\theta)^2$ is multiplied by",
        derived=sp.diff(right, mean, 2) / 2,
        right=1 / (2 * beta),
        wrong=1 / (2 * beta_tilde),
        ratio=beta_bar_t / beta_bar_s,
    )


@refutes("E36")
def no_variance_to_the_data(case: Case) -> None:
    r"""The variance that the step to the data must have is that of normal data given $x_t$, by completing the square; the posterior
    variance of that step is 0. What a floor under it costs is the negative log density, as it is."""
    case.assume(r"$x_0 \sim \mathcal N(0, v_0)$; the step leads from $t$ to level 0.")
    given_xt = complete_square(log_density(xt, sp.sqrt(alpha_bar_t) * x0, beta_bar_t) + log_density(x0, 0, v0), x0)
    to_data = {alpha_bar_s: 1, beta_bar_s: 0, alpha_bar_t: alpha, beta_bar_t: beta}
    case.equal("The posterior variance of the step is", square().variance.subs(to_data), sp.S.Zero, shown="0")
    right = v0 * beta_bar_t / (alpha_bar_t * v0 + beta_bar_t)
    case.contrast(
        "the variance of the data given the state that the last step starts from",
        derived=given_xt.variance,
        right=right,
        wrong=sp.Integer(0),
        difference=-right,
        v0=1,
    )
    nats = -log_density(x0, mean, variance)
    (best,) = sp.solve(sp.diff(nats.subs(x0, mean + missed), variance), variance)
    least = (sp.log(2 * sp.pi * missed**2) + 1) / 2
    floored = (sp.log(2 * sp.pi * floor) + missed**2 / floor) / 2
    case.contrast(
        r"the least cost, in nats, of a component that is missed by $\delta$, beside that with a floor $c$ for its variance",
        derived=nats.subs({x0: mean + missed, variance: best}),
        right=least,
        wrong=floored,
        difference=floored - least,
        missed=sp.Rational(1, 100),
        floor=sp.Rational(1, 10**8),
    )


REFUTATIONS: tuple[Refute, ...] = (
    sign_of_the_reconstruction, sign_of_the_bound, index_that_does_not_run, divergence_the_wrong_way,
    no_variance_to_the_data,
)  # fmt: skip
