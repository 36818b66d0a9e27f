r"""What the deterministic member makes of normal data: a product of cosines; and the way back up."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.ancestral.normal_data import AT_S, AT_T, best_x0, normal_data
from ddpm_ref.symbolic.ddim.step import DRAW
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.posterior.chain import NO_STEP
from ddpm_ref.symbolic.prediction import eps_from_x0
from ddpm_ref.symbolic.symbols import (
    alpha,
    alpha_bar_s,
    alpha_bar_t,
    beta,
    beta_bar_s,
    beta_bar_t,
    data_variance,
    eps_hat,
    equation,
    letter,
    noise,
    variance,
    x0,
    xs,
    xt,
)  # fmt: skip

OVERLAP = sp.sqrt(alpha_bar_s) * sp.sqrt(alpha_bar_t) * data_variance + sp.sqrt(beta_bar_s) * sp.sqrt(beta_bar_t)
LOSS = data_variance * (sp.sqrt(alpha_bar_s) * sp.sqrt(beta_bar_t) - sp.sqrt(alpha_bar_t) * sp.sqrt(beta_bar_s)) ** 2
angle_t, angle_s = letter("angle_t", r"\theta_t", real=True), letter("angle_s", r"\theta_s", real=True)


@derives(
    r"x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{\bar\beta_s}\,\hat\varepsilon;\quad"
    r" g = \frac{\sqrt{\bar\alpha_s\bar\alpha_t}\,\tau^2 + \sqrt{\bar\beta_s\bar\beta_t}}{V_t}"
    r" = \sqrt{\frac{V_s}{V_t}}\cos(\theta_t - \theta_s),\quad \tan\theta_t = \frac{\sqrt{\bar\beta_t}}{\tau\sqrt{\bar\alpha_t}}",
    source="song2020ddim, section 4.1, for normal data",
)
def ddim_deterministic_step(proof: Proof) -> None:
    r"""$\eta = 0$: no noise is drawn after the first, and all that varies in the samples is in $x_T$. On normal data a step turns
    the state by an angle, and what it loses is a cosine: the samples are never too wide, and the narrower the larger
    the steps.
    """
    normal_data(proof)
    step = DRAW.subs(variance, 0)
    proof.say("The step draws nothing:", equation("x_s", DRAW.subs(variance, 0)))
    proof.all_vanish(
        "its derivative by the noise is 0.", [sp.diff(step, noise)], shown=r"\frac{\partial x_s}{\partial z} = 0"
    )
    best = eps_from_x0().results["eps"].subs(x0, best_x0())
    slope = sp.diff(sp.expand(step.subs(eps_hat, best)), xt)
    result = OVERLAP / AT_T
    proof.equal("With the best network it is a multiple of the state,", slope, result, shown=equation("g", result))
    proof.equal(
        r"The squares do not quite match: $V_sV_t$ is greater than that of the numerator by (Lagrange's identity)",
        AT_S * AT_T - OVERLAP**2,
        LOSS,
    )
    proof.holds(
        r"which is not negative, so that the step never makes the spread too large.",
        LOSS >= 0,
        shown=r"g^2V_t \le V_s",
    )
    proof.say(
        r"Write $\tau\sqrt{\bar\alpha_t} = \sqrt{V_t}\cos\theta_t$ and $\sqrt{\bar\beta_t} = \sqrt{V_t}\sin\theta_t$, as one may,"
    )
    cosine = sp.sqrt(data_variance) * sp.sqrt(alpha_bar_t) / sp.sqrt(AT_T)
    sine = sp.sqrt(beta_bar_t) / sp.sqrt(AT_T)
    proof.equal(
        "because the squares add up:", cosine**2 + sine**2, sp.S.One, shown=r"\cos^2\theta_t + \sin^2\theta_t = 1"
    )
    turned = sp.expand_trig(sp.cos(angle_t - angle_s)).subs(
        {
            sp.cos(angle_t): cosine,
            sp.sin(angle_t): sine,
            sp.cos(angle_s): sp.sqrt(data_variance) * sp.sqrt(alpha_bar_s) / sp.sqrt(AT_S),
            sp.sin(angle_s): sp.sqrt(beta_bar_s) / sp.sqrt(AT_S),
        }
    )
    relative = OVERLAP / (sp.sqrt(AT_S) * sp.sqrt(AT_T))
    proof.equal(
        r"By the addition theorem the deviation, in units of the right one, is multiplied by",
        turned,
        relative,
        shown=equation(r"\cos(\theta_t - \theta_s)", relative),
    )
    proof.equal(
        "which is the gain with both deviations taken out.",
        relative * sp.sqrt(AT_S) / sp.sqrt(AT_T),
        result,
        shown=r"g = \sqrt{V_s/V_t}\,\cos(\theta_t - \theta_s)",
    )
    proof.equal(
        r"For unit data $V = 1$ and the gain itself is the cosine,",
        result.subs(data_variance, 1),
        relative.subs(data_variance, 1),
        shown=r"\tau^2 = 1:\quad g = \cos(\theta_t - \theta_s) = \sqrt{\bar\alpha_s\bar\alpha_t} + \sqrt{\bar\beta_s\bar\beta_t}",
    )
    proof.say(
        r"and a whole trajectory ends with the deviation $\tau$ times that of its start in units of the right one, times",
        r"\prod_i\cos(\theta_{\tau_i} - \theta_{\tau_{i-1}}),\qquad \theta_0 = 0",
    )
    proof.only_where(beta_bar_t, NO_STEP)
    proof.conclude(gain=result, relative=relative)


@derives(
    r"x_t = \sqrt{\alpha_{t\mid s}}\,x_s + \left(\sqrt{\bar\beta_t} - \sqrt{\alpha_{t\mid s}\bar\beta_s}\right)"
    r"\hat\varepsilon(x_s, s);\quad g_\uparrow g_\downarrow = \cos^2(\theta_t - \theta_s)",
    source="song2020ddim, section 4.3",
)
def ddim_inversion(proof: Proof) -> None:
    r"""The deterministic step taken upwards, to find the noise that belongs to given data. The prediction would be needed at the
    upper level, which is not known yet; taken at the lower one it makes the way up and down again a product of squared
    cosines instead of 1: the inversion is approximate, with an error of the order of the step.
    """
    normal_data(proof)
    proof.assume(r"The step $s \to t$ goes up; the prediction is made at $s$.")
    predicted = (xs - sp.sqrt(beta_bar_s) * eps_hat) / sp.sqrt(alpha_bar_s)
    up = sp.sqrt(alpha_bar_t) * predicted + sp.sqrt(beta_bar_t) * eps_hat
    proof.say(r"With the levels exchanged the deterministic step is", equation("x_t", up))
    row = sp.Poly(sp.expand(up), xs, eps_hat)
    from_eps = sp.sqrt(beta_bar_t) - sp.sqrt(alpha) * sp.sqrt(beta_bar_s)
    proof.equal(r"Its coefficient of $x_s$ is", row.coeff_monomial(xs), sp.sqrt(alpha))
    proof.equal(r"and that of the prediction", row.coeff_monomial(eps_hat), from_eps)
    proof.equal(
        "a difference of roots whose squares differ by",
        beta_bar_t - alpha * beta_bar_s,
        beta,
    )
    best = (sp.sqrt(beta_bar_s) / AT_S) * xs
    slope = sp.diff(sp.expand(up.subs(eps_hat, best)), xs)
    proof.equal(
        r"On normal data $\hat\varepsilon = \sqrt{\bar\beta_s}\,x_s/V_s$, and the step up is the multiple",
        slope,
        OVERLAP / AT_S,
    )
    down = ddim_deterministic_step().results["gain"]
    round_trip = OVERLAP**2 / (AT_S * AT_T)
    proof.equal(
        "Up and down again,",
        slope * down,
        round_trip,
        shown=equation(r"g_\uparrow g_\downarrow", round_trip),
    )
    proof.equal(
        "is the square of the cosine,",
        ddim_deterministic_step().results["relative"] ** 2,
        round_trip,
        shown=r"g_\uparrow g_\downarrow = \cos^2(\theta_t - \theta_s)",
    )
    proof.equal("which falls short of 1 by", 1 - round_trip, LOSS / (AT_S * AT_T))
    proof.holds("never exceeding it.", LOSS >= 0, shown=r"g_\uparrow g_\downarrow \le 1")
    exact = sp.solve(sp.Eq(xs, DRAW.subs(variance, 0)), xt)[0]
    proof.equal(
        "With the prediction made at $t$ the step up is the step down solved for $x_t$, and the round trip exact:",
        sp.diff(exact, eps_hat),
        from_eps,
        shown=equation(r"\frac{\partial x_t}{\partial\hat\varepsilon}", from_eps),
    )
    proof.equal(
        r"The first step, from $s = 0$, only scales the data, as there is no noise in them to go on with (a network, which is"
        " not defined there, has to be asked elsewhere).",
        slope.subs({alpha_bar_s: 1, beta_bar_s: 0, alpha: alpha_bar_t}),
        sp.sqrt(alpha_bar_t),
        shown=r"s = 0:\quad g_\uparrow = \sqrt{\bar\alpha_t}",
    )
    proof.conclude(xs_coefficient=sp.sqrt(alpha), eps_coefficient=from_eps, gain=OVERLAP / AT_S, round_trip=round_trip)
