r"""What the bound weighs a squared error with: of the mean of a step, of predicted data, of predicted noise, of a velocity.

The weight is half the square of what the error moves the mean by, over the variance of the step.
"""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.bound.terms import loss_denoising
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.induction import peeled
from ddpm_ref.symbolic.posterior.chain import AT_LEVEL_0, NO_STEP, VARIANCE, start
from ddpm_ref.symbolic.posterior.mean import posterior_mean_from_eps, posterior_mean_from_x0
from ddpm_ref.symbolic.prediction import x0_from_v
from ddpm_ref.symbolic.reverse.model import model_mean_from_eps, model_mean_from_x0
from ddpm_ref.symbolic.symbols import (
    T,
    alpha,
    alpha_bar_r,
    alpha_bar_s,
    alpha_bar_t,
    beta,
    beta_bar_r,
    beta_bar_s,
    beta_bar_t,
    eps,
    eps_hat,
    letter,
    mean,
    v,
    variance,
    x0,
    x0_hat,
    xt,
)  # fmt: skip

SNR_S, SNR_T = alpha_bar_s / beta_bar_s, alpha_bar_t / beta_bar_t

i = letter("i", "i", integer=True, positive=True)
snrs = sp.IndexedBase(letter("ratios_of_signal", r"\mathrm{SNR}", positive=True))
v_hat = letter("v_hat", r"\hat v", real=True)

_POINT = "a step of the model of variance 0 weighs every error infinitely; give a variance > 0"
_SINGULAR = (
    "at s = 0 the posterior variance is 0 and its weight infinite: it belongs to s >= 1; the weight for sigma^2 = beta"
    " holds there too, ask for that result with the letters it depends on alone"
)
_NO_SIGNAL = "where alpha_bar_t = 0 (zero terminal SNR) the noise does not determine the data; use loss_weight_v"


def _weight(says: str, proof: Proof, means: sp.Expr, error: sp.Expr, published: sp.Expr) -> None:
    """Put the difference of two means into the matched divergence and read off what the squared error is multiplied by."""
    term = means**2 / (2 * variance)
    proof.equal(says, sp.cancel(term / error**2), published)


@derives(
    r"L_{t-1} = \frac1{2\sigma_t^2}\lVert\tilde\mu - \mu_\theta\rVert^2 + C,\quad"
    r" w^\mu = \frac1{2\sigma_t^2}",
    source="ho2020, eq. (8)",
)
def loss_weight_mu(proof: Proof) -> None:
    r"""The term of a step as a function of the mean of the model: a squared distance and what does not depend on the mean. With a
    fixed variance that is all there is to train.
    """
    start(proof)
    term = loss_denoising().results["from_mean"]
    target = posterior_mean_from_x0().results["mean"]
    rest = term.subs(mean, target)
    proof.all_vanish(
        "What the term is at the right mean is a number that no mean changes,",
        [sp.diff(rest, each) for each in (mean, xt, x0)],
        shown=r"C = \tfrac12\left(\frac{\tilde\beta_{t\mid s}}{\sigma_t^2} - 1"
        r" - \log\frac{\tilde\beta_{t\mid s}}{\sigma_t^2}\right)",
    )
    result = 1 / (2 * variance)
    proof.equal(
        "and what is left is a multiple of the squared distance,",
        term - rest,
        result * (target - mean) ** 2,
        shown=r"L_{t-1} - C = \frac{(\tilde\mu - \mu_\theta)^2}{2\sigma_t^2}",
    )
    small, large = beta_bar_t / (2 * beta * beta_bar_s), 1 / (2 * beta)
    proof.equal(r"With $\sigma_t^2 = \tilde\beta_{t\mid s}$ the weight is", result.subs(variance, VARIANCE), small)
    proof.equal(r"with $\sigma_t^2 = \beta_{t\mid s}$", result.subs(variance, beta), large)
    proof.equal("smaller by the ratio of the noise levels,", large / small, beta_bar_s / beta_bar_t)
    proof.equal(
        r"so that on the step to level 0, where the first is infinite, its inverse is",
        (1 / small).subs(AT_LEVEL_0),
        sp.S.Zero,
    )
    proof.only_where(beta_bar_t, NO_STEP)
    proof.only_where(beta_bar_s, _SINGULAR)
    proof.only_where(variance, _POINT)
    proof.conclude(weight=result, posterior=small, beta=large)


@derives(
    r"w^{x_0} = \frac{(c^{x_0})^2}{2\sigma_t^2};\quad \sigma_t^2 = \tilde\beta_{t\mid s}:\quad"
    r" w^{x_0} = \frac12\cdot\frac{\bar\alpha_s - \bar\alpha_t}{\bar\beta_s\bar\beta_t}"
    r" = \tfrac12(\mathrm{SNR}_s - \mathrm{SNR}_t)",
    source="kingma2021, discrete-time loss",
)
def loss_weight_x0(proof: Proof) -> None:
    r"""Two means that differ by their data only, put into the matched divergence. With the posterior variance the weight is half of
    what the step takes from the signal-to-noise ratio, so that the weights of a chain add up to half of what the chain takes,
    and a step made in two has in sum the weight of the whole.
    """
    start(proof)
    means = posterior_mean_from_x0().results["mean"] - model_mean_from_x0().results["mean"]
    result = alpha_bar_s * beta**2 / (2 * variance * beta_bar_t**2)
    _weight(
        "In the squared distance of the means the error of the data has the weight", proof, means, x0 - x0_hat, result
    )
    small, large = alpha_bar_s * beta / (2 * beta_bar_s * beta_bar_t), alpha_bar_s * beta / (2 * beta_bar_t**2)
    proof.equal(r"With $\sigma_t^2 = \tilde\beta_{t\mid s}$ that is", result.subs(variance, VARIANCE), small)
    proof.equal(r"in which $\bar\alpha_s\beta_{t\mid s}$ is", alpha_bar_s * beta, alpha_bar_s - alpha_bar_t)
    proof.equal(
        "half the difference of two signal-to-noise ratios,",
        small,
        (SNR_S - SNR_T) / 2,
        shown=r"w^{x_0} = \tfrac12\left(\frac{\bar\alpha_s}{\bar\beta_s} - \frac{\bar\alpha_t}{\bar\beta_t}\right)",
    )
    proof.equal(r"with $\sigma_t^2 = \beta_{t\mid s}$", result.subs(variance, beta), large)
    between = small.subs({alpha_bar_s: alpha_bar_r, beta: 1 - alpha_bar_t / alpha_bar_r, beta_bar_s: beta_bar_r})
    after = small.subs(
        {
            alpha_bar_s: alpha_bar_r,
            beta: 1 - alpha_bar_s / alpha_bar_r,
            beta_bar_s: beta_bar_r,
            beta_bar_t: beta_bar_s,
        },
        simultaneous=True,
    )
    proof.equal(
        r"Two steps, $t \to s \to r$, weigh what the one from $t$ to $r$ weighs:",
        small + after,
        between,
        shown=r"w_{t\mid s} + w_{s\mid r} = w_{t\mid r}",
    )
    total = sp.Sum((snrs[i - 1] - snrs[i]) / 2, (i, 2, T))
    claimed = (snrs[1] - snrs[T]) / 2
    proof.equal(
        r"Over a chain the weights add up, by induction: no step ($T = 1$),",
        total.subs(T, 1).doit(),
        claimed.subs(T, 1),
        shown="0",
    )
    proof.equal(
        "and one more.",
        peeled(total.subs(T, T + 1)).subs(total, claimed),
        claimed.subs(T, T + 1),
        shown=r"\sum_{t=2}^{T+1}w^{x_0}_t = \tfrac12(\mathrm{SNR}_1 - \mathrm{SNR}_{T+1})",
    )
    at_0 = proof.equal(
        r"On the step to level 0 the weight for $\sigma_t^2 = \beta_{t\mid s}$ is finite,",
        large.subs(AT_LEVEL_0),
        1 / (2 * beta),
    )
    proof.equal("the other is infinite: its inverse is", (1 / small).subs(AT_LEVEL_0), sp.S.Zero, shown="0")
    proof.only_where(beta_bar_t, NO_STEP)
    proof.only_where(beta_bar_s, _SINGULAR)
    proof.only_where(variance, _POINT)
    proof.conclude(weight=result, posterior=small, beta=large, beta_to_data=at_0)


@derives(
    r"w^\varepsilon = \frac{\beta_{t\mid s}^2}{2\sigma_t^2\alpha_{t\mid s}\bar\beta_t};\quad"
    r" \sigma_t^2 = \tilde\beta_{t\mid s}:\quad w^\varepsilon = \frac{\beta_{t\mid s}}{2\alpha_{t\mid s}\bar\beta_s}"
    r" = \frac12\left(\frac{\mathrm{SNR}_s}{\mathrm{SNR}_t} - 1\right);\quad"
    r" \sigma_t^2 = \beta_{t\mid s}:\quad w^\varepsilon = \frac{\beta_{t\mid s}}{2\alpha_{t\mid s}\bar\beta_t}",
    source="ho2020, eq. (12)",
)
def loss_weight_eps(proof: Proof) -> None:
    r"""The same for two means that differ by their noise. What the noise is multiplied by in the mean enters with its square,
    denominators included.
    """
    start(proof)
    means = posterior_mean_from_eps().results["mean"] - model_mean_from_eps().results["mean"]
    result = beta**2 / (2 * variance * alpha * beta_bar_t)
    proof.equal(
        "The means differ by the error of the noise, times its weight in the mean:",
        means,
        beta / (sp.sqrt(alpha) * sp.sqrt(beta_bar_t)) * (eps_hat - eps),
        shown=r"\tilde\mu - \mu_\theta = \frac{\beta_{t\mid s}}{\sqrt{\alpha_{t\mid s}}\sqrt{\bar\beta_t}}"
        r"(\hat\varepsilon - \varepsilon)",
    )
    _weight("The squared error has the weight", proof, means, eps - eps_hat, result)
    small, large = beta / (2 * alpha * beta_bar_s), beta / (2 * alpha * beta_bar_t)
    proof.equal(r"With $\sigma_t^2 = \tilde\beta_{t\mid s}$ that is", result.subs(variance, VARIANCE), small)
    proof.equal(
        "half of what the ratio of two signal-to-noise ratios exceeds 1 by,",
        small,
        (SNR_S / SNR_T - 1) / 2,
        shown=r"w^\varepsilon = \tfrac12\left(\frac{\mathrm{SNR}_s}{\mathrm{SNR}_t} - 1\right)"
        r" = \tfrac12\,\mathrm{expm1}(\log\mathrm{SNR}_s - \log\mathrm{SNR}_t)",
    )
    proof.equal(r"with $\sigma_t^2 = \beta_{t\mid s}$", result.subs(variance, beta), large)
    at_0 = proof.equal(
        r"On the step to level 0 this is half the inverse of what is kept,", large.subs(AT_LEVEL_0), 1 / (2 * alpha)
    )
    proof.equal("while the other is infinite: its inverse is", (1 / small).subs(AT_LEVEL_0), sp.S.Zero, shown="0")
    proof.only_where(beta_bar_t, NO_STEP)
    proof.only_where(beta_bar_s, _SINGULAR)
    proof.only_where(variance, _POINT)
    proof.only_where(alpha, _NO_SIGNAL)
    proof.conclude(weight=result, posterior=small, beta=large, beta_to_data=at_0)


@derives(
    r"w^v = \bar\beta_t\,w^{x_0};\quad \sigma_t^2 = \tilde\beta_{t\mid s}:\quad"
    r" w^v = \frac{\bar\alpha_s\beta_{t\mid s}}{2\bar\beta_s};\quad"
    r" \sigma_t^2 = \beta_{t\mid s}:\quad w^v = \frac{\bar\alpha_s\beta_{t\mid s}}{2\bar\beta_t}",
    source="salimans2022, appendix D, and kingma2021",
)
def loss_weight_v(proof: Proof) -> None:
    r"""The same for a predicted velocity, by the data that it implies. It is finite at zero terminal SNR, where a predicted noise
    determines nothing.
    """
    start(proof)
    implied = x0_from_v().results["x0"]
    target = posterior_mean_from_x0().results["mean"]
    means = target.subs(x0, implied) - target.subs(x0, implied.subs(v, v_hat))
    result = alpha_bar_s * beta**2 / (2 * variance * beta_bar_t)
    proof.equal(
        "An error of the velocity is one of the data,",
        implied - implied.subs(v, v_hat),
        sp.sqrt(beta_bar_t) * (v_hat - v),
    )
    _weight("and has in the squared distance of the means the weight", proof, means, v - v_hat, result)
    small, large = alpha_bar_s * beta / (2 * beta_bar_s), alpha_bar_s * beta / (2 * beta_bar_t)
    proof.equal(r"With $\sigma_t^2 = \tilde\beta_{t\mid s}$ that is", result.subs(variance, VARIANCE), small)
    proof.equal(r"with $\sigma_t^2 = \beta_{t\mid s}$", result.subs(variance, beta), large)
    dark = {alpha: 0, beta: 1, alpha_bar_t: 0, beta_bar_t: 1}
    proof.equal(
        "At zero terminal SNR it is half the signal-to-noise ratio that is stepped to.", small.subs(dark), SNR_S / 2
    )
    proof.equal("On the step to level 0,", large.subs(AT_LEVEL_0), sp.Rational(1, 2), shown=r"w^v = \tfrac12")
    proof.only_where(beta_bar_t, NO_STEP)
    proof.only_where(beta_bar_s, _SINGULAR)
    proof.only_where(variance, _POINT)
    proof.conclude(weight=result, posterior=small, beta=large)
