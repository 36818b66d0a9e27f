"""The adapter of `ddpm_ref.reference`: the truth, held against the same laws as everybody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance.adapters import NumpyAdapter
from ddpm_ref.conformance.capabilities import Handle, Native, Network
from ddpm_ref.conformance.functions import Functions, modules_of
from ddpm_ref.typing import Array

if TYPE_CHECKING:
    from ddpm_ref.reference.plan import Plan


@dataclass(frozen=True)
class _Built:
    """A schedule with all its tables, and whether a signal is left at its end."""

    schedule: Handle

    @property
    def zero_terminal_snr(self) -> bool:
        """Whether none is."""
        return bool(self.schedule.alpha_bar[-1] == 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.schedule, name)


TINY = 1e-200  # a complex step: its square underflows, so that the derivative has no error but those of the function


class ReferenceAdapter(Functions, NumpyAdapter):
    """`ddpm_ref.reference` itself, held against the same laws as everybody (its tables are tested by equality besides)."""

    name = "ddpm_ref.reference"
    claims: tuple[Claim, ...] = (Claim("fp64"),)

    def __init__(self) -> None:
        self._modules = modules_of("ddpm_ref.reference")

    def schedule(self, betas: Array) -> Handle:
        """The exact schedule."""
        from ddpm_ref.reference.schedule import NoiseSchedule

        return NoiseSchedule.from_betas(betas)

    def between(self, schedule: Handle, t: Native, s: Native) -> tuple[Native, Native]:
        """Exact coefficients of the steps."""
        step = schedule.between(t, s)
        return step.alpha, step.beta

    def built(self, schedule: Handle) -> Handle:
        """The tables of the schedule."""
        return _Built(schedule)

    def clipped_where(
        self, schedule: Handle, estimate: Native, t: Native, low: float, high: float
    ) -> tuple[Native, Native]:
        """The clipped variances, and a number for each: 1 where clipping acted, else 0."""
        from ddpm_ref.reference import analytic

        clipped, _ = analytic.clip_sigma_hat_squared(schedule, estimate, t, low, high)
        return clipped, 1.0 * (clipped != estimate)

    def closed_log_softmax_gradient(self, logits: Native, jacobian: Native, label: Native) -> Native:
        """The function that is given the gradients of the logits."""
        return self.log_softmax_gradient(logits, jacobian, label)

    def classifier_gradient(
        self, classifier: Callable[[Native, Native], Native], x: Native, t: Native, label: Native
    ) -> Native:
        """By a complex step in each element of the input."""
        gradient = np.zeros(x.shape)
        for place in np.ndindex(x.shape[1:]):
            step = np.zeros(x.shape[1:], dtype=np.complex128)
            step[place] = TINY * 1j
            logits = classifier(x + step, t)
            above = logits - logits.real.max(axis=1, keepdims=True)
            # The imaginary part of the logarithm of the softmax: a weighted mean of those of the logits, subtracted.
            shares = np.exp(above.real) / np.exp(above.real).sum(axis=1, keepdims=True)
            own = np.take_along_axis(logits.imag, label[:, None], 1)
            gradient[:, *place] = (shares * (own - logits.imag)).sum(axis=1) / TINY
        return gradient

    def strided_betas(self, schedule: Handle, levels: tuple[int, ...]) -> Native:
        """The betas of the strided chain."""
        from ddpm_ref.reference import ddim
        from ddpm_ref.reference.trajectory import Trajectory

        return ddim.strided_betas(schedule, Trajectory(levels))

    def ancestral_plan(
        self, schedule: Handle, levels: tuple[int, ...], variance: str, form: str
    ) -> tuple[Native, Native, Native]:
        """The columns of a plan."""
        from ddpm_ref.reference import plan

        rows = plan.ancestral(schedule, levels, variance, form=form)
        return rows.x, rows.prediction, rows.noise

    def ddim_plan(
        self, schedule: Handle, levels: tuple[int, ...], eta: float, form: str
    ) -> tuple[Native, Native, Native]:
        """The columns of a plan."""
        from ddpm_ref.reference import plan

        rows = plan.ddim(schedule, levels, eta, form=form)
        return rows.x, rows.prediction, rows.noise

    def ddim_inversion_plan(self, schedule: Handle, levels: tuple[int, ...]) -> tuple[Native, Native]:
        """The columns of a plan that leads upwards."""
        from ddpm_ref.reference import plan

        rows = plan.ddim_inversion(schedule, levels)
        return rows.x, rows.prediction

    def analytic_plan(
        self,
        schedule: Handle,
        levels: tuple[int, ...],
        sigma_hat_squared: Native,
        eta: float,
        form: str,
        last_noise: str,
    ) -> tuple[Native, Native, Native]:
        """The columns of a plan."""
        from ddpm_ref.reference import plan

        table = np.full(schedule.T + 1, np.nan)
        table[list(levels[:-1])] = sigma_hat_squared
        rows = plan.analytic(schedule, levels, table, eta, form=form, last_noise=last_noise)
        return rows.x, rows.prediction, rows.noise

    def ancestral_sample(
        self, schedule: Handle, levels: tuple[int, ...], network: Network, start: Native, noises: Native, variance: str
    ) -> Native:
        """Row after row of a plan."""
        from ddpm_ref.reference import plan

        return self._walked(plan.ancestral(schedule, levels, variance, form="eps"), network, start, noises)

    def ddim_sample(
        self, schedule: Handle, levels: tuple[int, ...], network: Network, start: Native, noises: Native, eta: float
    ) -> Native:
        """Row after row of a plan."""
        from ddpm_ref.reference import plan

        return self._walked(plan.ddim(schedule, levels, eta, form="eps"), network, start, noises)

    def spaced_levels(self, schedule: Handle, steps: int, spacing: str) -> Native:
        """Those of a named trajectory."""
        return np.array(schedule.trajectory(steps, spacing).levels, dtype=np.float64)

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
        """On a named trajectory."""
        levels = schedule.trajectory(steps, spacing).levels
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
        """On a named trajectory."""
        return self.ddim_sample(schedule, schedule.trajectory(steps, spacing).levels, network, start, noises, eta)

    def ddim_invert(self, schedule: Handle, levels: tuple[int, ...], network: Network, data: Native) -> Native:
        """Row after row of a plan that leads upwards."""
        from ddpm_ref.reference import plan

        return self._walked(plan.ddim_inversion(schedule, levels), network, data, [0.0] * len(levels))

    def _walked(self, plan: Plan, network: Network, x: Native, noises: Native) -> Native:
        for (_, _, a, b, c), asked, z in zip(plan.rows(), plan.asked, noises, strict=False):
            x = a * x + b * network(x, asked) + c * z
        return x

    def keyed_noise(self, seed: int, step: int, first: int, shape: tuple[int, ...]) -> Native:
        """NumPy's numbers, a generator for every sample and step."""
        samples = range(first, first + shape[0])
        drawn = [np.random.default_rng((seed, step, sample)).standard_normal(shape[1:]) for sample in samples]
        return np.reshape(drawn, shape)

    def sample_from_seed(
        self, schedule: Handle, levels: tuple[int, ...], network: Network, seed: int, first: int, shape: tuple[int, ...]
    ) -> Native:
        """Ancestral sampling with the numbers of `keyed_noise`."""
        start, *noises = (self.keyed_noise(seed, step, first, shape) for step in range(len(levels)))
        return self.ancestral_sample(schedule, levels, network, start, noises, "posterior")

    def normal_data_bound(
        self, schedule: Handle, levels: tuple[int, ...], mean: float, variance: float, kind: str
    ) -> tuple[Native, Native, Native, Native]:
        """Of the best network: the prior term, the divergences step by step, the term of the data, the entropy of the data."""
        from ddpm_ref.reference.oracle import Gaussian
        from ddpm_ref.reference.oracle.bound import exact_bound

        bound = exact_bound(schedule, levels, Gaussian(mean, variance), kind)
        return bound.prior, bound.terms, bound.reconstruction, bound.nll

    def simple_loss(
        self, schedule: Handle, x0: Native, t: Native, noise: Native, network: Callable[[Native, Native], Native]
    ) -> Native:
        """Of the noise that the network finds in noisy data."""
        from ddpm_ref.reference import forward, objectives

        return objectives.simple_l2(noise, network(forward.q_sample(schedule, x0, t, noise), t))

    def network_time(self, t: Native, time_code: str) -> Native:
        """The two clocks."""
        return t - {"zero_based": 1, "one_based": 0}[time_code]

    def sinusoidal_embedding(self, time: Native, dimension: int) -> Native:
        """Cosines, then sines; the reference has no networks, and none of their parts."""
        half = dimension // 2
        angles = time[:, None] * 10_000.0 ** (-np.arange(half) / half)
        return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)

    def linear_betas(self, T: int, beta_1: float, beta_T: float) -> Native:
        """The betas of the linear schedule."""
        from ddpm_ref.reference.named_schedules import linear_schedule

        return linear_schedule(T, beta_1, beta_T).beta[1:]

    def cosine_betas(self, T: int, s: float, max_beta: float) -> Native:
        """The betas of the cosine schedule."""
        from ddpm_ref.reference.named_schedules import cosine_schedule

        return cosine_schedule(T, s, max_beta).beta[1:]

    def laplace_betas(self, T: int) -> Native:
        """The betas of the Laplace schedule."""
        from ddpm_ref.reference.named_schedules import laplace_schedule

        return laplace_schedule(T).beta[1:]

    def replaced_log_variance(self, schedule: Handle, levels: tuple[int, ...]) -> Native:
        """Of the steps of a trajectory, the last by the rule "replace"."""
        from ddpm_ref.reference import posterior
        from ddpm_ref.reference.trajectory import Trajectory

        return posterior.posterior_log_variance(schedule, levels[:-1], levels[1:], "replace", Trajectory(levels))

    def replaced_fixed_large_log_variance(self, schedule: Handle, levels: tuple[int, ...]) -> Native:
        """Of the steps of a trajectory, the last by the rule "replace"."""
        from ddpm_ref.reference import reverse
        from ddpm_ref.reference.trajectory import Trajectory

        return reverse.fixed_large_log_variance(schedule, levels[:-1], levels[1:], "replace", Trajectory(levels))

    def floored_log_variance(self, schedule: Handle) -> Native:
        """Of every level, by the rule "floor"."""
        from ddpm_ref.reference import posterior

        t = np.arange(1, schedule.T + 1)
        return posterior.posterior_log_variance(schedule, t, t - 1, "floor")

    def alpha_bar(self, schedule: Handle) -> Native:
        """A table of the schedule."""
        return schedule.alpha_bar

    def beta_bar(self, schedule: Handle) -> Native:
        """A table of the schedule."""
        return schedule.beta_bar

    def beta_tilde(self, schedule: Handle) -> Native:
        """A table of the schedule."""
        return schedule.beta_tilde

    def snr(self, schedule: Handle) -> Native:
        """A table of the schedule."""
        return schedule.snr

    def log_snr(self, schedule: Handle) -> Native:
        """A table of the schedule."""
        return schedule.log_snr
