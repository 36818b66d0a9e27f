"""What JSON cannot hold."""

import math
from typing import Any


def finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: written as the strings "inf", "-inf" and "nan"."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
