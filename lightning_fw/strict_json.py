"""Values that JSON has numbers for, and words for those that it has none for."""

from __future__ import annotations

from math import isfinite, isnan
from typing import Any


def strict(value: Any) -> Any:
    """The value with null in place of NaN, and strings in place of infinities.

    Example:
        >>> strict({"ratio": float("inf"), "gap": (float("nan"), 1.0)})
        {'ratio': 'inf', 'gap': [None, 1.0]}
    """
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    if isinstance(value, float) and not isfinite(value):
        return None if isnan(value) else str(value)
    return value
