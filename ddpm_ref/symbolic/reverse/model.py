r"""The reverse chain, a draw from its kernel, and the mean of that from a predicted noise or from predicted data."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import complete_square, density, expectation, integral
from ddpm_ref.symbolic.posterior.chain import AT_LEVEL_0, MARGINAL_T, NO_STEP, start
from ddpm_ref.symbolic.posterior.mean import (
    posterior_mean_coefficients,
    posterior_mean_from_eps,
    posterior_mean_from_x0,
)
from ddpm_ref.symbolic.prediction import eps_from_x0, x0_from_eps
from ddpm_ref.symbolic.symbols import (
    alpha,
    alpha_bar_s,
    alpha_bar_t,
    beta,
    beta_bar_s,
    beta_bar_t,
    data_variance,
    eps,
    eps_hat,
    equation,
    gain,
    letter,
    mean,
    noise,
    variance,
    x0,
    x0_hat,
    xs,
    xt,
)  # fmt: skip

_NO_SIGNAL = "where alpha_bar_t = 0 (zero terminal SNR) the noise does not determine the data; use model_mean_from_x0"


@derives(
    r"p_\theta(x_{0:T}) = p(x_T)\prod_{t=1}^T p_\theta(x_{t-1}\mid x_t),\quad p(x_T) = \mathcal N(0, I);\quad"
    r" v_s = g^2v_t + \sigma^2",
    source="ho2020, eq. (1)",
)
def reverse_chain(proof: Proof) -> None:
    r"""The generative model is a chain that starts from noise. If every step is linear, $x_s = gx_t + \sigma z$, all its states
    are normal, and their variances follow from step to step by integration: with a linear predictor a sampler can be judged
    without sampling.
    """
    proof.assume(
        r"$p(x_T) = \mathcal N(0, I)$, without parameters; each step is a normal law given the state before it."
    )
    proof.assume(
        r"For the recursion: the mean of a step is linear, $\mu_\theta = g\,x_t$, and its variance fixed, $\sigma^2$."
    )
    v_t = letter("variance_t", "v_t", positive=True)
    step = density(xs, gain * xt, variance)
    u = letter("u", "u", real=True)
    proof.equal(
        r"Integrated over $x_s$ every step gives 1 (with $x_s = gx_t + \sigma u$), so that the product of the steps is a law:"
        r" integrate over $x_0$ first, then over $x_1$, and so on up to $x_T$.",
        integral((step * sp.sqrt(variance)).subs(xs, gain * xt + sp.sqrt(variance) * u), u),
        sp.S.One,
        shown=r"\int p_\theta(x_s\mid x_t)\,dx_s = 1",
    )
    proof.say(r"Let $x_t$ be normal with mean 0 and variance $v_t$; at the start that is so with", "v_T = 1")
    exponent = -((xs - gain * xt) ** 2) / (2 * variance) - xt**2 / (2 * v_t)
    inner = complete_square(exponent, xt)
    outer = complete_square(inner.constant, xs)
    result = gain**2 * v_t + variance
    proof.equal(
        r"The integral over $x_t$ of $p_\theta(x_s\mid x_t)\,p(x_t)$ leaves in the exponent, by completing the square in $x_t$,",
        inner.constant,
        -(xs**2) / (2 * result),
    )
    proof.equal("with the prefactor of a normal law", sp.sqrt(inner.variance / (variance * v_t)), 1 / sp.sqrt(result))
    proof.equal("of mean 0", outer.mean, sp.S.Zero, shown=r"\mathbb E[x_s] = 0")
    proof.equal("and variance", outer.variance, result, shown=equation("v_s", result))
    proof.say("By induction over the steps this holds down to $v_0$, the variance of the samples.")
    unit = result.subs({gain: sp.sqrt(alpha), variance: beta, v_t: 1})
    proof.equal(
        r"Example: $g = \sqrt{\alpha_{t\mid s}}$ and $\sigma^2 = \beta_{t\mid s}$, what unit normal data ask for, keep $v = 1$.",
        unit,
        sp.S.One,
        shown=r"\alpha_{t\mid s} + \beta_{t\mid s} = 1",
    )
    proof.conclude(variance=result)


@derives(
    r"p_\theta(x_s\mid x_t) = \mathcal N(\mu_\theta(x_t,t),\ \sigma_t^2I),\quad x_s = \mu_\theta + \sigma_t z",
    source="ho2020, eq. (1) and algorithm 2, line 4",
)
def reverse_step_gaussian(proof: Proof) -> None:
    r"""A draw is the mean plus noise times a standard deviation. Its law is found by the change of variables, and its two moments
    by integration: what stands in the second place of $\mathcal N$ is the square of what the noise is multiplied by.
    """
    proof.assume(r"$z$ is standard normal, independent of $x_t$; $\sigma_t^2 > 0$.")
    draw = mean + sp.sqrt(variance) * noise
    proof.say("The draw,", equation("x_s", draw))
    (back,) = sp.solve(sp.Eq(xs, draw), noise)
    proof.equal(r"solved for its noise,", back, (xs - mean) / sp.sqrt(variance))
    logarithm = sp.log(density(noise, 0, 1)).subs(noise, back) + sp.log(sp.diff(back, xs))
    published = -(sp.log(2 * sp.pi * variance) + (xs - mean) ** 2 / variance) / 2
    proof.equal(
        r"has the density of the noise at that point times $dz/dx_s = 1/\sigma_t$, whose logarithm is",
        logarithm,
        published,
        shown=equation(r"\log p_\theta(x_s\mid x_t)", published),
    )
    proof.equal(
        "It integrates to 1.", integral(density(noise, 0, 1), noise), sp.S.One, shown=r"\int p_\theta\,dx_s = 1"
    )
    proof.equal("Its mean is", expectation(draw, noise, 0, 1), mean)
    proof.equal("and its variance", expectation((draw - mean) ** 2, noise, 0, 1), variance)
    proof.only_where(
        variance, "a step of variance 0 is a point and has no density; draw its mean, or give a variance > 0"
    )
    proof.conclude(draw=draw, log_density=published)


@derives(
    r"\mu_\theta = \frac1{\sqrt{\alpha_{t\mid s}}}\left(x_t - \frac{\beta_{t\mid s}}{\sqrt{\bar\beta_t}}\,\hat\varepsilon\right)",
    source="ho2020, eq. (11)",
)
def model_mean_from_eps(proof: Proof) -> None:
    r"""The posterior mean with the data that a predicted noise implies. For normal data the best prediction is known, and the
    mean it gives is that of the true reverse kernel.
    """
    start(proof)
    proof.assume(r"$\hat\varepsilon$ is what a network says for the aggregate noise of $x_t$.")
    implied = x0_from_eps().results["x0"].subs(eps, eps_hat)
    substituted = posterior_mean_from_x0().results["mean"].subs(x0, implied)
    result = posterior_mean_from_eps().results["mean"].subs(eps, eps_hat)
    proof.say(r"The predicted noise implies the data", equation(r"\hat x_0", implied))
    proof.equal(
        "and these, put into the posterior mean, give", substituted, result, shown=equation(r"\mu_\theta", result)
    )
    from_xt, from_eps = 1 / sp.sqrt(alpha), beta / (sp.sqrt(alpha) * sp.sqrt(beta_bar_t))
    proof.equal(r"Two tables suffice: the weight of $x_t$", sp.diff(result, xt), from_xt)
    proof.equal("and that of the noise, which is taken off,", -sp.diff(result, eps_hat), from_eps)

    proof.say(r"Normal data, $x_0 \sim \mathcal N(0, \tau^2)$, with $V_t = \bar\alpha_t\tau^2 + \bar\beta_t$:")
    given_xt = complete_square(MARGINAL_T - x0**2 / (2 * data_variance), x0).mean
    best = eps_from_x0().results["eps"].subs(x0, given_xt)
    marginal_s, marginal_t = alpha_bar_s * data_variance + beta_bar_s, alpha_bar_t * data_variance + beta_bar_t
    proof.equal(
        r"the best prediction is $\mathbb E[\varepsilon\mid x_t]$,", best, sp.sqrt(beta_bar_t) * xt / marginal_t
    )
    along_chain = sp.sqrt(alpha) * marginal_s / marginal_t * xt
    proof.equal("with which the mean becomes", result.subs(eps_hat, best), along_chain)
    bayes = complete_square(-((xt - sp.sqrt(alpha) * xs) ** 2) / (2 * beta) - xs**2 / (2 * marginal_s), xs).mean
    proof.equal(
        r"that is $\mathbb E[x_s\mid x_t]$, as found directly from $q(x_t\mid x_s)\,q(x_s)$ with $q(x_s) = \mathcal N(0, V_s)$.",
        bayes,
        along_chain,
    )
    proof.only_where(beta_bar_t, NO_STEP)
    proof.only_where(alpha_bar_t, _NO_SIGNAL)
    proof.conclude(mean=result, xt_weight=from_xt, eps_weight=from_eps)


@derives(r"\mu_\theta = \tilde\mu(x_t, \hat x_0)", source="ho2020, section 3.2")
def model_mean_from_x0(proof: Proof) -> None:
    r"""The posterior mean at predicted data: the form to use when the prediction is clipped, because it does not care where the
    prediction came from.
    """
    start(proof)
    proof.assume(r"$\hat x_0$ is what a network says, or implies, for the data; clipped or not.")
    posterior_mean = posterior_mean_from_x0().results["mean"]
    result = posterior_mean.subs(x0, x0_hat)
    proof.say("The posterior mean with the prediction in the place of the data:", equation(r"\mu_\theta", result))
    from_eps = model_mean_from_eps().results["mean"].subs(eps_hat, eps_from_x0().results["eps"].subs(x0, x0_hat))
    proof.equal(
        "With the noise that belongs to the same prediction, unclipped, the other form gives the same.",
        from_eps,
        result,
        shown=r"\mu_\theta(\hat\varepsilon(\hat x_0)) = \mu_\theta(\hat x_0)",
    )
    weight = posterior_mean_coefficients().results["x0_weight"]
    proof.equal(
        "An error of the prediction, a clipping among them, enters with the weight of the data:",
        result - posterior_mean,
        weight * (x0_hat - x0),
    )
    proof.equal("A perfect prediction gives the posterior mean.", (result - posterior_mean).subs(x0_hat, x0), sp.S.Zero)
    proof.equal(
        "The step to level 0 returns the prediction.", result.subs(AT_LEVEL_0), x0_hat, shown=r"\mu_\theta = \hat x_0"
    )
    proof.only_where(beta_bar_t, NO_STEP)
    proof.conclude(mean=result)
