"""Laws of the forward process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.arithmetic.double_double import sqrt, x_minus_log1p
from ddpm_ref.laws.cases import (
    Case,
    Source,
    at,
    at_level,
    at_s,
    at_step,
    draw_levels,
    draw_pairs,
    draw_positive,
    draw_schedule,
    draw_shape,
    draw_tensor,
    rounded_alpha_bar,
    spread_over_data,
    step,
)
from ddpm_ref.laws.registry import (
    AFFINE,
    PAIR_AFFINE,
    PAIR_COEFFICIENT,
    PAIR_ROOT,
    ROOT,
    Law,
    Mistake,
    Outputs,
    affine,
    exact,
)

HALF = ("bf16", "fp16")


# --- one step ---------------------------------------------------------------------------------------------------------

STEP = Law(
    id="forward/step",
    needs="forward_step",
    statement=r"x_t = \sqrt{\alpha_t}\,x_{t-1} + \sqrt{\beta_t}\,\varepsilon_t",
    source="ho2020, eq. (2)",
    cases=at_level("x_prev", "noise"),
    call=lambda impl, c: impl.forward_step(c.schedule, c.x_prev, c.t, c.noise),
    expect=lambda c: (
        affine((c.level("sqrt_alpha", c.x_prev), c.x_prev), (c.level("sqrt_beta", c.noise), c.noise), roundings=AFFINE),
    ),
    mistakes=(
        Mistake(
            "beta_instead_of_sqrt_beta", lambda c: (at(c, "sqrt_alpha") * c.x_prev + at(c, "beta") * c.noise,), "E01"
        ),
        Mistake(
            "pathwise_sum_of_squares",
            lambda c: (np.sqrt(at(c, "alpha") * c.x_prev**2 + at(c, "beta") * c.noise**2),),
            "E03",
        ),
        Mistake("shifted_by_one", lambda c: (at(c, "sqrt_alpha", -1) * c.x_prev + at(c, "sqrt_beta", -1) * c.noise,)),
        Mistake("alpha_instead_of_sqrt_alpha", lambda c: (at(c, "alpha") * c.x_prev + at(c, "sqrt_beta") * c.noise,)),
    ),
)

# --- many steps at once -----------------------------------------------------------------------------------------------


def _complement_after_cast(case: Case) -> Outputs:
    """alpha_bar rounded to the storage format before ``1 - alpha_bar``: a bf16 scheduler adds no noise at the first levels."""
    store = case.claim.storing
    alpha_bar = store.round(at(case, "alpha_bar"))
    return (np.sqrt(alpha_bar) * case.x0 + np.sqrt(store.round(1 - alpha_bar)) * case.noise,)


def _rounded_product(case: Case) -> Outputs:
    """``1 - alpha_bar`` from a cumulative product in the compute format: its rounding errors are all that is left at small t."""
    compute, alpha_bar = case.claim.computing, spread_over_data(case, rounded_alpha_bar(case)[case.t])
    return (np.sqrt(alpha_bar) * case.x0 + np.sqrt(compute.round(1 - alpha_bar)) * case.noise,)


def _rounded_product_spread(case: Case) -> Outputs:
    """Two products of ``t`` factors differ by up to ``2 t`` roundings, which the complement divides by its own size."""
    amplification = 2 * np.asarray(case.t) * (1 + case.noise_schedule.snr[case.t])
    return (spread_over_data(case, amplification) * (np.abs(case.x0) + at(case, "sqrt_beta_bar") * np.abs(case.noise)),)


def _level_of_the_first_example(case: Case) -> Outputs:
    """Coefficients that are looked up once for a batch, whose examples have levels of their own."""
    t = np.asarray(case.t)
    first = replace(case, values={**case.values, "t": np.full_like(t, t.ravel()[0] if t.size else 1)})
    return (at(first, "sqrt_alpha_bar") * case.x0 + at(first, "sqrt_beta_bar") * case.noise,)


Q_SAMPLE = Law(
    id="forward/q_sample",
    needs="q_sample",
    statement=r"x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{\bar\beta_t}\,\varepsilon",
    source="ho2020, eq. (4)",
    cases=at_level("x0", "noise"),
    call=lambda impl, c: impl.q_sample(c.schedule, c.x0, c.t, c.noise),
    expect=lambda c: (
        affine((c.level("sqrt_alpha_bar", c.x0), c.x0), (c.level("sqrt_beta_bar", c.noise), c.noise), roundings=AFFINE),
    ),
    mistakes=(
        Mistake(
            "shifted_by_one", lambda c: (at(c, "sqrt_alpha_bar", -1) * c.x0 + at(c, "sqrt_beta_bar", -1) * c.noise,)
        ),
        Mistake("level_of_the_first_example_for_the_batch", _level_of_the_first_example),
        Mistake("step_instead_of_marginal", lambda c: (at(c, "sqrt_alpha") * c.x0 + at(c, "sqrt_beta") * c.noise,)),
        Mistake(
            "variance_used_as_standard_deviation",
            lambda c: (at(c, "sqrt_alpha_bar") * c.x0 + at(c, "beta_bar") * c.noise,),
        ),
        Mistake(
            "alpha_bar_without_square_root", lambda c: (at(c, "alpha_bar") * c.x0 + at(c, "sqrt_beta_bar") * c.noise,)
        ),
        Mistake(
            "log_variance_taken_for_variance",
            lambda c: (
                at(c, "sqrt_alpha_bar") * c.x0
                + np.sqrt(np.abs(np.log(np.maximum(at(c, "beta_bar"), 1e-300)))) * c.noise,
            ),
        ),
        Mistake(
            "one_minus_rounded_product",
            _rounded_product,
            claims=("fp64", "fp32"),
            spread=_rounded_product_spread,
            rounding=True,
        ),
        Mistake("complement_after_cast_to_storage", _complement_after_cast, claims=HALF, rounding=True),
    ),
)

Q_SAMPLE_BETWEEN = Law(
    id="forward/q_sample_between",
    needs="q_sample_between",
    statement=r"x_t = \sqrt{\alpha_{t|s}}\,x_s + \sqrt{\beta_{t|s}}\,\varepsilon",
    source="ho2020, eq. (2) and (4)",
    cases=at_step("xs", "noise"),
    call=lambda impl, c: impl.q_sample_between(c.schedule, c.xs, c.t, c.s, c.noise),
    expect=lambda c: (
        affine((c.step("sqrt_alpha", c.xs), c.xs), (c.step("sqrt_beta", c.noise), c.noise), roundings=PAIR_AFFINE),
    ),
    mistakes=(
        Mistake(
            "beta_instead_of_sqrt_beta", lambda c: (step(c, "sqrt_alpha") * c.xs + step(c, "beta") * c.noise,), "E01"
        ),
        Mistake(
            "marginal_instead_of_step", lambda c: (at(c, "sqrt_alpha_bar") * c.xs + at(c, "sqrt_beta_bar") * c.noise,)
        ),
    ),
)

MEAN_VARIANCE = Law(
    id="forward/mean_variance",
    needs="q_mean_variance",
    statement=r"q(x_t\mid x_s) = \mathcal N(\sqrt{\alpha_{t|s}}\,x_s,\ \beta_{t|s}I)",
    source="ho2020, eq. (4)",
    cases=at_step("x"),
    call=lambda impl, c: impl.q_mean_variance(c.schedule, c.x, c.t, c.s),
    expect=lambda c: (
        affine((c.step("sqrt_alpha", c.x), c.x), roundings=PAIR_ROOT + 1),
        exact(c.step("beta", c.x), PAIR_COEFFICIENT),
    ),
    mistakes=(
        Mistake(
            "standard_deviation_returned_as_variance", lambda c: (step(c, "sqrt_alpha") * c.x, step(c, "sqrt_beta"))
        ),
        Mistake("alpha_instead_of_sqrt_alpha", lambda c: (step(c, "alpha") * c.x, step(c, "beta"))),
        Mistake(
            "variance_from_rounded_alpha_bar",
            lambda c: (step(c, "sqrt_alpha") * c.x, _beta_from_rounded_tables(c)),
            rounding=True,
        ),
    ),
)


def _beta_from_rounded_tables(case: Case) -> np.ndarray:
    compute, alpha_bar = case.claim.computing, case.noise_schedule.alpha_bar
    quotient = compute.round(compute.round(alpha_bar[case.t]) / compute.round(alpha_bar[case.s]))
    return compute.round(1 - quotient).reshape(step(case, "beta").shape)


# --- two ways to the same law ---------------------------------------------------------------------------------------------


def _two_draws(source: Source, claim: Claim) -> Case:
    """A step ``t > s >= 1``, data, and the noise of the way to ``s`` and of the way from there to ``t``."""
    schedule, shape = draw_schedule(source, zero_snr=False, shortest=2), draw_shape(source)
    t, s = draw_pairs(source, shape, schedule.T, lowest_s=1)
    tensors = {name: draw_tensor(source, shape, claim) for name in ("x0", "first", "second")}
    return Case(claim, schedule, {"t": t, "s": s} | tensors)


def _by_way_of_s(impl: Any, c: Any) -> object:
    return impl.q_sample_between(c.schedule, impl.q_sample(c.schedule, c.x0, c.s, c.first), c.t, c.s, c.second)


def _composed(case: Case) -> tuple[Expected, ...]:
    schedule, like = case.noise_schedule, case.x0
    kept, added = case.step("sqrt_alpha", like), case.step("sqrt_beta", like)
    signal, noise = (
        words.reshape(words.shape + (1,) * (like.ndim - len(words.shape)))
        for words in (schedule.words("sqrt_alpha_bar", case.s), schedule.words("sqrt_beta_bar", case.s))
    )
    total = affine(
        (kept * signal, case.x0), (kept * noise, case.first), (added, case.second), roundings=PAIR_AFFINE + AFFINE
    )
    # Between the two calls the state is stored once: in the storage format, if that is not the compute format.
    between = np.abs((kept * (signal * case.x0 + noise * case.first)).high)
    return (
        Expected(total.value, total.scale + case.stored_between_calls * between / total.roundings, total.roundings),
    )


COMPOSES = Law(
    id="forward/composes",
    needs="q_sample q_sample_between",
    statement=r"q(x_t\mid x_0) = \int q(x_t\mid x_s)\,q(x_s\mid x_0)\,dx_s",
    source="ho2020, eq. (4); Chapman and Kolmogorov",
    cases=_two_draws,
    call=_by_way_of_s,
    expect=_composed,
    mistakes=(
        Mistake(
            "marginal_instead_of_step",
            lambda c: (
                at(c, "sqrt_alpha_bar") * (at_s(c, "sqrt_alpha_bar") * c.x0 + at_s(c, "sqrt_beta_bar") * c.first)
                + at(c, "sqrt_beta_bar") * c.second,
            ),
        ),
        Mistake(
            "one_noise_for_both_ways",
            lambda c: (at(c, "sqrt_alpha_bar") * c.x0 + at(c, "sqrt_beta_bar") * c.second,),
            "E05",
        ),
    ),
    kind="metamorphic",
)

# --- per-step and aggregate noise -------------------------------------------------------------------------------------


def _chain_cases(source: Source, claim: Claim) -> Case:
    """A few per-step noises from level 1 on."""
    schedule = draw_schedule(source, zero_snr=False)
    t = source.integer(1, min(schedule.T, 6))
    event = (512,) if source.bulk else source.choice([(), (3,), (0,), (2, 2)])
    values = {
        "t": np.asarray(t, dtype=np.int64),
        "x0": draw_tensor(source, event, claim),
        "noises": draw_tensor(source, (t, *event), claim),
    }
    return Case(claim, schedule, values)


def _noise_weights(case: Case) -> list[DoubleDouble]:
    """Exact weights of the per-step noises in ``x_t``: ``sqrt(beta_s alpha_bar_t / alpha_bar_s)``."""
    schedule, t = case.noise_schedule, int(case.t)
    kept = [schedule.between(t, s).words("sqrt_alpha") if s < t else DoubleDouble.of(1.0) for s in range(1, t + 1)]
    return [k * schedule.words("sqrt_beta", s) for s, k in enumerate(kept, 1)]


def _aggregate_expected(case: Case) -> tuple[Expected, ...]:
    std = case.noise_schedule.words("sqrt_beta_bar", case.t)
    terms = [(w / std, noise) for w, noise in zip(_noise_weights(case), case.noises, strict=True)]
    return (affine(*terms, roundings=PAIR_COEFFICIENT + 1 + len(terms)),)


AGGREGATE_NOISE = Law(
    id="forward/aggregate_noise",
    needs="aggregate_noise",
    statement=r"\varepsilon = \bar\beta_t^{-1/2}\sum_{s\le t}\sqrt{\bar\alpha_t\beta_s/\bar\alpha_s}\,\varepsilon_s",
    source="the unrolled forward chain",
    cases=_chain_cases,
    call=lambda impl, c: impl.aggregate_noise(c.schedule, c.noises, int(c.t)),
    expect=_aggregate_expected,
    kind="reduction",
    mistakes=(
        Mistake("noise_of_the_last_step_instead_of_aggregate", lambda c: (c.noises[-1],), "E05"),
        Mistake("unweighted_sum", lambda c: (c.noises.sum(axis=0) / np.sqrt(len(c.noises)),)),
    ),
)


def _chain_expected(case: Case) -> tuple[Expected, ...]:
    """Only the last state is compared: it has passed through every step."""
    t = int(case.t)
    terms = [(case.noise_schedule.words("sqrt_alpha_bar", t), case.x0)]
    terms += [(w, noise) for w, noise in zip(_noise_weights(case), case.noises, strict=True)]
    return (affine(*terms, roundings=AFFINE * t),)


def _wrong_chain(case: Case) -> Outputs:
    x = case.x0
    for t, noise in enumerate(case.noises, 1):
        x = case.noise_schedule.sqrt_alpha[t] * x + case.noise_schedule.beta[t] * noise
    return (x,)


CHAIN = Law(
    id="forward/chain",
    needs="q_chain",
    statement=r"x_t = \sqrt{\bar\alpha_t}\,x_0 + \sum_{s\le t}\sqrt{\bar\alpha_t\beta_s/\bar\alpha_s}\,\varepsilon_s",
    source="ho2020, eq. (2), unrolled",
    cases=_chain_cases,
    call=lambda impl, c: impl.q_chain(c.schedule, c.x0, c.noises)[-1],
    expect=_chain_expected,
    kind="reduction",
    mistakes=(
        Mistake("beta_instead_of_sqrt_beta", _wrong_chain, "E01"),
        Mistake(
            "last_noise_taken_for_aggregate",
            lambda c: (at(c, "sqrt_alpha_bar") * c.x0 + at(c, "sqrt_beta_bar") * c.noises[-1],),
            "E05",
        ),
    ),
)

AGGREGATE_CORRELATION = Law(
    id="forward/aggregate_noise_correlation",
    needs="aggregate_noise_correlation",
    statement=r"\mathrm{Corr}(\varepsilon_t, \varepsilon) = \sqrt{\beta_t/\bar\beta_t}",
    source="the unrolled forward chain",
    cases=at_level(),
    call=lambda impl, c: impl.aggregate_noise_correlation(c.schedule, c.t),
    expect=lambda c: (exact(c.level("noise_share"), PAIR_COEFFICIENT),),
    mistakes=(
        Mistake("taken_for_one_and_the_same_noise", lambda c: (np.ones(np.shape(c.t)),), "E05"),
        Mistake("square_root_missing", lambda c: (c.noise_schedule.noise_share[c.t] ** 2,)),
    ),
    kind="coefficient",
)

# --- moments ----------------------------------------------------------------------------------------------------------


def _moment_cases(source: Source, claim: Claim) -> Case:
    schedule, shape = draw_schedule(source), draw_shape(source)
    t = draw_levels(source, shape, 0, schedule.T)
    mean, variance = draw_tensor(source, shape, claim), draw_positive(source, shape, claim, 1e-4, 8.0)
    return Case(claim, schedule, {"t": t, "mean": mean, "variance": variance})


DATA_MARGINAL = Law(
    id="forward/data_marginal",
    needs="data_marginal",
    statement=r"\mathbb E x_t = \sqrt{\bar\alpha_t}\,\mathbb E x_0,"
    r"\quad \mathrm{Var}\,x_t = \bar\alpha_t\mathrm{Var}\,x_0 + \bar\beta_t",
    source="total variance",
    cases=_moment_cases,
    call=lambda impl, c: impl.data_marginal(c.schedule, c.mean, c.variance, c.t),
    expect=lambda c: (
        affine((c.level("sqrt_alpha_bar", c.mean), c.mean), roundings=AFFINE - 1),
        affine((c.level("alpha_bar", c.mean), c.variance), (c.level("beta_bar", c.mean), 1.0), roundings=AFFINE),
    ),
    mistakes=(
        Mistake(
            "conditional_taken_for_marginal",
            lambda c: (at(c, "sqrt_alpha_bar") * c.mean, at(c, "beta_bar") * np.ones_like(c.variance)),
            "E02",
        ),
        Mistake(
            "shifted_by_one",
            lambda c: (
                at(c, "sqrt_alpha_bar", -1) * c.mean,
                at(c, "alpha_bar", -1) * c.variance + at(c, "beta_bar", -1),
            ),
        ),
    ),
)

SECOND_MOMENT = Law(
    id="forward/second_moment",
    needs="second_moment",
    statement=r"\mathbb E\|x_t\|^2 = \alpha_{t|s}\,\mathbb E\|x_s\|^2 + \beta_{t|s}\,d",
    source="elementary",
    cases=at_step(positive=("moment",)),
    call=lambda impl, c: impl.second_moment(c.schedule, c.moment, c.t, c.s, 3),
    expect=lambda c: (
        affine((c.step("alpha", c.moment), c.moment), (c.step("beta", c.moment), 3.0), roundings=PAIR_AFFINE),
    ),
    mistakes=(
        Mistake("dimension_forgotten", lambda c: (step(c, "alpha") * c.moment + step(c, "beta"),)),
        Mistake("beta_squared", lambda c: (step(c, "alpha") * c.moment + 3 * step(c, "beta") ** 2,), "E01"),
        Mistake(
            "cross_term_added_as_on_a_path",
            lambda c: (
                step(c, "alpha") * c.moment
                + 3 * step(c, "beta")
                + 2 * np.sqrt(step(c, "alpha") * step(c, "beta") * c.moment),
            ),
            "E03",
        ),
    ),
)


def _inversion_expected(case: Case) -> tuple[Expected, ...]:
    kept, added = case.level("sqrt_alpha", case.xt), case.level("sqrt_beta", case.xt)
    value = (DoubleDouble.of(case.xt) - added * case.noise) / kept
    scale = (np.abs(case.xt) + np.abs(added.high * case.noise)) / kept.high
    return (Expected(value, scale, 5),)


STEPWISE_INVERSION = Law(
    id="forward/stepwise_inversion",
    needs="stepwise_inversion",
    statement=r"x_{t-1} = (x_t - \sqrt{\beta_t}\,\varepsilon_t)/\sqrt{\alpha_t}",
    source="elementary",
    cases=at_level("xt", "noise", zero_snr=False),
    call=lambda impl, c: impl.stepwise_inversion(c.schedule, c.xt, c.t, c.noise),
    expect=_inversion_expected,
    mistakes=(
        Mistake(
            "beta_instead_of_sqrt_beta", lambda c: ((c.xt - at(c, "beta") * c.noise) / at(c, "sqrt_alpha"),), "E01"
        ),
        Mistake(
            "aggregate_noise_formula_used_for_the_step",
            lambda c: ((c.xt - at(c, "sqrt_beta_bar") * c.noise) / at(c, "sqrt_alpha_bar"),),
            "E05",
        ),
    ),
)


def _sum_cases(source: Source, claim: Claim) -> Case:
    shape = draw_shape(source)
    means = {f"mean{i}": draw_tensor(source, shape, claim) for i in (1, 2)}
    variances = {f"variance{i}": draw_positive(source, shape, claim, 1e-4, 8.0) for i in (1, 2)}
    rho = source.choice([0.0, 0.5, -0.75, 1.0])
    return Case(claim, None, means | variances | {"correlation": np.asarray(rho)})


def _sum_expected(case: Case) -> tuple[Expected, ...]:
    mean = DoubleDouble.of(case.mean1) + case.mean2
    cross = sqrt(DoubleDouble.of(case.variance1) * case.variance2) * (2 * float(case.correlation))
    variance = DoubleDouble.of(case.variance1) + case.variance2 + cross
    return (
        Expected(mean, np.abs(case.mean1) + np.abs(case.mean2), 1),
        # As it stands, or as (s1 + rho s2)^2 + (1 - rho^2) s2^2, or as ((v1 - v2)/(s1 + s2))^2 + 2 (1 + rho) s1 s2, which cannot
        # become negative: difference, root, sum and quotient count twice in the square, which adds one, like the last sum.
        Expected(variance, case.variance1 + case.variance2 + np.abs(cross.high), 2 * (ROOT + 3) + 2),
    )


GAUSSIAN_SUM = Law(
    id="forward/gaussian_sum",
    needs="gaussian_sum",
    statement=r"X + Y \sim \mathcal N(\mu_1+\mu_2,\ \sigma_1^2+\sigma_2^2+2\rho\sigma_1\sigma_2)",
    source="standard",
    cases=_sum_cases,
    call=lambda impl, c: impl.gaussian_sum(c.mean1, c.variance1, c.mean2, c.variance2, float(c.correlation)),
    expect=_sum_expected,
    mistakes=(
        Mistake(
            "standard_deviations_added",
            lambda c: (c.mean1 + c.mean2, (np.sqrt(c.variance1) + np.sqrt(c.variance2)) ** 2),
        ),
        Mistake("correlation_ignored", lambda c: (c.mean1 + c.mean2, c.variance1 + c.variance2)),
        Mistake(
            "product_rule_of_densities", lambda c: (c.mean1 + c.mean2, 1 / (1 / c.variance1 + 1 / c.variance2)), "E04"
        ),
    ),
)


def _terminal_cases(source: Source, claim: Claim) -> Case:
    schedule, shape = draw_schedule(source, zero_snr=False), draw_shape(source)
    return Case(claim, schedule, {"x0": draw_tensor(source, shape, claim)})


def _terminal_expected(case: Case) -> tuple[Expected, ...]:
    alpha_bar = case.noise_schedule.words("alpha_bar", case.noise_schedule.T)
    signal = alpha_bar * (DoubleDouble.of(case.x0) * case.x0) * 0.5
    spread = x_minus_log1p(-alpha_bar) * 0.5
    value = signal + spread
    # Both parts are positive. The derivative of the second by alpha_bar is alpha_bar / (2 beta_bar): one rounding of
    # alpha_bar counts it.
    beta_bar = case.noise_schedule.beta_bar[-1]
    return (Expected(value, np.abs(value.high) + alpha_bar.high**2 / (2 * beta_bar), 8),)


TERMINAL_KL = Law(
    id="forward/terminal_kl",
    needs="terminal_kl",
    statement=r"D_{KL}(q(x_T\mid x_0)\,\|\,\mathcal N(0,1)) = \tfrac12(\bar\alpha_T x_0^2 - \bar\alpha_T - \log\bar\beta_T)",
    source="ho2020, section 3.1",
    cases=_terminal_cases,
    call=lambda impl, c: impl.terminal_kl(c.schedule, c.x0),
    expect=_terminal_expected,
    mistakes=(
        Mistake("taken_for_zero", lambda c: (np.zeros_like(c.x0),), "E07"),
        Mistake(
            "arguments_swapped",
            lambda c: (
                (
                    c.noise_schedule.alpha_bar[-1] * (1 + c.x0**2) / c.noise_schedule.beta_bar[-1]
                    + c.noise_schedule.log_beta_bar[-1]
                )
                / 2,
            ),
            "E27",
        ),
    ),
)

LAWS = (
    STEP, Q_SAMPLE, Q_SAMPLE_BETWEEN, MEAN_VARIANCE, COMPOSES, CHAIN, AGGREGATE_NOISE, AGGREGATE_CORRELATION,
    DATA_MARGINAL, SECOND_MOMENT, STEPWISE_INVERSION, GAUSSIAN_SUM, TERMINAL_KL,
)  # fmt: skip
