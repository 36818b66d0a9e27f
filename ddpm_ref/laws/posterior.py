"""Laws of the posterior of the forward process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.arithmetic.double_double import TWO_PI, log
from ddpm_ref.laws.cases import (
    Case,
    Source,
    at,
    at_s,
    at_step,
    draw_pairs,
    draw_positive,
    draw_schedule,
    draw_shape,
    draw_tensor,
    spread_over_data,
    step,
)
from ddpm_ref.laws.registry import PAIR_AFFINE, PAIR_COEFFICIENT, Law, Mistake, Outputs, affine, exact
from ddpm_ref.typing import Array


def _mean(case: Case) -> Array:
    return step(case, "x0_weight") * case.x0 + step(case, "xt_weight") * case.xt


def _shifted_pair(case: Case) -> tuple[Array, Array]:
    """Weights looked up one row too early in a table of the adjacent steps."""
    return at(case, "posterior_x0_weight", -1), at(case, "posterior_xt_weight", -1)


def _from_square_with_alpha_bar(case: Case) -> tuple[Array, Array]:
    """Precision and linear term of an exponent written with the cumulative product where the step's alpha belongs."""
    alpha_bar, beta = at(case, "alpha_bar"), step(case, "beta")
    precision = alpha_bar / beta + 1 / at_s(case, "beta_bar")
    return precision, np.sqrt(alpha_bar) / beta


# Wrong weights of x_0 and x_t, by name, with the erratum; the mean is wrong in the same way wherever it is made of a prediction.
WRONG_WEIGHTS: dict[str, tuple[str, Callable[[Case], tuple[Array, Array]]]] = {
    "alpha_bar_in_the_weight_of_xt": (
        "E13",
        lambda c: (step(c, "x0_weight"), at(c, "sqrt_alpha_bar") * at_s(c, "beta_bar") / at(c, "beta_bar")),
    ),
    "root_missing_in_the_weight_of_x0": (
        "",
        lambda c: (at_s(c, "alpha_bar") * step(c, "beta") / at(c, "beta_bar"), step(c, "xt_weight")),
    ),
    "alpha_bar_of_t_for_that_of_s": (
        "",
        lambda c: (at(c, "sqrt_alpha_bar") * step(c, "beta") / at(c, "beta_bar"), step(c, "sqrt_alpha")),
    ),
}


def in_eps_form(case: Case, weights: tuple[Array, Array]) -> tuple[Array, Array]:
    """Coefficients of x_t and eps in a mean that puts the predicted x_0 in with these weights."""
    of_x0, of_xt = weights
    signal = at(case, "sqrt_alpha_bar")
    return of_x0 / signal + of_xt, -of_x0 * at(case, "sqrt_beta_bar") / signal


def _misweighted(of: Callable[[Case, Array, Array], Outputs], *, eps: bool = False) -> tuple[Mistake, ...]:
    """What comes of each pair of wrong weights (in eps form if so wanted)."""

    def mistake(name: str, erratum: str, weights: Callable[[Case], tuple[Array, Array]]) -> Mistake:
        return Mistake(name, lambda c: of(c, *(in_eps_form(c, weights(c)) if eps else weights(c))), erratum)

    return tuple(mistake(name, *wrong) for name, wrong in WRONG_WEIGHTS.items())


WEIGHTS = Law(
    id="posterior/weights",
    needs="posterior_weights",
    statement=r"\frac{\sqrt{\bar\alpha_s}\beta_{t|s}}{\bar\beta_t},\ \frac{\sqrt{\alpha_{t|s}}\bar\beta_s}{\bar\beta_t}",
    source="ho2020, eq. (7)",
    cases=at_step(),
    call=lambda impl, c: impl.posterior_weights(c.schedule, c.t, c.s),
    expect=lambda c: (exact(c.step("x0_weight"), PAIR_COEFFICIENT), exact(c.step("xt_weight"), PAIR_COEFFICIENT)),
    mistakes=(
        Mistake("shifted_by_one", _shifted_pair),
        *_misweighted(lambda c, of_x0, of_xt: (of_x0, of_xt)),
        Mistake("swapped", lambda c: (step(c, "xt_weight"), step(c, "x0_weight"))),
    ),
    kind="coefficient",
)


VARIANCE = Law(
    id="posterior/variance",
    needs="posterior_variance",
    statement=r"\tilde\beta_{t|s} = \beta_{t|s}\,\bar\beta_s/\bar\beta_t",
    source="ho2020, eq. (7)",
    cases=at_step(),
    call=lambda impl, c: impl.posterior_variance(c.schedule, c.t, c.s),
    expect=lambda c: (exact(c.step("beta_tilde"), PAIR_COEFFICIENT),),
    mistakes=(
        Mistake("shifted_by_one", lambda c: (at(c, "beta_tilde", -1),)),
        Mistake("standard_deviation_returned_as_variance", lambda c: (step(c, "std_tilde"),), "E23"),
        Mistake("taken_for_a_standard_deviation_and_squared", lambda c: (step(c, "beta_tilde") ** 2,), "E14"),
        Mistake("exponent_with_alpha_bar", lambda c: (1 / _from_square_with_alpha_bar(c)[0],), "E11"),
        Mistake(
            "one_variable_in_three_densities",
            lambda c: (1 / (1 / step(c, "beta") + 1 / at_s(c, "beta_bar") - 1 / at(c, "beta_bar")),),
            "E18",
        ),
        Mistake("fixed_large_variance", lambda c: (step(c, "beta"),)),
    ),
    kind="coefficient",
)

MEAN = Law(
    id="posterior/mean",
    needs="q_posterior",
    statement=r"\tilde\mu = \frac{\sqrt{\bar\alpha_s}\beta_{t|s}}{\bar\beta_t}x_0"
    r" + \frac{\sqrt{\alpha_{t|s}}\bar\beta_s}{\bar\beta_t}x_t",
    source="ho2020, eq. (7)",
    cases=at_step("x0", "xt"),
    call=lambda impl, c: impl.q_posterior(c.schedule, c.x0, c.xt, c.t, c.s)[0],
    expect=lambda c: (
        affine((c.step("x0_weight", c.x0), c.x0), (c.step("xt_weight", c.xt), c.xt), roundings=PAIR_AFFINE),
    ),
    mistakes=(
        Mistake("shifted_by_one", lambda c: (_shifted_pair(c)[0] * c.x0 + _shifted_pair(c)[1] * c.xt,)),
        *_misweighted(lambda c, of_x0, of_xt: (of_x0 * c.x0 + of_xt * c.xt,)),
        Mistake("vertex_of_the_square_inverted", lambda c: (1 / _mean(c),), "E15"),
        Mistake(
            "sign_of_x0_in_the_exponent", lambda c: (step(c, "xt_weight") * c.xt - step(c, "x0_weight") * c.x0,), "E16"
        ),
        Mistake("exponent_with_alpha_bar", lambda c: (_vertex_with_alpha_bar(c),), "E11"),
        Mistake("x0_dropped_as_if_independent", lambda c: (step(c, "sqrt_alpha") * c.xt,), "E19"),
        Mistake("weights_swapped", lambda c: (step(c, "xt_weight") * c.x0 + step(c, "x0_weight") * c.xt,)),
    ),
)


def _vertex_with_alpha_bar(case: Case) -> Array:
    precision, from_xt = _from_square_with_alpha_bar(case)
    return (from_xt * case.xt + at_s(case, "sqrt_alpha_bar") / at_s(case, "beta_bar") * case.x0) / precision


def _three_levels(source: Source, claim: Claim) -> Case:
    """Two steps ``t > s > r`` with data at both ends."""
    schedule, shape = draw_schedule(source, shortest=2), draw_shape(source)
    t, s = draw_pairs(source, shape, schedule.T, lowest_s=1)
    r = np.array([source.integer(0, v - 1) for v in s.ravel().tolist()], dtype=np.int64).reshape(s.shape)
    return Case(
        claim, schedule, {"t": t, "s": s, "r": r} | {name: draw_tensor(source, shape, claim) for name in ("x0", "xt")}
    )


def _mean_by_way_of_s(impl: Any, c: Any) -> object:
    between = impl.q_posterior(c.schedule, c.x0, c.xt, c.t, c.s)[0]
    return impl.q_posterior(c.schedule, c.x0, between, c.s, c.r)[0]


def _composed_mean(case: Case) -> tuple[Expected, ...]:
    schedule, like = case.noise_schedule, case.x0

    def weights(later: Any, earlier: Any) -> tuple[DoubleDouble, DoubleDouble]:
        pair = schedule.between(later, earlier)
        shape = np.shape(later) + (1,) * (like.ndim - np.ndim(later))
        return pair.words("x0_weight").reshape(shape), pair.words("xt_weight").reshape(shape)

    direct, second, first = weights(case.t, case.r), weights(case.s, case.r), weights(case.t, case.s)
    total = affine((direct[0], case.x0), (direct[1], case.xt), roundings=2 * PAIR_AFFINE)
    between = np.abs((second[1] * (first[0] * case.x0 + first[1] * case.xt)).high)
    # On the way through s the weights of x0 add up where the direct one is a single number: their parts are the scale.
    scale = total.scale + np.abs((second[0] * case.x0).high) + np.abs((second[1] * first[0] * case.x0).high)
    return (Expected(total.value, scale + case.stored_between_calls * between / total.roundings, total.roundings),)


COMPOSES = Law(
    id="posterior/composes",
    needs="q_posterior",
    statement=r"\tilde\mu_{r|t}(x_t, x_0) = \tilde\mu_{r|s}(\tilde\mu_{s|t}(x_t, x_0), x_0)",
    source="ho2020, eq. (7); Markov property given x_0",
    cases=_three_levels,
    call=_mean_by_way_of_s,
    expect=_composed_mean,
    mistakes=(
        Mistake("step_to_s_repeated", lambda c: (step(c, "x0_weight") * c.x0 + step(c, "xt_weight") * c.xt,)),
        Mistake("x0_forgotten_on_the_second_step", lambda c: (_second_without_x0(c),), "E19"),
    ),
    kind="metamorphic",
)


def _second_without_x0(case: Case) -> Array:
    pair = case.noise_schedule.between(case.s, case.r)
    return spread_over_data(case, pair.xt_weight) * (
        step(case, "x0_weight") * case.x0 + step(case, "xt_weight") * case.xt
    )


MEAN_FROM_EPS = Law(
    id="posterior/mean_from_eps",
    needs="posterior_mean_from_eps",
    statement=r"\tilde\mu = \frac{1}{\sqrt{\alpha_{t|s}}}\left(x_t - \frac{\beta_{t|s}}{\sqrt{\bar\beta_t}}\varepsilon\right)",
    source="ho2020, eq. (10)-(11)",
    cases=at_step("xt", "eps", zero_snr=False),
    call=lambda impl, c: impl.posterior_mean_from_eps(c.schedule, c.xt, c.t, c.s, c.eps),
    expect=lambda c: (
        affine((c.step("recip_sqrt_alpha", c.xt), c.xt), (-c.step("eps_weight", c.eps), c.eps), roundings=PAIR_AFFINE),
    ),
    mistakes=(
        Mistake(
            "root_of_beta_in_the_weight_of_eps",
            lambda c: (step(c, "recip_sqrt_alpha") * (c.xt - step(c, "sqrt_beta") * c.eps),),
            "E21",
        ),
        Mistake(
            "variance_used_as_standard_deviation",
            lambda c: (step(c, "recip_sqrt_alpha") * (c.xt - step(c, "beta") / at(c, "beta_bar") * c.eps),),
        ),
        Mistake("sign_of_eps", lambda c: (step(c, "recip_sqrt_alpha") * c.xt + step(c, "eps_weight") * c.eps,)),
        *_misweighted(lambda c, of_xt, of_eps: (of_xt * c.xt + of_eps * c.eps,), eps=True),
        Mistake("shifted_by_one", lambda c: (at(c, "recip_sqrt_alpha", -1) * c.xt - at(c, "eps_weight", -1) * c.eps,)),
    ),
)


def _square(case: Case) -> tuple[DoubleDouble, DoubleDouble, DoubleDouble]:
    """Exact precision, and the halves of the linear term per unit of ``x_t`` and ``x_0``."""
    schedule, s = case.noise_schedule, case.s
    beta_bar = DoubleDouble.of(1.0) * schedule.words("beta_bar", s)
    a = case.step("alpha") / case.step("beta") + 1.0 / beta_bar
    return a, case.step("sqrt_alpha") / case.step("beta"), schedule.words("sqrt_alpha_bar", s) / beta_bar


def _square_expected(case: Case) -> tuple[Expected, ...]:
    def wide(words: DoubleDouble) -> DoubleDouble:
        return words.reshape(words.shape + (1,) * (case.xt.ndim - len(words.shape)))

    a, from_xt, from_x0 = (wide(words) for words in _square(case))
    return exact(a, PAIR_AFFINE), affine((from_xt * 2.0, case.xt), (from_x0 * 2.0, case.x0), roundings=PAIR_AFFINE)


def _square_coefficients(case: Case) -> tuple[Array, Array, Array]:
    return (
        step(case, "alpha") / step(case, "beta") + 1 / at_s(case, "beta_bar"),
        2 * step(case, "sqrt_alpha") / step(case, "beta"),
        2 * at_s(case, "sqrt_alpha_bar") / at_s(case, "beta_bar"),
    )


def _literal_square(case: Case) -> Outputs:
    precision, from_xt = _from_square_with_alpha_bar(case)
    return precision, 2 * from_xt * case.xt + _square_coefficients(case)[2] * case.x0


def _one_variable_square(case: Case) -> Outputs:
    _, from_xt, from_x0 = _square_coefficients(case)
    precision = 1 / step(case, "beta") + 1 / at_s(case, "beta_bar") - 1 / at(case, "beta_bar")
    return precision, from_xt * case.xt + from_x0 * case.x0


def _doubled_linear_term(case: Case) -> Outputs:
    a, from_xt, from_x0 = _square_coefficients(case)
    return a, (from_xt * case.xt + from_x0 * case.x0) / 2


COMPLETING_SQUARE = Law(
    id="posterior/completing_square",
    needs="completing_square",
    statement=r"a = \frac{\alpha_{t|s}}{\beta_{t|s}} + \frac1{\bar\beta_s},\quad"
    r" b = 2\left(\frac{\sqrt{\alpha_{t|s}}}{\beta_{t|s}}x_t + \frac{\sqrt{\bar\alpha_s}}{\bar\beta_s}x_0\right)",
    source="ho2020, eq. (7), derivation",
    cases=at_step("x0", "xt", lowest_s=1),
    call=lambda impl, c: impl.completing_square(c.schedule, c.x0, c.xt, c.t, c.s),
    expect=_square_expected,
    mistakes=(
        Mistake("alpha_bar_in_the_first_quadratic", _literal_square, "E11"),
        Mistake("one_variable_in_three_densities", _one_variable_square, "E18"),
        Mistake("linear_term_without_its_factor_two", _doubled_linear_term, "E15"),
    ),
)

# --- densities --------------------------------------------------------------------------------------------------------


def _normal_cases(source: Source, claim: Claim) -> Case:
    shape = draw_shape(source)
    values = {name: draw_tensor(source, shape, claim) for name in ("x", "mean")}
    return Case(claim, None, values | {"variance": draw_positive(source, shape, claim, 1e-3, 8.0)})


def _log_density(x: DoubleDouble, mean: DoubleDouble, variance: DoubleDouble) -> DoubleDouble:
    distance = x - mean
    return (log(variance * TWO_PI) + distance * distance / variance) * -0.5


def _log_normal_expected(case: Case) -> tuple[Expected, ...]:
    x, mean, variance = (DoubleDouble.of(v) for v in (case.x, case.mean, case.variance))
    value = _log_density(x, mean, variance)
    log_term, square = np.abs(log(variance * TWO_PI).high), (case.x - case.mean) ** 2 / case.variance
    # A relative error of the argument of the logarithm is an absolute error of its value.
    return (Expected(value, (log_term + 1 + square) / 2, 6),)


LOG_NORMAL = Law(
    id="posterior/log_normal",
    needs="log_normal",
    statement=r"\log\mathcal N(x;\mu,\sigma^2) = -\tfrac12\left(\log 2\pi\sigma^2 + (x-\mu)^2/\sigma^2\right)",
    source="standard",
    cases=_normal_cases,
    call=lambda impl, c: impl.log_normal(c.x, c.mean, c.variance),
    expect=_log_normal_expected,
    mistakes=(
        Mistake(
            "standard_deviation_as_second_argument",
            lambda c: (-(np.log(2 * np.pi * c.variance**2) + (c.x - c.mean) ** 2 / c.variance**2) / 2,),
            "E22",
        ),
        Mistake("normaliser_forgotten", lambda c: (-((c.x - c.mean) ** 2) / (2 * c.variance),)),
    ),
)


def _log_posterior_expected(case: Case) -> tuple[Expected, ...]:
    weights = case.step("x0_weight", case.x0) * case.x0, case.step("xt_weight", case.xt) * case.xt
    mean, variance = weights[0] + weights[1], case.step("beta_tilde", case.x0)
    value = _log_density(DoubleDouble.of(case.xs), mean, variance)
    distance = np.abs((DoubleDouble.of(case.xs) - mean).high)
    # The mean carries PAIR_AFFINE roundings of its own scale, which the square of the distance amplifies; with unit
    # roundoff u the
    # second order of that is u times the square of the scale.
    reach = np.abs(case.xs) + np.abs(weights[0].high) + np.abs(weights[1].high)
    u = case.claim.computing.u
    # Roundings per term: the logarithm and the variance inside it; the squared distance over the variance; the mean.
    in_log, in_square, in_mean = PAIR_COEFFICIENT + 1, PAIR_COEFFICIENT + 5, PAIR_AFFINE + 1
    counted = (
        in_log * (np.abs(log(variance * TWO_PI).high) + 1) / 2
        + in_square * distance**2 / (2 * variance.high)
        + in_mean * (distance * reach + PAIR_AFFINE * u * reach**2) / variance.high
    )
    return (Expected(value, counted / in_mean, in_mean),)


def _log(x: Array, mean: Array, variance: Array) -> Array:
    return -(np.log(2 * np.pi * variance) + (x - mean) ** 2 / variance) / 2


def _bayes_with_denominator(case: Case, wrong: Array) -> Outputs:
    """The right density with another last factor ``q(x_t | x_0)`` below the line."""
    right = _log(case.xt, at(case, "sqrt_alpha_bar") * case.x0, at(case, "beta_bar"))
    return (_log(case.xs, _mean(case), step(case, "beta_tilde")) + right - wrong,)


def _inverted_denominator(case: Case) -> Outputs:
    """``q(x_0, x_t) = q(x_0) q(x_0 | x_t)``, evaluated for standard normal data."""
    return _bayes_with_denominator(case, _log(case.x0, at(case, "sqrt_alpha_bar") * case.xt, at(case, "beta_bar")))


def _third_quadratic_over_alpha_bar(case: Case) -> Outputs:
    distance = case.xt - at(case, "sqrt_alpha_bar") * case.x0
    normaliser = np.log(2 * np.pi * at(case, "beta_bar"))
    return _bayes_with_denominator(case, -(normaliser + distance**2 / at(case, "alpha_bar")) / 2)


def _literal_first_quadratic(case: Case) -> Outputs:
    precision, from_xt = _from_square_with_alpha_bar(case)
    mean = (from_xt * case.xt + at_s(case, "sqrt_alpha_bar") / at_s(case, "beta_bar") * case.x0) / precision
    return (_log(case.xs, mean, 1 / precision),)


LOG_DENSITY = Law(
    id="posterior/log_density",
    needs="log_q_posterior",
    statement=r"\log q(x_s\mid x_t,x_0) = \log q(x_t\mid x_s) + \log q(x_s\mid x_0) - \log q(x_t\mid x_0)",
    source="ho2020, eq. (6)",
    cases=at_step("xs", "x0", "xt", lowest_s=1, zero_snr=False),
    call=lambda impl, c: impl.log_q_posterior(c.schedule, c.xs, c.x0, c.xt, c.t, c.s),
    expect=_log_posterior_expected,
    mistakes=(
        Mistake("denominator_of_bayes_inverted", _inverted_denominator, "E10"),
        Mistake("exponent_with_alpha_bar", _literal_first_quadratic, "E11"),
        Mistake("third_quadratic_divided_by_alpha_bar", _third_quadratic_over_alpha_bar, "E12"),
        Mistake(
            "sign_of_x0_in_the_exponent",
            lambda c: (_log(c.xs, step(c, "xt_weight") * c.xt - step(c, "x0_weight") * c.x0, step(c, "beta_tilde")),),
            "E16",
        ),
        Mistake(
            "variance_squared_in_the_exponent",
            lambda c: (
                -(np.log(2 * np.pi * step(c, "beta_tilde")) + (c.xs - _mean(c)) ** 2 / step(c, "beta_tilde") ** 2) / 2,
            ),
            "E17",
        ),
    ),
)

# --- logarithms and the true reverse kernel ---------------------------------------------------------------------------


def _log_variance_expected(case: Case) -> tuple[Expected, ...]:
    value = log(case.step("beta_tilde"))
    return (Expected(value, np.abs(value.high) + 1, PAIR_COEFFICIENT + 1),)


LOG_VARIANCE = Law(
    id="posterior/log_variance",
    needs="posterior_log_variance",
    statement=r"\log\tilde\beta_{t|s},\quad s \ge 1",
    source="ho2020 and nichol2021, code",
    cases=at_step(lowest_s=1),
    call=lambda impl, c: impl.posterior_log_variance(c.schedule, c.t, c.s),
    expect=_log_variance_expected,
    mistakes=(
        Mistake("log_of_the_standard_deviation", lambda c: (np.log(step(c, "std_tilde")),)),
        Mistake("log_of_the_fixed_large_variance", lambda c: (np.log(step(c, "beta")),)),
        Mistake("variance_instead_of_its_log", lambda c: (step(c, "beta_tilde"),)),
    ),
    kind="coefficient",
)


def _true_reverse_cases(source: Source, claim: Claim) -> Case:
    return at_step("xt", "x0_mean", positive=("x0_variance",))(source, claim)


def _true_reverse_expected(case: Case) -> tuple[Expected, ...]:
    weight, like = case.step("x0_weight", case.xt), case.xt
    variance = case.step("beta_tilde", like)
    spread = weight * weight * case.x0_variance
    mean = affine((weight, case.x0_mean), (case.step("xt_weight", like), case.xt), roundings=PAIR_AFFINE)
    return mean, Expected(variance + spread, variance.high + spread.high, 2 * PAIR_COEFFICIENT + 3)


def _reverse_mean(case: Case) -> Array:
    return step(case, "x0_weight") * case.x0_mean + step(case, "xt_weight") * case.xt


TRUE_REVERSE = Law(
    id="posterior/true_reverse",
    needs="true_reverse_kernel",
    statement=r"\mathrm{Var}(x_s\mid x_t) = \tilde\beta_{t|s}"
    r" + \left(\frac{\sqrt{\bar\alpha_s}\beta_{t|s}}{\bar\beta_t}\right)^2\mathrm{Var}(x_0\mid x_t)",
    source="total variance; bao2022, theorem 1",
    cases=_true_reverse_cases,
    call=lambda impl, c: impl.true_reverse_kernel(c.schedule, c.xt, c.t, c.s, c.x0_mean, c.x0_variance),
    expect=_true_reverse_expected,
    mistakes=(
        Mistake("condition_on_x0_dropped", lambda c: (_reverse_mean(c), step(c, "beta_tilde") + 0 * c.xt), "E20"),
        Mistake("reverse_kernel_taken_for_deterministic", lambda c: (_reverse_mean(c), 0 * c.xt), "E21"),
        Mistake(
            "x0_taken_for_independent_given_xt",
            lambda c: (step(c, "sqrt_alpha") * c.xt, step(c, "beta") + 0 * c.xt),
            "E19",
        ),
        Mistake(
            "weight_of_the_spread_not_squared",
            lambda c: (_reverse_mean(c), step(c, "beta_tilde") + step(c, "x0_weight") * c.x0_variance),
        ),
    ),
)


def _plug_in_expected(case: Case) -> tuple[Expected, ...]:
    mean = affine(
        (case.step("x0_weight", case.x0), case.x0), (case.step("xt_weight", case.xt), case.xt), roundings=PAIR_AFFINE
    )
    return mean, exact(case.step("beta_tilde", case.x0), PAIR_COEFFICIENT)


PLUG_IN = Law(
    id="posterior/plug_in_reverse",
    needs="plug_in_reverse",
    statement=r"q(x_s\mid x_t) \approx q(x_s\mid x_t, x_0 = \hat x_0(x_t))",
    source="ho2020, section 3.2",
    cases=at_step("x0", "xt"),
    call=lambda impl, c: impl.plug_in_reverse(c.schedule, c.xt, c.t, c.s, c.x0),
    expect=_plug_in_expected,
    mistakes=(
        Mistake("standard_deviation_returned_as_variance", lambda c: (_mean(c), step(c, "std_tilde")), "E23"),
        Mistake("fixed_large_variance", lambda c: (_mean(c), step(c, "beta"))),
    ),
)

LAWS = (
    WEIGHTS, VARIANCE, MEAN, COMPOSES, MEAN_FROM_EPS, COMPLETING_SQUARE,
    LOG_NORMAL, LOG_DENSITY, LOG_VARIANCE, TRUE_REVERSE, PLUG_IN,
)  # fmt: skip
