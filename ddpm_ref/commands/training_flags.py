"""The flags of ``ddpm-ref train`` and ``train-classifier``: the fields of `ddpm_ref.training.Config`, each of which may be
left out.

Spelled out here, since `Config` needs PyTorch and a command line must not; a test holds the two together. What is left
out is the default of a new run and the stored value of a resumed one, so a default is only shown here, not set.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypedDict

import tyro

from ddpm_ref.schedule_config import ScheduleArguments, ScheduleKind


def _default(value: str) -> Any:
    return tyro.conf.arg(help_behavior_hint=f"(default: {value})")


@dataclass(frozen=True, kw_only=True)
class ProcessFlags(ScheduleArguments):
    """The forward process."""

    kind: Annotated[ScheduleKind | None, _default("cosine")] = None
    """Which named schedule."""
    T: Annotated[int | None, _default("1000")] = None
    """How many levels of noise."""
    # A resumed run must tell what is denied from what is left out.
    scale_ends: Annotated[bool | None, _default("False")] = None  # type: ignore[assignment]
    """Multiply both ends by 1000 / T (linear)."""
    zero_terminal_snr: Annotated[bool | None, _default("False")] = None  # type: ignore[assignment]
    """Shift and scale so that alpha_bar_T is exactly 0 (every kind; with --prediction v or x0)."""

    def used(self) -> dict[str, Any]:
        """What was given, as a part of `Config.to_dict`.

        >>> ProcessFlags(T=10, zero_terminal_snr=False).used()
        {'zero_terminal_snr': False, 'T': 10}
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


NO_SCHEDULE = ProcessFlags()


class NetworkFlags(TypedDict, total=False):
    """The sizes of the network: a U-Net, or of dense layers for --dataset mixture."""

    channels: Annotated[int, _default("1")]
    """Channels of the image."""
    components: Annotated[int, _default("2, of points only")]
    """Numbers of one point."""
    width: Annotated[int, _default("32; 128 for points")]
    """Features at the full resolution; even."""
    multipliers: Annotated[tuple[int, ...], _default("1 1")]
    """Features at each resolution as multiples of width; each further entry halves the image."""
    blocks: Annotated[int, _default("1; 3 for points")]
    """Residual blocks per resolution on the way down, or in all."""
    attention: Annotated[tuple[int, ...], _default("1")]
    """Resolutions with self-attention, 0 being the full one."""
    heads: Annotated[int, _default("1")]
    """Attention heads."""
    groups: Annotated[int, _default("8")]
    """Groups of the group normalisation."""
    dropout: Annotated[float, _default("0")]
    """Share of features dropped while training."""
    classes: Annotated[int, _default("0")]
    """How many classes the network is told of, or tells apart: usually that of the data set, see --conditional."""
    outputs_per_channel: Annotated[int, _default("1")]
    """2 where a variance is learned, which --variance says by itself."""


class RunFlags(TypedDict, total=False):
    """What runs of every kind have."""

    dataset: Annotated[Literal["digits", "mixture"], _default("digits")]
    """What to train on: the 8x8 digits that ship with scikit-learn; or points of a known law in the plane, where the loss of
    the best network is known and shown beside that of this one."""
    network: NetworkFlags
    time_code: Annotated[Literal["zero_based", "one_based"], _default("zero_based")]
    """The network's clock: t - 1 or t."""
    time_sampler: Annotated[Literal["uniform", "antithetic", "importance"], _default("uniform")]
    """How levels are drawn: uniform; spread over the range; or more often where the loss is large, and weighted."""
    batch_size: Annotated[int, _default("64")]
    """Examples per step."""
    learning_rate: Annotated[float, _default("0.002")]
    """Of Adam, between warm-up and cool-down."""
    warmup_steps: Annotated[int, _default("50")]
    """Steps in which the learning rate grows."""
    cooldown: Annotated[float, _default("0.5")]
    """Share of the run, at its end, in which the learning rate falls to 0."""
    max_gradient_norm: Annotated[float | None, _default("1")]
    """Longer gradients are scaled down to this length."""
    ema_decay: Annotated[float | None, _default("0.995")]
    """Of the moving average of the weights; None for no average."""
    max_steps: Annotated[int | None, _default("None")]
    """Stop after this many steps; a new run then has no limit of time unless --max-seconds gives one too."""
    max_seconds: Annotated[float | None, _default("60")]
    """Stop after this much time, over all parts of the run; without limit if left out beside --max-steps. Where both
    are given, the first limit reached counts."""
    checkpoint_seconds: Annotated[float, _default("30")]
    """Time between checkpoints."""
    log_every: Annotated[int, _default("1")]
    """Every how many steps a line is logged."""
    seed: Annotated[int, _default("0")]
    """Of weights, batches, levels and noise."""


class TrainingFlags(RunFlags, total=False):
    """The run."""

    prediction: Annotated[Literal["eps", "x0", "v"], _default("eps")]
    """What the network predicts."""
    variance: Annotated[Literal["learned_range", "learned", "learned-range"] | None, _default("None")]
    """What the network learns of the variance of a reverse step, with --loss hybrid or vlb: where it lies between the two
    fixed ones, or its logarithm."""
    loss: Annotated[Literal["l2", "l1", "hybrid", "vlb"], _default("l2")]
    """Squared error; absolute error; the variational bound, in bits per dimension (vlb); or the squared error plus
    --vlb-weight times the bound, which then teaches the variance only (hybrid)."""
    vlb_weight: Annotated[float, _default("0.001")]
    """Of the bound in --loss hybrid."""
    fixed_variance: Annotated[Literal["posterior", "beta"], _default("posterior")]
    """Of the steps in --loss vlb without --variance."""
    label_dropout: Annotated[float, _default("0")]
    """Share of the examples whose label is withheld, so that the network learns to do without, too. 0.1 if left out
    beside --conditional."""


CONDITIONAL_DROPOUT = 0.1
"""As in ho2022, section 4."""


def with_labels(flags: TrainingFlags, classes: int, resume: bool) -> TrainingFlags:
    """The flags with what ``--conditional`` stands for put in: the data's number of classes, and label dropout.

    >>> with_labels({"seed": 1}, classes=10, resume=False)
    {'label_dropout': 0.1, 'seed': 1, 'network': {'classes': 10}}
    """
    dropout: TrainingFlags = {} if resume else {"label_dropout": CONDITIONAL_DROPOUT}
    told: NetworkFlags = {"classes": classes}
    return {**dropout, **flags, "network": told | flags.get("network", {})}


def accuracy_table(accuracy: Mapping[int, float]) -> str:
    """How often a classifier is right, a line per level.

    >>> print(accuracy_table({1: 0.9825, 1000: 0.11}))
       t  right on held-out images
       1   98.2 %
    1000   11.0 %
    """
    lines = [f"{t:>4}  {share:>6.1%}".replace("%", " %") for t, share in accuracy.items()]
    return "\n".join(["   t  right on held-out images", *lines])


def merged(stored: dict[str, Any], flags: RunFlags, schedule: ProcessFlags) -> dict[str, Any]:
    """A config as `Config.to_dict` writes it, with what the flags give put in.

    >>> merged({"loss": "l2", "network": {"width": 8}}, {"loss": "l1"}, NO_SCHEDULE)
    {'loss': 'l1', 'network': {'width': 8}, 'schedule': {}}
    """
    said: dict[str, Any] = dict(flags)
    if said.get("variance") is not None:  # learned-range is learned_range, as in Python
        said["variance"] = said["variance"].replace("-", "_")
    network = {name: list(v) if isinstance(v, tuple) else v for name, v in flags.get("network", {}).items()}
    return {
        **stored,
        **said,
        "network": stored["network"] | network,
        "schedule": stored.get("schedule", {}) | schedule.used(),
    }
