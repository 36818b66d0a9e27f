"""The damage figures of the errata: computed live, they are the known ones in every digit."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate

from ddpm_ref.errata import ERRATA, Erratum, Figure
from ddpm_ref.errata.demonstrations import setting
from ddpm_ref.errata.demonstrations.ancestral import POINTS, WEIGHTS, with_variance_for_deviation
from ddpm_ref.errata.demonstrations.basins import end_weights
from ddpm_ref.errata.demonstrations.medians import border, share_at_one
from ddpm_ref.errata.demonstrations.setting import linear, mean_of, total_variation_from_standard
from ddpm_ref.errata.record import figure, figures, numbers
from ddpm_ref.errors import RangeError
from ddpm_ref.reference import plan
from ddpm_ref.reference.forward import q_mean_variance

EACH = pytest.mark.parametrize("erratum", ERRATA.values(), ids=ERRATA)


# What is known, written down here once more and apart from the demonstrations, so that none can drop out of them unnoticed.
KNOWN = {
    "E01": "0.13786 0.29345 1.00000 0.08673 0.95990 122 52.7 100 7.07",
    "E02": "1.00000 0.10298 0.498 0.353 0.115 0.0231",
    "E03": "0.0909 0.1994 0.2800 1.00000",
    "E04": "9.000 3.000 0.01964 0.00270 7.3",
    "E05": "0.738 0.142 0.104 0.141 71.8 60.4 -36.7",
    "E06": "1.000 0.000",
    "E07": "2.018e-05 2.53e-03",
    "E08": "-10.11771354 -10.05 4.03583e-05 12.5 7.0",
    "E09": "998 0.75 0.999",
    "E10": "1.2214",
    "E11": "1.11 1.88 11.2 54.3 49.9 3.13 0.994",
    "E12": "0.642 213",
    "E13": "5.2 27.4 71.8 94.2 99.4 0.2896 0.198 0.104 0.9955",
    "E14": "135 22.2 9.98 7.07",
    "E15": "1.4351 0.6968 2.0752 0.4819",
    "E16": "148 19.1 0.846 0.0613",
    "E17": "9168 245 49.3",
    "E18": "-24.8 -12.5 -1.8 -0.09",
    "E19": "0.738 0.134 0.0294 0.00091 0.0000000000000",
    "E20": "2.199 1.173 1.018 1.0009 0.671",
    "E21": "0.00635282 0.00158825 6.35e-05",
    "E22": "135 9.98 7.07",
    "E23": "135 9.98 7.07",
    "E24": "83.6 0.0 1.4189 1.4189 7.7914",
    "E25": "7.7914 -1.4189 4.6052",
    "E26": "2.000 170.9",
    "E27": "0.2055 0.1214 1.69 0.6707 0.4864 2.199",
    "E28": "4.6052 1.4189",
    "E29": "123.7 154.7 95.1 49.5 49.5 158.9",
    "E30": "0.5997 0.00498 0.0102 120 18.4 0.9 0.571 0.807",
    "E31": "0.0786 0.0000",
    "E32": "5.0700 5.0700 1.00e-04 24777",
    "E33": "0.9599 0.0000 0.0786 1.0000",
    "E34": "500.5 1.0",
    "E35": "1.00000 0.00784",
    "E36": "2.51 2.40 27.7 1.61 1.88 17.3",
    "E37": "1 0.50005 0.59967",
    "E38": "0.0005005 0.0010010 0.0000000",
    "E39": "0 1",
    "E40": "0.0747 0.0296 0.00295 0.9955 0.4961 0.0963 0.1107 0.0254 0.4434 0.000 0.828 0.172 0.000",
    "E41": "1.99",
    "E42": "2.199 1.636 1.173 1.018 1.0009 0.99552 0.99995 0.09631 0.10077",
    "E43": "1.01009 0.01004",
    "E44": "0.998124 0.498495",
    "E45": "0.00635",
    "E46": "0.00635 2.66",
    "E47": "0.50 0.6057 0.9981 0.3957 0.4985 0.5895 0.9636",
    "E48": "0.98036 0.99996 0.0747 0.9955 0.297 0.926",
    "E49": "3.16 2.24 1.41 1.12",
    "E50": "0.947 0.471 0.576 0.0742 0.28175 0.30951 0.44175 0.997",
    "E51": "0.000000000000000 0.25 1.199e-04",
    "E52": "0.239 0.139",
    "E53": "0.00000000000",
    "E54": "10.80 0.9214 24776 0.99996 0.0118 0.1030 2.483 0.947 1.293 0.997 1.0151 0.99995 1.172 0.947 0.1164 0.0796",
    "E55": "0.000000000",
    "E56": "1.000 0.359 0.0477 0.419 1.000 1.1e-07 0.00486",
    "E57": "0.9214 0.01003 91.9",
    "E58": "3.70 0.921 -0.547 0.605 -0.200 0.187 0.876 0.951 0.974 0.992",  # 0.951: 0.952 of the samples below
    "E59": "-1.085",
    "E60": "9999 9.20 0.304 0.00635",
    "E61": "0.0747 0.9955",
    "E62": "-0.115 -0.21",
    "E63": "1",
    "E64": "75",
    "E65": "1050 50",
    "E66": "-1.347 0.921",
    "E67": "100 124 155 95.6 50.0 159 1.000 0.029 0.8 0.447",
    "E68": "0.5 1.0",
    "E69": "-3.97 3.19 -2.20 2.23",
    "E70": "1",
    "E71": "0.79929 0.80121 0.76976 0.85072 0.71743 0.93234 0.79999 0.79999 0.79999",
    "E72": "1.005 1.010 2.199 1.173 1.006",
    "E73": "0.447 0.333",
    "E74": "0.01",
    "E75": "0.302 0.762",
    "E76": "1.00 0.00 0.50 0.50",
}


@EACH
def test_every_digit_is_reproduced(erratum: Erratum) -> None:
    assert [each.live for each in erratum.figures()] == [each.printed for each in erratum.figures()]
    assert all(each.holds for each in erratum.figures())


@EACH
def test_no_known_figure_is_missing(erratum: Erratum) -> None:
    shown = [each.live for each in erratum.figures()]
    for known in KNOWN[erratum.id].split():
        assert known in shown
        shown.remove(known)


def test_a_figure_that_is_off_by_one_digit_does_not_hold() -> None:
    wrong = [
        each._replace(value=each.value + 10.0 ** -len(each.printed.partition(".")[2]))
        for each in itertools.chain.from_iterable(erratum.figures() for erratum in ERRATA.values())
    ]
    assert wrong
    assert not any(each.holds for each in wrong)


@pytest.mark.parametrize(
    ("value", "printed"), [(0.137864, "0.13786"), (2.0179e-5, "2.018e-05"), (-1e-18, "0.000"), (121.6, "122")]
)
def test_a_figure_is_written_like_the_known_one(value: float, printed: str) -> None:
    assert figure("what", value, printed).live == printed
    assert figure("what", value, printed).holds


def test_figures_need_one_known_number_per_level() -> None:
    assert figures("what", [1, 2], "1 2", levels=[3, 4])[1] == Figure("what", "t = 4", 2.0, "2")
    with pytest.raises(ValueError, match="zip"):
        figures("what", [1, 2], "1", levels=[3, 4])


@EACH
def test_the_damage_in_one_phrase_states_figures_only(erratum: Erratum) -> None:
    """Every number of the phrase is a figure, or says at which point one was taken."""
    known = {float(each.printed) for each in erratum.figures()}
    points = set(numbers(" ".join(f"{each.says} {each.where}" for each in erratum.figures())))
    loose = [number for number in numbers(erratum.damage) if float(number) not in known and number not in points]
    assert not loose
    assert numbers(erratum.damage) or erratum.id == "E09"


# From 40 000 samples that were drawn once, in the same order as the points.
DRAWN = {"as written": (0.000, 0.828, 0.172, 0.000), "right": (0.0987, 0.4012, 0.2002, 0.2999)}


@pytest.mark.parametrize("which", DRAWN)
def test_shares_of_four_points_are_those_of_samples(which: str) -> None:
    """Hoeffding's inequality for the eight shares, with family-wise level 10^-9."""
    allowed = np.sqrt(np.log(2 * 8 / 1e-9) / (2 * 40_000))
    shares = [each.value for each in ERRATA["E40"].figures() if each.says == f"share of samples, {which}"]
    assert sum(shares) == pytest.approx(1, abs=8 * 2**-53)  # NUMERICS 5, sums: four numbers, each a difference
    assert np.abs(np.array(shares) - DRAWN[which]).max() < allowed
    other = DRAWN["right" if which == "as written" else "as written"]
    assert np.abs(np.array(shares) - other).max() > allowed


# From 200 000 samples that were drawn once.
DRAWN_AT_ONE = {
    ("0.8", "ancestral"): 0.876,
    ("0.8", "DDIM"): 0.952,
    ("0.95", "ancestral"): 0.974,
    ("0.95", "DDIM"): 0.992,
}


def test_shares_with_the_median_are_those_of_samples() -> None:
    """Hoeffding's inequality for the four shares, with family-wise level 10^-9, and the rounding of what is known."""
    allowed = np.sqrt(np.log(2 * 4 / 1e-9) / (2 * 200_000)) + 0.0005
    shares = {each.where: each.value for each in ERRATA["E58"].figures() if each.says.startswith("share of samples")}
    for (p, sampler), drawn in DRAWN_AT_ONE.items():
        assert abs(shares[rf"$p = {p}$, {sampler}"] - drawn) < allowed
        assert abs(float(p) - drawn) > 2 * allowed


def test_shares_with_the_median_are_known_by_symmetry_and_where_a_step_is_short_of_nothing() -> None:
    """Equal odds stay equal, on another grid too; one step leads where the border of its level says, two by a sum."""
    H = linear()
    rows = plan.ancestral(H, setting.every_level(20), form="x0")
    assert [f"{share_at_one(rows, 0.5, nodes):.9f}" for nodes in (161, 201)] == ["0.500000000"] * 2
    jump = plan.ddim(H, (500, 0), form="x0")
    assert share_at_one(jump, 0.8) == pytest.approx(setting.normal_cdf(-border(H, 500, 0.8)), rel=8 * 2**-52)
    # From 500 over 100: the state at 100 is a sum of two normal numbers on either side of the border at 500.
    (_, _, from_x, from_x0, std), _ = plan.ancestral(H, (500, 100, 0), form="x0").rows()
    edge, last = border(H, 500, 0.8), border(H, 100, 0.8)

    def above(x: float) -> float:
        return setting.normal_cdf((from_x * x + np.copysign(from_x0, x - edge) - last) / std) * normal(0.0, 1.0)(x)

    exact = integrate.quad(above, -9, edge, epsabs=1e-12)[0] + integrate.quad(above, edge, 9, epsabs=1e-12)[0]
    assert f"{share_at_one(plan.ancestral(H, (500, 100, 0), form='x0'), 0.8):.6f}" == f"{exact:.6f}"


def test_shares_do_not_depend_on_the_grid() -> None:
    """All digits shown are there with a grid of other nodes too."""
    chain = with_variance_for_deviation(plan.ancestral(linear(), setting.every_level(), form="x0"))
    shown = [each.live for each in ERRATA["E40"].figures() if each.says == "share of samples, as written"]
    assert [f"{share:.3f}" for share in end_weights(chain, POINTS, WEIGHTS, nodes=161)] == shown


def test_shares_of_two_points_are_known_by_symmetry_and_by_a_single_border() -> None:
    """Equal odds stay equal; and a jump to points 1 and -1 leads above 0 with the probability that the state is positive."""
    two = np.array([-1.0, 1.0])
    for rows in (
        plan.ancestral(linear(), setting.every_level(20), form="x0"),
        plan.ddim(linear(), (1000, 0), form="x0"),
    ):
        assert [f"{share:.9f}" for share in end_weights(rows, two, np.array([0.5, 0.5]))] == ["0.500000000"] * 2
    # With other odds the jump is at 0 where the log odds of the state vanish: 2 sqrt(alpha_bar) x / beta_bar + log(3) = 0.
    H = linear()
    border = -np.log(3) * H.beta_bar[500] / (2 * H.sqrt_alpha_bar[500])
    shares = end_weights(plan.ddim(H, (500, 0), form="x0"), two, np.array([0.25, 0.75]))
    assert f"{shares[0]:.6f}" == f"{setting.normal_cdf(float(border)):.6f}"


def test_a_border_that_is_lost_is_told() -> None:
    """Steps that do not ascend have no border to follow."""
    rows = plan.ancestral(linear(), setting.every_level(100), form="x0")
    with pytest.raises(RangeError, match="the border between two points was lost in the step from t = "):
        end_weights(replace(rows, x=-8 * rows.x - 1), POINTS, WEIGHTS)


# --- the means of the demonstrations ------------------------------------------------------------------------------------


def test_the_schedule_is_the_linear_one_of_the_paper(lin1000) -> None:
    assert linear().digest == lin1000.digest
    assert linear().T == setting.T == len(setting.downwards()) == setting.every_level().steps
    assert setting.every_level(20).levels == linear().trajectory(50, "trailing").levels


def test_quadrature_is_exact_for_polynomials() -> None:
    # Moments of the standard normal law: 1, 0, 1, 0, 3, 0, 15, ...; here the 14th, 13!!. NUMERICS 5, sums: 64 terms.
    double_factorial = np.prod(np.arange(1.0, 14.0, 2.0))
    assert mean_of(lambda x, y: x**14 + 0 * y) == pytest.approx(double_factorial, rel=64 * 2**-52)  # sums: 64 terms
    assert mean_of(lambda x, y: x**2 * y**2) == pytest.approx(1.0, rel=64 * 2**-52)  # sums: 64 terms


def total_variation(density, other) -> float:
    return integrate.quad(lambda x: abs(density(x) - other(x)), -12, 12, limit=400, points=[-1, 0, 1])[0] / 2


def normal(mean, variance):
    return lambda x: np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)


def test_total_variation_in_closed_form_agrees_with_quadrature() -> None:
    mean, variance = (float(moment) for moment in q_mean_variance(linear(), 1.0, 1000))
    quadrature = total_variation(normal(mean, variance), normal(0.0, 1.0))
    assert f"{total_variation_from_standard(mean, variance):.7f}" == f"{quadrature:.7f}"
    for t in (100, 250, 500, 750):
        (up, variance), (down, _) = q_mean_variance(linear(), 1.0, t), q_mean_variance(linear(), -1.0, t)
        plus, minus = normal(float(up), float(variance)), normal(float(down), float(variance))
        quadrature = total_variation(lambda x, p=plus, m=minus: (p(x) + m(x)) / 2, plus)
        (shown,) = [each for each in ERRATA["E02"].figures() if each.where == f"t = {t}" and "distance" in each.says]
        assert f"{shown.value:.7f}" == f"{quadrature:.7f}"
