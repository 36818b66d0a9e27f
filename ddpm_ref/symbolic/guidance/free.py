r"""Guidance without a classifier: two predictions of one network, how it is trained to make both, and the scales in use."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import Square, complete_square
from ddpm_ref.symbolic.guidance.classes import (
    c,
    classifier_scale,
    densities,
    domain,
    eps_conditional,
    given_xt,
    gradient,
    guidance_weight,
    joint,
    label,
    marginal,
    number,
    prior,
    scores,
    slope,
    start,
)  # fmt: skip
from ddpm_ref.symbolic.guidance.classifier import (
    classifier_guided_eps,
)
from ddpm_ref.symbolic.guidance.score import implicit_classifier_score
from ddpm_ref.symbolic.induction import peeled
from ddpm_ref.symbolic.prediction import eps_from_score, x0_from_eps
from ddpm_ref.symbolic.symbols import (
    alpha_bar_t,
    beta_bar_t,
    eps,
    eps_hat,
    equation,
    letter,
    mean1,
    mean2,
    score,
    variance1,
    variance2,
    x,
)  # fmt: skip

COMBINED = (1 + guidance_weight) * eps_conditional - guidance_weight * eps_hat
"""The published form; no proof starts from it."""

drop = letter("drop", "p", positive=True)
examples = letter("examples", "n", integer=True, positive=True)
answer = sp.IndexedBase(letter("answers", r"\hat\varepsilon", real=True))
best = sp.IndexedBase(letter("best_answers", r"e", real=True))
null_answer = letter("null_answer", r"\hat\varepsilon_\varnothing", real=True)


@derives(
    r"\bar\varepsilon = (1 + w)\,\hat\varepsilon(x_t, t, y) - w\,\hat\varepsilon(x_t, t)"
    r" = \hat\varepsilon(x_t, t, y) + w\left(\hat\varepsilon(x_t, t, y) - \hat\varepsilon(x_t, t)\right)",
    source="ho2022, eq. (6)",
)
def cfg_combination(proof: Proof) -> None:
    r"""The conditional prediction is guided by the classifier that it implies together with the unconditional one. What comes out
    is an affine combination, so that it may be made of any kind of prediction. It is the score of $p(x_t\mid y)^{1+w}p(x_t)^{-w}$
    at each level, and for $w \ne 0$ these laws are no forward process.
    """
    start(proof)
    implied = implicit_classifier_score().results["gradient"]
    guided = classifier_guided_eps().results["eps"]
    proof.equal(
        r"Guide the conditional prediction, with the scale $w$, by the implied classifier:",
        guided.subs({eps_hat: eps_conditional, classifier_scale: guidance_weight}, simultaneous=True).subs(
            gradient, implied
        ),
        COMBINED,
        shown=equation(r"\bar\varepsilon", COMBINED),
    )
    proof.equal(
        "The two weights add up to 1,",
        sp.diff(COMBINED, eps_conditional) + sp.diff(COMBINED, eps_hat),
        sp.S.One,
        shown="(1 + w) - w = 1",
    )
    data = x0_from_eps().results["x0"]
    proof.equal(
        "so that the predicted data (or velocities, or scores) may be combined instead:",
        data.subs(eps, COMBINED),
        (1 + guidance_weight) * data.subs(eps, eps_conditional) - guidance_weight * data.subs(eps, eps_hat),
        shown=r"\hat x_0(\bar\varepsilon) = (1 + w)\,\hat x_0(\hat\varepsilon_y) - w\,\hat x_0(\hat\varepsilon)",
    )
    target = (1 + guidance_weight) * slope(joint(label)) - guidance_weight * slope(marginal())
    noises = {eps_conditional: scores[label], eps_hat: slope(marginal())}
    turned = {name: eps_from_score().results["eps"].subs(score, of) for name, of in noises.items()}
    proof.equal(
        "With the best predictions it is the noise of the sharpened law's score.",
        COMBINED.subs(turned),
        eps_from_score().results["eps"].subs(score, target),
        shown=r"-\frac{\bar\varepsilon}{\sqrt{\bar\beta_t}} = \nabla\log\left(p(x_t\mid y)^{1+w}\,p(x_t)^{-w}\right)",
    )
    _normal_laws(proof)
    domain(proof)
    square = sharpened(mean1, variance1, mean2, variance2)
    proof.conclude(
        eps=COMBINED,
        precision=1 / square.variance,
        mean=square.mean,
    )


def sharpened(mean_y: sp.Expr, variance_y: sp.Expr, mean: sp.Expr, variance: sp.Expr) -> Square:
    """The law proportional to two normal ones, with the exponents 1 + w and -w."""
    of_class, of_all = (-((x - m) ** 2) / (2 * v) for m, v in ((mean_y, variance_y), (mean, variance)))
    return complete_square((1 + guidance_weight) * of_class - guidance_weight * of_all, x)


def _normal_laws(proof: Proof) -> None:
    """The sharpened law of two normal ones, and that noising it gives another than sharpening the noisy ones."""
    square = sharpened(mean1, variance1, mean2, variance2)
    precision = (1 + guidance_weight) / variance1 - guidance_weight / variance2
    proof.equal(
        r"Normal laws $\mathcal N(\mu_1, \sigma_1^2)$ of the class and $\mathcal N(\mu_2, \sigma_2^2)$ of all data:"
        r" the sharpened one"
        " has, by completing the square, the precision",
        1 / square.variance,
        precision,
    )
    at_t = {variance1: alpha_bar_t * variance1 + beta_bar_t, variance2: sp.S.One}
    sharpened_then_noisy = alpha_bar_t / precision.subs(variance2, 1) + beta_bar_t
    noisy_then_sharpened = 1 / precision.subs(at_t, simultaneous=True)
    gap = alpha_bar_t * beta_bar_t * guidance_weight * (1 + guidance_weight) * (1 - variance1) ** 2
    below = (1 + guidance_weight - guidance_weight * variance1) * (
        1 + guidance_weight - guidance_weight * (alpha_bar_t * variance1 + beta_bar_t)
    )
    proof.equal(
        r"The laws of different levels do not belong together. With $\sigma_2^2 = 1$, sharpening the noisy laws gives another"
        " variance than making the sharpened one noisy; the difference is",
        noisy_then_sharpened - sharpened_then_noisy,
        -gap / below,
    )


@derives(
    r"y \leftarrow \varnothing\ \text{ with probability } p:\quad"
    r" \hat\varepsilon(x_t, y) = \mathbb E[\varepsilon\mid x_t, y],\quad \hat\varepsilon(x_t, \varnothing) = \mathbb"
    r" E[\varepsilon\mid x_t]",
    source="ho2022, algorithm 1",
)
def cfg_condition_dropout(proof: Proof) -> None:
    r"""Dropped independently of everything else, the label leaves behind examples that have the law of all data: what the network
    says without a label is the unconditional mean of the noise, whatever the probability between 0 and 1. A label dropped
    by a rule that depends on the example would not do.
    """
    start(proof)
    proof.assume(
        r"Each example loses its label with probability $0 < p < 1$, independently of data, noise and the other examples."
    )
    spread = sp.IndexedBase(letter("spreads_of_noise", "v", positive=True))
    weight = prior[c] * densities[c]
    loss = sp.Sum(
        weight
        * ((1 - drop) * (spread[c] + (best[c] - answer[c]) ** 2) + drop * (spread[c] + (best[c] - null_answer) ** 2)),
        (c, 1, number),
    )
    proof.say(
        r"At $x_t$, with $e_c = \mathbb E[\varepsilon\mid x_t, c]$ and $v_c$ the variance, the loss is, over labels"
        r" and dropping,",
        r"\sum_cq(c\mid x_t)\left((1 - p)\left(v_c + (e_c - \hat\varepsilon_c)^2\right)"
        r" + p\left(v_c + (e_c - \hat\varepsilon_\varnothing)^2\right)\right)",
    )
    (of_null,) = sp.solve(sp.diff(_in_powers(loss, null_answer), null_answer), null_answer)
    proof.equal(
        r"Its derivative by the answer without a label vanishes at the average of the answers with one: the tower property,",
        of_null,
        given_xt(best[c]),
        shown=r"\hat\varepsilon_\varnothing = \sum_cq(c\mid x_t)\,\mathbb E[\varepsilon\mid x_t, c] = \mathbb"
        r" E[\varepsilon\mid x_t]",
    )
    one = (1 - drop) * (best[label] - answer[label]) ** 2
    (of_label,) = sp.solve(sp.diff(one, answer[label]), answer[label])
    proof.equal(
        r"and that by the answer with the label $y$, which stands in one term only, at the mean of the noise given it.",
        of_label,
        best[label],
        shown=r"\hat\varepsilon_y = \mathbb E[\varepsilon\mid x_t, y]",
    )
    odds = sp.Dummy("odds", positive=True)  # p = odds / (1 + odds) lies between 0 and 1
    proof.holds(
        r"Both are minima as long as both cases occur; at $p = 1$ the second is not trained at all, at $p = 0$ the"
        r" first is not.",
        [(2 * each).subs(drop, odds / (1 + odds)) > 0 for each in (1 - drop, drop)],
        shown=r"\frac{\partial^2}{\partial\hat\varepsilon_y^2} = 2(1 - p) > 0,\quad"
        r" \frac{\partial^2}{\partial\hat\varepsilon_\varnothing^2} = 2p > 0",
    )
    proof.say("Of $n$ examples the number of dropped labels is a sum of independent zeros and ones,")
    index = letter("i", "i", integer=True, positive=True)
    proof.equal(
        "with the mean",
        sp.Sum(drop, (index, 1, examples)),
        examples * drop,
        shown=r"\sum_{i=1}^np = np",
    )
    each = drop * (1 - drop) ** 2 + (1 - drop) * drop**2
    longer = peeled(sp.Sum(drop * (1 - drop), (index, 1, examples + 1))).doit()
    proof.equal("each with the variance", each, drop * (1 - drop), shown="p(1 - p)")
    proof.equal(
        "so that, by induction, the number has the variance",
        examples * drop * (1 - drop) + each,
        longer,
        shown=r"\mathrm{Var} = n\,p(1 - p)",
    )
    dropped_1, dropped_2 = (letter(f"drop_{k}", f"p_{k}", positive=True) for k in (1, 2))
    mass_1, mass_2 = (letter(f"mass_{k}", f"q({k}\\mid x_t)", positive=True) for k in (1, 2))
    answers = [letter(f"best_{k}", f"e_{k}", real=True) for k in (1, 2)]
    uneven = mass_1 * dropped_1 * (answers[0] - null_answer) ** 2 + mass_2 * dropped_2 * (answers[1] - null_answer) ** 2
    (biased,) = sp.solve(sp.diff(uneven, null_answer), null_answer)
    honest = (mass_1 * answers[0] + mass_2 * answers[1]) / (mass_1 + mass_2)
    proof.equal(
        r"If two classes are dropped with different probabilities $p_1$ and $p_2$, as a periodic rule on sorted data"
        r" does, the answer"
        " without a label is off by",
        biased - honest,
        mass_1
        * mass_2
        * (dropped_1 - dropped_2)
        * (answers[0] - answers[1])
        / ((mass_1 + mass_2) * (mass_1 * dropped_1 + mass_2 * dropped_2)),
    )
    proof.only_where(drop, "with p = 0 the answer without a label is never trained; give 0 < p < 1")
    proof.only_where(1 - drop, "with p = 1 the answers with a label are never trained; give 0 < p < 1")
    proof.conclude(expected=examples * drop, variance=examples * drop * (1 - drop))


def _in_powers(total: sp.Sum, of: sp.Symbol) -> sp.Expr:
    """A sum of polynomials as a polynomial of sums."""
    terms = sp.Poly(sp.expand(total.function), of).terms()
    return sp.Add(*(sp.Sum(sp.factor(coefficient), *total.limits) * of**power for (power,), coefficient in terms))
