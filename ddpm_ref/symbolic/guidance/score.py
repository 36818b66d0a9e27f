r"""Scores given a label: Bayes' rule, differentiated; the gradient of a classifier, and the classifier implied by two networks."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.ancestral.normal_data import AT_T
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import log_density
from ddpm_ref.symbolic.guidance.classes import (
    OBSERVED,
    SIGNAL,
    c,
    data_given_observation,
    domain,
    eps_conditional,
    given_xt,
    gradient,
    joint,
    label,
    marginal,
    number,
    observation,
    observation_variance,
    observed_gradient,
    predicted_observation,
    scores,
    slope,
    start,
)  # fmt: skip
from ddpm_ref.symbolic.prediction import score_eps_relation
from ddpm_ref.symbolic.symbols import (
    alpha_bar_t,
    beta_bar_t,
    data_variance,
    eps,
    eps_hat,
    equation,
    letter,
    mean1,
    mean2,
    score,
    variance1,
    variance2,
    xt,
)  # fmt: skip

weight_1 = letter("weight_1", r"\pi_1", positive=True)
logit_y, logit_other = letter("logit_y", "z_y", real=True), letter("logit_other", "z_k", real=True)
slope_y, slope_other = letter("slope_y", r"\nabla z_y", real=True), letter("slope_other", r"\nabla z_k", real=True)

_logits = sp.IndexedBase(letter("logits", "z", real=True))
_slopes = sp.IndexedBase(letter("slopes", r"z'", real=True))
_logit = sp.Function("logit", real=True)


@derives(
    r"\nabla_{x_t}\log q(x_t\mid y) = \nabla_{x_t}\log q(x_t, y) = \nabla_{x_t}\log q(x_t) + \nabla_{x_t}\log q(y\mid x_t)",
    source="dhariwal2021, section 4.2",
)
def conditional_score_decomposition(proof: Proof) -> None:
    r"""Bayes' rule, differentiated: what a label adds to the score is the gradient of the logarithm of its probability. Shown for
    any number of classes with any densities; then written out where the classifier is known exactly, for normal data with an
    observation, whose conditional law is found in another way.
    """
    start(proof)
    posterior = joint(label) / marginal()
    proof.say(
        r"By Bayes' rule the probability of the label, given the noisy data, is",
        r"q(y\mid x_t) = \frac{\pi_y\,q_y(x_t)}{\sum_c\pi_c\,q_c(x_t)}",
    )
    proof.equal(
        r"The prior is constant in $x_t$: the joint density has the score of the class,",
        slope(joint(label)),
        scores[label],
        shown=r"\nabla\log q(x_t, y) = \nabla\log q(x_t\mid y) = s_y",
    )
    proof.equal(
        r"that of the noisy data is the average of the classes' scores,",
        slope(marginal()),
        given_xt(scores[c]),
        shown=r"\nabla\log q(x_t) = \sum_cq(c\mid x_t)\,s_c",
    )
    proof.equal(
        "and the rest is the gradient of the logarithm of the label's probability.",
        slope(joint(label)),
        slope(marginal()) + slope(posterior),
        shown=r"s_y = \nabla\log q(x_t) + \nabla\log q(y\mid x_t)",
    )
    proof.equal(
        "On average over the labels it adds nothing:",
        given_xt(scores[c] - slope(marginal())),
        sp.S.Zero,
        shown=r"\sum_cq(c\mid x_t)\,\nabla\log q(c\mid x_t) = 0",
    )
    proof.assume(OBSERVED)
    per_unit, spread = predicted_observation()
    proof.equal(
        r"With an observation of normal data: given $x_t$ it is normal, with the mean (by completing the square)",
        per_unit * xt,
        SIGNAL * data_variance * xt / AT_T,
    )
    proof.equal("and the variance", spread, data_variance * beta_bar_t / AT_T + observation_variance)
    found = observed_gradient()
    closed = SIGNAL * data_variance * (observation - per_unit * xt) / (AT_T * spread)
    proof.equal("whose logarithm has the gradient", found, closed, shown=equation(r"\nabla\log q(y\mid x_t)", closed))
    centre, left = data_given_observation()
    conditional = sp.diff(log_density(xt, SIGNAL * centre, alpha_bar_t * left + beta_bar_t), xt)
    proof.equal(
        r"Independently: the data given $y$ are normal, so $x_t$ is, and its score is the sum of the two.",
        conditional,
        sp.diff(log_density(xt, 0, AT_T), xt) + found,
        shown=r"\nabla\log\mathcal N\left(x_t;\ \sqrt{\bar\alpha_t}\,\mathbb E[x_0\mid y],"
        r"\ \bar\alpha_t\mathrm{Var}(x_0\mid y) + \bar\beta_t\right) = -\frac{x_t}{V_t} + \nabla\log q(y\mid x_t)",
    )
    domain(proof)
    proof.conclude(conditional=score + gradient, observed_gradient=closed, observed_mean=centre, observed_variance=left)


@derives(
    r"\nabla_x\log\mathrm{softmax}(z)_y = \nabla z_y - \sum_cp_c\nabla z_c = \sum_{c\ne y}p_c\,(\nabla z_y - \nabla z_c)",
    source="dhariwal2021, section 4",
)
def classifier_gradient(proof: Proof) -> None:
    r"""The gradient of the *logarithm* of a class probability, by the *input*. Summed over a batch before it is differentiated it
    gives every sample its own gradient, provided that no sample has a part in the logits of another.
    """
    proof.assume(r"$z_c(x)$ are the logits of a classifier, any functions of the input; $p = \mathrm{softmax}(z)$.")
    total = sp.Sum(sp.exp(_logit(c, xt)), (c, 1, number))
    logarithm = _logit(label, xt) - sp.log(total)
    shares = sp.IndexedBase(letter("shares", "p", positive=True))

    def named(expression: sp.Expr) -> sp.Expr:
        expression = expression.replace(sp.Derivative, lambda f, *_: _slopes[f.args[0]])
        return expression.replace(sp.exp, lambda f: shares[f.args[0]])

    everything = sp.Sum(shares[c], (c, 1, number))
    average = sp.Sum(shares[c] * _slopes[c], (c, 1, number)) / everything
    proof.equal(
        r"With $p_c = e^{z_c}/\sum_ke^{z_k}$ the derivative of $z_y - \log\sum_ce^{z_c}$ is",
        named(sp.diff(logarithm, xt)),
        _slopes[label] - average,
        shown=r"\nabla\log p_y = \nabla z_y - \sum_cp_c\nabla z_c",
    )
    proof.equal(
        "or, since the probabilities add up to 1, what the other classes pull. In this form nothing is lost where the"
        " class is nearly"
        " certain.",
        sp.Sum(shares[c] * (_slopes[label] - _slopes[c]), (c, 1, number)) / everything,
        _slopes[label] - average,
        shown=r"\nabla\log p_y = \sum_{c\ne y}p_c\,(\nabla z_y - \nabla z_c)",
    )
    proof.equal(
        "Averaged over the classes with their probabilities the gradients cancel.",
        sp.Sum(shares[c] * (_slopes[c] - average), (c, 1, number)),
        sp.S.Zero,
        shown=r"\sum_yp_y\nabla\log p_y = 0",
    )
    probability = sp.exp(_logit(label, xt)) / total
    proof.equal(
        "The gradient of the probability itself is smaller by that probability:",
        named(sp.diff(probability, xt)),
        shares[label] / everything * (_slopes[label] - average),
        shown=r"\nabla p_y = p_y\,\nabla\log p_y",
    )
    first, second = (letter(f"sample_{k}", f"x^{{({k})}}", real=True) for k in (1, 2))
    alone, log_p = sp.Function("log_p"), sp.Function("log_p_of_batch")
    proof.all_vanish(
        r"A batch of two: of the sum of both logarithms each sample gets its own gradient,",
        [sp.diff(alone(first) + alone(second), first) - sp.diff(alone(first), first)],
        shown=r"\frac{\partial}{\partial x^{(1)}}\left(\log p(x^{(1)}) + \log p(x^{(2)})\right) = \nabla\log p(x^{(1)})",
    )
    centred = sum(log_p(x - (first + second) / 2) for x in (first, second))
    at = sp.Dummy("at")
    inner = sp.diff(log_p(at), at)
    proof.equal(
        "but not if they interact, e.g. by a mean that is taken off both: then it is half the difference of the two gradients.",
        sp.diff(centred, first).doit(),
        (inner.subs(at, (first - second) / 2) - inner.subs(at, (second - first) / 2)).doit() / 2,
        shown=r"\frac{\partial}{\partial x^{(1)}}\sum_i\log p(x^{(i)} - \bar x)"
        r" = \tfrac12\left(\nabla\log p(x^{(1)} - \bar x) - \nabla\log p(x^{(2)} - \bar x)\right)",
    )
    other = 1 / (1 + sp.exp(logit_y - logit_other))
    first_slope, second_slope = (
        sp.diff(log_density(xt, SIGNAL * mean, alpha_bar_t * of + beta_bar_t), xt)
        for mean, of in ((mean1, variance1), (mean2, variance2))
    )
    odds = (
        sp.log(weight_1)
        - sp.log(1 - weight_1)
        + log_density(xt, SIGNAL * mean1, alpha_bar_t * variance1 + beta_bar_t)
        - log_density(xt, SIGNAL * mean2, alpha_bar_t * variance2 + beta_bar_t)
    )
    proof.say(
        r"Two normal classes $\mathcal N(\mu_k, \sigma_k^2)$ of the data: the logits are the logarithms of prior and density of"
        r" $x_t$ (`data_marginal`), and the probability of the other class is $1/(1 + e^{z_1 - z_2})$.",
        equation(r"z_1 - z_2", odds),
    )
    proof.conclude(
        two_classes=other * (slope_y - slope_other),
        two_normal_classes=(first_slope - second_slope) / (1 + sp.exp(odds)),
    )


@derives(
    r"\nabla_{x_t}\log p(y\mid x_t) = \nabla\log p(x_t\mid y) - \nabla\log p(x_t)"
    r" = -\frac{\hat\varepsilon(x_t, t, y) - \hat\varepsilon(x_t, t)}{\sqrt{\bar\beta_t}}",
    source="ho2022, section 3.2",
)
def implicit_classifier_score(proof: Proof) -> None:
    r"""Two networks that know the mean of the noise, one with the label and one without, contain a classifier: the difference of
    their scores is the gradient of its logarithm. It is shown to be the true gradient where that is known.
    """
    start(proof)
    of_noise = score_eps_relation().results["score"]
    with_label, without = of_noise.subs(eps, eps_conditional), of_noise.subs(eps, eps_hat)
    proof.equal(
        "By Bayes' rule the gradient of the label's probability is a difference of scores,",
        slope(joint(label) / marginal()),
        scores[label] - given_xt(scores[c]),
        shown=r"\nabla\log q(y\mid x_t) = s_y - \nabla\log q(x_t)",
    )
    result = -(eps_conditional - eps_hat) / sp.sqrt(beta_bar_t)
    proof.equal(
        r"and scores are noises (`score_eps_relation`, for the law given $y$ as for the other):",
        with_label - without,
        result,
        shown=equation(r"\nabla\log p(y\mid x_t)", result),
    )
    proof.equal(
        r"It is 0 where the label says nothing of the data, $\hat\varepsilon_y = \hat\varepsilon$.",
        result.subs(eps_conditional, eps_hat),
        sp.S.Zero,
        shown=r"\nabla\log p(y\mid x_t) = 0",
    )
    proof.assume(OBSERVED)
    centre, left = data_given_observation()
    best = sp.sqrt(beta_bar_t) * (xt - SIGNAL * centre) / (alpha_bar_t * left + beta_bar_t)
    proof.equal(
        "Normal data with an observation: the best predictions with and without it give the gradient of the exact classifier.",
        result.subs({eps_conditional: best, eps_hat: sp.sqrt(beta_bar_t) * xt / AT_T}),
        observed_gradient(),
        shown=r"-\frac{1}{\sqrt{\bar\beta_t}}\left(\mathbb E[\varepsilon\mid x_t, y] - \mathbb E[\varepsilon\mid x_t]\right)"
        r" = \nabla\log q(y\mid x_t)",
    )
    domain(proof)
    proof.conclude(gradient=result, observed_eps=best)
