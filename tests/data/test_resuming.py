"""A fit that resumes reads the batches that one without a break would have read."""

from __future__ import annotations

from functools import partial
from itertools import cycle, pairwise

import lightning as L
import pytest
import torch
from torch.utils.data import Sampler, TensorDataset

from lightning_fw.data import AddingProblem, InChunks, TextData
from lightning_fw.data.sequence_loader import SequenceLoader
from tests.data.test_chunks import Noisy
from tests.data.test_chunks_in_a_fit import QUIET, Reader
from tests.ranks import on_ranks

EPOCHS, BATCHES = 4, 5


def make_clean():
    return AddingProblem(6, train_size=10, val_size=2, test_size=2, batch_size=2, seed=3)


def make_noisy():
    return Noisy(10, batch_size=2, seed=1)


def make_chunks():
    return InChunks(make_noisy(), 4)


def make_text():
    return TextData(__file__, level="character", batch_size=2, chunk_length=300)


class Save(L.Callback):
    """Saves once: after a batch of an epoch, after its last, or at its end."""

    def __init__(self, path, epoch, batch):
        self.path, self.epoch, self.batch = path, epoch, batch

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        here = batch_idx == self.batch or (self.batch == "last" and trainer.is_last_batch)
        if trainer.current_epoch == self.epoch and here:
            trainer.save_checkpoint(self.path)

    def on_train_epoch_end(self, trainer, module):
        if self.batch is None and trainer.current_epoch == self.epoch:
            trainer.save_checkpoint(self.path)


def read(make_data, *, callbacks=(), path=None, **settings):
    module = Reader()
    trainer = L.Trainer(
        max_epochs=EPOCHS, num_sanity_val_steps=0, callbacks=list(callbacks), **settings, **QUIET
    )
    trainer.fit(module, make_data(), ckpt_path=path)
    return [tuple(batch) for batch in module.batches]


def assert_same(mine, others):
    assert len(mine) == len(others)
    for batch, other in zip(mine, others, strict=True):
        assert all(map(torch.equal, batch[:2], other[:2]))


@pytest.mark.parametrize("make_data", [make_clean, make_noisy])
@pytest.mark.parametrize(("epoch", "batch"), [(0, 0), (1, 2), (2, 4), (0, None), (2, None)])
def test_it_goes_on_from_any_batch_and_from_the_end_of_an_epoch(make_data, epoch, batch, tmp_path):
    path = tmp_path / "saved.ckpt"
    straight = read(make_data, callbacks=[Save(path, epoch, batch)])
    done = epoch * BATCHES + (BATCHES if batch is None else batch + 1)
    assert_same(read(make_data, path=path), straight[done:])


@pytest.mark.parametrize("make_data", [make_clean, make_noisy, make_chunks, make_text])
@pytest.mark.parametrize(
    ("epoch", "batch"), [(1, 1), (0, "last"), (2, "last"), (0, None), (2, None)]
)
@pytest.mark.parametrize("limit", [3, 0.7, 100])
def test_so_it_does_with_epochs_that_a_limit_ends(make_data, epoch, batch, limit, tmp_path):
    path, limited = tmp_path / "saved.ckpt", {"limit_train_batches": limit}
    straight = read(make_data, callbacks=[Save(path, epoch, batch)], **limited)
    each = len(straight) // EPOCHS
    done = epoch * each + (2 if batch == 1 else each)
    assert_same(read(make_data, path=path, **limited), straight[done:])


@pytest.mark.parametrize("make_data", [make_noisy, make_chunks])
@pytest.mark.parametrize(("epoch", "batch", "rest"), [(1, 1, 2), (0, None, 4)])
def test_a_fit_may_resume_with_another_limit(make_data, epoch, batch, rest, tmp_path):
    path = tmp_path / "saved.ckpt"
    straight = read(make_data, callbacks=[Save(path, epoch, batch)])
    resumed = read(make_data, path=path, limit_train_batches=4)
    each = len(straight) // EPOCHS
    epochs = [straight[start : start + 4] for start in range(each, 4 * each, each)]
    mine = [*epochs[0][4 - rest :], *epochs[1], *epochs[2]]
    assert_same(resumed[:rest], mine[:rest])
    # Noise goes on from what was read.
    assert_same([(y, y) for _, y, *_ in resumed], [(y, y) for _, y, *_ in mine])


@pytest.mark.parametrize("make_data", [make_clean, make_noisy])
@pytest.mark.parametrize("epochs", [1, 2])
def test_loaders_made_anew_read_what_one_loader_reads(make_data, epochs, tmp_path):
    path = tmp_path / "saved.ckpt"
    anew = {"reload_dataloaders_every_n_epochs": epochs}
    straight = read(make_data)
    assert_same(read(make_data, callbacks=[Save(path, 2, None)], **anew), straight)
    assert_same(read(make_data, path=path, **anew), straight[3 * BATCHES :])


def test_a_fit_that_goes_on_reads_on():
    module, data = Reader(), make_noisy()
    trainer = L.Trainer(max_epochs=2, num_sanity_val_steps=0, **QUIET)
    trainer.fit(module, data)
    trainer.fit_loop.max_epochs = EPOCHS
    trainer.fit(module, data)
    assert_same([tuple(batch) for batch in module.batches], read(make_noisy))


def test_noise_does_not_come_again_after_a_fit_that_max_steps_cut():
    module, data = Reader(), make_noisy()
    trainer = L.Trainer(max_steps=2 * BATCHES + 2, num_sanity_val_steps=0, **QUIET)
    trainer.fit(module, data)
    trainer.fit_loop.epoch_loop.max_steps = 4 * BATCHES
    trainer.fit(module, data)
    read = torch.cat([batch[0] for batch in module.batches])
    assert len(read) > 3 * BATCHES
    assert len(read.unique(dim=0)) == len(read)


def test_a_sampler_that_would_go_on_for_ever_is_asked_for_an_epoch():
    class Endless(Sampler):
        def __iter__(self):
            return cycle([[1], [0], [2]])

        def __len__(self):
            return 5

    data = TensorDataset(torch.arange(3))
    loader = SequenceLoader(data, batch_sampler=Endless())
    assert [int(row) for (row,) in loader] == [1, 0, 2, 1, 0]


def test_a_loader_that_was_not_begun_goes_on_from_the_start():
    fresh, resumed = (make_noisy().train_dataloader() for _ in range(2))
    resumed.load_state_dict(fresh.state_dict())
    for _ in range(2):
        assert_same(list(resumed), list(fresh))


def test_a_loader_says_where_it_goes_on_before_its_first_batch():
    loader, state = make_noisy().train_dataloader(), {"epochs": 2, "position": 3}
    loader.load_state_dict(state)
    iter(loader)
    assert loader.state_dict() == state


def saved_and_resumed(path, epoch, batch, make_data=make_noisy, **settings):
    ranks = {"devices": 2, "strategy": "ddp", **settings}
    straight = read(make_data, callbacks=[Save(path, epoch, batch)], **ranks)
    return straight, read(make_data, path=path, **ranks)


@pytest.mark.parametrize("make_data", [make_noisy, make_chunks, make_text])
def test_each_rank_goes_on_with_what_it_is_to_overfit(make_data, tmp_path):
    overfit = partial(saved_and_resumed, make_data=make_data, overfit_batches=3)
    for straight, resumed in on_ranks(overfit, tmp_path / "saved.ckpt", 1, "last"):
        assert_same(resumed, straight[6:])
        assert_same([(y, y) for _, y, *_ in straight[:3]], [(y, y) for _, y, *_ in straight[3:6]])


def test_rows_of_a_text_stay_whole_on_ranks_that_overfit(tmp_path):
    overfit = partial(saved_and_resumed, make_data=make_text, overfit_batches=3)
    for straight, _ in on_ranks(overfit, tmp_path / "saved.ckpt", 1, "last"):
        for (_, y), (x, _) in pairwise(straight[:3]):
            assert torch.equal(y[:, -1], x[:, 0])


@pytest.mark.parametrize("batch", [1, None])
def test_each_rank_goes_on_with_rows_and_noise_of_its_own(batch, tmp_path):
    of_ranks = on_ranks(partial(saved_and_resumed, tmp_path / "saved.ckpt", 1), batch)
    for straight, resumed in of_ranks:
        # Ten rows on two ranks: three batches an epoch.
        done = 3 + (3 if batch is None else batch + 1)
        assert_same(resumed, straight[done:])
    (first, _), (second, _) = of_ranks
    assert not any(torch.equal(x, y) for (x, _), (y, _) in zip(first, second, strict=True))
