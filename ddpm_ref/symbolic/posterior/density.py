r"""Normal densities, and the posterior of the forward process as one: by Bayes' rule in full, and by completing the square."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic import plane
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import complete_square, expectation, integral, log_density
from ddpm_ref.symbolic.posterior.chain import MARGINAL_S, MARGINAL_T, MEAN, NO_STEP, STEP, VARIANCE, start
from ddpm_ref.symbolic.symbols import (
    alpha,
    alpha_bar_s,
    beta,
    beta_bar_s,
    beta_bar_t,
    equation,
    letter,
    mean,
    variance,
    x,
    x0,
    xs,
    xt,
)  # fmt: skip


@derives(
    r"\mathcal N(x;\mu,\Sigma) = (2\pi)^{-d/2}|\Sigma|^{-1/2}\exp\left(-\tfrac12(x-\mu)^\top\Sigma^{-1}(x-\mu)\right)",
    source="standard",
)
def gaussian_density(proof: Proof) -> None:
    r"""The density that everything here is made of. Its constant is found by integration, its second argument is shown to be a
    variance, and independent components are multiplied. A general covariance comes from a linear map of independent
    components, done entry by entry in two dimensions; the same three lines, with the triangular factor of any size, are the
    general case.
    """
    kernel = sp.exp(-((x - mean) ** 2) / (2 * variance))
    u, sigma = letter("u", "u", real=True), sp.sqrt(variance)
    proof.say(r"Only the shape is assumed: a bell curve about $\mu$ of width $\sigma$.", kernel)
    total = integral(kernel.subs(x, mean + sigma * u) * sigma, u)
    proof.equal(r"With $x = \mu + \sigma u$ its integral is", total, sp.sqrt(2 * sp.pi * variance))
    log_normal = sp.log(kernel / total)
    published = -(sp.log(2 * sp.pi * variance) + (x - mean) ** 2 / variance) / 2
    proof.equal(
        "Divided by it, the density has the logarithm",
        log_normal,
        published,
        shown=equation(r"\log\mathcal N(x;\mu,\sigma^2)", published),
    )
    proof.equal(r"Its mean is $\mu$,", expectation(x, x, mean, variance), mean, shown=r"\mathbb E[x] = \mu")
    proof.equal(
        r"and its variance is the second argument, not the square of it:",
        expectation((x - mean) ** 2, x, mean, variance),
        variance,
        shown=r"\mathbb E[(x - \mu)^2] = \sigma^2",
    )

    d, r2 = letter("d", "d", integer=True, positive=True), letter("r2", "r^2", positive=True)
    vector = -(d * sp.log(2 * sp.pi * variance) + r2 / variance) / 2
    proof.equal(
        r"$d$ independent components of one variance at squared distance $r^2$: one component is the case $d = 1$,",
        vector.subs({d: 1, r2: (x - mean) ** 2}),
        published,
    )
    proof.equal(
        "and one component more adds its logarithm, so that by induction the log density of a vector is the sum over its"
        " components:",
        vector + published,
        vector.subs({d: d + 1, r2: r2 + (x - mean) ** 2}),
    )

    factor, point, centre = plane.lower("L", "L_{#}"), plane.vector("x", "x_{#}"), plane.vector("m", "m_{#}")
    whitened = plane.inverse(factor) * (point - centre)
    covariance = factor * factor.T
    proof.say(
        r"A general covariance, $d = 2$: let $x = m + Lu$ with independent standard $u_1, u_2$ and $L$ lower triangular with"
        r" positive diagonal, so that $\Sigma = LL^\top$ has the entries",
        covariance,
    )
    proof.equal(
        r"The squares of $u = L^{-1}(x - m)$ add up to the quadratic form of $\Sigma^{-1}$,",
        whitened.dot(whitened),
        plane.quadratic(plane.inverse(covariance), point - centre),
        shown=r"u_1^2 + u_2^2 = (x-m)^\top\Sigma^{-1}(x-m)",
    )
    proof.equal(
        r"and the change of variables divides by $|L|$, which is the root of $|\Sigma|$:",
        factor.det() ** 2,
        covariance.det(),
        shown=r"|L|^2 = |\Sigma|",
    )
    exponent = -plane.quadratic(plane.inverse(covariance), point - centre) / 2
    inner = complete_square(exponent, point[1])
    left = sp.sqrt(2 * sp.pi * inner.variance) / (2 * sp.pi * sp.sqrt(covariance.det()))
    proof.equal(
        r"Check, without the map: integrating $\exp(-\tfrac12(x-m)^\top\Sigma^{-1}(x-m))/(2\pi|\Sigma|^{1/2})$ over $x_2$ by"
        r" completing the square leaves in the exponent",
        inner.constant,
        -((point[0] - centre[0]) ** 2) / (2 * covariance[0, 0]),
        shown=r"-\frac{(x_1-m_1)^2}{2\Sigma_{11}}",
    )
    proof.equal(
        r"with the constant of a normal law of variance $\Sigma_{11} = L_{11}^2$, whose integral is 1.",
        left,
        1 / sp.sqrt(2 * sp.pi * covariance[0, 0]),
    )
    proof.only_where(variance, "a variance must be positive; a law of variance 0 is a point and has no density")
    proof.conclude(log_density=published)


@derives(
    r"q(x_s\mid x_t,x_0) = \frac{q(x_t\mid x_s)\,q(x_s\mid x_0)}{q(x_t\mid x_0)}"
    r" = \mathcal N(\tilde\mu(x_t, x_0),\ \tilde\beta_{t\mid s})",
    source="ho2020, eq. (6)",
)
def posterior_bayes(proof: Proof) -> None:
    """Bayes' rule with all three densities written out. The denominator is not looked up but found as the integral of the
    numerator; the quotient is a normal density in full: nothing is left over in the exponent, and the three prefactors
    combine to the one it needs.
    """
    start(proof)
    proof.say(
        r"Given $x_s$, the state $x_t$ depends on $x_0$ no more, so that $q(x_t\mid x_s, x_0) = q(x_t\mid x_s)$, and Bayes' rule"
        " reads",
        r"q(x_s\mid x_t,x_0) = \frac{q(x_t\mid x_s)\,q(x_s\mid x_0)}{q(x_t\mid x_0)}",
    )
    numerator = complete_square(STEP + MARGINAL_S, xs)
    proof.equal(
        r"As a function of $x_s$ the numerator is a bell curve; what its exponent has left over is",
        numerator.constant,
        MARGINAL_T,
    )
    proof.equal(
        r"and its integral over $x_s$ has the prefactor",
        sp.sqrt(2 * sp.pi * numerator.variance) / (sp.sqrt(2 * sp.pi * beta) * sp.sqrt(2 * sp.pi * beta_bar_s)),
        1 / sp.sqrt(2 * sp.pi * beta_bar_t),
    )
    proof.say("So the denominator is", r"q(x_t\mid x_0) = \mathcal N(x_t;\ \sqrt{\bar\alpha_t}\,x_0,\ \bar\beta_t)")
    quotient = complete_square(STEP + MARGINAL_S - MARGINAL_T, xs)
    proof.say("Now the three exponents together, as a square in $x_s$ and a rest. The rest vanishes:")
    proof.equal("no constant is left over,", quotient.constant, sp.S.Zero, shown="C = 0")
    proof.equal("the centre is", quotient.mean, MEAN)
    proof.equal("and twice the denominator of the square is", quotient.variance, VARIANCE)
    root = sp.sqrt(beta) * sp.sqrt(beta_bar_s) / sp.sqrt(beta_bar_t)
    proof.equal(
        r"The standard deviations of the three laws, $\sigma_1\sigma_2/\sigma_3$, combine to that of the result,",
        root,
        sp.sqrt(quotient.variance),
        shown=r"\sqrt{\beta_{t\mid s}}\,\sqrt{\bar\beta_s}\,/\sqrt{\bar\beta_t} = \sqrt{\tilde\beta_{t\mid s}}",
    )
    prefactors = -sp.log(2 * sp.pi * beta) / 2 - sp.log(2 * sp.pi * beta_bar_s) / 2 + sp.log(2 * sp.pi * beta_bar_t) / 2
    proof.equal(
        "so that the quotient of the densities is the normal density of this mean and this variance, constant included:",
        prefactors + STEP + MARGINAL_S - MARGINAL_T,
        log_density(xs, MEAN, VARIANCE),
        shown=r"\log q(x_t\mid x_s) + \log q(x_s\mid x_0) - \log q(x_t\mid x_0)"
        r" = \log\mathcal N(x_s;\ \tilde\mu,\ \tilde\beta_{t\mid s})",
    )
    proof.only_where(beta_bar_t, NO_STEP)
    proof.only_where(beta_bar_s, "at s = 0 the posterior is the point mass at x_0 and has no density; ask for s >= 1")
    proof.conclude(log_density=log_density(xs, MEAN, VARIANCE))


@derives(
    r"a = \frac{\alpha_{t\mid s}}{\beta_{t\mid s}} + \frac1{\bar\beta_s},\quad"
    r" b = \frac{2\sqrt{\alpha_{t\mid s}}}{\beta_{t\mid s}}x_t + \frac{2\sqrt{\bar\alpha_s}}{\bar\beta_s}x_0,\quad"
    r" \tilde\mu = \frac b{2a},\quad \tilde\beta_{t\mid s} = \frac1a",
    source="ho2020, eq. (7), derivation",
)
def posterior_completing_square(proof: Proof) -> None:
    r"""The short way: whatever does not contain $x_s$ only normalises, so the denominator of Bayes' rule is left away.
    The exponent is then a polynomial of second degree, of which two coefficients say everything.
    """
    start(proof)
    exponent = STEP + MARGINAL_S
    proof.say(
        r"Up to factors without $x_s$ the posterior is $q(x_t\mid x_s)\,q(x_s\mid x_0)$, with the exponent", exponent
    )
    polynomial = sp.Poly(sp.expand(-2 * exponent), xs)
    a, b = polynomial.coeff_monomial(xs**2), -polynomial.coeff_monomial(xs)
    proof.say(r"which is $-\tfrac12(a x_s^2 - b x_s + C)$. Its coefficients are read off:")
    precision = alpha / beta + 1 / beta_bar_s
    linear = 2 * sp.sqrt(alpha) / beta * xt + 2 * sp.sqrt(alpha_bar_s) / beta_bar_s * x0
    proof.equal("$a$, twice the coefficient of the square (precisions add):", a, precision)
    proof.equal("and $b$, that of the linear term, sign changed:", b, linear)
    (vertex,) = sp.solve(sp.diff(exponent, xs), xs)
    proof.equal(
        "The exponent is greatest where its derivative vanishes, at",
        vertex,
        linear / (2 * precision),
        shown=r"x_s = \frac b{2a}",
    )
    proof.equal("which is the mean", linear / (2 * precision), MEAN)
    proof.equal(
        "and its curvature is the inverse variance:",
        -sp.diff(exponent, xs, 2),
        precision,
        shown=r"-\frac{d^2}{dx_s^2}\left[-\tfrac12(a x_s^2 - b x_s + C)\right] = a",
    )
    proof.equal(r"so that the variance is $1/a$,", 1 / precision, VARIANCE)
    proof.only_where(beta_bar_t, NO_STEP)
    proof.only_where(beta_bar_s, "at s = 0 the precision is infinite (the point mass at x_0); ask for s >= 1")
    proof.conclude(a=precision, b=linear)
