"""Who hears of restarts: the module, and every callback with an ``on_restart``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lightning_fw.record import RestartRecord
from lightning_fw.tensors.shards import any_sharded


def is_heard(module: Any, parameters: Sequence[Tensor]) -> bool:
    """Whether anybody wants to know what a window's record tells.

    With weights in parts all ranks work on it, and somebody may listen on one of them alone.
    """
    # The mixin's own does nothing but ask the next class.
    owners = [owner for owner in (module, *type(module).__mro__) if "on_restart" in vars(owner)]
    return bool(_listeners(module)) or len(owners) > 1 or any_sharded(parameters)


def tell(module: Any, record: RestartRecord) -> None:
    """Call ``on_restart`` of callbacks and of the module, in the order of Lightning's hooks."""
    # They log from within training_step. In an epoch's first batch Lightning 2.6.6 drops what one
    # hook logged when it logs again after another, such as that before the optimizer's step.
    module.trainer._logger_connector._current_fx = module._current_fx_name
    for callback in _listeners(module):
        callback.on_restart(module.trainer, module, record)
    module.on_restart(record)


def _listeners(module: Any) -> list[Any]:
    return [callback for callback in module.trainer.callbacks if hasattr(callback, "on_restart")]
