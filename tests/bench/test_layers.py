"""What the layers cost beside torch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_fw.bench.layers import LAYERS, main, measure


def test_every_layer_has_a_row(capsys):
    threads = torch.get_num_threads()
    try:
        assert main(["--time", "3", "--batch", "2", "--hidden", "4", "--rounds", "1"]) == 0
    finally:
        torch.set_num_threads(threads)
    told = capsys.readouterr().out
    assert all(f" {name} " in told for name in LAYERS)


def test_the_layers_take_turns():
    turns = []

    class Noted(nn.RNN):
        def forward(self, x, hx=None):
            turns.append(self.hidden_size)
            return super().forward(x, hx)

    layers = {"a": Noted(2, 3, batch_first=True), "b": Noted(2, 4, batch_first=True)}
    costs = measure(layers, torch.rand(2, 5, 2), rounds=2)
    assert turns == [3, 4, 3, 4, 3, 4]
    assert set(costs) == {"a", "b"}
    assert all(cost.forward > 0 and cost.backward > 0 for cost in costs.values())


def test_no_rounds_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--rounds", "0"])
    assert "must be a whole number >= 1, got 0" in capsys.readouterr().err
