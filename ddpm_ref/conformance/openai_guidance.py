"""Guidance by a classifier in OpenAI's style: ``condition_mean`` in ``p_sample``, ``condition_score`` in ``ddim_sample``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ddpm_ref.conformance.capabilities import Handle, Native
from ddpm_ref.conformance.interception import arithmetic_of
from ddpm_ref.conformance.levelwise import as_batch, one_level_at_a_time
from ddpm_ref.conformance.openai_chains import VARIANCES
from ddpm_ref.conformance.own_noise import given_noise

GUIDED = ("classifier_mean_shift", "guided_ddim_step", "mean_shift_step")


class Guided:
    """The answers of classes that have ``condition_mean`` and ``condition_score``, for `OpenAIAdapter`, which offers them then."""

    schedule: Callable[..., Any]
    _ddim: Callable[..., Any]

    def _classifier_mean_shift(self, mean: Native, variance: Native, gradient: Native, scale: float) -> Native:
        """``condition_mean``; the scale is in the gradient, as in the scripts."""
        diffusion = self.schedule(np.array([0.1, 0.2])).whole.of()
        moments = {"mean": mean, "variance": variance}
        with arithmetic_of(mean):
            return diffusion.condition_mean(lambda *_, **__: gradient * scale, moments, mean, None, model_kwargs={})

    def _guided_ddim_step(
        self,
        schedule: Handle,
        xt: Native,
        t: Native,
        s: Native,
        eps: Native,
        gradient: Native,
        noise: Native,
        scale: float,
        eta: float,
    ) -> Native:
        """``ddim_sample`` with ``condition_score``."""
        return self._ddim(schedule, xt, t, s, eps, noise, eta, "EPSILON", gradient * scale)

    def _mean_shift_step(
        self,
        schedule: Handle,
        xt: Native,
        t: Native,
        s: Native,
        eps: Native,
        gradient: Callable[[Native, Native], Native],
        noise: Native,
        scale: float,
        variance: str,
        gradient_point: str,
    ) -> Native:
        """``p_sample`` with ``condition_mean``, which knows one point for the gradient, whatever is asked."""
        import torch

        number = torch.arange(xt.shape[0] if xt.ndim else 1, device=xt.device)
        flat = (len(number), math.prod(xt.shape[1:]))

        def asked(t: int, s: int, row: Native, x: Native, e: Native, z: Native) -> Native:
            chain, index = schedule.step(t, s)

            def pull(at: Native, heard: Native, **_: Any) -> Native:
                # The classifier of the case knows the whole batch only: these rows are put into it.
                points, level = xt.reshape(flat).clone(), chain.level(heard)
                points[row] = at.reshape(len(row), flat[1])
                heard_level = int(level[0]) if len(level) else t  # an empty batch hears nothing
                levels = torch.full_like(number, heard_level) if xt.ndim else heard_level
                whole = gradient(points.reshape(xt.shape), levels)
                return scale * whole.reshape(flat)[row].reshape(at.shape)

            def stepped(i: Native, x: Native, e: Native, z: Native) -> Native:
                diffusion = chain.of(variance=VARIANCES[variance])
                with given_noise([z]):
                    return diffusion.p_sample(
                        lambda *_, **__: e, x, i, clip_denoised=False, cond_fn=pull, model_kwargs={}
                    )["sample"]

            return as_batch(stepped, index, x, e, z, axes=2)

        with arithmetic_of(xt):
            if not np.ndim(t):
                return asked(int(t), int(s), number, xt, eps, noise)
            return one_level_at_a_time(asked, t, s, number, xt, eps, noise)
