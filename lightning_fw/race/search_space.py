"""What is tuned of a method, and where its trials lie."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from zlib import crc32

from torch.quasirandom import SobolEngine

Setting: TypeAlias = dict[str, float]
"""Values by name, such as ``{"lr": 0.01, "clip": 1.0}``; empty where there is nothing to tune."""


@dataclass(frozen=True)
class Range:
    """An interval, even on a logarithmic scale unless ``linear``.

    Attributes:
        low: Its lower end.
        high: Its upper end.
        linear: Whether trials lie evenly in the value itself.
        whole: Whether values are whole numbers.
    """

    low: float
    high: float
    linear: bool = False
    whole: bool = False

    def at(self, share: float) -> float:
        """The value at a share of the way from low to high, with three digits.

        Example:
            >>> Range(1e-4, 1e-2).at(0.5), Range(1, 10, whole=True).at(0.5)
            (0.001, 3)
        """
        if self.linear:
            value = self.low + share * (self.high - self.low)
        else:
            value = self.low * (self.high / self.low) ** share
        return round(value) if self.whole else float(f"{value:.3g}")


Space: TypeAlias = Mapping[str, Range]


def trials(name: str, space: Space) -> Iterator[Setting]:
    """Random settings of a method without an end, the same ones at every call.

    A scrambled Sobol sequence: its first N points cover the space more evenly than N independent
    ones, which helps most where N is small.

    Args:
        name: Of the method; it seeds the sequence.
        space: A range for each value; not empty.

    Example:
        >>> first = next(trials("adam", {"lr": Range(1e-4, 1e-1)}))
        >>> 1e-4 <= first["lr"] <= 1e-1
        True
    """
    seed = crc32(name.encode())
    points = SobolEngine(len(space), scramble=True, seed=seed)  # type: ignore[no-untyped-call]
    while True:
        (shares,) = points.draw(1).tolist()
        pairs = zip(space.items(), shares, strict=True)
        yield {key: values.at(share) for (key, values), share in pairs}


def written(setting: Setting) -> str:
    """A setting as one writes it on the command line.

    Example:
        >>> written({"lr": 0.01, "steps": 3})
        'lr=0.01 steps=3'
    """
    return " ".join(f"{name}={value:g}" for name, value in setting.items())


def read(words: str) -> Setting:
    """The inverse of :func:`written`.

    Raises:
        ValueError: If a word is not NAME=VALUE with a finite value above 0.
    """
    setting: Setting = {}
    for word in words.split():
        name, _, text = word.partition("=")
        value = _number(text)
        if not name or not (value > 0 and math.isfinite(value)):
            raise ValueError(f"must be NAME=VALUE with a value > 0, got {word!r}")
        setting[name] = value
    return setting


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
