r"""Which levels a training step is made at: all alike, spread over the range, or where the loss is largest.

Whatever the law, the mean of ``weight * loss`` over the batch estimates the mean loss over the levels 1..T without bias;
the laws differ in variance only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from ddpm_ref.torch.arguments import one_of
from ddpm_ref.torch.objectives import antithetic_levels, importance_probabilities, importance_weights

TIME_SAMPLERS = ("uniform", "antithetic", "importance")
"""By name: independent and uniform, one stratified set per batch, or in proportion to the size of the loss."""

HISTORY = 10
"""Losses remembered of each level (nichol2021, section 3.3)."""

UNIFORM_SHARE = 0.001
"""Share of the uniform law in that of importance sampling, so that no level is forgotten (the authors' code)."""

STATE = ("losses", "seen")
"""What importance sampling remembers, by name."""


@runtime_checkable
class TimeSampler(Protocol):
    """Draws the levels of a batch."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Levels 1..T, int64, and the weights of their losses, float64, or None for weights of 1; both ``(count,)``.

        They are on the device of the generator.
        """
        ...

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Learn the losses, before any weight, that were found at the levels ``t``; both ``(batch,)``."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What must be kept so that a resumed run draws the same levels; empty if nothing."""
        ...


class AntitheticTimes:
    r"""Levels from one uniform number, spread evenly over 1..T: see `ddpm_ref.torch.objectives.antithetic_levels`.

    Each by itself is uniform, so no weights are needed; a batch covers the range instead of leaving gaps.

    >>> t, weight = AntitheticTimes(T=8).draw(4, torch.Generator().manual_seed(0))
    >>> sorted(t.tolist()), weight
    ([2, 4, 6, 8], None)
    """

    def __init__(self, T: int) -> None:
        self.T = T

    def draw(self, count: int, generator: torch.Generator) -> tuple[Int[Tensor, " count"], None]:
        """See `TimeSampler.draw`."""
        uniform = torch.rand((), generator=generator, dtype=torch.float64, device=generator.device)
        return antithetic_levels(uniform, count, self.T), None

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Nothing is learnt."""

    def state(self) -> dict[str, Tensor]:
        """Nothing is kept."""
        return {}


class ImportanceTimes:
    r"""Levels in proportion to the root mean square of the last losses found there.

    .. math:: p_t = (1 - \rho)\frac{\sqrt{\overline{L_t^2}}}{\sum_i\sqrt{\overline{L_i^2}}} + \frac\rho T, \qquad
              w_t = \frac1{T p_t}

    with :math:`\overline{L_t^2}` the mean over the last 10 losses of level t and :math:`\rho` = 0.001; uniform until every
    level has 10 (and where all of them are 0).

    Args:
        T: the highest level.
        state: to go on with, as `state` gave it; see `check_state` for its shapes.

    Limits: losses are what the last weights of the network made of single examples: the law lags behind the training,
    which costs variance and no bias. Source: nichol2021, section 3.3.

    >>> times = ImportanceTimes(T=2)
    >>> for _ in range(10):
    ...     times.update(torch.tensor([1, 2]), torch.tensor([1.0, 3.0]))
    >>> [round(p, 6) for p in times.probabilities().tolist()]  # 1/4 and 3/4, and a thousandth of 1/2
    [0.25025, 0.74975]
    """

    def __init__(self, T: int, state: Mapping[str, Tensor] | None = None) -> None:
        self.T = T
        # Level t has row t; that of level 0, at which nobody trains, stays empty.
        self._losses: NDArray[np.float64] = np.zeros((T + 1, HISTORY))
        self._seen: NDArray[np.int64] = np.zeros(T + 1, dtype=np.int64)
        if state is not None:
            self._losses, self._seen = state["losses"].numpy().copy(), state["seen"].numpy().copy()

    def probabilities(self) -> Float[Tensor, " T"]:
        """Of the levels 1..T, float64."""
        if (self._seen[1:] < HISTORY).any() or not self._losses.any():
            return torch.full((self.T,), 1.0 / self.T, dtype=torch.float64)
        return importance_probabilities(torch.from_numpy((self._losses[1:] ** 2).mean(axis=1)), UNIFORM_SHARE)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Int[Tensor, " count"], Float[Tensor, " count"]]:
        """See `TimeSampler.draw`."""
        probabilities = self.probabilities()
        law = probabilities.to(generator.device)
        index = torch.multinomial(law, count, replacement=True, generator=generator)
        return index + 1, importance_weights(probabilities).to(generator.device)[index]

    def update(self, t: Tensor, losses: Tensor) -> None:
        """See `TimeSampler.update`."""
        for level, loss in zip(t.tolist(), losses.tolist(), strict=True):
            self._losses[level, self._seen[level] % HISTORY] = loss
            self._seen[level] += 1

    def state(self) -> dict[str, Tensor]:
        """The last losses of each level, ``(T + 1, 10)``, and how many there have been, ``(T + 1,)``."""
        return {"losses": torch.from_numpy(self._losses.copy()), "seen": torch.from_numpy(self._seen.copy())}


def make(name: str, T: int, state: Mapping[str, Tensor] | None = None) -> TimeSampler | None:
    """The time sampler of this name; None for ``"uniform"``, which needs none (`ddpm_ref.training.objective.draw`).

    Args:
        name: one of `TIME_SAMPLERS`.
        T: the highest level.
        state: of the sampler of a run to go on with.

    Raises:
        RangeError: an unknown name.
    """
    one_of("time_sampler", name, TIME_SAMPLERS)
    if name == "importance":
        return ImportanceTimes(T, state)
    return AntitheticTimes(T) if name == "antithetic" else None


def state_problem(state: Mapping[str, Tensor], T: int) -> str | None:
    """What is wrong with a stored state of `ImportanceTimes`, in words; None if nothing is."""
    if set(state) != set(STATE):
        return f"its time sampler has {', '.join(sorted(state)) or 'no tensors'}; it must have {' and '.join(STATE)}"
    losses, seen = state["losses"], state["seen"]
    if losses.shape != (T + 1, HISTORY) or losses.dtype != torch.float64 or not bool(losses.isfinite().all()):
        return f"the losses of its time sampler are no finite float64 numbers of shape {(T + 1, HISTORY)}"
    if seen.shape != (T + 1,) or seen.dtype != torch.int64 or bool((seen < 0).any()) or int(seen[0]):
        return f"the counts of its time sampler are no whole numbers >= 0 of shape {(T + 1,)}, the first of them 0"
    return None
