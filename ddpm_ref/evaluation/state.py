"""An evaluation under way: what is merged already, the images being looked at, and the file it can be taken up from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm_ref.errors import EvaluationError
from ddpm_ref.estimation.comoments import CoMoments
from ddpm_ref.evaluation.record import Conditions, Evaluation, packed, stored_conditions, unpacked
from ddpm_ref.evaluation.terms import COLUMNS
from ddpm_ref.records import plain
from ddpm_ref.training import container
from ddpm_ref.training.resumable import must_equal
from ddpm_ref.typing import Array

VERSION = 1
KIND = container.Kind(
    "ddpm_ref.evaluation.partial",
    "evaluation under way",
    "evaluation.partial.safetensors",
    "begin it with ddpm-ref evaluate",
    EvaluationError,
)


class Running:
    """Images go through all steps batch by batch, so that what is finished at any time is the bound of some of them.

    Args:
        conditions: of the evaluation.
        priors: the prior terms of all images, bits per dimension.
    """

    def __init__(self, conditions: Conditions, priors: Array) -> None:
        self.conditions, self.priors = conditions, priors
        self.seconds = 0.0
        """Time spent, over all parts."""
        self._totals = np.empty(0)
        self._steps: tuple[CoMoments, ...] = ()
        self._waiting: list[Array] = []  # of the batch under way, one ``(size, COLUMNS)`` for each step

    @property
    def first(self) -> int:
        """Index of the first image of the batch under way."""
        return len(self._totals)

    @property
    def size(self) -> int:
        """How many images the batch under way has."""
        return min(self.conditions.batch_size, self.conditions.count - self.first)

    @property
    def done(self) -> int:
        """How many terms of batches are known."""
        return self._per_image * -(-self.first // self.conditions.batch_size) + len(self._waiting)

    @property
    def tasks(self) -> int:
        """How many there are: each step of each batch."""
        return self._per_image * -(-self.conditions.count // self.conditions.batch_size)

    @property
    def _per_image(self) -> int:
        return len(self.conditions.trajectory) - 1

    def passes(self) -> Iterator[tuple[int, int, range]]:
        """What each forward pass is to say: first image, how many, and which steps, as many as fit into it; the last one alone.

        Every one must be added before the next is asked for.
        """
        while self.size:
            k, together = len(self._waiting), self.conditions.batch_size // self.size
            last = self._per_image - 1
            yield self.first, self.size, range(k, min(k + together, last) if k < last else k + 1)

    def add(self, values: Array) -> None:
        """Take what the next pass said, ``(steps, images, COLUMNS)``."""
        self._waiting.extend(values)
        if len(self._waiting) < self._per_image:
            return
        found = [CoMoments.of(of_step) for of_step in self._waiting]
        if self.first:
            found = [old.merged(new) for old, new in zip(self._steps, found, strict=True)]
        self._steps = tuple(found)
        bound = self.priors[self.first : self.first + self.size] + np.stack(self._waiting)[:, :, 0].sum(axis=0)
        self._totals, self._waiting = np.append(self._totals, bound), []

    def evaluation(self, interrupted: bool = False) -> Evaluation | None:
        """That of the images that are done, if they are enough to have a standard error: at least 2."""
        if self.first < 2:
            return None
        return Evaluation(self.conditions, self.priors[: self.first], self._totals, self._steps, interrupted)

    def save(self, path: Path) -> None:
        """Write it to a file, whole or not at all; `OutputError` if that cannot be."""
        tensors = packed(self.priors[: self.first], self._totals, self._steps) if self.first else {}
        if self._waiting:
            tensors["waiting"] = torch.from_numpy(np.stack(self._waiting))
        header = {"conditions": json.dumps(plain(self.conditions)), "seconds": json.dumps(self.seconds)}
        container.write(path, VERSION, header, tensors, KIND)

    @classmethod
    def load(cls, path: Path, conditions: Conditions, priors: Array) -> Running:
        """Take up an evaluation.

        Raises:
            EvaluationError: the file is missing, damaged, or of other conditions.
        """
        _, header, tensors = container.read(path, (VERSION,), KIND)
        must_equal(path, stored_conditions(path, header), conditions, KIND, "evaluation")
        state = cls(conditions, priors)
        waiting = tensors.pop("waiting", None)
        if tensors:
            _, state._totals, state._steps = unpacked(path, tensors, state._per_image)
        try:
            state.seconds = float(header["seconds"])
        except (KeyError, ValueError) as error:
            raise EvaluationError(f"{path} makes no sense: {error}") from error
        between = state.first == conditions.count or state.first % conditions.batch_size == 0
        if tensors or not between or state.first > conditions.count or not 0 <= state.seconds < math.inf:
            raise EvaluationError(
                f"{path} makes no sense: {state.first} of {conditions.count} images in {state.seconds} s, and {len(tensors)} "
                "tensors besides"
            )
        if waiting is not None:
            state._waiting = list(_taken(path, waiting, state.size, state._per_image))
        return state


def _taken(path: Path, waiting: Tensor, size: int, steps: int) -> Array:
    shape = (len(waiting) if waiting.ndim else 0, size, len(COLUMNS))
    if (
        waiting.dtype != torch.float64
        or tuple(waiting.shape) != shape
        or not 0 < len(waiting) < steps
        or not bool(waiting.isfinite().all())
    ):
        raise EvaluationError(
            f"{path} makes no sense: it needs waiting, finite float64 of shape (fewer than {steps}, {size}, {len(COLUMNS)})"
        )
    return np.asarray(waiting.numpy())
