"""Where an epoch ends, so that no window stays open, and where a fit does."""

from __future__ import annotations

from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_warn

from lightning_fw.inner_loop import InnerLoop
from lightning_fw.manual.checkpoints import attend_to_checkpoints
from lightning_fw.radius_rules import SlopeRatio


def is_last_batch(trainer: Any) -> bool:
    """Whether the batch in progress is the epoch's last.

    The fetcher knows the end of a data loader, also of one that ``training_step`` draws from; the
    count is asked beside it, as in Lightning's ``_num_ready_batches_reached`` (2.6.6).
    """
    loop = trainer.fit_loop
    ready = loop.epoch_loop.batch_progress.current.ready
    return bool(loop._data_fetcher.done or ready >= trainer.num_training_batches)


def close_cut_off_window(trainer: Any) -> None:
    """Close the window of an epoch that ends without a step: at a None, or by a hook's −1.

    Called where the step would have ended, before schedulers and callbacks look at it.
    """
    module = trainer.lightning_module
    is_ended = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch or is_last_batch(trainer)
    if module._frank_wolfe_driver is None or not is_ended:
        return
    attend_to_checkpoints(trainer)
    before, module._current_fx_name = module._current_fx_name, "training_step"
    try:
        module._frank_wolfe_driver.end_window(module)
    finally:
        module._current_fx_name = before
    _warn_of_no_loss(trainer)


def _warn_of_no_loss(trainer: Any) -> None:
    """Warn after a first epoch without a loss, which a forgotten ``return`` gives.

    Lightning does at the first None, and says nothing under manual optimization.
    """
    if trainer.current_epoch == trainer.global_step == 0:
        rank_zero_warn(
            "`training_step` should return the loss, got None for every batch of the epoch, and "
            "no outer step was made. Return the loss; None skips a batch."
        )


def end_epoch(trainer: Any) -> None:
    """End the epoch once this batch is over, as a StopIteration of ``training_step`` does.

    The loop of manual optimization suppresses it (Lightning 2.6.6,
    ``loops/optimization/manual.py``), and would have the batch end as one that was trained on.
    """
    loop = trainer.fit_loop.epoch_loop.manual_optimization

    def on_run_end() -> None:
        del loop.on_run_end
        loop.on_run_end()
        raise StopIteration

    loop.on_run_end = on_run_end


def warn_by_batches(trainer: Any) -> None:
    """Let the fit that resumes be warned of a loader that starts over in mid-epoch, and only then.

    Lightning goes by whether ``global_step`` is a whole number of epochs (2.6.6,
    ``loops/training_epoch_loop.py``); here that counts restarts.
    """
    loop = trainer.fit_loop.epoch_loop
    steps = loop.manual_optimization.optim_step_progress.total

    def reset() -> None:
        del loop.reset
        taken, steps.completed = steps.completed, loop.batch_progress.total.ready
        try:
            loop.reset()
        finally:
            steps.completed = taken

    loop.reset = reset


def is_done(trainer: Any) -> bool:
    """Whether no outer step is left, which Lightning checks between batches alone."""
    return bool(0 <= trainer.max_steps <= trainer.global_step)


def warn_of_short_epochs(trainer: Any, inner_loop: InnerLoop) -> None:
    """Warn where every window is cut off by the end of its epoch.

    Args:
        trainer: The Trainer, with its data.
        inner_loop: Whose K is too large for it.
    """
    batches, together = trainer.num_training_batches, inner_loop.accumulate_grad_batches
    is_cut_off = batches <= together * (inner_loop.steps - 1)
    if trainer.fast_dev_run or inner_loop.batches != "successive" or not is_cut_off:
        return
    stands = isinstance(inner_loop.radius_rule, SlopeRatio) and batches <= together
    advice = 'Pass batches="split"' if stands else "Pass fewer steps"
    if together > 1:
        advice = "Pass a smaller `accumulate_grad_batches`"
    rank_zero_warn(
        f"`steps` makes windows of {together * inner_loop.steps} batches, and an epoch has "
        f"{batches}: its end closes every window before that, "
        + ("and SlopeRatio leaves the radius as it is. " if stands else "with fewer inner steps. ")
        + f"{advice}, or give an epoch more and smaller batches."
    )
