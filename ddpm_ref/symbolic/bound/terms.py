r"""The three kinds of terms: of the last level, of a step between noisy states, and of the step to the data; in nats."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.bound.jensen import POINT
from ddpm_ref.symbolic.bound.telescoping import NO_POSTERIOR
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.divergence import SPREAD, kl_gaussian_diagonal, kl_gaussian_full, logvar1, logvar2, ratio
from ddpm_ref.symbolic.forward.moments import terminal_distribution
from ddpm_ref.symbolic.gaussian import expectation, log_density
from ddpm_ref.symbolic.posterior.chain import AT_LEVEL_0, MEAN, NO_STEP, VARIANCE, WEIGHT_X0, start
from ddpm_ref.symbolic.posterior.kernel import true_reverse_kernel
from ddpm_ref.symbolic.posterior.mean import posterior_mean_from_x0, posterior_variance
from ddpm_ref.symbolic.symbols import (
    alpha_bar_T,
    beta,
    beta_bar_s,
    beta_bar_T,
    beta_bar_t,
    equation,
    latex,
    letter,
    mean,
    mean1,
    mean2,
    variance,
    variance1,
    variance2,
    x0,
    x0_hat,
    x0_mean,
    x0_variance,
    xs,
)  # fmt: skip

i = letter("i", "i", integer=True, positive=True)
dimension = letter("dimension", "d", integer=True, positive=True)
squared_norm = letter("squared_norm", r"\lVert x_0\rVert^2", nonnegative=True)
log_variance = letter("log_variance", r"\log\sigma^2", real=True)
squared_error = letter("squared_error", r"\mathbb E(x_0-\hat x_0)^2", positive=True)
components = sp.IndexedBase(letter("components", "x", real=True))


@derives(
    r"L_T = \tfrac12\left[\bar\alpha_T\lVert x_0\rVert^2 - d\bar\alpha_T - d\log\bar\beta_T\right]",
    source="ho2020, section 3.1; nichol2021, eq. (7)",
)
def loss_prior(proof: Proof) -> None:
    r"""The divergence of the last state from the prior. Its components are independent under both laws, so it is a sum of what
    `terminal_distribution` integrates. No letter of the model is in it, and what is in it is not negative.
    """
    proof.assume(
        r"$q(x_T\mid x_0) = \mathcal N(\sqrt{\bar\alpha_T}\,x_0,\ \bar\beta_TI)$ and $p(x_T) = \mathcal N(0, I)$, in"
        " $d$ dimensions."
    )
    one = terminal_distribution().results["kl"]
    norm = sp.Sum(components[i] ** 2, (i, 1, dimension))
    result = (alpha_bar_T * squared_norm - dimension * alpha_bar_T - dimension * sp.log(beta_bar_T)) / 2
    proof.equal(
        "Summed over the components,",
        sp.Sum(one.subs(x0, components[i]), (i, 1, dimension)),
        result.subs(squared_norm, norm),
        shown=equation("L_T", result),
    )
    spread = dimension * SPREAD.subs(ratio, beta_bar_T) + alpha_bar_T * squared_norm
    proof.equal(
        r"Sorted by what varies and what is moved, with $f(r) = r - 1 - \log r \ge 0$ (`kl_gaussian_isotropic`),",
        result,
        spread / 2,
        shown=r"L_T = \tfrac12\left[d\,f(\bar\beta_T) + \bar\alpha_T\lVert x_0\rVert^2\right] \ge 0",
    )
    proof.all_vanish(
        "Nothing that a network says is in it:",
        [sp.diff(result, each) for each in (mean, variance, x0_hat)],
        shown=r"\frac{\partial L_T}{\partial\mu_\theta} = \frac{\partial L_T}{\partial\sigma^2} = 0",
    )
    proof.equal(
        "It vanishes with the signal that is left.",
        sp.limit(result.subs(beta_bar_T, 1 - alpha_bar_T), alpha_bar_T, 0),
        sp.S.Zero,
        shown=r"\lim_{\bar\alpha_T\to0}L_T = 0",
    )
    proof.only_where(beta_bar_T, "a chain that adds no noise has no density at its end; T >= 1")
    proof.conclude(vector=result, component=one)


def _denoising(distance: sp.Expr, of_variance: sp.Expr = variance) -> sp.Expr:
    """The published form for one component, from the squared distance of the means."""
    return (VARIANCE / of_variance - 1 - sp.log(VARIANCE / of_variance) + distance / of_variance) / 2


@derives(
    r"L_{t-1} = \frac d2\left(\frac{\tilde\beta_{t\mid s}}{\sigma_t^2} - 1"
    r" - \log\frac{\tilde\beta_{t\mid s}}{\sigma_t^2}\right)"
    r" + \frac1{2\sigma_t^2}\mathbb E\lVert\tilde\mu - \mu_\theta\rVert^2",
    source="ho2020, eq. (5) and (8)",
)
def loss_denoising(proof: Proof) -> None:
    r"""The divergence of the posterior from the model's step, one component (others add up): the law that is known comes first. It
    is a part that the variance alone decides and a squared distance. Then what training can make of it: the best variance, and
    a share that no model can avoid, because the model is not told the data.
    """
    start(proof)
    proof.assume(r"$p_\theta(x_s\mid x_t) = \mathcal N(\mu_\theta,\ \sigma_t^2)$ with $\sigma_t^2 > 0$; $s \ge 1$.")
    centre, spread = posterior_mean_from_x0().results["mean"], posterior_variance().results["variance"]
    moments = {mean1: centre, variance1: spread, mean2: mean, variance2: variance}
    integrated = expectation(log_density(xs, centre, spread) - log_density(xs, mean, variance), xs, centre, spread)
    result = _denoising((MEAN - mean) ** 2)
    proof.equal(
        r"The log ratio of $q(x_s\mid x_t, x_0)$ to $p_\theta(x_s\mid x_t)$, integrated under the first,",
        integrated,
        result,
        shown=r"L = \tfrac12\left[\frac{\tilde\beta_{t\mid s}}{\sigma_t^2} - 1"
        r" - \log\frac{\tilde\beta_{t\mid s}}{\sigma_t^2} + \frac{(\tilde\mu - \mu_\theta)^2}{\sigma_t^2}\right]",
    )
    proof.equal(
        "is the divergence of two normal laws, posterior first, model second.",
        kl_gaussian_full().results["scalar"].subs(moments, simultaneous=True),
        result,
        shown=r"D_{KL}(\mathcal N(\tilde\mu, \tilde\beta_{t\mid s})\,\Vert\,\mathcal N(\mu_\theta, \sigma_t^2))",
    )
    logs = {mean1: centre, logvar1: sp.log(VARIANCE), mean2: mean, logvar2: log_variance}
    from_log = kl_gaussian_diagonal().results["divergence"].subs(logs, simultaneous=True)
    proof.equal(
        "From the logarithm of the variance:",
        from_log.subs(log_variance, sp.log(variance)),
        result,
        shown=r"\tfrac12\left[\tilde\beta_{t\mid s}e^{-\ell} - 1 + \ell - \log\tilde\beta_{t\mid s}"
        r" + (\tilde\mu - \mu_\theta)^2e^{-\ell}\right],\quad \ell = \log\sigma_t^2",
    )
    proof.say(
        r"The first part is $\tfrac12f(r)$ with $f(r) = r - 1 - \log r$ and $r = \tilde\beta_{t\mid s}/\sigma_t^2$, the second a"
        " square: neither is negative, and both vanish only if mean and variance agree."
    )
    from_x0 = _denoising(WEIGHT_X0**2 * (x0 - x0_hat) ** 2)
    proof.equal(
        r"A model whose mean is $\tilde\mu(x_t, \hat x_0)$ is told apart by its prediction alone; $x_t$ cancels.",
        result.subs(mean, centre.subs(x0, x0_hat)),
        from_x0,
        shown=equation(r"(\tilde\mu - \mu_\theta)^2", WEIGHT_X0**2 * (x0 - x0_hat) ** 2),
    )
    large = SPREAD.subs(ratio, beta_bar_s / beta_bar_t) / 2
    proof.equal(
        r"The variance $\sigma_t^2 = \tilde\beta_{t\mid s}$ costs nothing;",
        from_x0.subs({variance: VARIANCE, x0_hat: x0}),
        sp.S.Zero,
        shown="0",
    )
    proof.equal(
        r"$\sigma_t^2 = \beta_{t\mid s}$ costs, whatever the mean,", from_x0.subs({variance: beta, x0_hat: x0}), large
    )
    _best(proof)
    proof.only_where(beta_bar_t, NO_STEP)
    proof.only_where(beta_bar_s, NO_POSTERIOR)
    proof.only_where(variance, POINT)
    proof.conclude(
        from_mean=result, from_log_variance=from_log, from_x0=from_x0, fixed_large=large, unavoidable=_unavoidable()
    )


def _unavoidable() -> sp.Expr:
    return sp.log(1 + WEIGHT_X0**2 / VARIANCE * x0_variance) / 2


def _best(proof: Proof) -> None:
    """The best variance, and what the best mean and variance leave."""
    averaged = _denoising(WEIGHT_X0**2 * squared_error)
    (best,) = sp.solve(sp.diff(averaged, variance), variance)
    proof.equal(
        "Averaged over data and noise, the derivative by the variance vanishes at one variance only,",
        best,
        VARIANCE + WEIGHT_X0**2 * squared_error,
        shown=r"\sigma_t^2 = \tilde\beta_{t\mid s} + (c^{x_0})^2\,\mathbb E(x_0-\hat x_0)^2",
    )
    rest = averaged.subs(variance, best)
    proof.equal(
        "where the term is",
        rest,
        sp.log(1 + WEIGHT_X0**2 * squared_error / VARIANCE) / 2,
        shown=r"\tfrac12\log\left(1 + \frac{(c^{x_0})^2}{\tilde\beta_{t\mid s}}\mathbb E(x_0-\hat x_0)^2\right)",
    )
    kernel = true_reverse_kernel().results
    to_true = expectation(
        log_density(xs, kernel["mean"], kernel["variance"]) - log_density(xs, mean, variance),
        xs,
        kernel["mean"],
        kernel["variance"],
    )
    # Over the data given x_t of the term: its only polynomial in x_0 is the square of the distance.
    given_xt = sp.Poly(sp.expand(_denoising((MEAN - mean) ** 2)), x0)
    moments = {0: sp.S.One, 1: x0_mean, 2: x0_variance + x0_mean**2}
    over_data = sp.Add(*(c * moments[power] for (power,), c in given_xt.terms()))
    proof.equal(
        r"Given $x_t$ the data are not a point, and the law to be met is $q(x_s\mid x_t)$ (`true_reverse_kernel`; here for data"
        r" that are normal given $x_t$). The average of the term over the data exceeds the divergence of that law from the model"
        " by a number that no model changes:",
        over_data - to_true,
        _unavoidable(),
        shown=r"\mathbb E_{q(x_0\mid x_t)}L - D_{KL}(q(x_s\mid x_t)\,\Vert\,p_\theta(x_s\mid x_t))"
        r" = \tfrac12\log\frac{\mathrm{Var}(x_s\mid x_t)}{\tilde\beta_{t\mid s}}",
    )


@derives(
    r"L_0 = -\mathbb E_{q(x_1\mid x_0)}\log p_\theta(x_0\mid x_1),\quad"
    r" -\log\mathcal N(x_0; \mu, \sigma^2) = \tfrac12\left[\log(2\pi\sigma^2) + \frac{(x_0-\mu)^2}{\sigma^2}\right]",
    source="ho2020, section 3.3",
)
def loss_reconstruction(proof: Proof) -> None:
    r"""The step to the data, for data that have a density; data on a grid have `discretized_gaussian_decoder`. It is the limit of
    the terms of the other steps, up to what of them concerns the posterior alone. A likelihood cannot do without variance:
    with $\tilde\beta_{t\mid 0} = 0$ the term is infinite, upwards or downwards.
    """
    start(proof)
    proof.assume(
        r"$p_\theta(x_0\mid x_t) = \mathcal N(\mu,\ \sigma^2)$, per component; for a chain with all levels $t = 1$."
    )
    result = (sp.log(2 * sp.pi * variance) + (x0 - mean) ** 2 / variance) / 2
    cross = expectation(-log_density(xs, mean, variance), xs, MEAN, VARIANCE)
    entropy = (sp.log(2 * sp.pi * VARIANCE) + 1) / 2
    proof.equal(
        "A term of a step is a cross entropy, less the entropy of the posterior, which holds no letter of the model:",
        cross - entropy,
        _denoising((MEAN - mean) ** 2),
        shown=r"L = \mathbb E_{q(x_s\mid x_t,x_0)}[-\log p_\theta(x_s\mid x_t)]"
        r" - \tfrac12\left[\log(2\pi\tilde\beta_{t\mid s}) + 1\right]",
    )
    proof.equal(
        r"At $s = 0$ the posterior is the point $x_0$, its entropy is gone, and the cross entropy is",
        cross.subs(AT_LEVEL_0),
        result,
        shown=equation(r"-\log p_\theta(x_0\mid x_t)", result),
    )
    proof.equal(r"The mean of the last step is the predicted data:", MEAN.subs(x0, x0_hat).subs(AT_LEVEL_0), x0_hat)
    average = (sp.log(2 * sp.pi * variance) + squared_error / variance) / 2
    (best,) = sp.solve(sp.diff(average, variance), variance)
    least = (sp.log(2 * sp.pi * squared_error) + 1) / 2
    proof.equal("On average it is least at the variance", best, squared_error)
    proof.equal(
        "with the value", average.subs(variance, best), least, shown=equation(r"\min_{\sigma^2}\mathbb E[L_0]", least)
    )
    proof.holds(
        "which has either sign: a density may exceed 1.",
        [least.subs(squared_error, 1) > 0, least.subs(squared_error, sp.Rational(1, 100)) < 0],
        shown=rf"{latex(least.subs(squared_error, 1))} > 0,\quad {latex(least.subs(squared_error, sp.Rational(1, 100)))} < 0",
    )
    proof.equal(
        r"The fixed-small variance is 0 here,", VARIANCE.subs(AT_LEVEL_0), sp.S.Zero, shown=r"\tilde\beta_{t\mid 0} = 0"
    )
    missed = letter("missed", r"\delta", positive=True)
    proof.holds(
        r"and as $\sigma^2 \to 0$ the term grows beyond bounds if the prediction is off by any $\delta$,",
        sp.Eq(sp.limit(result.subs(x0, mean + missed), variance, 0, "+"), sp.oo),
        shown=r"\lim_{\sigma^2\to0}\tfrac12\left[\log(2\pi\sigma^2) + \frac{\delta^2}{\sigma^2}\right] = \infty",
    )
    proof.holds(
        "and falls below all bounds if it is not: neither is a likelihood of data.",
        sp.Eq(sp.limit(result.subs(x0, mean), variance, 0, "+"), -sp.oo),
        shown=r"\lim_{\sigma^2\to0}\tfrac12\log(2\pi\sigma^2) = -\infty",
    )
    proof.only_where(variance, POINT + ", e.g. that of the step before")
    proof.conclude(density=result, least=least)
