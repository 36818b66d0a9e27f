"""Every citation key that the package or its pages use is in the bibliography, and the bibliography holds nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import ddpm_ref
from ddpm_ref import sources
from ddpm_ref.errors import RangeError
from ddpm_ref.laws import REGISTRY

PACKAGE = Path(ddpm_ref.__file__).parent
PAGES = Path(__file__).parent.parent / "docs"
# A surname, a year of a printed work, and sometimes a letter or a word: ho2020, song2020ddim.
KEY = re.compile(r"\b[a-z]{2,}(?:19|20)\d\d[a-z]*\b")


def keys(text: str) -> set[str]:
    return set(KEY.findall(text))


def used() -> dict[str, set[str]]:
    """Where each key is used; file names relative to their root."""
    where: dict[str, set[str]] = {}
    for root, pattern in ((PACKAGE, "**/*.py"), (PAGES, "*.md")):
        for path in root.glob(pattern):
            for key in keys(path.read_text(encoding="utf-8")):
                where.setdefault(key, set()).add(str(path.relative_to(root)))
    return where


def test_every_key_used_is_in_the_bibliography() -> None:
    unknown = {key: sorted(files) for key, files in used().items() if key not in sources.works()}
    assert not unknown


def test_every_work_is_used() -> None:
    # This file's own names do not count: only the package and the pages are read.
    assert not set(sources.works()) - set(used())


def test_the_search_finds_keys_and_only_keys() -> None:
    text = "ho2020, eq. (7); song2020ddim; Higham 2002; sqrt2 x2020x3 in 2021 vincent2011."
    assert keys(text) == {"ho2020", "song2020ddim", "vincent2011"}


def test_laws_name_their_source() -> None:
    for law in REGISTRY:
        assert law.source


@pytest.mark.parametrize("work", sources.works().values(), ids=lambda work: work.key)
def test_entries_are_complete(work: sources.Work) -> None:
    year = re.search(r"\d{4}", work.key)
    assert year is not None
    assert work.field("year") == year.group()
    assert work.field("title")
    assert work.field("author").lower().startswith(re.match(r"[a-z]+", work.key).group())  # type: ignore[union-attr] # KEY matched
    assert work.field("eprint") or work.field("doi")
    assert work.link.startswith("https://")


def test_bibliography_has_no_stray_entries() -> None:
    text = (PACKAGE / sources.FILE_NAME).read_text(encoding="utf-8")
    assert text.count("\n@") == len(sources.works())


def test_cite() -> None:
    both = sources.cite("ho2020", "nichol2021")
    assert both.startswith("@inproceedings{ho2020,")
    assert "\n}\n\n@inproceedings{nichol2021," in both
    assert sources.cite().count("\n\n@") == len(sources.works()) - 1


def test_unknown_key_is_named_with_those_there_are() -> None:
    with pytest.raises(RangeError, match="'ho2019' is not in the bibliography; write one of ho2020"):
        sources.cite("ho2020", "ho2019")
