r"""The scales of guidance that are in use, and two names."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.guidance.classes import (
    classifier_scale,
    eps_conditional,
    gradient,
    guidance_scale,
    guidance_weight,
    start,
)
from ddpm_ref.symbolic.guidance.classifier import (
    classifier_guided_ddim_step,
    classifier_guided_ddpm_step,
    classifier_guided_eps,
)
from ddpm_ref.symbolic.guidance.free import cfg_combination, sharpened
from ddpm_ref.symbolic.guidance.score import implicit_classifier_score
from ddpm_ref.symbolic.reverse.model import model_mean_from_eps
from ddpm_ref.symbolic.symbols import eps_hat, equation, letter


@derives(
    r"\omega = 1 + w = \gamma",
    source="dhariwal2021, section 4.3; ho2022, section 3.2",
)
def guidance_scale_conventions(proof: Proof) -> None:
    r"""Three scales for one thing. Classifier guidance starts from the unconditional prediction, classifier-free guidance from the
    conditional one; so the same number means different laws. With the implied classifier they are compared by solving for the
    one that gives the same noise.
    """
    start(proof)
    guided = classifier_guided_eps().results["eps"].subs(gradient, implicit_classifier_score().results["gradient"])
    free = cfg_combination().results["eps"]
    (scale,) = sp.solve(sp.Eq(guided, free), classifier_scale)
    proof.equal(
        r"The classifier scale for which the implied classifier gives the combination with the weight $w$:",
        scale,
        1 + guidance_weight,
        shown=equation(r"\omega", 1 + guidance_weight),
    )
    other = eps_hat + guidance_scale * (eps_conditional - eps_hat)
    (same,) = sp.solve(sp.Eq(other, free), guidance_scale)
    proof.equal(
        r"Many programs have $\hat\varepsilon + \gamma\,(\hat\varepsilon_y - \hat\varepsilon)$, with",
        same,
        1 + guidance_weight,
        shown=equation(r"\gamma", 1 + guidance_weight),
    )
    for says, weight, law in (
        (r"$w = -1$, $\omega = \gamma = 0$: the unconditional prediction,", -1, eps_hat),
        (r"$w = 0$, $\omega = \gamma = 1$: the conditional one.", 0, eps_conditional),
    ):
        proof.equal(says, free.subs(guidance_weight, weight), law, shown=equation(r"\bar\varepsilon", law))
    conditional, unit = letter("conditional_variance", "v", positive=True), sp.S.One
    plain, sharp = (
        sharpened(sp.S.Zero, conditional, sp.S.Zero, unit).variance.subs(guidance_weight, w) for w in (0, 1)
    )
    proof.equal(
        r"The value 1 is not the same: for a class $\mathcal N(0, v)$ among unit data the precisions are apart by",
        1 / sharp - 1 / plain,
        1 / conditional - 1,
        shown=r"\left(\frac2v - 1\right) - \frac1v = \frac1v - 1",
    )
    proof.conclude(classifier_scale=1 + guidance_weight, guidance_scale=1 + guidance_weight, weight=guidance_scale - 1)


@derives(
    r"\text{ADM-G} = \text{ADM with } \bar\varepsilon;\quad \omega = 0:\ \text{ADM-G} = \text{ADM}",
    source="dhariwal2021, sections 3 and 4",
)
def adm_names(proof: Proof) -> None:
    r"""Names: ADM is a network (an ablated U-Net), ADM-G the same one sampled with classifier guidance. What there is to show is
    that nothing else differs: with the scale 0 every step is the other's.
    """
    guided, plain = classifier_guided_ddpm_step().results["mean"], model_mean_from_eps().results["mean"]
    proof.equal(
        "A step of the chain without a scale",
        guided.subs(classifier_scale, 0),
        plain,
        shown=r"\mu_\theta(\bar\varepsilon) = \mu_\theta",
    )
    walk = classifier_guided_ddim_step().results
    proof.equal(
        "and one of DDIM are the steps of the network alone;",
        walk["deterministic_shift"].subs(classifier_scale, 0),
        sp.S.Zero,
        shown=r"\omega = 0:\quad x_s(\bar\varepsilon) - x_s(\hat\varepsilon) = 0",
    )
    proof.equal(
        "what guidance adds is proportional to the scale.",
        guided - plain,
        classifier_scale * sp.diff(guided, classifier_scale),
        shown=r"\mu_\theta(\bar\varepsilon) - \mu_\theta = \omega\,\frac{\beta_{t\mid s}}{\sqrt{\alpha_{t\mid s}}}\nabla\log f",
    )
    proof.conclude(added=guided - plain)
