"""AnchorAveraging of a module with state that is neither a parameter nor a buffer."""

from __future__ import annotations

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
