"""A small convolutional classifier, and the features that its last layer reads."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from ddpm_ref.errors import RangeError


class Classifier(nn.Module):
    """Three convolutions and two linear layers, for images of a few dozen pixels a side at most.

    Args:
        shape: of one image, (channels, height, width); height and width at least 4.
        classes: how many there are.
        width: channels of the first convolution; the others have twice as many.
        num_features: how many numbers the last layer reads.

    Raises:
        RangeError: an image too small, or a size below 1.

    >>> import torch
    >>> Classifier((1, 8, 8))(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(self, shape: tuple[int, ...], classes: int = 10, width: int = 32, num_features: int = 64) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape[1:], default=0) < 4 or min(shape[0], classes, width, num_features) < 1:
            raise RangeError(
                f"shape = {shape}, classes = {classes}, width = {width}, num_features = {num_features}; "
                "needed are (channels, height >= 4, width >= 4) and whole numbers >= 1"
            )
        channels, height, breadth = shape
        self.num_features = num_features
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1, stride=2),
            nn.SiLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(2 * width * -(-height // 2) * -(-breadth // 2), num_features),
        )
        self.head = nn.Sequential(nn.SiLU(), nn.Linear(num_features, classes))

    def features(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch features"]:
        """What the last layer reads of images in [-1, 1]."""
        features: Tensor = self.body(x)
        return features

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits of the classes."""
        logits: Tensor = self.head(self.features(x))
        return logits
