"""Laws of the optimal variance of a reverse step: its formula, its bounds, and the data for which it is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.arithmetic.double_double import sqrt
from ddpm_ref.laws.analytic.cases import NOISE_TO_SIGNAL, largest, ratio, reach_of, with_range, with_statistics
from ddpm_ref.laws.cases import Case, Source, at, at_step, step
from ddpm_ref.laws.family import FAMILY_GAP, MISTAKES, Member, of_case, with_eta
from ddpm_ref.laws.registry import PAIR_COEFFICIENT, ROOT, Law, Mistake, Outputs, exact
from ddpm_ref.typing import Array

# lambda^2 + (C^0)^2 v: the square of the coefficient, its product with v and the sum; or twice the deviation, and these.
VARIANCE_ROUNDINGS = 2 * FAMILY_GAP + 3
KNOWN_ROUNDINGS = 2 * PAIR_COEFFICIENT + 2
# A root halves relative errors.
STD_ROUNDINGS = (VARIANCE_ROUNDINGS + 1) // 2 + ROOT


def combined(m: Member, unknown: DoubleDouble | Array) -> DoubleDouble:
    """lambda^2 + (C^0)^2 v in two words."""
    return m.std * m.std + m.x0_weight * m.x0_weight * unknown


def expected_variance(m: Member, unknown: DoubleDouble | Array, more: int = 0) -> Expected:
    """The variance, each of its parts charged its own roundings; the unknown part may have passed ``more`` before."""
    value, known = combined(m, unknown), (m.std * m.std).high
    longest = VARIANCE_ROUNDINGS + more
    return Expected(value, KNOWN_ROUNDINGS / longest * known + np.abs(value.high - known), longest)


def expected_std(m: Member, unknown: DoubleDouble | Array) -> Expected:
    """The root of the variance."""
    square = expected_variance(m, unknown)
    value = sqrt(square.value)
    share = np.divide(square.scale, square.value.high, out=np.zeros_like(value.high), where=value.high > 0)
    return Expected(value, value.high * (share * VARIANCE_ROUNDINGS / 2 + ROOT) / STD_ROUNDINGS, STD_ROUNDINGS)


def parts_of(case: Case) -> tuple[Array, Array]:
    """lambda^2 and the weight of x0, in float64."""
    m = of_case(case, case.values.get("xt"))
    return m.std.high**2, m.x0_weight.high


def variance_of(case: Case, unknown: Array) -> Array:
    """The variance as it should be, in float64."""
    known, weight = parts_of(case)
    return np.asarray(known + weight**2 * unknown)


def _of_the_full_chain(case: Case, unknown: Array) -> Array:
    """The variance of the step to the level just below t, whatever the stride."""
    signal, direction, std = MISTAKES["levels_of_the_full_chain"][1](case)
    weight = signal - at(case, "sqrt_alpha_bar") * direction / at(case, "sqrt_beta_bar")
    return np.asarray(std**2 + weight**2 * unknown)


def variance_mistakes(outputs: Callable[[Case, Array], Outputs]) -> tuple[Mistake, ...]:
    """Wrong variances, as they show in the outputs of one law."""

    def wrong(value: Callable[[Case, Array], Array]) -> Callable[[Case], Outputs]:
        return lambda c: outputs(c, value(c, c.unknown))

    return (
        Mistake("factor_not_complemented", wrong(lambda c, v: variance_of(c, np.abs(ratio(c) - v))), "E54"),
        Mistake("ddim_variance_taken_for_it", wrong(lambda c, v: variance_of(c, parts_of(c)[0])), "E57"),
        Mistake("what_is_unknown_forgotten", wrong(lambda c, v: parts_of(c)[0])),
        Mistake("noise_of_the_step_forgotten", wrong(lambda c, v: parts_of(c)[1] ** 2 * v)),
        Mistake("weight_not_squared", wrong(lambda c, v: parts_of(c)[0] + parts_of(c)[1] * v)),
        Mistake("posterior_weight_whatever_eta", wrong(lambda c, v: parts_of(c)[0] + step(c, "x0_weight") ** 2 * v)),
        Mistake("levels_of_the_full_chain", wrong(_of_the_full_chain), "E50"),
    )


VARIANCE = Law(
    id="analytic/variance",
    needs="analytic_variance",
    statement=r"\sigma^{*2} = \lambda^2 + \left(\sqrt{\bar\alpha_s}"
    r" - \sqrt{\bar\alpha_t(\bar\beta_s - \lambda^2)/\bar\beta_t}\right)^2\hat\sigma_t^2,\quad \lambda^2 = \eta^2\tilde\beta_{t|s}",
    source="bao2022, eq. (7)",
    cases=with_eta(with_statistics(at_step(zero_snr=False), unknown=(0.0, 1.0))),
    call=lambda impl, c: impl.analytic_variance(c.schedule, c.t, c.s, c.unknown, float(c.eta)),
    expect=lambda c: (expected_variance(of_case(c), c.unknown),),
    mistakes=(
        *variance_mistakes(lambda c, variance: (variance,)),
        Mistake("standard_deviation_returned_as_variance", lambda c: (np.sqrt(variance_of(c, c.unknown)),), "E23"),
    ),
    kind="coefficient",
)

STD = Law(
    id="analytic/std",
    needs="analytic_std",
    statement=r"\sigma^* = \sqrt{\lambda^2 + (C^0)^2\hat\sigma_t^2}",
    source="bao2022, eq. (7)",
    cases=VARIANCE.cases,
    call=lambda impl, c: impl.analytic_std(c.schedule, c.t, c.s, c.unknown, float(c.eta)),
    expect=lambda c: (expected_std(of_case(c), c.unknown),),
    mistakes=(
        *variance_mistakes(lambda c, variance: (np.sqrt(variance),)),
        Mistake("variance_used_as_standard_deviation", lambda c: (variance_of(c, c.unknown),), "E40"),
        Mistake(
            "deviations_added",
            lambda c: (np.sqrt(parts_of(c)[0]) + parts_of(c)[1] * np.sqrt(c.unknown),),
        ),
    ),
    kind="coefficient",
)


def _bounds_expected(case: Case) -> tuple[Expected, ...]:
    m = of_case(case)
    upper = expected_variance(m, largest(case), NOISE_TO_SIGNAL)
    return exact(m.std * m.std, PAIR_COEFFICIENT + 2), upper


def _bounds_of(case: Case, unknown: Array) -> Outputs:
    return parts_of(case)[0], variance_of(case, unknown)


BOUNDS = Law(
    id="analytic/variance_bounds",
    needs="analytic_variance_bounds",
    statement=r"\lambda^2 \le \sigma^{*2} \le \lambda^2 + (C^0)^2\min\left(\frac{\bar\beta_t}{\bar\alpha_t},"
    r" \left(\frac{b-a}{2}\right)^2\right)",
    source="bao2022, theorem 2, eq. (11) and (12)",
    cases=with_range(with_eta(at_step(zero_snr=False))),
    call=lambda impl, c: tuple(impl.analytic_variance_bounds(c.schedule, c.t, c.s, *reach_of(c), float(c.eta))),
    expect=_bounds_expected,
    mistakes=(
        Mistake("range_of_the_data_ignored", lambda c: _bounds_of(c, ratio(c))),
        Mistake("bound_for_all_data_ignored", lambda c: _bounds_of(c, np.asarray((c.high - c.low) / 2) ** 2)),
        Mistake(
            "width_instead_of_half_of_it",
            lambda c: _bounds_of(c, np.minimum(ratio(c), np.asarray(c.high - c.low) ** 2)),
        ),
        Mistake("range_minus_one_to_one_assumed", lambda c: _bounds_of(c, np.minimum(ratio(c), 1.0))),
        Mistake("bounds_exchanged", lambda c: _bounds_of(c, largest(c).high)[::-1]),
    ),
    kind="coefficient",
)

# --- two ways to one result -------------------------------------------------------------------------------------------


def _below_the_bound(source: Source, claim: Claim) -> Case:
    """A variance of x0 that data in the range may have."""
    case = with_range(with_eta(with_statistics(at_step(zero_snr=False), share=(0.0, 1.0))))(source, claim)
    unknown = claim.storing.round(np.minimum(case.share * largest(case).high, 8.0))
    return Case(claim, case.schedule, {**case.values, "unknown": np.asarray(unknown)})


def _distances(impl: Any, c: Any) -> tuple[object, object]:
    lower, upper = impl.analytic_variance_bounds(c.schedule, c.t, c.s, *reach_of(c), float(c.eta))
    variance = impl.analytic_variance(c.schedule, c.t, c.s, c.unknown, float(c.eta))
    return variance - lower, upper - variance


def _distances_expected(case: Case) -> tuple[Expected, ...]:
    m, cap = of_case(case), largest(case)
    square, roundings = m.x0_weight * m.x0_weight, 2 * VARIANCE_ROUNDINGS + NOISE_TO_SIGNAL + 1
    between, whole = combined(m, case.unknown), combined(m, cap)
    above = square * (cap - case.unknown)
    return (
        Expected(square * case.unknown, between.high, roundings),
        Expected(above, whole.high + between.high, roundings),
    )


def _distances_with(case: Case, cap: Array) -> Outputs:
    weight = parts_of(case)[1] ** 2
    return weight * case.unknown, weight * (cap - case.unknown)


BRACKET = Law(
    id="analytic/bounds_bracket",
    needs="analytic_variance analytic_variance_bounds",
    statement=r"\sigma^{*2} - \text{lower} = (C^0)^2\hat\sigma_t^2 \ge 0,\quad"
    r"\text{upper} - \sigma^{*2} = (C^0)^2(\hat\sigma^2_{\max} - \hat\sigma_t^2) \ge 0",
    source="bao2022, theorem 2",
    cases=_below_the_bound,
    call=_distances,
    expect=_distances_expected,
    mistakes=(
        Mistake("range_of_the_data_ignored", lambda c: _distances_with(c, ratio(c))),
        Mistake(
            "factor_not_complemented",
            lambda c: (
                parts_of(c)[1] ** 2 * (ratio(c) - c.unknown),
                parts_of(c)[1] ** 2 * (largest(c).high - ratio(c) + c.unknown),
            ),
            "E54",
        ),
        Mistake(
            "bounds_exchanged",
            lambda c: tuple(np.asarray(-distance) for distance in _distances_with(c, largest(c).high)[::-1]),
        ),
    ),
    kind="metamorphic",
)


def _gaussian_call(impl: Any, c: Any) -> object:
    unknown = impl.sigma_hat_squared_from_residual(c.schedule, c.t, c.residual)
    return impl.analytic_variance(c.schedule, c.t, c.s, unknown, 1.0)


def _gaussian_expected(case: Case) -> tuple[Expected, ...]:
    r"""b V_s / V_t, with the variance of the data that leaves the residual r: between beta_tilde and beta / alpha."""
    r, b = DoubleDouble.of(case.residual), case.step("beta")
    value = r * case.step("reverse_variance_bound") + (1.0 - r) * case.step("beta_tilde")
    return (exact(value + 0.0 * b, VARIANCE_ROUNDINGS + NOISE_TO_SIGNAL + 1),)


def _gaussian_of(case: Case, residual: Array) -> Array:
    return np.asarray(residual * step(case, "reverse_variance_bound") + (1 - residual) * step(case, "beta_tilde"))


GAUSSIAN = Law(
    id="analytic/gaussian_data",
    needs="analytic_variance sigma_hat_squared_from_residual",
    statement=r"x_0 \sim \mathcal N(m, v):\quad \sigma^{*2} = \mathrm{Var}[x_s\mid x_t] ="
    r" \beta_{t|s}\frac{\bar\alpha_sv + \bar\beta_s}{\bar\alpha_tv + \bar\beta_t},\quad"
    r" \frac1d\mathbb E\lVert\varepsilon - \hat\varepsilon^*\rVert^2 = \frac{\bar\alpha_tv}{\bar\alpha_tv + \bar\beta_t}",
    source="bao2022, corollary 2; Bayes' rule for a normal prior",
    cases=with_statistics(at_step(zero_snr=False), residual=(0.0, 1.0)),
    call=_gaussian_call,
    expect=_gaussian_expected,
    mistakes=(
        Mistake("factor_not_complemented", lambda c: (_gaussian_of(c, 1 - c.residual),), "E54"),
        Mistake("posterior_variance_whatever_the_data", lambda c: (_gaussian_of(c, 0 * c.residual),)),
        Mistake("beta_whatever_the_data", lambda c: (step(c, "beta"),)),
        Mistake(
            "unknown_of_the_noise_taken_for_that_of_the_data",
            lambda c: (step(c, "beta_tilde") + step(c, "x0_weight") ** 2 * c.residual,),
        ),
    ),
    kind="metamorphic",
)

LAWS = (VARIANCE, STD, BOUNDS, BRACKET, GAUSSIAN)
