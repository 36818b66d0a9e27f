"""A plan made ready for tensors of one format on one device, and for what one network predicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import repeat
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ddpm_ref.errors import RangeError
from ddpm_ref.kernels import HAS_TRITON
from ddpm_ref.reference.plan import Plan, Threshold
from ddpm_ref.torch.arguments import compute_dtype
from ddpm_ref.torch.plan import dynamic_threshold
from ddpm_ref.torch.prediction import convert
from ddpm_ref.torch.tables import tables
from ddpm_ref.typing import Array

Pair: TypeAlias = tuple[Tensor | None, Tensor]
"""Coefficients of x_t (None: it does not enter) and of the network's answer."""


class Row(NamedTuple):
    """The coefficients of one step as 0-dim tensors; None where a term is not there.

    Tensors and not numbers, so that compiled code reads them and is not compiled again for each.
    """

    x: Tensor | None
    prediction: Tensor
    eps: Tensor | None
    noise: Tensor | None
    to_form: Pair | None
    """From the network's answer to the plan's form."""
    to_eps: Pair | None
    """From the network's answer to the raw noise prediction, for the term ``eps``."""
    log_range: Tensor | None = None
    """Logarithm of the largest over the least deviation, where the network chooses between them."""


@lru_cache(maxsize=16)  # plans are not written over, and the batches of a large set share one
def rows(plan: Plan, prediction: str, dtype: torch.dtype, device: torch.device) -> tuple[Row, ...]:
    """The rows of a plan for a network with this ``prediction``, rounded once to the format states are computed in.

    Args:
        plan: trajectory and coefficients.
        prediction: what the network returns, a `ddpm_ref.torch.prediction.Prediction`.
        dtype: of the states; coefficients are float64 for float64 and float32 for everything narrower.
        device: of the states.

    Raises:
        RangeError: a prediction that does not determine the plan's form at some level (zero terminal SNR), or a
            coefficient that float32 cannot hold.

    Source: as the plan; conversions ho2020, eq. (4), and salimans2022, appendix D.
    """

    def column(name: str, exact: Tensor) -> Iterable[Tensor]:
        return _rounded(name, exact, plan.asked, dtype).to(device).unbind()

    def unless_zero(name: str, exact: Tensor) -> Iterable[Tensor | None]:
        return column(name, exact) if exact.any() else repeat(None)

    def conversion(target: str) -> Iterable[Pair | None]:
        if target == prediction:
            return repeat(None)
        from_x, from_answer = _unit_vectors(plan, prediction, target)
        name = f"{target} from {prediction}"
        return zip(unless_zero(f"x_t in {name}", from_x), column(f"the answer in {name}", from_answer), strict=False)

    # A step without noise draws none; any other column is left out only where it is zero throughout.
    with torch.inference_mode(False):  # the rows outlive whatever mode they are made in
        noise = zip(unless_zero("noise", _tensor(plan.noise)), plan.noise.tolist(), strict=False)
        columns = zip(
            unless_zero("x", _tensor(plan.x)),
            column("prediction", _tensor(plan.prediction)),
            repeat(None) if plan.eps is None else unless_zero("eps", _tensor(plan.eps)),
            (c if value else None for c, value in noise),
            conversion(plan.form),
            repeat(None) if plan.eps is None else conversion("eps"),
            repeat(None) if plan.largest_noise is None else column("noise", _log_range(plan.noise, plan.largest_noise)),
            strict=False,  # what is not there is repeated without end
        )
        return tuple(Row(*entries) for entries in columns)


def advance(
    row: Row,
    x: Tensor,
    answer: Tensor,
    z: Tensor | None = None,
    clip: tuple[float, float] | None = None,
    threshold: Threshold | None = None,
) -> Tensor:
    r"""One step of a plan, from what the network has answered.

    .. math:: x_s = a\,x_t + b\,\hat y + d\,\hat\varepsilon + c\,z

    Args:
        row: the coefficients.
        x: the state, ``(batch, *event)``.
        answer: of the network, like ``x``.
        z: noise like ``x``, where the row has a coefficient for it; times `learned_gain` where the network says the
            variance.
        clip, threshold: the stage of a predicted x0.

    Returns:
        the next state, a new tensor like ``x``.

    Limits: float64 is computed in float64, everything else in float32 and rounded once; errors as
    `ddpm_ref.torch.lincomb.lincomb`, for the conversion and for the step. Nothing is checked. Compiles with
    ``fullgraph=True``, once for all rows that have the same terms. Source: ho2020, algorithm 2; song2020ddim, eq. (12).
    """
    dtype = x.dtype
    compute = compute_dtype(dtype)
    if compute != dtype:
        x, answer = x.to(compute), answer.to(compute)
        z = None if z is None else z.to(compute)
    y = answer if row.to_form is None else _converted(row.to_form, x, answer)
    if clip is not None:
        # The answer is the network's, not ours to write to.
        y = y.clamp(*clip) if row.to_form is None else y.clamp_(*clip)
    elif threshold is not None:
        y = dynamic_threshold(y, threshold.percentile, threshold.maximum)
    terms = [(row.prediction, y)] if row.x is None else [(row.x, x), (row.prediction, y)]
    if row.eps is not None:
        terms.append((row.eps, answer if row.to_eps is None else _converted(row.to_eps, x, answer)))
    if row.noise is not None and z is not None:
        terms.append((row.noise, z))
    total = _combined(terms)
    return total if compute == dtype else total.to(dtype)


def learned_gain(row: Row, extra: Tensor) -> Tensor:
    r"""What the network makes of the deviation in the row of a step whose variance it says: their quotient.

    .. math:: \frac\sigma{\sigma_0} = \left(\frac{\sigma_1}{\sigma_0}\right)^v, \quad v = \frac{o + 1}2
              \qquad\text{or}\qquad \sigma = e^{\lambda/2}

    Args:
        row: of the step; with a ``log_range`` the first formula holds, else the second.
        extra: the second half of the answer, o or :math:`\lambda = \log\sigma^2`, ``(batch, *event)``.

    Returns:
        the shape of ``extra``, in float64 for float64 and float32 else.

    Limits: o = -1 gives exactly 1; any o is taken, see `ddpm_ref.sampling.Denoiser`. Source: nichol2021, eq. (15).
    """
    extra = extra.to(compute_dtype(extra.dtype))
    return (extra / 2 if row.log_range is None else row.log_range * ((extra + 1) / 2)).exp()


def _log_range(least: Array, largest: Array) -> Tensor:
    """Logarithms of quotients of deviations; 0 where there is no noise."""
    noisy = least > 0
    return _tensor(np.log(np.where(noisy, largest, 1.0) / np.where(noisy, least, 1.0)))


def _combined(terms: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """`lincomb` of pairs of coefficient and tensor, without its checks, and summed in place."""
    if HAS_TRITON and terms[0][1].is_cuda:
        from ddpm_ref.kernels.lincomb import lincomb_op  # costs an import of triton

        fused: Tensor = lincomb_op([c for c, _ in terms], [v for _, v in terms])
        return fused
    total = torch.mul(terms[0][1], terms[0][0])
    for c, v in terms[1:]:
        total.addcmul_(v, c)
    return total


def _converted(pair: Pair, x: Tensor, answer: Tensor) -> Tensor:
    from_x, from_answer = pair
    return _combined([(from_answer, answer)] if from_x is None else [(from_x, x), (from_answer, answer)])


def _unit_vectors(plan: Plan, source: str, target: str) -> tuple[Tensor, Tensor]:
    """Coefficients of a conversion at the levels asked: what it makes of x_t = 1 beside an answer of 0, and the reverse."""
    t = torch.tensor(plan.asked, device="cpu")
    one = torch.ones(len(t), dtype=torch.float64, device="cpu")
    zero = torch.zeros_like(one)
    of_schedule = tables(plan.schedule)
    return convert(of_schedule, one, t, zero, source, target), convert(of_schedule, zero, t, one, source, target)


def _tensor(column: Array) -> Tensor:
    return torch.from_numpy(column.copy())  # the plan's own cannot be written over, which torch cannot promise


def _rounded(name: str, exact: Tensor, levels: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A column in the format computed in, if it has room for it."""
    rounded = exact.to(compute_dtype(dtype))
    if not rounded.isfinite().all():
        k = int(rounded.isfinite().logical_not().nonzero()[0])
        raise RangeError(
            f"the coefficient {float(exact[k])!r} of {name} at t = {levels[k]} overflows {rounded.dtype}; "
            "write dtype=torch.float64, or a schedule that leaves more signal at its last level"
        )
    return rounded
