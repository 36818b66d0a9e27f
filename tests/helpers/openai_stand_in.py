"""A diffusion with the interface of OpenAI's code and nothing else of it: every number comes from the reference.

It stands in for code that cannot be part of this package. Its results pass through ``.float()``, as theirs do.
"""

from __future__ import annotations

import enum
import math
from functools import lru_cache

import numpy as np
import torch

from ddpm_ref.reference import bound, ddim, divergence, forward, posterior, prediction, reverse, scaling
from ddpm_ref.reference.schedule import NoiseSchedule

ModelMeanType = enum.Enum("ModelMeanType", ["EPSILON", "START_X", "PREVIOUS_X"])
ModelVarType = enum.Enum("ModelVarType", ["FIXED_SMALL", "FIXED_LARGE", "LEARNED_RANGE", "LEARNED"])
LossType = enum.Enum("LossType", ["MSE"])


def array(tensor):
    return tensor.detach().double().numpy()


def tensor(values):
    return torch.from_numpy(np.array(values, dtype=np.float64)).float()


@lru_cache(maxsize=256)
def exact(betas):
    """The schedule of some betas, up to the first that leaves no signal: there are no levels above that."""
    values = np.frombuffer(betas)
    return NoiseSchedule.from_betas(values[: int(np.argmax(values == 1)) + 1] if 1.0 in values else values)


def normal_kl(mean1, logvar1, mean2, logvar2):
    one = torch.zeros((), dtype=torch.float64)
    m1, l1, m2, l2 = (
        array(v + 0 * one) if torch.is_tensor(v) else np.asarray(float(v)) for v in (mean1, logvar1, mean2, logvar2)
    )
    return tensor(divergence.kl_normal_logvar(*np.broadcast_arrays(m1, l1, m2, l2)))


def grey(x):
    """The data in float64, which the reference wants on the grid of their levels."""
    return scaling.from_level_index(np.rint((array(x) + 1) * 127.5).astype(int), 256)


def discretized_gaussian_log_likelihood(x, *, means, log_scales):
    return tensor(-bound.reconstruction_term(grey(x), array(means), array(2 * log_scales), 256))


class GaussianDiffusion:
    """All levels 1..T, or those of ``kept``."""

    def __init__(self, *, betas, model_mean_type, model_var_type, loss_type, kept=None):
        assert len(betas) > 1
        self.model_mean_type, self.model_var_type, self.loss_type = model_mean_type, model_var_type, loss_type
        self.whole = exact(betas.tobytes())
        self.levels = np.array(
            [level for level in [0, *(sorted(kept) if kept else range(1, len(betas) + 1))] if level <= self.whole.T]
        )
        self.num_timesteps = len(self.levels) - 1
        steps = self.whole.between(self.levels[1:], self.levels[:-1])
        self.betas, self.posterior_variance = steps.beta, steps.beta_tilde
        self.posterior_mean_coef1, self.posterior_mean_coef2 = steps.x0_weight, steps.xt_weight
        self.alphas_cumprod = self.whole.alpha_bar[self.levels[1:]]
        self.alphas_cumprod_prev = self.whole.alpha_bar[self.levels[:-1]]
        with np.errstate(divide="ignore"):  # a chain of one level has no second step to borrow from
            self.posterior_log_variance_clipped = np.log(self.first_replaced(steps.beta_tilde))

    def first_replaced(self, values):
        """Variances, in place of the first the posterior variance of the second step, if there is one."""
        return (
            np.append(np.append(self.posterior_variance[1:2], values[1:2])[:1], values[1:])
            if len(values) > 1
            else values
        )

    def step(self, t):
        """The paper's levels of some indices, and those below them."""
        return self.levels[t.numpy() + 1], self.levels[t.numpy()]

    def heard(self, t):
        return t

    def q_mean_variance(self, x, t):
        level, _ = self.step(t)
        spread = (-1,) + (1,) * (x.ndim - 1)
        mean = tensor(self.whole.sqrt_alpha_bar[level].reshape(spread) * array(x))
        return mean, tensor(self.whole.beta_bar[level].reshape(spread) + 0 * array(x)), None

    def q_sample(self, x, t, noise):
        return tensor(forward.q_sample(self.whole, array(x), self.step(t)[0], array(noise)))

    def q_posterior_mean_variance(self, x_start, x_t, t):
        mean, variance = posterior.q_posterior(self.whole, array(x_start), array(x_t), *self.step(t))
        return tensor(mean), tensor(variance + 0 * mean), None

    def _predict_xstart_from_eps(self, x_t, t, eps):
        return tensor(prediction.x0_from_eps(self.whole, array(x_t), self.step(t)[0], array(eps)))

    def _predict_eps_from_xstart(self, x_t, t, pred_xstart):
        return tensor(prediction.eps_from_x0(self.whole, array(x_t), self.step(t)[0], array(pred_xstart)))

    def p_mean_variance(self, model, x, t, clip_denoised=True):
        answer, frac = model(x, self.heard(t)), None
        if self.model_var_type is ModelVarType.LEARNED_RANGE:
            answer, values = torch.split(answer, x.shape[1], dim=1)
            frac = (array(values) + 1) / 2
        t_, s_ = self.step(t)
        if self.model_mean_type is ModelMeanType.START_X:
            x0 = answer.clamp(-1, 1) if clip_denoised else answer
            mean = posterior.q_posterior(self.whole, array(x0), array(x), t_, s_)[0]
        else:
            assert not clip_denoised
            x0 = None
            mean = reverse.model_mean_from_eps(self.whole, array(x), t_, s_, array(answer))
        variance, log_variance = self.variances(t, x.shape, frac)
        return {
            "mean": tensor(mean),
            "variance": variance,
            "log_variance": log_variance,
            "pred_xstart": x0,
            "answer": answer,
        }

    def variances(self, t, shape, frac):
        small, large = self.first_replaced(self.posterior_variance), self.first_replaced(self.betas)
        spread = (-1,) + (1,) * (len(shape) - 1)
        low, high, exact = (
            v[t.numpy()].reshape(spread) + np.zeros(shape) for v in (small, self.betas, self.posterior_variance)
        )
        if frac is not None:
            log_variance = frac * np.log(high) + (1 - frac) * np.log(low)
            return tensor(np.exp(log_variance)), tensor(log_variance)
        if self.model_var_type is ModelVarType.FIXED_LARGE:
            exact = low = large[t.numpy()].reshape(spread) + np.zeros(shape)
        with np.errstate(divide="ignore"):
            return tensor(exact), tensor(np.log(low))

    def condition_mean(self, cond_fn, p_mean_var, x, t, model_kwargs=None):
        gradient = cond_fn(x, t if t is None else self.heard(t), **model_kwargs)
        return tensor(array(p_mean_var["mean"]) + array(p_mean_var["variance"]) * array(gradient))

    def p_sample(self, model, x, t, clip_denoised=True, cond_fn=None, model_kwargs=None):
        out = self.p_mean_variance(model, x, t, clip_denoised)
        noise = torch.randn_like(x)
        if cond_fn is not None:
            out["mean"] = self.condition_mean(cond_fn, out, x, t, model_kwargs)
        return {"sample": tensor(array(out["mean"]) + self.scale_of_noise(t, x, out) * array(noise))}

    def scale_of_noise(self, t, x, out):
        """Standard deviations, none at index 0."""
        std = np.exp(0.5 * array(out["log_variance"]))
        return std * (t.numpy() > 0).reshape((-1,) + (1,) * (x.ndim - 1))

    def ddim_sample(self, model, x, t, clip_denoised=True, cond_fn=None, model_kwargs=None, eta=0.0):
        assert not clip_denoised
        answer, z, (t_, s_) = array(model(x, self.heard(t))), array(torch.randn_like(x)), self.step(t)
        if self.model_mean_type is ModelMeanType.START_X:
            return {"sample": tensor(ddim.ddim_step_from_x0(self.whole, array(x), t_, s_, answer, z, eta))}
        if cond_fn is not None:
            gradient = array(cond_fn(x, self.heard(t), **model_kwargs))
            answer = answer - self.whole.sqrt_beta_bar[t_].reshape((-1,) + (1,) * (x.ndim - 1)) * gradient
        return {"sample": tensor(ddim.ddim_step_from_eps(self.whole, array(x), t_, s_, answer, z, eta))}

    condition_score = ddim_sample  # its presence is what the adapter looks for

    def ddim_reverse_sample(self, model, x, t, clip_denoised=True):
        s_, eps = self.step(t)[0], array(model(x, self.heard(t)))
        return {"sample": tensor(ddim.ddim_inversion_step(self.whole, array(x), self.levels[t.numpy() + 2], s_, eps))}

    def p_sample_loop(self, model, shape, noise, clip_denoised, device):
        return self.looped(lambda x, t: self.p_sample(model, x, t, clip_denoised), shape, noise)

    def ddim_sample_loop(self, model, shape, noise, clip_denoised, device, eta):
        return self.looped(lambda x, t: self.ddim_sample(model, x, t, clip_denoised, eta=eta), shape, noise)

    def looped(self, step, shape, x):
        assert tuple(x.shape) == shape
        for index in reversed(range(self.num_timesteps)):
            x = step(x, torch.full((shape[0],), index))["sample"]
        return x

    def _prior_bpd(self, x_start):
        kl = forward.terminal_kl(
            self.whole if self.num_timesteps > 1 else exact(self.betas[:1].tobytes()), array(x_start)
        )
        return tensor(kl.reshape(len(x_start), -1).mean(1) / math.log(2.0))

    def _vb_terms_bpd(self, model, x_start, x_t, t, clip_denoised=True):
        assert self.model_mean_type is ModelMeanType.PREVIOUS_X
        assert self.model_var_type is ModelVarType.LEARNED
        assert not clip_denoised
        mean, log_variance = map(array, torch.split(model(x_t, self.heard(t)), x_t.shape[1], dim=1))
        (t_, s_), both = self.step(t), (grey(x_start), array(x_t))
        return {"output": tensor(bound.bound_term(self.whole, *both, t_, s_, mean, log_variance, 256))}


class SpacedDiffusion(GaussianDiffusion):
    """Some levels of a chain; its network hears the indices of the whole one."""

    def __init__(self, use_timesteps, **options):
        super().__init__(kept=[index + 1 for index in use_timesteps], **options)

    def heard(self, t):
        return torch.from_numpy(self.step(t)[0]) - 1
