"""Laws as test items of pytest, for its option ``--ddpm-adapter``; only the plugin imports this."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ddpm_ref.conformance.adapters import load
from ddpm_ref.conformance.front_doors import LawCheck, law_checks, marks
from ddpm_ref.errors import DdpmRefError, LawViolation


class LawItem(pytest.Item):
    """One law held against one adapter."""

    def __init__(self, *, law_check: LawCheck, adapter: str, **settings: Any):
        super().__init__(**settings)
        self.law_check, self.adapter = law_check, adapter
        for mark in marks(law_check, pytest):
            self.add_marker(mark)

    def runtest(self) -> None:
        """Hold the implementation against the law."""
        found = self.law_check()
        if not found.applicable:
            pytest.skip(f"not applicable: {found.reason}")

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """The violation in its own words, without a traceback."""
        if isinstance(excinfo.value, LawViolation):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """What pytest shows for it."""
        return self.path, 0, f"{self.adapter} [{self.law_check}]"


def law_items(session: Any, adapters: Sequence[str], laws: str, max_examples: int) -> list[LawItem]:
    """The items of some adapters named ``package.module:attribute``; wrong usage is told in pytest's way."""
    # The current folder is where adapters are written, and pytest does not always look there.
    sys.path.insert(0, os.getcwd())
    try:
        return [
            LawItem.from_parent(session, name=f"{path}[{check}]", law_check=check, adapter=path)
            for path in adapters
            for check in law_checks(load(path), laws, max_examples)
        ]
    except DdpmRefError as error:
        raise pytest.UsageError(str(error)) from error
