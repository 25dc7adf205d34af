"""AnchorAveraging of a module with state that is neither a parameter nor a buffer."""

from __future__ import annotations

import lightning as L
import pytest
import torch

from lightning_fw import AnchorAveraging
from tests.manual.callback_nets import ByFrankWolfe


class Collects(ByFrankWolfe):
    """Keeps the indices of the batches that it has trained on."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def training_step(self, batch, batch_idx):
        self.batches.append(batch_idx)
        return super().training_step(batch, batch_idx)

    def get_extra_state(self):
        return {"batches": self.batches}

    def set_extra_state(self, state):
        self.batches = list(state["batches"])


class Saves(L.Callback):
    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.save_checkpoint(self.folder / "after a batch.ckpt")

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.save_checkpoint(self.folder / "in a validation.ckpt")


def fit(make_trainer, epochs, *callbacks, **settings):
    module = Collects()
    trainer = make_trainer(callbacks=[*callbacks, AnchorAveraging()], max_epochs=epochs)
    trainer.fit(module, **settings)
    return module, trainer


def test_a_fit_comes_to_its_end_and_goes_on(make_trainer, tmp_path):
    module, trainer = fit(make_trainer, 1)
    assert module.batches == list(range(7))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    resumed, _ = fit(make_trainer, 2, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    straight, _ = fit(make_trainer, 2)
    assert resumed.batches == straight.batches == 2 * list(range(7))
    assert torch.equal(resumed.weights(), straight.weights())


# Lightning's of a file that is saved within a validation.
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")
@pytest.mark.parametrize("when", ["after a batch", "in a validation", "after the fit"])
def test_every_file_holds_the_latest(when, make_trainer, tmp_path):
    straight, _ = fit(make_trainer, 2)
    _, trainer = fit(make_trainer, 1, Saves(tmp_path))
    trainer.save_checkpoint(tmp_path / "after the fit.ckpt")
    path = tmp_path / f"{when}.ckpt"
    assert Collects.load_from_checkpoint(path).batches == list(range(7))
    resumed, _ = fit(make_trainer, 2, ckpt_path=path, weights_only=True)
    assert resumed.batches == straight.batches == 2 * list(range(7))
    assert torch.equal(resumed.weights(), straight.weights())
