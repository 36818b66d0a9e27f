r"""Short chains of scalar data with linear models, whose likelihood is known: twenty thousand of them, spread evenly.

A model of two to five levels has the prior :math:`\mathcal N(0, 1)` and steps :math:`\mathcal N(ax_t + b, \sigma^2)`, so the data
are normal under it. No chain is drawn at random: its numbers are multiples of irrational ones, modulo 1.
"""

from __future__ import annotations

import numpy as np

from ddpm_ref.reference.divergence import kl_normal
from ddpm_ref.reference.posterior import log_normal
from ddpm_ref.typing import Array

CHAINS = 20_000
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73)


def _spread(count: int) -> Array:
    """Numbers in [0, 1), one row for each root of a prime, that fill the cube evenly."""
    rows = np.arange(1, CHAINS // 4 + 1)
    return np.asarray(np.sqrt(np.array(PRIMES[:count], dtype=np.float64))[:, None] * rows % 1.0)


def _chains(T: int) -> tuple[Array, Array, Array]:
    """A quarter of the chains: what is stated as the bound, the bound, and the negative log-likelihood."""
    x0, *rest = _spread(1 + 4 * T)
    x0 = 4 * x0 - 2
    betas, slopes, offsets, variances = (np.array(rest[k::4]) for k in range(4))
    betas, slopes, offsets, variances = 0.05 + 0.55 * betas, 0.2 + slopes, offsets - 0.5, 0.1 + 1.4 * variances
    kept = np.cumprod(1 - betas, axis=0)
    mean, variance = np.zeros_like(x0), np.ones_like(x0)
    for k in reversed(range(T)):
        mean, variance = slopes[k] * mean + offsets[k], slopes[k] ** 2 * variance + variances[k]
    truth = -log_normal(x0, mean, variance)
    # Every term is averaged over the noisy data: of a squared distance that is linear in them, by their two moments.
    divergences = kl_normal(np.sqrt(kept[-1]) * x0, 1 - kept[-1], 0 * x0, 1 + 0 * x0)
    for k in range(1, T):
        noise = 1 - kept[k]
        posterior = betas[k] * (1 - kept[k - 1]) / noise
        of_state = np.sqrt(1 - betas[k]) * (1 - kept[k - 1]) / noise - slopes[k]
        centre = of_state * np.sqrt(kept[k]) * x0 + np.sqrt(kept[k - 1]) * betas[k] / noise * x0 - offsets[k]
        divergences = divergences + kl_normal(centre, posterior, 0 * x0, variances[k])
        divergences = divergences + of_state**2 * noise / (2 * variances[k])
    missed = (1 - slopes[0] * np.sqrt(kept[0])) * x0 - offsets[0]
    squared = missed**2 + slopes[0] ** 2 * (1 - kept[0])
    data = (np.log(2 * np.pi * variances[0]) + squared / variances[0]) / 2
    return divergences - data, divergences + data, truth


def stated_and_right() -> tuple[Array, Array, Array]:
    """Of all chains: what is stated as the bound, the bound, and the negative log-likelihood, in nats."""
    found = [_chains(T) for T in (2, 3, 4, 5)]
    stated, right, truth = (np.concatenate([each[k] for each in found]) for k in range(3))
    return stated, right, truth
