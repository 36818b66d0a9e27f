"""A measurement under way: what is merged already, what waits for its neighbours, and the file it can be taken up from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from ddpm_ref.errors import MomentsError
from ddpm_ref.estimation.comoments import CoMoments
from ddpm_ref.estimation.moments import Moments, Origin, packed, stored_origin, unpacked
from ddpm_ref.estimation.values import FORMS
from ddpm_ref.estimation.workers import Task
from ddpm_ref.records import plain
from ddpm_ref.training import container
from ddpm_ref.training.resumable import must_equal
from ddpm_ref.typing import Array, BoolArray

VERSION = 1
KIND = container.Kind(
    "ddpm_ref.moments.partial",
    "measurement under way",
    "moments.partial.safetensors",
    "begin it with ddpm-ref analyze",
    MomentsError,
)


def partial_path(path: Path) -> Path:
    """Where a measurement whose result goes to ``path`` is kept while it is under way.

    >>> partial_path(Path("run/moments.safetensors")).name
    'moments.partial.safetensors'
    """
    return path.with_name(f"{path.stem}.partial{path.suffix}")


class State:
    """Batches are merged in their order, whatever the order in which values come.

    Args:
        origin: of the measurement.
        data_per_batch: how many data a batch has; the last may have fewer.
    """

    def __init__(self, origin: Origin, data_per_batch: int) -> None:
        self.origin, self.data_per_batch = origin, data_per_batch
        self.merged = 0
        """How many batches are."""
        self._moments: dict[str, CoMoments] = {}
        self._waiting: dict[int, Array] = {}  # by batch: (levels, data, forms), NaN where nothing has come yet
        self._row = {t: row for row, t in enumerate(origin.levels)}
        self.done = 0
        """How many tasks are."""
        self.seconds = 0.0
        """Time spent, over all parts."""

    @property
    def batches(self) -> int:
        """How many there are."""
        return -(-self.origin.count // self.data_per_batch)

    @property
    def tasks(self) -> int:
        """How many there are: each level of each batch."""
        return self.batches * len(self._row)

    def remaining(self) -> Iterator[Task]:
        """The tasks not done yet, batch by batch. What is added meanwhile does not matter."""
        for batch in range(self.merged, self.batches):
            values = self._waiting.get(batch)
            here = np.zeros(len(self._row), dtype=bool) if values is None else _come(values)
            for t, row in self._row.items():
                if not here[row]:
                    yield batch, t

    def add(self, task: Task, values: Array) -> None:
        """Take the values of a task, ``(data, 2)``."""
        batch, t = task
        if batch not in self._waiting:
            self._waiting[batch] = np.full((len(self._row), *values.shape), np.nan)
        self._waiting[batch][self._row[t]] = values
        self.done += 1
        while (whole := self._waiting.get(self.merged)) is not None and _come(whole).all():
            del self._waiting[self.merged]
            for k, form in enumerate(FORMS):
                found = CoMoments.of(whole[:, :, k].T)
                self._moments[form] = self._moments[form].merged(found) if self.merged else found
            self.merged += 1

    def moments(self) -> Moments | None:
        """Those of the merged batches, if there are any."""
        return Moments(self.origin, *(self._moments[form] for form in FORMS)) if self.merged else None

    def save(self, path: Path) -> None:
        """Write it to a file, whole or not at all; `OutputError` if that cannot be."""
        tensors = {f"waiting.{batch}": torch.from_numpy(np.array(found)) for batch, found in self._waiting.items()}
        for form, moments in self._moments.items():
            tensors |= packed(form, moments)
        header = {
            "origin": json.dumps(plain(self.origin)),
            "merged": json.dumps(self.merged),
            "seconds": json.dumps(self.seconds),
        }
        container.write(path, VERSION, header, tensors, KIND)

    @classmethod
    def load(cls, path: Path, origin: Origin, data_per_batch: int) -> State:
        """Take up a measurement.

        Raises:
            MomentsError: the file is missing, damaged, or of another origin.
        """
        _, header, tensors = container.read(path, (VERSION,), KIND)
        must_equal(path, stored_origin(path, header), origin, KIND, "measurement")
        state = cls(origin, data_per_batch)
        try:
            merged, state.seconds = int(header["merged"]), float(header["seconds"])
            waiting = {int(name.removeprefix("waiting.")): name for name in tensors if name.startswith("waiting.")}
        except (KeyError, ValueError) as error:
            raise MomentsError(f"{path} makes no sense: {error}") from error
        if not 0 <= merged <= state.batches or not 0 <= state.seconds < math.inf:
            raise MomentsError(f"{path} makes no sense: {merged} of {state.batches} batches in {state.seconds} s")
        state.merged = merged
        state._waiting = {batch: tensors.pop(name).numpy() for batch, name in waiting.items()}
        for batch, values in state._waiting.items():
            size = min(data_per_batch, origin.count - batch * data_per_batch)
            if not merged <= batch < state.batches or values.shape != (len(origin.levels), size, len(FORMS)):
                raise MomentsError(f"{path} makes no sense: batch {batch} has values of shape {values.shape}")
        if merged:
            state._moments = {form: unpacked(path, form, tensors, len(origin.levels)) for form in FORMS}
        state.done = merged * len(origin.levels) + sum(int(_come(values).sum()) for values in state._waiting.values())
        return state


def _come(values: Array) -> BoolArray:
    """Which levels of a batch have come; a datum's values come together with its neighbours'."""
    return np.isfinite(values[:, 0, 0])
