"""FrankWolfeMixin: a LightningModule that trains by Frank-Wolfe."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from lightning_utilities.core.apply_func import apply_to_collection
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from lightning_fw.driver import Driver
from lightning_fw.inner_loop import InnerLoop
from lightning_fw.manual.batches import require_batches, split_evenly
from lightning_fw.manual.compiled import step_in_graph, uncompile_around
from lightning_fw.manual.epoch import is_last_batch, warn_by_batches
from lightning_fw.manual.evaluation import refuse_backward
from lightning_fw.manual.following import require_parameters
from lightning_fw.manual.hooks import clip_direction
from lightning_fw.manual.lost_ranks import lost_ranks_told
from lightning_fw.manual.outer_optimizer import outer_of, single_optimizer, warn_of_scales
from lightning_fw.manual.saved_optimizer import attend_to_saved_optimizer
from lightning_fw.manual.saved_state import KEY, can_resume, put_anchor, share_progress
from lightning_fw.manual.schedulers import attend_to_schedulers, counted_in_windows
from lightning_fw.manual.settings import configured_inner_loop, goes_on, require_trainer_settings
from lightning_fw.manual.strategies import attend_to_strategy, require_local_windows
from lightning_fw.manual.surroundings import as_around_optimizers, note_default_dtype
from lightning_fw.manual.termination import ask_every_batch
from lightning_fw.manual.who_calls import asked_by_the_trainer, called_by_the_loop
from lightning_fw.manual.wrapping import (
    ENTERED,
    hide_from_torchscript,
    is_lightning_core,
    require_base_order,
    warn_of_misspelt_hooks,
    wrap_assigned,
    wrap_methods,
)
from lightning_fw.record import RestartRecord
from lightning_fw.tensors.shards import any_sharded
from lightning_fw.window_view import WindowView

_AUTOMATIC = (
    "`automatic_optimization` must be False with FrankWolfeMixin, got True. "
    "Remove the line that sets it."
)


class FrankWolfeMixin:
    """Trains a LightningModule by Frank-Wolfe; stands first in the bases.

    The module's ``training_step`` and ``configure_optimizers`` stay as they are: the mixin runs
    ``training_step`` inside a window around the current weights, and hands the direction found to
    the optimizer at every restart. Everybody outside ``training_step`` and backward hooks sees the
    anchor. ``trainer.global_step`` counts restarts.

    Source: Yue, Li, Saligrama, Zhang (2020), arXiv:2010.05397.

    Raises:
        TypeError: At class creation, if LightningModule stands before the mixin; before training,
            where ``configure_frank_wolfe`` gives no InnerLoop; with LBFGS and with SparseAdam.
        ValueError: Where ``automatic_optimization`` is set to True; before training, if there is
            not exactly one outer optimizer or it maximizes, the ball cannot serve its parameters,
            the strategy cannot be driven, or the Trainer clips or accumulates gradients.

    Example:
        >>> import lightning as L, torch
        >>> from lightning_fw import FrankWolfeMixin, InnerLoop
        >>> class Tagger(FrankWolfeMixin, L.LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.lstm = torch.nn.LSTM(2, 8, batch_first=True)
        ...     def configure_frank_wolfe(self):
        ...         return InnerLoop.spectral()
        ...     def training_step(self, batch, batch_idx):
        ...         return self.lstm(batch)[0].square().mean()
        >>> trainer = L.Trainer(
        ...     max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu",
        ...     enable_progress_bar=False, enable_model_summary=False)
        >>> trainer.fit(Tagger(), torch.utils.data.DataLoader(torch.randn(60, 5, 2), batch_size=10))
        >>> trainer.global_step
        3
    """

    _frank_wolfe_driver: Driver | None = None
    _saved_driver_state: dict[str, Any] | None = None
    _runs_training_step = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        require_base_order(cls, FrankWolfeMixin)
        warn_of_misspelt_hooks(cls, FrankWolfeMixin)
        declared: object = cls.automatic_optimization
        if declared is True:
            raise ValueError(_AUTOMATIC)
        hide_from_torchscript(cls)
        wrap_methods(cls, _AROUND)

    @property
    def automatic_optimization(self) -> bool:
        """False: the mixin drives the optimization."""
        return False

    @automatic_optimization.setter
    def automatic_optimization(self, value: bool) -> None:
        if value:
            raise ValueError(_AUTOMATIC)

    @property
    def frank_wolfe(self) -> WindowView:
        """The live window, read-only; without one, RuntimeError when it is read."""
        return WindowView(self._frank_wolfe_driver)

    def configure_frank_wolfe(self) -> InnerLoop:
        """The inner loop's settings, for the user to override: the next class's, or the paper's.

        Called several times, also before training. Try :meth:`InnerLoop.spectral` first.
        """
        inner_loop: InnerLoop = getattr(super(), "configure_frank_wolfe", InnerLoop)()
        return inner_loop

    def configure_optimizers(self) -> Any:
        """The next class's, or where that is Lightning's own: ``InnerLoop.outer``."""
        inherited = super().configure_optimizers  # type: ignore[misc]
        if not is_lightning_core(inherited):
            return inherited()
        return outer_of(self)

    def split_batch(self, batch: Any, chunks: int) -> list[Any]:
        """Cut a batch into the chunks of ``batches="split"``, for the user to override.

        Args:
            batch: What the data loader gave: tensors of one first dimension, in any nesting.
            chunks: How many, K.

        Returns:
            K batches; fewer where an epoch's last batch has fewer samples than K.

        Raises:
            TypeError, ValueError: If the batch cannot be cut so, or is shorter than K in mid-epoch.
        """
        trainer = self.trainer  # type: ignore[attr-defined]
        # An epoch of one batch has no longer one that would show a mistake.
        may_be_short = is_last_batch(trainer) and trainer.fit_loop.batch_idx > 0
        evenly = partial(split_evenly, may_be_short=may_be_short)
        found: list[Any] = getattr(super(), "split_batch", evenly)(batch, chunks)
        return found

    def on_restart(self, record: RestartRecord) -> None:
        """Called after every window, and its outer step if it made one, for the user to extend.

        Args:
            record: Statistics and cost of the window that closed.
        """
        getattr(super(), "on_restart", lambda record: None)(record)

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Lightning's, for other places than ``training_step``.

        Raises:
            RuntimeError: If ``training_step`` calls it: the backward pass is the inner loop's.
        """
        refuse_backward(self)
        super().manual_backward(loss, *args, **kwargs)  # type: ignore[misc]


def _training_step(module: Any, training_step: Callable[..., Any], *arguments: Any) -> Any:
    """The user's training_step inside the inner loop, or as it is where nothing is trained."""
    if not called_by_the_loop(module, FrankWolfeMixin):
        return training_step(module, *arguments)
    if module._frank_wolfe_driver is None:
        module._frank_wolfe_driver = Driver(configured_inner_loop(module), module)
        saved, module._saved_driver_state = module._saved_driver_state, None
        if saved is not None:
            module._frank_wolfe_driver.load_state_dict(saved, module)
    in_graph = step_in_graph(module, training_step)
    with lost_ranks_told(), as_around_optimizers(module, in_graph) as evaluated:
        return module._frank_wolfe_driver.run_batch(module, evaluated, arguments)


def _configure_optimizers(module: Any, configure_optimizers: Callable[..., Any]) -> Any:
    """The user's configure_optimizers, checked before training starts."""
    inner_loop = configured_inner_loop(module)
    if not goes_on(module._frank_wolfe_driver, inner_loop):
        module._frank_wolfe_driver = None
    with counted_in_windows(module, inner_loop):
        configured = configure_optimizers(module)
    optimizer: Optimizer = single_optimizer(configured)
    require_parameters(module, inner_loop, optimizer)
    warn_of_scales(module._trainer, optimizer, inner_loop)
    if not asked_by_the_trainer(module, "configure_optimizers"):
        return configured
    require_batches(module, inner_loop)
    if inner_loop.sync == "restart":
        require_local_windows(module._trainer)
    attend_to_saved_optimizer(module._trainer, inner_loop, optimizer)
    return attend_to_schedulers(module._trainer, configured)


def _configure_callbacks(module: Any, configure_callbacks: Callable[..., Any]) -> Any:
    """The user's configure_callbacks: the first hook of a fit that knows the Trainer."""
    configured = configure_callbacks(module)
    if module._trainer is not None and module._trainer.state.fn == "fit":
        if module.automatic_optimization:
            raise ValueError(_AUTOMATIC)
        module._frank_wolfe_driver = module._saved_driver_state = None
        ask_every_batch(module._trainer)
        attend_to_strategy(module._trainer.strategy)
        require_trainer_settings(module._trainer, configured)
        # A copy made inside of training_step took these along.
        module.__dict__.pop(ENTERED, None)
        module._runs_training_step = False
        uncompile_around(module)
        wrap_assigned(module, _AROUND)
    return configured


def _hook_that_may_assign(module: Any, hook: Callable[..., Any], *arguments: Any) -> None:
    """A user's hook, before or in which methods, such as a compiled step, may be assigned."""
    hook(module, *arguments)
    wrap_assigned(module, _AROUND)


def _on_before_optimizer_step(
    module: Any, on_before_optimizer_step: Callable[..., Any], optimizer: Optimizer
) -> None:
    """The user's on_before_optimizer_step, and the hook that follows in automatic optimization."""
    on_before_optimizer_step(module, optimizer)
    clip_direction(module, optimizer)


def _on_save_checkpoint(
    module: Any, on_save_checkpoint: Callable[..., Any], checkpoint: dict[str, Any]
) -> None:
    """Save the window in progress beside the weights, which are the anchor's."""
    driver = module._frank_wolfe_driver
    anchor = [] if driver is None else driver.window.anchor.copies()
    put_anchor(checkpoint, anchor)
    on_save_checkpoint(module, checkpoint)
    # Once more: the hook may have made state of its own of the weights.
    put_anchor(checkpoint, anchor)
    share_progress(checkpoint, saves=True)
    if not can_resume(checkpoint):
        return
    if driver is not None:
        # A rank that fails may be alone in it: the others would not answer.
        checkpoint[KEY] = driver.state_dict(module, all_ranks=not module.trainer.interrupted)
    else:
        # None before the first batch, where Lightning's finders save and load what they saved.
        checkpoint[KEY] = module._saved_driver_state


def _on_load_checkpoint(
    module: Any, on_load_checkpoint: Callable[..., Any], checkpoint: dict[str, Any]
) -> None:
    """Keep the saved window for the first batch of the fit that resumes."""
    on_load_checkpoint(module, checkpoint)
    share_progress(checkpoint, saves=False)
    trainer = module._trainer
    resumes = trainer is not None and trainer.state.fn == "fit"
    if resumes:
        warn_by_batches(trainer)
    module._frank_wolfe_driver = None
    module._saved_driver_state = checkpoint.get(KEY) if resumes else None
    if resumes and can_resume(checkpoint) and KEY not in checkpoint:
        rank_zero_warn(
            "The checkpoint was written without FrankWolfeMixin. "
            "A new window opens at the checkpoint's weights."
        )


def _teardown(module: Any, teardown: Callable[..., Any], *arguments: Any) -> None:
    """After a fit, keep of its window what a checkpoint would, on the CPU, and free the rest.

    Weights in parts are not gathered for it: a later fit begins with a window of its own.
    """
    teardown(module, *arguments)
    if module._frank_wolfe_driver is not None:
        ask_every_batch(module.trainer)
        if not any_sharded(module._frank_wolfe_driver.window.parameters):
            state = module._frank_wolfe_driver.state_dict(module, all_ranks=True)
            module._saved_driver_state = apply_to_collection(state, Tensor, Tensor.cpu)
        module._frank_wolfe_driver = None


# What the mixin does around the user's methods, or Lightning's own.
_AROUND: dict[str, Callable[..., Any]] = {
    "training_step": _training_step,
    "configure_optimizers": _configure_optimizers,
    "configure_callbacks": _configure_callbacks,
    "setup": _hook_that_may_assign,
    "on_train_epoch_start": _hook_that_may_assign,
    "on_train_batch_start": note_default_dtype,
    "on_before_optimizer_step": _on_before_optimizer_step,
    "on_save_checkpoint": _on_save_checkpoint,
    "on_load_checkpoint": _on_load_checkpoint,
    "teardown": _teardown,
}
