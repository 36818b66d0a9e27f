r"""What training minimises, and at which levels: losses per example, the hybrid loss, and ways to draw levels.

The bound is a sum over steps. Drawn one step at a time it is estimated without bias from any law of the steps that gives
none of them probability 0, as long as each term is divided by its probability; the laws differ in variance only.
"""

from __future__ import annotations

import numpy as np

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.reference.arguments import positive, real
from ddpm_ref.typing import Array, ArrayLike, IntArray, Real


def simple_l2(target: ArrayLike, prediction: ArrayLike) -> Array:
    r"""The simplified objective: squared error, mean over components, one number per example.

    .. math:: L_\text{simple} = \frac1d\lVert\varepsilon - \hat\varepsilon\rVert^2

    Args: ``target``, ``prediction``: of one shape ``(B, *event)``; the target is the *same* noise that made x_t (or x0, or
    v). Returns shape ``(B,)``. It is the term of the bound with its weight replaced by 1, per dimension, so its sum over levels
    is no bound; d times it is the squared norm. Each level is minimised by the conditional mean. Raises `ShapeError`,
    `RangeError`. Source: ho2020, eq. (14).

    >>> simple_l2([[1.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]])
    array([2.5, 0. ])
    """
    return _per_example(_difference(target, prediction) ** 2)


def simple_l1(target: ArrayLike, prediction: ArrayLike) -> Array:
    """The same with absolute values, one number per example: minimised by the conditional *median* of each component.

    Median and mean agree where the law of the target given x_t is symmetric, and not otherwise: what follows from the mean
    (scores, the variances of Analytic-DPM) does not hold for a network trained so. Source: a variant of several code bases.

    >>> simple_l1([[1.0, 2.0]], [[0.0, 0.0]])
    array([1.5])
    """
    return _per_example(np.abs(_difference(target, prediction)))


def hybrid(simple: ArrayLike, vlb: ArrayLike, vlb_weight: Real = 0.001) -> Array:
    r"""The hybrid objective :math:`L_\text{hybrid} = L_\text{simple} + \lambda L_\text{vlb}`, of one shape with its parts.

    Args:
        simple: simple losses, one per example.
        vlb: estimates of the bound in **bits per dimension**: T times the term of the sampled step
            (`ddpm_ref.reference.bound.bound_term`), and times its `importance_weights` if steps are not drawn uniformly.
        vlb_weight: lambda, one finite number >= 0; the default belongs to these units (nichol2021's code multiplies the term,
            in bits per dimension, by T/1000, which is the same).

    The mean of the model's step must be held fixed in ``vlb`` (no gradient), so that it teaches the variance only. Raises
    `RangeError`, `ShapeError`. Source: nichol2021, eq. (16).

    >>> hybrid([0.5, 0.25], [4.0, 8.0])
    array([0.504, 0.258])
    """
    first, second = real(simple, "simple"), real(vlb, "vlb")
    if first.shape != second.shape:
        raise ShapeError(f"simple has shape {first.shape} and vlb {second.shape}; give one number per example in each")
    if not _is_number(vlb_weight) or not 0 <= vlb_weight <= np.finfo(np.float64).max:
        raise RangeError(f"vlb_weight = {vlb_weight!r} must be one finite number >= 0 (0.001 is usual)")
    return np.asarray(first + float(vlb_weight) * second)


def antithetic_levels(uniform: Real, count: Real, T: Real) -> IntArray:
    r"""Levels for a batch from one uniform number, spread evenly over 1..T.

    .. math:: t_i = 1 + \lfloor T\,\mathrm{frac}(u + i/n)\rfloor, \qquad i = 0, \dots, n - 1

    Args: ``uniform``: u in [0, 1). ``count``: n, the size of the batch. ``T``: levels.

    Returns shape ``(count,)``. Each of them is uniform on 1..T over u, so the mean of any loss over the batch is unbiased;
    together they visit every stretch of levels as often as its length says, to within one. Computed
    in integers, so nothing is rounded across an edge. Raises `RangeError`. Source: kingma2021.

    >>> antithetic_levels(0.3, 4, 1000)
    array([300, 550, 800,  50])
    """
    n, last = _whole(count, "count"), _whole(T, "T")
    if not _is_number(uniform) or not 0 <= uniform < 1:
        raise RangeError(f"uniform = {uniform!r} must be one number in [0, 1)")
    p, q = float(uniform).as_integer_ratio()
    return np.array([1 + (p * n + i * q) % (n * q) * last // (n * q) for i in range(n)], dtype=np.int64)


def importance_probabilities(second_moments: ArrayLike, uniform_share: Real = 0.001) -> Array:
    r"""The law of the levels under which one draw estimates the bound with the least variance, mixed with the uniform law.

    .. math:: p_t = (1 - \rho)\frac{\sqrt{\mathbb E[L_t^2]}}{\sum_i\sqrt{\mathbb E[L_i^2]}} + \frac\rho T

    Args:
        second_moments: :math:`\mathbb E[L_t^2]` for the levels 1..T, shape ``(T,)``, >= 0; estimates will do, they cost
            variance and no bias.
        uniform_share: rho in [0, 1], so that no level is ever forgotten.

    Returns shape ``(T,)``, level t at index t - 1, summing to 1 within rounding; the uniform law if all moments are 0. Raises
    `RangeError`, `ShapeError`. Source: nichol2021, section 3.3 (rho = 0.001 in the code).

    >>> importance_probabilities([1.0, 9.0], uniform_share=0.0)
    array([0.25, 0.75])
    """
    moments, share = positive(second_moments, "second_moments", zero=True), float(real(uniform_share, "uniform_share"))
    if moments.ndim != 1 or not moments.size:
        raise ShapeError(f"second_moments have shape {moments.shape}; give one number per level 1..T, shape (T,)")
    if not 0 <= share <= 1:
        raise RangeError(f"uniform_share = {share:g} must lie in [0, 1] (0.001 leaves all levels a chance)")
    roots = np.sqrt(moments)
    if not roots.any():
        return np.full(len(roots), 1 / len(roots))
    return np.asarray((1 - share) * (roots / roots.sum()) + share / len(roots))


def importance_weights(probabilities: ArrayLike) -> Array:
    r"""What a loss at a level is multiplied by if levels are drawn with these probabilities: :math:`1/(T p_t)`.

    Then :math:`\sum_t p_t\,w_t L_t = \frac1T\sum_t L_t`, the mean over uniform levels. Args: shape ``(T,)``, positive, summing
    to 1 within rounding. Returns the same shape, level t at index t - 1. Raises `RangeError`, `ShapeError`. Source:
    nichol2021, section 3.3.

    >>> importance_weights([0.25, 0.75])
    array([2.        , 0.66666667])
    """
    p = real(probabilities, "probabilities")
    if p.ndim != 1 or not p.size:
        raise ShapeError(f"probabilities have shape {p.shape}; give one number per level 1..T, shape (T,)")
    if (p <= 0).any():
        t = int(np.flatnonzero(p <= 0)[0]) + 1
        raise RangeError(
            f"probabilities contain {p[t - 1]} at level {t}, whose loss would never be seen; write a uniform_share > 0"
        )
    total = float(p.sum())
    # T roundings of the sum, and as many of each probability as it took to make it one of a few.
    if abs(total - 1) > (len(p) + 8) * np.finfo(np.float64).eps:
        raise RangeError(f"probabilities sum to {total!r}, not to 1; write p / p.sum()")
    return np.asarray(1 / (len(p) * p))


def _difference(target: ArrayLike, prediction: ArrayLike) -> Array:
    first, second = real(target, "target"), real(prediction, "prediction")
    if first.shape != second.shape or not first.ndim or 0 in first.shape[1:]:
        raise ShapeError(f"target has shape {first.shape} and prediction {second.shape}; give one shape, (B, *event)")
    return np.asarray(first - second)


def _per_example(losses: Array) -> Array:
    return np.asarray(losses.reshape(len(losses), -1).mean(axis=-1) if losses.size else np.zeros(len(losses)))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _whole(value: Real, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise RangeError(f"{name} = {value!r} must be a whole number, at least 1")
    return int(value)
