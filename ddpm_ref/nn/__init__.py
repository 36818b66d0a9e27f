"""Networks: what stands for epsilon_theta(x_t, t). Needs the extra `torch`."""

from __future__ import annotations

from ddpm_ref import extras

try:
    from ddpm_ref.nn.classifier import Classifier
    from ddpm_ref.nn.embedding import TimeEmbedding, sinusoidal_embedding
    from ddpm_ref.nn.mlp import MLP, MLPConfig
    from ddpm_ref.nn.noisy_classifier import NoisyClassifier
    from ddpm_ref.nn.unet import UNet, UNetConfig
except ModuleNotFoundError as error:
    raise extras.missing(error, "torch") from error

__all__ = [
    "MLP",
    "Classifier",
    "MLPConfig",
    "NoisyClassifier",
    "TimeEmbedding",
    "UNet",
    "UNetConfig",
    "sinusoidal_embedding",
]
