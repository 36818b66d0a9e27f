"""One case before the law: the implementation is asked, its answer compared, its error given as a fraction of the bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, Expected
from ddpm_ref.conformance.adapters import Adapter
from ddpm_ref.conformance.capabilities import Handle, Native
from ddpm_ref.laws.cases import LEVEL_NAMES, Case, NumpySource
from ddpm_ref.laws.registry import Law, Mistake
from ddpm_ref.typing import Array

KEPT = 128  # schedules of an implementation that are kept: the pools from which cases draw, and some to spare
# Two thresholds of the diagnosis, which no verdict depends on: a wrong answer is called by a mistake's name if it lies within
# so many bounds of the mistake's value, or so much closer to it than to the law's.
AGREEMENT = 4.0
CLOSER = 0.01


@dataclass(frozen=True)
class Asked:
    """A case in the implementation's own arrays; attributes as in the case, ``schedule`` the implementation's own."""

    schedule: Handle
    values: Mapping[str, Native]

    def __getattr__(self, name: str) -> Native:
        return self.values[name]


@dataclass(frozen=True, eq=False)
class Judgement:
    """What came out for one case: error over bound for every element of every output."""

    case: Case
    got: tuple[Array, ...]
    expected: tuple[Expected, ...]
    ratios: tuple[Array, ...]

    @property
    def worst(self) -> float:
        """The largest error as a fraction of its bound (0 for an empty case)."""
        return max((float(r.max()) for r in self.ratios if r.size), default=0.0)

    @property
    def elements(self) -> int:
        """How many numbers were compared."""
        return sum(r.size for r in self.ratios)

    def describe(self) -> str:
        """The worst element: where, what came, what the law says."""
        if len(self.got) != len(self.expected):
            return f"{len(self.got)} outputs, law has {len(self.expected)}; {self.case.describe()}"
        output = int(np.argmax([float(r.max()) if r.size else -1.0 for r in self.ratios]))
        ratio, got, value = self.ratios[output], self.got[output], self.expected[output].value
        place = f"output {output}, " if len(self.ratios) > 1 else ""
        if ratio.shape == (1,) and np.isinf(ratio[0]) and got.shape != value.shape:
            return f"{place}shape {got.shape}, law has {value.shape}; {self.case.describe()}"
        index = tuple(int(i) for i in np.unravel_index(int(np.argmax(ratio)), ratio.shape))
        came, want = (float(np.broadcast_to(a, ratio.shape)[index]) for a in (got, value.high))
        error = f"error {ratio[index]:.3g} times the bound"
        return f"{place}index {index}: got {came!r}, law {want!r}, {error}; {self.case.describe()}"


def _fits(got: Array, shape: tuple[int, ...]) -> bool:
    """Whether an answer can be spread over the shape of the law's value, or the value over it."""
    try:
        np.broadcast_shapes(got.shape, shape)
    except ValueError:
        return False
    return True


class Court:
    """Asks one implementation; keeps its schedules, which are costly to make and asked for again and again."""

    def __init__(self, adapter: Adapter):
        self.adapter = adapter
        self._handles: dict[str, Handle] = {}

    def handle(self, case: Case) -> Handle:
        """The implementation's schedule for the betas of a case (None if the law needs none)."""
        if case.schedule is None:
            return None
        digest = case.schedule.digest
        if digest not in self._handles:
            if len(self._handles) >= KEPT:
                self._handles.pop(next(iter(self._handles)))
            self._handles[digest] = self.adapter.schedule(case.schedule.beta[1:].copy())
        return self._handles[digest]

    def ask(self, law: Law, case: Case) -> tuple[Array, ...]:
        """The implementation's answer as float64 arrays."""
        values: dict[str, Any] = {
            name: self.adapter.levels(value) if value.dtype.kind == "i" else self.adapter.array(value, case.claim)
            for name, value in case.values.items()
        }
        answer = law.call(self.adapter, Asked(self.handle(case), values))
        outputs = answer if isinstance(answer, tuple) else (answer,)
        return tuple(self.adapter.numpy(output) for output in outputs)

    def judge(self, law: Law, case: Case) -> Judgement:
        """Error over bound of the implementation on one case."""
        return compare(law, case, self.ask(law, case))


def compare(law: Law, case: Case, got: tuple[Array, ...]) -> Judgement:
    """Error over bound of some outputs; a wrong number of outputs or a wrong shape is infinitely wrong."""
    expected = law.expect(case)
    if len(got) != len(expected):
        return Judgement(case, got, expected, tuple(np.full((1,), np.inf) for _ in expected))
    ratios = tuple(_ratio(e, g, case) for e, g in zip(expected, got, strict=True))
    return Judgement(case, got, expected, ratios)


def _ratio(expected: Expected, got: Array, case: Case) -> Array:
    """A coefficient may come in its own shape or spread over the data; anything else is wrong."""
    data = [v.shape for name, v in case.values.items() if name not in LEVEL_NAMES]
    if got.shape == expected.value.shape or (got.shape in data and _fits(got, expected.value.shape)):
        return np.asarray(expected.error_over_bound(got, case.claim))
    return np.full((1,), np.inf)


def agreeing_mistakes(
    law: Law, court: Court, claim: Claim, failing: Case | None, seed: int = 0, tries: int = 60
) -> list[Mistake]:
    """The known mistakes that explain what the implementation returns, on the failing case and on fresh ones.

    A mistake explains it if every answer that breaks the law lies within a few bounds of what the mistake would return.
    """
    source = NumpySource(np.random.default_rng(seed), pooled=True)
    cases = ([failing] if failing is not None else []) + [law.cases(source, claim) for _ in range(tries)]
    suspects = {m.name: 0 for m in law.mistakes if m.concerns(claim)}
    for case in cases:
        try:
            judged = court.judge(law, case)
        except Exception:
            continue
        if judged.worst <= 1 or not suspects:
            continue
        for mistake in [m for m in law.mistakes if m.name in suspects]:
            if _explains(mistake, judged):
                suspects[mistake.name] += 1
            else:
                del suspects[mistake.name]
    return [m for m in law.mistakes if suspects.get(m.name, 0) > 0]


def _explains(mistake: Mistake, judged: Judgement) -> bool:
    """Whether every answer is what the mistake gives: to rounding, or far closer to it than to the law."""
    case = judged.case
    with np.errstate(all="ignore"):
        values = mistake.value(case)
        spreads = mistake.spread(case) if mistake.spread else (0.0,) * len(values)
    if len(values) != len(judged.got) or not all(
        _fits(g, np.shape(v)) for g, v in zip(judged.got, values, strict=True)
    ):
        return False
    u = case.claim.computing.u + case.claim.storing.u
    for value, spread, got, expected in zip(values, spreads, judged.got, judged.expected, strict=True):
        with np.errstate(invalid="ignore", over="ignore"):
            # A mistaken value is rounded as often as the right one, and may be larger than it.
            slack = expected.bound(case.claim) + u * (np.asarray(expected.roundings) * np.abs(value) + spread)
            distance, from_law = np.abs(got - value), np.abs(got - expected.value.high)
            close = (distance <= AGREEMENT * slack) | (distance <= CLOSER * from_law)
            same = (got == value) | (np.isnan(got) & np.isnan(value))
        if not (close | same).all():
            return False
    return True
