"""Common statements about the posterior given the data, refuted."""

from __future__ import annotations

from functools import cache

import sympy as sp

from ddpm_ref.symbolic.gaussian import Square, complete_square, density, expectation, integral, log_density
from ddpm_ref.symbolic.refutations.refutation import Case, Refute, beta_tilde, refutes, snr
from ddpm_ref.symbolic.symbols import (
    alpha,
    alpha_bar_s,
    alpha_bar_t,
    beta,
    beta_bar_s,
    beta_bar_t,
    latex,
    letter,
    mean,
    x0,
    xs,
    xt,
)

quadratic = letter("quadratic", "a", positive=True)
linear = letter("linear", "b", positive=True)
sigma = letter("sigma", r"\sigma", positive=True)
dimension = letter("dimension", "d", positive=True)

X0_WEIGHT = sp.sqrt(alpha_bar_s) * beta / beta_bar_t
XT_WEIGHT = sp.sqrt(alpha) * beta_bar_s / beta_bar_t
CHAIN = "The chain is Markov, and its kernels are the forward kernels."
UNIT = r"The data are standard normal, so every $x_t$ is."


def exponent(kept: sp.Expr = alpha, last: sp.Expr = beta_bar_t) -> sp.Expr:
    """Of Bayes' rule, without normalisers; the arguments are what a common version puts elsewhere."""
    return (
        -(
            (xt - sp.sqrt(kept) * xs) ** 2 / beta
            + (xs - sp.sqrt(alpha_bar_s) * x0) ** 2 / beta_bar_s
            - (xt - sp.sqrt(alpha_bar_t) * x0) ** 2 / last
        )
        / 2
    )


@cache
def square(kept: sp.Expr = alpha, last: sp.Expr = beta_bar_t) -> Square:
    """Mean, variance and what is left over of the above, as a function of the earlier state."""
    return complete_square(exponent(kept, last), xs)


def weight(expression: sp.Expr, x: sp.Symbol) -> sp.Expr:
    """The coefficient of a letter in a linear expression."""
    return sp.factor(sp.expand(expression).coeff(x))


@refutes("E10")
def joint_density_by_the_wrong_conditional(case: Case) -> None:
    """For standard normal data the law of the data given the noisy state follows by completing the square, so that both
    products can be written down; the wrong one is no density."""
    case.assume(UNIT)
    case.assume(r"$q(x_t\mid x_0) = \mathcal N(\sqrt{\bar\alpha_t}\,x_0, \bar\beta_t)$.")
    prior, kernel = log_density(x0, 0, sp.Integer(1)), log_density(xt, sp.sqrt(alpha_bar_t) * x0, beta_bar_t)
    given = complete_square(prior + kernel, x0)
    case.equal("Given $x_t$ the data have mean", given.mean, sp.sqrt(alpha_bar_t) * xt)
    case.equal("and variance", given.variance, beta_bar_t)
    inverted = log_density(x0, sp.sqrt(alpha_bar_t) * xt, beta_bar_t)
    case.contrast(
        r"$\log q(x_0, x_t)$",
        derived=inverted + log_density(xt, 0, sp.Integer(1)),
        right=prior + kernel,
        wrong=prior + inverted,
        difference=(xt**2 - x0**2) / 2,
        x0=1,
        xt=2,
    )
    case.contrast(
        r"the integral of the second factor over $x_t$",
        derived=integral(density(xt, sp.sqrt(alpha_bar_t) * x0, beta_bar_t), xt),
        right=sp.Integer(1),
        wrong=integral(density(x0, sp.sqrt(alpha_bar_t) * xt, beta_bar_t), xt),
        ratio=1 / sp.sqrt(alpha_bar_t),
    )


@refutes("E11")
def exponent_with_alpha_bar(case: Case) -> None:
    """The square is completed twice by the same routine: for the exponent of Bayes' rule, and for the one with the
    cumulative product in its first quadratic."""
    case.assume(CHAIN)
    right, wrong = square(), square(kept=alpha_bar_t)
    case.contrast(
        "the inverse of the variance",
        derived=1 / right.variance,
        right=1 / beta_tilde,
        wrong=1 / wrong.variance,
        difference=(alpha_bar_t - alpha) / beta,
    )
    case.contrast(
        "the weight of $x_t$ in the mean",
        derived=weight(right.mean, xt),
        right=XT_WEIGHT,
        wrong=weight(wrong.mean, xt),
        ratio=sp.sqrt(alpha_bar_s) / (1 - (alpha - alpha_bar_t) * beta_tilde / beta),
    )


@refutes("E12")
def third_denominator(case: Case) -> None:
    """Once the square is completed nothing may be left over: the three prefactors already normalise it. With another
    denominator under the third quadratic something is."""
    case.assume(CHAIN)
    left_over = (xt - sp.sqrt(alpha_bar_t) * x0) ** 2 * (1 / alpha_bar_t - 1 / beta_bar_t) / 2
    literal = square(last=alpha_bar_t).constant
    case.equal(
        "With the denominator that is commonly written there is left over", literal, left_over, shown=latex(left_over)
    )
    case.contrast(
        "what is left over of the exponent",
        derived=square().constant,
        right=sp.Integer(0),
        wrong=left_over,
        difference=left_over,
        x0=1,
        xt=2,
    )


@refutes("E13")
def alpha_bar_in_the_weight(case: Case) -> None:
    """The weight comes out of completing the square. That the mean of the posterior must be right on average, over the
    noisy states that a given data point leads to, is an independent check, and the common form fails it."""
    case.assume(CHAIN)
    posterior = square().mean
    wrong = sp.sqrt(alpha_bar_t) * beta_bar_s / beta_bar_t
    case.equal("The weight of $x_0$ is", weight(posterior, x0), X0_WEIGHT)
    case.contrast(
        "the weight of $x_t$ in the mean",
        derived=weight(posterior, xt),
        right=XT_WEIGHT,
        wrong=wrong,
        ratio=sp.sqrt(alpha_bar_s),
    )

    xt_on_average = expectation(xt, xt, sp.sqrt(alpha_bar_t) * x0, beta_bar_t)

    case.contrast(
        r"the average of the mean over $q(x_t\mid x_0)$",
        derived=XT_WEIGHT * xt_on_average + X0_WEIGHT * x0,
        right=sp.sqrt(alpha_bar_s) * x0,
        wrong=wrong * xt_on_average + X0_WEIGHT * x0,
        difference=(sp.sqrt(alpha_bar_s) - 1) * XT_WEIGHT * sp.sqrt(alpha_bar_t) * x0,
        x0=1,
    )


@refutes("E14")
def variance_called_deviation(case: Case) -> None:
    """The product of the three normalisers gives a deviation, the coefficient of the square a variance; which is which
    follows from either."""
    case.assume(CHAIN)
    prefactor = sp.sqrt(beta) * sp.sqrt(beta_bar_s) / sp.sqrt(beta_bar_t)
    case.equal("The squared product of the normalisers is the variance,", prefactor**2, square().variance)
    case.contrast(
        r"$\sigma_1\sigma_2/\sigma_3$, the deviation of the posterior",
        derived=prefactor,
        right=sp.sqrt(beta_tilde),
        wrong=beta_tilde,
        ratio=sp.sqrt(beta_tilde),
    )


@refutes("E15")
def vertex_upside_down(case: Case) -> None:
    """The vertex of a quadratic is where its derivative vanishes."""
    case.assume(r"$a > 0$.")
    curve = quadratic * xs**2 - linear * xs
    (vertex,) = sp.solve(sp.diff(curve, xs), xs)
    case.contrast(
        r"the vertex of $a x^2 - b x$",
        derived=vertex,
        right=linear / (2 * quadratic),
        wrong=2 * quadratic / linear,
        ratio=4 * quadratic**2 / linear**2,
        linear=3,
        quadratic=1,
    )
    a = alpha / beta + 1 / beta_bar_s
    b = 2 * (sp.sqrt(alpha) / beta * xt + sp.sqrt(alpha_bar_s) / beta_bar_s * x0)
    posterior = X0_WEIGHT * x0 + XT_WEIGHT * xt
    case.equal("For the posterior $b/(2a)$ is the mean,", (b / (2 * a)), posterior)
    case.contrast(
        "the posterior mean",
        derived=vertex.subs({linear: b, quadratic: a}),
        right=posterior,
        wrong=2 * a / b,
        ratio=1 / posterior**2,
        x0=1,
        xt=2,
    )


@refutes("E16")
def centre_with_a_wrong_sign(case: Case) -> None:
    """The centre of the final square is the value at which the bracket vanishes."""
    case.assume(CHAIN)
    (centre,) = sp.solve(xs - XT_WEIGHT * xt + X0_WEIGHT * x0, xs)
    case.contrast(
        "the centre",
        derived=square().mean,
        right=XT_WEIGHT * xt + X0_WEIGHT * x0,
        wrong=centre,
        difference=-2 * X0_WEIGHT * x0,
        x0=1,
        xt=2,
    )


@refutes("E17")
def variance_squared_in_the_exponent(case: Case) -> None:
    """The completed square one posterior deviation from its mean, over the variance and over the square of that."""
    case.assume(CHAIN)
    posterior = square()
    away = (xs - posterior.mean) ** 2
    there = {xs: posterior.mean + sp.sqrt(posterior.variance)}
    case.equal(
        "Over the square of the variance it comes to",
        (-away / (2 * posterior.variance**2)).subs(there),
        -beta_bar_t / (2 * beta * beta_bar_s),
    )
    case.contrast(
        "the exponent one deviation from the mean",
        derived=(-away / (2 * posterior.variance)).subs(there),
        right=-sp.Rational(1, 2),
        wrong=-1 / (2 * beta_tilde),
        ratio=1 / beta_tilde,
    )


@refutes("E18")
def one_variable_for_three(case: Case) -> None:
    """If all three densities are functions of the same variable, their precisions add with the signs of the fraction.
    The precision of Bayes' rule is another one."""
    case.assume(CHAIN)
    centres = [letter(f"centre{i}", f"m_{i}", real=True) for i in (1, 2, 3)]
    laws = zip((1, 1, -1), centres, (beta, beta_bar_s, beta_bar_t), strict=True)
    literal = complete_square(sp.Add(*(sign * log_density(xs, m, v) for sign, m, v in laws)), xs)
    case.contrast(
        "the precision",
        derived=1 / square().variance,
        right=1 / beta_tilde,
        wrong=1 / literal.variance,
        difference=-snr,
    )


@refutes("E22")
def deviation_in_the_slot_of_the_variance(case: Case) -> None:
    """What the second slot means is seen from the second central moment of the density; and the normaliser of d
    components is the d-th power of that of one."""
    case.assume(r"The posterior is written $\mathcal N(\mu, \tilde\beta_{t\mid s})$.")
    moment = expectation((xs - mean) ** 2, xs, mean, sigma**2)
    case.equal("With the deviation in its second slot the density has variance", moment, sigma**2)
    case.contrast(
        r"the variance of $\mathcal N(\mu, \tilde\beta_{t\mid s})$",
        derived=expectation((xs - mean) ** 2, xs, mean, beta_tilde),
        right=beta_tilde,
        wrong=moment.subs(sigma, beta_tilde),
        ratio=beta_tilde,
    )
    one = sp.log(2 * sp.pi * sigma**2) / 2
    case.contrast(
        "the log of the normaliser of $d$ components",
        derived=dimension * sp.log(integral(sp.exp(-(xs**2) / (2 * sigma**2)), xs)),
        right=dimension * one,
        wrong=one,
        ratio=1 / dimension,
        sigma=1,
        dimension=2,
    )


@refutes("E23")
def sigma_sometimes_squared(case: Case) -> None:
    """The literal reading is solved for the symbol, which elsewhere stands for the variance."""
    case.assume(CHAIN)
    (literal,) = sp.solve(sigma**2 - beta_tilde, sigma)
    case.contrast(
        r"the variance $\Sigma_\theta$",
        derived=square().variance,
        right=beta_tilde,
        wrong=literal,
        ratio=1 / sp.sqrt(beta_tilde),
    )


REFUTATIONS: tuple[Refute, ...] = (
    joint_density_by_the_wrong_conditional, exponent_with_alpha_bar, third_denominator, alpha_bar_in_the_weight,
    variance_called_deviation, vertex_upside_down, centre_with_a_wrong_sign, variance_squared_in_the_exponent,
    one_variable_for_three, deviation_in_the_slot_of_the_variance, sigma_sometimes_squared,
)  # fmt: skip
