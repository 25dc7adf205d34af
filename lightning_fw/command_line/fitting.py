"""A fit within a command, which Ctrl-C or SIGTERM ends as it ends anything else."""

from __future__ import annotations

import signal

import lightning as L
from lightning.pytorch.trainer.states import TrainerStatus


def fit(trainer: L.Trainer, model: L.LightningModule, data: L.LightningDataModule) -> None:
    """Fit the model to the data.

    Raises:
        KeyboardInterrupt: If it is interrupted or terminated; the next interruption is heard, too.
    """
    try:
        trainer.fit(model, data)
    except SystemExit as error:
        if is_interruption(error, trainer):
            # Lightning leaves the signal ignored.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from None
        raise


def is_interruption(error: SystemExit, trainer: L.Trainer) -> bool:
    """Whether it is the exit that Lightning 2.6.6 turns an interruption into.

    Its status is 1, after SIGTERM none, as of a success. A closed pipe has another, and so may
    ``sys.exit`` in a module have, which Lightning counts as an interruption, too.
    """
    return trainer.state.status == TrainerStatus.INTERRUPTED and error.code in (None, 1)
