"""Betas by a formula, what any betas must satisfy, and how much signal they leave at the end."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.symbols import T, alpha, alpha_bar_s, alpha_bar_t, beta, latex, letter, t

beta_1 = letter("beta_1", r"\beta_1", positive=True)
beta_T = letter("beta_T", r"\beta_T", positive=True)
difference = letter("difference", r"\delta", real=True)
kept = letter("kept", "a", real=True)
odds = letter("odds", "r", positive=True)
offset = letter("offset", "s", nonnegative=True)
max_beta = letter("max_beta", r"\beta_{\max}", positive=True)
angle = letter("angle", r"\varphi", positive=True)
previous_angle = letter("previous_angle", r"\psi", positive=True)
b = letter("b", "b", real=True)
i = letter("i", "i", integer=True, positive=True)
betas = sp.IndexedBase(letter("betas", r"\beta", positive=True))


def _between_0_and_1(f: sp.Expr) -> sp.Expr:
    """With b written as r / (1 + r), r > 0: sympy then sees the sign of what is rational in b."""
    return sp.factor(f.subs(b, odds / (1 + odds)))


@derives(r"0 < \beta_t < 1 \ \text{ for all } t", source="ho2020, section 2")
def beta_schedule(proof: Proof) -> None:
    r"""Why one number per step, and why between 0 and 1: a linear step with noise of variance $\beta$ that preserves unit
    variance keeps $\sqrt{1-\beta}$ of the state, which is real, and keeps something and adds something, for these $\beta$ alone.
    Nothing is asked of their order: the last level does not depend on it.
    """
    proof.assume(
        r"A step $x_t = a\,x_{t-1} + \sqrt{\beta}\,\varepsilon$ with independent standard normal noise, $a \ge 0$."
    )
    proof.assume("It preserves unit variance.")
    keeps = sp.solve(kept**2 + beta - 1, kept)
    proof.say("The variances of two independent parts add up:", sp.Eq(kept**2 + beta, 1))
    signal = proof.equal("The root of it that is not negative:", keeps[1], sp.sqrt(1 - beta))
    proof.equal(r"Its square is the $\alpha$ of the papers,", signal**2, alpha)
    proof.equal(
        r"and back: $\bar\alpha_t$ is $\alpha$ times the value before, so the betas follow from it,",
        1 - alpha_bar_t / alpha_bar_s,
        beta,
    )
    within = b.subs(b, odds / (1 + odds))
    proof.equal(r"A number $b$ lies between 0 and 1 if it is", sp.solve(b / (1 - b) - odds, b)[0], within)
    rest = sp.factor(1 - within)
    proof.holds(r"with some $r > 0$. Then something is added,", within > 0, shown=rf"\beta = {latex(within)} > 0")
    proof.holds("and something is kept,", rest > 0, shown=rf"1 - \beta = {latex(rest)} > 0")
    falls = proof.equal(r"so that $\bar\alpha$ falls at every step, by", alpha_bar_s - alpha_bar_t, beta * alpha_bar_s)
    proof.say(
        "The difference is positive for every order of the betas, and exchanging two neighbours changes nothing later:"
    )
    proof.equal(
        "a product does not know the order of its factors.",
        (1 - betas[t]) * (1 - betas[t + 1]),
        (1 - betas[t + 1]) * (1 - betas[t]),
        shown=r"\bar\alpha_{t-1}(1-\beta_t)(1-\beta_{t+1}) = \bar\alpha_{t-1}(1-\beta_{t+1})(1-\beta_t)",
    )
    proof.only_where(beta, "a step adds noise, so beta > 0")
    # 1 - sign(x) is positive where x <= 0: the last beta may be 1.
    proof.only_where(1 - sp.sign(beta - 1), "a step keeps a real share of the state, so beta <= 1 (1 at t = T only)")
    proof.conclude(alpha=1 - beta, signal=signal, beta=1 - alpha_bar_t / alpha_bar_s, decrease=falls)


@derives(
    r"\beta_t = \beta_1 + (t-1)\frac{\beta_T-\beta_1}{T-1},\qquad \sum_{t=1}^T\beta_t = \frac T2(\beta_1+\beta_T)",
    source="ho2020, section 4",
)
def linear_beta_schedule(proof: Proof) -> None:
    r"""The sequence with equal differences and given end points. The recursion is solved, the difference follows from the last
    value, and the sum is done with symbolic $T$.
    """
    proof.assume(r"$\beta_{t+1} - \beta_t$ is the same number $\delta$ for all t, and both ends are given.")
    sequence, n = sp.Function("y"), sp.Symbol("n", integer=True)
    solved = sp.rsolve(sequence(n + 1) - sequence(n) - difference, sequence(n), {sequence(1): beta_1}).subs(n, t)
    solved = proof.equal("The recursion with its first value has the solution", solved, beta_1 + (t - 1) * difference)
    step = proof.equal(
        "The last value gives the difference,",
        sp.solve(solved.subs(t, T) - beta_T, difference)[0],
        (beta_T - beta_1) / (T - 1),
    )
    at_t = solved.subs(difference, step)
    proof.say(r"so that $\beta_t$ is", at_t)
    proof.equal("The ends are met:", at_t.subs(t, 1), beta_1)
    proof.equal("and", at_t.subs(t, T), beta_T)
    proof.equal("the differences are constant.", at_t.subs(t, t + 1) - at_t, step)
    proof.equal(
        "It is a mean of the ends with weights that are not negative, so betas lie between them, and in (0, 1) if they do.",
        at_t,
        ((T - t) * beta_1 + (t - 1) * beta_T) / (T - 1),
    )
    total = proof.equal("The sum over all levels is", sp.Sum(at_t, (t, 1, T)).doit(), T * (beta_1 + beta_T) / 2)
    scaled = proof.equal(
        r"With both ends multiplied by $1000/T$ it no longer depends on $T$:",
        total.subs({beta_1: 1000 * beta_1 / T, beta_T: 1000 * beta_T / T}, simultaneous=True),
        500 * (beta_1 + beta_T),
    )
    proof.only_where(T - 1, "with T = 1 there is no difference to solve for; the only beta is beta_1")
    proof.only_where(t, "levels of betas start at t = 1")
    proof.only_where(T - t + 1, "there is no level above T")
    proof.conclude(beta=at_t, sum=total, sum_of_scaled=scaled)


def _f(level: sp.Expr) -> sp.Expr:
    return sp.cos((level / T + offset) / (1 + offset) * sp.pi / 2) ** 2


@derives(
    r"\bar\alpha_t = \frac{f(t)}{f(0)},\quad f(t) = \cos^2\left(\frac{t/T+s}{1+s}\cdot\frac\pi2\right),\quad "
    r"\beta_t = \min\left(1-\frac{f(t)}{f(t-1)},\ \beta_{\max}\right)",
    source="nichol2021, eq. (17)",
)
def cosine_alpha_bar_schedule(proof: Proof) -> None:
    r"""The betas of a given $\bar\alpha$, in the form without cancellation, which shows that they are positive; they rise, and all
    but the last stay below 3/4, so that a clip at 3/4 or more changes the last one only. (The $s$ of this schedule is an offset,
    not a level.)
    """
    proof.assume(r"$\bar\alpha_t = f(t)/f(0)$ before any clip.")
    angle_of = (t / T + offset) / (1 + offset) * sp.pi / 2
    proof.equal("Nothing would be left at the last level,", _f(T), sp.Integer(0), shown="f(T) = 0")
    proof.equal("and all is there at level 0.", (_f(t) / _f(0)).subs(t, 0), sp.Integer(1), shown=r"f(0)/f(0) = 1")
    plain = proof.equal(
        r"In $1 - \bar\alpha_t/\bar\alpha_{t-1}$ the $f(0)$ cancels,",
        1 - (_f(t) / _f(0)) / (_f(t - 1) / _f(0)),
        1 - _f(t) / _f(t - 1),
    )
    proof.equal(
        "which is 1 at the last level, so a clip is needed there.",
        plain.subs(t, T),
        sp.Integer(1),
        shown=r"1 - f(T)/f(T-1) = 1",
    )
    form = sp.sin(angle - previous_angle) * sp.sin(angle + previous_angle) / sp.cos(previous_angle) ** 2
    proof.equal(
        r"With $\varphi$ the angle of t and $\psi$ the one of $t - 1$ it is positive, as $0 \le \psi < \varphi \le \pi/2$, and "
        "does not cancel:",
        1 - sp.cos(angle) ** 2 / sp.cos(previous_angle) ** 2,
        form,
    )
    proof.equal("The angles rise by equal steps.", angle_of.subs(t, t + 1) - angle_of, sp.pi / (2 * T * (1 + offset)))
    slope = sp.diff(2 * sp.log(sp.cos(angle)) - 2 * sp.log(sp.cos(angle - difference)), angle)
    proof.equal(
        r"The logarithm of the ratio of two values one step $\delta$ apart has the slope",
        slope,
        2 * (sp.tan(angle - difference) - sp.tan(angle)),
    )
    proof.holds(
        "and tan rises, having a positive derivative: the slope is negative, the ratio falls and the betas rise.",
        sp.tan(angle).diff(angle) > 0,
        shown=r"\tan' = 1 + \tan^2 > 0",
    )
    half, short = sp.pi / (2 * T * (1 + offset)), letter("h", "h", positive=True)
    proof.equal(
        "The last but one level lies one such step $h$ before a right angle,", angle_of.subs(t, T - 1), sp.pi / 2 - half
    )
    proof.equal("the one before it two,", angle_of.subs(t, T - 2), sp.pi / 2 - 2 * half)
    below = proof.equal(
        r"so $\beta_{T-1}$ has a closed form.",
        sp.expand_trig(1 - sp.cos(sp.pi / 2 - short) ** 2 / sp.cos(sp.pi / 2 - 2 * short) ** 2),
        1 - 1 / (4 * sp.cos(short) ** 2),
        shown=r"1 - \frac{\sin^2 h}{\sin^2 2h} = 1 - \frac1{4\cos^2 h}",
    )
    gap = proof.equal("It falls short of 3/4 by", sp.Rational(3, 4) - below, sp.tan(short) ** 2 / 4)
    tangent = sp.Symbol("tan_h", positive=True)
    proof.holds(
        r"which is positive, as $\tan h$ is for $0 < h < \pi/2$.",
        gap.subs(sp.tan(short), tangent) > 0,
        shown=r"\beta_{T-1} < \tfrac34",
    )
    before_last = below.subs(short, half)
    limit = proof.equal(
        "It tends to",
        sp.limit(before_last, T, sp.oo),
        sp.Rational(3, 4),
        shown=r"\lim_{T\to\infty}\beta_{T-1} = \frac34",
    )
    proof.only_where(t, "betas start at t = 1")
    proof.only_where(T - t + 1, "there is no level above T")
    proof.only_where((2 * t - 1) / T + 2 * offset, "with so negative an offset alpha_bar would rise; take s >= 0")
    proof.conclude(alpha_bar=_f(t) / _f(0), beta=sp.Min(plain, max_beta), before_last=before_last, limit=limit)


@derives(
    r"\log\bar\alpha_T < -\sum_{t=1}^T\beta_t,\qquad "
    r"\log\bar\alpha_T = -\sum\beta_t - \tfrac12\sum\beta_t^2 - O\left(\sum\beta_t^3\right)",
    source="elementary; the requirement in ho2020, section 4",
)
def alpha_bar_terminal_bound(proof: Proof) -> None:
    r"""Each term of $\log\bar\alpha_T = \sum\log(1-\beta_t)$ is compared with a polynomial in $\beta_t$. The difference vanishes
    at 0 and its derivative has one sign, so it has that sign itself; summed over the levels, this is the bound, and the same
    argument with one more term encloses the error of the second-order estimate.
    """
    proof.assume(r"$0 < \beta_t < 1$.")
    proof.say("By `alpha_and_alpha_bar`,", rf"\log\bar\alpha_T = {latex(sp.Sum(sp.log(1 - betas[i]), (i, 1, T)))}")
    gap = -b - sp.log(1 - b)
    slope = proof.equal(r"The gap $-b - \log(1 - b)$ has the derivative", gap.diff(b), b / (1 - b))
    proof.equal("and vanishes at 0;", gap.subs(b, 0), sp.Integer(0), shown=r"-0 - \log 1 = 0")
    proof.holds(
        "the derivative is positive between 0 and 1, here written with $b = r/(1+r)$, $r > 0$, so the gap is.",
        _between_0_and_1(slope) > 0,
        shown=f"{latex(slope)} = {latex(_between_0_and_1(slope))} > 0",
    )
    rest = -sp.log(1 - b) - b - b**2 / 2
    proof.equal("The next term of the series leaves", rest.diff(b), b**2 / (1 - b))
    proof.equal("that is, to leading order,", sp.series(rest, b, 0, 4).removeO(), b**3 / 3)
    above = proof.equal(
        r"More exactly: the derivative of what remains above $b^3/3$ is positive,",
        (rest - b**3 / 3).diff(b),
        b**3 / (1 - b),
    )
    proof.holds(
        "(again with $b = r/(1+r)$)",
        _between_0_and_1(above) > 0,
        shown=f"{latex(above)} = {latex(_between_0_and_1(above))} > 0",
    )
    below = proof.equal(
        r"and so is that of what $b^3/(3(1-b))$ has over it:",
        (b**3 / (3 * (1 - b)) - rest).diff(b),
        b**3 / (3 * (1 - b) ** 2),
    )
    proof.holds(
        "(likewise)",
        _between_0_and_1(below) > 0,
        shown=f"{latex(below)} = {latex(_between_0_and_1(below))} > 0",
    )
    proof.say(
        r"Both vanish at 0, so the error of the second-order estimate lies between the sums of $\beta_t^3/3$ and of "
        r"$\beta_t^3/(3(1-\beta_t))$."
    )
    proof.equal(
        "They do vanish:",
        (rest - b**3 / 3).subs(b, 0) + (b**3 / (3 * (1 - b)) - rest).subs(b, 0),
        sp.Integer(0),
        shown="0 = 0",
    )
    linear = beta_1 + (i - 1) * (beta_T - beta_1) / (T - 1)
    bound = proof.equal(
        "For the linear schedule the bound is",
        -sp.Sum(linear, (i, 1, T)).doit(),
        -T * (beta_1 + beta_T) / 2,
    )
    squares = sp.factor(sp.Sum(linear**2, (i, 1, T)).doit())
    second = proof.equal(
        "and the second-order estimate",
        bound - squares / 2,
        -T * (beta_1 + beta_T) / 2
        - T * (beta_1 + beta_T) ** 2 / 8
        - T * (T + 1) * (beta_T - beta_1) ** 2 / (24 * (T - 1)),
    )
    smallest = proof.equal(
        "It is too large by at least",
        sp.factor(sp.Sum(linear**3, (i, 1, T)).doit()) / 3,
        T * (beta_1 + beta_T) * ((beta_1 + beta_T) ** 2 + (T + 1) * (beta_T - beta_1) ** 2 / (T - 1)) / 24,
    )
    proof.only_where(T - 1, "the closed form is that of the linear schedule with T >= 2")
    proof.conclude(bound=bound, second_order=second, excess_at_least=smallest)
