"""How a network is told the time and the label: the sinusoidal embedding, the small network behind it, a vector per class."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ddpm_ref.errors import PrecisionError, RangeError, ShapeError
from ddpm_ref.torch.guidance import checked_labels


def sinusoidal_embedding(
    time: Tensor, dimension: int, max_period: float = 10_000.0, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "batch dimension"]:
    r"""Cosines and sines of the time at geometrically spaced frequencies.

    .. math::
        \mathrm{emb}(t) = (\cos\omega_0 t, \dots, \cos\omega_{h-1} t, \sin\omega_0 t, \dots, \sin\omega_{h-1} t),
        \qquad \omega_j = P^{-j/h}, \quad h = D/2

    Args:
        time: the network's clock, shape ``(batch,)``, whole or fractional numbers.
        dimension: D, even and positive.
        max_period: P; the slowest wave has period ``2 pi P^{(h-1)/h}``.
        dtype: of the result. The angles are float64 whatever it is, since in float32 the fastest wave
            would be off by 3e-5 rad at t = 1000.

    Returns:
        shape ``(batch, dimension)``; its squared norm is ``dimension / 2`` for every time.

    Raises:
        RangeError: ``dimension`` is odd or not positive, or ``max_period`` is not positive.
        ShapeError: ``time`` is not a vector.

    Limits: the order (cosines first) and the exponent (``j/h``, not ``j/(h-1)``) are conventions that a trained
    network is bound to. Source: vaswani2017, section 3.5; ho2020, appendix B.

    >>> sinusoidal_embedding(torch.tensor([0, 5]), 4)[0].tolist()
    [1.0, 1.0, 0.0, 0.0]
    """
    if dimension < 2 or dimension % 2:
        raise RangeError(f"dimension is {dimension}; an embedding of cosines and sines needs an even number >= 2")
    if not 0 < max_period < math.inf:
        raise RangeError(f"max_period is {max_period}; it must be a positive finite number")
    if time.ndim != 1:
        raise ShapeError(f"time has shape {tuple(time.shape)}; one number per example, shape (batch,), is needed")
    half = dimension // 2
    exponents = torch.arange(half, dtype=torch.float64, device=time.device) / half
    angles = time.to(torch.float64)[:, None] * max_period**-exponents
    return torch.cat([angles.cos(), angles.sin()], dim=1).to(dtype)


class TimeEmbedding(nn.Module):
    """The sinusoidal embedding followed by two dense layers, as in Ho et al. 2020, appendix B.

    Args:
        dimension: width of the sinusoidal embedding, even.
        features: width of the two dense layers.
    """

    def __init__(self, dimension: int, features: int) -> None:
        super().__init__()
        self.dimension = dimension
        self.hidden = nn.Linear(dimension, features)
        self.out = nn.Linear(features, features)

    def forward(self, time: Tensor) -> Float[Tensor, "batch features"]:
        """``(batch,)`` times to ``(batch, features)``, in the format of the layers' weights."""
        waves = sinusoidal_embedding(time, self.dimension, dtype=self.hidden.weight.dtype)
        embedded: Tensor = self.out(nn.functional.silu(self.hidden(waves)))
        return embedded


class LabelEmbedding(nn.Embedding):
    """A vector for each class and one for the null label, all of them zero at first.

    So what is learnt with one label serves the others, and the null label, too.

    Args:
        classes: how many, >= 1.
        features: length of the vectors.
    """

    def __init__(self, classes: int, features: int) -> None:
        super().__init__(classes + 1, features)
        self.classes = classes
        nn.init.zeros_(self.weight)


def check_format(x: Tensor, weight: Tensor) -> None:
    """Refuse examples of another number format than the weights (`PrecisionError`)."""
    if x.dtype != weight.dtype:
        raise PrecisionError(
            f"x is {x.dtype} and the network's weights are {weight.dtype}; write x.to({weight.dtype}), or network.to({x.dtype})"
        )


def labelled(
    embedded: Tensor, embedding: LabelEmbedding | None, label: Tensor | None
) -> Float[Tensor, "batch features"]:
    """What a network is told of the time, and of the label if it knows labels.

    Args:
        embedded: the time's, ``(batch, features)``.
        embedding: the labels', added to it; None for a network that knows none.
        label: int64, ``(batch,)``: classes 0..classes - 1, or the null label, ``classes``; None for that of all examples.

    Raises:
        ShapeError: not one label per example.
        RangeError: labels for a network that knows none, of another format, or out of range.
    """
    if embedding is None:
        if label is not None:
            raise RangeError(
                "label was given, but this network has no classes; leave it out, or set classes in its config"
            )
        return embedded
    if label is None:
        label = torch.full(embedded.shape[:1], embedding.classes, dtype=torch.int64, device=embedded.device)
    elif label.shape != embedded.shape[:1]:
        raise ShapeError(f"label has shape {tuple(label.shape)}; write one per example, shape ({len(embedded)},)")
    summed: Tensor = embedded + embedding(checked_labels(label, embedding.classes, null=True))
    return summed
