"""The page of known failures is what its data say, and the data are what the kit still finds."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
DATA = json.loads((ROOT / "docs/known-failures.json").read_text(encoding="utf-8"))
# What must be found unaided, by the name it is given.
FOUND = {
    "complement after cast to storage",
    "one minus rounded product",
    "root of alpha bar taken for it",
    "previous level at even distance",
    "logarithm used as variance and last step known by its level",
}


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("known_failures", ROOT / "benchmarks/known_failures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


# How many digits the found case keeps depends on the case, and that on what else is loaded: Hypothesis tries constants of the
# modules it finds.
OF_THE_CASE = re.compile(r" \(keeps [^)]*\)")


def names(subjects: list[dict]) -> set[str]:
    return {OF_THE_CASE.sub("", cause["name"]) for subject in subjects for cause in subject["causes"]}


def test_the_page_is_made_from_the_data() -> None:
    assert generator().page(DATA) == (ROOT / "docs/known-failures.md").read_text(encoding="utf-8")


def test_the_live_defects_are_found_and_named() -> None:
    assert names(DATA["diffusers"]["subjects"]) >= FOUND
    fixed_large_log = next(s for s in DATA["diffusers"]["subjects"] if "fixed_large_log" in s["name"])
    assert "nan" in {cause["got"] for cause in fixed_large_log["causes"]}
    assert set(DATA) == {"diffusers", "guided-diffusion", "lucidrains"}


@pytest.mark.full
def test_the_kit_still_finds_them() -> None:
    module = generator()
    found = [json.loads(json.dumps(module.finite(module.as_data(subject)))) for subject in module.diffusers()]
    assert names(found) == names(DATA["diffusers"]["subjects"])
    assert [s["holds"] for s in found] == [s["holds"] for s in DATA["diffusers"]["subjects"]]
