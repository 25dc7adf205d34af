"""The driver: one fit's windows, fed with Lightning's batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor

from lightning_fw.inner_loop import InnerLoop
from lightning_fw.manual.batches import pieces
from lightning_fw.manual.checkpoints import attend_to_checkpoints
from lightning_fw.manual.epoch import end_epoch, is_done, is_last_batch, warn_of_short_epochs
from lightning_fw.manual.evaluation import TrainingStep, evaluate, handed_on
from lightning_fw.manual.even_batches import require_even_batches, require_even_chunks
from lightning_fw.manual.following import drop_strangers, followed, window_as_saved, window_of
from lightning_fw.manual.hooks import count_skipped_step, step_optimizer, zero_gradients
from lightning_fw.manual.listeners import is_heard, tell
from lightning_fw.manual.loss_scale import scale_direction, unscale_gradients
from lightning_fw.manual.lr_sweep import attend_to_sweep
from lightning_fw.manual.ranks import (
    are_apart,
    backward_passes_apart,
    mean_over_ranks,
    synchronize_buffers,
)
from lightning_fw.manual.repeats import logging_ignored, metrics_kept
from lightning_fw.manual.saved_state import describe, differences
from lightning_fw.manual.schedulers import OuterSteps, warn_of_lengths_in_batches
from lightning_fw.manual.states_of_ranks import of_all_ranks, to_go_on_with
from lightning_fw.manual.strategies import drop_gathered, gathering_modules
from lightning_fw.manual.termination import ask_once_a_restart, note_restart
from lightning_fw.tally import Tally


class Driver:
    """Runs the inner loop over the batches of one fit.

    It holds no trainer and no optimizer, so that a module in mid-fit can be copied and pickled.

    Args:
        inner_loop: The settings.
        module: The LightningModule, attached to a Trainer.

    Attributes:
        window: The window in progress.
        outer_steps: Those of the epoch in progress.
    """

    def __init__(self, inner_loop: InnerLoop, module: Any) -> None:
        self.inner_loop = inner_loop
        self.window = window_of(module, inner_loop)
        self.outer_steps = OuterSteps()
        self._rank, self._ranks = module.trainer.global_rank, module.trainer.world_size
        warn_of_short_epochs(module.trainer, inner_loop)
        warn_of_lengths_in_batches(module.trainer, inner_loop)
        self._apart = are_apart(module.trainer, inner_loop)
        if self._apart:
            ask_once_a_restart(module.trainer)
        self._gathering = gathering_modules(module)
        self._tally = Tally(module.device)
        self._listen(module)
        self._has_warned = False

    def run_batch(
        self, module: Any, training_step: TrainingStep, arguments: tuple[Any, ...]
    ) -> Any:
        """Spend one training batch on the inner loop.

        Args:
            module: The LightningModule.
            training_step: The user's function, unbound.
            arguments: What Lightning calls it with: the batch, and what it takes besides.

        Returns:
            What the user's function returned at the batch's first evaluation, for Lightning.
        """
        trainer = module.trainer
        attend_to_checkpoints(trainer)
        if trainer.fit_loop._skip_backward:
            # StochasticWeightAveraging's last epoch only renews batch-norm statistics.
            output = training_step(module, *arguments)
            synchronize_buffers(module)
            return handed_on(output)
        require_even_batches(trainer)
        if self.window.is_full:
            # Saved on an error in the restart itself, as where another rank was lost.
            self._restart(module, None, early=False, ended=False)
        opens, restarts = self.window.is_fresh, self.window.restart
        chunks = self._chunks(module, arguments)
        share = 1 / len(chunks) if self.inner_loop.batches == "split" else 1.0
        first, counted = None, False
        for position, piece in enumerate(chunks):
            at_end = position == len(chunks) - 1
            with self._seen_once(module, position):
                output, loss = self._evaluate(module, training_step, piece)
            # Not before: a batch that raises, or is saved in mid-evaluation, is yet to come.
            self._tally.batches += loss is not None and not counted
            counted = counted or loss is not None
            self._tally.evaluations += 0 if loss is None else share
            first = output if position == 0 else first
            restarted = self._inner_step(module, loss, at_end=at_end)
            # What else was returned, with its graph, ends here and not after the next evaluation.
            del output, loss
            if restarted and (self.inner_loop.batches == "same" or is_done(trainer)):
                break
        attend_to_sweep(trainer, opens=opens, closes=self.window.restart > restarts)
        return handed_on(first)

    def _chunks(self, module: Any, arguments: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with self._tally.measure("inner"):
            loop = self.inner_loop
            chunks = pieces(module, loop, arguments)
            # Apart, a stream may end sooner here: the restart tells of that.
            is_sized = module.trainer.num_training_batches != float("inf")
            talks = not self._apart or (loop.restart_when is not None and is_sized)
            if loop.batches == "split" and talks:
                require_even_chunks(module.trainer, len(chunks))
            return chunks

    @contextmanager
    def _seen_once(self, module: Any, position: int) -> Iterator[None]:
        """Hide a batch's further evaluations from logs, and repeated ones from metrics."""
        with ExitStack() as stack:
            if position:
                stack.enter_context(logging_ignored(module.trainer))
                if self.inner_loop.batches == "same":
                    stack.enter_context(metrics_kept(module))
            yield

    def _evaluate(
        self, module: Any, training_step: TrainingStep, arguments: tuple[Any, ...]
    ) -> tuple[Any, Tensor | None]:
        """One gradient evaluation where the window stands."""
        opens = self.window.is_fresh
        if opens and self._gathering:
            self.window = followed(self.window, module)
        if opens:
            self._listen(module)

        def before_backward() -> None:
            if opens:
                zero_gradients(module)
            self.window.drop_direction()

        try:
            with (
                self._tally.measure("inner"),
                self.window.displaced(drop_direction=False),
                self._tally.measure("gradient"),
                backward_passes_apart(module.trainer, apart=self._apart),
            ):
                drop_gathered(self._gathering)
                evaluated = evaluate(
                    module, training_step, arguments, self.window.parameters, before_backward
                )
        except StopIteration:
            # A training_step that takes dataloader_iter met the end of it.
            self.end_window(module)
            end_epoch(module.trainer)
            raise
        finally:
            drop_gathered(self._gathering)
        # Here, since training_step may freeze and unfreeze; but gathered weights are others.
        if not self._gathering:
            with self._tally.measure("inner"):
                self.window = followed(self.window, module)
        return evaluated

    def _inner_step(self, module: Any, loss: Tensor | None, *, at_end: bool) -> bool:
        """Take the step of the window when its batches are together, and close it when due.

        Args:
            module: The LightningModule.
            loss: The loss of this evaluation; None skips it.
            at_end: Whether no further evaluation of this batch follows.

        Returns:
            Whether the window closed.
        """
        loop, window, trainer = self.inner_loop, self.window, module.trainer
        ended = at_end and is_last_batch(trainer)
        last = ended or (at_end and loop.batches != "successive")
        with trainer.profiler.profile("[FrankWolfeMixin]inner_step"), self._tally.measure("inner"):
            if loss is not None:
                unscale_gradients(trainer)
            is_whole = last or window.holds + 1 >= loop.accumulate_grad_batches
            # Ranks apart stay at the same place of their windows, and count every batch.
            counts = loss is not None or self._apart
            if counts and not is_whole:
                window.skip() if loss is None else window.accumulate(loss)
            elif counts or (last and window.holds):
                # The epoch's end would step what is held, too, but too late for a finder's point.
                window.step(loss, last=last)
        early = self._restart_is_wanted(trainer, ended=ended)
        closes = window.attempts > 0 and (last or early or window.is_full)
        if closes:
            with trainer.profiler.profile("[FrankWolfeMixin]restart"):
                self._restart(module, loss, early=early and not last, ended=ended)
        return closes

    def end_window(self, module: Any) -> None:
        """Close the window that the end of the data cut off."""
        if self.window.holds:
            self.window.step(last=True)
        if self.window.attempts:
            self._restart(module, None, early=False, ended=True)

    def _restart_is_wanted(self, trainer: Any, *, ended: bool) -> bool:
        if self.inner_loop.restart_when is None or self.window.is_full or self.window.holds:
            return False
        with self._tally.measure("inner"):
            # One whose data end closes its window, and ranks apart close theirs together.
            wanted = (ended and self._apart) or self.window.wants_restart()
            return bool(trainer.strategy.reduce_boolean_decision(wanted, all=False))

    def _restart(self, module: Any, loss: Tensor | None, *, early: bool, ended: bool) -> None:
        """Close the window, step the outer optimizer and tell everybody."""
        trainer = module.trainer
        with self._tally.measure("inner"):
            apart = {"reduce": mean_over_ranks} if self._apart else {}
            if self._is_heard:
                record = self.window.close(early=early, ended=ended, **apart)
            else:
                self.window.close_untold(ended=ended, **apart)
        if self.window.has_direction:
            with self._tally.measure("outer"):
                drop_strangers(module, self.window.parameters)
                scale_direction(trainer, self.window.parameters)
                step_optimizer(module, loss)
            self.outer_steps.add(trainer.current_epoch, trainer.fit_loop.batch_idx)
        else:
            count_skipped_step(trainer)
            self._warn_once()
        synchronize_buffers(module)
        note_restart(trainer)
        if self._is_heard:
            tell(module, self._tally.close(record))
        else:
            self._tally.drop()

    def _warn_once(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            rank_zero_warn(
                "Every inner step of a window was skipped, since gradients were not finite or none "
                "were there, and no outer step was made. Look at the losses, and whether they "
                "depend on what the optimizer holds; `skipped` in the records counts on."
            )

    def _listen(self, module: Any) -> None:
        """Look whether anybody wants to know of windows what it takes time to tell."""
        self._is_heard = is_heard(module, self.window.parameters)
        self.window.statistics.enabled = self._tally.timed = self._is_heard

    def state_dict(self, module: Any, *, all_ranks: bool) -> dict[str, Any]:
        """The window in progress, the cost counted in it, and what both depend on.

        Args:
            module: The LightningModule, with its optimizer.
            all_ranks: Whether every rank asks, so that rank 0 gets the windows of all.
        """
        window = self.window.state_dict()
        return {
            "settings": self._describe(),
            "window": window,
            "windows": of_all_ranks(window) if all_ranks and self._apart else [],
            "tally": self._tally.state_dict(),
            "outer_steps": asdict(self.outer_steps),
            "optimizer": type(module.optimizers(False)).__name__,
        }

    def load_state_dict(self, state: dict[str, Any], module: Any) -> None:
        """Go on from what :meth:`state_dict` gave; with a warning anew where settings differ."""
        self.window = window_as_saved(self.window, module, state["settings"])
        self._listen(module)
        found = differences(state["settings"], self._describe())
        window, goes_on = to_go_on_with(state["window"], state["windows"], self._rank, self._ranks)
        self.outer_steps = OuterSteps(**state["outer_steps"])
        # Also what a window cost that is not gone on with.
        self._tally.load_state_dict(state["tally"])
        if found:
            rank_zero_warn(
                "The checkpoint's Frank-Wolfe window was made with other settings: "
                f"{'; '.join(found)}. A new window opens at the checkpoint's weights. To go on "
                "with the old one, resume with the settings that it was made with."
            )
        else:
            self.window.load_state_dict(window)
        if found or not goes_on or self.inner_loop.batches != "successive":
            # Windows of one batch: that in which the fit was cut short comes no more, or anew.
            self.window.count_on(window["restart"], window["outer_step"])

    def _describe(self) -> dict[str, str]:
        return describe(self.inner_loop, self.window.parameters, self.window.infos or [])
