r"""Kullback-Leibler divergence of normal laws, :math:`D = \mathbb E_1[\log p_1 - \log p_2]`, by integration, in nats.

One component is integrated in full, two are done entry by entry with any two covariances, and the general dimension
follows from the expectation of a quadratic form, which needs no more than linearity.
"""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic import plane
from ddpm_ref.symbolic.derivation import Derive, Proof, derives
from ddpm_ref.symbolic.gaussian import expectation, log_density
from ddpm_ref.symbolic.symbols import equation, latex, letter, mean1, mean2, variance, variance1, variance2, x

ratio = letter("ratio", "r", positive=True)
dimension = letter("d", "d", integer=True, positive=True)
squared_distance = letter("squared_distance", r"\lVert\mu_1-\mu_2\rVert^2", nonnegative=True)
logvar1, logvar2 = letter("logvar1", r"\ell_1", real=True), letter("logvar2", r"\ell_2", real=True)

SCALAR = (sp.log(variance2 / variance1) - 1 + variance1 / variance2 + (mean1 - mean2) ** 2 / variance2) / 2
LOGVAR = (sp.exp(logvar1 - logvar2) - 1 - (logvar1 - logvar2) + (mean1 - mean2) ** 2 * sp.exp(-logvar2)) / 2
SPREAD = ratio - 1 - sp.log(ratio)

_FIRST = "a first law of variance 0 is a point, and its divergence from any other is infinite; give a variance > 0"
_SECOND = "a second law of variance 0 is a point, and the divergence from it is infinite; give a variance > 0"
_DEFINITION = (
    r"$D(p_1\Vert p_2) = \mathbb E_{x \sim p_1}[\log p_1(x) - \log p_2(x)]$: the expectation is under the first law."
)


def _planar(centre1: sp.Matrix, spread1: sp.Matrix, centre2: sp.Matrix, spread2: sp.Matrix) -> sp.Expr:
    """The published form in two dimensions."""
    precision, shift = plane.inverse(spread2), centre2 - centre1
    logarithm = sp.log(spread2.det() / spread1.det())
    return (logarithm - 2 + (precision * spread1).trace() + plane.quadratic(precision, shift)) / 2


@derives(
    r"D = \tfrac12\left[\log\frac{|\Sigma_2|}{|\Sigma_1|} - d + \mathrm{tr}(\Sigma_2^{-1}\Sigma_1)"
    r" + (\mu_2-\mu_1)^\top\Sigma_2^{-1}(\mu_2-\mu_1)\right]",
    source="standard; the one-dimensional case in ho2020, eq. (5)",
)
def kl_gaussian_full(proof: Proof) -> None:
    r"""The divergence of two normal laws with any means and covariances. One component by integration; two components after
    whitening, each entry checked; any number of them from $\mathbb E[y^\top Py] = \mathrm{tr}(P\Sigma) + m^\top Pm$. Then what
    makes it a divergence: it is a sum of squares and of terms $r - 1 - \log r$, none of which is negative.
    """
    proof.assume(_DEFINITION)
    proof.assume(
        r"Both covariances are positive definite: $\Sigma_1 = AA^\top$, $\Sigma_2 = BB^\top$ with triangular $A$, $B$."
    )
    logratio = log_density(x, mean1, variance1) - log_density(x, mean2, variance2)
    proof.equal(
        r"One component: with $x = \mu_1 + \sigma_1u$ the integral of the log ratio under the first law is",
        expectation(logratio, x, mean1, variance1),
        SCALAR,
        shown=equation("D", SCALAR),
    )

    first, second = plane.lower("A", "A_{#}"), plane.lower("B", "B_{#}")
    centre1, centre2 = plane.vector("mean1", r"\mu_{1,#}"), plane.vector("mean2", r"\mu_{2,#}")
    u = plane.vector("u", "u_{#}")
    ratio_matrix, shift = plane.inverse(second) * first, plane.inverse(second) * (centre1 - centre2)
    white = shift + ratio_matrix * u
    proof.say(
        r"Two components: let $x = \mu_1 + Au$ with independent standard $u_1, u_2$. Seen from the second law the same point is"
        r" $w = B^{-1}(x - \mu_2)$, that is $B^{-1}(\mu_1-\mu_2) + Mu$ with $M = B^{-1}A$:",
        ratio_matrix,
    )
    planar_logratio = sp.log(second.det()) - sp.log(first.det()) - u.dot(u) / 2 + white.dot(white) / 2
    expected = plane.standard_expectation(planar_logratio, u)
    proof.equal(
        r"By `gaussian_density` the log ratio is $\log|B| - \log|A| - \tfrac12u^\top u + \tfrac12w^\top w$, and its integral over"
        r" $u_1$ and $u_2$ is, entry by entry, the formula for $d = 2$.",
        expected,
        _planar(centre1, first * first.T, centre2, second * second.T),
        shown=r"D = \tfrac12\left[\log\frac{|\Sigma_2|}{|\Sigma_1|} - 2 + \mathrm{tr}(\Sigma_2^{-1}\Sigma_1)"
        r" + (\mu_2-\mu_1)^\top\Sigma_2^{-1}(\mu_2-\mu_1)\right]",
    )
    _any_dimension(proof)
    _not_negative(proof, expected, ratio_matrix, shift)
    _invariant(proof)
    proof.only_where(variance1, _FIRST)
    proof.only_where(variance2, _SECOND)
    spread1, spread2 = plane.symmetric("S1", r"\Sigma_{1,#}"), plane.symmetric("S2", r"\Sigma_{2,#}")
    for spread, name in ((spread1, "first"), (spread2, "second")):
        proof.only_where(
            spread.det(), f"the {name} covariance is not positive definite: its determinant is not positive"
        )
        proof.only_where(
            spread[0, 0], f"the {name} covariance is not positive definite: a variance in it is not positive"
        )
    proof.conclude(scalar=SCALAR, planar=_planar(centre1, spread1, centre2, spread2))


def _any_dimension(proof: Proof) -> None:
    """The expectation of a quadratic form, entry by entry in any dimension, and the assembly of the three terms."""
    i, j = sp.symbols("i j", integer=True, positive=True)
    form, spread, centre = sp.IndexedBase("P"), sp.IndexedBase("Sigma"), sp.IndexedBase("m")
    all_entries = (i, 1, dimension), (j, 1, dimension)
    proof.say(
        r"Any dimension: let $y$ have mean $m$ and covariance $\Sigma$. By the definition of a covariance"
        r" $\mathbb E[y_iy_j] = \Sigma_{ij} + m_im_j$, and an expectation of a sum is the sum of expectations:"
    )
    trace = sp.Sum(form[i, j] * spread[i, j], *all_entries)
    square = sp.Sum(form[i, j] * centre[i] * centre[j], *all_entries)
    proof.equal(
        r"for a symmetric matrix $P$",
        sp.Sum(form[i, j] * (spread[i, j] + centre[i] * centre[j]), *all_entries),
        trace + square,
        shown=r"\mathbb E[y^\top Py] = \sum_{i,j}P_{ij}(\Sigma_{ij} + m_im_j) = \mathrm{tr}(P\Sigma) + m^\top Pm",
    )
    proof.equal(
        r"With $y = x - \mu_1$ and $P = \Sigma_1^{-1}$ the mean is 0 and the trace that of the unit matrix,",
        sp.Sum(sp.KroneckerDelta(i, i), (i, 1, dimension)),
        dimension,
        shown=r"\mathbb E[(x-\mu_1)^\top\Sigma_1^{-1}(x-\mu_1)] = \mathrm{tr}(I) = d",
    )
    proof.say(
        r"and with $y = x - \mu_2$, $P = \Sigma_2^{-1}$ mean and covariance are $\mu_1 - \mu_2$ and $\Sigma_1$:",
        r"\mathbb E[(x-\mu_2)^\top\Sigma_2^{-1}(x-\mu_2)] = \mathrm{tr}(\Sigma_2^{-1}\Sigma_1)"
        r" + (\mu_1-\mu_2)^\top\Sigma_2^{-1}(\mu_1-\mu_2)",
    )
    det1, det2 = letter("det1", r"|\Sigma_1|", positive=True), letter("det2", r"|\Sigma_2|", positive=True)
    tau, rho = letter("trace", r"\mathrm{tr}(\Sigma_2^{-1}\Sigma_1)", real=True), letter("rho", r"\rho^2", real=True)
    normaliser = dimension * sp.log(2 * sp.pi)
    proof.equal(
        r"The log densities of `gaussian_density`, averaged with these two (the last quadratic form written $\rho^2$), give",
        -(normaliser + sp.log(det1) + dimension) / 2 + (normaliser + sp.log(det2) + tau + rho) / 2,
        (sp.log(det2 / det1) - dimension + tau + rho) / 2,
        shown=equation("D", (sp.log(det2 / det1) - dimension + tau + rho) / 2),
    )


def _not_negative(proof: Proof, expected: sp.Expr, ratio_matrix: sp.Matrix, shift: sp.Matrix) -> None:
    minima = sp.solve(sp.diff(SPREAD, ratio), ratio)
    proof.holds(
        r"Sign: $f(r) = r - 1 - \log r$ is convex on $r > 0$, has its only stationary point at 1, and vanishes there,",
        [
            sp.Eq(sp.FiniteSet(*minima), sp.FiniteSet(1)),
            sp.Eq(SPREAD.subs(ratio, 1), 0),
            sp.diff(SPREAD, ratio, 2) > 0,
        ],
        shown=r"r - 1 - \log r \ge 0,\quad = 0 \iff r = 1",
    )
    parts = (
        sum(SPREAD.subs(ratio, ratio_matrix[k, k] ** 2) for k in (0, 1)) + ratio_matrix[1, 0] ** 2 + shift.dot(shift)
    )
    proof.equal(
        r"and $D$ is made of it and of squares: with the entries of $M = B^{-1}A$ and $\delta = B^{-1}(\mu_1 - \mu_2)$",
        expected,
        parts / 2,
        shown=r"D = \tfrac12\left[f(M_{11}^2) + f(M_{22}^2) + M_{21}^2 + \delta_1^2 + \delta_2^2\right] \ge 0",
    )
    proof.say(r"It vanishes only if $M$ is the unit matrix and $\delta = 0$, that is for equal laws.")
    one_way = SCALAR.subs({variance1: 1, variance2: 2, mean1: 0, mean2: 0})
    other_way = SCALAR.subs({variance1: 2, variance2: 1, mean1: 0, mean2: 0})
    proof.holds(
        r"It is not symmetric; e.g. for variances 1 and 2 and equal means the two directions differ by",
        one_way - other_way < 0,
        shown=rf"{latex(sp.expand_log(one_way - other_way))} < 0",
    )


def _invariant(proof: Proof) -> None:
    spread1, spread2 = plane.symmetric("S1", r"\Sigma_{1,#}"), plane.symmetric("S2", r"\Sigma_{2,#}")
    move, shift = plane.matrix("K", "K_{#}"), plane.vector("delta", r"\delta_{#}")
    moved1, moved2 = move * spread1 * move.T, move * spread2 * move.T
    precision = plane.inverse(move).T * plane.inverse(spread2) * plane.inverse(move)
    proof.say(
        r"In other coordinates, $x \mapsto Kx + c$ with invertible $K$, means differ by $K\delta$ and covariances are"
        r" $K\Sigma K^\top$."
    )
    proof.all_vanish(
        r"The inverse of the second is $K^{-\top}\Sigma_2^{-1}K^{-1}$,",
        precision * moved2 - sp.eye(2),
        shown=r"(K\Sigma_2K^\top)^{-1} = K^{-\top}\Sigma_2^{-1}K^{-1}",
    )
    inner = plane.matrix("P", "P_{#}")
    outer = plane.inverse(move).T * inner * plane.inverse(move)
    proof.equal(
        r"so that, with $P = \Sigma_2^{-1}$, the trace is unchanged,",
        (outer * moved1).trace(),
        (inner * spread1).trace(),
        shown=r"\mathrm{tr}\left((K\Sigma_2K^\top)^{-1}K\Sigma_1K^\top\right) = \mathrm{tr}(\Sigma_2^{-1}\Sigma_1)",
    )
    proof.equal(
        "the quadratic form too,",
        plane.quadratic(outer, move * shift),
        plane.quadratic(inner, shift),
        shown=r"(K\delta)^\top(K\Sigma_2K^\top)^{-1}K\delta = \delta^\top\Sigma_2^{-1}\delta",
    )
    proof.equal(
        "and the ratio of the determinants, in which the square of that of $K$ cancels.",
        moved2.det() * spread1.det(),
        spread2.det() * moved1.det(),
        shown=r"\frac{|K\Sigma_2K^\top|}{|K\Sigma_1K^\top|} = \frac{|\Sigma_2|}{|\Sigma_1|}",
    )


@derives(
    r"D = \tfrac12\left[-1 + \ell_2 - \ell_1 + e^{\ell_1-\ell_2} + (\mu_1-\mu_2)^2e^{-\ell_2}\right],\quad \ell = \log\sigma^2",
    source="ho2020 and nichol2021, code",
)
def kl_gaussian_diagonal(proof: Proof) -> None:
    r"""The form for networks that give the logarithms of variances, per component: for independent components the log ratio is a
    sum, and so is its expectation.
    """
    proof.assume(_DEFINITION)
    proof.assume("The components are independent under both laws; their log-variances are finite.")
    scalar = kl_gaussian_full().results["scalar"]
    substituted = scalar.subs({variance1: sp.exp(logvar1), variance2: sp.exp(logvar2)})
    proof.equal(r"With $\sigma^2 = e^\ell$ one component gives", substituted, LOGVAR, shown=equation("D", LOGVAR))
    variances = [[letter(f"var{law}_{i}", rf"\sigma_{{{law},{i}}}^2", positive=True) for i in (1, 2)] for law in (1, 2)]
    centre1, centre2 = plane.vector("mean1", r"\mu_{1,#}"), plane.vector("mean2", r"\mu_{2,#}")
    components = [
        scalar.subs({variance1: v1, variance2: v2, mean1: m1, mean2: m2})
        for v1, v2, m1, m2 in zip(*variances, centre1, centre2, strict=True)
    ]
    proof.equal(
        "Two of them add up to the form with matrices, if these are diagonal.",
        _planar(centre1, sp.diag(*variances[0]), centre2, sp.diag(*variances[1])),
        sum(components),
        shown=r"D(\mu_1,\mathrm{diag}\,\sigma_1^2\,\Vert\,\mu_2,\mathrm{diag}\,\sigma_2^2)"
        r" = \sum_i D(\mu_{1,i},\sigma_{1,i}^2\,\Vert\,\mu_{2,i},\sigma_{2,i}^2)",
    )
    delta = letter("delta", r"\Delta", real=True)
    near = LOGVAR.subs({mean1: 0, mean2: 0, logvar1: logvar2 + delta})
    leading = sp.series(sp.expand(near), delta, 0, 3).removeO()
    proof.equal(
        r"For equal means and $\Delta = \ell_1 - \ell_2$ near 0 the terms of order 0 and 1 cancel, which costs digits unless the"
        r" series is used; the first that is left is",
        leading,
        delta**2 / 4,
        shown=r"D = \tfrac14(\ell_1-\ell_2)^2 + O((\ell_1-\ell_2)^3)",
    )
    proof.conclude(divergence=LOGVAR)


@derives(
    r"D = \tfrac12\left[d\,(r - 1 - \log r) + \frac{\lVert\mu_1-\mu_2\rVert^2}{\sigma_2^2}\right],\quad"
    r" r = \frac{\sigma_1^2}{\sigma_2^2}",
    source="special case of kl_gaussian_full",
)
def kl_gaussian_isotropic(proof: Proof) -> None:
    r"""All components share one variance under each law, so the sum over them only counts one term and collects squares."""
    proof.assume(_DEFINITION)
    proof.assume(r"$\Sigma_1 = \sigma_1^2I$ and $\Sigma_2 = \sigma_2^2I$ in $d$ dimensions.")
    i = sp.Symbol("i", integer=True, positive=True)
    centre1, centre2 = sp.IndexedBase("m1"), sp.IndexedBase("m2")
    component = kl_gaussian_full().results["scalar"].subs({mean1: centre1[i], mean2: centre2[i]})
    excess = variance1 / variance2 - 1 - sp.log(variance1 / variance2)
    squares = sp.Sum((centre1[i] - centre2[i]) ** 2, (i, 1, dimension))
    result = (dimension * excess + squared_distance / variance2) / 2
    proof.equal(
        "The components are independent, so their divergences add up to",
        sp.Sum(sp.expand_log(component), (i, 1, dimension)),
        result.subs(squared_distance, squares),
        shown=equation("D", result),
    )
    logarithm = letter("log_ratio", r"\log r", real=True)
    part = SPREAD.subs(ratio, sp.exp(logarithm))
    proof.holds(
        r"The variance part is convex in $\log r$: its second derivative is $r > 0$.",
        sp.diff(part, logarithm, 2) > 0,
        shown=r"\frac{d^2}{d(\log r)^2}(r - 1 - \log r) = r > 0",
    )
    proof.equal(
        r"Its slope vanishes at $r = 1$,", sp.diff(part, logarithm).subs(logarithm, 0), sp.S.Zero, shown=r"e^0 - 1 = 0"
    )
    proof.equal("where it is 0, its minimum.", part.subs(logarithm, 0), sp.S.Zero, shown=r"1 - 1 - \log 1 = 0")
    proof.holds(
        r"As $\sigma_1^2 \to 0$ it grows like $-\log r$: no bound, but a slow one to miss.",
        [sp.Eq(sp.limit(SPREAD, ratio, 0, "+"), sp.oo), sp.Eq(sp.limit(-SPREAD / sp.log(ratio), ratio, 0, "+"), 1)],
        shown=r"\lim_{r\to0}\frac{r - 1 - \log r}{-\log r} = 1",
    )
    proof.only_where(variance1, _FIRST)
    proof.only_where(variance2, _SECOND)
    proof.conclude(divergence=result)


@derives(r"D = \frac{\lVert\mu_1-\mu_2\rVert^2}{2\sigma^2}", source="ho2020, eq. (8)")
def kl_matched_covariance(proof: Proof) -> None:
    r"""With one covariance for both laws only the distance of the means is left. This is the case of fixed variances, in which the
    terms of the bound become squared errors.
    """
    proof.assume(_DEFINITION)
    proof.assume(r"Both laws have the same covariance, which is positive definite.")
    spread = plane.symmetric("S1", r"\Sigma_{1,#}")
    centre1, centre2 = plane.vector("mean1", r"\mu_{1,#}"), plane.vector("mean2", r"\mu_{2,#}")
    precision = plane.inverse(spread)
    proof.equal(
        r"The trace is that of the unit matrix and cancels $-d$; two dimensions:",
        (precision * spread).trace(),
        sp.Integer(2),
    )
    proof.equal(
        "The determinants cancel too, and what is left is half the squared distance in the units of the covariance,",
        _planar(centre1, spread, centre2, spread),
        plane.quadratic(precision, centre1 - centre2) / 2,
        shown=r"D = \tfrac12(\mu_1-\mu_2)^\top\Sigma^{-1}(\mu_1-\mu_2)",
    )
    isotropic = kl_gaussian_isotropic().results["divergence"].subs({variance1: variance, variance2: variance})
    proof.equal(
        r"and for $\Sigma = \sigma^2I$, in any dimension,",
        isotropic,
        squared_distance / (2 * variance),
        shown=equation("D", isotropic),
    )
    result = (mean1 - mean2) ** 2 / (2 * variance)
    scalar = kl_gaussian_full().results["scalar"].subs({variance1: variance, variance2: variance})
    proof.equal("Per component:", scalar, result, shown=equation("D", result))
    swapped = result.subs({mean1: mean2, mean2: mean1}, simultaneous=True)
    proof.equal("With one covariance the two laws may be exchanged.", swapped, result)
    proof.only_where(
        variance, "two laws of variance 0 are points, and their divergence is 0 or infinite; give a variance > 0"
    )
    proof.conclude(divergence=result)


DERIVATIONS: tuple[Derive, ...] = (
    kl_gaussian_full,
    kl_gaussian_diagonal,
    kl_gaussian_isotropic,
    kl_matched_covariance,
)
