"""A language model reads a text on: its state is carried, in training and in evaluation."""

from __future__ import annotations

import lightning as L
import pytest
import torch

from lightning_fw.data import TextData
from lightning_fw.nn import FrankWolfeLanguageModel, LanguageModel
from tests.nn.chunked import Watch, assert_same_weights, fit
from tests.nn.test_networks import QUIET


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat\nand the dog lay on the cat\n" * 12)
    return TextData(path, batch_size=3, chunk_length=5, val=path)


def test_a_language_model_carries_its_state_through_an_epoch(text):
    watch = Watch()
    size = text.input_size
    model = LanguageModel("lstm", num_layers=2, input_size=size, output_size=size, hidden_size=4)
    fit(model, text, watch)
    chunks = len(text.train_dataloader())
    assert [index for index, start in enumerate(watch.starts) if start is None] == [0, chunks]
    for index in (1, chunks - 1, chunks + 1):
        assert torch.equal(watch.starts[index], watch.ends[index - 1])


def test_a_language_models_validation_has_a_state_of_its_own(text):
    sizes = {"input_size": text.input_size, "output_size": text.input_size, "hidden_size": 4}
    models, told = [], []
    for settings in ({}, {"limit_val_batches": 1.0, "val_check_interval": 4}):
        torch.manual_seed(0)
        models.append(fit(LanguageModel("gru", **sizes), text, **settings))
    assert_same_weights(*models)
    for model in models:
        trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
        told.append(trainer.validate(model, text, verbose=False)[0]["val_loss"])
        trainer.test(model, text, verbose=False)
    rows = (torch.cat(parts, dim=1) for parts in zip(*text.val_dataloader(), strict=True))
    assert told == pytest.approx([models[0].metric(tuple(rows))] * 2, rel=1e-5)


def test_each_evaluation_of_a_language_model_starts_from_zeros(text):
    watch, size = Watch(), text.input_size
    model = LanguageModel("gru", input_size=size, output_size=size, hidden_size=4)
    fit(model, text, watch, limit_train_batches=1, limit_val_batches=2, num_sanity_val_steps=1)
    # The sanity check, then in each epoch a batch of training and two of validation.
    assert [start is None for start in watch.starts] == [True, *[True, True, False] * 2]


@pytest.mark.parametrize("network", [LanguageModel, FrankWolfeLanguageModel])
def test_one_that_was_validated_can_be_trained(network, text):
    size = text.input_size
    model = network("gru", input_size=size, output_size=size, hidden_size=4)
    L.Trainer(**QUIET).validate(model, text, verbose=False)
    trainer = L.Trainer(**QUIET, max_epochs=1, limit_val_batches=2)
    trainer.fit(model, text)
    fitted = trainer.callback_metrics["val_perplexity"].item()
    (again,) = L.Trainer(**QUIET, limit_val_batches=2).validate(model, text, verbose=False)
    assert again["val_perplexity"] == pytest.approx(fitted)
