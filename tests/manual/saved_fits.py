"""A fit that leaves a checkpoint, another that goes on from it, and the warnings in between."""

from __future__ import annotations

from lightning_fw import InnerLoop, L2Ball
from tests.manual.interrupted import Batches, SaveAfter

WITHOUT = "The checkpoint was written without FrankWolfeMixin"
OTHER = "The checkpoint's Frank-Wolfe window was made with other settings"
LOOP = InnerLoop(ball=L2Ball(radius=0.05), steps=3, momentum=0.9)


def save_after(batch, module, make_trainer, folder):
    """The path of a checkpoint made after a batch of the first epoch."""
    save = SaveAfter(folder, [batch])
    make_trainer(callbacks=[save]).fit(module, Batches())
    return save.path(batch)


def resume(path, module, make_trainer, **settings):
    trainer = make_trainer(**{"max_epochs": 2, **settings})
    trainer.fit(module, Batches(), ckpt_path=path)
    return trainer
