"""A network together with what one must know to use it: what it predicts, and how it counts time."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ddpm_ref.errors import LevelError, PrecisionError, ShapeError
from ddpm_ref.torch.arguments import LevelLike, one_of
from ddpm_ref.torch.prediction import NAMES

TIME_CODES = {"zero_based": 0, "one_based": 1}
"""The network's time at the paper's level t = 1."""


@dataclass(frozen=True)
class Denoiser:
    """A trained, or yet to be trained, network and its conventions.

    Args:
        network: called as ``network(x, time)`` with x of shape ``(batch, *event)`` and whole numbers ``time`` of shape
            ``(batch,)``; returns a tensor of the shape and format of x.
        prediction: what the network returns: ``"eps"``, ``"x0"``, ``"v"`` or ``"score"`` (also ``"epsilon"``,
            ``"sample"``, ``"v_prediction"``).
        time_code: the network's clock: ``"zero_based"`` hands it t - 1, as almost every trained network expects,
            ``"one_based"`` t itself. Training and sampling must use the same.

    Raises:
        RangeError: an unknown ``prediction`` or ``time_code``.

    Source: ho2020, section 3.2 and algorithm 1.

    >>> zero = Denoiser(lambda x, time: 0 * x)
    >>> zero(torch.ones(2, 3), 7)
    tensor([[0., 0., 0.],
            [0., 0., 0.]])
    """

    network: Callable[[Tensor, Tensor], Tensor]
    prediction: str = "eps"
    time_code: str = "zero_based"

    def __post_init__(self) -> None:
        one_of("prediction", self.prediction, NAMES)
        one_of("time_code", self.time_code, TIME_CODES)
        object.__setattr__(self, "prediction", NAMES[self.prediction])

    def time(self, t: Tensor) -> Tensor:
        """The network's clock at the paper's levels ``t`` = 1..T."""
        return t - 1 + TIME_CODES[self.time_code]

    def __call__(self, x: Tensor, t: LevelLike) -> Tensor:
        """What the network says of noisy data at a level.

        Args:
            x: ``(batch, *event)``.
            t: the paper's level, 1..T: one for all, or ``(batch,)``. A tensor's values are not looked at.

        Returns:
            the shape and format of ``x``; what it means is ``prediction``.

        Raises:
            LevelError: t = 0, where there is nothing to predict.
            ShapeError: the network returned another shape, or t has another length than x.
            PrecisionError: the network returned no tensor, or one of another number format or device.
        """
        if not isinstance(t, Tensor):
            if isinstance(t, bool | float) or operator.index(t) < 1:
                raise LevelError(f"t is {t}; a network is asked at whole levels 1..T, level 0 is clean data")
            t = torch.full(x.shape[:1], operator.index(t), device=x.device)
        if t.shape != x.shape[:1]:
            raise ShapeError(f"t has shape {tuple(t.shape)} and x {tuple(x.shape)}; write one level per example")
        return self.answer(x, self.time(t))

    def answer(self, x: Tensor, time: Tensor) -> Tensor:
        """What the network says at a time of its own clock (see `time`), if it fits ``x``; errors as `__call__`."""
        predicted = self.network(x, time)
        if not isinstance(predicted, Tensor):
            raise PrecisionError(f"the network returned a {type(predicted).__name__}; it must return one tensor")
        if predicted.shape != x.shape:
            raise ShapeError(
                f"the network returned shape {tuple(predicted.shape)} for x of shape {tuple(x.shape)}; "
                "its output must have the shape of its input"
            )
        if predicted.dtype != x.dtype or predicted.device != x.device:
            raise PrecisionError(
                f"the network returned {predicted.dtype} on {predicted.device} for x in {x.dtype} on {x.device}; "
                "give it x in its own format and place, and return the same"
            )
        return predicted

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
