r"""Losses without the weights of the bound, and what minimises them: means, medians, floors that no network gets below."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import density, expectation
from ddpm_ref.symbolic.objectives.optimality import CLEAN, V_T, best_normal_eps, over_data_and_noise
from ddpm_ref.symbolic.objectives.relations import x0_eps_error_relation
from ddpm_ref.symbolic.objectives.weights import loss_weight_eps
from ddpm_ref.symbolic.posterior.chain import AT_LEVEL_0
from ddpm_ref.symbolic.prediction import MIXTURE, NOISE
from ddpm_ref.symbolic.symbols import (
    alpha,
    alpha_bar_t,
    beta,
    beta_bar_t,
    data_variance,
    eps,
    eps_hat,
    equation,
    gain,
    letter,
    xt,
)  # fmt: skip

i = letter("i", "i", integer=True, positive=True)
j = letter("j", "j", integer=True, nonnegative=True)
dimension = letter("dimension", "d", integer=True, positive=True)
examples = letter("examples", "n", integer=True, positive=True)
errors = sp.IndexedBase(letter("errors", "e", real=True))
squared_norm = letter("squared_norm_of_error", r"\lVert\varepsilon-\hat\varepsilon\rVert^2", nonnegative=True)
weight_t, weight_s = letter("weight_of_t", "w_t", positive=True), letter("weight_of_s", "w_s", positive=True)
answer = letter("answer", "f", real=True)
u = letter("u", "u", real=True)
z = letter("z_score", r"\zeta", real=True)

_NORMAL = r"$x_0 \sim \mathcal N(0, \tau^2)$, one component; $V_t = \bar\alpha_t\tau^2 + \bar\beta_t$."


@derives(
    r"L_{\mathrm{simple}} = \mathbb E_{t,x_0,\varepsilon}\left\lVert\varepsilon - \epsilon_\theta\left(\sqrt{\bar\alpha_t}\,x_0"
    r" + \sqrt{\bar\beta_t}\,\varepsilon,\ t\right)\right\rVert^2;\quad \hat\varepsilon^* = \mathbb E[\varepsilon\mid x_t]",
    source="ho2020, eq. (14)",
)
def loss_simple_l2(proof: Proof) -> None:
    r"""The objective with every error of the noise weighed alike. The noise of the target is that of the input; for normal data and
    a linear network the loss is integrated and minimised. Level by level the minimum is where that of the bound is; a network that
    shares its parameters among levels finds another one, since the weights of the levels have been changed.
    """
    proof.assume(
        r"$x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{\bar\beta_t}\,\varepsilon$ with the $\varepsilon$ that is the target."
    )
    proof.assume(_NORMAL)
    loss = over_data_and_noise((eps - gain * MIXTURE) ** 2)
    closed = 1 - 2 * gain * NOISE + gain**2 * V_T
    proof.equal(
        r"The loss at level $t$ of the network $\hat\varepsilon = gx_t$, integrated over noise and data:",
        loss,
        closed,
        shown=equation("L(g)", closed),
    )
    (best,) = sp.solve(sp.diff(loss, gain), gain)
    fitted = proof.equal("It is stationary at one gain,", best, NOISE / V_T)
    proof.holds(
        "where it is least, being a parabola that opens upwards;",
        sp.Gt(sp.diff(closed, gain, 2), 0),
        shown="L'' = 2V_t > 0",
    )
    proof.equal(
        r"that is the mean of the noise given $x_t$, by completing the square.",
        best_normal_eps(),
        fitted * xt,
        shown=equation(r"\mathbb E[\varepsilon\mid x_t]", fitted * xt),
    )
    floor = alpha_bar_t * data_variance / V_T
    proof.equal("No network gets below", loss.subs(gain, best), floor)
    other = sp.Dummy("other", real=True)
    independent = expectation(over_data_and_noise((other - gain * MIXTURE) ** 2), other, 0, 1)
    proof.equal(
        "If the target is another noise than that of the input, there is nothing to learn:",
        independent,
        1 + gain**2 * V_T,
        shown=r"\mathbb E(\varepsilon' - gx_t)^2 = 1 + g^2V_t \ge 1",
    )
    _shared(proof)
    error = x0_eps_error_relation().results["x0_error"]
    first = (error / (2 * beta)).subs(AT_LEVEL_0)
    proof.equal(
        r"The level from which a step leads to the data stands for the reconstruction term: there $(x_0 - \hat x_0)^2/(2\sigma^2)$"
        r" with $\sigma^2 = \beta_{t\mid 0}$ is",
        first,
        loss_weight_eps().results["beta_to_data"] * (eps - eps_hat) ** 2,
        shown=equation(r"\frac{(x_0 - \hat x_0)^2}{2\beta_{t\mid 0}}", (eps - eps_hat) ** 2 / (2 * alpha)),
    )
    proof.only_where(beta_bar_t, CLEAN)
    proof.conclude(loss=closed, gain=fitted, floor=floor)


def _shared(proof: Proof) -> None:
    """Two levels and one gain for both: the minimum depends on the weights."""
    rest_t, rest_s = letter("rest_t", "c_t", real=True), letter("rest_s", "c_s", real=True)
    best_t, best_s = letter("best_t", "g_t", real=True), letter("best_s", "g_s", real=True)
    scale_t, scale_s = letter("scale_t", "V_t", positive=True), letter("scale_s", "V_s", positive=True)
    total = weight_t * (scale_t * (gain - best_t) ** 2 + rest_t) + weight_s * (scale_s * (gain - best_s) ** 2 + rest_s)
    (shared,) = sp.solve(sp.diff(total, gain), gain)
    proof.equal(
        r"Two levels with the minima $g_t$ and $g_s$, one gain for both, and weights $w_t$, $w_s$: the minimum is at",
        shared,
        (weight_t * scale_t * best_t + weight_s * scale_s * best_s) / (weight_t * scale_t + weight_s * scale_s),
    )
    proof.equal(
        "With a gain for each level the weights would not matter;",
        sp.solve(sp.diff(total, gain).subs(weight_s, 0), gain)[0],
        best_t,
        shown="g = g_t",
    )
    moved = sp.factor(sp.diff(shared, weight_t))
    proof.equal(
        "with one for both they do, unless both minima agree already.",
        moved,
        weight_s * scale_s * scale_t * (best_t - best_s) / (weight_t * scale_t + weight_s * scale_s) ** 2,
        shown=equation(r"\frac{\partial g}{\partial w_t}", moved),
    )


@derives(
    r"\mathbb E\lvert\varepsilon - f\rvert \to \min:\quad P(\varepsilon < f\mid x_t) = P(\varepsilon > f\mid x_t)",
    source="standard",
)
def loss_simple_l1(proof: Proof) -> None:
    r"""The absolute error is differentiated under the integral, for any density of the noise given $x_t$: it is least at the
    median. That is the mean if the density is symmetric, as for normal data, where the floor is computed; elsewhere it is
    another number.
    """
    proof.assume(r"Given $x_t$ the noise of a component has a density $p$; $f$ is the answer of the network.")
    p, y = sp.Function("p"), sp.Symbol("y", real=True)
    below = sp.Integral((answer - y) * p(y), (y, -sp.oo, answer))
    above = sp.Integral((y - answer) * p(y), (y, answer, sp.oo))
    slope = sp.diff(below + above, answer)
    shares = sp.Integral(p(y), (y, -sp.oo, answer)), sp.Integral(p(y), (y, answer, sp.oo))
    proof.equal(
        "The derivative of the expected error by the answer (Leibniz' rule; at the moving end the error is 0)",
        slope.replace(lambda part: isinstance(part, sp.Integral), lambda part: part.doit()),
        shares[0] - shares[1],
        shown=r"\frac{d}{df}\mathbb E\lvert\varepsilon - f\rvert = P(\varepsilon < f) - P(\varepsilon > f)",
    )
    proof.equal(
        "vanishes at the median, and grows with the answer: the loss is convex.",
        sp.diff(slope, answer),
        2 * p(answer),
        shown=r"\frac{d^2}{df^2}\mathbb E\lvert\varepsilon - f\rvert = 2p(f) \ge 0",
    )
    standard = density(u, 0, 1)
    error = sp.integrate((z - u) * standard, (u, -sp.oo, z)) + sp.integrate((u - z) * standard, (u, z, sp.oo))
    published = sp.sqrt(2 / sp.pi) * sp.exp(-(z**2) / 2) + z * sp.erf(z / sp.sqrt(2))
    proof.equal(
        r"A normal law of deviation 1 and an answer that is off by $\zeta$:",
        sp.expand(error.rewrite(sp.erf)),
        published,
        shown=equation(r"\mathbb E\lvert u - \zeta\rvert", published),
    )
    proof.equal("It is least where nothing is off,", sp.diff(published, z).subs(z, 0), sp.S.Zero, shown=r"\zeta = 0")
    least = proof.equal("with the value", published.subs(z, 0), sp.sqrt(2 / sp.pi))
    spread = over_data_and_noise((eps - NOISE / V_T * MIXTURE) ** 2)
    floor = least * sp.sqrt(alpha_bar_t * data_variance / V_T)
    spread = proof.equal(
        r"Normal data leave the noise given $x_t$ normal, with the variance that is the floor of the squared error;",
        spread,
        alpha_bar_t * data_variance / V_T,
    )
    proof.equal(
        "so the absolute error has its minimum at the same answer, and there",
        least * sp.sqrt(spread),
        floor,
        equation(r"\min\mathbb E\lvert\varepsilon - f\rvert", floor),
    )
    share = letter("share", "p", positive=True)
    first, second = letter("value_1", "a", real=True), letter("value_2", "b", real=True)
    gap = letter("gap", r"\delta", positive=True)
    within = (share * (answer - first) + (1 - share) * (second - answer)).subs(second, first + gap)
    proof.equal(
        r"Two values $a < b$ with probabilities $p$ and $1 - p$: between them the slope is constant,",
        sp.diff(within, answer),
        2 * share - 1,
    )
    proof.equal(
        r"so that for $p > \tfrac12$ the minimum is at $a$, and not at the mean, which is away by",
        share * first + (1 - share) * (first + gap) - first,
        (1 - share) * gap,
        shown=r"p\,a + (1 - p)\,b - a = (1 - p)(b - a)",
    )
    proof.only_where(beta_bar_t, CLEAN)
    proof.conclude(floor=floor, normal=published)


@derives(
    r"\lVert\varepsilon - \hat\varepsilon\rVert^2 = d\cdot\frac1d\sum_i(\varepsilon_i - \hat\varepsilon_i)^2",
    source="ho2020, code",
)
def loss_reduction(proof: Proof) -> None:
    r"""The papers have a squared norm, programs a mean over the components: a constant factor, which moves no minimum but scales
    losses and gradients. A mean over everything is the mean over the examples of the means of each, if all have the same shape.
    """
    proof.assume(r"$n$ examples of $d$ components each; $e_i$ are the errors of an example.")
    norm = sp.Sum(errors[i] ** 2, (i, 1, dimension))
    proof.equal(
        "A squared norm is the mean squared error times the number of components.",
        norm,
        dimension * (sp.Sum(errors[i] ** 2, (i, 1, dimension)) / dimension),
        shown=r"\sum_ie_i^2 = d\cdot\frac1d\sum_ie_i^2",
    )
    one, two = (answer - letter("value_1", "a", real=True)) ** 2, (answer - letter("value_2", "b", real=True)) ** 2
    whole = sp.solve(sp.diff(one + two, answer), answer)[0]
    proof.equal(
        "The factor moves no minimum: of two targets for one answer,",
        sp.solve(sp.diff((one + two) / dimension, answer), answer)[0],
        whole,
        shown=equation(r"\arg\min", whole),
    )
    proof.equal(
        "but the gradient is scaled by it.",
        sp.diff((one + two) / dimension, answer),
        sp.diff(one + two, answer) / dimension,
        shown=r"\nabla\left(\tfrac1dL\right) = \tfrac1d\nabla L",
    )
    each = errors[i, j] ** 2
    everything = sp.Sum(each, (i, 1, dimension), (j, 0, examples - 1)) / (dimension * examples)
    nested = sp.Sum(sp.Sum(each, (i, 1, dimension)) / dimension, (j, 0, examples - 1)) / examples
    proof.equal(
        "The mean over all components of all examples is the mean of the losses of the examples.",
        everything,
        nested,
        shown=r"\frac1{nd}\sum_{j,i}e_{ji}^2 = \frac1n\sum_j\left(\frac1d\sum_ie_{ji}^2\right)",
    )
    proof.conclude(mean=squared_norm / dimension, norm=squared_norm)
