"""The noises of the steps, the one noise that stands for them all, and what can be inferred about either."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import complete_square, expectation
from ddpm_ref.symbolic.induction import last, peeled
from ddpm_ref.symbolic.marginal import Normal
from ddpm_ref.symbolic.symbols import (
    T,
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

bars = sp.IndexedBase(letter("bars", r"\bar\alpha", positive=True))
betas = sp.IndexedBase(letter("betas", r"\beta", positive=True))
noises = sp.IndexedBase(letter("noises", r"\varepsilon", real=True))
i = letter("i", "i", integer=True, positive=True)
k = letter("k", "k", real=True)
step_noise = letter("step_noise", r"\varepsilon_t", real=True)
past = letter("past", r"\varepsilon^{(s)}", real=True)
step_beta = letter("step_beta", r"\beta_s", positive=True)


@derives(
    r"\varepsilon = \frac{1}{\sqrt{\bar\beta_t}}\sum_{s=1}^{t}\sqrt{\frac{\bar\alpha_t}{\bar\alpha_s}\beta_s}\,"
    r"\varepsilon_s,\qquad \mathrm{Corr}(\varepsilon_t,\varepsilon) = \sqrt{\beta_t/\bar\beta_t}",
    source="the unrolled chain of ho2020, eq. (2)",
)
def aggregate_noise(proof: Proof) -> None:
    r"""The chain is unrolled by induction over $t$, and so is the sum of the squared weights, which telescopes. The noise of
    the last step enters the aggregate with one of these weights, and that is their correlation. What can be known about the
    one given $x_t$ is a fixed multiple of what can be known about the other.
    """
    proof.assume(
        r"$x_t = \sqrt{\alpha_t}\,x_{t-1} + \sqrt{\beta_t}\,\varepsilon_t$ with independent standard normal noises."
    )
    proof.assume(r"$\bar\alpha_0 = 1$, $\bar\alpha_t = \alpha_t\bar\alpha_{t-1}$ and $\beta_t = 1 - \alpha_t$.")
    pushes = sp.Sum(sp.sqrt(betas[i] / bars[i]) * noises[i], (i, 1, t))
    unrolled = sp.sqrt(bars[t]) * (x0 + pushes)
    proof.say("Claimed for every t, and true at t = 0, where the sum is empty:", rf"x_t = {latex(unrolled)}")
    before = (sp.sqrt(bars[t - 1]) * (x0 + sp.Sum(*pushes.args[:1], (i, 1, t - 1)))).subs(bars[t - 1], bars[t] / alpha)
    proof.equal(
        r"Step: if it holds at $t - 1$, where $\bar\alpha_{t-1} = \bar\alpha_t/\alpha$, one more step gives the sum one more term.",
        sp.sqrt(alpha) * before + sp.sqrt(betas[t]) * noises[t],
        sp.sqrt(bars[t]) * (x0 + peeled(pushes)),
    )
    proof.equal("At t = 0 the sum is empty.", pushes.subs(t, 0).doit(), sp.Integer(0))

    square = bars[t] * betas[i] / bars[i]
    telescoping = 1 / bars[i] - 1 / bars[i - 1]
    proof.equal(
        r"The square of a weight in $\sqrt{\bar\beta_t}\,\varepsilon$ is a difference, as $\beta_i = 1 - "
        r"\bar\alpha_i/\bar\alpha_{i-1}$.",
        square.subs(betas[i], 1 - bars[i] / bars[i - 1]),
        bars[t] * telescoping,
    )
    squares, claim = sp.Sum(telescoping, (i, 1, t)), 1 / bars[t] - 1
    proof.equal(
        "Base of a second induction: at t = 1 the sum of the differences has one term,",
        squares.subs(t, 1).doit().subs(bars[0], 1),
        claim.subs(t, 1),
    )
    proof.equal(
        "and if it is right at t - 1, it is right at t.",
        claim.subs(t, t - 1) + last(squares),
        claim,
    )
    proof.equal(
        "So the squared weights of the aggregate sum to 1: it is standard normal.",
        bars[t] * claim / (1 - bars[t]),
        sp.Integer(1),
    )

    two_parts = sp.sqrt(alpha) * (sp.sqrt(alpha_bar_s) * x0 + sp.sqrt(beta_bar_s) * past) + sp.sqrt(beta) * step_noise
    proof.say(
        r"With the aggregate $\varepsilon^{(s)}$ of level $s = t - 1$ and the noise of the last step,",
        sp.Eq(xt, two_parts),
    )
    aggregate = sp.solve(sp.sqrt(alpha_bar_t) * x0 + sp.sqrt(beta_bar_t) * eps - xt, eps)[0].subs(xt, two_parts)
    past_weight = proof.equal(
        "the aggregate of level t has the weights",
        aggregate.diff(past),
        sp.sqrt(alpha * beta_bar_s / beta_bar_t),
    )
    weight = proof.equal("and", aggregate.diff(step_noise), sp.sqrt(beta / beta_bar_t))
    combined = past_weight * past + weight * step_noise

    def expected(f: sp.Expr) -> sp.Expr:
        return expectation(expectation(f, past, 0, 1), step_noise, 0, 1)

    correlation = proof.equal(
        "Both noises have variance 1, so their correlation is", expected(combined * step_noise), weight
    )
    proof.equal(
        r"What is left of $\varepsilon_t$ is uncorrelated with $\varepsilon$, hence, all being normal, independent of it; it is "
        r"independent of the data, too, and so of $x_t$. For every law of the data "
        r"$\mathbb E[\varepsilon_t\mid x_t] = \sqrt{\beta_t/\bar\beta_t}\,\mathbb E[\varepsilon\mid x_t]$ follows:",
        expected((step_noise - correlation * combined) * combined),
        sp.Integer(0),
    )
    proof.equal(
        "At t = 1 there is nothing before the step, and the two are one.",
        correlation.subs(beta_bar_t, beta),
        sp.Integer(1),
    )
    of_noise = sp.diff(sp.sqrt(bars[t]) * pushes.function, noises[i]) / sp.sqrt(beta_bar_t)
    weight_of_s = proof.equal(
        r"The weight of the noise of an earlier step s is its coefficient in the unrolled sum over $\sqrt{\bar\beta_t}$, written"
        r" with $\alpha_{t\mid s} = \bar\alpha_t/\bar\alpha_s$:",
        of_noise.subs({bars[t]: alpha * bars[i], betas[i]: step_beta}),
        sp.sqrt(alpha * step_beta / beta_bar_t),
    )
    proof.only_where(beta_bar_t, "at t = 0 no step has been made and there is no noise; ask for t >= 1")
    proof.conclude(correlation=correlation, past_weight=past_weight, weight=weight_of_s)


@derives(
    r"x_{t-1} = \frac{x_t - \sqrt{\beta_t}\,\varepsilon_t}{\sqrt{\alpha_t}},\qquad \mathbb E[x_{t-1}\mid x_t] = "
    r"\frac{x_t - \sqrt{\beta_t}\,\mathbb E[\varepsilon_t\mid x_t]}{\sqrt{\alpha_t}}",
    source="elementary",
)
def stepwise_inversion(proof: Proof) -> None:
    r"""With the noise that a step has used it can be undone. Nobody knows that noise; its mean given $x_t$ is found, for normal
    data, by completing squares, and put in its place it gives the mean of the state before. Doing so at every step shrinks the
    state more than the reverse chain may: the factors telescope.
    """
    proof.assume(
        r"$x_t = \sqrt{\alpha}\,x_s + \sqrt{\beta}\,\varepsilon_t$; data normal with mean $m$ and variance $\tau^2$."
    )
    step = sp.sqrt(alpha) * xs + sp.sqrt(beta) * step_noise
    state = proof.equal(
        "Solved for the state before,",
        sp.solve(step - xt, xs)[0],
        (xt - sp.sqrt(beta) * step_noise) / sp.sqrt(alpha),
    )
    proof.equal("it undoes the step exactly.", state.subs(xt, step), xs)

    mean_s, spread_s = sp.sqrt(alpha_bar_s) * data_mean, alpha_bar_s * data_variance + beta_bar_s
    mean_t, spread_t = sp.sqrt(alpha_bar_t) * data_mean, alpha_bar_t * data_variance + beta_bar_t
    proof.say(
        r"By `data_marginal` $x_s$ is normal with this mean and variance, and so is $x_t$ with s replaced by t:",
        rf"{latex(mean_s)},\quad {latex(spread_s)}",
    )
    given_noise = Normal(xt, sp.sqrt(alpha) * mean_s + sp.sqrt(beta) * step_noise, alpha * spread_s).exponent
    step_mean = proof.equal(
        r"Completing the square in $\varepsilon_t$ in the joint density of $\varepsilon_t$ and $x_t$:",
        complete_square(Normal(step_noise, sp.Integer(0), sp.Integer(1)).exponent + given_noise, step_noise).mean,
        sp.sqrt(beta) * (xt - mean_t) / spread_t,
    )
    given_aggregate = Normal(xt, mean_t + sp.sqrt(beta_bar_t) * eps, alpha_bar_t * data_variance).exponent
    aggregate_mean = proof.equal(
        r"The same for the aggregate noise $\varepsilon$:",
        complete_square(Normal(eps, sp.Integer(0), sp.Integer(1)).exponent + given_aggregate, eps).mean,
        sp.sqrt(beta_bar_t) * (xt - mean_t) / spread_t,
    )
    ratio = proof.equal(
        "The first is the second times their correlation:", step_mean / aggregate_mean, sp.sqrt(beta / beta_bar_t)
    )
    before = complete_square(
        Normal(xt, sp.sqrt(alpha) * xs, beta).exponent + Normal(xs, mean_s, spread_s).exponent, xs
    ).mean
    conditional = proof.equal(
        r"Completing the square in $x_s$ gives $\mathbb E[x_s\mid x_t]$, and it is the inversion with the mean of the noise,",
        before,
        state.subs(step_noise, step_mean),
    )
    proof.equal(
        "that is, by the aggregate one, what a network for it makes of a step.",
        conditional,
        (xt - beta / sp.sqrt(beta_bar_t) * aggregate_mean) / sp.sqrt(alpha),
    )
    factor = conditional.subs(data_mean, 0) / xt
    proof.equal(
        r"For data of mean 0 a step multiplies the state by $g_s/g_t$ with $g_t = V_t/\sqrt{\bar\alpha_t}$, $V_t$ the variance "
        r"at t, so the steps from T to 0 multiply it by $g_0/g_T = \sqrt{\bar\alpha_T}\,\tau^2/V_T$.",
        factor,
        (spread_s / sp.sqrt(alpha_bar_s)) / (spread_t / sp.sqrt(alpha_bar_t)),
    )
    shrinks = proof.equal(
        "Indeed for one step from t to 0:",
        factor.subs({alpha: alpha_bar_t, beta: beta_bar_t, alpha_bar_s: 1, beta_bar_s: 0}, simultaneous=True),
        sp.sqrt(alpha_bar_t) * data_variance / spread_t,
    )
    proof.only_where(alpha, "where beta = 1 the step keeps nothing of the state before, so it cannot be inverted")
    proof.only_where(beta_bar_t, "at t = 0 there is no step to undo; ask for t >= 1")
    proof.conclude(
        state=state, noise_mean=step_mean, aggregate_mean=aggregate_mean, ratio=ratio, mean=conditional, shrinks=shrinks
    )


@derives(
    r"\text{one draw } \sqrt{\bar\alpha_t}\,x_0 + \sqrt{\bar\beta_t}\,\varepsilon\ \text{ has the law of }\ t\ "
    r"\text{ sequential steps}",
    source="ho2020, section 3.4",
)
def single_noise_training_economy(proof: Proof) -> None:
    r"""A training example needs one level and one noise. The law after $t$ steps is determined by its generating function, which
    each step changes in a known way; the one of the single draw starts the same and changes the same, so the two are one.
    `forward_marginal` says this of densities, here it is shown on another way.
    """
    proof.assume(
        r"$M_t(k) = \mathbb E[e^{k x_t}\mid x_0]$ for the chain, with $M_0(k) = e^{k x_0}$; it determines the law."
    )
    noise_part = complete_square(Normal(eps, sp.Integer(0), sp.Integer(1)).exponent + k * sp.sqrt(beta) * eps, eps)
    grown = proof.equal(
        r"A step multiplies by the generating function of $\sqrt\beta\,\varepsilon$, what is left when the square is completed:",
        noise_part.constant - complete_square(Normal(eps, sp.Integer(0), sp.Integer(1)).exponent, eps).constant,
        beta * k**2 / 2,
    )
    proof.say(
        r"so that, $x_s$ being scaled by $\sqrt\alpha$,", r"\log M_t(k) = \log M_s(\sqrt\alpha\,k) + " + latex(grown)
    )
    draw = (
        complete_square(Normal(xt, sp.sqrt(alpha_bar_t) * x0, beta_bar_t).exponent + k * xt, xt).constant
        - complete_square(Normal(xt, sp.sqrt(alpha_bar_t) * x0, beta_bar_t).exponent, xt).constant
    )
    one = proof.equal(
        "The generating function of the single draw (log) is",
        draw,
        sp.sqrt(alpha_bar_t) * x0 * k + beta_bar_t * k**2 / 2,
    )
    at_s = one.subs({alpha_bar_t: alpha_bar_s, beta_bar_t: beta_bar_s})
    proof.equal(r"Base: at level 0 it is that of the data.", at_s.subs({alpha_bar_s: 1, beta_bar_s: 0}), k * x0)
    proof.equal("Step: a step from s carries it to t.", at_s.subs(k, sp.sqrt(alpha) * k) + grown, one)
    mean = proof.equal("Its derivatives at k = 0 are the mean", one.diff(k).subs(k, 0), sp.sqrt(alpha_bar_t) * x0)
    variance = proof.equal("and the variance.", one.diff(k, 2), beta_bar_t)
    draws = proof.equal(
        r"Drawing $t$ evenly from $1..T$, sequential steps would cost this many noises per example instead of one:",
        sp.Sum(i, (i, 1, T)).doit() / T,
        (T + 1) / 2,
    )
    proof.conclude(mean=mean, variance=variance, sequential_draws=draws)
