r"""Mean and covariance of the data given noisy data: what the best noise prediction says of them, and what it leaves open."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic import plane
from ddpm_ref.symbolic.analytic.data_set import (
    LEFT_OVER,
    NOISE,
    POINT,
    SIGNAL,
    density,
    domain,
    given_xt,
    i,
    in_masses,
    in_one_dimension,
    noisy,
    over_both,
    over_points,
    start,
    weight,
)  # fmt: skip
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import complete_square, expectation
from ddpm_ref.symbolic.posterior.chain import MARGINAL_T
from ddpm_ref.symbolic.prediction import x0_from_eps, x0_from_score
from ddpm_ref.symbolic.symbols import (
    alpha_bar_t,
    beta_bar_t,
    data_mean,
    data_variance,
    eps,
    eps_hat,
    equation,
    letter,
    score,
    x0,
    xt,
)  # fmt: skip

V_T = alpha_bar_t * data_variance + beta_bar_t
"""Variance of the noisy data, if the data are normal."""
RATIO = beta_bar_t / alpha_bar_t

point_a, point_b = letter("point_a", "a", real=True), letter("point_b", "b", real=True)
weight_a = letter("weight_a", "w", positive=True)
best_eps = letter("best_eps", r"\hat\varepsilon^*", real=True)
noise_variance = letter("noise_variance", r"\mathrm{Var}(\varepsilon\mid x_t)", nonnegative=True)
ENERGIES = plane.symmetric("energy", r"\mathbb E[\hat\varepsilon^*\hat\varepsilon^{*\top}]_{#}")
slope = letter("slope", r"\frac{\partial\bar\mu}{\partial x_t}", nonnegative=True)
noise_second = letter("noise_second_moment", r"\mathbb E[\varepsilon^2\mid x_t]", nonnegative=True)


def normal_x0_given_xt() -> tuple[sp.Expr, sp.Expr]:
    """Mean and variance of normal data given noisy data, by completing the square."""
    square = complete_square(MARGINAL_T - (x0 - data_mean) ** 2 / (2 * data_variance), x0)
    return square.mean, square.variance


def over_noise(f: sp.Expr) -> sp.Expr:
    """Expectation given ``xt`` of a polynomial of second degree in the noise: two moments determine it."""
    moments = {0: sp.S.One, 1: best_eps, 2: noise_variance + best_eps**2}
    return sp.Add(*(c * moments[power] for (power,), c in sp.Poly(sp.expand(f), eps).terms()))


def share_of_a() -> sp.Expr:
    """Of data in two points: the probability of the first one given noisy data, by Bayes' rule."""
    masses = (w * sp.exp(MARGINAL_T.subs(x0, p)) for w, p in ((weight_a, point_a), (1 - weight_a, point_b)))
    first, second = masses
    return first / (first + second)


@derives(
    r"\bar\mu(x_t) = \mathbb E[x_0\mid x_t]"
    r" = \frac{x_t - \sqrt{\bar\beta_t}\,\mathbb E[\varepsilon\mid x_t]}{\sqrt{\bar\alpha_t}}"
    r" = \frac{x_t + \bar\beta_t\,\nabla\log q(x_t)}{\sqrt{\bar\alpha_t}}",
    source="efron2011; bao2022, eq. (6)",
)
def x0_posterior_mean(proof: Proof) -> None:
    r"""Tweedie's formula. The density of the noisy data is a sum over the data points; its logarithm is differentiated, and what
    comes out are the points weighted by Bayes' rule. Nothing is assumed of the data. Averaged over the noisy data the mean is
    that of the data.
    """
    start(proof)
    q, point, left_over = density(), POINT[0], LEFT_OVER[0]
    proof.say(
        r"By Bayes' rule a point has at $x_t$ the probability $m_i/\sum_j m_j$, where $m_i = w_i\,q(x_t\mid a_i)$.",
        equation(r"\mathbb E[x_0\mid x_t]", given_xt(point)),
    )
    slope_of_log = in_masses(sp.diff(sp.log(q), noisy[0]))
    proof.equal(
        r"The logarithm of $q(x_t) = \sum_i w_i\,q(x_t\mid a_i)$, differentiated, is the mean of the noise that the"
        r" points leave"
        " over, scaled:",
        slope_of_log,
        -given_xt(left_over) / NOISE,
        shown=r"\nabla\log q(x_t) = -\frac{1}{\sqrt{\bar\beta_t}}\cdot\frac{\sum_i m_i\,\varepsilon_i}{\sum_i m_i},\quad"
        r" \varepsilon_i = \frac{x_t - \sqrt{\bar\alpha_t}\,a_i}{\sqrt{\bar\beta_t}}",
    )
    proof.equal(
        r"Solved for the mean of the data that stands in it:",
        (noisy[0] + beta_bar_t * slope_of_log) / SIGNAL,
        given_xt(point),
        shown=r"\frac{x_t + \bar\beta_t\,\nabla\log q(x_t)}{\sqrt{\bar\alpha_t}} = \mathbb E[x_0\mid x_t]",
    )
    proof.equal(
        "The same with the noise taken off, because a mean is linear:",
        (noisy[0] - NOISE * given_xt(left_over)) / SIGNAL,
        given_xt(point),
        shown=r"\frac{x_t - \sqrt{\bar\beta_t}\,\mathbb E[\varepsilon\mid x_t]}{\sqrt{\bar\alpha_t}} = \mathbb E[x_0\mid x_t]",
    )
    proof.equal(
        r"It is what `x0_from_eps` makes of the best prediction of the noise,",
        in_one_dimension((noisy[0] - NOISE * eps_hat) / SIGNAL),
        x0_from_eps().results["x0"].subs(eps, eps_hat),
        shown=r"\hat x_0(\mathbb E[\varepsilon\mid x_t]) = \mathbb E[x_0\mid x_t]",
    )
    proof.equal(
        r"and averaged over $x_t$ (the density $q(x_t)$ cancels the denominator) it is the mean of the data.",
        over_both(point),
        over_points(weight[i] * point),
        shown=r"\mathbb E\,\bar\mu(x_t) = \sum_i w_i a_i = \mathbb E[x_0]",
    )
    normal, _ = normal_x0_given_xt()
    closed = data_mean + SIGNAL * data_variance / V_T * (xt - SIGNAL * data_mean)
    proof.equal(r"Normal data $\mathcal N(m, \tau^2)$, by completing the square:", normal, closed)
    score_of_normal = -(xt - SIGNAL * data_mean) / V_T
    proof.equal(
        "as the formula says with their score.",
        x0_from_score().results["x0"].subs(score, score_of_normal),
        closed,
        shown=r"\frac{x_t + \bar\beta_t\,\nabla\log\mathcal N(x_t;\ \sqrt{\bar\alpha_t}\,m,\ V_t)}{\sqrt{\bar\alpha_t}}",
    )
    share = share_of_a()
    domain(proof)
    proof.conclude(
        from_score=x0_from_score().results["x0"],
        from_eps=(xt - NOISE * eps_hat) / SIGNAL,
        normal=closed,
        two_points=share * point_a + (1 - share) * point_b,
    )


@derives(
    r"\mathrm{Cov}(x_0\mid x_t) = \frac{\bar\beta_t}{\bar\alpha_t}\,\mathrm{Cov}(\varepsilon\mid x_t)"
    r" = \frac{1}{\bar\alpha_t}\,\mathbb E[\nu\nu^\top\mid x_t]"
    r" - \frac{\bar\beta_t}{\bar\alpha_t}\,\hat\varepsilon^*\hat\varepsilon^{*\top}"
    r" = \frac{\bar\beta_t}{\sqrt{\bar\alpha_t}}\,\frac{\partial\bar\mu}{\partial x_t},\quad"
    r" \nu = x_t - \sqrt{\bar\alpha_t}\,x_0",
    source="bao2022, theorem 1, proof",
)
def x0_posterior_covariance(proof: Proof) -> None:
    r"""Given the noisy data, data and noise determine each other, so that one covariance is a multiple of the other. The identity
    is shown entry by entry in the plane, for any data; with any prediction but $\hat\varepsilon^* = \mathbb E[\varepsilon\mid
    x_t]$ it does not hold. The last form says that the Jacobian of the mean is symmetric and positive semi-definite.
    """
    start(proof)
    covariance, rest = _covariances(POINT), noisy - SIGNAL * POINT
    entries = ((0, 0), (0, 1))
    proof.say(
        r"The covariance given $x_t$ is the mean of products less the product of means; e.g. off the diagonal",
        equation(r"\mathrm{Cov}_{12}", covariance[0, 1]),
    )
    of_rest = _covariances(rest)
    proof.all_vanish(
        r"What a point leaves over, $\nu = x_t - \sqrt{\bar\alpha_t}\,x_0 = \sqrt{\bar\beta_t}\,\varepsilon$, is affine in the"
        " point. So the covariances are proportional, on the diagonal and off it.",
        [alpha_bar_t * covariance[entry] - of_rest[entry] for entry in entries],
        shown=r"\bar\alpha_t\,\mathrm{Cov}(x_0\mid x_t) = \mathrm{Cov}(\nu\mid x_t)"
        r" = \bar\beta_t\,\mathrm{Cov}(\varepsilon\mid x_t)",
    )
    best = [given_xt(each) for each in rest]
    proof.all_vanish(
        r"With $\mathbb E[\nu\mid x_t] = \sqrt{\bar\beta_t}\,\hat\varepsilon^*$ that is the published identity.",
        [alpha_bar_t * covariance[j, k] - given_xt(rest[j] * rest[k]) + best[j] * best[k] for j, k in entries],
        shown=r"\bar\alpha_t\,\mathrm{Cov}(x_0\mid x_t) = \mathbb E[\nu\nu^\top\mid x_t]"
        r" - \bar\beta_t\,\hat\varepsilon^*\hat\varepsilon^{*\top}",
    )
    mean = density(POINT[0]) / density()
    slopes = [sp.expand(beta_bar_t * in_masses(sp.diff(mean, each))) for each in noisy]
    proof.all_vanish(
        r"The mean, differentiated by the two components of $x_t$, is the covariance once more.",
        [SIGNAL * covariance[0, k] - slopes[k] for k in (0, 1)],
        shown=r"\sqrt{\bar\alpha_t}\,\mathrm{Cov}(x_0\mid x_t) = \bar\beta_t\,\frac{\partial\bar\mu}{\partial x_t}",
    )
    _other_prediction(proof)
    normal_mean, normal = normal_x0_given_xt()
    closed = data_variance * beta_bar_t / V_T
    proof.equal(r"Normal data, by completing the square, have the same variance at every $x_t$:", normal, closed)
    proof.equal("which is what the slope of their mean says.", beta_bar_t / SIGNAL * sp.diff(normal_mean, xt), closed)
    share = share_of_a()
    two_points = (point_a - point_b) ** 2 * share * (1 - share)
    from_slope = beta_bar_t / SIGNAL * sp.diff(share * point_a + (1 - share) * point_b, xt)
    at_a, at_b = sp.Dummy("at_a", positive=True), sp.Dummy("at_b", positive=True)
    kernels = {sp.exp(MARGINAL_T.subs(x0, p)): at for p, at in ((point_a, at_a), (point_b, at_b))}
    proof.equal(
        r"Data in two points do not: with the probability $p_a$ of the first one at $x_t$ it is",
        from_slope.subs(kernels),
        two_points.subs(kernels),
        shown=r"\mathrm{Var}(x_0\mid x_t) = (a - b)^2\,p_a(1 - p_a)",
    )
    odds = letter("ratio_of_masses", r"\rho", positive=True)
    proof.equal(
        r"For $\pm1$ with equal odds the two masses have, at $x_t$, a ratio $\rho$ with the logarithm",
        MARGINAL_T.subs(x0, 1) - MARGINAL_T.subs(x0, -1),
        2 * SIGNAL * xt / beta_bar_t,
        shown=equation(r"\log\rho", 2 * SIGNAL * xt / beta_bar_t),
    )
    proof.equal(
        r"and $(\rho - 1)/(\rho + 1) = \tanh(\tfrac12\log\rho)$: the variance falls from 1 at $x_t = 0$ to 0 far out.",
        4 * (odds / (odds + 1)) * (1 - odds / (odds + 1)),
        1 - ((odds - 1) / (odds + 1)) ** 2,
        shown=r"\mathrm{Var}(x_0\mid x_t) = 1 - \tanh^2\left(\frac{\sqrt{\bar\alpha_t}\,x_t}{\bar\beta_t}\right)",
    )
    domain(proof)
    proof.conclude(
        from_noise=RATIO * (noise_second - eps_hat**2),
        from_slope=beta_bar_t / SIGNAL * slope,
        normal=closed,
        two_points=two_points,
    )


def _covariances(of: sp.Matrix) -> sp.Matrix:
    means = [given_xt(each) for each in of]
    return sp.Matrix(2, 2, lambda j, k: given_xt(of[j] * of[k]) - means[j] * means[k])


def _other_prediction(proof: Proof) -> None:
    """The mean squared error of any prediction, and what the identity would make of it."""
    implied = x0_from_eps().results["x0"]
    squared = over_noise((implied - implied.subs(eps, eps_hat)) ** 2)
    proof.equal(
        r"Another prediction $\hat\varepsilon$ leaves the data, around what it implies for them, with the mean square",
        squared,
        RATIO * (noise_variance + (best_eps - eps_hat) ** 2),
        shown=r"\mathbb E[(x_0 - \hat x_0)^2\mid x_t] = \frac{\bar\beta_t}{\bar\alpha_t}\left(\mathrm{Var}(\varepsilon\mid x_t)"
        r" + (\hat\varepsilon^* - \hat\varepsilon)^2\right)",
    )
    proof.equal(
        r"The identity with $\hat\varepsilon$ in it is neither this nor the covariance: it is off by",
        RATIO * (noise_variance + best_eps**2 - eps_hat**2) - RATIO * noise_variance,
        RATIO * (best_eps - eps_hat) * (best_eps + eps_hat),
    )


@derives(
    r"\mathbb E_{q(x_t)}\,\mathrm{Cov}(x_0\mid x_t)"
    r" = \frac{\bar\beta_t}{\bar\alpha_t}\left(I - \mathbb E[\hat\varepsilon^*\hat\varepsilon^{*\top}]\right)",
    source="bao2022, theorem 1",
)
def x0_posterior_covariance_averaged(proof: Proof) -> None:
    r"""The covariance averaged over the noisy data: another object, one matrix for all of them. The first term of the identity
    becomes a constant, since averaged over $x_t$ the noise has the covariance it was drawn with; only the energy of the best
    prediction is left to be known.
    """
    start(proof)
    rest, total = noisy - SIGNAL * POINT, over_points(weight[i])
    seconds = [over_both(rest[0] * rest[k]) for k in (0, 1)]
    proof.equal(
        r"The average over $x_t$ of a mean given $x_t$ is the mean over data and noise, in which $\nu = \sqrt{\bar\beta_t}\,"
        r"\varepsilon$. On the diagonal it is a constant,",
        seconds[0],
        beta_bar_t * total,
        shown=r"\mathbb E[\nu_1^2] = \bar\beta_t\sum_iw_i = \bar\beta_t",
    )
    proof.equal("and off it nothing.", seconds[1], sp.S.Zero, shown=r"\mathbb E[\nu_1\nu_2] = 0")
    averaged = [(second / alpha_bar_t).subs(total, 1) - RATIO * ENERGIES[0, k] for k, second in enumerate(seconds)]
    proof.all_vanish(
        r"So the pointwise identity, averaged entry by entry, is",
        [averaged[k] - RATIO * (sp.eye(2) - ENERGIES)[0, k] for k in (0, 1)],
        shown=r"\frac{1}{\bar\alpha_t}\,\mathbb E[\nu\nu^\top] - \frac{\bar\beta_t}{\bar\alpha_t}\,"
        r"\mathbb E[\hat\varepsilon^*\hat\varepsilon^{*\top}]"
        r" = \frac{\bar\beta_t}{\bar\alpha_t}\left(I - \mathbb E[\hat\varepsilon^*\hat\varepsilon^{*\top}]\right)",
    )
    _total_variance(proof)
    best = NOISE * (xt - SIGNAL * data_mean) / V_T
    energy = proof.equal(
        r"Normal data: $\hat\varepsilon^* = \sqrt{\bar\beta_t}\,(x_t - \sqrt{\bar\alpha_t}\,m)/V_t$ has the energy",
        expectation(best**2, xt, SIGNAL * data_mean, V_T),
        beta_bar_t / V_T,
        shown=equation(r"\mathbb E[(\hat\varepsilon^*)^2]", beta_bar_t / V_T),
    )
    closed = data_variance * beta_bar_t / V_T
    proof.equal(r"and the average is what the variance is at every $x_t$.", RATIO * (1 - energy), closed)
    domain(proof)
    proof.conclude(diagonal=RATIO * (1 - ENERGIES[0, 0]), off_diagonal=-RATIO * ENERGIES[0, 1], normal=closed)


def _total_variance(proof: Proof) -> None:
    """What the noisy data explain of the data and what they leave open make up the whole."""
    total, second = over_points(weight[i]), over_points(weight[i] * POINT[0] ** 2)
    proof.equal(
        r"The law of total variance comes out of it. By the same rule $\mathbb E[x_t\hat\varepsilon^*] ="
        r" \mathbb E[x_t\varepsilon]$ is",
        over_both(noisy[0] * LEFT_OVER[0]),
        NOISE * total,
        shown=r"\mathbb E[x_t\,\hat\varepsilon^*] = \sqrt{\bar\beta_t}",
    )
    square = over_both(noisy[0] ** 2) - 2 * NOISE * over_both(noisy[0] * LEFT_OVER[0]) + beta_bar_t * ENERGIES[0, 0]
    proof.equal(
        r"so that of $\bar\mu(x_t) = (x_t - \sqrt{\bar\beta_t}\,\hat\varepsilon^*)/\sqrt{\bar\alpha_t}$ the second"
        r" moment and the"
        " average variance add up to the second moment of the data.",
        square.subs(total, 1) / alpha_bar_t + RATIO * (1 - ENERGIES[0, 0]),
        second,
        shown=r"\mathbb E\,\bar\mu(x_t)^2 + \mathbb E\,\mathrm{Var}(x_0\mid x_t) = \mathbb E[x_0^2]",
    )
