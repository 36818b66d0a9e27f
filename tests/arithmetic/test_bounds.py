"""The bounds are sound (NUMERICS 6.1), sharp (6.2), and bite: with one rounding too few charged, correct code breaks them."""

from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest

from ddpm_ref.arithmetic import FORMATS, Claim, DoubleDouble, Expected, Machine, gamma
from ddpm_ref.errors import ClaimError

CLAIMS = [Claim("fp32"), Claim("fp16"), Claim("bf16"), Claim("bf16", "fp32"), Claim("fp16", "fp32")]
TERMS = (2, 3, 5)
SHARP = 0.3  # rule: NUMERICS section 6.2


def draw(rng, claim, n, m):
    """``m`` coefficients and values, half of them nearly cancelling in the last term, an eighth tiny in magnitude."""
    form = claim.storing
    coefficients = [rng.uniform(1, 2, n) * 2.0 ** rng.integers(-7, 4, n) for _ in range(m)]
    values = [rng.standard_normal(n) for _ in range(m)]
    rest = sum(c * v for c, v in zip(coefficients[:-1], values[:-1], strict=True))
    cancelling = np.arange(n) % 2 == 0
    values[-1] = np.where(cancelling, -rest / coefficients[-1] * (1 + rng.standard_normal(n) * form.u), values[-1])
    # tiny values reach the subnormal numbers of the format, where k eta is all that the bound has
    size = np.where(np.arange(n) % 8 == 1, 2.0 ** (form.min_exponent - rng.integers(0, form.precision, n)), 1.0)
    return coefficients, [form.round(v * size) for v in values]


def exact_sum(coefficients, values):
    products = [DoubleDouble.of(c) * v for c, v in zip(coefficients, values, strict=True)]
    return sum(products[1:], products[0])


def lincomb_ratios(rng, claim, fused, m, n, roundings):
    """Error over bound of ``n`` emulated sums of ``m`` terms in each of up to six orders."""
    coefficients, values = draw(rng, claim, n, m)
    scale = sum(np.abs(c * v) for c, v in zip(coefficients, values, strict=True))
    expected = Expected(exact_sum(coefficients, values), scale, roundings)
    orders = list(permutations(range(m)))
    machine = Machine(claim.computing, fused)
    ratios = []
    for order in rng.permutation(len(orders))[:6]:
        terms = orders[order]
        total = machine.lincomb([coefficients[i] for i in terms], [values[i] for i in terms])
        ratios.append(expected.error_over_bound(claim.storing.round(total), claim))
    return np.concatenate(ratios)


def x0_ratios(rng, claim, fused, n, roundings):
    """``(x - sigma eps) / alpha`` by division and by a rounded reciprocal.

    No tiny inputs: a product that underflows loses up to half of eta, which the division by alpha magnifies beyond k eta.
    """
    machine, form = Machine(claim.computing, fused), claim.storing
    angle = rng.uniform(0.02, np.pi / 2 - 0.02, n)
    alpha, sigma = np.cos(angle), np.sin(angle)
    eps = form.round(rng.standard_normal(n))
    x = np.where(np.arange(n) % 2 == 0, sigma * eps * (1 + rng.standard_normal(n) * form.u), rng.standard_normal(n))
    x = form.round(x)
    value = (DoubleDouble.of(x) - DoubleDouble.of(sigma) * eps) / DoubleDouble.of(alpha)
    expected = Expected(value, (np.abs(x) + sigma * np.abs(eps)) / alpha, roundings)
    s, a = claim.computing.round(sigma), claim.computing.round(alpha)
    difference = machine.multiply_add(-s, eps, x)
    results = [machine.divide(difference, a), machine.multiply(difference, claim.computing.round(1 / alpha))]
    return np.concatenate([expected.error_over_bound(form.round(r), claim) for r in results])


def worst_ratios(n, seed=0):
    """Worst ratio of every claim, fused or not, for every expression; and the number of results compared."""
    worst, count = {}, 0
    for claim in CLAIMS:
        for fused in (False, True):
            rng = np.random.default_rng(seed)
            kinds = {f"{m} terms": lincomb_ratios(rng, claim, fused, m, n, m + 1) for m in TERMS}
            kinds["x0"] = x0_ratios(rng, claim, fused, n, 5)
            for kind, ratios in kinds.items():
                worst[str(claim), fused, kind] = float(ratios.max())
                count += ratios.size
    return worst, count


def check_sound_and_sharp(worst):
    assert max(worst.values()) <= 1, [key for key, ratio in worst.items() if ratio > 1]
    assert min(worst.values()) >= SHARP, [key for key, ratio in worst.items() if ratio < SHARP]


def test_bounds_are_sound_and_sharp_in_every_order(capsys):
    worst, count = worst_ratios(1500)
    with capsys.disabled():
        print(
            f"\n{count} emulated results, worst error over bound {max(worst.values()):.3f}, bluntest {min(worst.values()):.3f}"
        )
    assert count >= 200_000
    check_sound_and_sharp(worst)


@pytest.mark.full
def test_bounds_are_sound_and_sharp_over_a_million_draws(capsys):
    worst, count = worst_ratios(20_000, seed=1)
    with capsys.disabled():
        print(f"\n{count} emulated results")
        for key, ratio in worst.items():
            print(*key, f"{ratio:.3f}")
    assert count >= 1_000_000
    check_sound_and_sharp(worst)


@pytest.mark.parametrize("name", ["fp32", "fp16", "bf16"])
def test_one_rounding_too_few_is_noticed(name):
    """Planted: k = m instead of m + 1. Unfused code of two terms then leaves the bound, so the test above can fail."""
    ratios = lincomb_ratios(np.random.default_rng(2), Claim(name), False, 2, 20_000, 2)
    assert ratios.max() > 1


@pytest.mark.parametrize("name", ["fp32", "fp16", "bf16"])
def test_scale_without_absolute_values_is_noticed(name):
    """Planted: S = |value|. Cancellation is then not charged and correct code leaves the bound."""
    rng = np.random.default_rng(3)
    claim = Claim(name)
    coefficients, values = draw(rng, claim, 2000, 2)
    value = exact_sum(coefficients, values)
    got = Machine(claim.computing).lincomb(coefficients, values)
    assert Expected(value, np.abs(value.high), 3).error_over_bound(got, claim).max() > 1


def test_a_coefficient_off_by_a_quarter_of_a_percent_is_noticed_in_bf16():
    """What the bound of a fused bf16 kernel is for: `assert_close` with its 1.6 % lets it pass."""
    rng = np.random.default_rng(4)
    claim = Claim("bf16", "fp32")
    coefficients, values = draw(rng, claim, 2000, 2)
    scale = sum(np.abs(c * v) for c, v in zip(coefficients, values, strict=True))
    wrong = Machine(claim.computing).lincomb([c * 1.0025 for c in coefficients], values)
    ratios = Expected(exact_sum(coefficients, values), scale, 3).error_over_bound(claim.storing.round(wrong), claim)
    assert (ratios > 1).mean() > 0.1


def test_gamma():
    for k in (0, 1, 3, 1000):
        ku = Fraction(k, 2**24)
        assert gamma(k, 2.0**-24) == float(ku / (1 - ku))
    assert gamma(np.array([1, 2]), 0.25).tolist() == [0.25 / 0.75, 1.0]


@pytest.mark.parametrize("k", [256, [1, 300]])
def test_roundings_that_leave_no_digit_are_refused(k):
    with pytest.raises(ClaimError, match="compute in a wider format"):
        gamma(k, FORMATS["bf16"].u)


def test_the_formula_itself():
    """Both cases of section 1 of NUMERICS in exact fractions."""
    expected = Expected(DoubleDouble.of(np.array([-3.0])), np.array([5.0]), 3)
    uc, ud = Fraction(1, 2**24), Fraction(1, 2**8)
    inner = 3 * uc / (1 - 3 * uc) * 5 + 3 * Fraction(2) ** -149
    u = FORMATS["fp64"].u  # rule: the bound is itself evaluated in float64, in at most 8 operations
    assert abs(Fraction(float(expected.bound(Claim("fp32"))[0])) / inner - 1) <= 8 * u
    outer = ud * 3 + (1 + ud) * inner + Fraction(2) ** -133
    assert abs(Fraction(float(expected.bound(Claim("bf16", "fp32"))[0])) / outer - 1) <= 8 * u


def test_errors_over_bounds_at_the_edges():
    value = DoubleDouble.of(np.array([1.0, 1.0, 1.0, np.inf, np.inf, 0.0, 65520.0, 60000.0]))
    got = [1.0, np.nan, np.inf, np.inf, 1.0, 1e-7, np.inf, np.inf]
    ratios = Expected(value, np.where(np.isfinite(value.high), value.high, 0.0), 2).error_over_bound(got, Claim("fp16"))
    assert ratios[[0, 3, 6]].tolist() == [0.0, 0.0, 0.0]
    assert np.isinf(ratios[[1, 2, 4, 7]]).all()
    assert 0 < ratios[5] < 1  # within 2 eta of zero


def test_a_table_entry_may_be_exact():
    """No roundings, no bound: equality is asked for."""
    expected = Expected(DoubleDouble.of(np.array([0.1, 0.1])), np.array([0.1, 0.1]), 0)
    assert expected.error_over_bound([0.1, np.nextafter(0.1, 1)], Claim("fp64")).tolist() == [0.0, np.inf]


def test_claims_read_well_and_fill_in_the_compute_format():
    assert Claim("fp32") == Claim("fp32", "fp32")
    assert str(Claim("bf16", "fp32")) == "bf16/fp32"
    assert (Claim("bf16", "fp32").storing.precision, Claim("bf16", "fp32").computing.precision) == (8, 24)


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        (("fp32", "bf16"), "fp32/bf16: the compute format is narrower"),
        (("float32",), "'float32' is not known; write one of"),
        (("fp32", "tf32"), "'tf32' is not known; write one of"),
    ],
)
def test_impossible_claims_are_refused(claim, words):
    with pytest.raises(ClaimError, match=words):
        Claim(*claim)
