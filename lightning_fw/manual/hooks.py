"""Hooks that Lightning's loops leave out under manual optimization."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from lightning_fw.manual.namespaces import sibling


def zero_gradients(module: Any) -> None:
    """Fire ``on_before_zero_grad`` and ``optimizer_zero_grad``, as before a backward pass."""
    trainer = module.trainer
    call, optimizer = sibling(trainer, "trainer.call"), trainer.optimizers[0]
    call._call_callback_hooks(trainer, "on_before_zero_grad", optimizer)
    call._call_lightning_module_hook(trainer, "on_before_zero_grad", optimizer)
    call._call_lightning_module_hook(
        trainer, "optimizer_zero_grad", trainer.current_epoch, trainer.fit_loop.batch_idx, optimizer
    )


def step_optimizer(module: Any, loss: Tensor | None) -> None:
    """Step the outer optimizer through the ``optimizer_step`` hook, and count it.

    ``on_before_optimizer_step`` fires inside, once the closure was called.

    Args:
        module: The LightningModule.
        loss: What the closure gives; the direction stands in ``p.grad`` already.
    """
    trainer, optimizer = module.trainer, module.optimizers()
    params = [p for group in optimizer.param_groups for p in group["params"]]
    directions = [(p, p.grad) for p in params if p.grad is not None]

    def closure() -> Tensor | None:
        # In automatic optimization it makes the gradients: zero_grad() before it costs nothing.
        if all(p.grad is None for p in params):
            for p, direction in directions:
                p.grad = direction
        return None if loss is None else loss.detach()

    # As in automatic optimization the hook counts, once it has returned: a warm-up written into it
    # reads the global_step before it, and one that skips the optimizer's step does not stall.
    optimizer._on_before_step = optimizer._on_after_step = _nothing
    progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    progress.increment_ready()
    sibling(trainer, "trainer.call")._call_lightning_module_hook(
        trainer,
        "optimizer_step",
        trainer.current_epoch,
        trainer.fit_loop.batch_idx,
        optimizer,
        closure,
    )
    progress.increment_completed()


def count_skipped_step(trainer: Any) -> None:
    """Count an outer step that is not made, as Lightning counts one that the loss scale skips.

    ``max_steps`` ends a fit then, also where no gradient is ever finite.
    """
    progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    progress.increment_ready()
    progress.increment_completed()


def clip_direction(module: Any, optimizer: Optimizer) -> None:
    """Fire ``configure_gradient_clipping``, for users who clip in a way of their own."""
    trainer = module.trainer
    sibling(trainer, "trainer.call")._call_lightning_module_hook(
        trainer,
        "configure_gradient_clipping",
        optimizer,
        gradient_clip_val=trainer.gradient_clip_val,
        gradient_clip_algorithm=trainer.gradient_clip_algorithm,
    )


def _nothing() -> None:
    pass
