"""The laws bite: drawn mutants of the mirror are killed or proved equivalent, and the unbroken copy breaks no law.

`make test` judges a sample anew, `make test-full` all of them. After a change of the mirror or of the laws:
``python -m tests.mutants --write``.
"""

from __future__ import annotations

import sys
from collections import Counter
from functools import cache

import pytest

import ddpm_ref.torch.forward
from ddpm_ref.conformance.judge import Court
from tests.mutants import judging, page
from tests.mutants.catalogue import Entry, as_json, proofs, read, sites
from tests.mutants.copies import PRIVATE, copy_of_the_mirror
from tests.mutants.drawing import drawn
from tests.mutants.judging import CLAIMS, claims_of, convict, judged, known, reached
from tests.mutants.operators import OPERATORS
from tests.mutants.sites import MODULES, Mutant, digest, mutants_of

# The classes of a copy of the mirror are not those of the annotations.
pytestmark = pytest.mark.wrong_types

CATALOGUE = read()
REMEDY = "the mirror or the operators have changed: write python -m tests.mutants --write"
LEAST = 100


@cache
def mutants() -> dict[str, Mutant]:
    """Those drawn now, by their ids."""
    return {mutant.id: mutant for mutant in drawn()}


def sample(verdict: str, of_each_operator: int) -> list[Entry]:
    """The first entries of each operator with this verdict."""
    entries = [e for e in CATALOGUE.entries if e.verdict == verdict]
    first = [[e for e in entries if e.operator == operator][:of_each_operator] for operator in OPERATORS]
    return [e for of_it in first for e in of_it]


def test_the_catalogue_is_that_of_the_mirror_as_it_is() -> None:
    # Lines may move; what is found there may not.
    found = [(m.id, m.module, m.function, m.operator, m.before, m.after) for m in mutants().values()]
    assert sorted(e.place for e in CATALOGUE.entries) == sorted(found), REMEDY
    assert CATALOGUE.digests == {module: digest(module) for module in MODULES}, REMEDY
    assert CATALOGUE.sites == sites(), REMEDY


def test_nobody_survives_and_every_kind_of_error_was_tried() -> None:
    verdicts = Counter(e.verdict for e in CATALOGUE.entries)
    assert verdicts["survived"] == 0
    assert verdicts["killed"] >= LEAST
    assert {e.operator for e in CATALOGUE.entries} == set(OPERATORS)
    assert {e.module for e in CATALOGUE.entries} == set(MODULES)


def test_every_equivalent_mutant_has_the_proof_that_was_written_for_it() -> None:
    assert {e.id: e.proof for e in CATALOGUE.entries if e.verdict == "equivalent"} == proofs()


def test_the_page_is_that_of_the_catalogue() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.page(CATALOGUE), REMEDY


def test_the_file_is_written_as_it_is_read() -> None:
    from tests.mutants.catalogue import FILE

    assert FILE.read_text(encoding="utf-8") == as_json(CATALOGUE)


# --- verdicts ---------------------------------------------------------------------------------------------------------


def convicted_again(entry: Entry) -> None:
    """By the law and the case that convicted it before, or by any other."""
    again = judged(mutants()[entry.id], first=entry.conviction)
    assert again is not None, f"{entry.id} survives: {entry.before} -> {entry.after}"


@pytest.mark.parametrize("entry", sample("killed", 1), ids=lambda e: e.id)
def test_one_mutant_of_each_kind_is_killed(entry: Entry) -> None:
    convicted_again(entry)


@pytest.mark.full
@pytest.mark.parametrize("entry", [e for e in CATALOGUE.entries if e.verdict == "killed"], ids=lambda e: e.id)
def test_every_killed_mutant_is_killed(entry: Entry) -> None:
    convicted_again(entry)


@pytest.mark.full
@pytest.mark.parametrize("entry", [e for e in CATALOGUE.entries if e.verdict == "equivalent"], ids=lambda e: e.id)
def test_no_equivalent_mutant_is_killed(entry: Entry) -> None:
    conviction = judged(mutants()[entry.id])
    assert conviction is None, f"{entry.id} is called equivalent, and {conviction} tells it from the original"


# --- the machinery ----------------------------------------------------------------------------------------------------


def alarms(cases: int) -> list[str]:
    """The laws that the unbroken copy breaks."""
    found = []
    with copy_of_the_mirror() as adapter:
        court = Court(adapter)
        for law in reached():
            for claim in claims_of(known(law)):
                conviction = convict(court, law, claim, range(cases))
                if conviction is not None:
                    found.append(f"{law} under {claim}: {conviction}")
    return found


@pytest.mark.full
def test_the_unbroken_copy_breaks_no_law() -> None:
    assert alarms(8) == []


def test_the_unbroken_copy_breaks_no_law_that_kills_the_sample() -> None:
    with copy_of_the_mirror() as adapter:
        court = Court(adapter)
        for entry in sample("killed", 1):
            c = entry.conviction
            assert c is not None
            claim = next(claim for claim in CLAIMS if str(claim) == c.claim)
            assert convict(court, c.law, claim, range(c.case, c.case + 1)) is None, c


def test_a_mutant_does_not_touch_the_mirror_itself() -> None:
    original = ddpm_ref.torch.forward.q_sample
    entry = next(e for e in CATALOGUE.entries if e.module == "forward" and e.verdict == "killed")
    mutant = mutants()[entry.id]
    with copy_of_the_mirror(mutant.module, mutant.tree) as adapter:
        copied = adapter.q_sample
        assert copied is not original
        assert copied.__globals__["__name__"] == f"{PRIVATE}.forward"
        assert adapter.posterior_weights.__globals__["between"].__globals__["__name__"] == f"{PRIVATE}.tables"
    assert ddpm_ref.torch.forward.q_sample is original
    assert not [name for name in sys.modules if name.split(".")[0] == PRIVATE]


def test_a_mutant_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "SECONDS", 0.5)
    endless = next(m for m in mutants_of("schedule") if m.after == "reach *= 1")
    with copy_of_the_mirror("schedule", endless.tree) as adapter:
        conviction = convict(Court(adapter), "schedule/beta_bar", CLAIMS[0], range(1))
    assert conviction is not None
    assert conviction.how == "raised TimeoutError"
