"""What the layers cost beside torch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_fw.bench import layers as bench
from lightning_fw.bench.layers import LAYERS, Cost, main, measure


def test_every_layer_has_a_row(capsys):
    threads = torch.get_num_threads()
    try:
        sizes = ("--time", "3", "--batch", "2", "--hidden", "4", "--rounds", "1")
        assert main([*sizes, "--threads", "2"]) == 0
        assert torch.get_num_threads() == 2
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


def test_medians_are_of_forward_backward_and_both_without_the_first_turn(monkeypatch):
    """A clock that the layer moves: by 1, 2 and 9 s forward, by 10, 20 and 40 s backward."""
    clock, forward, backward = 0.0, iter([500.0, 1, 2, 9]), iter([500.0, 10, 20, 40])
    monkeypatch.setattr(bench.time, "perf_counter", lambda: clock)

    def goes_on(gradient):
        nonlocal clock
        clock += next(backward)

    class Slow(nn.RNN):
        def forward(self, x, hx=None):
            nonlocal clock
            clock += next(forward)
            output, last = super().forward(x, hx)
            output.register_hook(goes_on)
            return output, last

    costs = measure({"slow": Slow(2, 3, batch_first=True)}, torch.rand(2, 5, 2), rounds=3)
    assert costs == {"slow": Cost(2, 20, 22)}


def test_milliseconds_stand_beside_their_ratio_to_the_first_layer():
    costs = {next(iter(LAYERS)): Cost(0.001, 0.003, 0.004), "slow": Cost(0.0015, 0.0085, 0.01)}
    table = bench._table(costs)
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    headings = [column.header for column in table.columns]
    assert headings == ["layer", "forward", "backward", "both", "ratio"]
    assert [row[1:] for row in rows] == [
        ("1.0", "3.0", "4.0", "1.00"),
        ("1.5", "8.5", "10.0", "2.50"),
    ]


def test_no_rounds_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--rounds", "0"])
    assert "must be a whole number >= 1, got 0" in capsys.readouterr().err
