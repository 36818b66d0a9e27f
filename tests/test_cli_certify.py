"""Proofs on the command line, and the flags that name a schedule there: output, exit status, one line for what is wrong."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import command_line
import numpy as np
import pytest

import ddpm_ref
from ddpm_ref import certificate, linear_schedule
from ddpm_ref.certificate import Certificate
from ddpm_ref.commands.schedule_flags import ScheduleFlags
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.schedule_config import ScheduleArguments, ScheduleConfig


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit status, output and errors of the command line in this process."""
    return command_line.run(arguments, capsys)


def test_linear_and_cosine_are_proved_without_more(capsys: pytest.CaptureFixture[str]) -> None:
    """No laws are run: the mirror's are not in the output."""
    status, out, _ = run("verify", "--certify", capsys=capsys)
    assert status == 0
    summaries = [line for line in out.splitlines() if "proved; schedule" in line]
    assert len(summaries) == 2
    assert all(line.startswith("32020 entries, 32020 proved, 0 refuted, 0 unproved: proved") for line in summaries)
    assert [line for line in out.splitlines() if ", T = " in line] == ["linear, T = 1000", "cosine, T = 1000"]
    assert "laws hold" not in out


def test_a_certificate_is_written_and_checked_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "cert.json")
    named = ("--kind", "cosine", "--T", "20", "--s", "0.01", "--zero-terminal-snr")
    status, out, _ = run(
        "verify", "--certify", *named, "--steps", "5", "--spacing", "trailing", "--certificate", path, capsys=capsys
    )
    assert status == 0
    assert "cosine, T = 20, s = 0.01, zero_terminal_snr = True" in out
    assert "trajectory.eps_weight" in out
    read = Certificate.read(path)
    assert read.schedule == ScheduleConfig("cosine", T=20, s=0.01, zero_terminal_snr=True)
    assert read.levels == (20, 16, 12, 8, 4, 0)
    assert read.digest in out
    for asked in ((), named):
        status, out, _ = run("verify", "--check-certificate", path, *asked, capsys=capsys)
        assert status == 0
        assert "every digest and count is that of the proof made again" in out
    status, _, err = run("verify", "--check-certificate", path, "--kind", "linear", "--T", "20", capsys=capsys)
    assert status == 2
    assert "at level t = 1; the schedule asked for has 0.0001" in err


def test_betas_from_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    betas = [0.1, 0.3, 1.0]
    (tmp_path / "hex.json").write_text(json.dumps([beta.hex() for beta in betas]))
    (tmp_path / "numbers.json").write_text("[0.1, 0.3, 1]")
    np.save(tmp_path / "array.npy", np.array(betas))
    np.save(tmp_path / "single.npy", np.array(betas, dtype=np.float32))
    exact = NoiseSchedule.from_betas(betas)
    for name in ("hex.json", "numbers.json", "array.npy", "single.npy"):
        status, out, _ = run("verify", "--certify", "--betas", str(tmp_path / name), capsys=capsys)
        assert (status, "betas given, T = 3" in out) == (0, True)
        status, out, _ = run("table", "--betas", str(tmp_path / name), "--json", capsys=capsys)
        table = json.loads(out)
        assert (status, table["schedule"], table["T"]) == (0, None, 3)
        assert (table["digest"] == exact.digest) is (name != "single.npy")


def test_a_table_that_is_wrong_exits_1_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    naive = property(lambda self: np.append(1.0, np.cumprod(1 - self.beta[1:])))
    monkeypatch.setattr(NoiseSchedule, "alpha_bar", naive)
    path = tmp_path / "cert.json"
    status, out, _ = run(
        "verify", "--certify", "--kind", "linear", "--T", "50", "--certificate", str(path), capsys=capsys
    )
    assert status == 1
    assert "refuted: alpha_bar at t = " in out
    assert ": refuted; schedule" in out
    assert Certificate.read(path).verdict == "refuted"
    # The same tables give the same refutations, and the certificate that says so holds.
    assert run("verify", "--check-certificate", str(path), capsys=capsys)[0] == 1


def test_too_few_bits_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run("verify", "--certify", "--kind", "linear", "--T", "5", "--max-bits", "40", capsys=capsys)
    assert status == 1
    assert ": unproved; schedule" in out


ADAPTER = """
from ddpm_ref.conformance import NumpyAdapter
import numpy as np

class Wrong(NumpyAdapter):
    name = "wrong"
    def schedule(self, betas):
        return np.concatenate([[1.0], np.cumprod(1 - betas)])
    def q_sample(self, alpha_bar, x0, t, noise):
        a = alpha_bar[t].reshape(np.shape(t) + (1,) * (x0.ndim - np.ndim(t)))
        return np.sqrt(a) * x0 + (1 - a) * noise
"""


def test_an_adapter_is_held_against_the_laws_as_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong_adapter.py").write_text(ADAPTER)
    laws = ("--laws", "forward/q_sample", "--max-examples", "3")
    status, out, _ = run(
        "verify", "wrong_adapter:Wrong", "--certify", "--kind", "linear", "--T", "5", *laws, capsys=capsys
    )
    assert status == 1
    assert ": proved; schedule" in out
    assert "variance used as standard deviation" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verify", "--kind", "cosine"], "--kind says what to prove; give --certify"),
        (["verify", "--T", "10"], "--T says what to prove; give --certify"),
        (["verify", "--zero-terminal-snr"], "--zero-terminal-snr says what to prove"),
        (["verify", "--steps", "10"], "--steps says what to prove"),
        (["verify", "--certificate", "cert.json"], "--certificate says what to prove"),
        (["verify", "--certify", "--check-certificate", "cert.json"], "give one of the two"),
        (["verify", "--check-certificate", "cert.json", "--max-bits", "99"], "--max-bits goes with --certify"),
        (["verify", "--certify", "--kind", "linear", "--spacing", "even"], "give its number of steps"),
        (["verify", "--certify", "--certificate", "cert.json"], "holds the proof of one schedule; name it"),
        (["verify", "--certify", "--T", "10"], "--T is of a named schedule; name it: --kind KIND"),
        (["verify", "--certify", "--kind", "cosine", "--beta-1", "0.1"], "--beta-1 is not an argument of the cosine"),
        (["verify", "--certify", "--kind", "linear", "--T", "0"], "T = 0 must be a whole number of levels"),
        (["verify", "--certify", "--kind", "linear", "--T", "9", "--steps", "10"], "steps = 10 must be"),
        (["verify", "--certify", "--kind", "linear", "--max-bits", "1"], "max_bits = 1 must be"),
        (["verify", "--certify", "--laws", "forward/*"], "--laws is of the laws, and a proof runs none"),
        (["verify", "--certify", "--kind", "linear", "--certificate", "cert.pdf"], "a name ending in .json"),
        (["verify", "--certify", "--kind", "linear", "--certificate", "no/such/cert.json"], "does not exist"),
        (["verify", "--certify", "--betas", "missing.json"], "cannot be read (no such file"),
        (["verify", "--certify", "--betas", "betas.json", "--kind", "linear"], "leave out the kind, linear"),
        (
            ["verify", "--certify", "--betas", "betas.json", "--T", "3"],
            "--betas gives the whole schedule; leave out --T",
        ),
        (["verify", "--check-certificate", "missing.json"], "cannot be read (no such file"),
        (["verify", "--check-certificate", "betas.json"], "not a ddpm_ref certificate"),
        (["verify", "--check-certificate", "text.json"], "is not JSON"),
        (["table"], "no schedule is named; give a kind (linear, cosine, ...), or a file: --betas FILE"),
        (["table", "linear", "--betas", "betas.json"], "leave out the kind, linear"),
        (["table", "--betas", "text.json"], "text.json holds no list of betas"),
        (["table", "--betas", "table.json"], "its JSON is no list"),
        (["table", "--betas", "decimal.json"], "item 2 is '0.1'"),
        (["table", "--betas", "logical.json"], "item 1 is True"),
        (["table", "--betas", "large.json"], "betas at level t = 2 is 1.5"),
        (["table", "--betas", "text.npy"], "text.npy holds no list of betas"),
        (["table", "--betas", "objects.npy"], "objects.npy holds no list of betas"),
        (["table", "--betas", "whole.npy"], "betas have dtype int64"),
    ],
)
def test_wrong_usage_exits_2_with_one_line(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = {
        "betas": "[0.5]",
        "text": "beta",
        "table": "{}",
        "decimal": '[0.5, "0.1"]',
        "logical": "[true]",
        "large": "[0.1, 1.5, 0.1]",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.json").write_text(text)
    (tmp_path / "text.npy").write_text("beta")
    np.save(tmp_path / "objects.npy", np.array([None]), allow_pickle=True)
    np.save(tmp_path / "whole.npy", np.array([1, 1]))
    status, _, err = run(*arguments, capsys=capsys)
    assert status == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "cert.json").exists()


def test_without_python_flint_the_extra_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(certificate.__name__)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(ddpm_ref, "certificate")
    monkeypatch.setitem(sys.modules, "flint", None)
    for arguments in (["--certify"], ["--check-certificate", "cert.json"]):
        status, _, err = run("verify", *arguments, capsys=capsys)
        assert status == 2
        assert "flint is not installed; write: pip install 'ddpm-ref[certify]'" in err


def test_the_flags_are_those_of_the_record() -> None:
    flags = {field.name for field in dataclasses.fields(ScheduleFlags)}
    assert flags == {field.name for field in dataclasses.fields(ScheduleArguments)} | {"T", "betas"}


def test_a_table_takes_every_argument(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run("table", "linear", "--T", "3", "--beta-1", "0.1", "--beta-T", "0.5", "--json", capsys=capsys)
    assert (status, json.loads(out)["digest"]) == (0, linear_schedule(3, 0.1, 0.5).digest)
    status, out, _ = run(
        "table", "sigmoid_alpha_bar", "--T", "3", "--start", "-2", "--tau", "0.5", "--json", capsys=capsys
    )
    expected = ddpm_ref.sigmoid_alpha_bar_schedule(3, start=-2, tau=0.5)
    assert (status, json.loads(out)["digest"]) == (0, expected.digest)
