"""What training minimises, one example at a time: Algorithm 1 of Ho et al., the variational bound, or both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ddpm_ref.errors import RangeError
from ddpm_ref.sampling.denoiser import Denoiser
from ddpm_ref.sampling.noise import Stream, keyed_generator
from ddpm_ref.torch.arguments import compute_dtype, expand_right, one_of
from ddpm_ref.torch.bound import bound_term
from ddpm_ref.torch.forward import q_sample
from ddpm_ref.torch.guidance import drop_condition
from ddpm_ref.torch.objectives import simple_l1, simple_l2
from ddpm_ref.torch.posterior import posterior_log_variance
from ddpm_ref.torch.prediction import convert, v_target
from ddpm_ref.torch.reverse import (
    fixed_large_log_variance,
    learned_log_variance,
    model_mean_from_eps,
    model_mean_from_x0,
)
from ddpm_ref.torch.tables import Tables
from ddpm_ref.training.time_sampling import TimeSampler

TARGETS: dict[str, Callable[[Tables, Tensor, Tensor, Tensor], Tensor]] = {
    "eps": lambda tables, x0, t, noise: noise,
    "x0": lambda tables, x0, t, noise: x0,
    "v": v_target,
}
"""By prediction, from the tables, clean data, levels and noise."""

LABEL, CROSS_ENTROPY = "label", "cross_entropy"
"""What a classifier of noisy images predicts, and its loss; see `ddpm_ref.training.noisy_classifier`."""

PENALTIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l2": simple_l2, "l1": simple_l1}
"""By loss, of target and answer; one number per example."""

HYBRID, VLB = "hybrid", "vlb"
"""The losses that need a variance of the reverse steps; see `hybrid_parts` and `bound_loss`."""

FIXED_VARIANCES = ("posterior", "beta")
"""The variances in a bound whose network learns none."""


@dataclass(frozen=True, eq=False)
class Draw:
    """The random part of one training step: examples, levels, and one noise tensor per example."""

    x0: Float[Tensor, batch * event]
    t: Int[Tensor, " batch"]
    noise: Float[Tensor, batch * event]
    label: Int[Tensor, " batch"] | None = None
    """What the network is told of each example, the null label where it is told nothing; None for a network that knows
    no labels."""
    weight: Float[Tensor, " batch"] | None = None
    """What the loss of each example is multiplied by, where levels were not drawn uniformly; None for 1."""

    def mean(self, losses: Tensor) -> Tensor:
        """The weighted mean of losses ``(batch,)``: an unbiased estimate of their mean over uniform levels."""
        return losses.mean() if self.weight is None else (self.weight * losses).mean()


def draw(
    data: Tensor,
    T: int,
    batch_size: int,
    seed: int,
    step: int,
    labels: Tensor | None = None,
    times: TimeSampler | None = None,
) -> Draw:
    """Examples with replacement, levels uniform on 1..T unless ``times`` says otherwise, standard normal noise.

    A function of its arguments: step 7 of seed 0 is the same whether or not steps 1 to 6 were made in this process.

    Args:
        data: all examples, ``(n, *event)``.
        T: the highest level.
        batch_size: how many examples.
        seed: whole number >= 0.
        step: whole number >= 0.
        labels: of all examples, ``(n,)``, where the network is told them. The other numbers are the same without.
        times: draws the levels; examples and noise are the same without.

    Returns:
        on the device of ``data``, noise in its format.
    """
    generator = keyed_generator(data.device, Stream.TRAINING, seed, step)
    which = torch.randint(len(data), (batch_size,), generator=generator, device=data.device)
    t = torch.randint(1, T + 1, (batch_size,), generator=generator, device=data.device)
    x0 = data[which]
    noise = torch.randn(x0.shape, generator=generator, dtype=data.dtype, device=data.device)
    weight = None
    if times is not None:
        t, weight = times.draw(batch_size, generator)
        weight = None if weight is None else weight.to(data.dtype)
    return Draw(x0, t, noise, None if labels is None else labels[which], weight)


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

    What a denoiser says of a variance is left aside.

    Limits: not the variational bound, but that with another weight per level. What is derived from the conditional mean
    (the score, the mean of a reverse step, analytic variances) holds for ``"l1"`` only where mean and median agree, as
    for a symmetric conditional law (E58). Source: ho2020, eq. (14), for ``"l2"``; ``"l1"`` is a habit of code, not of that paper.
    """
    one_of("loss", loss, PENALTIES)
    xt = q_sample(tables, drawn.x0, drawn.t, drawn.noise)
    wanted = target(tables, drawn.x0, drawn.t, drawn.noise, denoiser.prediction)
    told = denoiser if drawn.label is None else knowing(denoiser, drawn.label)
    return PENALTIES[loss](wanted, told(xt, drawn.t))


def simple_parts(
    denoiser: Denoiser, best: Denoiser, tables: Tables, drawn: Draw
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    r"""The squared error, and what it is the sum of on average: that of the best network, and what could still be learnt.

    .. math:: \mathbb E\,\tfrac1d\lVert y - f_\theta\rVert^2 = \mathbb E\,\tfrac1d\lVert y - f^*\rVert^2
              + \mathbb E\,\tfrac1d\lVert f^* - f_\theta\rVert^2, \qquad f^*(x_t, t) = \mathbb E[y\mid x_t]

    Args:
        denoiser: in training.
        best: of the same ``prediction``; knows no labels.
        tables, drawn: as for `simple_loss`, without labels.

    Returns:
        the loss ``"l2"`` of each example, its floor, and the excess, ``(batch,)`` each; no gradient reaches the last two.

    Raises:
        RangeError: two denoisers that predict different things.

    Limits: an example's loss is not the sum of the other two, its mean is. Source: ho2020, eq. (14); the conditional mean is the
    orthogonal projection.
    """
    if best.prediction != denoiser.prediction:
        raise RangeError(
            f"best predicts {best.prediction!r} and the network {denoiser.prediction!r}, whose errors cannot be compared; write "
            f"Denoiser(..., prediction={denoiser.prediction!r}) for the best of this prediction"
        )
    xt, answer, _ = _asked(denoiser, tables, drawn)
    wanted, optimum = target(tables, drawn.x0, drawn.t, drawn.noise, denoiser.prediction), best(xt, drawn.t)
    return simple_l2(wanted, answer), simple_l2(wanted, optimum), simple_l2(optimum, answer.detach())


def bound_loss(
    denoiser: Denoiser, tables: Tables, drawn: Draw, levels: int | None, fixed_variance: str = "posterior"
) -> Float[Tensor, " batch"]:
    r"""An estimate of the variational bound from one step of each example: T times its term, in bits per dimension.

    .. math::
        T\,\frac{L_{t-1}}{d\log 2}, \qquad L_{t-1} = D_\text{KL}\left(q(x_{t-1}\mid x_t, x_0)\,\Vert\,
        p_\theta(x_{t-1}\mid x_t)\right), \qquad L_0 = -\log p_\theta(x_0\mid x_1)

    Args:
        denoiser: the network and its conventions. With a ``variance`` it says that of the steps; gradients reach it and
            the mean.
        tables: of the schedule, on the device of the data.
        drawn: examples, levels and noise.
        levels: how many grey levels the data have, and :math:`L_0` is of their probabilities; None for continuous data
            and a density.
        fixed_variance: of the steps, ``"posterior"`` or ``"beta"``, of a network that says none.

    Returns:
        one number per example, ``(batch,)``. Its mean over uniform levels is the bound but for the prior term
        :math:`L_T`, which no network changes.

    Raises:
        RangeError: an unknown ``fixed_variance``, or data off the grid of ``levels``.
        ScheduleError: T = 1, where no second step says the variance of the first (none is needed if it is ``"learned"``).

    Limits: the predicted x0 is not clipped; the variance of the step to level 0 is by the rule ``"replace"``. Source:
    ho2020, eq. (5) and section 3.3; nichol2021, section 3.3.
    """
    xt, answer, extra = _asked(denoiser, tables, drawn)
    return _bound(denoiser, tables, drawn, xt, answer, extra, levels, fixed_variance)


def hybrid_parts(
    denoiser: Denoiser, tables: Tables, drawn: Draw, levels: int | None
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    r"""The two parts of the hybrid objective, from one answer of the network: the squared error, and the bound.

    .. math:: L_\text{simple} = \tfrac1d\lVert y - f_\theta(x_t, t)\rVert^2, \qquad
              L_\text{vlb}\text{ with }\mu_\theta\text{ held fixed}

    No gradient of the second part reaches the prediction: it teaches the variance, and the first teaches the mean.

    Args:
        denoiser: with a ``variance``.
        tables, drawn, levels: as for `bound_loss`, whose unit the second part has.

    Returns:
        both ``(batch,)``; `ddpm_ref.torch.objectives.hybrid` adds them.

    Raises:
        RangeError: a denoiser that says no variance; else as `bound_loss`.

    Limits: both halves come from the same layers, so the second part moves the weights that the mean is made with, too.
    Source: nichol2021, section 3.1, eq. (16).
    """
    xt, answer, extra = _asked(denoiser, tables, drawn)
    if extra is None:
        raise RangeError(
            "the hybrid loss teaches a variance, and this denoiser has none; write variance='learned_range', or loss 'l2'"
        )
    wanted = target(tables, drawn.x0, drawn.t, drawn.noise, denoiser.prediction)
    return simple_l2(wanted, answer), _bound(denoiser, tables, drawn, xt, answer.detach(), extra, levels)


def _asked(denoiser: Denoiser, tables: Tables, drawn: Draw) -> tuple[Tensor, Tensor, Tensor | None]:
    """Noisy data, and what the network says of them: the prediction, and the variance if it says one."""
    xt = q_sample(tables, drawn.x0, drawn.t, drawn.noise)
    told = denoiser if drawn.label is None else knowing(denoiser, drawn.label)
    return xt, *told.answers(xt, told.time(drawn.t))


def _bound(
    denoiser: Denoiser,
    tables: Tables,
    drawn: Draw,
    xt: Tensor,
    answer: Tensor,
    extra: Tensor | None,
    levels: int | None,
    fixed_variance: str = "posterior",
) -> Tensor:
    """`bound_loss`, from the answer of the network."""
    t, s = drawn.t, drawn.t - 1  # training is about all steps of the schedule
    if denoiser.prediction == "eps":
        mean = model_mean_from_eps(tables, xt, t, s, answer)
    else:
        mean = model_mean_from_x0(tables, xt, t, s, convert(tables, xt, t, answer, denoiser.prediction, "x0"))
    if extra is not None and denoiser.variance is not None:
        log_variance = learned_log_variance(tables, t, s, extra, denoiser.variance)
    else:
        one_of("fixed_variance", fixed_variance, FIXED_VARIANCES)
        rule = posterior_log_variance if fixed_variance == "posterior" else fixed_large_log_variance
        log_variance = expand_right(rule(tables, t, s).to(compute_dtype(xt.dtype)), xt.ndim)
    return tables.T * bound_term(tables, drawn.x0, xt, t, s, mean, log_variance, levels)


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
