"""What the forward chain does to mean, variance and energy of any data, and how far its end is from the prior."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import expectation, log_density
from ddpm_ref.symbolic.marginal import Normal, integrate_out
from ddpm_ref.symbolic.symbols import (
    alpha,
    alpha_bar_s,
    alpha_bar_T,
    alpha_bar_t,
    beta,
    beta_bar_s,
    beta_bar_T,
    beta_bar_t,
    data_mean,
    data_variance,
    eps,
    latex,
    letter,
    mean1,
    mean2,
    variance1,
    variance2,
    x0,
    xs,
    xt,
)

xT = letter("xT", "x_T", real=True)
dimension = letter("dimension", "d", integer=True, positive=True)
i = letter("i", "i", integer=True, positive=True)
energy = letter("energy", r"\mathbb E\|x_s\|^2", positive=True)
energy_0 = letter("energy_0", r"\mathbb E\|x_0\|^2", positive=True)
share = letter("share", "p", positive=True)
components = sp.IndexedBase(letter("components", "x", real=True))


def _over_data(f: sp.Expr, x: sp.Symbol, mean: sp.Expr, variance: sp.Expr) -> sp.Expr:
    """The expectation of a polynomial of degree 2 under any law of the given moments: it is linear, and that is all it takes."""
    coefficients = sp.Poly(sp.expand(f), x)
    moments = (sp.Integer(1), mean, mean**2 + variance)
    return sp.Add(*(c * moments[power] for (power,), c in coefficients.terms()))


@derives(
    r"\mathbb E x_t = \sqrt{\bar\alpha_t}\,\mathbb E x_0,\qquad "
    r"\mathrm{Var}\,x_t = \bar\alpha_t\mathrm{Var}\,x_0 + \bar\beta_t",
    source="total expectation and total variance",
)
def data_marginal(proof: Proof) -> None:
    r"""The law of the noisy data is the kernel averaged over the data. Its two moments need the two moments of the data and
    nothing else. For normal data the average is integrated, which gives a normal law; for a mixture it is a mixture with the
    same weights. It is the conditional law $q(x_t\mid x_0)$ only if the data do not vary.
    """
    proof.assume(r"$q(x_t) = \int q(x_t\mid x_0)\,q(x_0)\,dx_0$, data of mean $m$ and variance $\tau^2$, any law.")
    draw = sp.sqrt(alpha_bar_t) * x0 + sp.sqrt(beta_bar_t) * eps
    proof.say(
        r"First the expectation over the noise, which gives a polynomial in $x_0$, then the one over the data, of", draw
    )
    mean = proof.equal(
        "Total expectation:",
        _over_data(expectation(draw, eps, 0, 1), x0, data_mean, data_variance),
        sp.sqrt(alpha_bar_t) * data_mean,
    )
    variance = proof.equal(
        "Total variance:",
        _over_data(expectation((draw - mean) ** 2, eps, 0, 1), x0, data_mean, data_variance),
        alpha_bar_t * data_variance + beta_bar_t,
    )
    proof.say("For normal data the integral can be done.")
    kernel = Normal(xt, sp.sqrt(alpha_bar_t) * x0, beta_bar_t)
    law = integrate_out(proof, x0, xt, kernel, Normal(x0, data_mean, data_variance))
    proof.equal("Its mean is the one above,", law.mean, mean)
    proof.equal("and so is its variance.", law.variance, variance)
    proof.say(
        "The integral is linear in the law of the data, so a mixture of two normal laws with weights "
        r"$p$ and $1 - p$ becomes one of two such integrals with the same weights."
    )
    parts = [
        integrate_out(proof, x0, xt, kernel, Normal(x0, m, v)) for m, v in ((mean1, variance1), (mean2, variance2))
    ]
    mixed = share * mean1 + (1 - share) * mean2
    proof.equal(
        "The mean of the mixture at t is that of the data, scaled, as the rule says,",
        share * parts[0].mean + (1 - share) * parts[1].mean,
        mean.subs(data_mean, mixed),
    )
    squares = share * (variance1 + mean1**2) + (1 - share) * (variance2 + mean2**2)
    proof.equal(
        "and its variance follows the rule, too.",
        share * (parts[0].variance + parts[0].mean ** 2)
        + (1 - share) * (parts[1].variance + parts[1].mean ** 2)
        - mean.subs(data_mean, mixed) ** 2,
        variance.subs(data_variance, squares - mixed**2),
    )
    excess = proof.equal(
        r"The variance exceeds that of $q(x_t\mid x_0)$ by what the data contribute:",
        variance - kernel.variance,
        alpha_bar_t * data_variance,
    )
    proof.conclude(mean=mean, variance=variance, excess=excess)


@derives(r"\mathbb E\|x_t\|^2 = \alpha_{t\mid s}\,\mathbb E\|x_s\|^2 + \beta_{t\mid s}\,d", source="elementary")
def second_moment_recursion(proof: Proof) -> None:
    r"""The square of a step has three parts; in expectation over the noise the mixed one vanishes and the noise gives $\beta$
    per component. Along one path the mixed part is there, and its size is computed too.
    """
    proof.assume(
        r"$x_t = \sqrt{\alpha}\,x_s + \sqrt{\beta}\,\varepsilon$ in each of $d$ components, noises independent."
    )
    draw = sp.sqrt(alpha) * xs + sp.sqrt(beta) * eps
    cross = sp.expand(draw**2) - alpha * xs**2 - beta * eps**2
    proof.equal("The square of one component has the mixed part", cross, 2 * sp.sqrt(alpha * beta) * xs * eps)
    proof.equal("whose expectation over the noise vanishes.", expectation(cross, eps, 0, 1), sp.Integer(0))
    one = proof.equal("What remains is", expectation(draw**2, eps, 0, 1), alpha * xs**2 + beta)
    norm = sp.Sum(components[i] ** 2, (i, 1, dimension))
    summed = proof.equal(
        "Summed over the components,",
        sp.Sum(one.subs(xs, components[i]), (i, 1, dimension)),
        alpha * norm + beta * dimension,
    )
    after = summed.subs(norm, energy)
    proof.say(r"and in expectation over $x_s$:", after)
    closed = alpha_bar_s * energy_0 + beta_bar_s * dimension
    proof.equal(
        r"Induction: at level 0 the solution $\bar\alpha_t\mathbb E\|x_0\|^2 + \bar\beta_t d$ is the start,",
        closed.subs({alpha_bar_s: 1, beta_bar_s: 0}),
        energy_0,
    )
    proof.equal(
        "and a step from level s carries it to level t.",
        after.subs(energy, closed),
        alpha_bar_t * energy_0 + beta_bar_t * dimension,
    )
    proof.equal(r"The energy $d$ of the prior is the fixed point.", after.subs(energy, dimension), dimension)
    deviation = sp.sqrt(_over_data(expectation(cross**2, eps, 0, 1), xs, sp.Integer(0), sp.Integer(1)))
    proof.equal(
        "For scalar states of mean 0 and variance 1 the mixed part has the standard deviation",
        deviation,
        2 * sp.sqrt(alpha * beta),
    )
    proof.conclude(after=after, cross_deviation=2 * sp.sqrt(alpha * beta))


@derives(
    r"D_{KL}(q(x_T\mid x_0)\,\|\,\mathcal N(0,1)) = \tfrac12(\bar\alpha_T x_0^2 - \bar\alpha_T - \log\bar\beta_T)"
    r" \to 0\ \text{ as }\ \bar\alpha_T \to 0",
    source="ho2020, section 3.1",
)
def terminal_distribution(proof: Proof) -> None:
    r"""The divergence of the last kernel from the prior is the expectation of a difference of log densities, which is a
    polynomial in $x_T$: it is integrated. It is positive at every finite $T$, falls with $\bar\alpha_T$ and tends to 0.
    """
    proof.assume(
        r"$q(x_T\mid x_0) = \mathcal N(\sqrt{\bar\alpha_T}\,x_0,\ \bar\beta_T)$; the model starts from $\mathcal N(0, 1)$."
    )
    last, prior = (sp.sqrt(alpha_bar_T) * x0, beta_bar_T), (sp.Integer(0), sp.Integer(1))
    ratio = sp.expand(log_density(xT, *last) - log_density(xT, *prior))
    proof.say("The difference of the log densities is", ratio)
    kl = proof.equal(
        "Its expectation under the first of them:",
        expectation(ratio, xT, *last),
        (alpha_bar_T * x0**2 - alpha_bar_T - sp.log(beta_bar_T)) / 2,
    )
    in_signal = kl.subs(beta_bar_T, 1 - alpha_bar_T)
    slope = proof.equal(
        r"Its derivative by $\bar\alpha_T$ is positive, so it falls with what is left of the signal,",
        in_signal.diff(alpha_bar_T),
        (x0**2 + alpha_bar_T / beta_bar_T) / 2,
    )
    proof.holds("(a sum of what is not negative and what is positive)", slope > 0, shown=f"{latex(slope)} > 0")
    proof.equal(r"and it vanishes with it.", sp.limit(in_signal, alpha_bar_T, 0), sp.Integer(0))
    leading = proof.equal(
        "To second order it is",
        sp.series(in_signal, alpha_bar_T, 0, 3).removeO(),
        alpha_bar_T * x0**2 / 2 + alpha_bar_T**2 / 4,
    )
    proof.equal(
        "The density itself tends to that of the prior (logs):",
        sp.limit(log_density(xT, *last).subs(beta_bar_T, 1 - alpha_bar_T), alpha_bar_T, 0),
        log_density(xT, *prior),
    )
    proof.only_where(beta_bar_T, "a chain that adds no noise has no density at its end; T >= 1")
    proof.conclude(kl=kl, leading=leading)
