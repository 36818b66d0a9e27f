"""Cases: the inputs a law is tried on, drawn from any source of choices.

A law describes its inputs once, as a function that asks a `Source` for integers, choices and numbers. Hypothesis is one
source (small, shrinkable, full of edges), a NumPy generator another (bulk draws that find the worst rounding). Every
number of a case is exactly representable in the storage format of the claim, so quantisation of inputs is never charged
to anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble
from ddpm_ref.reference import named_schedules
from ddpm_ref.reference.schedule import NoiseSchedule, Transition
from ddpm_ref.typing import AnyArray, Array, IntArray

T = TypeVar("T")

LEVEL_NAMES = ("t", "s", "r")

# What level 0, clean data, contributes where a table is asked there.
AT_LEVEL_0 = {"sqrt_alpha_bar": 1.0, "sqrt_beta_bar": 0.0, "alpha_bar": 1.0, "beta_bar": 0.0}


@runtime_checkable
class Source(Protocol):
    """Where the choices of a case come from."""

    @property
    def bulk(self) -> bool:
        """Whether arrays are to be large."""

    @property
    def pooled(self) -> bool:
        """Whether random schedules may come from a pool: implementations spend most of their time making schedules."""

    def integer(self, low: int, high: int) -> int:
        """A whole number, both ends included."""

    def choice(self, options: Sequence[T]) -> T:
        """One of some options; the first is the simplest."""

    def numbers(self, shape: tuple[int, ...], low: float, high: float) -> Array:
        """Real numbers in a range."""


@dataclass(frozen=True, eq=False)
class Case:
    """One set of inputs: a claim, a schedule (if the law needs one) and named arrays, also reachable as attributes."""

    claim: Claim
    schedule: NoiseSchedule | None
    values: Mapping[str, AnyArray] = field(default_factory=dict)

    def __getattr__(self, name: str) -> AnyArray:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(f"this case has no {name!r}; it has {', '.join(self.values)}") from None

    @property
    def stored_between_calls(self) -> float:
        """What storing an intermediate result costs, in roundings of the compute format: none where both formats are one."""
        claim = self.claim
        return 0.0 if claim.store == claim.compute else claim.storing.u / claim.computing.u

    @property
    def noise_schedule(self) -> NoiseSchedule:
        """The schedule of a case that has one."""
        if self.schedule is None:
            raise AttributeError("this case has no schedule")
        return self.schedule

    @property
    def transition(self) -> Transition:
        """The exact kernels of the steps ``(t, s)`` of this case."""
        return self.noise_schedule.between(self.t, self.s)

    def level(self, name: str, like: AnyArray | None = None) -> DoubleDouble:
        """A level table at ``t`` in two words, shaped to broadcast against ``like``."""
        t = np.asarray(self.t)
        words = self.noise_schedule.words(name, np.maximum(t, 1))
        zero = t == 0
        if zero.any():
            words = DoubleDouble(np.where(zero, AT_LEVEL_0[name], words.high), np.where(zero, 0.0, words.low))
        return _expand(words, like)

    def step(self, name: str, like: AnyArray | None = None) -> DoubleDouble:
        """A coefficient of the steps ``(t, s)`` in two words, shaped to broadcast against ``like``."""
        return _expand(self.transition.words(name), like)

    def describe(self) -> str:
        """The case on one line, for messages."""
        parts = [repr(self.schedule)] if self.schedule is not None else []
        parts += [f"{name}={_said(name, value)}" for name, value in self.values.items()]
        return ", ".join(parts)


Cases: TypeAlias = Callable[[Source, Claim], Case]

_WORDS: dict[str, tuple[str, ...]] = {}


def words(name: str, *choices: str) -> tuple[str, ...]:
    """The words of which cases hold the place under ``name``, a case being made of numbers; messages say the word."""
    return _WORDS.setdefault(name, choices)


def _said(name: str, value: AnyArray) -> str:
    is_place = name in _WORDS and value.ndim == 0 and value.dtype.kind == "i"
    return _WORDS[name][int(value)] if is_place else _short(value)


def _short(value: AnyArray) -> str:
    if value.size > 6:
        return f"array{value.shape}"
    return np.array2string(value, separator=", ", floatmode="unique").replace("\n", "")


def _expand(words: DoubleDouble, like: AnyArray | None) -> DoubleDouble:
    if like is None:
        return words
    return words.reshape(words.shape + (1,) * (like.ndim - len(words.shape)))


@dataclass(frozen=True)
class NumpySource:
    """Choices from a NumPy generator; with ``bulk`` the arrays are large and levels are vectors."""

    rng: np.random.Generator
    bulk: bool = False
    pooled: bool = False

    def integer(self, low: int, high: int) -> int:
        """A uniform whole number."""
        return int(self.rng.integers(low, high + 1))

    def choice(self, options: Sequence[T]) -> T:
        """A uniform choice."""
        return options[int(self.rng.integers(len(options)))]

    def numbers(self, shape: tuple[int, ...], low: float, high: float) -> Array:
        """Half uniform numbers, half near the middle of the range on a logarithmic scale around it."""
        uniform = self.rng.uniform(low, high, shape)
        middle, reach = (low + high) / 2, (high - low) / 2
        narrow = middle + reach * np.sign(self.rng.uniform(-1, 1, shape)) * np.exp(self.rng.uniform(-12, 0, shape))
        return np.where(self.rng.uniform(size=shape) < 0.5, uniform, np.clip(narrow, low, high))


# --- the parts of a case ----------------------------------------------------------------------------------------------

_POOL: list[Callable[[], NoiseSchedule]] = [
    lambda: named_schedules.linear_schedule(10),
    lambda: named_schedules.linear_schedule(1000),
    lambda: named_schedules.linear_schedule(1),
    lambda: named_schedules.linear_schedule(2),
    lambda: named_schedules.cosine_schedule(50),
    lambda: named_schedules.cosine_schedule(1000),
    lambda: named_schedules.scaled_linear_schedule(100),
    lambda: named_schedules.sigmoid_schedule(100),
    lambda: named_schedules.sigmoid_alpha_bar_schedule(20),
    lambda: named_schedules.constant_schedule(30, 0.05),
    lambda: NoiseSchedule.from_betas(np.linspace(0.02, 1e-4, 40)),
]
_ZERO_SNR_POOL: list[Callable[[], NoiseSchedule]] = [
    lambda: named_schedules.zero_terminal_snr(named_schedules.linear_schedule(10)),
    lambda: named_schedules.zero_terminal_snr(named_schedules.scaled_linear_schedule(1000)),
    lambda: NoiseSchedule.from_betas([1.0]),
]


@lru_cache(maxsize=64)
def _pooled(index: int) -> NoiseSchedule:
    return [*_POOL, *_ZERO_SNR_POOL][index]()


def draw_schedule(source: Source, *, zero_snr: bool = True, shortest: int = 1) -> NoiseSchedule:
    """A schedule of any kind: named ones, decreasing, unordered random betas from 1e-8 to 0.999, zero terminal SNR, T from 1."""
    pool = len(_POOL) + (len(_ZERO_SNR_POOL) if zero_snr else 0)
    index = source.integer(0, pool + pool // 4)
    schedule = _pooled(index) if index < pool else None
    if schedule is None or shortest > schedule.T:
        length = source.integer(shortest, 8)
        if source.pooled:
            return _random_schedule(length, source.integer(0, 3))
        schedule = _unordered(source, length)
    return schedule


def _unordered(source: Source, length: int) -> NoiseSchedule:
    """Random betas in no order, spread over the logarithm of their range."""
    return NoiseSchedule.from_betas(
        np.clip(np.exp(source.numbers((length,), np.log(1e-8), np.log(0.999))), 1e-8, 0.999)
    )


@lru_cache(maxsize=64)
def _random_schedule(length: int, seed: int) -> NoiseSchedule:
    return _unordered(NumpySource(np.random.default_rng((length, seed))), length)


NEGLIGIBLE = 2.0**-30
SHAPES: list[tuple[int, ...]] = [(), (1,), (3,), (2, 3), (4, 1, 2), (0,), (2, 0, 3), (2, 3, 2)]
BULK_SHAPE = (64, 256)


def draw_shape(source: Source) -> tuple[int, ...]:
    """A data shape: scalars, vectors, images, and empty ones; large if the source is bulk."""
    return BULK_SHAPE if source.bulk else source.choice(SHAPES)


def draw_levels(source: Source, shape: tuple[int, ...], low: int, high: int) -> IntArray:
    """A level for all, or one per entry of the first axis."""
    if shape and (source.bulk or source.choice([False, True])):
        return np.array([source.integer(low, high) for _ in range(shape[0])], dtype=np.int64)
    return np.asarray(source.integer(low, high), dtype=np.int64)


def draw_pairs(source: Source, shape: tuple[int, ...], T: int, lowest_s: int = 0) -> tuple[IntArray, IntArray]:
    """Steps ``t > s``: neighbours half of the time, otherwise any distance."""
    t = draw_levels(source, shape, lowest_s + 1, T)
    near = source.choice([True, False])
    s = [v - 1 if near else source.integer(lowest_s, v - 1) for v in t.ravel().tolist()]
    return t, np.array(s, dtype=np.int64).reshape(t.shape)


def draw_tensor(source: Source, shape: tuple[int, ...], claim: Claim, reach: float = 8.0) -> Array:
    """Data in ``[-reach, reach]``, representable in the storage format; now and then not contiguous.

    Numbers below `NEGLIGIBLE` are drawn as 0: where a law divides, a quotient would magnify the underflow of a product, for which
    the bound charges one smallest subnormal.
    """
    values = source.numbers(shape, -reach, reach)
    return _laid_out(source, claim.storing.round(np.where(np.abs(values) < NEGLIGIBLE, 0.0, values)))


def draw_positive(source: Source, shape: tuple[int, ...], claim: Claim, low: float, high: float) -> Array:
    """Positive numbers (variances) spread over the logarithm of a range, representable in the storage format."""
    return _laid_out(source, claim.storing.round(np.exp(source.numbers(shape, np.log(low), np.log(high)))))


def _laid_out(source: Source, values: Array) -> Array:
    if values.ndim and source.choice([True, True, False]) is False:
        twice = np.repeat(values, 2, axis=-1)
        return twice[..., ::2]
    return values


def at_level(*tensors: str, lowest: int = 1, zero_snr: bool = True) -> Cases:
    """Cases with a schedule, levels ``t >= lowest`` and some data tensors of one shape."""

    def cases(source: Source, claim: Claim) -> Case:
        schedule, shape = draw_schedule(source, zero_snr=zero_snr), draw_shape(source)
        t = draw_levels(source, shape, lowest, schedule.T)
        return Case(claim, schedule, {"t": t} | {name: draw_tensor(source, shape, claim) for name in tensors})

    return cases


def at_step(*tensors: str, lowest_s: int = 0, zero_snr: bool = True, positive: tuple[str, ...] = ()) -> Cases:
    """Cases with a schedule, steps ``(t, s)`` and some data tensors of one shape; those named ``positive`` hold variances."""

    def cases(source: Source, claim: Claim) -> Case:
        schedule = draw_schedule(source, zero_snr=zero_snr, shortest=lowest_s + 1)
        shape = draw_shape(source)
        t, s = draw_pairs(source, shape, schedule.T, lowest_s)
        values: dict[str, AnyArray] = {"t": t, "s": s}
        values |= {name: draw_tensor(source, shape, claim) for name in tensors}
        values |= {name: draw_positive(source, shape, claim, 1e-4, 8.0) for name in positive}
        return Case(claim, schedule, values)

    return cases


def whole_schedule(*, zero_snr: bool = True) -> Cases:
    """Cases that are a schedule and nothing else: for laws about tables."""
    return lambda source, claim: Case(claim, draw_schedule(source, zero_snr=zero_snr), {})


# --- float64 coefficients, for the values of mistakes -----------------------------------------------------------------


def _data(case: Case) -> AnyArray | None:
    return next((value for name, value in case.values.items() if name not in LEVEL_NAMES), None)


def spread_over_data(case: Case, coefficient: Array) -> Array:
    """A coefficient per level, shaped to broadcast against the data of the case."""
    data = _data(case)
    return (
        coefficient if data is None else coefficient.reshape(coefficient.shape + (1,) * (data.ndim - coefficient.ndim))
    )


def at(case: Case, table: str, shift: int = 0) -> Array:
    """A float64 table at the levels of the case (or a mistaken neighbour), expanded against the data."""
    t = np.clip(np.asarray(case.t) + shift, 0, case.noise_schedule.T)
    return spread_over_data(case, getattr(case.noise_schedule, table)[t])


def at_s(case: Case, table: str) -> Array:
    """A float64 table at the earlier levels ``s``, expanded against the data."""
    return spread_over_data(case, getattr(case.noise_schedule, table)[case.s])


def step(case: Case, name: str) -> Array:
    """A float64 coefficient of the steps ``(t, s)``, expanded against the data."""
    return spread_over_data(case, getattr(case.transition, name))


def rounded_alpha_bar(case: Case) -> Array:
    """A cumulative product in the compute format of the claim, level by level: the table most implementations start from."""
    compute = case.claim.computing
    factors = compute.round(1 - compute.round(case.noise_schedule.beta[1:]))
    alpha_bar = [1.0]
    for factor in factors.tolist():
        alpha_bar.append(float(compute.round(alpha_bar[-1] * factor)))
    return np.array(alpha_bar)
