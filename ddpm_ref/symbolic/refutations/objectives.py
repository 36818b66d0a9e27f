"""Common statements about training objectives, refuted."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.gaussian import complete_square, expectation, log_density
from ddpm_ref.symbolic.refutations.posterior import square
from ddpm_ref.symbolic.refutations.refutation import Case, Refute, beta_tilde, refutes, v0
from ddpm_ref.symbolic.symbols import (
    T,
    alpha,
    alpha_bar_s,
    alpha_bar_t,
    beta,
    beta_bar_s,
    beta_bar_t,
    eps,
    eps_hat,
    gain,
    letter,
    noise,
    variance,
    x0,
    xt,
)  # fmt: skip

SIGNAL, NOISE = sp.sqrt(alpha_bar_t), sp.sqrt(beta_bar_t)
MIXTURE = SIGNAL * x0 + NOISE * eps
V_T = alpha_bar_t * v0 + beta_bar_t
NORMAL = r"$x_0 \sim \mathcal N(0, v_0)$, and $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{\bar\beta_t}\,\varepsilon$."

earlier = letter("earlier", r"\varepsilon_s", real=True)
level = letter("level", "k", integer=True, positive=True)
answer = letter("answer", "f", real=True)


def weight_of_noise(of: sp.Expr = variance) -> sp.Expr:
    """What the squared error of the noise is multiplied by in the term of a step, from the posterior mean."""
    means = [square().mean.subs(x0, (xt - NOISE * each) / SIGNAL) for each in (eps, eps_hat)]
    return sp.factor(sp.cancel((means[0] - means[1]) / (eps - eps_hat))) ** 2 / (2 * of)


def average(f: sp.Expr, *over: tuple[sp.Symbol, sp.Expr]) -> sp.Expr:
    """Expectation over independent normal letters with mean 0 and the variances given."""
    for each, spread in over:
        f = expectation(f, each, 0, spread)
    return f


@refutes("E29")
def weight_without_its_square(case: Case) -> None:
    r"""The posterior mean is found by completing the square and told by the noise. Its difference for two noises, squared, is
    divided by twice the variance of the step; what the noise was multiplied by comes out squared."""
    case.assume(r"The term of a step is $(\tilde\mu - \mu_\theta)^2/(2\sigma_t^2)$ up to a constant.")
    once = beta / (sp.sqrt(alpha) * NOISE)
    for says, spread in ((r"\beta_{t\mid s}", beta), (r"\tilde\beta_{t\mid s}", beta_tilde)):
        case.contrast(
            rf"the weight of $(\varepsilon - \hat\varepsilon)^2$ for $\sigma_t^2 = {says}$",
            derived=weight_of_noise(spread),
            right=once**2 / (2 * spread),
            wrong=once / (2 * spread),
            ratio=sp.sqrt(alpha) * NOISE / beta,
        )


@refutes("E30")
def weights_called_constant(case: Case) -> None:
    r"""The weights of two levels, for the variance $\beta$: of the step from $t$ to $s$, and of the step from $s$ to the data. They
    are not equal, and a network with one gain for both, $\hat\varepsilon = gx$ on unit data, has its minimum elsewhere if they are
    left away."""
    case.assume(
        r"$x_0 \sim \mathcal N(0, 1)$, $\sigma^2 = \beta$; the network is $\hat\varepsilon = gx_t$ with the"
        " same $g$ at $t$ and at $s$."
    )
    later = weight_of_noise(beta)
    to_data = {beta: beta_bar_s, alpha: alpha_bar_s, beta_bar_t: beta_bar_s, alpha_bar_t: alpha_bar_s}
    first = beta / (2 * alpha * beta_bar_t)
    case.equal("The weight of the step from $t$ to $s$ is", later, first)
    before = first.subs(to_data, simultaneous=True)
    case.equal("and that of the step from $s$ to the data", before, 1 / (2 * alpha_bar_s))
    case.contrast(
        "the ratio of the weights of two levels",
        derived=later / before,
        right=beta * alpha_bar_s / (alpha * beta_bar_t),
        wrong=sp.Integer(1),
        ratio=alpha * beta_bar_t / (beta * alpha_bar_s),
    )
    losses = [
        average((eps - gain * (sp.sqrt(kept) * x0 + sp.sqrt(lost) * eps)) ** 2, (eps, sp.S.One), (x0, sp.S.One))
        for kept, lost in ((alpha_bar_t, beta_bar_t), (alpha_bar_s, beta_bar_s))
    ]

    def least(*weights: sp.Expr) -> sp.Expr:
        total = sum(weight * loss for weight, loss in zip(weights, losses, strict=True))
        # Both levels have unit variance: in the square of the gain the two moments are one.
        total = sp.expand(total).subs({alpha_bar_t: 1 - beta_bar_t, alpha_bar_s: 1 - beta_bar_s})
        return sp.solve(sp.diff(sp.expand(total), gain), gain)[0]

    weights = letter("weight_of_t", "w_t", positive=True), letter("weight_of_s", "w_s", positive=True)
    published = (weights[0] * NOISE + weights[1] * sp.sqrt(beta_bar_s)) / (weights[0] + weights[1])
    wrong = (NOISE + sp.sqrt(beta_bar_s)) / 2
    case.equal("Without weights the best gain is", least(sp.S.One, sp.S.One), wrong)
    values = dict(zip(weights, (first, 1 / (2 * alpha_bar_s)), strict=True))
    case.contrast(
        "the gain that is best for both levels together",
        derived=sp.cancel(least(*weights)).subs(values),
        right=published.subs(values),
        wrong=wrong,
        difference=wrong - published.subs(values),
    )


@refutes("E31")
def loss_of_one_draw(case: Case) -> None:
    r"""The answer with the least expected error, given $x_t$, is found by differentiation; so is the one with the least error for
    the draw that was made, which is the noise of this draw and no function of $x_t$."""
    case.assume(NORMAL)
    given = complete_square(log_density(xt, MIXTURE.subs(eps, 0), beta_bar_t) + log_density(x0, 0, v0), x0)
    of_draw = (xt - SIGNAL * x0) / NOISE
    expected = expectation((of_draw - answer) ** 2, x0, given.mean, given.variance)
    (best,) = sp.solve(sp.diff(expected, answer), answer)
    case.contrast(
        "the answer where the loss is least",
        derived=best,
        right=NOISE * xt / V_T,
        wrong=sp.solve(sp.diff((of_draw - answer) ** 2, answer), answer)[0],
        difference=of_draw - NOISE * xt / V_T,
        v0=1,
        x0=1,
        xt=2,
    )


@refutes("E33")
def another_noise_as_target(case: Case) -> None:
    r"""The loss of a linear network is integrated over data and noise, once for the noise that is in the input, once for another
    one that is not, and minimised."""
    case.assume(NORMAL)
    case.assume(r"The network is $\hat\varepsilon = gx_t$; $z$ is a noise that is independent of $x_t$.")
    right, wrong = (
        average((target - gain * MIXTURE) ** 2, (noise, sp.S.One), (eps, sp.S.One), (x0, v0)) for target in (eps, noise)
    )
    gains = [sp.solve(sp.diff(loss, gain), gain)[0] for loss in (right, wrong)]
    case.contrast(
        "the gain that is learned",
        derived=gains[0],
        right=NOISE / V_T,
        wrong=gains[1],
        difference=-NOISE / V_T,
        v0=1,
    )
    case.contrast(
        "the loss that is left",
        derived=right.subs(gain, gains[0]),
        right=alpha_bar_t * v0 / V_T,
        wrong=wrong.subs(gain, gains[1]),
        ratio=V_T / (alpha_bar_t * v0),
        v0=1,
    )


@refutes("E34")
def a_noise_for_every_step(case: Case) -> None:
    r"""Noisy data drawn step by step, and at once: mean and variance are the same, by integration. The one needs a noise for every
    step, which is $t$ of them for a level $t$, the other needs one."""
    case.assume(
        r"$x_s = \sqrt{\bar\alpha_s}\,x_0 + \sqrt{\bar\beta_s}\,\varepsilon_s$; the level is uniform on $1, \dots, T$."
    )
    stepwise = sp.sqrt(alpha) * (sp.sqrt(alpha_bar_s) * x0 + sp.sqrt(beta_bar_s) * earlier) + sp.sqrt(beta) * noise
    kept = average(stepwise, (noise, sp.S.One), (earlier, sp.S.One))
    case.equal("Both have the mean", kept, SIGNAL * x0)
    spread = average((stepwise - kept) ** 2, (noise, sp.S.One), (earlier, sp.S.One))
    case.equal("and the variance", spread, average((MIXTURE - SIGNAL * x0) ** 2, (eps, sp.S.One)))
    drawn = MIXTURE.free_symbols & {eps, earlier, noise}
    case.contrast(
        "how many noises an example needs, averaged over its level",
        derived=sp.Integer(len(drawn)),
        right=sp.Integer(1),
        wrong=sp.Sum(level, (level, 1, T)).doit() / T,
        ratio=(T + 1) / 2,
        T=1000,
    )


@refutes("E38")
def level_from_an_interval(case: Case) -> None:
    r"""Whole numbers from a continuous law: of the interval on which $1 + \lfloor Tu\rfloor$ is 1, and of that on which a number
    drawn from $[1, T]$ is rounded to 1, the lengths are compared."""
    case.assume(r"$u$ is uniform on $[0, 1)$; the other number is uniform on $[1, T]$.")
    half = sp.Rational(1, 2)
    inner = ((level + half) - (level - half)) / (T - 1)
    case.equal("A level between the ends is rounded to with the probability", inner, 1 / (T - 1))
    case.contrast(
        "the probability of level 1",
        derived=1 / T - sp.S.Zero,
        right=1 / T,
        wrong=((1 + half) - 1) / (T - 1),
        ratio=T / (2 * (T - 1)),
        T=10,
    )


REFUTATIONS: tuple[Refute, ...] = (
    weight_without_its_square, weights_called_constant, loss_of_one_draw, another_noise_as_target,
    a_noise_for_every_step, level_from_an_interval,
)  # fmt: skip
