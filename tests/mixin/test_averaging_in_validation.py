"""AnchorAveraging while the module holds the average, to be validated."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import OnExceptionCheckpoint
from torch.nn.utils import parameters_to_vector

from lightning_fw import AnchorAveraging
from tests.manual.callback_nets import ByFrankWolfe


class Interruption(RuntimeError):
    pass


class Interrupts(L.Callback):
    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if not trainer.sanity_checking:
            raise Interruption


class Saves(L.Callback):
    """Files of the same moment, inside a validation and before it."""

    def __init__(self, folder):
        self.folder = folder

    def on_validation_start(self, trainer, pl_module):
        trainer.save_checkpoint(self.folder / "before.ckpt")

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.save_checkpoint(self.folder / "inside.ckpt")


def averaging(make_trainer, *callbacks, **settings):
    callbacks = [*callbacks, AnchorAveraging(power=0.0)]
    return make_trainer(callbacks=callbacks, max_epochs=2, **settings)


def test_a_file_holds_what_one_between_batches_does(make_trainer, tmp_path):
    averaging(make_trainer, Saves(tmp_path)).fit(ByFrankWolfe())
    inside, before = (
        torch.load(tmp_path / f"{name}.ckpt", weights_only=True) for name in ("inside", "before")
    )
    for name in ("state_dict", "current_model_state"):
        found, expected = (parameters_to_vector(file[name].values()) for file in (inside, before))
        assert torch.equal(found, expected)


# Lightning's of a fit with OnExceptionCheckpoint, and of a file that is saved within a validation.
@pytest.mark.filterwarnings("ignore:.*fit.ckpt_path=")
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")
@pytest.mark.parametrize("first", [True, False], ids=["saved first", "put back first"])
def test_an_interrupted_fit_goes_on_with_its_average(first, make_trainer, tmp_path):
    path, module = tmp_path / "on_exception.ckpt", ByFrankWolfe()
    saving = [OnExceptionCheckpoint(tmp_path)] * first
    trainer = averaging(make_trainer, *saving, Interrupts(), enable_checkpointing=first)
    with pytest.raises(Interruption):
        trainer.fit(module)
    if not first:
        trainer.save_checkpoint(path)
    anchor = torch.load(path, weights_only=True)["current_model_state"]
    assert torch.equal(parameters_to_vector(anchor.values()), module.weights())
    resumed, straight = ByFrankWolfe(), ByFrankWolfe()
    averaging(make_trainer).fit(resumed, ckpt_path=path, weights_only=True)
    averaging(make_trainer).fit(straight)
    assert torch.equal(resumed.weights(), straight.weights())
