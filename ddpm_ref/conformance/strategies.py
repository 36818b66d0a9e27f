"""Hypothesis strategies for noise schedules, levels, data and whole cases of a law: public, for users' own properties too.

The only module of the package that imports Hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ddpm_ref.arithmetic import FORMATS, Claim, Format
from ddpm_ref.laws.cases import Case, Source, draw_levels, draw_pairs, draw_schedule, draw_shape, draw_tensor
from ddpm_ref.laws.registry import Law
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array, IntArray

T = TypeVar("T")


@runtime_checkable
class Draw(Protocol):
    """The function that `hypothesis.strategies.composite` hands out."""

    def __call__(self, strategy: st.SearchStrategy[T]) -> T:
        """A value of the strategy, recorded for shrinking."""


@dataclass(frozen=True)
class _HypothesisSource:
    """Choices that Hypothesis makes, records and shrinks."""

    draw: Draw
    bulk: bool = False
    pooled: bool = False

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def choice(self, options: Sequence[T]) -> T:
        return self.draw(st.sampled_from(options))

    def numbers(self, shape: tuple[int, ...], low: float, high: float) -> Array:
        return self.draw(hnp.arrays(np.float64, shape, elements=st.floats(low, high, allow_subnormal=False)))


def _from_source(make: Callable[[Source], T]) -> st.SearchStrategy[T]:
    @st.composite
    def strategy(draw: Draw) -> T:
        return make(_HypothesisSource(draw))

    return strategy()


def _holds(wide: Format, narrow: Format) -> bool:
    return wide.precision >= narrow.precision and wide.max_exponent >= narrow.max_exponent


def claims() -> st.SearchStrategy[Claim]:
    """Claims that real machines make: a storage format and a compute format at least as wide."""
    names = sorted(FORMATS, key=lambda name: -FORMATS[name].precision)
    wider = {s: [c for c in names if _holds(FORMATS[c], FORMATS[s])] for s in names}
    return st.sampled_from([Claim(s, c) for s in names for c in wider[s]])


def schedules(*, zero_snr: bool = True, shortest: int = 1) -> st.SearchStrategy[NoiseSchedule]:
    """Schedules of every kind: named, decreasing, unordered random betas, zero terminal SNR, from one level on."""
    return _from_source(lambda source: draw_schedule(source, zero_snr=zero_snr, shortest=shortest))


def shapes() -> st.SearchStrategy[tuple[int, ...]]:
    """Data shapes: scalars, vectors, images, empty batches."""
    return _from_source(draw_shape)


def levels(T: int, *, lowest: int = 0, shape: tuple[int, ...] = ()) -> st.SearchStrategy[IntArray]:
    """Levels from ``lowest`` to ``T``: one for all, or one per entry of the first axis of ``shape``."""
    return _from_source(lambda source: draw_levels(source, shape, lowest, T))


def steps(T: int, *, lowest: int = 0, shape: tuple[int, ...] = ()) -> st.SearchStrategy[tuple[IntArray, IntArray]]:
    """Steps ``(t, s)`` with ``t > s >= lowest``."""
    return _from_source(lambda source: draw_pairs(source, shape, T, lowest))


def tensors(shape: tuple[int, ...], claim: Claim, reach: float = 8.0) -> st.SearchStrategy[Array]:
    """Data in ``[-reach, reach]``, exactly representable in the storage format of ``claim``, not always contiguous."""
    return _from_source(lambda source: draw_tensor(source, shape, claim, reach))


def cases(law: Law, claim: Claim) -> st.SearchStrategy[Case]:
    """The inputs a law is tried on under a claim."""
    return _from_source(lambda source: law.cases(source, claim))
