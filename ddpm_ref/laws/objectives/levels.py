"""Laws of how levels are drawn and weighted, and of how a network is told them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import gcd
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.arithmetic.double_double import sqrt
from ddpm_ref.laws.cases import Case, Source, draw_positive, draw_tensor
from ddpm_ref.laws.registry import ROOT, Law, Mistake, Outputs, exact
from ddpm_ref.laws.running import Running, depth, running
from ddpm_ref.typing import Array

# --- levels from one uniform number -----------------------------------------------------------------------------------


def _one_number(source: Source, claim: Claim) -> Case:
    """A number that puts no level nearer to its edges than a third of what it takes to tell two of them apart."""
    # So many levels that the number does not fit into a shorter format than it is claimed to be taken in.
    long = {53: [10, 1, 2, 7, 1000, 10**8], 24: [10, 1, 2, 7, 1000]}
    T = source.choice(long.get(claim.storing.precision, [4, 1, 2, 7]))
    count = source.integer(1, 64 if source.bulk else 8)
    parts = T * (count // gcd(T, count))  # edges of levels, as seen from all examples together
    place = (source.integer(0, parts - 1) + 0.5) / parts
    uniform = claim.storing.round(np.asarray(place))
    if abs(float(uniform) - place) * parts > 1 / 6 or uniform >= 1:
        count, uniform = T, claim.storing.round(np.asarray((source.integer(0, T - 1) + 0.5) / T))
    return Case(claim, None, {"uniform": uniform, "count": np.asarray(count), "T": np.asarray(T)})


def _levels(case: Case, of: Callable[[Fraction, int], Fraction | int], spread: bool = True) -> Outputs:
    """Of the place of each example in [0, 1)."""
    u, count, T = Fraction(float(case.uniform)), int(case.count), int(case.T)
    places = ((u + Fraction(i if spread else 0, count)) % 1 for i in range(count))
    return (np.array([float(of(place, T)) for place in places]),)


def _right_levels(case: Case) -> Outputs:
    return _levels(case, lambda place, T: 1 + int(T * place))


LEVELS = Law(
    id="objectives/antithetic_levels",
    needs="antithetic_levels",
    statement=r"t_i = 1 + \lfloor T\,\mathrm{frac}(u + i/n)\rfloor,\quad i = 0, \dots, n-1",
    source="kingma2021; ho2020, algorithm 1 for the law of each level",
    cases=_one_number,
    call=lambda impl, c: impl.antithetic_levels(float(c.uniform), c.count, c.T),
    expect=lambda c: (exact(DoubleDouble.of(_right_levels(c)[0]), 0),),
    mistakes=(
        Mistake("interval_rounded", lambda c: _levels(c, lambda place, T: round(1 + (T - 1) * place)), "E38"),
        Mistake("interval_cut_off", lambda c: _levels(c, lambda place, T: 1 + int((T - 1) * place)), "E38"),
        Mistake("counted_from_0", lambda c: _levels(c, lambda place, T: int(T * place))),
        Mistake("one_level_for_all", lambda c: _levels(c, lambda place, T: 1 + int(T * place), spread=False)),
        Mistake("not_turned_round_at_the_end", lambda c: (_unturned(c),)),
    ),
    kind="exact",
)


def _unturned(case: Case) -> Array:
    u, count, T = Fraction(float(case.uniform)), int(case.count), int(case.T)
    return np.array([float(min(1 + int(T * (u + Fraction(i, count))), T)) for i in range(count)])


# --- levels drawn more often than others ------------------------------------------------------------------------------


def _second_moments(source: Source, claim: Claim) -> Case:
    T = 1024 if source.bulk else source.integer(1, 8)
    share = source.choice([0.0, 1.0, 0.25, None])
    drawn = np.asarray(source.numbers((), 2.0**-10, 1.0) if share is None else share)
    moments = draw_positive(source, (T,), claim, 1e-6, 1e4)
    return Case(claim, None, {"second_moments": moments, "uniform_share": claim.storing.round(drawn)})


def _probabilities_expected(case: Case) -> tuple[Expected, ...]:
    roots, share, T = sqrt(case.second_moments), float(case.uniform_share), len(case.second_moments)
    total = roots.sum().reshape((1,))
    value = roots / total * (1.0 - DoubleDouble.of(share)) + DoubleDouble.of(share) / float(T)
    # Nothing is negative: two roots, the sum of all, its quotient; the share and its product, the sum of both parts.
    return (exact(value, 2 * ROOT + depth(T) + 4),)


def _mixed(case: Case, law: Array, share: float | None = None) -> Outputs:
    share = float(case.uniform_share) if share is None else share
    return ((1 - share) * law / law.sum() + share / len(law),)


PROBABILITIES = Law(
    id="objectives/importance_probabilities",
    needs="importance_probabilities",
    statement=r"p_t = (1-\rho)\frac{\sqrt{\mathbb E[L_t^2]}}{\sum_r\sqrt{\mathbb E[L_r^2]}} + \frac\rho T",
    source="nichol2021, section 3.3",
    cases=_second_moments,
    call=lambda impl, c: impl.importance_probabilities(c.second_moments, float(c.uniform_share)),
    expect=_probabilities_expected,
    mistakes=(
        Mistake("root_forgotten", lambda c: _mixed(c, c.second_moments)),
        Mistake("share_added_without_a_rest", lambda c: (_mixed(c, np.sqrt(c.second_moments), 0.0)[0] + _share(c),)),
        Mistake("share_forgotten", lambda c: _mixed(c, np.sqrt(c.second_moments), 0.0)),
        Mistake("not_normalised", lambda c: (np.sqrt(c.second_moments),)),
    ),
    kind="reduction",
)


def _share(case: Case) -> Array:
    return np.asarray(case.uniform_share / len(case.second_moments))


PARTS = 128  # in which probabilities are counted, so that they are exact in every format and sum to 1


def _drawn_unevenly(source: Source, claim: Claim) -> Case:
    """Probabilities of a few levels, and their losses."""
    T = 64 if source.bulk else source.choice([1, 2, 3, 4, 7])
    shares = np.abs(source.numbers((T,), 0.0, 1.0)) + 2.0**-20
    counts = 1 + np.floor((PARTS - T) * shares / shares.sum())
    counts[0] += PARTS - counts.sum()
    return Case(claim, None, {"probabilities": counts / PARTS, "losses": draw_tensor(source, (T,), claim)})


WEIGHTS = Law(
    id="objectives/importance_weights",
    needs="importance_weights",
    statement=r"w_t = \frac1{T p_t}",
    source="nichol2021, section 3.3",
    cases=_drawn_unevenly,
    call=lambda impl, c: impl.importance_weights(c.probabilities),
    expect=lambda c: (exact(1.0 / (DoubleDouble.of(c.probabilities) * float(len(c.probabilities))), 2),),
    mistakes=(
        Mistake("number_of_levels_forgotten", lambda c: (1 / c.probabilities,)),
        Mistake("multiplied_instead_of_divided", lambda c: (len(c.probabilities) * c.probabilities,)),
        Mistake("left_away", lambda c: (np.ones_like(c.probabilities),)),
        Mistake("root_of_the_weight", lambda c: (1 / np.sqrt(len(c.probabilities) * c.probabilities),)),
    ),
)


def _unbiased_expected(case: Case) -> tuple[Expected, ...]:
    stored, T = case.stored_between_calls, len(case.losses)
    each = running(case, DoubleDouble.of(case.losses) / float(T), 2 + stored + 2 * (1 + stored))
    return (each.sum(depth(T) + stored).expected(),)


def _expected_term(case: Case, weights: Array) -> Outputs:
    return (np.asarray(np.sum(case.probabilities * weights * case.losses)),)


UNBIASED = Law(
    id="objectives/expected_sampled_term",
    needs="importance_weights",
    statement=r"\sum_t p_t\,w_tL_t = \frac1T\sum_t L_t:\quad \text{T times a sampled term is the sum of all, on average}",
    source="nichol2021, section 3.3; elementary",
    cases=_drawn_unevenly,
    call=lambda impl, c: (c.probabilities * impl.importance_weights(c.probabilities) * c.losses).sum(),
    expect=_unbiased_expected,
    mistakes=(
        Mistake("weights_left_away", lambda c: _expected_term(c, np.ones_like(c.losses)), "E30"),
        Mistake("number_of_levels_forgotten", lambda c: _expected_term(c, 1 / c.probabilities)),
        Mistake("weighted_by_the_probability", lambda c: _expected_term(c, len(c.losses) * c.probabilities)),
    ),
    kind="reduction",
)

# --- how a network is told the time -----------------------------------------------------------------------------------


def _some_levels(source: Source, claim: Claim) -> Case:
    count = 64 if source.bulk else source.integer(1, 4)
    levels = [source.integer(1, 1000) for _ in range(count)]
    return Case(claim, None, {"t": np.array(levels, dtype=np.int64)})


CLOCK = Law(
    id="objectives/timestep_clock",
    needs="network_time",
    statement=r"t - 1\ \text{(zero_based)}\quad\text{or}\quad t\ \text{(one_based)},\ t = 1, \dots, T".replace(
        "_", r"\_"
    ),
    source="ho2020, algorithm 1 and code",
    cases=_some_levels,
    call=lambda impl, c: (impl.network_time(c.t, "zero_based"), impl.network_time(c.t, "one_based")),
    expect=lambda c: tuple(exact(DoubleDouble.of(np.asarray(c.t - k, dtype=np.float64)), 0) for k in (1, 0)),
    mistakes=(
        Mistake("bases_exchanged", lambda c: (1.0 * c.t, c.t - 1.0)),
        Mistake("one_base_for_both", lambda c: (c.t - 1.0, c.t - 1.0)),
        Mistake("shifted_by_one", lambda c: (1.0 * c.t, c.t + 1.0)),
        Mistake("scaled_to_the_unit_interval", lambda c: ((c.t - 1) / 1000, c.t / 1000)),
    ),
    kind="exact",
)

ANGLE = 3  # the frequency, a power, and its product with the time


def _times(source: Source, claim: Claim) -> Case:
    """Pairs of times, and the same pairs later by as much."""
    count = 64 if source.bulk else source.integer(1, 4)
    last = 120 if claim.storing.precision < 24 else 500  # whole numbers that every format holds, twice over
    first, second, later = (np.array([float(source.integer(0, last)) for _ in range(count)]) for _ in range(3))
    dimension = source.choice([2, 4, 8, 32])
    values = {"first": first, "second": second, "first_later": first + later, "second_later": second + later}
    return Case(claim, None, values | {"dimension": np.asarray(dimension)})


def _products(impl: Any, c: Any) -> tuple[object, object]:
    """The squared norm, and how much the inner product of two times changes if both are later."""
    one, two, one_later, two_later = (
        impl.sinusoidal_embedding(time, c.dimension) for time in (c.first, c.second, c.first_later, c.second_later)
    )
    return (one * one).sum(-1), (one * two).sum(-1) - (one_later * two_later).sum(-1)


def _frequencies(case: Case) -> Array:
    half = int(case.dimension) // 2
    return np.asarray(10_000.0 ** (-np.arange(half) / half))


def _embedding_expected(case: Case) -> tuple[Expected, ...]:
    """An error of the angle moves a wave by as much at most; waves and their products are at most 1."""
    waves, stored = int(case.dimension), case.stored_between_calls
    lag = 2 * ANGLE * _frequencies(case).sum()  # of a cosine and a sine together, per unit of time
    each = waves * (2 + stored)  # the function and its storage
    product = waves * (1 + stored + depth(waves))

    def inner(*times: Array) -> Array:
        return np.asarray(sum(lag * time + each for time in times) + product)

    norm = Running(
        DoubleDouble.of(np.full(case.first.shape, waves / 2)), inner(case.first, case.first), case.claim.computing.u
    )
    both = inner(case.first, case.second) + inner(case.first_later, case.second_later) + 2 * (1 + 2 * stored) * waves
    zero = DoubleDouble.of(np.zeros(case.first.shape))
    return norm.stored(case).expected(), Running(zero, both, norm.u).expected()


def _waves(case: Case, cosine: Callable[[Array], Array], sine: Callable[[Array], Array]) -> Outputs:
    """With other functions in the place of the two."""

    def embedded(time: Array) -> Array:
        angles = time[:, None] * _frequencies(case)
        return np.concatenate([cosine(angles), sine(angles)], axis=1)

    one, two, one_later, two_later = (
        embedded(case.values[name]) for name in ("first", "second", "first_later", "second_later")
    )
    return (one * one).sum(-1), (one * two).sum(-1) - (one_later * two_later).sum(-1)


EMBEDDING = Law(
    id="objectives/time_embedding",
    needs="sinusoidal_embedding",
    statement=r"\lVert\mathrm{emb}(t)\rVert^2 = \frac D2,\quad"
    r"\langle\mathrm{emb}(t+h), \mathrm{emb}(t'+h)\rangle = \langle\mathrm{emb}(t), \mathrm{emb}(t')\rangle",
    source="vaswani2017, section 3.5; ho2020, appendix B",
    cases=_times,
    call=_products,
    expect=_embedding_expected,
    mistakes=(
        Mistake("cosines_only", lambda c: _waves(c, np.cos, np.cos)),
        Mistake("sines_only", lambda c: _waves(c, np.sin, np.sin)),
        Mistake("waves_of_half_the_size", lambda c: _waves(c, lambda x: np.cos(x) / 2, lambda x: np.sin(x) / 2)),
        Mistake("other_frequencies_for_the_sines", lambda c: _waves(c, np.cos, lambda x: np.sin(x / 2))),
    ),
    kind="reduction",
)

LAWS = (LEVELS, PROBABILITIES, WEIGHTS, UNBIASED, CLOCK, EMBEDDING)
