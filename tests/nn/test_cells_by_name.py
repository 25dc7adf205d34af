"""The benchmark's network with each of the layers, trained by Frank-Wolfe."""

from __future__ import annotations

from typing import get_args

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lightning_fw.nn import FrankWolfeRegressor, SequenceRegressor
from lightning_fw.nn.cells import Cell, NewCell, cell_title

SIZES = {"input_size": 2, "output_size": 1, "hidden_size": 8}


@pytest.mark.parametrize("cell", get_args(NewCell))
def test_the_answer_is_the_head_on_the_last_output(cell):
    model = SequenceRegressor(cell, **SIZES).eval()
    x = torch.randn(4, 7, 2)
    output, _ = model.rnn(x)
    torch.testing.assert_close(model(x), model.head(output[:, -1]))


def test_an_irnn_starts_at_the_identity():
    rnn = SequenceRegressor("irnn", **SIZES).rnn
    assert rnn.nonlinearity == "relu"
    torch.testing.assert_close(rnn.weight_hh_l0, torch.eye(8), rtol=0, atol=0)


def test_titles_are_as_their_authors_write_them():
    assert {cell: cell_title(cell) for cell in get_args(Cell)} == {
        "rnn": "RNN",
        "lstm": "LSTM",
        "gru": "GRU",
        "irnn": "IRNN",
        "indrnn": "IndRNN",
        "indrnn-stack": "IndRNN stack",
        "fastrnn": "FastRNN",
        "fastgrnn": "FastGRNN",
        "sbo-rnn": "SBO-RNN",
        "equilibrium": "iRNN",
    }


@pytest.mark.parametrize("cell", get_args(Cell))
def test_no_channels_are_refused(cell):
    with pytest.raises(ValueError, match="`input_size` must be at least 1, got 0"):
        SequenceRegressor(cell, **{**SIZES, "input_size": 0})


@pytest.mark.parametrize("cell", get_args(NewCell))
def test_frank_wolfe_trains_it(cell):
    L.seed_everything(0, verbose=False)
    x = torch.rand(64, 10, 2)
    y = x[:, :, 0].mean(1, keepdim=True)
    model = FrankWolfeRegressor(cell, **SIZES)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    first = model.metric((x, y))
    trainer = L.Trainer(
        max_epochs=8,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches = DataLoader(TensorDataset(x, y), batch_size=8)
    trainer.fit(model, batches, batches)
    assert model.train().metric((x, y)) < 0.5 * first
    for name, parameter in model.named_parameters():
        assert parameter.isfinite().all()
        assert not torch.equal(parameter, before[name]), name
