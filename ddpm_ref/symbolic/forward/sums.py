"""Independent normal variables added up: the rule, and the two noises that it merges into one."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import complete_square, expectation
from ddpm_ref.symbolic.marginal import Normal, integrate_out
from ddpm_ref.symbolic.symbols import letter, mean1, mean2, variance1, variance2, xt

first = letter("first", "X", real=True)
total = letter("total", "X+Y", real=True)
u = letter("u", "u", real=True)
w = letter("w", "w", real=True)
k = letter("k", "k", real=True)
correlation = letter("correlation", r"\rho", real=True)
before = letter("before", "x_{t-2}", real=True)
middle = letter("middle", "x_{t-1}", real=True)
alpha_before = letter("alpha_before", r"\alpha_{t-1}", positive=True)
alpha_now = letter("alpha_now", r"\alpha_t", positive=True)
eps_before = letter("eps_before", r"\varepsilon_{t-1}", real=True)
eps_now = letter("eps_now", r"\varepsilon_t", real=True)


@derives(
    r"X + Y \sim \mathcal N(\mu_1+\mu_2,\ \sigma_1^2+\sigma_2^2+2\rho\,\sigma_1\sigma_2)",
    source="standard; the use of it in ho2020, eq. (4)",
)
def gaussian_sum_rule(proof: Proof) -> None:
    r"""The density of the sum is a convolution, which is integrated by completing the square; generating functions say the same
    again. Without independence the variance has a cross term. Sums of independent normal variables stay normal, products do
    not: their kurtosis is 9.
    """
    proof.assume(
        r"$X \sim \mathcal N(\mu_1, \sigma_1^2)$ and $Y \sim \mathcal N(\mu_2, \sigma_2^2)$, at first independent."
    )
    law = integrate_out(proof, first, total, Normal(first, mean1, variance1), Normal(total, first + mean2, variance2))
    mean = proof.equal("So the sum is normal; its mean is", law.mean, mean1 + mean2)
    variance = proof.equal("and its variance", law.variance, variance1 + variance2)

    def generating(m: sp.Expr, s: sp.Expr) -> sp.Expr:
        return complete_square(Normal(first, m, s).exponent + k * first, first).constant

    proof.equal(
        r"Again by $\log\mathbb E e^{kX}$, what is left when the square is completed in $X$: those of the parts add up.",
        generating(mean1, variance1) + generating(mean2, variance2),
        generating(mean, variance),
    )
    s1, s2 = sp.sqrt(variance1), sp.sqrt(variance2)
    pair = s1 * u + s2 * (correlation * u + sp.sqrt(1 - correlation**2) * w)
    proof.say(
        r"With correlation $\rho$, write the deviations of both by two independent standard normal letters:", pair
    )
    correlated = proof.equal(
        "The variance of the sum gets a cross term.",
        expectation(expectation(pair**2, u, 0, 1), w, 0, 1),
        variance1 + variance2 + 2 * correlation * s1 * s2,
    )
    fourth = expectation(expectation((s1 * u + s2 * w) ** 4, u, 0, 1), w, 0, 1)
    kurtosis = proof.equal(
        "The kurtosis of an independent sum is that of a normal law,", fourth / variance**2, sp.Integer(3)
    )
    of_product = proof.equal(
        "that of the product of two standard normal variables is not.",
        expectation(expectation((u * w) ** 4, u, 0, 1), w, 0, 1)
        / expectation(expectation((u * w) ** 2, u, 0, 1), w, 0, 1) ** 2,
        sp.Integer(9),
    )
    # 1 - sign(x) is positive where x <= 0: the ends belong to the domain.
    proof.only_where(1 - sp.sign(correlation**2 - 1), "a correlation lies between -1 and 1")
    proof.conclude(mean=mean, variance=correlated, kurtosis=kurtosis, kurtosis_of_product=of_product)


@derives(
    r"x_t = \sqrt{\alpha_t\alpha_{t-1}}\,x_{t-2} + \sqrt{1-\alpha_t\alpha_{t-1}}\;\varepsilon'",
    source="ho2020, eq. (4), its first step",
)
def two_step_merge(proof: Proof) -> None:
    r"""Two steps in a row are one step. Shown twice: the variances of the two noises are added, and the state in the middle is
    integrated out of the product of the two kernels. The noise of the merged step is a new variable, correlated with both.
    """
    proof.assume(r"Two steps with independent standard normal noises $\varepsilon_{t-1}$ and $\varepsilon_t$.")
    steps = sp.sqrt(alpha_now) * (sp.sqrt(alpha_before) * before + sp.sqrt(1 - alpha_before) * eps_before)
    steps += sp.sqrt(1 - alpha_now) * eps_now
    proof.say("One step put into the other:", sp.Eq(xt, steps))

    def expected(f: sp.Expr) -> sp.Expr:
        return expectation(expectation(f, eps_now, 0, 1), eps_before, 0, 1)

    kept = proof.equal(r"What is left of $x_{t-2}$ is", steps.diff(before), sp.sqrt(alpha_now * alpha_before))
    noise = steps - kept * before
    added = proof.equal("The rest has the variance", expected(noise**2), 1 - alpha_now * alpha_before)
    law = integrate_out(
        proof,
        middle,
        xt,
        Normal(middle, sp.sqrt(alpha_before) * before, 1 - alpha_before),
        Normal(xt, sp.sqrt(alpha_now) * middle, 1 - alpha_now),
    )
    proof.equal("The integral has the same mean", law.mean, kept * before)
    proof.equal("and the same variance.", law.variance, added)
    share = proof.equal(
        r"The merged noise $\varepsilon'$, the rest divided by its deviation, is neither of the two: its correlation with the "
        r"later one is",
        expected(noise / sp.sqrt(added) * eps_now),
        sp.sqrt(1 - alpha_now) / sp.sqrt(1 - alpha_now * alpha_before),
    )
    proof.only_where(1 - alpha_now * alpha_before, "two steps that keep everything add no noise; alphas lie below 1")
    proof.conclude(kept=kept, added=added, correlation=share)
