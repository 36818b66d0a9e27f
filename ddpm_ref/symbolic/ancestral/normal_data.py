r"""What ancestral sampling makes of normal data, for which the best network is known and every step is linear."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import complete_square
from ddpm_ref.symbolic.posterior.chain import AT_LEVEL_0, MARGINAL_T, NO_STEP, start
from ddpm_ref.symbolic.posterior.kernel import true_reverse_kernel
from ddpm_ref.symbolic.posterior.mean import posterior_mean_from_x0, posterior_variance
from ddpm_ref.symbolic.reverse.model import reverse_chain
from ddpm_ref.symbolic.symbols import (
    alpha,
    alpha_bar_s,
    alpha_bar_t,
    beta,
    beta_bar_s,
    beta_bar_t,
    data_variance,
    equation,
    gain,
    letter,
    variance,
    x0,
    x0_variance,
    xt,
)  # fmt: skip

variance_t = letter("variance_t", "v_t", positive=True)

# Variances of the noisy data, by `data_marginal`.
AT_S = alpha_bar_s * data_variance + beta_bar_s
AT_T = alpha_bar_t * data_variance + beta_bar_t
NORMAL_DATA = (
    r"$x_0 \sim \mathcal N(0, \tau^2)$, so that $x_t$ has the variance $V_t = \bar\alpha_t\tau^2 + \bar\beta_t$; the network is"
    r" the best one, $\hat x_0 = \mathbb E[x_0\mid x_t]$."
)

# The letters of the step that follows, from s to clean data.
TO_LEVEL_0 = {
    alpha: alpha_bar_s,
    beta: beta_bar_s,
    alpha_bar_t: alpha_bar_s,
    beta_bar_t: beta_bar_s,
    alpha_bar_s: sp.S.One,
    beta_bar_s: sp.S.Zero,
}


def next_to_0(expression: sp.Expr) -> sp.Expr:
    """What an expression for the step from t to s is for the step from s to 0."""
    return expression.subs(TO_LEVEL_0, simultaneous=True)


def best_x0() -> sp.Expr:
    """What the best network says for the data, by completing the square in their law given the noisy ones."""
    return complete_square(MARGINAL_T - x0**2 / (2 * data_variance), x0).mean


def normal_data(proof: Proof) -> None:
    """State what everything about normal data starts from."""
    start(proof)
    proof.assume(NORMAL_DATA)


@derives(
    r"v_s = g^2v_t + \sigma^2,\quad g = \frac{1 - \beta_{t\mid s}/V_t}{\sqrt{\alpha_{t\mid s}}}"
    r" = \sqrt{\alpha_{t\mid s}}\,\frac{V_s}{V_t},\quad V_t = \bar\alpha_t\tau^2 + \bar\beta_t",
    source="ho2020, algorithm 2, for normal data",
)
def gaussian_sampler_oracle(proof: Proof) -> None:
    r"""On normal data the mean of a step is a multiple $g$ of the state, so that the law of every state is normal with a variance
    that follows by recursion. It is the right one, $V_s$, only if the variance of the step is that of the true kernel; what
    the two fixed variances do instead is written down.
    """
    normal_data(proof)
    best = best_x0()
    proof.equal("The best network says", best, sp.sqrt(alpha_bar_t) * data_variance * xt / AT_T)
    mean = sp.factor(posterior_mean_from_x0().results["mean"].subs(x0, best))
    slope = sp.sqrt(alpha) * AT_S / AT_T
    proof.equal(
        r"With it the mean of the step is $g\,x_t$, where", sp.diff(mean, xt), slope, shown=equation("g", slope)
    )
    proof.equal(r"also written", slope, (1 - beta / AT_T) / sp.sqrt(alpha))
    recursion = reverse_chain().results["variance"].subs(gain, slope)
    proof.say(
        r"By `reverse_chain` a state of variance $v_t$ is followed by one of variance", equation("v_s", recursion)
    )

    proof.say("The gains multiply: what the first $n$ levels do to a state is their product, by induction.")
    product = sp.sqrt(alpha_bar_t) * data_variance / AT_T
    proof.equal("The step to level 0 has the gain", slope.subs(AT_LEVEL_0), product.subs(AT_LEVEL_0))
    proof.equal(
        r"and if the levels up to $s$ multiply to $\sqrt{\bar\alpha_s}\,\tau^2/V_s$, one step more gives the same at $t$.",
        slope * sp.sqrt(alpha_bar_s) * data_variance / AT_S,
        product,
        shown=equation(r"\prod_{i\le t}g_i", product),
    )

    spread = complete_square(MARGINAL_T - x0**2 / (2 * data_variance), x0).variance
    kernel = true_reverse_kernel().results["variance"].subs(x0_variance, spread)
    proof.equal("The true kernel has the variance", kernel, beta * AT_S / AT_T)
    proof.equal(
        r"and with it a chain that is right at $t$ is right at $s$:",
        recursion.subs({variance_t: AT_T, variance: kernel}),
        AT_S,
        shown=r"g^2V_t + \beta_{t\mid s}\frac{V_s}{V_t} = V_s",
    )
    excess = slope**2 * (variance_t - AT_T) + variance - kernel
    proof.equal(
        "In general the error is handed down, smaller, and grows by what the variance of the step has too much:",
        recursion - AT_S,
        excess,
        shown=r"v_s - V_s = g^2(v_t - V_t) + \sigma^2 - \beta_{t\mid s}\frac{V_s}{V_t}",
    )
    small = posterior_variance().results["variance"] - kernel
    proof.equal(
        "The fixed-small variance has less, whatever the data:",
        small,
        -(beta**2) * alpha_bar_s * data_variance / (beta_bar_t * AT_T),
    )
    proof.equal(
        "the fixed-large one has too much for data narrower than 1, too little for wider ones, and is right for unit data.",
        beta - kernel,
        beta**2 * alpha_bar_s * (1 - data_variance) / AT_T,
    )
    unit = recursion.subs({data_variance: 1, variance_t: 1, variance: beta})
    proof.equal("So unit data keep their variance under it.", unit, sp.S.One, shown=r"\tau^2 = 1:\quad v_s = 1")
    proof.only_where(beta_bar_t, NO_STEP)
    proof.conclude(gain=slope, product=product, after=recursion, true_variance=beta * AT_S / AT_T)
