r"""Steps: a member of the family with a prediction in the place of the data."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.ancestral.algorithm import NO_SIGNAL
from ddpm_ref.symbolic.ddim.family import (
    DIRECTION,
    ddim_noise_split,
    ddim_posterior,
    ddim_posterior_two_coefficients,
    ddim_sigma_eta,
    domain,
    start,
)  # fmt: skip
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.posterior.chain import AT_LEVEL_0, NO_STEP
from ddpm_ref.symbolic.posterior.mean import posterior_mean_coefficients, posterior_mean_from_eps, posterior_variance
from ddpm_ref.symbolic.prediction import MIXTURE, eps_from_x0, x0_from_eps
from ddpm_ref.symbolic.symbols import (
    alpha,
    alpha_bar_s,
    alpha_bar_t,
    beta,
    beta_bar_s,
    beta_bar_t,
    eps,
    eps_hat,
    equation,
    eta,
    noise,
    variance,
    x0,
    x0_hat,
    xt,
)  # fmt: skip

# The published forms; no proof starts from them.
PREDICTED_X0 = (xt - sp.sqrt(beta_bar_t) * eps_hat) / sp.sqrt(alpha_bar_t)
DRAW = sp.sqrt(alpha_bar_s) * PREDICTED_X0 + DIRECTION * eps_hat + sp.sqrt(variance) * noise


def with_eta(expression: sp.Expr) -> sp.Expr:
    r"""A form in :math:`\sigma_t^2` as one in eta, what is kept of the noise in its cancellation-free form."""
    member = ddim_sigma_eta().results
    direction = sp.sqrt(member["direction_squared"])
    return (
        expression.subs(DIRECTION, direction).subs(sp.sqrt(variance), member["std"]).subs(variance, member["std"] ** 2)
    )


@derives(
    r"x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{\bar\beta_s - \sigma_t^2}\,\hat\varepsilon + \sigma_tz,\quad"
    r" \hat x_0 = \frac{x_t - \sqrt{\bar\beta_t}\,\hat\varepsilon}{\sqrt{\bar\alpha_t}}",
    source="song2020ddim, eq. (12)",
)
def ddim_step(proof: Proof) -> None:
    r"""The member of the family at the predicted data. Predicted data, a direction back towards $x_t$, and noise: the three terms
    are the split of the noise with the predicted one. With the true noise and $\eta = 0$ the step returns the noisy data of
    level $s$ themselves.
    """
    start(proof)
    proof.assume(r"$\hat\varepsilon$ is what a network says for the noise of $x_t$, and $\hat x_0$ what that implies.")
    draw = ddim_posterior().results["mean"].subs(x0, PREDICTED_X0) + sp.sqrt(variance) * noise
    implied = x0_from_eps().results["x0"].subs(eps, eps_hat)
    proof.equal("The predicted data are", implied, PREDICTED_X0, shown=equation(r"\hat x_0", PREDICTED_X0))
    proof.equal(
        r"The noise that they leave is the predicted one:",
        eps_from_x0().results["eps"].subs(x0, PREDICTED_X0),
        eps_hat,
        shown=r"\frac{x_t - \sqrt{\bar\alpha_t}\,\hat x_0}{\sqrt{\bar\beta_t}} = \hat\varepsilon",
    )
    proof.equal(
        "so that a draw from the family at the predicted data is",
        draw,
        DRAW,
        shown=r"x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{\bar\beta_s - \sigma_t^2}\,\hat\varepsilon + \sigma_tz",
    )
    proof.equal(
        "It is the split of the noise with predictions for both.",
        ddim_noise_split().results["draw"].subs({x0: PREDICTED_X0, eps: eps_hat}),
        DRAW,
        shown=r"x_s = \left.\sqrt{\bar\alpha_s}\,x_0 + \sqrt{\bar\beta_s - \sigma_t^2}\,\varepsilon + \sigma_tz"
        r"\right|_{\hat x_0, \hat\varepsilon}",
    )
    true = DRAW.subs(eps_hat, eps).subs(xt, MIXTURE)
    proof.equal(
        r"With the true noise and $\sigma_t = 0$ it gives the noisy data at $s$, made of the same data and the same noise:",
        true.subs(variance, 0),
        sp.sqrt(alpha_bar_s) * x0 + sp.sqrt(beta_bar_s) * eps,
    )
    domain(proof, of_eta=True)
    proof.only_where(alpha_bar_t, NO_SIGNAL)
    proof.conclude(draw=with_eta(DRAW))


@derives(
    r"x_s = \frac{x_t}{\sqrt{\alpha_{t\mid s}}} + \left(\sqrt{\bar\beta_s - \sigma_t^2} -"
    r" \frac{\sqrt{\bar\beta_t}}{\sqrt{\alpha_{t\mid s}}}\right)\hat\varepsilon + \sigma_tz",
    source="song2020ddim, eq. (12); bao2022, eq. (3)",
)
def ddim_step_eps_form(proof: Proof) -> None:
    r"""The step as a row of three coefficients, for $x_t$, for the predicted noise and for the fresh one. The coefficient of the
    prediction is a difference of roots; the form without cancellation is derived with it.
    """
    start(proof)
    row = sp.Poly(sp.expand(DRAW), xt, eps_hat, noise)
    proof.equal(r"Of $x_t$:", row.coeff_monomial(xt), 1 / sp.sqrt(alpha))
    from_eps = DIRECTION - sp.sqrt(beta_bar_t) / sp.sqrt(alpha)
    proof.equal(r"Of $\hat\varepsilon$:", row.coeff_monomial(eps_hat), from_eps)
    proof.equal(r"Of $z$:", row.coeff_monomial(noise), sp.sqrt(variance))
    gap = beta_bar_t / alpha - (beta_bar_s - eta**2 * posterior_variance().results["variance"])
    without = beta * (beta_bar_t + eta**2 * alpha * beta_bar_s) / (alpha * beta_bar_t)
    proof.equal(
        r"The squares of the two roots, with $\sigma_t^2 = \eta^2\tilde\beta_{t\mid s}$, differ by a product of positive terms,",
        gap,
        without,
        shown=equation(r"\frac{\bar\beta_t}{\alpha_{t\mid s}} - (\bar\beta_s - \sigma_t^2)", without),
    )
    root, other = sp.Dummy("p", positive=True), sp.Dummy("q", positive=True)
    proof.equal(
        r"and the difference of the roots is that over their sum: nothing cancels.",
        root - other,
        (root**2 - other**2) / (root + other),
        shown=r"\sqrt p - \sqrt q = \frac{p - q}{\sqrt p + \sqrt q}",
    )
    one = with_eta(from_eps).subs(eta, 1)
    proof.equal(
        r"At $\eta = 1$ the coefficient is that of the mean of the Markov chain.",
        one,
        sp.diff(posterior_mean_from_eps().results["mean"], eps),
    )
    domain(proof, of_eta=True)
    proof.only_where(alpha_bar_t, NO_SIGNAL)
    proof.conclude(
        xt_coefficient=1 / sp.sqrt(alpha), eps_coefficient=with_eta(from_eps), std=ddim_sigma_eta().results["std"]
    )


@derives(
    r"\sigma_t^2 = \tilde\beta_{t\mid s} \implies q_\sigma(x_s\mid x_t, x_0) = q(x_s\mid x_t, x_0)",
    source="song2020ddim, section 4.1",
)
def ddim_eta1_is_ddpm(proof: Proof) -> None:
    r"""The member $\eta = 1$ is the posterior of the Markov chain, for any two levels: ancestral sampling with the fixed-small
    variance, on every choice of levels.
    """
    start(proof)
    coefficients = ddim_posterior_two_coefficients().results
    weights = posterior_mean_coefficients().results
    direction = ddim_sigma_eta().results["direction_squared"].subs(eta, 1)
    square = proof.equal(r"At $\eta = 1$ the kept noise is a square,", direction, alpha * beta_bar_s**2 / beta_bar_t)
    at_one = {name: value.subs(DIRECTION, sp.sqrt(square)) for name, value in coefficients.items()}
    proof.equal(r"The coefficient of $x_t$ is that of the posterior,", at_one["xt_weight"], weights["xt_weight"])
    proof.equal(r"that of $x_0$", at_one["x0_weight"], weights["x0_weight"])
    proof.equal(
        "and the variance",
        ddim_sigma_eta().results["std"].subs(eta, 1) ** 2,
        posterior_variance().results["variance"],
        shown=equation(r"\sigma_t^2(1)", posterior_variance().results["variance"]),
    )
    proof.equal(
        "A step with a predicted noise is the ancestral step, draw by draw:",
        DRAW.subs(DIRECTION, sp.sqrt(square)).subs(noise, 0),
        posterior_mean_from_eps().results["mean"].subs(eps, eps_hat),
        shown=r"\sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{\bar\beta_s - \tilde\beta_{t\mid s}}\,\hat\varepsilon = \mu_\theta",
    )
    proof.only_where(beta_bar_t, NO_STEP)
    proof.conclude(
        xt_weight=weights["xt_weight"], x0_weight=weights["x0_weight"], std=ddim_sigma_eta().results["std"].subs(eta, 1)
    )


@derives(r"x_0 = \hat x_0(x_t)\quad\text{for } s = 0", source="song2020ddim, eq. (12) at alpha_bar_0 = 1")
def ddim_final_step(proof: Proof) -> None:
    r"""At level 0 the family has a single member, a point: there is no noise of which part could be kept or drawn. The step returns
    the predicted data, whatever $\eta$; a sampler of one step is the jump to the data.
    """
    start(proof)
    proof.equal(
        "The deviation vanishes",
        ddim_sigma_eta().results["std"].subs(AT_LEVEL_0),
        sp.S.Zero,
        shown=r"\left.\sigma_t(\eta)\right|_{s=0} = 0",
    )
    proof.equal(
        "and so does what is kept of the noise,",
        ddim_sigma_eta().results["direction_squared"].subs(AT_LEVEL_0),
        sp.S.Zero,
        shown=r"\left.\bar\beta_s - \sigma_t^2\right|_{s=0} = 0",
    )
    last = ddim_step().results["draw"].subs(AT_LEVEL_0)
    proof.equal(
        "so that of the step only the prediction is left.",
        last,
        PREDICTED_X0.subs(AT_LEVEL_0),
        shown=equation(r"\left.x_s\right|_{s=0}", PREDICTED_X0),
    )
    proof.equal(
        r"The same from predicted data: of $x_t$ nothing, of $\hat x_0$ all.",
        ddim_posterior().results["mean"].subs(variance, 0).subs(AT_LEVEL_0).subs(x0, x0_hat),
        x0_hat,
        shown=r"\left.x_s\right|_{s=0} = \hat x_0",
    )
    proof.only_where(beta_bar_t, NO_STEP)
    proof.only_where(alpha_bar_t, NO_SIGNAL)
    proof.conclude(sample=PREDICTED_X0)
