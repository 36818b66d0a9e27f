"""Chains of a ``GaussianDiffusion`` in OpenAI's style: its class knows steps from neighbour to neighbour on a chain of its own.

A step over several levels is one of a chain that has only its two ends.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ddpm_ref.conformance.capabilities import Native
from ddpm_ref.typing import Array

ABOVE = 0.5  # beta of a level on top of a chain of one, which the class cannot be made from
VARIANCES = {"posterior": "FIXED_SMALL", "beta": "FIXED_LARGE"}
KEPT = 512  # chains of a schedule that are kept


@dataclass(frozen=True)
class Chain:
    """A diffusion of the implementation on some levels of the paper, ascending; its index 0 is the first of them."""

    diffusion: Any
    levels: tuple[int, ...]
    original: bool  # whether its network hears indices of the whole chain

    def level(self, heard: Native) -> Native:
        """The paper's level of what the network hears."""
        import torch

        return heard + 1 if self.original else torch.tensor(self.levels, device=heard.device)[heard]

    def of(self, mean: str = "EPSILON", variance: str = "FIXED_SMALL") -> Any:
        """The diffusion with a network that predicts this, and with this variance."""
        diffusion = copy.copy(self.diffusion)
        diffusion.model_mean_type = type(diffusion.model_mean_type)[mean]
        diffusion.model_var_type = type(diffusion.model_var_type)[variance]
        return diffusion


@dataclass
class Chains:
    """The implementation's diffusions of one schedule: the whole chain, and the shorter ones that steps need."""

    betas: Array
    make: Callable[[Array], Any]
    space: Callable[[set[int], Array], Any] | None
    kept: dict[tuple[int, ...], Chain] = field(default_factory=dict)

    @property
    def T(self) -> int:
        """Number of levels."""
        return len(self.betas)

    def on(self, levels: tuple[int, ...]) -> Chain:
        """The chain on these levels, ascending, without level 0."""
        if levels not in self.kept:
            if len(self.kept) >= KEPT:
                self.kept.clear()
            self.kept[levels] = self._made(levels)
        return self.kept[levels]

    @property
    def whole(self) -> Chain:
        """The chain on all levels."""
        return self.on(tuple(range(1, self.T + 1)))

    def step(self, t: int, s: int) -> tuple[Chain, int]:
        """A chain in which the step from t to s is one from neighbour to neighbour, and the index of t in it."""
        if s == t - 1:
            return self.whole, t - 1
        chain = self.on((s, t) if s else (t,))
        return chain, len(chain.levels) - 1

    def _made(self, levels: tuple[int, ...]) -> Chain:
        with np.errstate(all="ignore"):  # logarithms and quotients of 0 at zero terminal SNR
            if len(levels) == self.T:
                return Chain(self._of_betas(self.betas), levels, original=True)
            above = levels if len(levels) > 1 else (*levels, max(self.T, levels[0] + 1))
            alpha_bar = self.whole.diffusion.alphas_cumprod[np.array(levels) - 1]
            # Above zero terminal SNR there is no level: its beta would be the quotient of 0 and 0.
            if self.space is not None and (above[-1] <= self.T or alpha_bar[-1] > 0):
                longer = self.betas if above[-1] <= self.T else np.append(self.betas, ABOVE)
                diffusion = self.space({level - 1 for level in above}, longer)
                diffusion.num_timesteps = len(levels)
                return Chain(diffusion, levels, original=True)
            return Chain(self._of_betas(1 - alpha_bar / np.append(1.0, alpha_bar[:-1])), levels, original=False)

    def _of_betas(self, betas: Array) -> Any:
        """The class on these betas; a chain of one level gets another above it, which nothing below sees."""
        diffusion = self.make(betas if len(betas) > 1 else np.append(betas, ABOVE))
        diffusion.num_timesteps = len(betas)
        return diffusion
