"""Laws of guided steps: the part of the laws of guidance that concerns what a sampler does with a gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.arithmetic.double_double import where
from ddpm_ref.laws.cases import Case, Cases, Source, at, at_step, draw_positive, spread_over_data, step
from ddpm_ref.laws.family import FAMILY_GAP, of_case, right, with_eta
from ddpm_ref.laws.registry import PAIR_AFFINE, PAIR_COEFFICIENT, PAIR_ROOT, Law, Mistake, Outputs, affine, counted
from ddpm_ref.typing import Array

# The longest way to a guided step goes by the guided noise: its coefficient (a table entry, the scale), a product, a
# difference; then a coefficient of the step, a product and two sums. State and noise pass through these last only.
GUIDED_STEP = PAIR_COEFFICIENT + 7
DIRECT = (PAIR_AFFINE + 1) / GUIDED_STEP


Terms: TypeAlias = tuple[tuple[DoubleDouble, Array], ...]


def with_number(cases: Cases, name: str, low: float, high: float, *simple: float) -> Cases:
    """Cases with one more number, representable in the storage format."""

    def drawn(source: Source, claim: Claim) -> Case:
        case = cases(source, claim)
        number = source.choice([*simple, None])
        value = claim.storing.round(np.asarray(source.numbers((), low, high) if number is None else number))
        return Case(claim, case.schedule, {**case.values, name: np.asarray(value)})

    return drawn


# --- steps ------------------------------------------------------------------------------------------------------------


def _silenced(case: Case, std: DoubleDouble) -> DoubleDouble:
    """The factor of the noise, none in the step to level 0."""
    silent = spread_over_data(case, np.asarray(case.s == 0)).astype(bool)
    return where(silent, DoubleDouble.of(np.zeros(std.shape)), std)


def _step_expected(case: Case) -> tuple[Expected, ...]:
    recip, like = case.step("recip_sqrt_alpha", case.xt), case.xt
    pull = case.step("beta", like) * recip * DoubleDouble.of(case.scale)
    guided = (-case.step("eps_weight", like), case.eps), (pull, case.gradient)
    stds = case.step("std_tilde", like), _silenced(case, case.step("sqrt_beta", like))
    return tuple(_two_ways(((recip, case.xt), (std, case.noise)), guided) for std in stds)


def _two_ways(direct: Terms, guided: Terms) -> Expected:
    """The sum of all terms; those that do not pass through the guided noise weigh less in its scale."""
    short, long = (affine(*terms, roundings=GUIDED_STEP) for terms in (direct, guided))
    return Expected(short.value + long.value, DIRECT * short.scale + long.scale, GUIDED_STEP)


def _both(impl: Any, c: Any) -> tuple[object, object]:
    small, large = (
        impl.guided_ancestral_step(
            c.schedule, c.xt, c.t, c.s, c.eps, c.gradient, c.noise, float(c.scale), variance=kind
        )
        for kind in ("posterior", "beta")
    )
    return small, large


def _stds(case: Case) -> tuple[Array, Array]:
    kept = spread_over_data(case, np.asarray(case.s > 0, dtype=np.float64))
    return step(case, "std_tilde"), kept * step(case, "sqrt_beta")


def _mean(case: Case) -> Array:
    return step(case, "recip_sqrt_alpha") * case.xt - step(case, "eps_weight") * case.eps


def _moved(case: Case, small: Array, large: Array) -> Outputs:
    """Both steps with these coefficients of the scaled gradient."""
    stds = _stds(case)
    pulls = (case.scale * coefficient * case.gradient for coefficient in (small, large))
    first, second = (_mean(case) + pull + std * case.noise for pull, std in zip(pulls, stds, strict=True))
    return first, second


def _equally(coefficient: Callable[[Case], Array]) -> Callable[[Case], Outputs]:
    return lambda case: _moved(case, coefficient(case), coefficient(case))


def _pull(case: Case) -> Array:
    """The coefficient as it should be."""
    return np.asarray(step(case, "beta") * step(case, "recip_sqrt_alpha"))


def _variance_as_std(case: Case) -> Outputs:
    kept = spread_over_data(case, np.asarray(case.s > 0, dtype=np.float64))
    mean = _mean(case) + case.scale * _pull(case) * case.gradient
    return mean + step(case, "beta_tilde") * case.noise, mean + kept * step(case, "beta") * case.noise


def _bracket_alone(case: Case) -> Outputs:
    small, large = _moved(case, _pull(case), _pull(case))
    root, (std, wide) = step(case, "sqrt_alpha"), _stds(case)
    return (small - std * case.noise) * root + std * case.noise, (large - wide * case.noise) * root + wide * case.noise


STEP_MISTAKES = (
    Mistake(
        "noise_level_instead_of_the_step_in_the_shift",
        _equally(lambda c: step(c, "recip_sqrt_alpha") * at(c, "sqrt_beta_bar")),
        "E67",
    ),
    Mistake("sign_of_the_gradient", _equally(lambda c: -_pull(c)), "E69"),
    Mistake("mean_shift_taken_for_guided_noise", lambda c: _moved(c, step(c, "beta_tilde"), step(c, "beta")), "E72"),
)

STEP = Law(
    id="guidance/ancestral_step",
    needs="guided_ancestral_step",
    statement=r"x_s = \frac{1}{\sqrt{\alpha_{t|s}}}\left(x_t - \frac{\beta_{t|s}}{\sqrt{\bar\beta_t}}\hat\varepsilon"
    r" + \beta_{t|s}\,\omega\,\nabla\log f\right) + \sigma z",
    source="dhariwal2021, eq. (14); ho2020, algorithm 2",
    cases=with_number(at_step("xt", "eps", "gradient", "noise", zero_snr=False), "scale", 0.0, 8.0, 1.0, 2.0, 0.0),
    call=_both,
    expect=_step_expected,
    mistakes=(
        *STEP_MISTAKES,
        Mistake("bracket_taken_for_the_mean", _bracket_alone, "E68"),
        Mistake("variance_used_as_standard_deviation", _variance_as_std, "E40"),
        Mistake("root_of_beta_in_the_shift", _equally(lambda c: step(c, "recip_sqrt_alpha") * step(c, "sqrt_beta"))),
        Mistake("scale_taken_for_a_weight", lambda c: _moved(c, *[(1 + 1 / c.scale) * _pull(c)] * 2), "E73"),
        Mistake("strided_shift_from_the_full_chain", _equally(lambda c: at(c, "beta") / at(c, "sqrt_alpha")), "E52"),
    ),
)


def _ddim_expected(case: Case) -> tuple[Expected, ...]:
    m, x = of_case(case, case.xt), case.step("recip_sqrt_alpha", case.xt)
    drop = m.gap * x / m.root
    pull = drop * m.root * DoubleDouble.of(case.scale)
    # The guided noise takes a difference, its gradient also a table entry, the scale and a product; the step then has one
    # sum less than there are terms here.
    guided = (-drop, case.eps, FAMILY_GAP), (pull, case.gradient, FAMILY_GAP + 3)
    return (counted((x, case.xt, PAIR_ROOT), (m.std, case.noise, PAIR_COEFFICIENT), *guided),)


def _ddim_with(case: Case, in_x0: Array, in_direction: Array) -> Outputs:
    """The step with these two noises."""
    signal, direction, std = right(case)
    x0 = (case.xt - at(case, "sqrt_beta_bar") * in_x0) / at(case, "sqrt_alpha_bar")
    return (signal * x0 + direction * in_direction + std * case.noise,)


def _guided(case: Case, sign: float = 1.0) -> Array:
    return np.asarray(case.eps - sign * case.scale * at(case, "sqrt_beta_bar") * case.gradient)


DDIM_STEP = Law(
    id="guidance/ddim_step",
    needs="guided_ddim_step",
    statement=r"x_s = \sqrt{\bar\alpha_s}\,\frac{x_t - \sqrt{\bar\beta_t}\,\bar\varepsilon}{\sqrt{\bar\alpha_t}}"
    r" + \sqrt{\bar\beta_s - \sigma^2}\,\bar\varepsilon + \sigma z",
    source="dhariwal2021, algorithm 2",
    cases=with_number(
        with_eta(at_step("xt", "eps", "gradient", "noise", zero_snr=False)), "scale", 0.0, 8.0, 1.0, 2.0, 0.0
    ),
    call=lambda impl, c: impl.guided_ddim_step(
        c.schedule, c.xt, c.t, c.s, c.eps, c.gradient, c.noise, float(c.scale), eta=float(c.eta)
    ),
    expect=_ddim_expected,
    mistakes=(
        Mistake("sign_of_the_gradient", lambda c: _ddim_with(c, _guided(c, -1), _guided(c, -1)), "E69"),
        Mistake("guided_in_x0_only", lambda c: _ddim_with(c, _guided(c), c.eps)),
        Mistake("guided_in_the_direction_only", lambda c: _ddim_with(c, c.eps, _guided(c))),
        Mistake(
            "mean_shift_in_a_deterministic_step",
            lambda c: (_ddim_with(c, c.eps, c.eps)[0] + c.scale * right(c)[2] ** 2 * c.gradient,),
            "E72",
        ),
    ),
)


def _shift_step_cases(source: Source, claim: Claim) -> Case:
    """A classifier whose gradient is y - slope[level] x."""
    case = at_step("xt", "eps", "noise", "y", zero_snr=False)(source, claim)
    slopes = draw_positive(source, (case.noise_schedule.T + 1,), claim, 0.05, 2.0)
    return Case(claim, case.schedule, {**case.values, "slopes": np.ascontiguousarray(slopes)})


def _both_points(impl: Any, c: Any, variance: str = "beta") -> tuple[object, object]:
    def gradient(x: Any, level: Any) -> object:
        slope = c.slopes[level]
        return c.y - slope.reshape(slope.shape + (1,) * (x.ndim - slope.ndim)) * x

    at_mean, at_xt = (
        impl.mean_shift_step(
            c.schedule, c.xt, c.t, c.s, c.eps, gradient, c.noise, float(c.scale), variance, gradient_point=point
        )
        for point in ("mean", "xt")
    )
    return at_mean, at_xt


def _slope(case: Case, name: str) -> Array:
    return spread_over_data(case, np.asarray(case.slopes[case.values[name]]))


def _both_points_expected(case: Case, variance: str = "beta", std: str = "sqrt_beta") -> tuple[Expected, ...]:
    like = case.xt
    recip, weight = case.step("recip_sqrt_alpha", like), case.step("eps_weight", like)
    spread = case.step(variance, like) * DoubleDouble.of(case.scale)
    mean = recip * case.xt - weight * case.eps
    size = np.abs(recip.high * case.xt) + np.abs(weight.high * case.eps)
    noise = _silenced(case, case.step(std, like)) * case.noise
    # Mean, slope times it, difference: through the storage format where that is another, and two roundings more each.
    roundings = PAIR_AFFINE + PAIR_COEFFICIENT + 6
    stored = 1 + 3 * case.stored_between_calls / roundings

    def at_point(point: DoubleDouble, reach: Array, slope: Array) -> Expected:
        value = mean + spread * (DoubleDouble.of(case.y) - DoubleDouble.of(slope) * point) + noise
        pull = spread.high * (np.abs(case.y) + slope * reach)
        return Expected(value, size + stored * pull + np.abs(noise.high), roundings)

    return (
        at_point(mean, size, _slope(case, "s")),
        at_point(DoubleDouble.of(case.xt), np.abs(case.xt), _slope(case, "t")),
    )


def _shifted(case: Case, first: Array, second: Array, spread: Array | None = None, std: Array | None = None) -> Outputs:
    """Both answers from these two gradients."""
    moved = case.scale * (step(case, "beta") if spread is None else spread)
    noise = (_stds(case)[1] if std is None else std) * case.noise
    return tuple(_mean(case) + moved * pull + noise for pull in (first, second))


def _gradients(case: Case) -> tuple[Array, Array]:
    return case.y - _slope(case, "s") * _mean(case), case.y - _slope(case, "t") * case.xt


MEAN_SHIFT_STEP = Law(
    id="guidance/mean_shift_step",
    needs="mean_shift_step",
    statement=r"x_s = \mu_\theta + \omega\sigma^2 g + \sigma z, \quad g = \nabla\log f_s(y\mid x)|_{x=\mu_\theta}"
    r"\ \text{or}\ \nabla\log f_t(y\mid x)|_{x=x_t}",
    source="dhariwal2021, section 4.1 and algorithm 1",
    cases=with_number(_shift_step_cases, "scale", 0.0, 4.0, 1.0, 2.0, 0.0),
    call=_both_points,
    expect=_both_points_expected,
    mistakes=(
        Mistake("gradient_at_xt_whatever_was_asked", lambda c: _shifted(c, _gradients(c)[1], _gradients(c)[1]), "E71"),
        Mistake(
            "classifier_of_level_t_at_the_mean",
            lambda c: _shifted(c, c.y - _slope(c, "t") * _mean(c), _gradients(c)[1]),
            "E71",
        ),
        Mistake("guided_noise_taken_for_a_mean_shift", lambda c: _shifted(c, *_gradients(c), spread=_pull(c)), "E72"),
        Mistake("sign_of_the_gradient", lambda c: _shifted(c, *(-g for g in _gradients(c))), "E69"),
        Mistake(
            "standard_deviation_used_as_variance",
            lambda c: _shifted(c, *_gradients(c), spread=step(c, "sqrt_beta")),
            "E40",
        ),
    ),
    kind="metamorphic",
)


def _small(case: Case, spread: str = "beta_tilde", std: str = "std_tilde") -> Outputs:
    """Both answers of a step that mistakes one quantity for another."""
    return _shifted(case, *_gradients(case), spread=step(case, spread), std=step(case, std))


MEAN_SHIFT_STEP_SMALL = replace(
    MEAN_SHIFT_STEP,
    id="guidance/mean_shift_step_small",
    statement=r"x_s = \mu_\theta + \omega\tilde\beta_{t|s} g + \sqrt{\tilde\beta_{t|s}}\,z",
    call=lambda impl, c: _both_points(impl, c, "posterior"),
    expect=lambda c: _both_points_expected(c, "beta_tilde", "std_tilde"),
    mistakes=(
        Mistake("mean_moved_by_the_large_variance", lambda c: _small(c, spread="beta"), "E42"),
        Mistake("noise_of_the_large_variance", lambda c: _small(c, std="sqrt_beta"), "E42"),
        Mistake("standard_deviation_used_as_variance", lambda c: _small(c, spread="std_tilde"), "E40"),
        Mistake("variance_used_as_standard_deviation", lambda c: _small(c, std="beta_tilde"), "E40"),
    ),
)


# --- two ways to one result: the guided step is the true kernel of the class ------------------------------------------


def _towards(case: Case, name: str) -> tuple[DoubleDouble, DoubleDouble]:
    """Distance from the mean of a normal law at level t, and its variance there."""
    a, noise = case.level("sqrt_alpha_bar", case.xt), case.level("beta_bar", case.xt)
    mean, variance = case.values[f"mean_{name}"], case.values[f"variance_{name}"]
    return DoubleDouble.of(case.xt) - a * mean, a * a * variance + noise


def _kernel_cases(source: Source, claim: Claim) -> Case:
    """Normal data with and without a label, with the exact prediction and gradient as an implementation gets them."""
    names = "xt", "mean_known", "mean_unknown"
    case = at_step(*names, zero_snr=False, positive=("variance_known", "variance_unknown"))(source, claim)
    (known, narrow), (unknown, wide) = _towards(case, "known"), _towards(case, "unknown")
    gradient, eps = unknown / wide - known / narrow, case.level("sqrt_beta_bar", case.xt) * unknown / wide
    rounded = {name: claim.storing.round(v.high) for name, v in {"eps": eps, "gradient": gradient}.items()}
    return Case(claim, case.schedule, {**case.values, **rounded})


def _kernel_expected(case: Case) -> tuple[Expected, ...]:
    a, like = case.level("sqrt_alpha_bar", case.xt), case.xt
    distance, variance = _towards(case, "known")
    x0 = DoubleDouble.of(case.mean_known) + a * case.variance_known * distance / variance
    value = case.step("x0_weight", like) * x0 + case.step("xt_weight", like) * case.xt
    recip = case.step("recip_sqrt_alpha", like).high
    inputs = np.abs(case.step("eps_weight", like).high * case.eps)
    inputs = inputs + np.abs(case.step("beta", like).high * recip * case.gradient)
    # The prediction and the gradient were rounded on their way in.
    share = case.claim.storing.u / case.claim.computing.u / GUIDED_STEP
    return (Expected(value, np.abs(recip * case.xt) + (1 + share) * inputs, GUIDED_STEP),)


def _first_of(mistake: Mistake) -> Callable[[Case], Outputs]:
    """What a mistake of the step makes of the mean, at scale 1."""

    def value(case: Case) -> Outputs:
        bare = {**case.values, "noise": 0 * case.xt, "scale": np.asarray(1.0)}
        return (mistake.value(Case(case.claim, case.schedule, bare))[0],)

    return value


KERNEL = Law(
    id="guidance/kernel",
    needs="guided_ancestral_step",
    statement=r"\mu_\theta(x_t, \bar\varepsilon) = \mathbb E[x_s\mid x_t, y]\quad\text{for exact}\ \hat\varepsilon,"
    r"\ \nabla\log q(y\mid x_t)\ \text{and}\ \omega = 1",
    source="dhariwal2021, eq. (14); Bayes' rule on normal data",
    cases=_kernel_cases,
    call=lambda impl, c: impl.guided_ancestral_step(
        c.schedule, c.xt, c.t, c.s, c.eps, c.gradient, c.xt * 0, 1.0, variance="posterior"
    ),
    expect=_kernel_expected,
    mistakes=(
        *(Mistake(mistake.name, _first_of(mistake), mistake.erratum) for mistake in STEP_MISTAKES),
        Mistake("unconditional", lambda c: (_mean(c),)),
    ),
    kind="metamorphic",
)


LAWS = (STEP, DDIM_STEP, MEAN_SHIFT_STEP, MEAN_SHIFT_STEP_SMALL, KERNEL)
