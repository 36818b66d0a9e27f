"""Writing results so that nothing is lost: whole files or none, and only in folders that are ours."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from ddpm_ref.errors import OutputError

MARKER = "run.json"
"""The file by which a folder is known as one of ours."""

_MARK = {"format": "ddpm_ref.run", "version": 1}
TEMPORARY = ".ddpm_ref.tmp"
"""How the name of a file ends that is not whole yet; what a killed run left of these may be removed."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that at every moment either the old one or the whole new one is there.

    The bytes go to a hidden file in the same folder and to the disk, and only then take the name; the folder is
    synchronised last, so that the new name survives a power cut.

    Args:
        path: the file; its folder must exist.
        content: all of it.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full. An existing file is left as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        synchronise(path.parent)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        raise OutputError(f"{path} cannot be written ({_reason(error)}); nothing was changed there") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def claim_folder(folder: Path) -> Path:
    """Make sure, before any work is done, that results can be written to a folder and that nobody else's are in it.

    A new or empty folder is marked as ours by a small file, `MARKER`. In a marked folder results are replaced, each
    atomically.

    Args:
        folder: where results will go; made, with its parents, if it does not exist.

    Returns:
        the folder.

    Raises:
        OutputError: a file is in the way, the folder cannot be made or written to, or it holds files but no mark.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        entries = sorted(entry.name for entry in folder.iterdir())
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputError(f"{folder} cannot be a folder: a file of that name is in the way; name another") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        raise OutputError(
            f"{folder} cannot be made or read ({_reason(error)}); name a folder you may write to"
        ) from error
    leftovers = [name for name in entries if name.endswith(TEMPORARY)]
    foreign = [name for name in entries if name not in leftovers]
    if foreign and not _is_marked(folder):
        raise OutputError(
            f"{folder} holds files that are not of a ddpm_ref run ({', '.join(foreign[:3])}"
            f"{', ...' if len(foreign) > 3 else ''}); they are left alone, name a new or empty folder"
        )
    for name in leftovers:  # of a run that was killed while it wrote
        with contextlib.suppress(OSError):
            (folder / name).unlink()
    write_atomically(folder / MARKER, json.dumps(_MARK).encode() + b"\n")
    return folder


def _is_marked(folder: Path) -> bool:
    try:
        mark = json.loads((folder / MARKER).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(mark, dict) and mark.get("format") == _MARK["format"]


def synchronise(folder: Path) -> None:
    """Bring the names in a folder to the disk, so that they survive a power cut."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows cannot open a folder, and keeps names by other means
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reason(error: OSError | ValueError) -> str:
    return ((error.strerror if isinstance(error, OSError) else None) or str(error)).lower()
