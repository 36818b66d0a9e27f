r"""Two steps of the family against one: they are the same for eta 0 and 1, and for no other."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.ddim.family import ddim_sigma_eta, start
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.marginal import Normal, integrate_out
from ddpm_ref.symbolic.posterior.chain import NO_STEP
from ddpm_ref.symbolic.symbols import (
    alpha,
    alpha_bar_r,
    alpha_bar_s,
    alpha_bar_t,
    beta,
    beta_bar_r,
    beta_bar_s,
    beta_bar_t,
    eta,
    letter,
    x0,
    xs,
    xt,
)  # fmt: skip

lowest = letter("x_lowest", "y_r", real=True)
upper, lower = (
    letter("rho_upper", r"\rho_{t\mid s}", positive=True),
    letter("rho_lower", r"\rho_{s\mid r}", positive=True),
)
first, second = (
    letter("first_weight", "C^x_{t\\mid s}", positive=True),
    letter("second_weight", "C^x_{s\\mid r}", positive=True),
)
first_variance = letter("first_variance", r"\sigma_{t\mid s}^2", positive=True)
second_variance = letter("second_variance", r"\sigma_{s\mid r}^2", positive=True)


def _mean(weight: sp.Expr, state: sp.Symbol, above: sp.Expr, below: sp.Expr) -> sp.Expr:
    r"""Of a member: :math:`C^x x_t + (\sqrt{\bar\alpha_s} - C^x\sqrt{\bar\alpha_t})x_0`."""
    return weight * state + (sp.sqrt(below) - weight * sp.sqrt(above)) * x0


@derives(
    r"\int q_\eta(x_r\mid x_s, x_0)\,q_\eta(x_s\mid x_t, x_0)\,dx_s = q_\eta(x_r\mid x_t, x_0)"
    r"\ \text{ for } \eta \in \{0, 1\};\quad"
    r" \mathrm{Var} - \sigma_{t\mid r}^2 = \bar\beta_r\,\eta^2(1-\eta^2)(1-\rho_{t\mid s})(1-\rho_{s\mid r})",
    source="song2020ddim, eq. (7) and (16), twice",
)
def ddim_composition(proof: Proof) -> None:
    r"""At fixed data two steps $t \to s \to r$ are compared with the step $t \to r$. Two steps of the family always make a member
    of the family, because both keep the marginals; the question is with which variance. It is that of the same $\eta$ if
    $\eta$ is 0 or 1. In between two steps forget more of the noise than one, by a product that is written down: what a
    trajectory with the same $\eta$ and more levels does is not a refinement of the coarser one.
    """
    start(proof)
    proof.assume(r"$T \ge t > s > r \ge 0$; $\rho_{t\mid s} = \mathrm{SNR}_t/\mathrm{SNR}_s$, a number in $(0, 1)$.")
    step = Normal(xs, _mean(first, xt, alpha_bar_t, alpha_bar_s), first_variance)
    following = Normal(lowest, _mean(second, xs, alpha_bar_s, alpha_bar_r), second_variance)
    law = integrate_out(proof, xs, lowest, following, step)
    proof.equal(
        "The mean is that of a member of the family, with the product of the two weights:",
        law.mean,
        _mean(first * second, xt, alpha_bar_t, alpha_bar_r),
    )
    proof.equal(
        "and the variance what arrives of the first noise, and the second.",
        law.variance,
        second**2 * first_variance + second_variance,
    )
    ratio = alpha * beta_bar_s / beta_bar_t
    proof.equal(
        r"The signal-to-noise ratios of the two levels have the ratio",
        alpha_bar_t / beta_bar_t * beta_bar_s / alpha_bar_s,
        ratio,
        shown=r"\rho_{t\mid s} = \alpha_{t\mid s}\,\bar\beta_s/\bar\beta_t",
    )
    proof.equal(r"It is below 1 by", 1 - ratio, beta / beta_bar_t)
    below = alpha_bar_s / beta_bar_s * beta_bar_r / alpha_bar_r
    proof.equal(
        "and over two steps these ratios multiply.",
        ratio * below,
        alpha_bar_t / beta_bar_t * beta_bar_r / alpha_bar_r,
        shown=r"\rho_{t\mid r} = \rho_{t\mid s}\,\rho_{s\mid r}",
    )

    def share(rho: sp.Expr) -> sp.Expr:
        return 1 - eta**2 + eta**2 * rho

    proof.equal(
        r"By `ddim_sigma_eta` a step keeps of the noise at $s$, in squares, the share",
        ddim_sigma_eta().results["direction_squared"] / beta_bar_s,
        share(ratio),
        shown=r"\frac{\bar\beta_s - \sigma_{t\mid s}^2}{\bar\beta_s} = \frac{(C^x)^2\bar\beta_t}{\bar\beta_s}"
        r" = (1-\eta^2) + \eta^2\rho_{t\mid s}",
    )
    forgotten = eta**2 * (1 - eta**2) * (1 - upper) * (1 - lower)
    proof.equal(
        "Two steps keep the product of their shares. The one step keeps more, by",
        share(upper * lower) - share(upper) * share(lower),
        forgotten,
        shown=r"\left[(1-\eta^2) + \eta^2\rho_{t\mid s}\rho_{s\mid r}\right]"
        r" - \left[(1-\eta^2) + \eta^2\rho_{t\mid s}\right]\left[(1-\eta^2) + \eta^2\rho_{s\mid r}\right]"
        r" = \eta^2(1-\eta^2)(1-\rho_{t\mid s})(1-\rho_{s\mid r})",
    )
    roots = sorted(sp.roots(sp.Poly(forgotten, eta)))
    proof.holds(
        r"The ratios are below 1, so that this vanishes for $\eta = 0$ and $\eta = 1$ alone"
        r" (and for $\eta = -1$, which is no deviation).",
        sp.Eq(sp.FiniteSet(*roots), sp.FiniteSet(-1, 0, 1)),
        shown=r"\eta^2(1-\eta^2) = 0 \iff \eta \in \{0, 1\}",
    )
    excess = beta_bar_r * forgotten.subs({upper: ratio, lower: below})
    small = {
        alpha: alpha_bar_t / alpha_bar_r,
        beta: 1 - alpha_bar_t / alpha_bar_r,
        beta_bar_s: beta_bar_r,
        alpha_bar_s: alpha_bar_r,
    }
    std = ddim_sigma_eta().results["std"]
    lower_std = std.subs(
        {
            alpha: alpha_bar_s / alpha_bar_r,
            beta: 1 - alpha_bar_s / alpha_bar_r,
            beta_bar_t: beta_bar_s,
            beta_bar_s: beta_bar_r,
        },
        simultaneous=True,
    )
    arriving = beta_bar_r * share(below) / beta_bar_s
    proof.equal(
        "In the same units as the variances, computed from these, two steps draw more than one by",
        arriving * std**2 + lower_std**2 - std.subs(small, simultaneous=True) ** 2,
        excess,
        shown=r"(C^x_{s\mid r})^2\sigma_{t\mid s}^2 + \sigma_{s\mid r}^2 - \sigma_{t\mid r}^2"
        r" = \bar\beta_r\,\eta^2(1-\eta^2)(1-\rho_{t\mid s})(1-\rho_{s\mid r})",
    )
    proof.only_where(beta_bar_t, NO_STEP)
    proof.only_where(beta_bar_s, "two steps need a level between; ask for t > s > r >= 0")
    proof.conclude(excess=excess, arriving=arriving)
