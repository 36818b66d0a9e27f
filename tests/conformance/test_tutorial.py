"""The page for newcomers does what it says: its files are written out as they stand, its commands run, their output compared."""

from __future__ import annotations

import doctest
import os
import re
import runpy
import shlex
import sys
from pathlib import Path

import command_line
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/verify-your-scheduler.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILES = {block.split()[1]: block for kind, block in BLOCKS if kind in ("python", "toml")}
SESSIONS = [block for kind, block in BLOCKS if kind == "console" and "pip install" not in block]
FEW = ["--max-examples", "10"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the page in the current folder, none of them imported before."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv(
        "HYPOTHESIS_STORAGE_DIRECTORY", str(ROOT / ".hypothesis")
    )  # what it knows of the code is kept there
    for name in FILES:
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def masked(text: str) -> str:
    """Without numbers: how many cases were tried, versions and seconds are not what the page is about."""
    return re.sub(r"[+-]?\d[\d.]*(e[+-]?\d+)?|inf", "#", text)


def agrees(said: str, printed: str) -> bool:
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(masked(said), masked(printed), options)


def test_the_page_has_files_that_can_be_copied() -> None:
    assert set(FILES) == {"scheduler.py", "mine.py", "known.toml", "steps.py", "ask.py", "test_mine.py"}
    assert all(text.startswith(f"# {name}\n") for name, text in FILES.items())
    assert not [text for text in FILES.values() if ">>>" in text]
    assert len([line for line in FILES["steps.py"].splitlines()[1:] if line.strip()]) <= 15
    assert len(SESSIONS) == 4


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session.splitlines()[0].removeprefix("$ "))
def test_what_is_typed_prints_what_is_shown(session: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed, shown = session.removeprefix("$ ").split("\n", 1)
    program, *arguments = shlex.split(typed)
    if program == "python":
        runpy.run_path(arguments[0])
        assert capsys.readouterr().out == shown
    else:
        status, printed, _ = command_line.run([*arguments, *FEW], capsys)
        assert agrees(shown, printed), printed
        assert status == ("--expected-failures" not in arguments)
        assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)


def test_verify_leaves_nothing_of_hypothesis_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ddpm_ref.commands.verify import _no_folder_of_hypothesis

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYPOTHESIS_STORAGE_DIRECTORY", raising=False)
    with _no_folder_of_hypothesis():
        folder = Path(os.environ["HYPOTHESIS_STORAGE_DIRECTORY"])
        assert folder.is_dir()
    assert not folder.exists()
    monkeypatch.setenv("HYPOTHESIS_STORAGE_DIRECTORY", "mine")
    with _no_folder_of_hypothesis():
        assert os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] == "mine"


def test_with_the_root_nothing_is_wrong_any_more(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scheduler = FILES["scheduler.py"]
    forgetful = "return mean + self._like(self.posterior_variance[t], xt) * noise"
    assert scheduler.count(forgetful) == 1
    right = forgetful.replace(
        "self._like(self.posterior_variance[t], xt)", "self._like(np.sqrt(self.posterior_variance[t]), xt)"
    )
    (folder / "scheduler.py").write_text(scheduler.replace(forgetful, right))
    _, printed, _ = command_line.run(["verify", "steps:Steps", "--laws", "ancestral/step", *FEW], capsys)
    assert "WRONG" not in printed
    assert "LOST DIGITS" in printed


def test_an_entry_that_names_the_mistake_excuses_no_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scheduler = FILES["scheduler.py"]
    (folder / "scheduler.py").write_text(scheduler.replace("np.sqrt(1.0 - a) * noise", "(1.0 - a) * noise"))
    known = ["--expected-failures", "known.toml", "--laws", "forward/*"]
    status, printed, _ = command_line.run(["verify", "mine:Mine", *known, *FEW], capsys)
    assert status == 1
    assert "WRONG: variance used as standard deviation" in printed
    assert "forward/q_sample fails in another way than expected: 1 - alphas_cumprod cancels" in printed


def test_the_tests_of_the_page_are_tests(folder: Path) -> None:
    tests = runpy.run_path("test_mine.py")["test_my_scheduler"]
    (mark,) = tests.pytestmark
    ids = [parameters.id for parameters in mark.args[1]]
    assert ids[0] == "schedule/alpha_bar"
    assert "forward/q_sample" in ids
