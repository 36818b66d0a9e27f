"""What one forward pass says of each datum at one level: the mean squares of the predicted noise and of its error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ddpm_ref.errors import RangeError
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.sampling.denoiser import Denoiser
from ddpm_ref.sampling.device import usable
from ddpm_ref.sampling.noise import Stream, keyed_seed
from ddpm_ref.sampling.philox import PhiloxNoise
from ddpm_ref.torch.forward import q_sample
from ddpm_ref.torch.prediction import convert
from ddpm_ref.torch.tables import Tables, tables
from ddpm_ref.typing import Array

FORMS = ("mean_square", "residual")
"""The two numbers per datum and level, in the order in which they are kept."""


def mean_squares(
    denoiser: Denoiser, of_schedule: Tables, x0: Tensor, t: int, noise: Tensor
) -> Float[Tensor, "batch 2"]:
    r"""Mean squares over the components of one noisy datum.

    .. math:: \tfrac1d\lVert\epsilon_\theta(x_t,t)\rVert^2, \qquad
              \tfrac1d\lVert\varepsilon-\epsilon_\theta(x_t,t)\rVert^2, \qquad
              x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{\bar\beta_t}\,\varepsilon

    Args:
        denoiser: the network and its conventions; any prediction is converted to eps.
        of_schedule: float64 tables, on the device of the data.
        x0: clean data, ``(batch, *event)``; the network computes in their format.
        t: level, 1..T.
        noise: standard normal, like ``x0``.

    Returns:
        float64; conversions, squares and sums are computed in float64 from what the network answered. At zero terminal
        SNR, where x_T is the noise and tells nothing of the data, the second is the error of the predicted data
        themselves, :math:`\lVert x_0-\hat x_0\rVert^2/d`.

    Raises:
        RangeError: the network answered with a number that is not finite, or its answer does not determine eps.
        LevelError, ShapeError, PrecisionError: as `Denoiser` and `ddpm_ref.torch.forward.q_sample`.

    Source: bao2022, eq. (8), for the first, times beta_bar_t; ho2020, eq. (14), for the second.
    """
    xt = q_sample(of_schedule, x0, t, noise)
    answer = denoiser(xt, t)
    if not bool(answer.isfinite().all()):
        raise RangeError(
            f"the network's prediction is not finite at t = {t}; "
            "was it trained, and with this schedule, prediction and time_code?"
        )
    xt, answer = xt.double(), answer.double()
    eps = convert(of_schedule, xt, t, answer, denoiser.prediction, "eps")
    if of_schedule.zero_terminal_snr and t == of_schedule.T:
        error = x0.double() - convert(of_schedule, xt, t, answer, denoiser.prediction, "x0")
    else:
        error = noise.double() - eps
    squares = torch.stack((eps.square(), error.square()))
    return squares.flatten(start_dim=2).mean(dim=2).T


@dataclass(frozen=True, eq=False)
class Job:
    """Everything that decides the values, so that any process can compute any of them.

    Args:
        denoiser: the network and its conventions.
        schedule: the noise schedule.
        data: clean data, ``(n, *event)``.
        draws: noises per datum and level, >= 1.
        batch_size: data in one forward pass times draws.
        seed: of the noise.
        device: where to compute.

    The noise is a function of (seed, level, datum, draw): it depends on no batch, no process and no order.
    """

    denoiser: Denoiser
    schedule: NoiseSchedule
    data: Tensor
    draws: int
    batch_size: int
    seed: int
    device: str

    @property
    def data_per_batch(self) -> int:
        """How many data, with all their draws, fit into a batch; at least one."""
        return max(1, self.batch_size // self.draws)

    @property
    def batches(self) -> int:
        """How many batches there are."""
        return -(-len(self.data) // self.data_per_batch)

    def ready(self) -> Ready:
        """The job with network, data and tables on the device."""
        return Ready(self)


class Ready:
    """A `Job` ready to be done."""

    def __init__(self, job: Job) -> None:
        self.job, self.device = job, usable(job.device)
        self.tables = tables(job.schedule).to(self.device)
        self.key = keyed_seed(Stream.MOMENTS, job.seed)

    def values(self, batch: int, t: int) -> Array:
        """The means over the draws of `mean_squares` for every datum of a batch at a level, ``(data, 2)``.

        The network is asked as it is: whoever asks puts it into evaluation mode, once for all.
        """
        job, size = self.job, self.job.data_per_batch
        first = batch * size
        x0 = job.data[first : first + size].to(self.device)
        rows = x0.repeat_interleave(job.draws, dim=0)
        noise = PhiloxNoise(self.key, first * job.draws).normal(t, tuple(rows.shape), rows.dtype, self.device)
        with torch.no_grad():
            parts = zip(*(torch.split(column, job.batch_size) for column in (rows, noise)), strict=True)
            found = torch.cat([mean_squares(job.denoiser, self.tables, x, t, z) for x, z in parts])
        return np.asarray(found.reshape(len(x0), job.draws, len(FORMS)).mean(dim=1).cpu().numpy())
