"""Laws of whole samplers, tried on data whose best network is known: moments of the samples, orders of convergence.

For normal data the best prediction is affine in the state, and so is a step. What a sampler makes of zeros and of unit
impulses in its start and in each of its noises is then all that there is to know of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.errors import LevelError
from ddpm_ref.laws.cases import Case, Cases, Source, at, at_s, step
from ddpm_ref.laws.family import FAMILY_GAP, MISTAKES, levels_of, of_case, rise, walks, with_eta
from ddpm_ref.laws.plan import ANCESTRAL_EPS, DDIM_EPS, eps_rows, silent_end
from ddpm_ref.laws.registry import Law, Mistake, Outputs
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array, IntArray

Columns: TypeAlias = Sequence[DoubleDouble | Array]  # of the state, of eps and of the noise

# The longest coefficient, the three terms of a step, and the network: a product and a difference.
STEP = FAMILY_GAP + 3 + 2


# --- the best network of normal data, its slopes and shifts rounded to the storage format -----------------------------


def _network(schedule: NoiseSchedule, t: IntArray, mean: Array, variance: Array, claim: Claim) -> dict[str, Array]:
    r"""Slope and shift of eps* = slope x_t - shift at some levels, shape ``(levels, dimensions)``."""
    root = schedule.sqrt_beta_bar[t, None]
    slope = root / (schedule.alpha_bar[t, None] * variance + root**2)
    shift = slope * schedule.sqrt_alpha_bar[t, None] * mean
    return {"slope": claim.storing.round(slope), "shift": claim.storing.round(shift)}


def answers(c: Any) -> Callable[[Any, int], Any]:
    """The network of a case, as an implementation may ask it: a state and the paper's level."""
    row = {int(t): k for k, t in enumerate(c.t)}

    def network(x: Any, t: int) -> Any:
        if int(t) not in row:
            raise LevelError(
                f"the network was asked at level {int(t)}; this walk asks it at {', '.join(map(str, row))}"
            )
        return c.slope[row[int(t)]] * x - c.shift[row[int(t)]]

    return network


@dataclass(frozen=True)
class _State:
    """A state in two words, and how far from it roundings may lead, in units of ``STEP`` roundings."""

    value: DoubleDouble
    scale: Array


def _taken(case: Case, state: _State, columns: Columns, k: int, asked: int, noise: Array | float) -> _State:
    """One step: the error so far is multiplied by the gain, and every term of the step adds its own."""
    a, b, c = (_entry(column, k) for column in columns)
    slope, shift = case.slope[asked], case.shift[asked]
    moved = state.value * slope
    answer, kick = moved - shift, c * noise
    value = a * state.value + b * answer + kick
    drift = STEP * case.claim.computing.u * state.scale  # the state that is really there may be larger by this
    here, seen = np.abs(state.value.high) + drift, np.abs(moved.high) + np.abs(slope) * drift
    size = np.abs(a.high) * here + np.abs(b.high) * (seen + np.abs(shift)) + np.abs(kick.high)
    stored = np.abs(b.high) * (2 * seen + np.abs(shift)) + size
    gain = np.abs((a + b * slope).high)
    return _State(value, gain * state.scale + size + case.stored_between_calls * stored / STEP)


def _entry(column: DoubleDouble | Array, k: int) -> DoubleDouble:
    return DoubleDouble.of(column[k]) if isinstance(column, np.ndarray) else DoubleDouble(column.high[k], column.low[k])


def _walked(case: Case, columns: Columns) -> _State:
    """The last state, from the start and the noises of the case."""
    state = _State(DoubleDouble.of(case.start), np.zeros(case.start.shape))
    for k in range(len(case.t)):
        state = _taken(case, state, columns, k, k, case.noises[k])
    return state


# --- moments of the samples -------------------------------------------------------------------------------------------


def impulses(cases: Cases) -> Cases:
    """Walks with normal data of any means and variances, and a batch of zeros and of one impulse each."""

    def drawn(source: Source, claim: Claim) -> Case:
        case = cases(source, claim)
        steps, dimensions = len(case.t), 64 if source.bulk else source.choice([1, 3])
        mean, variance = source.numbers((dimensions,), -2.0, 2.0), np.exp(source.numbers((dimensions,), -4.0, 2.0))
        network = _network(case.noise_schedule, case.t, mean, variance, claim)
        start = np.zeros((steps + 2, dimensions))
        noises = np.zeros((steps, steps + 2, dimensions))
        start[1] = 1.0
        noises[np.arange(steps), np.arange(steps) + 2] = 1.0
        return Case(claim, case.schedule, {**case.values, **network, "start": start, "noises": noises})

    return drawn


def of_impulses(x: Any) -> tuple[Any, Any]:
    """Mean and variance of the samples: from zeros comes the mean, from an impulse the mean and one deviation."""
    mean, variance = x[0], 0.0
    for row in range(1, len(x)):
        variance = variance + (x[row] - mean) * (x[row] - mean)
    return mean, variance


def moments(case: Case, columns: Columns) -> tuple[Expected, Expected]:
    """Mean and variance of the samples that these rows make of the start and the noises of a case of `impulses`."""
    last = _walked(case, columns)
    mean = _row(last.value, slice(0, 1))
    apart = _row(last.value, slice(1, None)) - mean
    away, once = np.abs(apart.high), (1 + case.stored_between_calls) / STEP  # what one more rounding costs
    far = last.scale[1:] + last.scale[:1] + once * away
    squares = away * (2 * far + STEP * case.claim.computing.u * far**2 / np.maximum(away, 1e-300)) + once * away**2
    variance = (apart * apart).sum(0)
    summed = len(away) * once * variance.high
    return (
        Expected(mean.reshape(mean.shape[1:]), last.scale[0], STEP),
        Expected(variance, squares.sum(0) + summed, STEP),
    )


def _row(words: DoubleDouble, rows: slice) -> DoubleDouble:
    return DoubleDouble(words.high[rows], words.low[rows])


def wrong_moments(case: Case, columns: Sequence[Array], *, asked: int = 0) -> Outputs:
    """Moments from mistaken rows, or from the right ones with a network asked so many steps later."""
    slope, shift = (np.concatenate([v[asked:], np.zeros((asked, v.shape[1]))]) for v in (case.slope, case.shift))
    x = case.start
    for k, (a, b, c) in enumerate(zip(*map(np.ravel, columns), strict=True)):
        x = a * x + b * (slope[k] * x - shift[k]) + c * case.noises[k]
    return x[0], np.asarray(np.sum((x[1:] - x[0]) ** 2, axis=0))


def _columns_of(mistaken: Outputs, of: int) -> Sequence[Array]:
    """The rows of one sampler from an output of a law of plans."""
    return mistaken[0], mistaken[1], mistaken[2 + of]


def _ancestral(impl: Any, c: Any) -> tuple[object, ...]:
    levels, network = levels_of(c), answers(c)
    made = (
        impl.ancestral_sample(c.schedule, levels, network, c.start, c.noises, kind) for kind in ("posterior", "beta")
    )
    return tuple(moment for x in made for moment in of_impulses(x))


def ancestral_columns(case: Case) -> tuple[Columns, Columns]:
    """The rows of ancestral sampling in eps form, with the posterior variance and with beta."""
    mean = case.step("recip_sqrt_alpha"), -case.step("eps_weight")
    return (*mean, case.step("std_tilde")), (*mean, silent_end(case.step("sqrt_beta")))


def ancestral_mistakes() -> tuple[Mistake, ...]:
    """The mistakes of the plans, and a network asked too late, as they show in the moments of both variances."""

    def value(planted: Callable[[Case], Outputs]) -> Callable[[Case], Outputs]:
        return lambda c: tuple(m for of in (0, 1) for m in wrong_moments(c, _columns_of(planted(c), of)))

    def asked_late(c: Case) -> Outputs:
        right = [[high(column) for column in columns] for columns in ancestral_columns(c)]
        return tuple(m for columns in right for m in wrong_moments(c, columns, asked=1))

    rows = [Mistake(m.name, value(m.value), m.erratum) for m in ANCESTRAL_EPS.mistakes]
    return *rows, Mistake("network_asked_at_the_end_of_the_step", asked_late)


def high(column: DoubleDouble | Array) -> Array:
    """A column in float64."""
    return column if isinstance(column, np.ndarray) else column.high


ANCESTRAL_MOMENTS = Law(
    id="oracle/ancestral_moments",
    needs="ancestral_sample",
    statement=r"x_T\sim\mathcal N(0,I),\ \varepsilon^*\ \text{of normal data}:\quad m_s = g_t m_t - b_t d_t,"
    r"\ v_s = g_t^2 v_t + \sigma_t^2,\quad g_t = a_t + b_t\,\partial\varepsilon^*/\partial x_t",
    source="ho2020, algorithm 2; bao2022, section 3 for the network",
    cases=impulses(walks(zero_snr=False)),
    call=_ancestral,
    expect=lambda c: tuple(moment for columns in ancestral_columns(c) for moment in moments(c, columns)),
    mistakes=ancestral_mistakes(),
    kind="metamorphic",
)


def ddim_columns(case: Case) -> Columns:
    """The rows of DDIM in eps form, for the eta of a case."""
    m, x = of_case(case), case.step("recip_sqrt_alpha")
    return x, -(m.gap * x / m.root), m.std


def ddim_mistakes() -> tuple[Mistake, ...]:
    """The mistakes of the plans, and a network asked too late, as they show in the moments."""

    def value(planted: Callable[[Case], Outputs]) -> Callable[[Case], Outputs]:
        return lambda c: wrong_moments(c, _columns_of(planted(c), 0))

    rows = [Mistake(m.name, value(m.value), m.erratum) for m in DDIM_EPS.mistakes]
    late = Mistake(
        "network_asked_at_the_end_of_the_step",
        lambda c: wrong_moments(c, [high(column) for column in ddim_columns(c)], asked=1),
    )
    return *rows, late


DDIM_MOMENTS = Law(
    id="oracle/ddim_moments",
    needs="ddim_sample",
    statement=r"x_T\sim\mathcal N(0,I),\ \varepsilon^*\ \text{of normal data}:\quad m_s = g_t m_t - b_t d_t,"
    r"\ v_s = g_t^2 v_t + \eta^2\tilde\beta_{t|s},\quad g_t = a_t + b_t\,\partial\varepsilon^*/\partial x_t",
    source="song2020ddim, eq. (12) and (16)",
    cases=with_eta(impulses(walks(zero_snr=False))),
    call=lambda impl, c: of_impulses(
        impl.ddim_sample(c.schedule, levels_of(c), answers(c), c.start, c.noises, float(c.eta))
    ),
    expect=lambda c: moments(c, ddim_columns(c)),
    mistakes=ddim_mistakes(),
    kind="metamorphic",
)

# --- orders of convergence --------------------------------------------------------------------------------------------


def _even_angles(source: Source, claim: Claim) -> Case:
    """A schedule whose angles grow evenly, all its levels downwards, and normal data of some deviations."""
    schedule = _even_schedule(
        2 * source.choice([4, 8, 16, *([32] if source.bulk else [])]), source.choice([1.0, 0.5, 1.5])
    )
    t = np.arange(schedule.T, 0, -1)
    deviation = claim.storing.round(np.exp(source.numbers((64 if source.bulk else 3,), np.log(0.25), np.log(4.0))))
    start = np.sqrt(schedule.alpha_bar[-1] * deviation**2 + schedule.beta_bar[-1])
    values = {
        "t": t,
        "s": t - 1,
        **_network(schedule, t, np.zeros(len(deviation)), deviation**2, claim),
        "deviation": deviation,
        "start": claim.storing.round(start),
    }
    return Case(claim, schedule, values)


@lru_cache(maxsize=16)
def _even_schedule(T: int, angle: float) -> NoiseSchedule:
    return NoiseSchedule.from_alpha_bars(np.cos(angle * np.arange(1, T + 1) / T) ** 2)


def _every(case: Any, stride: int) -> tuple[int, ...]:
    return tuple(range(int(case.t[0]), -1, -stride))


def _strided(case: Case, stride: int) -> Case:
    """The case of the walk that visits every level, or every second."""
    t = np.array(_every(case, stride)[:-1], dtype=np.int64)
    return Case(case.claim, case.schedule, {**case.values, "t": t, "s": t - stride, "eta": np.asarray(0.0)})


def _ratio(claim: Claim, errors: Sequence[_State]) -> tuple[Expected]:
    """Error of the coarse walk over that of the fine one."""
    coarse, fine = (error.value for error in errors)
    ratio, least = coarse / fine, np.abs(fine.high) - STEP * claim.computing.u * errors[1].scale
    scale = (errors[0].scale + np.abs(ratio.high) * errors[1].scale) / least + np.abs(ratio.high)
    return (Expected(ratio, scale, STEP),)


def _down(case: Case, start: _State, stride: int) -> _State:
    """Deterministic DDIM from T to 0."""
    columns, state = ddim_columns(_strided(case, stride)), start
    for k in range(len(case.t) // stride):
        state = _taken(case, state, columns, k, k * stride, 0.0)
    return state


def _up(case: Case, start: _State, stride: int) -> _State:
    """Its inversion, from 0 to T; at level 0 the network is asked at the first noisy level."""
    walk, state = _strided(case, stride), start
    columns = walk.step("sqrt_alpha"), rise(walk), np.zeros(len(walk.t))
    for k in reversed(range(len(walk.t))):
        asked = min(k + 1, len(walk.t) - 1) * stride
        state = _taken(case, state, columns, k, asked, 0.0)
    return state


def _missing(case: Case, reached: _State, wanted: Array) -> _State:
    return _State(wanted - reached.value, reached.scale + (1 + case.stored_between_calls) * np.abs(wanted) / STEP)


def _order_call(impl: Any, c: Any) -> object:
    network, silent = answers(c), [0.0 * c.start] * len(c.t)
    coarse, fine = (
        c.deviation - impl.ddim_sample(c.schedule, levels, network, c.start, silent[: len(levels) - 1], 0.0)
        for levels in (_every(c, 2), _every(c, 1))
    )
    return coarse / fine


def _order_expected(case: Case) -> tuple[Expected]:
    start = _State(DoubleDouble.of(case.start), np.zeros(case.start.shape))
    return _ratio(case.claim, [_missing(case, _down(case, start, stride), case.deviation) for stride in (2, 1)])


# Mistaken rows of deterministic DDIM; those of the noise are not seen at eta = 0.
_ROWS = ("signal_of_level_t", "levels_of_the_full_chain", "improved_ddpm_whatever_eta")


def _gain(case: Case, stride: int, mistake: str | None = None, late: int = 0) -> Array:
    """What a walk multiplies a state by, with mistaken rows or a network asked late."""
    walk = _strided(case, stride)
    right = [high(column) for column in ddim_columns(walk)]
    columns = right if mistake is None else eps_rows(walk, MISTAKES[mistake][1](walk))
    a, b = (np.ravel(column) for column in columns[:2])
    asked = np.minimum(np.arange(len(walk.t)) + late, len(walk.t) - 1) * stride
    return np.asarray(np.prod(a[:, None] + b[:, None] * case.slope[asked], axis=0))


def _order_of(mistake: str | None = None, late: int = 0) -> Callable[[Case], Outputs]:
    def value(case: Case) -> Outputs:
        coarse, fine = (case.deviation - _gain(case, stride, mistake, late) * case.start for stride in (2, 1))
        return (coarse / fine,)

    return value


DDIM_ORDER = Law(
    id="oracle/ddim_order",
    needs="ddim_sample",
    statement=r"\text{levels even in the angle}:\quad e_K / e_{2K} \to 2,"
    r"\quad e_K = \sqrt{\mathrm{Var}\,x_0} - \sqrt{\mathrm{Var}\,\hat x_0}\ \text{after}\ K\ \text{steps}",
    source="song2020ddim, section 4.3: Euler's method",
    cases=_even_angles,
    call=_order_call,
    expect=_order_expected,
    mistakes=(
        *(Mistake(name, _order_of(name), MISTAKES[name][0]) for name in _ROWS),
        Mistake("network_asked_at_the_end_of_the_step", _order_of(late=1)),
    ),
    kind="coefficient",
)


def _round_trip_call(impl: Any, c: Any) -> object:
    network, one = answers(c), c.deviation / c.deviation
    silent = [0.0 * one] * len(c.t)
    lost = []
    for stride in (2, 1):
        levels = _every(c, stride)
        noisy = impl.ddim_invert(c.schedule, levels, network, one)
        lost.append(one - impl.ddim_sample(c.schedule, levels, network, noisy, silent[: len(levels) - 1], 0.0))
    return lost[0] / lost[1]


def _round_trip_expected(case: Case) -> tuple[Expected]:
    ones = np.ones(case.start.shape)
    one = _State(DoubleDouble.of(ones), 0 * ones)
    return _ratio(case.claim, [_missing(case, _down(case, _up(case, one, stride), stride), ones) for stride in (2, 1)])


def _ascent(case: Case, stride: int, *, late: int = 1, unscaled: bool = False, whole: bool = False) -> Array:
    """What the way up multiplies a state by; ``late`` 1 asks where a step starts, 0 where it ends."""
    walk = _strided(case, stride)
    x = np.ones(len(walk.t)) if unscaled else step(walk, "sqrt_alpha").ravel()
    climb = step(walk, "sqrt_beta").ravel() if whole else _levels(walk, at) - x * _levels(walk, at_s)
    asked = np.minimum(np.arange(len(walk.t)) + late, len(walk.t) - 1) * stride
    return np.asarray(np.prod(x[:, None] + climb[:, None] * case.slope[asked], axis=0))


def _levels(walk: Case, read: Callable[[Case, str], Array]) -> Array:
    return np.asarray(read(walk, "sqrt_beta_bar")).ravel()


def _trip(**mistake: Any) -> Callable[[Case], Outputs]:
    def value(case: Case) -> Outputs:
        coarse, fine = (1 - _ascent(case, stride, **mistake) * _gain(case, stride) for stride in (2, 1))
        return (coarse / fine,)

    return value


INVERSION_ORDER = Law(
    id="oracle/inversion_round_trip",
    needs="ddim_invert ddim_sample",
    statement=r"\text{levels even in the angle, up and down again}:\quad r_K / r_{2K} \to 2,"
    r"\quad r_K = x_0 - \hat x_0",
    source="song2020ddim, section 4.3, eq. (14)",
    cases=_even_angles,
    call=_round_trip_call,
    expect=_round_trip_expected,
    mistakes=(
        Mistake("network_asked_at_the_end_of_the_step", _trip(late=0)),
        Mistake("signal_of_xs_not_rescaled", _trip(unscaled=True)),
        Mistake("fresh_noise_instead_of_the_old", _trip(whole=True)),
    ),
    kind="coefficient",
)

LAWS = (ANCESTRAL_MOMENTS, DDIM_MOMENTS, DDIM_ORDER, INVERSION_ORDER)
