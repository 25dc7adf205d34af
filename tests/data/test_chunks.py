"""Joined along time, the chunks of a batch are the batch, in the order of the wrapped data."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, DistributedSampler, default_collate

from lightning_fw.data import AddingProblem, CopyMemory, InChunks, SequenceData, TextData
from lightning_fw.data.chunk_loader import ChunkLoader, cut
from lightning_fw.data.chunks import Chunk
from lightning_fw.data.noise import NoisySequences, with_noise_after


def noise_added(x, generator):
    return x + torch.randn(x.shape, generator=generator)


def noise_after(x, generator):
    return with_noise_after(x, 12, generator)


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


class Padded(Noisy):
    """The same with noise after the sequences, to twelve steps."""

    def make_dataset(self, split):
        return NoisySequences(*self.make_split(split), noisy=noise_after, seed=0)


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
@pytest.mark.parametrize("make_data", [Odd, Noisy, Padded])
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


def plus_one(rows):
    x, y = default_collate(rows)
    return x + 1, y


class Collated(Odd):
    """With a loader that makes batches its own way."""

    def train_dataloader(self):
        return DataLoader(self.split("train"), 4, collate_fn=plus_one)


def test_batches_are_made_as_the_wrapped_data_makes_them():
    chunks = InChunks(Collated(), 3).train_dataloader()
    assert_same_batches(list(chunks), list(Collated().train_dataloader()))


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
    assert resumed.state_dict() == straight.state_dict()


def test_a_rank_goes_on_with_the_rows_and_the_noise_that_are_its_own():
    def of_a_rank():
        rows = Noisy(10).split("train")
        sampler = DistributedSampler(rows, num_replicas=2, rank=0)
        return ChunkLoader(DataLoader(rows, 2, sampler=sampler), 3, per_step=False)

    straight, resumed = of_a_rank(), of_a_rank()
    for epoch in range(3):
        straight.sampler.set_epoch(epoch)
        chunks = iter(straight)
        list(islice(chunks, 4 if epoch == 2 else None))
    resumed.load_state_dict(straight.state_dict())
    resumed.sampler.set_epoch(2)
    rest, got = list(chunks), list(resumed)
    for loader, read in ((straight, rest), (resumed, got)):
        loader.sampler.set_epoch(3)
        read.extend(loader)
    assert len(got) == len(rest) == 9 - 4 + 9
    assert all(torch.equal(mine.x, other.x) for mine, other in zip(got, rest, strict=True))


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
    assert resumed.state_dict() == fresh.state_dict()


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
