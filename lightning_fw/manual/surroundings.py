"""What Lightning has around ``training_step``, and so around the inner loop in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lightning_fw.manual.evaluation import TrainingStep

_NOTED = "_default_dtype"


def note_default_dtype(module: Any, on_train_batch_start: Callable[..., Any], *batch: Any) -> Any:
    """The user's on_train_batch_start, the last hook before the precision's context."""
    response = on_train_batch_start(module, *batch)
    setattr(module, _NOTED, torch.get_default_dtype())
    return response


@contextmanager
def as_around_optimizers(module: Any, training_step: TrainingStep) -> Iterator[TrainingStep]:
    """Run the body as Lightning runs backward passes and optimizers.

    Without autocast, in the default dtype that was there before the batch, and with gradients,
    whoever turned them off.

    Args:
        module: The LightningModule.
        training_step: The user's function.

    Yields:
        The user's function with the precision that is around the body.
    """
    device, dtype = module.device.type, torch.get_default_dtype()
    is_cast, before = torch.is_autocast_enabled(device), vars(module).get(_NOTED, dtype)
    with torch.enable_grad():
        if not is_cast and dtype == before:
            yield training_step
            return
        to, cached = torch.get_autocast_dtype(device), torch.is_autocast_cache_enabled()

        def in_precision(*arguments: Any, **settings: Any) -> Any:
            with (
                _default_dtype(dtype),
                torch.autocast(device, to, enabled=is_cast, cache_enabled=cached),
            ):
                return training_step(*arguments, **settings)

        with _default_dtype(before), torch.autocast(device, enabled=False):
            yield in_precision


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
