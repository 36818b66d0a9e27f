r"""The isotropic normal law put in the place of the data given noisy data: its variance, and in what sense it is the best one."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.analytic.data_set import NO_NOISE, NO_SIGNAL, domain
from ddpm_ref.symbolic.analytic.moments import (
    ENERGIES,
    RATIO,
    V_T,
    best_eps,
    noise_variance,
    normal_x0_given_xt,
    over_noise,
    x0_posterior_covariance_averaged,
)
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.forward.moments import dimension
from ddpm_ref.symbolic.gaussian import log_density
from ddpm_ref.symbolic.posterior.chain import MARGINAL_T
from ddpm_ref.symbolic.posterior.kernel import over_data
from ddpm_ref.symbolic.prediction import x0_from_eps
from ddpm_ref.symbolic.symbols import (
    alpha_bar_t,
    beta_bar_t,
    data_mean,
    data_variance,
    eps,
    eps_hat,
    equation,
    letter,
    mean,
    variance,
    x0,
    x0_mean,
    x0_variance,
)  # fmt: skip

x0_spread = letter("sigma_hat_squared", r"\hat\sigma_t^2", nonnegative=True)
energy = letter("eps_mean_square", r"\Gamma_t", nonnegative=True)
residual = letter("residual_mean_square", r"R_t", nonnegative=True)
BEST = r"$\hat\varepsilon^* = \mathbb E[\varepsilon\mid x_t]$ is the best prediction, $\Gamma_t = \tfrac1d\mathbb"
r" E\|\hat\varepsilon^*\|^2$."

_j = letter("j", "j", integer=True, positive=True)
_energies = sp.IndexedBase(letter("energies", r"e", nonnegative=True))


@derives(
    r"\hat\sigma_t^2 = \frac1d\,\mathbb E\,\mathrm{tr}\,\mathrm{Cov}(x_0\mid x_t)"
    r" = \frac{\bar\beta_t}{\bar\alpha_t}(1 - \Gamma_t)"
    r" = \frac{\bar\beta_t}{\bar\alpha_t}\cdot\frac1d\,\mathbb E\|\varepsilon - \hat\varepsilon^*\|^2",
    source="bao2022, eq. (7) and (9)",
)
def sigma_hat_squared(proof: Proof) -> None:
    r"""One number for what the noisy data leave open about the data: the trace of the averaged covariance, per dimension. It can
    be had from the mean square of the predicted noise, or from that of what is missing to the true one. For the best
    prediction both are the same; for any other only the second is the mean squared error of the data that it implies.
    """
    proof.assume(BEST)
    diagonal = x0_posterior_covariance_averaged().results["diagonal"]
    trace = sp.Sum(diagonal.subs(ENERGIES[0, 0], _energies[_j]), (_j, 1, dimension)) / dimension
    mean_square = sp.Sum(_energies[_j], (_j, 1, dimension)) / dimension
    published = RATIO * (1 - energy)
    proof.equal(
        r"The trace of the averaged covariance over $d$, where $e_j$ is the energy of the prediction in dimension $j$,",
        trace,
        published.subs(energy, mean_square),
        shown=r"\frac1d\sum_{j=1}^d\frac{\bar\beta_t}{\bar\alpha_t}(1 - e_j)"
        r" = \frac{\bar\beta_t}{\bar\alpha_t}\left(1 - \frac1d\sum_{j=1}^de_j\right)",
    )
    given = over_noise((eps - eps_hat) ** 2)
    proof.equal(
        r"The residual of any prediction, given $x_t$, is what no prediction can know and its distance from the best one,",
        given,
        noise_variance + (best_eps - eps_hat) ** 2,
        shown=r"\mathbb E[(\varepsilon - \hat\varepsilon)^2\mid x_t] = \mathrm{Var}(\varepsilon\mid x_t)"
        r" + (\hat\varepsilon^* - \hat\varepsilon)^2",
    )
    implied = x0_from_eps().results["x0"]
    proof.equal(
        r"and the data it implies are off by the residual, scaled:",
        (implied - implied.subs(eps, eps_hat)) ** 2,
        RATIO * (eps - eps_hat) ** 2,
        shown=r"(x_0 - \hat x_0)^2 = \frac{\bar\beta_t}{\bar\alpha_t}(\varepsilon - \hat\varepsilon)^2",
    )
    cross = letter("cross_moment", r"\tfrac1d\mathbb E\langle\hat\varepsilon^*,\hat\varepsilon\rangle", real=True)
    own = letter("own_mean_square", r"\tfrac1d\mathbb E\|\hat\varepsilon\|^2", nonnegative=True)
    averaged = 1 - 2 * cross + own
    proof.say(
        r"Averaged, $\mathbb E\|\varepsilon\|^2 = d$ and, by the tower property, $\mathbb"
        r" E\langle\varepsilon,\hat\varepsilon\rangle"
        r" = \mathbb E\langle\hat\varepsilon^*,\hat\varepsilon\rangle$, so the residual is",
        equation("R_t", averaged),
    )
    proof.equal(
        "For the best prediction all three moments are one number, and the two forms agree.",
        averaged.subs({cross: energy, own: energy}),
        1 - energy,
        shown=r"\hat\varepsilon = \hat\varepsilon^*:\quad R_t = 1 - \Gamma_t",
    )
    proof.equal(
        "For another one the form with the mean square misses",
        RATIO * averaged - RATIO * (1 - own),
        2 * RATIO * (own - cross),
    )
    shrunk = letter("factor", "c", positive=True)
    proof.equal(
        r"e.g. for $\hat\varepsilon = c\,\hat\varepsilon^*$, where $1 - \tfrac1d\mathbb E\|\hat\varepsilon\|^2$ falls"
        r" below 0 as soon as"
        r" $c^2\Gamma_t > 1$, while the residual is",
        averaged.subs({cross: shrunk * energy, own: shrunk**2 * energy}),
        1 - energy + (1 - shrunk) ** 2 * energy,
    )
    normal = x0_posterior_covariance_averaged().results["normal"]
    proof.equal(
        r"Normal data, whose prediction has the energy $\bar\beta_t/V_t$:",
        published.subs(energy, beta_bar_t / V_T),
        normal,
        shown=equation(r"\hat\sigma_t^2", normal),
    )
    proof.equal("For unit data that is the noise.", normal.subs(data_variance, 1), beta_bar_t)
    domain(proof)
    proof.conclude(from_energy=published, from_residual=RATIO * residual, normal=normal)


@derives(
    r"\min_{\mu,\,\sigma^2}\ \mathbb E\,D\left(q(x_0\mid x_t)\,\Vert\,\mathcal N(\mu(x_t),\ \sigma^2I)\right)"
    r"\quad\text{at}\quad \mu = \bar\mu(x_t),\ \sigma^2 = \hat\sigma_t^2",
    source="bao2022, theorem 1",
)
def x0_gaussian_approximation(proof: Proof) -> None:
    r"""The normal law that comes closest to the data given noisy data, on average over the noisy data: it has the true mean, for
    any data, and the average variance. It is the true law if the data are normal.
    """
    proof.assume(r"$q(x_0\mid x_t)$ has a mean and a variance; $\sigma^2$ may depend on $t$ and not on $x_t$.")
    loss = over_data(-log_density(x0, mean, variance))
    proof.equal(
        r"Up to the entropy of the data given $x_t$, which does not depend on the approximation, the divergence is the cross"
        " entropy, per dimension",
        loss,
        sp.log(2 * sp.pi * variance) / 2 + (x0_variance + (x0_mean - mean) ** 2) / (2 * variance),
        shown=r"-\mathbb E[\log\mathcal N(x_0;\ \mu,\sigma^2)\mid x_t] = \tfrac12\log(2\pi\sigma^2)"
        r" + \frac{\mathrm{Var}(x_0\mid x_t) + (\bar\mu - \mu)^2}{2\sigma^2}",
    )
    (centre,) = sp.solve(sp.diff(loss, mean), mean)
    proof.equal(
        r"Its derivative by $\mu$ vanishes at every $x_t$ at", centre, x0_mean, shown=r"\mu = \mathbb E[x_0\mid x_t]"
    )
    proof.holds(
        "which is a minimum.",
        sp.diff(loss, mean, 2) > 0,
        shown=r"\frac{\partial^2}{\partial\mu^2} = \frac{1}{\sigma^2} > 0",
    )
    # Averaged over x_t and over dimensions; of the variance only its average is left, because the loss is linear in it.
    averaged = loss.subs(mean, centre).subs(x0_variance, x0_spread)
    (best,) = sp.solve(sp.diff(averaged, variance), variance)
    proof.equal(
        r"What is left is linear in the variance, so that averaged over $x_t$ and over dimensions it has $\hat\sigma_t^2$ in"
        r" its place; the derivative by $\sigma^2$ vanishes at",
        best,
        x0_spread,
        shown=r"\sigma^2 = \tfrac1d\,\mathbb E\,\mathrm{tr}\,\mathrm{Cov}(x_0\mid x_t) = \hat\sigma_t^2",
    )
    share = letter("ratio", "r", positive=True)
    excess = averaged.subs(variance, share * x0_spread) - averaged.subs(variance, x0_spread)
    positive = letter("sigma_hat_squared_positive", r"\hat\sigma_t^2", positive=True)
    proof.equal(
        r"Any other variance $r\,\hat\sigma_t^2$ costs more by",
        excess.subs(x0_spread, positive),
        (sp.log(share) + 1 / share - 1) / 2,
    )
    proof.equal(
        r"which is 0 at $r = 1$ and least there: its derivative has the sign of $r - 1$.",
        sp.diff((sp.log(share) + 1 / share - 1) / 2, share),
        (share - 1) / (2 * share**2),
    )
    normal_mean, normal_variance = normal_x0_given_xt()
    exact = MARGINAL_T + log_density(x0, data_mean, data_variance)
    own = log_density(x0, normal_mean, normal_variance)
    proof.equal(
        r"For normal data the surrogate is the true law: the logarithm of $q(x_t\mid x_0)\,q(x_0)$ has in $x_0$ the"
        r" same derivative.",
        sp.diff(exact, x0),
        sp.diff(own, x0),
        shown=r"\frac{\partial}{\partial x_0}\log q(x_0\mid x_t)"
        r" = \frac{\partial}{\partial x_0}\log\mathcal N(x_0;\ \bar\mu(x_t),\ \hat\sigma_t^2)",
    )
    proof.only_where(beta_bar_t, NO_NOISE)
    proof.only_where(alpha_bar_t, NO_SIGNAL)
    proof.only_where(x0_spread, "a point has no density; the surrogate needs a variance above 0")
    proof.conclude(
        cross_entropy=(1 + sp.log(2 * sp.pi * x0_spread)) / 2,
        mean=normal_mean,
        variance=normal_variance,
    )
