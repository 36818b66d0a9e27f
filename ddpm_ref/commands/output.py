"""Whether a result can be written where the user wants it: asked before any work is done."""

import os
from pathlib import Path

from ddpm_ref.errors import OutputError


def refuse_unwritable(flag: str, path: Path, what: str = "", *endings: str) -> None:
    """Refuse a file that could not be written in the end (`OutputError`).

    Args:
        flag: as the user wrote it, e.g. ``--plot``.
        path: the file.
        what: what it is written as, for the message about its name, e.g. ``JSON``.
        endings: of its name, one of which it must have; any if none is given.

    >>> refuse_unwritable("--plot", Path("kl.pdf"), "PNG", ".png")
    Traceback (most recent call last):
    ddpm_ref.errors.OutputError: --plot kl.pdf: it is written as PNG; give a name ending in .png
    """
    if endings and path.suffix not in endings:
        raise OutputError(f"{flag} {path}: it is written as {what}; give a name ending in {' or '.join(endings)}")
    if path.is_dir():
        raise OutputError(f"{flag} {path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise OutputError(f"{flag} {path}: the folder {path.parent} does not exist; make it first")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{flag} {path}: {path.parent} cannot be written; name a folder you may write to")
