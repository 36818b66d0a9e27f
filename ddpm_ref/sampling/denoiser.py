"""A network together with what one must know to use it: what it predicts, how it counts time, and whether it says a variance."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ddpm_ref.errors import LevelError, PrecisionError, RangeError, ShapeError
from ddpm_ref.torch.arguments import LevelLike, one_of
from ddpm_ref.torch.prediction import NAMES

TIME_CODES = {"zero_based": 0, "one_based": 1}
"""The network's time at the paper's level t = 1."""

LEARNED = ("learned", "learned_range")
"""What the second half of a network's answer can say of the variance of a reverse step."""


@dataclass(frozen=True)
class Denoiser:
    r"""A trained, or yet to be trained, network and its conventions.

    Args:
        network: called as ``network(x, time)`` with x of shape ``(batch, *event)`` and whole numbers ``time`` of shape
            ``(batch,)``; returns a tensor of the shape and format of x, or, where ``variance`` is given, with twice the
            channels (axis 1): first the prediction, then what it says of the variance.
        prediction: what the network returns: ``"eps"``, ``"x0"``, ``"v"`` or ``"score"`` (also ``"epsilon"``,
            ``"sample"``, ``"v_prediction"``).
        time_code: the network's clock: ``"zero_based"`` hands it t - 1, as almost every trained network expects,
            ``"one_based"`` t itself. Training and sampling must use the same.
        variance: None where the network says nothing of the variance of a reverse step; ``"learned"`` where its second
            half is :math:`\log\sigma^2`, in nats; ``"learned_range"`` where it is o, usually in [-1, 1], that stands for
            :math:`\log\sigma^2 = v\log\beta_{t|s} + (1 - v)\log\tilde\beta_{t|s}` with v = (o + 1)/2.

    Raises:
        RangeError: an unknown ``prediction``, ``time_code`` or ``variance``.

    Limits: v outside [0, 1] is not refused: the interpolation goes on as an extrapolation, as in the authors' code.
    Source: ho2020, section 3.2 and algorithm 1; nichol2021, eq. (15).

    >>> zero = Denoiser(lambda x, time: 0 * x)
    >>> zero(torch.ones(2, 3), 7)
    tensor([[0., 0., 0.],
            [0., 0., 0.]])
    """

    network: Callable[[Tensor, Tensor], Tensor]
    prediction: str = "eps"
    time_code: str = "zero_based"
    variance: str | None = None

    def __post_init__(self) -> None:
        one_of("prediction", self.prediction, NAMES)
        one_of("time_code", self.time_code, TIME_CODES)
        if self.variance is not None:
            one_of("variance", self.variance, LEARNED)
        object.__setattr__(self, "prediction", NAMES[self.prediction])

    def time(self, t: Tensor) -> Tensor:
        """The network's clock at the paper's levels ``t`` = 1..T."""
        return t - 1 + TIME_CODES[self.time_code]

    def __call__(self, x: Tensor, t: LevelLike) -> Tensor:
        """What the network predicts of noisy data at a level.

        Args:
            x: ``(batch, *event)``.
            t: the paper's level, 1..T: one for all, or ``(batch,)``. A tensor's values are not looked at.

        Returns:
            the shape and format of ``x``; what it means is ``prediction``. What the network says of a variance is left
            out.

        Raises:
            LevelError: t = 0, where there is nothing to predict.
            ShapeError: the network returned another shape, or t has another length than x.
            PrecisionError: the network returned no tensor, or one of another number format or device.
        """
        return self.answers(x, self._times(x, t))[0]

    def with_variance(self, x: Tensor, t: LevelLike) -> tuple[Tensor, Tensor]:
        """What the network predicts, and what it says of the variance of the step, both like ``x``.

        Args:
            x: ``(batch, *event)``.
            t: the paper's level, as for the call.

        Returns:
            prediction and extra; `ddpm_ref.torch.reverse.learned_log_variance` makes a log-variance of the extra.

        Raises:
            RangeError: the network learned no variance.
            LevelError, ShapeError, PrecisionError: as the call.

        >>> both = Denoiser(lambda x, time: torch.cat([x, -x], dim=1), variance="learned_range")
        >>> both.with_variance(torch.ones(1, 2), 7)
        (tensor([[1., 1.]]), tensor([[-1., -1.]]))
        """
        predicted, extra = self.answers(x, self._times(x, t))
        if extra is None:
            raise RangeError(
                "this denoiser says nothing of a variance; write Denoiser(..., variance='learned_range') for a network "
                "that returns twice the channels"
            )
        return predicted, extra

    def answers(self, x: Tensor, time: Tensor) -> tuple[Tensor, Tensor | None]:
        """Prediction and extra (None without a ``variance``) at a time of the network's own clock (see `time`).

        Errors as the call.
        """
        answer = self.network(x, time)
        if not isinstance(answer, Tensor):
            raise PrecisionError(f"the network returned a {type(answer).__name__}; it must return one tensor")
        doubled = (x.shape[0], 2 * x.shape[1], *x.shape[2:]) if x.ndim > 1 else None
        if answer.shape != (x.shape if self.variance is None else doubled):
            raise ShapeError(
                f"the network returned shape {tuple(answer.shape)} for x of shape {tuple(x.shape)}; "
                f"{self._wanted(x, answer, doubled)}"
            )
        if answer.dtype != x.dtype or answer.device != x.device:
            raise PrecisionError(
                f"the network returned {answer.dtype} on {answer.device} for x in {x.dtype} on {x.device}; "
                "give it x in its own format and place, and return the same"
            )
        if self.variance is None:
            return answer, None
        return answer[:, : x.shape[1]], answer[:, x.shape[1] :]

    def _times(self, x: Tensor, t: LevelLike) -> Tensor:
        """The network's clock at a level, one number per example."""
        if not isinstance(t, Tensor):
            if isinstance(t, bool | float) or operator.index(t) < 1:
                raise LevelError(f"t is {t}; a network is asked at whole levels 1..T, level 0 is clean data")
            t = torch.full(x.shape[:1], operator.index(t), device=x.device)
        if t.shape != x.shape[:1]:
            raise ShapeError(f"t has shape {tuple(t.shape)} and x {tuple(x.shape)}; write one level per example")
        return self.time(t)

    def _wanted(self, x: Tensor, answer: Tensor, doubled: tuple[int, ...] | None) -> str:
        """What an answer of the wrong shape should have been."""
        if self.variance is None:
            advice = "its output must have the shape of its input"
            if answer.shape == doubled:
                advice += (
                    "; if the second half of the channels is a variance, write Denoiser(..., variance='learned_range')"
                )
            return advice
        if doubled is None:
            return f"with variance = {self.variance!r} x needs channels, of which the answer has twice as many"
        advice = f"with variance = {self.variance!r} it must return twice the channels, {doubled}"
        if answer.shape == x.shape:
            advice += ": write UNetConfig(outputs_per_channel=2), or leave variance out"
        return advice

    def evaluating(self) -> contextlib.AbstractContextManager[None]:
        """Inside, the network is in evaluation mode (no dropout); afterwards every part of it is as it was."""
        return evaluating(self.network)


@contextlib.contextmanager
def evaluating(network: object) -> Iterator[None]:
    """Inside, a network is in evaluation mode, if it has modes; afterwards every part of it is as it was."""
    modules = list(network.modules()) if isinstance(network, nn.Module) else []
    modes = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
