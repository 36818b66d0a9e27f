r"""The family itself: which normal laws :math:`q_\sigma(x_s\mid x_t, x_0)` keep the marginals, and how they are counted by eta."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic import plane
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.marginal import Normal, integrate_out
from ddpm_ref.symbolic.posterior.chain import NO_STEP
from ddpm_ref.symbolic.posterior.mean import posterior_mean_coefficients, posterior_variance
from ddpm_ref.symbolic.prediction import eps_from_x0
from ddpm_ref.symbolic.symbols import (
    alpha,
    alpha_bar_s,
    alpha_bar_t,
    beta,
    beta_bar_s,
    beta_bar_t,
    eps,
    equation,
    eta,
    letter,
    noise,
    variance,
    x0,
    xs,
    xt,
)  # fmt: skip

# What of the noise at s is not drawn anew: the published forms share it.
DIRECTION = sp.sqrt(beta_bar_s - variance)
FROM_XT = DIRECTION / sp.sqrt(beta_bar_t)
FROM_X0 = sp.sqrt(alpha_bar_s) - FROM_XT * sp.sqrt(alpha_bar_t)
MEAN = sp.sqrt(alpha_bar_s) * x0 + DIRECTION * (xt - sp.sqrt(alpha_bar_t) * x0) / sp.sqrt(beta_bar_t)

MARGINALS = (
    r"Given $x_0$ the states have the laws $q(x_t\mid x_0) = \mathcal N(\sqrt{\bar\alpha_t}\,x_0,\ \bar\beta_t)$ at every level"
    r" (`forward_marginal`); of their joint law nothing else is asked. $T \ge t > s \ge 0$."
)
# Positive if sigma^2 is at most beta_bar_s, which it may be.
ADMISSIBLE = 1 + sp.sign(beta_bar_s - variance)
TOO_WIDE = "sigma^2 is above beta_bar_s, the whole noise at s: no such law keeps the marginals; give a smaller one, or eta <= 1"

second_noise = letter("second_noise", r"\varepsilon'", real=True)
kept = letter("one_minus_eta_squared", r"(1-\eta^2)", nonnegative=True)


def _member_with(eta_squared: sp.Expr) -> sp.Expr:
    return 1 + sp.sign(beta_bar_s - eta_squared * beta * beta_bar_s / beta_bar_t)


def start(proof: Proof) -> None:
    """State what everything about the family starts from."""
    proof.assume(MARGINALS)


def domain(proof: Proof, of_eta: bool = False) -> None:
    r"""Where a member of the family is defined: by :math:`\sigma^2`, or by eta if that is what results depend on."""
    proof.only_where(beta_bar_t, NO_STEP)
    proof.only_where(_member_with(eta**2) if of_eta else ADMISSIBLE, TOO_WIDE)


def _standard(f: sp.Expr, *normal: sp.Symbol) -> sp.Expr:
    return plane.standard_expectation(f, sp.Matrix(normal))


@derives(
    r"q_\sigma(x_s\mid x_t, x_0) = \mathcal N\left(\sqrt{\bar\alpha_s}\,x_0 + \sqrt{\bar\beta_s - \sigma_t^2}\,"
    r"\frac{x_t - \sqrt{\bar\alpha_t}\,x_0}{\sqrt{\bar\beta_t}},\ \sigma_t^2\right)",
    source="song2020ddim, eq. (7)",
)
def ddim_posterior(proof: Proof) -> None:
    r"""Which laws of $x_s$, normal with a mean linear in $x_t$ and $x_0$ and with variance $\sigma_t^2$, keep the marginals? Their
    two coefficients are solved for from the two moments at $s$. There is one law for every variance up to $\bar\beta_s$, and that
    of the Markov chain is only one of them.
    """
    start(proof)
    from_xt = letter("xt_coefficient", "C^x", positive=True)
    square = letter("xt_coefficient_squared", r"(C^x)^2", nonnegative=True)
    from_x0 = letter("x0_coefficient", "C^0", real=True)
    ansatz = (
        from_xt * (sp.sqrt(alpha_bar_t) * x0 + sp.sqrt(beta_bar_t) * eps) + from_x0 * x0 + sp.sqrt(variance) * noise
    )
    proof.say(
        r"The ansatz is $x_s = C^x x_t + C^0 x_0 + \sigma_t z$ with $C^x \ge 0$; with $x_t$ written out,",
        equation("x_s", ansatz),
    )
    first = _standard(ansatz, eps, noise)
    proof.equal("Its mean over the two independent noises is", first, (from_xt * sp.sqrt(alpha_bar_t) + from_x0) * x0)
    second = sp.expand(_standard((ansatz - first) ** 2, eps, noise))
    proof.equal("its variance", second, from_xt**2 * beta_bar_t + variance)
    (solved,) = sp.solve(second.subs(from_xt**2, square) - beta_bar_s, square)
    proof.equal(
        r"The variance has to be $\bar\beta_s$. That is solved by",
        solved,
        (beta_bar_s - variance) / beta_bar_t,
        shown=equation("(C^x)^2", solved),
    )
    proof.say(
        r"which is no square unless $\sigma_t^2 \le \bar\beta_s$. The negative root would do as well; it turns the noise over."
    )
    (offset,) = sp.solve(sp.diff(first, x0) - sp.sqrt(alpha_bar_s), from_x0)
    proof.equal(
        r"The mean has to be $\sqrt{\bar\alpha_s}\,x_0$, so that",
        offset,
        sp.sqrt(alpha_bar_s) - from_xt * sp.sqrt(alpha_bar_t),
        shown=equation("C^0", offset),
    )
    found = {from_xt: DIRECTION / sp.sqrt(beta_bar_t)}
    mean = found[from_xt] * xt + offset.subs(found) * x0
    proof.equal("Collected by what is kept of the noise, the mean is", mean, MEAN)
    noisy = sp.sqrt(alpha_bar_t) * x0 + sp.sqrt(beta_bar_t) * eps
    proof.equal(
        r"With $x_t$ written out the old noise comes back, scaled: there is the noise that is kept.",
        MEAN.subs(xt, noisy),
        sp.sqrt(alpha_bar_s) * x0 + DIRECTION * eps,
        shown=equation(r"\mathbb E[x_s\mid x_t, x_0]", sp.sqrt(alpha_bar_s) * x0 + DIRECTION * eps),
    )
    domain(proof)
    proof.conclude(mean=MEAN)


@derives(
    r"C^x = \sqrt{\frac{\bar\beta_s - \sigma_t^2}{\bar\beta_t}},\quad"
    r" C^0 = \sqrt{\bar\alpha_s} - \sqrt{\frac{\bar\alpha_t(\bar\beta_s - \sigma_t^2)}{\bar\beta_t}}",
    source="song2020ddim, eq. (7)",
)
def ddim_posterior_two_coefficients(proof: Proof) -> None:
    r"""The mean by its coefficients, the form of a program. For the posterior variance they are those of the posterior of the
    Markov chain.
    """
    start(proof)
    linear = sp.Poly(sp.expand(ddim_posterior().results["mean"]), xt, x0)
    from_xt, from_x0 = linear.coeff_monomial(xt), linear.coeff_monomial(x0)
    proof.equal(r"Of $x_t$:", from_xt, FROM_XT, shown=equation("C^x", FROM_XT))
    proof.equal(r"Of $x_0$:", from_x0, FROM_X0, shown=equation("C^0", FROM_X0))
    proof.equal(
        r"The signal adds up: $C^x\sqrt{\bar\alpha_t} + C^0$ is",
        from_xt * sp.sqrt(alpha_bar_t) + from_x0,
        sp.sqrt(alpha_bar_s),
    )
    proof.equal(
        r"The noise adds up: $(C^x)^2\bar\beta_t + \sigma_t^2$ is", from_xt**2 * beta_bar_t + variance, beta_bar_s
    )
    small = posterior_variance().results["variance"]
    rest = proof.equal(
        r"For $\sigma_t^2 = \tilde\beta_{t\mid s}$ there is kept of the noise",
        beta_bar_s - small,
        alpha * beta_bar_s**2 / beta_bar_t,
    )
    weights = posterior_mean_coefficients().results
    there = sp.sqrt(rest) / sp.sqrt(beta_bar_t)
    proof.equal(
        "a square; with its root the coefficients are those of the posterior:",
        there,
        weights["xt_weight"],
        shown=equation("C^x", weights["xt_weight"]),
    )
    proof.equal(
        "and",
        sp.sqrt(alpha_bar_s) - there * sp.sqrt(alpha_bar_t),
        weights["x0_weight"],
        shown=equation("C^0", weights["x0_weight"]),
    )
    domain(proof)
    proof.conclude(xt_weight=FROM_XT, x0_weight=FROM_X0)


@derives(
    r"x_s = \sqrt{\bar\alpha_s}\,x_0 + \sqrt{\bar\beta_s}\,\varepsilon' \overset{d}{=}"
    r" \sqrt{\bar\alpha_s}\,x_0 + \sqrt{\bar\beta_s - \sigma_t^2}\,\varepsilon + \sigma_t z",
    source="song2020ddim, section 3",
)
def ddim_noise_split(proof: Proof) -> None:
    r"""The same family seen from $s$: its noise is split into a part kept from $x_t$ and a part drawn anew. The signal is that of
    $s$, and what multiplies $z$ is a deviation.
    """
    start(proof)
    split = DIRECTION * eps + sp.sqrt(variance) * noise
    proof.assume(r"$\varepsilon$ and $z$ are independent and standard normal.")
    law = integrate_out(
        proof,
        noise,
        xs,
        Normal(xs, sp.sqrt(variance) * noise, beta_bar_s - variance),
        Normal(noise, sp.S.Zero, sp.S.One),
    )
    proof.equal(r"The sum of the two parts has the variance", law.variance, beta_bar_s)
    proof.equal("as the expectation over both says directly:", _standard(split**2, eps, noise), beta_bar_s)
    together = split / sp.sqrt(beta_bar_s)
    proof.equal(
        r"The noise $\varepsilon'$ at $s$ is this sum over $\sqrt{\bar\beta_s}$, and its correlation with that at $t$ is",
        _standard(together * eps, eps, noise),
        DIRECTION / sp.sqrt(beta_bar_s),
        shown=equation(r"\mathrm{Corr}(\varepsilon', \varepsilon)", DIRECTION / sp.sqrt(beta_bar_s)),
    )
    draw = sp.sqrt(alpha_bar_s) * x0 + split
    there = draw.subs(eps, eps_from_x0().results["eps"])
    proof.equal(
        r"With $\varepsilon = (x_t - \sqrt{\bar\alpha_t}\,x_0)/\sqrt{\bar\beta_t}$ its mean given $x_t$ is that of the family,",
        _standard(there, noise),
        ddim_posterior().results["mean"],
        shown=equation(r"\mathbb E[x_s\mid x_t, x_0]", MEAN),
    )
    proof.equal("and its variance", _standard((there - _standard(there, noise)) ** 2, noise), variance)
    domain(proof)
    proof.conclude(draw=draw)


@derives(
    r"\int q_\sigma(x_s\mid x_t, x_0)\,q(x_t\mid x_0)\,dx_t = \mathcal N(\sqrt{\bar\alpha_s}\,x_0,\ \bar\beta_s)",
    source="song2020ddim, lemma 1",
)
def ddim_marginal_invariance(proof: Proof) -> None:
    r"""The integral, done by completing the square. It says that a chain that has the right law at $t$ has it at $s$, whatever
    $\sigma_t$; by induction on the way down at every level that is visited, so that a network trained on the marginals serves
    every member of the family and every choice of levels.
    """
    start(proof)
    step = Normal(xs, ddim_posterior().results["mean"], variance)
    law = integrate_out(proof, xt, xs, step, Normal(xt, sp.sqrt(alpha_bar_t) * x0, beta_bar_t))
    proof.equal("Its mean is", law.mean, sp.sqrt(alpha_bar_s) * x0)
    proof.equal("and its variance", law.variance, beta_bar_s)
    proof.all_vanish(
        r"Neither knows $\sigma_t$ any more, nor whether levels lie between $t$ and $s$.",
        [law.variance.diff(variance), law.mean.diff(variance)],
        shown=r"\frac{\partial}{\partial\sigma_t^2}\,\mathcal N(x_s;\ \sqrt{\bar\alpha_s}\,x_0,\ \bar\beta_s) = 0",
    )
    domain(proof)
    proof.conclude(mean=sp.sqrt(alpha_bar_s) * x0, variance=beta_bar_s)


@derives(
    r"\sigma_t(\eta) = \eta\sqrt{\frac{\bar\beta_s}{\bar\beta_t}}\sqrt{1 - \frac{\bar\alpha_t}{\bar\alpha_s}},\quad"
    r" \sigma_t^2 = \eta^2\,\tilde\beta_{t\mid s}",
    source="song2020ddim, eq. (16)",
)
def ddim_sigma_eta(proof: Proof) -> None:
    r"""The members of the family that are used have a multiple $\eta$ of the *deviation* of the posterior. What they keep of the
    noise is a sum of two terms that are not negative, which shows that every $\eta$ up to 1 is allowed; in this form it
    can also be computed without cancellation.
    """
    start(proof)
    small = posterior_variance().results["variance"]
    published = eta * sp.sqrt(beta_bar_s) / sp.sqrt(beta_bar_t) * sp.sqrt(1 - alpha_bar_t / alpha_bar_s)
    proof.equal(r"$\eta$ times the deviation of the posterior is", eta * sp.sqrt(small), published)
    proof.equal(r"The variance goes with the square of $\eta$.", published**2, eta**2 * small)
    direction = beta_bar_s * (kept + eta**2 * alpha * beta_bar_s / beta_bar_t)
    proof.equal(
        r"There is kept of the noise",
        beta_bar_s - eta**2 * small,
        direction.subs(kept, 1 - eta**2),
        shown=equation(r"\bar\beta_s - \sigma_t^2", direction),
    )
    proof.holds(
        r"which for $\eta \le 1$ is not negative: both terms are not.",
        direction >= 0,
        shown=r"\sigma_t^2 \le \bar\beta_s",
    )
    square = letter("eta_squared", r"\eta^2", positive=True)
    (largest,) = sp.solve(beta_bar_s - square * small, square)
    proof.equal("The largest square that is allowed leaves nothing:", largest, beta_bar_t / beta)
    proof.equal("It exceeds 1 by", beta_bar_t / beta - 1, alpha * beta_bar_s / beta)
    proof.equal(r"$\eta = 0$ draws nothing,", published.subs(eta, 0), sp.S.Zero, shown=r"\sigma_t(0) = 0")
    proof.equal(r"$\eta = 1$ has the variance of the posterior.", published.subs(eta, 1) ** 2, small)
    domain(proof, of_eta=True)
    proof.conclude(
        std=eta * sp.sqrt(beta_bar_s) * sp.sqrt(beta) / sp.sqrt(beta_bar_t),
        direction_squared=direction.subs(kept, 1 - eta**2),
        largest_eta_squared=beta_bar_t / beta,
    )
