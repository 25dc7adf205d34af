"""Where an epoch ends, so that no window stays open, and where a fit does."""

from __future__ import annotations

from typing import Any


def is_last_batch(trainer: Any) -> bool:
    """Whether the batch in progress is the epoch's last.

    The fetcher knows the end of a data loader, also of one that ``training_step`` draws from, and
    not that of ``limit_train_batches`` (Lightning 2.6.6), which the count knows.
    """
    loop = trainer.fit_loop
    ready = loop.epoch_loop.batch_progress.current.ready
    return bool(loop._data_fetcher.done or ready >= trainer.num_training_batches)


def is_done(trainer: Any) -> bool:
    """Whether no outer step is left, which Lightning checks between batches alone."""
    return bool(0 <= trainer.max_steps <= trainer.global_step)
