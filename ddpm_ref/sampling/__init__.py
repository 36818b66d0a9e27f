"""Sampling: a denoiser, a plan and a source of noise make images. Needs the extra `torch`."""

from __future__ import annotations

from ddpm_ref import extras

try:
    from ddpm_ref.sampling.denoiser import Denoiser
    from ddpm_ref.sampling.guided import ClassifierFree, ClassifierGuided, MeanShift
    from ddpm_ref.sampling.noise import GeneratorNoise, NoiseSource
    from ddpm_ref.sampling.philox import PhiloxNoise
    from ddpm_ref.sampling.sampler import sample, snapshots, states, step
except ModuleNotFoundError as error:
    raise extras.missing(error, "torch") from error

__all__ = [
    "ClassifierFree",
    "ClassifierGuided",
    "Denoiser",
    "GeneratorNoise",
    "MeanShift",
    "NoiseSource",
    "PhiloxNoise",
    "sample",
    "snapshots",
    "states",
    "step",
]
