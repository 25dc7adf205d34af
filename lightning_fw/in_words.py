"""Settings in words, for a saved state to be compared with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from lightning_fw.inner_loop import InnerLoop


def settings_in_words(inner_loop: InnerLoop) -> dict[str, str]:
    """Each setting as Python shows it, which another process shows alike."""
    return {field.name: _words(getattr(inner_loop, field.name)) for field in fields(InnerLoop)}


def _words(value: object) -> str:
    if is_dataclass(value) and not isinstance(value, type):
        parts = (f"{f.name}={_words(getattr(value, f.name))}" for f in fields(value) if f.repr)
        return f"{type(value).__qualname__}({', '.join(parts)})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {_words(part)}' for key, part in value.items())}}}"
    if isinstance(value, float):
        # 1 and 1.0 are equal, and so is numpy's.
        return repr(int(value) if value.is_integer() else float(value))
    # Without the addresses of functions and plain objects.
    return re.sub(r" at 0x[0-9A-Fa-f]+", "", repr(value))


def changes(saved: Mapping[str, str], mine: Mapping[str, str]) -> list[str]:
    """What differs, a phrase each."""
    phrases = []
    for name in {**saved, **mine}:
        before, now = saved.get(name, "not there"), mine.get(name, "not there")
        if before != now:
            phrases.append(f"{name} was {before}, is {now}")
    return phrases


def require_same(state: Mapping[str, Any], inner_loop: InnerLoop) -> None:
    """Raise if a state is no window's, or of one with other settings.

    Raises:
        ValueError: Naming them.
    """
    if "inner_loop" not in state:
        raise ValueError(
            f"`state` must be a window's, got the keys {', '.join(map(str, state))}. "
            "Pass what Window.state_dict() gave."
        )
    found = changes(state["inner_loop"], settings_in_words(inner_loop))
    if found:
        raise ValueError(
            f"`state` must be of the same settings, got others: {'; '.join(found)}. "
            "Load it into a Window with the InnerLoop that it was saved from."
        )
