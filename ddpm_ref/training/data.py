"""Data to train on: images, scaled once (pixels outside this file are in [-1, 1]), and points whose law is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from ddpm_ref.errors import RangeError
from ddpm_ref.extras import require
from ddpm_ref.reference.oracle import Mixture
from ddpm_ref.torch.arguments import one_of
from ddpm_ref.typing import ArrayLike

_HELD_OUT = 450
_DIGIT_LEVELS = 17
_TRAIN_POINTS, _HELD_OUT_POINTS = 50_000, 5_000


@dataclass(frozen=True, eq=False)
class Images:
    """A data set: images in [-1, 1], or points, and their labels, some of them held out from training."""

    train: Float[Tensor, n * event]
    train_labels: Int[Tensor, " n"]
    held_out: Float[Tensor, m * event]
    held_out_labels: Int[Tensor, " m"]
    levels: int | None = None
    """How many grey levels there are, evenly spread over [-1, 1]; None for continuous data. What a bound on the likelihood
    is a bound of depends on it: probabilities of levels, or a density."""
    law: Mixture | None = None
    """Where the examples were drawn from, if that is known: then so is the best network, and what its loss is."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example: (channels, height, width), or (components,)."""
        return tuple(self.train.shape[1:])

    @property
    def classes(self) -> int:
        """How many classes the labels count: one more than the largest."""
        return 1 + max(int(self.train_labels.max()), int(self.held_out_labels.max()))


def scale(levels: ArrayLike, largest: float | int = 255) -> NDArray[np.float64]:
    r"""Grey levels to [-1, 1].

    .. math::
        x = 2k/k_{max} - 1

    Args:
        levels: 0..``largest``, any shape.
        largest: the level of white; positive.

    Returns:
        the same shape.

    Raises:
        RangeError: a level outside 0..``largest``, or NaN.

    Source: ho2020, section 3.3.

    >>> scale([0, 8, 16], largest=16).tolist()
    [-1.0, 0.0, 1.0]
    """
    values = np.asarray(levels, dtype=np.float64)
    if not np.all((values >= 0) & (values <= largest)):
        raise RangeError(f"levels lie in {values.min()}..{values.max()}; they must be in 0..{largest}")
    return 2.0 * values / largest - 1.0


def unscale(x: ArrayLike, largest: float | int = 255) -> NDArray[np.float64]:
    """The inverse of `scale`: values in [-1, 1] to (not necessarily whole) levels 0..``largest``.

    >>> unscale([-1.0, 0.0, 1.0], largest=16).tolist()
    [0.0, 8.0, 16.0]
    """
    return (np.asarray(x, dtype=np.float64) + 1.0) * largest / 2.0


def digits() -> Images:
    """The 1797 handwritten digits, 8x8 pixels in 17 grey levels, that ship with scikit-learn.

    A quarter of them, 450, is held out: a random sample without regard to the digit, the same for everybody. (Were each
    digit held out in its exact share, the held-out images would be nearer to the others, as a set, than any independent
    sample can be, and no fair yardstick for samples.)

    Returns:
        float32 images of shape ``(n, 1, 8, 8)`` in [-1, 1], exact, with labels 0..9 and 17 ``levels``.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    bunch = require("sklearn.datasets", "train").load_digits()
    images = torch.from_numpy(scale(bunch.images, largest=_DIGIT_LEVELS - 1)[:, None]).to(torch.float32)
    labels = torch.from_numpy(np.asarray(bunch.target, dtype=np.int64))
    # The one generator of NumPy whose numbers are promised never to change.
    order = torch.from_numpy(np.random.RandomState(0).permutation(len(labels)))
    held_out, train = order[:_HELD_OUT], order[_HELD_OUT:]
    return Images(images[train], labels[train], images[held_out], labels[held_out], _DIGIT_LEVELS)


def mixture_law() -> Mixture:
    """The law of the data set ``mixture``: four normal laws in the plane, of other weights, widths and directions.

    >>> law = mixture_law()
    >>> law.mean.round(2).tolist(), law.covariance.round(2).tolist()
    ([0.08, 0.2], [[1.09, 0.12], [0.12, 1.11]])
    """
    means = [[-1.2, -0.8], [1.1, 0.9], [-0.6, 1.3], [1.0, -1.0]]
    covariances = [
        [[0.09, 0.06], [0.06, 0.08]],
        [[0.04, 0.0], [0.0, 0.25]],
        [[0.16, -0.08], [-0.08, 0.09]],
        [[0.02, 0.0], [0.0, 0.02]],
    ]
    return Mixture([0.25, 0.3, 0.25, 0.2], means, covariances)


def mixture() -> Images:
    """50 000 points in the plane, drawn from `mixture_law`, and 5000 more that are held out; labels name the component.

    The best network is known, so that training can say how far it is from it. The points are continuous, and not confined to
    [-1, 1].

    Returns:
        float32 points of shape ``(n, 2)`` with labels 0..3; the same points every time.
    """
    law, draws = mixture_law(), np.random.RandomState(0)
    labels = draws.choice(len(law.weights), size=_TRAIN_POINTS + _HELD_OUT_POINTS, p=law.weights)
    roots = np.linalg.cholesky(law.covariances)
    points = law.means[labels] + np.einsum("nij,nj->ni", roots[labels], draws.randn(len(labels), law.d))
    x, y = torch.from_numpy(points).to(torch.float32), torch.from_numpy(labels)
    train, held_out = slice(None, _TRAIN_POINTS), slice(_TRAIN_POINTS, None)
    return Images(x[train], y[train], x[held_out], y[held_out], law=law)


LOADERS: dict[str, Callable[[], Images]] = {"digits": digits, "mixture": mixture}


def load(name: str) -> Images:
    """The data set of this name.

    Raises:
        RangeError: there is none.
    """
    one_of("dataset", name, LOADERS)
    return LOADERS[name]()
