"""Which weights read symbols, each a one-hot vector."""

from __future__ import annotations

from typing import get_args

import pytest
from torch import nn
from torch.nn.utils import parametrizations

from lightning_fw.nn import LanguageModel
from lightning_fw.nn.cells import Cell
from tests.balls.test_parameters import infos_of


def test_a_network_tells_that_it_reads_symbols() -> None:
    module = nn.Module()
    module.numbers = nn.GRU(3, 6)
    module.characters = LanguageModel(
        "gru", input_size=5, output_size=5, hidden_size=4, num_layers=2
    )
    module.embedded = LanguageModel("gru", input_size=5, output_size=5, embedding_size=3)
    read = {info.name for info in infos_of(module) if info.reads_symbols}
    assert read == {"characters.rnn.weight_ih_l0"}


@pytest.mark.parametrize("cell", get_args(Cell))
def test_the_first_input_weights_read_symbols_whatever_the_cell(cell: Cell) -> None:
    model = LanguageModel(cell, input_size=5, output_size=5, hidden_size=4)
    read = [info.name for info in infos_of(model) if info.reads_symbols]
    assert [name.rpartition(".")[2].removesuffix("_l0") for name in read] == ["weight_ih"]


def test_both_directions_read_symbols() -> None:
    class Tagger(nn.LSTM):
        reads_symbols = True

    module = Tagger(3, 4, num_layers=2, bidirectional=True)
    read = [info.name for info in infos_of(module) if info.reads_symbols]
    assert read == ["weight_ih_l0", "weight_ih_l0_reverse"]


def test_of_layers_one_after_the_other_the_first_reads_symbols() -> None:
    module = nn.ModuleDict({"lower": nn.GRU(3, 4), "higher": nn.GRU(4, 4)})
    module.reads_symbols = True
    read = [info.name for info in infos_of(module) if info.reads_symbols]
    assert read == ["lower.weight_ih_l0"]


def test_without_input_weights_nothing_reads_symbols() -> None:
    module = nn.Linear(3, 4)
    module.reads_symbols = True
    assert not any(info.reads_symbols for info in infos_of(module))


@pytest.mark.parametrize("layers", [("0",), ("1",), ("0", "1")])
def test_parametrized_weights_read_symbols_where_the_others_would(layers: tuple[str, ...]) -> None:
    model = LanguageModel("lstm", input_size=5, output_size=5, hidden_size=4, num_layers=2)
    for layer in layers:
        parametrizations.spectral_norm(model.rnn, f"weight_ih_l{layer}")
    (name,) = (info.name for info in infos_of(model) if info.reads_symbols)
    assert "weight_ih_l0" in name
