"""Everything that decides what a training run computes, in one frozen record that goes to JSON and back."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ddpm_ref.errors import RangeError
from ddpm_ref.nn import UNetConfig
from ddpm_ref.reference import named_schedules
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.sampling.denoiser import TIME_CODES
from ddpm_ref.torch.arguments import one_of
from ddpm_ref.training.data import LOADERS
from ddpm_ref.training.objective import PENALTIES, TARGETS

SCHEDULES: dict[str, Callable[..., NoiseSchedule]] = {
    "linear": named_schedules.linear_schedule,
    "cosine": named_schedules.cosine_schedule,
}


@dataclass(frozen=True)
class ScheduleConfig:
    """Which noise schedule, by name and length.

    >>> ScheduleConfig("linear", T=10).build().T
    10
    """

    kind: str = "cosine"
    """``linear`` (betas from 1e-4 to 0.02) or ``cosine`` (offset 0.008, betas at most 0.999)."""
    T: int = 1000
    """How many levels of noise."""

    def __post_init__(self) -> None:
        one_of("ScheduleConfig.kind", self.kind, SCHEDULES)
        _at_least("ScheduleConfig.T", self.T, 1)

    def build(self) -> NoiseSchedule:
        """The schedule itself, with the named constructor's other arguments at their defaults."""
        return SCHEDULES[self.kind](T=self.T)


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
        return typing.cast("dict[str, Any]", _plain(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """The record of which `to_dict` made this; what is left out takes its default.

        Raises:
            RangeError: an unknown name, a value of another type, or one out of range.
        """
        return typing.cast("Config", _record(cls, values, "Config"))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _record(cls: type[Any], values: Any, where: str) -> Any:
    if not isinstance(values, Mapping):
        raise RangeError(f"{where} is {values!r}; a table of names and values is needed")
    kinds = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(kinds))
    if unknown:
        raise RangeError(f"{where} has no {unknown[0]!r}; it has {', '.join(kinds)}")
    return cls(**{name: _value(kinds[name], value, f"{where}.{name}") for name, value in values.items()})


def _value(kind: Any, value: Any, where: str) -> Any:
    # JSON knows no tuples; everything else must be what the field says.
    if dataclasses.is_dataclass(kind):
        return _record(typing.cast("type[Any]", kind), value, where)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise RangeError(f"{where} is {value!r}; it must be a list")
        return tuple(_value(typing.get_args(kind)[0], item, where) for item in value)
    accepted = typing.get_args(kind) or (kind,)
    if isinstance(value, bool) or not isinstance(value, accepted):
        names = " or ".join("null" if option is types.NoneType else option.__name__ for option in accepted)
        raise RangeError(f"{where} is {value!r}; it must be {names}")
    return value


def _at_least(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise RangeError(f"{name} is {value!r}; it must be a whole number >= {least}")


def _positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise RangeError(f"{name} is {value!r}; it must be a positive finite number")
