"""How good the samples are: Frechet distances in the features of a small classifier, beside two yardsticks.

The better yardstick is real images that no part of the demo was trained on, the worse one samples of a normal law
with the mean and covariance of the pixels. A distance means something only beside those: it depends on the classifier
and on how many images are compared, and is no FID that could be compared with a paper's.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ddpm_ref.extras import require
from ddpm_ref.nn.classifier import Classifier
from ddpm_ref.sampling.noise import Stream, keyed_seed
from ddpm_ref.training.classifier import accuracy, fit_classifier
from ddpm_ref.training.data import Images

COUNT = 450
"""Images on the side that is judged; the other side is all training images."""


@dataclass(frozen=True)
class Quality:
    """Frechet distances to the training images, and what else can be said of samples without looking at them."""

    images: int
    """How many were judged, of each kind."""
    samples: float
    """Of the samples."""
    held_out: float
    """Of real images held out from training."""
    fitted_gaussian: float
    """Of a normal law with the pixels' mean and covariance, cut off at [-1, 1] like every image."""
    classifier_accuracy: float
    """Of the classifier whose features are compared, on the held-out images."""
    confident: float
    """Share of the samples for which the classifier gives some digit at least 90 %."""
    confident_held_out: float
    """The same for held-out images."""
    digits: tuple[int, ...]
    """How many samples the classifier takes for each digit."""
    nearest: float
    """Median distance from a sample to the nearest training image, root mean square per pixel."""
    nearest_held_out: float
    """The same for held-out images: samples much nearer than these would be copies."""

    @property
    def of_gaussian(self) -> float:
        """The samples' distance as a share of the fitted normal law's."""
        return self.samples / self.fitted_gaussian

    @property
    def of_held_out(self) -> float:
        """The samples' distance as a multiple of the held-out images'."""
        return self.samples / self.held_out

    def __str__(self) -> str:
        return (
            f"Frechet distance to the training digits, {self.images} images of each kind: samples {self.samples:.1f}, "
            f"held-out digits {self.held_out:.1f}, normal law fitted to the pixels {self.fitted_gaussian:.1f}\n"
            f"the samples' is {self.of_held_out:.2f} times that of held-out digits and {self.of_gaussian:.3f} of the normal "
            f"law's; the classifier is right on {self.classifier_accuracy:.1%} of the held-out digits"
        )


def judge(images: Images, samples: Tensor, seed: int = 0) -> Quality:
    """Train the classifier and compare.

    Args:
        images: the data, of which at least ``COUNT`` are held out.
        samples: ``(n, channels, height, width)`` in [-1, 1]; the first ``COUNT`` count.
        seed: of the classifier and of the normal law.
    """
    classifier = fit_classifier(images, seed)
    samples, held_out = samples[:COUNT].clamp(-1.0, 1.0), images.held_out[:COUNT]
    guesses, real = _probabilities(classifier, samples), _probabilities(classifier, held_out)
    counts = torch.bincount(guesses.argmax(dim=1), minlength=guesses.shape[1])
    return Quality(
        images=len(samples),
        samples=frechet_distance(classifier, images.train, samples),
        held_out=frechet_distance(classifier, images.train, held_out),
        fitted_gaussian=frechet_distance(classifier, images.train, fitted_gaussian(images.train, COUNT, seed)),
        classifier_accuracy=accuracy(classifier, images.held_out, images.held_out_labels),
        confident=float((guesses.amax(dim=1) >= 0.9).double().mean()),
        confident_held_out=float((real.amax(dim=1) >= 0.9).double().mean()),
        digits=tuple(int(count) for count in counts),
        nearest=nearest_distance(samples, images.train),
        nearest_held_out=nearest_distance(held_out, images.train),
    )


def frechet_distance(classifier: Classifier, real: Tensor, other: Tensor) -> float:
    """Frechet distance of two sets of images in the classifier's features; at least two images each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torchmetrics' own dependencies say when they are imported
        fid = require("torchmetrics.image.fid", "train").FrechetInceptionDistance(feature=_Features(classifier))
    with torch.no_grad():
        fid.update(real, real=True)
        fid.update(other, real=False)
    return float(fid.compute())


def fitted_gaussian(x: Tensor, count: int, seed: int = 0) -> Tensor:
    """``count`` draws of the normal law with the mean and covariance of the pixels of ``x``, cut off at [-1, 1]."""
    pixels = x.flatten(start_dim=1).double().numpy()
    draw = np.random.default_rng(keyed_seed(Stream.DEMO, seed))
    drawn = draw.multivariate_normal(pixels.mean(axis=0), np.cov(pixels, rowvar=False), count, method="eigh")
    return torch.from_numpy(drawn.clip(-1.0, 1.0)).to(x.dtype).reshape(count, *x.shape[1:])


def nearest_distance(x: Tensor, among: Tensor) -> float:
    """Median over ``x`` of the distance to the nearest image of ``among``, root mean square per pixel."""
    distances = torch.cdist(x.flatten(start_dim=1), among.flatten(start_dim=1)).amin(dim=1)
    return float(distances.median()) / float(np.sqrt(x[0].numel()))


@torch.no_grad()
def _probabilities(classifier: Classifier, x: Tensor) -> Tensor:
    return torch.softmax(classifier(x), dim=1)


class _Features(nn.Module):
    # What torchmetrics asks of a network: images in, features out, and how many those are.
    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.num_features = classifier.num_features

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier.features(x)
