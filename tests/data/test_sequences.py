"""What all data modules of sequences share: loaders of their splits."""

from __future__ import annotations

import lightning as L
import torch

from lightning_fw.data import AddingProblem
from tests.data.test_chunks_in_a_fit import QUIET, Reader


def data():
    return AddingProblem(6, train_size=9, val_size=7, test_size=5, batch_size=3)


def test_every_loader_reads_its_split_in_batches():
    made = data()
    loaders = {
        "val": [made.val_dataloader()],
        "test": [made.test_dataloader(), made.predict_dataloader()],
    }
    for split, of_split in loaders.items():
        sequences, targets = made.split(split).tensors
        for loader in of_split:
            batches = list(loader)
            assert [len(x) for x, _ in batches[:-1]] == [3] * (len(batches) - 1)
            assert torch.equal(torch.cat([x for x, _ in batches]), sequences)
            assert torch.equal(torch.cat([y for _, y in batches]), targets)


def test_batches_to_overfit_are_the_first_of_the_split_in_each_epoch():
    module, made = Reader(), data()
    trainer = L.Trainer(max_epochs=2, overfit_batches=2, num_sanity_val_steps=0, **QUIET)
    trainer.fit(module, made)
    rows = torch.cat([batch[0] for batch in module.batches])
    first = made.split("train").tensors[0][:6]
    assert torch.equal(rows, torch.cat([first, first]))
