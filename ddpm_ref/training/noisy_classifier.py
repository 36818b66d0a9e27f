"""What a classifier of noisy images minimises, and how often it is right at which level."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from ddpm_ref.errors import RangeError
from ddpm_ref.nn import NoisyClassifier
from ddpm_ref.sampling.denoiser import TIME_CODES
from ddpm_ref.sampling.noise import Stream, keyed_generator
from ddpm_ref.torch.arguments import one_of
from ddpm_ref.torch.forward import q_sample
from ddpm_ref.torch.tables import Tables
from ddpm_ref.training.objective import Draw, even_levels

LEVELS_SHOWN = 10
"""At how many levels the accuracy is measured, where nobody names them."""


@dataclass(frozen=True)
class LevelClassifier:
    """A classifier of noisy images and how it counts time: called as ``classifier(x, t)`` with the paper's level.

    Args:
        network: called as ``network(x, time)``; returns logits.
        time_code: the network's clock, as in `ddpm_ref.sampling.Denoiser`.

    Raises:
        RangeError: an unknown ``time_code``.
    """

    network: NoisyClassifier
    time_code: str = "zero_based"

    def __post_init__(self) -> None:
        one_of("time_code", self.time_code, TIME_CODES)

    @property
    def classes(self) -> int:
        """How many there are."""
        return self.network.config.classes

    def __call__(self, x: Tensor, t: Tensor) -> Float[Tensor, "batch classes"]:
        """Logits of the classes.

        Args:
            x: noisy images, ``(batch, channels, height, width)``.
            t: levels 1..T, ``(batch,)``.
        """
        logits: Tensor = self.network(x, t - 1 + TIME_CODES[self.time_code])
        return logits


def label_loss(classifier: LevelClassifier, tables: Tables, drawn: Draw) -> Float[Tensor, " batch"]:
    r"""Minus the log-probability of the label of each noisy example.

    .. math:: -\log p_\phi(y \mid x_t, t), \qquad x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{\bar\beta_t}\, \varepsilon

    Args:
        classifier: the network and its clock.
        tables: of the schedule, on the device of the data.
        drawn: examples, levels, noise and labels.

    Returns:
        one number per example, ``(batch,)``, in nats; its least mean is the entropy of the label given x_t, and that of a
        classifier that knows nothing is log(classes).

    Raises:
        RangeError: no labels.

    Source: dhariwal2021, section 4.3.
    """
    if drawn.label is None:
        raise RangeError("the examples have no labels, which is what a classifier learns; draw them with labels")
    xt = q_sample(tables, drawn.x0, drawn.t, drawn.noise)
    return functional.cross_entropy(classifier(xt, drawn.t), drawn.label, reduction="none")


@torch.no_grad()
def accuracy_by_level(
    classifier: LevelClassifier,
    tables: Tables,
    x0: Float[Tensor, "n channels height width"],
    labels: Int[Tensor, " n"],
    levels: Iterable[int] | None = None,
) -> dict[int, float]:
    """How often the most likely class of noisy images is their label, level by level.

    Args:
        classifier: in evaluation mode.
        tables: of the schedule, on the device of the images.
        x0: images that the classifier was not trained on.
        labels: of the images.
        levels: which, 1..T; ten, evenly spread, and level 1 if None.

    Returns:
        share of the images, 0..1, by level.

    Limits: the noise is the same at every call, another at every level. The share of n images is off by up to
    ``1 / sqrt(n)`` (two standard errors at most): 0.05 for 450.
    """
    if levels is None:
        levels = sorted({1, *even_levels(LEVELS_SHOWN, tables.T).tolist()})
    found = {}
    for level in levels:
        generator = keyed_generator(x0.device, Stream.HELD_OUT, 0, level)
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)
        t = torch.full((len(x0),), level, device=x0.device)
        guessed = classifier(q_sample(tables, x0, t, noise), t).argmax(dim=1)
        found[level] = float((guessed == labels).double().mean())
    return found
