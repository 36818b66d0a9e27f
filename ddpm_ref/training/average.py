r"""The exponential moving average of the weights, which is what one samples with.

The iterates of a stochastic optimiser rattle around in the valley they have found; their mean lies nearer to its floor.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def decay_at(decay: float | int, step: int) -> float:
    r"""The decay of one update: short memory at first, so that the random initial weights are soon forgotten.

    .. math:: d_n = \min\left(d, \frac{1 + n}{10 + n}\right)

    Args:
        decay: d, at least 0 and below 1.
        step: n, 1 for the first.

    Source: ho2020, appendix B, for the average (d = 0.9999); the fraction is the rule of TensorFlow's
    ``ExponentialMovingAverage`` with ``num_updates``.

    >>> decay_at(0.995, 8), decay_at(0.995, 10_000)
    (0.5, 0.995)
    """
    return min(float(decay), (1 + step) / (10 + step))


class Average:
    r"""The moving average of a network's weights, in float32 whatever the format of the weights.

    .. math:: m_n = d_n\, m_{n-1} + (1 - d_n)\, \theta_n, \qquad m_0 = \theta_0

    Args:
        state: the weights by name, to start from: :math:`\theta_0`, or an average to go on with.
        decay: d of `decay_at`.
        device: where the weights are.

    >>> average = Average({"w": torch.zeros(1)}, decay=0.5)
    >>> for step in (1, 2, 3):
    ...     average.update({"w": torch.ones(1)}, step)
    >>> average.values["w"]  # 1 - 2/11 * 3/12 * 4/13
    tensor([0.9860])
    """

    def __init__(self, state: Mapping[str, Tensor], decay: float | int, device: torch.device | str = "cpu") -> None:
        self.decay = decay
        self.values = {name: weight.detach().to(device, torch.float32, copy=True) for name, weight in state.items()}

    @torch.no_grad()
    def update(self, state: Mapping[str, Tensor], step: int) -> None:
        """Take in the weights after the step of this number."""
        share = 1.0 - decay_at(self.decay, step)
        for name, mean in self.values.items():
            mean.lerp_(state[name].to(torch.float32), share)
