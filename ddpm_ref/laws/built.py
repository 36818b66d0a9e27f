"""Laws of whole sets of tables that an implementation builds itself, compensated sums and all.

`ddpm_ref.laws.schedule` holds five tables against what any stable form keeps. An implementation that offers ``built``
promises more: every table a sampler reads, and steps between any two levels, with a few roundings at every t.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.laws.cases import Case, Source, at_step, rounded_alpha_bar, step, whole_schedule
from ddpm_ref.laws.registry import PAIR_COEFFICIENT, ROOT, Law, Mistake, Outputs, exact
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array

# log1p errs by two roundings, as does everything summed of it (the sum is of one sign and kept in two words); it is
# rounded to one word, and expm1 adds two. Of the exponential's argument the roundings count |L| times.
LOGARITHM = 3
COMPLEMENT = LOGARITHM + 2
# Level 0, clean data.
FIRST = {
    "beta": 0.0,
    "alpha": 1.0,
    "sqrt_alpha": 1.0,
    "sqrt_beta": 0.0,
    "recip_sqrt_alpha": 1.0,
    "alpha_bar": 1.0,
    "beta_bar": 0.0,
    "sqrt_alpha_bar": 1.0,
    "sqrt_beta_bar": 0.0,
    "sqrt_recip_alpha_bar": 1.0,
    "sqrt_recipm1_alpha_bar": 0.0,
    "beta_tilde": 0.0,
    "snr": np.inf,
    "log_beta_bar": -np.inf,
    "eps_weight": 0.0,
    "posterior_x0_weight": 1.0,
    "posterior_xt_weight": 0.0,
}
NAMES = tuple(FIRST)


def _roundings(case: Case) -> dict[str, Array]:
    """Of every table, from level 0 on."""
    t = np.arange(case.noise_schedule.T + 1)
    product = np.maximum(2.0 * t - 1, 0)  # 1 - beta once and a product once per level
    root_of_product, none = product / 2 + ROOT, np.zeros(len(t))
    with np.errstate(invalid="ignore"):
        # log(1 - e^L): near 0 the condition number of log1p is at most 1.45, that of the exponential |L|
        size = np.nan_to_num(np.abs(case.noise_schedule.log_alpha_bar), posinf=0.0)
    return {
        "beta": none + 1,  # given, and stored
        "alpha": none + 1,
        "sqrt_alpha": none + ROOT + 1,
        "sqrt_beta": none + ROOT,
        "recip_sqrt_alpha": none + ROOT + 2,
        "alpha_bar": product,
        "beta_bar": none + COMPLEMENT,
        "sqrt_alpha_bar": root_of_product,
        "sqrt_beta_bar": none + COMPLEMENT / 2 + ROOT,
        "sqrt_recip_alpha_bar": root_of_product + 1,
        "sqrt_recipm1_alpha_bar": root_of_product + COMPLEMENT / 2 + ROOT + 1,
        "beta_tilde": none + 2 * COMPLEMENT + 2,
        "snr": product + COMPLEMENT + 1,
        "log_beta_bar": 1.45 * (LOGARITHM * size + COMPLEMENT / 0.69) + 3,
        "eps_weight": none + 2 * ROOT + 3 + COMPLEMENT / 2,
        "posterior_x0_weight": root_of_product + COMPLEMENT + 2,
        "posterior_xt_weight": none + ROOT + 1 + 2 * COMPLEMENT + 2,
    }


def _table(case: Case, name: str) -> DoubleDouble:
    schedule = case.noise_schedule
    if name == "log_beta_bar":  # correctly rounded in the reference; its words would be those of a logarithm near 0
        return DoubleDouble.of(schedule.log_beta_bar)
    words = schedule.words(name.replace("posterior_", ""), np.arange(1, schedule.T + 1))
    high, low = np.append(FIRST[name], words.high), np.append(0.0, words.low)
    return DoubleDouble(high, np.where(np.isfinite(high), low, 0.0))


def _expected(case: Case) -> tuple[Expected, ...]:
    roundings = _roundings(case)
    tables = (exact(_table(case, name), np.ceil(roundings[name]).astype(np.int64)) for name in NAMES)
    dead = DoubleDouble.of(float(case.noise_schedule.alpha_bar[-1] == 0))
    return *tables, exact(dead, 0)


def _all_tables(impl: Any, c: Any) -> tuple[object, ...]:
    tables = impl.built(c.schedule)
    return *(getattr(tables, name) for name in NAMES), tables.alpha_bar[0] * tables.zero_terminal_snr


def _tables(case: Case) -> dict[str, Array]:
    return {name: np.asarray(getattr(case.noise_schedule, name)) for name in NAMES}


def _outputs(case: Case, **wrong: Array) -> Outputs:
    return *(_tables(case) | wrong).values(), np.asarray(float(case.noise_schedule.alpha_bar[-1] == 0))


def _shifted(case: Case) -> Outputs:
    return _outputs(case, **{name: np.append(v[:1], v[:-1]) for name, v in _tables(case).items()})


def _complement_of_the_rounded(case: Case) -> Outputs:
    return _outputs(case, beta_bar=case.claim.computing.round(1 - rounded_alpha_bar(case)))


TABLES = Law(
    id="schedule/built_tables",
    needs="built",
    statement=r"\sqrt{\alpha_t},\ \sqrt{\beta_t},\ \bar\alpha_t,\ \bar\beta_t,\ \tilde\beta_t,\ \dots\quad\text{for } t = 0..T",
    source="ho2020, eq. (2), (4), (7), (11)",
    cases=whole_schedule(),
    call=_all_tables,
    expect=_expected,
    mistakes=(
        Mistake("shifted_by_one", _shifted),
        Mistake("complement_of_the_rounded_product", _complement_of_the_rounded, rounding=True),
        Mistake("roots_forgotten", lambda c: _outputs(c, sqrt_beta=c.noise_schedule.beta)),
        Mistake("variances_from_level_1_on", lambda c: _outputs(c, beta_tilde=c.noise_schedule.beta)),
    ),
    kind="coefficient",
)


def _dying(source: Source, claim: Claim) -> Case:
    """Schedules at whose end no signal is left."""
    T = 20 if source.bulk else source.choice([1, 2, 5])
    return Case(claim, NoiseSchedule.from_betas([*np.linspace(1e-3, 0.2, T - 1), 1.0]), {})


TABLES_AT_ZERO_SNR = replace(
    TABLES,
    id="schedule/built_tables_at_zero_terminal_snr",
    statement=TABLES.statement + r",\quad \beta_T = 1",
    cases=_dying,
    mistakes=(
        *(mistake for mistake in TABLES.mistakes if mistake.name != "variances_from_level_1_on"),
        Mistake("not_told_that_the_signal_ends", lambda c: (*_outputs(c)[:-1], np.zeros(()))),
    ),
)


def _steps(impl: Any, c: Any) -> tuple[object, object, object]:
    found = impl.built(c.schedule).between(c.t, c.s)
    return found.alpha, found.beta, found.beta_tilde


def _steps_expected(case: Case) -> tuple[Expected, ...]:
    alpha, log = case.step("alpha"), case.noise_schedule.log_alpha_bar
    with np.errstate(invalid="ignore"):
        length = np.nan_to_num(np.abs(log[case.t] - log[case.s]), posinf=0.0)
    beta = PAIR_COEFFICIENT + LOGARITHM
    return (
        exact(alpha, np.ceil(PAIR_COEFFICIENT + LOGARITHM * length).astype(np.int64)),
        exact(case.step("beta"), beta),
        exact(case.step("beta_tilde"), beta + 2 * COMPLEMENT + 2),
    )


def _from_rounded_tables(case: Case) -> Outputs:
    round_ = case.claim.computing.round
    alpha_bar = round_(case.noise_schedule.alpha_bar)
    beta = 1 - round_(alpha_bar[case.t] / alpha_bar[case.s])
    return step(case, "alpha"), beta, beta * case.noise_schedule.beta_bar[case.s] / case.noise_schedule.beta_bar[case.t]


def _from_one_word(case: Case) -> Outputs:
    """The logarithm kept in one word: a difference of near levels has only the digits that are left."""
    log = case.claim.computing.round(case.noise_schedule.log_alpha_bar)
    with np.errstate(invalid="ignore"):
        beta = -np.expm1(np.where(np.isneginf(log[case.t]), -np.inf, log[case.t] - log[case.s]))
    return step(case, "alpha"), beta, step(case, "beta_tilde")


STEPS = Law(
    id="schedule/built_steps",
    needs="built",
    statement=r"\alpha_{t|s},\ \beta_{t|s},\ \tilde\beta_{t|s}\quad\text{from the same tables}",
    source="ho2020, eq. (4) and (7), applied between levels",
    cases=at_step(),
    call=_steps,
    expect=_steps_expected,
    mistakes=(
        Mistake("complement_of_rounded_tables", _from_rounded_tables, rounding=True),
        Mistake("logarithm_in_one_word", _from_one_word, rounding=True),
        Mistake("beta_of_one_level", lambda c: (step(c, "alpha"), c.noise_schedule.beta[c.t], step(c, "beta_tilde"))),
    ),
    kind="coefficient",
)

LAWS = (TABLES, TABLES_AT_ZERO_SNR, STEPS)
