"""Training a classifier of clean images: a judge of samples that no download is needed for."""

from __future__ import annotations

import torch
from torch.nn import functional

from ddpm_ref.nn.classifier import Classifier
from ddpm_ref.sampling.noise import Stream, keyed_generator, keyed_seed
from ddpm_ref.training.data import Images

EPOCHS, BATCH_SIZE, PEAK_LEARNING_RATE = 12, 64, 4e-3


def fit_classifier(images: Images, seed: int = 0) -> Classifier:
    """Train on the training images, twelve times through in random order, by AdamW with a one-cycle learning rate.

    Args:
        images: data in [-1, 1] with labels.
        seed: of the initial weights and the order, whole number >= 0.

    Returns:
        the classifier, in evaluation mode, on the CPU. Torch's global random state is left as it was.

    Limits: deterministic on one CPU with one number of threads.
    """
    count = len(images.train)
    order = keyed_generator(torch.device("cpu"), Stream.CLASSIFIER, seed, step=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(keyed_seed(Stream.CLASSIFIER, seed))
        classes = int(images.train_labels.max()) + 1
        classifier = Classifier(images.shape, classes).train()
    optimizer = torch.optim.AdamW(classifier.parameters())
    steps = EPOCHS * -(-count // BATCH_SIZE)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in torch.split(torch.randperm(count, generator=order), BATCH_SIZE):
            loss = functional.cross_entropy(classifier(images.train[batch]), images.train_labels[batch])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            rate.step()
    return classifier.eval()


@torch.no_grad()
def accuracy(classifier: Classifier, x: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of images, ``(n, channels, height, width)``, whose most likely class is their label."""
    return float((classifier(x).argmax(dim=1) == labels).double().mean())
