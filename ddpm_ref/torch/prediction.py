"""What a network may predict, and how one prediction becomes another: eps, x0, v and score.

Every conversion is affine in x_t and the prediction, so all of them are rows of one table (`ROWS`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from ddpm_ref.errors import RangeError
from ddpm_ref.torch.arguments import Level, LevelLike, at, finite, level, one_of, operands
from ddpm_ref.torch.forward import refuse_dead_level
from ddpm_ref.torch.lincomb import lincomb
from ddpm_ref.torch.tables import Tables

Prediction: TypeAlias = Literal["eps", "x0", "v", "score", "epsilon", "sample", "v_prediction"]

NAMES = {
    "eps": "eps",
    "x0": "x0",
    "v": "v",
    "score": "score",
    "epsilon": "eps",
    "sample": "x0",
    "v_prediction": "v",
}


class _Row:
    """The tables of one conversion at levels t, by the letters used in `ROWS`."""

    def __init__(self, tables: Tables, t: Level) -> None:
        self.a = at(tables.sqrt_alpha_bar, t)
        self.b = at(tables.sqrt_beta_bar, t)
        self.variance = at(tables.beta_bar, t)
        self.gain = at(tables.sqrt_recip_alpha_bar, t)
        self.noise_gain = at(tables.sqrt_recipm1_alpha_bar, t)


Coefficients: TypeAlias = Callable[[_Row], tuple[Tensor | None, Tensor]]

# (source, target): coefficients of x_t (None: x_t does not enter) and of the source; a = sqrt(alpha_bar), b =
# sqrt(beta_bar), gain = 1/a, noise_gain = b/a. From x_t = a x0 + b eps, v = a eps - b x0, score = -eps / b.
ROWS: dict[tuple[str, str], Coefficients] = {
    ("eps", "x0"): lambda row: (row.gain, -row.noise_gain),
    ("v", "x0"): lambda row: (row.a, -row.b),
    ("score", "x0"): lambda row: (row.gain, row.noise_gain * row.b),
    ("x0", "eps"): lambda row: (1 / row.b, -row.a / row.b),
    ("v", "eps"): lambda row: (row.b, row.a),
    ("score", "eps"): lambda row: (None, -row.b),
    ("x0", "v"): lambda row: (row.a / row.b, -1 / row.b),
    ("eps", "v"): lambda row: (-row.noise_gain, row.gain),
    ("score", "v"): lambda row: (-row.noise_gain, -row.noise_gain),
    ("x0", "score"): lambda row: (-1 / row.variance, row.a / row.variance),
    ("eps", "score"): lambda row: (None, -1 / row.b),
    ("v", "score"): lambda row: (-torch.ones_like(row.a), -row.a / row.b),
}


def x0_from_eps(tables: Tables, xt: Tensor, t: LevelLike, eps: Tensor) -> Tensor:
    r"""Clean data from predicted noise.

    .. math:: \hat x_0 = (x_t - \sqrt{1-\bar\alpha_t}\,\hat\varepsilon)/\sqrt{\bar\alpha_t}

    Args:
        xt: noisy data, ``(*batch, *event)``.
        t: level in 0..T, scalar or in the shape of the leading axes.
        eps: predicted noise, in the shape of ``xt``.

    Returns:
        x_0, shape and dtype of ``xt``.

    Raises:
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.
        RangeError: t = T at zero terminal SNR, where x_T is the noise and says nothing of x_0.

    Limits: errors of ``eps`` grow by ``SNR**-0.5``; k = 3 roundings. Source: ho2020, eq. (15).
    """
    return _affine(tables, xt, t, eps, "eps", "x0")


def x0_from_v(tables: Tables, xt: Tensor, t: LevelLike, v: Tensor) -> Tensor:
    r"""Clean data from predicted velocity.

    .. math:: \hat x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{1-\bar\alpha_t}\,\hat v

    Args:
        xt: noisy data, ``(*batch, *event)``.
        t: level in 0..T, scalar or in the shape of the leading axes.
        v: predicted velocity, in the shape of ``xt``.

    Returns:
        x_0, shape and dtype of ``xt``.

    Raises:
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: k = 3 roundings. Source: salimans2022, appendix D.
    """
    return _affine(tables, xt, t, v, "v", "x0")


def x0_from_score(tables: Tables, xt: Tensor, t: LevelLike, score: Tensor) -> Tensor:
    r"""Clean data from the score of the noisy data (Tweedie).

    .. math:: \hat x_0 = (x_t + (1-\bar\alpha_t)\,s)/\sqrt{\bar\alpha_t}

    Args:
        xt: noisy data, ``(*batch, *event)``.
        t: level in 0..T, scalar or in the shape of the leading axes.
        score: gradient of :math:`\log q(x_t)`, in the shape of ``xt``.

    Returns:
        x_0, shape and dtype of ``xt``.

    Raises:
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.
        RangeError: t = T at zero terminal SNR, where x_T is the noise and says nothing of x_0.

    Limits: k = 5 roundings. Source: efron2011.
    """
    return _affine(tables, xt, t, score, "score", "x0")


def eps_from_x0(tables: Tables, xt: Tensor, t: LevelLike, x0: Tensor) -> Tensor:
    r"""Noise from predicted clean data.

    .. math:: \hat\varepsilon = (x_t - \sqrt{\bar\alpha_t}\,\hat x_0)/\sqrt{1-\bar\alpha_t}

    Args:
        xt: noisy data, ``(*batch, *event)``.
        t: level in 1..T, scalar or in the shape of the leading axes.
        x0: predicted clean data, finite, in the shape of ``xt``.

    Returns:
        The noise, shape and dtype of ``xt``.

    Raises:
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.
        RangeError: ``x0`` is not finite.

    Limits: k = 5 roundings; undefined at t = 0. Source: song2020ddim, eq. (9).
    """
    return _affine(tables, xt, t, x0, "x0", "eps")


def eps_from_v(tables: Tables, xt: Tensor, t: LevelLike, v: Tensor) -> Tensor:
    r"""Noise from predicted velocity.

    .. math:: \hat\varepsilon = \sqrt{1-\bar\alpha_t}\,x_t + \sqrt{\bar\alpha_t}\,\hat v

    Args:
        xt: noisy data, ``(*batch, *event)``.
        t: level in 0..T, scalar or in the shape of the leading axes.
        v: predicted velocity, in the shape of ``xt``.

    Returns:
        The noise, shape and dtype of ``xt``.

    Raises:
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: k = 3 roundings. Source: salimans2022, appendix D.
    """
    return _affine(tables, xt, t, v, "v", "eps")


def eps_from_score(tables: Tables, xt: Tensor, t: LevelLike, score: Tensor) -> Tensor:
    r"""Noise from the score of the noisy data.

    .. math:: \hat\varepsilon = -\sqrt{1-\bar\alpha_t}\,s

    Args:
        xt: noisy data, ``(*batch, *event)``.
        t: level in 0..T, scalar or in the shape of the leading axes.
        score: gradient of :math:`\log q(x_t)`, in the shape of ``xt``.

    Returns:
        The noise, shape and dtype of ``xt``.

    Raises:
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: x_t enters only as the shape. k = 2 roundings. Source: vincent2011.
    """
    return _affine(tables, xt, t, score, "score", "eps")


def v_from_x0(tables: Tables, xt: Tensor, t: LevelLike, x0: Tensor) -> Tensor:
    r"""Velocity from predicted clean data.

    .. math:: \hat v = (\sqrt{\bar\alpha_t}\,x_t - \hat x_0)/\sqrt{1-\bar\alpha_t}

    Args:
        xt: noisy data, ``(*batch, *event)``.
        t: level in 1..T, scalar or in the shape of the leading axes.
        x0: predicted clean data, finite, in the shape of ``xt``.

    Returns:
        The velocity, shape and dtype of ``xt``.

    Raises:
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.
        RangeError: ``x0`` is not finite.

    Limits: k = 5 roundings; undefined at t = 0. Source: salimans2022, appendix D.
    """
    return _affine(tables, xt, t, x0, "x0", "v")


def v_from_eps(tables: Tables, xt: Tensor, t: LevelLike, eps: Tensor) -> Tensor:
    r"""Velocity from predicted noise.

    .. math:: \hat v = (\hat\varepsilon - \sqrt{1-\bar\alpha_t}\,x_t)/\sqrt{\bar\alpha_t}

    Args:
        xt: noisy data, ``(*batch, *event)``.
        t: level in 0..T, scalar or in the shape of the leading axes.
        eps: predicted noise, in the shape of ``xt``.

    Returns:
        The velocity, shape and dtype of ``xt``.

    Raises:
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.
        RangeError: t = T at zero terminal SNR, where x_T is the noise and says nothing of x_0.

    Limits: k = 3 roundings. Source: salimans2022, appendix D.
    """
    return _affine(tables, xt, t, eps, "eps", "v")


def score_from_eps(tables: Tables, xt: Tensor, t: LevelLike, eps: Tensor) -> Tensor:
    r"""Score of the noisy data from predicted noise.

    .. math:: s = -\hat\varepsilon/\sqrt{1-\bar\alpha_t}

    Args:
        xt: noisy data, ``(*batch, *event)``.
        t: level in 1..T, scalar or in the shape of the leading axes.
        eps: predicted noise, in the shape of ``xt``.

    Returns:
        The score :math:`\nabla\log q(x_t)`, shape and dtype of ``xt``.

    Raises:
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: the score only for the optimal predictor. x_t enters only as the shape. Source: vincent2011.
    """
    return _affine(tables, xt, t, eps, "eps", "score")


def score_from_x0(tables: Tables, xt: Tensor, t: LevelLike, x0: Tensor) -> Tensor:
    r"""Score of the noisy data from predicted clean data.

    .. math:: s = (\sqrt{\bar\alpha_t}\,\hat x_0 - x_t)/(1-\bar\alpha_t)

    Args:
        xt: noisy data, ``(*batch, *event)``.
        t: level in 1..T, scalar or in the shape of the leading axes.
        x0: predicted clean data, finite, in the shape of ``xt``.

    Returns:
        The score :math:`\nabla\log q(x_t)`, shape and dtype of ``xt``.

    Raises:
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.
        RangeError: ``x0`` is not finite.

    Limits: the score only for the optimal predictor. k = 5 roundings; undefined at t = 0. Source: vincent2011.
    """
    return _affine(tables, xt, t, x0, "x0", "score")


def v_target(tables: Tables, x0: Tensor, t: LevelLike, noise: Tensor) -> Tensor:
    r"""What a velocity network is trained to predict.

    .. math:: v = \sqrt{\bar\alpha_t}\,\varepsilon - \sqrt{1-\bar\alpha_t}\,x_0

    Args:
        x0: clean data, finite, ``(*batch, *event)``.
        t: level in 0..T, scalar or in the shape of the leading axes.
        noise: the noise of ``q_sample``, in the shape of ``x0``.

    Returns:
        The velocity, shape and dtype of ``x0``.

    Raises:
        LevelError, ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.
        RangeError: ``x0`` is not finite.

    Limits: k = 3 roundings. Source: salimans2022, appendix D.
    """
    t = level(tables, t)
    x0, noise = operands(tables, t, x0=x0, noise=noise)
    finite(x0=x0)
    return lincomb([-at(tables.sqrt_beta_bar, t), at(tables.sqrt_alpha_bar, t)], [x0, noise])


def convert(tables: Tables, xt: Tensor, t: LevelLike, value: Tensor, source: str, target: str) -> Tensor:
    r"""Any prediction from any other.

    .. math:: x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{\bar\beta_t}\,\varepsilon, \quad
        v = \sqrt{\bar\alpha_t}\,\varepsilon - \sqrt{\bar\beta_t}\,x_0, \quad s = -\varepsilon/\sqrt{\bar\beta_t}

    Args:
        xt: noisy data, ``(*batch, *event)``.
        t: level, scalar or in the shape of the leading axes.
        value: the prediction, in the shape of ``xt``.
        source, target: a `Prediction`: "eps", "x0", "v", "score" (also "epsilon", "sample", "v_prediction").

    Returns:
        The prediction ``target``, shape and dtype of ``xt``; ``value`` itself if ``source`` and ``target`` agree.

    Raises:
        RangeError: an unknown name, or eps and score as source of x0 and v at zero terminal SNR.
        LevelError: t = 0 where the conversion divides by the noise level.
        ShapeError, PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: see the ten functions above; k <= 5 roundings. Source: ho2020, eq. (4); salimans2022, appendix D.
    """
    one_of("source", source, NAMES)
    one_of("target", target, NAMES)
    return _affine(tables, xt, t, value, NAMES[source], NAMES[target])


def clip_x0(x0: Tensor, low: float | int = -1.0, high: float | int = 1.0) -> Tensor:
    """Predicted clean data limited to the range of data.

    .. math:: \\min(\\max(x_0, l), h)

    Args:
        x0: predicted clean data, finite.
        low, high: the range of data, ``low < high``.

    Returns:
        Shape and dtype of ``x0``.

    Raises:
        RangeError: ``low >= high``, or ``x0`` is not finite.

    Limits: a clipped x0 no longer fits x_t and the predicted noise; see `clipped_prediction`. Source: ho2020, section
    3.3 code.
    """
    if not low < high:
        raise RangeError(f"low = {low!r}, high = {high!r}: the range of data needs low < high")
    finite(x0=x0)
    return x0.clamp(low, high)


def clipped_prediction(
    tables: Tables,
    xt: Tensor,
    t: LevelLike,
    value: Tensor,
    prediction: str,
    low: float | int = -1.0,
    high: float | int = 1.0,
) -> tuple[Tensor, Tensor]:
    r"""Clean data clipped to the range of data, and the noise derived anew from it, so that both still fit x_t.

    .. math:: x_0 = \mathrm{clip}(\hat x_0), \qquad \varepsilon = (x_t - \sqrt{\bar\alpha_t}\,x_0)/\sqrt{1-\bar\alpha_t}

    Args:
        xt: noisy data, ``(*batch, *event)``.
        t: level in 1..T, scalar or in the shape of the leading axes.
        value: the prediction, in the shape of ``xt``.
        prediction: what ``value`` is; see `convert`.
        low, high: the range of data.

    Returns:
        x0, eps: shape and dtype of ``xt``.

    Raises:
        LevelError, RangeError, ShapeError, PrecisionError: see `convert` and `clip_x0`.

    Limits: every eps changes, not only those of clipped elements, by rounding. Source: nichol2021, its code.
    """
    t = level(tables, t, lowest=1)
    x0 = clip_x0(convert(tables, xt, t, value, prediction, "x0"), low, high)
    return x0, eps_from_x0(tables, xt, t, x0)


def _affine(tables: Tables, xt: Tensor, t: LevelLike, value: Tensor, source: str, target: str) -> Tensor:
    """One row of `ROWS`, after the checks of its domain."""
    divides_by_noise = source != target and (source == "x0" or target == "score")
    divides_by_signal = source in ("eps", "score") and target in ("x0", "v")
    t = level(tables, t, lowest=1 if divides_by_noise else 0)
    xt, value = operands(tables, t, xt=xt, **{source: value})
    if source == "x0":
        finite(x0=value)
    if source == target:
        return value
    if divides_by_signal:
        message = f"{source} prediction does not determine {target} at zero terminal SNR; use v or x0"
        refuse_dead_level(tables, t, message)
    from_xt, from_value = ROWS[source, target](_Row(tables, t))
    if from_xt is None:
        return lincomb([from_value], [value])
    return lincomb([from_xt, from_value], [xt, value])
