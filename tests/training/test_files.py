import json
from pathlib import Path

import pytest

from ddpm_ref.errors import OutputError
from ddpm_ref.files import MARKER, claim_folder, write_atomically


def test_a_new_folder_is_made_and_marked_and_may_be_claimed_again(tmp_path):
    folder = claim_folder(tmp_path / "a" / "b")
    (folder / "result").write_text("1")
    assert json.loads((folder / MARKER).read_text())["format"] == "ddpm_ref.run"
    claim_folder(folder)
    assert (folder / "result").read_text() == "1"


def test_an_empty_folder_may_be_claimed(tmp_path):
    assert claim_folder(tmp_path) == tmp_path


@pytest.mark.parametrize("mark", [None, "{}", "not json", "[]"])
def test_a_folder_with_somebody_else_s_files_is_left_alone(tmp_path, mark):
    (tmp_path / "thesis.tex").write_text("precious")
    if mark is not None:
        (tmp_path / MARKER).write_text(mark)
    before = {entry.name: entry.read_text() for entry in tmp_path.iterdir()}
    with pytest.raises(OutputError, match=r"left alone, name a new or empty folder"):
        claim_folder(tmp_path)
    assert {entry.name: entry.read_text() for entry in tmp_path.iterdir()} == before


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("precious")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="a file of that name is in the way"):
            claim_folder(place)


def test_a_folder_where_nothing_can_be_written_is_refused():
    # /proc takes no files, not even from root, for whom permissions mean nothing.
    with pytest.raises(OutputError, match="name a folder you may write to"):
        claim_folder(Path("/proc/ddpm_ref_cannot_be_here"))


def test_leftovers_of_a_killed_run_are_no_obstacle_and_are_removed(tmp_path):
    (tmp_path / ".run.json.123.ddpm_ref.tmp").write_text("half a fi")
    claim_folder(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == [MARKER]


def test_a_file_is_replaced_whole(tmp_path):
    write_atomically(tmp_path / "f", b"old and long")
    write_atomically(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 1
