"""Citations: the keys that docstrings, laws and pages use (``ho2020``), and the works they stand for.

The one copy of the bibliography lies in the package, beside this file: ``references.bib``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import NamedTuple

from ddpm_ref.errors import RangeError

FILE_NAME = "references.bib"


class Work(NamedTuple):
    """One entry of the bibliography: its key, and its BibTeX as it stands in the file."""

    key: str
    bibtex: str

    def field(self, name: str) -> str:
        """A field of the entry without its braces, or an empty string.

        >>> works()["vincent2011"].field("year")
        '2011'
        """
        found = re.search(rf"^\s*{re.escape(name)}\s*=\s*\{{(.*)\}},?\s*$", self.bibtex, re.MULTILINE)
        return re.sub(r"[{}]", "", found.group(1)) if found else ""

    @property
    def link(self) -> str:
        """Where the work is to be found: arXiv or DOI, as a web address."""
        if eprint := self.field("eprint"):
            return f"https://arxiv.org/abs/{eprint}"
        return f"https://doi.org/{self.field('doi')}"


@cache
def works() -> dict[str, Work]:
    """Every work in the bibliography, by key, in the order of the file."""
    text = resources.files("ddpm_ref").joinpath(FILE_NAME).read_text(encoding="utf-8")
    return {work.key: work for work in _entries(text)}


def _entries(text: str) -> Iterator[Work]:
    # An entry starts with @kind{key, at the beginning of a line and ends with the first brace that stands there.
    for entry in re.finditer(r"^@\w+\{([\w-]+),\n.*?^\}", text, re.MULTILINE | re.DOTALL):
        yield Work(entry.group(1), entry.group(0))


def cite(*keys: str) -> str:
    """BibTeX of the named works, ready to paste; of all of them if none is named.

    Args:
        keys: citation keys as they stand in docstrings and reports.

    Returns:
        the entries, one blank line between them.

    Raises:
        RangeError: a key that the bibliography does not have.

    >>> print(cite("vincent2011").splitlines()[0])
    @article{vincent2011,
    """
    known = works()
    missing = [key for key in keys if key not in known]
    if missing:
        raise RangeError(f"source {missing[0]!r} is not in the bibliography; write one of {', '.join(known)}")
    return "\n\n".join(known[key].bibtex for key in keys or known)
