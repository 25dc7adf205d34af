"""Learning-rate schedulers: stepped where automatic optimization would, a step an outer step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_warn
from torch.optim.lr_scheduler import OneCycleLR

from lightning_fw.inner_loop import InnerLoop
from lightning_fw.manual.epoch import close_cut_off_window
from lightning_fw.manual.namespaces import sibling

# By what torch's schedules call how long they are.
_LENGTHS = ("total_steps", "T_max", "total_iters")


@dataclass
class OuterSteps:
    """Outer steps of the epoch in progress, numbered from 1 as Lightning numbers batches.

    Attributes:
        epoch: The epoch.
        count: Steps in it.
        batch: The batch that the last of them fell into.
        before: Steps in the epoch before that batch.
    """

    epoch: int = -1
    count: int = 0
    batch: int = -1
    before: int = 0

    def add(self, epoch: int, batch: int) -> None:
        """Count a step in a batch of an epoch."""
        if epoch != self.epoch:
            self.epoch, self.count, self.batch = epoch, 0, -1
        if batch != self.batch:
            self.batch, self.before = batch, self.count
        self.count += 1

    def of_batch(self, epoch: int, batch: int) -> range:
        """The numbers of the steps that fell into a batch."""
        if (epoch, batch) != (self.epoch, self.batch):
            return range(0)
        return range(self.before + 1, self.count + 1)


@contextmanager
def counted_in_windows(module: Any, inner_loop: InnerLoop) -> Iterator[None]:
    """``trainer.estimated_stepping_batches`` counts outer steps inside, a window's batches as one.

    A restart rule makes them more.
    """
    trainer = module._trainer
    if trainer is None or inner_loop.batches != "successive":
        yield
        return
    batches = trainer.accumulate_grad_batches
    trainer.accumulate_grad_batches = inner_loop.steps * inner_loop.accumulate_grad_batches
    try:
        yield
    finally:
        trainer.accumulate_grad_batches = batches


def warn_of_lengths_in_batches(trainer: Any, inner_loop: InnerLoop) -> None:
    """Warn of schedules as long as the fit has batches, of which a window makes one step.

    Args:
        trainer: The Trainer, with its data.
        inner_loop: The settings.
    """
    together = inner_loop.steps * inner_loop.accumulate_grad_batches
    if inner_loop.batches != "successive" or together == 1 or not trainer.max_epochs:
        return
    batches = trainer.num_training_batches * trainer.max_epochs
    if trainer.num_training_batches == 1:
        # Each epoch is one window of one batch.
        return
    for config in trainer.lr_scheduler_configs:
        scheduler = config.scheduler
        lengths = {name: getattr(scheduler, name, None) for name in _LENGTHS}
        name = next((name for name, length in lengths.items() if length == batches), None)
        if config.interval == "step" and name is not None:
            steps = trainer.max_epochs * math.ceil(trainer.num_training_batches / together)
            rank_zero_warn(
                f"`{name}` of {type(scheduler).__name__} should be about {steps}, the fit's outer "
                f"steps with windows of {together} batches, got {batches}, its batches: the "
                "schedule would hardly begin. Pass self.trainer.estimated_stepping_batches, read "
                "in configure_optimizers."
            )


def attend_to_schedulers(trainer: Any, configured: Any) -> Any:
    """Have the schedulers that ``configure_optimizers`` returned stepped in this fit.

    Under manual optimization Lightning drops ``monitor``, ``strict`` and ``reduce_on_plateau`` with
    a warning, and its loop declines to step schedulers (Lightning 2.6.6,
    ``loops/training_epoch_loop.py``). The loop still asks itself at the right moments, by
    ``update_lr_schedulers``: this puts an answer in place.

    Args:
        trainer: The Trainer.
        configured: What ``configure_optimizers`` returned, in any form that Lightning takes.

    Returns:
        The same in a form that Lightning takes without a warning under manual optimization.
    """
    core = sibling(trainer, "core.optimizer")
    optimizers, schedulers, monitor = core._configure_optimizers(configured)
    configs = core._configure_schedulers_automatic_opt(schedulers, monitor)
    _require_steppable(trainer, [config.scheduler for config in configs])
    loop = trainer.fit_loop.epoch_loop
    loop.update_lr_schedulers = partial(_update, loop, {id(c.scheduler): c for c in configs})
    kept = ("scheduler", "name", "interval", "frequency")
    return optimizers, [{name: getattr(config, name) for name in kept} for config in configs]


def _require_steppable(trainer: Any, schedulers: Sequence[Any]) -> None:
    """As Lightning 2.6.6 does before an automatic fit; before a manual one it does not.

    Raises:
        MisconfigurationException: If a scheduler is not torch's, and no hook steps it.
    """
    torchs = sibling(trainer, "utilities.types").LRSchedulerTypeTuple
    is_overridden = sibling(trainer, "utilities.model_helpers").is_overridden
    for scheduler in schedulers:
        if isinstance(scheduler, torchs):
            continue
        if not is_overridden("lr_scheduler_step", trainer.lightning_module):
            exceptions = sibling(trainer, "utilities.exceptions")
            raise exceptions.MisconfigurationException(
                "`lr_scheduler` must be a scheduler of torch's, or `lr_scheduler_step` overridden, "
                f"got {type(scheduler).__name__}. Override `lr_scheduler_step`, and step it there."
            )


def _update(
    loop: Any, given: dict[int, Any], interval: str, update_plateau_schedulers: bool
) -> None:
    """Step the schedulers that are due, by Lightning's rules.

    Args:
        loop: The epoch loop.
        given: The user's configurations by identity of the scheduler, until they are restored.
        interval: ``"step"`` or ``"epoch"``.
        update_plateau_schedulers: Whether those are meant that need a metric.
    """
    trainer = loop.trainer
    if not hasattr(trainer.lightning_module, "_frank_wolfe_driver"):
        # The Trainer has moved on to a module without the mixin.
        type(loop).update_lr_schedulers(loop, interval, update_plateau_schedulers)
        return
    if interval == "step" and not update_plateau_schedulers:
        close_cut_off_window(trainer)
    for index in _indices(trainer, interval):
        # The trainer's own list, which callbacks change.
        for config in trainer.lr_scheduler_configs:
            _restore(config, given.pop(id(config.scheduler), None))
            is_due = config.interval == interval and index % config.frequency == 0
            if is_due and config.reduce_on_plateau == update_plateau_schedulers:
                _step(loop, config)


def _restore(config: Any, given: Any) -> None:
    """Put what the user gave back into what Lightning kept of it."""
    if given is not None:
        config.reduce_on_plateau, config.monitor = given.reduce_on_plateau, given.monitor
        config.strict = given.strict


def _indices(trainer: Any, interval: str) -> Sequence[int]:
    """Numbers, from 1, of the epoch that ends or of the steps that the batch made."""
    epoch, module = trainer.current_epoch, trainer.lightning_module
    if interval == "epoch":
        return (epoch + 1,)
    steps = OuterSteps()
    if module._frank_wolfe_driver is not None:
        steps = module._frank_wolfe_driver.outer_steps
    elif module._saved_driver_state is not None:
        # A fit that resumes between a batch and its validation updates before its first batch.
        steps = OuterSteps(**module._saved_driver_state["outer_steps"])
    return steps.of_batch(epoch, trainer.fit_loop.batch_idx)


def _is_through(trainer: Any, config: Any) -> bool:
    """Whether a restart rule made more steps than OneCycleLR, which then raises, was told of."""
    driver, scheduler = trainer.lightning_module._frank_wolfe_driver, config.scheduler
    if not isinstance(scheduler, OneCycleLR) or config.interval != "step" or driver is None:
        return False
    may_restart = driver.inner_loop.restart_when is not None
    is_through = may_restart and scheduler.last_epoch >= scheduler.total_steps
    if is_through:
        rank_zero_warn(
            f"OneCycleLR has made its {scheduler.total_steps} steps, and `restart_when` makes more "
            "windows than that. The learning rate stays where it ended."
        )
    return is_through


def _step(loop: Any, config: Any) -> None:
    trainer, metric = loop.trainer, None
    if _is_through(trainer, config):
        return
    if config.reduce_on_plateau:
        metric = trainer.callback_metrics.get(config.monitor)
        if metric is None:
            missing = (
                f"`monitor` of ReduceLROnPlateau must be a logged metric, got {config.monitor!r}; "
                f"logged so far: {', '.join(map(repr, trainer.callback_metrics)) or 'none'}."
            )
            if config.strict:
                exceptions = sibling(trainer, "utilities.exceptions")
                raise exceptions.MisconfigurationException(
                    f"{missing} Log it before the scheduler's turn, or set strict to False."
                )
            rank_zero_warn(f"{missing} The learning rate stays.", category=RuntimeWarning)
            return
    loop.scheduler_progress.increment_ready()
    sibling(trainer, "trainer.call")._call_lightning_module_hook(
        trainer, "lr_scheduler_step", config.scheduler, metric
    )
    loop.scheduler_progress.increment_completed()
