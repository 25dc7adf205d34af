"""Trainer.predict with the networks, on their data and on sequences alone."""

from __future__ import annotations

import lightning as L
import torch

from lightning_fw.data import AddingProblem, TextData
from lightning_fw.nn import LanguageModel, SequenceRegressor
from tests.nn.test_networks import QUIET


def test_predictions_are_those_of_the_test_part():
    data = AddingProblem(6, train_size=4, val_size=4, test_size=7, batch_size=4)
    model = SequenceRegressor(input_size=2, output_size=1, hidden_size=3)
    trainer = L.Trainer(**QUIET)
    found = torch.cat(trainer.predict(model, data))
    x, _ = data.split("test").tensors
    torch.testing.assert_close(found, model.eval()(x))
    alone = trainer.predict(model, torch.utils.data.DataLoader(x, batch_size=7))
    torch.testing.assert_close(alone[0], found)


def test_predictions_outside_of_a_trainer_start_from_zeros(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("abcdefgh" * 50)
    data = TextData(text, level="character", batch_size=1, chunk_length=5)
    model = LanguageModel(input_size=9, output_size=9, hidden_size=3).eval()
    batch = next(iter(data.test_dataloader()))
    before = model.predict_step(batch, 0)
    L.Trainer(**QUIET).predict(model, data)
    assert torch.equal(model.eval().predict_step(batch, 0), before)


def test_predictions_of_a_text_go_on_from_batch_to_batch(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("abcdefgh" * 50)
    data = TextData(text, level="character", batch_size=1, chunk_length=5)
    model = LanguageModel(input_size=9, output_size=9, hidden_size=3)
    found = torch.cat(L.Trainer(**QUIET).predict(model, data), dim=1)
    tokens = data.tokens("test")[: found.shape[1]]
    torch.testing.assert_close(found, model.eval()(tokens[None]))
