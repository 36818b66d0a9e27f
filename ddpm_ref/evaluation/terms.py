"""The terms of the bound for a few images at a few steps: noise, one forward pass, and what follows from its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ddpm_ref.errors import RangeError
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.reference.trajectory import Trajectory
from ddpm_ref.sampling.denoiser import LEARNED, Denoiser
from ddpm_ref.sampling.noise import Stream, keyed_seed
from ddpm_ref.sampling.philox import PhiloxNoise
from ddpm_ref.torch.arguments import Level, expand_right
from ddpm_ref.torch.bound import bits_per_dim, prior_term, reconstruction_term
from ddpm_ref.torch.divergence import kl_normal_logvar
from ddpm_ref.torch.forward import q_sample
from ddpm_ref.torch.posterior import posterior_variance, posterior_weights
from ddpm_ref.torch.prediction import clip_x0, convert
from ddpm_ref.torch.reverse import learned_log_variance, model_mean_from_x0
from ddpm_ref.torch.scaling import from_level_index
from ddpm_ref.torch.tables import tables
from ddpm_ref.typing import Array

COLUMNS = ("bits_per_dim", "mse_eps", "mse_x0")
"""The numbers per image and step, in the order in which they are kept: the term of the bound; mean squares, over the
components, of the error of the predicted noise, and of that of the predicted data, clipped if they are clipped."""


@dataclass(frozen=True, eq=False)
class Data:
    """Images as the network takes them, and, if they have grey levels, these as whole numbers, which no format rounds."""

    x0: Tensor
    """``(n, *event)``, float32 or float64, on the CPU."""
    level_index: Tensor | None
    """int64, in the same shape; None for continuous data."""
    levels: int | None
    """How many grey levels there are; None for continuous data."""

    @property
    def dimension(self) -> int:
        """Components of an image."""
        return self.x0[0].numel()

    def exactly(self, first: int, size: int) -> Tensor:
        """Some images in float64."""
        if self.level_index is None or self.levels is None:
            return self.x0[first : first + size].double()
        return from_level_index(self.level_index[first : first + size], self.levels)


@dataclass(frozen=True, eq=False)
class Model:
    """A network as a reverse process: what it takes to say the law of every step of a trajectory."""

    denoiser: Denoiser
    schedule: NoiseSchedule
    trajectory: Trajectory
    variance: str
    """By the name that is kept, see `ddpm_ref.evaluation.variances.variance_and_rule`."""
    first_step: str
    """The rule for the variance of the step to level 0."""
    log_variance: Tensor | None
    """Of each step, ``(K,)``; None where the network says them."""
    clip_x0: bool
    """Whether predicted data are clipped to [-1, 1]."""


class Terms:
    """Computes terms on a device. The network is asked as it is: whoever asks puts it into evaluation mode."""

    def __init__(self, model: Model, data: Data, seed: int, device: torch.device) -> None:
        self.model, self.data, self.device = model, data, device
        self.tables = tables(model.schedule).to(device)
        self.key = keyed_seed(Stream.EVALUATION, seed)
        self._images: tuple[tuple[int, int], Tensor, Tensor] | None = None
        self.pairs = list(model.trajectory.pairs())
        levels = torch.tensor(model.trajectory.levels, device=device)
        t, s = levels[:-2], levels[1:-1]  # the steps to s >= 1
        self._x0_weight = posterior_weights(self.tables, t, s)[0]
        self._log_posterior = posterior_variance(self.tables, t, s).log()
        self.log_variance = self._isotropic = None
        if model.log_variance is not None:
            self.log_variance = model.log_variance.to(device)
            self._isotropic = self._of_isotropic_steps(self.log_variance[:-1])

    def priors(self, at_once: int) -> Array:
        """The prior terms of all images, bits per dimension, ``(n,)``, computed so many at once."""
        found = []
        for first in range(0, len(self.data.x0), at_once):
            nats = prior_term(self.tables, self.data.exactly(first, at_once).to(self.device))
            found.append(_numbers(bits_per_dim(nats.flatten(start_dim=1).sum(dim=1), self.data.dimension)))
        return np.concatenate(found)

    @torch.no_grad()
    def values(self, first: int, size: int, steps: Sequence[int]) -> Array:
        """What is kept of some images at some steps, ``(steps, size, COLUMNS)``, from one forward pass.

        The noise of an image at a level depends on the seed and these two, and on nothing else. The last step, whose term is
        another, must be alone.

        Raises:
            RangeError: the answer of the network, or a term, is not finite; or the answer does not determine x0.
        """
        model, pairs = self.model, [self.pairs[k] for k in steps]
        clean, x0 = self._batch(first, size)
        source = PhiloxNoise(self.key, first)
        noises = [source.normal(t, tuple(clean.shape), clean.dtype, self.device) for t, _ in pairs]
        t: Level = pairs[0][0]
        s: Level = pairs[0][1]
        if len(pairs) > 1:
            t, s = (
                torch.tensor(levels, device=self.device).repeat_interleave(size) for levels in zip(*pairs, strict=True)
            )
            clean, x0 = (images.repeat(len(pairs), *[1] * (images.ndim - 1)) for images in (clean, x0))
        noise = torch.cat(noises)

        xt = q_sample(self.tables, clean, t, noise)
        answer, extra = (
            model.denoiser.with_variance(xt, t) if model.variance in LEARNED else (model.denoiser(xt, t), None)
        )
        self._refuse_not_finite("the network's answer", pairs, size, answer, extra)

        # From here on in float64: what follows is little beside the network, and sums of a thousand terms show roundings.
        xt, noise, answer = xt.double(), noise.double(), answer.double()
        eps = convert(self.tables, xt, t, answer, model.denoiser.prediction, "eps")
        predicted = convert(self.tables, xt, t, answer, model.denoiser.prediction, "x0")
        if model.clip_x0:
            predicted = clip_x0(predicted)
        errors = [error.square().flatten(start_dim=1).mean(dim=1) for error in (noise - eps, x0 - predicted)]
        if self._isotropic is not None and pairs[-1][1] > 0:
            gap, weight = (column[list(steps)].repeat_interleave(size) for column in self._isotropic)
            term = bits_per_dim(gap + weight * errors[1], 1)
        else:
            log_variance = self._log_variance(t, s, extra)
            self._refuse_not_finite("the log variance", pairs, size, log_variance)
            if pairs[-1][1] == 0:
                mean = model_mean_from_x0(self.tables, xt, t, s, predicted)
                nats = reconstruction_term(x0, mean, log_variance, self.data.levels)
            else:
                nats = self._denoising(steps, size, x0 - predicted, log_variance)
            term = bits_per_dim(nats.flatten(start_dim=1).sum(dim=1), self.data.dimension)
        found = torch.stack([term, *errors], dim=1)
        self._refuse_not_finite("a term of the bound", pairs, size, found)
        return _numbers(found.reshape(len(pairs), size, len(COLUMNS)))

    def _batch(self, first: int, size: int) -> tuple[Tensor, Tensor]:
        """Some images as the network takes them, and in float64; kept, for the passes of one batch follow one another."""
        if self._images is None or self._images[0] != (first, size):
            x0 = self.data.x0[first : first + size].to(self.device)
            self._images = (first, size), x0, self.data.exactly(first, size).to(self.device)
        return self._images[1:]

    def _denoising(self, steps: Sequence[int], size: int, error: Tensor, log_variance: Tensor) -> Tensor:
        r"""Terms of steps to s >= 1, nats per element: x_t cancels in :math:`\tilde\mu - \mu_\theta = c^0(x_0-\hat x_0)`."""
        weight, posterior = (
            expand_right(column[list(steps)].repeat_interleave(size), error.ndim)
            for column in (self._x0_weight, self._log_posterior)
        )
        return kl_normal_logvar(weight * error, posterior, torch.zeros_like(error), log_variance)

    def _of_isotropic_steps(self, log_variance: Tensor) -> tuple[Tensor, Tensor]:
        r"""What makes the terms of steps to s >= 1 of the mean square error of the predicted x0, nats per element.

        .. math:: \tfrac12\left[\frac{\tilde\beta}{\sigma^2} - 1 - \log\frac{\tilde\beta}{\sigma^2}\right]
                  + \frac{(c^0)^2}{2\sigma^2}\,(x_0-\hat x_0)^2, \qquad \tilde\mu - \mu_\theta = c^0(x_0-\hat x_0)

        With one variance for all components nothing else of an image enters, and x_t cancels.
        """
        zero = torch.zeros_like(log_variance)
        weight = self._x0_weight.square() * (-log_variance).exp() / 2
        return kl_normal_logvar(zero, self._log_posterior, zero, log_variance), weight

    def _log_variance(self, t: Level, s: Level, extra: Tensor | None) -> Tensor:
        """Of learned variances, or of the step to level 0."""
        if extra is not None:
            model = self.model
            return learned_log_variance(
                self.tables, t, s, extra.double(), model.variance, model.first_step, model.trajectory
            )
        assert self.log_variance is not None
        return self.log_variance[-1]

    def _refuse_not_finite(self, what: str, pairs: list[tuple[int, int]], size: int, *found: Tensor | None) -> None:
        for tensor in found:
            if tensor is not None and not bool(tensor.isfinite().all()):
                row = int((~tensor.flatten(start_dim=1).isfinite()).any(dim=1).nonzero()[0])
                t, s = pairs[row // size]
                raise RangeError(
                    f"{what} is not finite at t = {t} (the step to {s}); was the network trained, and with this schedule, "
                    "prediction and time_code?"
                )


def _numbers(tensor: Tensor) -> Array:
    return np.asarray(tensor.double().cpu().numpy())
