"""Types of arguments and results, spelled so that they are true at run time as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing
from numpy.typing import NDArray

# NumPy's own ArrayLike, with the scalars and tuples that run-time type checkers do not find in it spelled out: what is wrong must
# reach our door and get its named error.
ArrayLike: TypeAlias = numpy.typing.ArrayLike | bool | int | float | complex | tuple[Any, ...]
# The numeric tower of the type system, spelled out for the same reason.
Real: TypeAlias = float | int

# Where an array has no axes NumPy's arithmetic answers with a scalar, which its own type stubs call an array.
if TYPE_CHECKING:
    Array: TypeAlias = NDArray[np.float64]
    IntArray: TypeAlias = NDArray[np.int64]
    BoolArray: TypeAlias = NDArray[np.bool_]
    AnyArray: TypeAlias = NDArray[Any]
else:
    Array: TypeAlias = NDArray[np.float64] | np.float64
    IntArray: TypeAlias = NDArray[np.int64] | np.int64
    BoolArray: TypeAlias = NDArray[np.bool_] | np.bool_
    AnyArray: TypeAlias = NDArray[Any] | np.generic
