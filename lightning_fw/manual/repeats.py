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
    results.__dict__["log"] = _ignore
    try:
        yield
    finally:
        del results.__dict__["log"]


def _ignore(*args: Any, **kwargs: Any) -> None:
    pass


@contextmanager
def metrics_kept(module: torch.nn.Module) -> Iterator[None]:
    """Metrics of torchmetrics that are updated inside are afterwards as they were before."""
    kept = [
        (metric, name, state, _copy(state), metric._update_count, metric._computed)
        for metric in module.modules()
        if isinstance(metric, Metric)
        for name, state in metric.metric_state.items()
    ]
    try:
        yield
    finally:
        for metric, name, state, content, count, computed in kept:
            # In the same object: the metrics of a collection may share it.
            if isinstance(state, Tensor):
                state.copy_(content)
            else:
                state[:] = content
            setattr(metric, name, state)
            metric._update_count, metric._computed = count, computed


def _copy(state: Any) -> Any:
    return state.clone() if isinstance(state, Tensor) else list(state)
