"""A mutant before the laws that reach it: convicted by the first answer beyond its bound, or by a crash."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance.diagnosis import kind_of, suspected
from ddpm_ref.conformance.judge import Court
from ddpm_ref.laws import REGISTRY, Law, NumpySource
from ddpm_ref.laws.cases import Case
from tests.mutants.copies import PRIVATE, copy_of_the_mirror
from tests.mutants.sites import Mutant

# What the mirror claims, the widest format first: there an error of logic cannot hide behind roundings.
CLAIMS = (Claim("fp64"), Claim("fp32"), Claim("bf16", "fp32"))
FIRST_LOOK, CASES = 4, 24
NAMING = 10
SECONDS = 10.0  # no case takes a tenth of it


@dataclass(frozen=True)
class Conviction:
    """Which law was broken under which claim, by which of its cases, and by how much."""

    law: str
    claim: str
    case: int
    how: str
    error_over_bound: float | None
    mistakes: tuple[str, ...] = ()


@cache
def known(id_: str) -> Law:
    """A law that remembers what it expects of a case: it is the same for every mutant."""
    law = REGISTRY[id_]
    return replace(law, expect=cache(law.expect))


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` in a call that does not come back: a mutant may never end."""

    def give_up(number: int, frame: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Docket:
    """The cases of a law under a claim, always the same: one with many elements, then small ones."""

    def __init__(self, law: Law, claim: Claim):
        self._law, self._claim = law, claim
        self._rng = np.random.default_rng(0)
        self._cases: list[Case] = []

    def __getitem__(self, n: int) -> Case:
        while len(self._cases) <= n:
            bulk = not self._cases
            self._cases.append(self._law.cases(NumpySource(self._rng, bulk=bulk, pooled=True), self._claim))
        return self._cases[n]


@cache
def docket(law: str, claim: Claim) -> Docket:
    """The cases of a law under a claim."""
    return Docket(known(law), claim)


def claims_of(law: Law) -> Sequence[Claim]:
    """Coefficients see no data: the widest claim is the only one that says anything about them."""
    return CLAIMS[:1] if law.kind == "coefficient" else CLAIMS


def convict(court: Court, law: str, claim: Claim, cases: range) -> Conviction | None:
    """What the first of some cases shows that the copy does not survive."""
    for n in cases:
        case = docket(law, claim)[n]
        try:
            with time_limit(SECONDS):
                judged = court.judge(known(law), case)
        except Exception as error:
            return Conviction(law, str(claim), n, f"raised {type(error).__name__}", None)
        if not judged.worst <= 1:
            worst = judged.worst if np.isfinite(judged.worst) else None
            return Conviction(law, str(claim), n, kind_of(judged), worst)
    return None


def tried(court: Court, laws: Sequence[str], depth: int = CASES) -> Conviction | None:
    """All laws with a few cases, then with all of them: most mutants fall at once, whatever they are tried on."""
    for cases in (range(min(FIRST_LOOK, depth)), range(FIRST_LOOK, depth)):
        for claim in CLAIMS:
            for law in laws:
                if claim in claims_of(known(law)):
                    conviction = convict(court, law, claim, cases)
                    if conviction is not None:
                        return conviction
    return None


def law_ids() -> set[str]:
    """The ids of the laws there are."""
    return {law.id for law in REGISTRY}


def judged(mutant: Mutant, depth: int = CASES, first: Conviction | None = None) -> Conviction | None:
    """The conviction of a mutant, None if it survives every law that reaches its function.

    ``first``: how it was convicted before, which is tried first.
    """
    try:
        with copy_of_the_mirror(mutant.module, mutant.tree) as adapter:
            court = Court(adapter)
            if first is not None and first.law in law_ids():
                claim = next(claim for claim in CLAIMS if str(claim) == first.claim)
                again = convict(court, first.law, claim, range(first.case, first.case + 1))
                if again is not None:
                    return again
            return tried(court, laws_reaching(mutant), depth)
    except ImportError as error:
        raise AssertionError(f"{mutant.id} cannot be loaded") from error


def named(mutant: Mutant, conviction: Conviction) -> Conviction:
    """The conviction with the names of the known mistakes that explain it."""
    if conviction.how.startswith("raised"):
        return conviction
    claim = next(claim for claim in CLAIMS if str(claim) == conviction.claim)
    case = docket(conviction.law, claim)[conviction.case]
    with copy_of_the_mirror(mutant.module, mutant.tree) as adapter:
        mistakes, _ = suspected(known(conviction.law), Court(adapter), claim, case, conviction.how, tries=NAMING)
    return replace(conviction, mistakes=tuple(mistake.name for mistake in mistakes))


# --- which laws reach which function ----------------------------------------------------------------------------------


@cache
def reached() -> dict[str, frozenset[str]]:
    """For every law, the functions of the mirror that run when the unmutated copy is tried on it."""
    found: dict[str, frozenset[str]] = {}
    with copy_of_the_mirror() as adapter:
        court = Court(adapter)
        for law in REGISTRY:
            if all(hasattr(adapter, method) for method in law.needs.split()):
                found[law.id] = frozenset(_functions_run(court, law.id))
    return found


def _functions_run(court: Court, law: str) -> Iterator[str]:
    seen: set[tuple[str, str]] = set()

    def watch(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_globals.get("__name__", "").startswith(f"{PRIVATE}."):
            seen.add((frame.f_globals["__name__"].removeprefix(f"{PRIVATE}."), frame.f_code.co_qualname))

    for n in range(FIRST_LOOK):
        case = docket(law, CLAIMS[0])[n]
        sys.setprofile(watch)
        try:
            court.judge(known(law), case)
        finally:
            sys.setprofile(None)
    yield from (f"{module}.{function}" for module, function in seen)


def laws_reaching(mutant: Mutant) -> list[str]:
    """The laws that run the mutated function: those of its own first, then those of its subject, then the others."""
    name = f"{mutant.module}.{mutant.function}"
    laws = [law for law, functions in reached().items() if name in functions or mutant.function.isupper()]
    return sorted(laws, key=lambda law: _distance(REGISTRY[law], mutant))


def _distance(law: Law, mutant: Mutant) -> int:
    if mutant.function in law.needs.split():
        return 0
    return 1 if law.subject == mutant.module else 2
