"""Loaders of several kinds: combined, without a length, made anew every epoch."""

from __future__ import annotations

from datetime import timedelta

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import DataLoader, IterableDataset

from lightning_fw import InnerLoop
from tests.manual.callback_nets import ONE_STEP, ByFrankWolfe, Plain, windows
from tests.mixin.conftest import Recurrent, loss_of, make_loader


@pytest.mark.parametrize("mode", ["max_size_cycle", "min_size"])
@pytest.mark.parametrize(
    ("batches", "windows"),
    [("successive", {"max_size_cycle": [3, 3, 1], "min_size": [3]}), ("same", 3), ("split", 3)],
)
def test_combined_loaders_feed_every_kind_of_window(mode, batches, windows, make_trainer):
    class Pair(Recurrent):
        def training_step(self, batch, batch_idx):
            return loss_of(self, batch["a"]) + loss_of(self, batch["b"])

    count = 7 if mode == "max_size_cycle" else 3
    expected = windows[mode] if isinstance(windows, dict) else [windows] * count
    module = Pair(InnerLoop(steps=3, batches=batches))
    loaders = {"a": make_loader(28), "b": make_loader(12)}
    trainer = make_trainer(max_epochs=2)
    trainer.fit(module, CombinedLoader(loaders, mode))
    assert [record.steps for record in module.records] == expected * 2
    assert trainer.global_step == len(expected) * 2
    lengths = {"split": [2, 2, 1, 1, 1, 1], "same": [4] * 6, "successive": [4, 4]}[batches]
    assert [length for length, _ in module.seen[: len(lengths)]] == lengths


def test_a_combined_loaders_missing_batch_stays_missing_in_every_chunk(make_trainer):
    kinds = []

    class Optional(Recurrent):
        def training_step(self, batch, batch_idx):
            kinds.append(batch["b"] is None)
            return loss_of(self, batch["a"])

    loaders = CombinedLoader({"a": make_loader(28), "b": make_loader(12)}, "max_size")
    make_trainer().fit(Optional(InnerLoop(steps=2, batches="split")), loaders)
    assert kinds == [False] * 6 + [True] * 8


class EndsWithNone:
    """Lightning trains on no batch that is None."""

    def __len__(self):
        return 5

    def __iter__(self):
        yield from make_loader(16)
        yield None


@pytest.mark.filterwarnings("ignore:.*dataloader yielded None")
def test_an_epoch_that_ends_with_none_ends_with_its_window(make_trainer):
    class Closed(Recurrent):
        def configure_optimizers(self):
            self.schedule = torch.optim.lr_scheduler.StepLR(super().configure_optimizers(), 1)
            schedule = {"scheduler": self.schedule, "interval": "step"}
            return {"optimizer": self.schedule.optimizer, "lr_scheduler": schedule}

        def on_restart(self, record):
            super().on_restart(record)
            self.log("restart", float(record.restart))

    class Counts(L.Callback):
        def on_train_batch_end(self, trainer, module, *batch):
            counts.append((trainer.global_step, module.schedule.last_epoch))

    counts = []
    module, trainer = Closed(), make_trainer(callbacks=[Counts()], max_epochs=2)
    trainer.fit(module, EndsWithNone())
    assert [record.steps for record in module.records] == [3, 1, 3, 1]
    assert counts == [(step, step) for step in (0, 0, 1, 1, 2, 2, 2, 3, 3, 4)]
    assert trainer.callback_metrics["restart"] == 3


@pytest.mark.filterwarnings("ignore:.*dataloader yielded None")
@pytest.mark.parametrize(
    "when", [{"every_n_train_steps": 1}, {"train_time_interval": timedelta(0)}]
)
def test_what_such_an_epoch_closes_is_saved_as_any_other_window(when, make_trainer, tmp_path):
    saving = ModelCheckpoint(tmp_path / "c", filename="{step}", save_top_k=-1, **when)
    make_trainer(callbacks=[saving], enable_checkpointing=True).fit(Recurrent(), EndsWithNone())
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == [
        "step=1.ckpt",
        "step=2.ckpt",
    ]


def test_the_short_last_batch_of_a_stream_gives_fewer_chunks(make_trainer):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(make_loader(10).dataset)

    module = Recurrent(InnerLoop(steps=4, batches="split"))
    make_trainer().fit(module, DataLoader(Stream(), batch_size=4))
    assert [record.steps for record in module.records] == [4, 4, 2]


class Endless(IterableDataset):
    """Fourteen samples, whose number nobody knows before."""

    def __iter__(self):
        generator = torch.Generator().manual_seed(0)
        for _ in range(14):
            yield torch.randn(5, 2, generator=generator), torch.zeros(1)


@pytest.mark.parametrize("flags", [{}, {"val_check_interval": 3}, {"limit_train_batches": 5}])
def test_a_data_set_of_unknown_length(flags, make_trainer):
    found = []
    for module in (Plain(), ByFrankWolfe(ONE_STEP), ByFrankWolfe()):
        trainer = make_trainer(max_epochs=2, **flags)
        trainer.fit(module, DataLoader(Endless(), batch_size=2), make_loader(samples=8))
        found.append((trainer.global_step, len(module.seen), len(module.validated)))
    assert found[0] == found[1]
    assert found[2][1:] == found[0][1:]
    assert windows(module) == ([3, 2] * 2 if "limit_train_batches" in flags else [3, 3, 1] * 2)


def test_data_loaders_are_made_anew(make_trainer):
    class Grows(ByFrankWolfe):
        def train_dataloader(self):
            return make_loader(samples=16 + 4 * self.trainer.current_epoch)

    module = Grows()
    make_trainer(reload_dataloaders_every_n_epochs=1, max_epochs=3).fit(module)
    assert windows(module) == [3, 1, 3, 2, 3, 3]
