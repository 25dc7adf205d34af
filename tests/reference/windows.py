"""Which data each inner step of an epoch sees, window by window."""

from __future__ import annotations

from typing import Literal

import numpy as np

from .elman import Batch

Feed = Literal["successive", "same", "split"]


def cut(data: Batch, batch_size: int) -> list[Batch]:
    """An epoch's batches in order; the last one is smaller when it must be."""
    x, y = data
    starts = range(0, len(x), batch_size)
    return [(x[i : i + batch_size], y[i : i + batch_size]) for i in starts]


def windows(batches: list[Batch], feed: Feed, steps: int) -> list[list[Batch]]:
    """For every window of an epoch the data of its inner steps.

    "successive": `steps` batches a window, fewer in the epoch's last one;
    "same": one batch, `steps` times; "split": one batch in `steps` chunks along its first
    dimension, the longer chunks first, and no chunk without a sample.
    """
    if feed == "successive":
        return [batches[i : i + steps] for i in range(0, len(batches), steps)]
    if feed == "same":
        return [[batch] * steps for batch in batches]
    chunks = [(np.array_split(x, steps), np.array_split(y, steps)) for x, y in batches]
    return [[pair for pair in zip(*parts, strict=True) if len(pair[0])] for parts in chunks]
