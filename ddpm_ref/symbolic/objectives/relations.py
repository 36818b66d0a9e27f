r"""Errors of data, noise and velocity that belong to one prediction, and the weights that belong to them."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.objectives.weights import SNR_T, loss_weight_eps, loss_weight_v, loss_weight_x0, v_hat
from ddpm_ref.symbolic.posterior.chain import NO_STEP, start
from ddpm_ref.symbolic.prediction import eps_from_x0, x0_from_eps, x0_from_v
from ddpm_ref.symbolic.symbols import (
    alpha_bar_t,
    beta_bar_t,
    eps,
    eps_hat,
    equation,
    letter,
    v,
    x0,
    xt,
)  # fmt: skip

i = letter("i", "i", integer=True, positive=True)
dimension = letter("dimension", "d", integer=True, positive=True)
noises = sp.IndexedBase(letter("noises", r"\varepsilon", real=True))
answers = sp.IndexedBase(letter("answers", r"\hat\varepsilon", real=True))

_NO_SIGNAL = "where alpha_bar_t = 0 (zero terminal SNR) the noise does not determine the data; compare velocities"


@derives(
    r"w^\varepsilon = \frac{\bar\beta_t}{\bar\alpha_t}\,w^{x_0},\qquad w^v = \bar\beta_t\,w^{x_0} = \bar\alpha_t\,w^\varepsilon",
    source="from the relation of the errors",
)
def loss_weight_relation(proof: Proof) -> None:
    r"""One term of the bound, told in three errors: the weights stand in the inverse ratio of the squared errors, whatever the
    variance of the step.
    """
    start(proof)
    of_x0, of_eps, of_v = (each().results for each in (loss_weight_x0, loss_weight_eps, loss_weight_v))
    for name, says in (
        ("weight", "The weight of the noise over that of the data is, for any variance,"),
        ("posterior", r"the same for $\sigma_t^2 = \tilde\beta_{t\mid s}$"),
        ("beta", r"and for $\sigma_t^2 = \beta_{t\mid s}$,"),
    ):
        proof.equal(
            says,
            of_eps[name] / of_x0[name],
            beta_bar_t / alpha_bar_t,
            shown=r"\frac{w^\varepsilon}{w^{x_0}} = \frac{\bar\beta_t}{\bar\alpha_t}",
        )
    error = x0_eps_error_relation().results["ratio"]
    proof.equal(
        "the factor between the squared errors.",
        of_eps["weight"] / of_x0["weight"],
        error,
        shown=r"\frac{(x_0-\hat x_0)^2}{(\varepsilon-\hat\varepsilon)^2} = \frac{\bar\beta_t}{\bar\alpha_t}",
    )
    proof.equal(
        "For the velocity it is",
        of_v["weight"] / of_x0["weight"],
        beta_bar_t,
        shown=r"\frac{w^v}{w^{x_0}} = \bar\beta_t",
    )
    proof.equal(
        "and", of_v["weight"] / of_eps["weight"], alpha_bar_t, shown=r"\frac{w^v}{w^\varepsilon} = \bar\alpha_t"
    )
    proof.say(
        r"An objective that weighs every error of the noise with 1 weighs the data with $\mathrm{SNR}_t$, and one that weighs the"
        r" velocity with 1 weighs the data with $1/\bar\beta_t = 1 + \mathrm{SNR}_t$:"
    )
    proof.equal(
        "of the noise", alpha_bar_t / beta_bar_t, SNR_T, shown=r"\frac{\bar\alpha_t}{\bar\beta_t} = \mathrm{SNR}_t"
    )
    proof.equal("of the velocity", 1 / beta_bar_t, 1 + SNR_T, shown=r"\frac1{\bar\beta_t} = 1 + \mathrm{SNR}_t")
    proof.only_where(beta_bar_t, NO_STEP)
    proof.only_where(alpha_bar_t, _NO_SIGNAL)
    proof.conclude(eps_over_x0=beta_bar_t / alpha_bar_t, v_over_x0=beta_bar_t, v_over_eps=alpha_bar_t)


@derives(
    r"\lVert x_0 - \hat x_0\rVert^2 = \frac{\bar\beta_t}{\bar\alpha_t}\lVert\varepsilon - \hat\varepsilon\rVert^2,\qquad"
    r" \lVert x_0 - \hat x_0\rVert^2 = \bar\beta_t\lVert v - \hat v\rVert^2",
    source="ho2020, section 3.2; kingma2021",
)
def x0_eps_error_relation(proof: Proof) -> None:
    r"""Data and noise that explain the same $x_t$ determine each other; two such pairs are subtracted and squared. The identity is
    pointwise, no expectation is in it. Clipping breaks it, because the clipped data belong to another noise.
    """
    proof.assume(
        r"$\hat x_0$ and $\hat\varepsilon$ belong together: $x_t = \sqrt{\bar\alpha_t}\,\hat x_0"
        r" + \sqrt{\bar\beta_t}\,\hat\varepsilon$."
    )
    implied = x0_from_eps().results["x0"]
    difference = implied - implied.subs(eps, eps_hat)
    ratio = beta_bar_t / alpha_bar_t
    proof.equal("The data of two noises differ by", difference, -sp.sqrt(ratio) * (eps - eps_hat))
    error = proof.equal(
        "squared:",
        difference**2,
        ratio * (eps - eps_hat) ** 2,
        shown=equation(r"(x_0 - \hat x_0)^2", ratio * (eps - eps_hat) ** 2),
    )
    each = [implied.subs({xt: 0, eps: noise}) for noise in (noises[i], answers[i])]
    proof.equal(
        "In all components, which share the factor,",
        sp.Sum(sp.expand((each[0] - each[1]) ** 2), (i, 1, dimension)),
        ratio * sp.Sum((noises[i] - answers[i]) ** 2, (i, 1, dimension)),
        shown=r"\sum_i(x_{0,i} - \hat x_{0,i})^2 = \frac{\bar\beta_t}{\bar\alpha_t}\sum_i(\varepsilon_i-\hat\varepsilon_i)^2",
    )
    by_v = x0_from_v().results["x0"]
    proof.equal(
        "A velocity in the place of the noise:",
        (by_v - by_v.subs(v, v_hat)) ** 2,
        beta_bar_t * (v - v_hat) ** 2,
        shown=r"(x_0 - \hat x_0)^2 = \bar\beta_t(v - \hat v)^2",
    )
    far = {xt: 2 * sp.sqrt(alpha_bar_t), eps: 0}
    proof.equal(
        r"Clipped to $[-1, 1]$ it is not: data 1 and $\hat\varepsilon = 0$ at $x_t = 2\sqrt{\bar\alpha_t}$ imply 2, which is"
        " clipped to the data, and the error is",
        1 - sp.Min(1, sp.Max(-1, implied.subs(far))),
        sp.S.Zero,
        shown=r"1 - \mathrm{clip}(2) = 0",
    )
    proof.equal(
        "though that of the noise is not 0,",
        eps_from_x0().results["eps"].subs({xt: far[xt], x0: 1}),
        sp.sqrt(alpha_bar_t / beta_bar_t),
        shown=r"\varepsilon - \hat\varepsilon = \sqrt{\bar\alpha_t/\bar\beta_t}",
    )
    proof.only_where(beta_bar_t, "at t = 0 there is no noise to speak of (beta_bar = 0); ask for t >= 1")
    proof.only_where(alpha_bar_t, _NO_SIGNAL)
    proof.conclude(x0_error=error, ratio=ratio, root=sp.sqrt(ratio), of_v=beta_bar_t * (v - v_hat) ** 2)
