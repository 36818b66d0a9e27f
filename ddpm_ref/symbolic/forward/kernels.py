"""The chain, one step, any number of steps: the kernels of the forward process and the draws from them."""

from __future__ import annotations

import itertools

import sympy as sp

from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import expectation, log_density
from ddpm_ref.symbolic.induction import peeled
from ddpm_ref.symbolic.marginal import Normal, integrate_out, product, without
from ddpm_ref.symbolic.symbols import (
    alpha,
    alpha_bar_s,
    alpha_bar_t,
    beta,
    beta_bar_s,
    beta_bar_t,
    data_mean,
    data_variance,
    eps,
    latex,
    letter,
    t,
    x0,
    xs,
    xt,
)

x1, x2, x3 = (letter(f"x{i}", f"x_{i}", real=True) for i in (1, 2, 3))
alpha_1, alpha_2, alpha_3 = (letter(f"alpha_{i}", rf"\alpha_{i}", positive=True) for i in (1, 2, 3))
u = letter("u", "u", real=True)
w = letter("w", "w", real=True)
xr = letter("xr", "x_r", real=True)
alpha_after = letter("alpha_after", r"\alpha_{r\mid t}", positive=True)
betas = sp.IndexedBase(letter("betas", r"\beta", positive=True))
i = letter("i", "i", integer=True, positive=True)


@derives(r"q(x_{1:T}\mid x_0) = \prod_{t=1}^T q(x_t\mid x_{t-1})", source="ho2020, eq. (2)")
def forward_chain(proof: Proof) -> None:
    r"""A chain of three steps with symbolic coefficients. Its states are summed out from the end, which shows that the
    product is a density and that each state depends on the one before it alone. For normal data the same fact is seen in the
    precision matrix, which couples neighbours only, while the covariance couples every pair.
    """
    proof.assume(r"$q(x_t\mid x_{t-1}) = \mathcal N(\sqrt{\alpha_t}\,x_{t-1},\ 1-\alpha_t)$ for $t = 1, 2, 3$.")
    proof.assume(r"The data are normal with mean $m$ and variance $\tau^2$ (needed for the two matrices only).")
    alphas, states = (alpha_1, alpha_2, alpha_3), (x0, x1, x2, x3)
    steps = [
        Normal(x, sp.sqrt(a) * before, 1 - a) for x, a, before in zip(states[1:], alphas, states[:-1], strict=True)
    ]
    joint = [product(Normal(x0, data_mean, data_variance), *steps[:n]) for n in range(4)]
    proof.say("The product of the densities has the exponent", f"E_3 = {latex(joint[3].exponent)}")
    for n in (3, 2, 1):
        left = without(states[n], joint[n])
        proof.equal(
            f"Integrating ${latex(states[n])}$ out leaves the chain that ends before it: the exponent,",
            left.exponent,
            joint[n - 1].exponent,
            shown=rf"\log\int e^{{E_{n}}}\,d{latex(states[n])} = {latex(joint[n - 1].exponent)} + \text{{const}}",
        )
        proof.equal(
            "and the front (squared), so nothing but a density was integrated.",
            left.front_squared,
            joint[n - 1].front_squared,
        )
    given_all = sp.expand(joint[2].exponent - without(x2, joint[2]).exponent)
    proof.equal(
        r"Markov property: the density of $x_2$ given $x_0$ and $x_1$, joint over marginal, has the exponent of the kernel",
        given_all,
        steps[1].exponent,
        shown=rf"\log q(x_2\mid x_1, x_0) = {latex(steps[1].exponent)} + \text{{const}}",
    )
    proof.equal(
        "in which the data do not appear:",
        given_all.diff(x0),
        sp.Integer(0),
        shown=r"\partial_{x_0}\log q(x_2\mid x_1, x_0) = 0",
    )

    precision = -sp.hessian(joint[3].exponent, states)
    far = [precision[a, b] for a, b in itertools.product(range(4), repeat=2) if abs(a - b) > 1]
    proof.all_vanish(
        "The precision matrix of the four states, minus the second derivatives of the exponent, is tridiagonal:",
        far,
        shown=latex(precision),
    )
    bars = [sp.Mul(*alphas[:n]) for n in range(4)]
    covariance = sp.Matrix(
        4,
        4,
        lambda a, b: (
            sp.sqrt(bars[max(a, b)] / bars[min(a, b)]) * (bars[min(a, b)] * data_variance + 1 - bars[min(a, b)])
        ),
    )
    proof.all_vanish(
        r"Its inverse is the covariance $\sqrt{\bar\alpha_t/\bar\alpha_s}\,(\bar\alpha_s\tau^2 + 1 - \bar\alpha_s)$ of levels "
        r"$s \le t$, in which no entry is zero: their product is the identity.",
        precision * covariance - sp.eye(4),
        shown=r"\Lambda\,\Sigma = I",
    )
    coupling = proof.equal(
        "So two neighbours are coupled by", precision[2, 1].subs(alpha_2, alpha), -sp.sqrt(alpha) / beta
    )
    between = proof.equal(
        "and states two steps apart, with all that happens before and between them merged, have the covariance",
        covariance[1, 3].subs(alpha_2, alpha / alpha_3).subs(alpha_1, alpha_bar_s),
        sp.sqrt(alpha) * (alpha_bar_s * data_variance + beta_bar_s),
    )
    proof.conclude(coupling=coupling, covariance=between)


@derives(r"x_t = \sqrt{\alpha_t}\,x_{t-1} + \sqrt{\beta_t}\,\varepsilon_t", source="ho2020, eq. (2)")
def forward_step(proof: Proof) -> None:
    r"""The draw and the kernel are one statement: a change of variables turns the density of the noise into the density of
    the state. The moments follow by expectation over the noise, and show which number is a variance. Here $s = t - 1$ gives the
    step of the paper; the same holds for any $s < t$.
    """
    proof.assume(
        r"$x_t = \sqrt{\alpha_{t\mid s}}\,x_s + \sqrt{\beta_{t\mid s}}\,\varepsilon$ with $\alpha + \beta = 1$."
    )
    proof.assume(r"$\varepsilon$ is standard normal and independent of $x_s$.")
    draw = sp.sqrt(alpha) * xs + sp.sqrt(beta) * eps
    noise = sp.solve(xt - draw, eps)[0]
    proof.say("Solved for the noise:", sp.Eq(eps, noise))
    proof.equal(
        "Change of variables: the density of the noise times the derivative is the normal density of the kernel (logs).",
        log_density(noise, sp.Integer(0), sp.Integer(1)) + sp.log(noise.diff(xt)),
        log_density(xt, sp.sqrt(alpha) * xs, beta),
    )
    kernel_mean = proof.equal("Its mean is", expectation(draw, eps, 0, 1), sp.sqrt(alpha) * xs)
    kernel_variance = proof.equal(
        r"and its variance $\beta$; the factor of the noise is the root of it.",
        expectation((draw - kernel_mean) ** 2, eps, 0, 1),
        beta,
    )
    m, v = letter("mean_s", r"\mathbb E x_s", real=True), letter("variance_s", r"\mathrm{Var}\,x_s", positive=True)
    mean_t = expectation(expectation(draw, eps, 0, 1), xs, m, v)
    variance_t = proof.equal(
        "Over a state that is itself random (only its two moments matter), the variance becomes",
        expectation(expectation((draw - mean_t) ** 2, eps, 0, 1), xs, m, v),
        alpha * v + beta,
    )
    proof.equal(
        "whose only fixed point is unit variance:",
        sp.solve((variance_t - v).subs(beta, 1 - alpha), v)[0],
        sp.Integer(1),
    )
    share = draw.subs(alpha, 1 - beta)
    proof.equal(r"As $\beta \to 0$ the step does nothing,", sp.limit(share, beta, 0), xs)
    proof.equal(r"and at $\beta = 1$ it leaves nothing but noise.", share.subs(beta, 1), eps)
    proof.conclude(draw=draw, mean=kernel_mean, variance=kernel_variance, variance_after=variance_t)


@derives(
    r"q(x_t\mid x_0) = \mathcal N\left(\sqrt{\bar\alpha_t}\,x_0,\ (1-\bar\alpha_t)I\right),\qquad "
    r"q(x_t\mid x_s) = \mathcal N\left(\sqrt{\alpha_{t\mid s}}\,x_s,\ \beta_{t\mid s}I\right)",
    source="ho2020, eq. (4)",
)
def forward_marginal(proof: Proof) -> None:
    r"""Induction over $t$: the claim holds after one step, and if it holds at $t - 1$, integrating the state $x_{t-1}$ out of
    the product of two kernels gives it at $t$. The same integral with a general pair of levels is the semigroup property, which
    gives the kernel between any two levels.
    """
    proof.assume(
        r"Each step is $q(x_t\mid x_{t-1}) = \mathcal N(\sqrt{1-\beta_t}\,x_{t-1},\ \beta_t)$ and the chain is Markov."
    )
    bar = sp.Product(1 - betas[i], (i, 1, t))
    proof.say(r"Claimed for every $t \ge 1$, with", sp.Eq(alpha_bar_t, bar))
    kept = proof.equal("Base: at $t = 1$ the product is what one step keeps,", bar.subs(t, 1).doit(), 1 - betas[1])
    first = Normal(x1, sp.sqrt(1 - betas[1]) * x0, betas[1])
    proof.equal(
        "so that the claim gives the mean of the first step",
        (sp.sqrt(alpha_bar_t) * x0).subs(alpha_bar_t, kept),
        first.mean,
        shown=rf"\left.\sqrt{{\bar\alpha_t}}\,x_0\right|_{{t=1}} = {latex(first.mean)}",
    )
    proof.equal(
        "and its variance.",
        (1 - alpha_bar_t).subs(alpha_bar_t, kept),
        first.variance,
        shown=r"1 - \bar\alpha_1 = \beta_1",
    )
    proof.say(
        r"Step: suppose it at $s = t - 1$. By the Markov property $q(x_t\mid x_0) = \int q(x_t\mid x_s)\,q(x_s\mid x_0)\,dx_s$ "
        "with the two factors",
        Normal(xt, sp.sqrt(alpha) * xs, beta).shown
        + r"\cdot"
        + Normal(xs, sp.sqrt(alpha_bar_s) * x0, beta_bar_s).shown,
    )
    law = integrate_out(
        proof,
        xs,
        xt,
        Normal(xt, sp.sqrt(alpha) * xs, beta),
        Normal(xs, sp.sqrt(alpha_bar_s) * x0, beta_bar_s),
    )
    mean = proof.equal("The mean is that of the claim at $t$,", law.mean, sp.sqrt(alpha_bar_t) * x0)
    variance = proof.equal("and so is the variance,", law.variance, beta_bar_t)
    proof.say(
        r"because $\bar\alpha$ takes one more factor $\alpha_t = 1 - \beta_t$ at every step:", sp.Eq(bar, peeled(bar))
    )
    proof.equal(
        r"the letters are tied as the products are: with the product up to $t - 1$ for $\bar\alpha_s$ and $1 - \beta_t$ for "
        r"$\alpha$, their product $\bar\alpha_t$ is the one up to $t$.",
        (alpha * alpha_bar_s).subs({alpha: 1 - betas[t], alpha_bar_s: bar.subs(t, t - 1)}),
        peeled(bar),
    )
    proof.say(r"Semigroup: three levels $s < t < r$, and the kernels of both parts of the way.")
    whole = integrate_out(
        proof,
        xt,
        xr,
        Normal(xr, sp.sqrt(alpha_after) * xt, 1 - alpha_after),
        Normal(xt, sp.sqrt(alpha) * xs, beta),
    )
    proof.equal("The signal kept on the whole way is the product,", whole.mean, sp.sqrt(alpha_after * alpha) * xs)
    proof.equal("and the variance its complement:", whole.variance, 1 - alpha_after * alpha)
    from_s = proof.equal(
        r"So the kernel from $s$ to $t$ is the one of $\alpha_{t\mid s} = \bar\alpha_t/\bar\alpha_s$,",
        sp.sqrt(alpha_bar_t / alpha_bar_s) * xs,
        sp.sqrt(alpha) * xs,
    )
    spread = proof.equal("with the variance", 1 - alpha_bar_t / alpha_bar_s, beta)
    proof.equal("A unit second moment is preserved:", (mean / x0) ** 2 + variance, sp.Integer(1))
    proof.only_where(beta_bar_t, "at t = 0 the state is x_0 itself, a point mass without a density; ask for t >= 1")
    proof.conclude(mean=mean, variance=variance, mean_from_s=from_s, variance_from_s=spread)


@derives(r"x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{\bar\beta_t}\,\varepsilon", source="ho2020, eq. (4)")
def q_sample(proof: Proof) -> None:
    r"""A draw from the marginal kernel with the noise outside. The change of variables from $\varepsilon$ to $x_t$ gives its
    density; the draw is linear in data and noise, so either of them can be had back from the other.
    """
    proof.assume(r"$\varepsilon$ is standard normal and independent of $x_0$.")
    draw = sp.sqrt(alpha_bar_t) * x0 + sp.sqrt(beta_bar_t) * eps
    noise = sp.solve(xt - draw, eps)[0]
    proof.say("The draw, solved for the noise:", sp.Eq(eps, noise))
    proof.equal(
        "Change of variables: it has the density of `forward_marginal` (logs).",
        log_density(noise, sp.Integer(0), sp.Integer(1)) + sp.log(noise.diff(xt)),
        log_density(xt, sp.sqrt(alpha_bar_t) * x0, beta_bar_t),
    )
    a, b = letter("a", "a", real=True), letter("b", "b", real=True)
    proof.equal(
        "It is linear in data and noise together:",
        draw.subs({x0: a * x0 + b * u, eps: a * eps + b * w}, simultaneous=True),
        a * draw + b * draw.subs({x0: u, eps: w}, simultaneous=True),
    )
    data = sp.solve(xt - draw, x0)[0]
    proof.equal("Solved for the data and put back, it gives the data", data.subs(xt, draw), x0)
    proof.equal("and solved for the noise the noise:", noise.subs(xt, draw), eps)
    proof.conclude(draw=draw)
