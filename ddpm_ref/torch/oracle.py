"""Exact oracles on tensors: the optimal network of Gaussian, mixture and finite data, ready to be sampled from.

The same laws as in `ddpm_ref.reference.oracle`, computed here anew. Expectations over x_t (`mean_square_eps`,
`loss_floor`) and the exact law of samples have no use for a device and are in the reference only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.torch.arguments import LevelLike, at, compute_dtype, finite, level, one_of, readable, same_kind
from ddpm_ref.torch.prediction import NAMES
from ddpm_ref.torch.tables import Tables

ClockOffsets = {"zero_based": 1, "one_based": 0}
"""What to add to the network's time to get the paper's level."""
MEMORY = 2**28
# Tensors of (components, examples, d) that are alive at one time, and room for PyTorch's own temporaries.
_TEMPORARIES = 8
Data: TypeAlias = Tensor | NDArray[np.float64] | list[float] | list[list[float]] | list[list[list[float]]] | float | int


class _Given:
    """Components given x_t, leading axis components; data and coefficients in the compute format."""

    def __init__(self, oracle: Oracle, x: Tensor, a: Tensor, b: Tensor) -> None:
        self.means, self.variances = oracle.means.to(x.dtype)[:, None], oracle.variances.to(x.dtype)[:, None]
        self.axes = None if oracle.axes is None else oracle.axes.to(x.dtype)
        self.a, self.b = a, b
        difference = x - a * self.means
        self.along = difference if self.axes is None else difference @ self.axes
        self.spread = a.square() * self.variances + b.square()
        square = (self.along.square() / self.spread).sum(-1)
        volume = self.spread.log().expand_as(self.along).sum(-1) + x.shape[-1] * math.log(2 * math.pi)
        joint = oracle.log_weights.to(x.dtype)[:, None] - (square + volume) / 2
        self.log_density = joint.logsumexp(0)
        _representable(x, self.log_density)
        self.shares = joint.softmax(0)

    def eps(self) -> Tensor:
        return self._mean(self._rotated(self.b * self.along / self.spread))

    def score(self) -> Tensor:
        return -self._mean(self._rotated(self.along / self.spread))

    def each_x0(self) -> Tensor:
        return self.means + self._rotated(self.a * self.variances / self.spread * self.along)

    def x0(self) -> Tensor:
        return self._mean(self.each_x0())

    def v(self) -> Tensor:
        """Neither half of it cancels against the other more than the velocity itself does."""
        return self.a[0] * self.eps() - self.b[0] * self.x0()

    def x0_covariance(self) -> Tensor:
        each = self.each_x0()
        between = (self.shares.sqrt()[..., None] * (each - self._mean(each))).transpose(0, 1)
        left = (self.variances * self.b.square() / self.spread).expand_as(self.along)
        if self.axes is None:
            within = torch.diag_embed(self._mean(left))
        else:
            within = torch.einsum("kn,kni,kai,kbi->nab", self.shares, left, self.axes, self.axes)
        return between.mT @ between + within

    def _rotated(self, along: Tensor) -> Tensor:
        return along if self.axes is None else along @ self.axes.mT

    def _mean(self, values: Tensor) -> Tensor:
        return torch.einsum("kn,kni->ni", self.shares, values)


class Oracle(nn.Module):
    """Data of a known law in d dimensions; its buffers follow ``.to(device)``. Make a `Gaussian`, `Mixture` or `Finite`.

    Data tensors have shape ``(*batch, d)``; halves are computed in float32 and rounded once. Every method raises
    `LevelError`, `ShapeError` and `PrecisionError` as `ddpm_ref.torch.arguments` says, and `RangeError` for data that
    are not finite, or so far out that their squares overflow, or of which not one example fits in ``memory`` bytes.
    """

    lowest = 0
    log_weights: Tensor
    means: Tensor
    variances: Tensor
    axes: Tensor | None

    def __init__(self, log_weights: Tensor, means: Tensor, variances: Tensor, axes: Tensor | None, memory: int) -> None:
        super().__init__()
        if isinstance(memory, bool) or not isinstance(memory, int) or memory < 1:
            raise RangeError(f"memory = {memory!r} must be a whole number of bytes; write e.g. 2**28")
        for name, value in {"log_weights": log_weights, "means": means, "variances": variances, "axes": axes}.items():
            self.register_buffer(name, value)
        self.memory = memory

    @property
    def d(self) -> int:
        """Dimensions of the data."""
        return int(self.means.shape[-1])

    def eps(self, tables: Tables, xt: Tensor, t: LevelLike) -> Tensor:
        r""":math:`\mathbb E[\varepsilon\mid x_t]`, ``t >= 1``, the optimal noise prediction. Source: bao2022, eq. (6)."""
        return self._ask(_Given.eps, tables, xt, t, lowest=1)

    def score(self, tables: Tables, xt: Tensor, t: LevelLike) -> Tensor:
        r""":math:`\nabla\log q(x_t)`, from the first level with a density. Source: vincent2011."""
        return self._ask(_Given.score, tables, xt, t, lowest=self.lowest)

    def x0(self, tables: Tables, xt: Tensor, t: LevelLike) -> Tensor:
        r""":math:`\mathbb E[x_0\mid x_t]`, the optimal data prediction. Source: efron2011."""
        return self._ask(_Given.x0, tables, xt, t, lowest=self.lowest)

    def v(self, tables: Tables, xt: Tensor, t: LevelLike) -> Tensor:
        r""":math:`\mathbb E[v\mid x_t] = \sqrt{\bar\alpha_t}\,\varepsilon^* - \sqrt{\bar\beta_t}\,x_0^*`.

        Source: salimans2022, appendix D.
        """
        return self._ask(_Given.v, tables, xt, t, lowest=self.lowest)

    def x0_covariance(self, tables: Tables, xt: Tensor, t: LevelLike) -> Tensor:
        r""":math:`\mathrm{Cov}[x_0\mid x_t]`, shape ``(*batch, d, d)``. Source: bao2022, theorem 1."""
        return self._ask(_Given.x0_covariance, tables, xt, t, lowest=self.lowest, squares=True)

    def nll(self, x: Tensor, tables: Tables, t: LevelLike = 0) -> Tensor:
        r""":math:`-\log q(x_t)` in nats for the whole vector, shape ``batch``; of the data at ``t = 0``, if they have a density.

        Source: kingma2021.
        """
        return self._ask(lambda given: -given.log_density, tables, x, t, lowest=self.lowest)

    def network(self, tables: Tables, prediction: str = "eps", time_code: str = "zero_based") -> OptimalNetwork:
        """The oracle as a network ``network(x, time)``; see `OptimalNetwork`."""
        return OptimalNetwork(self, tables, prediction, time_code)

    def _ask(
        self,
        compute: Callable[[_Given], Tensor],
        tables: Tables,
        xt: Tensor,
        t: LevelLike,
        *,
        lowest: int,
        squares: bool = False,
    ) -> Tensor:
        t = level(tables, t, lowest=lowest)
        same_kind(tables, xt=xt)
        finite(xt=xt)
        if xt.shape[-1:] != (self.d,):
            raise ShapeError(
                f"xt has shape {tuple(xt.shape)} beside data of {self.d} dimensions; write (*batch, {self.d})"
            )
        batch, wanted = xt.shape[:-1], compute_dtype(xt.dtype)
        x = xt.reshape(-1, self.d).to(wanted)
        a, b = (_column(at(table, t), batch).to(wanted) for table in (tables.sqrt_alpha_bar, tables.sqrt_beta_bar))
        rows = self._rows(wanted.itemsize, squares)
        parts = [
            compute(_Given(self, some, *(c if c.shape[1] == 1 else c[:, i : i + rows] for c in (a, b))))
            for i, some in zip(range(0, max(len(x), 1), rows), torch.split(x, rows), strict=True)
        ]
        answer = torch.cat(parts)
        return answer.reshape(batch + answer.shape[1:]).to(xt.dtype)

    def _rows(self, itemsize: int, squares: bool) -> int:
        """How many examples at a time keep the temporaries below ``memory`` bytes."""
        n, d = self.means.shape
        # Matrices (d, d) of an example: between, within and their sum; turned, one for each component and its product.
        matrices = squares * (3 if self.axes is None else 2 * n + 3)
        needed = itemsize * (_TEMPORARIES * n * d + matrices * d * d)
        if needed > self.memory:
            raise RangeError(
                f"memory = {self.memory} bytes is too little: one example beside {n} components in {d} dimensions takes "
                f"{needed}; write at least memory={needed}"
            )
        return self.memory // needed


class Gaussian(Oracle):
    """Normal data of mean ``(d,)`` and covariance ``(d, d)``; two numbers for d = 1.

    Raises `RangeError` for a covariance that is not symmetric and positive definite, `ShapeError`.

    >>> import ddpm_ref
    >>> tables = ddpm_ref.torch.tables(ddpm_ref.linear_schedule(1000))
    >>> Gaussian(0.0, 1.0).x0(tables, torch.ones(1, 1), 1000)  # sqrt(alpha_bar) x_t
    tensor([[0.0064]])
    """

    def __init__(self, mean: Data, covariance: Data, memory: int = MEMORY) -> None:
        centre, matrix = _real("mean", mean), _real("covariance", covariance)
        if centre.ndim == matrix.ndim == 0:
            centre, matrix = centre.reshape(1), matrix.reshape(1, 1)
        if centre.ndim != 1 or not len(centre) or matrix.shape != (len(centre), len(centre)):
            raise ShapeError(f"mean {tuple(centre.shape)}, covariance {tuple(matrix.shape)}; write (d,) and (d, d)")
        variances, axes = _principal_axes("covariance", matrix[None])
        super().__init__(torch.zeros(1, dtype=torch.float64), centre[None], variances, axes, memory)


class Mixture(Oracle):
    """Normal laws of means ``(n, d)`` and covariances ``(n, d, d)`` with weights ``(n,)``; ``(n,)`` each for d = 1.

    Raises `RangeError` for weights that are not positive or do not sum to one, or covariances that are not symmetric and
    positive definite; `ShapeError`.
    """

    def __init__(self, weights: Data, means: Data, covariances: Data, memory: int = MEMORY) -> None:
        centres, matrices = _real("means", means), _real("covariances", covariances)
        if centres.ndim == matrices.ndim == 1:
            centres, matrices = centres[:, None], matrices[:, None, None]
        if centres.ndim != 2 or not centres.numel() or matrices.shape != (*centres.shape, centres.shape[-1]):
            raise ShapeError(
                f"means {tuple(centres.shape)}, covariances {tuple(matrices.shape)}; write (n, d) and (n, d, d)"
            )
        log_weights = _log_weights(weights, len(centres))
        super().__init__(log_weights, centres, *_principal_axes("covariances", matrices), memory)


class Finite(Oracle):
    """Data that are one of the points ``(n, d)``, with equal weights or the given ones; levels start at 1.

    Raises `RangeError` for weights that are not positive or do not sum to one; `ShapeError`.

    >>> import ddpm_ref
    >>> tables = ddpm_ref.torch.tables(ddpm_ref.linear_schedule(1000))
    >>> Finite([-1.0, 1.0]).x0(tables, torch.full((1, 1), 0.5), 100)
    tensor([[0.9998]])
    """

    lowest = 1

    def __init__(self, points: Data, weights: Data | None = None, memory: int = MEMORY) -> None:
        centres = _real("points", points)
        centres = centres[:, None] if centres.ndim == 1 else centres
        if centres.ndim != 2 or not centres.numel():
            raise ShapeError(f"points have shape {tuple(centres.shape)}; write (n, d), or (n,) for d = 1")
        n = len(centres)
        equal = torch.full((n,), -math.log(n), dtype=torch.float64)
        log_weights = equal if weights is None else _log_weights(weights, n)
        super().__init__(log_weights, centres, torch.zeros_like(centres), None, memory)


class OptimalNetwork(nn.Module):
    r"""An oracle with the signature of a network, ``network(x, time)``: no training could improve it.

    Args:
        oracle: `Gaussian`, `Mixture` or `Finite` with as many dimensions as one example has numbers.
        tables: of the schedule it is asked at.
        prediction: ``"eps"``, ``"x0"``, ``"v"`` or ``"score"`` (also the long names).
        time_code: its clock: ``"zero_based"`` takes t - 1, ``"one_based"`` t.

    x of shape ``(batch, *event)`` is answered in its shape, number format and place. Raises `RangeError` for an unknown
    prediction or clock, and the errors of the oracle. Source: bao2022, eq. (6).
    """

    def __init__(self, oracle: Oracle, tables: Tables, prediction: str = "eps", time_code: str = "zero_based") -> None:
        super().__init__()
        one_of("prediction", prediction, NAMES)
        one_of("time_code", time_code, ClockOffsets)
        self.oracle, self.tables = oracle, tables
        self.prediction, self.offset = NAMES[prediction], ClockOffsets[time_code]

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """The prediction for x of shape ``(batch, *event)`` at the network's times ``(batch,)``."""
        answer: Callable[[Tables, Tensor, LevelLike], Tensor] = getattr(self.oracle, self.prediction)
        tables = self.tables if self.tables.device == x.device else self.tables.to(x.device)
        return answer(tables, x.reshape(len(x), math.prod(x.shape[1:])), time + self.offset).reshape(x.shape)


def _column(values: Tensor, batch: torch.Size) -> Tensor:
    """A coefficient per example, or one for all, shaped to stand beside ``(components, examples, d)``."""
    if values.ndim == 0:
        return values.reshape(1, 1, 1)
    if values.shape != batch[: values.ndim]:
        raise ShapeError(
            f"t has shape {tuple(values.shape)}, the batch {tuple(batch)}; write a scalar or one per example"
        )
    return values.reshape(values.shape + (1,) * (len(batch) - values.ndim)).expand(batch).reshape(1, -1, 1)


def _representable(x: Tensor, log_density: Tensor) -> None:
    """Refuse numbers whose squares overflow, where reading a tensor is allowed and cheap."""
    if x.device.type != "cpu" or not readable(x):
        return
    lost = ~log_density.detach().isfinite()
    if bool(lost.any()):
        far = x.detach()[lost].reshape(-1)
        worst = float(far[far.abs().argmax()])
        raise RangeError(
            f"xt contains {worst:.4g}: its square overflows {x.dtype}, in units of the noise; write noisy data, which are "
            "no further from the data than some deviations"
        )


def _real(name: str, value: Data) -> Tensor:
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        value = value.copy()  # the reference's own arrays are read-only, of which PyTorch warns
    try:
        tensor = torch.as_tensor(value, dtype=torch.float64)  # at once: a list would first become float32
    except (TypeError, ValueError):
        raise ShapeError(f"{name} is no rectangular array of numbers; write rows of one length") from None
    if not bool(tensor.isfinite().all()):
        raise RangeError(f"{name} holds a number that is not finite; mend or mask the data first")
    return tensor


def _log_weights(value: Data, n: int) -> Tensor:
    weights = _real("weights", value)
    if weights.shape != (n,):
        raise ShapeError(f"weights have shape {tuple(weights.shape)} for {n} components; write ({n},)")
    total = float(weights.sum())
    # n roundings of the sum, one of each weight
    if bool((weights <= 0).any()) or abs(total - 1) > (n + 1) * torch.finfo(torch.float64).eps:
        raise RangeError(
            f"weights must be > 0 and sum to 1, and here the least is {float(weights.min())}, the sum {total!r}"
        )
    return (weights / total).log()


def _principal_axes(name: str, covariances: Tensor) -> tuple[Tensor, Tensor | None]:
    if not torch.equal(covariances, covariances.mT):
        raise RangeError(f"{name} is not symmetric: write (C + C.mT) / 2")
    variances, axes = torch.linalg.eigh(covariances)
    d = covariances.shape[-1]
    if bool((variances[:, 0] <= d * torch.finfo(torch.float64).eps * variances[:, -1]).any()):
        raise RangeError(f"{name} is not positive definite: add a multiple of the identity, or use Finite for points")
    return variances, axes if d > 1 else None
