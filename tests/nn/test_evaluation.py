"""What an evaluation logs is the mean over all sequences, also of data of one's own."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_fw.data import AddingProblem
from lightning_fw.nn import SequenceRegressor
from tests.nn.test_networks import QUIET


@pytest.mark.parametrize("stage", ["val", "test"])
def test_a_last_batch_that_is_smaller_counts_for_less(stage):
    data = AddingProblem(6, train_size=4, val_size=5, test_size=5, batch_size=4)
    model, trainer = SequenceRegressor(input_size=2, output_size=1), L.Trainer(**QUIET)
    evaluate = trainer.validate if stage == "val" else trainer.test
    (logged,) = evaluate(model, data, verbose=False)
    expected = model.eval().metric(data.split(stage).tensors)
    assert logged[f"{stage}_metric"] == pytest.approx(expected, rel=1e-5)


class Own(L.LightningDataModule):
    """Says nothing of kinds and sizes."""

    batch = (torch.ones(4, 5, 2), torch.zeros(4, 1))

    def val_dataloader(self):
        return DataLoader([self.batch], batch_size=None)


def test_data_of_ones_own_need_no_kind():
    model = SequenceRegressor(input_size=2, output_size=1)
    (logged,) = L.Trainer(**QUIET).validate(model, Own(), verbose=False)
    assert logged["val_metric"] == pytest.approx(model.metric(Own.batch))
