r"""What a network predicts, and how the predictions determine each other.

With :math:`x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{\bar\beta_t}\,\varepsilon` known, any one of eps, x0,
:math:`v = \sqrt{\bar\alpha_t}\,\varepsilon - \sqrt{\bar\beta_t}\,x_0` and the score
:math:`-\varepsilon/\sqrt{\bar\beta_t}` gives the others.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from ddpm_ref.errors import RangeError
from ddpm_ref.reference.arguments import expand, level, real, same_shape
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array, ArrayLike, Real

Prediction = Literal["eps", "x0", "v", "score"]
PREDICTIONS: dict[str, Prediction] = {
    "eps": "eps",
    "x0": "x0",
    "v": "v",
    "score": "score",
    "epsilon": "eps",
    "sample": "x0",
    "v_prediction": "v",
}


def prediction_named(name: str) -> Prediction:
    """The canonical name of a prediction (also accepted: "epsilon", "sample", "v_prediction")."""
    if name not in PREDICTIONS:
        raise RangeError(f"prediction {name!r} is not known; write one of {', '.join(PREDICTIONS)}")
    return PREDICTIONS[name]


def _signal_and_noise(
    schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, value: ArrayLike, name: str, lowest: int = 0
) -> tuple[Array, Array, Array, Array]:
    """The two data arrays and the two scales, checked and broadcast."""
    t, xt, value = level(t, schedule.T, lowest=lowest), real(xt, "xt"), real(value, name)
    shape = same_shape(**{"xt": xt, name: value})
    return xt, value, expand(schedule.sqrt_alpha_bar[t], shape), expand(schedule.sqrt_beta_bar[t], shape)


def _divisible(signal: Array, what: str, instead: str) -> Array:
    if (signal == 0).any():
        raise RangeError(f"alpha_bar = 0 (zero terminal SNR): {what}; use {instead}")
    return signal


def x0_from_eps(schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, eps: ArrayLike) -> Array:
    r"""Data prediction from noise prediction, ``t >= 0``.

    .. math:: \hat x_0 = \frac{x_t - \sqrt{\bar\beta_t}\,\hat\varepsilon}{\sqrt{\bar\alpha_t}}

    An error in eps is multiplied by ``SNR(t)^(-1/2)``. Raises `RangeError` at zero terminal SNR, `LevelError`,
    `ShapeError`. Limits: ``t = 0`` returns ``xt``. Law: ``prediction/x0_from_eps``. Source: ho2020, eq. (15).
    """
    xt, eps, signal, noise = _signal_and_noise(schedule, xt, t, eps, "eps")
    return (xt - noise * eps) / _divisible(signal, "eps does not determine x0", "prediction 'v' or 'x0'")


def x0_from_v(schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, v: ArrayLike) -> Array:
    r""":math:`\hat x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{\bar\beta_t}\,\hat v`, well-conditioned at every level.

    Law: ``prediction/x0_from_v``. Source: salimans2022, appendix D.
    """
    xt, v, signal, noise = _signal_and_noise(schedule, xt, t, v, "v")
    return signal * xt - noise * v


def x0_from_score(schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, score: ArrayLike) -> Array:
    r"""Tweedie's formula :math:`\hat x_0 = (x_t + \bar\beta_t\,\nabla\log q(x_t))/\sqrt{\bar\alpha_t}`.

    Raises `RangeError` at zero terminal SNR. Law: ``prediction/x0_from_score``. Source: Vincent 2011 (vincent2011).
    """
    xt, score, signal, _ = _signal_and_noise(schedule, xt, t, score, "score")
    variance = expand(schedule.beta_bar[level(t, schedule.T)], np.broadcast_shapes(xt.shape, score.shape))
    return (xt + variance * score) / _divisible(signal, "the score does not determine x0", "prediction 'v' or 'x0'")


def eps_from_x0(schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, x0: ArrayLike) -> Array:
    r"""Noise prediction from data prediction, ``t >= 1``.

    .. math:: \hat\varepsilon = \frac{x_t - \sqrt{\bar\alpha_t}\,\hat x_0}{\sqrt{\bar\beta_t}}

    Raises `LevelError` at ``t = 0``, where there is no noise. Law: ``prediction/eps_from_x0``. Source: inverse of
    ho2020, eq. (15).
    """
    xt, x0, signal, noise = _signal_and_noise(schedule, xt, t, x0, "x0", lowest=1)
    return (xt - signal * x0) / noise


def eps_from_v(schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, v: ArrayLike) -> Array:
    r""":math:`\hat\varepsilon = \sqrt{\bar\beta_t}\,x_t + \sqrt{\bar\alpha_t}\,\hat v`, well-conditioned at every level.

    Law: ``prediction/eps_from_v``. Source: salimans2022, appendix D.
    """
    xt, v, signal, noise = _signal_and_noise(schedule, xt, t, v, "v")
    return noise * xt + signal * v


def eps_from_score(schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, score: ArrayLike) -> Array:
    r""":math:`\hat\varepsilon = -\sqrt{\bar\beta_t}\,\nabla\log q(x_t)`.

    Law: ``prediction/eps_from_score``. Source: vincent2011.
    """
    xt, score, _, noise = _signal_and_noise(schedule, xt, t, score, "score")
    return np.broadcast_to(-noise * score, np.broadcast_shapes(xt.shape, score.shape)).copy()


def v_from_eps(schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, eps: ArrayLike) -> Array:
    r""":math:`\hat v = (\hat\varepsilon - \sqrt{\bar\beta_t}\,x_t)/\sqrt{\bar\alpha_t}`. Raises `RangeError` at zero terminal SNR.

    Law: ``prediction/v_from_eps``. Source: salimans2022, appendix D, solved for v.
    """
    xt, eps, signal, noise = _signal_and_noise(schedule, xt, t, eps, "eps")
    return (eps - noise * xt) / _divisible(signal, "eps does not determine v", "prediction 'x0'")


def v_from_x0(schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, x0: ArrayLike) -> Array:
    r""":math:`\hat v = (\sqrt{\bar\alpha_t}\,x_t - \hat x_0)/\sqrt{\bar\beta_t}`, ``t >= 1``; at zero terminal SNR it is ``-x0``.

    Law: ``prediction/v_from_x0``. Source: salimans2022, appendix D, solved for v.
    """
    xt, x0, signal, noise = _signal_and_noise(schedule, xt, t, x0, "x0", lowest=1)
    return (signal * xt - x0) / noise


def score_from_eps(schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, eps: ArrayLike) -> Array:
    r""":math:`\nabla\log q(x_t) \approx -\hat\varepsilon/\sqrt{\bar\beta_t}`, ``t >= 1``; equality for the optimal predictor.

    Law: ``prediction/score_from_eps``. Source: vincent2011; dhariwal2021, section 4.2.
    """
    xt, eps, _, noise = _signal_and_noise(schedule, xt, t, eps, "eps", lowest=1)
    return np.broadcast_to(-eps / noise, np.broadcast_shapes(xt.shape, eps.shape)).copy()


def score_from_x0(schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, x0: ArrayLike) -> Array:
    r""":math:`\nabla\log q(x_t) \approx (\sqrt{\bar\alpha_t}\,\hat x_0 - x_t)/\bar\beta_t`, ``t >= 1``.

    Law: ``prediction/score_from_x0``. Source: vincent2011.
    """
    xt, x0, signal, _ = _signal_and_noise(schedule, xt, t, x0, "x0", lowest=1)
    variance = expand(schedule.beta_bar[level(t, schedule.T)], np.broadcast_shapes(xt.shape, x0.shape))
    return (signal * x0 - xt) / variance


def v_target(schedule: NoiseSchedule, x0: ArrayLike, t: ArrayLike, noise: ArrayLike) -> Array:
    r"""What a v network is trained on: :math:`v = \sqrt{\bar\alpha_t}\,\varepsilon - \sqrt{\bar\beta_t}\,x_0`.

    Limits: ``t = 0`` returns the noise; zero terminal SNR gives ``-x0``. Law: ``prediction/v_target``. Source:
    salimans2022, appendix D.
    """
    x0, noise, signal, std = _signal_and_noise(schedule, x0, t, noise, "noise")
    return signal * noise - std * x0


_DIRECT = {
    ("eps", "x0"): x0_from_eps, ("eps", "v"): v_from_eps, ("eps", "score"): score_from_eps,
    ("x0", "eps"): eps_from_x0, ("x0", "v"): v_from_x0, ("x0", "score"): score_from_x0,
    ("v", "x0"): x0_from_v, ("v", "eps"): eps_from_v, ("score", "x0"): x0_from_score, ("score", "eps"): eps_from_score,
}  # fmt: skip


def convert(schedule: NoiseSchedule, xt: ArrayLike, t: ArrayLike, value: ArrayLike, source: str, target: str) -> Array:
    """A prediction named ``source`` turned into the one named ``target`` (v and score meet through eps).

    >>> schedule = NoiseSchedule.from_betas([0.75])
    >>> convert(schedule, [1.0], 1, [0.0], source="eps", target="x0")
    array([2.])
    """
    source, target = prediction_named(source), prediction_named(target)
    if source == target:
        return _signal_and_noise(schedule, xt, t, value, source)[1]
    if (source, target) in _DIRECT:
        return _DIRECT[source, target](schedule, xt, t, value)
    return convert(schedule, xt, t, _DIRECT[source, "eps"](schedule, xt, t, value), "eps", target)


def clip_x0(x0: ArrayLike, low: Real = -1.0, high: Real = 1.0) -> Array:
    """The data prediction clipped to the range of the data, elementwise. Raises `RangeError` unless ``low < high``.

    Not part of ho2020's Algorithm 2, though its code does it. Source: ho2020, code.
    """
    if not low < high:
        raise RangeError(f"low = {low!r}, high = {high!r}; clipping needs low < high, e.g. -1 and 1")
    return np.clip(real(x0, "x0"), low, high)


def clipped_prediction(
    schedule: NoiseSchedule,
    xt: ArrayLike,
    t: ArrayLike,
    value: ArrayLike,
    prediction: str,
    low: Real = -1.0,
    high: Real = 1.0,
) -> tuple[Array, Array]:
    """The clipped x0 that a prediction implies, and the eps re-derived from it so that both still explain ``xt``, ``t >= 1``.

    Source: dhariwal2021, code (diffusers leaves eps as it was unless asked).
    """
    x0 = clip_x0(convert(schedule, xt, t, value, prediction, "x0"), low, high)
    return x0, eps_from_x0(schedule, xt, t, x0)
