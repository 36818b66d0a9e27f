r"""Nats of an image and bits per dimension: the one place where one becomes the other."""

from __future__ import annotations

import numpy as np

from ddpm_ref.errors import RangeError
from ddpm_ref.reference.arguments import numbers
from ddpm_ref.reference.scaling import level_count
from ddpm_ref.typing import Array, ArrayLike, Real


def bits_per_dim(nats: ArrayLike, dimension: Real) -> Array:
    r"""Bits per dimension, :math:`\mathrm{nats}/(d\ln 2)`, from the nats of a whole image.

    Args: ``nats``: of any shape, summed over the ``dimension`` components of an image; infinities stay what they are.
    ``dimension``: the number of components d, pixels times channels, at least 1.

    For data on a grid this is the length of a code; a density says so only after `continuous_bits_per_dim`. Raises
    `RangeError` for a dimension that is no number of components, or NaN. Source: ho2020, section 4.

    >>> float(bits_per_dim(3072 * np.log(256), 3072))  # all 256 levels equally likely
    8.0
    """
    return np.asarray(_nats(nats, "nats") / (_components(dimension) * np.log(2)))


def nats_per_image(bits_per_dim: ArrayLike, dimension: Real) -> Array:
    r"""Nats of a whole image, :math:`\mathrm{bpd}\cdot d\ln 2`: the way back from `bits_per_dim`, and its errors.

    >>> float(nats_per_image(8.0, 1))
    5.545177444479562
    """
    return np.asarray(_nats(bits_per_dim, "bits_per_dim") * (_components(dimension) * np.log(2)))


def continuous_bits_per_dim(nats: ArrayLike, dimension: Real, levels: Real = 256) -> Array:
    r"""What a negative log density on [-1, 1] is worth in bits per dimension of data with that many levels.

    .. math:: \frac{\mathrm{nats}}{d\ln 2} + \log_2\frac{n - 1}{2}

    since a bin is :math:`2/(n-1)` wide: density times width for the probability of the bin. It bounds the length of a code
    only for data with noise of the width of a bin added (uniform dequantisation). Args and errors as `bits_per_dim`, in
    nats of the whole image; ``levels``: n, at least 2. Source: ho2020, section 4.

    >>> float(continuous_bits_per_dim(np.log(2.0), 1))  # uniform on [-1, 1]: one bin more than fits, the outer ones being half
    7.994353436858858
    """
    return np.asarray(bits_per_dim(nats, dimension) + np.log2((level_count(levels) - 1) / 2))


def _nats(value: ArrayLike, name: str) -> Array:
    array = numbers(value, name)
    if np.isnan(array).any():
        raise RangeError(f"{name} contains nan at index {tuple(map(int, np.argwhere(np.isnan(array))[0]))}")
    return array


def _components(dimension: Real) -> int:
    if isinstance(dimension, bool) or not isinstance(dimension, int | np.integer) or dimension < 1:
        raise RangeError(f"dimension = {dimension!r} must be a whole number of components, at least 1")
    return int(dimension)
