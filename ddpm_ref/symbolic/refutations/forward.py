"""Common statements about the forward process, refuted."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.gaussian import complete_square, expectation, log_density
from ddpm_ref.symbolic.refutations.refutation import Case, Refute, refutes, v0
from ddpm_ref.symbolic.symbols import (
    alpha,
    alpha_bar_s,
    alpha_bar_T,
    alpha_bar_t,
    beta,
    beta_bar_s,
    beta_bar_T,
    beta_bar_t,
    letter,
    noise,
    x0,
    xs,
    xt,
)

factor = letter("factor", "c", positive=True)
earlier = letter("earlier", r"\varepsilon_s", real=True)
first, second = letter("first", "X", real=True), letter("second", "Y", real=True)
frequency = letter("frequency", r"\omega", real=True)


@refutes("E01")
def beta_times_noise(case: Case) -> None:
    """A step adds noise of variance beta by definition. The factor of a standard normal number that does so is found by
    solving for it, and the variance that a step makes of unit variance by expectation."""
    case.assume(
        r"$z \sim \mathcal N(0, 1)$ is independent of $x_s$, and $q(x_t\mid x_s)$ has variance $\beta_{t\mid s}$."
    )
    added = expectation((factor * noise) ** 2, noise, sp.Integer(0), sp.Integer(1))
    case.say("The variance of $c z$ is", added)
    (needed,) = sp.solve(added - beta, factor)
    case.contrast("the factor of the noise", derived=needed, right=sp.sqrt(beta), wrong=beta, ratio=sp.sqrt(beta))

    def after(factor_of_noise: sp.Expr) -> sp.Expr:
        square = (sp.sqrt(alpha) * xs + factor_of_noise * noise) ** 2
        return expectation(expectation(square, noise, 0, 1), xs, 0, 1)

    case.contrast(
        "the variance after the step, if it was 1 before",
        derived=after(needed),
        right=sp.Integer(1),
        wrong=after(beta),
        difference=-alpha * beta,
    )


@refutes("E02")
def conditional_for_marginal(case: Case) -> None:
    """For normal data the marginal law of the noisy state comes out of integrating the data away: complete the square
    in the data, and read mean and variance off what is left."""
    case.assume(r"$x_0 \sim \mathcal N(0, v_0)$, and $q(x_t\mid x_0)$ is the forward kernel.")
    joint = log_density(xt, sp.sqrt(alpha_bar_t) * x0, beta_bar_t) + log_density(x0, 0, v0)
    marginal = complete_square(complete_square(joint, x0).constant, xt)
    case.contrast(
        "the variance of $x_t$",
        derived=marginal.variance,
        right=alpha_bar_t * v0 + beta_bar_t,
        wrong=beta_bar_t,
        difference=-alpha_bar_t * v0,
        v0=1,
    )
    case.contrast(
        "the mean of $x_t$",
        derived=marginal.mean,
        right=sp.Integer(0),
        wrong=sp.sqrt(alpha_bar_t) * x0,
        difference=sp.sqrt(alpha_bar_t) * x0,
        x0=1,
    )


@refutes("E03")
def squares_along_a_path(case: Case) -> None:
    """The square of a step is multiplied out; its expectation shows what is true of the statement, and the variance of
    the term that is left out shows what is not."""
    case.assume(r"$z \sim \mathcal N(0, 1)$ is independent of $x_s$, and $x_s$ has mean 0 and variance 1.")
    square = sp.expand((sp.sqrt(alpha) * xs + sp.sqrt(beta) * noise) ** 2)
    squares = alpha * xs**2 + beta * noise**2
    cross = 2 * sp.sqrt(alpha * beta) * xs * noise
    case.contrast(
        "the square of $x_t$",
        derived=square,
        right=squares + cross,
        wrong=squares,
        difference=-cross,
        xs=1,
        noise=1,
    )
    averages = [expectation(expectation(side, noise, 0, 1), xs, 0, 1) for side in (square, squares)]
    case.equal("In expectation nothing is missing:", *averages)
    case.contrast(
        "the variance of the cross term",
        derived=expectation(expectation((square - squares) ** 2, noise, 0, 1), xs, 0, 1),
        right=4 * alpha * beta,
        wrong=sp.Integer(0),
        difference=-4 * alpha * beta,
    )


@refutes("E04")
def product_of_normal_variables(case: Case) -> None:
    """The kurtosis of a product of two independent standard normal variables follows from their moments; a normal
    variable has 3. And sums of Cauchy variables are Cauchy, as characteristic functions show: the closure under sums is
    not a privilege of the normal law."""
    case.assume(r"$X$ and $Y$ are independent standard normal variables.")

    def moment(n: int) -> sp.Expr:
        return expectation(expectation((first * second) ** n, second, 0, 1), first, 0, 1)

    case.contrast(
        "the kurtosis of $XY$",
        derived=moment(4) / moment(2) ** 2,
        right=sp.Integer(9),
        wrong=sp.Integer(3),
        difference=sp.Integer(-6),
    )
    cauchy = sp.exp(-sp.Abs(frequency))
    case.equal(
        "The characteristic function of the sum of two Cauchy variables is that of one of them, doubled:",
        cauchy * cauchy,
        cauchy.subs(frequency, 2 * frequency),
    )


@refutes("E05")
def two_noises_under_one_name(case: Case) -> None:
    """The aggregate noise of the noisy state is solved for in terms of the noise of the last step and the aggregate
    noise before it; their correlation is then an expectation."""
    case.assume(r"$z$, the noise of the step, and $\varepsilon_s$, the aggregate noise of $x_s$, are independent.")
    before = sp.sqrt(alpha_bar_s) * x0 + sp.sqrt(beta_bar_s) * earlier
    after = sp.sqrt(alpha) * before + sp.sqrt(beta) * noise
    aggregate = (after - sp.sqrt(alpha) * sp.sqrt(alpha_bar_s) * x0) / sp.sqrt(beta_bar_t)
    case.say("The aggregate noise of $x_t$ is", sp.expand(aggregate))

    def mean_of(f: sp.Expr) -> sp.Expr:
        return expectation(expectation(f, earlier, 0, 1), noise, 0, 1)

    case.equal("It has variance", mean_of(aggregate**2), sp.Integer(1))
    case.contrast(
        "the correlation of the two noises",
        derived=mean_of(aggregate * noise),
        right=sp.sqrt(beta / beta_bar_t),
        wrong=sp.Integer(1),
        ratio=sp.sqrt(beta_bar_t / beta),
    )


@refutes("E06")
def one_number_for_all_components(case: Case) -> None:
    """The covariance of two components of a step, once with a noise of their own each, once with one number for both."""
    case.assume(r"$X$ and $Y$ are independent standard normal variables, the noises of two components.")

    def covariance(one: sp.Expr, other: sp.Expr) -> sp.Expr:
        return expectation(expectation(beta * one * other, second, 0, 1), first, 0, 1)

    case.contrast(
        "the covariance of two components of the noise of a step",
        derived=covariance(first, second),
        right=sp.Integer(0),
        wrong=covariance(first, first),
        difference=beta,
    )


@refutes("E07")
def terminal_law_is_not_the_prior(case: Case) -> None:
    """The divergence of the last state from the standard normal law is the expectation of the difference of their log
    densities. It is 0 only where nothing is left of the data."""
    case.assume(r"$x_T \sim \mathcal N(\sqrt{\bar\alpha_T}\,x_0, \bar\beta_T)$.")
    mean = sp.sqrt(alpha_bar_T) * x0
    ratio = log_density(xt, mean, beta_bar_T) - log_density(xt, 0, sp.Integer(1))
    gap = (alpha_bar_T * x0**2 - alpha_bar_T - sp.log(beta_bar_T)) / 2
    case.contrast(
        r"$D_{KL}(q(x_T\mid x_0)\,\Vert\,\mathcal N(0, 1))$, in nats",
        derived=sp.expand_log(expectation(ratio, xt, mean, beta_bar_T), force=True),
        right=gap,
        wrong=sp.Integer(0),
        difference=-gap,
        x0=1,
    )


REFUTATIONS: tuple[Refute, ...] = (
    beta_times_noise, conditional_for_marginal, squares_along_a_path, product_of_normal_variables,
    two_noises_under_one_name, one_number_for_all_components, terminal_law_is_not_the_prior,
)  # fmt: skip
