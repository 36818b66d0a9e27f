"""What every function of `ddpm_ref.torch` asks of its arguments, checked once at the public door.

Two kinds of checks. *What is known without reading a tensor* (type, dtype, device, shape) is always checked, also while
`torch.compile` traces. *What stands in a tensor* is checked only where reading it is allowed and cheap:

* levels given as a tensor: in eager mode, on every device. On an accelerator this waits for the device at every check;
  to avoid that, pass levels as Python ints (as a sampler does), or compile. Even unchecked, a level outside the tables
  never wraps around: they are read with `torch.gather`, which stops on CPU and CUDA alike.
* finiteness and signs of data: in eager mode, on CPU tensors. Elsewhere bad data give NaN or infinity, as in PyTorch.
* nothing while compiling, capturing a CUDA graph, on meta tensors or inside `torch.vmap`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Protocol, SupportsIndex, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from ddpm_ref.errors import LevelError, PrecisionError, RangeError, ShapeError

Level: TypeAlias = Tensor | int
"""A checked level: a Python int, or an int64 tensor on the device of the tables."""

LevelLike: TypeAlias = Tensor | SupportsIndex | float
"""What a caller may hand in as a level. Floats are accepted only to be refused by name."""

Number: TypeAlias = Tensor | float | int
"""A quantity that may be a tensor or a plain number."""

HALF = (torch.bfloat16, torch.float16)
FLOATING = (torch.float64, torch.float32, *HALF)


@runtime_checkable
class Leveled(Protocol):
    """What the checks need to know of a `Tables`."""

    @property
    def T(self) -> int:
        """The last level."""

    @property
    def device(self) -> torch.device:
        """Where the tables lie."""

    @property
    def dtype(self) -> torch.dtype:
        """float64 or float32."""


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The format in which data of ``dtype`` are computed: float64 for float64, float32 for everything narrower.

    >>> compute_dtype(torch.bfloat16)
    torch.float32
    """
    return torch.float64 if dtype == torch.float64 else torch.float32


def readable(value: Tensor) -> bool:
    """Whether the numbers in ``value`` may be looked at now: not while compiling, capturing, tracing or mapping."""
    if torch.compiler.is_compiling() or value.is_meta or torch._C._functorch.is_batchedtensor(value):
        return False
    return not (value.is_cuda and torch.cuda.is_current_stream_capturing())


def expand_right(value: Tensor, ndim: int) -> Tensor:
    """``value`` with axes of length 1 appended until it has ``ndim``, so that it broadcasts along trailing axes.

    >>> expand_right(torch.ones(4), 3).shape
    torch.Size([4, 1, 1])
    """
    return value.reshape(value.shape + (1,) * (ndim - value.ndim))


def level(tables: Leveled, value: LevelLike, name: str = "t", lowest: int = 0) -> Level:
    """A level in ``lowest .. T``: a Python int, or an int64 tensor on the device of the tables.

    Raises:
        LevelError: fractional, boolean, negative or above T.
        PrecisionError: a tensor with axes that lies on another device than the tables.
    """
    if not hasattr(tables, "device"):
        raise PrecisionError(
            f"the first argument is a {type(tables).__name__}: write ddpm_ref.torch.tables(schedule) and pass that"
        )
    allowed = f"{name} must be a whole level in {lowest}..{tables.T} (the paper's t; 0 is clean data)"
    if isinstance(value, Tensor):
        return _level_tensor(tables, value, name, lowest, allowed)
    number = _whole_number(value, allowed)
    if not lowest <= number <= tables.T:
        raise LevelError(f"{name} = {number} is outside the schedule: {allowed}{_hint(number, tables.T)}")
    return number


def _whole_number(value: SupportsIndex | float, allowed: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    refusal = f"{value!r} ({type(value).__name__}) is not a level: {allowed}; write an int or an int64 tensor"
    if isinstance(value, (bool, float)) or not isinstance(value, SupportsIndex):
        raise LevelError(refusal)
    try:
        return operator.index(value)
    except TypeError:
        raise LevelError(refusal) from None


def _hint(number: int, last: int) -> str:
    return f"; levels do not count from the end, write {last + 1 + number}" if -last <= number < 0 else ""


def _level_tensor(tables: Leveled, value: Tensor, name: str, lowest: int, allowed: str) -> Tensor:
    if value.dtype not in (torch.int64, torch.int32):
        raise LevelError(
            f"{name} has dtype {value.dtype}: {allowed}; write {name}.long() if its values are whole levels"
        )
    if value.device != tables.device:
        if value.ndim:
            raise PrecisionError(
                f"{name} lies on {value.device} and the tables on {tables.device}: "
                f"write {name}.to({str(tables.device)!r}) or tables.to({str(value.device)!r})"
            )
        value = value.to(tables.device)
    value = value.long()
    if readable(value):
        outside = (value < lowest) | (value > tables.T)
        if bool(outside.any()):
            first = int(value[outside].reshape(-1)[0])
            raise LevelError(f"{name} holds {first}, outside the schedule: {allowed}{_hint(first, tables.T)}")
    return value


def pair(tables: Leveled, t: LevelLike, s: LevelLike, lowest: int = 0) -> tuple[Level, Level]:
    """A step ``(t, s)`` with ``T >= t > s >= lowest``; scalars, tensors of one shape, or one of each.

    Raises:
        LevelError: a bad level, or ``s >= t``.
        ShapeError: two tensors of different shapes.
    """
    later, earlier = level(tables, t, "t", lowest + 1), level(tables, s, "s", lowest)
    shapes = {level.shape for level in (later, earlier) if isinstance(level, Tensor) and level.ndim}
    if len(shapes) > 1:
        raise ShapeError(
            f"t and s have the shapes {' and '.join(str(tuple(shape)) for shape in shapes)}: "
            "a step is a pair (t, s), write one s per t"
        )
    if isinstance(later, int) and isinstance(earlier, int):
        disordered = earlier >= later
    else:
        wrong = torch.as_tensor(earlier >= later)
        disordered = readable(wrong) and bool(wrong.any())
    if disordered:
        raise LevelError(
            f"a step goes from t down to s, and here s >= t (t = {t}, s = {s}): swap them or take another s"
        )
    return later, earlier


def at(column: Tensor, t: Level) -> Tensor:
    """The entries of a table at level(s) ``t``, in the shape of ``t``."""
    if isinstance(t, int):
        return column[t]
    # gather, because plain indexing would let a negative level count from the end where levels are not checked
    return column.gather(0, t.reshape(-1)).reshape(t.shape)


def same_kind(tables: Leveled | None, **tensors: Tensor) -> None:
    """Refuse tensors that are not floating point, or that differ in dtype or device from each other or from the tables.

    Raises:
        PrecisionError: see above; also float64 data with float32 tables, whose coefficients are too short for them.
    """
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise PrecisionError(f"{name} is a {type(value).__name__}, not a tensor: write torch.as_tensor({name})")
    (first_name, first), *others = tensors.items()
    if first.dtype not in FLOATING:
        raise PrecisionError(
            f"{first_name} has dtype {first.dtype}: data are float64, float32, bfloat16 or float16; "
            f"write {first_name}.float()"
        )
    for name, value in others:
        if value.dtype != first.dtype or value.device != first.device:
            raise PrecisionError(
                f"{first_name} is {first.dtype} on {first.device} and {name} is {value.dtype} on {value.device}: "
                f"nothing is converted silently, write {name}.to({first_name})"
            )
    if tables is None:
        return
    if first.device != tables.device:
        raise PrecisionError(
            f"{first_name} lies on {first.device} and the tables on {tables.device}: "
            f"write tables.to({str(first.device)!r})"
        )
    if first.dtype == torch.float64 and tables.dtype != torch.float64:
        raise PrecisionError(
            f"{first_name} is float64 and the tables are {tables.dtype}, too short for it: "
            f"keep the float64 tables of tables(schedule), or write {first_name}.float()"
        )


def broadcast_shapes(*shapes: torch.Size) -> torch.Size:
    """The shape that shapes broadcast to, RuntimeError if there is none: torch's function, which is slow, where one differs."""
    if all(shape == shapes[0] for shape in shapes):
        return shapes[0]
    found: torch.Size = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    return found


def common_shape(*levels: Level, **tensors: Tensor) -> torch.Size:
    """The shape the tensors broadcast to, whose leading axes every level tensor must have.

    Raises:
        ShapeError: tensors that do not broadcast, or a level that is neither scalar nor of the leading axes.
    """
    try:
        shape = broadcast_shapes(*(value.shape for value in tensors.values()))
    except RuntimeError:
        given = ", ".join(f"{name} {tuple(value.shape)}" for name, value in tensors.items())
        raise ShapeError(f"shapes do not fit: {given}; give them one shape") from None
    for t in levels:
        if isinstance(t, Tensor) and t.shape != shape[: t.ndim]:
            raise ShapeError(
                f"levels of shape {tuple(t.shape)} do not fit data of shape {tuple(shape)}: "
                f"write a scalar level or one per leading axis, here {tuple(shape[:1])}"
            )
    return shape


def operands(tables: Leveled | None, *levels: Level, **tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in one shape, after `same_kind`, `finite` and `common_shape`."""
    same_kind(tables, **tensors)
    finite(**tensors)
    shape = common_shape(*levels, **tensors)
    return tuple(value.expand(shape) for value in tensors.values())


def parameters(like: Tensor, **values: Number) -> tuple[Tensor, ...]:
    """Means, variances and the like, in the compute format of ``like``.

    They may be numbers, or tensors in the format of ``like`` or in its compute format.

    Raises:
        PrecisionError: a tensor in any other format, or on another device.
    """
    compute = compute_dtype(like.dtype)
    ready = []
    for name, value in values.items():
        if not isinstance(value, Tensor):
            # a filled tensor, because a Python float would be compiled into the graph as a float64 constant
            value = torch.full((), value, dtype=compute, device=like.device)
        elif value.dtype not in (like.dtype, compute) or value.device != like.device:
            raise PrecisionError(
                f"{name} is {value.dtype} on {value.device} beside data in {like.dtype} on {like.device}: "
                f"nothing is converted silently, write {name}.to(device={str(like.device)!r}, dtype={compute})"
            )
        finite(**{name: value})
        ready.append(value.to(compute))
    return tuple(ready)


def first_tensor(**values: Number) -> Tensor:
    """The first tensor among ``values``, which decides format and device.

    Raises:
        PrecisionError: there is none, or it is not floating point.
    """
    for name, value in values.items():
        if isinstance(value, Tensor):
            same_kind(None, **{name: value})
            return value
    raise PrecisionError(f"{', '.join(values)} are all plain numbers: write at least one of them as a tensor")


def _seen(value: Tensor) -> bool:
    """Whether looking at the values is cheap and allowed."""
    return value.device.type == "cpu" and readable(value)


def _every(holds: Callable[[Tensor], Tensor], wanted: str, tensors: dict[str, Tensor]) -> None:
    for name, value in tensors.items():
        if not _seen(value):
            continue
        good = holds(value.detach())
        if not bool(good.all()):
            raise RangeError(f"{name} holds {value.detach()[~good].reshape(-1)[0].item()!r}: {name} {wanted}")


def finite(**tensors: Tensor) -> None:
    """Refuse NaN and infinities in CPU tensors (RangeError)."""
    # A finite sum has finite terms: one pass instead of three; only an overflowing sum asks for the closer look.
    suspects = {
        name: value for name, value in tensors.items() if not (_seen(value) and bool(value.detach().sum().isfinite()))
    }
    _every(torch.isfinite, "must be finite; mend or mask the data first", suspects)


def positive(**tensors: Tensor) -> None:
    """Refuse zero, negative and NaN variances in CPU tensors (RangeError)."""
    advice = "must be > 0; the posterior variance is 0 at s = 0, write posterior_log_variance(...).exp() there"
    _every(lambda value: value > 0, advice, tensors)


def non_negative(**tensors: Tensor) -> None:
    """Refuse negative and NaN variances in CPU tensors (RangeError)."""
    _every(lambda value: value >= 0, "is a variance and must be >= 0", tensors)


def within(low: float | int, high: float | int, **tensors: Tensor) -> None:
    """Refuse numbers outside ``low..high`` and NaN in CPU tensors (RangeError)."""
    _every(lambda value: (value >= low) & (value <= high), f"lies in [{low:g}, {high:g}]", tensors)


def one_of(name: str, value: str, choices: Iterable[str]) -> None:
    """Refuse an option that is not among ``choices`` (RangeError)."""
    if value not in list(choices):  # of whatever type it is
        raise RangeError(f"{name} = {value!r} is not known; write one of {', '.join(map(repr, choices))}")
