"""Laws of limits: where a formula as it is printed cancels, is 0/0 or infinity times 0, and averages that hide roundings."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.arithmetic.double_double import expm1_minus_x, sqrt
from ddpm_ref.laws.analytic.unknown import EPS_MEAN_SQUARE, RESIDUAL_MEAN_SQUARE
from ddpm_ref.laws.cases import (
    Case,
    Cases,
    Source,
    draw_pairs,
    draw_positive,
    draw_shape,
    draw_tensor,
    spread_over_data,
    step,
)
from ddpm_ref.laws.forward import MEAN_VARIANCE
from ddpm_ref.laws.posterior import MEAN_FROM_EPS
from ddpm_ref.laws.registry import ROOT, Law, Mistake, Outputs, exact
from ddpm_ref.laws.schedule import BETWEEN
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array

# --- a sum of opposed variables ---------------------------------------------------------------------------------------

# The difference, the roots and their sum, and the quotient, squared, and the last sum: as in forward/gaussian_sum; 2 (1 + rho)
# times the product of the roots comes out shorter.
OPPOSED = 2 * (ROOT + 3) + 2


def _opposed_cases(source: Source, claim: Claim) -> Case:
    shape = draw_shape(source)
    means = {f"mean{i}": draw_tensor(source, shape, claim) for i in (1, 2)}
    first, second = (draw_positive(source, shape, claim, 1e-4, 8.0) for _ in range(2))
    if source.choice([True, False]):
        second = np.where(np.abs(means["mean1"]) > 2, 0.0, first)  # points, and laws of one variance
        first = np.where(np.abs(means["mean2"]) > 4, 0.0, first)
    rho = source.choice([-0.5, -1.0, -1 + 2.0**-7])
    return Case(claim, None, means | {"variance1": first, "variance2": second, "correlation": np.asarray(rho)})


def _opposed_expected(case: Case) -> tuple[Expected, ...]:
    mean = DoubleDouble.of(case.mean1) + case.mean2
    s1, s2 = (sqrt(DoubleDouble.of(v)) for v in (case.variance1, case.variance2))
    total = s1 + s2
    none = total.high == 0
    safe = DoubleDouble(np.where(none, 1.0, total.high), np.where(none, 0.0, total.low))
    difference = (DoubleDouble.of(case.variance1) - case.variance2) / safe
    variance = difference * difference + s1 * s2 * (2 * (1 + float(case.correlation)))
    return Expected(mean, np.abs(case.mean1) + np.abs(case.mean2), 1), exact(variance, OPPOSED)


def _cancelled(case: Case) -> Outputs:
    """As it is printed, in the compute format."""
    round_ = case.claim.computing.round
    cross = round_(np.sqrt(case.variance1)) * round_(np.sqrt(case.variance2))
    return case.mean1 + case.mean2, round_(
        round_(case.variance1 + case.variance2) + round_(2 * float(case.correlation) * round_(cross))
    )


def _as_sum(case: Case, variance: Array) -> Outputs:
    return np.asarray(case.mean1 + case.mean2), np.asarray(variance)


OPPOSED_SUM = Law(
    id="forward/opposed_sum",
    needs="gaussian_sum",
    statement=r"\sigma_1^2 + \sigma_2^2 + 2\rho\sigma_1\sigma_2 = (\sigma_1 - \sigma_2)^2 + 2(1 + \rho)\sigma_1\sigma_2,"
    r"\quad -1 \le \rho < 0",
    source="elementary",
    cases=_opposed_cases,
    call=lambda impl, c: impl.gaussian_sum(c.mean1, c.variance1, c.mean2, c.variance2, float(c.correlation)),
    expect=_opposed_expected,
    mistakes=(
        Mistake(
            "cancelling_form",
            _cancelled,
            spread=lambda c: (0 * c.mean1, 4 * ROOT * (c.variance1 + c.variance2)),
            rounding=True,
        ),
        Mistake("correlation_ignored", lambda c: _as_sum(c, c.variance1 + c.variance2)),
        Mistake("points_divided_by_zero", lambda c: _as_sum(c, _over_the_sum(c))),
    ),
)


def _over_the_sum(case: Case) -> Array:
    s1, s2 = np.sqrt(case.variance1), np.sqrt(case.variance2)
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = (case.variance1 - case.variance2) / (s1 + s2)
        return np.asarray(difference**2 * (2 + float(case.correlation)) + 2 * (1 + float(case.correlation)) * s1 * s2)


# --- equal means of the narrowest laws --------------------------------------------------------------------------------


def _narrow_cases(source: Source, claim: Claim) -> Case:
    """Log-variances whose exponentials overflow: multiples of 8 near -1500, which bfloat16 holds too."""
    shape = draw_shape(source)
    mean = draw_tensor(source, shape, claim)
    narrow = 8 * np.round(source.numbers(shape, -200.0, -175.0))
    wide = narrow + 8 * np.round(source.numbers(shape, -2.0, 2.0))
    return Case(claim, None, {"mean": mean, "logvar1": wide, "logvar2": narrow})


def _narrow_expected(case: Case) -> tuple[Expected, ...]:
    delta = DoubleDouble.of(case.logvar1) - case.logvar2
    # The difference of two multiples of 8 is exact, so that the exponential does not magnify anything: two roundings of its
    # own, and two sums.
    return (Expected(expm1_minus_x(delta) * 0.5, (np.exp(delta.high) + 1 + np.abs(delta.high)) / 2, 4),)


def _gap(delta: Array) -> Array:
    return np.asarray((np.expm1(delta) - delta) / 2)


EQUAL_MEANS = Law(
    id="divergence/equal_means",
    needs="kl_of_equal_means",
    statement=r"D = \tfrac12\left[e^{\ell_1-\ell_2} - 1 - (\ell_1-\ell_2)\right]\quad\text{for } \mu_1 = \mu_2,"
    r"\text{ also where } e^{-\ell_2}\text{ overflows}",
    source="ho2020, eq. (5)",
    cases=_narrow_cases,
    call=lambda impl, c: impl.kl_of_equal_means(c.mean, c.logvar1, c.logvar2),
    expect=_narrow_expected,
    mistakes=(
        Mistake("zero_times_infinity", lambda c: (_gap(c.logvar1 - c.logvar2) + np.nan,)),
        Mistake("arguments_swapped", lambda c: (_gap(c.logvar2 - c.logvar1),), "E27"),
        Mistake("half_forgotten", lambda c: (2 * _gap(c.logvar1 - c.logvar2),)),
    ),
    kind="metamorphic",
)

# --- levels that are far apart ----------------------------------------------------------------------------------------

FAR, KINDS_OF_FAR = 40, 4


@lru_cache(maxsize=KINDS_OF_FAR)
def _far(seed: int) -> NoiseSchedule:
    """Betas so large that the signal falls by a factor of e^60, and its logarithm has seven bits before the point."""
    return NoiseSchedule.from_betas(np.random.default_rng(seed).uniform(0.6, 0.93, FAR))


def _far_steps(*tensors: str) -> Cases:
    """Cases as `at_step` gives them, from levels of little signal; half of the steps lead far."""

    def cases(source: Source, claim: Claim) -> Case:
        schedule, shape = _far(source.integer(0, KINDS_OF_FAR - 1)), draw_shape(source)
        t, s = draw_pairs(source, shape, schedule.T)
        return Case(claim, schedule, {"t": t, "s": s} | {name: draw_tensor(source, shape, claim) for name in tensors})

    return cases


def _logarithm_in_one_word(case: Case) -> Array:
    """Of alpha_{t|s}: the difference of two rounded logarithms."""
    log = case.claim.computing.round(case.noise_schedule.log_alpha_bar)
    return np.asarray(log[case.t] - log[case.s])


def _of_step(case: Case, factor: float, data: Array) -> Array:
    return spread_over_data(case, np.exp(factor * _logarithm_in_one_word(case))) * data


FAR_BETWEEN = replace(
    BETWEEN,
    id="schedule/between_far_levels",
    cases=_far_steps(),
    mistakes=(
        Mistake("logarithm_in_one_word", lambda c: (np.exp(_logarithm_in_one_word(c)), step(c, "beta")), rounding=True),
        *(mistake for mistake in BETWEEN.mistakes if mistake.name != "complement_of_rounded_tables"),
    ),
)
FAR_MEAN = replace(
    MEAN_VARIANCE,
    id="forward/mean_of_far_levels",
    cases=_far_steps("x"),
    mistakes=(
        Mistake(
            "logarithm_in_one_word",
            lambda c: (_of_step(c, 0.5, c.x), step(c, "beta")),
            claims=("fp32", "fp64"),
            rounding=True,
        ),
        *(mistake for mistake in MEAN_VARIANCE.mistakes if mistake.name != "variance_from_rounded_alpha_bar"),
    ),
)
FAR_REVERSE = replace(
    MEAN_FROM_EPS,
    id="posterior/mean_of_far_levels",
    cases=_far_steps("xt", "eps"),
    mistakes=(
        Mistake(
            "logarithm_in_one_word",
            lambda c: (_of_step(c, -0.5, c.xt) - step(c, "eps_weight") * c.eps,),
            claims=("fp32", "fp64"),
            rounding=True,
        ),
        *(mistake for mistake in MEAN_FROM_EPS.mistakes if mistake.name != "shifted_by_one"),
    ),
)

# --- few different answers --------------------------------------------------------------------------------------------


def _two_answers(source: Source, claim: Claim) -> Case:
    """Two numbers in turn, so that no average hides the roundings of their squares; above 1, where a rounding weighs most."""
    shape = (64, 4) if source.bulk else (source.integer(1, 3), 2 * source.integer(1, 2))

    def in_turn(low: float) -> Array:
        return np.resize(claim.storing.round(source.numbers((2,), low, low + 0.25)), shape)

    return Case(claim, None, {"eps": in_turn(1.0), "noise": in_turn(2.25)})


TWO_ANSWERS = tuple(
    replace(law, id=f"{law.id}_of_two_answers", cases=_two_answers) for law in (EPS_MEAN_SQUARE, RESIDUAL_MEAN_SQUARE)
)

LAWS = (OPPOSED_SUM, EQUAL_MEANS, FAR_BETWEEN, FAR_MEAN, FAR_REVERSE, *TWO_ANSWERS)
