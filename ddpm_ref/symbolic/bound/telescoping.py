r"""The chain turned around: quotients of marginals that cancel, and the bound as a sum with one term for every step."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.bound.jensen import CHAIN, CLEAN, POINT, i, over_steps
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.divergence import kl_gaussian_full
from ddpm_ref.symbolic.forward.moments import terminal_distribution
from ddpm_ref.symbolic.gaussian import expectation, log_density
from ddpm_ref.symbolic.induction import last, peeled
from ddpm_ref.symbolic.posterior.chain import MEAN, VARIANCE, start
from ddpm_ref.symbolic.posterior.density import posterior_bayes
from ddpm_ref.symbolic.symbols import (
    T,
    alpha,
    alpha_bar_s,
    alpha_bar_T,
    alpha_bar_t,
    beta,
    beta_bar_s,
    beta_bar_T,
    beta_bar_t,
    equation,
    gain,
    latex,
    letter,
    mean1,
    mean2,
    variance,
    variance1,
    variance2,
    x0,
    xs,
    xt,
)  # fmt: skip

marginals = sp.IndexedBase(letter("marginals", "q", positive=True))
gain_0 = letter("gain_0", "g_0", real=True)
variance_0 = letter("variance_0", r"\sigma_0^2", positive=True)

NO_POSTERIOR = (
    "at s = 0 the posterior is the point x_0 and has no density; the last step belongs to the reconstruction term"
)


@derives(
    r"\prod_{t=2}^T\frac{q(x_{t-1}\mid x_0)}{q(x_t\mid x_0)} = \frac{q(x_1\mid x_0)}{q(x_T\mid x_0)},\qquad"
    r" \prod_{t=1}^Tq(x_t\mid x_{t-1}) = q(x_T\mid x_0)\prod_{t=2}^Tq(x_{t-1}\mid x_t,x_0)",
    source="ho2020, appendix A",
)
def elbo_telescoping(proof: Proof) -> None:
    r"""The product of quotients of neighbours is the quotient of the ends, whatever the factors: induction over their number. With
    Bayes' rule for every step but the first, checked for the densities as they are, it turns the chain around.
    """
    start(proof)
    product = sp.Product(marginals[i - 1] / marginals[i], (i, 2, T))
    claimed = marginals[1] / marginals[T]
    proof.say(
        r"Let $q_t > 0$ be any numbers, e.g. the values of $q(x_t\mid x_0)$ along a path. Claimed is:",
        equation(latex(product), claimed),
    )
    proof.equal(
        "One level gives the empty product,",
        product.subs(T, 1).doit(),
        claimed.subs(T, 1),
        shown=r"1 = \frac{q_1}{q_1}",
    )
    longer = product.subs(T, T + 1)
    proof.equal(
        "and one level more keeps the form, because its numerator cancels the denominator before.",
        peeled(longer).subs(product, claimed),
        claimed.subs(T, T + 1),
        shown=r"\frac{q_1}{q_T}\cdot\frac{q_T}{q_{T+1}} = \frac{q_1}{q_{T+1}}",
    )
    marginal_s = log_density(xs, sp.sqrt(alpha_bar_s) * x0, beta_bar_s)
    marginal_t = log_density(xt, sp.sqrt(alpha_bar_t) * x0, beta_bar_t)
    by_bayes = posterior_bayes().results["log_density"] + marginal_t - marginal_s
    proof.equal(
        "A step of the chain by the posterior and two marginals (`posterior_bayes`); in logarithms, prefactors included,",
        log_density(xt, sp.sqrt(alpha) * xs, beta),
        by_bayes,
        shown=r"\log q(x_t\mid x_s) = \log q(x_s\mid x_t, x_0) + \log q(x_t\mid x_0) - \log q(x_s\mid x_0)",
    )
    forwards, posteriors, logs = (sp.IndexedBase(sp.Symbol(name, real=True)) for name in ("F", "P", "M"))
    backwards = over_steps(posteriors[i], first=2)
    along, turned = over_steps(forwards[i]), logs[T] + backwards
    proof.equal(
        r"The whole chain, with $F_i$, $P_i$, $M_i$ for the logarithms of $q(x_i\mid x_{i-1})$, $q(x_{i-1}\mid x_i, x_0)$,"
        r" $q(x_i\mid x_0)$: the first step is a marginal itself,",
        along.subs(T, 1).doit().subs(forwards[1], logs[1]),
        turned.subs(T, 1).doit(),
        shown="F_1 = M_1",
    )
    proof.equal(
        "and a later one takes the marginal before away and puts its own.",
        turned + posteriors[T + 1] + logs[T + 1] - logs[T],
        logs[T + 1] + peeled(backwards.subs(T, T + 1)),
        shown=r"\sum_{i=1}^{T+1}F_i = M_{T+1} + \sum_{i=2}^{T+1}P_i",
    )
    proof.only_where(beta_bar_t, CLEAN)
    proof.only_where(beta_bar_s, NO_POSTERIOR)
    proof.conclude(log_step=by_bayes)


@derives(
    r"\mathbb E_q\left[-\log\frac{p_\theta(x_{0:T})}{q(x_{1:T}\mid x_0)}\right] = L_T + \sum_{t=2}^TL_{t-1} + L_0,\quad"
    r" L_T = D_{KL}(q(x_T\mid x_0)\,\Vert\,p(x_T)),\quad"
    r" L_{t-1} = \mathbb E_{q(x_t\mid x_0)}D_{KL}(q(x_{t-1}\mid x_t,x_0)\,\Vert\,p_\theta(x_{t-1}\mid x_t)),\quad"
    r" L_0 = -\mathbb E_{q(x_1\mid x_0)}\log p_\theta(x_0\mid x_1)",
    source="ho2020, eq. (5) and appendix A",
)
def elbo_decomposition(proof: Proof) -> None:
    r"""The log ratio of a path, sorted by steps with the chain turned around; then each part is averaged over no more than it
    contains. Every term of the upper bound on $-\log p_\theta(x_0)$ enters with a plus; the lower bound on the log-likelihood is
    minus the sum. A linear model with two steps is averaged along the chain as it is drawn, and gives the same.
    """
    proof.assume(CHAIN)
    F, P, M, R, prior = (sp.IndexedBase(sp.Symbol(name, real=True)) for name in ("F", "P", "M", "R", "Pi"))
    proof.say(
        r"Write $F_i$, $P_i$, $M_i$, $R_i$ for the logarithms of $q(x_i\mid x_{i-1})$, $q(x_{i-1}\mid x_i, x_0)$, $q(x_i\mid x_0)$"
        r" and $p_\theta(x_{i-1}\mid x_i)$, and $\Pi_i$ for that of the prior at $x_i$. Claimed is, for every path,",
        r"\Pi_T + \sum_{i=1}^T(R_i - F_i) = -(M_T - \Pi_T) - \sum_{i=2}^T(P_i - R_i) + R_1",
    )
    ratio_of_path = prior[T] + over_steps(R[i] - F[i])
    sorted_ratio = -(M[T] - prior[T]) - over_steps(P[i] - R[i], first=2) + R[1]
    proof.equal(
        "One step, which is a marginal itself:",
        ratio_of_path.subs(T, 1).doit().subs(F[1], M[1]),
        sorted_ratio.subs(T, 1).doit(),
    )
    bayes = P[T + 1] + M[T + 1] - M[T]
    before = over_steps(R[i] - F[i])
    grown = prior[T + 1] + (sorted_ratio - prior[T]) + last(before.subs(T, T + 1)).subs(F[T + 1], bayes)
    proof.equal(
        "One more, written by `elbo_telescoping` as a posterior and two marginals:",
        grown,
        -(M[T + 1] - prior[T + 1]) - peeled(over_steps(P[i] - R[i], first=2, end=T + 1)) + R[1],
        shown=r"\Pi_{T+1} + \sum_{i=1}^{T+1}(R_i - F_i) = -(M_{T+1} - \Pi_{T+1}) - \sum_{i=2}^{T+1}(P_i - R_i) + R_1",
    )
    proof.say(
        r"Averaged over the chain: the first part contains $x_T$ only and gives $-L_T$; $P_i - R_i$ contains $x_{i-1}$ and $x_i$,"
        r" whose joint law is $q(x_i\mid x_0)\,q(x_{i-1}\mid x_i, x_0)$, and averaged over $x_{i-1}$ first it is a divergence; the"
        r" last part gives $-L_0$.",
        r"\mathbb E_q\left[\log\frac{p_\theta(x_{0:T})}{q(x_{1:T}\mid x_0)}\right] = -L_T - \sum_{t=2}^TL_{t-1} - L_0",
    )
    terms = _two_steps(proof)
    proof.only_where(beta_bar_s, NO_POSTERIOR)
    proof.only_where(variance, POINT)
    proof.only_where(variance_0, POINT)
    proof.conclude(**terms)


def _two_steps(proof: Proof) -> dict[str, sp.Expr]:
    """A linear model over the levels t and s: the log ratio averaged along the chain, and the three terms."""
    proof.say(
        r"Two steps, $t \to s \to 0$, and a linear model: $p(x_t) = \mathcal N(0, 1)$, $p_\theta(x_s\mid x_t) ="
        r" \mathcal N(gx_t,\ \sigma^2)$, $p_\theta(x_0\mid x_s) = \mathcal N(g_0x_s,\ \sigma_0^2)$."
    )
    at_t, at_s = (sp.sqrt(alpha_bar_t) * x0, beta_bar_t), (sp.sqrt(alpha_bar_s) * x0, beta_bar_s)
    step = sp.sqrt(alpha) * xs, beta
    last_step = -log_density(x0, gain_0 * xs, variance_0)
    path = log_density(xt, *step) + log_density(xs, *at_s) + last_step
    path -= log_density(xt, 0, sp.S.One) + log_density(xs, gain * xt, variance)
    direct = expectation(expectation(path, xt, *step), xs, *at_s)
    divergence = kl_gaussian_full().results["scalar"].subs(
        {mean1: MEAN, variance1: VARIANCE, mean2: gain * xt, variance2: variance}, simultaneous=True
    )  # fmt: skip
    prior = terminal_distribution().results["kl"].subs({alpha_bar_T: alpha_bar_t, beta_bar_T: beta_bar_t})
    away = (sp.sqrt(alpha_bar_s) - gain * sp.sqrt(alpha_bar_t)) ** 2 * x0**2
    spread = (sp.sqrt(alpha) * beta_bar_s / beta_bar_t - gain) ** 2 * beta_bar_t
    denoising = (VARIANCE / variance - 1 - sp.log(VARIANCE / variance) + (away + spread) / variance) / 2
    proof.equal(
        r"The divergence of the posterior from the model's step, averaged over $x_t$:",
        expectation(divergence, xt, *at_t),
        denoising,
        shown=rf"L_{{t-1}} = \tfrac12\left[\frac{{\tilde\beta_{{t\mid s}}}}{{\sigma^2}} - 1"
        rf" - \log\frac{{\tilde\beta_{{t\mid s}}}}{{\sigma^2}} + {latex((away + spread) / variance)}\right]",
    )
    square = (1 - gain_0 * sp.sqrt(alpha_bar_s)) ** 2 * x0**2 + gain_0**2 * beta_bar_s
    reconstruction = (sp.log(2 * sp.pi * variance_0) + square / variance_0) / 2
    proof.equal(
        r"The last step, averaged over $x_s$:",
        expectation(last_step, xs, *at_s),
        reconstruction,
        shown=equation("L_0", reconstruction),
    )
    bound = prior + denoising + reconstruction
    proof.equal(
        r"The negative log ratio of the whole path, integrated over $x_t$ given $x_s$ and then over $x_s$, as the chain draws"
        " them, is the sum of the three.",
        direct,
        bound,
        shown=r"\int\!\!\int q(x_s\mid x_0)\,q(x_t\mid x_s)\,\log\frac{q(x_s\mid x_0)\,q(x_t\mid x_s)}"
        r"{p(x_t)\,p_\theta(x_s\mid x_t)\,p_\theta(x_0\mid x_s)}\,dx_t\,dx_s = L_T + L_{t-1} + L_0",
    )
    nll = -log_density(x0, 0, gain_0**2 * (gain**2 + variance) + variance_0)
    backwards = {gain: sp.sqrt(alpha), variance: beta, gain_0: sp.sqrt(alpha_bar_s), variance_0: beta_bar_s}
    proof.equal(
        "It is the negative log-likelihood itself in the case without a gap (`elbo_jensen`), though none of the terms is 0.",
        (bound - nll).subs(backwards, simultaneous=True),
        sp.S.Zero,
        shown=r"L_T + L_{t-1} + L_0 = -\log\mathcal N(x_0; 0, 1)",
    )
    return {"prior": prior, "denoising": denoising, "reconstruction": reconstruction, "bound": bound, "nll": nll}
