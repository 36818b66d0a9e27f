r"""What becomes of the posterior when the data are not given: the true reverse kernel :math:`q(x_s\mid x_t)`.

It is the posterior averaged over the data that :math:`x_t` leaves possible; its first two moments need only theirs.
"""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic import plane
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import complete_square, expectation
from ddpm_ref.symbolic.posterior.chain import (
    AT_LEVEL_0,
    MARGINAL_T,
    MEAN,
    NO_STEP,
    VARIANCE,
    WEIGHT_X0,
    WEIGHT_XT,
    start,
)  # fmt: skip
from ddpm_ref.symbolic.posterior.mean import posterior_mean_from_x0, posterior_variance
from ddpm_ref.symbolic.symbols import (
    alpha_bar_s,
    alpha_bar_t,
    beta,
    beta_bar_s,
    beta_bar_t,
    data_mean,
    data_variance,
    x0,
    x0_hat,
    x0_mean,
    x0_variance,
    xs,
)  # fmt: skip


def over_data(f: sp.Expr) -> sp.Expr:
    r"""Expectation given ``xt`` of a polynomial of second degree in ``x0``: two moments determine it, whatever the law."""
    moments = {0: sp.S.One, 1: x0_mean, 2: x0_variance + x0_mean**2}
    return sp.Add(*(c * moments[power] for (power,), c in sp.Poly(sp.expand(f), x0).terms()))


@derives(
    r"q(x_s\mid x_t) = \int q(x_s\mid x_t,x_0)\,q(x_0\mid x_t)\,dx_0,\quad"
    r" \mathbb E[x_s\mid x_t] = \tilde\mu(x_t, \mathbb E[x_0\mid x_t]),\quad"
    r" \mathrm{Cov}(x_s\mid x_t) = \tilde\beta_{t\mid s}I + (c^{x_0})^2\,\mathrm{Cov}(x_0\mid x_t)",
    source="law of total probability; bao2022, theorem 1, proof",
)
def true_reverse_kernel(proof: Proof) -> None:
    r"""The posterior is averaged over $q(x_0\mid x_t)$, of which nothing is assumed but two moments: total expectation and total
    variance, then the covariance of two components. Normal data, for which the integral can be done in full, give the two
    variances that are used in practice as special cases.
    """
    start(proof)
    proof.assume(r"$q(x_0\mid x_t)$ has a mean and a variance; it need not be normal.")
    inner = posterior_mean_from_x0().results["mean"]
    spread = posterior_variance().results["variance"]
    expected = over_data(inner)
    proof.equal(
        r"The mean of $x_s$ is the average of $\tilde\mu$, which is linear in $x_0$:", expected, MEAN.subs(x0, x0_mean)
    )
    second = expectation(xs**2, xs, inner, spread)
    proof.equal(
        r"Given $x_0$ as well, the second moment is, by integration,",
        second,
        spread + inner**2,
        shown=r"\mathbb E[x_s^2\mid x_t, x_0] = \tilde\beta_{t\mid s} + \tilde\mu^2",
    )
    result = VARIANCE + WEIGHT_X0**2 * x0_variance
    proof.equal(
        "Averaged, and less the square of the mean, it leaves the variance (law of total variance)",
        over_data(second) - expected**2,
        result,
        shown=r"\mathrm{Var}(x_s\mid x_t) = \tilde\beta_{t\mid s} + (c^{x_0})^2\,\mathrm{Var}(x_0\mid x_t)",
    )
    proof.equal(
        r"The covariance of $x_0$ and $x_s$ given $x_t$ is not 0: the condition on $x_0$ cannot be dropped.",
        over_data(x0 * inner) - x0_mean * expected,
        WEIGHT_X0 * x0_variance,
        shown=r"\mathrm{Cov}(x_0, x_s\mid x_t) = c^{x_0}\,\mathrm{Var}(x_0\mid x_t)",
    )
    _two_components(proof)

    proof.say(r"Normal data, $x_0 \sim \mathcal N(m, \tau^2)$, with $V_t = \bar\alpha_t\tau^2 + \bar\beta_t$:")
    data = complete_square(MARGINAL_T - (x0 - data_mean) ** 2 / (2 * data_variance), x0)
    marginal_s, marginal_t = alpha_bar_s * data_variance + beta_bar_s, alpha_bar_t * data_variance + beta_bar_t
    proof.equal(
        r"by completing the square in $q(x_t\mid x_0)\,q(x_0)$ the data given $x_t$ have the variance",
        data.variance,
        data_variance * beta_bar_t / marginal_t,
    )
    joint = -((xs - inner) ** 2) / (2 * spread) - (x0 - x0_mean) ** 2 / (2 * x0_variance)
    integrated = complete_square(complete_square(joint, x0).constant, xs)
    proof.say(
        r"The integral over $x_0$ of the two normal densities has in its exponent a square in $x_s$. Nothing is left over,"
    )
    proof.equal("so that the kernel is normal,", integrated.constant, sp.S.Zero, shown="C = 0")
    proof.equal(r"its centre is $\mathbb E[x_s\mid x_t]$,", integrated.mean, expected)
    proof.equal("and its variance is the one found above.", integrated.variance, result)
    kernel = result.subs(x0_variance, data.variance)
    proof.equal("With the variance of normal data put in it is", kernel, beta * marginal_s / marginal_t)
    proof.equal("For data of unit variance that is the variance of the step,", kernel.subs(data_variance, 1), beta)
    proof.equal("and for data in one point that of the posterior.", kernel.subs(data_variance, 0), VARIANCE)
    proof.only_where(beta_bar_t, NO_STEP)
    proof.conclude(mean=MEAN.subs(x0, x0_mean), variance=result)


def _two_components(proof: Proof) -> None:
    """Entries of the covariance: those off the diagonal have no posterior variance, because its noise is independent."""
    data, noisy = plane.vector("x0", "x_{0,#}"), plane.vector("xt", "x_{t,#}")
    centre, spread = plane.vector("m", "m_{#}"), plane.symmetric("C", "C_{#}")
    components = WEIGHT_X0 * data + WEIGHT_XT * noisy
    product = sp.Poly(sp.expand(components[0] * components[1]), *data)
    moments = {
        (0, 0): sp.S.One,
        (1, 0): centre[0],
        (0, 1): centre[1],
        (1, 1): spread[0, 1] + centre[0] * centre[1],
    }
    averaged = sp.Add(*(c * moments[powers] for powers, c in product.terms()))
    means = WEIGHT_X0 * centre + WEIGHT_XT * noisy
    proof.equal(
        r"Two components: given $x_0$ and $x_t$ they are independent, so that the mean of their product is the product of the"
        r" means; averaged over data with mean $m$ and covariance $C$ this leaves off the diagonal",
        averaged - means[0] * means[1],
        WEIGHT_X0**2 * spread[0, 1],
        shown=r"\mathrm{Cov}(x_{s,1}, x_{s,2}\mid x_t) = (c^{x_0})^2\,C_{21}",
    )


@derives(
    r"q(x_s\mid x_t) \approx q(x_s\mid x_t, x_0 = \hat x_0(x_t))",
    source="ho2020, section 3.2; song2020ddim, eq. (10)",
)
def plug_in_reverse_approximation(proof: Proof) -> None:
    r"""What every sampler does: the posterior, with a prediction in the place of the data. Its error against the true kernel is
    written down: none in the mean for the best prediction, and a variance that is never too large.
    """
    start(proof)
    proof.assume(r"$\hat x_0$ is a function of $x_t$, and $q(x_0\mid x_t)$ has a mean and a variance.")
    true = true_reverse_kernel().results
    plugged = posterior_mean_from_x0().results["mean"].subs(x0, x0_hat)
    proof.equal(
        "The mean of the true kernel less that of the approximation is",
        true["mean"] - plugged,
        WEIGHT_X0 * (x0_mean - x0_hat),
    )
    proof.equal(
        r"which vanishes for $\hat x_0 = \mathbb E[x_0\mid x_t]$.",
        (true["mean"] - plugged).subs(x0_hat, x0_mean),
        sp.S.Zero,
        shown=r"\mathbb E[x_s\mid x_t] = \tilde\mu(x_t, \mathbb E[x_0\mid x_t])",
    )
    missing = WEIGHT_X0**2 * x0_variance
    proof.equal("The variances differ by the spread of the data,", true["variance"] - VARIANCE, missing)
    proof.holds(
        "which is not negative: the approximation is never too wide,",
        missing >= 0,
        shown=r"\tilde\beta_{t\mid s} \le \mathrm{Var}(x_s\mid x_t)",
    )
    proof.equal(
        r"and it is exact where $x_t$ determines the data.",
        true["variance"].subs(x0_variance, 0),
        VARIANCE,
        shown=r"\mathrm{Var}(x_0\mid x_t) = 0 \implies \mathrm{Var}(x_s\mid x_t) = \tilde\beta_{t\mid s}",
    )
    second = over_data(expectation((xs - plugged) ** 2, xs, posterior_mean_from_x0().results["mean"], VARIANCE))
    proof.equal(
        "The mean squared distance of the true $x_s$ from the mean of the approximation is the sum of all three:",
        second,
        VARIANCE + missing + WEIGHT_X0**2 * (x0_mean - x0_hat) ** 2,
        shown=r"\tilde\beta_{t\mid s} + (c^{x_0})^2\left(\mathrm{Var}(x_0\mid x_t)"
        r" + (\mathbb E[x_0\mid x_t] - \hat x_0)^2\right)",
    )
    proof.equal(
        "On the step to level 0 nothing but the prediction is left.",
        plugged.subs(AT_LEVEL_0),
        x0_hat,
        shown=r"\tilde\mu = \hat x_0",
    )
    proof.only_where(beta_bar_t, NO_STEP)
    proof.conclude(mean=plugged, variance=VARIANCE, missing_variance=missing)
