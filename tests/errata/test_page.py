"""The page is what the records say now, and the command shows it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ddpm_ref import cli
from ddpm_ref.errata import ERRATA, Erratum
from ddpm_ref.errata.page import section

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "errata.md").read_text(encoding="utf-8")


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        cli.main(["errata", *arguments])
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


def test_the_page_has_a_row_and_a_section_for_each() -> None:
    rows = re.findall(r"^\| \[(E\d\d)\]\(#(e\d\d)\) \| .* \|$", PAGE, re.MULTILINE)
    assert [name for name, _ in rows] == list(ERRATA) == re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    assert all(anchor == name.lower() for name, anchor in rows)
    assert "errata.md" in (DOCS / "index.md").read_text(encoding="utf-8")


def test_tables_and_formulas_are_well_formed() -> None:
    for block in re.findall(r"^\|.*\n(?:\|.*\n)+", PAGE, re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1
    formulas = re.findall(r"^```math\n(.*)\n```$", PAGE, re.MULTILINE)
    assert len(formulas) == PAGE.count("```math")
    assert all(formula.count("{") == formula.count("}") and formula.strip() for formula in formulas)
    prose = re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert prose.count("$") % 2 == 0


@pytest.mark.parametrize("erratum", ERRATA.values(), ids=ERRATA)
def test_a_section_has_the_forms_the_figures_the_laws_and_the_witness(erratum: Erratum) -> None:
    (text,) = re.findall(rf"^## {erratum.id}\n.*?(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    for needed in (erratum.written, erratum.right, erratum.why, erratum.title):
        assert needed in text
    for figure in erratum.figures():
        assert figure.live in text or "e" in figure.live
    for catch in erratum.catches():
        assert f"`{catch.law.id}`, as: {catch.mistake.name.replace('_', ' ')}" in text
    refutation = erratum.refutation()
    assert text.count("The right value") == (len(refutation.contrasts) if refutation else 0)


def test_the_command_lists_shows_and_writes_the_page_in_docs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(capsys=capsys)
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[1:-2]] == list(ERRATA)
    status, out, _ = run("E13", capsys=capsys)
    assert status == 0
    assert out == section(ERRATA["E13"]) + "\n"
    assert "`posterior/mean`, as: alpha bar in the weight of xt" in out
    assert "0.2896 ($t = 500$)" in out
    status, _, _ = run("--page", str(tmp_path / "errata.md"), capsys=capsys)
    assert status == 0
    assert (tmp_path / "errata.md").read_text(encoding="utf-8") == PAGE, "write: ddpm-ref errata --page docs/errata.md"
    assert [path.name for path in tmp_path.iterdir()] == ["errata.md"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["E99"], "no erratum is called 'E99'; there are E01, E02"),
        (["E13", "--page", "errata.md"], "leave out E13"),
        (["--page", "errata.pdf"], "give a name ending in .md"),
        (["--page", "no/such/folder/errata.md"], "does not exist"),
    ],
)
def test_wrong_usage_exits_2_with_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(*arguments, capsys=capsys)
    assert status == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1


WITHOUT_SYMPY = "import sys; sys.modules['sympy'] = None; "


def fresh(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_without_sympy_the_extra_is_named_and_records_still_load() -> None:
    done = fresh(WITHOUT_SYMPY + "from ddpm_ref import cli; cli.main(['errata', 'E13'])")
    assert done.returncode == 2
    assert done.stderr == "ddpm-ref: sympy is not installed; write: pip install 'ddpm-ref[symbolic]'\n"
    done = fresh(WITHOUT_SYMPY + "from ddpm_ref import errata; print(errata.find('E14').figures()[0].live)")
    assert (done.returncode, done.stdout) == (0, "135\n"), done.stderr


def test_records_load_nothing_heavy() -> None:
    loaded = "print(*(m for m in ('sympy', 'torch', 'scipy', 'mpmath', 'hypothesis') if m in sys.modules))"
    assert fresh(f"import sys; from ddpm_ref import errata; {loaded}").stdout.split() == []
    done = fresh(f"import sys; import ddpm_ref.errata.page; {loaded}")
    assert "sympy" in done.stdout.split(), done.stderr
