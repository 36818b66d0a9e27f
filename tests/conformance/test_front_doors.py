"""The decorator, the base class and the pytest plugin, each run by a pytest of its own; the three forms of a report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from ddpm_ref.commands.json_numbers import finite
from ddpm_ref.conformance import NumpyAdapter, ReferenceAdapter, Report, check, law_checks
from ddpm_ref.conformance.report_json import schema
from ddpm_ref.errors import LawViolation

MINE = """
import numpy as np
from ddpm_ref.conformance import LawSuite, NumpyAdapter, parametrize

class Mine(NumpyAdapter):
    name = "mine"

    def schedule(self, betas):
        return np.concatenate([[1.0], np.cumprod(1 - betas)])

    def alpha_bar(self, a):
        return a

    def q_sample(self, a, x0, t, noise):
        a = a[t].reshape(np.shape(t) + (1,) * (x0.ndim - np.ndim(t)))
        return np.sqrt(a) * x0 + (1 - a) * noise
"""
LAWS = "schedule/alpha_bar,schedule/snr,forward/q_sample"


def pytest_in(folder: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", *arguments]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)
    return done.returncode, done.stdout + done.stderr


def test_decorator_and_base_class(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        MINE
        + f'''
@parametrize(Mine, "{LAWS}", 3)
def test_decorated(law_check):
    law_check()

class TestBound(LawSuite):
    adapter = Mine()
    laws = "forward/q_sample"
    max_examples = 3
    expected_failures = {{"forward/q_sample": {{"reason": "rounds", "mistake": "one minus rounded product"}}}}

class TestSuite(LawSuite):
    adapter = Mine()
    laws = "{LAWS}"
    max_examples = 3
    expected_failures = {{"forward/q_sample": "known since yesterday"}}

class TestNoLongerFails(LawSuite):
    adapter = Mine()
    laws = "schedule/alpha_bar"
    max_examples = 3
    expected_failures = {{"schedule/alpha_bar": "was wrong once"}}
'''
    )
    status, said = pytest_in(tmp_path)
    assert status == 1
    assert "PASSED test_mine.py::test_decorated[schedule/alpha_bar]" in said
    assert "FAILED test_mine.py::test_decorated[forward/q_sample]" in said
    assert "agrees with: variance used as standard deviation" in said
    assert "not applicable: the adapter has no snr" in said
    assert "XFAIL test_mine.py::TestSuite::test_law[forward/q_sample] - known since yesterday" in said
    assert "FAILED test_mine.py::TestNoLongerFails::test_law[schedule/alpha_bar]" in said
    assert "FAILED test_mine.py::TestBound::test_law[forward/q_sample]" in said
    assert "expected another failure: rounds (one minus rounded product)" in said
    assert "3 failed, 2 passed, 2 skipped, 1 xfailed" in said


def test_plugin(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    few = ("--ddpm-laws", LAWS, "--ddpm-max-examples", "3")
    status, said = pytest_in(tmp_path, "--ddpm-adapter", "mine:Mine", *few)
    assert status == 1
    assert "1 failed, 1 passed, 1 skipped" in said
    assert "forward/q_sample under fp64/fp64: agrees with: variance used as standard deviation" in said
    assert "Traceback" not in said
    status, said = pytest_in(tmp_path, "--ddpm-adapter", "mine:Nobody")
    assert status == pytest.ExitCode.USAGE_ERROR
    assert "module 'mine' has no 'Nobody'" in said


def test_the_plugin_imports_nothing_until_it_is_asked() -> None:
    heavy = "('ddpm_ref', 'numpy', 'hypothesis', 'torch')"
    code = f"import sys, _ddpm_ref_pytest; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_laws_are_things_to_call_for_any_framework() -> None:
    (good,) = law_checks(ReferenceAdapter, "forward/q_sample", 3)
    assert good().verdict == "holds"
    bad, missing = law_checks(Half(), ["forward/q_sample", "forward/step"], 3)[::-1]
    with pytest.raises(LawViolation, match="forward/q_sample under fp64"):
        bad()
    assert missing.missing == "forward_step"
    assert missing().verdict == "not applicable"


# --- reports ----------------------------------------------------------------------------------------------------------


class Half(NumpyAdapter):
    """Wrong in one law, short of digits in another, right in a third."""

    name = "half <right>"

    def schedule(self, betas: np.ndarray) -> np.ndarray:
        return np.concatenate([[1.0], np.cumprod(1 - betas)])

    def alpha_bar(self, a: np.ndarray) -> np.ndarray:
        return a

    def beta_bar(self, a: np.ndarray) -> np.ndarray:
        return 1 - a

    def q_sample(self, a: np.ndarray, x0: np.ndarray, t: object, noise: np.ndarray) -> np.ndarray:
        a = a[t].reshape(np.shape(t) + (1,) * (x0.ndim - np.ndim(t)))
        return np.sqrt(a) * x0 + 0.5 * np.sqrt(1 - a) * noise


@pytest.fixture(scope="module")
def report() -> Report:
    laws = ["schedule/alpha_bar", "schedule/beta_bar", "schedule/snr", "forward/q_sample"]
    return check(Half(), laws, 20, expected_failures={"schedule/alpha_bar": "it was wrong in version 1"})


def test_verdicts_kinds_and_order_of_causes(report: Report) -> None:
    assert {f.law.id: f.verdict for f in report.findings} == {
        "schedule/alpha_bar": "NO LONGER FAILS",
        "schedule/beta_bar": "VIOLATED",
        "schedule/snr": "not applicable",
        "forward/q_sample": "VIOLATED",
    }
    assert [v.kind for c in report.causes for _, v in c.members] == ["logic", "rounding"]
    words = str(report)
    assert "LOST DIGITS: one minus rounded product (keeps " in words
    assert "of 53 bits" in words
    assert (
        "schedule/alpha_bar holds, but was expected to fail: it was wrong in version 1; take it off the list" in words
    )
    assert "1 no longer fail; 1 not applicable" in report.headline()
    with pytest.raises(LawViolation):
        report.raise_for_violation()


def test_an_expected_failure_does_not_spoil_a_report() -> None:
    report = check(Half(), "forward/q_sample", 5, expected_failures={"forward/*": "half of the noise is meant"})
    assert report.ok
    assert "expected: forward/q_sample, half of the noise is meant" in str(report)
    report.raise_for_violation()


def test_json_keeps_its_schema(report: Report) -> None:
    data = json.loads(json.dumps(finite(report.as_json()), allow_nan=False))
    jsonschema.validate(data, schema())
    (violation,) = data["laws"][3]["violations"]
    assert violation["got"] != violation["want"]
    assert violation["case"].startswith("NoiseSchedule")
    assert data["laws"][3]["curve"]["fp64/fp64"]
    del data["laws"][0]["cases"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, schema())


def test_markdown_says_each_cause_once(report: Report) -> None:
    page = report.as_markdown()
    assert page.startswith(f"# {report.headline()}\n")
    assert page.count("one minus rounded product") == 1
    assert "| `forward/q_sample` |" in page


def test_html_is_one_page_that_loads_nothing(report: Report) -> None:
    from html.parser import HTMLParser

    page = report.as_html()
    tags: list[tuple[str, dict[str, str | None]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append((tag, dict(attrs)))

    Reader().feed(page)
    names = {tag for tag, _ in tags}
    assert {"h1", "math", "svg", "section", "table"} <= names
    assert not names & {"script", "link", "img", "iframe"}
    assert not [attributes for _, attributes in tags if {"src", "href"} & set(attributes)]
    assert "half &lt;right&gt;, claim fp64/fp64" in page
