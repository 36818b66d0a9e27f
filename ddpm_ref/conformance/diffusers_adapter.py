"""Adapters for diffusers: its DDPM and DDIM schedulers, their parallel versions, and users' subclasses of them.

A scheduler of diffusers counts levels from 0 (the paper's t is its t - 1; it has no index for clean data) and keeps float32
tables. Data in float64 are therefore handed to a second scheduler, made by the same code while ``torch.float32`` means
float64 to it: what is wrong there is wrong in the logic, not in the digits of a table.

How the questions of the laws are put:

* Any step ``(t, s)``: `DDPMScheduler` is given the custom timesteps ``[t - 1, s - 1]``. `DDIMScheduler` has no such list and
  goes down by ``num_train_timesteps // num_inference_steps``, so for a single step it is told a chain of ``t - s`` levels and
  one inference step. The lists it makes itself are judged by the laws of the subject ``spacing``.
* Noise that a step draws is replaced by the given one (`own_noise`).
* The prediction type is that of the question: ``epsilon`` for eps, ``sample`` for x0, ``v_prediction`` for v.
* Clipping and thresholding are off unless the question is about them.
* `DDPMScheduler` never lets the posterior variance fall below 1e-20, because it may take its logarithm, and uses it only where
  noise is added: in answers about variances this floor is read as the 0 that it stands for.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance.adapters import TorchAdapter
from ddpm_ref.conformance.capabilities import Handle, Native, Network
from ddpm_ref.conformance.levelwise import as_batch, one_level_at_a_time
from ddpm_ref.conformance.own_noise import given_noise
from ddpm_ref.errors import AdapterError, LevelError
from ddpm_ref.extras import require
from ddpm_ref.typing import Array

FLOOR = 2e-20
KINDS = {"fixed_small": "posterior", "fixed_small_log": "posterior", "fixed_large": "beta", "fixed_large_log": "beta"}
NARROW = (Claim("fp32"), Claim("bf16"))
# What a question decides by itself, whatever a user's scheduler says.
ASKED = ("num_train_timesteps", "trained_betas", "prediction_type", "timestep_spacing", "variance_type", "steps_offset")


class Schedulers:
    """The schedulers of one class with some betas: one per configuration, with its float32 tables or with float64 ones."""

    def __init__(self, made: Any, betas: Array, config: dict[str, Any], *, wide: bool):
        self._made, self._betas, self._config, self._wide = made, betas, config, wide
        self._kept: dict[tuple[Any, ...], Any] = {}

    @property
    def length(self) -> int:
        """How many levels of noise there are."""
        return len(self._betas)

    def of(self, dtype: Any = None, **config: Any) -> Any:
        """The scheduler for data of a dtype (None: the most precise one) with this configuration."""
        import torch

        wide = self._wide and dtype in (None, torch.float64)
        key = (wide, *sorted(config.items()))
        if key not in self._kept:
            settings = {"num_train_timesteps": self.length, **self._config, **config}
            self._kept[key] = _constructed(self._made, wide, trained_betas=self._betas, **settings)
        return self._kept[key]


class DiffusersAdapter(TorchAdapter, ABC):
    """What the DDPM and DDIM schedulers of diffusers have in common; see the module for how questions are put.

    Args:
        scheduler: the name of a class in diffusers, a class with the same constructor, or a scheduler, such as
            ``pipeline.scheduler``, whose class and configuration are taken (betas, spacing and prediction type come from the
            laws).
        float64_tables: whether to claim float64 too, and answer there from float64 tables; without it all answers come from
            the scheduler as it is.
        device: of the data.

    Raises `AdapterError` for what is none of these, `MissingExtraError` without diffusers.
    """

    default = ""

    def __init__(self, scheduler: Any = None, *, float64_tables: bool = True, device: str = "cpu"):
        super().__init__(device)
        self._made, self._config = _class_and_config(scheduler or self.default)
        self._wide = float64_tables
        self.name = f"diffusers {require('diffusers', 'diffusers').__version__} {self._made.__name__}"
        self.claims: tuple[Claim, ...] = (Claim("fp64"), *NARROW) if float64_tables else NARROW

    def schedule(self, betas: Array) -> Handle:
        """A scheduler with these betas, once more for each configuration asked for."""
        return Schedulers(self._made, betas, self._config, wide=self._wide)

    # --- tables and named schedules ---------------------------------------------------------------------------------

    def alpha_bar(self, schedule: Handle) -> Native:
        """``alphas_cumprod``, with the 1 of clean data before it."""
        import torch

        table = schedule.of().alphas_cumprod
        return torch.cat([table.new_ones(1), table])

    def linear_betas(self, T: int, beta_1: float, beta_T: float) -> Native:
        """``beta_schedule="linear"``."""
        return _constructed(self._made, self._wide, num_train_timesteps=T, beta_start=beta_1, beta_end=beta_T).betas

    def spaced_levels(self, schedule: Handle, steps: int, spacing: str) -> Native:
        """``timesteps`` as the paper counts them, and the clean data they lead to."""
        import torch

        timesteps = self._spaced(schedule, torch.float64, steps, spacing).timesteps
        return torch.cat([timesteps + 1, timesteps.new_zeros(1)]).double()

    # --- forward process and predictions ----------------------------------------------------------------------------

    def q_sample(self, schedule: Handle, x0: Native, t: Native, noise: Native) -> Native:
        """``add_noise``."""
        scheduler = schedule.of(x0.dtype)
        return as_batch(lambda t, x0, noise: scheduler.add_noise(x0, noise, _indices(t)), t, x0, noise)

    def v_target(self, schedule: Handle, x0: Native, t: Native, noise: Native) -> Native:
        """``get_velocity``."""
        scheduler = schedule.of(x0.dtype)
        return as_batch(lambda t, x0, noise: scheduler.get_velocity(x0, noise, _indices(t)), t, x0, noise)

    def x0_from_eps(self, schedule: Handle, xt: Native, t: Native, value: Native) -> Native:
        """``pred_original_sample`` of a step."""
        return self._predicted(schedule, xt, t, value, prediction_type="epsilon")

    def x0_from_v(self, schedule: Handle, xt: Native, t: Native, value: Native) -> Native:
        """``pred_original_sample`` of a step."""
        return self._predicted(schedule, xt, t, value, prediction_type="v_prediction")

    def clip_x0(self, x0: Native) -> Native:
        """``pred_original_sample`` of a step with ``clip_sample``."""
        schedule = Schedulers(self._made, _TWO_BETAS, self._config | {"clip_sample": True}, wide=self._wide)
        return self._predicted(schedule, x0, 2, x0, prediction_type="sample")

    def dynamic_threshold(self, x0: Native, percentile: float, maximum: float = math.inf) -> Native:
        """``pred_original_sample`` of a step with ``thresholding``; its own largest threshold is 1, which leaves clipping."""
        if not x0.numel():
            return x0.clone()  # torch.quantile, which it calls, has no answer to nothing
        stage = {"thresholding": True, "dynamic_thresholding_ratio": percentile / 100, "sample_max_value": maximum}
        schedule = Schedulers(self._made, _TWO_BETAS, self._config | stage, wide=self._wide)
        return self._predicted(schedule, x0, 2, x0, prediction_type="sample", axes=3)

    def _predicted(
        self, schedule: Handle, xt: Native, t: Native, value: Native, *, axes: int = 2, **config: Any
    ) -> Native:
        def asked(t: int, s: int, x: Native, answer: Native) -> Native:
            return self._step(schedule.of(x.dtype, **config), t, s, answer, x, answer * 0).pred_original_sample

        return self._one_by_one(asked, t, t * 0, xt, value, axes=axes)

    # --- what DDPM and DDIM do differently --------------------------------------------------------------------------

    @abstractmethod
    def _step(self, scheduler: Any, t: int, s: int, answer: Native, x: Native, noise: Native, **arguments: Any) -> Any:
        """The output of one step with this noise."""

    def _one_by_one(
        self, function: Callable[..., Any], t: Native, s: Native, *tensors: Native, axes: int = 2
    ) -> Native:
        """Ask step by step, with data of at least ``axes`` axes, since schedulers look at the channels."""
        shape = tuple(tensors[0].shape)
        wide = (shape or (1,)) + (1,) * (axes - max(len(shape), 1))

        def asked(t: int, s: int, *rows: Native) -> Any:
            return function(t, s, *rows)

        return one_level_at_a_time(asked, t, s, *(x.reshape(wide) for x in tensors)).reshape(shape)

    def _spaced(self, schedule: Handle, dtype: Any, steps: int, spacing: str, **config: Any) -> Any:
        """A scheduler with the timesteps of a spacing."""
        scheduler = schedule.of(dtype, timestep_spacing=spacing, **config)
        scheduler.set_timesteps(steps)
        return scheduler


class DiffusersDDPM(DiffusersAdapter):
    """`DDPMScheduler`, or a scheduler with its methods.

    Args:
        variance_type: laws ask for both fixed variances; this is the name to use for that of its kind: ``fixed_small_log``
            instead of ``fixed_small``, ``fixed_large_log`` instead of ``fixed_large``.
        scheduler, float64_tables, device: see `DiffusersAdapter`.

    ``learned_range`` answers the law of the learned variance, whatever ``variance_type`` is. ``learned`` hands the network's
    second half through, as a variance: there is no formula to be judged.
    """

    default = "DDPMScheduler"

    def __init__(
        self,
        variance_type: str = "fixed_small",
        scheduler: Any = None,
        *,
        float64_tables: bool = True,
        device: str = "cpu",
    ):
        super().__init__(scheduler, float64_tables=float64_tables, device=device)
        if variance_type not in KINDS:
            raise AdapterError(
                f"variance_type = {variance_type!r} is no fixed variance; write one of {', '.join(KINDS)}"
            )
        self._types = {"posterior": "fixed_small", "beta": "fixed_large", KINDS[variance_type]: variance_type}
        self.name += f" ({', '.join(self._types.values())})"

    def laplace_betas(self, T: int) -> Native:
        """``beta_schedule="laplace"``."""
        return _constructed(self._made, self._wide, num_train_timesteps=T, beta_schedule="laplace").betas

    def beta_tilde(self, schedule: Handle) -> Native:
        """The variances of single steps of the whole chain."""
        import torch

        levels = torch.arange(1, schedule.length + 1)
        table = self.reverse_variance(schedule, levels, levels - 1, "posterior")
        return torch.cat([table.new_zeros(1), table])

    def reverse_variance(self, schedule: Handle, t: Native, s: Native, kind: str) -> Native:
        """The square of what a step multiplies its noise by: of ``fixed_small_log`` the root comes, of all others the square."""
        import torch

        def variance(t: int, s: int) -> Native:
            scheduler = schedule.of(variance_type=self._types[kind])
            _walk(scheduler, t, s)
            value = scheduler._get_variance(t - 1)
            return value**2 if self._types[kind] == "fixed_small_log" else value

        found = torch.as_tensor(one_level_at_a_time(variance, t, s))
        return torch.where(found.abs() <= FLOOR, 0.0 * found, found)

    def learned_variance(self, schedule: Handle, t: Native, s: Native, fraction: Native) -> Native:
        """``learned_range``, whose network answers 2 v - 1 where the paper's answers v, and whose variance is a logarithm."""

        def variance(t: int, s: int, fraction: Native) -> Native:
            scheduler = schedule.of(fraction.dtype, variance_type="learned_range")
            _walk(scheduler, t, s)
            return scheduler._get_variance(t - 1, predicted_variance=2 * fraction - 1).exp()

        return one_level_at_a_time(variance, t, s, fraction)

    def model_mean_from_eps(self, schedule: Handle, xt: Native, t: Native, s: Native, eps: Native) -> Native:
        """A step whose noise is 0."""
        return self._mean(schedule, xt, t, s, eps, prediction_type="epsilon")

    def model_mean_from_x0(self, schedule: Handle, xt: Native, t: Native, s: Native, x0: Native) -> Native:
        """A step whose noise is 0."""
        return self._mean(schedule, xt, t, s, x0, prediction_type="sample")

    def ancestral_step(
        self, schedule: Handle, xt: Native, t: Native, s: Native, eps: Native, noise: Native, variance: str
    ) -> Native:
        """A step with the noise given."""
        config = {"prediction_type": "epsilon", "variance_type": self._types[variance]}

        def step(t: int, s: int, x: Native, eps: Native, noise: Native) -> Native:
            return self._step(schedule.of(x.dtype, **config), t, s, eps, x, noise).prev_sample

        return self._one_by_one(step, t, s, xt, eps, noise)

    def ancestral_sample(
        self, schedule: Handle, levels: tuple[int, ...], network: Network, start: Native, noises: Native, variance: str
    ) -> Native:
        """All steps of a list of custom timesteps."""
        scheduler = schedule.of(start.dtype, variance_type=self._types[variance])
        scheduler.set_timesteps(timesteps=[t - 1 for t in levels[:-1]])
        return self._sampled(scheduler, network, start, noises)

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
        """All steps of the timesteps that the scheduler makes."""
        scheduler = self._spaced(schedule, start.dtype, steps, spacing, variance_type=self._types[variance])
        return self._sampled(scheduler, network, start, noises)

    def _sampled(self, scheduler: Any, network: Network, x: Native, noises: Native) -> Native:
        for k, t in enumerate(scheduler.timesteps):
            with given_noise([noises[k]]):
                x = scheduler.step(network(x, int(t) + 1), t, x).prev_sample
        return x

    def _mean(self, schedule: Handle, xt: Native, t: Native, s: Native, value: Native, **config: Any) -> Native:
        def step(t: int, s: int, x: Native, answer: Native) -> Native:
            return self._step(schedule.of(x.dtype, **config), t, s, answer, x, answer * 0).prev_sample

        return self._one_by_one(step, t, s, xt, value)

    def _step(self, scheduler: Any, t: int, s: int, answer: Native, x: Native, noise: Native, **arguments: Any) -> Any:
        _walk(scheduler, t, s)
        with given_noise([noise]):
            return scheduler.step(answer, t - 1, x, **arguments)


class DiffusersDDIM(DiffusersAdapter):
    """`DDIMScheduler`, or a scheduler with its methods; see `DiffusersAdapter` for the arguments."""

    default = "DDIMScheduler"

    def ddim_std(self, schedule: Handle, t: Native, s: Native, eta: float) -> Native:
        """What a step makes of noise 1, all else being 0."""
        import torch

        def std(t: int, s: int) -> Native:
            scheduler = schedule.of(prediction_type="v_prediction")  # the one that divides by nothing
            zero = torch.zeros((1, 1), dtype=scheduler.alphas_cumprod.dtype, device=self.device)
            return self._step(scheduler, t, s, zero, zero, zero + 1, eta=eta).prev_sample[0, 0]

        return torch.as_tensor(one_level_at_a_time(std, t, s))

    def ddim_step_from_eps(
        self, schedule: Handle, xt: Native, t: Native, s: Native, eps: Native, noise: Native, eta: float
    ) -> Native:
        """A step with the noise given, for a network that predicts noise."""
        return self._stepped(schedule, xt, t, s, eps, noise, eta, prediction_type="epsilon")

    def ddim_step_from_x0(
        self, schedule: Handle, xt: Native, t: Native, s: Native, x0: Native, noise: Native, eta: float
    ) -> Native:
        """A step with the noise given, for a network that predicts data."""
        return self._stepped(schedule, xt, t, s, x0, noise, eta, prediction_type="sample")

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
        """All steps of the timesteps that the scheduler makes."""
        scheduler, x = self._spaced(schedule, start.dtype, steps, spacing), start
        for k, t in enumerate(scheduler.timesteps):
            noise = noises[k] if eta > 0 else None
            x = scheduler.step(network(x, int(t) + 1), t, x, eta=eta, variance_noise=noise).prev_sample
        return x

    def _stepped(
        self,
        schedule: Handle,
        xt: Native,
        t: Native,
        s: Native,
        value: Native,
        noise: Native,
        eta: float,
        **config: Any,
    ) -> Native:
        def step(t: int, s: int, x: Native, answer: Native, noise: Native) -> Native:
            return self._step(schedule.of(x.dtype, **config), t, s, answer, x, noise, eta=eta).prev_sample

        return self._one_by_one(step, t, s, xt, value, noise)

    def _step(self, scheduler: Any, t: int, s: int, answer: Native, x: Native, noise: Native, **arguments: Any) -> Any:
        _stride(scheduler, t - s)
        noise = noise if arguments.get("eta", 0.0) > 0 else None
        return scheduler.step(answer, t - 1, x, variance_noise=noise, **arguments)


class DiffusersDDPMParallel(DiffusersDDPM):
    """`DDPMParallelScheduler`: means come from ``batch_step_no_noise``, and noise is added as its pipeline does.

    See `DiffusersDDPM` for the arguments.
    """

    default = "DDPMParallelScheduler"

    def _mean(self, schedule: Handle, xt: Native, t: Native, s: Native, value: Native, **config: Any) -> Native:
        def step(t: int, s: int, x: Native, answer: Native) -> Native:
            scheduler = schedule.of(x.dtype, **config)
            _stride(scheduler, t - s)
            return _without_noise(scheduler, answer, t - 1, x)

        return self._one_by_one(step, t, s, xt, value)

    def _sampled(self, scheduler: Any, network: Network, x: Native, noises: Native) -> Native:
        for k, t in enumerate(scheduler.timesteps):
            x = _without_noise(scheduler, network(x, int(t) + 1), int(t), x)
            if t > 0:
                x = x + scheduler._get_variance(t) ** 0.5 * noises[k]
        return x

    def __getattribute__(self, name: str) -> Any:
        # Its stride is that of the whole chain: there are no lists of custom timesteps.
        if name == "ancestral_sample":
            raise AttributeError(name)
        return super().__getattribute__(name)


class DiffusersDDIMParallel(DiffusersDDIM):
    """`DDIMParallelScheduler`: at ``eta = 0``, the only eta it takes, steps come from ``batch_step_no_noise``.

    See `DiffusersAdapter` for the arguments.
    """

    default = "DDIMParallelScheduler"

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
        """All steps of the timesteps that the scheduler makes."""
        if eta > 0:
            return super().ddim_sample_spaced(schedule, steps, spacing, network, start, noises, eta)
        scheduler, x = self._spaced(schedule, start.dtype, steps, spacing), start
        for t in scheduler.timesteps.tolist():
            x = _without_noise(scheduler, network(x, t + 1), t, x)
        return x

    def _stepped(
        self,
        schedule: Handle,
        xt: Native,
        t: Native,
        s: Native,
        value: Native,
        noise: Native,
        eta: float,
        **config: Any,
    ) -> Native:
        if eta > 0:
            return super()._stepped(schedule, xt, t, s, value, noise, eta, **config)

        def step(t: int, s: int, x: Native, answer: Native) -> Native:
            scheduler = schedule.of(x.dtype, **config)
            _stride(scheduler, t - s)
            return _without_noise(scheduler, answer, t - 1, x)

        return self._one_by_one(step, t, s, xt, value)


_TWO_BETAS: Array = np.array([0.25, 0.5])


def _class_and_config(scheduler: Any) -> tuple[Any, dict[str, Any]]:
    """The class to make schedulers of, and how: without clipping, and with what a user's own has been told besides."""
    diffusers = require("diffusers", "diffusers")
    plain = {"clip_sample": False}
    if isinstance(scheduler, str):
        if not hasattr(diffusers, scheduler):
            raise AdapterError(
                f"diffusers has no {scheduler!r}; write the name of a scheduler, such as 'DDPMScheduler'"
            )
        return getattr(diffusers, scheduler), plain
    if isinstance(scheduler, type):
        return scheduler, plain
    if not hasattr(scheduler, "config"):
        raise AdapterError(f"{scheduler!r} is no scheduler of diffusers; write a name, a class, or pipeline.scheduler")
    ignored = (*ASKED, "thresholding", "clip_sample")
    told = {k: v for k, v in scheduler.config.items() if not k.startswith("_") and k not in ignored}
    return type(scheduler), told | plain


def _constructed(made: Any, wide: bool, **settings: Any) -> Any:
    """A scheduler, as it is or with float64 tables."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Wide(TorchFunctionMode):
        """Whoever asks for float32 gets float64."""

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            asked = {k: torch.float64 if v is torch.float32 else v for k, v in (kwargs or {}).items()}
            return function(*args, **asked)

    if not wide:
        return made(**settings)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with Wide():
            return made(**settings)
    finally:
        torch.set_default_dtype(usual)


def _walk(scheduler: Any, t: int, s: int) -> None:
    """Make (t, s) the first step of the scheduler's list."""
    scheduler.set_timesteps(timesteps=[t - 1, s - 1] if s else [t - 1])


def _stride(scheduler: Any, levels: int) -> None:
    """Make every step of the scheduler go down by so many levels."""
    scheduler.register_to_config(num_train_timesteps=levels)
    scheduler.set_timesteps(1)


def _without_noise(scheduler: Any, answer: Native, index: int, x: Native) -> Native:
    import torch

    return scheduler.batch_step_no_noise(answer, torch.full((len(x),), index, device=x.device), x)


def _indices(t: Native) -> Native:
    """From the paper's levels to theirs."""
    if bool((t < 1).any()):
        raise LevelError("level 0, clean data, has no index in diffusers; its t = 0 is the paper's level 1")
    return t - 1
