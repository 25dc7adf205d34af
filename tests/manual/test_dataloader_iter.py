"""A training_step that takes dataloader_iter and draws its batches itself."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from lightning_fw import InnerLoop
from tests.manual.twins import Parts, fit, twins
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


class Counting(Parts):
    """Notes the outputs of the batches that ended."""

    def on_train_start(self):
        self.outputs, self.calls = [], 0

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.outputs.append(sorted(outputs))

    def loss(self, x):
        self.calls += 1
        return self.layer(x).square().mean()


class Exhausted(Counting):
    """Takes what it trains on from an iterator that ends in mid-epoch."""

    def on_train_epoch_start(self):
        self.iterator = iter(torch.ones(4, 4, 2))

    def training_step(self, batch, batch_idx):
        return self.loss(next(self.iterator))


class Taking(Counting):
    """Draws from the loader, whose length nobody knows."""

    def training_step(self, dataloader_iter):
        batch, _, _ = next(dataloader_iter)
        return self.loss(batch[0])


@draws_itself
@pytest.mark.parametrize("parts", [Exhausted, Taking])
def test_what_draws_past_the_end_ends_the_epoch(parts):
    modules = [kind() for kind in twins(parts)]
    for module in modules:
        fit(module, DataLoader(Stream(), batch_size=4))
    plain, mixed = modules
    assert mixed.outputs == plain.outputs
    assert mixed.calls == plain.calls == len(plain.outputs)
    batches = [module.trainer.fit_loop.epoch_loop.batch_progress.total for module in modules]
    assert batches[0] == batches[1]
    steps = [module.trainer.fit_loop.epoch_loop._batches_that_stepped for module in modules]
    assert steps[0] == steps[1]


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
