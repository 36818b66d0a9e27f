r"""One step of ancestral sampling, :math:`x_s = \mu_\theta(x_t, t) + \sigma z`."""

from __future__ import annotations

import torch
from torch import Tensor

from ddpm_ref.torch.arguments import LevelLike, one_of, operands, pair
from ddpm_ref.torch.forward import refuse_dead_level
from ddpm_ref.torch.lincomb import lincomb
from ddpm_ref.torch.reverse import KINDS
from ddpm_ref.torch.tables import Tables, between


def ancestral_step(
    tables: Tables,
    xt: Tensor,
    t: LevelLike,
    s: LevelLike,
    eps: Tensor,
    noise: Tensor,
    variance: str = "posterior",
) -> Tensor:
    r"""The state at level s, from the state at level t and the predicted noise.

    .. math::
        x_s = \frac{1}{\sqrt{\alpha_{t|s}}}\left(x_t - \frac{\beta_{t|s}}{\sqrt{\bar\beta_t}}\hat\varepsilon\right)
            + \sigma z, \qquad \sigma = 0 \text{ at } s = 0

    Args:
        xt: noisy data, ``(*batch, *event)``.
        t, s: levels, ``T >= t > s >= 0``, scalars or in the shape of the leading axes.
        eps: predicted noise, in the shape of ``xt``.
        noise: standard normal, in the shape of ``xt``; multiplied by 0 where s = 0.
        variance: "posterior" or "fixed_small", "beta" or "fixed_large".

    Returns:
        x_s, shape and dtype of ``xt``.

    Raises:
        RangeError: an unknown variance; t = T at zero terminal SNR.
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: s = 0 gives the x_0 that eps implies; k = 9 roundings with float32 tables. Source: ho2020, algorithm 2.
    """
    one_of("variance", variance, KINDS)
    t, s = pair(tables, t, s)
    xt, eps, noise = operands(tables, t, s, xt=xt, eps=eps, noise=noise)
    refuse_dead_level(tables, t, "eps prediction does not determine the mean at zero terminal SNR; use v or x0")
    step = between(tables, t, s)
    std = step.std_tilde if KINDS[variance] == "beta_tilde" else step.sqrt_beta
    std = torch.where(step.beta_bar_s == 0, torch.zeros_like(std), std)
    return lincomb([step.recip_sqrt_alpha, -step.eps_weight, std], [xt, eps, noise])
