"""What was measured of a network, as a record and as a file that says of which network, schedule and data it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm_ref.errors import DdpmRefError, MomentsError
from ddpm_ref.estimation.comoments import CoMoments
from ddpm_ref.estimation.values import FORMS
from ddpm_ref.records import plain, record
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.torch.arguments import one_of
from ddpm_ref.training import container
from ddpm_ref.training.checkpoint import Checkpoint
from ddpm_ref.typing import Array

VERSION = 1
MOMENTS_NAME = "moments.safetensors"
"""The usual name of the file, in the folder of the run."""

KIND = container.Kind(
    "ddpm_ref.moments", "file of moments", MOMENTS_NAME, "measure them with ddpm-ref analyze", MomentsError
)


@dataclass(frozen=True)
class Origin:
    """Everything that decides the moments: equal origins have equal moments, however they were computed."""

    schedule_digest: str
    """Of the betas, see `NoiseSchedule.digest`."""
    network_digest: str
    """Of the weights and conventions, see `network_digest`."""
    data_digest: str
    """Of the data in their order, see `data_digest`."""
    levels: tuple[int, ...]
    """Ascending, 1..T."""
    count: int
    """How many data."""
    draws: int
    """Noises per datum and level."""
    batch_size: int
    """Data times draws in a forward pass, on which the last bits depend."""
    seed: int
    """Of the noise."""
    low: float
    """Every value of the data is at least this."""
    high: float
    """Every value of the data is at most this."""


@dataclass(frozen=True, eq=False)
class Moments:
    r"""Estimates of :math:`\tfrac1d\mathbb E\lVert\epsilon_\theta\rVert^2` and
    :math:`\tfrac1d\mathbb E\lVert\varepsilon-\epsilon_\theta\rVert^2` at some levels, with what their intervals need.

    For the optimal network the first is 1 minus the second. For any other network only the second tells the averaged
    variance of what its prediction leaves open. Source: bao2022, eq. (8).
    """

    origin: Origin
    mean_square: CoMoments
    """Of the predicted noise; one number per level, of one datum the mean over its draws and components."""
    residual: CoMoments
    """Of its error."""

    @property
    def levels(self) -> tuple[int, ...]:
        """Ascending."""
        return self.origin.levels

    @property
    def count(self) -> int:
        """How many data were seen; fewer than were asked for after an interruption."""
        return self.residual.count

    def of(self, form: str) -> CoMoments:
        """Those of a form, ``"mean_square"`` or ``"residual"``; `RangeError` for another word."""
        one_of("form", form, FORMS)
        return self.mean_square if form == "mean_square" else self.residual

    def by_level(self, form: str, T: int) -> Array:
        """The means, of length T + 1, NaN at the levels where nothing was measured; `RangeError` as `of`."""
        table = np.full(T + 1, np.nan)
        table[list(self.levels)] = self.of(form).mean
        return table

    def must_belong_to(self, schedule: NoiseSchedule, network: str | None = None) -> None:
        """Refuse to be used with another schedule, or with another network than that of this digest (`MomentsError`)."""
        origin = self.origin
        if origin.schedule_digest != schedule.digest:
            raise MomentsError(
                f"the moments are of a schedule with digest {origin.schedule_digest[:12]}, and {schedule!r} has "
                f"{schedule.digest[:12]}; measure them on this one, ddpm-ref analyze RUN"
            )
        if network is not None and origin.network_digest != network:
            raise MomentsError(
                f"the moments are of a network with digest {origin.network_digest[:12]}, and this one has "
                f"{network[:12]} (was it trained on, or are these its other weights?); measure them on this one, "
                "ddpm-ref analyze RUN"
            )

    def save(self, path: Path | str) -> None:
        """Write the file, whole or not at all.

        Raises:
            OutputError: it cannot be written; an older one of this name stays.
        """
        tensors = packed("mean_square", self.mean_square) | packed("residual", self.residual)
        container.write(Path(path), VERSION, {"origin": json.dumps(plain(self.origin))}, tensors, KIND)

    @classmethod
    def load(cls, path: Path | str) -> Moments:
        """Read a file that `save` wrote.

        Raises:
            MomentsError: missing, truncated, changed, a pickle, not one of ours, of a later version, or with numbers
                that contradict one another.
        """
        _, header, tensors = container.read(Path(path), (VERSION,), KIND)
        origin = stored_origin(Path(path), header)
        found = cls(origin, *(unpacked(Path(path), name, tensors, len(origin.levels)) for name in FORMS))
        if tensors or {found.mean_square.count, found.residual.count} != {origin.count}:
            raise MomentsError(f"{path} makes no sense: it is of {origin.count} data, but not all it holds is")
        return found


def stored_origin(path: Path, header: Mapping[str, str]) -> Origin:
    """The origin in the header of a file; `MomentsError` if it is none."""
    try:
        origin: Origin = record(Origin, json.loads(header["origin"]), "origin")
    except (KeyError, ValueError, RecursionError, DdpmRefError) as error:
        raise MomentsError(f"{path} makes no sense: {error}") from error
    ascending = origin.levels and origin.levels[0] >= 1 and sorted(set(origin.levels)) == list(origin.levels)
    if not ascending or origin.count < 1 or origin.draws < 1 or origin.batch_size < 1 or not origin.low < origin.high:
        raise MomentsError(f"{path} makes no sense: no measurement has the origin {origin}")
    return origin


def packed(name: str, moments: CoMoments) -> dict[str, Tensor]:
    """Co-moments as tensors whose names begin with ``name``."""
    return {
        f"{name}.count": torch.tensor(moments.count),
        f"{name}.mean": torch.from_numpy(np.array(moments.mean)),
        f"{name}.products": torch.from_numpy(np.array(moments.products)),
    }


def unpacked(path: Path, name: str, tensors: dict[str, Tensor], size: int) -> CoMoments:
    """What `packed` made tensors of, taken out of them; `MomentsError` where that cannot be."""
    shapes = {f"{name}.count": (), f"{name}.mean": (size,), f"{name}.products": (size, size)}
    for key, shape in shapes.items():
        wanted = torch.float64 if shape else torch.int64
        if key not in tensors or tensors[key].shape != shape or tensors[key].dtype != wanted:
            raise MomentsError(f"{path} makes no sense: it needs {key}, {wanted} of shape {shape}")
    count, mean, products = (tensors.pop(key).numpy() for key in shapes)
    if count < 1 or not (np.isfinite(mean).all() and np.isfinite(products).all()):
        raise MomentsError(f"{path} makes no sense: {name} has {count} data, or numbers that are not finite")
    if (mean < 0).any() or (np.diagonal(products) < 0).any():
        raise MomentsError(f"{path} makes no sense: {name} has a negative mean of squares")
    return CoMoments(int(count), mean, products)


def network_digest(checkpoint: Checkpoint, weights: str | None = None) -> str:
    """SHA-256 of a run's weights, chosen as in `Checkpoint.state`, with the sizes and conventions of the network."""
    config = checkpoint.config
    about = {
        "network": json.dumps(plain(config.network)),
        "prediction": config.prediction,
        "time_code": config.time_code,
    }
    return container.digest(about, checkpoint.state(weights))


def data_digest(data: Tensor) -> str:
    """SHA-256 of data in their order, with their format and shape."""
    return container.digest({}, {"data": data.cpu()})
