"""Adapter of diffusion code in the style of lucidrains' denoising-diffusion-pytorch: a module ``GaussianDiffusion`` with buffers.

Nothing of it is imported here: the user hands over the class, which is asked through its public methods.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from unittest import mock

import numpy as np

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance.adapters import TorchAdapter
from ddpm_ref.conformance.capabilities import Handle, Native, Network
from ddpm_ref.conformance.interception import answering, arithmetic_of, kept_in_float64
from ddpm_ref.conformance.levelwise import as_batch, one_level_at_a_time
from ddpm_ref.conformance.own_noise import given_noise
from ddpm_ref.errors import AdapterError
from ddpm_ref.typing import Array

KEPT = 512  # chains of a schedule that are kept
SCHEDULE = "linear_beta_schedule"  # the function through which betas are put in
CLIPPED = "the class clips every predicted x0 to [-1, 1], and cannot be asked not to; the adapter leaves that to it with clip=True"

STEPS = ("ancestral/*", "ddim/step_from_*", "identified/*", "oracle/*_moments", "oracle/ddim_order")


@dataclass
class Chains:
    """The implementation's diffusions of one schedule: on all levels, and on the ends of steps over several."""

    betas: Array
    make: Callable[[Array, Any], Any]
    kept: dict[tuple[int, int, bool], Any] = field(default_factory=dict)

    def whole(self, like: Native) -> Any:
        """The class on all levels, its buffers in the width of the data."""
        return self._kept((len(self.betas), -1, _wide(like)), self.betas)

    def step(self, t: int, s: int, like: Native) -> tuple[Any, int]:
        """A diffusion in which t and s are neighbours, and the index of t in it."""
        whole = self.whole(like)
        if s == t - 1:
            return whole, t - 1
        # Its own products at both levels, and the beta between them: nothing is lost but what the class itself rounds.
        ends = [level for level in (s, t) if level]
        products = np.cumprod(1 - self.betas)
        first, last = products[np.array(ends) - 1][[0, -1]]
        between = -math.expm1(math.fsum(np.log1p(-self.betas[s:t]))) if last > 0 else 1.0
        betas = np.array([1 - first, between][-len(ends) :])
        return self._kept((t, s, _wide(like)), betas, products[np.array(ends) - 1]), len(ends) - 1

    def _kept(self, key: tuple[int, int, bool], betas: Array, products: Array | None = None) -> Any:
        if key not in self.kept:
            if len(self.kept) >= KEPT:
                self.kept.clear()
            with kept_in_float64() if key[2] else nullcontext():
                self.kept[key] = self.make(betas, products)
        return self.kept[key]


def _wide(like: Native) -> bool:
    return str(like.dtype) == "torch.float64"


class LucidrainsAdapter(TorchAdapter):
    r"""A ``GaussianDiffusion`` in lucidrains' style, held against the laws.

    Args:
        diffusion: the class ``GaussianDiffusion``.
        clip: whether predicted x0 are clipped to [-1, 1], as ``p_sample`` and ``ddim_sample`` of the class always do. With False
            a subclass passes their option on, so that the formulas can be seen; with True the laws of steps fail, for the
            reason that ``expected_failures`` gives.
        device: ``"cpu"`` or ``"cuda"``.

    Raises `AdapterError` if ``diffusion`` is no class, or cannot be made.

    The class knows schedules by name only: while it is made, its ``linear_beta_schedule`` returns the betas of the case. It
    keeps float32 buffers; under the claim fp64 it is made and asked in blocks of `kept_in_float64`. ``p_sample`` knows steps
    between neighbours only, so a step over several levels is asked of the class on the two ends, with its own cumulative
    products. ``ddim_sample`` knows evenly spread levels only: the levels of the case are put in the place of its ``linspace``.
    For the variance beta, which it does not know, its log-variances are replaced by those of its betas. The noise that it
    draws is given (see `given_noise`).
    """

    claims: tuple[Claim, ...] = (Claim("fp32"), Claim("fp64"))

    def __init__(self, diffusion: Any, *, clip: bool = False, device: str = "cpu"):
        super().__init__(device)
        if not isinstance(diffusion, type) or not hasattr(diffusion, "p_mean_variance"):
            raise AdapterError(f"diffusion is {diffusion!r}; pass the class GaussianDiffusion")
        self._globals = _module_of(diffusion)
        self.name = f"{diffusion.__module__}.{diffusion.__qualname__}" + (", clipping" if clip else "")
        self.expected_failures: Mapping[str, str] = dict.fromkeys(STEPS, CLIPPED) if clip else {}
        self._class = diffusion if clip else _unclipped(diffusion)

    def schedule(self, betas: Array) -> Handle:
        """The diffusions of these betas, made when they are needed."""
        return Chains(betas, self._made)

    def _made(self, betas: Array, products: Array | None) -> Any:
        """The class on these betas; its cumulative products are its own, or those of a longer chain."""
        import torch

        given = {SCHEDULE: lambda timesteps, **_: torch.from_numpy(betas.copy())}
        cumulated = {} if products is None else {torch.cumprod: lambda *_, **__: torch.from_numpy(products.copy())}
        with mock.patch.dict(self._globals, given), answering(cumulated):
            diffusion = self._class(
                _network(), image_size=1, timesteps=len(betas), beta_schedule="linear", auto_normalize=False
            )
        return diffusion.to(self.device)

    # --- how the class is asked --------------------------------------------------------------------------------------

    @staticmethod
    def _predicting(diffusion: Any, objective: str, answer: Native) -> Any:
        """The class with a network that gives this answer."""
        asked = copy.copy(diffusion)
        asked._modules = {"model": _network(lambda *_: answer)}
        asked.objective = objective
        return asked

    def _at_level(self, schedule: Chains, t: Native, function: Callable[..., Any], *tensors: Native) -> Any:
        """``function(diffusion, indices, *batches)`` on the whole chain."""
        with arithmetic_of(tensors[0]):
            return as_batch(lambda i, *x: function(schedule.whole(x[0]), i, *x), t - 1, *tensors)

    def _at_step(self, schedule: Chains, t: Native, s: Native, function: Callable[..., Any], *tensors: Native) -> Any:
        """``function(diffusion, indices, *batches)`` on a chain in which t and s are neighbours."""

        def one(t: int, s: int, *rows: Native) -> Any:
            diffusion, index = schedule.step(t, s, rows[0])
            return as_batch(lambda i, *x: function(diffusion, i, *x), index, *rows)

        with arithmetic_of(tensors[0]):
            if np.all(np.asarray(t) - np.asarray(s) == 1):  # a batch of different levels at once
                return as_batch(lambda i, *x: function(schedule.whole(x[0]), i, *x), t - 1, *tensors)
            return one_level_at_a_time(one, t, s, *tensors)

    def _entries(self, schedule: Chains, t: Native, s: Native, table: str) -> Native:
        import torch

        def entry(t: int, s: int) -> Native:
            diffusion, index = schedule.step(t, s, like)
            return getattr(diffusion, table)[index]

        like = torch.zeros((), dtype=torch.float64)
        return one_level_at_a_time(entry, t, s)

    def _table(self, schedule: Chains, name: str, at_0: float) -> Native:
        """A buffer of the class, with an entry for clean data before it."""
        import torch

        zero = torch.zeros(1, dtype=torch.float64, device=self.device)
        return torch.cat([zero + at_0, getattr(schedule.whole(zero), name)])

    # --- tables and the forward process ------------------------------------------------------------------------------

    def alpha_bar(self, schedule: Handle) -> Native:
        """``alphas_cumprod``, with 1 at level 0."""
        return self._table(schedule, "alphas_cumprod", 1.0)

    def beta_tilde(self, schedule: Handle) -> Native:
        """``posterior_variance``, with 0 at level 0."""
        return self._table(schedule, "posterior_variance", 0.0)

    def q_sample(self, schedule: Handle, x0: Native, t: Native, noise: Native) -> Native:
        """``q_sample``."""
        return self._at_level(schedule, t, lambda d, i, x, z: d.q_sample(x, i, noise=z), x0, noise)

    # --- predictions, posterior, reverse model -----------------------------------------------------------------------

    def x0_from_eps(self, schedule: Handle, xt: Native, t: Native, value: Native) -> Native:
        """``predict_start_from_noise``."""
        return self._at_level(schedule, t, lambda d, i, x, y: d.predict_start_from_noise(x, i, y), xt, value)

    def eps_from_x0(self, schedule: Handle, xt: Native, t: Native, value: Native) -> Native:
        """``predict_noise_from_start``."""
        return self._at_level(schedule, t, lambda d, i, x, y: d.predict_noise_from_start(x, i, y), xt, value)

    def x0_from_v(self, schedule: Handle, xt: Native, t: Native, value: Native) -> Native:
        """``predict_start_from_v``."""
        return self._at_level(schedule, t, lambda d, i, x, y: d.predict_start_from_v(x, i, y), xt, value)

    def v_target(self, schedule: Handle, x0: Native, t: Native, noise: Native) -> Native:
        """``predict_v``."""
        return self._at_level(schedule, t, lambda d, i, x, z: d.predict_v(x, i, z), x0, noise)

    def q_posterior(self, schedule: Handle, x0: Native, xt: Native, t: Native, s: Native) -> tuple[Native, Native]:
        """Mean and variance of ``q_posterior``."""

        def asked(diffusion: Any, i: Native, a: Native, b: Native) -> tuple[Native, Native]:
            mean, variance, *_ = diffusion.q_posterior(a, b, i)
            return mean, variance.expand(mean.shape)

        answer: tuple[Native, Native] = self._at_step(schedule, t, s, asked, x0, xt)
        return answer

    def posterior_weights(self, schedule: Handle, t: Native, s: Native) -> tuple[Native, Native]:
        """``posterior_mean_coef1`` and ``posterior_mean_coef2``."""
        return self._entries(schedule, t, s, "posterior_mean_coef1"), self._entries(
            schedule, t, s, "posterior_mean_coef2"
        )

    def posterior_variance(self, schedule: Handle, t: Native, s: Native) -> Native:
        """``posterior_variance``."""
        return self._entries(schedule, t, s, "posterior_variance")

    def posterior_log_variance(self, schedule: Handle, t: Native, s: Native) -> Native:
        """``posterior_log_variance_clipped``."""
        return self._entries(schedule, t, s, "posterior_log_variance_clipped")

    def floored_log_variance(self, schedule: Handle) -> Native:
        """``posterior_log_variance_clipped``."""
        return self._table(schedule, "posterior_log_variance_clipped", 0.0)[1:]

    def model_mean_from_eps(self, schedule: Handle, xt: Native, t: Native, s: Native, eps: Native) -> Native:
        """The mean of ``p_mean_variance`` for a network that predicts eps."""
        return self._mean_variance(schedule, xt, t, s, eps, "pred_noise")[0]

    def model_mean_from_x0(self, schedule: Handle, xt: Native, t: Native, s: Native, x0: Native) -> Native:
        """The mean of ``p_mean_variance`` for a network that predicts x0."""
        return self._mean_variance(schedule, xt, t, s, x0, "pred_x0")[0]

    def plug_in_reverse(self, schedule: Handle, xt: Native, t: Native, s: Native, x0: Native) -> tuple[Native, Native]:
        """Mean and variance of ``p_mean_variance`` for a network that predicts x0."""
        return self._mean_variance(schedule, xt, t, s, x0, "pred_x0")

    def _mean_variance(
        self, schedule: Chains, xt: Native, t: Native, s: Native, answer: Native, objective: str
    ) -> tuple[Native, Native]:
        def asked(diffusion: Any, i: Native, x: Native, y: Native) -> tuple[Native, Native]:
            mean, variance, *_ = self._predicting(diffusion, objective, y).p_mean_variance(x, i, clip_denoised=False)
            return mean, variance.expand(mean.shape)

        answered: tuple[Native, Native] = self._at_step(schedule, t, s, asked, xt, answer)
        return answered

    # --- steps -------------------------------------------------------------------------------------------------------

    def ancestral_step(
        self, schedule: Handle, xt: Native, t: Native, s: Native, eps: Native, noise: Native, variance: str
    ) -> Native:
        """``p_sample``, which takes one level for all."""

        def one(t: int, s: int, *rows: Native) -> Native:
            diffusion, index = schedule.step(t, s, rows[0])

            def asked(_: Native, x: Native, e: Native, z: Native) -> Native:
                with given_noise([z]):
                    return self._with_variance(self._predicting(diffusion, "pred_noise", e), variance).p_sample(
                        x, index
                    )[0]

            return as_batch(asked, index, *rows)

        with arithmetic_of(xt):
            return one_level_at_a_time(one, t, s, xt, eps, noise)

    @staticmethod
    def _with_variance(diffusion: Any, variance: str) -> Any:
        if variance == "beta":
            buffers = dict(diffusion._buffers)
            diffusion._buffers = buffers | {"posterior_log_variance_clipped": buffers["betas"].log()}
        return diffusion

    def ddim_step_from_eps(
        self, schedule: Handle, xt: Native, t: Native, s: Native, eps: Native, noise: Native, eta: float
    ) -> Native:
        """One step of ``ddim_sample`` for a network that predicts eps."""
        return self._ddim_step(schedule, xt, t, s, eps, noise, eta, "pred_noise")

    def ddim_step_from_x0(
        self, schedule: Handle, xt: Native, t: Native, s: Native, x0: Native, noise: Native, eta: float
    ) -> Native:
        """One step of ``ddim_sample`` for a network that predicts x0."""
        return self._ddim_step(schedule, xt, t, s, x0, noise, eta, "pred_x0")

    def _ddim_step(
        self,
        schedule: Chains,
        xt: Native,
        t: Native,
        s: Native,
        answer: Native,
        noise: Native,
        eta: float,
        objective: str,
    ) -> Native:
        def one(t: int, s: int, *rows: Native) -> Native:
            whole = schedule.whole(rows[0])
            return as_batch(
                lambda _, x, y, z: self._walked(self._predicting(whole, objective, y), (t, s), x, [z], eta), t, *rows
            )

        with arithmetic_of(xt):
            return one_level_at_a_time(one, t, s, xt, answer, noise)

    def _walked(
        self, diffusion: Any, levels: tuple[int, ...], start: Native, noises: Iterable[Native], eta: float
    ) -> Native:
        """``ddim_sample`` on these levels, descending, from this start."""
        import torch

        diffusion.ddim_sampling_eta, diffusion.sampling_timesteps = eta, len(levels) - 1
        times = torch.tensor(levels[::-1]) - 1
        quiet = {"tqdm": lambda steps, **_: steps} if "tqdm" in self._globals else {}
        with (
            mock.patch.dict(self._globals, quiet),
            answering({torch.linspace: lambda *_, **__: times}),
            given_noise([start, *noises]),
        ):
            return diffusion.ddim_sample(tuple(start.shape))

    # --- whole samplers ----------------------------------------------------------------------------------------------

    def ddim_sample(
        self, schedule: Handle, levels: tuple[int, ...], network: Network, start: Native, noises: Native, eta: float
    ) -> Native:
        """``ddim_sample``."""
        with arithmetic_of(start):
            diffusion = copy.copy(schedule.whole(start))
            diffusion._modules = {"model": _network(lambda x, i, _: network(x, int(i[0]) + 1))}
            diffusion.objective = "pred_noise"
            return self._walked(diffusion, tuple(levels), start, list(noises)[:-1], eta)

    def ancestral_sample(
        self, schedule: Handle, levels: tuple[int, ...], network: Network, start: Native, noises: Native, variance: str
    ) -> Native:
        """Step after step of `ancestral_step`: ``p_sample_loop`` visits all levels."""
        x = start
        for t, s, z in zip(levels[:-1], levels[1:], noises, strict=True):
            x = self.ancestral_step(schedule, x, t, s, network(x, t), z, variance)
        return x


def _module_of(diffusion: type) -> dict[str, Any]:
    """The names among which the class, or one that it is made from, looks for its schedules."""
    for base in diffusion.__mro__:
        names: dict[str, Any] = getattr(vars(base).get("__init__"), "__globals__", {})
        if SCHEDULE in names:
            return names
    raise AdapterError(
        f"the module of {diffusion.__qualname__} has no {SCHEDULE}, through which betas are put in; "
        "pass the class GaussianDiffusion of denoising_diffusion_pytorch.py"
    )


def _network(answer: Callable[..., Native] = lambda *_: None) -> Any:
    """A network of the interface that the class wants."""
    network = _network_class()()
    network.answer = answer
    return network


@lru_cache(maxsize=1)
def _network_class() -> Any:
    import torch

    class Network(torch.nn.Module):
        """Gives an answer, whatever it is asked."""

        channels = out_dim = 1
        self_condition = False
        answer: Callable[..., Native]

        def forward(self, x: Native, t: Native, x_self_cond: Native = None) -> Native:
            """The answer."""
            return self.answer(x, t, x_self_cond)

    return Network


def _unclipped(diffusion: Any) -> type:
    """A subclass whose samplers do not clip."""

    class Unclipped(diffusion):  # type: ignore[misc]
        """Passes on that nothing is to be clipped."""

        def p_mean_variance(self, x: Native, t: Native, *args: Any, **options: Any) -> Any:
            """Without clipping."""
            return super().p_mean_variance(x, t, *args, **{**options, "clip_denoised": False})

        def model_predictions(self, x: Native, t: Native, *args: Any, **options: Any) -> Any:
            """Without clipping."""
            return super().model_predictions(x, t, *args, **{**options, "clip_x_start": False})

    return Unclipped
