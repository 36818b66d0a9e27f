"""The moving parts of a run: everything that changes from step to step, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from ddpm_ref.errors import RangeError
from ddpm_ref.nn import MLPConfig, NoisyClassifier, UNetConfig
from ddpm_ref.sampling.denoiser import Denoiser
from ddpm_ref.sampling.noise import Stream, keyed_generator, keyed_seed
from ddpm_ref.torch import oracle
from ddpm_ref.torch.objectives import hybrid
from ddpm_ref.torch.scaling import to_level_index
from ddpm_ref.torch.tables import Tables
from ddpm_ref.torch.tables import tables as tables_of
from ddpm_ref.training.average import Average
from ddpm_ref.training.checkpoint import OPTIMIZER_STATE, Checkpoint
from ddpm_ref.training.config import Config
from ddpm_ref.training.data import Images
from ddpm_ref.training.noisy_classifier import LevelClassifier, accuracy_by_level, label_loss
from ddpm_ref.training.objective import (
    HYBRID,
    VLB,
    Draw,
    bound_loss,
    draw,
    drop_labels,
    even_levels,
    hybrid_parts,
    simple_loss,
    simple_parts,
)
from ddpm_ref.training.time_sampling import make


class Trainer:
    """Network, average, optimiser and history of a run.

    Args:
        config: what to train and how.
        images: the data; see `refuse_unfit`.
        device: where to compute.
        start: the checkpoint to go on from; from the start if None.
    """

    def __init__(self, config: Config, images: Images, device: torch.device, start: Checkpoint | None = None) -> None:
        self.config = config
        self.images = images
        # A resumed run keeps its betas, whatever the name of the schedule has come to mean.
        self.schedule = config.schedule.build() if start is None else start.schedule
        self.tables: Tables = tables_of(self.schedule).to(device)
        self.data = images.train.to(device)
        self.labels = images.train_labels.to(device) if config.network.classes else None
        torch.manual_seed(keyed_seed(Stream.WEIGHTS, config.seed))
        self.network = config.build_network().to(device).train()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate)
        self.losses: list[float] = []
        self.parts: dict[str, float] = {}
        """Of the last loss, by name, where it is a sum."""
        self.seconds = 0.0
        self.gradient_norm = math.nan
        self.best = _best(config, images, self.tables)
        self.times = make(config.time_sampler, self.schedule.T, None if start is None else start.times)
        if start is not None:
            self._restore(start)
        averaged = self.network.state_dict() if start is None or start.average is None else start.average
        self.average = None if config.ema_decay is None else Average(averaged, config.ema_decay, device)

    @property
    def steps(self) -> int:
        """How many steps have been made."""
        return len(self.losses)

    def step(self) -> None:
        """Make one step.

        Raises:
            RangeError: the loss or its gradient is not finite; the weights are as they were.
        """
        config, number = self.config, self.steps + 1
        torch.manual_seed(keyed_seed(Stream.DROPOUT, config.seed, number))
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        drawn = draw(self.data, self.schedule.T, config.batch_size, config.seed, number, self.labels, self.times)
        if drawn.label is not None and config.label_dropout > 0:
            null_label = config.network.null_label
            kept = drop_labels(drawn.label, null_label, config.label_dropout, config.seed, number)
            drawn = replace(drawn, label=kept)
        try:
            losses, parts = self._losses(self.network, drawn)
        except RangeError as error:  # a bound is of finite means and variances
            raise RangeError(f"no loss at step {number}: {error}. {self._advice()}") from error
        loss = drawn.mean(losses)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        longest = math.inf if config.max_gradient_norm is None else config.max_gradient_norm
        self.gradient_norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), longest).item()
        if not math.isfinite(loss.item()) or not math.isfinite(self.gradient_norm):
            raise RangeError(
                f"the loss is {loss.item()} and its gradient has length {self.gradient_norm} at step {number}; {self._advice()}"
            )
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.network.state_dict(), number)
        if self.times is not None:
            self.times.update(drawn.t, losses.detach())
        self.losses.append(loss.item())
        self.parts = {name: drawn.mean(part.detach()).item() for name, part in parts.items()}

    def _advice(self) -> str:
        return (
            f"lower learning_rate ({self.config.learning_rate}) or max_gradient_norm ({self.config.max_gradient_norm}). "
            "The last checkpoint, if one was written, stays"
        )

    def learning_rate(self) -> float:
        """Of the step to be made next."""
        return self.config.learning_rate_at(self.steps + 1, self.fraction())

    def fraction(self) -> float:
        """The share of the run that is over, 0..1: of its steps if they are limited, else of its time.

        Where both are limited the clock only stops the run; it must not decide what a step computes.
        """
        if self.config.max_steps is not None:
            return min(1.0, self.steps / self.config.max_steps)
        return 0.0 if self.config.max_seconds is None else min(1.0, self.seconds / self.config.max_seconds)

    def remaining(self) -> float:
        """Estimated time to the nearer limit, in seconds."""
        limits: list[float] = []
        if self.config.max_seconds is not None:
            limits.append(self.config.max_seconds - self.seconds)
        if self.config.max_steps is not None:
            limits.append((self.config.max_steps - self.steps) * self.seconds / max(1, self.steps))
        return max(0.0, min(limits))

    def checkpoint(self) -> Checkpoint:
        """A copy of everything, on the CPU."""
        parameters = dict(self.network.named_parameters())
        moments = {
            f"{key}.{name}": self.optimizer.state[parameter][key]
            for key in OPTIMIZER_STATE
            for name, parameter in parameters.items()
        }
        return Checkpoint(
            self.config,
            self.schedule,
            self.images.shape,
            _copy(self.network.state_dict()),
            np.asarray(self.losses, dtype=np.float64),
            self.seconds,
            None if self.average is None else _copy(self.average.values),
            _copy(moments),
            (None if self.times is None else self.times.state()) or None,
        )

    def _restore(self, start: Checkpoint) -> None:
        start.restore(self.network, "raw")
        moments = start.optimizer or {}
        state = {
            index: {key: moments[f"{key}.{name}"].clone() for key in OPTIMIZER_STATE}
            for index, (name, _) in enumerate(self.network.named_parameters())
        }
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.losses = start.losses.tolist()
        self.seconds = start.seconds

    @torch.no_grad()
    def held_out(self) -> dict[str, float]:
        """The mean loss of the averaged weights, or of the weights if there is no average, on images never trained on.

        Returns:
            ``loss``, and by name its parts, where it is a sum.

        A network that knows labels is told all of them.
        """
        x0 = self.images.held_out.to(self.data.device)
        generator = keyed_generator(x0.device, Stream.HELD_OUT, 0)  # the same noise for every run
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)
        t = even_levels(len(x0), self.schedule.T).to(x0.device)
        columns = [x0, t, noise]
        if self.labels is not None:
            columns.append(self.images.held_out_labels.to(x0.device))
        network = self.checkpoint().network(x0.device)
        found: dict[str, list[Tensor]] = {}
        for part in zip(*(torch.split(column, 256) for column in columns), strict=True):
            losses, parts = self._losses(network, Draw(*part))
            for name, values in {"loss": losses, **parts}.items():
                found.setdefault(name, []).append(values)
        return {name: float(torch.cat(values).mean()) for name, values in found.items()}

    def accuracy(self) -> dict[int, float] | None:
        """By level, on images never trained on, with the weights of `held_out`; None for a denoiser."""
        if not self.config.is_classifier:
            return None
        device = self.data.device
        x0, labels = self.images.held_out.to(device), self.images.held_out_labels.to(device)
        return accuracy_by_level(self.checkpoint().classifier(device), self.tables, x0, labels)

    def _losses(self, network: nn.Module, drawn: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of each example, and by name its parts, where it is a sum."""
        config = self.config
        if isinstance(network, NoisyClassifier):
            return label_loss(LevelClassifier(network, config.time_code), self.tables, drawn), {}
        denoiser = Denoiser(network, config.prediction, config.time_code, config.variance)
        if config.loss == HYBRID:
            simple, vlb = hybrid_parts(denoiser, self.tables, drawn, self.images.levels)
            return hybrid(simple, vlb, config.vlb_weight), {"simple": simple, "vlb": vlb}
        if config.loss == VLB:
            return bound_loss(denoiser, self.tables, drawn, self.images.levels, config.fixed_variance), {}
        if self.best is not None:
            loss, floor, excess = simple_parts(denoiser, self.best, self.tables, drawn)
            return loss, {"floor": floor, "excess": excess}
        return simple_loss(denoiser, self.tables, drawn, config.loss), {}


def refuse_unfit(config: Config, images: Images) -> None:
    """Refuse data that the network or the loss of a run does not take.

    Raises:
        RangeError: examples of another shape than the network's; more classes in the data than it knows; or the loss is about
            the bound, and the data are not on the grid that their ``levels`` say.
    """
    network, shape = config.network, images.shape
    name, count = (
        ("components", network.components) if isinstance(network, MLPConfig) else ("channels", network.channels)
    )
    if count != shape[0]:
        raise RangeError(
            f"network.{name} is {count}, and an example of the data set {config.dataset!r} has {shape[0]}; write {shape[0]}"
        )
    if isinstance(network, UNetConfig) and any(size % network.size_multiple for size in shape[1:]):
        raise RangeError(
            f"network.multipliers has {network.levels} entries, for images whose height and width are multiples of "
            f"{network.size_multiple}; those of {config.dataset!r} have {shape[1]} x {shape[2]} pixels: write fewer entries"
        )
    if 0 < network.classes < images.classes:
        raise RangeError(
            f"network.classes is {network.classes}, but the data have labels up to {images.classes - 1}; write {images.classes}"
        )
    if config.loss in (HYBRID, VLB):
        _check_grid(images)


def _check_grid(images: Images) -> None:
    if images.levels is None:
        return
    for name, data in {"train": images.train, "held_out": images.held_out}.items():
        try:
            to_level_index(data, images.levels)
        except RangeError as error:
            raise RangeError(
                f"the data set says it has {images.levels} grey levels, and its images {name!r} are off them: {error}. The "
                "bound is of the probabilities of levels; write levels=None for continuous data"
            ) from error


def _best(config: Config, images: Images, tables: Tables) -> Denoiser | None:
    """The optimal network, where it is known and the loss is its own: one that is told labels could do better."""
    if images.law is None or config.loss != "l2" or config.network.classes:
        return None
    law = oracle.Mixture(images.law.weights, images.law.means, images.law.covariances).to(tables.device)
    network = oracle.OptimalNetwork(law, tables, config.prediction, config.time_code)
    return Denoiser(network, config.prediction, config.time_code)


def _copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
