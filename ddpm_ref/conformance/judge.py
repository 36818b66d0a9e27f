"""One case before the law: the implementation is asked, its answer compared, its error given as a fraction of the bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, Expected
from ddpm_ref.conformance.adapters import Adapter
from ddpm_ref.conformance.capabilities import Handle, Native
from ddpm_ref.conformance.conduct import Worker, hands_off, same_twice, unclaimed_format
from ddpm_ref.conformance.serving import UNSERVED, Declined, Serving
from ddpm_ref.laws.cases import LEVEL_NAMES, Case
from ddpm_ref.laws.registry import Law
from ddpm_ref.typing import AnyArray, Array, Real

# What a sampler carries along: an answer to these comes in their format (a variance may come in a wider one).
STATES = {"x0", "xt", "xs", "x", "x_prev"}
KEPT = 128  # schedules of an implementation that are kept: the pools from which cases draw, and some to spare


@dataclass(frozen=True)
class Asked:
    """A case in the implementation's own arrays; attributes as in the case, ``schedule`` the implementation's own."""

    schedule: Handle
    values: Mapping[str, Native]

    def __getattr__(self, name: str) -> Native:
        return self.values[name]


@dataclass(frozen=True, eq=False)
class Judgement:
    """What came out for one case: error over bound for every element of every output that was given.

    ``served`` are the places of these outputs among those of the law, which are called ``names``.
    """

    case: Case
    got: tuple[Array, ...]
    expected: tuple[Expected, ...]
    ratios: tuple[Array, ...]
    served: tuple[int, ...]
    names: tuple[str, ...]
    misfit: str = ""  # of the format of the answer, if there is something to say

    @property
    def worst(self) -> float:
        """The largest error as a fraction of its bound (0 for an empty case)."""
        return max((float(r.max()) for r in self.ratios if r.size), default=0.0)

    @property
    def elements(self) -> int:
        """How many numbers were compared."""
        return sum(r.size for r in self.ratios)

    @property
    def misshapen(self) -> str:
        """What is wrong with the number or the shape of the outputs, if anything is."""
        if len(self.got) != len(self.expected):
            return f"{len(self.got)} outputs, law has {len(self.expected)}"
        for k, (ratio, got, expected) in enumerate(zip(self.ratios, self.got, self.expected, strict=True)):
            if ratio.shape == (1,) and np.isinf(ratio[0]) and got.shape != expected.value.shape:
                place = f"{self.names[self.served[k]]}, " if len(self.names) > 1 else ""
                return f"{place}shape {got.shape}, law has {expected.value.shape}{_level_0(got.shape, self.case)}"
        return ""

    @property
    def unserved(self) -> set[str]:
        """The names of the outputs that the adapter did not give."""
        return {name for place, name in enumerate(self.names) if place not in self.served}

    @property
    def worst_element(self) -> Element:
        """The element with the largest error over bound."""
        output = int(np.argmax([float(r.max()) if r.size else -1.0 for r in self.ratios]))
        ratio, expected = self.ratios[output], self.expected[output]
        index = tuple(int(i) for i in np.unravel_index(int(np.argmax(ratio)), ratio.shape))
        arrays = (self.got[output], expected.value.high, expected.value.low, expected.scale)
        got, want, low, scale = (float(np.broadcast_to(a, ratio.shape)[index]) for a in arrays)
        place = self.served[output] if len(self.names) > 1 else None
        name = "" if place is None else self.names[place]
        return Element(place, name, index, got, want, low, scale, float(ratio[index]))

    @property
    def by_level(self) -> list[tuple[float, float]]:
        """``t / T`` and the worst error over bound there, for a case with levels of a schedule."""
        schedule, t = self.case.schedule, self.case.values.get("t")
        if schedule is None or t is None or self.misshapen:
            return []
        if not t.ndim:
            return [(float(t) / schedule.T, self.worst)]
        rows = [r.reshape(len(t), -1) for r in self.ratios if r.size and r.ndim and t.ndim == 1 and len(r) == len(t)]
        return [(float(level) / schedule.T, float(w)) for row in rows for level, w in zip(t, row.max(1), strict=True)]

    def describe(self) -> str:
        """The worst element: where, what came, what the law says."""
        return f"{self.misshapen or self.worst_element}; {self.case.describe()}"


@dataclass(frozen=True)
class Element:
    """One number of an answer beside what the law says: ``scale`` is its S, ``ratio`` its error over bound.

    Where a law has several outputs, ``output`` is the place and ``name`` the name of the one it belongs to.
    """

    output: int | None
    name: str
    index: tuple[int, ...]
    got: float
    want: float
    low: float
    scale: float
    ratio: float

    @property
    def share(self) -> float:
        """The error as a fraction of S."""
        error = abs((self.got - self.want) - self.low)
        return error / self.scale if self.scale else (0.0 if error == 0 else np.inf)

    def __str__(self) -> str:
        place = f"{self.name}, " if self.name else ""
        return f"{place}index {self.index}: got {self.got!r}, law {self.want!r}, error {self.ratio:.3g} times the bound"


def _level_0(got: tuple[int, ...], case: Case) -> str:
    """A hint for whoever begins to count at another level."""
    if case.schedule is not None and got == (case.schedule.T,):
        return ": tables begin with level 0, clean data (prepend it)"
    return ""


def fits(got: Array, shape: tuple[int, ...]) -> bool:
    """Whether an answer can be spread over the shape of the law's value, or the value over it."""
    try:
        np.broadcast_shapes(got.shape, shape)
    except ValueError:
        return False
    return True


def missing(law: Law, adapter: Adapter) -> list[str]:
    """The capabilities that a law needs and an implementation lacks; with any of them the law does not apply."""
    return [method for method in law.needs.split() if not hasattr(adapter, method)]


class Court:
    """Asks one implementation; keeps its schedules, which are costly to make and asked for again and again."""

    def __init__(self, adapter: Adapter, time_limit: Real | None = None):
        self.adapter = adapter
        self._handles: dict[str, Handle] = {}
        self._worker = None if time_limit is None else Worker(float(time_limit))

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

    def ask(self, law: Law, case: Case) -> tuple[tuple[Array | None, ...], str]:
        """The answer as float64 arrays (None where the adapter serves none), and what is wrong with its format.

        Raises `Misconduct` where there is no judging it, `Declined` where nothing is served.
        """
        return self._ask(law, case) if self._worker is None else self._worker.call(partial(self._ask, law, case))

    def _ask(self, law: Law, case: Case) -> tuple[tuple[Array | None, ...], str]:
        values: dict[str, Any] = {
            name: self.adapter.levels(value) if value.dtype.kind == "i" else self.adapter.array(value, case.claim)
            for name, value in case.values.items()
        }
        before = self._numbers(values)
        outputs = self._outputs(law, Asked(self.handle(case), values))
        numbers = tuple(None if output is UNSERVED else self.adapter.numpy(output) for output in outputs)
        hands_off(before, self._numbers(values), case.values)
        given = next(output for output in outputs if output is not UNSERVED)
        of_state = law.kind == "pointwise" and STATES & case.values.keys()
        return numbers, unclaimed_format(self.adapter, given, case.claim) if of_state else ""

    def _outputs(self, law: Law, question: Asked) -> tuple[Native, ...]:
        """What a law makes of the adapter's answers; at least one output is there."""
        serving = Serving(self.adapter)
        try:
            # Where an implementation makes a NaN, the report says so; NumPy need not say it on the terminal.
            with np.errstate(all="ignore"):
                answer = law.call(serving, question)
        except Exception:
            if serving.declined and not serving.raised:  # the law cannot go on without the answer
                raise Declined from None
            raise
        outputs = answer if isinstance(answer, tuple) else (answer,)
        if all(output is UNSERVED for output in outputs):
            raise Declined
        return outputs

    def _numbers(self, values: Mapping[str, Native]) -> dict[str, AnyArray]:
        """Copies of some arguments as arrays."""
        return {name: np.array(v if isinstance(v, int) else self.adapter.numpy(v)) for name, v in values.items()}

    def judge(self, law: Law, case: Case, *, twice: bool = False) -> Judgement:
        """Error over bound of the implementation on one case; ``twice``: the same question must be answered the same."""
        got, misfit = self.ask(law, case)
        if twice:
            same_twice(got, self.ask(law, case)[0])
        return replace(compare(law, case, got), misfit=misfit)


def compare(law: Law, case: Case, outputs: Sequence[Array | None]) -> Judgement:
    """Error over bound of some outputs (None: not served); a wrong number of outputs or a wrong shape is infinitely wrong."""
    expected = law.expect(case)
    served = tuple(k for k, output in enumerate(outputs) if output is not None)
    got = tuple(output for output in outputs if output is not None)
    names = tuple(e.name or f"output {k}" for k, e in enumerate(expected))
    if len(outputs) != len(expected):
        ratios = tuple(np.full((1,), np.inf) for _ in expected)
        return Judgement(case, got, expected, ratios, tuple(range(len(expected))), names)
    of_served = tuple(expected[k] for k in served)
    ratios = tuple(_ratio(e, g, case) for e, g in zip(of_served, got, strict=True))
    return Judgement(case, got, of_served, ratios, served, names)


def reclaimed(law: Law, judged: Judgement, claim: Claim) -> Judgement:
    """The same answer, held against the law under another claim."""
    outputs: list[Array | None] = [None] * len(judged.names)
    for place, got in zip(judged.served, judged.got, strict=True):
        outputs[place] = got
    return compare(law, replace(judged.case, claim=claim), outputs)


def _ratio(expected: Expected, got: Array, case: Case) -> Array:
    """A coefficient may come in its own shape or spread over the data; anything else is wrong."""
    data = [v.shape for name, v in case.values.items() if name not in LEVEL_NAMES]
    if got.shape == expected.value.shape or (got.shape in data and fits(got, expected.value.shape)):
        return np.asarray(expected.error_over_bound(got, case.claim))
    return np.full((1,), np.inf)
