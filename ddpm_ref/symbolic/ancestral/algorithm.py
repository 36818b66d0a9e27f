r"""The reverse step as it is drawn, the loop of algorithm 2, and its last step."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.ancestral.normal_data import gaussian_sampler_oracle, next_to_0, normal_data, variance_t
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import expectation
from ddpm_ref.symbolic.induction import peeled
from ddpm_ref.symbolic.posterior.chain import AT_LEVEL_0, NO_STEP, start
from ddpm_ref.symbolic.posterior.mean import posterior_mean_coefficients, posterior_variance
from ddpm_ref.symbolic.prediction import x0_from_eps
from ddpm_ref.symbolic.reverse.model import (
    model_mean_from_eps,
    model_mean_from_x0,
    reverse_chain,
    reverse_step_gaussian,
)
from ddpm_ref.symbolic.reverse.variance import variance_fixed_large
from ddpm_ref.symbolic.symbols import (
    alpha,
    alpha_bar_t,
    beta,
    beta_bar_s,
    beta_bar_t,
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
    xt,
)  # fmt: skip

NO_SIGNAL = (
    "where alpha_bar_t = 0 (zero terminal SNR) the noise does not determine the data; use the rows of the x_0 form"
)
factor = letter("factor", "c", positive=True)
count = letter("n", "n", integer=True, positive=True)
i, k = letter("i", "i", integer=True, positive=True), letter("k", "k", integer=True, positive=True)
gains = sp.IndexedBase(letter("gains", "g", real=True))
spreads = sp.IndexedBase(letter("spreads", r"\sigma", real=True))


@derives(
    r"x_s = \mu_\theta(x_t, t) + \sigma_t z,\quad"
    r" \sigma_t = \sqrt{\tilde\beta_{t\mid s}}\ \text{ or }\ \sqrt{\beta_{t\mid s}}",
    source="ho2020, algorithm 2, line 4",
)
def ancestral_step(proof: Proof) -> None:
    r"""A step is the mean of the model and fresh noise times a standard deviation, which is the root of the variance. Written out
    it is one row of three coefficients, for $x_t$, for the prediction and for the noise; that is all a program needs of it.
    """
    start(proof)
    proof.assume(
        r"$p_\theta(x_s\mid x_t)$ has mean $\mu_\theta$ and variance $\sigma_t^2$; $z$ is standard normal and fresh."
    )
    added = expectation((factor * noise) ** 2, noise, 0, 1)
    proof.equal(r"Noise times $c$ has the variance", added, factor**2, shown=equation(r"\mathrm{Var}(cz)", added))
    (std,) = sp.solve(added - variance, factor)
    proof.equal(
        r"so the factor that gives the kernel its variance is a root,",
        std,
        sp.sqrt(variance),
        shown=r"c = \sqrt{\sigma_t^2}",
    )
    draw = mean + std * noise
    proof.equal(
        "and the step is the draw from the reverse kernel:",
        draw,
        reverse_step_gaussian().results["draw"],
        shown=r"x_s = \mu_\theta + \sigma_t z",
    )
    small, large = posterior_variance().results["variance"], variance_fixed_large().results["variance"]
    std_small = sp.sqrt(beta) * sp.sqrt(beta_bar_s) / sp.sqrt(beta_bar_t)
    proof.equal("Fixed small, the deviation is", sp.sqrt(small), std_small)
    proof.say("fixed large,", equation(r"\sigma_t", sp.sqrt(large)))
    row = sp.Poly(sp.expand(draw.subs(mean, model_mean_from_eps().results["mean"])), xt, eps_hat, noise)
    from_eps = -beta / (sp.sqrt(alpha) * sp.sqrt(beta_bar_t))
    proof.say(r"With the mean from the predicted noise the row of coefficients is:")
    proof.equal(r"of $x_t$", row.coeff_monomial(xt), 1 / sp.sqrt(alpha))
    proof.equal(r"of $\hat\varepsilon$", row.coeff_monomial(eps_hat), from_eps)
    proof.equal(r"of $z$", row.coeff_monomial(noise), sp.sqrt(variance))
    weights = posterior_mean_coefficients().results
    data_row = sp.Poly(sp.expand(draw.subs(mean, model_mean_from_x0().results["mean"])), xt, x0_hat, noise)
    proof.say("and with the mean from the predicted data:")
    proof.equal(r"of $x_t$", data_row.coeff_monomial(xt), weights["xt_weight"])
    proof.equal(r"of $\hat x_0$", data_row.coeff_monomial(x0_hat), weights["x0_weight"])
    proof.only_where(beta_bar_t, NO_STEP)
    proof.only_where(alpha_bar_t, NO_SIGNAL)
    proof.conclude(
        draw_small=model_mean_from_eps().results["mean"] + std_small * noise,
        draw_large=model_mean_from_eps().results["mean"] + sp.sqrt(large) * noise,
        xt_coefficient=1 / sp.sqrt(alpha),
        eps_coefficient=from_eps,
        std_small=std_small,
        std_large=sp.sqrt(large),
    )


def _shares(steps: sp.Expr) -> tuple[sp.Product, sp.Sum]:
    """What so many steps down to 0, the last one without noise, keep of the first variance, and what their noises add."""
    kept = sp.Product(gains[i] ** 2, (i, 1, steps))
    fresh = sp.Sum(spreads[k] ** 2 * sp.Product(gains[i] ** 2, (i, 1, k - 1)), (k, 2, steps))
    return kept, fresh


@derives(
    r"x_T \sim \mathcal N(0, I);\quad x_{t-1} = \mu_\theta(x_t, t) + [t > 1]\,\sigma_tz,\ t = T, \dots, 1;\quad"
    r" v_0 = v_T\prod_{i=1}^T g_i^2 + \sum_{k=2}^T\sigma_k^2\prod_{i<k}g_i^2",
    source="ho2020, algorithm 2",
)
def sampling_algorithm(proof: Proof) -> None:
    r"""The loop: start from noise, take the step at every level down to 1, return the mean of the last. The network is asked $T$
    times, at the levels $T$ to 1 and never at 0. For linear steps, $\mu_\theta = g_tx_t$, the variance of what is returned is
    a sum over the noises that were put in, each multiplied by what the later steps do to it; shown by induction over the levels.
    """
    proof.assume(
        r"$\mu_\theta(x_t, t) = g_t x_t$; the noises are standard normal and independent; the last step has none."
    )
    kept, fresh = _shares(count)
    proof.say("The claim, for the steps from level $n$ down:", equation("v_0", kept * variance_t + fresh))
    at_1 = _shares(sp.S.One)
    proof.equal(
        "From level 1 there is one step, without noise.",
        at_1[0].doit() * variance_t + at_1[1].doit(),
        reverse_chain().results["variance"].subs({gain: gains[1], variance: 0}),
    )
    step = reverse_chain().results["variance"].subs({gain: gains[count + 1], variance: spreads[count + 1] ** 2})
    taller = [peeled(share) for share in _shares(count + 1)]
    proof.equal(
        "A step more at the upper end changes the variance that arrives at level $n$, and with that in the place of $v_n$"
        " the claim for $n$ is the claim for $n + 1$, last factor and last term written out:",
        kept * step + fresh,
        taller[0] * variance_t + taller[1],
        shown=r"\left.v_0\right|_{v_n = g_{n+1}^2v_{n+1} + \sigma_{n+1}^2} = \left.v_0\right|_{n+1}",
    )
    proof.say("So it holds for every $T$; the start from noise is $v_T = 1$.")
    normal_data(proof)
    proof.say(
        r"For normal data the gains are those of `gaussian_sampler_oracle`. A chain of two steps, $t \to s \to 0$, returns"
    )
    upper = gaussian_sampler_oracle().results["gain"]
    lower = next_to_0(upper)
    whole = gaussian_sampler_oracle().results["product"]
    two = upper**2 * lower**2 + lower**2 * variance
    proof.equal(
        r"from the noise of the step the share $g_{s\to0}^2$, and from the first state the square of",
        upper * lower,
        whole,
        shown=equation(r"g_{t\to s}\,g_{s\to0}", whole),
    )
    small, large = (two.subs(variance, each) for each in (posterior_variance().results["variance"], beta))
    proof.equal(
        "so that fixed large it is wider than fixed small by",
        large - small,
        lower**2 * beta * (beta_bar_t - beta_bar_s) / beta_bar_t,
    )
    proof.only_where(beta_bar_s, "a chain of two steps visits a level between t and 0; ask for s >= 1")
    proof.conclude(two_steps_small=small, two_steps_large=large)


@derives(
    r"x_0 = \mu_\theta(x_t, t) = \hat x_0(x_t)\quad\text{for } s = 0",
    source="ho2020, algorithm 2, line 3",
)
def final_step_without_noise(proof: Proof) -> None:
    r"""The step to level 0 has no noise. With the fixed-small variance that needs no rule, because the variance is 0 there; with
    the fixed-large one it has to be said. What is returned is the prediction of the data itself, and noise on it would only add
    to the error.
    """
    start(proof)
    implied = x0_from_eps().results["x0"].subs(eps, eps_hat)
    proof.equal(
        r"At $s = 0$ is $\alpha_{t\mid0} = \bar\alpha_t$ and $\beta_{t\mid0} = \bar\beta_t$, and the mean from the noise is",
        model_mean_from_eps().results["mean"].subs(AT_LEVEL_0),
        implied.subs(AT_LEVEL_0),
        shown=equation(r"\left.\mu_\theta\right|_{s=0}", implied),
    )
    weights = posterior_mean_coefficients().results
    proof.equal("that is, the predicted data, whose weight is", weights["x0_weight"].subs(AT_LEVEL_0), sp.S.One)
    proof.equal("while the state has none.", weights["xt_weight"].subs(AT_LEVEL_0), sp.S.Zero, shown=r"c^{x_t} = 0")
    proof.equal(
        "The posterior variance vanishes,",
        posterior_variance().results["variance"].subs(AT_LEVEL_0),
        sp.S.Zero,
        shown=r"\tilde\beta_{t\mid0} = 0",
    )
    proof.equal(
        "the fixed-large one does not, and a chain that visits all levels would end with",
        variance_fixed_large().results["variance"].subs(AT_LEVEL_0),
        beta,
        shown=r"\sigma_1^2 = \beta_1",
    )
    noisy = expectation((x0_hat + sp.sqrt(variance) * noise - x0) ** 2, noise, 0, 1)
    proof.equal(
        "of noise in its samples. On average that adds its variance to the squared error:",
        noisy - (x0_hat - x0) ** 2,
        variance,
        shown=r"\mathbb E_z(\hat x_0 + \sigma z - x_0)^2 = (\hat x_0 - x_0)^2 + \sigma^2",
    )
    proof.only_where(beta_bar_t, NO_STEP)
    proof.only_where(alpha_bar_t, NO_SIGNAL)
    proof.conclude(sample=implied)
