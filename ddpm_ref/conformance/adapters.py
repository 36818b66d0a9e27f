"""Adapters: how an implementation is asked. A set of small capabilities, each a method; nobody must have them all.

A foreign adapter subclasses `NumpyAdapter` or `TorchAdapter`, says how its schedule is made from betas and which claims
it keeps, and defines those of the methods below that it has an answer to. A law whose ``needs`` it does not define is
counted "not applicable". Levels are always the paper's (level 0 is clean data): converting to a 0-based index is the
adapter's first duty.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from ddpm_ref.arithmetic import Claim
from ddpm_ref.errors import AdapterError
from ddpm_ref.extras import require
from ddpm_ref.typing import Array, IntArray

if TYPE_CHECKING:
    from ddpm_ref.reference.plan import Plan

Native = Any  # whatever array type the implementation uses
Handle = Any  # whatever the implementation makes from betas
Network = Callable[[Any, int], Any]  # eps-prediction in a state at a level, in arrays of the implementation


@runtime_checkable
class Adapter(Protocol):
    """What the runner needs of every adapter, besides its capabilities."""

    name: str
    claims: tuple[Claim, ...]

    def schedule(self, betas: Array) -> Handle:
        """The implementation's own schedule object for these float64 betas of shape ``(T,)``."""

    def array(self, values: Array, claim: Claim) -> Native:
        """Numbers, exactly representable in the storage format of ``claim``, as the implementation's array type."""

    def levels(self, t: IntArray) -> Native:
        """Levels of the paper: an int for a scalar, otherwise an integer array of the implementation."""

    def numpy(self, result: Native) -> Array:
        """A result back as float64, exactly."""


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

    def ddim_invert(self, schedule: Handle, levels: tuple[int, ...], network: Network, data: Native) -> Native:
        """From data up to the first level; see ``ddpm_ref.reference.plan.ddim_inversion``."""


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


NUMPY_DTYPES = {"fp64": np.float64, "fp32": np.float32, "fp16": np.float16}


class NumpyAdapter:
    """Base of adapters whose implementation works on NumPy arrays: float64, float32 or float16."""

    name = "NumPy implementation"
    claims: tuple[Claim, ...] = (Claim("fp64"),)

    def array(self, values: Array, claim: Claim) -> Native:
        """Numbers as an array of the storage dtype."""
        if claim.store not in NUMPY_DTYPES:
            raise AdapterError(f"{self.name}: NumPy has no {claim.store}; claim fp64, fp32 or fp16")
        return values.astype(NUMPY_DTYPES[claim.store], order="K") if claim.store != "fp64" else values

    def levels(self, t: IntArray) -> Native:
        """An int, or the integer array."""
        return int(t) if t.ndim == 0 else t

    def numpy(self, result: Native) -> Array:
        """The result as float64."""
        return np.asarray(result, dtype=np.float64)


class TorchAdapter:
    """Base of adapters whose implementation works on PyTorch tensors, on ``device``."""

    name = "PyTorch implementation"
    claims: tuple[Claim, ...] = (Claim("fp32"),)

    def __init__(self, device: str = "cpu"):
        torch = require("torch", "torch")
        try:
            torch.empty(0, device=device)
        except Exception as error:
            raise AdapterError(
                f"device {device!r} cannot be used here ({_said(error)}); write 'cpu' or 'cuda'"
            ) from error
        self.device = device

    def array(self, values: Array, claim: Claim) -> Native:
        """Numbers as a tensor of the storage dtype, on the device."""
        import torch

        dtype = {"fp64": torch.float64, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[
            claim.store
        ]
        return (
            torch.from_numpy(values).to(self.device, dtype)
            if values.ndim
            else torch.tensor(values.item(), dtype=dtype, device=self.device)
        )

    def levels(self, t: IntArray) -> Native:
        """An int, or an int64 tensor on the device."""
        import torch

        return int(t) if t.ndim == 0 else torch.from_numpy(np.ascontiguousarray(t)).to(self.device)

    def numpy(self, result: Native) -> Array:
        """The tensor as a float64 array."""
        return np.asarray(result.detach().cpu().double().numpy())


class _Functions:
    """Capabilities found by name in a list of modules: the functions themselves are the answers."""

    _modules: tuple[ModuleType, ...]

    def __getattr__(self, name: str) -> Any:
        for module in self.__dict__.get("_modules", ()):
            if not name.startswith("_") and hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(name)


class ReferenceAdapter(_Functions, NumpyAdapter):
    """`ddpm_ref.reference` itself, held against the same laws as everybody (its tables are tested by equality besides)."""

    name = "ddpm_ref.reference"
    claims: tuple[Claim, ...] = (Claim("fp64"),)

    def __init__(self) -> None:
        from ddpm_ref.reference import ancestral, ddim, divergence, forward, plan, posterior, prediction, reverse

        self._modules = (forward, posterior, prediction, reverse, ancestral, ddim, plan, divergence)

    def schedule(self, betas: Array) -> Handle:
        """The exact schedule."""
        from ddpm_ref.reference.schedule import NoiseSchedule

        return NoiseSchedule.from_betas(betas)

    def between(self, schedule: Handle, t: Native, s: Native) -> tuple[Native, Native]:
        """Exact coefficients of the steps."""
        step = schedule.between(t, s)
        return step.alpha, step.beta

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

    def linear_betas(self, T: int, beta_1: float, beta_T: float) -> Native:
        """The betas of the linear schedule."""
        from ddpm_ref.reference.named_schedules import linear_schedule

        return linear_schedule(T, beta_1, beta_T).beta[1:]

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


class TorchMirror(_Functions, TorchAdapter):
    """`ddpm_ref.torch` on a device: its functions on exact tables, and the tables it builds itself."""

    name = "ddpm_ref.torch"
    claims: tuple[Claim, ...] = (Claim("fp32"), Claim("fp64"), Claim("bf16", "fp32"))

    def __init__(self, device: str = "cpu"):
        super().__init__(device)
        from ddpm_ref.torch import ancestral, ddim, divergence, forward, plan, posterior, prediction, reverse

        self._modules = (forward, posterior, prediction, reverse, ancestral, ddim, plan, divergence)

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

    def linear_betas(self, T: int, beta_1: float, beta_T: float) -> Native:
        """The betas of the mirror's own linear schedule."""
        from ddpm_ref.torch import schedule as mirror

        return mirror.linear_betas(T, beta_1, beta_T, device=self.device)


def load(path: str) -> Adapter:
    """The adapter named ``package.module:attribute`` (an adapter, or something callable that makes one); raises `AdapterError`."""
    module_name, separator, attribute = path.partition(":")
    if not separator or not module_name or not attribute:
        raise AdapterError(f"adapter {path!r} must be written package.module:attribute, e.g. mypkg.mine:adapter")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise AdapterError(f"adapter {path!r}: module {module_name!r} cannot be imported ({_said(error)})") from error
    if not hasattr(module, attribute):
        raise AdapterError(f"adapter {path!r}: module {module_name!r} has no {attribute!r}")
    found = getattr(module, attribute)
    try:
        adapter = found() if isinstance(found, type) or (callable(found) and not hasattr(found, "schedule")) else found
    except AdapterError:
        raise
    except Exception as error:
        raise AdapterError(f"adapter {path!r}: {attribute} cannot be made ({_said(error)})") from error
    if not isinstance(adapter, Adapter):
        raise AdapterError(
            f"adapter {path!r} lacks one of name, claims, schedule, array, levels, numpy; "
            "subclass ddpm_ref.conformance.NumpyAdapter or TorchAdapter"
        )
    return adapter


def _said(error: Exception) -> str:
    message = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
