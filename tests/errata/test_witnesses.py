"""What kills each erratum is recorded, exists, and is true."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance.smallest import rejection
from ddpm_ref.errata import ERRATA, SEVERITIES, SUBJECTS, Erratum, find
from ddpm_ref.errors import RangeError
from ddpm_ref.laws import REGISTRY, NumpySource
from ddpm_ref.symbolic.refutations import REFUTATIONS

EACH = pytest.mark.parametrize("erratum", ERRATA.values(), ids=ERRATA)


@EACH
def test_what_kills_it_is_recorded_and_exists(erratum: Erratum) -> None:
    there = {
        "law": bool(erratum.catches()),
        "refutation": erratum.id in REFUTATIONS,
        "demonstration": bool(erratum.figures()),
    }
    assert erratum.killed_by == tuple(witness for witness, exists in there.items() if exists)
    assert (erratum.refutation() is not None) == there["refutation"]


@EACH
def test_what_gives_wrong_numbers_or_is_a_wrong_statement_is_killed(erratum: Erratum) -> None:
    """Classes A and B, and what becomes A when read literally: by a law, by algebra and by its damage."""
    assert erratum.killed_by
    if erratum.severity in "AB" or "A if" in erratum.remark:
        assert erratum.killed_by == ("law", "refutation", "demonstration")


@pytest.mark.parametrize(
    ("erratum", "catch"),
    [(each, catch) for each in ERRATA.values() for catch in each.catches()],
    ids=lambda value: value.id if isinstance(value, Erratum) else str(value),
)
def test_the_laws_reject_it(erratum: Erratum, catch) -> None:
    """An implementation that makes the mistake, rounded once, is rejected within a few cases (all claims: tests/laws)."""
    source = NumpySource(np.random.default_rng(0))
    claim = Claim("fp64")
    assert catch.mistake.concerns(claim)
    assert any(rejection(catch.law, catch.mistake, catch.law.cases(source, claim)).worst > 1 for _ in range(50))


def test_every_erratum_that_a_law_names_up_to_the_last_recorded_one_is_recorded() -> None:
    named = {mistake.erratum for law in REGISTRY for mistake in law.mistakes if mistake.erratum}
    assert {name for name in named if name <= max(ERRATA)} <= set(ERRATA)
    assert len(ERRATA) == int(max(ERRATA)[1:])
    assert set(REFUTATIONS) <= set(ERRATA)


def test_ids_are_unbroken_within_a_subject_and_subjects_are_their_files() -> None:
    records = [erratum for subject in SUBJECTS for erratum in subject.ERRATA]
    assert [erratum.id for erratum in records] == sorted(ERRATA)
    for subject in SUBJECTS:
        first = int(subject.ERRATA[0].id[1:])
        ids = [f"E{n:02d}" for n in range(first, first + len(subject.ERRATA))]
        assert [erratum.id for erratum in subject.ERRATA] == ids
    assert len({erratum.name for erratum in records}) == len({erratum.title for erratum in records}) == len(records)
    for subject in SUBJECTS:
        assert {erratum.subject for erratum in subject.ERRATA} == {subject.__name__.rpartition(".")[2]}


@EACH
def test_records_are_complete(erratum: Erratum) -> None:
    assert erratum.severity in SEVERITIES
    assert erratum.written != erratum.right
    assert erratum.formulas
    assert erratum.demonstration.__name__ == erratum.name
    assert (erratum.demonstration.__doc__ or "").startswith(erratum.id)
    for formula in (erratum.written, erratum.right):
        assert formula.count("{") == formula.count("}")
        assert "$" not in formula
    for text in (erratum.why, erratum.title, erratum.damage):
        assert text.count("$") % 2 == 0
        assert not re.search(r"\bnotes?\b|\bseeds?\b|\.txt|\.md", text)


def test_find_takes_either_case_and_lists_what_exists() -> None:
    assert find("e13") is find("E13") is ERRATA["E13"]
    with pytest.raises(RangeError, match=r"no erratum is called 'E99'; there are E01, E02, .*E23"):
        find("E99")
