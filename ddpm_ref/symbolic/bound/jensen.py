r"""Why there is a bound: a concave logarithm, what it lacks of its tangent, and when it lacks nothing."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.divergence import SPREAD, kl_gaussian_full, ratio
from ddpm_ref.symbolic.forward.moments import terminal_distribution
from ddpm_ref.symbolic.gaussian import complete_square, expectation, log_density
from ddpm_ref.symbolic.induction import last
from ddpm_ref.symbolic.symbols import (
    T,
    alpha,
    alpha_bar_T,
    alpha_bar_t,
    beta,
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

i = letter("i", "i", integer=True, positive=True)
number = letter("number_of_paths", "N", integer=True, positive=True)
of_chain = sp.IndexedBase(letter("paths_of_chain", "q", positive=True))
of_model = sp.IndexedBase(letter("paths_of_model", "p", positive=True))
evidence = letter("evidence", r"p_\theta(x_0)", positive=True)

CHAIN = (
    r"Data $x_0$ become $x_1, \dots, x_T$ by the chain $q$, which is Markov; the model is $p_\theta(x_{0:T}) ="
    r" p(x_T)\prod_t p_\theta(x_{t-1}\mid x_t)$. Of a strided chain the states are $x_{\tau_1}, \dots, x_{\tau_K}$, and everything"
    r" holds with $s = \tau_{i-1}$, $t = \tau_i$ for $s = t - 1$."
)
POINT = "a step of the model of variance 0 is a point and has no density; give a variance > 0"
CLEAN = "at t = 0 the chain has made no step, and there is nothing to bound; ask for t >= 1"


def over_steps(term: sp.Expr, first: int = 1, end: sp.Expr = T) -> sp.Expr:
    """A sum over the steps of the chain, the last one included."""
    return sp.Sum(term, (i, first, end))


@derives(
    r"\log p_\theta(x_0) = \mathbb E_{q(x_{1:T}\mid x_0)}\left[\log\frac{p_\theta(x_{0:T})}{q(x_{1:T}\mid x_0)}\right]"
    r" + D_{KL}\left(q(x_{1:T}\mid x_0)\,\Vert\,p_\theta(x_{1:T}\mid x_0)\right)"
    r" \ge \mathbb E_{q(x_{1:T}\mid x_0)}\left[\log\frac{p_\theta(x_{0:T})}{q(x_{1:T}\mid x_0)}\right]",
    source="ho2020, eq. (3)",
)
def elbo_jensen(proof: Proof) -> None:
    r"""Jensen's inequality for the logarithm, with its gap. The logarithm lies below its tangent, and what it lacks, averaged over
    the paths of the chain, is exactly what the bound lacks. Then one step in full, by integration, and the case without a gap:
    for standard normal data the model with the mean $\sqrt{\alpha_{t\mid s}}\,x_t$ and the variance $\beta_{t\mid s}$ is the chain
    read backwards, and every path gives the same ratio.
    """
    proof.assume(CHAIN)
    proof.assume(
        r"First: the paths $x_{1:T}$ are finitely many, the chain takes them with probabilities $q_i > 0$, $\sum_iq_i = 1$, and"
        r" the model gives them $p_i = p_\theta(x_0, \text{path } i) > 0$, so that $\sum_ip_i = p_\theta(x_0)$. Their number is"
        " arbitrary; densities are a limit of this."
    )
    minima = sp.solve(sp.diff(SPREAD, ratio), ratio)
    proof.holds(
        r"$f(r) = r - 1 - \log r$ is what the logarithm lacks of its tangent in 1. It is convex, stationary at 1 only, and 0"
        " there:",
        [
            sp.Eq(sp.FiniteSet(*minima), sp.FiniteSet(1)),
            sp.Eq(SPREAD.subs(ratio, 1), 0),
            sp.diff(SPREAD, ratio, 2) > 0,
        ],
        shown=r"r - 1 - \log r \ge 0,\quad = 0 \iff r = 1",
    )
    q, p = of_chain[i], of_model[i]
    relative = p / (q * evidence)
    proof.say(r"Take for $r$ what the model gives a path, over what the chain gives it and the likelihood,", relative)
    parts = sp.Add.make_args(sp.expand(q * sp.expand_log(SPREAD.subs(ratio, relative))))
    averaged = sp.Add(*(_over_paths(part) for part in parts))
    bound = _over_paths(q * sp.expand_log(sp.log(p / q)))
    totals = {_over_paths(q): sp.S.One, _over_paths(p): evidence}
    proof.equal(
        r"Averaged over the paths, $r$ gives 1, and what is left is the logarithm of the likelihood less the bound:",
        averaged.subs(totals),
        sp.log(evidence) - sp.expand(bound).subs(totals),
        shown=r"\sum_iq_i\,f\left(\frac{p_i}{q_i\,p_\theta(x_0)}\right) = \log p_\theta(x_0) - \sum_iq_i\log\frac{p_i}{q_i}",
    )
    proof.equal(
        r"By Bayes' rule $p_i/p_\theta(x_0)$ is what the model makes of the path once the data are known: the gap is the"
        " divergence of the chain from it,",
        averaged.subs(totals),
        sp.log(evidence) + _over_paths(q * sp.log(q)) - _over_paths(q * sp.log(p)),
        shown=r"\sum_iq_i\log\frac{q_i}{p_i/p_\theta(x_0)}"
        r" = D_{KL}\left(q(x_{1:T}\mid x_0)\,\Vert\,p_\theta(x_{1:T}\mid x_0)\right) \ge 0",
    )
    proof.say(r"which vanishes only if $q_i = p_i/p_\theta(x_0)$ for every path.")
    nll, negative_bound = _one_step(proof)
    _no_gap(proof)
    proof.only_where(beta_bar_t, CLEAN)
    proof.only_where(variance, POINT)
    proof.conclude(nll=nll, bound=negative_bound, gap=negative_bound - nll)


def _over_paths(term: sp.Expr) -> sp.Expr:
    """The sum over all paths, one per term, with what is the same for all of them in front."""
    parts = (part.as_independent(i, as_Add=False) for part in sp.Add.make_args(sp.expand(term)))
    return sp.Add(*(constant * sp.Sum(rest, (i, 1, number)) for constant, rest in parts))


def _one_step(proof: Proof) -> tuple[sp.Expr, sp.Expr]:
    """A linear model of one step: likelihood and bound, both by integration; their difference is the divergence."""
    chain = sp.sqrt(alpha_bar_t) * x0, beta_bar_t
    joint = log_density(xt, 0, sp.S.One) + log_density(x0, gain * xt, variance)
    proof.say(
        r"One step in full: $T = 1$ step from $t$ to 0, $p(x_t) = \mathcal N(0, 1)$, $p_\theta(x_0\mid x_t) ="
        r" \mathcal N(gx_t,\ \sigma^2)$. The joint density has the logarithm",
        joint,
    )
    square = complete_square(joint.subs({sp.log(2 * sp.pi): 0, sp.log(2 * sp.pi * variance): 0}), xt)
    prefactors = sp.log(2 * sp.pi * square.variance) / 2 - sp.log(2 * sp.pi) / 2 - sp.log(2 * sp.pi * variance) / 2
    nll = -log_density(x0, 0, gain**2 + variance)
    proof.equal(
        r"The square completed in $x_t$ and integrated leaves the likelihood,",
        -(square.constant + prefactors),
        nll,
        shown=equation(r"-\log p_\theta(x_0)", nll),
    )
    averaged = expectation(log_density(xt, *chain) - joint, xt, *chain)
    first = terminal_distribution().results["kl"].subs({alpha_bar_T: alpha_bar_t, beta_bar_T: beta_bar_t})
    rest = (sp.sqrt(alpha_bar_t) * gain - 1) ** 2 * x0**2 + gain**2 * beta_bar_t
    bound = first + (sp.log(2 * sp.pi * variance) + rest / variance) / 2
    proof.equal(
        "and the negative log ratio, averaged over the chain,",
        averaged,
        bound,
        shown=equation(r"\mathbb E_q\left[-\log\frac{p_\theta(x_0, x_t)}{q(x_t\mid x_0)}\right]", bound),
    )
    moments = {mean1: chain[0], variance1: chain[1], mean2: square.mean, variance2: square.variance}
    proof.equal(
        r"The square had the mean and the variance of $p_\theta(x_t\mid x_0)$. The gap is the divergence from it:",
        bound - nll,
        kl_gaussian_full().results["scalar"].subs(moments, simultaneous=True),
        shown=rf"D_{{KL}}\left(\mathcal N(\sqrt{{\bar\alpha_t}}\,x_0,\ \bar\beta_t)\,\Vert\,"
        rf"\mathcal N\left({latex(square.mean)},\ {latex(square.variance)}\right)\right)",
    )
    backwards = {gain: sp.sqrt(alpha_bar_t), variance: beta_bar_t}
    proof.equal(
        r"It vanishes for every $x_0$ if $g = \sqrt{\bar\alpha_t}$ and $\sigma^2 = \bar\beta_t$.",
        (bound - nll).subs(backwards, simultaneous=True),
        sp.S.Zero,
        shown="0",
    )
    return nll, bound


def _no_gap(proof: Proof) -> None:
    """Standard normal data: forwards and backwards are the same chain, step by step, hence along the whole of it."""
    forwards = log_density(xs, 0, sp.S.One) + log_density(xt, sp.sqrt(alpha) * xs, beta)
    backwards = log_density(xt, 0, sp.S.One) + log_density(xs, sp.sqrt(alpha) * xt, beta)
    proof.equal(
        r"So it is for any chain. A step between standard normal states has the same density in both directions:",
        forwards,
        backwards,
        shown=r"\mathcal N(x_s; 0, 1)\,q(x_t\mid x_s)"
        r" = \mathcal N(x_t; 0, 1)\,\mathcal N(x_s; \sqrt{\alpha_{t\mid s}}\,x_t,\ \beta_{t\mid s})",
    )
    normal = sp.IndexedBase(letter("normal_densities", r"\ell", real=True))
    steps = over_steps(normal[i - 1] - normal[i])
    claimed = normal[0] - normal[T]
    proof.say(
        r"With $\ell_i = \log\mathcal N(x_i; 0, 1)$ the log ratio of a step of the model to a step of the chain is $\ell_{i-1} -"
        r" \ell_i$. Over the chain the sum is $\ell_0 - \ell_T$, by induction:"
    )
    proof.equal("one step,", steps.subs(T, 1).doit(), claimed.subs(T, 1))
    proof.equal("and one more.", claimed + last(steps.subs(T, T + 1)), claimed.subs(T, T + 1))
    proof.equal(
        r"With the prior, $\ell_T$, every path has the same ratio, the density of the data; its average is no less.",
        normal[T] + claimed,
        normal[0],
        shown=r"\log\frac{p_\theta(x_{0:T})}{q(x_{1:T}\mid x_0)} = \log\mathcal N(x_0; 0, 1) = \log p_\theta(x_0)",
    )
