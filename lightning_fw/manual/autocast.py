"""Lightning's autocast, which is around all of ``training_step`` and so around the inner loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lightning_fw.manual.evaluation import TrainingStep


@contextmanager
def without_autocast(device: torch.device, training_step: TrainingStep) -> Iterator[TrainingStep]:
    """Run the body as Lightning runs backward passes and optimizers: in the weights' own precision.

    Args:
        device: Where the fit runs.
        training_step: The user's function.

    Yields:
        The user's function with the autocast that is around the body.
    """
    if not torch.is_autocast_enabled(device.type):
        yield training_step
        return
    dtype, cached = torch.get_autocast_dtype(device.type), torch.is_autocast_cache_enabled()

    def cast(*arguments: Any, **settings: Any) -> Any:
        with torch.autocast(device.type, dtype, cache_enabled=cached):
            return training_step(*arguments, **settings)

    with torch.autocast(device.type, enabled=False):
        yield cast
