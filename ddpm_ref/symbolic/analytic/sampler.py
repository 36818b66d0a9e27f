r"""The estimate of the noise's energy, and the sampler that uses it on normal data."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.analytic.data_set import NO_NOISE, NO_SIGNAL
from ddpm_ref.symbolic.analytic.moments import RATIO, V_T
from ddpm_ref.symbolic.analytic.surrogate import energy, sigma_hat_squared, x0_spread
from ddpm_ref.symbolic.analytic.variance import COMBINED, MEMBER, analytic_reverse_variance
from ddpm_ref.symbolic.ancestral.normal_data import AT_S, AT_T, NORMAL_DATA, variance_t
from ddpm_ref.symbolic.ddim.family import FROM_X0, FROM_XT
from ddpm_ref.symbolic.ddim.family import domain as of_the_family
from ddpm_ref.symbolic.ddim.step import with_eta
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.forward.moments import dimension
from ddpm_ref.symbolic.gaussian import expectation
from ddpm_ref.symbolic.induction import peeled
from ddpm_ref.symbolic.posterior.chain import AT_LEVEL_0
from ddpm_ref.symbolic.reverse.model import reverse_chain
from ddpm_ref.symbolic.symbols import (
    alpha_bar_t,
    beta_bar_t,
    data_variance,
    equation,
    gain,
    letter,
    variance,
    xt,
)  # fmt: skip

draws = letter("draws", "M", integer=True, positive=True)
spread = letter("energy_variance", r"\varsigma^2", positive=True)

_m = letter("m_index", "m", integer=True, positive=True)


@derives(
    r"\hat\Gamma_t = \frac{1}{Md}\sum_{m=1}^M\|\epsilon_\theta(x_t^{(m)}, t)\|^2,\quad"
    r" \mathbb E\hat\Gamma_t = \Gamma_t,\quad \mathrm{Var}(\hat\Gamma_t) = \frac{\varsigma^2}{M}",
    source="bao2022, eq. (8)",
)
def analytic_mc_estimator(proof: Proof) -> None:
    r"""The energy is estimated from noisy training data. The estimate is unbiased for any number of draws, and so is what it gives
    for $\hat\sigma_t^2$, which is affine in it; its standard error falls with the root of the number of draws and can be
    estimated from the same draws. For normal data it is known.
    """
    proof.assume(
        r"$e_m = \tfrac1d\|\epsilon_\theta(x_t^{(m)}, t)\|^2$ are independent, with mean $\Gamma_t$ and variance"
        r" $\varsigma^2$: a new"
        r" draw of data and noise for each. (Data drawn without replacement are not independent; their error is smaller.)"
    )
    proof.equal(
        r"An expectation is linear, and that of every draw is $\Gamma_t$:",
        sp.Sum(energy, (_m, 1, draws)) / draws,
        energy,
        shown=r"\mathbb E\hat\Gamma_t = \frac1M\sum_{m=1}^M\mathbb E[e_m] = \Gamma_t",
    )
    # The variance of a sum of M, by induction: independent means E[S e] = E[S] E[e].
    total, one = letter("sum_of_energies", "S", real=True), letter("one_energy", "e", real=True)
    moments = {
        (0, 0): sp.S.One,
        (1, 0): draws * energy,
        (0, 1): energy,
        (2, 0): draws * spread + (draws * energy) ** 2,
        (1, 1): draws * energy * energy,
        (0, 2): spread + energy**2,
    }
    square = sp.Poly(sp.expand((total + one) ** 2), total, one)
    second = sp.Add(*(c * moments[powers] for powers, c in square.terms()))
    longer = peeled(sp.Sum(energy, (_m, 1, draws + 1)))
    proof.equal(
        r"The variance of a sum $S$ of $M$ of them is $M\varsigma^2$, by induction: with one more it grows by $\varsigma^2$.",
        second - longer.doit() ** 2,
        (draws + 1) * spread,
        shown=r"\mathbb E[(S + e_{M+1})^2] - (M + 1)^2\,\Gamma_t^2 = (M + 1)\,\varsigma^2",
    )
    proof.equal(
        "That of the average is",
        draws * spread / draws**2,
        spread / draws,
        shown=equation(r"\mathrm{Var}(\hat\Gamma_t)", spread / draws),
    )
    squared_mean = spread / draws + energy**2
    proof.equal(
        r"The spread of the draws around their average has the mean",
        draws * (spread + energy**2) - draws * squared_mean,
        (draws - 1) * spread,
        shown=r"\mathbb E\sum_m(e_m - \hat\Gamma_t)^2 = (M - 1)\,\varsigma^2",
    )
    proof.say(r"so that, divided by $M - 1$, it estimates $\varsigma^2$ without bias.")
    of_energy = sigma_hat_squared().results["from_energy"]
    proof.equal(
        r"$\hat\sigma_t^2$ is affine in the energy. So its estimate has no bias either, and its error is",
        -sp.diff(of_energy, energy),
        RATIO,
        shown=r"\mathrm{Var}(\hat\sigma_t^2)^{1/2} = \frac{\bar\beta_t}{\bar\alpha_t}\cdot\frac{\varsigma}{\sqrt M}",
    )
    best = sp.sqrt(beta_bar_t) * xt / V_T
    first = expectation(best**2, xt, 0, V_T)
    fourth = expectation(best**4, xt, 0, V_T)
    proof.equal(
        r"Normal data: the best prediction, squared, has in each dimension the mean",
        first,
        beta_bar_t / V_T,
    )
    one_dimension = proof.equal("and the variance", fourth - first**2, 2 * (beta_bar_t / V_T) ** 2)
    error = beta_bar_t / V_T * sp.sqrt(2 / (draws * dimension))
    proof.equal(
        r"and its mean over $d$ independent dimensions a $d$-th of that. So the standard error is",
        sp.sqrt(one_dimension / dimension / draws),
        error,
    )
    scored = energy / beta_bar_t
    proof.equal(
        r"The paper states it for the score, $\|\nabla\log q\|^2 = \|\hat\varepsilon\|^2/\bar\beta_t$; the variance"
        r" is the same:",
        (1 - beta_bar_t * scored) * RATIO,
        of_energy,
        shown=r"\frac{\bar\beta_t}{\bar\alpha_t}\left(1 - \bar\beta_t\cdot\frac{\Gamma_t}{\bar\beta_t}\right) = \hat\sigma_t^2",
    )
    proof.only_where(beta_bar_t, NO_NOISE)
    proof.only_where(alpha_bar_t, NO_SIGNAL)
    proof.conclude(
        standard_error=sp.sqrt(spread / draws),
        sigma_hat_squared_standard_error=RATIO * sp.sqrt(spread / draws),
        normal_standard_error=error,
    )


@derives(
    r"v_s - V_s = g^2(v_t - V_t),\qquad v_0 = \tau^2 - \hat\sigma_{\tau_1}^2 + g_1^2\,(v_{\tau_1} - V_{\tau_1})"
    r"\ \text{ without noise in the last step}",
    source="bao2022, section 3",
)
def analytic_sampler(proof: Proof) -> None:
    r"""The loop on normal data, where all of it is known. What is wrong with the variance of a state is handed down, multiplied by
    the square of the gain; nothing is added, whatever $\eta$ and whichever levels are visited. So a chain that starts from the
    true law has it at every level, and what the samples lack is the noise that the last step leaves out.
    """
    proof.assume(NORMAL_DATA)
    proof.assume(MEMBER)
    slope = FROM_XT + FROM_X0 * sp.sqrt(alpha_bar_t) * data_variance / AT_T
    spread_of_step = COMBINED.subs(x0_spread, sigma_hat_squared().results["normal"])
    after = reverse_chain().results["variance"].subs({gain: slope, variance: spread_of_step}, simultaneous=True)
    proof.say(r"With the best network the mean of a step is a multiple of the state,", equation("g", slope))
    proof.equal(
        r"By `reverse_chain`, and as $g^2V_t + \sigma_t^{*2} = V_s$ (`analytic_reverse_variance`), the error of the"
        r" variance becomes",
        after - AT_S,
        slope**2 * (variance_t - AT_T),
        shown=r"v_s - V_s = g^2\,(v_t - V_t)",
    )
    kept = letter("start_error", r"v_{\tau_K} - V_{\tau_K}", real=True)
    number = letter("number_of_steps", "K", integer=True, positive=True)
    index = letter("i", "i", integer=True, positive=True)
    gains = sp.IndexedBase(letter("gains", "g", real=True))
    product = sp.Product(gains[index] ** 2, (index, 1, number))
    proof.equal(
        r"By induction over the steps the samples have the error of the start times the product of all squares; one step more,",
        peeled(product.subs(number, number + 1)) * kept,
        product * gains[number + 1] ** 2 * kept,
        shown=r"v_0 - \tau^2 = (v_{\tau_K} - V_{\tau_K})\prod_{i=1}^Kg_i^2",
    )
    proof.equal(
        r"which is nothing for unit data, $V_T = 1$, and otherwise small where little of the data is left in $x_T$:",
        1 - AT_T,
        alpha_bar_t * (1 - data_variance),
        shown=r"v_{\tau_K} - V_{\tau_K} = \bar\alpha_T\,(1 - \tau^2)",
    )
    last = slope.subs(variance, 0).subs(AT_LEVEL_0)
    proof.equal(
        r"The last step only predicts, with the gain",
        last,
        (sp.sqrt(alpha_bar_t) * data_variance / AT_T).subs(AT_LEVEL_0),
    )
    jump = sp.sqrt(alpha_bar_t) * data_variance / AT_T
    proof.equal(
        r"so that without noise in it the samples of a right state lack what the data still vary by, given it,",
        jump**2 * AT_T,
        data_variance - sigma_hat_squared().results["normal"],
        shown=r"g_1^2V_{\tau_1} = \tau^2 - \hat\sigma_{\tau_1}^2",
    )
    proof.equal(
        "with which they have the variance of the data.",
        jump**2 * AT_T + sigma_hat_squared().results["normal"],
        data_variance,
        shown=r"g_1^2V_{\tau_1} + \hat\sigma_{\tau_1}^2 = \tau^2",
    )
    of_the_family(proof, of_eta=True)
    proof.only_where(alpha_bar_t, NO_SIGNAL)
    proof.conclude(
        gain=with_eta(slope),
        std=sp.sqrt(analytic_reverse_variance().results["normal"]),
        noiseless_end=jump**2 * AT_T,
    )
