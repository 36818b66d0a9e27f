"""Laws of the weights that the bound gives to squared errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.laws.cases import Case, Source, at, at_s, at_step, draw_levels, draw_schedule, step
from ddpm_ref.laws.registry import PAIR_COEFFICIENT, Law, Mistake, Outputs, exact
from ddpm_ref.laws.running import depth
from ddpm_ref.typing import Array

# The square of a coefficient of the mean over twice a variance: the longest way to a weight in which nothing cancels.
WEIGHT = 3 * PAIR_COEFFICIENT + 2
KINDS = ("posterior", "beta")

# --- the four weights -------------------------------------------------------------------------------------------------


def weight_words(case: Case, variance: str) -> dict[str, DoubleDouble]:
    """In two words, by what is predicted; without eps where that does not determine the data."""
    beta, late, schedule = case.step("beta"), case.level("beta_bar"), case.noise_schedule
    signal = _words_of_s(case, "alpha_bar", 1.0)
    noise = _words_of_s(case, "beta_bar", 0.0) if variance == "posterior" else late
    weights = {"mean": late / (noise * beta) * 0.5, "x0": signal * beta / (noise * late) * 0.5}
    weights["v"] = signal * beta / noise * 0.5
    if (schedule.alpha_bar[case.t] > 0).all():
        weights["eps"] = beta / (noise * case.step("alpha")) * 0.5
    return weights


def _words_of_s(case: Case, table: str, clean: float) -> DoubleDouble:
    words, zero = case.noise_schedule.words(table, np.maximum(case.s, 1)), case.s == 0
    return DoubleDouble(np.where(zero, clean, words.high), np.where(zero, 0.0, words.low))


def variance_of(case: Case, kind: str) -> Array:
    """Of the step."""
    return step(case, "beta_tilde" if kind == "posterior" else "beta")


def weight_of(case: Case, kind: str, name: str) -> Array:
    """The right weight in float64, as it is read off the paper."""
    factors: dict[str, Array | float] = {
        "mean": 1.0,
        "x0": step(case, "x0_weight") ** 2,
        "eps": step(case, "eps_weight") ** 2,
        "v": step(case, "x0_weight") ** 2 * at(case, "beta_bar"),
    }
    return np.asarray(factors[name] / (2 * variance_of(case, kind)))


def _each(name: str, change: Callable[[Case, str], Array]) -> Callable[[Case], Outputs]:
    """The weights of both variances, multiplied by something."""
    return lambda case: tuple(weight_of(case, kind, name) * change(case, kind) for kind in KINDS)


def _call(name: str) -> Callable[[Any, Any], object]:
    def call(impl: Any, c: Any) -> object:
        weight = getattr(impl, f"loss_weight_{name}")
        return tuple(weight(c.schedule, c.t, c.s, kind) for kind in KINDS)

    return call


def _over(power: float) -> Callable[[Case, str], Array]:
    """A deviation, or its fourth power, taken for the variance."""
    return lambda case, kind: variance_of(case, kind) ** power


def _other_variance(case: Case, kind: str) -> Array:
    other = "beta" if kind == "posterior" else "posterior"
    return np.asarray(variance_of(case, kind) / variance_of(case, other))


def _inverse(coefficient: str) -> Callable[[Case, str], Array]:
    """The coefficient once instead of squared."""
    return lambda case, kind: 1 / step(case, coefficient)


def _difference_of_snr(case: Case) -> Outputs:
    """As it stands, from tables that start from rounded products."""
    compute = case.claim.computing
    snr = [compute.round(at_(case, "alpha_bar") / compute.round(1 - at_(case, "alpha_bar"))) for at_ in (at_s, at)]
    small = compute.round(snr[0] - snr[1]) / 2
    return small, compute.round(small * (at_s(case, "beta_bar") / at(case, "beta_bar")))


def _ones(case: Case, kind: str) -> Array:
    return np.asarray(1 / weight_of(case, kind, "eps"))


def _law(name: str, statement: str, source: str, *mistakes: Mistake, zero_snr: bool = True) -> Law:
    common = (
        Mistake("half_forgotten", _each(name, lambda c, kind: np.asarray(2.0))),
        Mistake("standard_deviation_for_the_variance", _each(name, _over(0.5))),
        Mistake("fixed_small_and_large_exchanged", _each(name, _other_variance), "E42"),
    )
    return Law(
        id=f"bound/loss_weight_{name}",
        needs=f"loss_weight_{name}",
        statement=statement,
        source=source,
        cases=at_step(lowest_s=1, zero_snr=zero_snr),
        call=_call(name),
        expect=lambda c: tuple(exact(weight_words(c, kind)[name], WEIGHT) for kind in KINDS),
        mistakes=(*common, *mistakes),
        kind="coefficient",
    )


OF_MEAN = _law(
    "mean",
    r"\frac1{2\sigma^2}",
    "ho2020, eq. (8)",
    Mistake("logarithm_for_the_variance", _each("mean", lambda c, k: variance_of(c, k) / np.log(variance_of(c, k)))),
)
OF_X0 = _law(
    "x0",
    r"\sigma^2 = \tilde\beta:\ \tfrac12(\mathrm{SNR}_s - \mathrm{SNR}_t),\quad"
    r"\sigma^2 = \beta:\ \frac{\bar\alpha_s\beta_{t|s}}{2\bar\beta_t^2}",
    "kingma2021; ho2020, eq. (8)",
    Mistake("difference_of_snr_reversed", _each("x0", lambda c, kind: np.asarray(-1.0))),
    Mistake("coefficient_not_squared", _each("x0", _inverse("x0_weight")), "E29"),
    Mistake("cancelling_form", _difference_of_snr, rounding=True),
    Mistake("alpha_for_alpha_bar", _each("x0", lambda c, kind: at_s(c, "alpha") / at_s(c, "alpha_bar"))),
    Mistake("weight_of_eps", lambda c: tuple(weight_of(c, kind, "x0") / snr(c) for kind in KINDS)),
)
OF_EPS = _law(
    "eps",
    r"\frac{\beta_{t|s}^2}{2\sigma^2\alpha_{t|s}\bar\beta_t},\quad \sigma^2 = \tilde\beta:"
    r"\ \tfrac12\left(\frac{\mathrm{SNR}_s}{\mathrm{SNR}_t} - 1\right)",
    "ho2020, eq. (12); kingma2021",
    Mistake("coefficient_not_squared", _each("eps", _inverse("eps_weight")), "E29"),
    Mistake("called_constant_and_left_away", _each("eps", _ones), "E30"),
    Mistake("alpha_bar_for_alpha", _each("eps", lambda c, kind: step(c, "alpha") / at(c, "alpha_bar"))),
    Mistake("noise_of_the_earlier_level", _each("eps", lambda c, k: at(c, "beta_bar") / at_s(c, "beta_bar"))),
    Mistake("weight_of_x0", lambda c: tuple(weight_of(c, kind, "eps") * snr(c) for kind in KINDS)),
    zero_snr=False,
)
OF_V = _law(
    "v",
    r"\sigma^2 = \tilde\beta:\ \frac{\bar\alpha_s\beta_{t|s}}{2\bar\beta_s},\quad"
    r"\sigma^2 = \beta:\ \frac{\bar\alpha_s\beta_{t|s}}{2\bar\beta_t}",
    "salimans2022; ho2020, eq. (8)",
    Mistake("weight_of_x0", _each("v", lambda c, kind: 1 / at(c, "beta_bar"))),
    Mistake("coefficient_not_squared", _each("v", _inverse("x0_weight")), "E29"),
)


def snr(case: Case) -> Array:
    """At the levels of a case."""
    return at(case, "snr")


# --- the step to the data ---------------------------------------------------------------------------------------------


def _to_the_data(source: Source, claim: Claim) -> Case:
    schedule = draw_schedule(source, zero_snr=False)
    t = draw_levels(source, (8,), 1, schedule.T)
    return Case(claim, schedule, {"t": t, "s": np.zeros_like(t)})


FOUR = ("mean", "x0", "eps", "v")


def _all_four(impl: Any, c: Any) -> object:
    return tuple(getattr(impl, f"loss_weight_{name}")(c.schedule, c.t, c.s, "beta") for name in FOUR)


def _four(case: Case, factor: Array | float = 1.0) -> Outputs:
    return tuple(weight_of(case, "beta", name) * factor for name in FOUR)


def _infinite(case: Case) -> Outputs:
    with np.errstate(divide="ignore"):
        return tuple(weight_of(case, "posterior", name) for name in FOUR)


LAST_STEP = Law(
    id="bound/weights_of_the_last_step",
    needs=" ".join(f"loss_weight_{name}" for name in FOUR),
    statement=r"s = 0,\ \sigma^2 = \beta_{t|0}:\quad \frac1{2\bar\beta_t},\ \frac1{2\bar\beta_t},"
    r"\ \frac1{2\bar\alpha_t},\ \tfrac12\ \text{for the mean}, x_0, \varepsilon, v",
    source="ho2020, eq. (8) and (12)",
    cases=_to_the_data,
    call=_all_four,
    expect=lambda c: tuple(exact(weight_words(c, "beta")[name], WEIGHT) for name in FOUR),
    mistakes=(
        Mistake("posterior_variance_of_0", _infinite, "E37"),
        Mistake("variance_of_1e_20", lambda c: _four(c, variance_of(c, "beta") / 1e-20), "E36"),
        Mistake("half_forgotten", lambda c: _four(c, 2.0)),
        Mistake("left_away_where_the_data_are_reached", lambda c: _four(c, 0.0)),
    ),
    kind="coefficient",
)

# --- sums along a trajectory ------------------------------------------------------------------------------------------


def _downwards(source: Source, claim: Claim) -> Case:
    """A trajectory, down to any level above 0."""
    schedule = draw_schedule(source, shortest=2)
    first = source.choice([schedule.T, None]) or source.integer(2, schedule.T)
    below = {source.integer(1, first - 1) for _ in range(source.integer(1, 64 if source.bulk else 6))}
    levels = np.array(sorted(below | {first}, reverse=True), dtype=np.int64)
    return Case(claim, schedule, {"t": levels[:-1], "s": levels[1:]})


def _telescoping_expected(case: Case) -> tuple[Expected, ...]:
    """From the one step that leads all the way, without a difference of near numbers."""
    first, last, words = case.t[:1], case.s[-1:], case.noise_schedule.words
    whole = case.noise_schedule.between(first, last).words("beta")
    value = words("alpha_bar", last) * whole / words("beta_bar", last) / words("beta_bar", first) * 0.5
    return (exact(value.reshape(()), WEIGHT + depth(len(case.t))),)


def _fall(case: Case, first: int, last: int) -> Array:
    snr = case.noise_schedule.snr
    return np.asarray((snr[last] - snr[first]) / 2)


def _sum(case: Case, factor: Array | float, kind: str = "posterior") -> Outputs:
    return (np.asarray(np.sum(weight_of(case, kind, "x0") * factor)),)


def _of_neighbours(case: Case) -> Outputs:
    """Each step paid for as if it came from the level above the one it ends at."""
    snr = case.noise_schedule.snr
    return (np.asarray(np.sum(snr[case.s] - snr[case.s + 1]) / 2),)


TELESCOPING = Law(
    id="bound/weights_telescope",
    needs="loss_weight_x0",
    statement=r"\sum_{t\to s} w^x_{t|s} = \tfrac12(\mathrm{SNR}_{s_K} - \mathrm{SNR}_{t_1})"
    r"\ \text{on any trajectory } t_1 > \dots > s_K \ge 1",
    source="kingma2021",
    cases=_downwards,
    call=lambda impl, c: impl.loss_weight_x0(c.schedule, c.t, c.s, "posterior").sum(),
    expect=_telescoping_expected,
    mistakes=(
        Mistake("weights_of_neighbouring_levels", _of_neighbours, "E50"),
        Mistake("ends_of_the_schedule", lambda c: (_fall(c, c.noise_schedule.T, 1),)),
        Mistake("half_forgotten", lambda c: _sum(c, 2.0)),
        Mistake("coefficient_not_squared", lambda c: _sum(c, 1 / step(c, "x0_weight")), "E29"),
        Mistake("beta_for_the_posterior_variance", lambda c: _sum(c, 1.0, "beta"), "E42"),
    ),
    kind="coefficient",
)

LAWS = (OF_MEAN, OF_X0, OF_EPS, OF_V, LAST_STEP, TELESCOPING)
