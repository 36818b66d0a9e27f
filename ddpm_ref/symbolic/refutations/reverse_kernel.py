"""Common statements about the step back without the data, refuted on normal data."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.gaussian import expectation
from ddpm_ref.symbolic.refutations.refutation import Case, Refute, beta_tilde, refutes, v0
from ddpm_ref.symbolic.symbols import alpha, alpha_bar_s, alpha_bar_t, beta, beta_bar_s, beta_bar_t, noise, xs

X0_WEIGHT = sp.sqrt(alpha_bar_s) * beta / beta_bar_t
NORMAL_DATA = r"$x_0 \sim \mathcal N(0, v_0)$; $x_s$ and $x_t$ arise from it by the forward kernels."


def gaussian_chain(data_variance: sp.Expr) -> sp.Matrix:
    """Covariance of data, earlier and later state, from the definition of the chain."""
    earlier, cross = alpha_bar_s * data_variance + beta_bar_s, sp.sqrt(alpha_bar_s) * data_variance
    return sp.Matrix(
        [
            [data_variance, cross, sp.sqrt(alpha) * cross],
            [cross, earlier, sp.sqrt(alpha) * earlier],
            [sp.sqrt(alpha) * cross, sp.sqrt(alpha) * earlier, alpha * earlier + beta],
        ]
    )


@refutes("E19")
def false_independence(case: Case) -> None:
    """For normal data the three states are jointly normal, and two of them are independent given the third exactly where
    their entry of the inverse covariance vanishes. One of the two entries in question does, the other does not."""
    case.assume(NORMAL_DATA)
    precision = gaussian_chain(v0).inv()
    case.say("The covariance of $x_0$, $x_s$ and $x_t$ is", gaussian_chain(v0))
    case.equal("The Markov property: the entry of $x_0$ and $x_t$ is", precision[0, 2], sp.Integer(0))
    case.contrast(
        "the entry of $x_0$ and $x_s$ in the inverse covariance",
        derived=precision[0, 1],
        right=-sp.sqrt(alpha_bar_s) / beta_bar_s,
        wrong=sp.Integer(0),
        difference=sp.sqrt(alpha_bar_s) / beta_bar_s,
        v0=1,
    )
    unit = precision.subs(v0, 1)
    case.contrast(
        "the squared correlation of $x_0$ and $x_s$ given $x_t$, for $v_0 = 1$",
        derived=sp.factor(unit[0, 1] ** 2 / (unit[0, 0] * unit[1, 1])),
        right=alpha_bar_s * beta / beta_bar_t,
        wrong=sp.Integer(0),
        difference=-alpha_bar_s * beta / beta_bar_t,
    )


def reverse_variance(data_variance: sp.Expr) -> sp.Expr:
    """Of the earlier state given the later one alone, by conditioning their joint normal law."""
    chain = gaussian_chain(data_variance)
    return sp.factor(chain[1, 1] - chain[1, 2] ** 2 / chain[2, 2])


@refutes("E20")
def condition_dropped(case: Case) -> None:
    """For normal data the variance given the later state alone follows by conditioning; it exceeds the posterior variance
    by what the later state leaves open about the data."""
    case.assume(NORMAL_DATA)
    chain = gaussian_chain(v0)
    open_about_data = chain[0, 0] - chain[0, 2] ** 2 / chain[2, 2]
    spread = v0 * beta_bar_t / (alpha_bar_t * v0 + beta_bar_t)
    case.equal("What $x_t$ leaves open about the data is", sp.factor(open_about_data), spread)
    case.contrast(
        r"the variance of $q(x_s\mid x_t)$",
        derived=reverse_variance(v0),
        right=beta_tilde + X0_WEIGHT**2 * spread,
        wrong=beta_tilde,
        difference=-(X0_WEIGHT**2) * spread,
        v0=1,
    )
    case.contrast(
        r"the variance of $q(x_s\mid x_t)$, for $v_0 = 1$",
        derived=reverse_variance(sp.Integer(1)),
        right=beta,
        wrong=beta_tilde,
        ratio=beta_bar_s / beta_bar_t,
    )


@refutes("E21")
def reverse_step_without_noise(case: Case) -> None:
    """The noise of the step, given only the later state, is random; its conditional mean is linear for normal data. With
    the mean in its place the step back loses variance, and the losses multiply over the chain."""
    case.assume(r"$x_0 \sim \mathcal N(0, v_0)$; $v_t = \bar\alpha_t v_0 + \bar\beta_t$ is the variance of $x_t$.")
    vs, vt = alpha_bar_s * v0 + beta_bar_s, alpha_bar_t * v0 + beta_bar_t
    chain = gaussian_chain(v0)
    covariance = expectation((sp.sqrt(alpha) * xs + sp.sqrt(beta) * noise) * noise, noise, 0, 1)
    noise_mean = case.equal(
        "The mean of the step's noise given $x_t$ is $x_t$ times their covariance over the variance of $x_t$,",
        covariance / chain[2, 2],
        sp.sqrt(beta) / vt,
    )
    gain = (1 - sp.sqrt(beta) * noise_mean) / sp.sqrt(alpha)
    case.equal("With it the inverted step is $x_t$ times", gain, sp.sqrt(alpha) * vs / vt)
    case.equal(
        "which is the mean of $x_s$ given $x_t$, divided by $x_t$,", chain[1, 2] / chain[2, 2], sp.sqrt(alpha) * vs / vt
    )
    case.contrast(
        r"the variance of $q(x_s\mid x_t)$",
        derived=reverse_variance(v0),
        right=beta * vs / vt,
        wrong=sp.Integer(0),
        difference=-beta * vs / vt,
        v0=1,
    )
    case.contrast(
        "the variance of what the step back gives, started from $x_t$",
        derived=gain**2 * vt + reverse_variance(v0),
        right=vs,
        wrong=gain**2 * vt,
        ratio=alpha * vs / vt,
        v0=1,
    )


REFUTATIONS: tuple[Refute, ...] = (false_independence, condition_dropped, reverse_step_without_noise)
