"""Recurrent layers by name: torch's own, and those of this folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from torch import nn

from lightning_fw.checks import require_choice, require_count, require_flag, require_share
from lightning_fw.nn.equilibrium_rnn import EquilibriumRNN
from lightning_fw.nn.fast_grnn import FastGRNN
from lightning_fw.nn.fast_rnn import FastRNN
from lightning_fw.nn.indrnn import IndRNN
from lightning_fw.nn.indrnn_stack import IndRNNStack
from lightning_fw.nn.initialization import chrono_, irnn_
from lightning_fw.nn.sbo_rnn import SBORNN

NewCell = Literal["irnn", "indrnn", "indrnn-stack", "fastrnn", "fastgrnn", "sbo-rnn", "equilibrium"]
Cell = Literal["rnn", "lstm", "gru", NewCell]

CELLS: dict[Cell, str] = {
    "rnn": "torch.nn.RNN, tanh",
    "lstm": "torch.nn.LSTM",
    "gru": "torch.nn.GRU",
    "irnn": "torch.nn.RNN with ReLU, recurrent weights begin at the identity",
    "indrnn": "each unit sees itself alone; its recurrent weight stays in a bound",
    "indrnn-stack": "six such layers with batch norm and dropout",
    "fastrnn": "a residual step of two learned weights",
    "fastgrnn": "the same with a gate, both of one matrix",
    "sbo-rnn": "the state makes gradient steps toward what the input asks for",
    "equilibrium": "the state goes toward an equilibrium by Euler steps (iRNN)",
}

_TITLES = {
    "indrnn": "IndRNN",
    "indrnn-stack": "IndRNN stack",
    "fastrnn": "FastRNN",
    "fastgrnn": "FastGRNN",
    "equilibrium": "iRNN",
}


def cell_title(cell: str) -> str:
    """The cell's name in titles, as its authors write it."""
    return _TITLES.get(cell, cell.upper())


def _irnn(*sizes: int, **settings: Any) -> nn.RNN:
    """A ReLU network with the initial weights of an IRNN."""
    rnn = nn.RNN(*sizes, nonlinearity="relu", **settings)
    irnn_(rnn)
    return rnn


_TORCHS: dict[str, Callable[..., nn.Module]] = {
    "rnn": nn.RNN,
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "irnn": _irnn,
}
_SINGLE: dict[str, Callable[..., nn.Module]] = {
    "indrnn": IndRNN,
    "fastrnn": FastRNN,
    "fastgrnn": FastGRNN,
    "sbo-rnn": SBORNN,
    "equilibrium": EquilibriumRNN,
}
_STACK = "indrnn-stack"
_GATED = ("lstm", "gru")


def make_cell(
    cell: Cell,
    input_size: int,
    hidden_size: int,
    *,
    num_layers: int | None = None,
    bidirectional: bool = False,
    dropout: float = 0.0,
    chrono: int | None = None,
) -> nn.Module:
    """A recurrent layer, or several, that reads (batch, time, input_size).

    Args:
        cell: ``"rnn"`` (tanh), ``"lstm"`` or ``"gru"``, as torch has them; ``"irnn"``, a ReLU
            network initialized by :func:`irnn_`; ``"indrnn"``, ``"indrnn-stack"``, ``"fastrnn"``,
            ``"fastgrnn"``, ``"sbo-rnn"`` or ``"equilibrium"``, the layers of this folder with
            their default settings.
        input_size: Channels of a sequence.
        hidden_size: Units of a layer and direction.
        num_layers: Layers, one on the other, of torch's cells, ``"irnn"`` and ``"indrnn-stack"``;
            None: 6 in ``"indrnn-stack"``, 1 in the others.
        bidirectional: Whether torch's cells and ``"irnn"`` read in both directions.
        dropout: Probability that a unit is dropped between two layers; in ``"indrnn-stack"`` after
            the last one too.
        chrono: Time steps over which the gates of ``"lstm"`` and ``"gru"`` begin to remember, by
            :func:`chrono_`; None: as torch initializes them.

    Raises:
        TypeError: If a number is of the wrong kind, or ``bidirectional`` not a bool.
        ValueError: If ``cell`` is unknown or does not take a setting, or a number is out of range.

    Example:
        >>> import torch
        >>> output, _ = make_cell("gru", 2, 8, num_layers=2)(torch.zeros(4, 20, 2))
        >>> tuple(output.shape)
        (4, 20, 8)
    """
    require_choice("cell", cell, get_args(Cell))
    require_count("input_size", input_size)
    require_count("hidden_size", hidden_size)
    require_share("dropout", dropout)
    require_flag("bidirectional", bidirectional)
    if num_layers is not None:
        require_count("num_layers", num_layers)
    layers = usual_layers(cell) if num_layers is None else num_layers
    _require_taken(cell, layers, bidirectional=bidirectional, chrono=chrono)
    if cell in _SINGLE:
        return _SINGLE[cell](input_size, hidden_size, batch_first=True)
    if cell == _STACK:
        return IndRNNStack(
            input_size, hidden_size, num_layers=layers, dropout=dropout, batch_first=True
        )
    made = _TORCHS[cell](
        input_size,
        hidden_size,
        num_layers=layers,
        bidirectional=bidirectional,
        # torch warns of a dropout that has no second layer to stand in front of.
        dropout=dropout if layers > 1 else 0.0,
        batch_first=True,
    )
    if chrono is not None:
        chrono_(made, chrono)
    return made


def _require_taken(cell: Cell, layers: int, *, bidirectional: bool, chrono: int | None) -> None:
    if chrono is not None:
        require_count("chrono", chrono, least=3)
    if chrono is not None and cell not in _GATED:
        raise ValueError(
            f'`chrono` must be None with cell="{cell}", got {chrono}: it has no gate that keeps a '
            f"state. Pass one of {', '.join(map(repr, _GATED))} as the cell."
        )
    if bidirectional and cell not in _TORCHS:
        raise ValueError(
            f'`bidirectional` must be False with cell="{cell}", got True: it reads in one '
            f"direction. Pass one of {', '.join(map(repr, _TORCHS))} as the cell."
        )
    if layers != 1 and cell in _SINGLE:
        raise ValueError(
            f'`num_layers` must be 1 with cell="{cell}", got {layers}: it is one layer. '
            f"Pass one of {', '.join(map(repr, (*_TORCHS, _STACK)))} as the cell."
        )


def usual_layers(cell: str) -> int:
    """The layers of a cell for which no number is given."""
    return 6 if cell == _STACK else 1


def drops_out_at_its_end(cell: Cell) -> bool:
    """Whether the cell's own dropout follows its last layer."""
    return cell == _STACK
