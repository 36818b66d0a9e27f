r"""The variance of the reverse kernel: what is best for which data, what is best for none but always allowed.

What is best is said by one number, the mean squared distance of the true ``xs`` from the mean that the model gives.
"""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import complete_square, log_density
from ddpm_ref.symbolic.posterior.chain import AT_LEVEL_0, MARGINAL_T, NO_STEP, VARIANCE, start
from ddpm_ref.symbolic.posterior.kernel import true_reverse_kernel
from ddpm_ref.symbolic.posterior.mean import posterior_mean_coefficients, posterior_variance
from ddpm_ref.symbolic.prediction import x0_from_eps
from ddpm_ref.symbolic.reverse.model import reverse_chain
from ddpm_ref.symbolic.symbols import (
    alpha,
    alpha_bar_s,
    alpha_bar_t,
    beta,
    beta_bar_s,
    beta_bar_t,
    data_variance,
    eps,
    equation,
    fraction,
    gain,
    letter,
    mean,
    noise,
    variance,
    x0,
    x0_variance,
    xs,
    xt,
)  # fmt: skip


def _best_variance(proof: Proof) -> None:
    """Show that the best variance is the mean squared distance of what is drawn from the mean of the model."""
    distance = letter("distance", r"\mathbb E(x_s-\mu_\theta)^2", positive=True)
    away = sp.Dummy("away", real=True)
    by_power = sp.Poly(-log_density(away, 0, variance), away)
    cost = by_power.coeff_monomial(1) + by_power.coeff_monomial(away**2) * distance
    proof.all_vanish(
        r"The log density of a normal model with mean $\mu_\theta$ and variance $\sigma^2$ is a constant and a multiple of"
        r" $(x_s - \mu_\theta)^2$, so that its average knows nothing else of the law of $x_s$, which need not be normal.",
        [log_density(away, 0, variance).diff(away, 3), by_power.coeff_monomial(away)],
        shown=equation(r"-\log p_\theta(x_s\mid x_t)", -log_density(xs, mean, variance)),
    )
    proof.equal(
        "It costs on average",
        cost,
        (sp.log(2 * sp.pi * variance) + distance / variance) / 2,
        shown=_cost(distance),
    )
    (best,) = sp.solve(sp.diff(cost, variance), variance)
    proof.equal(
        "Its derivative vanishes at one variance only, the mean squared distance,",
        best,
        distance,
        shown=equation(r"\sigma^2", distance),
    )
    curvature = sp.diff(cost, variance, 2).subs(variance, distance)
    proof.equal("where it curves upwards: that is the best variance.", curvature, 1 / (2 * distance**2))


def _cost(distance: sp.Symbol) -> str:
    return equation(r"\mathbb E[-\log p_\theta(x_s\mid x_t)]", (sp.log(2 * sp.pi * variance) + distance / variance) / 2)


@derives(r"\sigma_t^2 = \tilde\beta_{t\mid s}", source="ho2020, section 3.2")
def variance_fixed_small(proof: Proof) -> None:
    """The variance that is best when the data are one point, and the smallest that is ever best."""
    start(proof)
    _best_variance(proof)
    kernel = true_reverse_kernel().results["variance"]
    proof.equal(
        r"With the best mean the distance is the variance of the true kernel, averaged over $x_t$. Data in one point leave"
        r" nothing open, $\mathrm{Var}(x_0\mid x_t) = 0$, and it is",
        kernel.subs(x0_variance, 0),
        VARIANCE,
    )
    more = kernel - VARIANCE
    proof.equal(
        "Other data only add to it:", more, posterior_mean_coefficients().results["x0_weight"] ** 2 * x0_variance
    )
    proof.holds(
        "so it is a lower bound for all data.",
        sp.factor(more) >= 0,
        shown=r"\tilde\beta_{t\mid s} \le \sigma_t^{*2}",
    )
    proof.equal(
        "On the step to level 0 it is 0: right for a sample, impossible in a likelihood.",
        VARIANCE.subs(AT_LEVEL_0),
        sp.S.Zero,
        shown=r"\tilde\beta_{t\mid 0} = 0",
    )
    proof.only_where(beta_bar_t, NO_STEP)
    proof.conclude(variance=posterior_variance().results["variance"])


@derives(r"\sigma_t^2 = \beta_{t\mid s}", source="ho2020, section 3.2")
def variance_fixed_large(proof: Proof) -> None:
    """The variance that is best for normal data of unit variance."""
    start(proof)
    _best_variance(proof)
    proof.assume(r"$x_0 \sim \mathcal N(0, I)$, for which every $x_s$ has the same law.")
    unit = {data_variance: 1}
    given_xt = complete_square(MARGINAL_T - x0**2 / (2 * data_variance), x0).variance.subs(unit)
    proof.equal(r"The data given $x_t$ have the variance", given_xt, beta_bar_t)
    proof.equal("and the true kernel", true_reverse_kernel().results["variance"].subs(x0_variance, given_xt), beta)
    directly = complete_square(-((xt - sp.sqrt(alpha) * xs) ** 2) / (2 * beta) - xs**2 / 2, xs)
    proof.equal(
        r"as Bayes' rule for $q(x_t\mid x_s)$ and $q(x_s) = \mathcal N(0, 1)$ says directly,", directly.variance, beta
    )
    proof.equal(r"with the mean", directly.mean, sp.sqrt(alpha) * xt)
    chain = reverse_chain().results["variance"]
    kept = chain.subs({gain: sp.sqrt(alpha), variance: beta})
    proof.equal(
        "A chain of these steps keeps unit variance at every level,",
        kept.subs(letter("variance_t", "v_t", positive=True), 1),
        sp.S.One,
        shown=r"\alpha_{t\mid s}\cdot 1 + \beta_{t\mid s} = 1",
    )
    proof.equal(
        "The two fixed variances differ by a factor that tends to 1 where both levels are noise.",
        beta / VARIANCE,
        beta_bar_t / beta_bar_s,
        shown=r"\frac{\beta_{t\mid s}}{\tilde\beta_{t\mid s}} = \frac{\bar\beta_t}{\bar\beta_s}",
    )
    proof.conclude(variance=beta)


@derives(
    r"(\tilde\beta_2,\ \beta_2,\ \beta_3,\ \dots,\ \beta_T)",
    source="ho2020 and nichol2021, code",
)
def variance_fixed_large_first_entry(proof: Proof) -> None:
    r"""The table of fixed-large log-variances as the original code has it: only its first entry differs, and no sample sees it.
    The result `log_variance` is the entry of a step to $s \ge 1$; the entry of the step to level 0 is `borrowed` of the step
    before it on the chain ($2 \to 1$ where all levels are visited).
    """
    start(proof)
    proof.assume("The last step of a sampler, to level 0, adds no noise (algorithm 2, line 3).")
    switch = letter("switch", r"[s \ge 1]", nonnegative=True)
    draw = mean + switch * sp.sqrt(variance) * noise
    proof.say(r"A draw with the switch of algorithm 2, 1 for $s \ge 1$ and 0 for $s = 0$:", equation("x_s", draw))
    proof.equal(
        r"At $s = 0$ it does not depend on the variance, so that a sample is the same for every first entry.",
        sp.diff(draw, variance).subs(switch, 0),
        sp.S.Zero,
        shown=r"\frac{\partial x_0}{\partial\sigma_1^2} = 0",
    )
    proof.say(
        "What the entry does set is the width of the decoder in a likelihood, so it must be positive and of the right size."
    )
    entry = posterior_variance().results["variance"]
    first, second = letter("beta_1", r"\beta_1", positive=True), letter("beta_2", r"\beta_2", positive=True)
    borrowed = entry.subs({beta: second, beta_bar_s: first, beta_bar_t: 1 - (1 - first) * (1 - second)})
    proof.equal(
        r"The posterior variance of the step $2 \to 1$, by $\bar\beta_1 = \beta_1$ and $\bar\beta_2 = \beta_1 + \beta_2 -"
        r" \beta_1\beta_2$, is symmetric in the first two betas,",
        borrowed,
        1 / (1 / first + 1 / second - 1),
        shown=equation(r"\tilde\beta_2", 1 / (1 / first + 1 / second - 1)),
    )
    other = letter("alpha_1", r"\alpha_1", positive=True)
    proof.equal(
        r"and smaller than $\beta_1$, the entry it replaces, by a product of positive numbers ($\alpha_1 = 1 - \beta_1$):",
        (first - borrowed).subs(first, 1 - other),
        (1 - other) ** 2 * (1 - second) / (1 - other * (1 - second)),
        shown=r"\beta_1 - \tilde\beta_2 = \frac{\beta_1^2\,(1-\beta_2)}{1 - \alpha_1\alpha_2}",
    )
    proof.only_where(
        beta_bar_s, "at s = 0 the entry is the `borrowed` one of the step before; ask at that step, e.g. t = 2, s = 1"
    )
    proof.conclude(log_variance=sp.log(beta), borrowed=sp.log(entry))


@derives(
    r"\tilde\beta_{t\mid s} \le \sigma_t^{*2} \le \tilde\beta_{t\mid s} + (c^{x_0})^2\,\frac{\bar\beta_t}{\bar\alpha_t}"
    r" = \frac{\beta_{t\mid s}}{\alpha_{t\mid s}}",
    source="bao2022, theorem 2, eq. (11)",
)
def optimal_variance_bracket(proof: Proof) -> None:
    r"""The best variance, whatever the data: the posterior's, plus what $x_t$ leaves open about the data. That is at least 0, and
    at most what it would be if $x_t$ said nothing about its own noise.
    """
    start(proof)
    proof.assume("The mean of the model is the true one; the data have any law with finite variance.")
    _best_variance(proof)
    kernel = true_reverse_kernel().results["variance"]
    proof.say(
        r"The mean squared distance is the average over $x_t$ of the variance of the true kernel, i.e. that with"
        r" $\mathbb E\,\mathrm{Var}(x_0\mid x_t)$ in the place of $\mathrm{Var}(x_0\mid x_t)$. Lower bound: the data can be known,"
    )
    proof.equal("which leaves", kernel.subs(x0_variance, 0), VARIANCE)
    slope = sp.diff(x0_from_eps().results["x0"], eps)
    open_noise = letter("open_noise", r"\mathbb E\,\mathrm{Var}(\varepsilon\mid x_t)", nonnegative=True)
    energy = letter("noise_energy", r"\mathbb E(\mathbb E[\varepsilon\mid x_t])^2", nonnegative=True)
    proof.equal(
        r"Upper bound: given $x_t$ the data are an affine function of the noise, so their variance is that of the noise times",
        slope**2,
        beta_bar_t / alpha_bar_t,
    )
    (spread,) = sp.solve(sp.Eq(open_noise + energy, 1), open_noise)
    proof.equal(
        r"The noise has variance 1 and mean 0; by the law of total variance $1 = \mathbb E\,\mathrm{Var}(\varepsilon\mid x_t) +"
        r" \mathbb E(\mathbb E[\varepsilon\mid x_t])^2$, so",
        spread,
        1 - energy,
        shown=equation(r"\mathbb E\,\mathrm{Var}(\varepsilon\mid x_t)", 1 - energy),
    )
    best = kernel.subs(x0_variance, slope**2 * spread)
    upper = best.subs(energy, 0)
    proof.equal(
        "With both, the best variance is",
        best,
        VARIANCE + alpha_bar_s * beta**2 / (beta_bar_t * alpha_bar_t) * (1 - energy),
        shown=r"\sigma_t^{*2} = \tilde\beta_{t\mid s}"
        r" + (c^{x_0})^2\frac{\bar\beta_t}{\bar\alpha_t}\left(1 - \mathbb E(\mathbb E[\varepsilon\mid x_t])^2\right)",
    )
    proof.holds(
        "which falls as the square in it, never negative, grows:",
        -sp.diff(best, energy) > 0,
        shown=r"\sigma_t^{*2} \le \left.\sigma_t^{*2}\right|_{\mathbb E[\varepsilon\mid x_t] = 0}",
    )
    proof.equal("so it is at most its value at 0, which has a closed form:", upper, beta / alpha)
    unit = kernel.subs(x0_variance, beta_bar_t)
    proof.equal(r"Check: unit normal data leave $\mathrm{Var}(x_0\mid x_t) = \bar\beta_t$ and need", unit, beta)
    above, below = beta**2 * alpha_bar_s / beta_bar_t, beta**2 / alpha
    proof.equal("above the lower bound by", unit - VARIANCE, above)
    proof.equal("and below the upper one by", beta / alpha - unit, below)
    proof.holds(
        "both positive: inside the bracket.",
        [above > 0, below > 0],
        shown=r"\tilde\beta_{t\mid s} < \beta_{t\mid s} < \beta_{t\mid s}/\alpha_{t\mid s}",
    )
    proof.only_where(beta_bar_t, NO_STEP)
    proof.only_where(alpha_bar_t, "where alpha_bar_t = 0 (zero terminal SNR) the upper bound is infinite")
    proof.conclude(lower=VARIANCE, upper=beta / alpha)


@derives(
    r"\Sigma_\theta = \exp\left(\nu\log\beta_{t\mid s} + (1-\nu)\log\tilde\beta_{t\mid s}\right),\quad \nu \in [0, 1]",
    source="nichol2021, eq. (15)",
)
def learned_variance_interpolation(proof: Proof) -> None:
    r"""A network chooses between the two fixed variances, on the scale of their logarithms; $\nu$ is its output (v in the paper,
    which here is another letter), per component.
    """
    start(proof)
    small, large = posterior_variance().results["variance"], variance_fixed_large().results["variance"]
    result = sp.exp(fraction * sp.log(large) + (1 - fraction) * sp.log(small))
    proof.say("The interpolation,", equation(r"\Sigma_\theta", result))
    proof.equal(r"gives at $\nu = 0$ the fixed-small", result.subs(fraction, 0), small)
    proof.equal(r"and at $\nu = 1$ the fixed-large variance.", result.subs(fraction, 1), large)
    slope = sp.diff(sp.log(result), fraction)
    proof.equal(r"Its logarithm has the slope", slope, sp.log(beta_bar_t / beta_bar_s))
    excess = beta * alpha_bar_s / beta_bar_s
    proof.equal("The ratio in it is greater than 1 by", beta_bar_t / beta_bar_s - 1, excess)
    proof.holds(
        r"hence the slope is positive: the larger $\nu$, the larger the variance, which stays between the two.",
        [excess > 0, sp.log(1 + sp.Dummy("excess", positive=True)) > 0],
        shown=r"\tilde\beta_{t\mid s} \le \Sigma_\theta \le \beta_{t\mid s}",
    )
    geometric = letter("power", r"\nu", nonnegative=True)
    proof.equal(
        "It is a power of that ratio times the smaller one.",
        sp.log(result),
        sp.log(small) + fraction * (sp.log(beta_bar_t) - sp.log(beta_bar_s)),
        shown=equation(r"\Sigma_\theta", VARIANCE * (beta_bar_t / beta_bar_s) ** geometric),
    )
    proof.only_where(beta_bar_t, NO_STEP)
    proof.only_where(
        beta_bar_s, "at s = 0 the smaller variance is 0 and its logarithm infinite; put in the entry of the step before"
    )
    # 1 - sign(x) is positive where x <= 0: the ends belong to the domain.
    proof.only_where(
        1 - sp.sign(fraction - 1), "the fraction nu lies between 0 and 1; beyond, it does not lie between the two"
    )
    proof.conclude(variance=result)
