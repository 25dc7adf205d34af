"""ModelCheckpoint before the first restart, where global_step is 0."""

from __future__ import annotations

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_fw import InnerLoop
from tests.manual.twins import Parts, fit, twins


class Validated(Parts):
    def validation_step(self, batch, batch_idx):
        self.log("val_loss", (self.layer(batch[0]) - 1).square().mean())


@pytest.mark.parametrize(("every", "files"), [(1000, 0), (2, 2)])
def test_none_is_written_that_was_not_asked_for(every, files, tmp_path):
    for index, kind in enumerate(twins(Validated)):
        callback = ModelCheckpoint(
            tmp_path / str(index), monitor="val_loss", every_n_train_steps=every, save_top_k=-1
        )
        fit(
            kind(None, InnerLoop(steps=3)),
            callbacks=[callback],
            enable_checkpointing=True,
            val_check_interval=2,
            max_epochs=2,
        )
    assert len(list(tmp_path.glob("1/*.ckpt"))) == files
    if every == 1000:
        assert not list(tmp_path.glob("0/*.ckpt"))
