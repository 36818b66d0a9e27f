"""A failure that is expected by name or by kind excuses no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import command_line
import jsonschema
import numpy as np
import pytest

from ddpm_ref.commands.json_numbers import finite
from ddpm_ref.conformance import ExpectedFailure, NumpyAdapter, ReferenceAdapter, check, law_checks
from ddpm_ref.conformance.report_json import schema
from ddpm_ref.conformance.verdict import ExpectedViolation
from ddpm_ref.errors import ClaimError, LawViolation

LAW = "forward/q_sample"
ROUNDED = "one minus rounded product"
ADAPTER = """
import numpy as np
from ddpm_ref.conformance import NumpyAdapter

class Mine(NumpyAdapter):
    def schedule(self, betas):
        return np.append(1.0, np.cumprod(1 - betas))

    def q_sample(self, a, x0, t, noise):
        a = np.reshape(a[t], np.shape(t) + (1,) * (x0.ndim - np.ndim(t)))
        return np.sqrt(a) * x0 + ROOT(1 - a) * noise
"""


class Rounded(NumpyAdapter):
    """Right in real numbers."""

    def schedule(self, betas: np.ndarray) -> np.ndarray:
        return np.append(1.0, np.cumprod(1 - betas))

    def q_sample(self, a: np.ndarray, x0: np.ndarray, t: Any, noise: np.ndarray) -> np.ndarray:
        a = np.reshape(a[t], np.shape(t) + (1,) * (x0.ndim - np.ndim(t)))
        return np.sqrt(a) * x0 + self.root(1 - a) * noise

    def root(self, variance: np.ndarray) -> np.ndarray:
        return np.sqrt(variance)


class Wrong(Rounded):
    """The variance where its root belongs."""

    def root(self, variance: np.ndarray) -> np.ndarray:
        return variance


ENTRIES: list[tuple[Any, str, str]] = [
    ("enough for us", "expected failure", "expected failure"),
    ({"reason": "enough for us"}, "expected failure", "expected failure"),
    ({"reason": "enough for us", "mistake": ROUNDED}, "expected failure", "VIOLATED"),
    ({"reason": "enough for us", "kind": "rounding"}, "expected failure", "VIOLATED"),
    (ExpectedFailure("enough for us", mistake="one_minus_rounded_product"), "expected failure", "VIOLATED"),
    (ExpectedFailure("enough for us", mistake=["shifted by one", ROUNDED]), "expected failure", "VIOLATED"),
    (ExpectedFailure("enough for us", mistake=ROUNDED, kind="logic"), "VIOLATED", "VIOLATED"),
    (ExpectedFailure("it is meant", mistake="variance used as standard deviation"), "VIOLATED", "expected failure"),
]


@pytest.mark.parametrize(("entry", "of_rounded", "of_wrong"), ENTRIES, ids=[str(entry) for entry, *_ in ENTRIES])
def test_an_entry_excuses_what_it_names(entry: Any, of_rounded: str, of_wrong: str) -> None:
    for adapter, verdict in ((Rounded(), of_rounded), (Wrong(), of_wrong)):
        report = check(adapter, LAW, 3, expected_failures={LAW: entry})
        (finding,) = report.findings
        assert finding.verdict == verdict
        assert report.ok == (verdict == "expected failure")
        assert bool(report.causes) == (verdict == "VIOLATED")
        assert finding.expected in ("enough for us", "it is meant")


def test_what_was_expected_is_said_beside_what_came() -> None:
    entry = ExpectedFailure("enough for us", mistake=ROUNDED)
    report = check(Wrong(), LAW, 3, expected_failures={LAW: entry})
    assert "WRONG: variance used as standard deviation" in str(report)
    assert f"{LAW} fails in another way than expected: enough for us ({ROUNDED})" in str(report)
    with pytest.raises(LawViolation, match=r"expected another failure: enough for us \(one minus"):
        report.raise_for_violation()
    data = json.loads(json.dumps(finite(report.as_json()), allow_nan=False))
    jsonschema.validate(data, schema())
    (law,) = data["laws"]
    assert (law["verdict"], law["expected"], law["expected_mistakes"]) == ("VIOLATED", "enough for us", [ROUNDED])
    assert [violation["expected"] for violation in law["violations"]] == [False]


def test_it_ends_on_the_day_on_which_the_law_holds() -> None:
    report = check(
        ReferenceAdapter(), LAW, 3, expected_failures={LAW: ExpectedFailure("enough for us", mistake=ROUNDED)}
    )
    assert [finding.verdict for finding in report.findings] == ["NO LONGER FAILS"]


def test_a_law_that_is_called_says_whether_it_was_expected() -> None:
    known = {LAW: {"reason": "enough for us", "mistake": ROUNDED}}
    (right,), (wrong,) = (law_checks(adapter, LAW, 3, expected_failures=known) for adapter in (Rounded(), Wrong()))
    with pytest.raises(ExpectedViolation):
        right()
    with pytest.raises(LawViolation) as raised:
        wrong()
    assert not isinstance(raised.value, ExpectedViolation)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"mistake": ROUNDED}, "has no reason"),
        (ExpectedFailure(" "), "has no reason"),
        ({"reason": "why", "mistake": "nothing"}, "no mistake 'nothing'; there are shifted by one, "),
        ({"reason": "why", "kind": "bad"}, "no kind 'bad'; there are logic, rounding"),
        ({"reason": "why", "laws": "x"}, r"has \['laws'\]; write reason, and maybe mistake and kind"),
    ],
)
def test_wrong_usage_is_an_error(entry: Any, words: str) -> None:
    with pytest.raises(ClaimError, match=words):
        check(Rounded(), LAW, 1, expected_failures={LAW: entry})


@pytest.mark.parametrize(("root", "status"), [("np.sqrt", 0), ("np.abs", 1)])
def test_a_file_for_the_command_line(
    root: str, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"adapter_with_{root.removeprefix('np.')}"
    (tmp_path / f"{name}.py").write_text(ADAPTER.replace("ROOT", root))
    (tmp_path / "known.toml").write_text(f'"{LAW}" = {{ reason = "enough for us", mistake = "{ROUNDED}" }}\n')
    options = ["--laws", LAW, "--max-examples", "3", "--expected-failures", "known.toml"]
    assert command_line.run(["verify", f"{name}:Mine", *options], capsys)[0] == status
