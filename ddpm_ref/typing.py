"""Types of arguments at the public doors: wide enough that what is wrong reaches the door and gets its named error."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy.typing

# NumPy's own ArrayLike, with the scalars and tuples that run-time type checkers do not find in it spelled out.
ArrayLike: TypeAlias = numpy.typing.ArrayLike | bool | int | float | complex | tuple[Any, ...]
# The numeric tower of the type system, spelled out for the same reason.
Real: TypeAlias = float | int
