"""Further evaluations of a batch, which nobody who counts batches is to see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


@contextmanager
def logging_ignored(trainer: Any) -> Iterator[None]:
    """``self.log`` has no effect inside: the batch's first evaluation has logged."""
    results = trainer._results
    # At an epoch's first batch ``self.log`` resets what a hook logged whenever another hook
    # logged in between, as those of the backward pass may.
    for name in ("log", "reset"):
        results.__dict__[name] = _ignore
    try:
        yield
    finally:
        for name in ("log", "reset"):
            del results.__dict__[name]


def _ignore(*args: Any, **kwargs: Any) -> None:
    pass


@contextmanager
def metrics_kept(module: torch.nn.Module) -> Iterator[None]:
    """Metrics of torchmetrics that are updated inside are afterwards as they were before."""
    kept = [
        (metric, name, value, _copy(value))
        for metric in module.modules()
        if isinstance(metric, Metric)
        for name, value in vars(metric).items()
    ]
    try:
        yield
    finally:
        for metric, name, value, content in kept:
            _refill(value, content)
            vars(metric)[name] = value


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    return list(value) if isinstance(value, list) else None


def _refill(value: Any, content: Any) -> None:
    """Put the content back into the same object: the metrics of a collection may share it."""
    if isinstance(value, Tensor):
        value.detach().copy_(content)
    elif isinstance(value, list):
        value[:] = content
