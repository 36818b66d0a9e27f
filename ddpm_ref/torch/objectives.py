"""What training minimises: the simple losses, the hybrid of Improved DDPM, and how levels are drawn."""

from __future__ import annotations

import operator
from numbers import Real
from typing import SupportsIndex

import torch
from torch import Tensor

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.torch.arguments import Number, compute_dtype, finite, operands, readable, same_kind
from ddpm_ref.torch.decoder import product_error
from ddpm_ref.torch.tables import two_sum


def simple_l2(target: Tensor, prediction: Tensor) -> Tensor:
    r"""The simple loss of each example: the mean over its components of the squared error.

    .. math:: \frac1d\lVert y - \hat y\rVert^2

    Args:
        target: what the network should have said (eps, x0 or v), ``(batch, *event)``.
        prediction: what it said, in the shape of ``target``.

    Returns:
        One number per example, ``(batch,)``, in the dtype of the data.

    Raises:
        ShapeError: two shapes, or no axis of examples.
        PrecisionError, RangeError: see `ddpm_ref.torch.arguments`.

    Limits: not the bound: every level weighs the same, see `ddpm_ref.torch.bound.loss_weight_eps`. Source: ho2020,
    eq. (14).

    >>> simple_l2(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0]]))
    tensor([2.5000])
    """
    return _mean_per_example(_difference(target, prediction).square()).to(target.dtype)


def simple_l1(target: Tensor, prediction: Tensor) -> Tensor:
    r"""The absolute variant of the simple loss: the mean over components of the absolute error.

    .. math:: \frac1d\lVert y - \hat y\rVert_1

    Args:
        target, prediction: see `simple_l2`.

    Returns:
        One number per example, ``(batch,)``, in the dtype of the data.

    Raises:
        ShapeError, PrecisionError, RangeError: see `simple_l2`.

    Limits: minimised by the conditional median, which is the conditional mean for symmetric laws only. Source: ho2020,
    eq. (14), with another norm.
    """
    return _mean_per_example(_difference(target, prediction).abs()).to(target.dtype)


def hybrid(simple: Tensor, vlb: Tensor, vlb_weight: float | int = 0.001) -> Tensor:
    r"""The hybrid objective for learned variances.

    .. math:: L_{\text{hybrid}} = L_{\text{simple}} + \lambda L_{\text{vlb}}

    Args:
        simple: the simple loss of each example.
        vlb: T times the sampled term of the bound in bits per dimension (`ddpm_ref.torch.bound.bound_term`), an
            unbiased estimate of the sum of the T terms; in the shape of ``simple``.
        vlb_weight: lambda >= 0, one finite number.

    Returns:
        Shape and dtype of ``simple``.

    Raises:
        RangeError: a weight that is negative, not finite (in the format it is computed in) or no number.
        ShapeError: two shapes.
        PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: the bound is to train the variance only: hand ``mean.detach()`` to `bound_term`, so that the mean is led by
    the simple loss alone. Source: nichol2021, eq. (16).

    >>> hybrid(torch.tensor([1.0]), torch.tensor([500.0]))
    tensor([1.5000])
    """
    first, second = _of_one_shape(simple=simple, vlb=vlb)
    if not _is_number(vlb_weight) or not 0 <= vlb_weight <= torch.finfo(second.dtype).max:
        raise RangeError(f"vlb_weight = {vlb_weight!r}: write one finite number >= 0, 0.001 is usual")
    return (first + vlb_weight * second).to(simple.dtype)


def antithetic_levels(uniform: Number, count: SupportsIndex, T: SupportsIndex) -> Tensor:
    r"""Levels of a batch from one uniform number, spread evenly.

    .. math:: t_i = 1 + \lfloor T\,\mathrm{frac}(u + i/n)\rfloor, \qquad i = 0..n-1

    Args:
        uniform: u in [0, 1), one number.
        count: n >= 1, the size of the batch.
        T: the last level, >= 1.

    Returns:
        int64 levels in 1..T, ``(count,)``, on the device of ``uniform``. Each by itself is uniform on 1..T.

    Raises:
        RangeError: u outside [0, 1) (seen on CPU) or no number; a count or a T that is no whole number, at least 1.
        ShapeError: more than one number.

    Limits: exact for the u given; the levels of one batch are not independent; a number of Python is taken in
    float64. Source: kingma2021, its low-discrepancy sampler, for whole levels.

    >>> antithetic_levels(0.25, 4, 1000).tolist()
    [251, 501, 751, 1]
    """
    count, T = _whole("count", count), _whole("T", T)
    within = "uniform must lie in [0, 1), as torch.rand(()) draws it"
    if isinstance(uniform, Tensor):
        u = uniform
    elif _is_number(uniform) and 0 <= uniform < 1:
        u = torch.tensor(float(uniform), dtype=torch.float64)
    else:
        raise RangeError(f"uniform = {uniform!r}: {within}")
    same_kind(None, uniform=u)
    if u.ndim:
        raise ShapeError(f"uniform has shape {tuple(u.shape)}: write one number, from which all levels of a batch come")
    u = u.to(compute_dtype(u.dtype))
    _refuse(~((u >= 0) & (u < 1)), within)
    # T u in two words, and T i / n in whole numbers: a level that starts where T u lands is not missed by a rounding
    product = T * u
    start = product.floor()
    past, past_low = two_sum(product - start, product_error(u, torch.full_like(u, T), product))
    before = past < 0  # T u was rounded up to a whole number
    start, (past, error) = start - before.to(u.dtype), two_sum(past, before.to(u.dtype))
    shift = T * torch.arange(count, device=u.device)
    whole, rest = shift // count, shift % count
    filled = count * past
    missing = (filled - (count - rest)) + product_error(past, torch.full_like(past, count), filled)
    carry = missing + count * (error + past_low) >= 0
    return 1 + (start.long() + whole + carry) % T


def importance_probabilities(second_moments: Tensor, uniform_share: float | int = 0.001) -> Tensor:
    r"""Probabilities with which levels are drawn so that terms of the bound vary least.

    .. math:: p_t = (1 - \rho)\,\frac{\sqrt{E[L_t^2]}}{\sum_r\sqrt{E[L_r^2]}} + \frac\rho T

    Args:
        second_moments: :math:`E[L_t^2] \ge 0`, ``(T,)``: entry t - 1 belongs to level t.
        uniform_share: rho in [0, 1], the share of the uniform law, which keeps every level alive.

    Returns:
        Probabilities, ``(T,)``, which sum to 1.

    Raises:
        RangeError: a negative second moment (seen on CPU), or a share outside [0, 1].
        ShapeError: not one axis of levels.
        PrecisionError: see `ddpm_ref.torch.arguments`.

    Limits: where all moments are 0 no level is preferred. Measured moments start empty; draw uniformly until each is
    known. Source: nichol2021, section 3.3.

    >>> importance_probabilities(torch.tensor([1.0, 9.0]), uniform_share=0)
    tensor([0.2500, 0.7500])
    """
    if isinstance(uniform_share, bool) or not 0 <= uniform_share <= 1:
        raise RangeError(f"uniform_share = {uniform_share!r} lies outside [0, 1]: 0.001 is usual")
    moments = _per_level("second_moments", second_moments)
    _refuse(moments < 0, "second_moments are means of squares and must be >= 0")
    root = moments.sqrt()
    root = torch.where((root == 0).all(), torch.ones_like(root), root)
    return ((1 - uniform_share) * (root / root.sum()) + uniform_share / root.shape[0]).to(second_moments.dtype)


def importance_weights(probabilities: Tensor) -> Tensor:
    r"""What a term drawn with probability p_t is multiplied with, so that its mean is the mean over all levels.

    .. math:: w_t = \frac1{T p_t}, \qquad E_{t\sim p}[w_t L_t] = \frac1T\sum_t L_t

    Args:
        probabilities: p_t > 0, ``(T,)``: entry t - 1 belongs to level t.

    Returns:
        Weights, ``(T,)``.

    Raises:
        RangeError: a probability that is not positive (seen on CPU).
        ShapeError, PrecisionError: see `importance_probabilities`.

    Limits: two roundings; that the probabilities sum to 1 is the caller's. Source: nichol2021, section 3.3.

    >>> importance_weights(torch.tensor([0.25, 0.75]))
    tensor([2.0000, 0.6667])
    """
    p = _per_level("probabilities", probabilities)
    _refuse(p <= 0, "probabilities must be > 0: a level that is never drawn has no weight; give uniform_share > 0")
    return (1 / (p.shape[0] * p)).to(probabilities.dtype)


def _difference(target: Tensor, prediction: Tensor) -> Tensor:
    first, second = _of_one_shape(target=target, prediction=prediction)
    if not first.ndim or not first.shape[1:].numel():
        raise ShapeError(f"target has shape {tuple(first.shape)}: write examples with components, (batch, *event)")
    return first - second


def _of_one_shape(**pair: Tensor) -> tuple[Tensor, Tensor]:
    """Two tensors of one shape in their compute format: broadcasting would hide a forgotten axis."""
    operands(None, **pair)
    (name, one), (other_name, other) = pair.items()
    if one.shape != other.shape:
        raise ShapeError(
            f"{name} has shape {tuple(one.shape)} and {other_name} {tuple(other.shape)}: give them one shape"
        )
    compute = compute_dtype(one.dtype)
    return one.to(compute), other.to(compute)


def _mean_per_example(errors: Tensor) -> Tensor:
    return errors.flatten(1).mean(1) if errors.ndim > 1 else errors


def _per_level(name: str, values: Tensor) -> Tensor:
    """One number per level, in its compute format."""
    same_kind(None, **{name: values})
    if values.ndim != 1 or not values.shape[0]:
        raise ShapeError(f"{name} has shape {tuple(values.shape)}: write one number per level 1..T, (T,)")
    finite(**{name: values})
    return values.to(compute_dtype(values.dtype))


def _whole(name: str, value: SupportsIndex) -> int:
    """A whole number, at least 1; those of NumPy too."""
    if not isinstance(value, (bool, Tensor)) and isinstance(value, SupportsIndex):
        try:
            number = operator.index(value)
        except TypeError:  # an array of several
            number = 0
        if number >= 1:
            return number
    raise RangeError(f"{name} = {value!r}: write a whole number, at least 1")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _refuse(wrong: Tensor, message: str) -> None:
    """`RangeError` where a CPU tensor may be read and anything in it is wrong."""
    if wrong.device.type == "cpu" and readable(wrong) and bool(wrong.any()):
        raise RangeError(message)
