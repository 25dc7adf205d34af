"""Recurrent layers by name, beside torch's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import nn

from lightning_fw.nn.equilibrium_rnn import EquilibriumRNN
from lightning_fw.nn.fast_grnn import FastGRNN
from lightning_fw.nn.fast_rnn import FastRNN
from lightning_fw.nn.indrnn import IndRNN
from lightning_fw.nn.indrnn_stack import IndRNNStack
from lightning_fw.nn.initialization import irnn_
from lightning_fw.nn.sbo_rnn import SBORNN

NewCell = Literal["irnn", "indrnn", "indrnn-stack", "fastrnn", "fastgrnn", "sbo-rnn", "equilibrium"]


def _irnn(input_size: int, hidden_size: int, *, batch_first: bool = False) -> nn.RNN:
    """A ReLU network with the initial weights of an IRNN."""
    rnn = nn.RNN(input_size, hidden_size, nonlinearity="relu", batch_first=batch_first)
    irnn_(rnn)
    return rnn


# Each is called as (input_size, hidden_size, batch_first=…).
NEW_CELLS: dict[str, Callable[..., nn.Module]] = {
    "irnn": _irnn,
    "indrnn": IndRNN,
    "indrnn-stack": IndRNNStack,
    "fastrnn": FastRNN,
    "fastgrnn": FastGRNN,
    "sbo-rnn": SBORNN,
    "equilibrium": EquilibriumRNN,
}
