"""Joined along time, the chunks of a batch are the batch, in the order of the wrapped data."""

from __future__ import annotations

from functools import partial
from itertools import groupby

import lightning as L
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from lightning_fw.data import AddingProblem, CopyMemory, InChunks, SequenceData, TextData
from lightning_fw.data.chunk_loader import cut
from lightning_fw.data.chunks import Chunk
from lightning_fw.data.noise import NoisySequences
from tests.ranks import on_ranks


def noise_added(x, generator):
    return x + torch.randn(x.shape, generator=generator)


class Noisy(SequenceData):
    """Zeros with other noise at each reading; a target tells which sequence it is."""

    kind = "regression"
    input_size, output_size = 2, 1

    def __init__(self, size=11, *, batch_size=4, seed=0):
        super().__init__(batch_size=batch_size, seed=seed)
        self.size = size

    def make_split(self, split):
        return torch.zeros(self.size, 7, 2), torch.arange(float(self.size)).unsqueeze(1)

    def make_dataset(self, split):
        return NoisySequences(*self.make_split(split), noisy=noise_added, seed=0, redrawn=True)


class Odd(Noisy):
    """The same without noise."""

    make_dataset = SequenceData.make_dataset


def joined(chunks):
    """Batches from chunks, each of which must be in its place."""
    batches = []
    for chunk in chunks:
        assert isinstance(chunk, Chunk)
        assert chunk.share[0] == chunk.x.shape[1]
        if chunk.starts:
            batches.append([])
        batches[-1].append(chunk)
    for parts in batches:
        assert {chunk.share[1] for chunk in parts} == {sum(chunk.share[0] for chunk in parts)}
    return batches


def assert_same_batches(chunks, batches, *, per_step=False):
    whole = joined(chunks)
    assert len(whole) == len(batches)
    for parts, (x, y) in zip(whole, batches, strict=True):
        assert torch.equal(torch.cat([chunk.x for chunk in parts], dim=1), x)
        if per_step:
            assert torch.equal(torch.cat([chunk.y for chunk in parts], dim=1), y)
        else:
            assert all(torch.equal(chunk.y, y) for chunk in parts)


@given(length=st.integers(1, 30), chunk_length=st.integers(1, 40), batch=st.integers(1, 4))
def test_chunks_joined_are_the_batch(length, chunk_length, batch):
    x, y = torch.randn(batch, length, 2), torch.randn(batch, length)
    for per_step in (False, True):
        chunks = list(cut(x, y, chunk_length, per_step=per_step))
        assert_same_batches(chunks, [(x, y)], per_step=per_step)
        lengths = [chunk.x.shape[1] for chunk in chunks]
        assert lengths[:-1] == [chunk_length] * (len(lengths) - 1)
        assert 1 <= lengths[-1] <= chunk_length


@pytest.mark.parametrize("chunk_length", [1, 3, 7, 100])
@pytest.mark.parametrize("make_data", [Odd, Noisy], ids=["as they are", "with noise"])
def test_each_epoch_has_the_batches_of_the_wrapped_data(make_data, chunk_length):
    whole = make_data().train_dataloader()
    loader = InChunks(make_data(), chunk_length).train_dataloader()
    orders = []
    for _ in range(3):
        batches, chunks = list(whole), list(loader)
        assert_same_batches(chunks, batches)
        assert len(loader) == len(chunks)
        orders.append(torch.cat([y for _, y in batches]).flatten().tolist())
    # Each epoch has an order of its own.
    assert orders[0] != orders[1] != orders[2]


def test_targets_of_each_step_are_cut_too():
    whole = CopyMemory(5, train_size=7, batch_size=3).train_dataloader()
    loader = InChunks(CopyMemory(5, train_size=7, batch_size=3), 4).train_dataloader()
    assert_same_batches(list(loader), list(whole), per_step=True)


def test_noise_is_drawn_once_a_batch_and_anew_in_each_epoch():
    loader = InChunks(Noisy(), 3).train_dataloader()
    reading, expected = Noisy().split("train"), {}
    for _ in range(2):
        for index in range(11):
            expected.setdefault(index, []).append(reading[index][0])
    for epoch in range(2):
        for parts in joined(loader):
            x = torch.cat([chunk.x for chunk in parts], dim=1)
            for row, index in zip(x, parts[0].y.flatten().int().tolist(), strict=True):
                assert torch.equal(row, expected[index][epoch])


@pytest.mark.parametrize("position", [1, 3, 4, 8, 9])
@pytest.mark.parametrize("epoch", [0, 2])
def test_it_goes_on_from_any_chunk_of_any_epoch(epoch, position):
    straight = InChunks(Noisy(), 3).train_dataloader()
    for _ in range(epoch):
        list(straight)
    chunks = iter(straight)
    for _ in range(position):
        next(chunks)
    state = straight.state_dict()
    rest = [*chunks, *straight]
    resumed = InChunks(Noisy(), 3).train_dataloader()
    resumed.load_state_dict(state)
    # Lightning may ask for an iterator that it does not use, and save before the first batch.
    iter(resumed)
    assert resumed.state_dict() == state
    got = [*resumed, *(resumed if position < 9 else ())]
    assert len(got) == len(rest)
    for mine, other in zip(got, rest, strict=True):
        assert torch.equal(mine.x, other.x)
        assert mine[2:] == other[2:]


def test_an_epoch_of_whole_batches_is_drawn_again_as_lightning_reads_it():
    straight, resumed = (InChunks(Odd(12), 3).train_dataloader() for _ in range(2))
    chunks = iter(straight)
    # Lightning asks for no chunk after the last.
    for _ in range(len(straight)):
        next(chunks)
    resumed.load_state_dict(straight.state_dict())
    targets = [[chunk.y.tolist() for chunk in loader] for loader in (straight, resumed)]
    assert targets[0] == targets[1]


def test_a_loader_that_was_not_begun_goes_on_from_the_start():
    fresh, resumed = (InChunks(Odd(), 3).train_dataloader() for _ in range(2))
    resumed.load_state_dict(fresh.state_dict())
    assert all(torch.equal(a.x, b.x) for a, b in zip(fresh, resumed, strict=True))


def test_validation_and_test_read_whole_sequences():
    data = InChunks(AddingProblem(10, train_size=20, val_size=5, test_size=6), 3)
    loaders = (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader())
    for loader, size in zip(loaders, (5, 6, 6), strict=True):
        (batch,) = loader
        assert [tuple(part.shape) for part in batch] == [(size, 10, 2), (size, 1)]


def test_it_tells_what_the_wrapped_data_tells():
    data = InChunks(CopyMemory(5, train_size=7), 4)
    assert (data.kind, data.input_size, data.output_size) == ("classification_per_step", 10, 9)
    assert data.reads_symbols and not InChunks(Odd(), 3).reads_symbols


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((AddingProblem(5), 0), ValueError, "`chunk_length` must be at least 1, got 0"),
        ((AddingProblem(5), 2.0), TypeError, "`chunk_length` must be an int, got 2.0"),
        ((TextData("none"), 5), TypeError, "got a TextData, which comes in chunks already"),
        ((AddingProblem, 5), TypeError, "`data` must be a SequenceData, got <class"),
    ],
)
def test_a_mistake_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        InChunks(*arguments)


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
            called.append(f"setup to {stage}")

        def teardown(self, stage):
            called.append(f"teardown of {stage}")

    L.Trainer(max_epochs=1, **QUIET).fit(Reader(), InChunks(Hooked(), 3))
    assert called == ["prepare_data", "setup to fit", "teardown of fit"]


def test_a_fit_trains_on_the_batches_of_the_wrapped_data():
    whole, chunks = read_in_a_fit(3)
    assert_same_batches([Chunk(*chunk) for chunk in chunks], whole)


class OwnLoader(Noisy):
    """With a loader that Lightning deals out to ranks."""

    def __init__(self, *, shuffle):
        super().__init__(10, batch_size=2)
        self.shuffle = shuffle

    def train_dataloader(self):
        return DataLoader(self.split("train"), self.batch_size, shuffle=self.shuffle)


def make_noisy():
    return Noisy(10, batch_size=2, seed=1)


def read_on_ranks(chunk_length, make_data=make_noisy):
    return read_in_a_fit(chunk_length, make_data, devices=2, strategy="ddp")


def read_in_a_fit(chunk_length, make_data=make_noisy, **settings):
    """What is trained on in two epochs, whole and in chunks."""
    told = []
    for data in (make_data(), InChunks(make_data(), chunk_length)):
        module = Reader()
        L.Trainer(max_epochs=2, **settings, **QUIET).fit(module, data)
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
    assert [len(list(group)) for _, group in groupby(map(len, rows[0]))] == [2, 1, 2, 1]


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loader_of_the_users_is_dealt_out_to_ranks_as_lightning_deals_it_out(shuffle):
    for whole, chunks in on_ranks(read_on_ranks, 3, partial(OwnLoader, shuffle=shuffle)):
        assert_same_batches([Chunk(*chunk) for chunk in chunks], whole)
