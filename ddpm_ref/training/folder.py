"""The folder of a run: its checkpoint, the one before it, its log; and who may write there.

At every moment, kill -9 and power cuts included, at least one whole checkpoint lies there under a name that `latest`
looks for: a new one is complete on the disk before the old ones' names are touched.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ddpm_ref.errors import CheckpointError, OutputError
from ddpm_ref.files import MARKER, TEMPORARY, claim_folder, synchronise
from ddpm_ref.training.checkpoint import Checkpoint
from ddpm_ref.training.config import Config
from ddpm_ref.training.log import Writer

CHECKPOINT_NAME = "checkpoint.safetensors"
PREVIOUS_NAME = "checkpoint.previous.safetensors"
LOG_NAME = "log.jsonl"


class DamagedCheckpointWarning(UserWarning):
    """The latest checkpoint of a run cannot be read, and the one before it was taken."""


@dataclass(frozen=True, eq=False)
class Found:
    """A checkpoint and the file it was read from."""

    checkpoint: Checkpoint
    path: Path


def latest(run: Path | str) -> Found:
    """The latest checkpoint of a run that can be read; or the checkpoint itself, if ``run`` is a file.

    Args:
        run: folder of a run, or a checkpoint in it.

    Raises:
        CheckpointError: there is no such thing, the folder is not a run's, or none of its checkpoints can be read.

    Warns `DamagedCheckpointWarning` if the checkpoint cannot be read and the one before it is taken instead.
    """
    run = Path(run)
    if not run.is_dir():
        if not run.exists():
            raise CheckpointError(f"{run} does not exist; name the folder of a run, or a checkpoint in one")
        return Found(Checkpoint.load(run), run)
    current, previous = run / CHECKPOINT_NAME, run / PREVIOUS_NAME
    if not current.exists() and not previous.exists():
        if (run / MARKER).exists():
            raise CheckpointError(f"the run in {run} has no checkpoint yet; train first, without resuming")
        raise CheckpointError(f"{run} is not the folder of a run: it holds no {CHECKPOINT_NAME}; name another")
    try:
        return Found(Checkpoint.load(current), current)
    except CheckpointError as error:
        if not previous.exists():
            raise
        try:
            found = Found(Checkpoint.load(previous), previous)
        except CheckpointError as other:
            raise CheckpointError(f"{error}; nor is the one before it any good: {other}") from error
        warnings.warn(
            f"{error}; the checkpoint before it is used, of step {found.checkpoint.steps}",
            DamagedCheckpointWarning,
            stacklevel=2,
        )
        return found


class RunFolder:
    """Where a run writes; see `open_run`."""

    def __init__(self, path: Path, found: Found | None, log: Writer) -> None:
        self.path = path
        self.start = None if found is None else found.checkpoint
        """The checkpoint to go on from, if any."""
        self.log = log
        self._newest = None if found is None else found.path
        self._saved_steps = None if found is None else found.checkpoint.steps

    @property
    def checkpoint_path(self) -> Path:
        """Where the latest checkpoint is."""
        return self.path / CHECKPOINT_NAME

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint and keep the one before it; nothing is done if it is of the same step as the last one.

        Raises:
            OutputError: it cannot be written. A whole checkpoint is there all the same.
        """
        current, previous = self.checkpoint_path, self.path / PREVIOUS_NAME
        if self._newest == current and self._saved_steps == checkpoint.steps:
            return
        try:
            self.log.synchronise()  # so that it is never behind the checkpoint
            if self._newest is None:  # what lies there is of a run that this one replaces
                previous.unlink(missing_ok=True)
            if self._newest == current:
                self._rotate(checkpoint, current, previous)
            else:  # nothing worth keeping has this name: no file, a replaced run's, or a damaged one
                checkpoint.save(current)
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(f"{current} cannot be written ({error}); an older checkpoint stays") from error
        self._newest, self._saved_steps = current, checkpoint.steps

    def _rotate(self, checkpoint: Checkpoint, current: Path, previous: Path) -> None:
        new, old = (self.path / f".{name}.next{TEMPORARY}" for name in (CHECKPOINT_NAME, PREVIOUS_NAME))
        try:
            checkpoint.save(new)
            try:  # a second name for the old file, so that there is no moment without a file of either name
                os.link(current, old)
                old.replace(previous)
            except OSError:  # a file system without links: for a moment only the one before is there
                current.replace(previous)
            new.replace(current)
            synchronise(self.path)
        finally:
            for litter in (new, old):
                with contextlib.suppress(OSError):
                    litter.unlink()


@contextlib.contextmanager
def open_run(
    path: Path, config: Config, device: str, *, resume: bool = False, overwrite: bool = False
) -> Iterator[RunFolder]:
    """Claim a folder for a run, alone, before any work is done.

    Args:
        path: the folder; made if it does not exist, unless the run is to be resumed.
        config: of the run.
        device: where it is computed, for the log.
        resume: whether to go on from the latest checkpoint, which is then its ``start``.
        overwrite: whether a run from the start may replace another. What lies there stays until the first checkpoint.

    Raises:
        CheckpointError: there is nothing to resume, or its checkpoint holds no optimiser (version 1).
        RangeError: resumed with another config.
        OutputError: the folder cannot be written, holds other people's files, another process is training there, or it
            holds a run that nobody said to replace.
    """
    with contextlib.ExitStack() as stack:
        found = None
        if not resume:
            with contextlib.suppress(OSError, ValueError):  # claim_folder says what is wrong
                path.mkdir(parents=True, exist_ok=True)
        if path.is_dir():  # the lock comes before the sweeping of litter, which may be another's work
            stack.enter_context(_alone(path))
        if resume:
            found = _to_resume(path, config)
        elif not overwrite:
            _refuse_to_replace(path)
        claim_folder(path)
        log = Writer(path / LOG_NAME, config, device, None if found is None else found.checkpoint.steps)
        stack.callback(log.close)
        if found is not None and found.checkpoint.config != config:  # new limits must outlive a kill -9
            found = Found(dataclasses.replace(found.checkpoint, config=config), path / CHECKPOINT_NAME)
            found.checkpoint.save(found.path)
        yield RunFolder(path, found, log)


def _to_resume(path: Path, config: Config) -> Found:
    found = latest(path)
    config.must_continue(found.checkpoint.config)
    if found.checkpoint.optimizer is None:
        raise CheckpointError(
            f"{found.path} is of version 1, which holds no optimiser: it can be sampled from, not resumed; train anew"
        )
    return found


def _refuse_to_replace(path: Path) -> None:
    for name in (CHECKPOINT_NAME, PREVIOUS_NAME):
        if (path / name).exists():
            raise OutputError(
                f"{path} holds a run already ({name}); go on with it (resume=True, --resume), replace it "
                "(overwrite=True, --overwrite), or name another folder"
            )


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    # The lock is the system's: it ends with the process, however that ends.
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        yield
        return
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise OutputError(f"{path} cannot be read ({error.strerror}); name a folder you may write to") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"another process is training in {path}; wait for it, or name another folder") from error
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)
