"""The U-Net of Ho et al. 2020, appendix B, in any size.

Down a pyramid of resolutions and up again, with a skip connection from every block on the way down to its partner on
the way up; residual blocks with group normalisation that are told the time; self-attention where the image is small.
A preset is a `UNetConfig`, never another class.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.nn.embedding import LabelEmbedding, TimeEmbedding, check_format, labelled


@dataclass(frozen=True)
class UNetConfig:
    """The sizes of a U-Net; the default, for 8x8 grey digits, has 284 513 parameters.

    >>> UNetConfig().levels, UNetConfig(multipliers=(1, 2, 2)).size_multiple
    (2, 4)
    """

    channels: int = 1
    """Channels of the image: 1 grey, 3 colour."""
    width: int = 32
    """Features at the full resolution; even."""
    multipliers: tuple[int, ...] = (1, 1)
    """Features at each resolution as multiples of ``width``; each further entry halves the image."""
    blocks: int = 1
    """Residual blocks per resolution on the way down; one more on the way up."""
    attention: tuple[int, ...] = (1,)
    """Resolutions with self-attention after every block: 0 is the full one. The middle always has it."""
    heads: int = 1
    """Attention heads; must divide the features."""
    groups: int = 8
    """Groups of the group normalisation; must divide the features of every resolution."""
    dropout: float | int = 0.0
    """Share of features dropped inside each residual block while training, 0 <= dropout < 1."""
    classes: int = 0
    """How many classes the network can be told of; 0 for a network that knows no labels."""
    outputs_per_channel: int = 1
    """Channels of the output for each channel of the image: 1, the prediction alone, or 2, and the second half says the
    variance of a reverse step."""

    def __post_init__(self) -> None:
        counts = {"channels": self.channels, "width": self.width, "blocks": self.blocks, "heads": self.heads}
        for name, value in {**counts, "groups": self.groups}.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise RangeError(f"UNetConfig.{name} is {value}; it must be a whole number >= 1")
        if isinstance(self.classes, bool) or not isinstance(self.classes, int) or self.classes < 0:
            raise RangeError(f"UNetConfig.classes is {self.classes}; it must be a whole number >= 0, 0 for no labels")
        if type(self.outputs_per_channel) is not int or self.outputs_per_channel not in (1, 2):
            raise RangeError(
                f"UNetConfig.outputs_per_channel is {self.outputs_per_channel!r}; write 1, or 2 where a variance is learned"
            )
        if not self.multipliers or min(self.multipliers) < 1:
            raise RangeError(f"UNetConfig.multipliers is {self.multipliers}; write one number >= 1 per resolution")
        if self.width % 2:
            raise RangeError(f"UNetConfig.width is {self.width}; the time embedding needs an even number")
        for multiplier in self.multipliers:
            features = self.width * multiplier
            if features % self.groups or features % self.heads:
                raise RangeError(
                    f"UNetConfig: {features} features (width {self.width} times multiplier {multiplier}) are not "
                    f"divisible by groups = {self.groups} and heads = {self.heads}"
                )
        if any(not 0 <= level < self.levels for level in self.attention):
            raise RangeError(f"UNetConfig.attention is {self.attention}; resolutions are 0..{self.levels - 1}")
        if not 0.0 <= self.dropout < 1.0:
            raise RangeError(f"UNetConfig.dropout is {self.dropout}; it must be at least 0 and below 1")

    @property
    def levels(self) -> int:
        """How many resolutions there are."""
        return len(self.multipliers)

    @property
    def size_multiple(self) -> int:
        """Height and width of an image must be multiples of this number."""
        return int(2 ** (self.levels - 1))

    @property
    def null_label(self) -> int:
        """The label that stands for no label: the classes are 0..classes - 1, and this is the number after them."""
        return self.classes


def _silent(layer: nn.Conv2d) -> nn.Conv2d:
    # A layer that starts at zero makes its residual block start as the identity, and the whole network as eps = 0.
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class ResidualBlock(nn.Module):
    """Two convolutions around which the input is added; the time enters between them."""

    def __init__(self, inputs: int, outputs: int, embedding: int, config: UNetConfig) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(config.groups, inputs)
        self.conv_in = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)
        self.time = nn.Linear(embedding, outputs)
        self.norm_out = nn.GroupNorm(config.groups, outputs)
        self.dropout = nn.Dropout(config.dropout)
        self.conv_out = _silent(nn.Conv2d(outputs, outputs, kernel_size=3, padding=1))
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, kernel_size=1)

    def forward(
        self, x: Float[Tensor, "batch inputs height width"], time: Float[Tensor, "batch embedding"]
    ) -> Float[Tensor, "batch outputs height width"]:
        """Features at the same resolution, ``inputs`` becoming ``outputs``."""
        h = self.conv_in(functional.silu(self.norm_in(x)))
        h = h + self.time(functional.silu(time))[:, :, None, None]
        h = self.conv_out(self.dropout(functional.silu(self.norm_out(h))))
        added: Tensor = self.shortcut(x) + h
        return added


class SelfAttention(nn.Module):
    """Every pixel looks at every other; the input is added."""

    def __init__(self, features: int, config: UNetConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.GroupNorm(config.groups, features)
        self.query_key_value = nn.Conv2d(features, 3 * features, kernel_size=1)
        self.out = _silent(nn.Conv2d(features, features, kernel_size=1))

    def forward(self, x: Float[Tensor, "batch features height width"]) -> Float[Tensor, "batch features height width"]:
        """The same shape."""
        batch, features, height, width = x.shape
        # (batch, 3, heads, pixels, features per head)
        tokens = self.query_key_value(self.norm(x)).view(batch, 3, self.heads, -1, height * width).transpose(3, 4)
        query, key, value = tokens.unbind(dim=1)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        added: Tensor = x + self.out(mixed.transpose(2, 3).reshape(batch, features, height, width))
        return added


class Stage(nn.Module):
    """A residual block and, at the resolutions that have it, attention."""

    def __init__(self, inputs: int, outputs: int, embedding: int, config: UNetConfig, *, attention: bool) -> None:
        super().__init__()
        self.residual = ResidualBlock(inputs, outputs, embedding, config)
        self.attention = SelfAttention(outputs, config) if attention else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Features at the same resolution, from images and the embedded time."""
        mixed: Tensor = self.attention(self.residual(x, time))
        return mixed


class _Upsample(nn.Module):
    # Nearest neighbour, then a convolution: a transposed convolution would leave a chequerboard.
    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(features, features, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        larger: Tensor = self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return larger


class UNet(nn.Module):
    """epsilon_theta: noisy images, a time and perhaps a label to a tensor of the images' shape.

    Args:
        config: the sizes. With ``classes`` the network has an embedding for each of them and one for the null label;
            it is added to that of the time. With ``outputs_per_channel = 2`` it answers with twice the channels: first
            the prediction, then what `ddpm_ref.sampling.Denoiser` reads as the variance of a reverse step.

    Limits: height and width must be multiples of ``config.size_multiple``. The last layer starts at zero, so an
    untrained network predicts 0 and has the simple loss E||eps||^2/d = 1; its variance of kind ``"learned_range"`` is
    the geometric mean of the fixed ones. Source: ho2020, appendix B; labels dhariwal2021, section 3.1, the null label
    ho2022, section 3.2; the second half nichol2021, section 3.1.

    >>> network = UNet(UNetConfig(classes=10))
    >>> network(torch.zeros(2, 1, 8, 8), torch.tensor([0, 999]), torch.tensor([7, 10])).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        embedding = 4 * config.width
        widths = [config.width * multiplier for multiplier in config.multipliers]
        self.time = TimeEmbedding(config.width, embedding)
        self.label = LabelEmbedding(config.classes, embedding) if config.classes else None
        self.inlet = nn.Conv2d(config.channels, config.width, kernel_size=3, padding=1)

        features = config.width
        skips = [features]  # features of every tensor kept for the way up, the inlet's first
        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList()
        for level, outputs in enumerate(widths):
            attention = level in config.attention
            for _ in range(config.blocks):
                self.down.append(Stage(features, outputs, embedding, config, attention=attention))
                features = outputs
                skips.append(features)
            if level < config.levels - 1:
                self.shrink.append(nn.Conv2d(features, features, kernel_size=3, stride=2, padding=1))
                skips.append(features)

        self.middle = Stage(features, features, embedding, config, attention=True)
        self.middle_out = ResidualBlock(features, features, embedding, config)

        self.up = nn.ModuleList()
        self.grow = nn.ModuleList()
        for level, outputs in reversed(list(enumerate(widths))):
            attention = level in config.attention
            for _ in range(config.blocks + 1):
                self.up.append(Stage(features + skips.pop(), outputs, embedding, config, attention=attention))
                features = outputs
            if level > 0:
                self.grow.append(_Upsample(features))

        self.norm = nn.GroupNorm(config.groups, features)
        outputs = config.channels * config.outputs_per_channel
        self.outlet = _silent(nn.Conv2d(features, outputs, kernel_size=3, padding=1))

    def forward(
        self, x: Tensor, time: Tensor, label: Tensor | None = None
    ) -> Float[Tensor, "batch outputs height width"]:
        """Predict, for every image, a tensor of its shape (or two, one after the other along the channels).

        Args:
            x: noisy images, ``(batch, channels, height, width)``, in the format of the weights.
            time: the network's clock, ``(batch,)``.
            label: int64, ``(batch,)``: classes 0..classes - 1, or the null label, ``classes``, which says nothing of the
                image. None says nothing of any of them.

        Returns:
            ``(batch, outputs_per_channel * channels, height, width)``.

        Raises:
            ShapeError: another number of axes or channels, a size that cannot be halved often enough, or another
                number of times or labels than of images.
            PrecisionError: another number format than that of the weights.
            RangeError: labels for a network that knows none, of another format, or out of range.
        """
        check_images(x, time, self.config)
        check_format(x, self.inlet.weight)
        embedded = labelled(self.time(time), self.label, label)
        blocks = self.config.blocks
        h = self.inlet(x)
        skips = [h]
        for index, stage in enumerate(self.down):
            h = stage(h, embedded)
            skips.append(h)
            level, position = divmod(index, blocks)
            if position == blocks - 1 and level < len(self.shrink):
                h = self.shrink[level](h)
                skips.append(h)
        h = self.middle_out(self.middle(h, embedded), embedded)
        for index, stage in enumerate(self.up):
            h = stage(torch.cat([h, skips.pop()], dim=1), embedded)
            level, position = divmod(index, blocks + 1)
            if position == blocks and level < len(self.grow):
                h = self.grow[level](h)
        predicted: Tensor = self.outlet(functional.silu(self.norm(h)))
        return predicted


def check_images(x: Tensor, time: Tensor, config: UNetConfig) -> None:
    """Refuse images and times that a network of these sizes cannot take (`ShapeError`)."""
    channels, multiple = config.channels, config.size_multiple
    if x.ndim != 4 or x.shape[1] != channels or x.shape[2] % multiple or x.shape[3] % multiple:
        raise ShapeError(
            f"x has shape {tuple(x.shape)}; this network takes (batch, {channels}, height, width) "
            f"with height and width multiples of {multiple}"
        )
    if time.shape != x.shape[:1]:
        raise ShapeError(f"time has shape {tuple(time.shape)}; with x of shape {tuple(x.shape)} write one per image")
