"""A diffusion with the interface of lucidrains' code and nothing else of it: tables in float64, kept in float32 buffers.

It stands in for code that cannot be part of this package.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch.nn import functional


def linear_beta_schedule(timesteps):
    return torch.linspace(0.1 / timesteps, 20.0 / timesteps, timesteps, dtype=torch.float64)


def rows(values, t, like):
    return values[t].reshape(-1, *[1] * (like.ndim - 1))


class GaussianDiffusion(torch.nn.Module):
    def __init__(self, model, *, image_size, timesteps, beta_schedule, auto_normalize):
        super().__init__()
        assert beta_schedule == "linear"
        assert not auto_normalize
        assert model.channels == model.out_dim
        self.model, self.objective = model, "pred_v"
        betas = linear_beta_schedule(timesteps)
        kept = torch.cumprod(1 - betas, dim=0)
        before = functional.pad(kept[:-1], (1, 0), value=1.0)
        tilde = betas * (1 - before) / (1 - kept)
        tables = {
            "betas": betas,
            "alphas_cumprod": kept,
            "signal": kept.sqrt(),
            "noise": (1 - kept).sqrt(),
            "posterior_variance": tilde,
            "posterior_log_variance_clipped": tilde.clamp(min=1e-20).log(),
            "posterior_mean_coef1": betas * before.sqrt() / (1 - kept),
            "posterior_mean_coef2": (1 - before) * (1 - betas).sqrt() / (1 - kept),
        }
        self.exact = {name: table.clone() for name, table in tables.items()}
        for name, table in tables.items():
            self.register_buffer(name, table.to(torch.float32))
        self.num_timesteps = self.sampling_timesteps = len(betas)
        self.ddim_sampling_eta = 0.0

    def q_sample(self, x_start, t, noise):
        return rows(self.signal, t, x_start) * x_start + rows(self.noise, t, x_start) * noise

    def predict_start_from_noise(self, x_t, t, noise):
        return (x_t - rows(self.noise, t, x_t) * noise) / rows(self.signal, t, x_t)

    def predict_noise_from_start(self, x_t, t, x0):
        return (x_t - rows(self.signal, t, x_t) * x0) / rows(self.noise, t, x_t)

    def predict_start_from_v(self, x_t, t, v):
        return rows(self.signal, t, x_t) * x_t - rows(self.noise, t, x_t) * v

    def predict_v(self, x_start, t, noise):
        return rows(self.signal, t, x_start) * noise - rows(self.noise, t, x_start) * x_start

    def q_posterior(self, x_start, x_t, t):
        mean = rows(self.posterior_mean_coef1, t, x_t) * x_start + rows(self.posterior_mean_coef2, t, x_t) * x_t
        return mean, rows(self.posterior_variance, t, x_t), rows(self.posterior_log_variance_clipped, t, x_t)

    def model_predictions(self, x, t, x_self_cond=None, clip_x_start=False, rederive_pred_noise=False):
        answer = self.model(x, t, x_self_cond)
        x_start = answer if self.objective == "pred_x0" else self.predict_start_from_noise(x, t, answer)
        if clip_x_start:
            x_start = x_start.clamp(-1, 1)
        noise = (
            answer
            if self.objective == "pred_noise" and not clip_x_start
            else self.predict_noise_from_start(x, t, x_start)
        )
        return noise, x_start

    def p_mean_variance(self, x, t, x_self_cond=None, clip_denoised=True):
        _, x_start = self.model_predictions(x, t, x_self_cond)
        return *self.q_posterior(x_start.clamp(-1, 1) if clip_denoised else x_start, x, t), x_start

    def p_sample(self, x, t, x_self_cond=None):
        mean, _, log_variance, x_start = self.p_mean_variance(
            x, torch.full((len(x),), t), x_self_cond, clip_denoised=True
        )
        return mean + self.deviation(log_variance) * (torch.randn_like(x) if t > 0 else 0.0), x_start

    def deviation(self, log_variance):
        return log_variance.double().div(2).exp().to(log_variance.dtype)

    def ddim_sample(self, shape):
        times = torch.linspace(-1, self.num_timesteps - 1, self.sampling_timesteps + 1).int().tolist()[::-1]
        x = torch.randn(shape)
        for time, after in pairwise(times):
            index = torch.full((shape[0],), time)
            noise, x_start = self.model_predictions(x, index, None, clip_x_start=True, rederive_pred_noise=True)
            x = x_start if after < 0 else self.ddim_step(x, x_start, noise, time, after)
        return x

    def ddim_step(self, x, x_start, noise, time, after):
        kept = self.exact["alphas_cumprod"]
        sigma = self.sigma(kept[time], kept[after])
        direction = (1 - kept[after] - sigma**2).clamp(min=0).sqrt()
        step = kept[after].sqrt() * x_start.double() + direction * noise.double() + sigma * torch.randn_like(x).double()
        return step.to(x.dtype)

    def sigma(self, now, after):
        return self.ddim_sampling_eta * ((1 - after) / (1 - now) * (1 - now / after)).sqrt()
