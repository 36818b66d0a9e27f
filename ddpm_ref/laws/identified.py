"""Laws of steps taken as black boxes: what a step does to state, prediction and noise is read off from outside.

A step f that is affine in these three is known by its values at the units u_x, u_e, u_z of each and at 0. Each of the four
numbers, f(0) and what the others exceed it by, is compared on its own, so that a mistake which hides behind the large terms
of a step, or in one of its coefficients only, shows alone. That a step is affine at all is a law of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.arithmetic.double_double import where
from ddpm_ref.laws.cases import Case, Source, at, at_s, at_step, draw_pairs, draw_schedule, spread_over_data, step
from ddpm_ref.laws.family import FAMILY_GAP, MISTAKES, Parts, of_case, right, with_eta
from ddpm_ref.laws.plan import eps_rows
from ddpm_ref.laws.posterior import WRONG_WEIGHTS, in_eps_form
from ddpm_ref.laws.registry import PAIR_AFFINE, PAIR_COEFFICIENT, PAIR_ROOT, Law, Mistake, Outputs, affine, exact
from ddpm_ref.typing import Array, BoolArray

Step: TypeAlias = Callable[[Any, Any, Any], Any]  # of state, prediction and noise
Row: TypeAlias = tuple[Array, Array, Array, Array]  # coefficients of state, prediction, noise; offset

# A product and two sums more than the longest coefficient: what the laws of the whole steps grant.
TERMS = 3
SHAPES: list[tuple[int, ...]] = [(), (1,), (5,)]
KINDS = ("posterior", "beta")
NAMES = ("posterior variance", "variance beta")


def _bare_steps(source: Source, claim: Claim) -> Case:
    """Steps and nothing else but a zero at each, from which a law makes its probes."""
    schedule = draw_schedule(source, zero_snr=False)
    shape = (64,) if source.bulk else source.choice(SHAPES)
    t, s = draw_pairs(source, shape, schedule.T)
    return Case(claim, schedule, {"t": t, "s": s, "zero": np.zeros(shape)})


def identified(f: Step, zero: Any) -> tuple[Any, Any, Any, Any]:
    """The coefficients of state, prediction and noise of an affine step, and its offset, at every element of ``zero``."""
    one, offset = zero + 1, f(zero, zero, zero)
    return f(one, zero, zero) - offset, f(zero, one, zero) - offset, f(zero, zero, one) - offset, offset


def _ancestral(impl: Any, c: Any, kind: str) -> Step:
    return lambda x, eps, z: impl.ancestral_step(c.schedule, x, c.t, c.s, eps, z, kind)


def _ddim(impl: Any, c: Any) -> Step:
    return lambda x, eps, z: impl.ddim_step_from_eps(c.schedule, x, c.t, c.s, eps, z, float(c.eta))


def _row(
    x: DoubleDouble, prediction: DoubleDouble, noise: DoubleDouble, roundings: tuple[int, int, int], of: str = ""
) -> tuple[Expected, ...]:
    """What the four numbers must be; the offset is 0 to the last bit, since nothing but zeros has been added up."""
    nothing = Expected(DoubleDouble.of(np.zeros(x.shape)), np.zeros(x.shape), 0)
    counted = zip((x, prediction, noise), roundings, strict=True)
    row = (*(exact(words, k + TERMS) for words, k in counted), nothing)
    names = ("coefficient of x", "coefficient of eps", "coefficient of z", "offset")
    return tuple(replace(expected, name=name + of) for expected, name in zip(row, names, strict=True))


# --- ancestral sampling -----------------------------------------------------------------------------------------------


def _silent(case: Case) -> BoolArray:
    """Where a step leads to level 0 and adds no noise."""
    return np.asarray(spread_over_data(case, np.asarray(case.s == 0))).astype(bool)


def _silenced(case: Case, std: Array) -> Array:
    return np.where(_silent(case), 0.0, std)


def _ancestral_expected(case: Case) -> tuple[Expected, ...]:
    like = case.zero
    x, eps = case.step("recip_sqrt_alpha", like), -case.step("eps_weight", like)
    large = case.step("sqrt_beta", like)
    noises = case.step("std_tilde", like), where(_silent(case), DoubleDouble.of(np.zeros(large.shape)), large)
    k = PAIR_AFFINE + 1 - TERMS
    named = zip(NAMES, noises, strict=True)
    return tuple(e for name, noise in named for e in _row(x, eps, noise, (k, k, k), f", {name}"))


def _ancestral_row(case: Case) -> tuple[Array, Array, Array, Array]:
    """Coefficients of x and eps, and both standard deviations with the last one silent."""
    small, large = step(case, "std_tilde"), _silenced(case, step(case, "sqrt_beta"))
    return step(case, "recip_sqrt_alpha"), -step(case, "eps_weight"), small, large


def _rows(x: Array, eps: Array, small: Array, large: Array, offset: Array | float = 0.0) -> Outputs:
    """Both rows, that of the posterior variance first."""
    constant = np.zeros(np.shape(x)) + offset
    return x, eps, small, constant, x, eps, large, constant


def _halved(x: Array, eps: Array, small: Array, large: Array) -> Outputs:
    """A picture in [-1, 1] brought to [0, 1]."""
    return _rows(x / 2, eps / 2, small / 2, large / 2, 0.5)


def _clipped(case: Case, from_x0: Array, from_xt: Array, from_eps: Array | float = 0.0) -> tuple[Array, Array]:
    """What is read off as coefficients of x and eps if the predicted x0 is clipped to [-1, 1] on the way."""
    signal, noise = at(case, "sqrt_alpha_bar"), at(case, "sqrt_beta_bar")
    return from_x0 * np.minimum(1 / signal, 1.0) + from_xt, from_x0 * np.maximum(-noise / signal, -1.0) + from_eps


def _through_clipped_x0(case: Case) -> tuple[Array, Array]:
    return _clipped(case, step(case, "x0_weight"), step(case, "xt_weight"))


def _changed(case: Case, place: int, value: Array) -> Outputs:
    """The right coefficients (of x, eps, and both noises) but for one."""
    row = list(_ancestral_row(case))
    row[place] = value
    return _rows(*row)


def _silent_from_level_1(case: Case) -> tuple[Array, Array]:
    """Noise in every step but that from level 1, of a variance that a floor keeps from being 0."""
    noisy = spread_over_data(case, np.asarray(case.t > 1))
    small = np.sqrt(np.maximum(step(case, "beta_tilde"), 1e-20))
    return np.where(noisy, small, 0.0), np.where(noisy, step(case, "sqrt_beta"), 0.0)


def _misweighted(name: str, *, variance: bool = False) -> Callable[[Case], Outputs]:
    """The predicted x_0 put into the mean with wrong weights; ``variance``: that of the posterior has lost its factor too."""

    def value(case: Case) -> Outputs:
        small, large = _ancestral_row(case)[2:]
        return _rows(*in_eps_form(case, WRONG_WEIGHTS[name][1](case)), large if variance else small, large)

    return value


ANCESTRAL_MISTAKES: dict[str, tuple[str, Callable[[Case], Outputs]]] = {
    "variance_used_as_standard_deviation": (
        "E40",
        lambda c: _rows(*_ancestral_row(c)[:2], *(std**2 for std in _ancestral_row(c)[2:])),
    ),
    "fixed_small_and_large_exchanged": (
        "E42",
        lambda c: _rows(*_ancestral_row(c)[:2], *_ancestral_row(c)[:1:-1]),
    ),
    "noise_in_the_last_step": ("", lambda c: _changed(c, 3, step(c, "sqrt_beta"))),
    "last_step_known_by_its_level": ("", lambda c: _rows(*_ancestral_row(c)[:2], *_silent_from_level_1(c))),
    "noise_forgotten": ("E21", lambda c: _rows(*_ancestral_row(c)[:2], *[np.zeros(step(c, "beta").shape)] * 2)),
    "levels_of_the_full_chain": (
        "E50",
        lambda c: _rows(at(c, "recip_sqrt_alpha"), -at(c, "eps_weight"), *_ancestral_row(c)[2:]),
    ),
    "strided_std_from_the_full_chain": (
        "E52",
        lambda c: _rows(
            *_ancestral_row(c)[:2],
            *(_silenced(c, std) for std in (np.sqrt(at(c, "beta_tilde")), at(c, "sqrt_beta"))),
        ),
    ),
    "sign_of_eps": ("", lambda c: _changed(c, 1, step(c, "eps_weight"))),
    "eps_divided_by_the_variance": ("", lambda c: _changed(c, 1, -step(c, "eps_weight") / at(c, "sqrt_beta_bar"))),
    "state_not_rescaled": ("", lambda c: _changed(c, 0, np.ones(step(c, "alpha").shape))),
    **{name: (erratum, _misweighted(name)) for name, (erratum, _) in WRONG_WEIGHTS.items()},
    "alpha_bar_of_t_for_that_of_s_in_mean_and_variance": (
        "",
        _misweighted("alpha_bar_of_t_for_that_of_s", variance=True),
    ),
    "x0_clipped": ("", lambda c: _rows(*_through_clipped_x0(c), *_ancestral_row(c)[2:])),
    "answer_rescaled_to_the_unit_interval": ("", lambda c: _halved(*_ancestral_row(c))),
}

ANCESTRAL = Law(
    id="identified/ancestral",
    needs="ancestral_step",
    statement=r"f(u_x) - f(0) = \frac{1}{\sqrt{\alpha_{t|s}}},\ f(u_\varepsilon) - f(0) ="
    r" -\frac{\beta_{t|s}}{\sqrt{\alpha_{t|s}\bar\beta_t}},"
    r"\ f(u_z) - f(0) = \sigma,\ f(0) = 0;\quad \sigma^2 = \tilde\beta_{t|s}\ \text{and}\ \beta_{t|s},\ 0\ \text{at}\ s = 0",
    source="ho2020, algorithm 2; nichol2021, section 4",
    cases=_bare_steps,
    call=lambda impl, c: tuple(y for kind in KINDS for y in identified(_ancestral(impl, c, kind), c.zero)),
    expect=_ancestral_expected,
    mistakes=tuple(Mistake(name, value, erratum) for name, (erratum, value) in ANCESTRAL_MISTAKES.items()),
    kind="coefficient",
)

# --- DDIM -------------------------------------------------------------------------------------------------------------


def _ddim_expected(case: Case) -> tuple[Expected, ...]:
    m, x = of_case(case, case.zero), case.step("recip_sqrt_alpha", case.zero)
    return _row(x, -(m.gap * x / m.root), m.std, (PAIR_ROOT, FAMILY_GAP, PAIR_COEFFICIENT))


def _ddim_row(case: Case, parts: Parts) -> Row:
    """Coefficients in eps form from the three parts of a step."""
    x, eps, std = eps_rows(case, parts)
    return x, eps, np.broadcast_to(std, x.shape), np.zeros(x.shape)


def _ddim_changed(case: Case, place: int, value: Callable[[Array], Array]) -> Outputs:
    row = list(_ddim_row(case, right(case)))
    row[place] = value(row[place])
    return tuple(row)


def _ddim_clipped(case: Case, *, rederived: bool) -> Outputs:
    (signal, direction, _), row = right(case), _ddim_row(case, right(case))
    if not rederived:
        return (*_clipped(case, signal, np.zeros(signal.shape), direction), *row[2:])
    from_xt = direction / at(case, "sqrt_beta_bar")
    return (*_clipped(case, signal - at(case, "sqrt_alpha_bar") * from_xt, from_xt), *row[2:])


def _of_family(name: str) -> Mistake:
    erratum, parts = MISTAKES[name]
    return Mistake(name, lambda case: _ddim_row(case, parts(case)), erratum)


DDIM = Law(
    id="identified/ddim",
    needs="ddim_step_from_eps",
    statement=r"f(u_x) - f(0) = \frac{1}{\sqrt{\alpha_{t|s}}},"
    r"\ f(u_\varepsilon) - f(0) = \sqrt{\bar\beta_s - \sigma^2} - \sqrt{\bar\beta_t/\alpha_{t|s}},"
    r"\ f(u_z) - f(0) = \sigma,\ f(0) = 0",
    source="song2020ddim, eq. (12)-(13) and (16)",
    cases=with_eta(_bare_steps),
    call=lambda impl, c: identified(_ddim(impl, c), c.zero),
    expect=_ddim_expected,
    mistakes=(
        *(_of_family(name) for name in MISTAKES),
        Mistake("noise_forgotten", lambda c: _ddim_changed(c, 2, np.zeros_like), "E21"),
        Mistake("sign_of_eps", lambda c: _ddim_changed(c, 1, np.negative)),
        Mistake("state_not_rescaled", lambda c: _ddim_changed(c, 0, np.ones_like)),
        Mistake("x0_clipped", lambda c: _ddim_clipped(c, rederived=False)),
        Mistake("x0_clipped_and_eps_derived_from_it", lambda c: _ddim_clipped(c, rederived=True)),
        Mistake(
            "answer_rescaled_to_the_unit_interval",
            lambda c: (*(v / 2 for v in _ddim_row(c, right(c))[:3]), np.full(step(c, "alpha").shape, 0.5)),
        ),
    ),
    kind="coefficient",
)

# --- a step is affine -------------------------------------------------------------------------------------------------


def _residual(f: Step, c: Any) -> Any:
    """What a step returns, less what its own coefficients say of it."""
    x, eps, noise, offset = identified(f, c.xt * 0)
    return f(c.xt, c.eps, c.noise) - (x * c.xt + eps * c.eps + noise * c.noise + offset)


def _nothing_left(case: Case, x: DoubleDouble, eps: DoubleDouble, noise: DoubleDouble, k: int) -> Expected:
    """Zero. Step and coefficients each pass through the roundings of a step, their products through four more and a difference."""
    roundings = 2 * (k + TERMS) + 5
    # Besides the step itself, its coefficients, products, sums and the difference are stored.
    stored = 1 + 7 * case.stored_between_calls / roundings
    scale = affine((x, case.xt), (eps, case.eps), (noise, case.noise), roundings=roundings).scale
    return Expected(DoubleDouble.of(np.zeros(case.xt.shape)), scale * stored, roundings)


def _ancestral_linear(case: Case) -> tuple[Expected, ...]:
    x, eps, std = (case.step(name, case.xt) for name in ("recip_sqrt_alpha", "eps_weight", "sqrt_beta"))
    # Whether there is noise in the last step is not the question here, so its roundings are charged either way.
    left = _nothing_left(case, x, eps, std, PAIR_AFFINE + 1 - TERMS)
    return tuple(replace(left, name=name) for name in NAMES)


def _ddim_linear(case: Case) -> tuple[Expected, ...]:
    m, x = of_case(case, case.xt), case.step("recip_sqrt_alpha", case.xt)
    return (_nothing_left(case, x, m.gap * x / m.root, case.step("sqrt_beta", case.xt), FAMILY_GAP),)


def _left_over(case: Case, stage: Callable[[Array], Array], weight: Array) -> Array:
    """What a stage of the predicted x0 leaves beside the coefficients read off at 1 and 0."""
    ratio, noise = 1 / at(case, "sqrt_alpha_bar"), at(case, "sqrt_beta_bar") / at(case, "sqrt_alpha_bar")
    state, eps = case.xt, case.eps
    whole = stage(ratio * state - noise * eps)
    return np.asarray(weight * (whole - stage(ratio + 0 * state) * state - stage(-noise + 0 * eps) * eps))


def _to_one(x0: Array) -> Array:
    return np.clip(x0, -1.0, 1.0)


def _thresholded(x0: Array) -> Array:
    """Divided by the largest entry where that exceeds 1."""
    return np.asarray(x0 / max(1.0, float(np.max(np.abs(x0), initial=0.0))))


def _answer_clipped(case: Case, parts: Row) -> Array:
    x, eps, noise, _ = parts
    whole = _to_one(x * case.xt + eps * case.eps + noise * case.noise)
    return np.asarray(whole - _to_one(x) * case.xt - _to_one(eps) * case.eps - _to_one(noise) * case.noise)


def _of_both_kinds(case: Case) -> tuple[Row, Row]:
    x, eps = step(case, "recip_sqrt_alpha"), -step(case, "eps_weight")
    zero = np.zeros(x.shape)
    large = _silenced(case, step(case, "sqrt_beta"))
    return (x, eps, step(case, "std_tilde"), zero), (x, eps, large, zero)


ANCESTRAL_AFFINE = Law(
    id="identified/ancestral_is_affine",
    needs="ancestral_step",
    statement=r"f(x, \hat\varepsilon, z) - f(0) = (f(u_x) - f(0))\,x"
    r" + (f(u_\varepsilon) - f(0))\,\hat\varepsilon + (f(u_z) - f(0))\,z",
    source="ho2020, algorithm 2",
    cases=at_step("xt", "eps", "noise", zero_snr=False),
    call=lambda impl, c: tuple(_residual(_ancestral(impl, c, kind), c) for kind in KINDS),
    expect=_ancestral_linear,
    mistakes=(
        Mistake("x0_clipped", lambda c: (_left_over(c, _to_one, step(c, "x0_weight")),) * 2),
        Mistake("x0_thresholded", lambda c: (_left_over(c, _thresholded, step(c, "x0_weight")),) * 2),
        Mistake("answer_clipped", lambda c: tuple(_answer_clipped(c, row) for row in _of_both_kinds(c))),
    ),
    kind="metamorphic",
)

DDIM_AFFINE = Law(
    id="identified/ddim_is_affine",
    needs="ddim_step_from_eps",
    statement=r"f(x, \hat\varepsilon, z) - f(0) = (f(u_x) - f(0))\,x"
    r" + (f(u_\varepsilon) - f(0))\,\hat\varepsilon + (f(u_z) - f(0))\,z",
    source="song2020ddim, eq. (12)",
    cases=with_eta(at_step("xt", "eps", "noise", zero_snr=False)),
    call=lambda impl, c: _residual(_ddim(impl, c), c),
    expect=_ddim_linear,
    mistakes=(
        Mistake("x0_clipped", lambda c: (_left_over(c, _to_one, at_s(c, "sqrt_alpha_bar")),)),
        Mistake(
            "x0_clipped_and_eps_derived_from_it",
            lambda c: (_left_over(c, _to_one, _ddim_x0_weight(c)),),
        ),
        Mistake("x0_thresholded", lambda c: (_left_over(c, _thresholded, at_s(c, "sqrt_alpha_bar")),)),
        Mistake("answer_clipped", lambda c: (_answer_clipped(c, _ddim_row(c, right(c))),)),
    ),
    kind="metamorphic",
)


def _ddim_x0_weight(case: Case) -> Array:
    signal, direction, _ = right(case)
    return np.asarray(signal - at(case, "sqrt_alpha_bar") * direction / at(case, "sqrt_beta_bar"))


LAWS = (ANCESTRAL, DDIM, ANCESTRAL_AFFINE, DDIM_AFFINE)
