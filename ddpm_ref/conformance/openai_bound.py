"""Terms of the variational bound in OpenAI's style: ``_vb_terms_bpd``, and the decoder that it takes for the last step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ddpm_ref.conformance.capabilities import Handle, Native
from ddpm_ref.conformance.interception import arithmetic_of
from ddpm_ref.conformance.levelwise import one_level_at_a_time
from ddpm_ref.conformance.openai_chains import Chain, Chains

LEVELS = 256
"""The grey levels of the decoder; the code knows no other number, and no density."""
DECODER = "discretized_gaussian_log_likelihood"
MEAN, VARIANCE = "PREVIOUS_X", "LEARNED"
"""The kinds of network whose answer is the mean and the log-variance of the step themselves."""


class Bounded:
    """The answers of a class that has ``_vb_terms_bpd``, for `OpenAIAdapter`, which offers them then."""

    _given: Any

    def _bound_term(
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
        """``_vb_terms_bpd`` for a network whose answer are this mean and this log-variance."""
        if levels != LEVELS:
            return NotImplemented
        import torch

        chains: Chains = schedule
        rows = [x.reshape(*np.shape(t), -1) if np.ndim(t) else x.reshape(1, -1) for x in (x0, xt, mean, log_variance)]

        def asked(chain: Chain, index: Native, x0: Native, xt: Native, *answer: Native) -> Native:
            both = torch.cat(answer, dim=1)
            return chain.of(MEAN, VARIANCE)._vb_terms_bpd(lambda *_, **__: both, x0, xt, index, clip_denoised=False)[
                "output"
            ]

        def one(t: int, s: int, *rows: Native) -> Native:
            chain, index = chains.step(t, s)
            return asked(chain, torch.full(rows[0].shape[:1], index, device=x0.device), *rows)

        with arithmetic_of(x0):
            return one_level_at_a_time(one, t, s, *rows).reshape(np.shape(t))

    def _reconstruction_term(self, x0: Native, mean: Native, log_variance: Native, levels: int | None) -> Native:
        """Minus the decoder's log-likelihood."""
        if levels != LEVELS:
            return NotImplemented
        decoder: Callable[..., Native] = self._given[DECODER]
        with arithmetic_of(x0):
            return -decoder(x0, means=mean, log_scales=0.5 * log_variance)


def offers(given: Any, name: str) -> bool:
    """Whether an implementation has what an answer of `Bounded` takes."""
    if name == "reconstruction_term":
        return callable(given.get(DECODER))
    return (
        name == "bound_term"
        and callable(getattr(given.get("GaussianDiffusion"), "_vb_terms_bpd", None))
        and MEAN in given["ModelMeanType"].__members__
        and VARIANCE in given["ModelVarType"].__members__
    )
