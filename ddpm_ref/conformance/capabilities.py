"""What adapters may be asked: small capabilities, each a method; nobody must have them all.

A law names the methods it needs; an adapter without them is "not applicable". Levels are always the paper's (level 0 is
clean data).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

Native = Any  # whatever array type the implementation uses
Handle = Any  # whatever the implementation makes from betas
Network = Callable[[Any, int], Any]  # eps-prediction in a state at a level, in arrays of the implementation


class Tables(Protocol):
    """Tables of length ``T + 1``, indexed by the paper's level, built by the implementation from its betas."""

    def alpha_bar(self, schedule: Handle) -> Native:
        """See ``ddpm_ref.NoiseSchedule.alpha_bar``."""

    def beta_bar(self, schedule: Handle) -> Native:
        """See ``ddpm_ref.NoiseSchedule.beta_bar``."""

    def beta_tilde(self, schedule: Handle) -> Native:
        """See ``ddpm_ref.NoiseSchedule.beta_tilde``."""

    def snr(self, schedule: Handle) -> Native:
        """See ``ddpm_ref.NoiseSchedule.snr``."""

    def log_snr(self, schedule: Handle) -> Native:
        """See ``ddpm_ref.NoiseSchedule.log_snr``."""


class Pairs(Protocol):
    """``alpha_{t|s}`` and ``beta_{t|s}`` of arbitrary steps."""

    def between(self, schedule: Handle, t: Native, s: Native) -> tuple[Native, Native]:
        """See ``ddpm_ref.NoiseSchedule.between``."""


class Forward(Protocol):
    """The forward process; see `ddpm_ref.reference.forward` for every argument."""

    def q_sample(self, schedule: Handle, x0: Native, t: Native, noise: Native) -> Native:
        """See ``ddpm_ref.reference.forward.q_sample``."""

    def forward_step(self, schedule: Handle, x_prev: Native, t: Native, noise: Native) -> Native:
        """See ``ddpm_ref.reference.forward.forward_step``."""


class Posterior(Protocol):
    """The posterior of the forward process; see `ddpm_ref.reference.posterior`."""

    def q_posterior(self, schedule: Handle, x0: Native, xt: Native, t: Native, s: Native) -> tuple[Native, Native]:
        """See ``ddpm_ref.reference.posterior.q_posterior``."""

    def posterior_variance(self, schedule: Handle, t: Native, s: Native) -> Native:
        """See ``ddpm_ref.reference.posterior.posterior_variance``."""


class Conversion(Protocol):
    """Conversions between predictions; see `ddpm_ref.reference.prediction`."""

    def x0_from_eps(self, schedule: Handle, xt: Native, t: Native, value: Native) -> Native:
        """See ``ddpm_ref.reference.prediction.x0_from_eps``."""

    def x0_from_v(self, schedule: Handle, xt: Native, t: Native, value: Native) -> Native:
        """See ``ddpm_ref.reference.prediction.x0_from_v``."""


class Reverse(Protocol):
    """The reverse model; see `ddpm_ref.reference.reverse`."""

    def model_mean_from_eps(self, schedule: Handle, xt: Native, t: Native, s: Native, eps: Native) -> Native:
        """See ``ddpm_ref.reference.reverse.model_mean_from_eps``."""

    def reverse_variance(self, schedule: Handle, t: Native, s: Native, kind: str) -> Native:
        """See ``ddpm_ref.reference.reverse.reverse_variance``."""


class Ancestral(Protocol):
    """One step of ancestral sampling; see `ddpm_ref.reference.ancestral`."""

    def ancestral_step(
        self, schedule: Handle, xt: Native, t: Native, s: Native, eps: Native, noise: Native, variance: str
    ) -> Native:
        """See ``ddpm_ref.reference.ancestral.ancestral_step``."""


class Ddim(Protocol):
    """The DDIM family; see `ddpm_ref.reference.ddim`."""

    def ddim_posterior(
        self, schedule: Handle, x0: Native, xt: Native, t: Native, s: Native, eta: float
    ) -> tuple[Native, Native]:
        """See ``ddpm_ref.reference.ddim.ddim_posterior``."""

    def ddim_step(
        self, schedule: Handle, x0: Native, eps: Native, t: Native, s: Native, noise: Native, eta: float
    ) -> Native:
        """See ``ddpm_ref.reference.ddim.ddim_step``."""


class Plans(Protocol):
    """The rows of samplers on a trajectory (a tuple of descending levels that ends with 0), one array per column."""

    def ancestral_plan(
        self, schedule: Handle, levels: tuple[int, ...], variance: str, form: str
    ) -> tuple[Native, Native, Native]:
        """Coefficients of x, prediction and noise; see ``ddpm_ref.reference.plan.ancestral``."""

    def ddim_plan(
        self, schedule: Handle, levels: tuple[int, ...], eta: float, form: str
    ) -> tuple[Native, Native, Native]:
        """Coefficients of x, prediction and noise; see ``ddpm_ref.reference.plan.ddim``."""

    def ddim_inversion_plan(self, schedule: Handle, levels: tuple[int, ...]) -> tuple[Native, Native]:
        """Coefficients of x and eps, upwards from level 0; see ``ddpm_ref.reference.plan.ddim_inversion``."""


class Guidance(Protocol):
    """Guidance by a classifier or without; see `ddpm_ref.reference.guidance`. Scales and weights are floats."""

    def classifier_free(
        self,
        eps_conditional: Native,
        eps_unconditional: Native,
        *,
        guidance_weight: float | None = None,
        guidance_scale: float | None = None,
    ) -> Native:
        """See ``ddpm_ref.reference.guidance.classifier_free``."""

    def classifier_guided_eps(
        self, schedule: Handle, eps: Native, t: Native, gradient: Native, classifier_scale: float
    ) -> Native:
        """See ``ddpm_ref.reference.guidance.classifier_guided_eps``."""

    def guided_ancestral_step(
        self,
        schedule: Handle,
        xt: Native,
        t: Native,
        s: Native,
        eps: Native,
        gradient: Native,
        noise: Native,
        classifier_scale: float,
        variance: str,
    ) -> Native:
        """See ``ddpm_ref.reference.guidance.guided_ancestral_step``."""

    def log_softmax_gradient(self, logits: Native, jacobian: Native, label: Native) -> Native:
        """Of a classifier with these logits and these gradients of them; see ``ddpm_ref.reference.guidance``."""


class Analytic(Protocol):
    """Analytic-DPM; see `ddpm_ref.reference.analytic`. Statistics are in the shape of the levels."""

    def sigma_hat_squared(self, schedule: Handle, t: Native, eps_mean_square: Native) -> Native:
        """See ``ddpm_ref.reference.analytic.sigma_hat_squared``."""

    def analytic_variance(
        self, schedule: Handle, t: Native, s: Native, sigma_hat_squared: Native, eta: float
    ) -> Native:
        """See ``ddpm_ref.reference.analytic.analytic_variance``."""

    def analytic_variance_bounds(
        self, schedule: Handle, t: Native, s: Native, low: float, high: float, eta: float
    ) -> tuple[Native, Native]:
        """See ``ddpm_ref.reference.analytic.analytic_variance_bounds``."""

    def clip_sigma_hat_squared(
        self, schedule: Handle, sigma_hat_squared: Native, t: Native, low: float, high: float
    ) -> tuple[Native, object]:
        """The clipped variances first, and whatever says what was clipped."""

    def analytic_plan(
        self,
        schedule: Handle,
        levels: tuple[int, ...],
        sigma_hat_squared: Native,
        eta: float,
        form: str,
        last_noise: str,
    ) -> tuple[Native, Native, Native]:
        """Coefficients of x, prediction and noise, from one variance of x0 per step; see ``ddpm_ref.reference.plan.analytic``."""


class Samplers(Protocol):
    """A whole sampler on a trajectory (a tuple of descending levels that ends with 0), with network and noise given.

    ``network(x, t)`` predicts the noise in a state at the paper's level t; ``noises`` holds one array like ``start`` per
    step, that of a step without noise unused.
    """

    def ancestral_sample(
        self, schedule: Handle, levels: tuple[int, ...], network: Network, start: Native, noises: Native, variance: str
    ) -> Native:
        """The samples; see ``ddpm_ref.sampling.sample`` with ``ddpm_ref.reference.plan.ancestral``."""

    def ddim_sample(
        self, schedule: Handle, levels: tuple[int, ...], network: Network, start: Native, noises: Native, eta: float
    ) -> Native:
        """The samples; see ``ddpm_ref.sampling.sample`` with ``ddpm_ref.reference.plan.ddim``."""

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
        """The same on the implementation's own trajectory of so many steps: "leading", "linspace" or "trailing"."""

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
        """The same on the implementation's own trajectory."""

    def ddim_invert(self, schedule: Handle, levels: tuple[int, ...], network: Network, data: Native) -> Native:
        """From data up to the first level; see ``ddpm_ref.reference.plan.ddim_inversion``."""


class Spacings(Protocol):
    """The trajectories that an implementation makes itself; see ``ddpm_ref.NoiseSchedule.trajectory``."""

    def spaced_levels(self, schedule: Handle, steps: int, spacing: str) -> Native:
        """The levels, downwards, and the 0 they lead to, as an array: "leading", "linspace" or "trailing"."""


class NamedSchedules(Protocol):
    """Betas of schedules with a name, of shape ``(T,)``; see `ddpm_ref.reference.named_schedules`."""

    def laplace_betas(self, T: int) -> Native:
        """See ``ddpm_ref.laplace_schedule``."""


class Noise(Protocol):
    """Random numbers of samples that may be drawn in any batches."""

    def keyed_noise(self, seed: int, step: int, first: int, shape: tuple[int, ...]) -> Native:
        """Standard normal numbers of the samples ``first, first + 1, ...`` at a step; shape (batch, *event)."""

    def sample_from_seed(
        self, schedule: Handle, levels: tuple[int, ...], network: Network, seed: int, first: int, shape: tuple[int, ...]
    ) -> Native:
        """Samples of the indices ``first, first + 1, ...``, by any sampler, with noise of its own."""


class Divergence(Protocol):
    """Divergences of Gaussians; see `ddpm_ref.reference.divergence`."""

    def kl_normal(self, mean1: Native, variance1: Native, mean2: Native, variance2: Native) -> Native:
        """See ``ddpm_ref.reference.divergence.kl_normal``."""

    def kl_normal_logvar(self, mean1: Native, logvar1: Native, mean2: Native, logvar2: Native) -> Native:
        """See ``ddpm_ref.reference.divergence.kl_normal_logvar``."""


class Decoder(Protocol):
    """The discretised decoder; see `ddpm_ref.reference.decoder`. Grey levels are whole numbers, ``levels`` their count, an int."""

    def discretized_gaussian_log_likelihood(
        self, level_index: Native, mean: Native, std: Native, levels: int
    ) -> Native:
        """See ``ddpm_ref.reference.decoder.discretized_gaussian_log_likelihood``."""


class Scaling(Protocol):
    """Scaling of data; see `ddpm_ref.reference.scaling`."""

    def from_unit(self, u: Native) -> Native:
        """See ``ddpm_ref.reference.scaling.from_unit``."""

    def to_unit(self, x: Native) -> Native:
        """See ``ddpm_ref.reference.scaling.to_unit``."""

    def from_level_index(self, level_index: Native, levels: int) -> Native:
        """See ``ddpm_ref.reference.scaling.from_level_index``."""

    def to_level_index(self, x: Native, levels: int) -> Native:
        """See ``ddpm_ref.reference.scaling.to_level_index``."""


class Bound(Protocol):
    """The variational bound; see `ddpm_ref.reference.bound`. Log-variances have the shape of the data or are one number."""

    def denoising_term(
        self, schedule: Handle, x0: Native, xt: Native, t: Native, s: Native, mean: Native, log_variance: Native | float
    ) -> Native:
        """See ``ddpm_ref.reference.bound.denoising_term``."""

    def reconstruction_term(self, x0: Native, mean: Native, log_variance: Native, levels: int | None) -> Native:
        """See ``ddpm_ref.reference.bound.reconstruction_term``."""

    def bound_term(
        self,
        schedule: Handle,
        x0: Native,
        xt: Native,
        t: Native,
        s: Native,
        mean: Native,
        log_variance: Native,
        levels: int | None,
    ) -> Native:
        """See ``ddpm_ref.reference.bound.bound_term``."""

    def loss_weight_eps(self, schedule: Handle, t: Native, s: Native, variance: str) -> Native:
        """See ``ddpm_ref.reference.bound.loss_weight_eps``."""

    def normal_data_bound(
        self, schedule: Handle, levels: tuple[int, ...], mean: float, variance: float, kind: str
    ) -> tuple[Native, Native, Native, Native]:
        """Prior term, divergences step by step, term of the data, entropy; see ``ddpm_ref.reference.oracle.exact_bound``."""


class Objectives(Protocol):
    """What training minimises; see `ddpm_ref.reference.objectives`."""

    def simple_l2(self, target: Native, prediction: Native) -> Native:
        """See ``ddpm_ref.reference.objectives.simple_l2``."""

    def hybrid(self, simple: Native, vlb: Native, vlb_weight: float = 0.001) -> Native:
        """See ``ddpm_ref.reference.objectives.hybrid``."""

    def simple_loss(
        self, schedule: Handle, x0: Native, t: Native, noise: Native, network: Callable[[Native, Native], Native]
    ) -> Native:
        """Per example, of a network that is handed noisy data and the paper's levels and predicts the noise."""

    def antithetic_levels(self, uniform: float, count: int, T: int) -> Native:
        """See ``ddpm_ref.reference.objectives.antithetic_levels``."""

    def importance_weights(self, probabilities: Native) -> Native:
        """See ``ddpm_ref.reference.objectives.importance_weights``."""

    def network_time(self, t: Native, time_code: str) -> Native:
        """What a network is told at the paper's levels: ``"zero_based"`` or ``"one_based"``."""

    def sinusoidal_embedding(self, time: Native, dimension: int) -> Native:
        """Of times ``(batch,)``, shape ``(batch, dimension)``, in the format of the times; see ``ddpm_ref.nn``."""
