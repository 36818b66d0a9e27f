"""Every formula has what its section demands, nothing stands outside unexplained, and each check can fail."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import command_line
import pytest

from ddpm_ref import coverage
from ddpm_ref.coverage import Cell, Formula, Matrix, Report, Section, judged, places, report, table, troubles, written
from ddpm_ref.coverage.formulas import Entry
from ddpm_ref.coverage.page import page
from ddpm_ref.errors import RangeError
from ddpm_ref.laws import REGISTRY

FINISHED = set(range(1, 11))
FORMULAS = {formula.id: (formula, section) for section in written().sections for formula in section.formulas}


@cache
def whole() -> Report:
    return report()


# --- what is written holds --------------------------------------------------------------------------------------------


def test_there_are_112_formulas_in_ten_sections() -> None:
    sections = written().sections
    assert [section.number for section in sections] == list(range(1, 11))
    assert [len(section.formulas) for section in sections] == [10, 12, 12, 9, 13, 14, 7, 13, 10, 12]
    assert len(FORMULAS) == 112
    assert {section.number for section in sections if section.finished} == FINISHED


def test_nothing_is_wrong_with_the_whole() -> None:
    assert troubles(written()) == []


@pytest.mark.parametrize("number", range(1, 11))
def test_every_cell_of_a_section_holds_and_was_looked_up(number: int) -> None:
    tally = whole().tallies[number - 1]
    wrong = [(row.formula.id, *cell) for row in tally.rows for cell in row.cells.items() if not cell[1].holds]
    assert not wrong
    assert tally.holds
    states = set(tally.states)
    assert states <= {"filled", "not applicable"} | (set() if number in FINISHED else {"later"})


def test_every_law_belongs_to_a_formula_or_is_named_beyond_them() -> None:
    attached, beyond = written().named("law"), {name for group in written().beyond for name in group.laws}
    assert attached | beyond == {law.id for law in REGISTRY}
    assert not attached & beyond


def test_a_derivation_of_the_name_of_a_formula_is_in_its_cell() -> None:
    own = [id_ for id_ in places.derivations() if id_ in FORMULAS]
    assert len(own) > 80
    assert [id_ for id_ in own if id_ not in FORMULAS[id_][0].entries["symbolic"]] == []


def test_a_mirror_of_the_same_name_is_in_the_cell_beside() -> None:
    """Functions have one name in both, so that what the mirror has and a cell leaves out would show here."""
    pairs = [(f, name) for f, _ in FORMULAS.values() for name in named(f, "reference") if name.count(".") == 3]
    twins = [(f, name.replace(".reference.", ".torch.")) for f, name in pairs]
    exist = [(f, name) for f, name in twins if leads_somewhere(name)]
    assert len(exist) > 80
    assert [(f.id, name) for f, name in exist if name not in named(f, "torch")] == []


def test_a_page_of_a_formula_names_its_functions() -> None:
    for formula, _ in FORMULAS.values():
        text = "".join((places.DOCS.parent / name.partition("#")[0]).read_text() for name in named(formula, "page"))
        last = [name.rpartition(".")[2] for name in named(formula, "reference")]
        assert [name for name in last if text and name not in text and formula.id != "extract_coefficients"] == []


def named(formula: Formula, column: str) -> tuple[str, ...]:
    entry = formula.entries[column]
    return () if isinstance(entry, str) else entry


def leads_somewhere(name: str) -> bool:
    try:
        places.found(name)
    except LookupError:
        return False
    return True


# --- each check fires -------------------------------------------------------------------------------------------------

FORMULA, SECTION = FORMULAS["q_sample"]


def cell_of(column: str, entry: Entry, *, finished: bool = True) -> Cell:
    changed = replace(FORMULA, entries={**FORMULA.entries, column: entry})
    return judged(changed, replace(SECTION, finished=finished))[column]


@pytest.mark.parametrize(
    ("column", "entry", "says"),
    [
        ("reference", ("ddpm_ref.reference.forward.q_simple",), "ddpm_ref.reference.forward has no 'q_simple'"),
        ("reference", ("ddpm_ref.reference.forwards.q_sample",), "ddpm_ref.reference has no 'forwards'"),
        ("reference", ("ddpm_ref.reference.schedule.NoiseSchedule.gamma",), "NoiseSchedule has no 'gamma'"),
        ("reference", ("ddpm_ref.torch.forward.q_sample",), "does not begin with ddpm_ref.reference."),
        ("reference", ("ddpm_ref.reference.named_schedules._count",), "is private"),
        ("torch", ("ddpm_ref.torch.Tables.gamma",), "Tables has no 'gamma'"),
        ("torch", ("ddpm_ref.reference.forward.q_sample",), "does not begin with ddpm_ref.torch. or"),
        ("symbolic", ("q_simple",), "no derivation is called 'q_simple'"),
        ("law", ("forward/q_simple",), "no law has the id 'forward/q_simple'"),
        ("law", ("forward/q_sample", "forward/nothing"), "'forward/nothing'"),
        ("page", ("docs/forwards.md#limits",), "there is no page docs/forwards.md"),
        ("page", ("docs/forward.md#limit",), "docs/forward.md has no heading for #limit"),
        ("page", ("docs/forward.md",), "is not written like docs/forward.md#limits"),
        ("law", "not applicable: no", "gives no reason"),
        ("law", "none", "is neither a list of names nor begins with"),
        ("law", "later: laws of the forward process", "in a finished section"),
    ],
)
def test_what_is_wrong_in_a_cell_is_said(column: str, entry: Entry, says: str) -> None:
    cell = cell_of(column, entry)
    assert cell.state == "broken"
    assert says in cell.says
    assert not cell.holds


@pytest.mark.parametrize("column", coverage.COLUMNS)
def test_an_empty_cell_fails_a_finished_section_only(column: str) -> None:
    source = "law" if column == "mistakes" else column  # mistakes are those of the laws
    entries = {name: entry for name, entry in FORMULA.entries.items() if name != source}
    emptied = replace(SECTION, formulas=(replace(FORMULA, entries=entries), *SECTION.formulas[1:]))
    tally = report(Matrix((emptied,))).tallies[0]
    assert tally.rows[0].cells[column].state == "empty"
    assert not tally.holds
    assert "cells empty or broken" in str(tally)
    assert report(Matrix((replace(emptied, finished=False),))).tallies[0].holds


def test_a_broken_cell_fails_an_unfinished_section_too() -> None:
    broken = replace(FORMULA, entries={**FORMULA.entries, "law": ("forward/nothing",)})
    assert not report(Matrix((replace(SECTION, finished=False, formulas=(broken,)),))).tallies[0].holds


def test_later_is_a_reason_in_an_unfinished_section() -> None:
    assert cell_of("law", "later: laws of the forward process", finished=False).state == "later"
    assert cell_of("law", "not applicable: there is nothing to return").state == "not applicable"


def changed(number: int, **fields: object) -> Matrix:
    """The matrix with something else in one section."""
    sections = tuple(replace(s, **fields) if s.number == number else s for s in written().sections)  # type: ignore[arg-type]
    return replace(written(), sections=sections)


def without(kind: str, name: str) -> Matrix:
    """The matrix with a name struck out wherever it stands."""

    def struck(names: Entry) -> Entry:
        return names if isinstance(names, str) else tuple(each for each in names if each != name)

    def of(formula: Formula) -> Formula:
        return replace(formula, entries={column: struck(entry) for column, entry in formula.entries.items()})

    sections = tuple(replace(s, formulas=tuple(map(of, s.formulas))) for s in written().sections)
    beyond = tuple(group._replace(**{kind: struck(getattr(group, kind))}) for group in written().beyond)
    return Matrix(sections, beyond)


def beyond(**fields: tuple[str, ...]) -> Matrix:
    """The matrix with one group more beyond the formulas."""
    return replace(written(), beyond=(*written().beyond, coverage.Group("no reason", **fields)))


FORWARD = written().sections[1]
TWICE = "ddpm_ref.reference.guidance.rescale"


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        (changed(2, formulas=FORWARD.formulas[1:]), "section 2: forward_chain has no entry"),
        (changed(2, ids=FORWARD.ids[:-1]), "section 2: single_noise_training_economy has an entry and is not listed"),
        (changed(2, ids=FORWARD.ids[::-1]), "section 2: the entries stand in another order than the list"),
        (changed(3, ids=("q_sample",)), "q_sample is listed 2 times"),
        (changed(2, ids=FORWARD.ids[:5]), "E63 is about q_sample, which is no formula"),
        (changed(2, formulas=(replace(FORMULA, unknown=("laws",)),)), "q_sample: there is no column 'laws'"),
        (changed(2, formulas=(replace(FORMULA, says=""),)), "q_sample: what it is, is not said"),
        (without("laws", "forward/step"), "law forward/step belongs to no formula; attach it, or say in beyond.toml"),
        (without("laws", "sampling/noise_split"), "law sampling/noise_split belongs to no formula"),
        (without("derivations", "adm_names"), "derivation adm_names belongs to no formula"),
        (without("functions", TWICE), f"function {TWICE} belongs to no formula"),
        (
            without("functions", "ddpm_ref.reference.reverse.learned_variance"),
            "function ddpm_ref.reference.reverse.learned_variance belongs to no formula",
        ),
        (beyond(laws=("forward/nothing",)), "beyond.toml names the law forward/nothing, which does not exist"),
        (beyond(laws=("forward/step",)), "law forward/step belongs to a formula; take it out of beyond.toml"),
        (beyond(functions=(TWICE,)), f"beyond.toml names the function {TWICE} 2 times"),
        (beyond(functions=("ddpm_ref.reference.nothing",)), "ddpm_ref.reference.nothing, which does not exist"),
        (beyond(derivations=("q_sample",)), "derivation q_sample belongs to a formula"),
    ],
)
def test_what_is_wrong_with_the_whole_is_said(matrix: Matrix, says: str) -> None:
    assert any(says in trouble for trouble in troubles(matrix))


def test_mistakes_are_counted_and_errata_found() -> None:
    cells = whole().tallies[1].rows[1].cells
    assert whole().tallies[1].rows[1].formula.id == "forward_step"
    assert cells["mistakes"] == Cell("filled", ("E01", "E06"), f"{len(REGISTRY['forward/step'].mistakes)} mistakes")
    beta = whole().tallies[0].rows[0].cells["mistakes"]
    assert (beta.state, beta.names) == ("not applicable", ("E09",))


def test_anchors_are_those_of_headings_outside_of_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "# The `name` of it\n```python\n# no heading\n```\n## Laws\n## Laws\n### A, b & c_d\n"
    (tmp_path / "made_for_this_test.md").write_text(text, encoding="utf-8")
    monkeypatch.setattr(places, "DOCS", tmp_path)
    assert list(places.anchors("made_for_this_test.md")) == ["the-name-of-it", "laws", "laws-1", "a-b--c_d"]


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_in_docs_is_the_one_generated_now() -> None:
    text = (places.DOCS / "coverage.md").read_text(encoding="utf-8")
    assert text == page(whole()), "write: ddpm-ref laws --coverage --page docs/coverage.md"
    assert "coverage.md" in (places.DOCS / "index.md").read_text(encoding="utf-8")


def test_links_of_the_page_lead_somewhere_and_its_tables_are_well_formed() -> None:
    text = page(whole())
    links = {link.partition("#")[::2] for link in re.findall(r"\]\(([^)]*)\)", text)}
    assert len(links) > 150
    for file, anchor in links:
        assert (places.DOCS / file).is_file() if file else True
        assert not anchor or anchor in places.anchors(file or "coverage.md"), (file, anchor)
    for block in re.findall(r"^\|.*\n(?:\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1
    assert len(re.findall(r"^\| `(\w+)`: ", text, re.MULTILINE)) == 112


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def already_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "report", lambda section=None: report(section=section) if section else whole())


@pytest.mark.usefixtures("already_reported")
def test_the_command_says_every_cell_and_sums_up(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = command_line.run("laws --coverage", capsys)
    lines = out.splitlines()
    assert status == 0
    assert len(lines) == 112 * 6 + 10
    assert all(line.split()[:2] == [id_, column] for line, (id_, column) in zip(lines, every_cell(), strict=False))
    assert lines[-9] == "2. Forward process: complete (12 formulas, 72 cells: 72 filled)"
    status, out, _ = command_line.run("laws --coverage --section 2", capsys)
    assert status == 0
    assert len(out.splitlines()) == 12 * 6 + 1


def every_cell() -> list[tuple[str, str]]:
    return [(id_, column) for id_ in FORMULAS for column in coverage.COLUMNS]


@pytest.mark.usefixtures("already_reported")
def test_the_command_writes_json_and_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = command_line.run("laws --coverage --json", capsys)
    told = json.loads(out)
    assert status == 0
    assert told["holds"] is True
    assert sum(len(section["formulas"]) for section in told["sections"]) == 112
    step = told["sections"][1]["formulas"][1]
    assert step["cells"]["law"] == {"state": "filled", "names": ["forward/step"], "says": ""}
    status, out, _ = command_line.run(f"laws --coverage --page {tmp_path}/coverage.md", capsys)
    assert status == 0
    assert (tmp_path / "coverage.md").read_text(encoding="utf-8") == page(whole())


@pytest.mark.parametrize("arguments", ["", "--json"])
def test_an_incomplete_finished_section_exits_1(
    arguments: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = {column: entry for column, entry in FORMULA.entries.items() if column != "page"}
    emptied: Section = replace(SECTION, ids=("q_sample",), formulas=(replace(FORMULA, entries=entries),))
    monkeypatch.setattr(coverage, "report", lambda section=None: replace(report(Matrix((emptied,))), troubles=()))
    status, out, _ = command_line.run(f"laws --coverage {arguments}", capsys)
    assert status == 1
    assert "nothing is written here" in out


def test_troubles_are_printed_and_exit_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "report", lambda section=None: report(without("laws", "forward/step"), section))
    status, out, _ = command_line.run("laws --coverage --section 3", capsys)
    assert status == 1
    assert out.splitlines()[-1].startswith("wrong: law forward/step belongs to no formula")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--coverage --section 11", "there is no section 11; there are 1 (Schedules and tables)"),
        ("--section 2", "write --coverage --section"),
        ("--json", "write --coverage --json"),
        ("--page coverage.md", "write --coverage --page"),
        ("--coverage --page coverage.md --json", "leave out --json"),
        ("--coverage --page coverage.md --section 2", "leave out --section"),
        ("--coverage --page coverage.pdf", "give a name ending in .md"),
    ],
)
def test_wrong_usage_exits_2_with_one_line(arguments: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = command_line.run(f"laws {arguments}", capsys)
    assert status == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_an_unknown_section_is_named() -> None:
    with pytest.raises(RangeError, match="there is no section 0"):
        report(section=0)


def test_a_terminal_gets_a_table() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    table.show(report(section=7), stream)
    assert "ancestral_step" in stream.getvalue()
    assert "prediction.clipped_prediction" in stream.getvalue()
    assert "─" in stream.getvalue()
    assert "7. Ancestral sampling: complete" in stream.getvalue()


# --- extras -----------------------------------------------------------------------------------------------------------


def fresh(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_importing_it_loads_nothing_else() -> None:
    loaded = "print(*(m for m in ('numpy', 'scipy', 'torch', 'sympy', 'rich', 'ddpm_ref.laws') if m in sys.modules))"
    done = fresh(f"import sys, ddpm_ref.coverage as c; c.written(); {loaded}")
    assert done.stdout.split() == [], done.stderr
    done = fresh(f"import sys; from ddpm_ref.coverage import places; places.law('forward/step'); {loaded}")
    assert done.stdout.split() == ["numpy", "ddpm_ref.laws"], done.stderr


HIDDEN = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "sympy"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Hide())
from ddpm_ref import cli
cli.main(sys.argv[1:])
"""


def without_torch_and_sympy(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", HIDDEN, *arguments], capture_output=True, text=True, check=False)


def test_without_extras_cells_say_so_and_nothing_fails() -> None:
    done = without_torch_and_sympy("laws", "--coverage", "--section", "2")
    assert done.returncode == 0, done.stderr
    assert "2. Forward process: complete (12 formulas, 72 cells: 48 filled, 24 not installed)" in done.stdout
    assert "forward.q_sample (not looked up: ddpm_ref.torch needs PyTorch, which is not installed" in done.stdout
    done = without_torch_and_sympy("laws", "--coverage", "--page", "coverage.md")
    assert (done.returncode, done.stderr) == (
        2,
        "ddpm-ref: sympy is not installed; write: pip install 'ddpm-ref[symbolic]'\n",
    )


def test_without_pages_cells_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "DOCS", tmp_path)
    cell = cell_of("page", ("docs/forward.md#limits",))
    assert (cell.state, cell.holds) == ("not installed", True)
    assert "the pages are not installed" in cell.says
