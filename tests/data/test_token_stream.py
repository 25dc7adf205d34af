"""Chunks of a text go on where those before ended, on one rank and on several."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lightning_fw.data.token_stream import TokenStream
from lightning_fw.data.vocabulary import Vocabulary


@given(
    count=st.integers(2, 300),
    batch_size=st.integers(1, 9),
    chunk_length=st.integers(1, 40),
)
def test_rows_joined_are_the_text(count, batch_size, chunk_length):
    if count - 1 < batch_size:
        return
    stream = TokenStream(torch.arange(count), batch_size=batch_size, chunk_length=chunk_length)
    chunks = list(stream.loader())
    assert len(stream) == len(chunks)
    assert all(x.shape == y.shape == (batch_size, chunk_length) for x, y in chunks[:-1])
    read, following = (torch.cat(part, dim=1) for part in zip(*chunks, strict=True))
    assert torch.equal(read.flatten(), torch.arange(read.numel()))
    assert torch.equal(following, read + 1)
    assert count - 1 - batch_size < read.numel() <= count - 1


def test_chunks_can_be_listed_without_a_loader():
    stream = TokenStream(torch.arange(13), batch_size=2, chunk_length=4)
    assert [tuple(x.shape) for x, _ in stream] == [(2, 4), (2, 2)]
    for index in (2, -1):
        with pytest.raises(
            IndexError, match=f"`index` must be at least 0 and below 2, got {index}"
        ):
            stream[index]


def test_each_rank_reads_rows_of_its_own():
    tokens = torch.arange(100)
    alone = list(TokenStream(tokens, batch_size=6, chunk_length=5).loader())
    ranks = [
        list(TokenStream(tokens, batch_size=2, chunk_length=5, rank=rank, ranks=3).loader())
        for rank in range(3)
    ]
    for chunk, *parts in zip(alone, *ranks, strict=True):
        for whole, pieces in zip(chunk, zip(*parts, strict=True), strict=True):
            assert torch.equal(whole, torch.cat(pieces))


def test_a_state_kept_from_chunk_to_chunk_reads_rows_as_one():
    tokens = torch.randint(7, (161,))
    embedding, rnn = nn.Embedding(7, 4), nn.GRU(4, 5, batch_first=True)
    whole = rnn(embedding(tokens[:160].view(4, 40)))[0]
    states, state = [], None
    for x, _ in TokenStream(tokens, batch_size=4, chunk_length=11).loader():
        out, state = rnn(embedding(x), state)
        states.append(out)
    torch.testing.assert_close(torch.cat(states, dim=1), whole)


@pytest.mark.parametrize("position", [0, 1, 3, 4])
def test_it_goes_on_from_any_chunk(position):
    def loader():
        return TokenStream(torch.arange(33), batch_size=2, chunk_length=4).loader()

    straight = loader()
    chunks = iter(straight)
    for _ in range(position):
        next(chunks)
    rest = [x.tolist() for x, _ in [*chunks, *straight]]
    stopped = loader()
    chunks = iter(stopped)
    for _ in range(position):
        next(chunks)
    resumed = loader()
    resumed.load_state_dict(stopped.state_dict())
    # Saved again before the first chunk.
    assert resumed.state_dict() == {"position": position, "limit": 4}
    again = [x.tolist() for x, _ in [*resumed, *(resumed if position < 4 else ())]]
    assert again == rest


def test_an_epoch_that_was_cut_short_is_followed_by_a_whole_one():
    loader = TokenStream(torch.arange(33), batch_size=2, chunk_length=4).loader()
    next(iter(loader))
    assert [x[0, 0].item() for x, _ in loader] == [0, 4, 8, 12]


def test_a_text_too_short_for_its_rows_is_named():
    message = "`batch_size` must leave .* got 10 rows for 10 tokens. Pass a smaller batch_size"
    with pytest.raises(ValueError, match=message):
        TokenStream(torch.arange(10), batch_size=5, chunk_length=3, ranks=2)


def test_a_vocabulary_is_that_of_the_training_text():
    vocabulary = Vocabulary(["b", "a", "b", "<unk>", "c", "<unk>", "<unk>"])
    assert vocabulary.tokens == ("<unk>", "b", "a", "c")
    assert vocabulary.encode(["c", "never", "<unk>", "b"]).tolist() == [3, 0, 0, 1]
    assert vocabulary.decode(torch.tensor([1, 0])) == ["b", "<unk>"]
    assert len(Vocabulary(["b", "a", "b", "a", "c"], min_count=2)) == 3
