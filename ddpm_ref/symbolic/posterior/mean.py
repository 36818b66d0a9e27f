r"""Mean and variance of the posterior of the forward process, :math:`q(x_s\mid x_t, x_0)` for ``s < t``.

Found by conditioning the joint normal law of two levels, and so independently of the two ways through the density in
`ddpm_ref.symbolic.posterior.density`. What becomes of it when the data are not given is in
`ddpm_ref.symbolic.posterior.kernel`.
"""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic import plane
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import complete_square
from ddpm_ref.symbolic.posterior.chain import (
    AT_LEVEL_0,
    MARGINAL_S,
    MEAN,
    NO_STEP,
    STEP,
    VARIANCE,
    WEIGHT_X0,
    WEIGHT_XT,
    start,
)  # fmt: skip
from ddpm_ref.symbolic.symbols import (
    alpha,
    alpha_bar_s,
    alpha_bar_t,
    beta,
    beta_bar_s,
    beta_bar_t,
    eps,
    equation,
    letter,
    noise,
    x0,
    xs,
    xt,
)  # fmt: skip


@derives(
    r"\tilde\mu(x_t,x_0) = \frac{\sqrt{\alpha_{t\mid s}}\,\bar\beta_s}{\bar\beta_t}x_t"
    r" + \frac{\sqrt{\bar\alpha_s}\,\beta_{t\mid s}}{\bar\beta_t}x_0",
    source="ho2020, eq. (7)",
)
def posterior_mean_from_x0(proof: Proof) -> None:
    r"""The third way, without a density: given $x_0$ the two levels are jointly normal, and conditioning one on the other
    takes off the part that is correlated.
    """
    start(proof)
    level_s = sp.sqrt(alpha_bar_s) * x0 + sp.sqrt(beta_bar_s) * eps
    level_t = sp.sqrt(alpha) * level_s + sp.sqrt(beta) * noise
    proof.say(r"Write the two levels with independent standard normal $\varepsilon$ and $z$:")
    proof.say(r"$x_s$ is", level_s)
    proof.say(r"and $x_t = \sqrt{\alpha_{t\mid s}}\,x_s + \sqrt{\beta_{t\mid s}}\,z$.")

    def mean_of(f: sp.Expr) -> sp.Expr:
        return plane.standard_expectation(f, sp.Matrix([eps, noise]))

    mean_s, mean_t = mean_of(level_s), mean_of(level_t)
    var_s, var_t = mean_of((level_s - mean_s) ** 2), mean_of((level_t - mean_t) ** 2)
    covariance = mean_of((level_s - mean_s) * (level_t - mean_t))
    proof.equal(r"The mean of $x_t$ is", mean_t, sp.sqrt(alpha_bar_t) * x0)
    proof.equal("its variance", var_t, beta_bar_t)
    proof.equal(r"and its covariance with $x_s$", covariance, sp.sqrt(alpha) * beta_bar_s)
    gain = sp.sqrt(alpha) * beta_bar_s / beta_bar_t
    proof.equal(
        r"With $k = \mathrm{Cov}(x_s,x_t)/\mathrm{Var}(x_t)$ the rest $x_s - kx_t$ is uncorrelated with $x_t$,",
        mean_of((level_s - mean_s - gain * (level_t - mean_t)) * (level_t - mean_t)),
        sp.S.Zero,
        shown=r"\mathrm{Cov}(x_s - kx_t,\ x_t) = 0",
    )
    proof.say("hence, all being jointly normal, independent of it: knowing $x_t$ does not change it.")
    proof.equal(
        r"So $\mathbb E[x_s\mid x_t,x_0] = \mathbb E[x_s] + k\,(x_t - \mathbb E[x_t])$,",
        mean_s + gain * (xt - mean_t),
        MEAN,
    )
    proof.equal(
        r"and the variance is that of the rest, $\mathrm{Var}(x_s) - k\,\mathrm{Cov}(x_s,x_t)$,",
        var_s - gain * covariance,
        VARIANCE,
    )
    proof.equal(r"Averaged over $x_t$ it is the mean of $x_s$,", MEAN.subs(xt, mean_t), sp.sqrt(alpha_bar_s) * x0)
    proof.equal(
        "and spread and variance add up to the variance at $s$.", WEIGHT_XT**2 * beta_bar_t + VARIANCE, beta_bar_s
    )
    proof.equal("At $s = 0$ it is the data.", MEAN.subs(AT_LEVEL_0), x0)
    proof.only_where(beta_bar_t, NO_STEP)
    proof.conclude(mean=MEAN)


@derives(
    r"c^{x_0} = \frac{\sqrt{\bar\alpha_s}\,\beta_{t\mid s}}{\bar\beta_t},\quad"
    r" c^{x_t} = \frac{\sqrt{\alpha_{t\mid s}}\,\bar\beta_s}{\bar\beta_t}",
    source="ho2020, eq. (7)",
)
def posterior_mean_coefficients(proof: Proof) -> None:
    """The two tables a program keeps: what the mean changes by per unit of the data and of the noisy data."""
    start(proof)
    posterior_mean = posterior_mean_from_x0().results["mean"]
    from_x0, from_xt = sp.diff(posterior_mean, x0), sp.diff(posterior_mean, xt)
    proof.equal(r"The mean is linear. Per unit of $x_0$ it changes by", from_x0, WEIGHT_X0)
    proof.equal(r"and per unit of $x_t$ by", from_xt, WEIGHT_XT)
    proof.equal(
        "There is no other term:",
        posterior_mean,
        from_x0 * x0 + from_xt * xt,
        shown=r"\tilde\mu = c^{x_0}x_0 + c^{x_t}x_t",
    )
    proof.equal(r"On the step to level 0 the data have weight", from_x0.subs(AT_LEVEL_0), sp.S.One)
    proof.equal(r"and the noisy data", from_xt.subs(AT_LEVEL_0), sp.S.Zero, shown="c^{x_t} = 0")
    proof.equal(
        "The weights add up to",
        from_x0 + from_xt,
        (sp.sqrt(alpha) + sp.sqrt(alpha_bar_s)) / (1 + sp.sqrt(alpha_bar_t)),
    )
    missing = (1 - sp.sqrt(alpha)) * (1 - sp.sqrt(alpha_bar_s)) / (1 + sp.sqrt(alpha_bar_t))
    proof.equal("which falls short of 1 by", 1 - from_x0 - from_xt, missing)
    nonnegative = beta * beta_bar_s / ((1 + sp.sqrt(alpha)) * (1 + sp.sqrt(alpha_bar_s)) * (1 + sp.sqrt(alpha_bar_t)))
    proof.equal("that is, by", missing, nonnegative)
    proof.holds(
        "Neither weight nor what they fall short by is negative, so their sum is at most 1 (and is 1 at $s = 0$).",
        [part >= 0 for part in (from_x0, from_xt, nonnegative)],
        shown=r"0 \le c^{x_0} + c^{x_t} \le 1",
    )
    proof.only_where(beta_bar_t, NO_STEP)
    proof.conclude(x0_weight=WEIGHT_X0, xt_weight=WEIGHT_XT)


@derives(
    r"\tilde\beta_{t\mid s} = \frac{\bar\beta_s}{\bar\beta_t}\,\beta_{t\mid s},\quad"
    r" \frac1{\tilde\beta_{t\mid s}} = \frac{\alpha_{t\mid s}}{\beta_{t\mid s}} + \frac1{\bar\beta_s}",
    source="ho2020, eq. (7)",
)
def posterior_variance(proof: Proof) -> None:
    r"""Precisions add: what $x_0$ says about $x_s$ from below and what $x_t$ says from above. The result is a
    variance, smaller than either, and does not depend on the data.
    """
    start(proof)
    square = complete_square(STEP + MARGINAL_S, xs)
    precision = -sp.diff(STEP, xs, 2) - sp.diff(MARGINAL_S, xs, 2)
    proof.equal("The curvature of the exponent is the sum of two precisions,", precision, alpha / beta + 1 / beta_bar_s)
    proof.equal("whose inverse is", 1 / precision, square.variance)
    proof.equal("Its denominator is the noise at $t$,", alpha * beta_bar_s + beta, beta_bar_t)
    proof.equal("so that the variance is", square.variance, VARIANCE)
    proof.all_vanish(
        "No data occur in it.",
        [square.variance.diff(x0), square.variance.diff(xt)],
        shown=r"\partial\tilde\beta/\partial x_0 = \partial\tilde\beta/\partial x_t = 0",
    )
    below_beta = beta**2 * alpha_bar_s / beta_bar_t
    below_marginal = alpha * beta_bar_s**2 / beta_bar_t
    proof.equal("It falls short of the variance of the step by", beta - VARIANCE, below_beta)
    proof.equal(r"and of the marginal variance at $s$ by", beta_bar_s - VARIANCE, below_marginal)
    proof.holds(
        "neither of which is negative.",
        [below_beta >= 0, below_marginal >= 0, VARIANCE >= 0],
        shown=r"0 \le \tilde\beta_{t\mid s} \le \min(\beta_{t\mid s},\ \bar\beta_s)",
    )
    proof.equal("On the step to level 0 it is", VARIANCE.subs(AT_LEVEL_0), sp.S.Zero, shown=r"\tilde\beta_{t\mid0} = 0")
    proof.equal(
        "and only there, being a product of three factors of which only the noise at $s$ can vanish.",
        VARIANCE / beta_bar_s,
        beta / beta_bar_t,
        shown=r"\tilde\beta_{t\mid s} = \bar\beta_s\cdot\frac{\beta_{t\mid s}}{\bar\beta_t}",
    )
    proof.only_where(beta_bar_t, NO_STEP)
    proof.conclude(variance=VARIANCE)


@derives(
    r"\tilde\mu = \frac1{\sqrt{\alpha_{t\mid s}}}\left(x_t - \frac{\beta_{t\mid s}}{\sqrt{\bar\beta_t}}\,\varepsilon\right)",
    source="ho2020, eq. (10)-(11)",
)
def posterior_mean_from_eps(proof: Proof) -> None:
    r"""The same mean with the data expressed by the aggregate noise $\varepsilon$ of $x_t$, which is not the noise
    of the step.
    """
    start(proof)
    (data,) = sp.solve(sp.Eq(xt, sp.sqrt(alpha_bar_t) * x0 + sp.sqrt(beta_bar_t) * eps), x0)
    proof.equal(
        r"From $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{\bar\beta_t}\,\varepsilon$ follows $x_0$ as",
        data,
        (xt - sp.sqrt(beta_bar_t) * eps) / sp.sqrt(alpha_bar_t),
    )
    substituted = posterior_mean_from_x0().results["mean"].subs(x0, data)
    collected = sp.Poly(sp.expand(substituted), xt, eps)
    from_xt, from_eps = collected.coeff_monomial(xt), collected.coeff_monomial(eps)
    proof.equal(
        r"Put into the mean, $x_t$ has the coefficient (by $\alpha_{t\mid s}\bar\beta_s + \beta_{t\mid s} = \bar\beta_t$)",
        from_xt,
        1 / sp.sqrt(alpha),
    )
    proof.equal("and the noise", from_eps, -beta / (sp.sqrt(alpha) * sp.sqrt(beta_bar_t)))
    result = (xt - beta / sp.sqrt(beta_bar_t) * eps) / sp.sqrt(alpha)
    proof.equal("Together", from_xt * xt + from_eps * eps, result, shown=equation(r"\tilde\mu", result))
    proof.equal(
        "At $s = 0$ it is the data again.",
        result.subs(AT_LEVEL_0),
        data.subs(AT_LEVEL_0),
        shown=r"\left.\tilde\mu\right|_{s=0} = x_0",
    )
    proof.only_where(beta_bar_t, NO_STEP)
    proof.only_where(
        alpha_bar_t, "where alpha_bar_t = 0 (zero terminal SNR) the noise does not determine the data; use x_0"
    )
    proof.conclude(mean=result)


@derives(
    r"\text{(a) } \log\tilde\beta_{\max(t,2)},\quad \text{(b) } \log\max(\tilde\beta_t, 10^{-20})",
    source="ho2020 and nichol2021, code",
)
def posterior_log_variance_clipped(proof: Proof) -> None:
    r"""The logarithm is finite on every step but the one to level 0, where two conventions are in use: (a) take the entry of the
    step before it on the chain, which is $2 \to 1$ where all levels are visited, and (b) clamp the variance at $10^{-20}$.
    The result `log_variance` is the logarithm as it is ($-\infty$ at $s = 0$); convention (a) is its value at the step
    before.
    """
    start(proof)
    variance = posterior_variance().results["variance"]
    proof.holds(
        r"For $s \ge 1$ all three factors are positive, and the logarithm is finite,",
        variance > 0,
        shown=r"\tilde\beta_{t\mid s} > 0",
    )
    proof.equal(
        "being the sum of",
        sp.log(variance),
        sp.log(beta) + sp.log(beta_bar_s) - sp.log(beta_bar_t),
        shown=equation(r"\log\tilde\beta_{t\mid s}", sp.log(beta) + sp.log(beta_bar_s) - sp.log(beta_bar_t)),
    )
    proof.holds(
        "It falls below every bound as the noise at $s$ vanishes.",
        sp.Eq(sp.limit(sp.log(variance), beta_bar_s, 0, "+"), -sp.oo),
        shown=r"\lim_{\bar\beta_s \to 0}\log\tilde\beta_{t\mid s} = -\infty",
    )
    first, second = letter("beta_1", r"\beta_1", positive=True), letter("beta_2", r"\beta_2", positive=True)
    step_2_to_1 = {beta: second, beta_bar_s: first, beta_bar_t: 1 - (1 - first) * (1 - second)}
    proof.equal(
        r"(a) The step $2 \to 1$ has $\bar\beta_1 = \beta_1$ and $\bar\beta_2 = 1 - (1-\beta_1)(1-\beta_2)$: the entry that"
        " is borrowed is the logarithm of",
        variance.subs(step_2_to_1),
        first * second / (first + second - first * second),
        shown=equation(r"\tilde\beta_2", first * second / (first + second - first * second)),
    )
    floor, above = sp.Rational(1, 10**20), sp.Dummy("above", positive=True)
    proof.equal(
        "(b) Clamped, the entry of the step to level 0 is",
        sp.log(sp.Max(variance.subs(AT_LEVEL_0), floor)),
        -20 * sp.log(10),
        shown=r"\log\max(0, 10^{-20}) = -20\log 10",
    )
    proof.equal(
        r"and wherever the variance is at least $10^{-20}$ nothing is changed, so that there both conventions agree.",
        sp.Max(floor + above, floor),
        floor + above,
        shown=r"\tilde\beta \ge 10^{-20} \implies \max(\tilde\beta, 10^{-20}) = \tilde\beta",
    )
    proof.say("Only (a) is the width of anything: a likelihood with the variance of (b) rewards nothing but exactness.")
    proof.only_where(beta_bar_t, NO_STEP)
    proof.conclude(log_variance=sp.log(variance), floored=sp.log(sp.Max(variance, floor)))
