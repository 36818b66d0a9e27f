"""Everything that decides what a training run computes, in one frozen record that goes to JSON and back."""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ddpm_ref.errors import RangeError
from ddpm_ref.nn import UNetConfig
from ddpm_ref.records import plain, record
from ddpm_ref.sampling.denoiser import TIME_CODES
from ddpm_ref.schedule_config import ScheduleConfig
from ddpm_ref.torch.arguments import one_of
from ddpm_ref.training.data import LOADERS
from ddpm_ref.training.objective import PENALTIES, TARGETS

__all__ = ["Config", "ScheduleConfig"]


@dataclass(frozen=True)
class Config:
    """A training run: data, process, network, objective, optimiser, and when to stop.

    Equal configs that stop by ``max_steps`` give equal weights, bit for bit, on one CPU with one number of threads.

    >>> Config.from_dict(Config(batch_size=8).to_dict()) == Config(batch_size=8)
    True
    """

    dataset: str = "digits"
    """``digits``: the 8x8 digits that ship with scikit-learn."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """The forward process."""
    network: UNetConfig = field(default_factory=UNetConfig)
    """The sizes of the U-Net."""
    prediction: str = "eps"
    """What the network predicts: ``eps``, ``x0`` or ``v``."""
    time_code: str = "zero_based"
    """The network's clock: ``zero_based`` (t - 1) or ``one_based`` (t)."""
    loss: str = "l2"
    """``l2``: the squared error, averaged over components and examples."""
    batch_size: int = 64
    """Examples per step, drawn with replacement."""
    learning_rate: float | int = 2e-3
    """Of Adam, between warm-up and cool-down."""
    warmup_steps: int = 50
    """Steps in which the learning rate grows linearly from near 0; 0 for none."""
    cooldown: float | int = 0.5
    """Share of the run, at its end, in which the learning rate falls linearly to 0; 0 for none."""
    max_gradient_norm: float | int | None = 1.0
    """Longer gradients are scaled down to this Euclidean norm; None for no limit."""
    max_steps: int | None = None
    """Stop after this many steps."""
    max_seconds: float | int | None = 60.0
    """Stop after this much time in the loop. Of the two limits the first one reached counts."""
    checkpoint_seconds: float | int = 30.0
    """Time between checkpoints; one is always written at the end."""
    seed: int = 0
    """Of the initial weights, the batches, the levels and the noise."""

    def __post_init__(self) -> None:
        one_of("dataset", self.dataset, LOADERS)
        one_of("prediction", self.prediction, TARGETS)
        one_of("time_code", self.time_code, TIME_CODES)
        one_of("loss", self.loss, PENALTIES)
        _at_least("batch_size", self.batch_size, 1)
        _at_least("warmup_steps", self.warmup_steps, 0)
        _at_least("seed", self.seed, 0)
        _positive("learning_rate", self.learning_rate)
        _positive("checkpoint_seconds", self.checkpoint_seconds)
        if not 0 <= self.cooldown <= 1:
            raise RangeError(f"cooldown is {self.cooldown}; it is a share of the run, from 0 to 1")
        if self.max_gradient_norm is not None:
            _positive("max_gradient_norm", self.max_gradient_norm)
        if self.max_seconds is not None:
            _positive("max_seconds", self.max_seconds)
        if self.max_steps is not None:
            _at_least("max_steps", self.max_steps, 1)
        elif self.max_seconds is None:
            raise RangeError("max_steps and max_seconds are both None: the run would never end; give one of them")

    def learning_rate_at(self, step: int, fraction: float) -> float:
        """The learning rate: up in the warm-up, then level, then down to 0 in the cool-down.

        Args:
            step: number of the step to be made, 1 for the first.
            fraction: share of the run that is over, 0..1.

        >>> config = Config(learning_rate=1.0, warmup_steps=4, cooldown=0.5)
        >>> [config.learning_rate_at(step, fraction) for step, fraction in ((1, 0.0), (9, 0.5), (15, 0.75))]
        [0.25, 1.0, 0.5]
        """
        rise = min(1.0, step / max(1, self.warmup_steps))
        fall = min(1.0, (1.0 - fraction) / self.cooldown) if self.cooldown > 0 else 1.0
        return self.learning_rate * rise * fall

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings, for JSON."""
        return typing.cast("dict[str, Any]", plain(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """The record of which `to_dict` made this; what is left out takes its default.

        Raises:
            RangeError: an unknown name, a value of another type, or one out of range.
        """
        return typing.cast("Config", record(cls, values, "Config"))


def _at_least(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise RangeError(f"{name} is {value!r}; it must be a whole number >= {least}")


def _positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise RangeError(f"{name} is {value!r}; it must be a positive finite number")
