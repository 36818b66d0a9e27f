"""Common statements about guidance, refuted."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.gaussian import complete_square, log_density
from ddpm_ref.symbolic.refutations.refutation import Case, Refute, beta_tilde, refutes
from ddpm_ref.symbolic.symbols import (
    alpha,
    alpha_bar_s,
    alpha_bar_t,
    beta,
    beta_bar_s,
    beta_bar_t,
    eps_hat,
    letter,
    x,
    x0,
    xs,
    xt,
)  # fmt: skip

gradient = letter("gradient", r"\nabla\log f", real=True)
scale = letter("classifier_scale", r"\omega", real=True)
observation = letter("observation", "y", real=True)
observation_variance = letter("observation_variance", r"\rho^2", positive=True)
share = letter("share", "p", positive=True)
slope_y, slope_other = letter("slope_y", r"\nabla z_y", real=True), letter("slope_other", r"\nabla z_k", real=True)
conditional = letter("conditional_variance", "v", positive=True)

OBSERVED = r"$x_0 \sim \mathcal N(0, 1)$; the label is an observation $y = x_0 + \rho z$, and the classifier is exact."
STEP = (
    r"The mean of a step is $(x_t - \frac{\beta_{t\mid s}}{\sqrt{\bar\beta_t}}\,\bar\varepsilon)/\sqrt{\alpha_{t\mid s}}$, with"
    r" $\bar\varepsilon = \hat\varepsilon - \omega\sqrt{\bar\beta_t}\,\nabla\log f$."
)


def guided_mean() -> sp.Expr:
    """Of a step with guided noise."""
    noise = eps_hat - scale * sp.sqrt(beta_bar_t) * gradient
    return (xt - beta / sp.sqrt(beta_bar_t) * noise) / sp.sqrt(alpha)


def seen_from(state: sp.Symbol, kept: sp.Expr, lost: sp.Expr) -> sp.Expr:
    """Log density of the observation of unit data, given noisy data with that signal and noise."""
    data = complete_square(log_density(state, sp.sqrt(kept) * x0, lost) + log_density(x0, 0, sp.S.One), x0)
    return log_density(observation, data.mean, data.variance + observation_variance)


@refutes("E67")
def root_for_beta(case: Case) -> None:
    """The guided noise is put into the mean of the step, which is then differentiated by the gradient of the classifier."""
    case.assume(STEP)
    case.contrast(
        r"what multiplies $\omega\nabla\log f$ in the bracket, before the division by $\sqrt{\alpha_{t\mid s}}$",
        derived=sp.sqrt(alpha) * sp.diff(guided_mean(), gradient) / scale,
        right=beta,
        wrong=sp.sqrt(beta_bar_t),
        ratio=sp.sqrt(beta_bar_t) / beta,
    )


@refutes("E68")
def bracket_for_the_mean(case: Case) -> None:
    """The mean is collected by the state; what stands in the bracket is the mean times a root."""
    case.assume(STEP)
    case.contrast(
        "the factor of $x_t$ in the mean of the step",
        derived=sp.diff(guided_mean(), xt),
        right=1 / sp.sqrt(alpha),
        wrong=sp.Integer(1),
        ratio=sp.sqrt(alpha),
    )


@refutes("E69")
def sign_of_the_noise(case: Case) -> None:
    """The best prediction given the observation, less the one without it, is computed from the data given both, by completing the
    square; so is the gradient of the classifier. Their ratio is what the gradient is multiplied by in the guided noise."""
    case.assume(OBSERVED)
    law = log_density(xt, sp.sqrt(alpha_bar_t) * x0, beta_bar_t) + log_density(x0, 0, sp.S.One)
    seen = -((observation - x0) ** 2) / (2 * observation_variance)
    without, given = (complete_square(each, x0).mean for each in (law, law + seen))
    noises = [(xt - sp.sqrt(alpha_bar_t) * data) / sp.sqrt(beta_bar_t) for data in (given, without)]
    slope = sp.diff(seen_from(xt, alpha_bar_t, beta_bar_t), xt)
    case.contrast(
        r"what multiplies $\nabla\log f$ in the guided noise",
        derived=(noises[0] - noises[1]) / slope,
        right=-sp.sqrt(beta_bar_t),
        wrong=sp.sqrt(beta_bar_t),
        ratio=sp.Integer(-1),
        xt=1,
        observation=sp.Rational(1, 2),
        observation_variance=sp.Rational(1, 4),
    )


def log_probability(of: sp.Expr, other: sp.Expr) -> sp.Expr:
    """Of one class of two, by its logits."""
    return of - sp.log(sp.exp(of) + sp.exp(other))


@refutes("E70")
def label_from_elsewhere(case: Case) -> None:
    r"""The gradient of the logarithm of a class probability, for two classes with equal logits at $x = 0$, and the one that comes
    out if the label is that of the other class, as a variable found elsewhere may be."""
    case.assume(r"Two classes with the logits $z_y = \nabla z_y\cdot x$ and $z_k = \nabla z_k\cdot x$.")
    of, other = slope_y * x, slope_other * x
    right, wrong = (sp.diff(log_probability(*logits), x).subs(x, 0) for logits in ((of, other), (other, of)))
    case.contrast(
        "the gradient for the class that was asked for",
        derived=right,
        right=(slope_y - slope_other) / 2,
        wrong=sp.simplify(wrong),
        ratio=sp.Integer(-1),
        slope_y=1,
        slope_other=-1,
    )


@refutes("E71")
def gradient_at_another_point(case: Case) -> None:
    r"""The product of the step's normal law and of the classifier of level $s$, expanded around the mean of the step,
    $\sqrt{\alpha_{t\mid s}}\,x_t$ for unit data; and the gradient of the classifier of level $t$ at $x_t$."""
    case.assume(OBSERVED)
    mean = sp.sqrt(alpha) * xt
    right = sp.sqrt(alpha_bar_s) * (observation - sp.sqrt(alpha_bar_s) * mean) / (beta_bar_s + observation_variance)
    wrong = sp.sqrt(alpha_bar_t) * (observation - sp.sqrt(alpha_bar_t) * xt) / (beta_bar_t + observation_variance)
    case.equal(
        "The classifier of level $t$ has at $x_t$ the gradient",
        sp.diff(seen_from(xt, alpha_bar_t, beta_bar_t), xt),
        wrong,
    )
    case.contrast(
        r"the gradient of $\log f(y\mid x_s)$ at the mean of the step",
        derived=sp.diff(seen_from(xs, alpha_bar_s, beta_bar_s), xs).subs(xs, mean),
        right=right,
        wrong=wrong,
        difference=wrong - right,
        xt=1,
        observation=1,
        observation_variance=sp.Rational(1, 4),
    )


@refutes("E72")
def one_shift_for_the_other(case: Case) -> None:
    r"""The guided noise moves the mean of the step by what is found by differentiation; the other form moves it by the variance of
    the step times the gradient, found by completing the square."""
    case.assume(STEP)
    for says, spread, ratio in (
        ("fixed-large", beta, sp.sqrt(alpha)),
        ("fixed-small", beta_tilde, sp.sqrt(alpha) * beta_bar_s / beta_bar_t),
    ):
        exponent = -(xs**2) / (2 * spread) + scale * gradient * xs
        case.contrast(
            rf"what $\omega\nabla\log f$ is multiplied by, {says} variance",
            derived=sp.diff(guided_mean(), gradient) / scale,
            right=beta / sp.sqrt(alpha),
            wrong=sp.cancel(complete_square(exponent, xs).mean / (scale * gradient)),
            ratio=ratio,
        )


@refutes("E73")
def one_scale_for_the_other(case: Case) -> None:
    r"""The scale 1 in both kinds of guidance, for a class $\mathcal N(0, v)$ among unit data: the two laws that it stands for are
    multiplied out and the squares completed."""
    case.assume(r"$q(x) = \mathcal N(0, 1)$ and $q(x\mid y) = \mathcal N(0, v)$.")
    of_class, of_all = -(x**2) / (2 * conditional), -(x**2) / 2
    classifier = complete_square(of_all + 1 * (of_class - of_all), x)
    free = complete_square(2 * of_class - 1 * of_all, x)
    case.contrast(
        r"the variance of the law that a scale of 1 stands for, $q(x)\,q(y\mid x)$",
        derived=classifier.variance,
        right=conditional,
        wrong=sp.factor(free.variance),
        ratio=1 / (2 - conditional),
        conditional_variance=sp.Rational(1, 5),
    )


@refutes("E74")
def probability_for_its_logarithm(case: Case) -> None:
    """Probability and log-probability of one class of two are differentiated."""
    case.assume(
        r"Two classes; the one asked for has the probability $p$, and the logits have the gradients $\nabla"
        r" z_y$, $\nabla z_k$."
    )
    of, other = sp.Symbol("of", real=True), sp.Symbol("other", real=True)
    log_p = log_probability(of, other)
    by_logits = [sp.diff(log_p, each).subs(sp.exp(other), sp.exp(of) * (1 - share) / share) for each in (of, other)]
    derived = sp.simplify(by_logits[0]) * slope_y + sp.simplify(by_logits[1]) * slope_other
    case.contrast(
        "the gradient of the log-probability",
        derived=derived,
        right=(1 - share) * (slope_y - slope_other),
        wrong=share * (1 - share) * (slope_y - slope_other),
        ratio=share,
        share=sp.Rational(1, 100),
        slope_y=1,
        slope_other=-1,
    )


@refutes("E76")
def condition_dropped_by_turns(case: Case) -> None:
    r"""The answer without a label is where the squared error is least, over two classes that are equally likely at $x_t$. If they
    lose their labels with different probabilities it is not the mean over both."""
    first, second = (letter(f"best_{k}", f"e_{k}", real=True) for k in (1, 2))
    dropped = [letter(f"drop_{k}", f"p_{k}", positive=True) for k in (1, 2)]
    answer = letter("null_answer", r"\hat\varepsilon_\varnothing", real=True)
    case.assume(
        r"Two classes with the mean noises $e_1$ and $e_2$ given $x_t$, equally likely; dropped with"
        r" probabilities $p_1$, $p_2$."
    )

    def least(of: list[sp.Expr]) -> sp.Expr:
        loss = of[0] * (first - answer) ** 2 + of[1] * (second - answer) ** 2
        return sp.solve(sp.diff(loss, answer), answer)[0]

    wrong = (dropped[0] * first + dropped[1] * second) / (dropped[0] + dropped[1])
    case.equal("Dropped by turns, the answer without a label becomes", least(list(dropped)), wrong)
    case.contrast(
        "the answer without a label",
        derived=least([share, share]),
        right=(first + second) / 2,
        wrong=wrong,
        difference=(dropped[0] - dropped[1]) * (first - second) / (2 * (dropped[0] + dropped[1])),
        best_1=1,
        best_2=-1,
        drop_1=1,
        drop_2=sp.Rational(1, 100),
    )


REFUTATIONS: tuple[Refute, ...] = (
    root_for_beta, bracket_for_the_mean, sign_of_the_noise, label_from_elsewhere, gradient_at_another_point,
    one_shift_for_the_other, one_scale_for_the_other, probability_for_its_logarithm, condition_dropped_by_turns,
)  # fmt: skip
