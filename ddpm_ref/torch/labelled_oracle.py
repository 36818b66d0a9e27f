"""Data with labels on tensors: an optimal conditional network, and the exact classifier of noisy data.

The same laws as in `ddpm_ref.reference.oracle.labelled`, computed here anew. `ConditionalNetwork` is called as a trained
network would be, ``network(x, time, label)``, `ExactClassifier` as a trained classifier, ``classifier(x, time)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.torch.arguments import Level, LevelLike, expand_right, level, one_of
from ddpm_ref.torch.labels import checked_labels
from ddpm_ref.torch.oracle import ClockOffsets, Data, Finite, Oracle, _log_weights
from ddpm_ref.torch.prediction import NAMES
from ddpm_ref.torch.tables import Tables


class Labelled(nn.Module):
    r"""Classes ``0 .. classes - 1`` with probabilities ``weights``, each of a law of its own; its buffers follow ``.to``.

    Args:
        weights: ``(classes,)``, positive, summing to one within rounding.
        laws: one `Gaussian`, `Mixture` or `Finite` per class, of one dimension; points do not mix with densities.

    Data are ``(*batch, d)``; labels are int64, one for all or in the shape of leading axes of the batch. The null label,
    ``classes``, stands for no label: the answer is then that of all data together. Raises the errors of the laws, and
    `RangeError` for a label out of range. Source: dhariwal2021, section 4; ho2022, section 3.2.

    >>> import ddpm_ref
    >>> from ddpm_ref.torch.oracle import Gaussian
    >>> tables = ddpm_ref.torch.tables(ddpm_ref.linear_schedule(1000))
    >>> pair = Labelled([0.5, 0.5], [Gaussian(-1.0, 0.25), Gaussian(1.0, 0.25)])
    >>> pair.log_probabilities(tables, torch.full((1, 1), 0.5), 300).exp()
    tensor([[0.2899, 0.7101]])
    """

    log_prior: Tensor

    def __init__(self, weights: Data, laws: Sequence[Oracle]) -> None:
        super().__init__()
        kinds = {isinstance(law, Finite) for law in laws}
        if not laws or len({law.d for law in laws}) > 1 or len(kinds) > 1:
            raise ShapeError(
                f"{len(laws)} laws of dimensions {sorted({law.d for law in laws})}: write one per class, of one dimension, "
                "all Finite or all with a density"
            )
        self.register_buffer("log_prior", _log_weights(weights, len(laws)))
        self.laws = nn.ModuleList([*laws, _all(self.log_prior, laws)])

    @property
    def classes(self) -> int:
        """How many classes there are; also the null label."""
        return len(self.laws) - 1

    @property
    def d(self) -> int:
        """Dimensions of the data."""
        return self.law(0).d

    def law(self, label: int) -> Oracle:
        """The data of one class; of all for the null label. Raises `RangeError` for any other label."""
        if not 0 <= label < len(self.laws):
            raise RangeError(f"label {label} is none of 0..{len(self.laws) - 1}, the last of which is the null label")
        law = self.laws[label]
        assert isinstance(law, Oracle)
        return law

    def eps(self, tables: Tables, xt: Tensor, t: LevelLike, label: Tensor | int) -> Tensor:
        r""":math:`\mathbb E[\varepsilon\mid x_t, y]`, ``t >= 1``. Source: bao2022, eq. (6)."""
        return self._ask("eps", tables, xt, t, label)

    def x0(self, tables: Tables, xt: Tensor, t: LevelLike, label: Tensor | int) -> Tensor:
        r""":math:`\mathbb E[x_0\mid x_t, y]`. Source: efron2011."""
        return self._ask("x0", tables, xt, t, label)

    def v(self, tables: Tables, xt: Tensor, t: LevelLike, label: Tensor | int) -> Tensor:
        r""":math:`\mathbb E[v\mid x_t, y]`. Source: salimans2022, appendix D."""
        return self._ask("v", tables, xt, t, label)

    def score(self, tables: Tables, xt: Tensor, t: LevelLike, label: Tensor | int) -> Tensor:
        r""":math:`\nabla\log q(x_t\mid y)`. Source: vincent2011."""
        return self._ask("score", tables, xt, t, label)

    def log_probabilities(self, tables: Tables, xt: Tensor, t: LevelLike) -> Tensor:
        r""":math:`\log q(y\mid x_t)` of every class, ``(*batch, classes)``, in the compute format; differentiable in x.

        Halves are computed, and answered, in float32. Source: dhariwal2021, section 4; Bayes' rule.
        """
        x = xt.float() if xt.dtype in (torch.bfloat16, torch.float16) else xt
        densities = torch.stack([-self.law(k).nll(x, tables, t) for k in range(self.classes)], dim=-1)
        return (densities + self.log_prior.to(x.dtype)).log_softmax(-1)

    def gradient(self, tables: Tables, xt: Tensor, t: LevelLike, label: Tensor | int) -> Tensor:
        r""":math:`\nabla\log q(y\mid x_t)`, 0 for the null label, by the sum that does not cancel.

        .. math:: \sum_{k \ne y} q(k\mid x_t)\left(\nabla\log q(x_t\mid y) - \nabla\log q(x_t\mid k)\right)

        Source: dhariwal2021, section 4.2.
        """
        label = self._labels(xt, label)
        x = xt.float() if xt.dtype in (torch.bfloat16, torch.float16) else xt
        shares = self.log_probabilities(tables, x, t).exp()
        scores = torch.stack([self.law(k).score(tables, x, t) for k in range(self.classes)], dim=-2)
        own = label.clamp(max=self.classes - 1)[..., None, None].expand(*label.shape, 1, self.d)
        pull = torch.einsum("...k,...ki->...i", shares, scores.gather(-2, own) - scores)
        return torch.where((label < self.classes)[..., None], pull, 0.0).to(xt.dtype)

    def network(self, tables: Tables, prediction: str = "eps", time_code: str = "zero_based") -> ConditionalNetwork:
        """The optimal network ``network(x, time, label)``; see `ConditionalNetwork`."""
        return ConditionalNetwork(self, tables, prediction, time_code)

    def classifier(self, tables: Tables, time_code: str = "zero_based") -> ExactClassifier:
        """The exact classifier ``classifier(x, time)``; see `ExactClassifier`."""
        return ExactClassifier(self, tables, time_code)

    def _labels(self, xt: Tensor, label: Tensor | int) -> Tensor:
        """One label per example."""
        if not isinstance(label, Tensor):
            label = torch.tensor(label, device=xt.device)
        label = checked_labels(label, self.classes, null=True)
        batch = xt.shape[:-1]
        if label.shape != batch[: label.ndim]:
            raise ShapeError(f"label is {tuple(label.shape)}, the batch {tuple(batch)}: write one label per example")
        return expand_right(label, len(batch)).expand(batch)

    def _ask(self, name: str, tables: Tables, xt: Tensor, t: LevelLike, label: Tensor | int) -> Tensor:
        """Every example put to the law of its label."""
        label, times = self._labels(xt, label), _times(tables, t, xt.shape[:-1])
        answer = torch.zeros_like(xt)
        for k in range(self.classes + 1):
            mine = label == k
            if bool(mine.any()):
                of = times if isinstance(times, int) else times[mine]
                answer[mine] = getattr(self.law(k), name)(tables, xt[mine], of)
        return answer


class ConditionalNetwork(nn.Module):
    r"""The optimal network of labelled data, ``network(x, time, label)``: no training could improve it.

    Args:
        oracle: as many dimensions as one example has numbers.
        tables: of the schedule it is asked at.
        prediction: ``"eps"``, ``"x0"``, ``"v"`` or ``"score"`` (also the long names).
        time_code: its clock: ``"zero_based"`` takes t - 1, ``"one_based"`` t.

    x is ``(batch, *event)``, the label int64 ``(batch,)`` in ``0 .. classes``, where ``classes`` is the null label; None
    means that of every example. Raises `RangeError` for an unknown prediction or clock, or a label out of range, and
    the errors of the oracle. Source: ho2022, section 3.2.
    """

    def __init__(self, oracle: Labelled, tables: Tables, prediction: str, time_code: str) -> None:
        super().__init__()
        one_of("prediction", prediction, NAMES)
        one_of("time_code", time_code, ClockOffsets)
        self.oracle, self.tables = oracle, tables
        self.prediction, self.offset = NAMES[prediction], ClockOffsets[time_code]

    @property
    def null_label(self) -> int:
        """The label that stands for no label."""
        return self.oracle.classes

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        """The prediction for x at the network's times ``(batch,)`` with labels ``(batch,)``."""
        label = torch.full(x.shape[:1], self.null_label, device=x.device) if label is None else label
        tables = self.tables if self.tables.device == x.device else self.tables.to(x.device)
        flat = x.reshape(len(x), math.prod(x.shape[1:]))
        answer: Tensor = getattr(self.oracle, self.prediction)(tables, flat, time + self.offset, label)
        return answer.reshape(x.shape)


class ExactClassifier(nn.Module):
    """The classifier that labelled data imply, ``classifier(x, time)``: log-probabilities ``(batch, classes)``.

    Args:
        oracle: as many dimensions as one example has numbers.
        tables: of the schedule it is asked at.
        time_code: its clock, as that of the network beside it.

    Raises `RangeError` for an unknown clock, and the errors of the oracle. Source: dhariwal2021, section 4.
    """

    def __init__(self, oracle: Labelled, tables: Tables, time_code: str) -> None:
        super().__init__()
        one_of("time_code", time_code, ClockOffsets)
        self.oracle, self.tables, self.offset = oracle, tables, ClockOffsets[time_code]

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Log-probabilities of the classes of x ``(batch, *event)`` at times ``(batch,)``."""
        tables = self.tables if self.tables.device == x.device else self.tables.to(x.device)
        return self.oracle.log_probabilities(tables, x.reshape(len(x), math.prod(x.shape[1:])), time + self.offset)


def _times(tables: Tables, t: LevelLike, batch: torch.Size) -> Level:
    """A level for all, or one per example."""
    t = level(tables, t)
    if isinstance(t, int) or t.ndim == 0:
        return t if isinstance(t, int) else t.expand(batch)
    if t.shape != batch[: t.ndim]:
        raise ShapeError(
            f"t is {tuple(t.shape)}, the batch {tuple(batch)}: write one level per example, or one for all"
        )
    return expand_right(t, len(batch)).expand(batch)


def _all(log_prior: Tensor, laws: Sequence[Oracle]) -> Oracle:
    """The law of the data whatever their label: all components, their weights times those of the classes."""
    logs = torch.cat([prior + law.log_weights for prior, law in zip(log_prior, laws, strict=True)])
    axes = [law.axes for law in laws if law.axes is not None]
    joint = Oracle(
        logs - logs.logsumexp(0),
        torch.cat([law.means for law in laws]),
        torch.cat([law.variances for law in laws]),
        torch.cat(axes) if axes else None,
        max(law.memory for law in laws),
    )
    joint.lowest = max(law.lowest for law in laws)
    return joint
