"""A residual network of dense layers: for data that are points, not images."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.nn.embedding import LabelEmbedding, TimeEmbedding, check_format, labelled


@dataclass(frozen=True)
class MLPConfig:
    """The sizes of a residual network of dense layers; the default, for points in the plane, has 183 298 parameters.

    >>> MLPConfig(components=3, classes=4).null_label
    4
    """

    components: int = 2
    """Numbers of one example."""
    width: int = 128
    """Features; even."""
    blocks: int = 3
    """Residual blocks, of two dense layers each."""
    classes: int = 0
    """How many classes the network can be told of; 0 for a network that knows no labels."""
    outputs_per_channel: int = 1
    """Outputs for each component: 1, the prediction alone, or 2, and the second half says the variance of a reverse step."""

    def __post_init__(self) -> None:
        for name, value in {"components": self.components, "width": self.width, "blocks": self.blocks}.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise RangeError(f"MLPConfig.{name} is {value}; it must be a whole number >= 1")
        if self.width % 2:
            raise RangeError(f"MLPConfig.width is {self.width}; the time embedding needs an even number")
        if isinstance(self.classes, bool) or not isinstance(self.classes, int) or self.classes < 0:
            raise RangeError(f"MLPConfig.classes is {self.classes}; it must be a whole number >= 0, 0 for no labels")
        if type(self.outputs_per_channel) is not int or self.outputs_per_channel not in (1, 2):
            raise RangeError(
                f"MLPConfig.outputs_per_channel is {self.outputs_per_channel!r}; write 1, or 2 where a variance is learned"
            )

    @property
    def null_label(self) -> int:
        """The label that stands for no label: the classes are 0..classes - 1, and this is the number after them."""
        return self.classes


class DenseBlock(nn.Module):
    """Two dense layers to which the input is added; the time enters between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width)
        self.time = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)

    def forward(self, h: Float[Tensor, "batch width"], time: Float[Tensor, "batch width"]) -> Tensor:
        """Features of the same width."""
        inner = self.inner(functional.silu(self.norm(h))) + self.time(functional.silu(time))
        added: Tensor = h + self.outer(functional.silu(inner))
        return added


class MLP(nn.Module):
    """epsilon_theta for points: noisy vectors, a time and perhaps a label to vectors.

    Args:
        config: the sizes. Labels and the second half of the outputs are as those of `ddpm_ref.nn.UNet`.

    Limits: the last layer starts at zero, so an untrained network predicts 0 and has the simple loss E||eps||^2/d = 1.
    Source: ho2020, appendix B, for the time and the residual blocks, with dense layers for the convolutions.

    >>> import torch
    >>> network = MLP(MLPConfig(components=2))
    >>> network(torch.zeros(5, 2), torch.tensor([0, 1, 10, 100, 999])).shape
    torch.Size([5, 2])
    """

    def __init__(self, config: MLPConfig) -> None:
        super().__init__()
        self.config = config
        self.time = TimeEmbedding(config.width, config.width)
        self.label = LabelEmbedding(config.classes, config.width) if config.classes else None
        self.inlet = nn.Linear(config.components, config.width)
        self.blocks = nn.ModuleList(DenseBlock(config.width) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)
        self.outlet = nn.Linear(config.width, config.components * config.outputs_per_channel)
        nn.init.zeros_(self.outlet.weight)
        nn.init.zeros_(self.outlet.bias)

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Float[Tensor, "batch outputs"]:
        """Predict, for every example, a vector of its length (or two, one after the other).

        Args:
            x: noisy examples, ``(batch, components)``, in the format of the weights.
            time: the network's clock, ``(batch,)``.
            label: int64, ``(batch,)``: classes 0..classes - 1, or the null label, ``classes``; None says nothing.

        Returns:
            ``(batch, outputs_per_channel * components)``.

        Raises:
            ShapeError: another shape, or another number of times or labels than of examples.
            PrecisionError: another number format than that of the weights.
            RangeError: labels for a network that knows none, of another format, or out of range.
        """
        if x.ndim != 2 or x.shape[1] != self.config.components:
            raise ShapeError(f"x has shape {tuple(x.shape)}; this network takes (batch, {self.config.components})")
        if time.shape != x.shape[:1]:
            raise ShapeError(
                f"time has shape {tuple(time.shape)}; with x of shape {tuple(x.shape)} write one per example"
            )
        check_format(x, self.inlet.weight)
        embedded = labelled(self.time(time), self.label, label)
        h = self.inlet(x)
        for block in self.blocks:
            h = block(h, embedded)
        predicted: Tensor = self.outlet(functional.silu(self.norm(h)))
        return predicted
