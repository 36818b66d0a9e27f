"""Any named schedule with all its arguments, in one frozen record that goes to JSON and back."""

from __future__ import annotations

import dataclasses
import inspect
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ddpm_ref.errors import RangeError, ScheduleError
from ddpm_ref.records import record
from ddpm_ref.reference import named_schedules
from ddpm_ref.reference.schedule import NoiseSchedule

ScheduleKind = Literal["linear", "scaled_linear", "cosine", "sigmoid", "sigmoid_alpha_bar", "constant"]

_CONSTRUCTORS: dict[str, Callable[..., NoiseSchedule]] = {
    kind: getattr(named_schedules, f"{kind}_schedule") for kind in typing.get_args(ScheduleKind)
}


@dataclass(frozen=True, kw_only=True)
class ScheduleArguments:
    """The arguments of the named schedules besides kind and T; None is the named constructor's default."""

    beta_1: float | int | None = None
    """First beta (linear, scaled_linear, sigmoid); the only one (constant)."""
    beta_T: float | int | None = None  # noqa: N815 - the last level is T
    """Last beta (linear, scaled_linear, sigmoid)."""
    s: float | int | None = None
    """Offset of the angle (cosine)."""
    max_beta: float | int | None = None
    """Betas are at most this (cosine, sigmoid_alpha_bar)."""
    limit: float | int | None = None
    """Half the width of the logistic curve (sigmoid)."""
    start: float | int | None = None
    """Where the logistic curve starts (sigmoid_alpha_bar)."""
    end: float | int | None = None
    """Where the logistic curve ends (sigmoid_alpha_bar)."""
    tau: float | int | None = None
    """Temperature of the logistic curve (sigmoid_alpha_bar)."""
    scale_ends: bool = False
    """Multiply both ends by 1000 / T (linear)."""
    zero_terminal_snr: bool = False
    """Shift and scale so that alpha_bar_T is exactly 0 (every kind)."""

    def given(self) -> dict[str, Any]:
        """The arguments that are not at their defaults, by name.

        >>> ScheduleArguments(s=0.01, zero_terminal_snr=True).given()
        {'s': 0.01, 'zero_terminal_snr': True}
        """
        fields = (field.name for field in dataclasses.fields(ScheduleArguments))
        values = {name: getattr(self, name) for name in fields}
        return {name: value for name, value in values.items() if value is not None and value is not False}


@dataclass(frozen=True)
class ScheduleConfig(ScheduleArguments):
    """Which noise schedule: kind, length and arguments. See `ddpm_ref.reference.named_schedules` for the formulas.

    Raises `RangeError` for an unknown kind and `ScheduleError` for a T that is no whole number >= 1, for an argument that
    the kind does not take, and for one that is no finite number; ranges are judged by `build`.

    >>> ScheduleConfig("linear", T=10, beta_T=0.5).build()
    NoiseSchedule(T=10, beta_1=0.0001, beta_T=0.5)
    >>> ScheduleConfig("cosine", beta_T=0.5)
    Traceback (most recent call last):
    ddpm_ref.errors.ScheduleError: beta_T is not an argument of the cosine schedule; leave it out ...
    """

    kind: str = "cosine"
    """``linear``, ``scaled_linear``, ``cosine``, ``sigmoid``, ``sigmoid_alpha_bar`` or ``constant``."""
    T: int = 1000
    """How many levels of noise."""

    def __post_init__(self) -> None:
        if self.kind not in _CONSTRUCTORS:
            raise RangeError(
                f"ScheduleConfig.kind = {self.kind!r} is not known; write one of {', '.join(map(repr, _CONSTRUCTORS))}"
            )
        if isinstance(self.T, bool) or not isinstance(self.T, int) or self.T < 1:
            raise ScheduleError(f"T = {self.T!r} must be a whole number of levels, at least 1")
        for name, value in self.given().items():
            refuse_foreign(self.kind, name, name)
            flag = name in ("scale_ends", "zero_terminal_snr")
            if flag is not isinstance(value, bool) or not (isinstance(value, int | float) and math.isfinite(value)):
                raise ScheduleError(f"{name} = {value!r} must be {'True or False' if flag else 'a finite number'}")

    def build(self) -> NoiseSchedule:
        """The schedule itself. Raises `ScheduleError` as the named constructor does."""
        given = self.given()
        zero_terminal = given.pop("zero_terminal_snr", False)
        schedule = _CONSTRUCTORS[self.kind](self.T, **{_spelled(self.kind, name): given[name] for name in given})
        return named_schedules.zero_terminal_snr(schedule) if zero_terminal else schedule

    def arguments(self) -> dict[str, Any]:
        """All arguments of the kind besides T, the constructor's defaults filled in, without `zero_terminal_snr`.

        >>> ScheduleConfig("cosine", max_beta=0.9).arguments()
        {'s': 0.008, 'max_beta': 0.9}
        """
        given = self.given()
        return {name: given.get(name, default) for name, default in _defaults(self.kind).items()}

    def to_dict(self) -> dict[str, Any]:
        """Kind, T and the arguments given, for JSON.

        >>> ScheduleConfig("linear", T=10).to_dict()
        {'kind': 'linear', 'T': 10}
        """
        return {"kind": self.kind, "T": self.T} | self.given()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ScheduleConfig:
        """The record of which `to_dict` made this; what is left out takes its default.

        Raises:
            RangeError: an unknown name or a value of another type.
            ScheduleError: see the class.
        """
        return typing.cast("ScheduleConfig", record(cls, values, "ScheduleConfig"))


def refuse_foreign(kind: str, name: str, written: str) -> None:
    """Refuse an argument that the kind does not take (`ScheduleError`), as the user wrote it: ``beta_T`` or ``--beta-T``."""
    taken = [*_defaults(kind), "zero_terminal_snr"]
    if name not in taken:
        raise ScheduleError(
            f"{written} is not an argument of the {kind} schedule; leave it out (it takes {', '.join(taken)})"
        )


def _spelled(kind: str, name: str) -> str:
    # The constant schedule has no first and last beta, just one.
    return "beta" if kind == "constant" and name == "beta_1" else name


def _defaults(kind: str) -> dict[str, Any]:
    parameters = inspect.signature(_CONSTRUCTORS[kind]).parameters
    return {"beta_1" if name == "beta" else name: p.default for name, p in parameters.items() if name != "T"}
