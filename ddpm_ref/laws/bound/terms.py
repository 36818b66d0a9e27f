"""Laws of the single terms of the variational bound (nats per element)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.arithmetic.double_double import log, where, x_minus_log1p
from ddpm_ref.laws.cases import (
    Case,
    Cases,
    Source,
    at,
    at_s,
    at_step,
    draw_schedule,
    draw_shape,
    draw_tensor,
    step,
)
from ddpm_ref.laws.divergence import NEAR
from ddpm_ref.laws.forward import TERMINAL_KL
from ddpm_ref.laws.registry import PAIR_AFFINE, PAIR_COEFFICIENT, Law, Mistake, Outputs, affine
from ddpm_ref.laws.running import FUNCTION, Running, running, total
from ddpm_ref.typing import Array

LOG_2PI = float(np.log(2 * np.pi))
NARROWEST, WIDEST = -6.0, 6.0  # logarithms of the variances of a model

# --- what the model's step is measured with --------------------------------------------------------------------------


def posterior_mean(case: Case) -> Running:
    """Its error is that of the law of the posterior mean."""
    like = case.xt
    mean = affine(
        (case.step("x0_weight", like), case.x0), (case.step("xt_weight", like), case.xt), roundings=PAIR_AFFINE
    )
    return Running(mean.value, PAIR_AFFINE * mean.scale, case.claim.computing.u)


def posterior_log_variance(case: Case, instead_of_0: float = 1.0) -> Running:
    """The logarithm of a coefficient; the variance 0 of a step to level 0 is replaced, for whoever overlooks it."""
    variance = case.step("beta_tilde", case.xt)
    logarithm = log(where(variance.high == 0, DoubleDouble.of(np.full(variance.shape, instead_of_0)), variance))
    return Running(logarithm, PAIR_COEFFICIENT + FUNCTION * np.abs(logarithm.high), case.claim.computing.u)


def divergence(mean: Running, log_variance: Running, of_model: Running, log_of_model: Running) -> Running:
    """From the logarithms of both variances; the exponential of their difference is charged apart from the difference."""
    delta = log_variance - log_of_model
    one = Running(DoubleDouble.of(np.ones(delta.value.shape)), np.zeros(delta.value.shape), delta.u)
    distance = ((mean - of_model) * log_of_model.times(-0.5).exp()).square
    return total(delta.exp(), one.times(-1.0), delta.times(-1.0), distance).times(0.5)


# --- in float64, for the values of mistakes --------------------------------------------------------------------------


def mean_of(case: Case) -> Array:
    """Of the posterior."""
    return np.asarray(step(case, "x0_weight") * case.x0 + step(case, "xt_weight") * case.xt)


def kl(m1: Array, l1: Array, m2: Array, l2: Array) -> Array:
    """From log-variances, by the textbook."""
    return np.asarray((np.exp(l1 - l2) - 1 - (l1 - l2) + (m1 - m2) ** 2 * np.exp(-l2)) / 2)


def posterior_log(case: Case, floor: float = 1e-20) -> Array:
    """With a floor under the variance."""
    return np.asarray(np.log(np.maximum(step(case, "beta_tilde"), floor)))


def denoising(case: Case, *, doubled: float = 1.0, swapped: bool = False) -> Array:
    """The term, or with its arguments in the other order, or the logarithm of the model's variance taken for another."""
    first, second = (mean_of(case), posterior_log(case)), (case.mean, doubled * case.log_variance)
    return kl(*second, *first) if swapped else kl(*first, *second)


def next_level(case: Case) -> Case:
    """The case of the step one level up, where there is one."""
    up = (case.t < case.noise_schedule.T).astype(np.int64)
    return Case(case.claim, case.schedule, {**case.values, "t": case.t + up, "s": case.s + up})


# --- cases ------------------------------------------------------------------------------------------------------------


def with_log_variance(cases: Cases) -> Cases:
    """Cases with the logarithm of a variance for every element."""

    def drawn(source: Source, claim: Claim) -> Case:
        case = cases(source, claim)
        logarithm = draw_tensor(source, case.x0.shape, claim, reach=WIDEST)
        return Case(claim, case.schedule, {**case.values, "log_variance": logarithm})

    return drawn


# --- the laws ---------------------------------------------------------------------------------------------------------


def _log1p_forgotten(case: Case) -> Array:
    compute, signal = case.claim.computing, case.noise_schedule.alpha_bar[-1]
    logarithm = compute.round(np.log(compute.round(1 - compute.round(signal))))
    return np.asarray((signal * case.x0**2 + compute.round(-compute.round(signal) - logarithm)) / 2)


def _prior(case: Case) -> Array:
    return np.asarray(TERMINAL_KL.expect(case)[0].value.high)


PRIOR = Law(
    id="bound/prior_term",
    needs="prior_term",
    statement=r"L_T = \tfrac12(\bar\alpha_T x_0^2 - \bar\alpha_T - \log\bar\beta_T)",
    source="ho2020, eq. (5) and section 3.1",
    cases=TERMINAL_KL.cases,
    call=lambda impl, c: impl.prior_term(c.schedule, c.x0),
    expect=TERMINAL_KL.expect,
    mistakes=(
        *TERMINAL_KL.mistakes,
        Mistake("half_forgotten", lambda c: (2 * _prior(c),)),
        Mistake("sign_of_the_term", lambda c: (-_prior(c),), "E25"),
        Mistake("data_of_unit_size_taken_for_granted", lambda c: (-c.noise_schedule.log_beta_bar[-1] / 2 + 0 * c.x0,)),
        # In half precision the logarithm has digits enough for a result that is stored with few.
        Mistake("log1p_forgotten", lambda c: (_log1p_forgotten(c),), claims=("fp64", "fp32"), rounding=True),
    ),
)


def _denoising_expected(case: Case) -> tuple[Expected, ...]:
    model = (running(case, case.mean), running(case, case.log_variance))
    return (divergence(posterior_mean(case), posterior_log_variance(case), *model).expected(),)


def _mean_part(case: Case) -> Array:
    return np.asarray((mean_of(case) - case.mean) ** 2 * np.exp(-case.log_variance) / 2)


DENOISING = Law(
    id="bound/denoising_term",
    needs="denoising_term",
    statement=r"D\left(q(x_s\mid x_t, x_0)\,\Vert\,\mathcal N(\mu_\theta,\sigma^2)\right)"
    r" = \tfrac12\left[\tilde\beta/\sigma^2 - 1 - \log(\tilde\beta/\sigma^2)\right] + (\tilde\mu-\mu_\theta)^2/(2\sigma^2)",
    source="ho2020, eq. (5) and (8); nichol2021, eq. (5)",
    cases=with_log_variance(at_step("x0", "xt", "mean", lowest_s=1)),
    call=lambda impl, c: impl.denoising_term(c.schedule, c.x0, c.xt, c.t, c.s, c.mean, c.log_variance),
    expect=_denoising_expected,
    mistakes=(
        Mistake("arguments_swapped", lambda c: (denoising(c, swapped=True),), "E27"),
        Mistake("sign_of_the_term", lambda c: (-denoising(c),), "E25"),
        Mistake("step_of_the_next_level", lambda c: (denoising(next_level(c)),), "E28"),
        Mistake("log_variance_taken_for_log_std", lambda c: (denoising(c, doubled=2.0),)),
        Mistake("half_forgotten", lambda c: (2 * denoising(c),)),
        Mistake("variances_left_away", lambda c: (_mean_part(c),)),
        Mistake("mean_divided_by_the_posterior_variance", lambda c: (_over_the_posterior(c),), "E27"),
        Mistake("beta_for_the_posterior_variance", lambda c: (_of_beta(c),), "E42"),
        Mistake("x0_for_the_posterior_mean", lambda c: (kl(c.x0, posterior_log(c), c.mean, c.log_variance),)),
    ),
)


def _over_the_posterior(case: Case) -> Array:
    shift = (mean_of(case) - case.mean) ** 2 / 2
    return np.asarray(denoising(case) - _mean_part(case) + shift / step(case, "beta_tilde"))


def _of_beta(case: Case) -> Array:
    return kl(mean_of(case), np.log(step(case, "beta")), case.mean, case.log_variance)


# --- nothing to pay where the model is the posterior -----------------------------------------------------------------


def _scalar_steps(source: Source, claim: Claim) -> Case:
    schedule, shape = draw_schedule(source, shortest=2), draw_shape(source)
    t = source.integer(2, schedule.T)
    s = source.choice([t - 1, source.integer(1, t - 1)])
    values = {"t": np.asarray(t), "s": np.asarray(s)}
    return Case(claim, schedule, values | {name: draw_tensor(source, shape, claim) for name in ("x0", "xt")})


def _of_the_posterior(impl: Any, c: Any) -> object:
    mean = impl.q_posterior(c.schedule, c.x0, c.xt, c.t, c.s)[0]
    logarithm = float(impl.first_log_variance(c.schedule, c.t, c.s, "exact"))
    return impl.denoising_term(c.schedule, c.x0, c.xt, c.t, c.s, mean, logarithm)


def _nothing_expected(case: Case) -> tuple[Expected, ...]:
    mean, logarithm = posterior_mean(case), posterior_log_variance(case)
    there = divergence(mean, logarithm, mean.stored(case), logarithm.through(1))
    return (Expected(DoubleDouble.of(np.zeros(case.x0.shape)), there.expected().scale, there.expected().roundings),)


def _constant(value: float) -> Callable[[Case], Outputs]:
    return lambda case: (np.full(case.x0.shape, value),)


NOTHING = Law(
    id="bound/zero_where_both_moments_agree",
    needs="denoising_term q_posterior first_log_variance",
    statement=r"D\left(q(x_s\mid x_t, x_0)\,\Vert\,\mathcal N(\tilde\mu,\tilde\beta)\right) = 0",
    source="elementary; ho2020, eq. (5)",
    cases=_scalar_steps,
    call=_of_the_posterior,
    expect=_nothing_expected,
    mistakes=(
        Mistake("one_not_subtracted", _constant(0.5)),
        Mistake("logarithm_of_the_ratio_not_subtracted", lambda c: (posterior_log(c) / 2 + 0 * c.x0,)),
        Mistake("constant_of_the_density_kept", _constant(LOG_2PI / 2)),
        Mistake("cross_entropy_for_the_divergence", lambda c: ((LOG_2PI + 1 + posterior_log(c)) / 2 + 0 * c.x0,)),
    ),
    kind="metamorphic",
)

# --- the part of the variances ---------------------------------------------------------------------------------------


def _cost_expected(case: Case) -> tuple[Expected, ...]:
    """Near equality from the difference of the ratio from 1, elsewhere from the ratio: whichever suffers less."""
    late = case.level("beta_bar")
    excess = -(case.step("beta") * case.noise_schedule.words("alpha_bar", case.s) / late)
    value = x_minus_log1p(excess) * 0.5
    x, size = excess.high, value.high
    ratio = 1 + x
    slope = x * x / (2 * np.maximum(ratio, 1e-300))  # of the value by the logarithm of the excess
    logarithm = np.abs(np.log(np.maximum(ratio, 1e-300)))
    near = PAIR_COEFFICIENT * slope + NEAR * size
    far = (PAIR_COEFFICIENT * np.abs(x) + 3 * (ratio + 1 + logarithm) + FUNCTION * logarithm) / 2
    charged = np.where(np.abs(x) <= 0.5, near, far)
    nothing = DoubleDouble.of(np.zeros(value.shape))
    return (Expected(nothing, nothing.high, 1), Expected(value, charged / 16, 16))


def _cost(ratio: Array) -> Array:
    return np.asarray((ratio - 1 - np.log(ratio)) / 2)


def _ratio(case: Case) -> Array:
    return np.asarray(at_s(case, "beta_bar") / at(case, "beta_bar"))


def _cancelling(case: Case) -> Array:
    compute = case.claim.computing
    ratio = compute.round(_ratio(case))
    return np.asarray(compute.round(compute.round(ratio - 1) - compute.round(np.log(ratio))) / 2)


def _both_costs(impl: Any, c: Any) -> tuple[object, object]:
    small, large = (impl.variance_term(c.schedule, c.t, c.s, kind) for kind in ("posterior", "beta"))
    return small, large


VARIANCES = Law(
    id="bound/variance_term",
    needs="variance_term",
    statement=r"\tfrac12(r - 1 - \log r),\quad r = \tilde\beta_{t|s}/\sigma^2 = 1"
    r"\ \text{or}\ \bar\beta_s/\bar\beta_t\ \text{for}\ \sigma^2 = \beta_{t|s}",
    source="ho2020, eq. (5) and section 3.2",
    cases=at_step(lowest_s=1),
    call=_both_costs,
    expect=_cost_expected,
    mistakes=(
        Mistake("arguments_swapped", lambda c: (0 * _ratio(c), _cost(1 / _ratio(c))), "E27"),
        Mistake("fixed_small_and_large_exchanged", lambda c: (_cost(_ratio(c)), 0 * _ratio(c)), "E42"),
        Mistake("half_forgotten", lambda c: (0 * _ratio(c), 2 * _cost(_ratio(c)))),
        Mistake("ratio_of_standard_deviations", lambda c: (0 * _ratio(c), _cost(np.sqrt(_ratio(c))))),
        Mistake("logarithm_forgotten", lambda c: (0 * _ratio(c), (_ratio(c) - 1) / 2)),
        Mistake("cancelling_form", lambda c: (0 * _ratio(c), _cancelling(c)), rounding=True),
    ),
    kind="coefficient",
)

LAWS = (PRIOR, DENOISING, NOTHING, VARIANCES)
