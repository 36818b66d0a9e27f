r"""Clipping, of the sample and of what is predicted for it, and the jump to the data in one step."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.ancestral.normal_data import AT_T, best_x0, normal_data
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import complete_square, expectation
from ddpm_ref.symbolic.posterior.chain import MARGINAL_T, NO_STEP, start
from ddpm_ref.symbolic.posterior.mean import posterior_mean_coefficients
from ddpm_ref.symbolic.prediction import eps_from_x0, x0_from_eps
from ddpm_ref.symbolic.reverse.model import model_mean_from_x0
from ddpm_ref.symbolic.symbols import (
    alpha_bar_t,
    beta_bar_t,
    data_variance,
    eps,
    equation,
    letter,
    x,
    x0,
    x0_hat,
    xt,
)  # fmt: skip

outside = letter("outside", "a", nonnegative=True)
inside = letter("inside", "b", nonnegative=True)
left, right = letter("from_below", "p", positive=True), letter("from_above", "q", positive=True)
clipped = letter("x0_clipped", r"\check x_0", real=True)


def clip(value: sp.Expr) -> sp.Expr:
    """To the range of the data."""
    return sp.Max(-1, sp.Min(1, value))


@derives(
    r"x_0 \leftarrow \mathrm{clip}(x_0) = \max(-1, \min(1, x_0))",
    source="ho2020, code; the projection onto an interval",
)
def output_clipping(proof: Proof) -> None:
    """A sample of data in [-1, 1] is replaced by the nearest point that can be data. Three cases: above, below, inside."""
    proof.assume(r"The data lie in $[-1, 1]$; what is clipped is one real number, a component of a sample.")
    proof.say(r"Above the range: $x = 1 + a$ with $a \ge 0$, and any point of the range is $y = 1 - b$ with $b \ge 0$.")
    above = (1 + outside - (1 - inside)) ** 2 - (1 + outside - 1) ** 2
    proof.equal(
        r"It is farther from $x$ than 1 is, in squares by",
        above,
        inside**2 + 2 * inside * outside,
        shown=r"(x - y)^2 - (x - 1)^2 = b^2 + 2ab",
    )
    proof.holds("so 1 is the nearest.", sp.expand(above) >= 0, shown=r"(x - y)^2 \ge (x - 1)^2")
    proof.equal("The formula gives it.", clip(1 + outside), sp.S.One, shown=r"\mathrm{clip}(1 + a) = 1")
    below = (-1 - outside - (-1 + inside)) ** 2 - outside**2
    proof.equal(r"Below it is the same with the signs changed:", below, inside**2 + 2 * inside * outside)
    proof.equal("-1 is the nearest.", clip(-1 - outside), -sp.S.One, shown=r"\mathrm{clip}(-1 - a) = -1")
    within = (left - right) / (left + right)
    proof.equal(
        r"Inside, $x = (p - q)/(p + q)$ with $p, q > 0$, it is less than 1 by", 1 - within, 2 * right / (left + right)
    )
    proof.equal("and more than -1 by", within + 1, 2 * left / (left + right))
    proof.holds(
        "which are positive, so that neither bound acts.",
        [sp.together(gap) > 0 for gap in (1 - within, 1 + within)],
        shown=r"\mathrm{clip}(x) = x",
    )
    twice = [clip(clip(case)) - clip(case) for case in (1 + outside, -1 - outside)]
    proof.equal(
        "What was clipped is in the range: once more changes nothing.",
        twice[0],
        twice[1],
        shown=r"\mathrm{clip}^2 = \mathrm{clip}",
    )
    proof.conclude(clipped=clip(x))


@derives(
    r"\hat x_0 \leftarrow \mathrm{clip}(\hat x_0),\quad x_s \leftarrow \tilde\mu(x_t, \hat x_0) + \sigma_tz,\quad"
    r" \hat\varepsilon \leftarrow (x_t - \sqrt{\bar\alpha_t}\,\hat x_0)/\sqrt{\bar\beta_t}",
    source="ho2020, code",
)
def x0_clipping(proof: Proof) -> None:
    r"""Inside a step the predicted data are clipped before the mean is formed. That changes the mean by the weight of the data and
    brings the prediction nearer to whatever the data are; a predicted noise that is to go with it has to be formed anew.
    """
    start(proof)
    proof.assume(r"The data lie in $[-1, 1]$; $\check x_0$ is the clipped prediction.")
    mean = model_mean_from_x0().results["mean"]
    weight = posterior_mean_coefficients().results["x0_weight"]
    proof.equal(
        "The mean moves with the prediction, by", mean.subs(x0_hat, clipped) - mean, weight * (clipped - x0_hat)
    )
    proof.say(
        r"and not at all where $|\hat x_0| \le 1$. By `output_clipping` 1 is the nearest point of the range to $1 + a$."
    )
    error = (outside + inside) ** 2 - inside**2
    proof.equal(
        r"Data at $1 - b$ are as far from the clipped prediction as $b$, from the other as $a + b$; in squares the gain is",
        error,
        outside**2 + 2 * inside * outside,
        shown=r"(\hat x_0 - x_0)^2 - (\check x_0 - x_0)^2 = a^2 + 2ab",
    )
    proof.holds("never negative:", sp.expand(error) >= 0, shown=r"|\check x_0 - x_0| \le |\hat x_0 - x_0|")
    proof.say(
        r"A mean of data in the range is in the range, so that $\hat x_0 = \mathbb E[x_0\mid x_t]$ is never clipped: clipping"
        " corrects networks, not mathematics."
    )
    again = eps_from_x0().results["eps"].subs(x0, clipped)
    proof.say("The noise that goes with the clipped prediction is", equation(r"\check\varepsilon", again))
    explained = sp.sqrt(alpha_bar_t) * clipped + sp.sqrt(beta_bar_t) * again
    proof.equal(r"Together the two explain the state,", explained, xt)
    old = eps_from_x0().results["eps"].subs(x0, x0_hat)
    proof.equal(
        "while with the old noise there is missing",
        sp.sqrt(alpha_bar_t) * clipped + sp.sqrt(beta_bar_t) * old - xt,
        sp.sqrt(alpha_bar_t) * (clipped - x0_hat),
    )
    proof.equal(
        r"and the noise moves against the prediction, by",
        again - old,
        -sp.sqrt(alpha_bar_t) / sp.sqrt(beta_bar_t) * (clipped - x0_hat),
    )
    proof.only_where(beta_bar_t, NO_STEP)
    proof.conclude(mean=mean.subs(x0_hat, clip(x0_hat)), eps=again.subs(clipped, clip(x0_hat)))


@derives(
    r"x_t \mapsto \hat x_0(x_t) = \mathbb E[x_0\mid x_t],\quad"
    r" \mathrm{Var}(\hat x_0) = \tau^2 - \mathbb E\,\mathrm{Var}(x_0\mid x_t)",
    source="ho2020, eq. (15)",
)
def one_step_x0_jump(proof: Proof) -> None:
    r"""From any level the data can be predicted at once. Every step of DDIM does it, and so does clipping; as a sample it is too
    narrow, because a conditional mean has lost the spread of what it is the mean of. For normal data all is explicit.
    """
    normal_data(proof)
    best = best_x0()
    slope = sp.diff(best, xt)
    proof.equal(r"The jump is linear, with the gain", slope, sp.sqrt(alpha_bar_t) * data_variance / AT_T)
    noise_form = eps_from_x0().results["eps"].subs(x0, best)
    proof.equal(
        "By way of the predicted noise it is the same:",
        x0_from_eps().results["x0"].subs(eps, noise_form),
        best,
    )
    u = sp.Dummy("u", real=True)
    from_marginal = expectation((slope * u) ** 2, u, 0, AT_T)
    proof.equal(
        r"From $x_t \sim \mathcal N(0, V_t)$ it ends with the variance",
        from_marginal,
        alpha_bar_t * data_variance**2 / AT_T,
    )
    spread = complete_square(MARGINAL_T - x0**2 / (2 * data_variance), x0).variance
    proof.equal(
        r"which is less than that of the data by the variance that $x_t$ leaves open (law of total variance),",
        data_variance - from_marginal,
        spread,
    )
    proof.holds("so less at every level above 0.", spread > 0, shown=r"\mathrm{Var}(\hat x_0) < \tau^2")
    proof.equal(
        r"From $x_T \sim \mathcal N(0, 1)$ it ends with the variance",
        expectation((slope * u) ** 2, u, 0, 1),
        slope**2,
    )
    proof.equal(
        r"whose root, the deviation, is for unit data what is left of the signal.",
        slope.subs(data_variance, 1),
        sp.sqrt(alpha_bar_t),
    )
    proof.conclude(gain=slope, variance=from_marginal, missing=spread)
