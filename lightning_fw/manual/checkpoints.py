"""ModelCheckpoint in mid-epoch: as under automatic optimization."""

from __future__ import annotations

from functools import partial
from typing import Any


class _AsAutomatic:
    """The module, as a callback sees it that must not take the way of manual optimization."""

    automatic_optimization = True

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def attend_to_checkpoints(trainer: Any) -> None:
    """Let every ModelCheckpoint decide after this batch as it does under automatic optimization.

    On a module with manual optimization it ignores ``train_time_interval``, and warns that it saves
    weights after the optimizer's step, which here is what is wanted (Lightning 2.6.6,
    ``callbacks/model_checkpoint.py``).
    """
    for callback in trainer.checkpoint_callbacks:
        callback.__dict__["on_train_batch_end"] = partial(_on_train_batch_end, callback)


def _on_train_batch_end(
    callback: Any, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
) -> None:
    # For one batch alone: the callback stays one that can be copied, pickled and used elsewhere.
    callback.__dict__.pop("on_train_batch_end", None)
    callback.on_train_batch_end(trainer, _AsAutomatic(module), outputs, batch, batch_idx)
