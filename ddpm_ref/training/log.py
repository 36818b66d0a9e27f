"""The log of a run: ``log.jsonl``, one JSON object per line.

The first line is the header (config and versions), the others are steps (step, loss, learning rate, length of the
gradient, seconds) and events (the run was resumed, or ended). A step appears once, however often the run was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import ddpm_ref
from ddpm_ref.errors import CheckpointError, DdpmRefError, OutputError
from ddpm_ref.files import write_atomically
from ddpm_ref.training.config import BOOKKEEPING, Config

FORMAT, VERSION = "ddpm_ref.log", 1
COLUMNS = ("step", "loss", "learning_rate", "gradient_norm", "seconds")
"""What a line says of a step."""
PARTS = ("simple", "vlb", "floor", "excess")
"""What it says besides where the loss is a sum of them: two objectives; or the least loss of any network, and the rest."""

_NEEDED = {"header": {"format", "config"}, "step": {*COLUMNS}, "event": {"event", "step"}}


@dataclass(frozen=True, eq=False)
class Log:
    """What a log says."""

    header: Mapping[str, Any]
    """Config and versions of the run's first part."""
    steps: dict[str, NDArray[np.float64]]
    """By column: step, loss, learning_rate, gradient_norm, seconds, and the parts of the loss if it has any; each of shape
    ``(lines,)``."""
    events: list[Mapping[str, Any]] = field(default_factory=list)
    """``resume`` and ``end``, in order, each with its step."""

    @property
    def held_out_loss(self) -> float | None:
        """As measured when the run last ended; None if it was killed after, or has not ended yet."""
        last = self.events[-1] if self.events else {}  # whoever goes on says so, with an event
        return float(last["held_out_loss"]) if last.get("event") == "end" else None

    @property
    def held_out_parts(self) -> dict[str, float]:
        """The parts of the held-out loss by name, measured together with it; empty where it is no sum."""
        last = self.events[-1] if self.events else {}
        return {name: float(value) for name, value in last.get("held_out_parts", {}).items()}

    @property
    def accuracy(self) -> dict[int, float] | None:
        """Of a classifier, by level, measured together with the held-out loss; None for a denoiser."""
        last = self.events[-1] if self.events else {}
        return {int(t): float(share) for t, share in last["accuracy"].items()} if "accuracy" in last else None

    def is_of(self, config: Config) -> bool:
        """Whether it is the log of a run of this config, limits aside."""
        return _is_of(self.header, config)


def read(path: Path | str) -> Log:
    """Read a log. A last line that was being written when the run was killed is left out.

    Raises:
        CheckpointError: there is no such file, it is not a log, or a line other than the last is damaged.
    """
    path = Path(path)
    records = []
    for number, (record, last) in enumerate(_records(path), start=1):
        if record is None and not last:
            raise CheckpointError(f"{path} is damaged: its line {number} is not what a log holds")
        if record is not None:
            records.append(record)
    if not records or records[0]["kind"] != "header" or records[0]["format"] != FORMAT:
        raise CheckpointError(f"{path} is not the log of a run: its first line does not say so")
    rows = [record for record in records if record["kind"] == "step"]
    known = (*COLUMNS, *(name for name in PARTS if rows and all(name in row for row in rows)))
    columns = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in known}
    return Log(records[0], columns, [record for record in records if record["kind"] == "event"])


class Writer:
    """Appends to a log, line by line, each complete when `write` returns.

    Args:
        path: the file.
        config: of the run.
        device: where it is computed.
        kept: the step of the checkpoint from which the run goes on: later lines are dropped, since those steps will be
            made again; None to start the log anew.

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path, config: Config, device: str, kept: int | None = None) -> None:
        self.path = path
        versions = _versions(device)
        records = [] if kept is None else _records_until(path, config, kept)
        if not records:
            about = {"kind": "header", "format": FORMAT, "version": VERSION, "config": config.to_dict()}
            records.append({**about, **versions})
        if kept is not None:
            limits = {name: getattr(config, name) for name in BOOKKEEPING}
            records.append({"kind": "event", "event": "resume", "step": kept, **limits, **versions})
        write_atomically(path, b"".join(map(_line, records)))
        self._file = path.open("ab")

    def step(self, **columns: float | int) -> None:
        """A line about a step."""
        self._write({"kind": "step", **columns})

    def event(self, name: str, **details: Any) -> None:
        """A line about something else."""
        self._write({"kind": "event", "event": name, **details})

    def synchronise(self) -> None:
        """Wait until all lines are on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """No more lines."""
        with contextlib.suppress(OSError):  # the line that could not be written has been reported
            self._file.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        try:
            self._file.write(_line(record))
            self._file.flush()
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written ({error}); the last checkpoint stays") from error


def _versions(device: str) -> dict[str, Any]:
    return {
        "device": device,
        "threads": torch.get_num_threads(),
        "ddpm_ref": ddpm_ref.__version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record).encode() + b"\n"


def _records(path: Path) -> Iterator[tuple[dict[str, Any] | None, bool]]:
    # Each line as a record, or None if it is none, and whether it is the last.
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error}); train first") from error
    if not lines[-1]:
        lines.pop()
    for index, line in enumerate(lines):
        yield _record(line), index == len(lines) - 1


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
        complete = _NEEDED[record["kind"]] <= record.keys()
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return record if complete and _makes_sense(record) else None


def _makes_sense(record: Mapping[str, Any]) -> bool:
    if record["kind"] == "header":
        return isinstance(record["config"], dict)
    if record["kind"] == "step":
        said = [record[name] for name in (*COLUMNS, *PARTS) if name in record]
        return _counts(record["step"]) and all(map(_is_number, said))
    measured = record["event"] != "end" or _is_number(record.get("held_out_loss"))
    shares = record.get("accuracy", {})  # by level, of a classifier
    of_levels = isinstance(shares, dict) and all(t.isdecimal() and _is_number(share) for t, share in shares.items())
    parts = record.get("held_out_parts", {})
    of_parts = isinstance(parts, dict) and all(map(_is_number, parts.values()))
    return isinstance(record["event"], str) and _counts(record["step"]) and measured and of_levels and of_parts


def _counts(value: Any) -> bool:
    return _is_number(value) and isinstance(value, int) and value >= 0


def _is_number(value: Any) -> bool:
    # JSON has whole numbers that no float holds, and Python's True is one, too.
    return isinstance(value, float) or (type(value) is int and abs(value) <= 2**53)


def _records_until(path: Path, config: Config, kept: int) -> list[dict[str, Any]]:
    # A log is worth less than a run: what cannot be read of it is left out, and if it is lost a new one begins.
    if not path.exists():
        return []
    whole = [record for record, _ in _records(path) if record is not None]
    if not whole or whole[0]["kind"] != "header" or not _is_of(whole[0], config):
        return []
    return [record for record in whole if record["kind"] == "header" or record["step"] <= kept]


def _is_of(header: Mapping[str, Any], config: Config) -> bool:
    # A run that was to replace another may have been killed before its first checkpoint, but not before its first line.
    try:
        kept = Config.from_dict(header.get("config", {})).to_dict()  # an older version knew fewer fields
    except DdpmRefError:
        return False
    return all(kept[name] == value for name, value in config.to_dict().items() if name not in BOOKKEEPING)
