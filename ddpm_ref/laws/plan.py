"""Laws of plans: the rows of a sampler, and what happens to a predicted x0 between them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.laws.cases import SHAPES, Case, Source, at, at_s, draw_tensor, step
from ddpm_ref.laws.family import (
    FAMILY_GAP,
    FAMILY_ROOT,
    MISTAKES,
    Parts,
    levels_of,
    of_case,
    rise,
    walks,
    with_eta,
)
from ddpm_ref.laws.registry import PAIR_COEFFICIENT, Law, Mistake, Outputs, exact
from ddpm_ref.typing import Array


def _rows(*columns: DoubleDouble) -> tuple[Expected, ...]:
    return tuple(exact(column, PAIR_COEFFICIENT) for column in columns)


def silent_end(words: DoubleDouble) -> DoubleDouble:
    """A column of noise without that of the last step."""
    keep = np.append(np.ones(len(words.high) - 1), 0.0)
    return DoubleDouble(words.high * keep, words.low * keep)


def _silenced(column: Array) -> Array:
    return np.append(column[:-1], 0.0)


# --- ancestral sampling -----------------------------------------------------------------------------------------------


def _ancestral(form: str) -> Callable[[Any, Any], object]:
    def call(impl: Any, c: Any) -> tuple[object, ...]:
        small, large = (impl.ancestral_plan(c.schedule, levels_of(c), kind, form) for kind in ("posterior", "beta"))
        return *small, large[2]

    return call


def _noises(case: Case) -> tuple[Array, Array]:
    return step(case, "std_tilde"), _silenced(step(case, "sqrt_beta"))


def _ancestral_mistakes(mean: Callable[[Case], Outputs], single: Callable[[Case], Outputs]) -> tuple[Mistake, ...]:
    """``mean`` are the right columns of x and of the prediction, ``single`` those of single levels of the full chain."""
    return (
        Mistake(
            "variance_used_as_standard_deviation",
            lambda c: (*mean(c), step(c, "beta_tilde"), _silenced(step(c, "beta"))),
            "E40",
        ),
        Mistake("fixed_small_and_large_exchanged", lambda c: (*mean(c), *_noises(c)[::-1]), "E42"),
        Mistake("noise_in_the_last_step", lambda c: (*mean(c), step(c, "std_tilde"), step(c, "sqrt_beta"))),
        Mistake("levels_of_the_full_chain", lambda c: (*single(c), *_noises(c)), "E50"),
        Mistake(
            "strided_std_from_the_full_chain",
            lambda c: (*mean(c), np.sqrt(at(c, "beta_tilde")), _silenced(at(c, "sqrt_beta"))),
            "E52",
        ),
        Mistake("rows_in_ascending_order", lambda c: tuple(column[::-1] for column in (*mean(c), *_noises(c)))),
    )


ANCESTRAL_EPS = Law(
    id="plan/ancestral_eps",
    needs="ancestral_plan",
    statement=r"\frac{1}{\sqrt{\alpha_{t|s}}},\ -\frac{\beta_{t|s}}{\sqrt{\alpha_{t|s}\bar\beta_t}},"
    r"\ \sqrt{\tilde\beta_{t|s}},\ \sqrt{\beta_{t|s}}\ (0\ \text{at}\ s = 0)",
    source="ho2020, algorithm 2; nichol2021, section 4",
    cases=walks(zero_snr=False),
    call=_ancestral("eps"),
    expect=lambda c: _rows(
        c.step("recip_sqrt_alpha"), -c.step("eps_weight"), c.step("std_tilde"), silent_end(c.step("sqrt_beta"))
    ),
    mistakes=(
        *_ancestral_mistakes(
            lambda c: (step(c, "recip_sqrt_alpha"), -step(c, "eps_weight")),
            lambda c: (at(c, "recip_sqrt_alpha"), -at(c, "eps_weight")),
        ),
        Mistake("sign_of_eps", lambda c: (step(c, "recip_sqrt_alpha"), step(c, "eps_weight"), *_noises(c))),
    ),
    kind="coefficient",
)

ANCESTRAL_X0 = Law(
    id="plan/ancestral_x0",
    needs="ancestral_plan",
    statement=r"\frac{\sqrt{\alpha_{t|s}}\bar\beta_s}{\bar\beta_t},\ \frac{\sqrt{\bar\alpha_s}\beta_{t|s}}{\bar\beta_t},"
    r"\ \sqrt{\tilde\beta_{t|s}},\ \sqrt{\beta_{t|s}}\ (0\ \text{at}\ s = 0)",
    source="ho2020, eq. (7) and algorithm 2",
    cases=walks(),
    call=_ancestral("x0"),
    expect=lambda c: _rows(
        c.step("xt_weight"), c.step("x0_weight"), c.step("std_tilde"), silent_end(c.step("sqrt_beta"))
    ),
    mistakes=(
        *_ancestral_mistakes(
            lambda c: (step(c, "xt_weight"), step(c, "x0_weight")),
            lambda c: (at(c, "posterior_xt_weight"), at(c, "posterior_x0_weight")),
        ),
        Mistake("columns_swapped", lambda c: (step(c, "x0_weight"), step(c, "xt_weight"), *_noises(c))),
    ),
    kind="coefficient",
)

# --- DDIM -------------------------------------------------------------------------------------------------------------


def _ddim_mistakes(rows: Callable[[Case, Parts], Outputs]) -> tuple[Mistake, ...]:
    def value(name: str) -> Callable[[Case], Outputs]:
        return lambda case: rows(case, MISTAKES[name][1](case))

    return tuple(Mistake(name, value(name), erratum) for name, (erratum, _) in MISTAKES.items())


def eps_rows(case: Case, parts: Parts) -> Outputs:
    """Columns of a plan in eps form from the three parts of its steps."""
    signal, direction, std = parts
    x = signal / at(case, "sqrt_alpha_bar")
    return x, direction - x * at(case, "sqrt_beta_bar"), std


def _x0_rows(case: Case, parts: Parts) -> Outputs:
    signal, direction, std = parts
    x = direction / at(case, "sqrt_beta_bar")
    return x, signal - at(case, "sqrt_alpha_bar") * x, std


def _ddim_eps_expected(case: Case) -> tuple[Expected, ...]:
    m, x = of_case(case), case.step("recip_sqrt_alpha")
    return exact(x, PAIR_COEFFICIENT), exact(-(m.gap * x / m.root), FAMILY_GAP), exact(m.std, PAIR_COEFFICIENT)


DDIM_EPS = Law(
    id="plan/ddim_eps",
    needs="ddim_plan",
    statement=r"\frac{1}{\sqrt{\alpha_{t|s}}},\ \sqrt{\bar\beta_s - \sigma^2} - \sqrt{\bar\beta_t/\alpha_{t|s}},\ \sigma",
    source="song2020ddim, eq. (12) and (16)",
    cases=with_eta(walks(zero_snr=False)),
    call=lambda impl, c: tuple(impl.ddim_plan(c.schedule, levels_of(c), float(c.eta), "eps")),
    expect=_ddim_eps_expected,
    mistakes=_ddim_mistakes(eps_rows),
    kind="coefficient",
)


def _ddim_x0_expected(case: Case) -> tuple[Expected, ...]:
    m = of_case(case)
    return exact(m.xt_weight, FAMILY_ROOT), exact(m.x0_weight, FAMILY_GAP), exact(m.std, PAIR_COEFFICIENT)


DDIM_X0 = Law(
    id="plan/ddim_x0",
    needs="ddim_plan",
    statement=r"\sqrt{(\bar\beta_s - \sigma^2)/\bar\beta_t},"
    r"\ \sqrt{\bar\alpha_s} - \sqrt{\bar\alpha_t(\bar\beta_s - \sigma^2)/\bar\beta_t},\ \sigma",
    source="song2020ddim, eq. (7) and (16)",
    cases=with_eta(walks()),
    call=lambda impl, c: tuple(impl.ddim_plan(c.schedule, levels_of(c), float(c.eta), "x0")),
    expect=_ddim_x0_expected,
    mistakes=_ddim_mistakes(_x0_rows),
    kind="coefficient",
)


def _one_after_the_other(impl: Any, c: Any) -> tuple[object, ...]:
    levels = levels_of(c)
    differences = []
    for form in ("eps", "x0"):
        ddim = impl.ddim_plan(c.schedule, levels, 1.0, form)
        ancestral = impl.ancestral_plan(c.schedule, levels, "posterior", form)
        differences += [a - b for a, b in zip(ddim, ancestral, strict=True)]
    return tuple(differences)


def _columns(case: Case) -> tuple[Array, ...]:
    std = step(case, "std_tilde")
    eps_form = (step(case, "recip_sqrt_alpha"), step(case, "eps_weight"), std)
    return *eps_form, step(case, "xt_weight"), step(case, "x0_weight"), std


def _no_difference(case: Case) -> tuple[Expected, ...]:
    zero = DoubleDouble.of(np.zeros(len(case.t)))
    return tuple(Expected(zero, column, FAMILY_GAP + PAIR_COEFFICIENT) for column in _columns(case))


def _difference(name: str) -> Mistake:
    def value(case: Case) -> Outputs:
        one = Case(case.claim, case.schedule, {**case.values, "eta": np.asarray(1.0)})
        parts, right = MISTAKES[name][1](one), _columns(case)
        wrong = (*eps_rows(one, parts), *_x0_rows(one, parts))
        signed = (right[0], -right[1], *right[2:])
        return tuple(w - r for w, r in zip(wrong, signed, strict=True))

    return Mistake(name, value, MISTAKES[name][0])


ETA_ONE = Law(
    id="plan/eta_one_is_ancestral",
    needs="ddim_plan ancestral_plan",
    statement=r"\eta = 1:\quad \text{rows of DDIM} - \text{rows of ancestral sampling with } \tilde\beta = 0",
    source="song2020ddim, section 4.1",
    cases=walks(zero_snr=False),
    call=_one_after_the_other,
    expect=_no_difference,
    mistakes=tuple(
        _difference(name)
        for name in MISTAKES
        if name not in ("eta_scales_the_variance", "improved_ddpm_whatever_eta")  # the same at eta = 1
    ),
    kind="metamorphic",
)


def _upwards(words: DoubleDouble) -> DoubleDouble:
    return DoubleDouble(words.high[::-1], words.low[::-1])


def _rise(case: Case, kept: Array) -> Array:
    """Weight of eps on the way up, for another factor of the state."""
    return np.asarray(at(case, "sqrt_beta_bar") - kept * at_s(case, "sqrt_beta_bar"))


INVERSION = Law(
    id="plan/ddim_inversion",
    needs="ddim_inversion_plan",
    statement=r"s \to t:\quad \sqrt{\alpha_{t|s}},\ \sqrt{\bar\beta_t} - \sqrt{\alpha_{t|s}\bar\beta_s}",
    source="song2020ddim, section 4.3, eq. (14)",
    cases=walks(),
    call=lambda impl, c: tuple(impl.ddim_inversion_plan(c.schedule, levels_of(c))),
    expect=lambda c: _rows(_upwards(c.step("sqrt_alpha")), _upwards(rise(c))),
    mistakes=(
        Mistake("rows_in_sampling_order", lambda c: (step(c, "sqrt_alpha"), _rise(c, step(c, "sqrt_alpha")))),
        Mistake(
            "levels_of_the_full_chain",
            lambda c: (at(c, "sqrt_alpha")[::-1], _rise(c, at(c, "sqrt_alpha"))[::-1]),
            "E50",
        ),
        Mistake(
            "signal_of_xs_not_rescaled",
            lambda c: (step(c, "sqrt_alpha")[::-1], _rise(c, np.asarray(1.0))[::-1]),
        ),
        Mistake(
            "fresh_noise_instead_of_the_old",
            lambda c: (step(c, "sqrt_alpha")[::-1], step(c, "sqrt_beta")[::-1]),
        ),
    ),
    kind="coefficient",
)

# --- stages -----------------------------------------------------------------------------------------------------------


def _threshold_cases(source: Source, claim: Claim) -> Case:
    shape = (64, 256) if source.bulk else source.choice([shape for shape in SHAPES if 0 not in shape and shape])
    percentile = source.choice([99.5, 50.0, 100.0, 90.0])
    # In quarters every format holds it.
    return Case(claim, None, {"x0": draw_tensor(source, shape, claim), "percentile": np.asarray(percentile)})


def _radius(case: Case, share: Fraction | None = None) -> tuple[DoubleDouble, Array]:
    """The threshold of each sample in two words, and how far a rounding of the position moves it."""
    sizes = np.sort(np.abs(case.x0).reshape(len(case.x0), -1), axis=1)
    last = sizes.shape[1] - 1
    position = (Fraction(float(case.percentile)) / 100 if share is None else share) * last
    below = int(position)
    low, high = sizes[:, below], sizes[:, min(below + 1, last)]
    gap = DoubleDouble.of(high) - DoubleDouble.of(low)
    radius = DoubleDouble.of(low) + gap * DoubleDouble.fraction(position - below)
    radius = DoubleDouble(np.maximum(radius.high, 1.0), np.where(radius.high > 1, radius.low, 0.0))
    shape = (-1,) + (1,) * (case.x0.ndim - 1)
    return radius.reshape(shape), (gap.high * float(position)).reshape(shape)


def _thresholded(case: Case, radius: Array, *, divided: bool = True) -> Outputs:
    clipped = np.clip(case.x0, -radius, radius)
    return (clipped / radius if divided else clipped,)


def _threshold_expected(case: Case) -> tuple[Expected, ...]:
    radius, moved = _radius(case)
    inside = np.abs(case.x0) < radius.high
    quotient = DoubleDouble.of(case.x0) / radius
    value = DoubleDouble(
        np.where(inside, quotient.high, np.sign(case.x0)), np.where(inside, quotient.low, np.zeros(case.x0.shape))
    )
    # A gap, a product and a sum for the threshold, the share and the quotient; the position, computed in float64, is
    # off by three roundings of its own size, of which the narrower formats see nothing.
    position = moved / radius.high * 2.0**-53 / case.claim.computing.u
    return (Expected(value, np.abs(value.high) * (1 + position), 5),)


THRESHOLD = Law(
    id="plan/dynamic_threshold",
    needs="dynamic_threshold",
    statement=r"\mathrm{clip}(\hat x_0, -r, r)/r,\quad r = \max(1, q_p(|\hat x_0|))\ \text{per sample}",
    source="saharia2022, section 2.3",
    cases=_threshold_cases,
    call=lambda impl, c: impl.dynamic_threshold(c.x0, float(c.percentile)),
    expect=_threshold_expected,
    mistakes=(
        Mistake("clipped_without_dividing", lambda c: _thresholded(c, _radius(c)[0].high, divided=False)),
        Mistake("static_clipping", lambda c: (np.clip(c.x0, -1, 1),)),
        Mistake(
            "percentile_read_as_a_fraction",
            lambda c: _thresholded(c, _radius(c, Fraction(float(c.percentile)) / 10000)[0].high),
        ),
        Mistake("threshold_of_the_whole_batch", lambda c: _thresholded(c, np.asarray(np.max(_radius(c)[0].high)))),
        Mistake("divided_below_one_too", lambda c: (np.clip(c.x0 / np.maximum(np.max(np.abs(c.x0)), 1e-30), -1, 1),)),
    ),
)

LAWS = (ANCESTRAL_EPS, ANCESTRAL_X0, DDIM_EPS, DDIM_X0, ETA_ONE, INVERSION, THRESHOLD)
