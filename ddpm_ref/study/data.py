"""The data that samplers are judged on: laws whose optimal network is known exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ddpm_ref.errors import RangeError
from ddpm_ref.extras import require
from ddpm_ref.reference.oracle import Finite, Gaussian, Mixture
from ddpm_ref.typing import Array, Real

GREY_LEVEL = 2 / 16
"""Distance of two grey levels of the digits, scaled to [-1, 1]."""


@dataclass(frozen=True)
class Subject:
    """Data, what to call them, and the noise that is added to samples and data before they are compared."""

    name: str
    title: str
    data: Gaussian | Mixture | Finite
    blur: float = 0.0


def load(name: str, blur: Real | None = None) -> Subject:
    """One of `ORACLES`, with another blur than its own if one is given.

    Raises `RangeError` for an unknown name, a negative blur, or points without blur; `MissingExtraError` for digits
    without scikit-learn.
    """
    if name not in ORACLES:
        raise RangeError(f"oracle {name!r} is not known; write one of {', '.join(ORACLES)}")
    subject = ORACLES[name]()
    chosen = subject.blur if blur is None else float(blur)
    if not 0 <= chosen < np.inf or (chosen == 0 and isinstance(subject.data, Finite)):
        raise RangeError(
            f"blur = {blur!r}; it is a standard deviation >= 0, and > 0 for points, from which any density is infinitely far"
        )
    return Subject(subject.name, subject.title, subject.data, chosen)


def _gaussian() -> Subject:
    return Subject("gaussian", "normal data, mean 0.3, deviation 0.5", Gaussian(0.3, 0.25))


def _mixture() -> Subject:
    data = Mixture([0.5, 0.5], [-1.0, 1.0], [0.0625, 0.0625])
    return Subject("mixture", "two modes at -1 and 1, deviation 0.25 each", data)


def _digits() -> Subject:
    pixels = _images()
    grey, counts = np.unique(pixels[:, np.argmax(pixels.var(axis=0))], return_counts=True)
    # Whether that pixel is black, white or between: the one-dimensional law of the digits least like a normal law.
    data = Finite(grey, counts / counts.sum())
    title = f"the pixel of the {len(pixels)} digits that varies most: {len(grey)} grey levels and their counts"
    return Subject("digits", title, data, GREY_LEVEL / 4)


def _digits_gaussian() -> Subject:
    pixels = _images()
    # Some pixels are the same in all digits; what rounding to grey levels hides, a uniform law, has this variance at least.
    covariance = np.cov(pixels, rowvar=False, bias=True) + GREY_LEVEL**2 / 12 * np.eye(pixels.shape[1])
    data = Gaussian(pixels.mean(axis=0), (covariance + covariance.T) / 2)
    return Subject("digits-gaussian", "normal data with mean and covariance of the digits, 64 dimensions", data)


def _images() -> Array:
    pixels = require("sklearn.datasets", "train").load_digits().data
    return np.asarray(pixels * GREY_LEVEL - 1.0, dtype=np.float64)


ORACLES: dict[str, Callable[[], Subject]] = {
    "gaussian": _gaussian,
    "mixture": _mixture,
    "digits": _digits,
    "digits-gaussian": _digits_gaussian,
}
