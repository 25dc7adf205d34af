"""Checks of the numbers and names that settings are made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def require_kind(name: str, value: object, kind: type, example: str) -> None:
    """Raise a TypeError unless ``value`` is of a class."""
    if not isinstance(value, kind):
        raise TypeError(
            f"`{name}` must be a {kind.__name__}, got {value!r}. Pass one such as {example}."
        )


def require_flag(name: str, value: object) -> None:
    """Raise a TypeError unless ``value`` is True or False; any word would count as True."""
    if not isinstance(value, bool):
        raise TypeError(f"`{name}` must be a bool, got {value!r}. Pass True or False.")


def require_number(name: str, value: float, *, instead: str = "") -> None:
    """Raise a TypeError unless ``value`` is a Python number; a tensor would not be hashable."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"`{name}` must be a number, got {value!r}. Pass a Python float{instead}.")


def require_count(name: str, value: object, *, least: int = 1) -> None:
    """Raise unless ``value`` is an int of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be an int, got {value!r}. Pass {name} >= {least}.")
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}, got {value}. Pass {name} >= {least}.")


def require_positive(name: str, value: float) -> None:
    """Raise unless ``value`` is a positive finite number."""
    require_number(name, value)
    if not value > 0:
        article = "an" if name[0] in "aeiou" else "a"
        raise ValueError(f"`{name}` must be positive, got {value}. Pass {article} {name} > 0.")
    if not math.isfinite(value):
        raise ValueError(f"`{name}` must be finite, got {value}. Pass a finite {name} > 0.")


def require_share(name: str, value: float, *, instead: str = "") -> None:
    """Raise unless ``value`` is a number in [0, 1)."""
    require_number(name, value, instead=instead)
    if not 0 <= value < 1:
        raise ValueError(f"`{name}` must be in [0, 1), got {value}. Pass 0 <= {name} < 1{instead}.")


def require_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise a ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, choices))}, got {value!r}. "
            f"Pass one of these{perhaps(value, choices)}."
        )


def perhaps(value: object, choices: Iterable[str]) -> str:
    """``, perhaps X`` where a choice is much like the value; nothing else."""
    by_lower_case = {choice.lower(): choice for choice in choices}
    near = get_close_matches(str(value).lower(), by_lower_case, n=1)
    return f", perhaps {by_lower_case[near[0]]!r}" if near else ""
