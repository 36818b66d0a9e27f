"""Laws of guidance: what a classifier's gradient, or the difference of two predictions, does to a prediction."""

from __future__ import annotations

from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.arithmetic.double_double import exp, sqrt
from ddpm_ref.laws.cases import Case, Cases, Source, at, at_level, draw_positive, draw_shape, draw_tensor
from ddpm_ref.laws.guided_steps import LAWS as STEPS
from ddpm_ref.laws.guided_steps import with_number
from ddpm_ref.laws.registry import AFFINE, Law, Mistake, Outputs, affine
from ddpm_ref.typing import Array, BoolArray

SCALED = AFFINE + 1  # a coefficient of a table, the scale, the gradient, the sum


def _tensors(*names: str) -> Cases:
    """Cases of data of one shape, without a schedule."""

    def cases(source: Source, claim: Claim) -> Case:
        shape = draw_shape(source)
        return Case(claim, None, {name: draw_tensor(source, shape, claim) for name in names})

    return cases


# --- two predictions --------------------------------------------------------------------------------------------------


def _extrapolated(c: Case, w: float) -> Outputs:
    return ((1 + w) * c.conditional - w * c.unconditional,)


def _free_expected(case: Case, w: DoubleDouble, spread: float, roundings: int) -> tuple[Expected, ...]:
    c, u = DoubleDouble.of(case.conditional), DoubleDouble.of(case.unconditional)
    # Conditional and difference may be formed first: both terms of the difference then pass through the weight.
    scale = np.abs(c.high) + spread * (np.abs(c.high) + np.abs(u.high))
    return (Expected(c + w * (c - u), scale, roundings),)


CLASSIFIER_FREE = Law(
    id="guidance/classifier_free",
    needs="classifier_free",
    statement=r"\bar\varepsilon = (1 + w)\,\hat\varepsilon(x_t, y) - w\,\hat\varepsilon(x_t)",
    source="ho2022, eq. (6)",
    cases=with_number(_tensors("conditional", "unconditional"), "weight", -1.0, 8.0, 1.0, 0.0, -1.0, 0.5),
    call=lambda impl, c: impl.classifier_free(c.conditional, c.unconditional, guidance_weight=float(c.weight)),
    expect=lambda c: _free_expected(c, DoubleDouble.of(c.weight), abs(float(c.weight)), AFFINE),
    mistakes=(
        Mistake("weight_taken_for_a_scale", lambda c: _extrapolated(c, float(c.weight) - 1), "E73"),
        Mistake("predictions_exchanged", lambda c: ((1 + c.weight) * c.unconditional - c.weight * c.conditional,)),
        Mistake("sign_of_the_difference", lambda c: _extrapolated(c, -float(c.weight))),
        Mistake("weights_that_sum_to_one_plus_w", lambda c: (c.conditional + c.weight * c.conditional,)),
        Mistake(
            "interpolated_instead_of_extrapolated",
            lambda c: (c.weight * c.conditional + (1 - c.weight) * c.unconditional,),
            "E73",
        ),
    ),
)

CLASSIFIER_FREE_SCALE = Law(
    id="guidance/classifier_free_scale",
    needs="classifier_free",
    statement=r"\bar\varepsilon = \hat\varepsilon(x_t) + \gamma\,(\hat\varepsilon(x_t, y) - \hat\varepsilon(x_t)),"
    r" \quad \gamma = 1 + w",
    source="ho2022, eq. (6), with the scale of dhariwal2021",
    cases=with_number(_tensors("conditional", "unconditional"), "scale", 0.0, 9.0, 1.0, 0.0, 2.0, 7.5),
    call=lambda impl, c: impl.classifier_free(c.conditional, c.unconditional, guidance_scale=float(c.scale)),
    expect=lambda c: _free_expected(c, DoubleDouble.of(c.scale) - 1.0, abs(float(c.scale)) + 1, AFFINE + 1),
    mistakes=(
        Mistake("scale_taken_for_a_weight", lambda c: _extrapolated(c, float(c.scale)), "E73"),
        Mistake("predictions_exchanged", lambda c: (c.conditional + c.scale * (c.unconditional - c.conditional),)),
        Mistake("sign_of_the_difference", lambda c: (c.unconditional - c.scale * (c.conditional - c.unconditional),)),
    ),
)


def _scales_expected(case: Case) -> tuple[Expected, ...]:
    given = DoubleDouble.of(case.given)
    return tuple(Expected(value, np.abs(given.high) + 1, 1) for value in (given + 1.0, given - 1.0))


SCALES = Law(
    id="guidance/scales",
    needs="scale_from_weight weight_from_scale",
    statement=r"\gamma = 1 + w, \qquad w = \gamma - 1",
    source="ho2022, eq. (6)",
    cases=_tensors("given"),
    call=lambda impl, c: (impl.scale_from_weight(c.given), impl.weight_from_scale(c.given)),
    expect=_scales_expected,
    mistakes=(
        Mistake("one_letter_for_both", lambda c: (c.given, c.given), "E73"),
        Mistake("exchanged", lambda c: (c.given - 1, c.given + 1)),
        Mistake("complement", lambda c: (1 - c.given, 1 - c.given)),
    ),
)


def _implicit_expected(case: Case) -> tuple[Expected, ...]:
    noise = case.level("sqrt_beta_bar", case.conditional)
    c, u = DoubleDouble.of(case.conditional), DoubleDouble.of(case.unconditional)
    return (Expected((u - c) / noise, (np.abs(u.high) + np.abs(c.high)) / noise.high, SCALED),)


def _over(value: Array, divisor: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(value / divisor)


IMPLICIT = Law(
    id="guidance/implicit_classifier",
    needs="implicit_classifier_gradient",
    statement=r"\nabla\log q(y\mid x_t) = -\left(\hat\varepsilon(x_t, y) - \hat\varepsilon(x_t)\right)/\sqrt{\bar\beta_t}",
    source="ho2022, section 3.2",
    cases=at_level("conditional", "unconditional"),
    call=lambda impl, c: impl.implicit_classifier_gradient(c.schedule, c.conditional, c.unconditional, c.t),
    expect=_implicit_expected,
    mistakes=(
        Mistake("sign", lambda c: ((c.conditional - c.unconditional) / at(c, "sqrt_beta_bar"),), "E69"),
        Mistake(
            "variance_used_as_standard_deviation", lambda c: ((c.unconditional - c.conditional) / at(c, "beta_bar"),)
        ),
        Mistake("not_divided_by_the_noise", lambda c: (c.unconditional - c.conditional,)),
        Mistake("conditional_score_alone", lambda c: (-c.conditional / at(c, "sqrt_beta_bar"),)),
        Mistake("shifted_by_one", lambda c: (_over(c.unconditional - c.conditional, at(c, "sqrt_beta_bar", -1)),)),
    ),
)


# --- a prediction moved by a gradient ---------------------------------------------------------------------------------

SCORE = Law(
    id="guidance/score",
    needs="classifier_guided_score",
    statement=r"\nabla\log q(x_t) + \omega\,\nabla\log f(y\mid x_t)",
    source="dhariwal2021, section 4.2",
    cases=with_number(_tensors("score", "gradient"), "scale", 0.0, 8.0, 1.0, 2.0, 0.0),
    call=lambda impl, c: impl.classifier_guided_score(c.score, c.gradient, float(c.scale)),
    expect=lambda c: (affine((DoubleDouble.of(1.0), c.score), (DoubleDouble.of(c.scale), c.gradient), roundings=2),),
    mistakes=(
        Mistake("sign_of_the_gradient", lambda c: (c.score - c.scale * c.gradient,), "E69"),
        Mistake("scale_taken_for_a_weight", lambda c: (c.score + (1 + c.scale) * c.gradient,), "E73"),
        Mistake("averaged", lambda c: ((1 - c.scale) * c.score + c.scale * c.gradient,)),
        Mistake("scale_forgotten", lambda c: (c.score + c.gradient,)),
    ),
)


def _eps_moved(case: Case, coefficient: Array) -> Outputs:
    return (case.eps - case.scale * coefficient * case.gradient,)


EPS = Law(
    id="guidance/eps",
    needs="classifier_guided_eps",
    statement=r"\bar\varepsilon = \hat\varepsilon - \omega\sqrt{\bar\beta_t}\,\nabla\log f(y\mid x_t)",
    source="dhariwal2021, eq. (14)",
    cases=with_number(at_level("eps", "gradient"), "scale", 0.0, 8.0, 1.0, 2.0, 0.0),
    call=lambda impl, c: impl.classifier_guided_eps(c.schedule, c.eps, c.t, c.gradient, float(c.scale)),
    expect=lambda c: (
        affine(
            (DoubleDouble.of(1.0), c.eps),
            (-(c.level("sqrt_beta_bar", c.eps) * DoubleDouble.of(c.scale)), c.gradient),
            roundings=SCALED,
        ),
    ),
    mistakes=(
        Mistake("sign_of_the_gradient", lambda c: _eps_moved(c, -at(c, "sqrt_beta_bar")), "E69"),
        Mistake("variance_used_as_standard_deviation", lambda c: _eps_moved(c, at(c, "beta_bar"))),
        Mistake("noise_of_the_step_instead_of_aggregate", lambda c: _eps_moved(c, at(c, "sqrt_beta")), "E05"),
        Mistake("gradient_of_the_score_form", lambda c: _eps_moved(c, np.ones(()))),
        Mistake(
            "scale_taken_for_a_weight", lambda c: _eps_moved(c, (1 + c.scale) / c.scale * at(c, "sqrt_beta_bar")), "E73"
        ),
        Mistake("shifted_by_one", lambda c: _eps_moved(c, at(c, "sqrt_beta_bar", -1))),
    ),
)


def _shift_cases(source: Source, claim: Claim) -> Case:
    case = _tensors("mean", "gradient")(source, claim)
    return Case(claim, None, {**case.values, "variance": draw_positive(source, case.mean.shape, claim, 1e-4, 8.0)})


MEAN_SHIFT = Law(
    id="guidance/mean_shift",
    needs="classifier_mean_shift",
    statement=r"\mu + \omega\,\Sigma\,\nabla\log f",
    source="dhariwal2021, eq. (10) and algorithm 1",
    cases=with_number(_shift_cases, "scale", 0.0, 8.0, 1.0, 2.0, 0.0),
    call=lambda impl, c: impl.classifier_mean_shift(c.mean, c.variance, c.gradient, float(c.scale)),
    expect=lambda c: (
        affine(
            (DoubleDouble.of(1.0), c.mean),
            (DoubleDouble.of(c.variance) * DoubleDouble.of(c.scale), c.gradient),
            roundings=AFFINE,
        ),
    ),
    mistakes=(
        Mistake(
            "standard_deviation_used_as_variance",
            lambda c: (c.mean + c.scale * np.sqrt(c.variance) * c.gradient,),
            "E40",
        ),
        Mistake("sign_of_the_gradient", lambda c: (c.mean - c.scale * c.variance * c.gradient,), "E69"),
        Mistake("variance_forgotten", lambda c: (c.mean + c.scale * c.gradient,)),
        Mistake("scale_squared", lambda c: (c.mean + c.scale**2 * c.variance * c.gradient,)),
    ),
)


# --- classifiers, spreads, targets, labels ----------------------------------------------------------------------------


def _softmax_cases(source: Source, claim: Claim) -> Case:
    batch, classes, d = (
        (64, 10, 16) if source.bulk else (source.integer(1, 4), source.integer(2, 5), source.integer(1, 3))
    )
    logits = draw_tensor(source, (batch, classes), claim)
    jacobian = draw_tensor(source, (batch, classes, d), claim)
    label = np.array([source.integer(0, classes - 1) for _ in range(batch)], dtype=np.int64)
    return Case(claim, None, {"logits": logits, "jacobian": jacobian, "label": label})


def _shares(case: Case) -> Array:
    above = np.exp(case.logits - case.logits.max(axis=1, keepdims=True))
    return np.asarray(above / above.sum(axis=1, keepdims=True))


def _own(case: Case) -> Array:
    return np.asarray(case.jacobian[np.arange(len(case.label)), case.label])


def _right_gradient(case: Case) -> Array:
    return np.asarray(np.einsum("bk,bkd->bd", _shares(case), _own(case)[:, None] - case.jacobian))


def _softmax_expected(case: Case) -> tuple[Expected, ...]:
    highest = case.logits.max(axis=1, keepdims=True)
    above = exp(DoubleDouble.of(case.logits) - highest)
    total = above.sum(1)
    shares = above / total.reshape((len(case.logits), 1))
    pull = DoubleDouble.of(_own(case)[:, None]) - case.jacobian
    value = (shares.reshape((*shares.shape, 1)) * pull).sum(1)
    size = np.abs(_own(case)) + np.einsum("bk,bkd->bd", shares.high, np.abs(case.jacobian))
    # The exponential turns an absolute error of its argument, a few roundings of the logits, into a relative one.
    reach = 1 + 2 * np.abs(case.logits).max(axis=1, keepdims=True)
    return (Expected(value, size * reach, case.logits.shape[1] + 8),)


SOFTMAX = Law(
    id="guidance/log_softmax_gradient",
    needs="log_softmax_gradient",
    statement=r"\nabla_x\log\mathrm{softmax}(z(x))_y = \sum_k p_k\,(\nabla z_y - \nabla z_k)",
    source="dhariwal2021, section 4",
    cases=_softmax_cases,
    call=lambda impl, c: impl.log_softmax_gradient(c.logits, c.jacobian, c.label),
    expect=_softmax_expected,
    mistakes=(
        Mistake(
            "gradient_of_the_probability",
            lambda c: (_right_gradient(c) * np.take_along_axis(_shares(c), c.label[:, None], 1),),
            "E74",
        ),
        Mistake("logit_without_normalisation", lambda c: (_own(c),)),
        Mistake("gradient_of_the_loss", lambda c: (-_right_gradient(c),), "E69"),
        Mistake("mean_over_the_batch", lambda c: (_right_gradient(c) / len(c.label),)),
        Mistake(
            "most_probable_class",
            lambda c: (_right_gradient(Case(c.claim, None, {**c.values, "label": np.argmax(c.logits, axis=1)})),),
        ),
        Mistake(
            "label_found_elsewhere",
            lambda c: (_right_gradient(Case(c.claim, None, {**c.values, "label": (c.label + 1) % c.logits.shape[1]})),),
            "E70",
        ),
    ),
    kind="reduction",
)


def _rescale_cases(source: Source, claim: Claim) -> Case:
    shape = (64, 64) if source.bulk else (source.integer(1, 4), source.integer(4, 9))

    def spread(scale: float) -> Array:
        values = source.numbers(shape, -8.0, 8.0)
        values[:, :2] = [-1.0, 2.0]  # never constant
        return np.asarray(claim.storing.round(scale * values))

    return Case(claim, None, {"guided": spread(2.0), "conditional": spread(1.0)})


def _std(values: Array) -> tuple[DoubleDouble, Array]:
    """Standard deviation of every row, and how much larger than it the numbers are."""
    n = values.shape[1]
    away = DoubleDouble.of(values) - (DoubleDouble.of(values).sum(1) / float(n)).reshape((len(values), 1))
    std = sqrt((away * away).sum(1) / float(n)).reshape((len(values), 1))
    return std, np.abs(values).max(axis=1, keepdims=True) / std.high


def _rescale_expected(case: Case) -> tuple[Expected, ...]:
    (spread, large), (wanted, larger) = _std(case.guided), _std(case.conditional)
    factor, ratio = DoubleDouble.of(case.factor), wanted / spread
    value = (factor * ratio + (1.0 - factor)) * case.guided
    # A mean that is rounded shifts what is squared: a deviation is worse conditioned the further off zero its numbers lie.
    scale = np.abs(case.guided) * (factor.high * ratio.high * (1 + large + larger) + (1 - factor.high))
    return (Expected(value, scale, case.guided.shape[1] + 8),)


def _rescaled(case: Case, ratio: Array, factor: Array | None = None) -> Outputs:
    kept = case.factor if factor is None else factor
    return ((kept * ratio + (1 - kept)) * case.guided,)


def _ratio(case: Case, axis: int | None = 1) -> Array:
    return np.asarray(case.conditional.std(axis=axis, keepdims=True) / case.guided.std(axis=axis, keepdims=True))


RESCALE = Law(
    id="guidance/rescale",
    needs="rescale",
    statement=r"\left(\varphi\,\mathrm{std}(\hat y_c)/\mathrm{std}(\bar y) + 1 - \varphi\right)\bar y",
    source="lin2024, section 3.4",
    cases=with_number(_rescale_cases, "factor", 0.0, 1.0, 1.0, 0.5, 0.0),
    call=lambda impl, c: impl.rescale(c.guided, c.conditional, float(c.factor)),
    expect=_rescale_expected,
    mistakes=(
        Mistake("ratio_inverted", lambda c: _rescaled(c, 1 / _ratio(c))),
        Mistake("variances_instead_of_deviations", lambda c: _rescaled(c, _ratio(c) ** 2)),
        Mistake("factor_the_other_way_round", lambda c: _rescaled(c, _ratio(c), 1 - c.factor)),
        Mistake("whatever_the_factor", lambda c: _rescaled(c, _ratio(c), np.asarray(1.0))),
        Mistake("spread_of_the_whole_batch", lambda c: _rescaled(c, _ratio(c, None))),
    ),
    kind="reduction",
)


def _target_cases(source: Source, claim: Claim) -> Case:
    """A conditional law that is narrower than the other, so that every weight has a target."""
    shape = draw_shape(source)
    values = {name: draw_tensor(source, shape, claim) for name in ("mean_known", "mean_unknown")}
    values["variance_known"] = draw_positive(source, shape, claim, 0.0625, 0.5)
    values["variance_unknown"] = draw_positive(source, shape, claim, 1.0, 8.0)
    return Case(claim, None, values)


def _target_expected(case: Case) -> tuple[Expected, ...]:
    w = DoubleDouble.of(case.weight)
    kept, taken = (w + 1.0) / DoubleDouble.of(case.variance_known), w / DoubleDouble.of(case.variance_unknown)
    precision = kept - taken
    condition = (kept.high + taken.high) / precision.high
    size = (np.abs(kept.high * case.mean_known) + np.abs(taken.high * case.mean_unknown)) / precision.high
    mean = (kept * case.mean_known - taken * case.mean_unknown) / precision
    # A precision: the sum, two quotients and their difference; then a quotient, and for the mean a product and a difference.
    return Expected(mean, size * (1 + condition) / 2, 8), Expected(1.0 / precision, condition / precision.high, 4)


def _target(case: Case, kept: Array, taken: Array) -> Outputs:
    precision = kept / case.variance_known - taken / case.variance_unknown
    mean = kept / case.variance_known * case.mean_known - taken / case.variance_unknown * case.mean_unknown
    return mean / precision, 1 / precision


def _asked_for_target(impl: Any, c: Any) -> tuple[object, object]:
    mean, variance = impl.guided_normal(
        c.mean_known, c.variance_known, c.mean_unknown, c.variance_unknown, guidance_weight=float(c.weight)
    )
    return mean, variance


TARGET = Law(
    id="guidance/normal_target",
    needs="guided_normal",
    statement=r"p(x\mid y)^{1+w}p(x)^{-w}:\quad \frac1v = \frac{1+w}{v_c} - \frac{w}{v_u}, \qquad"
    r" m = v\left(\frac{(1+w)m_c}{v_c} - \frac{w\,m_u}{v_u}\right)",
    source="ho2022, section 3.2",
    cases=with_number(_target_cases, "weight", 0.0, 4.0, 1.0, 0.0, 2.0),
    call=_asked_for_target,
    expect=_target_expected,
    mistakes=(
        Mistake("weight_taken_for_a_scale", lambda c: _target(c, c.weight, c.weight - 1), "E73"),
        Mistake(
            "variances_instead_of_precisions",
            lambda c: (
                _target(c, 1 + c.weight, c.weight)[0],
                (1 + c.weight) * c.variance_known - c.weight * c.variance_unknown,
            ),
        ),
        Mistake(
            "means_extrapolated",
            lambda c: (
                (1 + c.weight) * c.mean_known - c.weight * c.mean_unknown,
                _target(c, 1 + c.weight, c.weight)[1],
            ),
        ),
        Mistake("multiplied_instead_of_divided", lambda c: _target(c, 1 + c.weight, -c.weight)),
    ),
)


def _drop_cases(source: Source, claim: Claim) -> Case:
    batch, null = 256 if source.bulk else source.integer(0, 12), source.integer(2, 10)
    label = np.array([source.integer(0, null - 1) for _ in range(batch)], dtype=np.int64).reshape(batch)
    uniform = np.minimum(claim.storing.round(np.abs(source.numbers((batch,), -1.0, 1.0))), 1 - claim.storing.u)
    values = {"label": label, "uniform": np.asarray(uniform), "null": np.asarray(null, dtype=np.int64)}
    return Case(claim, None, values)


def _dropped(case: Case, chosen: BoolArray) -> Outputs:
    return (np.where(chosen, float(case.null), case.label.astype(np.float64)),)


def _drop_expected(case: Case) -> tuple[Expected, ...]:
    (value,) = _dropped(case, case.uniform < case.probability)
    return (Expected(DoubleDouble.of(value), np.zeros(value.shape), 0),)


def _periodic(case: Case) -> Outputs:
    period = round(1 / max(float(case.probability), 1e-3))
    return _dropped(case, np.arange(len(case.label)) % period == 0)


DROP = Law(
    id="guidance/drop_condition",
    needs="drop_condition",
    statement=r"y_i \leftarrow \varnothing\ \text{where}\ u_i < p,\ \text{independently for each example}",
    source="ho2022, algorithm 1",
    cases=with_number(_drop_cases, "probability", 0.0, 1.0, 0.5, 0.125),
    call=lambda impl, c: impl.drop_condition(c.label, c.uniform, float(c.probability), int(c.null)),
    expect=_drop_expected,
    mistakes=(
        Mistake("periodic_instead_of_independent", _periodic, "E76"),
        Mistake(
            "one_draw_for_the_batch",
            lambda c: _dropped(c, np.full(len(c.label), len(c.label) > 0 and bool(c.uniform[0] < c.probability))),
        ),
        Mistake("kept_instead_of_dropped", lambda c: _dropped(c, c.uniform >= c.probability)),
        Mistake(
            "class_0_as_the_null_label",
            lambda c: (np.where(c.uniform < c.probability, 0.0, c.label.astype(np.float64)),),
        ),
    ),
    kind="exact",
)

LAWS = (
    CLASSIFIER_FREE, CLASSIFIER_FREE_SCALE, SCALES, IMPLICIT, SCORE, EPS, MEAN_SHIFT, *STEPS,
    SOFTMAX, RESCALE, TARGET, DROP,
)  # fmt: skip
