"""KL divergences: integrals, draws, invariance; and no digit lost where two laws nearly agree."""

from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.reference.divergence import (
    kl_normal,
    kl_normal_full,
    kl_normal_isotropic,
    kl_normal_logvar,
    kl_normal_matched,
    log_variance_divergence,
    variance_divergence,
)

U = 2.0**-53
NEAR = 8 * U  # rule: NUMERICS section 3, relative error at most 8u for ratios within 0.5 of 1


def nearly_equal(seed=0):
    """Pairs of variances whose ratio is 1 + x, 1e-13 <= |x| <= 0.5, and pairs that are equal."""
    rng = np.random.default_rng(seed)
    x = rng.choice([-1, 1], 3000) * 10 ** rng.uniform(-13, np.log10(0.4999), 3000)
    second = 10 ** rng.uniform(-6, 6, 3000)
    return second * (1 + x), second


def relative_errors(mp, got, first, second):
    """Of the variance part, against 60 digits on the float64 variances themselves."""
    errors = []
    for d, a, b in zip(got.tolist(), first.tolist(), second.tolist(), strict=True):
        r = mp.mpf(a) / mp.mpf(b)
        value = (r - 1 - mp.log(r)) / 2
        errors.append(float(abs(mp.mpf(d) - value) / value) if value else float(d != 0))
    return np.array(errors)


def test_nearly_equal_variances_lose_no_digits(mp, compared):
    first, second = nearly_equal()
    errors = relative_errors(mp, kl_normal(0.0, first, 0.0, second), first, second)
    assert errors.max() <= NEAR
    compared["nearly equal variances compared"] += errors.size
    isotropic = kl_normal_isotropic(np.zeros((3000, 3)), first, np.zeros((3000, 3)), second) / 3
    # one more rounding each for the factor 3 and for its quotient here
    assert relative_errors(mp, isotropic, first, second).max() <= NEAR + 2 * U


def test_planted_naive_forms_fail_the_same_check(mp):
    first, second = nearly_equal()
    ratio = first / second
    for naive in ((ratio - 1 - np.log(ratio)) / 2, (ratio - 1 - np.log1p(ratio - 1)) / 2):
        errors = relative_errors(mp, naive, first, second)
        assert errors.max() > 1e6 * NEAR
        assert (errors > NEAR).mean() > 0.3


def nearly_equal_logs(seed=1):
    rng = np.random.default_rng(seed)
    second = rng.uniform(-12, 3, 3000)
    return second + rng.choice([-1, 1], 3000) * 10 ** rng.uniform(-13, np.log10(0.4999), 3000), second


def log_errors(mp, got, first, second):
    errors = []
    for d, a, b in zip(got.tolist(), first.tolist(), second.tolist(), strict=True):
        delta = mp.mpf(a) - mp.mpf(b)
        value = (mp.expm1(delta) - delta) / 2
        errors.append(float(abs(mp.mpf(d) - value) / value) if value else float(d != 0))
    return np.array(errors)


def test_nearly_equal_log_variances_lose_no_digits(mp, compared):
    """Where the difference of the logarithms is itself exact (Sterbenz): one within twice of the other."""
    first, second = nearly_equal_logs()
    exact = (first / second >= 0.5) & (first / second <= 2)
    errors = log_errors(mp, kl_normal_logvar(0.0, first, 0.0, second)[exact], first[exact], second[exact])
    assert errors.size > 2500
    assert errors.max() <= NEAR
    compared["nearly equal variances compared"] += errors.size


def test_planted_naive_log_form_fails_the_same_check(mp):
    first, second = nearly_equal_logs()
    delta = first - second
    for naive in ((np.exp(delta) - 1 - delta) / 2, (np.expm1(delta) - delta) / 2):
        assert log_errors(mp, naive, first, second).max() > 1e6 * NEAR


def test_far_apart_the_bound_of_eight_roundings_holds(mp, worst):
    rng = np.random.default_rng(2)
    m1, m2 = rng.standard_normal((2, 2000)) * 10 ** rng.uniform(-3, 3, 2000)
    v1, v2 = 10 ** rng.uniform(-8, 8, (2, 2000))
    values, scales, log_values, log_scales = [], [], [], []
    for a, b, p, q in zip(*(map(mp.mpf, v.tolist()) for v in (m1, m2, v1, v2)), strict=True):
        distance = (a - b) ** 2 / q
        values.append((p / q - 1 - mp.log(p / q) + distance) / 2)
        scales.append((p / q + 1 + abs(mp.log(p / q)) + distance) / 2)
        log_p, log_q = mp.mpf(float(mp.log(p))), mp.mpf(float(mp.log(q)))
        delta, distance = log_p - log_q, (a - b) ** 2 * mp.exp(-log_q)
        log_values.append((mp.expm1(delta) - delta + distance) / 2)
        # rule: NUMERICS section 3, exp(delta) enters S as (1 + |delta|) exp(delta); the exponent of exp(-log_q) is exact
        log_scales.append(((1 + abs(delta)) * mp.exp(delta) + 1 + abs(delta) + distance) / 2)
    assert worst(kl_normal(m1, v1, m2, v2), values, scales, 8) <= 1
    logs = [np.array([float(mp.log(mp.mpf(v))) for v in x.tolist()]) for x in (v1, v2)]
    assert worst(kl_normal_logvar(m1, logs[0], m2, logs[1]), log_values, log_scales, 8) <= 1


def test_the_switch_between_series_and_formula(mp):
    """Both sides of |x| = 1/2, in both forms."""
    x = np.concatenate(
        [np.nextafter(s * 0.5, s * np.array([0.0, 1.0])) for s in (-1, 1)] + [np.array([0.5, -0.5, 0.0])]
    )
    forms = [
        (variance_divergence(x, np.log1p(x)), lambda v: v - mp.log(1 + v)),
        (log_variance_divergence(x), lambda v: mp.exp(v) - 1 - v),
    ]
    for got, value in forms:
        for g, v in zip(got.tolist(), map(mp.mpf, x.tolist()), strict=True):
            assert (
                abs(mp.mpf(g) - value(v) / 2) <= 2 * NEAR * value(v) / 2
            )  # rule: 8u within, and beyond it cancels four-fold


def test_it_is_an_integral(mp, worst):
    """The mean of log p1 - log p2 under the first law, by quadrature."""
    for m1, v1, m2, v2 in ((0.3, 0.7, -1.0, 2.5), (0.0, 1.0, 0.0, 1.2), (1.0, 4.0, 1.5, 0.25)):
        a, p, b, q = map(mp.mpf, (m1, v1, m2, v2))

        def integrand(z, a=a, p=p, b=b, q=q):
            x = a + mp.sqrt(p) * z
            return mp.npdf(z) * ((x - b) ** 2 / q - z**2 + mp.log(q / p)) / 2

        value = mp.quad(integrand, mp.linspace(-12, 12, 7))
        scale = (p / q + 1 + abs(mp.log(p / q)) + (a - b) ** 2 / q) / 2
        assert worst([kl_normal(m1, v1, m2, v2)], [value], [scale], 8) <= 1


def random_laws(seed, *batch, d=4):
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((2, *batch, d, d)) + 2 * np.eye(d)
    covariance = factor @ np.swapaxes(factor, -1, -2)
    covariance = (covariance + np.swapaxes(covariance, -1, -2)) / 2
    mean = rng.standard_normal((2, *batch, d))
    return mean[0], covariance[0], mean[1], covariance[1]


def exact_full(mp, m1, c1, m2, c2):
    """The formula with determinants and an inverse, and the error allowed to Cholesky factors and solves in d dimensions."""
    p, q, delta = mp.matrix(c1.tolist()), mp.matrix(c2.tolist()), mp.matrix((m2 - m1).tolist())
    inverse = q**-1
    product = inverse * p
    trace = sum(product[i, i] for i in range(len(m1)))
    distance = (delta.T * inverse * delta)[0]
    value = (mp.log(mp.det(q)) - mp.log(mp.det(p)) - len(m1) + trace + distance) / 2
    d = len(m1)
    condition = np.linalg.cond(c1) + np.linalg.cond(c2)
    # rule: NUMERICS section 3, backward errors of gamma_(3d) in factor and solve, magnified by the condition numbers
    return value, 3 * d * U * condition * (float(trace + distance) + d)


def test_full_covariance_against_determinants(mp):
    for seed in range(20):
        laws = random_laws(seed, d=1 + seed % 5)
        value, allowed = exact_full(mp, *laws)
        assert abs(kl_normal_full(*laws) - value) <= allowed


def test_full_covariance_is_invariant_under_affine_maps(mp):
    """x -> Mx + c in fractions of powers of two, so that the mapped laws are exactly the images."""
    mean1, c1, mean2, c2 = (np.round(a * 16) / 16 for a in random_laws(3))
    c1, c2 = c1 + 2 * np.eye(4), c2 + 2 * np.eye(4)
    matrix = np.array([[1, 2, 0, 0], [0, 1, -1, 0], [0, 0, 2, 0.5], [1, 0, 0, 1]])
    mapped = [matrix @ mean1 + 3, matrix @ c1 @ matrix.T, matrix @ mean2 + 3, matrix @ c2 @ matrix.T]
    value, allowed = exact_full(mp, mean1, c1, mean2, c2)
    image, more = exact_full(mp, *mapped)
    assert abs(value - image) < mp.mpf(10) ** -50
    assert abs(kl_normal_full(mean1, c1, mean2, c2) - kl_normal_full(*mapped)) <= allowed + more


def test_full_covariance_by_draws_under_the_first_law():
    """The mean of the log ratio; its standard error from the draws, level 1e-9."""
    mean1, c1, mean2, c2 = random_laws(5, d=3)
    n = 40_000
    x = np.random.default_rng(6).standard_normal((n, 3)) @ np.linalg.cholesky(c1).T + mean1
    ratio = stats.multivariate_normal(mean1, c1).logpdf(x) - stats.multivariate_normal(mean2, c2).logpdf(x)
    distance = abs(ratio.mean() - kl_normal_full(mean1, c1, mean2, c2))
    assert distance <= stats.norm.isf(1e-9 / 2) * ratio.std() / np.sqrt(n)  # rule: level 1e-9, one test
    assert kl_normal_full(mean1, c1, mean2, c2) != kl_normal_full(mean2, c2, mean1, c1)


def test_forms_agree():
    """Full with diagonal matrices, isotropic, log-variance and matched forms are the sum of the elementwise one."""
    rng = np.random.default_rng(7)
    m1, m2 = rng.standard_normal((2, 6, 4))
    v1, v2 = rng.uniform(0.1, 3, (2, 6, 4))
    elementwise = kl_normal(m1, v1, m2, v2)
    scale = (v1 / v2 + 1 + np.abs(np.log(v1 / v2)) + (m1 - m2) ** 2 / v2).sum(-1) / 2
    # rule: two sums of four terms of 8 roundings each
    allowed = 2 * (8 + 4) * U * scale
    full = kl_normal_full(m1, v1[..., None] * np.eye(4), m2, v2[..., None] * np.eye(4))
    assert (np.abs(full - elementwise.sum(-1)) <= allowed).all()
    isotropic = kl_normal_isotropic(m1, v1[:, 0], m2, v2[:, 0])
    same = kl_normal(m1, v1[:, :1], m2, v2[:, :1]).sum(-1)
    scale = (4 * (v1 / v2 + 1 + np.abs(np.log(v1 / v2)))[:, 0] + ((m1 - m2) ** 2 / v2[:, :1]).sum(-1)) / 2
    assert (np.abs(isotropic - same) <= 2 * (8 + 4) * U * scale).all()
    logs = kl_normal_logvar(m1, np.log(v1), m2, np.log(v2))
    # rule: the logarithms are rounded here, 2 u |log v| each, relative to both exponentials
    moved = (np.abs(np.log(v1)) + np.abs(np.log(v2)) + 1) * (v1 / v2 + 1 + (m1 - m2) ** 2 / v2)
    assert (np.abs(logs - elementwise) <= 8 * U * moved).all()
    matched = kl_normal_matched(m1, m2, v1)
    assert np.array_equal(matched, kl_normal(m1, v1, m2, v1))
    assert np.array_equal(matched, kl_normal_matched(m2, m1, v1))


def test_matched_covariance_in_fractions():
    m1, m2, v = 1.5, -0.25, 2.0
    assert kl_normal_matched(m1, m2, v) == float((Fraction(m1) - Fraction(m2)) ** 2 / (2 * Fraction(v)))


def test_zero_only_for_equal_laws_and_never_negative():
    rng = np.random.default_rng(8)
    m, v = rng.standard_normal(200), rng.uniform(1e-3, 1e3, 200)
    assert (kl_normal(m, v, m, v) == 0).all()
    assert (kl_normal_logvar(m, np.log(v), m, np.log(v)) == 0).all()
    assert (kl_normal(m, np.nextafter(v, 2e3), m, v) > 0).all()
    assert (kl_normal(m, v, np.nextafter(m, 9), v) > 0).all()


def test_second_order_behaviour():
    """(l1 - l2)^2 / 4 near equality, up to the next term of the series, delta / 3 relatively."""
    delta = np.array([1e-3, 1e-6, -1e-9])
    got = kl_normal_logvar(0.0, delta, 0.0, 0.0)
    assert (np.abs(got / (delta**2 / 4) - 1) <= np.abs(delta) / 2).all()  # rule: a series, not a tolerance


def test_convex_in_the_logarithm_of_the_ratio():
    r = np.exp(np.linspace(-3, 3, 61))
    d = kl_normal(0.0, r, 0.0, 1.0)
    assert (np.diff(d, 2) > 0).all()
    assert d.argmin() == 30


def test_extremes_of_float64(mp):
    """Ratios outside its range: finite where the divergence is, infinite where it exceeds the largest number, never NaN."""
    small, large = 1e-300, 1e300
    value = (mp.mpf(small) / large - 1 - mp.log(mp.mpf(small) / large)) / 2
    assert abs(kl_normal(0.0, small, 0.0, large) - value) <= NEAR * value
    assert kl_normal(0.0, large, 0.0, small) == np.inf
    assert kl_normal_logvar(0.0, -800.0, 0.0, -800.0) == 0
    assert kl_normal_logvar(0.0, 800.0, 0.0, 0.0) == np.inf
    assert kl_normal_logvar(1.0, -800.0, 0.0, -800.0) == np.inf
    assert kl_normal_logvar(0.0, -800.0, 0.0, 0.0) == (np.expm1(-800.0) + 800) / 2


def test_a_shrinking_first_variance_diverges_like_a_logarithm():
    got = kl_normal(0.0, 10.0 ** -np.arange(10, 300, 10), 0.0, 1.0)
    assert np.allclose(np.diff(got), 5 * np.log(10), rtol=1e-9)  # rule: the next term of the expansion is 1e-10


def test_shapes():
    assert kl_normal(np.zeros((4, 3)), np.ones((4, 1)), np.zeros(3), 2.0).shape == (4, 3)
    assert kl_normal_isotropic(np.zeros((4, 3)), np.ones(4), np.zeros(3), 2.0).shape == (4,)
    assert kl_normal_isotropic(np.zeros(3), 1.0, np.ones(3), 2.0).shape == ()
    laws = random_laws(9, 5, 2, d=3)
    got = kl_normal_full(*laws)
    assert got.shape == (5, 2)
    assert got[3, 1] == kl_normal_full(*(a[3, 1] for a in laws))
    for function in (kl_normal, kl_normal_logvar):
        assert function(np.zeros((0, 3)), 1.0, 0.0, 1.0).shape == (0, 3)
    assert kl_normal_full(np.zeros((0, 2)), np.eye(2), np.zeros(2), np.eye(2)).shape == (0,)
    strided = np.asfortranarray(np.random.default_rng(0).standard_normal((6, 4)))[::2, ::-1]
    assert np.array_equal(kl_normal(strided, 1.0, 0.0, 2.0), kl_normal(strided.copy(), 1.0, 0.0, 2.0))


def full_2(covariance1, covariance2):
    return kl_normal_full(np.zeros(2), covariance1, np.zeros(2), covariance2)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: kl_normal(0.0, 0.0, 0.0, 1.0), RangeError, r"variance1 contains 0.0; variances must be > 0"),
        (lambda: kl_normal(0.0, 1.0, 0.0, [1.0, -2.0]), RangeError, r"variance2 contains -2.0; variances must be > 0"),
        (lambda: kl_normal_matched(0.0, 1.0, 0.0), RangeError, "variance contains 0.0"),
        (lambda: kl_normal_logvar(0.0, -np.inf, 0.0, 0.0), RangeError, "logvar1 contains -inf.*must be finite"),
        (lambda: kl_normal([0.0, 1.0], 1.0, [0.0, 1.0, 2.0], 1.0), ShapeError, r"mean1 \(2,\).*mean2 \(3,\)"),
        (lambda: kl_normal_isotropic(0.0, 1.0, 0.0, 1.0), ShapeError, r"shape \(\*batch, d\), or use kl_normal"),
        (lambda: kl_normal_isotropic(np.zeros((2, 3)), np.ones(3), np.zeros(3), 1.0), ShapeError, "variance1"),
        (lambda: kl_normal_full(np.zeros(2), np.eye(3), np.zeros(2), np.eye(2)), ShapeError, r"give \(\*batch, d\)"),
        (lambda: kl_normal_full(0.0, np.eye(1), 0.0, np.eye(1)), ShapeError, r"give \(\*batch, d\)"),
        (lambda: kl_normal_full(np.zeros((2, 2)), np.eye(2), np.zeros((3, 2)), np.eye(2)), ShapeError, "do not fit"),
        (lambda: full_2([[1, 0.5], [0, 1]], np.eye(2)), RangeError, r"covariance1 is not symmetric.*\(C \+ C.T\) / 2"),
        (lambda: full_2(np.eye(2), -np.eye(2)), RangeError, r"covariance2 is not positive definite.*least eigenvalue -1"),
    ],
)  # fmt: skip
def test_what_has_no_divergence_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
