"""Laws of sampling with the optimal variance: a step, the rows of a plan, the cost of a trajectory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.arithmetic.double_double import log
from ddpm_ref.laws.analytic.cases import ratio, unknown_of, with_statistics
from ddpm_ref.laws.analytic.variance import (
    KNOWN_ROUNDINGS,
    STD_ROUNDINGS,
    VARIANCE_ROUNDINGS,
    expected_std,
    parts_of,
    variance_mistakes,
    variance_of,
)
from ddpm_ref.laws.cases import Case, Source, at, at_step, step
from ddpm_ref.laws.family import FAMILY_GAP, FAMILY_ROOT, levels_of, of_case, right, walks, with_eta
from ddpm_ref.laws.registry import PAIR_COEFFICIENT, PAIR_ROOT, Law, Mistake, Outputs, counted, exact
from ddpm_ref.typing import Array


def _wide(case: Case, values: DoubleDouble) -> DoubleDouble:
    return values.reshape(values.shape + (1,) * (case.xt.ndim - len(values.shape)))


def _step_expected(case: Case) -> tuple[Expected, ...]:
    m, x = of_case(case, case.xt), case.step("recip_sqrt_alpha", case.xt)
    std = expected_std(m, _wide(case, DoubleDouble.of(case.unknown)))
    kept = (x, case.xt, PAIR_ROOT), (-(m.gap * x / m.root), case.eps, FAMILY_GAP)
    return (counted(*kept, (std.value, case.noise, STD_ROUNDINGS)),)


def _moved(case: Case, variance: Array) -> Outputs:
    signal, direction, _ = right(case)
    x0 = (case.xt - at(case, "sqrt_beta_bar") * case.eps) / at(case, "sqrt_alpha_bar")
    return (signal * x0 + direction * case.eps + np.sqrt(variance) * case.noise,)


def _with_data(case: Case) -> Case:
    """The statistics of a case shaped to broadcast against its data."""
    return Case(case.claim, case.schedule, {**case.values, "unknown": unknown_of(case)})


def _step_mistakes() -> tuple[Mistake, ...]:
    planted = (
        *variance_mistakes(_moved),
        Mistake("variance_used_as_standard_deviation", lambda c: _moved(c, variance_of(c, c.unknown) ** 2), "E48"),
        Mistake(
            "sign_of_eps",
            lambda c: tuple(2 * m - w for m, w in zip(_mirror(c), _moved(c, variance_of(c, c.unknown)), strict=True)),
        ),
    )

    def widened(mistake: Mistake) -> Mistake:
        return Mistake(mistake.name, lambda c: mistake.value(_with_data(c)), mistake.erratum)

    return tuple(widened(mistake) for mistake in planted)


def _mirror(case: Case) -> Outputs:
    return (step(case, "recip_sqrt_alpha") * case.xt + np.sqrt(variance_of(case, case.unknown)) * case.noise,)


STEP = Law(
    id="analytic/step",
    needs="analytic_step",
    statement=r"x_s = \frac{x_t}{\sqrt{\alpha_{t|s}}}"
    r" + \left(\sqrt{\bar\beta_s - \lambda^2} - \sqrt{\bar\beta_t/\alpha_{t|s}}\right)\hat\varepsilon + \sigma^* z",
    source="bao2022, eq. (3) and (6)-(9)",
    cases=with_eta(with_statistics(at_step("xt", "eps", "noise", zero_snr=False), unknown=(0.0, 1.0))),
    call=lambda impl, c: impl.analytic_step(c.schedule, c.xt, c.t, c.s, c.eps, c.unknown, c.noise, float(c.eta)),
    expect=_step_expected,
    mistakes=_step_mistakes(),
)


def _plan_cases(source: Source, claim: Claim) -> Case:
    return with_eta(with_statistics(walks(zero_snr=False), unknown=(0.0, 1.0)))(source, claim)


def _silent_end(column: Array) -> Array:
    return np.append(column[:-1], 0.0)


def _plan_call(form: str) -> Callable[[Any, Any], object]:
    def call(impl: Any, c: Any) -> tuple[object, ...]:
        silent, noisy = (
            impl.analytic_plan(c.schedule, levels_of(c), c.unknown, float(c.eta), form, last)
            for last in ("none", "analytic")
        )
        return *silent, noisy[2]

    return call


def _plan_expected(form: str) -> Callable[[Case], tuple[Expected, ...]]:
    def expected(case: Case) -> tuple[Expected, ...]:
        std = expected_std(of_case(case), case.unknown)
        silent = DoubleDouble(_silent_end(std.value.high), _silent_end(std.value.low))
        state, prediction = _plan_mean(form, case)
        mean = exact(state, PAIR_COEFFICIENT if form == "eps" else FAMILY_ROOT), exact(prediction, FAMILY_GAP)
        return *mean, Expected(silent, _silent_end(std.scale), STD_ROUNDINGS), std

    return expected


def _plan_mean(form: str, case: Case) -> tuple[DoubleDouble, DoubleDouble]:
    m, x = of_case(case), case.step("recip_sqrt_alpha")
    return (x, -(m.gap * x / m.root)) if form == "eps" else (m.xt_weight, m.x0_weight)


def _plan(form: str) -> Law:
    def mean_of(case: Case) -> Outputs:
        first, second = _plan_mean(form, case)
        return first.high, second.high

    def columns(case: Case, variance: Array) -> Outputs:
        std = np.sqrt(variance)
        return *mean_of(case), _silent_end(std), std

    def noisy_end(case: Case) -> Outputs:
        std = np.sqrt(variance_of(case, case.unknown))
        return *mean_of(case), std, std

    weights = r"\frac{1}{\sqrt{\alpha_{t|s}}},\ \dots" if form == "eps" else r"C^x,\ C^0"
    return Law(
        id=f"analytic/plan_{form}",
        needs="analytic_plan",
        statement=weights + r",\ \sigma^*\ (0\ \text{at}\ s = 0,\ \text{or}\ \hat\sigma_t)",
        source="bao2022, eq. (3) and (6)-(9), corollary 1",
        cases=_plan_cases,
        call=_plan_call(form),
        expect=_plan_expected(form),
        mistakes=(
            *variance_mistakes(columns),
            Mistake("variance_used_as_standard_deviation", lambda c: columns(c, variance_of(c, c.unknown) ** 2), "E40"),
            Mistake("noise_in_the_last_step", noisy_end),
        ),
        kind="coefficient",
    )


PLAN_EPS, PLAN_X0 = _plan("eps"), _plan("x0")


def _cost_cases(source: Source, claim: Claim) -> Case:
    case = with_statistics(at_step(lowest_s=1, zero_snr=False), unknown=(0.0, 1.0))(source, claim)
    return Case(claim, case.schedule, {**case.values, "eta": np.asarray(source.choice([1.0, 0.5, 0.125]))})


def _cost_expected(case: Case) -> tuple[Expected, ...]:
    m = of_case(case)
    excess = m.x0_weight * m.x0_weight * case.unknown / (m.std * m.std)
    series = (
        excess - excess * excess / 2.0 + excess * excess * excess / 3.0
    )  # below 2**-40 what follows is 2**-122 of it
    large = excess.high > 2.0**-40
    logarithm = log(1.0 + excess)
    value = DoubleDouble(np.where(large, logarithm.high, series.high), np.where(large, logarithm.low, series.low))
    # log(1 + x) magnifies no relative error of x, which is a quotient of both parts of the variance.
    return (exact(value, VARIANCE_ROUNDINGS + KNOWN_ROUNDINGS + 1),)


def _cost_of(case: Case, variance: Array) -> Array:
    return np.asarray(np.log(variance / parts_of(case)[0]))


STEP_COST = Law(
    id="analytic/step_cost",
    needs="step_cost",
    statement=r"J(s, t) = \log\frac{\sigma^{*2}}{\lambda^2},\quad s \ge 1",
    source="bao2022, theorem 3",
    cases=_cost_cases,
    call=lambda impl, c: impl.step_cost(c.schedule, c.t, c.s, c.unknown, float(c.eta)),
    expect=_cost_expected,
    mistakes=(
        Mistake("nats_per_dimension_returned", lambda c: (_cost_of(c, variance_of(c, c.unknown)) / 2,)),
        Mistake("ratio_inverted", lambda c: (-_cost_of(c, variance_of(c, c.unknown)),)),
        Mistake("ratio_without_logarithm", lambda c: (variance_of(c, c.unknown) / parts_of(c)[0],)),
        Mistake(
            "factor_not_complemented", lambda c: (_cost_of(c, variance_of(c, np.abs(ratio(c) - c.unknown))),), "E54"
        ),
        Mistake("cost_of_eta_one_whatever_eta", lambda c: (_cost_at_one(c),)),
    ),
    kind="coefficient",
)


def _cost_at_one(case: Case) -> Array:
    one = Case(case.claim, case.schedule, {**case.values, "eta": np.asarray(1.0)})
    return _cost_of(one, variance_of(one, case.unknown))


LAWS = (STEP, PLAN_EPS, PLAN_X0, STEP_COST)
