"""The command line, as a user meets it: output, exit status, one line for what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import command_line
import pytest

from ddpm_ref import linear_schedule
from ddpm_ref.laws import REGISTRY


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit status, output and errors of the command line in this process."""
    return command_line.run(arguments, capsys)


def test_table_prints_exact_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run("table", "linear", "--T", "1000", capsys=capsys)
    rows = [line.split() for line in out.splitlines()]
    assert status == 0
    assert rows[0] == ["t", "beta", "alpha_bar", "beta_bar", "beta_tilde", "snr", "log_snr"]
    assert len(rows) == 1002
    assert [float(row[2]) for row in rows[1:]] == linear_schedule(1000).alpha_bar.tolist()


def test_table_as_json_has_every_number_and_no_infinity(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run("table", "cosine", "--T", "10", "--zero-terminal-snr", "--json", capsys=capsys)
    table = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert status == 0
    assert table["tables"]["snr"][0] == "inf"
    assert table["tables"]["alpha_bar"][-1] == 0.0
    assert len(table["tables"]["beta"]) == 11


def test_laws_lists_every_law_and_show_tells_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run("laws", capsys=capsys)
    assert status == 0
    assert all(law.id in out for law in REGISTRY)
    status, out, _ = run("show", "posterior/mean", capsys=capsys)
    assert status == 0
    assert "alpha bar in the weight of xt (E13)" in out
    assert "ho2020, eq. (7)" in out
    status, out, _ = run("show", "reverse/step", "--smallest", capsys=capsys)
    assert status == 0
    assert out.count("times the bound") == 4


def test_verify_holds_and_writes_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    status, out, _ = run(
        "verify", "--laws", "forward/step", "--max-examples", "5", "--report", str(report), capsys=capsys
    )
    assert status == 0
    assert "forward/step" in out
    assert "1 of 1 laws hold" in out
    assert json.loads(report.read_text())["ok"] is True


def test_an_adapter_that_cannot_be_made_or_answers_nothing_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unparsable.py").write_text("def")
    (tmp_path / "raising.py").write_text("raise RuntimeError('by design')")
    (tmp_path / "unmakable.py").write_text("class A:\n    def __init__(self):\n        raise KeyError('by design')")
    (tmp_path / "silent.py").write_text(
        "from ddpm_ref.conformance import NumpyAdapter\nclass A(NumpyAdapter):\n    def schedule(self, betas): return betas"
    )
    for adapter, words in {
        "unparsable:A": "cannot be imported (SyntaxError",
        "raising:A": "cannot be imported (RuntimeError: by design)",
        "unmakable:A": "A cannot be made (KeyError",
        "silent:A": "answers none of the laws",
    }.items():
        status, _, err = run("verify", adapter, capsys=capsys)
        assert (status, len(err.strip().splitlines())) == (2, 1)
        assert words in err


BROKEN = """
from ddpm_ref.conformance import NumpyAdapter
import numpy as np

class Mine(NumpyAdapter):
    name = "mine"
    def schedule(self, betas):
        return np.concatenate([[1.0], np.cumprod(1 - betas)])
    def q_sample(self, alpha_bar, x0, t, noise):
        a = alpha_bar[t].reshape(np.shape(t) + (1,) * (x0.ndim - np.ndim(t)))
        return np.sqrt(a) * x0 + (1 - a) * noise
"""


def test_verify_of_somebody_s_broken_code_exits_1_and_names_the_mistake(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(BROKEN)
    command = [sys.executable, "-m", "ddpm_ref", "verify", "mine:Mine", "--max-examples", "20", "--laws", "forward/*"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "WRONG: variance used as standard deviation" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["table", "linear", "--T", "0"], "T = 0 must be a whole number of levels"),
        (["table", "linear", "--T", "100000"], "first at level t = 83641"),
        (["table", "linear", "--beta-1", "2"], "0 < beta_1 <= 1"),
        (["table", "cosine", "--beta-1", "0.1"], "--beta-1 is not an argument of the cosine schedule"),
        (["table", "constant", "--beta-T", "0.1"], "--beta-T is not an argument of the constant schedule"),
        (["table", "cosine", "--scale-ends"], "--scale-ends is not an argument of the cosine schedule"),
        (["show", "nothing"], "no law matches 'nothing'"),
        (["verify", "no.such.module:adapter"], "cannot be imported"),
        (["verify", "--laws", "nothing/*"], "no law matches"),
        (["verify", "--max-examples", "0"], "at least one case"),
        (["verify", "--device", "nonsense"], "device 'nonsense' cannot be used here"),
        (["verify", "--report", "report.pdf"], "a name ending in .json"),
        (["verify", "--report", "no/such/folder/report.json"], "does not exist"),
        (["demo", "--samples", "0"], "samples is 0"),
    ],
)
def test_wrong_usage_exits_2_with_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(*arguments, capsys=capsys)
    assert status == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments", [["nonsense"], ["table", "bogus"], ["table", "linear", "--T", "many"], []])
def test_what_cannot_be_parsed_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments, capsys=capsys)[0] == 2


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m ddpm_ref table linear --T 4000 | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""
