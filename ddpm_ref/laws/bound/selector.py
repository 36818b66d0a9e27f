"""Laws of the term that a step has, in bits per dimension, and of bits and nats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.arithmetic.double_double import LN2, log, where
from ddpm_ref.laws.bound.reconstruction import (
    density,
    grey_case,
    minus_log_density,
    minus_log_probability,
    probability,
    probability_by_tanh,
)
from ddpm_ref.laws.bound.terms import denoising, divergence, next_level, posterior_log_variance, posterior_mean
from ddpm_ref.laws.cases import Case, Source, draw_pairs, draw_schedule, draw_shape, draw_tensor, spread_over_data
from ddpm_ref.laws.registry import Law, Mistake, Outputs, exact
from ddpm_ref.laws.running import FUNCTION, Running, depth, running
from ddpm_ref.typing import Array, BoolArray

CONVERSION = 3  # the constant, its product with the dimension, the quotient

# --- one number per example -------------------------------------------------------------------------------------------

EXAMPLES: list[tuple[int, ...]] = [(3,), (), (1,), (2, 3), (4, 1, 2), (2, 3, 2)]


def _steps(source: Source, claim: Claim) -> Case:
    """Data on a grid, each example at a step of its own, many of them to level 0; or one step for all."""
    schedule = draw_schedule(source)
    shape = (64, 64) if source.bulk else source.choice(EXAMPLES)
    t, s = draw_pairs(source, shape, schedule.T)
    if t.ndim:
        last = np.array([source.choice([True, False]) for _ in t])
        t, s = np.where(last, 1, t), np.where(last, 0, s)
    values = {"xt": draw_tensor(source, shape, claim), "t": t, "s": s}
    return Case(claim, schedule, grey_case(source, claim, shape) | values)


def _last(case: Case) -> BoolArray:
    """Which elements belong to a step to level 0."""
    return np.broadcast_to(spread_over_data(case, np.asarray(case.s == 0)), case.x0.shape)


def _chosen(case: Case, nats: Running) -> Running:
    """Of two terms the one that an element has."""
    model = running(case, case.mean), running(case, case.log_variance)
    inner = divergence(posterior_mean(case), posterior_log_variance(case), *model)
    last = _last(case)
    return Running(where(last, nats.value, inner.value), np.where(last, nats.error, inner.error), nats.u)


def _per_example(case: Case, nats: Running) -> Expected:
    rows = (*np.shape(case.t), -1)
    flat = Running(nats.value.reshape(rows), nats.error.reshape(rows), nats.u)
    dimension = flat.error.shape[-1]
    summed = flat.sum(depth(dimension))
    bits = LN2 * float(dimension)
    per_dimension = Running(summed.value / bits, summed.error / bits.high, summed.u)
    return per_dimension.through(CONVERSION + 1).expected()


def _selected_expected(case: Case) -> tuple[Expected, ...]:
    both = minus_log_density(case), minus_log_probability(case)
    first, second = (_per_example(case, _chosen(case, nats)) for nats in both)
    return first, second


def _in_bits(case: Case, inner: Array, last: tuple[Array, Array] | None = None, *, summed: bool = False) -> Outputs:
    """With these terms above level 0 and, unless they are left as they are, at level 0."""
    rows, at_0 = (*np.shape(case.t), -1), _last(case)
    found = []
    for outer in (density(case), probability(case)) if last is None else last:
        nats = np.where(at_0, outer, inner).reshape(rows)
        found.append((nats.sum(axis=-1) if summed else nats.mean(axis=-1)) / np.log(2))
    return tuple(found)


def _scaled(case: Case, factor: float, summed: bool = False) -> Outputs:
    first, second = _in_bits(case, denoising(case), summed=summed)
    return factor * first, factor * second


def _negative_data(case: Case) -> Outputs:
    return _in_bits(case, denoising(case), (-density(case), -probability(case)))


def _divergence_everywhere(case: Case) -> Outputs:
    """What comes of a table that holds a floor where the posterior variance is 0."""
    return _in_bits(case, denoising(case), (denoising(case), denoising(case)))


def _by_tanh(case: Case) -> Outputs:
    return _in_bits(case, denoising(case), (density(case), probability_by_tanh(case)))


def _likelihood_everywhere(case: Case) -> Outputs:
    return _in_bits(case, density(case))


def _likelihood_up_to_level(case: Case, s: int) -> Outputs:
    """The choice made by an index that begins at another number."""
    early = np.broadcast_to(spread_over_data(case, np.asarray(case.s <= s)), case.x0.shape)
    return _in_bits(case, np.where(early, density(case), denoising(case)))


def _doubled(case: Case) -> Outputs:
    wrong = Case(case.claim, case.schedule, {**case.values, "log_variance": 2 * case.log_variance})
    return _in_bits(case, denoising(wrong), (density(wrong), probability(wrong)))


SELECTOR = Law(
    id="bound/term_selector",
    needs="bound_term",
    statement=r"\frac1{d\ln 2}\begin{cases} -\log p_\theta(x_0\mid x_t) & s = 0 \\"
    r" D(q(x_s\mid x_t, x_0)\,\Vert\,p_\theta(x_s\mid x_t)) & s \ge 1 \end{cases},\ \text{one number per example}",
    source="ho2020, eq. (5); nichol2021, eq. (4)-(7) and code",
    cases=_steps,
    call=lambda impl, c: tuple(
        impl.bound_term(c.schedule, c.x0, c.xt, c.t, c.s, c.mean, c.log_variance, levels) for levels in (None, c.levels)
    ),
    expect=_selected_expected,
    mistakes=(
        Mistake("arguments_swapped", lambda c: _in_bits(c, denoising(c, swapped=True)), "E27"),
        Mistake("sign_of_the_reconstruction", _negative_data, "E24"),
        Mistake("sign_of_the_divergences", lambda c: _in_bits(c, -denoising(c)), "E25"),
        Mistake("step_of_the_next_level", lambda c: _in_bits(c, denoising(next_level(c))), "E28"),
        Mistake("posterior_variance_floored_at_level_0", _divergence_everywhere, "E36"),
        Mistake("tanh_for_the_distribution_function", _by_tanh),
        Mistake("likelihood_at_every_level", _likelihood_everywhere),
        Mistake("likelihood_up_to_level_1", lambda c: _likelihood_up_to_level(c, 1), "E28"),
        Mistake("log_variance_taken_for_log_std", _doubled),
        Mistake("nats_taken_for_bits", lambda c: _scaled(c, np.log(2))),
        Mistake("divided_by_the_decimal_logarithm", lambda c: _scaled(c, np.log(2) / np.log10(2))),
        Mistake("sum_for_mean", lambda c: _scaled(c, 1.0, summed=True)),
    ),
    kind="reduction",
)

# --- units ------------------------------------------------------------------------------------------------------------


def _amounts(source: Source, claim: Claim) -> Case:
    """Nats, or bits, of images, how many components these have, and how many levels."""
    values = {"nats": draw_tensor(source, draw_shape(source), claim)}
    dimension = source.choice([1, 2, 3, 64, 3072])
    levels = source.choice([256, 2, 3, 17, 1000])
    return Case(claim, None, values | {"dimension": np.asarray(dimension), "levels": np.asarray(levels)})


def _bits(case: Case) -> DoubleDouble:
    return DoubleDouble.of(case.nats) / (LN2 * float(case.dimension))


def _float_bits(case: Case) -> Array:
    return np.asarray(case.nats / (int(case.dimension) * np.log(2)))


BITS = Law(
    id="bound/bits_per_dim",
    needs="bits_per_dim",
    statement=r"\frac{\text{nats}}{d\,\ln 2}",
    source="ho2020, section 4",
    cases=_amounts,
    call=lambda impl, c: impl.bits_per_dim(c.nats, c.dimension),
    expect=lambda c: (exact(_bits(c), CONVERSION),),
    mistakes=(
        Mistake("dimension_forgotten", lambda c: (c.nats / np.log(2),)),
        Mistake("nats_taken_for_bits", lambda c: (c.nats / int(c.dimension),)),
        Mistake("multiplied_by_the_logarithm", lambda c: (c.nats / int(c.dimension) * np.log(2),)),
        Mistake("decimal_logarithm", lambda c: (c.nats / (int(c.dimension) * np.log10(2)),)),
    ),
)

NATS = Law(
    id="bound/nats_per_image",
    needs="nats_per_image",
    statement=r"\text{bits}\cdot d\,\ln 2",
    source="ho2020, section 4",
    cases=_amounts,
    call=lambda impl, c: impl.nats_per_image(c.nats, c.dimension),
    expect=lambda c: (exact(LN2 * float(c.dimension) * c.nats, CONVERSION),),
    mistakes=(
        Mistake("dimension_forgotten", lambda c: (c.nats * np.log(2),)),
        Mistake("bits_taken_for_nats", lambda c: (c.nats * int(c.dimension),)),
        Mistake("the_other_direction", lambda c: (_float_bits(c),)),
    ),
)


def _continuous_expected(case: Case) -> tuple[Expected, ...]:
    first = running(case, _bits(case), CONVERSION)
    width = log((DoubleDouble.of(float(case.levels)) - 1.0) * 0.5) / LN2
    # A logarithm to the base 2, or the quotient of two others; a difference of two of them for who halves last.
    second = Running(width, FUNCTION * (np.abs(width.high) + 2) + np.abs(width.high), first.u)
    both = replace(second, value=second.value + DoubleDouble.of(np.zeros(first.value.shape)))
    return ((first + both).expected(),)


def _with_width(case: Case, width: float) -> Outputs:
    return (_float_bits(case) + width,)


CONTINUOUS_BITS = Law(
    id="bound/continuous_bits_per_dim",
    needs="continuous_bits_per_dim",
    statement=r"\frac{\text{nats}}{d\,\ln 2} + \log_2\frac{L-1}2",
    source="ho2020, section 4, for a density",
    cases=_amounts,
    call=lambda impl, c: impl.continuous_bits_per_dim(c.nats, c.dimension, c.levels),
    expect=_continuous_expected,
    mistakes=(
        Mistake("sign_of_the_width", lambda c: _with_width(c, -np.log2((int(c.levels) - 1) / 2))),
        Mistake("width_forgotten", lambda c: _with_width(c, 0.0)),
        Mistake("width_in_nats", lambda c: _with_width(c, np.log((int(c.levels) - 1) / 2))),
        Mistake("data_on_the_unit_interval", lambda c: _with_width(c, np.log2(int(c.levels) - 1))),
        Mistake("as_many_bins_as_levels", lambda c: _with_width(c, np.log2(int(c.levels) / 2))),
        Mistake("width_per_image", lambda c: _with_width(c, np.log2((int(c.levels) - 1) / 2) / int(c.dimension))),
    ),
)

LAWS = (SELECTOR, BITS, NATS, CONTINUOUS_BITS)
