"""ModelCheckpoint in mid-epoch: as under automatic optimization."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

from lightning_fw.manual.namespaces import sibling


class _AsAutomatic:
    """The module, as a callback sees it that must not take the way of manual optimization."""

    automatic_optimization = True

    def __init__(self, module: Any) -> None:
        vars(self)["_module"] = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self._module, memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._module.__reduce_ex__(protocol)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._module(*args, **kwargs)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._module)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._module, name, value)


def attend_to_checkpoints(trainer: Any) -> None:
    """Let every ModelCheckpoint decide after this batch as it does under automatic optimization.

    On a module with manual optimization it ignores ``train_time_interval``, and warns that it saves
    weights after the optimizer's step, which here is what is wanted (Lightning 2.6.6,
    ``callbacks/model_checkpoint.py``).
    """
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, sibling(trainer, "callbacks").ModelCheckpoint):
            callback.on_train_batch_end = partial(_on_train_batch_end, callback)


def _on_train_batch_end(callback: Any, trainer: Any, module: Any, *args: Any) -> None:
    # For one batch alone: the callback stays one that can be copied, pickled and used elsewhere.
    del callback.on_train_batch_end
    # A batch that did not end, at a hook's −1 or an error, leaves this to a fit of any module.
    seen = _AsAutomatic(module) if hasattr(module, "_frank_wolfe_driver") else module
    callback.on_train_batch_end(trainer, seen, *args)
    if trainer.global_step == 0:
        # A multiple of every_n_train_steps, after which it would save at the next validation.
        callback._defer_save_until_validation = False
