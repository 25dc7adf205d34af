"""Hooks that Lightning's loops leave out under manual optimization."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any


@lru_cache
def _namespace(loop_class: type) -> str:
    loops = (base.__module__ for base in loop_class.__mro__ if base.__name__ == "_FitLoop")
    return next(loops).removesuffix(".loops.fit_loop")


def sibling(trainer: Any, name: str) -> Any:
    """A module of the trainer's own namespace: ``lightning.pytorch`` or ``pytorch_lightning``.

    Args:
        trainer: A Trainer of either.
        name: The module's name below it, such as ``"trainer.call"``.
    """
    loop_class: type = type(trainer.fit_loop)
    return import_module(f"{_namespace(loop_class)}.{name}")


def zero_gradients(module: Any) -> None:
    """Fire ``on_before_zero_grad`` and ``optimizer_zero_grad``, as before a backward pass."""
    trainer = module.trainer
    call, optimizer = sibling(trainer, "trainer.call"), trainer.optimizers[0]
    call._call_callback_hooks(trainer, "on_before_zero_grad", optimizer)
    call._call_lightning_module_hook(trainer, "on_before_zero_grad", optimizer)
    call._call_lightning_module_hook(
        trainer, "optimizer_zero_grad", trainer.current_epoch, trainer.fit_loop.batch_idx, optimizer
    )


def step_optimizer(module: Any, closure: Callable[[], Any]) -> None:
    """Step the outer optimizer through the ``optimizer_step`` hook.

    ``on_before_optimizer_step`` fires inside, once the closure was called.

    Args:
        module: The LightningModule.
        closure: Gives the loss; the direction stands in ``p.grad`` already.
    """
    trainer = module.trainer
    sibling(trainer, "trainer.call")._call_lightning_module_hook(
        trainer,
        "optimizer_step",
        trainer.current_epoch,
        trainer.fit_loop.batch_idx,
        module.optimizers(),
        closure,
    )
