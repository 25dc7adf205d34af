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
        # Lightning 2.6.6 turns an interruption into an exit with status 1, and leaves the signal
        # ignored; SIGTERM into one without, as of a success; a closed pipe has another status.
        if trainer.state.status == TrainerStatus.INTERRUPTED and error.code in (None, 1):
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from None
        raise
