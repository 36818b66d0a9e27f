"""Laws of the Kullback-Leibler divergence of Gaussians (nats)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.arithmetic.double_double import exp, expm1_minus_x, log, sqrt, x_minus_log1p
from ddpm_ref.laws.cases import Case, Cases, Source, draw_positive, draw_shape, draw_tensor
from ddpm_ref.laws.registry import Law, Mistake
from ddpm_ref.typing import Array

VARIANCE_FORM = (
    8  # difference, quotient, logarithm (2), difference of the ratio, three sums: the counts of NUMERICS for this form
)
NEAR = 8  # the requirement for nearly equal laws: a relative error of at most 8 u


def _moments(source: Source, claim: Claim) -> Case:
    shape = draw_shape(source)
    values = {f"mean{i}": draw_tensor(source, shape, claim) for i in (1, 2)}
    return Case(claim, None, values | {f"variance{i}": draw_positive(source, shape, claim, 1e-3, 8.0) for i in (1, 2)})


def _log_moments(source: Source, claim: Claim) -> Case:
    shape = draw_shape(source)
    values = {f"mean{i}": draw_tensor(source, shape, claim) for i in (1, 2)}
    return Case(claim, None, values | {f"logvar{i}": draw_tensor(source, shape, claim, reach=6.0) for i in (1, 2)})


def _kl(m1: Array, v1: Array, m2: Array, v2: Array) -> Array:
    """The textbook form in float64: good enough to be a mistake's value."""
    return np.asarray((v1 / v2 - 1 - np.log(v1 / v2) + (m1 - m2) ** 2 / v2) / 2)


def _case_kl(case: Case, swap: bool = False, power: float = 1.0) -> Array:
    first, second = (case.mean1, case.variance1**power), (case.mean2, case.variance2**power)
    return _kl(*second, *first) if swap else _kl(*first, *second)


def _variance_parts(case: Case) -> tuple[DoubleDouble, DoubleDouble, DoubleDouble]:
    """Excess of the ratio over 1, variance part and mean part of the divergence (both already halved)."""
    v1, v2 = DoubleDouble.of(case.variance1), DoubleDouble.of(case.variance2)
    excess = (v1 - v2) / v2
    distance = DoubleDouble.of(case.mean1) - case.mean2
    return excess, x_minus_log1p(excess) * 0.5, distance * distance / v2 * 0.5


def _kl_expected(case: Case) -> tuple[Expected, ...]:
    excess, spread, shift = _variance_parts(case)
    ratio = excess.high + 1
    scale = (ratio + 1 + np.abs(log(excess + 1.0).high)) / 2 + shift.high
    return (Expected(spread + shift, scale, VARIANCE_FORM),)


KL_MISTAKES = (
    Mistake("arguments_swapped", lambda c: (_case_kl(c, swap=True),), "E27"),
    Mistake("standard_deviation_taken_for_variance", lambda c: (_case_kl(c, power=2.0),)),
    Mistake("log_variance_taken_for_variance", lambda c: (_log_for_variance(c),)),
    Mistake("half_forgotten", lambda c: (2 * _case_kl(c),)),
    Mistake("mean_divided_by_the_first_variance", lambda c: (_wrong_mean_part(c),)),
)


def _log_for_variance(case: Case) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return _kl(case.mean1, np.abs(np.log(case.variance1)), case.mean2, np.abs(np.log(case.variance2)))


def _wrong_mean_part(case: Case) -> Array:
    square = (case.mean1 - case.mean2) ** 2 / 2
    return _case_kl(case) - square / case.variance2 + square / case.variance1


KL_NORMAL = Law(
    id="divergence/kl_normal",
    needs="kl_normal",
    statement=r"D = \tfrac12\left[\sigma_1^2/\sigma_2^2 - 1 - \log(\sigma_1^2/\sigma_2^2) + (\mu_1-\mu_2)^2/\sigma_2^2\right]",
    source="ho2020, eq. (5) and (8)",
    cases=_moments,
    call=lambda impl, c: impl.kl_normal(c.mean1, c.variance1, c.mean2, c.variance2),
    expect=_kl_expected,
    mistakes=KL_MISTAKES,
)


def _log_kl(case: Case, swap: bool = False) -> Array:
    variances = Case(
        case.claim, None, dict(case.values) | {f"variance{i}": np.exp(case.values[f"logvar{i}"]) for i in (1, 2)}
    )
    return _case_kl(variances, swap=swap)


def _logvar_parts(case: Case) -> tuple[DoubleDouble, DoubleDouble, DoubleDouble]:
    delta = DoubleDouble.of(case.logvar1) - case.logvar2
    distance = DoubleDouble.of(case.mean1) - case.mean2
    return delta, expm1_minus_x(delta) * 0.5, distance * distance * exp(-DoubleDouble.of(case.logvar2)) * 0.5


def _logvar_expected(case: Case) -> tuple[Expected, ...]:
    delta, spread, shift = _logvar_parts(case)
    size = np.abs(delta.high)
    # An exponential turns an error of its argument into a relative one, so it enters the scale with its condition
    # number.
    scale = ((1 + size) * np.exp(delta.high) + 1 + size) / 2 + shift.high
    # Difference, exponential (two) and product count twice in the square; square and sum add one each.
    return (Expected(spread + shift, scale, 10),)


KL_LOGVAR = Law(
    id="divergence/kl_normal_logvar",
    needs="kl_normal_logvar",
    statement=r"D = \tfrac12\left[e^{\ell_1-\ell_2} - 1 - (\ell_1-\ell_2) + (\mu_1-\mu_2)^2e^{-\ell_2}\right]",
    source="ho2020 and nichol2021, code",
    cases=_log_moments,
    call=lambda impl, c: impl.kl_normal_logvar(c.mean1, c.logvar1, c.mean2, c.logvar2),
    expect=_logvar_expected,
    mistakes=(
        Mistake("arguments_swapped", lambda c: (_log_kl(c, swap=True),), "E27"),
        Mistake("log_standard_deviation_taken_for_log_variance", lambda c: (_half_log(c),)),
        Mistake("variance_taken_for_log_variance", lambda c: (_variance_as_log(c),)),
        Mistake("half_forgotten", lambda c: (2 * _log_kl(c),)),
    ),
)


def _half_log(case: Case) -> Array:
    doubled = dict(case.values) | {f"logvar{i}": 2 * case.values[f"logvar{i}"] for i in (1, 2)}
    return _log_kl(Case(case.claim, None, doubled))


def _variance_as_log(case: Case) -> Array:
    logs = dict(case.values) | {f"logvar{i}": np.log(np.abs(case.values[f"logvar{i}"]) + 1e-3) for i in (1, 2)}
    return _log_kl(Case(case.claim, None, logs))


# --- nearly equal laws: a requirement, not a count --------------------------------------------------------------------


def _near_pair(
    source: Source, claim: Claim, name: str, middle: Callable[[tuple[int, ...]], Array], relative: bool
) -> Case:
    """Equal means and values at a relative (or absolute) distance from each other between 1e-13 and 1/2."""
    shape = draw_shape(source)
    base = claim.storing.round(middle(shape))
    distance = np.exp(source.numbers(shape, np.log(1e-13), np.log(0.45))) * source.choice([1.0, -1.0])
    other = claim.storing.round(base * (1 + distance) if relative else base + distance)
    mean = draw_tensor(source, shape, claim)
    return Case(claim, None, {"mean1": mean, f"{name}1": other, "mean2": mean, f"{name}2": base})


def _near_variances(source: Source, claim: Claim) -> Case:
    return _near_pair(
        source, claim, "variance", lambda shape: np.exp(source.numbers(shape, np.log(1e-3), np.log(8.0))), True
    )


def _near_logvars(source: Source, claim: Claim) -> Case:
    return _near_pair(source, claim, "logvar", lambda shape: source.numbers(shape, -6.0, 6.0), False)


def _cancelling(case: Case, ratio: Array, logarithm: Array) -> tuple[Array]:
    compute = case.claim.computing
    return (compute.round(compute.round(compute.round(ratio) - 1) - compute.round(logarithm)) / 2,)


def _near_law(
    id_: str,
    needs: str,
    cases: Cases,
    part: Callable[[Case], DoubleDouble],
    call: Callable[..., object],
    naive: Mistake,
) -> Law:
    return Law(
        id=id_,
        needs=needs,
        statement=r"\text{relative error} \le 8u \text{ for } |\sigma_1^2/\sigma_2^2 - 1| \le \tfrac12",
        source="ho2020, eq. (5); cancellation-free form",
        cases=cases,
        call=call,
        expect=lambda c: (Expected(part(c), np.abs(part(c).high), NEAR),),
        mistakes=(naive, Mistake("taken_for_zero", lambda c: (np.zeros_like(c.mean1),))),
    )


NEARLY_EQUAL = _near_law(
    "divergence/nearly_equal_variances",
    "kl_normal",
    _near_variances,
    lambda c: _variance_parts(c)[1],
    lambda impl, c: impl.kl_normal(c.mean1, c.variance1, c.mean2, c.variance2),
    Mistake(
        "cancelling_form",
        lambda c: _cancelling(c, c.variance1 / c.variance2, np.log(c.claim.computing.round(c.variance1 / c.variance2))),
        claims=("fp64", "fp32"),  # variances stored in half precision are never close enough to cancel
        rounding=True,
    ),
)
NEARLY_EQUAL_LOG = _near_law(
    "divergence/nearly_equal_log_variances",
    "kl_normal_logvar",
    _near_logvars,
    lambda c: _logvar_parts(c)[1],
    lambda impl, c: impl.kl_normal_logvar(c.mean1, c.logvar1, c.mean2, c.logvar2),
    Mistake(
        "cancelling_form",
        lambda c: _cancelling(c, np.exp(c.logvar1 - c.logvar2), c.logvar1 - c.logvar2),
        rounding=True,
    ),
)

# --- vectors ----------------------------------------------------------------------------------------------------------


def _vector_moments(source: Source, claim: Claim) -> Case:
    batch = (64,) if source.bulk else source.choice([(), (3,), (0,), (2, 2)])
    d = source.choice([1, 2, 3, 5])
    means = {f"mean{i}": draw_tensor(source, (*batch, d), claim) for i in (1, 2)}
    return Case(claim, None, means | {f"variance{i}": draw_positive(source, batch, claim, 1e-3, 8.0) for i in (1, 2)})


def _isotropic_expected(case: Case) -> tuple[Expected, ...]:
    d = case.mean1.shape[-1]
    v1, v2 = DoubleDouble.of(case.variance1), DoubleDouble.of(case.variance2)
    excess, distance = (v1 - v2) / v2, DoubleDouble.of(case.mean1) - case.mean2
    spread, shift = x_minus_log1p(excess) * (0.5 * d), (distance * distance).sum() / v2 * 0.5
    scale = d * (excess.high + 2 + np.abs(log(excess + 1.0).high)) / 2 + shift.high
    return (Expected(spread + shift, scale, VARIANCE_FORM + d),)


def _wide(case: Case) -> Case:
    return Case(
        case.claim, None, dict(case.values) | {f"variance{i}": case.values[f"variance{i}"][..., None] for i in (1, 2)}
    )


KL_ISOTROPIC = Law(
    id="divergence/kl_normal_isotropic",
    needs="kl_normal_isotropic",
    statement=r"D = \tfrac12\left[d(r-1-\log r) + \|\mu_1-\mu_2\|^2/\sigma_2^2\right]",
    source="special case of the general formula",
    cases=_vector_moments,
    call=lambda impl, c: impl.kl_normal_isotropic(c.mean1, c.variance1, c.mean2, c.variance2),
    expect=_isotropic_expected,
    mistakes=(
        Mistake(
            "dimension_forgotten",
            lambda c: (_case_kl(_wide(c)).sum(axis=-1) - (c.mean1.shape[-1] - 1) * _spread_only(c),),
        ),
        Mistake("mean_over_dimensions", lambda c: (_case_kl(_wide(c)).mean(axis=-1),)),
        Mistake("arguments_swapped", lambda c: (_case_kl(_wide(c), swap=True).sum(axis=-1),), "E27"),
    ),
    kind="reduction",
)


def _spread_only(case: Case) -> Array:
    return _kl(np.zeros(()), case.variance1, np.zeros(()), case.variance2)


def _matched_cases(source: Source, claim: Claim) -> Case:
    shape = draw_shape(source)
    values = {f"mean{i}": draw_tensor(source, shape, claim) for i in (1, 2)}
    return Case(claim, None, values | {"variance": draw_positive(source, shape, claim, 1e-3, 8.0)})


def _matched_expected(case: Case) -> tuple[Expected, ...]:
    distance = DoubleDouble.of(case.mean1) - case.mean2
    value = distance * distance / case.variance * 0.5
    # Any order is admitted, and the square of a distance in standard deviations: difference, root and quotient count twice, the
    # square once.
    return (Expected(value, value.high, 7),)


KL_MATCHED = Law(
    id="divergence/kl_normal_matched",
    needs="kl_normal_matched",
    statement=r"D = (\mu_1-\mu_2)^2/(2\sigma^2)",
    source="ho2020, eq. (8)",
    cases=_matched_cases,
    call=lambda impl, c: impl.kl_normal_matched(c.mean1, c.mean2, c.variance),
    expect=_matched_expected,
    mistakes=(
        Mistake("standard_deviation_taken_for_variance", lambda c: ((c.mean1 - c.mean2) ** 2 / (2 * c.variance**2),)),
        Mistake("half_forgotten", lambda c: ((c.mean1 - c.mean2) ** 2 / c.variance,)),
        Mistake("square_forgotten", lambda c: (np.abs(c.mean1 - c.mean2) / (2 * c.variance),)),
    ),
)


def _full_cases(source: Source, claim: Claim) -> Case:
    d = source.choice([1, 2, 3, 5])
    batch = (32,) if source.bulk else source.choice([(), (3,), (0,)])

    def covariance() -> Array:
        factor = source.numbers((*batch, d, d), -1.0, 1.0)
        product = claim.storing.round(factor @ np.swapaxes(factor, -1, -2) + np.eye(d))
        return (product + np.swapaxes(product, -1, -2)) / 2  # exactly symmetric already; kept so by construction

    means = {f"mean{i}": draw_tensor(source, (*batch, d), claim) for i in (1, 2)}
    return Case(claim, None, means | {f"covariance{i}": covariance() for i in (1, 2)})


def _full_parts(case: Case, swap: bool = False) -> tuple[Array, Array, Array, Array, Array]:
    """Log-determinants of both, trace, quadratic form, dimension."""
    m1, c1, m2, c2 = case.mean1, case.covariance1, case.mean2, case.covariance2
    if swap:
        m1, c1, m2, c2 = m2, c2, m1, c1
    solved = np.linalg.solve(c2, c1)
    difference = (m2 - m1)[..., None]
    quadratic = (np.swapaxes(difference, -1, -2) @ np.linalg.solve(c2, difference))[..., 0, 0]
    log1, log2 = np.linalg.slogdet(c1)[1], np.linalg.slogdet(c2)[1]
    return log1, log2, np.trace(solved, axis1=-2, axis2=-1), quadratic, np.asarray(float(m1.shape[-1]))


def _full_kl(case: Case, swap: bool = False) -> Array:
    log1, log2, trace, quadratic, d = _full_parts(case, swap)
    return (log2 - log1 - d + trace + quadratic) / 2


Matrix: TypeAlias = list[list[DoubleDouble]]  # entries over a batch; lower triangular where it is a factor


def _factor(covariance: Array) -> Matrix:
    """The Cholesky factor in double-double, entry by entry."""
    d = covariance.shape[-1]
    rows: Matrix = []
    for i in range(d):
        row: list[DoubleDouble] = []
        for j in range(i + 1):
            rest = DoubleDouble.of(covariance[..., i, j])
            for k in range(j):
                rest = rest - row[k] * (rows[j][k] if j < i else row[k])
            row.append(sqrt(rest) if i == j else rest / rows[j][j])
        rows.append(row)
    return rows


def _squared_solution(factor: Matrix, right: list[DoubleDouble]) -> DoubleDouble:
    """``|L^-1 b|^2`` by forward substitution."""
    solution: list[DoubleDouble] = []
    total = DoubleDouble.of(np.zeros(right[0].shape))
    for row, b in zip(factor, right, strict=True):
        for entry, known in zip(row, solution, strict=False):
            b = b - entry * known
        solution.append(b / row[-1])
        total = total + solution[-1] * solution[-1]
    return total


def _full_expected(case: Case) -> tuple[Expected, ...]:
    """The value in double-double; the bound by the condition-number rule that docs/divergence.md derives.

    Cholesky factors and triangular solves are backward stable (Higham 2002, theorems 8.5, 10.3, 10.5): a computed factor is exact
    for ``S + E`` with ``|E| <= d gamma_{d+1} |S|`` in norm, which moves the log-determinant by at most ``d^2 gamma kappa`` and the
    trace and the quadratic form relatively by ``2 d gamma kappa_2``; the solves add ``4 d gamma sqrt(kappa_2)``.
    """
    d = case.mean1.shape[-1]
    l1, l2 = _factor(case.covariance1), _factor(case.covariance2)
    zero = DoubleDouble.of(np.zeros(case.mean1.shape[:-1]))
    trace = zero
    for j in range(d):
        trace = trace + _squared_solution(l2, [l1[i][j] if j <= i else zero for i in range(d)])
    difference = DoubleDouble.of(case.mean2) - case.mean1
    quadratic = _squared_solution(l2, [DoubleDouble(difference.high[..., i], difference.low[..., i]) for i in range(d)])
    log1, log2 = (sum((log(factor[i][i]) * 2.0 for i in range(d)), zero) for factor in (l1, l2))
    value = (log2 - log1 - float(d) + trace + quadratic) * 0.5
    kappa1, kappa2 = np.linalg.cond(case.covariance1), np.linalg.cond(case.covariance2)
    terms = trace.high + quadratic.high
    solves = 2 * d * kappa2 + 4 * d * np.sqrt(kappa2) + d**2
    scale = (d**2 * (kappa1 + kappa2) + solves * terms + np.abs(log1.high) + np.abs(log2.high) + d) / 2
    return (Expected(value, scale, d + 5),)


KL_FULL = Law(
    id="divergence/kl_normal_full",
    needs="kl_normal_full",
    statement=r"D = \tfrac12\left[\log|\Sigma_2|/|\Sigma_1| - d + \mathrm{tr}(\Sigma_2^{-1}\Sigma_1)"
    r" + (\mu_2-\mu_1)^\top\Sigma_2^{-1}(\mu_2-\mu_1)\right]",
    source="standard; Higham 2002 for the bound",
    cases=_full_cases,
    call=lambda impl, c: impl.kl_normal_full(c.mean1, c.covariance1, c.mean2, c.covariance2),
    expect=_full_expected,
    mistakes=(
        Mistake("arguments_swapped", lambda c: (_full_kl(c, swap=True),), "E27"),
        Mistake("dimension_not_subtracted", lambda c: (_full_kl(c) + c.mean1.shape[-1] / 2,)),
        Mistake("half_forgotten", lambda c: (2 * _full_kl(c),)),
    ),
    kind="reduction",
)

LAWS = (KL_NORMAL, KL_LOGVAR, NEARLY_EQUAL, NEARLY_EQUAL_LOG, KL_ISOTROPIC, KL_MATCHED, KL_FULL)
