"""Checkpoints: one safetensors file with the weights, and in its header everything needed to use them.

Written whole or not at all; read without ever running anybody's code: a pickle is refused unread.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import ddpm_ref
from ddpm_ref.errors import CheckpointError, DdpmRefError
from ddpm_ref.files import write_atomically
from ddpm_ref.nn import UNet
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.sampling.denoiser import Denoiser
from ddpm_ref.training.config import Config

FORMAT = "ddpm_ref.checkpoint"
VERSION = 1
_WEIGHTS = "network."
_LOSSES = "history.loss"
_DIGEST = "sha256"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training run as it stood after some step.

    The schedule is stored as its betas, exactly (hexadecimal floats), not as a name that could come to mean another.
    """

    config: Config
    """What the run was asked to do."""
    schedule: NoiseSchedule
    """The noise schedule it trains on."""
    shape: tuple[int, ...]
    """Of one image: (channels, height, width)."""
    weights: Mapping[str, Tensor]
    """The network's state, on the CPU."""
    losses: NDArray[np.float64]
    """The loss of every step so far, shape ``(steps,)``."""
    seconds: float
    """Time spent in the training loop."""

    @property
    def steps(self) -> int:
        """How many steps have been made."""
        return len(self.losses)

    def restore(self, network: nn.Module) -> None:
        """Copy the weights into a network of the same shape.

        Raises:
            CheckpointError: the network has other tensors; the message names the first that differs. Nothing is copied.
        """
        _check_tensors(self.weights, network)
        network.load_state_dict(self.weights)

    def denoiser(self, device: torch.device | str = "cpu") -> Denoiser:
        """The trained network, ready for sampling."""
        with torch.random.fork_rng(devices=[]):  # initial weights, overwritten at once, must cost no random numbers
            network = UNet(self.config.network)
        self.restore(network)
        return Denoiser(network.to(device).eval(), self.config.prediction, self.config.time_code)

    def save(self, path: Path | str) -> None:
        """Write the file; an older one of this name stays until the new one is complete on the disk.

        Raises:
            OutputError: it cannot be written.
        """
        tensors = {_WEIGHTS + name: weight.contiguous() for name, weight in self.weights.items()}
        tensors[_LOSSES] = torch.from_numpy(np.ascontiguousarray(self.losses, dtype=np.float64))
        header = {
            "format": FORMAT,
            "version": str(VERSION),
            "made_with": f"ddpm_ref {ddpm_ref.__version__}, torch {torch.__version__}",
            "config": json.dumps(self.config.to_dict()),
            "betas": json.dumps([float(beta).hex() for beta in self.schedule.beta[1:]]),
            "shape": json.dumps(list(self.shape)),
            "seconds": json.dumps(self.seconds),
        }
        header[_DIGEST] = _digest(header, tensors)
        write_atomically(Path(path), safetensors.torch.save(tensors, header))

    @classmethod
    def load(cls, path: Path | str) -> Checkpoint:
        """Read a file that `save` wrote.

        Raises:
            CheckpointError: missing, truncated, changed, a pickle, not one of ours, of a later version, or with
                weights that do not fit its own config.
        """
        path = Path(path)
        header, tensors = _read(path)
        if header.get("format") != FORMAT:
            raise CheckpointError(
                f"{path} is a safetensors file but not a ddpm_ref checkpoint: its header does not say so"
            )
        if header.get("version") != str(VERSION):
            raise CheckpointError(
                f"{path} is a checkpoint of version {header.get('version')}, written by {header.get('made_with')}; "
                f"this ddpm_ref, {ddpm_ref.__version__}, reads version {VERSION}"
            )
        if header.get(_DIGEST) != _digest(header, tensors):
            raise CheckpointError(f"{path} is damaged: its content does not have the SHA-256 digest written in it")
        try:
            config = Config.from_dict(json.loads(header["config"]))
            schedule = NoiseSchedule.from_betas([float.fromhex(beta) for beta in json.loads(header["betas"])])
            shape = tuple(int(size) for size in json.loads(header["shape"]))
            seconds = float(json.loads(header["seconds"]))
            losses = tensors.pop(_LOSSES).numpy()
        except (KeyError, ValueError, TypeError, DdpmRefError) as error:
            raise CheckpointError(f"{path} is a ddpm_ref checkpoint that makes no sense: {error}") from error
        weights = {name.removeprefix(_WEIGHTS): weight for name, weight in tensors.items()}
        with torch.device("meta"):
            expected = UNet(config.network)
        try:
            _check_tensors(weights, expected)
        except CheckpointError as error:
            raise CheckpointError(f"{path} does not fit its own config: {error}") from error
        return cls(config, schedule, shape, weights, losses, seconds)


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with path.open("rb") as file:
            start = file.read(16)
            size = file.seek(0, 2)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} does not exist; train first, or name the checkpoint.safetensors of a run"
        ) from error
    except IsADirectoryError as error:
        raise CheckpointError(f"{path} is a folder; name the file in it, {path / 'checkpoint.safetensors'}") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        raise CheckpointError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    _refuse_other_formats(path, start, size)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"{path} ({size} bytes) is truncated or damaged ({error}); use another copy, or train again"
        ) from error


def _refuse_other_formats(path: Path, start: bytes, size: int) -> None:
    # A torch.save file is a zip archive (or, long ago, a bare pickle, whose first byte is 0x80).
    if start.startswith((b"PK\x03\x04", b"\x80")):
        raise CheckpointError(
            f"{path} is a pickle, or a torch.save archive that holds one; no pickle is ever loaded, since loading one "
            "runs whatever code is in it: save the weights as safetensors"
        )
    # A safetensors file is the length of its header in 8 bytes, the header (JSON), the tensors.
    if size < 8 or (start[8:9] == b"{" and size < 8 + int.from_bytes(start[:8], "little")):
        raise CheckpointError(f"{path} is truncated: it ends after {size} bytes, within its header")
    if start[8:9] != b"{":
        raise CheckpointError(f"{path} is not a safetensors file; name the checkpoint.safetensors of a run")


def _check_tensors(weights: Mapping[str, Tensor], network: nn.Module) -> None:
    expected = network.state_dict()
    for name, tensor in expected.items():
        if name not in weights:
            raise CheckpointError(
                f"tensor {name} of the network, of shape {tuple(tensor.shape)}, is not in the checkpoint"
            )
        if weights[name].shape != tensor.shape:
            raise CheckpointError(
                f"tensor {name} has shape {tuple(weights[name].shape)} in the checkpoint and {tuple(tensor.shape)} in "
                "the network; build the network from the checkpoint's config"
            )
    for name in weights:
        if name not in expected:
            raise CheckpointError(f"tensor {name} of the checkpoint is not in the network")


def _digest(header: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(header.keys() - {_DIGEST}):
        digest.update(json.dumps([name, header[name]]).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
