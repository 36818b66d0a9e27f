"""What training minimises: Algorithm 1 of Ho et al., one example at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ddpm_ref.sampling.denoiser import Denoiser
from ddpm_ref.sampling.noise import Stream, keyed_generator
from ddpm_ref.torch.arguments import one_of
from ddpm_ref.torch.forward import q_sample
from ddpm_ref.torch.guidance import drop_condition
from ddpm_ref.torch.prediction import v_target
from ddpm_ref.torch.tables import Tables

TARGETS: dict[str, Callable[[Tables, Tensor, Tensor, Tensor], Tensor]] = {
    "eps": lambda tables, x0, t, noise: noise,
    "x0": lambda tables, x0, t, noise: x0,
    "v": v_target,
}
"""By prediction, from the tables, clean data, levels and noise."""

LABEL, CROSS_ENTROPY = "label", "cross_entropy"
"""What a classifier of noisy images predicts, and its loss; see `ddpm_ref.training.noisy_classifier`."""

PENALTIES: dict[str, Callable[[Tensor], Tensor]] = {"l2": torch.square, "l1": torch.abs}
"""By loss, elementwise."""


@dataclass(frozen=True, eq=False)
class Draw:
    """The random part of one training step: examples, levels, and one noise tensor per example."""

    x0: Float[Tensor, batch * event]
    t: Int[Tensor, " batch"]
    noise: Float[Tensor, batch * event]
    label: Int[Tensor, " batch"] | None = None
    """What the network is told of each example, the null label where it is told nothing; None for a network that knows
    no labels."""


def draw(data: Tensor, T: int, batch_size: int, seed: int, step: int, labels: Tensor | None = None) -> Draw:
    """Examples with replacement, levels uniform on 1..T, standard normal noise.

    A function of its arguments: step 7 of seed 0 is the same whether or not steps 1 to 6 were made in this process.

    Args:
        data: all examples, ``(n, *event)``.
        T: the highest level.
        batch_size: how many examples.
        seed: whole number >= 0.
        step: whole number >= 0.
        labels: of all examples, ``(n,)``, where the network is told them. The other numbers are the same without.

    Returns:
        on the device of ``data``, noise in its format.
    """
    generator = keyed_generator(data.device, Stream.TRAINING, seed, step)
    which = torch.randint(len(data), (batch_size,), generator=generator, device=data.device)
    t = torch.randint(1, T + 1, (batch_size,), generator=generator, device=data.device)
    x0 = data[which]
    noise = torch.randn(x0.shape, generator=generator, dtype=data.dtype, device=data.device)
    return Draw(x0, t, noise, None if labels is None else labels[which])


def drop_labels(label: Tensor, null_label: int, share: float | int, seed: int, step: int) -> Tensor:
    r"""Labels of which some, each by itself, say nothing.

    .. math:: y_i \to \varnothing \quad\text{with probability } p, \text{ independently for every example}

    Args:
        label: of a batch, ``(batch,)``.
        null_label: what takes their place.
        share: p, 0 <= p < 1.
        seed: whole number >= 0.
        step: of training, whole number >= 0. The choice is a function of seed and step.

    Returns:
        the same shape.

    Raises:
        RangeError: a label or a share out of range.

    Limits: not a share of each batch, nor every so many steps: that would tie what is dropped to the order of the data
    (E76). Source: ho2022, algorithm 1.

    >>> drop_labels(torch.arange(8), null_label=10, share=0.5, seed=0, step=1).shape
    torch.Size([8])
    """
    generator = keyed_generator(label.device, Stream.LABEL_DROPOUT, seed, step)
    uniform = torch.rand(len(label), generator=generator, device=label.device, dtype=torch.float64)
    return drop_condition(label, uniform, share, null_label)


def target(tables: Tables, x0: Tensor, t: Tensor, noise: Tensor, prediction: str) -> Tensor:
    """What a network of this ``prediction`` (``eps``, ``x0`` or ``v``) should answer.

    Raises:
        RangeError: another prediction. (``score`` is none to train on: its loss is dominated by t = 1.)
    """
    one_of("prediction", prediction, TARGETS)
    return TARGETS[prediction](tables, x0, t, noise)


def simple_loss(denoiser: Denoiser, tables: Tables, drawn: Draw, loss: str = "l2") -> Float[Tensor, " batch"]:
    r"""The simplified objective of each example, averaged over its components.

    .. math::
        \tfrac1d \lVert \varepsilon - \epsilon_\theta(x_t, t) \rVert_2^2
        \quad\text{or}\quad \tfrac1d \lVert \varepsilon - \epsilon_\theta(x_t, t) \rVert_1,
        \qquad x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{\bar\beta_t}\, \varepsilon

    with the same :math:`\varepsilon` in input and target. Its mean over the batch is the loss to minimise.

    Args:
        denoiser: the network and its conventions; the target follows its ``prediction``.
        tables: of the schedule, on the device of the data.
        drawn: examples, levels and noise; with labels the network is asked as ``network(x, time, label)``.
        loss: ``"l2"``, whose minimiser is the conditional mean of the target given x_t, or ``"l1"``, whose minimiser is
            the conditional median of each component.

    Returns:
        one number per example, ``(batch,)``.

    Raises:
        RangeError: an unknown ``loss``, or a prediction that is not trained on.

    Limits: not the variational bound, but that with another weight per level. What is derived from the conditional mean
    (the score, the mean of a reverse step, analytic variances) holds for ``"l1"`` only where mean and median agree, as
    for a symmetric conditional law (E58). Source: ho2020, eq. (14), for ``"l2"``; ``"l1"`` is a habit of code, not of that paper.
    """
    one_of("loss", loss, PENALTIES)
    xt = q_sample(tables, drawn.x0, drawn.t, drawn.noise)
    wanted = target(tables, drawn.x0, drawn.t, drawn.noise, denoiser.prediction)
    told = denoiser if drawn.label is None else knowing(denoiser, drawn.label)
    return PENALTIES[loss](wanted - told(xt, drawn.t)).flatten(start_dim=1).mean(dim=1)


def knowing(denoiser: Denoiser, label: Tensor) -> Denoiser:
    """The denoiser whose network is told these labels, one per example, at every call."""
    network = cast("Callable[[Tensor, Tensor, Tensor], Tensor]", denoiser.network)
    return replace(denoiser, network=lambda x, time: network(x, time, label))


def even_levels(count: int, T: int) -> Int[Tensor, " count"]:
    """``count`` levels spread evenly over 1..T, for a loss that must not depend on luck.

    >>> even_levels(4, 8).tolist()
    [2, 4, 6, 8]
    """
    return (T * torch.arange(1, count + 1) + count - 1) // count
