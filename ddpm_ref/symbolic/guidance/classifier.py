r"""Guidance by a classifier: the noise corrected by its gradient, in a step of the chain and of DDIM, and the mean moved by it."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.ancestral.algorithm import NO_SIGNAL
from ddpm_ref.symbolic.ddim.family import domain as of_the_family
from ddpm_ref.symbolic.ddim.step import DRAW, with_eta
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import complete_square
from ddpm_ref.symbolic.guidance.classes import (
    NOISE,
    OBSERVED,
    classifier_scale,
    domain,
    gradient,
    joint,
    label,
    marginal,
    observation,
    observation_variance,
    observed_eps,
    observed_gradient,
    scores,
    slope,
    start,
)  # fmt: skip
from ddpm_ref.symbolic.posterior.chain import AT_LEVEL_0, MARGINAL_S, NO_STEP, STEP
from ddpm_ref.symbolic.posterior.mean import posterior_variance
from ddpm_ref.symbolic.prediction import eps_from_score, score_eps_relation, x0_from_eps
from ddpm_ref.symbolic.reverse.model import model_mean_from_eps
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
    eta,
    letter,
    mean,
    noise,
    score,
    variance,
    x0,
    xs,
    xt,
)  # fmt: skip

GUIDED = eps_hat - classifier_scale * NOISE * gradient
"""The published form; no proof starts from it."""
SHIFT = classifier_scale * beta / sp.sqrt(alpha) * gradient

classifier_slope = letter("classifier_slope", "a", positive=True)
classifier_variance = letter("classifier_variance", "b", positive=True)


def given_both() -> sp.Expr:
    """Of unit data: mean of the earlier state given the later one and an observation, where the exponent is greatest."""
    data = complete_square(MARGINAL_S - x0**2 / 2, x0)
    seen = -((observation - data.mean) ** 2) / (2 * (data.variance + observation_variance))
    slope_of_exponent = sp.Poly(sp.diff(STEP - xs**2 / 2 + seen, xs), xs)
    return -slope_of_exponent.coeff_monomial(1) / slope_of_exponent.coeff_monomial(xs)


@derives(
    r"\bar\varepsilon = \hat\varepsilon - \omega\sqrt{\bar\beta_t}\,\nabla_{x_t}\log f(y\mid x_t)",
    source="dhariwal2021, section 4.2, eq. (14), and algorithm 2",
)
def classifier_guided_eps(proof: Proof) -> None:
    r"""The noise that belongs to the score of $q(x_t)\,f(y\mid x_t)^\omega$. With an exact classifier and $\omega = 1$ it is the
    mean of the noise given the label, and a step made with it has the mean of the true kernel given both; that is shown for unit
    data with an observation, at any stride.
    """
    start(proof)
    proof.assume(r"$f(y\mid x_t)$ is what a classifier says, $\omega$ its scale.")
    sharpened = slope(marginal()) + classifier_scale * slope(joint(label) / marginal())
    proof.equal(
        r"The law proportional to $q(x_t)\,q(y\mid x_t)^\omega$ has, at $\omega = 1$, the score of the class,",
        sharpened.subs(classifier_scale, 1),
        scores[label],
        shown=r"\nabla\log\left(q(x_t)\,q(y\mid x_t)\right) = \nabla\log q(x_t\mid y)",
    )
    proof.equal(
        r"and at $\omega = 0$ that of all data.",
        sharpened.subs(classifier_scale, 0),
        slope(marginal()),
        shown=r"\nabla\log q(x_t)",
    )
    unconditional = score_eps_relation().results["score"].subs(eps, eps_hat)
    noisy_score = unconditional + classifier_scale * gradient
    proof.equal(
        r"The noise that belongs to such a score, $-\sqrt{\bar\beta_t}$ times it, with $\nabla\log q(x_t) ="
        r" -\hat\varepsilon/\sqrt{\bar\beta_t}$:",
        eps_from_score().results["eps"].subs(score, noisy_score),
        GUIDED,
        shown=equation(r"\bar\varepsilon", GUIDED),
    )
    data = x0_from_eps().results["x0"]
    moved = classifier_scale * beta_bar_t / sp.sqrt(alpha_bar_t) * gradient
    proof.equal(
        "The sign is a minus: less noise is seen where the class is likelier, and the predicted data move with the"
        " gradient, by",
        data.subs(eps, GUIDED) - data.subs(eps, eps_hat),
        moved,
    )
    proof.assume(OBSERVED)
    exact = GUIDED.subs({eps_hat: observed_eps() * xt, gradient: observed_gradient(), classifier_scale: 1})
    exact = exact.subs(data_variance, 1)
    proof.equal(
        r"Unit data ($\tau = 1$) with an observation, $\omega = 1$: the mean of a step made with $\bar\varepsilon$ is"
        r" that of the true kernel,"
        r" found directly from $q(x_t\mid x_s)\,q(x_s)\,q(y\mid x_s)$.",
        model_mean_from_eps().results["mean"].subs(eps_hat, exact),
        given_both(),
        shown=r"\mu_\theta(\bar\varepsilon) = \mathbb E[x_s\mid x_t, y]",
    )
    domain(proof)
    proof.conclude(eps=GUIDED, score=score + classifier_scale * gradient, x0_shift=moved, observed_mean=given_both())


@derives(
    r"x_s = \frac{1}{\sqrt{\alpha_{t\mid s}}}\left(x_t - \frac{\beta_{t\mid s}}{\sqrt{\bar\beta_t}}\,\hat\varepsilon"
    r" + \beta_{t\mid s}\,\omega\,\nabla_{x_t}\log f(y\mid x_t)\right) + \sigma_tz",
    source="ho2020, algorithm 2, with the noise of dhariwal2021, eq. (14)",
)
def classifier_guided_ddpm_step(proof: Proof) -> None:
    r"""The guided noise put into the mean of the step. The root in front of the gradient cancels against the one that the noise is
    divided by: what moves the mean is $\beta_{t\mid s}\,\omega\,\nabla\log f$ over $\sqrt{\alpha_{t\mid s}}$.
    """
    guided = classifier_guided_eps().results["eps"]
    plain = model_mean_from_eps().results["mean"]
    proof.assume(
        r"The step is that of algorithm 2, $x_s = \mu_\theta + \sigma_tz$, with $\bar\varepsilon$ for $\hat\varepsilon$."
    )
    proof.say("The mean of a step with a predicted noise,", equation(r"\mu_\theta", plain))
    result = (xt - beta / NOISE * eps_hat + beta * classifier_scale * gradient) / sp.sqrt(alpha)
    proof.equal(
        "with the guided noise in it:",
        plain.subs(eps_hat, guided),
        result,
        shown=equation(r"\mu_\theta(\bar\varepsilon)", result),
    )
    proof.equal("Compared with the mean that is not guided it is moved by", plain.subs(eps_hat, guided) - plain, SHIFT)
    proof.equal(
        r"The same through the predicted data: they move by $\omega\frac{\bar\beta_t}{\sqrt{\bar\alpha_t}}\nabla\log"
        r" f$ and have the"
        r" weight $c^{x_0}$.",
        sp.sqrt(alpha_bar_s) * beta / beta_bar_t * classifier_guided_eps().results["x0_shift"],
        SHIFT,
        shown=equation(r"c^{x_0}\,\omega\,\frac{\bar\beta_t}{\sqrt{\bar\alpha_t}}\nabla\log f", SHIFT),
    )
    small = posterior_variance().results["variance"]
    proof.say(
        "The noise is that of the step without guidance, times a deviation.",
        r"\sigma_t = \sqrt{\tilde\beta_{t\mid s}}\ \text{ or }\ \sqrt{\beta_{t\mid s}}",
    )
    proof.equal("Without a scale it is the plain step.", result.subs(classifier_scale, 0), plain)
    proof.only_where(beta_bar_t, NO_STEP)
    proof.only_where(alpha_bar_t, NO_SIGNAL)
    proof.conclude(
        mean=result,
        shift=SHIFT,
        draw_small=result + sp.sqrt(small) * noise,
        draw_large=result + sp.sqrt(beta) * noise,
    )


@derives(
    r"x_s \sim \mathcal N(\mu_\theta + \omega\,\sigma^2\,g,\ \sigma^2),\quad"
    r" g = \left.\nabla_x\log f(y\mid x)\right|_{x=\mu_\theta}",
    source="dhariwal2021, section 4.1, eq. (10), and algorithm 1",
)
def classifier_guided_mean_shift(proof: Proof) -> None:
    r"""The other form of guidance: the normal law of a step is multiplied by $f(y\mid x_s)^\omega$, with the logarithm of the
    classifier expanded around the mean of the step. So its gradient belongs at $\mu_\theta$, with the classifier of level $s$;
    at $x_t$, where code commonly takes it, is one more approximation. It is not the step with guided noise: the two shifts have
    a ratio that depends on the variance.
    """
    proof.assume(
        r"$p_\theta(x_s\mid x_t) = \mathcal N(\mu,\ \sigma^2)$, and $x_s$ is to be drawn from $p_\theta\,f(y\mid x_s)^\omega$."
    )
    expanded = gradient * (xs - mean)
    square = complete_square(-((xs - mean) ** 2) / (2 * variance) + classifier_scale * expanded, xs)
    shifted = mean + classifier_scale * variance * gradient
    proof.equal(
        r"To first order $\log f(y\mid x_s) = \log f(y\mid\mu) + g\,(x_s - \mu)$. Completing the square, the product"
        r" is normal with the"
        " mean",
        square.mean,
        shifted,
        shown=equation(r"\mu^*", shifted),
    )
    proof.equal("and the variance of before.", square.variance, variance, shown=r"\sigma^{*2} = \sigma^2")
    seen = -((observation - classifier_slope * xs) ** 2) / (2 * classifier_variance)
    at_mean = sp.diff(seen, xs).subs(xs, mean)
    product = complete_square(-((xs - mean) ** 2) / (2 * variance) + classifier_scale * seen, xs)
    curvature = classifier_scale * classifier_slope**2 * variance / classifier_variance
    proof.equal(
        r"If $f$ is exactly normal, $y \sim \mathcal N(a\,x_s, b)$, nothing need be expanded. The mean moves by",
        product.mean - mean,
        classifier_scale * variance * at_mean / (1 + curvature),
        shown=r"\frac{\omega\,\sigma^2 g}{1 + \omega a^2\sigma^2/b}",
    )
    proof.equal("and the variance becomes", product.variance, variance / (1 + curvature))
    proof.equal(
        r"so that the first order is too much by the factor $1 + \omega a^2\sigma^2/b$, which tends to 1 as the step"
        r" becomes short.",
        shifted.subs(gradient, at_mean) - mean,
        (product.mean - mean) * (1 + curvature),
        shown=r"\omega\,\sigma^2g = \left(1 + \frac{\omega a^2\sigma^2}{b}\right)\cdot\frac{\omega\,\sigma^2 g}{1 +"
        r" \omega a^2\sigma^2/b}",
    )
    ratio = SHIFT / (classifier_scale * variance * gradient)
    proof.equal(
        "With one gradient in both, the shift by guided noise over this one is",
        ratio,
        beta / (sp.sqrt(alpha) * variance),
    )
    proof.equal(r"For the fixed-large variance that is", ratio.subs(variance, beta), 1 / sp.sqrt(alpha))
    small = posterior_variance().results["variance"]
    proof.equal(r"for the fixed-small one", ratio.subs(variance, small), beta_bar_t / (sp.sqrt(alpha) * beta_bar_s))
    proof.equal(
        r"The first tends to 1 as the step becomes short, and the second is more by $\bar\beta_t/\bar\beta_s$; the"
        r" square of the first"
        " exceeds 1 by",
        1 / alpha - 1,
        beta / alpha,
        shown=r"\frac{1}{\alpha_{t\mid s}} - 1 = \frac{\beta_{t\mid s}}{\alpha_{t\mid s}}",
    )
    proof.equal(
        r"and a step without variance is not moved at all.",
        shifted.subs(variance, 0),
        mean,
        shown=r"\sigma^2 = 0:\quad \mu",
    )
    proof.only_where(beta_bar_t, NO_STEP)
    proof.conclude(
        mean=shifted,
        exact_mean=product.mean,
        exact_variance=product.variance,
        ratio_large=1 / sp.sqrt(alpha),
        ratio_small=beta_bar_t / (sp.sqrt(alpha) * beta_bar_s),
    )


@derives(
    r"x_s = \sqrt{\bar\alpha_s}\,\frac{x_t - \sqrt{\bar\beta_t}\,\bar\varepsilon}{\sqrt{\bar\alpha_t}}"
    r" + \sqrt{\bar\beta_s - \sigma_t^2}\,\bar\varepsilon + \sigma_tz",
    source="dhariwal2021, algorithm 2",
)
def classifier_guided_ddim_step(proof: Proof) -> None:
    r"""The same guided noise in both places of the DDIM step. A mean shift would be void, because the deterministic step has no
    variance; the guided noise moves it nevertheless.
    """
    guided = classifier_guided_eps().results["eps"]
    proof.assume(
        r"The step is that of DDIM with $\bar\varepsilon$ for $\hat\varepsilon$, in the predicted data and in the direction."
    )
    step = DRAW.subs(eps_hat, guided)
    weight = sp.diff(DRAW, eps_hat)
    proof.equal(
        r"The step is linear in the noise, so that guidance moves it by the coefficient of $\hat\varepsilon$ times"
        r" what is taken off:",
        step - DRAW,
        -weight * classifier_scale * NOISE * gradient,
        shown=r"\omega\sqrt{\bar\beta_t}\left(\sqrt{\frac{\bar\beta_t}{\alpha_{t\mid s}}} - \sqrt{\bar\beta_s -"
        r" \sigma_t^2}\right)\nabla\log f",
    )
    silent = (step - DRAW).subs(variance, 0)
    shift = classifier_scale * NOISE * (NOISE - sp.sqrt(alpha) * sp.sqrt(beta_bar_s)) / sp.sqrt(alpha) * gradient
    proof.equal(
        r"For $\eta = 0$ it is",
        silent,
        shift,
    )
    proof.equal(
        r"which is positive, the squares of the two roots being apart by $\beta_{t\mid s}$:",
        NOISE**2 - alpha * beta_bar_s,
        beta,
        shown=r"\bar\beta_t - \alpha_{t\mid s}\bar\beta_s = \beta_{t\mid s} > 0",
    )
    proof.equal(r"For $\eta = 1$ it is the shift of the step of the chain.", with_eta(step - DRAW).subs(eta, 1), SHIFT)
    proof.equal("Without a scale it is the plain step.", step.subs(classifier_scale, 0), DRAW)
    proof.equal(
        "The last step returns the guided prediction of the data.",
        step.subs(variance, 0).subs(AT_LEVEL_0),
        x0_from_eps().results["x0"].subs(eps, guided).subs(AT_LEVEL_0),
    )
    of_the_family(proof, of_eta=True)
    proof.only_where(alpha_bar_t, NO_SIGNAL)
    proof.conclude(draw=with_eta(DRAW).subs(eps_hat, guided), deterministic_shift=shift)
