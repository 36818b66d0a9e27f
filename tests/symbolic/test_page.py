"""The pages of derivations are what the proofs say today."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddpm_ref.symbolic import SUBJECTS
from ddpm_ref.symbolic.page import page

FOLDER = Path(__file__).parents[2] / "docs" / "derivations"


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.__name__.rpartition(".")[2])
def test_the_committed_page_is_the_generated_one(subject) -> None:
    committed = (FOLDER / f"{subject.__name__.rpartition('.')[2]}.md").read_text(encoding="utf-8")
    assert committed == page(subject), "write: ddpm-ref derive --pages docs/derivations"
