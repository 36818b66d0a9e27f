r"""What the best variance of a step lies between, whatever the data."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.analytic.data_set import NO_SIGNAL
from ddpm_ref.symbolic.analytic.moments import RATIO
from ddpm_ref.symbolic.analytic.surrogate import BEST, energy, sigma_hat_squared, x0_spread
from ddpm_ref.symbolic.analytic.variance import COMBINED, MEMBER, WITH_ENERGY
from ddpm_ref.symbolic.ddim.family import FROM_X0, ddim_sigma_eta
from ddpm_ref.symbolic.ddim.family import domain as of_the_family
from ddpm_ref.symbolic.ddim.step import with_eta
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.posterior.kernel import over_data
from ddpm_ref.symbolic.symbols import (
    alpha,
    alpha_bar_t,
    beta,
    beta_bar_t,
    eta,
    letter,
    variance,
    x0,
    x0_mean,
)

low, high = letter("low", "a", real=True), letter("high", "b", real=True)


@derives(
    r"\sigma_t^2 \le \sigma_t^{*2} \le \sigma_t^2 + (C^0)^2\min\left(\frac{\bar\beta_t}{\bar\alpha_t},"
    r"\ \left(\frac{b - a}{2}\right)^2\right)",
    source="bao2022, theorem 2, eq. (11) and (12)",
)
def analytic_variance_bounds(proof: Proof) -> None:
    r"""What the best variance must lie between, whatever the data: nothing or everything is known of them once the noisy data are
    given. If all data lie in $[a, b]$ their variance is at most that of the two ends with equal odds. Clipping to the bounds is
    clipping $1 - \Gamma_t$, and cures a prediction whose mean square comes out above 1.
    """
    proof.assume(MEMBER)
    proof.assume(BEST)
    proof.assume(r"For the second upper bound: every component of the data lies in $[a, b]$.")
    coefficient = letter("x0_coefficient", "C^0", real=True)
    proof.holds(
        r"The combined variance grows with $\hat\sigma_t^2$, which it contains times a square:",
        sp.diff(COMBINED.subs(FROM_X0, coefficient), x0_spread) >= 0,
        shown=r"\frac{\partial\sigma_t^{*2}}{\partial\hat\sigma_t^2} = (C^0)^2 \ge 0",
    )
    proof.equal(
        r"$\hat\sigma_t^2$ is an average of variances and not below 0, where nothing is added:",
        COMBINED.subs(x0_spread, 0),
        variance,
        shown=r"\sigma_t^{*2} \ge \sigma_t^2",
    )
    of_energy = sigma_hat_squared().results["from_energy"]
    proof.equal(
        r"Nor is $\Gamma_t$ below 0, where $\hat\sigma_t^2$ is largest:",
        of_energy.subs(energy, 0) - of_energy,
        RATIO * energy,
        shown=r"\frac{\bar\beta_t}{\bar\alpha_t} - \hat\sigma_t^2 = \frac{\bar\beta_t}{\bar\alpha_t}\Gamma_t \ge 0",
    )
    middle, half = (low + high) / 2, (high - low) / 2
    proof.equal(
        r"Data in $[a, b]$: about the middle $c$ of the interval the square of the distance falls short of that of"
        r" the ends by a"
        " product of two numbers that are not negative,",
        half**2 - (x0 - middle) ** 2,
        (high - x0) * (x0 - low),
        shown=r"\left(\frac{b - a}{2}\right)^2 - (x_0 - c)^2 = (b - x_0)(x_0 - a) \ge 0",
    )
    proof.equal(
        r"and about no point is the mean square smaller than about the mean:",
        over_data((x0 - middle) ** 2) - over_data((x0 - x0_mean) ** 2),
        (x0_mean - middle) ** 2,
        shown=r"\mathbb E[(x_0 - c)^2\mid x_t] - \mathrm{Var}(x_0\mid x_t) = (\mathbb E[x_0\mid x_t] - c)^2 \ge 0",
    )
    proof.say(r"Averaged over $x_t$ and the dimensions:", r"\hat\sigma_t^2 \le \left(\frac{b - a}{2}\right)^2")
    two = letter("share", "p", positive=True)
    ends = two * high**2 + (1 - two) * low**2 - (two * high + (1 - two) * low) ** 2
    proof.equal(
        "The two ends with equal odds, once $x_t$ says nothing of them, reach it.",
        ends.subs(two, sp.Rational(1, 2)),
        half**2,
        shown=r"\tfrac12b^2 + \tfrac12a^2 - \left(\tfrac12b + \tfrac12a\right)^2 = \left(\frac{b - a}{2}\right)^2",
    )
    proof.equal(
        r"In terms of $1 - \Gamma_t$ the second bound reads",
        sp.solve(sp.Eq(RATIO * (1 - energy), half**2), energy)[0],
        1 - half**2 * alpha_bar_t / beta_bar_t,
        shown=r"1 - \Gamma_t \le \frac{\bar\alpha_t}{\bar\beta_t}\left(\frac{b - a}{2}\right)^2",
    )
    proof.equal(
        r"At $\eta = 1$ the first upper bound is $\beta_{t\mid s}/\alpha_{t\mid s}$, as in `optimal_variance_bracket`.",
        with_eta(WITH_ENERGY).subs({eta: 1, energy: 0}),
        beta / alpha,
        shown=r"\eta = 1:\quad \tilde\beta_{t\mid s} + (c^{x_0})^2\frac{\bar\beta_t}{\bar\alpha_t}"
        r" = \frac{\beta_{t\mid s}}{\alpha_{t\mid s}}",
    )
    most = sp.Min(RATIO, half**2)
    of_the_family(proof, of_eta=True)
    proof.only_where(alpha_bar_t, NO_SIGNAL)
    proof.only_where(high - low, "the data lie in [low, high]: give low < high")
    proof.conclude(
        lower=ddim_sigma_eta().results["std"] ** 2,
        upper=with_eta(COMBINED).subs(x0_spread, most),
        upper_any_data=with_eta(COMBINED).subs(x0_spread, RATIO),
        largest_sigma_hat_squared=most,
    )
