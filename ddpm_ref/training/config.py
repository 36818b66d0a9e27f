"""Everything that decides what a training run computes, in one frozen record that goes to JSON and back."""

from __future__ import annotations

import functools
import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ddpm_ref.errors import RangeError
from ddpm_ref.nn import MLP, MLPConfig, NoisyClassifier, UNet, UNetConfig
from ddpm_ref.records import plain, record
from ddpm_ref.sampling.denoiser import LEARNED, TIME_CODES
from ddpm_ref.schedule_config import ScheduleConfig
from ddpm_ref.torch.arguments import one_of
from ddpm_ref.training.data import LOADERS
from ddpm_ref.training.objective import CROSS_ENTROPY, FIXED_VARIANCES, HYBRID, LABEL, PENALTIES, TARGETS, VLB
from ddpm_ref.training.time_sampling import TIME_SAMPLERS

__all__ = ["Config", "ScheduleConfig"]

BOOKKEEPING = ("max_steps", "max_seconds", "checkpoint_seconds", "log_every")
"""The fields that may change when a run is resumed: when to stop, and what to write down how often."""

NETWORKS: dict[str, type[UNetConfig | MLPConfig]] = {"digits": UNetConfig, "mixture": MLPConfig}
"""By data set, the sizes of the networks that take its examples."""

VLB_WEIGHT = 0.001
"""Of the bound in the hybrid loss, nichol2021's."""


@dataclass(frozen=True)
class Config:
    """A training run: data, process, network, objective, optimiser, and when to stop.

    Raises `RangeError` for a value out of range and for ``eps`` on a schedule with zero terminal SNR, which could not be
    sampled; `ScheduleError` for a schedule that cannot be built.

    Equal configs that stop by ``max_steps`` give equal weights, bit for bit, on one CPU with one number of threads.

    >>> Config.from_dict(Config(batch_size=8).to_dict()) == Config(batch_size=8)
    True
    """

    dataset: str = "digits"
    """``digits``: the 8x8 digits that ship with scikit-learn; ``mixture``: points of a known law in the plane, which take an
    `MLPConfig`."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """The forward process."""
    network: UNetConfig | MLPConfig = field(default_factory=UNetConfig)
    """The sizes of the network, a U-Net for images or dense layers for points; with ``classes`` it is told the labels."""
    label_dropout: float | int = 0.0
    """Share of the examples, each chosen by itself, whose label is replaced by the null label; 0 <= share < 1. What the
    network says of the null label is what classifier-free guidance starts from."""
    prediction: str = "eps"
    """What the network predicts: ``eps``, ``x0`` or ``v``; or ``label``, and it is a classifier of noisy images."""
    time_code: str = "zero_based"
    """The network's clock: ``zero_based`` (t - 1) or ``one_based`` (t)."""
    variance: str | None = None
    """What the network learns of the variance of a reverse step: None, nothing; ``learned_range``, where it lies between the
    two fixed ones; ``learned``, its logarithm. The network then has ``outputs_per_channel = 2``, which need not be said."""
    loss: str = "l2"
    """``l2``: the squared error, ``l1``: the absolute error; averaged over components and examples. ``vlb``: the variational
    bound, in bits per dimension. ``hybrid``: ``l2`` plus ``vlb_weight`` times the bound, which then teaches the variance
    only. ``cross_entropy`` for a classifier."""
    vlb_weight: float | int = VLB_WEIGHT
    """Of the bound in the loss ``hybrid``, >= 0."""
    fixed_variance: str = "posterior"
    """Of the steps in the loss ``vlb`` where none is learned: ``posterior`` or ``beta``."""
    time_sampler: str = "uniform"
    """How levels are drawn: ``uniform``; ``antithetic``, spread over the range, a batch from one number; ``importance``, more
    often where the loss is large, and weighted so that the loss keeps its mean."""
    batch_size: int = 64
    """Examples per step, drawn with replacement."""
    learning_rate: float | int = 2e-3
    """Of Adam, between warm-up and cool-down."""
    warmup_steps: int = 50
    """Steps in which the learning rate grows linearly from near 0; 0 for none."""
    cooldown: float | int = 0.5
    """Share of the run, at its end, in which the learning rate falls linearly to 0; 0 for none. A run with ``max_steps``
    is measured in steps, another one in seconds."""
    max_gradient_norm: float | int | None = 1.0
    """Longer gradients are scaled down to this Euclidean norm; None for no limit."""
    ema_decay: float | int | None = 0.995
    """Of the moving average of the weights, at most; None for no average. See `ddpm_ref.training.average`."""
    max_steps: int | None = None
    """Stop after this many steps."""
    max_seconds: float | int | None = 60.0
    """Stop after this much time in the loop, over all parts of a run. Of the two limits the first one reached
    counts; a run that is stopped by its time before ``max_steps`` has not ended its cool-down."""
    checkpoint_seconds: float | int = 30.0
    """Time between checkpoints; one is always written at the end."""
    log_every: int = 1
    """Every how many steps a line is logged; the first step always is."""
    seed: int = 0
    """Of the initial weights, the batches, the levels and the noise."""

    def __post_init__(self) -> None:
        one_of("dataset", self.dataset, LOADERS)
        one_of("prediction", self.prediction, (*TARGETS, LABEL))
        one_of("time_code", self.time_code, TIME_CODES)
        one_of("loss", self.loss, (*PENALTIES, HYBRID, VLB, CROSS_ENTROPY))
        one_of("time_sampler", self.time_sampler, TIME_SAMPLERS)
        _at_least("batch_size", self.batch_size, 1)
        _at_least("warmup_steps", self.warmup_steps, 0)
        _at_least("seed", self.seed, 0)
        _at_least("log_every", self.log_every, 1)
        _positive("learning_rate", self.learning_rate)
        _positive("checkpoint_seconds", self.checkpoint_seconds)
        if not 0 <= self.cooldown <= 1:
            raise RangeError(f"cooldown is {self.cooldown}; it is a share of the run, from 0 to 1")
        if self.ema_decay is not None and (isinstance(self.ema_decay, bool) or not 0 <= self.ema_decay < 1):
            raise RangeError(
                f"ema_decay is {self.ema_decay}; it must be at least 0 and below 1, or None for no average"
            )
        if self.max_gradient_norm is not None:
            _positive("max_gradient_norm", self.max_gradient_norm)
        if self.max_seconds is not None:
            _positive("max_seconds", self.max_seconds)
        if self.max_steps is not None:
            _at_least("max_steps", self.max_steps, 1)
        elif self.max_seconds is None:
            raise RangeError("max_steps and max_seconds are both None: the run would never end; give one of them")
        self._check_network()
        self._check_labels()
        self._check_variance()
        if self.prediction == "eps" and _ends_in_noise(self.schedule):
            raise RangeError(
                "prediction is 'eps', but the schedule has zero terminal SNR (alpha_bar_T = 0): x_T is the noise itself, so "
                "that knowing it says nothing of x_0, and no step from T can be sampled; write prediction 'v' or 'x0'"
            )

    def _check_network(self) -> None:
        wanted = NETWORKS[self.dataset]
        if self.is_classifier and wanted is not UNetConfig:
            raise RangeError(
                f"a classifier is one of noisy images, and the data set {self.dataset!r} has none; write 'digits'"
            )
        if not isinstance(self.network, wanted):
            raise RangeError(
                f"network is a {type(self.network).__name__}, which does not take the data set {self.dataset!r}; write "
                f"network={wanted.__name__}()"
            )

    def _check_labels(self) -> None:
        if isinstance(self.label_dropout, bool) or not 0 <= self.label_dropout < 1:
            raise RangeError(
                f"label_dropout is {self.label_dropout}; it is a share of the examples, at least 0 and below 1 "
                "(for a network that is told no labels, write network.classes = 0)"
            )
        if self.label_dropout > 0 and self.network.classes == 0:
            raise RangeError(
                f"label_dropout is {self.label_dropout}, but network.classes is 0: there are no labels to drop; write the "
                "number of classes (--conditional on the command line), or label_dropout 0"
            )
        if (self.prediction == LABEL) != (self.loss == CROSS_ENTROPY):
            raise RangeError(
                f"prediction is {self.prediction!r} and loss is {self.loss!r}; a classifier has prediction {LABEL!r} and "
                f"loss {CROSS_ENTROPY!r}, and nothing else has either"
            )
        if self.is_classifier and (self.network.classes < 2 or self.label_dropout > 0):
            raise RangeError(
                f"network.classes is {self.network.classes} and label_dropout {self.label_dropout}; a classifier needs at "
                "least 2 classes, and all labels: write label_dropout 0"
            )

    def _check_variance(self) -> None:
        if self.variance is not None:
            one_of("variance", self.variance, LEARNED)
            if self.loss not in (HYBRID, VLB):
                raise RangeError(
                    f"variance is {self.variance!r}, but loss {self.loss!r} does not depend on it; write loss {HYBRID!r} or "
                    f"{VLB!r}, or leave variance out"
                )
            object.__setattr__(self, "network", replace(self.network, outputs_per_channel=2))
        elif self.loss == HYBRID:
            raise RangeError(
                f"loss is {HYBRID!r}, whose second part teaches a variance, and variance is None; write variance "
                "'learned_range', or loss 'l2'"
            )
        elif self.network.outputs_per_channel != 1:
            raise RangeError(
                f"network.outputs_per_channel is {self.network.outputs_per_channel}, but variance is None: nothing teaches the "
                "second half of the output; write variance 'learned_range', or outputs_per_channel 1"
            )
        if isinstance(self.vlb_weight, bool) or not 0 <= self.vlb_weight < math.inf:
            raise RangeError(f"vlb_weight is {self.vlb_weight}; it must be a finite number >= 0")
        if self.vlb_weight != VLB_WEIGHT and self.loss != HYBRID:
            raise RangeError(f"vlb_weight is {self.vlb_weight}, which is for loss {HYBRID!r}; leave it out")
        one_of("fixed_variance", self.fixed_variance, FIXED_VARIANCES)
        if self.fixed_variance != "posterior" and (self.loss != VLB or self.variance is not None):
            raise RangeError(
                f"fixed_variance is {self.fixed_variance!r}, which is for loss {VLB!r} of a network that learns no variance; "
                "leave it out"
            )
        if self.loss in (HYBRID, VLB) and self.variance != "learned" and self.schedule.T < 2:
            raise RangeError(
                f"loss is {self.loss!r} and schedule.T is 1: the variance of the last step is that of the step before it, and "
                "there is none; write variance 'learned', or T of at least 2"
            )

    @property
    def is_classifier(self) -> bool:
        """Whether the run trains a classifier of noisy images, and not a denoiser."""
        return self.prediction == LABEL

    def build_network(self) -> UNet | MLP | NoisyClassifier:
        """An untrained network, with random weights from torch's global generator."""
        if isinstance(self.network, MLPConfig):
            return MLP(self.network)
        return NoisyClassifier(self.network) if self.is_classifier else UNet(self.network)

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

    def must_continue(self, stored: Config) -> None:
        """Refuse to go on with a run of another config. Only what `BOOKKEEPING` names may differ.

        Args:
            stored: the config of the run so far.

        Raises:
            RangeError: another field differs; the message names the first, with both values.

        >>> Config(max_steps=20).must_continue(Config(max_steps=10))
        >>> Config(seed=1).must_continue(Config())
        Traceback (most recent call last):
        ddpm_ref.errors.RangeError: seed is 0 in the run so far and 1 now; a resumed run keeps its config (only max_steps, \
        max_seconds, checkpoint_seconds, log_every may change): write 0, or start a new run in another folder
        """
        old, new = dict(leaves(stored.to_dict())), dict(leaves(self.to_dict()))
        for name, value in old.items():
            if name not in BOOKKEEPING and new[name] != value:
                raise RangeError(
                    f"{name} is {value!r} in the run so far and {new[name]!r} now; a resumed run keeps its config "
                    f"(only {', '.join(BOOKKEEPING)} may change): write {value!r}, or start a new run in another folder"
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings, for JSON."""
        return typing.cast("dict[str, Any]", plain(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """The record of which `to_dict` made this; what is left out takes its default, the network that of the data set.

        Raises:
            RangeError: an unknown name, a value of another type, or one out of range.

        >>> Config.from_dict({"dataset": "mixture", "network": {"width": 64}}).network
        MLPConfig(components=2, width=64, blocks=3, classes=0, outputs_per_channel=1)
        """
        kind: type[UNetConfig | MLPConfig] = UNetConfig
        if isinstance(values, Mapping):  # anything else is refused by `record`, as a data set of another type is
            values = {"dataset": cls.dataset, "network": {}, **values}
            if isinstance(values["dataset"], str):
                one_of("dataset", values["dataset"], NETWORKS)
                kind = NETWORKS[values["dataset"]]
        return typing.cast("Config", record(cls, values, "Config", {"network": kind}))


def leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of nested tables: ``schedule.T``, 1000."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{above}{name}.")
        else:
            yield above + name, value


@functools.lru_cache(maxsize=32)  # a config is made, read and copied often
def _ends_in_noise(schedule: ScheduleConfig) -> bool:
    return bool(schedule.build().beta[-1] == 1)


def _at_least(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise RangeError(f"{name} is {value!r}; it must be a whole number >= {least}")


def _positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise RangeError(f"{name} is {value!r}; it must be a positive finite number")
