"""Adapter of diffusion code in the style of OpenAI's improved-diffusion and guided-diffusion: a class ``GaussianDiffusion``.

Nothing of it is imported here: the user hands over the module (or the classes), which is asked through its public methods.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance import openai_bound
from ddpm_ref.conformance.adapters import TorchAdapter
from ddpm_ref.conformance.capabilities import Handle, Native, Network
from ddpm_ref.conformance.interception import arithmetic_of, kept_in_float64
from ddpm_ref.conformance.levelwise import as_batch, one_level_at_a_time
from ddpm_ref.conformance.openai_bound import Bounded
from ddpm_ref.conformance.openai_chains import VARIANCES, Chain, Chains
from ddpm_ref.conformance.openai_guidance import GUIDED, Guided
from ddpm_ref.conformance.own_noise import given_noise
from ddpm_ref.errors import AdapterError
from ddpm_ref.typing import Array

CLASSES = ("GaussianDiffusion", "ModelMeanType", "ModelVarType", "LossType")
FUNCTIONS = {"kl_normal_logvar": "normal_kl", "cosine_betas": "betas_for_alpha_bar"}
FIRST_VARIANCE = (
    "fixed large: the class takes the posterior variance of the second step for the variance of the first, on purpose (for the "
    "likelihood of the decoder); no noise is added there"
)


class OpenAIAdapter(Guided, Bounded, TorchAdapter):
    r"""A ``GaussianDiffusion`` in OpenAI's style, held against the laws.

    Args:
        diffusion: the module ``gaussian_diffusion``, or a mapping with the classes ``GaussianDiffusion``, ``ModelMeanType``,
            ``ModelVarType``, ``LossType`` and, if there are any, the functions ``normal_kl``, ``betas_for_alpha_bar`` and
            ``discretized_gaussian_log_likelihood``.
        respace: the module ``respace``, or its class ``SpacedDiffusion``: steps over several levels then go through it.
            Without it the adapter makes such chains of the class itself, from :math:`\beta' = 1 - \bar\alpha_t/\bar\alpha_s`.
        device: ``"cpu"`` or ``"cuda"``.

    Raises `AdapterError` if a class is missing.

    Every step asks the class for one of its chains: both variances of `VARIANCES`, learned ranges, predictions of eps and of
    x0. Clipping is off, except where `clip_x0` asks for it. The noise that steps draw is given (see `given_noise`). The
    class casts its float64 tables to float32 when it looks them up; under the claim fp64 they stay as they are, in blocks
    of `kept_in_float64`, so that its formulas are seen without those roundings. Two things the class does not know: a chain
    of one level, to which the adapter adds one on top; and clean data as a level, so the first step of the way up in
    `ddim_inversion_step` is its ``q_sample``. ``expected_failures`` names the conventions in which it differs from the papers.
    """

    claims: tuple[Claim, ...] = (Claim("fp32"), Claim("fp64"))
    expected_failures: Mapping[str, str] = {
        "reverse/variance": FIRST_VARIANCE,
        "guidance/mean_shift_step*": (
            "the gradient of the classifier is taken at x_t, never at the mean (the maintainers call it a slight bug); "
            + FIRST_VARIANCE
        ),
    }

    def __init__(
        self, diffusion: ModuleType | Mapping[str, Any], respace: ModuleType | type | None = None, device: str = "cpu"
    ):
        super().__init__(device)
        given = vars(diffusion) if isinstance(diffusion, ModuleType) else diffusion
        missing = [name for name in CLASSES if name not in given]
        if missing:
            raise AdapterError(
                f"{getattr(diffusion, '__name__', 'the mapping')} has no {', '.join(missing)}; pass the module gaussian_diffusion, "
                f"or a mapping with {', '.join(CLASSES)}"
            )
        self._class, means, variances, losses = (given[name] for name in CLASSES)
        self._types = {
            "model_mean_type": means["EPSILON"],
            "model_var_type": variances["FIXED_SMALL"],
            "loss_type": losses["MSE"],
        }
        self._given = given
        self._spaced = vars(respace).get("SpacedDiffusion") if isinstance(respace, ModuleType) else respace
        if respace is not None and self._spaced is None:
            raise AdapterError(f"{respace.__name__} has no SpacedDiffusion; pass the module respace, or that class")
        self.name = f"{self._class.__module__}.{self._class.__qualname__}"

    def __getattr__(self, name: str) -> Any:
        """What only some versions offer: a divergence, betas from a function, guidance by a classifier, terms of the bound."""
        given = self.__dict__.get("_given", {})
        guided = name in GUIDED and callable(getattr(given.get("GaussianDiffusion"), "condition_mean", None))
        if FUNCTIONS.get(name) in given or guided or openai_bound.offers(given, name):
            return getattr(self, f"_{name}")
        raise AttributeError(name)

    def schedule(self, betas: Array) -> Handle:
        """The diffusions of these betas, made when they are needed."""
        spaced = self._spaced
        return Chains(
            betas,
            lambda values: self._class(betas=values, **self._types),
            None if spaced is None else lambda kept, values: spaced(use_timesteps=kept, betas=values, **self._types),
        )

    # --- how a step is asked -----------------------------------------------------------------------------------------

    def _at_level(self, schedule: Chains, t: Native, function: Callable[..., Any], *tensors: Native) -> Any:
        """``function(diffusion, indices, *batches)`` on the whole chain."""
        with arithmetic_of(tensors[0]):
            return as_batch(lambda i, *x: function(schedule.whole.of(), i, *x), t - 1, *tensors, axes=2)

    def _at_step(self, schedule: Chains, t: Native, s: Native, function: Callable[..., Any], *tensors: Native) -> Any:
        """``function(chain, indices, *batches)`` on a chain in which t and s are neighbours."""

        def one(t: int, s: int, *rows: Native) -> Any:
            chain, index = schedule.step(t, s)
            return as_batch(lambda i, *x: function(chain, i, *x), index, *rows, axes=2)

        with arithmetic_of(tensors[0]):
            if np.all(np.asarray(t) - np.asarray(s) == 1):  # a batch of different levels at once
                return as_batch(lambda i, *x: function(schedule.whole, i, *x), t - 1, *tensors, axes=2)
            return one_level_at_a_time(one, t, s, *tensors)

    def _nothing(self, t: Native) -> Native:
        """Zeros, one for each level: coefficients see no data."""
        import torch

        return torch.zeros(np.shape(t), dtype=torch.float64, device=self.device)

    def _table(self, values: Array) -> Native:
        import torch

        return torch.from_numpy(values).to(self.device)

    @staticmethod
    def _reverse(diffusion: Any, x: Native, i: Native, answer: Native, *, clip: bool = False) -> dict[str, Native]:
        """Mean, variance and the rest, for a network that gives this answer."""
        out: dict[str, Native] = diffusion.p_mean_variance(lambda *_, **__: answer, x, i, clip_denoised=clip)
        return out

    # --- tables and the forward process ------------------------------------------------------------------------------

    def alpha_bar(self, schedule: Handle) -> Native:
        """``alphas_cumprod``, below it the first of ``alphas_cumprod_prev``."""
        diffusion = schedule.whole.diffusion
        return self._table(np.append(diffusion.alphas_cumprod_prev[:1], diffusion.alphas_cumprod[: schedule.T]))

    def beta_bar(self, schedule: Handle) -> Native:
        """The variance of ``q_mean_variance``."""
        import torch

        zero = torch.zeros((schedule.T, 1), dtype=torch.float64, device=self.device)
        with kept_in_float64():
            index = torch.arange(schedule.T, device=self.device)
            variance = schedule.whole.diffusion.q_mean_variance(zero, index)[1].reshape(-1)
        return torch.cat([zero[0], variance])

    def beta_tilde(self, schedule: Handle) -> Native:
        """``posterior_variance``, with 0 at level 0."""
        return self._table(np.append(0.0, schedule.whole.diffusion.posterior_variance[: schedule.T]))

    def strided_betas(self, schedule: Handle, levels: tuple[int, ...]) -> Native:
        """The betas of the respaced chain."""
        ascending = tuple(sorted(levels))[1:]
        return self._table(schedule.on(ascending).diffusion.betas[: len(ascending)].copy())

    def q_sample(self, schedule: Handle, x0: Native, t: Native, noise: Native) -> Native:
        """``q_sample``."""
        return self._at_level(schedule, t, lambda d, i, x, z: d.q_sample(x, i, noise=z), x0, noise)

    def terminal_kl(self, schedule: Handle, x0: Native) -> Native:
        """``_prior_bpd`` of each number by itself, in nats."""
        if not x0.numel():  # the indices of no rows are no integers there
            return x0
        numbers = x0.reshape(-1, 1)
        with arithmetic_of(x0):
            bits = schedule.whole.diffusion._prior_bpd(numbers)
        return (bits * math.log(2.0)).reshape(x0.shape)

    # --- posterior, predictions, reverse model -----------------------------------------------------------------------

    def q_posterior(self, schedule: Handle, x0: Native, xt: Native, t: Native, s: Native) -> tuple[Native, Native]:
        """Mean and variance of ``q_posterior_mean_variance``."""
        answer: tuple[Native, Native] = self._at_step(
            schedule, t, s, lambda c, i, a, b: c.diffusion.q_posterior_mean_variance(a, b, i)[:2], x0, xt
        )
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

    def replaced_log_variance(self, schedule: Handle, levels: tuple[int, ...]) -> Native:
        """``posterior_log_variance_clipped`` of the respaced chain."""
        ascending = tuple(sorted(levels))[1:]
        return self._table(schedule.on(ascending).diffusion.posterior_log_variance_clipped[::-1].copy())

    def _entries(self, schedule: Chains, t: Native, s: Native, table: str) -> Native:
        def entry(t: int, s: int) -> Native:
            chain, index = schedule.step(t, s)
            return self._table(np.asarray(getattr(chain.diffusion, table)[index]))

        return one_level_at_a_time(entry, t, s)

    def x0_from_eps(self, schedule: Handle, xt: Native, t: Native, value: Native) -> Native:
        """``_predict_xstart_from_eps``."""
        return self._at_level(schedule, t, lambda d, i, x, e: d._predict_xstart_from_eps(x, i, e), xt, value)

    def eps_from_x0(self, schedule: Handle, xt: Native, t: Native, value: Native) -> Native:
        """``_predict_eps_from_xstart``."""
        return self._at_level(schedule, t, lambda d, i, x, x0: d._predict_eps_from_xstart(x, i, x0), xt, value)

    def clip_x0(self, x0: Native) -> Native:
        """The predicted x0 of ``p_mean_variance`` with clipping."""
        chain = self.schedule(np.array([0.1, 0.2])).whole
        return as_batch(
            lambda i, x: self._reverse(chain.of("START_X"), x, i, x, clip=True)["pred_xstart"], 0, x0, axes=2
        )

    def model_mean_from_eps(self, schedule: Handle, xt: Native, t: Native, s: Native, eps: Native) -> Native:
        """The mean of ``p_mean_variance`` for a network that predicts eps."""
        return self._at_step(schedule, t, s, lambda c, i, x, e: self._reverse(c.of(), x, i, e)["mean"], xt, eps)

    def model_mean_from_x0(self, schedule: Handle, xt: Native, t: Native, s: Native, x0: Native) -> Native:
        """The mean of ``p_mean_variance`` for a network that predicts x0."""
        return self.plug_in_reverse(schedule, xt, t, s, x0)[0]

    def plug_in_reverse(self, schedule: Handle, xt: Native, t: Native, s: Native, x0: Native) -> tuple[Native, Native]:
        """Mean and variance of ``p_mean_variance`` for a network that predicts x0."""

        def asked(chain: Chain, i: Native, x: Native, y: Native) -> tuple[Native, Native]:
            out = self._reverse(chain.of("START_X"), x, i, y)
            return out["mean"], out["variance"]

        answer: tuple[Native, Native] = self._at_step(schedule, t, s, asked, xt, x0)
        return answer

    def reverse_variance(self, schedule: Handle, t: Native, s: Native, kind: str) -> Native:
        """The variance of ``p_mean_variance``."""
        return self._variance_entry(schedule, t, s, kind, "variance")

    def fixed_large_log_variance(self, schedule: Handle, t: Native, s: Native) -> Native:
        """The log-variance of ``p_mean_variance`` with the fixed large variance."""
        return self._variance_entry(schedule, t, s, "beta", "log_variance")

    def replaced_fixed_large_log_variance(self, schedule: Handle, levels: tuple[int, ...]) -> Native:
        """The same of a whole respaced chain, downwards."""
        import torch

        chain = schedule.on(tuple(sorted(levels))[1:])
        index = torch.arange(len(levels) - 1, device=self.device).flip(0)
        zero = torch.zeros((len(levels) - 1, 1), dtype=torch.float64, device=self.device)
        with kept_in_float64():
            return self._reverse(chain.of("START_X", "FIXED_LARGE"), zero, index, zero)["log_variance"].reshape(-1)

    def _variance_entry(self, schedule: Chains, t: Native, s: Native, kind: str, entry: str) -> Native:
        return self._at_step(
            schedule,
            t,
            s,
            lambda c, i, x: self._reverse(c.of("START_X", VARIANCES[kind]), x, i, x)[entry],
            self._nothing(t),
        )

    def learned_variance(self, schedule: Handle, t: Native, s: Native, fraction: Native) -> Native:
        """The variance of ``p_mean_variance`` with a learned range, from channels beside those of eps."""
        import torch

        def asked(chain: Chain, i: Native, v: Native) -> Native:
            answer = torch.cat([torch.zeros_like(v), 2 * v - 1], dim=1)
            return self._reverse(chain.of("START_X", "LEARNED_RANGE"), v, i, answer)["variance"]

        return self._at_step(schedule, t, s, asked, fraction)

    # --- steps -------------------------------------------------------------------------------------------------------

    def ancestral_step(
        self, schedule: Handle, xt: Native, t: Native, s: Native, eps: Native, noise: Native, variance: str
    ) -> Native:
        """``p_sample``."""

        def asked(chain: Chain, i: Native, x: Native, e: Native, z: Native) -> Native:
            with given_noise([z]):
                out = chain.of(variance=VARIANCES[variance]).p_sample(lambda *_, **__: e, x, i, clip_denoised=False)
            return out["sample"]

        return self._at_step(schedule, t, s, asked, xt, eps, noise)

    def ddim_step_from_eps(
        self, schedule: Handle, xt: Native, t: Native, s: Native, eps: Native, noise: Native, eta: float
    ) -> Native:
        """``ddim_sample`` for a network that predicts eps."""
        return self._ddim(schedule, xt, t, s, eps, noise, eta, "EPSILON")

    def ddim_step_from_x0(
        self, schedule: Handle, xt: Native, t: Native, s: Native, x0: Native, noise: Native, eta: float
    ) -> Native:
        """``ddim_sample`` for a network that predicts x0."""
        return self._ddim(schedule, xt, t, s, x0, noise, eta, "START_X")

    def _ddim(
        self,
        schedule: Chains,
        xt: Native,
        t: Native,
        s: Native,
        answer: Native,
        noise: Native,
        eta: float,
        mean: str,
        gradient: Native | None = None,
    ) -> Native:
        def asked(chain: Chain, i: Native, x: Native, y: Native, z: Native, *pull: Native) -> Native:
            guided = {"cond_fn": lambda *_, **__: pull[0], "model_kwargs": {}} if pull else {}
            with given_noise([z]):
                out = chain.of(mean).ddim_sample(lambda *_, **__: y, x, i, clip_denoised=False, eta=eta, **guided)
            return out["sample"]

        return self._at_step(schedule, t, s, asked, xt, answer, noise, *([] if gradient is None else [gradient]))

    def ddim_inversion_step(self, schedule: Handle, xs: Native, t: Native, s: Native, eps: Native) -> Native:
        """``ddim_reverse_sample``; from clean data, which the class does not count as a level, ``q_sample``."""

        def asked(t: int, s: int, *rows: Native) -> Native:
            if s == 0:
                return self.q_sample(schedule, rows[0], t, rows[1])
            chain = schedule.on((s, t)).of()
            return as_batch(
                lambda i, x, e: chain.ddim_reverse_sample(lambda *_, **__: e, x, i, clip_denoised=False)["sample"],
                0,
                *rows,
                axes=2,
            )

        with arithmetic_of(xs):
            return one_level_at_a_time(asked, t, s, xs, eps)

    # --- whole samplers ----------------------------------------------------------------------------------------------

    def ancestral_sample(
        self, schedule: Handle, levels: tuple[int, ...], network: Network, start: Native, noises: Native, variance: str
    ) -> Native:
        """``p_sample_loop`` on a respaced chain."""
        return self._looped(schedule, levels, network, start, noises, "p_sample_loop", variance=VARIANCES[variance])

    def ddim_sample(
        self, schedule: Handle, levels: tuple[int, ...], network: Network, start: Native, noises: Native, eta: float
    ) -> Native:
        """``ddim_sample_loop`` on a respaced chain."""
        return self._looped(schedule, levels, network, start, noises, "ddim_sample_loop", eta=eta)

    def _looped(
        self,
        schedule: Chains,
        levels: tuple[int, ...],
        network: Network,
        start: Native,
        noises: Native,
        loop: str,
        variance: str = "FIXED_SMALL",
        **options: float,
    ) -> Native:
        chain = schedule.on(tuple(sorted(levels))[1:])
        wide = start if start.ndim > 1 else start.reshape(-1, 1)  # the class wants channels

        def model(x: Native, heard: Native, **_: Any) -> Native:
            return network(x.reshape(start.shape), int(chain.level(heard)[0])).reshape(x.shape)

        with arithmetic_of(start), given_noise([z.reshape(wide.shape) for z in noises]):
            sample = getattr(chain.of(variance=variance), loop)(
                model, tuple(wide.shape), noise=wide, clip_denoised=False, device=start.device, **options
            )
        return sample.reshape(start.shape)

    def ddim_invert(self, schedule: Handle, levels: tuple[int, ...], network: Network, data: Native) -> Native:
        """Step after step of `ddim_inversion_step`, the network asked where a step starts."""
        x, upwards = data, sorted(levels)
        for s, t in pairwise(upwards):
            x = self.ddim_inversion_step(schedule, x, t, s, network(x, s or t))
        return x

    def _kl_normal_logvar(self, mean1: Native, logvar1: Native, mean2: Native, logvar2: Native) -> Native:
        """``normal_kl``."""
        with arithmetic_of(mean1):
            return self._given["normal_kl"](mean1, logvar1, mean2, logvar2)

    def _cosine_betas(self, T: int, s: float, max_beta: float) -> Native:
        """``betas_for_alpha_bar`` of the squared cosine."""

        def alpha_bar(time: float) -> float:
            return math.cos((time + s) / (1 + s) * math.pi / 2) ** 2

        return self._table(self._given["betas_for_alpha_bar"](T, alpha_bar, max_beta))
