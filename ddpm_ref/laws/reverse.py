"""Laws of the reverse model: its mean, its variances, a draw from it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.arithmetic.double_double import exp, log, sqrt
from ddpm_ref.laws.cases import Case, Source, at, at_step, draw_positive, draw_shape, draw_tensor, step
from ddpm_ref.laws.posterior import MEAN, MEAN_FROM_EPS
from ddpm_ref.laws.registry import PAIR_COEFFICIENT, ROOT, Law, Mistake, Outputs, exact
from ddpm_ref.typing import Array

MEAN_FROM_NOISE = Law(
    id="reverse/mean_from_eps",
    needs="model_mean_from_eps",
    statement=MEAN_FROM_EPS.statement.replace(r"\tilde\mu", r"\mu_\theta"),
    source="ho2020, eq. (11)",
    cases=MEAN_FROM_EPS.cases,
    call=lambda impl, c: impl.model_mean_from_eps(c.schedule, c.xt, c.t, c.s, c.eps),
    expect=MEAN_FROM_EPS.expect,
    mistakes=MEAN_FROM_EPS.mistakes,
)

MEAN_FROM_X0 = Law(
    id="reverse/mean_from_x0",
    needs="model_mean_from_x0",
    statement=r"\mu_\theta = \tilde\mu(x_t, \hat x_0)",
    source="ho2020, section 3.2",
    cases=MEAN.cases,
    call=lambda impl, c: impl.model_mean_from_x0(c.schedule, c.xt, c.t, c.s, c.x0),
    expect=MEAN.expect,
    mistakes=MEAN.mistakes,
)


def _both_variances(impl: Any, case: Any) -> tuple[object, object]:
    small, large = (impl.reverse_variance(case.schedule, case.t, case.s, kind) for kind in ("posterior", "beta"))
    return small, large


VARIANCE = Law(
    id="reverse/variance",
    needs="reverse_variance",
    statement=r"\sigma^2 = \tilde\beta_{t|s}\ \text{(posterior)}\quad\text{or}\quad \beta_{t|s}\ \text{(beta)}",
    source="ho2020, section 3.2",
    cases=at_step(),
    call=_both_variances,
    expect=lambda c: (exact(c.step("beta_tilde"), PAIR_COEFFICIENT), exact(c.step("beta"), PAIR_COEFFICIENT)),
    mistakes=(
        Mistake("fixed_small_and_large_exchanged", lambda c: (step(c, "beta"), step(c, "beta_tilde")), "E42"),
        Mistake(
            "standard_deviation_returned_as_variance", lambda c: (step(c, "std_tilde"), step(c, "sqrt_beta")), "E23"
        ),
        Mistake("log_variance_returned_as_variance", lambda c: (_log(step(c, "beta_tilde")), _log(step(c, "beta")))),
        Mistake("logarithm_of_the_larger_variance", lambda c: (step(c, "beta_tilde"), _log(step(c, "beta")))),
        Mistake("shifted_by_one", lambda c: (at(c, "beta_tilde", -1), at(c, "beta", -1))),
    ),
    kind="coefficient",
)


def _log(values: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(values))


def _fixed_large_expected(case: Case) -> tuple[Expected, ...]:
    value = log(case.step("beta"))
    return (Expected(value, np.abs(value.high) + 1, PAIR_COEFFICIENT + 1),)


FIXED_LARGE_LOG = Law(
    id="reverse/fixed_large_log_variance",
    needs="fixed_large_log_variance",
    statement=r"\log\beta_{t|s},\quad s \ge 1",
    source="ho2020 and nichol2021, code",
    cases=at_step(lowest_s=1),
    call=lambda impl, c: impl.fixed_large_log_variance(c.schedule, c.t, c.s),
    expect=_fixed_large_expected,
    mistakes=(
        Mistake("log_of_the_posterior_variance", lambda c: (_log(step(c, "beta_tilde")),)),
        Mistake("beta_of_one_level_instead_of_the_step", lambda c: (_log(at(c, "beta")),)),
        Mistake("variance_instead_of_its_log", lambda c: (step(c, "beta"),)),
    ),
    kind="coefficient",
)

BOUNDS = Law(
    id="reverse/optimal_variance_bounds",
    needs="optimal_variance_bounds",
    statement=r"\tilde\beta_{t|s} \le \sigma^{*2} \le \beta_{t|s}/\alpha_{t|s}",
    source="bao2022, theorem 2, eq. (11)",
    cases=at_step(zero_snr=False),
    call=lambda impl, c: impl.optimal_variance_bounds(c.schedule, c.t, c.s),
    expect=lambda c: (
        exact(c.step("beta_tilde"), PAIR_COEFFICIENT),
        exact(c.step("reverse_variance_bound"), PAIR_COEFFICIENT + 3),
    ),
    mistakes=(
        Mistake("beta_as_upper_bound", lambda c: (step(c, "beta_tilde"), step(c, "beta"))),
        Mistake("bounds_exchanged", lambda c: (step(c, "reverse_variance_bound"), step(c, "beta_tilde"))),
    ),
    kind="coefficient",
)


def _learned_cases(source: Source, claim: Claim) -> Case:
    case = at_step(lowest_s=1)(source, claim)
    shape = (case.t.shape[0], 64) if source.bulk else (*case.t.shape, *source.choice([(), (3,)]))
    fraction = claim.storing.round(source.numbers(shape, 0.0, 1.0))
    return Case(claim, case.schedule, {"t": case.t, "s": case.s, "fraction": fraction})


def _learned_expected(case: Case) -> tuple[Expected, ...]:
    v = DoubleDouble.of(case.fraction)
    large, small = log(case.step("beta", case.fraction)), log(case.step("beta_tilde", case.fraction))
    value = exp(v * large + (1.0 - v) * small)
    # The exponential turns absolute errors of its argument into relative ones: its condition number enters the scale.
    condition = 1 + case.fraction * (1 + np.abs(large.high)) + (1 - case.fraction) * (1 + np.abs(small.high))
    return (Expected(value, value.high * condition, PAIR_COEFFICIENT + 2),)


LEARNED = Law(
    id="reverse/learned_variance",
    needs="learned_variance",
    statement=r"\Sigma = \exp(v\log\beta_{t|s} + (1-v)\log\tilde\beta_{t|s})",
    source="nichol2021, eq. (15)",
    cases=_learned_cases,
    call=lambda impl, c: impl.learned_variance(c.schedule, c.t, c.s, c.fraction),
    expect=_learned_expected,
    mistakes=(
        Mistake(
            "interpolated_without_logarithm",
            lambda c: (c.fraction * step(c, "beta") + (1 - c.fraction) * step(c, "beta_tilde"),),
        ),
        Mistake(
            "ends_exchanged",
            lambda c: (np.exp(c.fraction * _log(step(c, "beta_tilde")) + (1 - c.fraction) * _log(step(c, "beta"))),),
        ),
    ),
)


def _extra_cases(source: Source, claim: Claim) -> Case:
    case = _learned_cases(source, claim)
    extra = claim.storing.round(source.numbers(case.fraction.shape, -1.0, 1.0))
    return Case(claim, case.schedule, {"t": case.t, "s": case.s, "extra": extra})


def _range_expected(case: Case) -> tuple[Expected, ...]:
    o = DoubleDouble.of(case.extra)
    large, small = log(case.step("beta", case.extra)), log(case.step("beta_tilde", case.extra))
    value = ((1.0 + o) * large + (1.0 - o) * small) * 0.5
    # An error of a coefficient is an absolute one of its logarithm; the logarithm, 1 + o, product and sum are five on its size.
    scale = ((1 + case.extra) * (1 + np.abs(large.high)) + (1 - case.extra) * (1 + np.abs(small.high))) / 2
    return Expected(value, scale, PAIR_COEFFICIENT), exact(DoubleDouble.of(case.extra), 0)


def _range(case: Case, output: Array) -> Array:
    return ((1 + output) * _log(step(case, "beta")) + (1 - output) * _log(step(case, "beta_tilde"))) / 2


LEARNED_LOG = Law(
    id="reverse/learned_log_variance",
    needs="learned_log_variance",
    statement=r"\log\sigma^2 = \tfrac{1+o}2\log\beta_{t|s} + \tfrac{1-o}2\log\tilde\beta_{t|s}\quad\text{or}\quad\log\sigma^2 = o",
    source="nichol2021, eq. (15)",
    cases=_extra_cases,
    call=lambda impl, c: tuple(
        impl.learned_log_variance(c.schedule, c.t, c.s, c.extra, kind) for kind in ("learned_range", "learned")
    ),
    expect=_range_expected,
    mistakes=(
        Mistake("ends_exchanged", lambda c: (_range(c, -c.extra), c.extra)),
        Mistake("output_taken_for_the_fraction", lambda c: (_range(c, 2 * c.extra - 1), c.extra)),
        Mistake("range_used_for_the_logarithm_too", lambda c: (_range(c, c.extra), _range(c, c.extra))),
        Mistake("half_forgotten", lambda c: (2 * _range(c, c.extra), c.extra)),
        Mistake("variance_for_log_variance", lambda c: (np.exp(_range(c, c.extra)), np.exp(c.extra))),
    ),
)


def _draw_cases(source: Source, claim: Claim) -> Case:
    shape = draw_shape(source)
    values = {name: draw_tensor(source, shape, claim) for name in ("mean", "noise")}
    return Case(claim, None, values | {"variance": draw_positive(source, shape, claim, 1e-4, 1.0)})


def _draw_expected(case: Case) -> tuple[Expected, ...]:
    spread = sqrt(DoubleDouble.of(case.variance)) * case.noise
    return (Expected(DoubleDouble.of(case.mean) + spread, np.abs(case.mean) + np.abs(spread.high), ROOT + 2),)


STEP = Law(
    id="reverse/step",
    needs="reverse_step",
    statement=r"x_s = \mu + \sqrt{\sigma^2}\,z",
    source="ho2020, algorithm 2, line 4",
    cases=_draw_cases,
    call=lambda impl, c: impl.reverse_step(c.mean, c.variance, c.noise),
    expect=_draw_expected,
    mistakes=(
        Mistake("variance_used_as_standard_deviation", lambda c: (c.mean + c.variance * c.noise,), "E40"),
        Mistake("log_variance_taken_for_variance", lambda c: (c.mean + np.sqrt(np.abs(np.log(c.variance))) * c.noise,)),
        Mistake(
            "log_variance_used_as_log_standard_deviation", lambda c: (c.mean + np.exp(np.log(c.variance)) * c.noise,)
        ),
        Mistake("noise_forgotten", lambda c: (c.mean,), "E21"),
    ),
)


def _chain_cases(source: Source, claim: Claim) -> Case:
    steps = source.integer(1, 6)
    gains, variances = (
        draw_tensor(source, (steps,), claim, reach=1.5),
        draw_positive(source, (steps,), claim, 1e-4, 1.0),
    )
    return Case(claim, None, {"gains": gains, "variances": variances})


def _chain_expected(case: Case) -> tuple[Expected, ...]:
    v, chain = DoubleDouble.of(1.0), [DoubleDouble.of(1.0)]
    for g, variance in zip(case.gains.tolist(), case.variances.tolist(), strict=True):
        v = DoubleDouble.of(g) * g * v + variance
        chain.append(v)
    value = DoubleDouble(np.stack([c.high for c in chain]), np.stack([c.low for c in chain]))
    return (Expected(value, value.high, 3 * np.arange(len(chain))),)


def _wrong_chain(case: Case, *, square_gain: bool, square_variance: bool) -> Outputs:
    chain = [1.0]
    for g, variance in zip(case.gains.tolist(), case.variances.tolist(), strict=True):
        chain.append((g * g if square_gain else g) * chain[-1] + (variance**2 if square_variance else variance))
    return (np.array(chain),)


CHAIN_VARIANCE = Law(
    id="reverse/chain_variance",
    needs="reverse_chain_variance",
    statement=r"v_s = g^2 v_t + \sigma^2",
    source="ho2020, eq. (1), linear-Gaussian case",
    cases=_chain_cases,
    call=lambda impl, c: impl.reverse_chain_variance(c.gains, c.variances),
    expect=_chain_expected,
    mistakes=(
        Mistake(
            "variance_used_as_standard_deviation",
            lambda c: _wrong_chain(c, square_gain=True, square_variance=True),
            "E40",
        ),
        Mistake("gain_not_squared", lambda c: _wrong_chain(c, square_gain=False, square_variance=False)),
    ),
    kind="reduction",
)

LAWS = (MEAN_FROM_NOISE, MEAN_FROM_X0, VARIANCE, FIXED_LARGE_LOG, BOUNDS, LEARNED, LEARNED_LOG, STEP, CHAIN_VARIANCE)
