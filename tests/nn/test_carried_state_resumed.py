"""A fit resumed in mid-sequence ends bit for bit as one that was not, on each rank."""

from __future__ import annotations

import os
import signal
import warnings
from functools import partial

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import OnExceptionCheckpoint
from torch.optim import Adam

from lightning_fw.data import InChunks, TextData
from lightning_fw.nn import (
    FrankWolfeClassifier,
    FrankWolfeLanguageModel,
    LanguageModel,
    SequenceClassifier,
)
from tests.nn.chunked import (
    A_BATCH,
    CHUNK,
    Few,
    Watch,
    assert_same_weights,
    copied,
    fit,
    weights_of,
)
from tests.ranks import on_ranks

# What they look at is the state, not where a window ends.
pytestmark = pytest.mark.filterwarnings("ignore:`accumulate_grad_batches` should be")

SIZES = {"input_size": 2, "output_size": 3, "hidden_size": 4}
adam = partial(Adam, lr=0.01)


class SaveAfter(L.Callback):
    """Saves after some batches, numbered over all epochs."""

    def __init__(self, folder, batches):
        self.folder, self.batches = folder, batches

    def on_train_batch_end(self, trainer, pl_module, *arguments):
        batch = trainer.fit_loop.epoch_loop.total_batch_idx
        if batch in self.batches:
            trainer.save_checkpoint(self.folder / f"{batch}.ckpt")


def new(network, **settings):
    torch.manual_seed(0)
    return network("lstm", **settings, **SIZES)


# Of nine chunks an epoch, in threes: in mid-sequence, at its end, at that of an epoch, in the next.
SAVED = [0, 1, 2, 8, 9, 13]


@pytest.mark.parametrize(
    "network", [partial(SequenceClassifier, optimizer=adam), FrankWolfeClassifier]
)
def test_a_fit_on_chunks_resumes_bit_for_bit(network, tmp_path):
    straight = fit(new(network), InChunks(Few(), CHUNK), SaveAfter(tmp_path, SAVED))
    for batch in SAVED:
        resumed, watch = new(network), Watch()
        fit(resumed, InChunks(Few(), CHUNK), watch, ckpt_path=tmp_path / f"{batch}.ckpt")
        assert_same_weights(resumed, straight)
        assert len(watch.batches) == 2 * 9 - 1 - batch
        assert watch.batches[0].starts == ((batch + 1) % A_BATCH == 0)


class SavesFirst(SequenceClassifier):
    """In mid-sequence, before it reads the chunk."""

    def training_step(self, batch, batch_idx):
        if batch_idx == 4:
            self.trainer.save_checkpoint(self.path)
        return super().training_step(batch, batch_idx)


def test_saved_before_a_chunk_was_read_it_goes_on_from_where_that_started(tmp_path):
    model, straight, resumed = new(SavesFirst), Watch(), Watch()
    model.path = tmp_path / "saved.ckpt"
    fit(model, InChunks(Few(), CHUNK), straight, epochs=1)
    fit(new(SequenceClassifier), InChunks(Few(), CHUNK), resumed, ckpt_path=model.path)
    assert torch.equal(resumed.starts[0], straight.starts[4])


@pytest.mark.parametrize("network", [LanguageModel, FrankWolfeLanguageModel])
def test_a_language_model_resumes_bit_for_bit(network, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat\nand the dog lay on the cat\n" * 12)

    def go_on(*callbacks, **settings):
        torch.manual_seed(0)
        text = TextData(path, batch_size=3, chunk_length=9)
        sizes = {"input_size": text.input_size, "output_size": text.output_size}
        return fit(network("lstm", hidden_size=4, **sizes), text, *callbacks, **settings)

    straight = go_on(SaveAfter(tmp_path, [1, 5, 8]))
    for batch in (1, 5, 8):
        resumed = go_on(ckpt_path=tmp_path / f"{batch}.ckpt")
        assert_same_weights(resumed, straight)


def test_a_checkpoint_without_a_carried_state_has_no_word_of_it(tmp_path):
    fit(new(SequenceClassifier), Few(), SaveAfter(tmp_path, [1]))
    assert "carried_state" not in torch.load(tmp_path / "1.ckpt", weights_only=True)
    fit(new(SequenceClassifier), InChunks(Few(), CHUNK), SaveAfter(tmp_path, [1]))
    (state,) = torch.load(tmp_path / "1.ckpt", weights_only=True)["carried_state"]
    assert [tuple(part.shape) for part in state] == [(1, 4, 4)] * 2


def test_a_checkpoint_without_a_carried_state_leaves_none_of_an_earlier_fit():
    model, saved = fit(new(SequenceClassifier), InChunks(Few(), CHUNK), epochs=1), {}
    model.on_load_checkpoint({})
    model.on_save_checkpoint(saved)
    assert saved == {}


def test_a_state_that_was_loaded_is_saved_again_before_the_first_batch():
    model, state, saved = new(SequenceClassifier), torch.rand(1, 4, 4), {}
    model.on_load_checkpoint({"carried_state": [state]})
    model.on_save_checkpoint(saved)
    assert torch.equal(saved["carried_state"][0], state)


def fit_on_ranks(folder, ckpt_path=None):
    """A rank's weights, and of each of its batches x, where it started and where it ended."""
    watch, model = Watch(), new(SequenceClassifier, optimizer=adam)
    data = InChunks(Few(batch_size=2), CHUNK)
    several = {"devices": 2, "strategy": "ddp"}
    fit(model, data, watch, SaveAfter(folder, [4]), ckpt_path=ckpt_path, **several)
    batches = [(batch.x, batch.starts) for batch in watch.batches]
    return weights_of(model), batches, watch.starts, watch.ends


def test_each_rank_carries_the_state_of_its_own_rows_and_resumes_with_it(tmp_path):
    straight = on_ranks(fit_on_ranks, tmp_path)
    for _, batches, starts, ends in straight:
        assert len(batches) == 2 * 3 * A_BATCH
        for index, (_, is_start) in enumerate(batches):
            if is_start:
                assert starts[index] is None
            else:
                assert torch.equal(starts[index], ends[index - 1])
    (_, mine, my_starts, _), (_, other, other_starts, _) = straight
    assert not torch.equal(mine[1][0], other[1][0])
    assert not torch.equal(my_starts[1], other_starts[1])
    resumed = on_ranks(fit_on_ranks, tmp_path, tmp_path / "4.ckpt")
    for rank, expected in zip(resumed, straight, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(rank[0], expected[0], strict=True))
        # The sixth batch goes on in mid-sequence.
        assert torch.equal(rank[1][0][0], expected[1][5][0])
        assert torch.equal(rank[2][0], expected[2][5])


class Mortal(SequenceClassifier):
    def training_step(self, batch, batch_idx):
        if self.global_rank == 1 and batch_idx == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(batch, batch_idx)


def fit_to_death(folder):
    several = {"devices": 2, "strategy": "ddp", "enable_checkpointing": True}
    data, saving = InChunks(Few(batch_size=2), CHUNK), OnExceptionCheckpoint(folder)
    fit(new(Mortal), data, saving, **several)


# Lightning's of a fit with OnExceptionCheckpoint.
@pytest.mark.filterwarnings("ignore:.*fit.ckpt_path=")
def test_a_rank_that_is_left_alone_saves_its_own_state(tmp_path):
    with pytest.raises(AssertionError, match="1, status -9"):
        on_ranks(fit_to_death, tmp_path)
    saved = torch.load(tmp_path / "on_exception.ckpt", weights_only=True)
    assert len(saved["carried_state"]) == 1


def test_another_number_of_ranks_starts_from_zeros_and_is_told(tmp_path):
    on_ranks(fit_on_ranks, tmp_path)
    watch = Watch()
    with pytest.warns(UserWarning, match="the states that 2 ranks carried, and 1 go on"):
        fit(
            new(SequenceClassifier, optimizer=adam),
            InChunks(Few(batch_size=2), CHUNK),
            watch,
            ckpt_path=tmp_path / "4.ckpt",
        )
    assert not watch.batches[0].starts
    assert copied(watch.starts[0]) is None


def test_who_only_evaluates_it_is_not_told(tmp_path):
    model = fit(new(SequenceClassifier), InChunks(Few(), CHUNK), SaveAfter(tmp_path, [2]))
    saved = torch.load(tmp_path / "2.ckpt", weights_only=True)
    saved["carried_state"] *= 2
    torch.save(saved, tmp_path / "two.ckpt")
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        trainer.test(model, InChunks(Few(), CHUNK), ckpt_path=tmp_path / "two.ckpt", verbose=False)
    assert not [each for each in told if "carried" in str(each.message)]
