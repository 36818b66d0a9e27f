r"""The best variance of a step: what the kernel draws, and what the noisy data leave open about the data."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.analytic.data_set import NO_SIGNAL
from ddpm_ref.symbolic.analytic.moments import RATIO, V_T
from ddpm_ref.symbolic.analytic.surrogate import BEST, energy, residual, sigma_hat_squared, x0_spread
from ddpm_ref.symbolic.ancestral.normal_data import AT_S
from ddpm_ref.symbolic.ddim.family import FROM_X0, FROM_XT, MEAN, ddim_posterior
from ddpm_ref.symbolic.ddim.family import domain as of_the_family
from ddpm_ref.symbolic.ddim.step import DRAW, ddim_step_eps_form, with_eta
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import expectation, log_density
from ddpm_ref.symbolic.marginal import Normal, integrate_out
from ddpm_ref.symbolic.plane import standard_expectation
from ddpm_ref.symbolic.posterior.chain import AT_LEVEL_0
from ddpm_ref.symbolic.posterior.kernel import over_data, true_reverse_kernel
from ddpm_ref.symbolic.symbols import (
    alpha,
    alpha_bar_s,
    alpha_bar_t,
    beta,
    beta_bar_s,
    beta_bar_t,
    data_variance,
    eps_hat,
    equation,
    eta,
    latex,
    letter,
    noise,
    variance,
    x0,
    x0_hat,
    x0_mean,
    x0_variance,
    xs,
    xt,
)  # fmt: skip

# The published forms; no proof starts from them.
COMBINED = variance + FROM_X0**2 * x0_spread
WITH_ENERGY = variance + (sp.sqrt(beta_bar_t / alpha) - sp.sqrt(beta_bar_s - variance)) ** 2 * (1 - energy)
MEMBER = r"The step is from the DDIM family: given $x_t$ and $x_0$ it has the variance $\sigma_t^2$ (`ddim_posterior`)."

model_variance = letter("model_variance", "v", positive=True)


def at_level_0(expression: sp.Expr) -> sp.Expr:
    """The step to clean data, whose only member of the family draws nothing."""
    return expression.subs(variance, 0).subs(AT_LEVEL_0)


@derives(
    r"\sigma_t^{*2} = \sigma_t^2 + \left(\sqrt{\bar\alpha_s}"
    r" - \sqrt{\frac{\bar\alpha_t(\bar\beta_s - \sigma_t^2)}{\bar\beta_t}}\right)^2\hat\sigma_t^2"
    r" = \sigma_t^2 + \left(\sqrt{\frac{\bar\beta_t}{\alpha_{t\mid s}}} - \sqrt{\bar\beta_s - \sigma_t^2}\right)^2(1"
    r" - \Gamma_t)",
    source="bao2022, eq. (7)",
)
def analytic_reverse_variance(proof: Proof) -> None:
    r"""The variance of a step when the data are not known: by the law of total variance, and by minimising the divergence of the
    step from what it stands for. Both are a mean square about the mean of the step, so that for an imperfect prediction the
    residual form of $\hat\sigma_t^2$ is the one to use. On normal data a chain of such steps has the right variance at every
    level, whatever $\eta$ and whichever levels it visits.
    """
    proof.assume(MEMBER)
    proof.assume(BEST)
    from_x0 = letter("x0_coefficient", "C^0", real=True)
    linear = sp.diff(ddim_posterior().results["mean"], x0)
    proof.equal(
        r"The mean of the kernel is linear in the data, with the coefficient",
        linear,
        FROM_X0,
        shown=equation("C^0", FROM_X0),
    )
    inner = from_x0 * x0 + letter("rest_of_the_mean", r"C^xx_t", real=True)
    total = over_data(expectation(xs**2, xs, inner, variance)) - over_data(inner) ** 2
    pointwise = variance + from_x0**2 * x0_variance
    proof.equal(
        r"Given $x_t$ alone the step has, by the law of total variance, the variance of the kernel and that of its mean,",
        total,
        pointwise,
        shown=r"\mathrm{Var}(x_s\mid x_t) = \sigma_t^2 + (C^0)^2\,\mathrm{Var}(x_0\mid x_t)",
    )
    square = letter("mean_square", r"\mathbb E[(x_s - \mu_\theta)^2\mid x_t]", positive=True)
    loss = log_density(xs, 0, model_variance).subs(xs**2, square)
    (best,) = sp.solve(sp.diff(loss, model_variance), model_variance)
    proof.equal(
        r"A model $\mathcal N(\mu_\theta, v)$ of it has the cross entropy $\tfrac12\log(2\pi v) + \tfrac{1}{2v}\,"
        r"\mathbb E[(x_s - \mu_\theta)^2\mid x_t]$, which averaged over $x_t$ is least where $v$ is the average of",
        best,
        square,
        shown=latex(square),
    )
    about = over_data(expectation((xs - inner.subs(x0, x0_hat)) ** 2, xs, inner, variance))
    proof.equal(
        r"With the mean at a prediction $\hat x_0$ of the data that is",
        about,
        variance + from_x0**2 * (x0_variance + (x0_mean - x0_hat) ** 2),
        shown=r"\mathbb E[(x_s - \mu_\theta)^2\mid x_t] = \sigma_t^2"
        r" + (C^0)^2\left(\mathrm{Var}(x_0\mid x_t) + (\mathbb E[x_0\mid x_t] - \hat x_0)^2\right)",
    )
    proof.equal(
        r"and for the best prediction, averaged,",
        pointwise.subs({x0_variance: x0_spread, from_x0: FROM_X0}),
        COMBINED,
        shown=equation(r"\sigma_t^{*2}", COMBINED),
    )
    of_energy = sigma_hat_squared().results["from_energy"]
    proof.equal(
        r"With $\hat\sigma_t^2 = \frac{\bar\beta_t}{\bar\alpha_t}(1 - \Gamma_t)$ it is the other published form.",
        COMBINED.subs(x0_spread, of_energy),
        WITH_ENERGY,
        shown=equation(r"\sigma_t^{*2}", WITH_ENERGY),
    )
    _special_cases(proof)
    of_the_family(proof, of_eta=True)
    proof.only_where(alpha_bar_t, NO_SIGNAL)
    proof.conclude(
        variance=with_eta(COMBINED),
        from_energy=with_eta(COMBINED).subs(x0_spread, of_energy),
        from_residual=with_eta(COMBINED).subs(x0_spread, RATIO * residual),
        normal=with_eta(COMBINED).subs(x0_spread, sigma_hat_squared().results["normal"]),
    )


def _special_cases(proof: Proof) -> None:
    """Both ends of eta, the last step, and normal data."""
    one = with_eta(COMBINED).subs(eta, 1)
    proof.equal(
        r"At $\eta = 1$ it is the variance of the true reverse kernel of the Markov chain, averaged.",
        one,
        true_reverse_kernel().results["variance"].subs(x0_variance, x0_spread),
        shown=r"\eta = 1:\quad \sigma_t^{*2} = \tilde\beta_{t\mid s} + (c^{x_0})^2\,\hat\sigma_t^2",
    )
    proof.equal(r"On the step to level 0 nothing else is left.", at_level_0(COMBINED), x0_spread)
    normal = sigma_hat_squared().results["normal"]
    slope = FROM_XT + FROM_X0 * sp.sqrt(alpha_bar_t) * data_variance / V_T
    mean_of_step = sp.diff(MEAN, xt) + sp.diff(MEAN, x0) * sp.sqrt(alpha_bar_t) * data_variance / V_T
    proof.equal(
        r"Normal data: the mean of the step is a multiple of $x_t$,",
        mean_of_step,
        slope,
        shown=r"g = C^x + C^0\,\frac{\sqrt{\bar\alpha_t}\,\tau^2}{V_t}",
    )
    proof.equal(
        r"and a state of the right variance is followed by one of the right variance, for every admissible $\sigma_t$:",
        slope**2 * V_T + COMBINED.subs(x0_spread, normal),
        AT_S,
        shown=r"g^2V_t + \sigma_t^{*2} = V_s",
    )
    unit = {data_variance: 1}
    proof.equal(
        r"For unit data and $\eta = 1$ it is the variance of the forward step.",
        one.subs(x0_spread, normal).subs(unit),
        beta,
        shown=r"\tau^2 = 1,\ \eta = 1:\quad \sigma_t^{*2} = \beta_{t\mid s}",
    )


@derives(
    r"x_s = \frac{x_t}{\sqrt{\alpha_{t\mid s}}} + \left(\sqrt{\bar\beta_s - \sigma_t^2}"
    r" - \sqrt{\frac{\bar\beta_t}{\alpha_{t\mid s}}}\right)\hat\varepsilon + \sigma_t^*z",
    source="bao2022, eq. (3) and (6)-(9)",
)
def analytic_reverse_step(proof: Proof) -> None:
    r"""A step draws twice: the data from the surrogate, and the state from the kernel given them. The two noises are independent,
    so that one of their combined variance will do. The mean is that of DDIM; with $\eta = 0$ the step is random nevertheless.
    """
    proof.assume(MEMBER)
    proof.assume(r"$x_0$ given $x_t$ is $\mathcal N(\hat x_0,\ \hat\sigma_t^2)$ (`x0_gaussian_approximation`).")
    first, second = noise, letter("second_noise", r"\varepsilon'", real=True)
    predicted = (xt - sp.sqrt(beta_bar_t) * eps_hat) / sp.sqrt(alpha_bar_t)
    drawn = predicted + sp.sqrt(x0_spread) * second
    step = ddim_posterior().results["mean"].subs(x0, drawn) + sp.sqrt(variance) * first
    without_noise = DRAW.subs(noise, 0)
    proof.equal(
        r"With the data drawn as $\hat x_0 + \hat\sigma_t\varepsilon'$ the step is that of DDIM and two noises,",
        step,
        without_noise + sp.sqrt(variance) * first + FROM_X0 * sp.sqrt(x0_spread) * second,
        shown=r"x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{\bar\beta_s - \sigma_t^2}\,\hat\varepsilon"
        r" + \sigma_tz + C^0\hat\sigma_t\varepsilon'",
    )
    both = sp.Matrix([first, second])
    proof.equal(
        r"whose mean is that of DDIM",
        standard_expectation(step, both),
        without_noise,
        shown=r"\mathbb E[x_s\mid x_t] = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{\bar\beta_s - \sigma_t^2}\,\hat\varepsilon",
    )
    proof.equal(
        "and whose variance is the combined one, because the noises are independent.",
        standard_expectation(sp.expand((step - without_noise) ** 2), both),
        COMBINED,
        shown=r"\sigma_t^2 + (C^0)^2\hat\sigma_t^2 = \sigma_t^{*2}",
    )
    inner = letter("inner_mean", "y", real=True)
    law = integrate_out(
        proof, inner, xs, Normal(xs, inner, variance), Normal(inner, letter("mean", r"\mu", real=True), model_variance)
    )
    proof.equal("A sum of independent normal noises is one normal noise:", law.variance, variance + model_variance)
    row = sp.Poly(sp.expand(without_noise), xt, eps_hat)
    proof.equal(r"As a row: of $x_t$", row.coeff_monomial(xt), 1 / sp.sqrt(alpha))
    from_eps = sp.sqrt(beta_bar_s - variance) - sp.sqrt(beta_bar_t) / sp.sqrt(alpha)
    proof.equal(r"and of $\hat\varepsilon$", row.coeff_monomial(eps_hat), from_eps)
    proof.equal(
        r"If the data are known, $\hat\sigma_t = 0$, it is the step of DDIM.", COMBINED.subs(x0_spread, 0), variance
    )
    silent = COMBINED.subs(variance, 0)
    angle = (sp.sqrt(alpha_bar_s) * sp.sqrt(beta_bar_t) - sp.sqrt(alpha_bar_t) * sp.sqrt(beta_bar_s)) ** 2 / beta_bar_t
    proof.equal(
        r"If they are not, it draws even for $\eta = 0$, with the variance",
        silent,
        angle * x0_spread,
        shown=equation(r"\left.\sigma_t^{*2}\right|_{\eta = 0}", angle * x0_spread),
    )
    row_of_ddim = ddim_step_eps_form().results
    of_the_family(proof, of_eta=True)
    proof.only_where(alpha_bar_t, NO_SIGNAL)
    proof.conclude(
        xt_coefficient=row_of_ddim["xt_coefficient"],
        eps_coefficient=row_of_ddim["eps_coefficient"],
        std=sp.sqrt(with_eta(COMBINED)),
        extra_std=with_eta(FROM_X0) * sp.sqrt(x0_spread),
    )
