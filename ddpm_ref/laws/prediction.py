"""Laws of the conversions between predictions, given ``x_t``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.laws.cases import (
    Case,
    Source,
    at,
    at_level,
    draw_shape,
    draw_tensor,
    rounded_alpha_bar,
    spread_over_data,
)
from ddpm_ref.laws.registry import AFFINE, Law, Mistake, Outputs, affine
from ddpm_ref.typing import Array

HALF = ("bf16", "fp16")
SOLVED = 5  # (x - c y) / d: three coefficients or their reciprocals, a product or quotient each, one difference
SCALED = 3  # y / d, or y times a rounded reciprocal


def _signal(case: Case, like: Array) -> DoubleDouble:
    return case.level("sqrt_alpha_bar", like)


def _noise(case: Case, like: Array) -> DoubleDouble:
    return case.level("sqrt_beta_bar", like)


Use: TypeAlias = Callable[[Array, Array, Case], Array]  # of the roots of alpha_bar and of its complement


def _complements(use: Use) -> tuple[Mistake, ...]:
    """What comes of ``1 - alpha_bar`` where alpha_bar was rounded before: in the compute format, or in the storage format."""

    def product(case: Case) -> Outputs:
        alpha_bar = spread_over_data(case, rounded_alpha_bar(case)[case.t])
        return (use(np.sqrt(alpha_bar), np.sqrt(case.claim.computing.round(1 - alpha_bar)), case),)

    def spread(case: Case) -> Outputs:
        """Two products of ``t`` factors differ by ``2 t`` roundings, which the complement divides by its own size."""
        lost = spread_over_data(case, 2 * np.asarray(case.t) * (1 + case.noise_schedule.snr[case.t]))
        rows = {name: np.abs(v) for name, v in case.values.items() if v.dtype.kind == "f"}
        sizes = Case(case.claim, case.schedule, {**case.values, **rows})
        signal, noise = at(case, "sqrt_alpha_bar"), at(case, "sqrt_beta_bar")
        return (lost * (np.abs(use(signal, noise, sizes)) + np.abs(use(signal, -noise, sizes))),)

    def cast(case: Case) -> Outputs:
        store = case.claim.storing
        alpha_bar = store.round(at(case, "alpha_bar"))
        return (use(np.sqrt(alpha_bar), np.sqrt(store.round(1 - alpha_bar)), case),)

    return (
        Mistake("one_minus_rounded_product", product, claims=("fp64", "fp32"), spread=spread, rounding=True),
        Mistake("complement_after_cast_to_storage", cast, claims=HALF, rounding=True),
    )


def _solved(x: Array, coefficient: DoubleDouble | float, y: Array, divisor: DoubleDouble) -> Expected:
    """``(x - coefficient y) / divisor`` with the scale of its two terms."""
    product = DoubleDouble.of(coefficient) * y
    return Expected((DoubleDouble.of(x) - product) / divisor, (np.abs(x) + np.abs(product.high)) / divisor.high, SOLVED)


def _law(
    target: str, source: str, statement: str, reference: str, expect: Callable[[Case], Expected], mistakes: tuple[Mistake, ...],
    *, zero_snr: bool = True,
) -> Law:  # fmt: skip
    """The law of ``target_from_source``: cases hold ``xt`` and the prediction under the name ``value``."""
    needs = f"{target}_from_{source}"
    return Law(
        id=f"prediction/{needs}",
        needs=needs,
        statement=statement,
        source=reference,
        cases=at_level("xt", "value", zero_snr=zero_snr),
        call=lambda impl, c: getattr(impl, needs)(c.schedule, c.xt, c.t, c.value),
        expect=lambda c: (expect(c),),
        mistakes=mistakes,
    )


X0_FROM_EPS = _law(
    "x0",
    "eps",
    r"\hat x_0 = (x_t - \sqrt{\bar\beta_t}\,\hat\varepsilon)/\sqrt{\bar\alpha_t}",
    "ho2020, eq. (15)",
    lambda c: _solved(c.xt, _noise(c, c.xt), c.value, _signal(c, c.xt)),
    (
        Mistake(
            "shifted_by_one", lambda c: ((c.xt - at(c, "sqrt_beta_bar", -1) * c.value) / at(c, "sqrt_alpha_bar", -1),)
        ),
        Mistake(
            "variance_used_as_standard_deviation",
            lambda c: ((c.xt - at(c, "beta_bar") * c.value) / at(c, "sqrt_alpha_bar"),),
        ),
        Mistake(
            "alpha_bar_without_square_root", lambda c: ((c.xt - at(c, "sqrt_beta_bar") * c.value) / at(c, "alpha_bar"),)
        ),
        Mistake(
            "noise_of_the_step_instead_of_aggregate",
            lambda c: ((c.xt - at(c, "sqrt_beta") * c.value) / at(c, "sqrt_alpha"),),
            "E05",
        ),
        Mistake("sign_of_eps", lambda c: ((c.xt + at(c, "sqrt_beta_bar") * c.value) / at(c, "sqrt_alpha_bar"),)),
        *_complements(lambda signal, noise, c: (c.xt - noise * c.value) / signal),
    ),
    zero_snr=False,
)

X0_FROM_V = _law(
    "x0",
    "v",
    r"\hat x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{\bar\beta_t}\,\hat v",
    "salimans2022, appendix D",
    lambda c: affine((_signal(c, c.xt), c.xt), (-_noise(c, c.xt), c.value), roundings=AFFINE),
    (
        Mistake(
            "shifted_by_one", lambda c: (at(c, "sqrt_alpha_bar", -1) * c.xt - at(c, "sqrt_beta_bar", -1) * c.value,)
        ),
        Mistake("sign_of_v", lambda c: (at(c, "sqrt_alpha_bar") * c.xt + at(c, "sqrt_beta_bar") * c.value,)),
        Mistake("scales_swapped", lambda c: (at(c, "sqrt_beta_bar") * c.xt - at(c, "sqrt_alpha_bar") * c.value,)),
        *_complements(lambda signal, noise, c: signal * c.xt - noise * c.value),
    ),
)

X0_FROM_SCORE = _law(
    "x0",
    "score",
    r"\hat x_0 = (x_t + \bar\beta_t\nabla\log q)/\sqrt{\bar\alpha_t}",
    "vincent2011",
    lambda c: _solved(c.xt, -c.level("beta_bar", c.xt), c.value, _signal(c, c.xt)),
    (
        Mistake("shifted_by_one", lambda c: ((c.xt + at(c, "beta_bar", -1) * c.value) / at(c, "sqrt_alpha_bar", -1),)),
        Mistake(
            "standard_deviation_used_as_variance",
            lambda c: ((c.xt + at(c, "sqrt_beta_bar") * c.value) / at(c, "sqrt_alpha_bar"),),
        ),
    ),
    zero_snr=False,
)

EPS_FROM_X0 = _law(
    "eps",
    "x0",
    r"\hat\varepsilon = (x_t - \sqrt{\bar\alpha_t}\,\hat x_0)/\sqrt{\bar\beta_t}",
    "ho2020, eq. (15), inverted",
    lambda c: _solved(c.xt, _signal(c, c.xt), c.value, _noise(c, c.xt)),
    (
        Mistake(
            "shifted_by_one",
            lambda c: (_quotient(c.xt - at(c, "sqrt_alpha_bar", -1) * c.value, at(c, "sqrt_beta_bar", -1)),),
        ),
        Mistake(
            "variance_used_as_standard_deviation",
            lambda c: ((c.xt - at(c, "sqrt_alpha_bar") * c.value) / at(c, "beta_bar"),),
        ),
        Mistake(
            "alpha_bar_without_square_root", lambda c: ((c.xt - at(c, "alpha_bar") * c.value) / at(c, "sqrt_beta_bar"),)
        ),
    ),
)


def _quotient(a: Array, b: Array) -> Array:
    """``a / b`` where b may be the zero of level 0 that a shifted index finds."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(a / b)


EPS_FROM_V = _law(
    "eps",
    "v",
    r"\hat\varepsilon = \sqrt{\bar\beta_t}\,x_t + \sqrt{\bar\alpha_t}\,\hat v",
    "salimans2022, appendix D",
    lambda c: affine((_noise(c, c.xt), c.xt), (_signal(c, c.xt), c.value), roundings=AFFINE),
    (
        Mistake(
            "shifted_by_one", lambda c: (at(c, "sqrt_beta_bar", -1) * c.xt + at(c, "sqrt_alpha_bar", -1) * c.value,)
        ),
        Mistake("sign_of_v", lambda c: (at(c, "sqrt_beta_bar") * c.xt - at(c, "sqrt_alpha_bar") * c.value,)),
    ),
)

EPS_FROM_SCORE = _law(
    "eps",
    "score",
    r"\hat\varepsilon = -\sqrt{\bar\beta_t}\,\nabla\log q",
    "vincent2011",
    lambda c: affine((-_noise(c, c.xt), c.value), roundings=AFFINE - 1),
    (
        Mistake("shifted_by_one", lambda c: (-at(c, "sqrt_beta_bar", -1) * c.value,)),
        Mistake("sign_of_the_score", lambda c: (at(c, "sqrt_beta_bar") * c.value,)),
        Mistake("variance_used_as_standard_deviation", lambda c: (-at(c, "beta_bar") * c.value,)),
    ),
)

V_FROM_EPS = _law(
    "v",
    "eps",
    r"\hat v = (\hat\varepsilon - \sqrt{\bar\beta_t}\,x_t)/\sqrt{\bar\alpha_t}",
    "salimans2022, appendix D, solved for v",
    lambda c: _solved(c.value, _noise(c, c.xt), c.xt, _signal(c, c.xt)),
    (
        Mistake(
            "shifted_by_one", lambda c: ((c.value - at(c, "sqrt_beta_bar", -1) * c.xt) / at(c, "sqrt_alpha_bar", -1),)
        ),
        Mistake("xt_taken_for_x0", lambda c: (at(c, "sqrt_alpha_bar") * c.value - at(c, "sqrt_beta_bar") * c.xt,)),
    ),
    zero_snr=False,
)

V_FROM_X0 = _law(
    "v",
    "x0",
    r"\hat v = (\sqrt{\bar\alpha_t}\,x_t - \hat x_0)/\sqrt{\bar\beta_t}",
    "salimans2022, appendix D, solved for v",
    lambda c: Expected(
        (_signal(c, c.xt) * c.xt - c.value) / _noise(c, c.xt),
        (np.abs(_signal(c, c.xt).high * c.xt) + np.abs(c.value)) / _noise(c, c.xt).high,
        SOLVED,
    ),
    (
        Mistake(
            "shifted_by_one",
            lambda c: (_quotient(at(c, "sqrt_alpha_bar", -1) * c.xt - c.value, at(c, "sqrt_beta_bar", -1)),),
        ),
        Mistake("sign", lambda c: ((c.value - at(c, "sqrt_alpha_bar") * c.xt) / at(c, "sqrt_beta_bar"),)),
    ),
)

SCORE_FROM_EPS = _law(
    "score",
    "eps",
    r"\nabla\log q = -\hat\varepsilon/\sqrt{\bar\beta_t}",
    "vincent2011; dhariwal2021, section 4.2",
    lambda c: Expected(-DoubleDouble.of(c.value) / _noise(c, c.xt), np.abs(c.value) / _noise(c, c.xt).high, SCALED),
    (
        Mistake("variance_used_as_standard_deviation", lambda c: (-c.value / at(c, "beta_bar"),)),
        Mistake("sign", lambda c: (c.value / at(c, "sqrt_beta_bar"),)),
        Mistake("shifted_by_one", lambda c: (_quotient(-c.value, at(c, "sqrt_beta_bar", -1)),)),
    ),
)

SCORE_FROM_X0 = _law(
    "score",
    "x0",
    r"\nabla\log q = (\sqrt{\bar\alpha_t}\,\hat x_0 - x_t)/\bar\beta_t",
    "vincent2011",
    lambda c: Expected(
        (_signal(c, c.xt) * c.value - c.xt) / c.level("beta_bar", c.xt),
        (np.abs(_signal(c, c.xt).high * c.value) + np.abs(c.xt)) / c.level("beta_bar", c.xt).high,
        SOLVED,
    ),
    (
        Mistake(
            "standard_deviation_used_as_variance",
            lambda c: ((at(c, "sqrt_alpha_bar") * c.value - c.xt) / at(c, "sqrt_beta_bar"),),
        ),
        Mistake("sign", lambda c: ((c.xt - at(c, "sqrt_alpha_bar") * c.value) / at(c, "beta_bar"),)),
        Mistake(
            "shifted_by_one",
            lambda c: (_quotient(at(c, "sqrt_alpha_bar", -1) * c.value - c.xt, at(c, "beta_bar", -1)),),
        ),
    ),
)

V_TARGET = Law(
    id="prediction/v_target",
    needs="v_target",
    statement=r"v = \sqrt{\bar\alpha_t}\,\varepsilon - \sqrt{\bar\beta_t}\,x_0",
    source="salimans2022, appendix D",
    cases=at_level("x0", "noise"),
    call=lambda impl, c: impl.v_target(c.schedule, c.x0, c.t, c.noise),
    expect=lambda c: (affine((_signal(c, c.x0), c.noise), (-_noise(c, c.x0), c.x0), roundings=AFFINE),),
    mistakes=(
        Mistake(
            "shifted_by_one", lambda c: (at(c, "sqrt_alpha_bar", -1) * c.noise - at(c, "sqrt_beta_bar", -1) * c.x0,)
        ),
        Mistake("q_sample_returned", lambda c: (at(c, "sqrt_alpha_bar") * c.x0 + at(c, "sqrt_beta_bar") * c.noise,)),
        Mistake("sign", lambda c: (at(c, "sqrt_beta_bar") * c.x0 - at(c, "sqrt_alpha_bar") * c.noise,)),
        *_complements(lambda signal, noise, c: signal * c.noise - noise * c.x0),
    ),
)


def _clip_cases(source: Source, claim: Claim) -> Case:
    return Case(claim, None, {"x0": draw_tensor(source, draw_shape(source), claim, reach=3.0)})


CLIP = Law(
    id="prediction/clip_x0",
    needs="clip_x0",
    statement=r"\min(\max(\hat x_0, -1), 1)",
    source="ho2020, code",
    cases=_clip_cases,
    call=lambda impl, c: impl.clip_x0(c.x0),
    expect=lambda c: (Expected(DoubleDouble.of(np.clip(c.x0, -1.0, 1.0)), np.zeros(c.x0.shape), 0),),
    mistakes=(
        Mistake("not_clipped", lambda c: (c.x0,)),
        Mistake("clipped_to_the_unit_interval", lambda c: (np.clip(c.x0, 0.0, 1.0),)),
        Mistake("squashed_instead_of_clipped", lambda c: (np.tanh(c.x0),)),
    ),
    kind="exact",
)

LAWS = (
    X0_FROM_EPS, X0_FROM_V, X0_FROM_SCORE, EPS_FROM_X0, EPS_FROM_V, EPS_FROM_SCORE, V_FROM_EPS, V_FROM_X0,
    SCORE_FROM_EPS, SCORE_FROM_X0, V_TARGET, CLIP,
)  # fmt: skip
