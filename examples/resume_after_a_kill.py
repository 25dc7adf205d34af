"""
Resume after a kill
===================

A checkpoint written in the middle of a window holds the window too. A run that is killed and goes
on from it ends with the weights of one that was not, to the last bit.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_fw.data import TextData
from lightning_fw.nn import FrankWolfeLanguageModel

BATCHES, SAVED_AT, KILLED_AT = 40, 15, 22  # windows have two batches: 15 is in mid-window


class Kill(L.Callback):
    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.fit_loop.total_batch_idx + 1 == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)


class SaveOnce(ModelCheckpoint):
    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.fit_loop.total_batch_idx + 1 == SAVED_AT:
            trainer.save_checkpoint(f"{self.dirpath}/last.ckpt")


def train(directory: str, *, killed: bool = False) -> torch.Tensor:
    L.seed_everything(0, verbose=False)
    text = Path(directory, "text.txt")
    text.write_text("the quick brown fox jumps over the lazy dog\n" * 500)
    # Its loader tells Lightning where it stands, and goes on from there.
    data = TextData(text, level="character", batch_size=8, chunk_length=16)
    model = FrankWolfeLanguageModel(
        "gru", input_size=data.input_size, output_size=data.output_size, hidden_size=16
    )
    callbacks = [SaveOnce(directory), Kill()] if killed else []
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=BATCHES,
        limit_val_batches=0,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=killed,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    saved = f"{directory}/last.ckpt"
    trainer.fit(model, data, ckpt_path=saved if os.path.exists(saved) else None)
    return torch.nn.utils.parameters_to_vector(model.parameters())


if __name__ == "__main__":
    if sys.argv[1:]:
        train(sys.argv[1], killed=True)
    with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryDirectory() as directory:
        whole = train(empty)
        killed = subprocess.run([sys.executable, sys.argv[0], directory])
        assert killed.returncode == -signal.SIGKILL
        resumed = train(directory)
    print(f"{BATCHES} batches, killed after {KILLED_AT}: {(whole - resumed).abs().max()} apart")
    assert torch.equal(whole, resumed)
