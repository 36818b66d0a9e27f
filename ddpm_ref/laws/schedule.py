"""Laws of schedules: the tables an implementation builds from betas that it is given.

The tables of `reference` are equal to the exact values rounded once, and its tests say so by equality. A law speaks
about anybody's tables: they may carry the roundings that a stable form needs, and no more.
"""

from __future__ import annotations

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.arithmetic.double_double import log
from ddpm_ref.laws.cases import Case, Source, at_step, rounded_alpha_bar, step, whole_schedule
from ddpm_ref.laws.registry import PAIR_COEFFICIENT, Law, Mistake, Outputs, exact
from ddpm_ref.typing import Array, IntArray

LIBRARY = (
    8  # log1p, expm1 and exp err by at most two units each in any library worth the name; two more for the sum's ends
)


def _levels(case: Case) -> IntArray:
    return np.arange(case.noise_schedule.T + 1)


def _table(case: Case, name: str, first: float) -> DoubleDouble:
    """A whole table of length ``T + 1`` in two words."""
    words = case.noise_schedule.words(name, _levels(case)[1:])
    return DoubleDouble(np.concatenate([[first], words.high]), np.concatenate([[0.0], words.low]))


def _product_roundings(case: Case) -> IntArray:
    """``1 - beta`` once and a product once per level, in any order: ``2 t - 1``."""
    return np.maximum(2 * _levels(case) - 1, 0)


def _complement_roundings(case: Case) -> IntArray:
    """A one-signed sum of logarithms, or of products, of ``t`` terms."""
    return np.where(_levels(case) > 0, 3 * _levels(case) + LIBRARY, 0)


def _shifted(values: Array) -> Array:
    return np.concatenate([values[:1], values[:-1]])


def _recursion_with_beta_squared(case: Case) -> Outputs:
    """The noise variance of a chain that adds ``beta`` times the noise instead of its root."""
    variance = [0.0]
    for beta in case.noise_schedule.beta[1:].tolist():
        variance.append((1 - beta) * variance[-1] + beta * beta)
    return (np.array(variance),)


ALPHA_BAR = Law(
    id="schedule/alpha_bar",
    needs="alpha_bar",
    statement=r"\bar\alpha_t = \prod_{i\le t}(1-\beta_i),\quad \bar\alpha_0 = 1",
    source="ho2020, eq. (4)",
    cases=whole_schedule(),
    call=lambda impl, c: impl.alpha_bar(c.schedule),
    expect=lambda c: (exact(_table(c, "alpha_bar", 1.0), _product_roundings(c)),),
    mistakes=(
        Mistake("shifted_by_one", lambda c: (_shifted(c.noise_schedule.alpha_bar),)),
        Mistake("complement_returned", lambda c: (c.noise_schedule.beta_bar,)),
        Mistake("square_root_returned", lambda c: (c.noise_schedule.sqrt_alpha_bar,)),
        Mistake("beta_squared_in_the_chain", lambda c: (1 - _recursion_with_beta_squared(c)[0],), "E01"),
    ),
    kind="coefficient",
)

BETA_BAR = Law(
    id="schedule/beta_bar",
    needs="beta_bar",
    statement=r"\bar\beta_t = 1 - \bar\alpha_t = -\mathrm{expm1}\sum_{i\le t}\mathrm{log1p}(-\beta_i)",
    source="ho2020, eq. (4), stable form",
    cases=whole_schedule(),
    call=lambda impl, c: impl.beta_bar(c.schedule),
    expect=lambda c: (exact(_table(c, "beta_bar", 0.0), _complement_roundings(c)),),
    mistakes=(
        Mistake("shifted_by_one", lambda c: (_shifted(c.noise_schedule.beta_bar),)),
        Mistake(
            "one_minus_rounded_product",
            lambda c: (c.claim.computing.round(1 - rounded_alpha_bar(c)),),
            spread=lambda c: (2 * _levels(c) * c.noise_schedule.alpha_bar,),
            rounding=True,
        ),
        Mistake("beta_squared_in_the_chain", _recursion_with_beta_squared, "E01"),
        Mistake("standard_deviation_returned", lambda c: (c.noise_schedule.sqrt_beta_bar,)),
    ),
    kind="coefficient",
)


def _tilde_expected(case: Case) -> tuple[Expected, ...]:
    roundings = np.where(_levels(case) > 1, 2 * _complement_roundings(case) + 2, 0)
    return (exact(_table(case, "beta_tilde", 0.0), roundings),)


def _naive_tilde(case: Case) -> Outputs:
    round_, alpha_bar = case.claim.computing.round, rounded_alpha_bar(case)
    beta_bar = round_(1 - alpha_bar)
    with np.errstate(divide="ignore", invalid="ignore"):
        tilde = round_(round_(case.noise_schedule.beta[1:] * beta_bar[:-1]) / beta_bar[1:])
    return (np.concatenate([[0.0], tilde]),)


def _naive_tilde_spread(case: Case) -> Outputs:
    """The rounding errors of two products, each amplified by its complement."""
    schedule, t = case.noise_schedule, _levels(case)
    amplification = np.zeros(schedule.T + 1)
    amplification[2:] = 2 * t[2:] * (2 + schedule.snr[2:] + schedule.snr[1:-1])
    return (amplification * schedule.beta_tilde,)


BETA_TILDE = Law(
    id="schedule/beta_tilde",
    needs="beta_tilde",
    statement=r"\tilde\beta_t = \beta_t\bar\beta_{t-1}/\bar\beta_t,\quad \tilde\beta_1 = 0",
    source="ho2020, eq. (7)",
    cases=whole_schedule(),
    call=lambda impl, c: impl.beta_tilde(c.schedule),
    expect=_tilde_expected,
    mistakes=(
        Mistake("shifted_by_one", lambda c: (_shifted(c.noise_schedule.beta_tilde),)),
        Mistake("complements_from_rounded_products", _naive_tilde, spread=_naive_tilde_spread, rounding=True),
        Mistake("standard_deviation_returned", lambda c: (np.sqrt(c.noise_schedule.beta_tilde),), "E23"),
        Mistake("taken_for_a_standard_deviation_and_squared", lambda c: (c.noise_schedule.beta_tilde**2,), "E14"),
        Mistake("fixed_large_variance", lambda c: (c.noise_schedule.beta,), "E42"),
    ),
    kind="coefficient",
)


def _snr_expected(case: Case) -> tuple[Expected, ...]:
    return (exact(_table(case, "snr", np.inf), _product_roundings(case) + _complement_roundings(case) + 1),)


SNR = Law(
    id="schedule/snr",
    needs="snr",
    statement=r"\mathrm{SNR}(t) = \bar\alpha_t/\bar\beta_t",
    source="kingma2021",
    cases=whole_schedule(),
    call=lambda impl, c: impl.snr(c.schedule),
    expect=_snr_expected,
    mistakes=(
        Mistake("shifted_by_one", lambda c: (_shifted(c.noise_schedule.snr),)),
        Mistake("amplitude_ratio_instead_of_power_ratio", lambda c: (np.sqrt(c.noise_schedule.snr),)),
        Mistake("inverted", lambda c: (_inverse(c.noise_schedule.snr),)),
    ),
    kind="coefficient",
)


def _inverse(values: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(1 / values)


def _log_snr_expected(case: Case) -> tuple[Expected, ...]:
    """Absolute, because the logarithm crosses zero: a relative error of the ratio is an absolute one of its logarithm."""
    ratio = _table(case, "snr", np.inf)
    finite = np.isfinite(ratio.high) & (ratio.high > 0)
    inside = log(DoubleDouble(np.where(finite, ratio.high, 1.0), np.where(finite, ratio.low, 0.0)))
    limit = np.where(ratio.high > 0, np.inf, -np.inf)
    value = DoubleDouble(np.where(finite, inside.high, limit), np.where(finite, inside.low, 0.0))
    scale = np.where(finite, 1 + np.abs(inside.high), 0.0)
    return (Expected(value, scale, _product_roundings(case) + _complement_roundings(case) + 2),)


LOG_SNR = Law(
    id="schedule/log_snr",
    needs="log_snr",
    statement=r"\log\mathrm{SNR}(t) = \mathrm{logit}\,\bar\alpha_t",
    source="kingma2021",
    cases=whole_schedule(),
    call=lambda impl, c: impl.log_snr(c.schedule),
    expect=_log_snr_expected,
    mistakes=(
        Mistake("shifted_by_one", lambda c: (_shifted(c.noise_schedule.log_snr),)),
        Mistake("half_log_snr", lambda c: (c.noise_schedule.log_snr / 2,)),
        Mistake("log_alpha_bar", lambda c: (c.noise_schedule.log_alpha_bar,)),
    ),
    kind="coefficient",
)


def _from_rounded_tables(case: Case) -> Outputs:
    """``1 - alpha_bar_t / alpha_bar_s`` from correctly rounded tables: for neighbours hopeless in any format."""
    round_, alpha_bar = case.claim.computing.round, case.noise_schedule.alpha_bar
    alpha = round_(round_(alpha_bar[case.t]) / round_(alpha_bar[case.s]))
    return alpha, round_(1 - alpha)


BETWEEN = Law(
    id="schedule/between",
    needs="between",
    statement=r"\alpha_{t|s} = \bar\alpha_t/\bar\alpha_s,\quad \beta_{t|s} = 1 - \alpha_{t|s}",
    source="ho2020, eq. (4), applied between levels",
    cases=at_step(),
    call=lambda impl, c: impl.between(c.schedule, c.t, c.s),
    expect=lambda c: (exact(c.step("alpha"), PAIR_COEFFICIENT), exact(c.step("beta"), PAIR_COEFFICIENT)),
    mistakes=(
        Mistake("complement_of_rounded_tables", _from_rounded_tables, rounding=True),
        Mistake("marginal_of_t", lambda c: (c.noise_schedule.alpha_bar[c.t], c.noise_schedule.beta_bar[c.t])),
        Mistake("beta_of_one_level", lambda c: (1 - c.noise_schedule.beta[c.t], c.noise_schedule.beta[c.t])),
        Mistake("alpha_and_beta_exchanged", lambda c: (step(c, "beta"), step(c, "alpha"))),
    ),
    kind="coefficient",
)


# --- the beta formulas ------------------------------------------------------------------------------------------------


def _linear_cases(source: Source, claim: Claim) -> Case:
    T = source.choice([10, 1, 2, 3, 50, 1000])
    ends = np.sort(np.exp(source.numbers((2,), np.log(1e-5), np.log(0.05))))
    return Case(claim, None, {"T": np.asarray(T), "beta_1": ends[0], "beta_T": ends[1]})


def _linear(case: Case, denominator: int, first: int = 0) -> Array:
    k = np.arange(int(case.T)) + first
    return np.asarray(case.beta_1 + k * (case.beta_T - case.beta_1) / max(denominator, 1))


def _linear_expected(case: Case) -> tuple[Expected, ...]:
    T, first = int(case.T), DoubleDouble.of(case.beta_1)
    k = np.arange(T, dtype=np.float64)
    value = first + (DoubleDouble.of(case.beta_T) - first) * k / float(max(T - 1, 1))
    return (Expected(value, np.abs(value.high) + case.beta_1, 4),)


LINEAR_BETAS = Law(
    id="schedule/linear_betas",
    needs="linear_betas",
    statement=r"\beta_t = \beta_1 + (t-1)(\beta_T-\beta_1)/(T-1)",
    source="ho2020, section 4",
    cases=_linear_cases,
    call=lambda impl, c: impl.linear_betas(int(c.T), float(c.beta_1), float(c.beta_T)),
    expect=_linear_expected,
    mistakes=(
        Mistake("divided_by_T", lambda c: (_linear(c, int(c.T)),)),
        Mistake("shifted_by_one", lambda c: (_linear(c, int(c.T) - 1, first=1),)),
        Mistake("linear_in_the_root", lambda c: (np.linspace(np.sqrt(c.beta_1), np.sqrt(c.beta_T), int(c.T)) ** 2,)),
    ),
    kind="coefficient",
)

LAWS: tuple[Law, ...] = (ALPHA_BAR, BETA_BAR, BETA_TILDE, SNR, LOG_SNR, BETWEEN, LINEAR_BETAS)
