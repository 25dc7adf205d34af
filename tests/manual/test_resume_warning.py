"""Lightning's warning of a loader that starts over where a fit resumes in mid-epoch."""

from __future__ import annotations

import warnings

import lightning.pytorch
import pytest
import torch

from lightning_fw import InnerLoop
from tests.manual.twins import fit, twins


class Saving(lightning.pytorch.Callback):
    """Writes a checkpoint after every batch, and at the end of every epoch."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer, *_):
        done = trainer.fit_loop.epoch_loop.batch_progress.total.ready
        trainer.save_checkpoint(self.folder / f"{done:02}.ckpt")

    def on_validation_end(self, trainer, _):
        trainer.save_checkpoint(self.folder / f"epoch {trainer.current_epoch}.ckpt")


def files_that_warn(module, folder):
    fit(module(), callbacks=[Saving(folder)], max_epochs=2)
    warned = []
    for path in sorted(folder.iterdir()):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            fit(module(), ckpt_path=path)
        if any(str(each.message).startswith("You're resuming from") for each in found):
            warned.append(path.stem)
    return warned


@pytest.mark.parametrize("steps", [1, 3])
def test_it_comes_in_mid_epoch_and_nowhere_else(steps, tmp_path):
    folders = [tmp_path / "plain", tmp_path / "mixed"]
    for folder in folders:
        folder.mkdir()
    plain, mixed = (
        files_that_warn(lambda kind=kind: kind(None, InnerLoop(steps=steps)), folder)
        for kind, folder in zip(twins(), folders, strict=True)
    )
    assert mixed == plain == [f"{batch:02}" for batch in range(1, 14) if batch != 7]


def test_steps_count_on_from_the_file_all_the_same(tmp_path):
    _, mixed = twins()
    loop = InnerLoop(steps=3)
    first = fit(mixed(None, loop), max_epochs=1)
    first.save_checkpoint(tmp_path / "epoch.ckpt")
    assert first.global_step == 3
    assert fit(mixed(None, loop), max_epochs=2, ckpt_path=tmp_path / "epoch.ckpt").global_step == 6
    file = torch.load(tmp_path / "epoch.ckpt", weights_only=True)
    assert file["global_step"] == 3
