"""The adapter of `ddpm_ref.torch`: its functions on exact tables, the tables it builds itself, its samplers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance.adapters import TorchAdapter
from ddpm_ref.conformance.capabilities import Handle, Native, Network
from ddpm_ref.conformance.functions import Functions, modules_of
from ddpm_ref.typing import Array

if TYPE_CHECKING:
    from ddpm_ref.reference.plan import Plan


@lru_cache(maxsize=128)
def _schedule_of(betas: bytes) -> Any:
    """The exact schedule of some tables, which samplers ask for again and again."""
    from ddpm_ref.reference.schedule import NoiseSchedule

    return NoiseSchedule.from_betas(np.frombuffer(betas))


@dataclass(frozen=True)
class _Given:
    """A source of noise that was drawn by somebody else."""

    noises: Native

    def normal(self, step: int, shape: tuple[int, ...], dtype: Any, device: Any) -> Native:
        """That of a step."""
        return self.noises[step - 1]


class TorchMirror(Functions, TorchAdapter):
    """`ddpm_ref.torch` on a device: its functions on exact tables, and the tables it builds itself."""

    name = "ddpm_ref.torch"
    claims: tuple[Claim, ...] = (Claim("fp32"), Claim("fp64"), Claim("bf16", "fp32"))

    def __init__(self, device: str = "cpu"):
        from ddpm_ref.torch import forward

        super().__init__(device)
        # Not the package's name in words: the mutants are judged by this adapter, on a copy under another name.
        self._modules = modules_of(forward.__package__)

    def schedule(self, betas: Array) -> Handle:
        """The exact tables on the device."""
        from ddpm_ref.reference.schedule import NoiseSchedule
        from ddpm_ref.torch import tables

        return tables(NoiseSchedule.from_betas(betas)).to(self.device)

    def built(self, schedule: Handle) -> Handle:
        """The tables that the mirror builds itself from the betas, independently of the reference."""
        from ddpm_ref.torch import schedule as mirror

        return mirror.from_betas(schedule.beta[1:])

    def between(self, schedule: Handle, t: Native, s: Native) -> tuple[Native, Native]:
        """Coefficients of the steps, computed on the device from the two-word logarithm."""
        step = schedule.between(t, s)
        return step.alpha, step.beta

    def ancestral_plan(
        self, schedule: Handle, levels: tuple[int, ...], variance: str, form: str
    ) -> tuple[Native, Native, Native]:
        """The columns of a plan, from the mirror's own coefficients."""
        import torch

        from ddpm_ref.torch import posterior, reverse

        t, s = self._steps(levels)
        step = schedule.between(t, s)
        noise = reverse.reverse_variance(schedule, t, s, variance).sqrt() * torch.where(s > 0, 1.0, 0.0)
        if form == "eps":
            return step.recip_sqrt_alpha, -step.eps_weight, noise
        from_x0, from_xt = posterior.posterior_weights(schedule, t, s)
        return from_xt, from_x0, noise

    def ddim_plan(
        self, schedule: Handle, levels: tuple[int, ...], eta: float, form: str
    ) -> tuple[Native, Native, Native]:
        """The columns of a plan, from the mirror's own coefficients."""
        from ddpm_ref.torch import ddim

        t, s = self._steps(levels)
        member = ddim.member(schedule, t, s, eta)
        if form == "eps":
            return member.step.recip_sqrt_alpha, member.eps_weight, member.std
        return member.xt_weight, member.x0_weight, member.std

    def ddim_inversion_plan(self, schedule: Handle, levels: tuple[int, ...]) -> tuple[Native, Native]:
        """The columns of a plan that leads upwards, from the mirror's own coefficients."""
        from ddpm_ref.torch import ddim

        t, s = self._steps(levels[::-1])
        return ddim.inversion_weights(schedule, s, t)

    def log_softmax_gradient(self, logits: Native, jacobian: Native, label: Native) -> Native:
        """By automatic differentiation of a classifier that is linear in its input."""
        import torch

        from ddpm_ref.torch import guidance
        from ddpm_ref.torch.arguments import compute_dtype

        wide = compute_dtype(logits.dtype)

        def classifier(x: Native, time: Native) -> Native:
            return logits.to(wide) + torch.einsum("bkd,bd->bk", jacobian.to(wide), x.to(wide))

        origin = torch.zeros_like(jacobian[:, 0])
        return guidance.classifier_gradient(classifier, origin, torch.zeros(len(origin)), label)

    def closed_log_softmax_gradient(self, logits: Native, jacobian: Native, label: Native) -> Native:
        """By the function that is given the gradients of the logits."""
        from ddpm_ref.torch import guidance

        return guidance.log_softmax_gradient(logits, jacobian, label)

    def clipped_where(
        self, schedule: Handle, estimate: Native, t: Native, low: float, high: float
    ) -> tuple[Native, Native]:
        """The clipped variances, and a number for each: 1 where clipping acted, else 0."""
        from ddpm_ref.torch import analytic

        clipped, acted = analytic.clip_sigma_hat_squared(schedule, estimate, t, low, high)
        return clipped, acted.to(clipped.dtype)

    def analytic_plan(
        self,
        schedule: Handle,
        levels: tuple[int, ...],
        sigma_hat_squared: Native,
        eta: float,
        form: str,
        last_noise: str,
    ) -> tuple[Native, Native, Native]:
        """The columns of a plan, from the mirror's own coefficients."""
        import torch

        from ddpm_ref.torch import analytic, ddim

        t, s = self._steps(levels)
        member = ddim.member(schedule, t, s, eta)
        noise = analytic.analytic_std(schedule, t, s, sigma_hat_squared, eta)
        if last_noise == "none":
            noise = noise * torch.where(s > 0, 1.0, 0.0)
        if form == "eps":
            return member.step.recip_sqrt_alpha, member.eps_weight, noise
        return member.xt_weight, member.x0_weight, noise

    def ancestral_sample(
        self, schedule: Handle, levels: tuple[int, ...], network: Network, start: Native, noises: Native, variance: str
    ) -> Native:
        """`ddpm_ref.sampling.sample` along the reference's plan."""
        from ddpm_ref.reference import plan

        return self._sampled(
            plan.ancestral(self._exact(schedule), levels, variance, form="eps"), network, start, noises
        )

    def ddim_sample(
        self, schedule: Handle, levels: tuple[int, ...], network: Network, start: Native, noises: Native, eta: float
    ) -> Native:
        """`ddpm_ref.sampling.sample` along the reference's plan."""
        from ddpm_ref.reference import plan

        return self._sampled(plan.ddim(self._exact(schedule), levels, eta, form="eps"), network, start, noises)

    def spaced_levels(self, schedule: Handle, steps: int, spacing: str) -> Native:
        """Those of a named trajectory, which are whole numbers and the same everywhere."""
        import torch

        return torch.tensor(self._exact(schedule).trajectory(steps, spacing).levels, dtype=torch.float64)

    def ancestral_sample_spaced(
        self,
        schedule: Handle,
        steps: int,
        spacing: str,
        network: Network,
        start: Native,
        noises: Native,
        variance: str,
    ) -> Native:
        """`ddpm_ref.sampling.sample` on a named trajectory."""
        levels = self._exact(schedule).trajectory(steps, spacing).levels
        return self.ancestral_sample(schedule, levels, network, start, noises, variance)

    def ddim_sample_spaced(
        self,
        schedule: Handle,
        steps: int,
        spacing: str,
        network: Network,
        start: Native,
        noises: Native,
        eta: float,
    ) -> Native:
        """`ddpm_ref.sampling.sample` on a named trajectory."""
        levels = self._exact(schedule).trajectory(steps, spacing).levels
        return self.ddim_sample(schedule, levels, network, start, noises, eta)

    def ddim_invert(self, schedule: Handle, levels: tuple[int, ...], network: Network, data: Native) -> Native:
        """`ddpm_ref.sampling.sample` along the reference's plan."""
        from ddpm_ref.reference import plan

        return self._sampled(plan.ddim_inversion(self._exact(schedule), levels), network, data, [])

    def keyed_noise(self, seed: int, step: int, first: int, shape: tuple[int, ...]) -> Native:
        """`ddpm_ref.sampling.PhiloxNoise`."""
        import torch

        from ddpm_ref.sampling import PhiloxNoise

        return PhiloxNoise(seed, first).normal(step, shape, torch.float32, torch.device(self.device))

    def sample_from_seed(
        self, schedule: Handle, levels: tuple[int, ...], network: Network, seed: int, first: int, shape: tuple[int, ...]
    ) -> Native:
        """Ancestral sampling with Philox noise."""
        from ddpm_ref.reference import plan
        from ddpm_ref.sampling import PhiloxNoise, sample

        rows = plan.ancestral(self._exact(schedule), levels, form="eps")
        return sample(self._denoiser(network), shape, rows, PhiloxNoise(seed, first), device=self.device)

    def _exact(self, schedule: Handle) -> Any:
        return _schedule_of(schedule.beta[1:].cpu().numpy().tobytes())

    def _sampled(self, plan: Plan, network: Network, start: Native, noises: Native) -> Native:
        from ddpm_ref.sampling import sample

        return sample(
            self._denoiser(network),
            start.shape,
            plan,
            _Given(noises),
            start=start,
            dtype=start.dtype,
            device=self.device,
        )

    def _denoiser(self, network: Network) -> Any:
        from ddpm_ref.sampling import Denoiser

        return Denoiser(lambda x, time: network(x, int(time[0])), time_code="one_based")

    def _steps(self, levels: tuple[int, ...]) -> tuple[Native, Native]:
        """Where each step of a walk starts and ends."""
        import torch

        walk = torch.tensor(levels, device=self.device)
        return walk[:-1], walk[1:]

    def alpha_bar(self, schedule: Handle) -> Native:
        """A table that the mirror built."""
        return self.built(schedule).alpha_bar

    def beta_bar(self, schedule: Handle) -> Native:
        """A table that the mirror built."""
        return self.built(schedule).beta_bar

    def beta_tilde(self, schedule: Handle) -> Native:
        """A table that the mirror built."""
        return self.built(schedule).beta_tilde

    def snr(self, schedule: Handle) -> Native:
        """A table that the mirror built."""
        return self.built(schedule).snr

    def log_snr(self, schedule: Handle) -> Native:
        """A table that the mirror built."""
        return self.built(schedule).log_snr

    def simple_loss(
        self, schedule: Handle, x0: Native, t: Native, noise: Native, network: Callable[[Native, Native], Native]
    ) -> Native:
        """That of `ddpm_ref.training`, for a network that is told the paper's levels."""
        from ddpm_ref.sampling import Denoiser
        from ddpm_ref.training import objective

        return objective.simple_loss(Denoiser(network, time_code="one_based"), schedule, objective.Draw(x0, t, noise))

    def network_time(self, t: Native, time_code: str) -> Native:
        """The clock of a `ddpm_ref.sampling.Denoiser`."""
        from ddpm_ref.sampling import Denoiser

        return Denoiser(lambda x, time: x, time_code=time_code).time(t).double()

    def sinusoidal_embedding(self, time: Native, dimension: int) -> Native:
        """`ddpm_ref.nn.sinusoidal_embedding` in the format of the time."""
        from ddpm_ref.nn import sinusoidal_embedding

        return sinusoidal_embedding(time, dimension, dtype=time.dtype)

    def normal_data_bound(
        self, schedule: Handle, levels: tuple[int, ...], mean: float, variance: float, kind: str
    ) -> tuple[Native, Native, Native, Native]:
        """From the terms of the mirror: each is a square of something of known mean square, beside what variances cost."""
        import torch

        from ddpm_ref.torch import bound, posterior, reverse

        t, s = self._steps(levels)
        left = schedule.beta_bar[t] * variance / (schedule.alpha_bar[t] * variance + schedule.beta_bar[t])
        inner = t[:-1], s[:-1], kind
        terms = bound.variance_term(schedule, *inner) + bound.loss_weight_x0(schedule, *inner) * left[:-1]
        if kind == "beta":
            last = reverse.reverse_variance(schedule, t[-1:], s[-1:], kind).log()
        else:
            last = posterior.posterior_log_variance(schedule, t[-1:], s[-1:], "replace", levels)
        data = bound.reconstruction_term(left[-1:].sqrt(), 0 * left[-1:], last, None)
        # A chain that starts lower has the prior term of the schedule cut there.
        cut = schedule if levels[0] == schedule.T else self.schedule(schedule.beta[1 : levels[0] + 1].cpu().numpy())
        size = torch.tensor([mean**2 + variance, variance], dtype=torch.float64, device=self.device)
        prior = bound.prior_term(cut, size[:1].sqrt())
        entropy = bound.reconstruction_term(size[1:].sqrt(), 0 * size[1:], size[1:].log(), None)
        return prior.sum(), terms, data.sum(), entropy.sum()

    def linear_betas(self, T: int, beta_1: float, beta_T: float) -> Native:
        """The betas of the mirror's own linear schedule."""
        from ddpm_ref.torch import schedule as mirror

        return mirror.linear_betas(T, beta_1, beta_T, device=self.device)

    def cosine_betas(self, T: int, s: float, max_beta: float) -> Native:
        """The betas of the mirror's own cosine schedule."""
        from ddpm_ref.torch import schedule as mirror

        return mirror.cosine_betas(T, s, max_beta, device=self.device)

    def laplace_betas(self, T: int) -> Native:
        """The betas of the mirror's own Laplace schedule."""
        from ddpm_ref.torch import schedule as mirror

        return mirror.laplace_betas(T, device=self.device)

    def replaced_log_variance(self, schedule: Handle, levels: tuple[int, ...]) -> Native:
        """Of the steps of a trajectory, the last by the rule "replace"."""
        from ddpm_ref.torch import posterior

        return posterior.posterior_log_variance(schedule, *self._steps(levels), "replace", levels)

    def replaced_fixed_large_log_variance(self, schedule: Handle, levels: tuple[int, ...]) -> Native:
        """Of the steps of a trajectory, the last by the rule "replace"."""
        from ddpm_ref.torch import reverse

        return reverse.fixed_large_log_variance(schedule, *self._steps(levels), "replace", levels)

    def floored_log_variance(self, schedule: Handle) -> Native:
        """Of every level, by the rule "floor"."""
        from ddpm_ref.torch import posterior

        return posterior.posterior_log_variance(schedule, *self._steps(tuple(range(schedule.T, -1, -1))), "floor").flip(
            0
        )
