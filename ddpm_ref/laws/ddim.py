"""Laws of the DDIM family: one free variance, the same marginals, two ends that are samplers of their own."""

from __future__ import annotations

from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.laws.cases import (
    Case,
    Source,
    at,
    at_s,
    at_step,
    draw_pairs,
    draw_schedule,
    draw_shape,
    draw_tensor,
    step,
)
from ddpm_ref.laws.family import (
    ALL,
    FAMILY_GAP,
    FAMILY_ROOT,
    MISTAKES,
    OF_THE_MEAN,
    Parts,
    levels_of,
    member,
    of_case,
    planted,
    right,
    rise,
    walks,
    with_eta,
)
from ddpm_ref.laws.registry import (
    AFFINE,
    PAIR_AFFINE,
    PAIR_COEFFICIENT,
    PAIR_ROOT,
    Law,
    Mistake,
    Outputs,
    affine,
    counted,
    exact,
)


def _weights_of(case: Case, parts: Parts) -> Outputs:
    signal, direction, _ = parts
    direction = direction / at(case, "sqrt_beta_bar")
    return signal - at(case, "sqrt_alpha_bar") * direction, direction


# A product and a sum more than the longest coefficient.
FAMILY_AFFINE = FAMILY_GAP + 2

# --- coefficients -----------------------------------------------------------------------------------------------------

STD = Law(
    id="ddim/std",
    needs="ddim_std",
    statement=r"\sigma = \eta\sqrt{\tilde\beta_{t|s}}",
    source="song2020ddim, eq. (16)",
    cases=with_eta(at_step()),
    call=lambda impl, c: impl.ddim_std(c.schedule, c.t, c.s, float(c.eta)),
    expect=lambda c: (exact(of_case(c).std, PAIR_COEFFICIENT),),
    mistakes=planted(
        lambda _, parts: (parts[2],),
        tuple(n for n in ALL if n not in ("signal_of_level_t", "direction_keeps_all_the_noise")),
    ),
    kind="coefficient",
)

DIRECTION = Law(
    id="ddim/direction",
    needs="ddim_direction",
    statement=r"\sqrt{\bar\beta_s - \sigma^2}",
    source="song2020ddim, eq. (12)",
    cases=with_eta(at_step()),
    call=lambda impl, c: impl.ddim_direction(c.schedule, c.t, c.s, float(c.eta)),
    expect=lambda c: (exact(of_case(c).direction, FAMILY_ROOT),),
    mistakes=(
        *planted(lambda _, parts: (parts[1],), tuple(n for n in OF_THE_MEAN if n != "signal_of_level_t")),
        Mistake("variance_returned_as_root", lambda c: (right(c)[1] ** 2,)),
    ),
    kind="coefficient",
)

WEIGHTS = Law(
    id="ddim/weights",
    needs="ddim_weights",
    statement=r"\sqrt{\bar\alpha_s} - \sqrt{\bar\alpha_t(\bar\beta_s - \sigma^2)/\bar\beta_t},"
    r"\ \sqrt{(\bar\beta_s - \sigma^2)/\bar\beta_t}",
    source="song2020ddim, eq. (7), rearranged",
    cases=with_eta(at_step()),
    call=lambda impl, c: impl.ddim_weights(c.schedule, c.t, c.s, float(c.eta)),
    expect=lambda c: (exact(of_case(c).x0_weight, FAMILY_GAP), exact(of_case(c).xt_weight, FAMILY_ROOT)),
    mistakes=(
        *planted(_weights_of, OF_THE_MEAN),
        Mistake("swapped", lambda c: _weights_of(c, right(c))[::-1]),
    ),
    kind="coefficient",
)

# --- the posterior ----------------------------------------------------------------------------------------------------


def _mean_of(case: Case, parts: Parts) -> Outputs:
    from_x0, from_xt = _weights_of(case, parts)
    return (from_x0 * case.x0 + from_xt * case.xt,)


def _mean_expected(case: Case) -> tuple[Expected, ...]:
    m = of_case(case, case.x0)
    return (counted((m.x0_weight, case.x0, FAMILY_GAP), (m.xt_weight, case.xt, FAMILY_ROOT)),)


POSTERIOR_MEAN = Law(
    id="ddim/posterior_mean",
    needs="ddim_posterior",
    statement=r"\sqrt{\bar\alpha_s}x_0 + \sqrt{\bar\beta_s - \sigma^2}\,(x_t - \sqrt{\bar\alpha_t}x_0)/\sqrt{\bar\beta_t}",
    source="song2020ddim, eq. (7)",
    cases=with_eta(at_step("x0", "xt")),
    call=lambda impl, c: impl.ddim_posterior(c.schedule, c.x0, c.xt, c.t, c.s, float(c.eta))[0],
    expect=_mean_expected,
    mistakes=planted(_mean_of, OF_THE_MEAN),
)


def _variance_expected(case: Case) -> tuple[Expected, ...]:
    std = of_case(case, case.x0).std
    # The root is squared again, or was never taken: two factors of eta and those of the posterior variance.
    return (exact(std * std, PAIR_COEFFICIENT + 2),)


POSTERIOR_VARIANCE = Law(
    id="ddim/posterior_variance",
    needs="ddim_posterior",
    statement=r"\sigma^2 = \eta^2\tilde\beta_{t|s}",
    source="song2020ddim, eq. (7) and (16)",
    cases=with_eta(at_step("x0", "xt")),
    call=lambda impl, c: impl.ddim_posterior(c.schedule, c.x0, c.xt, c.t, c.s, float(c.eta))[1],
    expect=_variance_expected,
    mistakes=(
        *planted(
            lambda _, parts: (parts[2] ** 2,),
            tuple(n for n in ALL if n not in ("signal_of_level_t", "direction_keeps_all_the_noise")),
        ),
        Mistake("standard_deviation_returned_as_variance", lambda c: (right(c)[2],), "E23"),
    ),
    kind="coefficient",
)

# --- the step ---------------------------------------------------------------------------------------------------------


def _step_expected(case: Case) -> tuple[Expected, ...]:
    m = of_case(case, case.x0)
    kept = (m.signal, case.x0, 1), (m.direction, case.eps, FAMILY_ROOT)
    return (counted(*kept, (m.std, case.noise, PAIR_COEFFICIENT)),)


STEP = Law(
    id="ddim/step",
    needs="ddim_step",
    statement=r"x_s = \sqrt{\bar\alpha_s}\hat x_0 + \sqrt{\bar\beta_s - \sigma^2}\,\hat\varepsilon + \sigma z",
    source="song2020ddim, eq. (12)",
    cases=with_eta(at_step("x0", "eps", "noise")),
    call=lambda impl, c: impl.ddim_step(c.schedule, c.x0, c.eps, c.t, c.s, c.noise, float(c.eta)),
    expect=_step_expected,
    mistakes=planted(lambda c, parts: (parts[0] * c.x0 + parts[1] * c.eps + parts[2] * c.noise,)),
)


def _from_eps_expected(case: Case) -> tuple[Expected, ...]:
    m, x = of_case(case, case.xt), case.step("recip_sqrt_alpha", case.xt)
    kept = (x, case.xt, PAIR_ROOT), (-(m.gap * x / m.root), case.eps, FAMILY_GAP)
    return (counted(*kept, (m.std, case.noise, PAIR_COEFFICIENT)),)


def _from_eps_of(case: Case, parts: Parts) -> Outputs:
    signal, direction, std = parts
    x0 = (case.xt - at(case, "sqrt_beta_bar") * case.eps) / at(case, "sqrt_alpha_bar")
    return (signal * x0 + direction * case.eps + std * case.noise,)


STEP_FROM_EPS = Law(
    id="ddim/step_from_eps",
    needs="ddim_step_from_eps",
    statement=r"x_s = \frac{x_t}{\sqrt{\alpha_{t|s}}}"
    r" + \left(\sqrt{\bar\beta_s - \sigma^2} - \sqrt{\bar\beta_t/\alpha_{t|s}}\right)\hat\varepsilon + \sigma z",
    source="song2020ddim, eq. (12)-(13)",
    cases=with_eta(at_step("xt", "eps", "noise", zero_snr=False)),
    call=lambda impl, c: impl.ddim_step_from_eps(c.schedule, c.xt, c.t, c.s, c.eps, c.noise, float(c.eta)),
    expect=_from_eps_expected,
    mistakes=(
        *planted(_from_eps_of),
        Mistake(
            "sign_of_eps",
            lambda c: (
                2 * step(c, "recip_sqrt_alpha") * c.xt + 2 * right(c)[2] * c.noise - _from_eps_of(c, right(c))[0],
            ),
        ),
    ),
)


def _from_x0_of(case: Case, parts: Parts) -> Outputs:
    return (_mean_of(case, parts)[0] + parts[2] * case.noise,)


def _from_x0_expected(case: Case) -> tuple[Expected, ...]:
    m = of_case(case, case.x0)
    kept = (m.x0_weight, case.x0, FAMILY_GAP), (m.xt_weight, case.xt, FAMILY_ROOT)
    return (counted(*kept, (m.std, case.noise, PAIR_COEFFICIENT)),)


STEP_FROM_X0 = Law(
    id="ddim/step_from_x0",
    needs="ddim_step_from_x0",
    statement=r"x_s = C^0\hat x_0 + C^x x_t + \sigma z",
    source="song2020ddim, eq. (7)",
    cases=with_eta(at_step("x0", "xt", "noise")),
    call=lambda impl, c: impl.ddim_step_from_x0(c.schedule, c.xt, c.t, c.s, c.x0, c.noise, float(c.eta)),
    expect=_from_x0_expected,
    mistakes=planted(_from_x0_of),
)


INVERSION_STEP = Law(
    id="ddim/inversion_step",
    needs="ddim_inversion_step",
    statement=r"x_t = \sqrt{\alpha_{t|s}}\,x_s + \left(\sqrt{\bar\beta_t} - \sqrt{\alpha_{t|s}\bar\beta_s}\right)\hat\varepsilon",
    source="song2020ddim, eq. (14)",
    cases=at_step("xs", "eps"),
    call=lambda impl, c: impl.ddim_inversion_step(c.schedule, c.xs, c.t, c.s, c.eps),
    expect=lambda c: (affine((c.step("sqrt_alpha", c.xs), c.xs), (rise(c, c.xs), c.eps), roundings=PAIR_AFFINE),),
    mistakes=(
        Mistake(
            "fresh_noise_instead_of_the_old", lambda c: (step(c, "sqrt_alpha") * c.xs + step(c, "sqrt_beta") * c.eps,)
        ),
        Mistake(
            "signal_of_xs_not_rescaled",
            lambda c: (step(c, "sqrt_alpha") * c.xs + (at(c, "sqrt_beta_bar") - at_s(c, "sqrt_beta_bar")) * c.eps,),
        ),
        Mistake(
            "shifted_by_one",
            lambda c: (
                at(c, "sqrt_alpha") * c.xs
                + (at(c, "sqrt_beta_bar") - at(c, "sqrt_alpha") * at(c, "sqrt_beta_bar", -1)) * c.eps,
            ),
            "E50",
        ),
    ),
)

# --- two ways to one result -------------------------------------------------------------------------------------------


def _marginal_expected(case: Case) -> tuple[Expected, ...]:
    m = of_case(case, case.x0)
    total = affine((m.signal, case.x0), (m.direction, case.noise), roundings=FAMILY_AFFINE + AFFINE)
    xt = case.level("sqrt_alpha_bar", case.x0) * case.x0 + case.level("sqrt_beta_bar", case.x0) * case.noise
    between = np.abs((m.xt_weight * xt).high)
    return (
        Expected(total.value, total.scale + case.stored_between_calls * between / total.roundings, total.roundings),
    )


def _marginal_call(impl: Any, c: Any) -> object:
    xt = impl.q_sample(c.schedule, c.x0, c.t, c.noise)
    return impl.ddim_posterior(c.schedule, c.x0, xt, c.t, c.s, float(c.eta))[0]


MARGINAL = Law(
    id="ddim/marginal",
    needs="ddim_posterior q_sample",
    statement=r"\mu_\sigma(\sqrt{\bar\alpha_t}x_0 + \sqrt{\bar\beta_t}\varepsilon, x_0)"
    r" = \sqrt{\bar\alpha_s}x_0 + \sqrt{\bar\beta_s - \sigma^2}\,\varepsilon:"
    r"\quad \int q_\sigma(x_s|x_t,x_0)q(x_t|x_0)dx_t = q(x_s|x_0)",
    source="song2020ddim, lemma 1",
    cases=with_eta(at_step("x0", "noise")),
    call=_marginal_call,
    expect=_marginal_expected,
    mistakes=planted(lambda c, parts: (parts[0] * c.x0 + parts[1] * c.noise,), OF_THE_MEAN),
    kind="metamorphic",
)


def _three_levels(source: Source, claim: Claim) -> Case:
    """Two steps ``t > s > r`` with data at both ends, and an eta for which the family composes."""
    schedule, shape = draw_schedule(source, shortest=2), draw_shape(source)
    t, s = draw_pairs(source, shape, schedule.T, lowest_s=1)
    r = np.array([source.integer(0, v - 1) for v in s.ravel().tolist()], dtype=np.int64).reshape(s.shape)
    data = {name: draw_tensor(source, shape, claim) for name in ("x0", "xt")}
    return Case(claim, schedule, {"t": t, "s": s, "r": r, **data, "eta": np.asarray(source.choice([0.0, 1.0]))})


def _composed(impl: Any, c: Any) -> tuple[object, object]:
    eta, zero = float(c.eta), c.x0 * 0
    mean, spread = impl.ddim_posterior(c.schedule, c.x0, c.xt, c.t, c.s, eta)
    composed, variance = impl.ddim_posterior(c.schedule, c.x0, mean, c.s, c.r, eta)
    weight = impl.ddim_posterior(c.schedule, zero, zero + 1, c.s, c.r, eta)[0]
    return composed, variance + weight * weight * spread


def _composition(case: Case, eta: float) -> tuple[tuple[DoubleDouble, DoubleDouble], tuple[DoubleDouble, DoubleDouble]]:
    """Mean and variance of the law of x_r, in one step and in two."""
    schedule, like = case.noise_schedule, case.x0
    direct, first, second = (
        member(schedule, later, earlier, eta, like)
        for later, earlier in ((case.t, case.r), (case.t, case.s), (case.s, case.r))
    )
    at_once = direct.x0_weight * case.x0 + direct.xt_weight * case.xt
    between = first.x0_weight * case.x0 + first.xt_weight * case.xt
    composed = second.x0_weight * case.x0 + second.xt_weight * between
    spread = second.xt_weight * first.std
    return (at_once, direct.std * direct.std), (composed, second.std * second.std + spread * spread)


def _composes_expected(case: Case) -> tuple[Expected, ...]:
    eta, like = float(case.eta), case.x0
    direct = member(case.noise_schedule, case.t, case.r, eta, like)
    first = member(case.noise_schedule, case.t, case.s, eta, like)
    second = member(case.noise_schedule, case.s, case.r, eta, like)
    # Weights are positive, so on the way through s their parts add up to the direct ones and S is that of one step.
    mean = affine((direct.x0_weight, case.x0), (direct.xt_weight, case.xt), roundings=2 * FAMILY_AFFINE)
    between = second.xt_weight * (first.x0_weight * case.x0 + first.xt_weight * case.xt)
    stored = case.stored_between_calls
    scale = mean.scale + stored * np.abs(between.high) / mean.roundings
    value, spread = direct.std * direct.std, second.xt_weight * first.std
    roundings = 3 * FAMILY_AFFINE  # two variances, a weight twice, two products and a sum
    # The weight and its square are stored.
    wide = value.high + 3 * stored * (spread * spread).high / roundings + 0 * case.x0
    variance = DoubleDouble(value.high + 0 * case.x0, value.low + 0 * case.x0)
    return Expected(mean.value, scale, mean.roundings), Expected(variance, wide, roundings)


def _claimed_for_every_eta(case: Case) -> Outputs:
    """The gap that composition leaves at eta = 1/2, on top of the right answer."""
    at_once = _composition(case, float(case.eta))[0]
    direct, composed = _composition(case, 0.5)
    return tuple(r.high + (c - d).high for r, d, c in zip(at_once, direct, composed, strict=True))


COMPOSES = Law(
    id="ddim/composes",
    needs="ddim_posterior",
    statement=r"\int q_\sigma(x_r|x_s,x_0)\,q_\sigma(x_s|x_t,x_0)\,dx_s = q_\sigma(x_r|x_t,x_0),\quad \eta\in\{0,1\}",
    source="song2020ddim, eq. (7); Markov property given x_0 at eta = 1, no noise at eta = 0",
    cases=_three_levels,
    call=_composed,
    expect=_composes_expected,
    mistakes=(
        Mistake("composition_claimed_for_every_eta", _claimed_for_every_eta),
        Mistake(
            "variance_of_the_first_step_forgotten",
            lambda c: (
                _composition(c, float(c.eta))[0][0].high,
                (member(c.noise_schedule, c.s, c.r, float(c.eta), c.x0).std.high) ** 2 + 0 * c.x0,
            ),
        ),
    ),
    kind="metamorphic",
)


def _both_samplers(impl: Any, c: Any) -> tuple[object, object]:
    from_eps = impl.ddim_step_from_eps(c.schedule, c.xt, c.t, c.s, c.eps, c.noise, 1.0)
    ancestral = impl.ancestral_step(c.schedule, c.xt, c.t, c.s, c.eps, c.noise, "posterior")
    clipped = impl.clip_x0(c.x0)
    from_x0 = impl.ddim_step_from_x0(c.schedule, c.xt, c.t, c.s, clipped, c.noise, 1.0)
    mean, variance = impl.q_posterior(c.schedule, clipped, c.xt, c.t, c.s)
    return from_eps - ancestral, from_x0 - impl.reverse_step(mean, variance, c.noise)


def _samplers_expected(case: Case) -> tuple[Expected, ...]:
    m = member(case.noise_schedule, case.t, case.s, 1.0, case.xt)
    eps_weight = case.step("eps_weight", case.xt)
    terms = (
        affine(
            (case.step("recip_sqrt_alpha", case.xt), case.xt), (eps_weight, case.eps), (m.std, case.noise), roundings=1
        ),
        affine((m.x0_weight, np.clip(case.x0, -1, 1)), (m.xt_weight, case.xt), (m.std, case.noise), roundings=1),
    )
    k, zero = FAMILY_AFFINE + PAIR_AFFINE + 4, DoubleDouble.of(np.zeros(case.xt.shape))
    # Either result is stored, and so is the mean between its two calls.
    return tuple(Expected(zero, e.scale * (1 + 3 * case.stored_between_calls / k), k) for e in terms)


def _differences(case: Case, parts: Parts) -> Outputs:
    one = Case(case.claim, case.schedule, {**case.values, "eta": np.asarray(1.0)})
    truth, clipped = right(one), Case(case.claim, case.schedule, {**one.values, "x0": np.clip(case.x0, -1, 1)})
    return (
        _from_eps_of(one, parts)[0] - _from_eps_of(one, truth)[0],
        _from_x0_of(clipped, parts)[0] - _from_x0_of(clipped, truth)[0],
    )


def _at_eta_one(name: str) -> Mistake:
    def value(case: Case) -> Outputs:
        one = Case(case.claim, case.schedule, {**case.values, "eta": np.asarray(1.0)})
        return _differences(one, MISTAKES[name][1](one))

    return Mistake(name, value, MISTAKES[name][0])


ETA_ONE = Law(
    id="ddim/eta_one_is_ancestral",
    needs="ddim_step_from_eps ddim_step_from_x0 ancestral_step clip_x0 q_posterior reverse_step",
    statement=r"\eta = 1:\quad x_s^{\mathrm{DDIM}} - x_s^{\mathrm{ancestral}} = 0,"
    r"\ \text{also with } \hat x_0 \text{ clipped and } \hat\varepsilon \text{ re-derived}",
    source="song2020ddim, section 4.1",
    cases=at_step("xt", "x0", "eps", "noise", zero_snr=False),
    call=_both_samplers,
    expect=_samplers_expected,
    mistakes=tuple(
        _at_eta_one(name)
        for name in ALL
        if name not in ("eta_scales_the_variance", "improved_ddpm_whatever_eta")  # the same at eta = 1
    ),
    kind="metamorphic",
)


# --- the strided chain -------------------------------------------------------------------------------------------------


def _ascending(words: DoubleDouble) -> DoubleDouble:
    return DoubleDouble(words.high[::-1], words.low[::-1])


STRIDED_BETAS = Law(
    id="ddim/strided_betas",
    needs="strided_betas",
    statement=r"\beta'_i = 1 - \bar\alpha_{\tau_i}/\bar\alpha_{\tau_{i-1}},\quad \tau_0 = 0",
    source="nichol2021, section 4",
    cases=walks(),
    call=lambda impl, c: impl.strided_betas(c.schedule, levels_of(c)),
    expect=lambda c: (exact(_ascending(c.step("beta")), PAIR_COEFFICIENT),),
    mistakes=(
        Mistake("betas_of_single_levels", lambda c: (at(c, "beta")[::-1],), "E50"),
        Mistake(
            "first_step_from_its_own_level", lambda c: (np.concatenate([at(c, "beta")[-1:], step(c, "beta")[-2::-1]]),)
        ),
        Mistake("in_sampling_order", lambda c: (step(c, "beta"),)),
        Mistake("alpha_instead_of_beta", lambda c: (step(c, "alpha")[::-1],)),
    ),
    kind="coefficient",
)

LAWS = (
    STD, DIRECTION, WEIGHTS, POSTERIOR_MEAN, POSTERIOR_VARIANCE, STEP, STEP_FROM_EPS, STEP_FROM_X0, INVERSION_STEP,
    MARGINAL, COMPOSES, ETA_ONE, STRIDED_BETAS,
)  # fmt: skip
