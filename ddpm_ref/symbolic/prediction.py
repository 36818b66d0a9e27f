r"""What a network predicts, and how the predictions determine each other once ``xt`` is known.

Everything follows from one equation, :math:`x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{\bar\beta_t}\,\varepsilon`, by solving it.
"""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.derivation import Derive, Proof, derives
from ddpm_ref.symbolic.gaussian import complete_square, expectation, log_density
from ddpm_ref.symbolic.symbols import (
    alpha_bar_t,
    beta_bar_t,
    data_mean,
    data_variance,
    eps,
    equation,
    letter,
    score,
    v,
    x0,
    xt,
)  # fmt: skip

SIGNAL, NOISE = sp.sqrt(alpha_bar_t), sp.sqrt(beta_bar_t)
MIXTURE = SIGNAL * x0 + NOISE * eps
VELOCITY = SIGNAL * eps - NOISE * x0

_NO_NOISE = "at t = 0 there is no noise to speak of (beta_bar = 0); ask for t >= 1"
_NO_SIGNAL = "where alpha_bar_t = 0 (zero terminal SNR) nothing of the data is left in x_t; predict x_0 or v"
_ANGLE = (
    r"$\bar\alpha_t + \bar\beta_t = 1$: the two scales are cosine and sine of an angle, and $(x_t, v)$ is $(x_0, \varepsilon)$"
    " turned by it."
)


def _start(proof: Proof) -> None:
    proof.assume(
        r"$x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{\bar\beta_t}\,\varepsilon$ (`q_sample`); $\varepsilon$ is the aggregate noise."
        r" With a prediction in its place the other letters are what it implies."
    )


def _solved(equation_of: sp.Expr, target: sp.Expr, unknown: sp.Symbol) -> sp.Expr:
    (solution,) = sp.solve(sp.Eq(target, equation_of), unknown)
    return solution


@derives(r"\hat x_0 = \frac{x_t - \sqrt{\bar\beta_t}\,\hat\varepsilon}{\sqrt{\bar\alpha_t}}", source="ho2020, eq. (15)")
def x0_from_eps(proof: Proof) -> None:
    """The equation of the noisy data, solved for the data."""
    _start(proof)
    proof.say("The equation,", equation("x_t", MIXTURE))
    result = (xt - NOISE * eps) / SIGNAL
    proof.equal(r"solved for $x_0$:", _solved(MIXTURE, xt, x0), result)
    tables = sp.sqrt(1 / alpha_bar_t) * xt - sp.sqrt(1 / alpha_bar_t - 1) * eps
    proof.equal("The form with two tables is the same,", result, tables)
    proof.equal(
        "It undoes the noising,",
        result.subs(xt, MIXTURE),
        x0,
        shown=r"\hat x_0(q(x_0, \varepsilon), \varepsilon) = x_0",
    )
    proof.equal(
        r"and multiplies an error of the noise by $\mathrm{SNR}^{-1/2}$:",
        sp.diff(result, eps),
        -1 / sp.sqrt(alpha_bar_t / beta_bar_t),
    )
    proof.only_where(alpha_bar_t, _NO_SIGNAL)
    proof.conclude(x0=result)


@derives(
    r"\hat\varepsilon = \frac{x_t - \sqrt{\bar\alpha_t}\,\hat x_0}{\sqrt{\bar\beta_t}}",
    source="ho2020, eq. (15), inverted",
)
def eps_from_x0(proof: Proof) -> None:
    """The equation of the noisy data, solved for the noise."""
    _start(proof)
    result = (xt - SIGNAL * x0) / NOISE
    proof.equal(r"Solved for $\varepsilon$,", _solved(MIXTURE, xt, eps), result)
    back = x0_from_eps().results["x0"]
    proof.equal(
        "and put into the data prediction it returns the data,",
        back.subs(eps, result),
        x0,
        shown=r"\hat x_0(\hat\varepsilon(\hat x_0)) = \hat x_0",
    )
    proof.equal(
        r"as the other way round: data and noise that belong together always explain $x_t$.",
        result.subs(x0, back),
        eps,
        shown=r"\hat\varepsilon(\hat x_0(\hat\varepsilon)) = \hat\varepsilon",
    )
    proof.only_where(beta_bar_t, _NO_NOISE)
    proof.conclude(eps=result)


@derives(r"v = \sqrt{\bar\alpha_t}\,\varepsilon - \sqrt{\bar\beta_t}\,x_0", source="salimans2022, appendix D")
def v_target(proof: Proof) -> None:
    r"""The combination of noise and data that carries what $x_t$ does not. Data and noise of unit variance are assumed where
    correlations are spoken of, and nowhere else.
    """
    _start(proof)
    proof.say(_ANGLE)
    turn = letter("angle", r"\varphi", real=True)
    scales = {SIGNAL: sp.cos(turn), NOISE: sp.sin(turn)}
    proof.equal(
        r"With $\sqrt{\bar\alpha_t} = \cos\varphi$ and $\sqrt{\bar\beta_t} = \sin\varphi$ it is the derivative of $x_t$ by the"
        " angle, the velocity that names it:",
        sp.diff(MIXTURE.subs(scales), turn),
        VELOCITY.subs(scales),
        shown=r"v = \frac{\partial x_t}{\partial\varphi}",
    )
    proof.equal(
        "Lengths are kept,", MIXTURE**2 + VELOCITY**2, x0**2 + eps**2, shown=r"x_t^2 + v^2 = x_0^2 + \varepsilon^2"
    )
    moment = expectation(expectation(sp.expand(MIXTURE * VELOCITY), eps, 0, 1), x0, 0, 1)
    proof.equal(
        r"and for data of unit variance $v$ is uncorrelated with $x_t$:",
        moment,
        sp.S.Zero,
        shown=r"\mathbb E[x_t v] = 0",
    )
    ends = {alpha_bar_t: 1, beta_bar_t: 0}, {alpha_bar_t: 0, beta_bar_t: 1}
    proof.equal("Clean data leave the noise,", VELOCITY.subs(ends[0]), eps, shown=r"t = 0:\quad v = \varepsilon")
    proof.equal("pure noise leaves the data.", VELOCITY.subs(ends[1]), -x0, shown=r"\bar\alpha_t = 0:\quad v = -x_0")
    proof.conclude(v=VELOCITY)


def _v_solved(proof: Proof, says: str, unknown: sp.Symbol, other: sp.Symbol, result: sp.Expr) -> None:
    """Solve the equations of ``xt`` and of ``v`` for one letter, with ``other`` eliminated."""
    _start(proof)
    proof.say("The two equations,", rf"{equation('x_t', MIXTURE)},\qquad {equation('v', VELOCITY)}")
    solution = sp.solve([MIXTURE - xt, VELOCITY - v], [unknown, other], dict=True)[0]
    proof.equal(says, solution[unknown], result)


@derives(r"\hat x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{\bar\beta_t}\,\hat v", source="salimans2022, appendix D")
def x0_from_v(proof: Proof) -> None:
    """The rotation turned back: first component. Nothing is divided by, so it holds at every level."""
    result = SIGNAL * xt - NOISE * v
    _v_solved(proof, r"solved for $x_0$ (the determinant is $\bar\alpha_t + \bar\beta_t = 1$):", x0, eps, result)
    proof.equal("It returns the data.", result.subs({xt: MIXTURE, v: VELOCITY}), x0)
    proof.conclude(x0=result)


@derives(r"\hat\varepsilon = \sqrt{\bar\beta_t}\,x_t + \sqrt{\bar\alpha_t}\,\hat v", source="salimans2022, appendix D")
def eps_from_v(proof: Proof) -> None:
    """The rotation turned back: second component. Nothing is divided by, so it holds at every level."""
    result = NOISE * xt + SIGNAL * v
    _v_solved(
        proof, r"solved for $\varepsilon$ (the determinant is $\bar\alpha_t + \bar\beta_t = 1$):", eps, x0, result
    )
    proof.equal("It returns the noise.", result.subs({xt: MIXTURE, v: VELOCITY}), eps)
    proof.conclude(eps=result)


@derives(
    r"\hat v = \frac{\hat\varepsilon - \sqrt{\bar\beta_t}\,x_t}{\sqrt{\bar\alpha_t}}",
    source="salimans2022, appendix D, solved for v",
)
def v_from_eps(proof: Proof) -> None:
    """The velocity from the noise, with the data eliminated."""
    result = (eps - NOISE * xt) / SIGNAL
    _v_solved(proof, r"solved for $v$ without $x_0$:", v, x0, result)
    proof.equal(
        "It inverts the conversion to the noise.",
        eps_from_v().results["eps"].subs(v, result),
        eps,
        shown=r"\hat\varepsilon(\hat v(\hat\varepsilon)) = \hat\varepsilon",
    )
    proof.only_where(alpha_bar_t, _NO_SIGNAL)
    proof.conclude(v=result)


@derives(
    r"\hat v = \frac{\sqrt{\bar\alpha_t}\,x_t - \hat x_0}{\sqrt{\bar\beta_t}}",
    source="salimans2022, appendix D, solved for v",
)
def v_from_x0(proof: Proof) -> None:
    """The velocity from the data, with the noise eliminated."""
    result = (SIGNAL * xt - x0) / NOISE
    _v_solved(proof, r"solved for $v$ without $\varepsilon$:", v, eps, result)
    proof.equal(
        "It inverts the conversion to the data.",
        x0_from_v().results["x0"].subs(v, result),
        x0,
        shown=r"\hat x_0(\hat v(\hat x_0)) = \hat x_0",
    )
    proof.only_where(beta_bar_t, _NO_NOISE)
    proof.conclude(v=result)


@derives(
    r"\nabla_{x_t}\log q(x_t\mid x_0) = -\frac{\varepsilon}{\sqrt{\bar\beta_t}},\quad"
    r" \nabla_{x_t}\log q(x_t) = -\frac{\mathbb E[\varepsilon\mid x_t]}{\sqrt{\bar\beta_t}}",
    source="vincent2011; dhariwal2021, section 4.2",
)
def score_eps_relation(proof: Proof) -> None:
    r"""The gradient of the log density of the noisy data. Given the data it is the noise, scaled; without them it is the mean of
    that over the data which $x_t$ leaves possible. The second statement is shown for data in two points of any weights, which
    is the general case for as many points as one likes (both sides are linear in $q(x_0)$ once multiplied by $q(x_t)$),
    and for normal data in closed form.
    """
    _start(proof)
    proof.assume(r"$q(x_t\mid x_0) = \mathcal N(\sqrt{\bar\alpha_t}\,x_0,\ \bar\beta_t)$ with $\bar\beta_t > 0$.")
    conditional = sp.diff(log_density(xt, SIGNAL * x0, beta_bar_t), xt)
    proof.equal(r"Given $x_0$ the derivative is", conditional, -(xt - SIGNAL * x0) / beta_bar_t)
    result = -eps / NOISE
    proof.equal(r"and with the noise that belongs to $x_t$", conditional.subs(xt, MIXTURE), result)

    weight = letter("weight_a", "w", positive=True)
    first, second = letter("point_a", "a", real=True), letter("point_b", "b", real=True)
    kernels = [sp.exp(-((xt - SIGNAL * point) ** 2) / (2 * beta_bar_t)) for point in (first, second)]
    mixture = sp.diff(sp.log(weight * kernels[0] + (1 - weight) * kernels[1]), xt)
    at_a, at_b = sp.Dummy("at_a", positive=True), sp.Dummy("at_b", positive=True)
    mass_a, mass_b = weight * at_a, (1 - weight) * at_b
    eps_a, eps_b = ((xt - SIGNAL * point) / NOISE for point in (first, second))
    proof.equal(
        r"Data in two points $a$ and $b$ with weights $w$ and $1 - w$: the gradient of the mixture is the mean of the two"
        r" conditional ones under the weights that Bayes' rule gives $a$ and $b$ at $x_t$,",
        mixture.subs({kernels[0]: at_a, kernels[1]: at_b}),
        -(mass_a * eps_a + mass_b * eps_b) / (mass_a + mass_b) / NOISE,
        shown=r"\nabla\log q(x_t) = -\frac{1}{\sqrt{\bar\beta_t}}\cdot\frac{w\,q(x_t\mid a)\,\varepsilon_a"
        r" + (1-w)\,q(x_t\mid b)\,\varepsilon_b}{w\,q(x_t\mid a) + (1-w)\,q(x_t\mid b)}",
    )
    given_xt = complete_square(
        -((xt - SIGNAL * x0) ** 2) / (2 * beta_bar_t) - (x0 - data_mean) ** 2 / (2 * data_variance), x0
    ).mean
    marginal = log_density(xt, SIGNAL * data_mean, alpha_bar_t * data_variance + beta_bar_t)
    proof.equal(
        r"Normal data $\mathcal N(m, \tau^2)$: the derivative of the log density of $x_t$ is the same mean,",
        sp.diff(marginal, xt),
        -((xt - SIGNAL * given_xt) / NOISE) / NOISE,
        shown=r"-\frac{x_t - \sqrt{\bar\alpha_t}\,m}{\bar\alpha_t\tau^2 + \bar\beta_t}"
        r" = -\frac{\mathbb E[\varepsilon\mid x_t]}{\sqrt{\bar\beta_t}}",
    )
    proof.only_where(beta_bar_t, _NO_NOISE)
    proof.conclude(score=result)


@derives(r"\hat\varepsilon = -\sqrt{\bar\beta_t}\,\nabla\log q(x_t)", source="vincent2011")
def eps_from_score(proof: Proof) -> None:
    """The relation of score and noise, read backwards."""
    _start(proof)
    result = -NOISE * score
    proof.equal(
        r"Solved for $\varepsilon$,",
        _solved(score_eps_relation().results["score"], score, eps),
        result,
        shown=equation(r"\hat\varepsilon", result),
    )
    proof.equal(
        "At level 0 it is no noise at all.", result.subs(beta_bar_t, 0), sp.S.Zero, shown=r"\hat\varepsilon = 0"
    )
    proof.conclude(eps=result)


@derives(
    r"\hat x_0 = \frac{x_t + \bar\beta_t\,\nabla\log q(x_t)}{\sqrt{\bar\alpha_t}}", source="vincent2011; efron2011"
)
def x0_from_score(proof: Proof) -> None:
    """Tweedie's formula: the noise that the score implies, taken off."""
    _start(proof)
    result = (xt + beta_bar_t * score) / SIGNAL
    implied = x0_from_eps().results["x0"].subs(eps, eps_from_score().results["eps"])
    proof.equal("The data prediction from the noise that belongs to the score:", implied, result)
    conditional = -(xt - SIGNAL * x0) / beta_bar_t
    proof.equal(
        "With the score given the data it returns them.", result.subs(score, conditional), x0, shown=r"\hat x_0 = x_0"
    )
    proof.only_where(alpha_bar_t, _NO_SIGNAL)
    proof.conclude(x0=result)


@derives(r"\nabla\log q(x_t) = \frac{\sqrt{\bar\alpha_t}\,\hat x_0 - x_t}{\bar\beta_t}", source="vincent2011")
def score_from_x0(proof: Proof) -> None:
    """Tweedie's formula, solved for the score."""
    _start(proof)
    result = (SIGNAL * x0 - xt) / beta_bar_t
    proof.equal("Solved for the score,", _solved(x0_from_score().results["x0"], x0, score), result)
    proof.equal(
        "it is the derivative of the log density given the data.",
        sp.diff(log_density(xt, SIGNAL * x0, beta_bar_t), xt),
        result,
        shown=r"\nabla_{x_t}\log q(x_t\mid x_0)",
    )
    proof.only_where(beta_bar_t, _NO_NOISE)
    proof.conclude(score=result)


DERIVATIONS: tuple[Derive, ...] = (
    x0_from_eps,
    eps_from_x0,
    v_target,
    x0_from_v,
    eps_from_v,
    v_from_eps,
    v_from_x0,
    score_eps_relation,
    eps_from_score,
    x0_from_score,
    score_from_x0,
)
