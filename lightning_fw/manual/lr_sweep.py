"""LearningRateFinder: a point of its sweep is an outer step."""

from __future__ import annotations

from functools import partial
from typing import Any

from lightning_fw.manual.namespaces import sibling


def attend_to_sweep(trainer: Any, *, opens: bool, closes: bool) -> None:
    """Have the finder take one point a window: its learning rate, and the loss at its anchor.

    The finder takes a point every batch, and its suggestion divides by the differences of their
    learning rates, which are 0 within a window (Lightning 2.6.6, ``tuner/lr_finder.py``).

    Args:
        trainer: The Trainer.
        opens: Whether the batch in progress opened a window.
        closes: Whether it closed one.
    """
    for callback in trainer.callbacks:
        if isinstance(callback, sibling(trainer, "tuner.lr_finder")._LRCallback):
            callback.on_train_batch_end = partial(_on_train_batch_end, callback, opens, closes)


def _on_train_batch_end(
    callback: Any, opens: bool, closes: bool, trainer: Any, module: Any, outputs: Any, *args: Any
) -> None:
    del callback.on_train_batch_end  # back to the finder's own, until the next batch
    # A window that a checkpoint holds was opened in the fit before.
    if opens or not hasattr(callback, "outputs_at_anchor"):
        callback.outputs_at_anchor = outputs
    if closes:
        callback.on_train_batch_end(trainer, module, callback.outputs_at_anchor, *args)
    else:
        callback.lrs.pop()
