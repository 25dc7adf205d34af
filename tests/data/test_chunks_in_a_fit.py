"""In a fit, on one rank or several, chunks are those of the batches of the wrapped data."""

from __future__ import annotations

from functools import partial
from itertools import chain, groupby

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler

from lightning_fw.data import InChunks
from lightning_fw.data.chunks import Chunk
from tests.data.test_chunks import Noisy, Odd, assert_same_batches, joined
from tests.ranks import on_ranks


class Reader(L.LightningModule):
    """Keeps what it was given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.batches = []

    def training_step(self, batch, batch_idx):
        self.batches.append(batch)
        return self.weight.sum()

    def validation_step(self, batch, batch_idx):
        assert not isinstance(batch, Chunk)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def test_lightnings_transfer_keeps_the_kind_of_a_batch():
    module = Reader()
    trainer = L.Trainer(max_epochs=2, precision="64-true", **QUIET)
    trainer.fit(module, InChunks(Odd(), 3))
    assert trainer.global_step == 2 * 9
    assert len(joined(module.batches)) == 2 * 3
    first = module.batches[0]
    assert (first.x.dtype, first.starts, first.share) == (torch.float64, True, (3, 7))


def test_hooks_of_the_wrapped_data_are_called():
    called = []

    class Hooked(Odd):
        def prepare_data(self):
            called.append("prepare_data")

        def setup(self, stage):
            called.append(("setup", stage))

        def teardown(self, stage):
            called.append(("teardown", stage))

        def on_exception(self, exception):
            called.append((self.trainer.max_epochs, str(exception)))

    L.Trainer(max_epochs=1, **QUIET).fit(Reader(), InChunks(Hooked(), 3))
    assert called == ["prepare_data", ("setup", "fit"), ("teardown", "fit")]
    with pytest.raises(ConnectionError):
        L.Trainer(max_epochs=7, **QUIET).fit(Failing(), InChunks(Hooked(), 3))
    assert called[3:] == ["prepare_data", ("setup", "fit"), (7, "lost connection")]


class Failing(Reader):
    def on_fit_start(self):
        raise ConnectionError("lost connection")


# Lightning's word to everybody whose module has hooks of batches and who passes data.
@pytest.mark.filterwarnings("ignore:You have overridden `on_after_batch_transfer`")
def test_the_modules_hooks_of_batches_are_called_where_the_data_have_none():
    class Hooked(Reader):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return batch._replace(x=batch.x + 1)

    module = Hooked()
    L.Trainer(max_epochs=1, limit_val_batches=0, **QUIET).fit(module, InChunks(Odd(), 3))
    plain = next(iter(InChunks(Odd(), 3).train_dataloader()))
    assert torch.equal(module.batches[0].x, plain.x + 1)


class Shifted(Odd):
    """Moves its batches by a number that a checkpoint holds."""

    shift = 1.0

    def state_dict(self):
        return {"shift": self.shift}

    def load_state_dict(self, state):
        self.shift = state["shift"]

    def on_before_batch_transfer(self, batch, dataloader_idx):
        return batch._replace(x=batch.x + self.shift)

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        return super().transfer_batch_to_device(batch._replace(x=2 * batch.x), device, 0)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch._replace(x=-batch.x)


def test_so_are_those_of_batches_and_of_checkpoints(tmp_path):
    data, resumed, module = InChunks(Shifted(), 3), InChunks(Shifted(), 3), Reader()
    data.data.shift = 4.0
    plain = next(iter(InChunks(Shifted(), 3).train_dataloader()))
    first = L.Trainer(max_epochs=1, limit_val_batches=0, **QUIET)
    first.fit(module, data)
    torch.testing.assert_close(module.batches[0].x, -2 * (plain.x + 4))
    first.save_checkpoint(tmp_path / "saved.ckpt")
    again = L.Trainer(max_epochs=1, limit_val_batches=0, **QUIET)
    again.fit(Reader(), resumed, ckpt_path=tmp_path / "saved.ckpt")
    assert resumed.data.shift == 4


def test_a_fit_trains_on_the_batches_of_the_wrapped_data():
    whole, chunks = read_in_a_fit(3)
    assert_same_batches([Chunk(*chunk) for chunk in chunks], whole)


def test_batches_to_overfit_are_the_same_in_each_epoch():
    module = Reader()
    trainer = L.Trainer(max_epochs=3, overfit_batches=6, num_sanity_val_steps=0, **QUIET)
    trainer.fit(module, InChunks(Odd(), 3))
    rows = [chunk.y.flatten().tolist() for chunk in module.batches]
    assert rows[:6] == rows[6:12] == rows[12:] == [[0, 1, 2, 3]] * 3 + [[4, 5, 6, 7]] * 3


class OwnLoader(Noisy):
    """With a loader that Lightning deals out to ranks."""

    def __init__(self, *, shuffle):
        super().__init__(10, batch_size=2)
        self.shuffle = shuffle

    def train_dataloader(self):
        return DataLoader(self.split("train"), self.batch_size, shuffle=self.shuffle)


def make_noisy():
    return Noisy(10, batch_size=2, seed=1)


def read_on_ranks(chunk_length, make_data=make_noisy, **settings):
    return read_in_a_fit(chunk_length, make_data, **{"devices": 2, "strategy": "ddp", **settings})


def read_in_a_fit(chunk_length, make_data=make_noisy, *, max_epochs=2, **settings):
    """What is trained on in some epochs, whole and in chunks."""
    told = []
    for data in (make_data(), InChunks(make_data(), chunk_length)):
        module = Reader()
        L.Trainer(max_epochs=max_epochs, **settings, **QUIET).fit(module, data)
        told.append([tuple(batch) for batch in module.batches])
    return told


def test_each_rank_reads_rows_of_its_own_and_each_row_once():
    ranks = on_ranks(read_on_ranks, 3)
    rows = []
    for whole, chunks in ranks:
        assert_same_batches([Chunk(*chunk) for chunk in chunks], whole)
        rows.append([y.flatten().tolist() for _, y in whole])
    for epoch in range(2):
        # Ten rows on two ranks: three batches of two, two and one an epoch.
        read = [row for rank in rows for batch in rank[3 * epoch : 3 * epoch + 3] for row in batch]
        assert sorted(read) == list(range(10))
    for rank, batches in enumerate(rows):
        dealt = DistributedSampler(range(10), num_replicas=2, rank=rank, seed=1)
        for epoch in range(2):
            dealt.set_epoch(epoch)
            assert [*chain(*batches[3 * epoch : 3 * epoch + 3])] == list(dealt)
    assert [len(list(group)) for _, group in groupby(map(len, rows[0]))] == [2, 1, 2, 1]


def test_where_lightning_is_not_to_deal_each_rank_reads_all_rows():
    read = partial(read_on_ranks, use_distributed_sampler=False)
    for whole, chunks in on_ranks(read, 3):
        assert_same_batches([Chunk(*chunk) for chunk in chunks], whole)
        rows = torch.cat([y for _, y in whole]).flatten().tolist()
        assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))


class SaveAt(L.Callback):
    """Saves at a hook of the first epoch."""

    def __init__(self, hook, path):
        self.path = path
        setattr(self, hook, self.save)

    def save(self, trainer, *arguments):
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("hook", ["on_validation_end", "on_train_epoch_end"])
def test_a_fit_saved_at_the_end_of_an_epoch_goes_on_with_the_next_ones_batches(hook, tmp_path):
    path = tmp_path / "saved.ckpt"
    straight, resumed = Reader(), Reader()
    settings = {"max_epochs": 3, "num_sanity_val_steps": 0, **QUIET}
    trainer = L.Trainer(callbacks=SaveAt(hook, path), **settings)
    trainer.fit(straight, InChunks(make_noisy(), 3))
    L.Trainer(**settings).fit(resumed, InChunks(make_noisy(), 3), ckpt_path=path)
    assert_same_chunks(resumed.batches, straight.batches[-len(resumed.batches) :])
    assert len(resumed.batches) == 2 * 15


def test_loaders_asked_for_anew_in_each_epoch_have_an_order_and_noise_of_their_own():
    whole, chunks = read_in_a_fit(7, reload_dataloaders_every_n_epochs=1, max_epochs=3)
    for read in (whole, [(x, y) for x, y, *_ in chunks]):
        orders = [torch.cat([y for _, y in read[5 * e : 5 * e + 5]]).flatten() for e in range(3)]
        assert len({tuple(order.tolist()) for order in orders}) == 3
        assert all(sorted(order.tolist()) == list(range(10)) for order in orders)
        assert len({row.sum().item() for x, _ in read for row in x}) == 3 * 10


def assert_same_chunks(mine, others):
    for chunk, other in zip(mine, others, strict=True):
        assert torch.equal(chunk.x, other.x)
        assert torch.equal(chunk.y, other.y)


@pytest.mark.parametrize("machines", [1, 2])
def test_no_noise_comes_again_whichever_rank_reads(machines):
    read = partial(read_on_ranks, devices=2 // machines, num_nodes=machines)
    alone = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"} if machines == 2 else {}
    seen = set()
    for whole, _ in on_ranks(read, 3, environ=alone):
        for x, y in whole:
            seen.update((label.item(), row.sum().item()) for row, label in zip(x, y, strict=True))
    assert len(seen) == 2 * 10


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loader_of_the_users_is_dealt_out_to_ranks_as_lightning_deals_it_out(shuffle):
    for whole, chunks in on_ranks(read_on_ranks, 3, partial(OwnLoader, shuffle=shuffle)):
        assert_same_batches([Chunk(*chunk) for chunk in chunks], whole)


def test_every_hook_of_the_wrapped_data_knows_the_trainer():
    known = []

    class Asking(Odd):
        def prepare_data(self):
            known.append(self.trainer)

        def setup(self, stage):
            known.append(self.trainer)

    trainer = L.Trainer(max_epochs=1, **QUIET)
    trainer.fit(Reader(), InChunks(Asking(), 3))
    assert known == [trainer, trainer]
