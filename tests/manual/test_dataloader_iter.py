"""A training_step that takes dataloader_iter and draws its batches itself."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from lightning_fw import InnerLoop
from tests.mixin.conftest import Recurrent, loss_of, make_loader

# Lightning's advice to whoever takes dataloader_iter.
draws_itself = pytest.mark.filterwarnings(
    "ignore:You are using the `dataloader_iter` step flavor",
    "ignore:Found `dataloader_iter` argument in the `training_step`",
)


class Drawing(Recurrent):
    def training_step(self, dataloader_iter):
        batch, _, _ = next(dataloader_iter)
        return loss_of(self, batch)


class Stream(IterableDataset):
    """The samples of a loader, without a length."""

    def __iter__(self):
        return iter(make_loader().dataset)


@draws_itself
@pytest.mark.parametrize(
    "source", [make_loader, lambda: DataLoader(Stream(), batch_size=4)], ids=["sized", "stream"]
)
def test_a_step_that_draws_its_batches_trains_alike(source, loader, make_trainer):
    module, usual, trainer = Drawing(), Recurrent(), make_trainer(max_epochs=2)
    trainer.fit(module, source())
    make_trainer(max_epochs=2).fit(usual, loader)
    assert [(r.steps, r.batches) for r in module.records] == [(3, 3), (3, 3), (1, 1)] * 2
    assert trainer.global_step == 6
    assert torch.equal(module.weights(), usual.weights())


@draws_itself
@pytest.mark.parametrize("batches", ["same", "split"])
def test_a_step_that_draws_its_batches_cannot_see_one_twice(batches, loader, make_trainer):
    drawn = []

    class Noting(Drawing):
        def on_train_start(self):
            drawn.append("started")

    with pytest.raises(
        ValueError,
        match=r'`batches` must be "successive" for a training_step that takes dataloader_iter, got '
        rf"'{batches}': it draws its batch itself. Pass that, or take the batch instead.",
    ):
        make_trainer().fit(Noting(InnerLoop(batches=batches)), loader)
    assert drawn == []
