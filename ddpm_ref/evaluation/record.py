"""The bound of a network over data: a record, and a file that says of which network, data and options it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm_ref.errors import DdpmRefError, EvaluationError, RangeError
from ddpm_ref.estimation.comoments import CoMoments
from ddpm_ref.evaluation.terms import COLUMNS
from ddpm_ref.records import plain, record
from ddpm_ref.reference.trajectory import Trajectory
from ddpm_ref.torch.bound import continuous_bits_per_dim, nats_per_image
from ddpm_ref.training import container
from ddpm_ref.typing import Array

VERSION = 1
EVALUATION_NAME = "evaluation.safetensors"
"""The usual name of the file, in the folder of the run."""

KIND = container.Kind(
    "ddpm_ref.evaluation", "evaluation", EVALUATION_NAME, "make it with ddpm-ref evaluate", EvaluationError
)


@dataclass(frozen=True)
class Conditions:
    """Everything that decides the numbers of an evaluation."""

    schedule_digest: str
    """Of the betas, see `NoiseSchedule.digest`."""
    network_digest: str
    """Of the weights and conventions, see `ddpm_ref.estimation.network_digest`."""
    data_digest: str
    """Of the data in their order, see `ddpm_ref.estimation.data_digest`."""
    prediction: str
    """What the network predicts."""
    time_code: str
    """Its clock."""
    trajectory: tuple[int, ...]
    """Levels from T down to 0."""
    variance: str
    """Of the reverse steps."""
    first_step: str
    """The rule for the variance of the step to level 0."""
    variance_digest: str
    """Of the variances that somebody measured; empty for all others, which follow from what is said here."""
    clip_x0: bool
    """Whether predicted data are clipped to [-1, 1]."""
    levels: int | None
    """Grey levels of the data; None for continuous data, whose last term is a density."""
    dimension: int
    """Components of an image."""
    count: int
    """How many images."""
    batch_size: int
    """Rows (images times steps) in a forward pass, on which the last bits depend."""
    seed: int
    """Of the noise."""


@dataclass(frozen=True, eq=False)
class Average:
    """Averages over images, with their standard errors."""

    estimate: Array
    standard_error: Array
    """The standard deviation over images, n - 1 in its denominator, by the root of their number."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    r"""An upper bound on the mean negative log likelihood of images, in bits per dimension, term by term.

    .. math:: L = L_T + \sum_{k=1}^{K-1} L_{t_k\to t_{k+1}} + L_0

    Source: ho2020, eq. (5), for the steps of any trajectory; nichol2021, eq. (4)-(7).
    """

    conditions: Conditions
    priors: Array
    """The prior term of each image, bits per dimension, ``(n,)``."""
    totals: Array
    """The bound of each image, bits per dimension, ``(n,)``."""
    steps: tuple[CoMoments, ...]
    """Of `COLUMNS` over images, one for each step in sampling order."""
    interrupted: bool = False
    """Whether Ctrl-C or SIGTERM ended it; then it is of fewer images than were asked for."""

    @property
    def count(self) -> int:
        """How many images it is of."""
        return len(self.totals)

    @property
    def trajectory(self) -> Trajectory:
        """The levels visited."""
        return Trajectory(self.conditions.trajectory)

    @property
    def total(self) -> Average:
        """The bound, bits per dimension. Its error is from the bounds of the images, whose terms depend on one another."""
        return _average(self.totals)

    @property
    def prior(self) -> Average:
        """The prior term, bits per dimension; of given data it has no noise, and its error is that of the data."""
        return _average(self.priors)

    def column(self, name: str) -> Average:
        """One of `COLUMNS`, ``(K,)``, one number for each step in sampling order; `RangeError` for another name.

        The last of ``"bits_per_dim"`` is that of the decoder, or of the density where the data are continuous.
        """
        if name not in COLUMNS:
            raise RangeError(f"column {name!r} is not known; write one of {', '.join(COLUMNS)}")
        k = COLUMNS.index(name)
        means = np.array([step.mean[k] for step in self.steps])
        return Average(means, np.array([step.standard_error()[k] for step in self.steps]))

    def nats_per_image(self) -> Average:
        """The bound, nats per image."""
        total = self.total
        return Average(*(_number(nats_per_image(_tensor(end), self.conditions.dimension)) for end in _ends(total)))

    def as_if_discrete(self, levels: int = 256) -> float:
        r"""The bound of continuous data on [-1, 1] as that of data with so many levels: plus :math:`\log_2\frac{k-1}2`.

        Raises:
            RangeError: the data are discrete already; fewer than 2 levels.
        """
        if self.conditions.levels is not None:
            raise RangeError(
                f"the data have {self.conditions.levels} levels, and their bits per dimension need no offset"
            )
        if levels < 2:
            raise RangeError(f"levels is {levels}; there are at least 2")
        nats, dimension = self.nats_per_image().estimate, self.conditions.dimension
        return float(continuous_bits_per_dim(_tensor(nats), dimension, levels))

    def as_json(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings; every number is finite."""
        columns = {name: self.column(name) for name in COLUMNS}
        terms = [
            {"t": t, "s": s} | {name: _plain(column, k) for name, column in columns.items()}
            for k, (t, s) in enumerate(self.trajectory.pairs())
        ]
        return {
            "bits_per_dim": _plain(self.total),
            "nats_per_image": _plain(self.nats_per_image()),
            "prior": _plain(self.prior),
            "count": self.count,
            "conditions": plain(self.conditions),
            "terms": terms,
        }

    def save(self, path: Path | str) -> None:
        """Write the file, whole or not at all.

        Raises:
            OutputError: it cannot be written; an older one of this name stays.
        """
        header = {"conditions": json.dumps(plain(self.conditions))}
        container.write(Path(path), VERSION, header, packed(self.priors, self.totals, self.steps), KIND)

    @classmethod
    def load(cls, path: Path | str) -> Evaluation:
        """Read a file that `save` wrote.

        Raises:
            EvaluationError: missing, truncated, changed, a pickle, not one of ours, of a later version, or with numbers
                that contradict one another.
        """
        path = Path(path)
        _, header, tensors = container.read(path, (VERSION,), KIND)
        conditions = stored_conditions(path, header)
        priors, totals, steps = unpacked(path, tensors, len(conditions.trajectory) - 1)
        if tensors or len(totals) != conditions.count:
            raise EvaluationError(f"{path} makes no sense: it is of {conditions.count} images, but not all it holds is")
        return cls(conditions, priors, totals, steps)


def stored_conditions(path: Path, header: Mapping[str, str]) -> Conditions:
    """The conditions in the header of a file; `EvaluationError` if there are none."""
    try:
        found: Conditions = record(Conditions, json.loads(header["conditions"]), "conditions")
        Trajectory(found.trajectory)
    except (KeyError, ValueError, RecursionError, DdpmRefError) as error:
        raise EvaluationError(f"{path} makes no sense: {error}") from error
    if min(found.count - 1, found.batch_size, found.dimension, (found.levels or 2) - 1) < 1:
        raise EvaluationError(f"{path} makes no sense: no evaluation has the conditions {found}")
    return found


def packed(priors: Array, totals: Array, steps: Sequence[CoMoments]) -> dict[str, Tensor]:
    """What is known of the images that are done, as tensors."""
    columns = {
        "priors": priors,
        "totals": totals,
        "means": np.array([step.mean for step in steps]),
        "products": np.array([step.products for step in steps]),
    }
    return {name: torch.from_numpy(np.array(column)) for name, column in columns.items()}


def unpacked(path: Path, tensors: dict[str, Tensor], steps: int) -> tuple[Array, Array, tuple[CoMoments, ...]]:
    """What `packed` made tensors of, taken out of them; `EvaluationError` where that cannot be."""
    missing = [name for name in ("priors", "totals", "means", "products") if name not in tensors]
    if missing:
        raise EvaluationError(f"{path} makes no sense: it holds no {missing[0]}")
    priors, totals, means, products = (tensors.pop(name) for name in ("priors", "totals", "means", "products"))
    n, width = len(totals) if totals.ndim else 0, len(COLUMNS)
    shapes = {"priors": (n,), "totals": (n,), "means": (steps, width), "products": (steps, width, width)}
    for (name, shape), tensor in zip(shapes.items(), (priors, totals, means, products), strict=True):
        if tensor.dtype != torch.float64 or not n or tuple(tensor.shape) != shape or not bool(tensor.isfinite().all()):
            raise EvaluationError(f"{path} makes no sense: it needs {name}, finite float64 of shape {shape}")
    if bool((means[:, 1:] < 0).any()) or bool((products.diagonal(dim1=1, dim2=2) < 0).any()):
        raise EvaluationError(f"{path} makes no sense: a mean of squares in it is negative")
    found = tuple(CoMoments(n, mean, product) for mean, product in zip(means.numpy(), products.numpy(), strict=True))
    return priors.numpy(), totals.numpy(), found


def _average(values: Array) -> Average:
    found = CoMoments.of(values[:, None])
    return Average(found.mean[0], found.standard_error()[0])


def _ends(average: Average) -> tuple[Array, Array]:
    return average.estimate, average.standard_error


def _plain(average: Average, index: int | None = None) -> dict[str, float]:
    names = ("estimate", "standard_error")
    return {name: float(end if index is None else end[index]) for name, end in zip(names, _ends(average), strict=True)}


def _tensor(number: Array) -> Tensor:
    return torch.as_tensor(number, dtype=torch.float64)


def _number(tensor: Tensor) -> Array:
    return np.float64(tensor.item())  # type: ignore[return-value] # what NumPy's stubs call an array, see ddpm_ref.typing
