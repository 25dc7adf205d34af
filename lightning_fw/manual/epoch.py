"""Where an epoch ends, so that no window stays open."""

from __future__ import annotations

from typing import Any


def is_last_batch(trainer: Any) -> bool:
    """Whether the batch in progress is the epoch's last.

    Lightning's own flag knows the end of a data loader, not that of ``limit_train_batches``
    (Lightning 2.6.6), which the count knows.
    """
    progress = trainer.fit_loop.epoch_loop.batch_progress
    return bool(progress.is_last_batch or progress.current.ready >= trainer.num_training_batches)
