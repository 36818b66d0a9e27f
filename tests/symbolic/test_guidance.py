"""Guidance: the reference against its derivations, and the derivations against joint normal laws and quadrature."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy as sp

from ddpm_ref.arithmetic import Claim
from ddpm_ref.arithmetic.bounds import gamma
from ddpm_ref.errors import LevelError, ProofError, RangeError
from ddpm_ref.laws.guidance import SCALED
from ddpm_ref.laws.guided_steps import GUIDED_STEP
from ddpm_ref.laws.registry import AFFINE
from ddpm_ref.reference import guidance as reference
from ddpm_ref.reference.oracle import Gaussian, GuidedGaussian, Labelled
from ddpm_ref.symbolic import ExactSchedule, Proof, derive, guidance
from ddpm_ref.symbolic.guidance.classes import classifier_scale, eps_conditional, gradient, guidance_weight
from ddpm_ref.symbolic.symbols import beta, beta_bar_t, eps_hat, variance, xt

SCHEDULE = ExactSchedule([Fraction(1, 4), Fraction(1, 3), Fraction(1, 2)])
ZERO_SNR = ExactSchedule([Fraction(1, 4), 1])
FP64 = Claim("fp64").computing
U = FP64.u
DIGITS, TRUSTED = 60, mpmath.mpf(10) ** -50  # numbers of 60 digits after some dozen operations
TRUSTED_BY_QUADRATURE = mpmath.mpf(10) ** -15  # carried to 30 digits

GUIDED = ("xt", "eps_hat", "gradient", "classifier_scale", "noise")


def test_every_formula_of_the_subject_is_derived():
    assert [made.__name__ for made in guidance.DERIVATIONS] == [
        "conditional_score_decomposition", "classifier_guided_eps", "classifier_guided_ddpm_step",
        "classifier_guided_mean_shift", "classifier_guided_ddim_step", "classifier_gradient", "implicit_classifier_score",
        "cfg_combination", "cfg_condition_dropout", "guidance_scale_conventions", "adm_names",
    ]  # fmt: skip
    assert {made().subject for made in guidance.DERIVATIONS} == {"guidance"}
    assert derive("score_eps_relation").subject == "prediction"  # a score is a noise: with the other predictions


def _of_level(c):
    return {name: value for name, value in c.levels.items() if name.endswith(("_t", "_T"))}


def exactly(x):
    x = Fraction(x)
    return mpmath.mpf(x.numerator) / x.denominator


# --- the reference -------------------------------------------------------------------------------------------------------


def test_guided_score(agree):
    agree.functions(
        "classifier_guided_eps",
        "score",
        lambda c: reference.classifier_guided_score(c.score, c.gradient, c.classifier_scale),
        data=("score", "gradient", "classifier_scale"),
        roundings=2,
        step=False,
    )
    agree.functions(
        "conditional_score_decomposition",
        "conditional",
        lambda c: reference.classifier_guided_score(c.score, c.gradient),
        data=("score", "gradient"),
        roundings=1,
        step=False,
    )


def test_guided_noise(agree):
    agree.functions(
        "classifier_guided_eps",
        "eps",
        lambda c: reference.classifier_guided_eps(c.schedule, c.eps_hat, c.t, c.gradient, c.classifier_scale),
        data=("eps_hat", "gradient", "classifier_scale"),
        roundings=SCALED,
        step=False,
    )


@pytest.mark.parametrize(("result", "kind", "lowest"), [("draw_small", "posterior", 0), ("draw_large", "beta", 1)])
def test_guided_step_of_the_chain(agree, result, kind, lowest):
    agree.functions(
        "classifier_guided_ddpm_step",
        result,
        lambda c: reference.guided_ancestral_step(
            c.schedule, c.xt, c.t, c.s, c.eps_hat, c.gradient, c.noise, c.classifier_scale, kind
        ),
        data=GUIDED,
        roundings=GUIDED_STEP,
        lowest=lowest,
    )


def _ddim_scale(v):
    """Three terms of the row, and the gradient's through the prediction."""
    kept = v["beta_bar_s"] * (1 - v["eta"] ** 2 + v["eta"] ** 2 * v["alpha"] * v["beta_bar_s"] / v["beta_bar_t"])
    std, root = v["eta"] * mpmath.sqrt(v["beta"] * v["beta_bar_s"] / v["beta_bar_t"]), mpmath.sqrt(v["alpha"])
    weight = mpmath.sqrt(kept) - mpmath.sqrt(v["beta_bar_t"]) / root
    guided = abs(v["eps_hat"]) + abs(v["classifier_scale"] * mpmath.sqrt(v["beta_bar_t"]) * v["gradient"])
    return abs(v["xt"]) / root + abs(weight) * guided + abs(std * v["noise"])


def test_guided_step_of_ddim(agree):
    agree.functions(
        "classifier_guided_ddim_step",
        "draw",
        lambda c: reference.guided_ddim_step(
            c.schedule, c.xt, c.t, c.s, c.eps_hat, c.gradient, c.noise, c.classifier_scale, c.eta
        ),
        data=(*GUIDED, "eta"),
        roundings=GUIDED_STEP,
        scale_of=_ddim_scale,
    )


def test_mean_shift(agree):
    agree.functions(
        "classifier_guided_mean_shift",
        "mean",
        lambda c: reference.classifier_mean_shift(c.mean, c.variance, c.gradient, c.classifier_scale),
        data=("mean", "variance", "gradient", "classifier_scale"),
        positive=("variance",),
        roundings=AFFINE,
    )


def test_ratio_of_the_two_shifts(agree):
    """Entries of the schedule, each rounded once, two quotients and a product."""
    for result, entry in (("ratio_large", "beta"), ("ratio_small", "beta_tilde")):

        def ratio(c, entry=entry):
            step = c.schedule.between(c.t, c.s)
            return step.beta / (step.sqrt_alpha * getattr(step, entry))

        agree.functions(
            "classifier_guided_mean_shift", result, ratio, data=(), roundings=5, lowest=1, scale_of=_ratio_scale[result]
        )


_ratio_scale = {
    "ratio_large": lambda v: 1 / mpmath.sqrt(v["alpha"]),
    "ratio_small": lambda v: v["beta_bar_t"] / (mpmath.sqrt(v["alpha"]) * v["beta_bar_s"]),
}


def test_implicit_classifier(agree):
    agree.functions(
        "implicit_classifier_score",
        "gradient",
        lambda c: reference.implicit_classifier_gradient(c.schedule, c.eps_conditional, c.eps_hat, c.t),
        data=("eps_conditional", "eps_hat"),
        roundings=SCALED,
        step=False,
    )


@pytest.mark.parametrize("by_scale", [False, True])
def test_classifier_free(agree, by_scale):
    """A sum, a product and a difference; with the scale its weight is rounded too."""

    def combined(c):
        weight = {"guidance_scale": 1 + c.guidance_weight} if by_scale else {"guidance_weight": c.guidance_weight}
        return reference.classifier_free(c.eps_conditional, c.eps_hat, **weight)

    agree.functions(
        "cfg_combination",
        "eps",
        combined,
        data=("eps_conditional", "eps_hat", "guidance_weight"),
        roundings=AFFINE + 2 * by_scale,
        step=False,
    )


def test_sharpened_normal_law(agree):
    """Of the law guidance/normal_target: the precision is a difference, whose condition is charged."""
    derivation = derive("cfg_combination")
    for c in agree.cases("mean1", "mean2", "fraction", "guidance_weight"):
        narrow, wide, w = c.fraction / 2 + 2.0**-10, 1.0 + c.fraction, abs(c.guidance_weight) / 2**4
        letters = {"mean1": c.mean1, "mean2": c.mean2, "variance1": narrow, "variance2": wide, "guidance_weight": w}
        precision, mean = (derivation.value(name, **_of_level(c), **letters) for name in ("precision", "mean"))
        got = reference.guided_normal(c.mean1, narrow, c.mean2, wide, guidance_weight=w)
        kept, taken = (1 + w) / narrow, w / wide
        condition = (kept + taken) / float(precision)
        size = (kept * abs(c.mean1) + taken * abs(c.mean2)) / float(precision)
        assert (
            abs(got[1] * precision - 1) <= float(gamma(4, U)) * condition * 1.0001
        )  # the terms of the bound are rounded
        assert abs(got[0] - mean) <= float(gamma(8, U)) * size * (1 + condition) / 2 * 1.0001


def _softmax_scale(v):
    shares = [
        1 / (1 + mpmath.exp(v["logit_other"] - v["logit_y"])),
        1 / (1 + mpmath.exp(v["logit_y"] - v["logit_other"])),
    ]
    size = abs(v["slope_y"]) + shares[0] * abs(v["slope_y"]) + shares[1] * abs(v["slope_other"])
    return size * (1 + 2 * max(abs(v["logit_y"]), abs(v["logit_other"])))


def test_gradient_of_a_log_softmax(agree):
    """Roundings and size of the law guidance/log_softmax_gradient, for two classes."""
    agree.functions(
        "classifier_gradient",
        "two_classes",
        lambda c: reference.log_softmax_gradient([[c.logit_y, c.logit_other]], [[[c.slope_y], [c.slope_other]]], [0])[
            0, 0
        ],
        data=("logit_y", "logit_other", "slope_y", "slope_other"),
        roundings=2 + 8,
        step=False,
        scale_of=_softmax_scale,
    )


# Roundings of a log density of the oracle: difference of state and mean 4, square, quotient and logarithm 8, the weight's one.
ODDS, SHARES = 16, 12


def test_gradient_for_two_normal_classes(agree):
    """The oracle for labelled data; an error of the log odds moves the share by share times complement times it."""
    derivation = derive("classifier_gradient")
    for c in agree.cases("mean1", "mean2", "fraction", "xt"):
        p, means = c.fraction / 2 + 0.25, (c.mean1 / 2**10, c.mean2 / 2**10)
        variances = (0.5 + c.fraction, 1.5 - c.fraction)
        letters = {"mean1": means[0], "mean2": means[1], "variance1": variances[0], "variance2": variances[1]}
        want = derivation.value("two_normal_classes", **_of_level(c), **letters, weight_1=p, xt=c.xt)
        data = Labelled([p, 1 - p], [Gaussian(m, v) for m, v in zip(means, variances, strict=True)])
        got = float(data.gradient(c.schedule, [c.xt], c.t, 0)[0])
        a, b = c.schedule.sqrt_alpha_bar[c.t], c.schedule.beta_bar[c.t]
        totals = [a**2 * v + b for v in variances]
        away = [abs(c.xt) + a * abs(m) for m in means]
        exponent = sum(d**2 / v for d, v in zip(away, totals, strict=True)) + 2
        slopes = sum(d / v for d, v in zip(away, totals, strict=True))
        apart = -(c.xt - a * means[0]) / totals[0] + (c.xt - a * means[1]) / totals[1]
        share = min(1.0, abs(float(want)) / max(abs(apart), FP64.tiny))  # of the other class; it may underflow
        relative = float(gamma(ODDS, U)) * exponent * 2 + float(gamma(SHARES, U))
        assert abs(got - want) <= relative * share * slopes + FP64.tiny * (1 + slopes)


# Roundings of a gradient of an observation of normal data: four entries of the level 2 each, two sums of variances 5 each, their
# products and quotients, the gain of the observation.
OBSERVED = 40


def test_gradient_of_an_observation(agree):
    derivation = derive("conditional_score_decomposition")
    for c in agree.cases("fraction", "observation", "xt", "eta"):
        tau2, rho2 = c.fraction + 2.0**-6, c.eta + 2.0**-4
        letters = {"data_variance": tau2, "observation_variance": rho2, "observation": c.observation}
        want = derivation.value("observed_gradient", **_of_level(c), **letters, xt=c.xt)
        data = GuidedGaussian.observed(Gaussian(0.0, tau2), c.observation, rho2)
        got = float(data.gradient(c.schedule, [c.xt], c.t)[0])
        mean, left = (derivation.value(f"observed_{name}", **_of_level(c), **letters) for name in ("mean", "variance"))
        a, b = c.schedule.sqrt_alpha_bar[c.t], c.schedule.beta_bar[c.t]
        narrow, wide = a**2 * float(left) + b, a**2 * tau2 + b
        size = a / narrow * (abs(float(mean)) + a * (tau2 + float(left)) / wide * abs(c.xt))
        assert abs(got - want) <= float(gamma(OBSERVED, U)) * size


def test_dropped_labels_are_as_many_as_expected():
    """Uniform numbers on a grid of n points: the count is n p to within one; and the labels that are kept are unchanged."""
    derivation, n = derive("cfg_condition_dropout"), 1000
    uniform, label = (np.arange(n) + 0.5) / n, np.arange(n) % 10
    for k in range(1, 100):
        p = k / 100
        dropped = reference.drop_condition(label, uniform, p, null_label=10)
        expected = derivation.value("expected", drop=Fraction(k, 100), examples=n)
        assert abs(int((dropped == 10).sum()) - expected) <= 1
        assert (dropped[dropped != 10] == label[dropped != 10]).all()


def test_scales(agree):
    derivation = derive("guidance_scale_conventions")
    for c in agree.cases("guidance_weight", "guidance_scale"):
        for result in ("classifier_scale", "guidance_scale"):
            assert reference.scale_from_weight(c.guidance_weight) == float(
                derivation.value(result, guidance_weight=c.guidance_weight)
            )
        want = derivation.value("weight", guidance_scale=c.guidance_scale)
        assert reference.weight_from_scale(c.guidance_scale) == float(want)


def test_names_mean_nothing_else(agree):
    """What guidance adds to the mean is the shift, at every point."""
    added, shift = derive("adm_names"), derive("classifier_guided_ddpm_step")
    for c in agree.cases("xt", "eps_hat", "gradient", "classifier_scale"):
        with mpmath.workdps(DIGITS):
            gap = added.value("added", **c.levels, **c.data) - shift.value("shift", **c.levels, **c.data)
            assert abs(gap) <= TRUSTED * (1 + abs(shift.value("mean", **c.levels, **c.data))) * 10**10


def test_a_wrong_reference_disagrees(agree):
    with pytest.raises(AssertionError, match="classifier_guided_eps"):  # E69
        agree.functions(
            "classifier_guided_eps",
            "eps",
            lambda c: reference.classifier_guided_eps(c.schedule, c.eps_hat, c.t, -c.gradient, c.classifier_scale),
            data=("eps_hat", "gradient", "classifier_scale"),
            roundings=SCALED,
            step=False,
        )
    with pytest.raises(AssertionError, match="cfg_combination"):  # E73
        agree.functions(
            "cfg_combination",
            "eps",
            lambda c: reference.classifier_free(c.eps_conditional, c.eps_hat, guidance_scale=c.guidance_weight),
            data=("eps_conditional", "eps_hat", "guidance_weight"),
            roundings=AFFINE,
            step=False,
        )


# --- independent ways ----------------------------------------------------------------------------------------------------


def test_the_mean_given_both_by_a_joint_normal_law(agree):
    """Unit data, two levels and an observation: covariances of the three, and a linear system in 60 digits."""
    derivation = derive("classifier_guided_eps")
    with mpmath.workdps(DIGITS):
        for c in agree.cases("xt", "observation", "fraction"):
            rho2 = Fraction(c.fraction) + Fraction(1, 2**10)
            letters = {"xt": c.xt, "observation": c.observation, "observation_variance": rho2}
            want = derivation.value("observed_mean", **c.levels, **letters)
            v = {name: exactly(value) for name, value in c.levels.items()}
            seen = mpmath.matrix(
                [[1, mpmath.sqrt(v["alpha_bar_t"])], [mpmath.sqrt(v["alpha_bar_t"]), 1 + exactly(rho2)]]
            )
            cross = mpmath.matrix([mpmath.sqrt(v["alpha"]), mpmath.sqrt(v["alpha_bar_s"])])
            weights = mpmath.lu_solve(seen, cross)
            found = weights[0] * exactly(c.xt) + weights[1] * exactly(c.observation)
            assert abs(found - want) < mpmath.mpf(10) ** -40 * (
                1 + abs(want)
            )  # the condition of the system is below 10^10


def test_a_normal_classifier_by_quadrature():
    """Mean and variance of the product of a step and of the classifier, integrated to 30 digits and trusted to 15."""
    with mpmath.workdps(30):
        mu, spread, a, b, seen, scale = (mpmath.mpf(x) for x in ("0.5", "0.25", "0.75", "0.5", "1.25", "2"))

        def product(x):
            return mpmath.exp(-((x - mu) ** 2) / (2 * spread) - scale * (seen - a * x) ** 2 / (2 * b))

        grid = mpmath.linspace(-6, 7, 14)
        moments = [mpmath.quad(lambda x, k=k: x**k * product(x), grid) for k in range(3)]
        letters = {
            "mean": 0.5,
            "variance": 0.25,
            "classifier_slope": 0.75,
            "classifier_variance": 0.5,
            "observation": 1.25,
        }
        found = derive("classifier_guided_mean_shift")
        levels = {name: Fraction(int(x.p), int(x.q)) for name, x in SCHEDULE.letters(2, 1).items()}
        mean, variance = (
            found.value(name, **levels, **letters, classifier_scale=2) for name in ("exact_mean", "exact_variance")
        )
        assert abs(moments[1] / moments[0] - mean) < TRUSTED_BY_QUADRATURE
        assert abs(moments[2] / moments[0] - mean**2 - variance) < TRUSTED_BY_QUADRATURE
        first_order = found.value(
            "mean", **levels, mean=0.5, variance=0.25, classifier_scale=2, gradient=0.75 * (1.25 - 0.375) / 0.5
        )
        assert abs((first_order - 0.5) / (mean - 0.5) - (1 + scale * a**2 * spread / b)) < TRUSTED_BY_QUADRATURE


def test_two_classes_by_numerical_derivatives():
    """The gradient of a log-probability written out, differentiated by mpmath."""
    with mpmath.workdps(30):
        levels = {name: Fraction(int(x.p), int(x.q)) for name, x in SCHEDULE.letters(2).items()}
        kept, lost = exactly(levels["alpha_bar_t"]), exactly(levels["beta_bar_t"])
        classes = [
            (mpmath.mpf("0.3"), mpmath.mpf(-1), mpmath.mpf("0.5")),
            (mpmath.mpf("0.7"), mpmath.mpf(2), mpmath.mpf("0.25")),
        ]

        def log_probability(x):
            masses = [w * mpmath.npdf(x, mpmath.sqrt(kept) * m, mpmath.sqrt(kept * v + lost)) for w, m, v in classes]
            return mpmath.log(masses[0] / mpmath.fsum(masses))

        letters = {"weight_1": Fraction(3, 10), "mean1": -1, "mean2": 2, "variance1": 0.5, "variance2": 0.25}
        for x in ("-1.5", "0.125", "2"):
            found = derive("classifier_gradient").value("two_normal_classes", **levels, **letters, xt=Fraction(x))
            assert abs(found - mpmath.diff(log_probability, mpmath.mpf(x))) < TRUSTED_BY_QUADRATURE


# --- where nothing is answered -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["conditional_score_decomposition", "classifier_guided_eps", "implicit_classifier_score", "cfg_combination"]
)
def test_clean_data_have_no_noise_to_guide(name):
    derivation = derive(name)
    (result, *_) = derivation.results
    with pytest.raises(RangeError, match="at t = 0 there is no noise to guide"):
        derivation.value(result, **(dict.fromkeys(derivation.letters(result), 1) | {"beta_bar_t": 0}))


@pytest.mark.parametrize("name", ["classifier_guided_ddpm_step", "classifier_guided_ddim_step"])
def test_no_step_in_noise_form_without_signal(name):
    with pytest.raises(LevelError, match=r"zero terminal SNR.*\(asked at t = 2, s = 1\)"):
        derive(name).at(ZERO_SNR, 2, 1, xt=1, eps_hat=1, gradient=1, classifier_scale=1, noise=1, eta=0)


def test_labels_are_sometimes_dropped_and_sometimes_not():
    for p in (0, 1):
        with pytest.raises(RangeError, match="give 0 < p < 1"):
            derive("cfg_condition_dropout").value("expected", drop=p, examples=10)
    with pytest.raises(RangeError, match="at t = 0 there is no step back"):
        derive("classifier_guided_mean_shift").value("ratio_large", alpha=1, beta_bar_t=0)


# --- steps that do not follow --------------------------------------------------------------------------------------------


def test_a_wrong_step_is_not_written():
    step, scales = derive("classifier_guided_ddpm_step").results, derive("guidance_scale_conventions").results
    shift = derive("classifier_guided_mean_shift").results
    free = derive("cfg_combination").results["eps"]
    wrong = {
        "E67, the root of the noise for beta": (step["shift"], step["shift"] * sp.sqrt(beta_bar_t) / beta),
        "E68, the bracket for the mean": (sp.diff(step["mean"], xt), sp.Integer(1)),
        "E69, the other sign": (
            derive("classifier_guided_eps").results["eps"],
            eps_hat + classifier_scale * sp.sqrt(beta_bar_t) * gradient,
        ),
        "E72, one shift for the other": (shift["ratio_small"], sp.Integer(1)),
        "E73, one scale for the other": (scales["classifier_scale"], guidance_weight),
        "E74, probability for its logarithm": (
            derive("classifier_gradient").results["two_classes"],
            derive("classifier_gradient").results["two_classes"] / 2,
        ),
        "conditional and unconditional exchanged": (
            free, free.subs({eps_conditional: eps_hat, eps_hat: eps_conditional}, simultaneous=True)
        ),
        "first order for the product": (shift["exact_variance"], variance),
    }  # fmt: skip
    for says, (left, right) in wrong.items():
        with pytest.raises(ProofError, match="it is false"):
            Proof("wrong").equal(says, left, right)
