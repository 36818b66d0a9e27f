"""A classifier of noisy images: the U-Net's way down, told the time, and a linear layer."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ddpm_ref.errors import RangeError
from ddpm_ref.nn.embedding import TimeEmbedding
from ddpm_ref.nn.unet import Stage, UNetConfig, check_images


class NoisyClassifier(nn.Module):
    r"""p(y | x_t, t): noisy images and a time to the logits of the classes.

    Args:
        config: the sizes; ``classes`` at least 2.

    Raises:
        RangeError: fewer than two classes.

    Limits: images of a batch do not see each other (group normalisation, no batch statistics), and every layer is
    smooth, so that the gradient of a sum of log-probabilities with respect to x is each image's own and continuous. An
    untrained one gives every class the same probability. Source: dhariwal2021, section 4.3.

    >>> classifier = NoisyClassifier(UNetConfig(classes=10))
    >>> classifier(torch.zeros(2, 1, 8, 8), torch.tensor([0, 999])).shape
    torch.Size([2, 10])
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        if config.classes < 2:
            raise RangeError(f"UNetConfig.classes is {config.classes}; a classifier needs at least 2 to choose from")
        self.config = config
        embedding = 4 * config.width
        self.time = TimeEmbedding(config.width, embedding)
        self.inlet = nn.Conv2d(config.channels, config.width, kernel_size=3, padding=1)
        features = config.width
        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList()
        for level, multiplier in enumerate(config.multipliers):
            for _ in range(config.blocks):
                outputs = config.width * multiplier
                self.down.append(Stage(features, outputs, embedding, config, attention=level in config.attention))
                features = outputs
            if level < config.levels - 1:
                self.shrink.append(nn.Conv2d(features, features, kernel_size=3, stride=2, padding=1))
        self.middle = Stage(features, features, embedding, config, attention=True)
        self.norm = nn.GroupNorm(config.groups, features)
        self.head = nn.Linear(features, config.classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, time: Tensor) -> Float[Tensor, "batch classes"]:
        """Logits of the classes.

        Args:
            x: noisy images, ``(batch, channels, height, width)``, in the format of the weights.
            time: the network's clock, ``(batch,)``.

        Returns:
            ``(batch, classes)``.

        Raises:
            ShapeError: as `ddpm_ref.nn.UNet`.
        """
        check_images(x, time, self.config)
        embedded = self.time(time)
        h = self.inlet(x)
        for index, stage in enumerate(self.down):
            h = stage(h, embedded)
            level, position = divmod(index, self.config.blocks)
            if position == self.config.blocks - 1 and level < len(self.shrink):
                h = self.shrink[level](h)
        h = functional.silu(self.norm(self.middle(h, embedded)))
        logits: Tensor = self.head(torch.mean(h, dim=(2, 3)))
        return logits
