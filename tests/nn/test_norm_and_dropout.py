"""Where a network has layer norm and dropout."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_fw.nn import SequenceRegressor

SIZES = {"input_size": 3, "output_size": 2, "hidden_size": 5}


def test_layer_norm_stands_in_front_of_the_head():
    model = SequenceRegressor("gru", layer_norm=True, **SIZES)
    nn.init.normal_(model.norm.weight)
    nn.init.normal_(model.norm.bias)
    x = torch.randn(4, 7, 3)
    state = model.rnn(x)[0][:, -1]
    normal = (state - state.mean(-1, keepdim=True)) / state.std(-1, correction=0, keepdim=True)
    expected = model.head(normal * model.norm.weight + model.norm.bias)
    torch.testing.assert_close(model(x), expected, rtol=1e-3, atol=1e-4)


def test_dropout_stands_between_layers_and_in_front_of_the_head():
    model = SequenceRegressor("gru", num_layers=2, dropout=0.5, **SIZES)
    assert model.rnn.dropout == 0.5
    seen = []
    model.head.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    x = torch.randn(2000, 2, 3)
    model(x)
    assert (seen[0] == 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
    model.eval()
    assert torch.equal(model(x), model(x))
    assert SequenceRegressor("gru", dropout=0.5, **SIZES).rnn.dropout == 0


def test_dropout_comes_after_layer_norm():
    model = SequenceRegressor("gru", dropout=0.5, layer_norm=True, **SIZES)
    seen = []
    model.head.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    model(torch.randn(2000, 2, 3))
    assert (seen[0] == 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
