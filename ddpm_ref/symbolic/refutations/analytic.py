"""Common statements about Analytic-DPM, refuted."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.gaussian import complete_square, expectation, log_density
from ddpm_ref.symbolic.refutations.posterior import square
from ddpm_ref.symbolic.refutations.refutation import Case, Refute, beta_tilde, refutes, v0
from ddpm_ref.symbolic.symbols import (
    alpha_bar_t,
    beta,
    beta_bar_s,
    beta_bar_t,
    eps,
    letter,
    x0,
    xt,
)  # fmt: skip

NORMAL = r"$x_0 \sim \mathcal N(0, v_0)$, and $\hat\varepsilon^* = \mathbb E[\varepsilon\mid x_t]$ is known."
SIGNAL, NOISE = sp.sqrt(alpha_bar_t), sp.sqrt(beta_bar_t)
RATIO = beta_bar_t / alpha_bar_t
V_T = alpha_bar_t * v0 + beta_bar_t

factor = letter("factor", "c", positive=True)
share = letter("share", "p", positive=True)


def given_xt() -> tuple[sp.Expr, sp.Expr]:
    """Mean and variance of normal data given noisy ones, by completing the square."""
    found = complete_square(log_density(xt, SIGNAL * x0, beta_bar_t) + log_density(x0, 0, v0), x0)
    return found.mean, found.variance


def energy(scaled: sp.Expr = sp.S.One) -> sp.Expr:
    """Mean square of the best prediction for normal data, times a factor: an expectation over the noisy data."""
    best = sp.factor((xt - SIGNAL * given_xt()[0]) / NOISE)
    return expectation((scaled * best) ** 2, xt, 0, V_T)


def two_points(at_one: sp.Expr, at_minus_one: sp.Expr) -> sp.Expr:
    """Average over data that are 1 with probability ``share``, and -1 otherwise."""
    return share * at_one + (1 - share) * at_minus_one


@refutes("E54")
def energy_for_what_it_leaves(case: Case) -> None:
    """The variance of normal data given noisy ones is found by completing the square. The energy of the best prediction, by
    integration, gives it as one minus the energy, and not as the energy."""
    case.assume(NORMAL)
    _, variance = given_xt()
    case.equal("The best prediction has the energy", energy(), beta_bar_t / V_T)
    case.contrast(
        r"the variance $\hat\sigma_t^2$ of the data given $x_t$",
        derived=variance,
        right=RATIO * (1 - beta_bar_t / V_T),
        wrong=RATIO * (beta_bar_t / V_T),
        ratio=beta_bar_t / (alpha_bar_t * v0),
        v0=1,
    )


@refutes("E56")
def average_for_the_variance(case: Case) -> None:
    r"""For data that are $\pm1$ with equal odds the variance given the noisy data is written out by Bayes' rule and differentiated.
    It changes with them, which no average over them does."""
    case.assume(
        r"$x_0 = \pm1$ with equal odds; the ratio of the two densities at $x_t$ is $\rho ="
        r" e^{2\sqrt{\bar\alpha_t}x_t/\bar\beta_t}$."
    )
    odds = sp.exp(2 * SIGNAL * xt / beta_bar_t)
    chance = odds / (1 + odds)
    variance = (
        two_points(sp.S.One, sp.S.One).subs(share, chance) - two_points(sp.S.One, -sp.S.One).subs(share, chance) ** 2
    )
    right = -8 * SIGNAL / beta_bar_t * odds * (odds - 1) / (1 + odds) ** 3
    case.contrast(
        r"the derivative of $\mathrm{Var}(x_0\mid x_t)$ by $x_t$",
        derived=sp.diff(variance, xt),
        right=right,
        wrong=sp.Integer(0),
        difference=-right,
        xt=sp.Rational(1, 5),
    )


@refutes("E57")
def deviation_of_the_kernel(case: Case) -> None:
    r"""Two variances that share a letter: of the data given the noisy data, and of the earlier state given both."""
    case.assume(NORMAL)
    case.equal(
        r"The kernel has, given $x_t$ and $x_0$, the variance", square().variance, beta * beta_bar_s / beta_bar_t
    )
    _, variance = given_xt()
    case.contrast(
        "what the trace of the covariance over the dimension estimates",
        derived=variance,
        right=v0 * beta_bar_t / V_T,
        wrong=beta_tilde,
        ratio=beta * beta_bar_s * V_T / (v0 * beta_bar_t**2),
        v0=1,
    )


@refutes("E58")
def median_for_the_mean(case: Case) -> None:
    r"""Data that are $\pm1$, and 1 with the probability $p > \tfrac12$ given $x_t$. An L1 loss is least at the median of the noise,
    that of $x_0 = 1$. With it in the place of the mean the identity gives a number that can be negative."""
    case.assume(r"The data, given $x_t$, are 1 with probability $p > \tfrac12$, and $-1$ otherwise.")
    middle = two_points(sp.S.One, -sp.S.One)
    spread = two_points((1 - middle) ** 2, (-1 - middle) ** 2)
    left = two_points((xt - SIGNAL) ** 2, (xt + SIGNAL) ** 2)
    median = xt - SIGNAL  # times the root of beta_bar: what noise x_0 = 1 leaves over
    case.say(
        r"The median of the noise leaves, of $\mathbb E[\nu^2\mid x_t] - \bar\beta_t\,\hat\varepsilon^2$,",
        sp.expand(left - median**2),
    )
    case.contrast(
        r"the variance of the data given $x_t$",
        derived=spread,
        right=4 * share * (1 - share),
        wrong=(left - median**2) / alpha_bar_t,
        difference=4 * (1 - share) * (xt / SIGNAL - share),
        share=sp.Rational(3, 4),
        xt=sp.Rational(-1, 4),
    )


@refutes("E59")
def sign_of_the_radicand(case: Case) -> None:
    r"""The equation of the noisy data is solved for the data; the factor of the noise, squared, is positive."""
    case.assume(r"$x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{\bar\beta_t}\,\varepsilon$.")
    (data,) = sp.solve(sp.Eq(xt, SIGNAL * x0 + NOISE * eps), x0)
    case.contrast(
        "the square of the factor of the noise in the predicted data",
        derived=sp.diff(data, eps) ** 2,
        right=1 / alpha_bar_t - 1,
        wrong=1 / (alpha_bar_t - 1),
        ratio=-alpha_bar_t / beta_bar_t**2,
    )


@refutes("E60")
def noise_times_another_root(case: Case) -> None:
    r"""The equation of the noisy data is solved for the data once more; what multiplies the noise is read off."""
    case.assume(r"$x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{\bar\beta_t}\,\varepsilon$.")
    (data,) = sp.solve(sp.Eq(xt, SIGNAL * x0 + NOISE * eps), x0)
    case.contrast(
        "what the noise is multiplied by, in the predicted data",
        derived=-sp.diff(data, eps),
        right=sp.sqrt(1 / alpha_bar_t - 1),
        wrong=sp.sqrt(1 / beta_bar_t),
        ratio=SIGNAL / beta_bar_t,
    )


@refutes("E61")
def deviation_for_the_variance(case: Case) -> None:
    """What a table of the posterior holds is found by completing the square: a variance."""
    case.assume("The chain is Markov, and its kernels are the forward kernels.")
    case.contrast(
        "the entry of the table",
        derived=square().variance,
        right=beta_tilde,
        wrong=sp.sqrt(beta_tilde),
        ratio=1 / sp.sqrt(beta_tilde),
    )


@refutes("E62")
def estimate_that_is_no_variance(case: Case) -> None:
    r"""Unit data and a prediction that is $c$ times the best one: the estimate falls below 0 for $c^2\bar\beta_t > 1$. A variance
    does not; the closest number that is one is 0."""
    case.assume(r"$x_0 \sim \mathcal N(0, 1)$, and the network says $c\,\hat\varepsilon^*$.")
    left = 1 - energy(factor).subs(v0, 1)
    estimate = RATIO * (1 - factor**2 * beta_bar_t)
    case.equal("One minus the mean square of what it says is", left, 1 - factor**2 * beta_bar_t)
    clipped = RATIO * sp.Max(0, 1 - factor**2 * beta_bar_t)
    case.contrast(
        r"the estimate of $\hat\sigma_t^2$ within its bounds",
        derived=RATIO * sp.Max(0, sp.factor(left)),
        right=clipped,
        wrong=estimate,
        difference=estimate - clipped,
        factor=sp.Rational(3, 2),
    )


@refutes("E66")
def identity_for_any_prediction(case: Case) -> None:
    """The covariance identity with a multiple of the best prediction in it, beside the variance, which is that of the data given
    the noisy data and does not know of any prediction."""
    case.assume(NORMAL)
    case.assume(r"The network says $c\,\hat\varepsilon^*$.")
    _, variance = given_xt()
    case.equal("What it says has the mean square", energy(factor), factor**2 * beta_bar_t / V_T)
    case.contrast(
        r"the variance of the data given $x_t$",
        derived=variance,
        right=v0 * beta_bar_t / V_T,
        wrong=RATIO * (1 - factor**2 * beta_bar_t / V_T),
        difference=RATIO * (1 - factor**2) * beta_bar_t / V_T,
        v0=1,
        factor=sp.Rational(11, 10),
    )


REFUTATIONS: tuple[Refute, ...] = (
    energy_for_what_it_leaves, average_for_the_variance, deviation_of_the_kernel, median_for_the_mean, sign_of_the_radicand,
    noise_times_another_root, deviation_for_the_variance, estimate_that_is_no_variance, identity_for_any_prediction,
)  # fmt: skip
