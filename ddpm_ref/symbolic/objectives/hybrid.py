r"""Learned variances: the bound in small measure beside the simple loss, and what is held fixed in it."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.bound.terms import loss_denoising
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.objectives.weights import loss_weight_eps
from ddpm_ref.symbolic.posterior.chain import NO_STEP, VARIANCE, start
from ddpm_ref.symbolic.symbols import (
    alpha,
    alpha_bar_t,
    beta,
    beta_bar_s,
    beta_bar_t,
    eps,
    eps_hat,
    letter,
    variance,
    x0,
    x0_hat,
)  # fmt: skip

vlb_weight = letter("vlb_weight", r"\lambda", positive=True)


@derives(
    r"L_{\mathrm{hybrid}} = L_{\mathrm{simple}} + \lambda L_{\mathrm{vlb}},\quad"
    r" \mu_\theta\ \text{held fixed in}\ L_{\mathrm{vlb}}",
    source="nichol2021, eq. (16)",
)
def hybrid_objective(proof: Proof) -> None:
    r"""With learned variances the bound is added in small measure, to train them and nothing else: for its gradient the predicted
    mean is a constant. Whatever $\lambda$ is, the mean is then trained by the simple loss alone, and the variance is driven to its
    best value for the mean that there is.
    """
    start(proof)
    simple = (eps - eps_hat) ** 2
    held = letter("held", r"\mathrm{sg}(\hat\varepsilon)", real=True)
    weights = loss_weight_eps().results["weight"]
    bound = (VARIANCE / variance - 1 - sp.log(VARIANCE / variance)) / 2 + weights * (eps - held) ** 2
    term = loss_denoising().results["from_x0"]
    implied = sp.sqrt(beta_bar_t / alpha_bar_t) * (held - eps)
    proof.equal(
        "The term of a step by the error of the noise, with the prediction held fixed,",
        term.subs(x0_hat, x0 - implied),
        bound,
        shown=r"L = \tfrac12\left(\frac{\tilde\beta_{t\mid s}}{\sigma^2} - 1 - \log\frac{\tilde\beta_{t\mid s}}{\sigma^2}\right)"
        r" + w^\varepsilon(\sigma^2)\,(\varepsilon - \mathrm{sg}(\hat\varepsilon))^2",
    )
    hybrid = simple + vlb_weight * bound
    proof.equal(
        "The derivative of the sum by the prediction is that of the simple loss,",
        sp.diff(hybrid, eps_hat),
        sp.diff(simple, eps_hat),
        shown=r"\frac{\partial L_{\mathrm{hybrid}}}{\partial\hat\varepsilon} = -2(\varepsilon - \hat\varepsilon)",
    )
    log_variance = letter("log_variance", r"\log\sigma^2", real=True)
    slope = sp.diff(hybrid.subs(variance, sp.exp(log_variance)), log_variance)
    target = VARIANCE + 2 * weights * variance * (eps - held) ** 2
    proof.equal(
        "and that by the logarithm of the variance is of the bound alone,",
        slope.subs(log_variance, sp.log(variance)),
        vlb_weight / 2 * (1 - target / variance),
        shown=r"\frac{\partial L_{\mathrm{hybrid}}}{\partial\log\sigma^2} = \frac\lambda2\left(1 - \frac{1}{\sigma^2}"
        r"\left[\tilde\beta_{t\mid s} + (\tilde\mu - \mu_\theta)^2\right]\right)",
    )
    best = VARIANCE + beta**2 / (alpha * beta_bar_t) * (eps - held) ** 2
    proof.equal(
        r"so that on average the variance settles where it is the mean of",
        sp.expand(target),
        best,
    )
    proof.equal(
        r"at a rate that $\lambda$ sets, but not at another place.",
        sp.diff(vlb_weight / 2 * (1 - best / variance), vlb_weight).subs(variance, best),
        sp.S.Zero,
        shown=r"\sigma^2 = \tilde\beta_{t\mid s} + (\tilde\mu - \mu_\theta)^2 \implies"
        r" \frac{\partial L_{\mathrm{hybrid}}}{\partial\log\sigma^2} = 0",
    )
    free = hybrid.subs(held, eps_hat)
    added = proof.equal(
        "Were the prediction not held fixed, the bound would pull at it as well, by its own weight of the level,",
        sp.diff(free - simple, eps_hat),
        -2 * vlb_weight * weights * (eps - eps_hat),
        shown=r"\frac{\partial(\lambda L_{\mathrm{vlb}})}{\partial\hat\varepsilon}"
        r" = -2\lambda w^\varepsilon(\sigma^2)(\varepsilon - \hat\varepsilon)",
    )
    proof.only_where(beta_bar_t, NO_STEP)
    proof.only_where(
        beta_bar_s, "at s = 0 there is no posterior variance; the last step is trained by the likelihood of the data"
    )
    proof.only_where(variance, "a step of the model of variance 0 is a point and has no density; give a variance > 0")
    proof.only_where(alpha, "at zero terminal SNR a noise says nothing of the data; predict v")
    proof.conclude(best_variance=best.subs(held, eps_hat), pull=sp.cancel(-added / (2 * (eps - eps_hat))))
