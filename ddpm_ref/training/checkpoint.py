"""Checkpoints: one safetensors file with everything needed to use a run, or to go on with it.

Tensors are ``network.NAME`` (the weights), ``average.NAME`` (their moving average), ``adam.KEY.NAME`` (the optimiser's
state), ``history.loss`` and, of a run that draws levels by importance, ``times.NAME``; the header holds config, betas,
shape, times and a digest of it all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpm_ref.arithmetic import ulp_distance
from ddpm_ref.errors import CheckpointError, DdpmRefError, RangeError
from ddpm_ref.nn import MLP, MLPConfig, NoisyClassifier, UNet, UNetConfig
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.sampling.denoiser import Denoiser
from ddpm_ref.torch.arguments import one_of
from ddpm_ref.training import container
from ddpm_ref.training.config import Config
from ddpm_ref.training.noisy_classifier import LevelClassifier
from ddpm_ref.training.time_sampling import state_problem

VERSION = 4
"""Version 1 had neither average nor optimiser: such a file is good for sampling, not for going on. Version 2 knew neither
labels nor classifiers, version 3 neither learned variances nor time samplers; they are otherwise the same."""

WEIGHTS = ("ema", "raw")
"""Which weights there are to choose from: the moving average, and those of the last step."""

OPTIMIZER_STATE = ("exp_avg", "exp_avg_sq", "step")
"""What Adam keeps for every weight: both moments, and its count of steps."""

_NETWORK, _AVERAGE, _ADAM, _LOSSES, _TIMES = "network.", "average.", "adam.", "history.loss", "times."


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
    """The network's state after the last step, on the CPU."""
    losses: NDArray[np.float64]
    """The loss of every step so far, shape ``(steps,)``."""
    seconds: float
    """Time spent in the training loop, over all parts of the run."""
    average: Mapping[str, Tensor] | None = None
    """The moving average of the weights, if the run keeps one, on the CPU."""
    optimizer: Mapping[str, Tensor] | None = None
    """Adam's state as ``KEY.NAME``, on the CPU; None in files of version 1."""
    times: Mapping[str, Tensor] | None = None
    """What the time sampler remembers (`ddpm_ref.training.time_sampling`), on the CPU; None if it remembers nothing."""

    @property
    def steps(self) -> int:
        """How many steps have been made."""
        return len(self.losses)

    def state(self, weights: str | None = None) -> Mapping[str, Tensor]:
        """The weights to use.

        Args:
            weights: ``"ema"``, the moving average; ``"raw"``, those of the last step; None for the average if the run
                kept one, else the raw ones.

        Raises:
            RangeError: another word, or ``"ema"`` of a run without average.
        """
        if weights is None:
            return self.weights if self.average is None else self.average
        one_of("weights", weights, WEIGHTS)
        if weights == "raw":
            return self.weights
        if self.average is None:
            raise RangeError(
                "weights is 'ema', but this run kept no average of its weights; write 'raw', or leave it out"
            )
        return self.average

    def restore(self, network: nn.Module, weights: str | None = None) -> None:
        """Copy the weights, chosen as in `state`, into a network of the same shape.

        Raises:
            CheckpointError: the network has other tensors; the message names the first that differs. Nothing is copied.
            RangeError: as `state`.
        """
        state = self.state(weights)
        _check_tensors(state, _shapes(network))
        network.load_state_dict(state)

    def network(
        self, device: torch.device | str = "cpu", *, weights: str | None = None
    ) -> UNet | MLP | NoisyClassifier:
        """The trained network by itself, in evaluation mode, with the weights chosen as in `state`."""
        with torch.random.fork_rng(devices=[]):  # initial weights, overwritten at once, must cost no random numbers
            network = self.config.build_network()
        self.restore(network, weights)
        return network.to(device).eval()

    def denoiser(self, device: torch.device | str = "cpu", *, weights: str | None = None) -> Denoiser:
        """The trained network, ready for sampling, with the weights chosen as in `state`.

        One that knows labels is told none: it is the unconditional network. For the other see
        `ddpm_ref.training.guided`.

        Raises:
            RangeError: the run trained a classifier, or a network that has never been without labels; or as `state`.
            CheckpointError: the weights do not fit the config.
        """
        config = self.config
        if config.is_classifier:
            raise RangeError(
                "this run trained a classifier, from which nothing is sampled; name a run of ddpm-ref train, and this one "
                "as the classifier that guides it"
            )
        if config.network.classes and config.label_dropout == 0:
            raise RangeError(
                "this run trained with every label (label_dropout 0): what its network says without one means nothing; "
                "give labels, or train with label_dropout 0.1"
            )
        return Denoiser(self.network(device, weights=weights), config.prediction, config.time_code, config.variance)

    def classifier(self, device: torch.device | str = "cpu", *, weights: str | None = None) -> LevelClassifier:
        """The trained classifier of noisy images, with the weights chosen as in `state`.

        Raises:
            RangeError: the run trained a denoiser; or as `state`.
            CheckpointError: the weights do not fit the config.
        """
        network = self.network(device, weights=weights)
        if not isinstance(network, NoisyClassifier):
            raise RangeError("this run trained a denoiser, no classifier; name a run of ddpm-ref train-classifier")
        return LevelClassifier(network, self.config.time_code)

    def save(self, path: Path | str) -> None:
        """Write the file; an older one of this name stays until the new one is complete on the disk.

        Raises:
            OutputError: it cannot be written.
        """
        tensors = {_LOSSES: torch.from_numpy(np.ascontiguousarray(self.losses, dtype=np.float64))}
        parts = (
            (_NETWORK, self.weights),
            (_AVERAGE, self.average or {}),
            (_ADAM, self.optimizer or {}),
            (_TIMES, self.times or {}),
        )
        for prefix, part in parts:
            tensors |= {prefix + name: tensor for name, tensor in part.items()}
        header = {
            "config": json.dumps(self.config.to_dict()),
            "betas": json.dumps([float(beta).hex() for beta in self.schedule.beta[1:]]),
            "shape": json.dumps(list(self.shape)),
            "steps": json.dumps(self.steps),
            "seconds": json.dumps(self.seconds),
        }
        container.write(Path(path), VERSION, header, tensors)

    @classmethod
    def load(cls, path: Path | str) -> Checkpoint:
        """Read a file that `save` wrote, of this version or of an earlier one.

        Raises:
            CheckpointError: missing, truncated, changed, a pickle, not one of ours, of a later version, with tensors
                that do not fit its own config or are not finite float32, or with betas, a shape, a time or losses that
                contradict the config or one another.
        """
        path = Path(path)
        version, header, tensors = container.read(path, (1, 2, 3, VERSION))
        try:
            config = Config.from_dict(_stored_config(json.loads(header["config"]), version))
            schedule = NoiseSchedule.from_betas([float.fromhex(beta) for beta in json.loads(header["betas"])])
            shape = _stored_shape(json.loads(header["shape"]), config.network)
            seconds = _stored_seconds(json.loads(header["seconds"]))
            losses = _stored_losses(tensors.pop(_LOSSES), json.loads(header["steps"]))
            _check_schedule(schedule, config)
        except (KeyError, ValueError, TypeError, OverflowError, RecursionError, DdpmRefError) as error:
            raise CheckpointError(f"{path} is a ddpm_ref checkpoint that makes no sense: {error}") from error
        weights, average, optimizer, times = (_taken(tensors, prefix) for prefix in (_NETWORK, _AVERAGE, _ADAM, _TIMES))
        with torch.device("meta"):
            expected = _shapes(config.build_network())
        try:
            _check_tensors(weights | tensors, expected)  # what is left of the tensors belongs nowhere
            _check_tensors(average, {} if config.ema_decay is None else expected)
            _check_tensors(optimizer, {} if version == 1 else _optimizer_shapes(expected))
            for part in (weights, average, optimizer):
                _check_numbers(part)
            _check_times(times, config)
        except CheckpointError as error:
            raise CheckpointError(f"{path} does not fit its own config: {error}") from error
        return cls(config, schedule, shape, weights, losses, seconds, average or None, optimizer or None, times or None)


def _stored_config(values: dict[str, Any], version: int) -> dict[str, Any]:
    return {**values, "ema_decay": None} if version == 1 else values


def _stored_shape(sizes: Any, network: UNetConfig | MLPConfig) -> tuple[int, ...]:
    if isinstance(network, MLPConfig):
        if sizes != [network.components]:
            raise CheckpointError(
                f"its shape is {sizes!r}, and its network takes points of {network.components} components"
            )
        return tuple(sizes)
    if not isinstance(sizes, list) or len(sizes) != 3 or not all(type(size) is int and size > 0 for size in sizes):
        raise CheckpointError(f"its shape is {sizes!r}; an image has channels, height and width")
    if sizes[0] != network.channels:
        raise CheckpointError(f"its images have {sizes[0]} channels, and its network {network.channels}")
    return tuple(sizes)


def _stored_seconds(seconds: Any) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        raise CheckpointError(f"its time is {seconds!r} seconds; it must be a finite number >= 0")
    return float(seconds)


def _stored_losses(losses: Tensor, steps: Any) -> NDArray[np.float64]:
    if losses.ndim != 1 or losses.dtype != torch.float64 or not len(losses) or not bool(losses.isfinite().all()):
        raise CheckpointError(
            f"{_LOSSES} is {losses.dtype} of shape {tuple(losses.shape)}; it must hold a finite float64 for every step"
        )
    if type(steps) is not int or steps != len(losses):
        raise CheckpointError(f"it is of {steps!r} steps, but holds the losses of {len(losses)}")
    return losses.numpy()


def _check_schedule(schedule: NoiseSchedule, config: Config) -> None:
    # The stored betas are what counts. Those of a name are its formula rounded once: should a later version mend a
    # rounding, they are neighbours.
    wanted = config.schedule.build()
    if schedule.T != wanted.T:
        raise CheckpointError(f"it holds {schedule.T} betas, but its config says T = {wanted.T}")
    differs = ulp_distance(schedule.beta, wanted.beta) > 1
    if differs.any():
        t = int(np.argmax(differs))
        raise CheckpointError(
            f"beta at level {t} is {schedule.beta[t]}, but that of its config is {wanted.beta[t]}: another schedule"
        )


def _check_numbers(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32 or not bool(tensor.isfinite().all()):
            raise CheckpointError(f"tensor {name} is {tensor.dtype} or not finite; it must be finite float32")


def _check_times(times: Mapping[str, Tensor], config: Config) -> None:
    if config.time_sampler == "importance":
        problem = state_problem(times, config.schedule.T)
    else:
        problem = f"it has tensors of a time sampler, and its config says {config.time_sampler!r}" if times else None
    if problem is not None:
        raise CheckpointError(problem)


def _taken(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in names}


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _optimizer_shapes(weights: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {f"{key}.{name}": () if key == "step" else weights[name] for key in OPTIMIZER_STATE for name in weights}


def _check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, Iterable[int]]) -> None:
    for name, shape in expected.items():
        if name not in tensors:
            raise CheckpointError(f"tensor {name} of the network, of shape {shape}, is not in the checkpoint")
        if tuple(tensors[name].shape) != shape:
            raise CheckpointError(
                f"tensor {name} has shape {tuple(tensors[name].shape)} in the checkpoint and {shape} in "
                "the network; build the network from the checkpoint's config"
            )
    for name in tensors:
        if name not in expected:
            raise CheckpointError(f"tensor {name} of the checkpoint is not in the network")
