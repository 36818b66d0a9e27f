r"""What a choice of levels costs, and how large a last noise may be."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.analytic.surrogate import x0_spread
from ddpm_ref.symbolic.analytic.variance import MEMBER
from ddpm_ref.symbolic.ddim.family import FROM_X0, ddim_sigma_eta
from ddpm_ref.symbolic.ddim.family import domain as of_the_family
from ddpm_ref.symbolic.ddim.step import with_eta
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import density, expectation, integral, log_density
from ddpm_ref.symbolic.symbols import (
    alpha_bar_s,
    alpha_bar_t,
    beta_bar_s,
    beta_bar_t,
    equation,
    eta,
    letter,
    mean1,
    mean2,
    noise,
    variance,
    xs,
)

grey_levels = letter("grey_levels", "y", positive=True)


@derives(
    r"J(s, t) = \log\frac{\sigma_t^{*2}}{\sigma_t^2},\quad"
    r" \eta = 1:\ J = \log\left(1 + (\mathrm{SNR}_s - \mathrm{SNR}_t)\,\hat\sigma_t^2\right)",
    source="bao2022, theorem 3",
)
def analytic_path_cost(proof: Proof) -> None:
    r"""What a step costs in the divergence of the whole path: with the best mean and the best variance the two laws differ by the
    logarithm of the ratio of variances, and by nothing else. A sum over steps is to be minimised over trajectories, which is a
    shortest path. Deterministic steps have no density, and an infinite cost.
    """
    proof.assume(MEMBER)
    proof.assume(r"The model has the mean at the best prediction and the variance $\sigma_t^{*2}$.")
    best = letter("best_variance", r"\sigma_t^{*2}", positive=True)
    own, other = (log_density(xs, centre, of) for centre, of in ((mean1, variance), (mean2, best)))
    divergence = expectation(own - other, xs, mean1, variance)
    gap = letter("mean_gap", r"(\mu_1 - \mu_2)^2", nonnegative=True)
    proof.equal(
        r"The divergence of the kernel given $x_0$ from the step of the model is",
        divergence,
        (sp.log(best / variance) + (variance + (mean1 - mean2) ** 2) / best - 1) / 2,
        shown=r"D = \tfrac12\left(\log\frac{\sigma_t^{*2}}{\sigma_t^2} + \frac{\sigma_t^2 + (\mu_1 -"
        r" \mu_2)^2}{\sigma_t^{*2}} - 1\right)",
    )
    averaged = (sp.log(best / variance) + (variance + gap) / best - 1) / 2
    proof.equal(
        r"Averaged over data and noise the square is $(C^0)^2\hat\sigma_t^2 = \sigma_t^{*2} - \sigma_t^2$, and all"
        r" but the logarithm"
        " goes away:",
        averaged.subs(gap, best - variance),
        sp.log(best / variance) / 2,
        shown=r"\mathbb E D = \tfrac12\log\frac{\sigma_t^{*2}}{\sigma_t^2} = \tfrac12J",
    )
    eta_positive = sp.Dummy("eta", positive=True)
    ratio = with_eta(FROM_X0) ** 2 / ddim_sigma_eta().results["std"] ** 2
    gained = alpha_bar_s / beta_bar_s - alpha_bar_t / beta_bar_t
    proof.equal(
        r"For the Markov chain the square over the variance is the fall of the signal-to-noise ratio:",
        ratio.subs(eta, 1),
        gained,
        shown=r"\eta = 1:\quad \frac{(C^0)^2}{\tilde\beta_{t\mid s}} = \mathrm{SNR}_s - \mathrm{SNR}_t",
    )
    proof.holds(
        r"As $\hat\sigma_t^2$ is not negative the cost of a step is not,",
        sp.log(1 + sp.Dummy("ratio", nonnegative=True)) >= 0,
        shown=r"J(s, t) = \log\left(1 + \frac{(C^0)^2}{\sigma_t^2}\,\hat\sigma_t^2\right) \ge 0",
    )
    proof.equal(
        r"and without fresh noise it is infinite: the ratio times $\eta^2$ keeps a positive limit.",
        (ratio * eta**2).subs(eta, eta_positive).subs(eta_positive, 0) - ratio_without_noise(),
        sp.S.Zero,
        shown=r"\lim_{\eta\to0}\eta^2\,\frac{(C^0)^2}{\sigma_t^2} = \frac{\left(\sqrt{\bar\alpha_s\bar\beta_t}"
        r" - \sqrt{\bar\alpha_t\bar\beta_s}\right)^2}{\beta_{t\mid s}\bar\beta_s}",
    )
    of_the_family(proof, of_eta=True)
    proof.only_where(eta, "eta = 0 draws nothing: its kernels have no density, and every step costs infinitely much")
    proof.only_where(beta_bar_s, "the step to level 0 is in the constant, not in the path; ask for s >= 1")
    proof.conclude(cost=sp.log(1 + ratio * x0_spread), of_the_chain=sp.log(1 + gained * x0_spread))


def ratio_without_noise() -> sp.Expr:
    r"""The weight of the data in a deterministic step, squared, over the posterior variance."""
    weight = sp.sqrt(alpha_bar_s) * sp.sqrt(beta_bar_t) - sp.sqrt(alpha_bar_t) * sp.sqrt(beta_bar_s)
    return weight**2 / beta_bar_t / ddim_sigma_eta().results["std"].subs(eta, 1) ** 2


@derives(
    r"\mathbb E|\sigma z| = \sigma\sqrt{\frac2\pi} \le \frac{2y}{255} \iff"
    r" \sigma^2 \le \left(\frac{2y}{255}\sqrt{\frac\pi2}\right)^2",
    source="bao2022, appendix F",
)
def analytic_pixel_threshold(proof: Proof) -> None:
    r"""How large the last noise may be if it should change a pixel by no more than $y$ grey levels on average; images of 256 grey
    levels in $[-1, 1]$ have them $2/255$ apart.
    """
    proof.assume(r"$z$ is standard normal, $\sigma > 0$.")
    half = sp.Dummy("half", positive=True)
    mean_size = 2 * sp.integrate(half * density(half, 0, 1), (half, 0, sp.oo))
    proof.equal(
        "Both tails count alike, so that the mean size of the noise is",
        mean_size,
        sp.sqrt(2 / sp.pi),
        shown=r"\mathbb E|z| = 2\int_0^\infty z\,\varphi(z)\,dz = \sqrt{\frac2\pi}",
    )
    proof.equal(
        "(the density being one),", integral(density(noise, 0, 1), noise), sp.S.One, shown=r"\int\varphi(z)\,dz = 1"
    )
    width = sp.Dummy("width", positive=True)
    (largest,) = sp.solve(sp.Eq(width * mean_size, 2 * grey_levels / 255), width)
    published = (2 * grey_levels / 255 * sp.sqrt(sp.pi / 2)) ** 2
    proof.equal(
        r"and the largest variance, from $\sigma\,\mathbb E|z| = 2y/255$,",
        largest**2,
        published,
        shown=equation(r"\sigma^2", published),
    )
    proof.conclude(variance=published)
