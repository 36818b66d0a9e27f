"""Laws of arguments that are seldom given: a variance instead of eta, scales of each sample, numbers, limits."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.arithmetic.double_double import log, sqrt, where
from ddpm_ref.laws.cases import (
    NEGLIGIBLE,
    SHAPES,
    Case,
    Source,
    at,
    at_s,
    at_step,
    draw_pairs,
    draw_positive,
    draw_schedule,
    draw_tensor,
    spread_over_data,
    step,
)
from ddpm_ref.laws.forward import SECOND_MOMENT
from ddpm_ref.laws.guidance import EPS
from ddpm_ref.laws.plan import THRESHOLD
from ddpm_ref.laws.posterior import LOG_NORMAL
from ddpm_ref.laws.registry import PAIR_COEFFICIENT, Law, Mistake, Outputs, counted, exact
from ddpm_ref.typing import Array

# --- a variance instead of eta ----------------------------------------------------------------------------------------

# Counted as in `ddpm_ref.laws.family`. Of the weight of x_t: three quarters of the room leave a difference in which an entry
# counts four times; the sum, an entry and the quotient, all under a root.
GIVEN_ROOT = 6
# Of that of x0: beta + alpha sigma^2 (4), times an entry (2), divided by one (2), and by 1 + sqrt(alpha) C^x, of which half is
# the sum of 10 roundings, with the sum and the quotient.
GIVEN_GAP = 15


def _given_cases(source: Source, claim: Claim) -> Case:
    """Variances from none to three quarters of what is admissible, so that most of the digits of the rest are kept."""
    case = at_step("x0", "xt")(source, claim)
    room = case.noise_schedule.beta_bar[case.s]
    share = np.asarray([source.choice([0.0, 0.25, 0.5, 0.75]) for _ in range(case.s.size)]).reshape(case.s.shape)
    variance = claim.storing.round(share * room)
    return Case(claim, case.schedule, {**case.values, "variance": np.where(variance < NEGLIGIBLE, 0.0, variance)})


def _given_weights(case: Case) -> tuple[DoubleDouble, DoubleDouble]:
    """Of x0 and of x_t, as printed: the words have digits enough to cancel."""
    given = spread_over_data(case, np.asarray(case.variance))
    first = spread_over_data(case, np.asarray(case.s == 0)).astype(bool)
    schedule, s = case.noise_schedule, np.maximum(case.s, 1)
    earlier = [
        spread.reshape(spread.shape + (1,) * (case.x0.ndim - len(spread.shape)))
        for spread in (schedule.words("beta_bar", s), schedule.words("sqrt_alpha_bar", s))
    ]
    left = earlier[0] - given
    left = where(first, DoubleDouble.of(np.zeros(left.shape)), left)
    from_xt = sqrt(left) / sqrt(case.level("beta_bar", case.x0))
    from_x0 = earlier[1] - case.level("sqrt_alpha_bar", case.x0) * from_xt
    return where(first, DoubleDouble.of(np.ones(from_x0.shape)), from_x0), from_xt


def _given_expected(case: Case) -> tuple[Expected, ...]:
    from_x0, from_xt = _given_weights(case)
    variance = DoubleDouble.of(spread_over_data(case, np.asarray(case.variance)))
    return counted((from_x0, case.x0, GIVEN_GAP), (from_xt, case.xt, GIVEN_ROOT)), exact(variance, 1)


def _with_variance(case: Case, used: Array) -> Outputs:
    direction = np.sqrt(np.maximum(at_s(case, "beta_bar") - used, 0.0)) / at(case, "sqrt_beta_bar")
    from_x0 = at_s(case, "sqrt_alpha_bar") - at(case, "sqrt_alpha_bar") * direction
    return from_x0 * case.x0 + direction * case.xt, spread_over_data(case, np.asarray(case.variance))


def _given(case: Case) -> Array:
    return spread_over_data(case, np.asarray(case.variance))


GIVEN_VARIANCE = Law(
    id="ddim/posterior_of_a_given_variance",
    needs="ddim_posterior_of_variance",
    statement=r"\sqrt{\bar\alpha_s}x_0 + \sqrt{\bar\beta_s - \sigma^2}\,(x_t - \sqrt{\bar\alpha_t}x_0)/\sqrt{\bar\beta_t},"
    r"\ \sigma^2\quad\text{for any admissible } \sigma^2",
    source="song2020ddim, eq. (7)",
    cases=_given_cases,
    call=lambda impl, c: impl.ddim_posterior_of_variance(c.schedule, c.x0, c.xt, c.t, c.s, c.variance),
    expect=_given_expected,
    mistakes=(
        Mistake("standard_deviation_taken_for_variance", lambda c: _with_variance(c, _given(c) ** 2)),
        Mistake("variance_ignored_in_the_mean", lambda c: _with_variance(c, 0 * _given(c))),
        Mistake("posterior_variance_whatever_was_given", lambda c: _with_variance(c, step(c, "beta_tilde"))),
    ),
)

# --- the step to level 0 without a trajectory -------------------------------------------------------------------------


def _steps_from_level_2(source: Source, claim: Claim) -> Case:
    schedule = draw_schedule(source, shortest=2)
    shape = (64,) if source.bulk else (source.integer(1, 5),)
    t, s = draw_pairs(source, shape, schedule.T)
    if t.ndim:
        t[0], s[0] = source.integer(1, schedule.T), 0
    return Case(claim, schedule, {"t": t, "s": s})


def _all_rules(impl: Any, c: Any) -> tuple[object, ...]:
    return tuple(
        impl.first_log_variance(c.schedule, c.t, c.s, rule) for rule in ("replace", "replace_unstrided", "exact")
    )


def _rules_expected(case: Case) -> tuple[Expected, ...]:
    first, words = np.asarray(case.s == 0), case.step("beta_tilde")
    second = case.noise_schedule.between(np.asarray(2), np.asarray(1)).words("beta_tilde")
    second = DoubleDouble(np.broadcast_to(second.high, first.shape), np.broadcast_to(second.low, first.shape))
    replaced = log(where(first, second, words))
    none = np.where(first, -np.inf, replaced.high)
    exactly = DoubleDouble(none, np.where(first, 0.0, replaced.low))
    scale = np.where(first, 0.0, np.abs(replaced.high) + 1)
    one = Expected(replaced, np.abs(replaced.high) + 1, PAIR_COEFFICIENT + 1)
    return one, one, Expected(exactly, scale, PAIR_COEFFICIENT + 1)


def _with_first(case: Case, entry: float, exactly: float = -np.inf) -> Outputs:
    with np.errstate(divide="ignore"):
        right = np.log(step(case, "beta_tilde"))
    first = np.asarray(case.s == 0)
    replaced = np.where(first, entry, right)
    return replaced, replaced, np.where(first, exactly, right)


def _second(case: Case) -> float:
    return float(np.log(case.noise_schedule.beta_tilde[2]))


FIRST_LOG_VARIANCE = Law(
    id="posterior/first_log_variance",
    needs="first_log_variance",
    statement=r"\log\tilde\beta_{t|s},\quad\text{at } s = 0\text{ that of the step }(2, 1)\text{, or } -\infty",
    source="ho2020, nichol2021 and bao2022, code",
    cases=_steps_from_level_2,
    call=_all_rules,
    expect=_rules_expected,
    mistakes=(
        Mistake("floored_instead_of_replaced", lambda c: _with_first(c, float(np.log(1e-20)))),
        Mistake("replaced_by_the_large_variance", lambda c: _with_first(c, float(np.log(c.noise_schedule.beta[1])))),
        Mistake("zero_taken_for_its_logarithm", lambda c: _with_first(c, _second(c), 0.0)),
    ),
    kind="coefficient",
)

# --- scales of each sample -------------------------------------------------------------------------------------------


def _scales_of_samples(source: Source, claim: Claim) -> Case:
    """A scale and a level for each entry of some leading axes, not always as many; square, so that axes can be confused."""
    shape = (16, 16, 4) if source.bulk else source.choice([(2, 2, 2), (3, 3, 1), (2, 2, 3)])
    schedule = draw_schedule(source)
    values = {name: draw_tensor(source, shape, claim) for name in ("eps", "gradient")}
    scale = draw_positive(source, shape[: source.integer(1, 2)], claim, 0.125, 8.0)
    at_levels = shape[: source.integer(0, 2)]
    t = np.array([source.integer(1, schedule.T) for _ in range(prod(at_levels))], dtype=np.int64).reshape(at_levels)
    return Case(claim, schedule, {"t": t, **values, "scale": scale})


def _widened(case: Case) -> Array:
    return np.asarray(case.scale.reshape(case.scale.shape + (1,) * (case.eps.ndim - case.scale.ndim)))


def _as_numbers(case: Case) -> Case:
    """The same case with the scale spread over the data, as its laws for one number read it."""
    return Case(case.claim, case.schedule, {**case.values, "scale": _widened(case)})


def _of_numbers(mistake: Mistake) -> Mistake:
    """A mistake of the law for one number."""
    return replace(mistake, value=lambda case: mistake.value(_as_numbers(case)))


def _along_the_last_axis(case: Case) -> Outputs:
    last = case.scale if case.scale.shape[-1] == case.eps.shape[-1] else case.scale.ravel()[: case.eps.shape[-1]]
    if last.shape[-1] != case.eps.shape[-1]:
        last = np.resize(last, case.eps.shape[-1])
    return (case.eps - last * at(case, "sqrt_beta_bar") * case.gradient,)


SCALE_OF_SAMPLES = replace(
    EPS,
    id="guidance/eps_with_scales_of_samples",
    needs="classifier_guided_eps_of_samples",
    statement=r"\bar\varepsilon_i = \hat\varepsilon_i - \omega_i\sqrt{\bar\beta_{t_i}}\,\nabla\log f(y\mid x_{t,i})",
    cases=_scales_of_samples,
    call=lambda impl, c: impl.classifier_guided_eps_of_samples(c.schedule, c.eps, c.t, c.gradient, c.scale),
    expect=lambda c: EPS.expect(_as_numbers(c)),
    mistakes=(
        Mistake("scale_along_the_last_axis", _along_the_last_axis),
        Mistake("mean_scale_for_all", lambda c: (c.eps - c.scale.mean() * at(c, "sqrt_beta_bar") * c.gradient,)),
        *(_of_numbers(m) for m in EPS.mistakes if m.name in ("variance_used_as_standard_deviation", "shifted_by_one")),
    ),
)

# --- numbers, limits, the same under another name ---------------------------------------------------------------------


def _one_number(source: Source, claim: Claim) -> Case:
    schedule = draw_schedule(source)
    t, s = draw_pairs(source, (), schedule.T)
    return Case(claim, schedule, {"t": t, "s": s, "moment": draw_positive(source, (), claim, 1e-4, 8.0)})


NUMBER = replace(
    SECOND_MOMENT,
    id="forward/second_moment_of_a_number",
    needs="second_moment_of_a_number",
    cases=_one_number,
    call=lambda impl, c: impl.second_moment_of_a_number(c.schedule, float(c.moment), c.t, c.s, 3),
    expect=lambda c: (_moment_expected(c),),
    mistakes=(
        Mistake("dimension_forgotten", lambda c: (_moment(c, 1.0),)),
        Mistake("variance_added_without_scaling", lambda c: (c.moment + 3 * step(c, "beta").reshape(np.shape(c.t)),)),
    ),
    kind="coefficient",
)


def _moment(case: Case, dimension: float) -> Array:
    steps = case.transition
    return np.asarray(steps.alpha * case.moment + dimension * steps.beta)


def _moment_expected(case: Case) -> Expected:
    kept, gained = case.transition.words("alpha") * float(case.moment), case.transition.words("beta") * 3.0
    return exact(kept + gained, PAIR_COEFFICIENT + 2)


def _limited_cases(source: Source, claim: Claim) -> Case:
    shape = (64, 256) if source.bulk else source.choice([shape for shape in SHAPES if shape])
    numbers = {"percentile": source.choice([100.0, 99.5, 50.0]), "maximum": source.choice([1.5, 1.0, 4.0])}
    return Case(
        claim, None, {"x0": draw_tensor(source, shape, claim), **{k: np.asarray(v) for k, v in numbers.items()}}
    )


def _radius(case: Case) -> DoubleDouble:
    """The threshold of each sample, between 1 and its maximum, by NumPy's percentile in two words."""
    sizes = np.sort(np.abs(case.x0).reshape(len(case.x0), -1), axis=1)
    last = sizes.shape[1] - 1
    position = float(case.percentile) / 100 * last
    below = int(position)
    low, high = DoubleDouble.of(sizes[:, below]), DoubleDouble.of(sizes[:, min(below + 1, last)])
    radius = low + (high - low) * (position - below)
    bounded = np.clip(radius.high, 1.0, float(case.maximum))
    radius = DoubleDouble(bounded, np.where(bounded == radius.high, radius.low, 0.0))
    return radius.reshape((-1,) + (1,) * (case.x0.ndim - 1))


def _limited_expected(case: Case) -> tuple[Expected, ...]:
    if not case.x0.size:
        return (exact(DoubleDouble.of(case.x0), 0),)
    radius = _radius(case)
    inside = np.abs(case.x0) < radius.high
    quotient = DoubleDouble.of(case.x0) / radius
    value = DoubleDouble(
        np.where(inside, quotient.high, np.sign(case.x0)), np.where(inside, quotient.low, 0.0 * case.x0)
    )
    # As in plan/dynamic_threshold; the position is off by three roundings of float64, of a row of at most 256 numbers.
    moved = 8.0 * case.x0.reshape(len(case.x0), -1).shape[1] * 2.0**-53 / case.claim.computing.u
    return (Expected(value, np.abs(value.high) * (1 + moved), 5),)


def _limited(case: Case, maximum: float = np.inf, *, least: float = 1.0) -> Outputs:
    if not case.x0.size:
        return (case.x0 + 1.0,)
    sizes = np.abs(case.x0).reshape(len(case.x0), -1)
    radius = np.clip(np.percentile(sizes, float(case.percentile), axis=1), least, maximum)
    radius = radius.reshape((-1,) + (1,) * (case.x0.ndim - 1))
    return (np.clip(case.x0, -radius, radius) / radius,)


LIMITED = replace(
    THRESHOLD,
    id="plan/dynamic_threshold_limited",
    needs="dynamic_threshold_limited",
    statement=r"\mathrm{clip}(\hat x_0, -r, r)/r,\quad r = \min(\max(1, q_p(|\hat x_0|)), r_{\max})",
    cases=_limited_cases,
    call=lambda impl, c: impl.dynamic_threshold_limited(c.x0, float(c.percentile), float(c.maximum)),
    expect=_limited_expected,
    mistakes=(
        Mistake("maximum_ignored", lambda c: _limited(c)),
        Mistake("always_the_maximum", lambda c: _limited(c, float(c.maximum), least=float(c.maximum))),
        Mistake("static_clipping", lambda c: _limited(c, 1.0)),
    ),
)

LOG_REVERSE_STEP = replace(
    LOG_NORMAL,
    id="reverse/log_density",
    needs="log_reverse_step",
    statement=r"\log p_\theta(x_s\mid x_t) = -\tfrac12\left(\log 2\pi\sigma^2 + (x_s-\mu_\theta)^2/\sigma^2\right)",
    source="ho2020, eq. (1)",
    call=lambda impl, c: impl.log_reverse_step(c.x, c.mean, c.variance),
)

LAWS = (GIVEN_VARIANCE, FIRST_LOG_VARIANCE, SCALE_OF_SAMPLES, NUMBER, LIMITED, LOG_REVERSE_STEP)
