"""The file a checkpoint, or what was measured of one, lives in: safetensors, with a digest of everything in its header.

Written whole or not at all; read without ever running anybody's code: a pickle is refused unread.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

import ddpm_ref
from ddpm_ref.errors import CheckpointError, DdpmRefError
from ddpm_ref.files import write_atomically

_DIGEST = "sha256"


@dataclass(frozen=True)
class Kind:
    """What is in a file, and how errors speak of it."""

    format: str
    """As its header says."""
    what: str
    """What it is called."""
    usual: str
    """The name that such a file usually has."""
    source: str
    """What the user does to get one."""
    error: type[DdpmRefError]
    """What is raised where a file is none."""


CHECKPOINT = Kind("ddpm_ref.checkpoint", "checkpoint", "checkpoint.safetensors", "train", CheckpointError)
FORMAT = CHECKPOINT.format


def write(
    path: Path, version: int, header: Mapping[str, str], tensors: Mapping[str, Tensor], kind: Kind = CHECKPOINT
) -> None:
    """Write a file; an older one of this name stays until the new one is complete on the disk.

    Raises:
        OutputError: it cannot be written.
    """
    whole = {
        "format": kind.format,
        "version": str(version),
        "made_with": f"ddpm_ref {ddpm_ref.__version__}, torch {torch.__version__}",
        **header,
    }
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    whole[_DIGEST] = digest(whole, tensors)
    write_atomically(path, safetensors.torch.save(tensors, whole))


def read(
    path: Path, versions: tuple[int, ...], kind: Kind = CHECKPOINT
) -> tuple[int, dict[str, str], dict[str, Tensor]]:
    """Version, header and tensors of a file that `write` wrote.

    Args:
        path: the file.
        versions: which ones the caller understands.
        kind: what the file should hold.

    Raises:
        CheckpointError: missing, truncated, changed, a pickle, not one of ours, or of another version. (For another
            kind, the error of that.)
    """
    header, tensors = _read(path, kind)
    if header.get("format") != kind.format:
        raise kind.error(f"{path} is a safetensors file but not a ddpm_ref {kind.what}: its header does not say so")
    version = header.get("version", "")
    if version not in [str(known) for known in versions]:
        raise kind.error(
            f"{path} is a {kind.what} of version {version}, written by {header.get('made_with')}; "
            f"this ddpm_ref, {ddpm_ref.__version__}, reads version {' and '.join(map(str, versions))}"
        )
    if header.get(_DIGEST) != digest(header, tensors):
        raise kind.error(f"{path} is damaged: its content does not have the SHA-256 digest written in it")
    return int(version), header, tensors


def says_it_is(path: Path, kind: Kind) -> bool:
    """Whether a file, damaged or not, names this kind in its header: what may be replaced by another of the kind."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return json.dumps(kind.format).encode() in file.read(2**20)
    return False


def digest(header: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of every entry of the header (but the digest itself) and every tensor with its name, format and shape."""
    found = hashlib.sha256()
    for name in sorted(header.keys() - {_DIGEST}):
        found.update(json.dumps([name, header[name]]).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _read(path: Path, kind: Kind) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with path.open("rb") as file:
            start = file.read(16)
            size = file.seek(0, 2)
    except FileNotFoundError as error:
        raise kind.error(f"{path} does not exist; {kind.source} first, or name the {kind.usual} of a run") from error
    except IsADirectoryError as error:
        raise kind.error(f"{path} is a folder; name the file in it, {path / kind.usual}") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        raise kind.error(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    _refuse_other_formats(path, start, size, kind)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except safetensors.SafetensorError as error:
        raise kind.error(
            f"{path} ({size} bytes) is truncated or damaged ({error}); use another copy, or {kind.source} again"
        ) from error


def _refuse_other_formats(path: Path, start: bytes, size: int, kind: Kind) -> None:
    # A safetensors file is the length of its header in 8 bytes, the header (JSON), the tensors.
    if start[8:9] == b"{":
        if size < 8 + int.from_bytes(start[:8], "little"):
            raise kind.error(f"{path} is truncated: it ends after {size} bytes, within its header")
        return
    # A torch.save file is a zip archive (or, long ago, a bare pickle, whose first byte is 0x80).
    if start.startswith((b"PK\x03\x04", b"\x80")):
        raise kind.error(
            f"{path} is a pickle, or a torch.save archive that holds one; no pickle is ever loaded, since loading one "
            "runs whatever code is in it: save the weights as safetensors"
        )
    if size < 8:
        raise kind.error(f"{path} is truncated: it ends after {size} bytes, within its header")
    raise kind.error(f"{path} is not a safetensors file; name the {kind.usual} of a run")
