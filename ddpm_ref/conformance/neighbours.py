"""Steps over several levels, asked of an implementation that knows steps between neighbouring levels only."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ddpm_ref.conformance.capabilities import Handle, Native
from ddpm_ref.conformance.levelwise import one_level_at_a_time
from ddpm_ref.typing import Array, ArrayLike


def beta_between(betas: Array, t: int, s: int) -> float:
    r""":math:`\beta_{t|s} = 1 - \prod_{s < i \le t}(1 - \beta_i)` without cancellation, for betas of shape ``(T,)``.

    >>> beta_between(np.array([0.5, 0.5, 0.25]), 3, 1)
    0.625
    """
    steps = np.asarray(betas, dtype=np.float64)[s:t]
    return 1.0 if (steps == 1).any() else -math.expm1(math.fsum(np.log1p(-steps)))


def neighbours(
    function: Callable[..., Any],
    own: Handle,
    t: Native,
    s: Native,
    *tensors: Native,
    make: Callable[[Array], Handle],
    betas: ArrayLike,
) -> Any:
    r"""Ask for steps ``(t, s)`` an implementation that steps from a level to the one before it.

    .. math:: \beta'_1 = 1 - \bar\alpha_s,\quad \beta'_2 = \beta_{t|s}

    A step from t to s is that of a chain of three levels 0, s, t (of 0 and t, if s is 0) with these betas, from its last level
    to the one before. Where s is t - 1 already, the implementation's own chain is asked.

    Args:
        function: called as ``function(own, t, *rows)`` with a schedule, an int t >= 1 and those rows of the tensors that take
            the step from t to t - 1.
        own: the implementation's schedule, as `Adapter.schedule` returned it.
        t, s: levels: scalars, or one for each entry of the leading axis of the tensors.
        tensors: data, arrays or tensors of one shape; possibly none.
        make: what makes such a schedule of betas, shape (1,) or (2,): ``self.schedule``.
        betas: those of ``own``, shape ``(T,)``.

    Returns:
        what the function returns, with its rows in the order of the data; see `one_level_at_a_time`.

    Limits: the betas of the short chain are rounded once more than those of the long one. An implementation may also answer
    ``NotImplemented`` for steps that it does not know; they are not judged then.

    >>> class Somebodys:
    ...     def __init__(self, betas):
    ...         self.betas, self.alphas_cumprod = betas, np.cumprod(1 - betas)
    ...
    ...     def share_of_the_last_step(self, index):
    ...         return self.betas[index] / (1 - self.alphas_cumprod[index])
    ...
    >>> own = Somebodys(np.array([0.5, 0.5, 0.25]))
    >>> ask = lambda own, t: own.share_of_the_last_step(t - 1)
    >>> levels = np.array([3, 3, 1]), np.array([2, 1, 0])
    >>> neighbours(ask, own, *levels, make=Somebodys, betas=own.betas).round(4)
    array([0.3077, 0.7692, 1.    ])
    """
    values = np.asarray(betas, dtype=np.float64)

    def one(t: int, s: int, *rows: Native) -> Any:
        if s == t - 1:
            return function(own, t, *rows)
        first = [beta_between(values, s, 0)] if s else []
        return function(make(np.array([*first, beta_between(values, t, s)])), len(first) + 1, *rows)

    return one_level_at_a_time(one, t, s, *tensors)
