"""The folder of a run: two checkpoints, never both in danger, and one process at a time."""

import dataclasses
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from ddpm_ref.errors import CheckpointError, OutputError
from ddpm_ref.files import claim_folder
from ddpm_ref.training import Checkpoint, fit
from ddpm_ref.training.folder import CHECKPOINT_NAME, PREVIOUS_NAME, DamagedCheckpointWarning, latest, open_run

NAMES = [CHECKPOINT_NAME, PREVIOUS_NAME]


@pytest.fixture(scope="module")
def checkpoint(tiny_config):
    return fit(tiny_config()).checkpoint


@pytest.fixture
def with_steps(checkpoint):
    """The checkpoint as it would be after so many steps."""
    return lambda steps: dataclasses.replace(checkpoint, losses=checkpoint.losses[:steps])


def steps_of(folder):
    return [Checkpoint.load(folder / name).steps if (folder / name).exists() else None for name in NAMES]


def save_all(folder, checkpoints):
    with open_run(folder, checkpoints[0].config, "cpu") as run:
        for checkpoint in checkpoints:
            run.save(checkpoint)


def test_two_checkpoints_are_kept_and_nothing_else(tmp_path, with_steps):
    save_all(tmp_path, [with_steps(1)])
    assert steps_of(tmp_path) == [1, None]
    with open_run(tmp_path, with_steps(1).config, "cpu", resume=True) as run:
        run.save(with_steps(1))  # it is there already
        assert steps_of(tmp_path) == [1, None]
        run.save(with_steps(2))
        assert steps_of(tmp_path) == [2, 1]
        run.save(with_steps(3))
    assert steps_of(tmp_path) == [3, 2]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([*NAMES, "run.json", "log.jsonl"])


class Killed(BaseException):
    """As by kill -9: nothing is cleaned up after it."""


def kill_before(monkeypatch, number):
    """Let the process die before its ``number``-th operation that changes a folder or waits for the disk."""
    done = [0]

    def dying(operation):
        def perform(*arguments, **options):
            done[0] += 1
            if done[0] >= number:
                raise Killed
            return operation(*arguments, **options)

        return perform

    for owner, name in ((os, "link"), (os, "fsync"), (Path, "replace"), (Path, "unlink"), (Path, "open")):
        monkeypatch.setattr(owner, name, dying(getattr(owner, name)))
    return done


def no_links(*names):
    raise OSError(95, "Operation not supported")


def test_a_file_system_without_links_keeps_two_checkpoints_too(tmp_path, with_steps, monkeypatch):
    monkeypatch.setattr(os, "link", no_links)
    save_all(tmp_path, [with_steps(1), with_steps(2)])
    assert steps_of(tmp_path) == [2, 1]


@pytest.mark.parametrize("links", [True, pytest.param(False, marks=pytest.mark.full)])
@pytest.mark.filterwarnings("ignore::ddpm_ref.training.folder.DamagedCheckpointWarning")
def test_killed_between_any_two_operations_a_whole_checkpoint_is_left(links, tmp_path, with_steps, monkeypatch):
    save_all(tmp_path / "two", [with_steps(1), with_steps(2)])
    seen, number = [], 0
    while not seen or seen[-1] != "survived":
        number += 1
        folder = shutil.copytree(tmp_path / "two", tmp_path / str(number))
        with open_run(folder, with_steps(1).config, "cpu", resume=True) as run, monkeypatch.context() as patch:
            if not links:
                patch.setattr(os, "link", no_links)
            kill_before(patch, number)
            try:
                run.save(with_steps(3))
                seen.append("survived")
            except Killed:
                seen.append("killed")
        if links:
            assert (folder / CHECKPOINT_NAME).exists()
        # What the killed process left is no obstacle: the next one finds a checkpoint, sweeps the rest away and goes on.
        with open_run(folder, with_steps(1).config, "cpu", resume=True) as run:
            assert run.start.steps in (2, 3)
            run.save(with_steps(1))
        assert steps_of(folder)[0] == 1
        assert {entry.name for entry in folder.iterdir()} == {*NAMES, "run.json", "log.jsonl"}
    assert seen.count("killed") >= 8


def test_a_damaged_checkpoint_is_not_kept_in_place_of_the_good_one_before_it(tmp_path, with_steps):
    save_all(tmp_path, [with_steps(1), with_steps(2)])
    (tmp_path / CHECKPOINT_NAME).write_bytes(b"damaged")
    with ExitStack() as stack:
        with pytest.warns(DamagedCheckpointWarning, match=r"truncated: .* the checkpoint before it is used, of step 1"):
            run = stack.enter_context(open_run(tmp_path, with_steps(1).config, "cpu", resume=True))
        run.save(with_steps(3))
    assert steps_of(tmp_path) == [3, 1]


def test_where_both_are_damaged_both_are_named(tmp_path, with_steps):
    save_all(tmp_path, [with_steps(1), with_steps(2)])
    for name in NAMES:
        (tmp_path / name).write_bytes(b"damaged and long enough to have a header")
    with pytest.raises(CheckpointError, match=rf"{CHECKPOINT_NAME}.* nor is the one before it .*{PREVIOUS_NAME}"):
        latest(tmp_path)


def test_a_full_disk_leaves_both_checkpoints_and_no_litter(tmp_path, with_steps, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    save_all(tmp_path, [with_steps(1), with_steps(2)])
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    with open_run(tmp_path, with_steps(1).config, "cpu", resume=True) as run, monkeypatch.context() as patch:
        patch.setattr(run.log, "synchronise", lambda: None)
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="no space left"):
            run.save(with_steps(3))
    after = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    assert after.keys() == before.keys()
    assert all(after[name] == before[name] for name in NAMES)


def test_two_processes_do_not_train_in_one_folder(tmp_path, tiny_config):
    script = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX); print(flush=True); input()"
    claim_folder(tmp_path)
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"\n"
        with pytest.raises(OutputError, match="another process is training in"):
            fit(tiny_config(), tmp_path)
        other.communicate(b"\n")
    assert fit(tiny_config(), tmp_path).stopped == "steps"


def test_a_new_folder_is_locked_before_it_is_claimed(tmp_path, tiny_config, monkeypatch):
    folder, refused = tmp_path / "not" / "there", []

    def claim(path):
        with pytest.raises(OutputError, match="another process is training in"):  # a lock is of a handle, not a process
            fit(tiny_config(), path)
        refused.append(path)
        return claim_folder(path)

    monkeypatch.setattr("ddpm_ref.training.folder.claim_folder", claim)
    assert fit(tiny_config(), folder).stopped == "steps"
    assert refused == [folder]


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist; name the folder of a run"):
        latest(tmp_path / "none")
    with pytest.raises(CheckpointError, match="is not the folder of a run"):
        latest(tmp_path)
    claim_folder(tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        latest(tmp_path)
    (tmp_path / "file").write_text("not a checkpoint, and long enough")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        latest(tmp_path / "file")
