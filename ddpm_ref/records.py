"""Records (frozen dataclasses) to JSON and back: whatever JSON holds that the record does not is named."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from ddpm_ref.errors import RangeError


def plain(value: Any) -> Any:
    """A record, or anything made of dicts, tuples and records, as plain dicts, lists, numbers and strings.

    >>> plain({"levels": (2, 1, 0)})
    {'levels': [2, 1, 0]}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def record(cls: type[Any], values: Any, where: str, chosen: Mapping[str, type[Any]] | None = None) -> Any:
    """The record of which `plain` made these values; what is left out takes its default.

    Args:
        cls: a dataclass whose fields are numbers, strings, records, tuples of one of these, or None.
        values: as read from JSON.
        where: what messages call it.
        chosen: by field, which kind of record it is, where it may be several: names of values do not tell.

    Raises:
        RangeError: an unknown or a missing name, or a value of another type.
    """
    if not isinstance(values, Mapping):
        raise RangeError(f"{where} is {values!r}; a table of names and values is needed")
    kinds = {**typing.get_type_hints(cls), **(chosen or {})}
    unknown = sorted(set(values) - set(kinds))
    if unknown:
        raise RangeError(f"{where} has no {unknown[0]!r}; it has {', '.join(kinds)}")
    for field in dataclasses.fields(cls):
        if {field.default, field.default_factory} == {dataclasses.MISSING} and field.name not in values:
            raise RangeError(f"{where}.{field.name} is missing")
    return cls(**{name: _value(kinds[name], value, f"{where}.{name}") for name, value in values.items()})


def _value(kind: Any, value: Any, where: str) -> Any:
    # JSON knows no tuples; everything else must be what the field says.
    accepted = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    if value is None and types.NoneType in accepted:
        return None
    for option in accepted:
        if dataclasses.is_dataclass(option):
            return record(typing.cast("type[Any]", option), value, where)
        if typing.get_origin(option) is tuple:
            if not isinstance(value, list):
                raise RangeError(f"{where} is {value!r}; it must be a list")
            item_kind = typing.get_args(option)[0]
            return tuple(_value(item_kind, item, f"{where}[{i}]") for i, item in enumerate(value))
    # True is an int to Python, and 1.0 is not a whole number to a reader.
    if (isinstance(value, bool) and bool not in accepted) or not isinstance(value, accepted):
        names = " or ".join("null" if option is types.NoneType else option.__name__ for option in accepted)
        raise RangeError(f"{where} is {value!r}; it must be {names}")
    return value
