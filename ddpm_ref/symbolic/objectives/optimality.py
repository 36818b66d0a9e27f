r"""The best answer of a network: a conditional mean, whatever is predicted; normal data, for which it is linear."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.analytic.data_set import DATA, KERNEL, LEFT_OVER, over_both, over_points, weight
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import complete_square, expectation
from ddpm_ref.symbolic.posterior.chain import MARGINAL_T
from ddpm_ref.symbolic.prediction import MIXTURE, NOISE, SIGNAL, eps_from_x0
from ddpm_ref.symbolic.symbols import (
    alpha_bar_t,
    beta_bar_t,
    data_variance,
    eps,
    eps_hat,
    equation,
    letter,
    x0,
    x0_hat,
    x0_mean,
    x0_variance,
    xt,
)  # fmt: skip

V_T = alpha_bar_t * data_variance + beta_bar_t
"""Variance of the noisy data, for normal data with mean 0."""

i = letter("i", "i", integer=True, positive=True)
answer = letter("answer", "f", real=True)
best_eps = letter("best_eps", r"\hat\varepsilon^*", real=True)
noise_variance = letter("noise_variance", r"\mathrm{Var}(\varepsilon\mid x_t)", nonnegative=True)

CLEAN = "at t = 0 there is no noise to predict; ask for t >= 1"


def over_data_and_noise(f: sp.Expr) -> sp.Expr:
    """Expectation over the noise, then over normal data, by integration."""
    return expectation(expectation(f, eps, 0, 1), x0, 0, data_variance)


def best_normal_eps() -> sp.Expr:
    """Mean of the noise given the noisy data, for normal data, by completing the square."""
    given_xt = complete_square(MARGINAL_T - x0**2 / (2 * data_variance), x0).mean
    return eps_from_x0().results["eps"].subs(x0, given_xt)


@derives(
    r"\mathbb E[x_0\mid x_t] = \arg\min_f\mathbb E\lVert x_0 - f(x_t)\rVert^2,\qquad"
    r" \mathbb E\lVert x_0 - f\rVert^2 - \mathbb E\lVert x_0 - f^*\rVert^2 = \mathbb E\lVert f - f^*\rVert^2",
    source="standard; used in ho2020, section 3.2, and bao2022",
)
def mmse_optimality(proof: Proof) -> None:
    r"""Given $x_t$ a squared error is a polynomial of the second degree in what is predicted, of which two moments say everything.
    The same holds of the noise, whose best prediction belongs to that of the data; of any data it has the mean 0 and at most the
    energy of the noise.
    """
    proof.assume(
        r"$x_0$ given $x_t$ has a mean and a variance; the prediction $f$ is a function of $x_t$. One component; others add up."
    )
    squared = sp.Poly(sp.expand((x0 - x0_hat) ** 2), x0)
    moments = {0: sp.S.One, 1: x0_mean, 2: x0_variance + x0_mean**2}
    given_xt = sp.Add(*(c * moments[power] for (power,), c in squared.terms()))
    loss = x0_variance + (x0_mean - x0_hat) ** 2
    proof.equal(
        r"Given $x_t$ a prediction costs",
        given_xt,
        loss,
        shown=equation(r"\mathbb E[(x_0 - \hat x_0)^2\mid x_t]", loss),
    )
    (best,) = sp.solve(sp.diff(given_xt, x0_hat), x0_hat)
    proof.equal("It is stationary at the mean only,", best, x0_mean, shown=equation(r"\hat x_0", x0_mean))
    excess = proof.equal(
        "and any other prediction costs more by its squared distance from it,",
        given_xt - given_xt.subs(x0_hat, best),
        (x0_mean - x0_hat) ** 2,
    )
    proof.holds(
        r"which is not negative; averaged over $x_t$ it stays so, and so it does with a weight $w(x_t) > 0$.",
        excess >= 0,
        shown=r"(\mathbb E[x_0\mid x_t] - \hat x_0)^2 \ge 0",
    )
    product = sp.Poly(sp.expand((x0 - x0_mean) * answer), x0)
    proof.equal(
        r"The error of the best prediction is uncorrelated with every function of $x_t$.",
        sp.Add(*(c * moments[power] for (power,), c in product.terms())),
        sp.S.Zero,
        shown=r"\mathbb E[(x_0 - \mathbb E[x_0\mid x_t])\,f(x_t)] = 0",
    )
    noise = eps_from_x0().results["eps"]
    eps_loss = noise_variance + (best_eps - eps_hat) ** 2
    in_noise = {x0_variance: beta_bar_t / alpha_bar_t * noise_variance}
    means = {x0_mean: (xt - NOISE * best_eps) / SIGNAL, x0_hat: (xt - NOISE * eps_hat) / SIGNAL}
    proof.equal(
        r"The noise is affine in the data, so its best prediction is what the best data imply, and costs, divided by the factor of"
        r" `x0_eps_error_relation`,",
        loss.subs(in_noise).subs(means) * alpha_bar_t / beta_bar_t,
        eps_loss,
        shown=r"\mathbb E[(\varepsilon - \hat\varepsilon)^2\mid x_t] = \mathrm{Var}(\varepsilon\mid x_t)"
        r" + (\mathbb E[\varepsilon\mid x_t] - \hat\varepsilon)^2",
    )
    proof.assume("For the last statements: " + DATA)
    proof.assume(KERNEL)
    proof.equal(
        r"The mean over $x_t$ of the best prediction is the mean of the noise itself:",
        over_both(LEFT_OVER[0]),
        sp.S.Zero,
        shown=r"\mathbb E\,\hat\varepsilon^* = \mathbb E\,\varepsilon = 0",
    )
    total = over_points(weight[i])
    energy = letter("energy_of_best", r"\mathbb E(\hat\varepsilon^*)^2", nonnegative=True)
    open_noise = letter("open_noise", r"\mathbb E\,\mathrm{Var}(\varepsilon\mid x_t)", nonnegative=True)
    second = over_both(LEFT_OVER[0] ** 2)
    proof.equal(
        "The noise has the energy 1 per component,", second, total, shown=r"\mathbb E[\varepsilon^2] = \sum_iw_i = 1"
    )
    proof.equal(
        "which splits into that of the best prediction and what it leaves open. Neither is negative, so the first is at most 1.",
        sp.solve(sp.Eq(energy + open_noise, second.subs(total, 1)), energy)[0],
        1 - open_noise,
        shown=r"\mathbb E(\hat\varepsilon^*)^2 = 1 - \mathbb E\,\mathrm{Var}(\varepsilon\mid x_t) \le 1",
    )
    normal = proof.equal(
        r"Normal data $\mathcal N(0, \tau^2)$ have the best prediction", best_normal_eps(), NOISE * xt / V_T
    )
    floor = expectation((eps - normal.subs(xt, MIXTURE)) ** 2, eps, 0, 1)
    proof.equal(
        "which costs",
        expectation(floor, x0, 0, data_variance),
        alpha_bar_t * data_variance / V_T,
    )
    proof.only_where(beta_bar_t, CLEAN)
    proof.only_where(alpha_bar_t, "where alpha_bar_t = 0 (zero terminal SNR) x_t says nothing of the data")
    proof.conclude(
        x0_loss=loss,
        eps_loss=eps_loss,
        eps=noise.subs(x0, x0_mean),
        normal_eps=normal,
        normal_floor=alpha_bar_t * data_variance / V_T,
    )
