"""Divergences: the reference against the integrated forms, and these against quadrature."""

from __future__ import annotations

import random
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy as sp

from ddpm_ref.errors import ProofError, RangeError
from ddpm_ref.laws.divergence import VARIANCE_FORM
from ddpm_ref.reference import divergence as reference
from ddpm_ref.symbolic import Proof, derive
from ddpm_ref.symbolic.divergence import SCALAR
from ddpm_ref.symbolic.symbols import mean1, mean2, variance1, variance2

MOMENTS = ("mean1", "variance1", "mean2", "variance2")
COVARIANCES = tuple(f"S{law}_{entry}" for law in (1, 2) for entry in ("11", "21", "22"))


def _scalar_scale(v):
    # Of the law divergence/kl_normal: ratio, one, logarithm and the distance.
    ratio = v["variance1"] / v["variance2"]
    return (ratio + 1 + abs(mpmath.log(ratio))) / 2 + (v["mean1"] - v["mean2"]) ** 2 / (2 * v["variance2"])


def test_one_component(agree):
    agree.functions(
        "kl_gaussian_full",
        "scalar",
        lambda c: reference.kl_normal(c.mean1, c.variance1, c.mean2, c.variance2),
        data=MOMENTS,
        positive=("variance1", "variance2"),
        roundings=VARIANCE_FORM,
        scale_of=_scalar_scale,
    )


def _matrices(letters):
    """Means and covariances of both laws as arrays; the letters are floats."""
    v = {name: float(value) for name, value in letters.items()}
    return [
        moment
        for k in (1, 2)
        for moment in (
            np.array([v[f"mean{k}_1"], v[f"mean{k}_2"]]),
            np.array([[v[f"S{k}_11"], v[f"S{k}_21"]], [v[f"S{k}_21"], v[f"S{k}_22"]]]),
        )
    ]


def _draw_planar(draw: random.Random) -> dict[str, float | Fraction]:
    """Covariances from triangular factors of 12 bits, so that their entries are floats exactly."""
    letters: dict[str, float | Fraction] = {
        f"mean{k}_{i}": draw.randint(-(2**12), 2**12) / 2**8 for k in (1, 2) for i in (1, 2)
    }
    for k in (1, 2):
        a, b, c = draw.randint(1, 2**10), draw.randint(-(2**10), 2**10), draw.randint(1, 2**10)
        letters |= {f"S{k}_{name}": n / 2**16 for name, n in (("11", a * a), ("21", a * b), ("22", b * b + c * c))}
    return letters


def _planar_scale(v):
    # The condition-number rule of the law divergence/kl_normal_full (derived in docs/divergence.md), for d = 2.
    d, (m1, c1, m2, c2) = 2, _matrices(v)
    kappa1, kappa2 = np.linalg.cond(c1), np.linalg.cond(c2)
    terms = np.trace(np.linalg.solve(c2, c1)) + (m2 - m1) @ np.linalg.solve(c2, m2 - m1)
    logs = abs(np.linalg.slogdet(c1)[1]) + abs(np.linalg.slogdet(c2)[1])
    solves = 2 * d * kappa2 + 4 * d * np.sqrt(kappa2) + d**2
    return float((d**2 * (kappa1 + kappa2) + solves * terms + logs + d) / 2)


def test_two_components(agree):
    agree.arguments(
        "kl_gaussian_full",
        "planar",
        _draw_planar,
        lambda letters: reference.kl_normal_full(*_matrices(letters)),
        roundings=2 + 5,
        scale_of=_planar_scale,
    )


def _logvar_scale(v):
    # Of the law divergence/kl_normal_logvar: an exponential enters with its condition number.
    delta = v["logvar1"] - v["logvar2"]
    spread = ((1 + abs(delta)) * mpmath.exp(delta) + 1 + abs(delta)) / 2
    return spread + (v["mean1"] - v["mean2"]) ** 2 * mpmath.exp(-v["logvar2"]) / 2


def test_log_variances(agree):
    agree.functions(
        "kl_gaussian_diagonal",
        "divergence",
        lambda c: reference.kl_normal_logvar(c.mean1, c.logvar1, c.mean2, c.logvar2),
        data=("mean1", "logvar1", "mean2", "logvar2"),
        roundings=10,
        scale_of=_logvar_scale,
    )


def _draw_vectors(draw: random.Random) -> dict[str, float | Fraction]:
    letters: dict[str, float | Fraction] = {
        f"{m}_{i}": draw.randint(-(2**20), 2**20) / 2**16 for m in "ab" for i in range(3)
    }
    letters |= {f"variance{k}": draw.randint(1, 2**20) / 2 ** draw.choice((12, 20, 26)) for k in (1, 2)}
    distance = sum((Fraction(letters[f"a_{i}"]) - Fraction(letters[f"b_{i}"])) ** 2 for i in range(3))
    return letters | {"squared_distance": Fraction(distance), "d": 3}


def test_isotropic(agree):
    def scale_of(v):
        ratio = v["variance1"] / v["variance2"]
        return 3 * (ratio + 1 + abs(mpmath.log(ratio))) / 2 + v["squared_distance"] / (2 * v["variance2"])

    agree.arguments(
        "kl_gaussian_isotropic",
        "divergence",
        _draw_vectors,
        lambda v: reference.kl_normal_isotropic(
            [v[f"a_{i}"] for i in range(3)], v["variance1"], [v[f"b_{i}"] for i in range(3)], v["variance2"]
        ),
        roundings=VARIANCE_FORM + 3,
        scale_of=scale_of,
    )


def test_matched_covariance(agree):
    agree.functions(
        "kl_matched_covariance",
        "divergence",
        lambda c: reference.kl_normal_matched(c.mean1, c.mean2, c.variance),
        data=("mean1", "mean2", "variance"),
        positive=("variance",),
        roundings=7,
        # Of the law divergence/kl_normal_matched: nothing cancels after the difference of the means.
        scale_of=lambda v: (v["mean1"] - v["mean2"]) ** 2 / (2 * v["variance"]),
    )


def test_a_wrong_reference_disagrees(agree):
    with pytest.raises(AssertionError, match="kl_gaussian_full"):  # E27: the arguments exchanged
        agree.functions(
            "kl_gaussian_full",
            "scalar",
            lambda c: reference.kl_normal(c.mean2, c.variance2, c.mean1, c.variance1),
            data=MOMENTS,
            positive=("variance1", "variance2"),
            roundings=VARIANCE_FORM,
            scale_of=_scalar_scale,
        )
    with pytest.raises(AssertionError, match="planar"):
        agree.arguments(
            "kl_gaussian_full",
            "planar",
            _draw_planar,
            lambda letters: reference.kl_normal_full(*_matrices(letters)) + 1,
            roundings=2 + 5,
            scale_of=_planar_scale,
        )


# --- independent integrals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "letters", [(0, 1, 0, 2), (1, 0.5, -0.5, 0.75), (2, 3, 1, 0.25), (0.25, 0.125, 0.25, 0.126953125)]
)
def test_one_component_by_quadrature(letters):
    with mpmath.workdps(30):
        m1, v1, m2, v2 = map(mpmath.mpf, letters)

        def log_density(x, m, v):
            return -(mpmath.log(2 * mpmath.pi * v) + (x - m) ** 2 / v) / 2

        def integrand(x):
            return mpmath.exp(log_density(x, m1, v1)) * (log_density(x, m1, v1) - log_density(x, m2, v2))

        integral = mpmath.quad(integrand, [m1 + k * mpmath.sqrt(v1) for k in range(-14, 15, 2)])
        derived = derive("kl_gaussian_full").value("scalar", **dict(zip(MOMENTS, letters, strict=True)))
        # Quadrature is carried to 30 digits; what it returns is trusted to 20 of them.
        assert abs(integral - derived) < mpmath.mpf(10) ** -20


def test_two_components_by_the_chain_rule():
    """Divergence of the joint laws = of the first components + expected of the second given the first, all in exact numbers."""
    draw = random.Random(3)
    for _ in range(50):
        letters = {name: Fraction(value) for name, value in _draw_planar(draw).items()}
        scalar, planar = (
            (lambda *v: derive("kl_gaussian_full").value("scalar", **dict(zip(MOMENTS, v, strict=True)))),
            None,
        )
        m1, m2 = ([letters[f"mean{k}_{i}"] for i in (1, 2)] for k in (1, 2))
        first, second = ({e: letters[f"S{k}_{e}"] for e in ("11", "21", "22")} for k in (1, 2))
        slope1, slope2 = first["21"] / first["11"], second["21"] / second["11"]
        rest1, rest2 = (c["22"] - c["21"] ** 2 / c["11"] for c in (first, second))
        # Given x_1 the second means differ by an affine function of x_1, whose square is averaged under the first law.
        offset = (m1[1] - m2[1]) - slope2 * (m1[0] - m2[0])
        conditional = scalar(0, rest1, 0, rest2)
        planar = derive("kl_gaussian_full").value("planar", **letters)
        with mpmath.workdps(60):
            square = offset**2 + (slope1 - slope2) ** 2 * first["11"]
            spread = mpmath.mpf(square.numerator) / square.denominator / 2
            chain = scalar(m1[0], first["11"], m2[0], second["11"]) + conditional
            total = chain + spread * rest2.denominator / rest2.numerator
            # Sixty digits are carried, and at most a few are lost in a sum of five terms.
            assert abs(total - planar) < mpmath.mpf(10) ** -50 * (1 + abs(planar))


def test_nearly_equal_laws_are_quadratic_in_the_log_variances():
    with mpmath.workdps(60):
        for k in (4, 8, 12):
            delta = Fraction(1, 10**k)
            value = derive("kl_gaussian_diagonal").value("divergence", mean1=0, mean2=0, logvar1=delta, logvar2=0)
            ratio = value / (mpmath.mpf(1) / 10 ** (2 * k) / 4)
            assert 0 < ratio - 1 < mpmath.mpf(10) ** -k  # the next term is a third of delta times this one


def test_dimensions_add_up():
    one = derive("kl_gaussian_full").value("scalar", mean1=1, mean2=0, variance1=Fraction(1, 3), variance2=2)
    letters = {"variance1": Fraction(1, 3), "variance2": 2, "squared_distance": 7, "d": 7}
    with mpmath.workdps(60):
        assert abs(derive("kl_gaussian_isotropic").value("divergence", **letters) - 7 * one) < mpmath.mpf(10) ** -55


# --- where nothing is answered ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "letters"),
    [
        ("kl_gaussian_full", {"mean1": 0, "mean2": 0, "variance1": 0, "variance2": 1}),
        ("kl_gaussian_full", {"mean1": 0, "mean2": 0, "variance1": 1, "variance2": 0}),
        ("kl_gaussian_isotropic", {"d": 2, "squared_distance": 0, "variance1": 0, "variance2": 1}),
        ("kl_matched_covariance", {"mean1": 0, "mean2": 1, "variance": 0}),
    ],
)
def test_a_variance_of_0_is_refused(name, letters):
    result = "scalar" if name == "kl_gaussian_full" else "divergence"
    with pytest.raises(RangeError, match=rf"{name}: .* of variance 0 (is a point|are points)"):
        derive(name).value(result, **letters)


@pytest.mark.parametrize(("law", "k"), [("first", 1), ("second", 2)])
def test_a_covariance_that_is_none_is_refused(law, k):
    good = dict(zip(COVARIANCES, (1, 0, 1, 1, 0, 1), strict=True)) | {f"mean{j}_{i}": 0 for j in (1, 2) for i in (1, 2)}
    assert derive("kl_gaussian_full").value("planar", **good) == 0
    with pytest.raises(RangeError, match=f"the {law} covariance is not positive definite: its determinant"):
        derive("kl_gaussian_full").value("planar", **good | {f"S{k}_21": 1})
    with pytest.raises(RangeError, match=f"the {law} covariance is not positive definite: a variance in it"):
        derive("kl_gaussian_full").value("planar", **good | {f"S{k}_11": -1, f"S{k}_22": -1})


# --- steps that do not follow -----------------------------------------------------------------------------------------


def test_a_wrong_step_is_not_written():
    exchanged = {mean1: mean2, mean2: mean1, variance1: variance2, variance2: variance1}
    wrong = {
        "E27, arguments exchanged": SCALAR.subs(exchanged, simultaneous=True),
        "half forgotten": 2 * SCALAR,
        "standard deviation for variance": SCALAR.subs({variance1: variance1**2, variance2: variance2**2}),
        "distance in units of the first law": SCALAR + (mean1 - mean2) ** 2 * (1 / variance1 - 1 / variance2) / 2,
        "dimension not subtracted": SCALAR + sp.Rational(1, 2),
    }
    derived = derive("kl_gaussian_full").results["scalar"]
    for says, expression in wrong.items():
        with pytest.raises(ProofError, match="it is false"):
            Proof("wrong").equal(says, derived, expression)
    Proof("right").equal("as published", derived, SCALAR)
