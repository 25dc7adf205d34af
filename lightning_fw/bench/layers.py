"""``python -m lightning_fw.bench.layers``: what recurrent layers cost beside torch's RNN."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from lightning_fw.command_line.arguments import positive
from lightning_fw.nn.equilibrium_rnn import EquilibriumRNN
from lightning_fw.nn.fast_grnn import FastGRNN
from lightning_fw.nn.fast_rnn import FastRNN
from lightning_fw.nn.indrnn import IndRNN
from lightning_fw.nn.indrnn_stack import IndRNNStack
from lightning_fw.nn.sbo_rnn import SBORNN

_REFERENCE = "torch RNN, tanh"

LAYERS: dict[str, Callable[..., nn.Module]] = {
    _REFERENCE: nn.RNN,
    "torch RNN, relu": partial(nn.RNN, nonlinearity="relu"),
    "IndRNN": IndRNN,
    "IndRNNStack, 6 layers": IndRNNStack,
    "torch RNN, tanh, 6 layers": partial(nn.RNN, num_layers=6),
    "FastRNN": FastRNN,
    "FastGRNN": FastGRNN,
    "SBORNN, gradient, diagonal": SBORNN,
    "SBORNN, heavy-ball, diagonal": partial(SBORNN, descent="heavy-ball"),
    "SBORNN, nesterov, diagonal": partial(SBORNN, descent="nesterov"),
    "SBORNN, nesterov, rank 1": partial(SBORNN, descent="nesterov", rank_hh=1),
    "EquilibriumRNN, 1 step": partial(EquilibriumRNN, steps=1),
    "EquilibriumRNN, 5 steps": EquilibriumRNN,
}


class Cost(NamedTuple):
    """Median seconds of a layer's passes over one batch, and of both together."""

    forward: float
    backward: float
    both: float


def measure(layers: Mapping[str, nn.Module], x: torch.Tensor, rounds: int) -> dict[str, Cost]:
    """The cost of each layer on x; layers take turns, so that noise meets all of them.

    Args:
        layers: Called as torch's recurrent layers, batch first.
        x: Sequences of shape (batch, time, input_size).
        rounds: Turns of each; one more before them is not counted.
    """
    seconds: dict[str, list[Cost]] = {name: [] for name in layers}
    for _ in range(rounds + 1):
        for name, layer in layers.items():
            start = time.perf_counter()
            loss = layer(x)[0][:, -1].square().mean()
            middle = time.perf_counter()
            loss.backward()
            end = time.perf_counter()
            seconds[name].append(Cost(middle - start, end - middle, end - start))
    return {
        name: Cost(*(statistics.median(column) for column in zip(*costs[1:])))
        for name, costs in seconds.items()
    }


def main(argv: Sequence[str]) -> int:
    """Time the layers, and print a table.

    Args:
        argv: Arguments.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m lightning_fw.bench.layers")
    add = parser.add_argument
    add("--time", type=positive, default=784, help="steps of a sequence (default: 784)")
    add("--batch", type=positive, default=64, help="sequences (default: 64)")
    add("--inputs", type=positive, default=1, help="channels (default: 1)")
    add("--hidden", type=positive, default=128, help="units (default: 128)")
    add("--rounds", type=positive, default=7, help="turns (default: 7)")
    add("--threads", type=positive, default=1, help="torch threads (default: 1)")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    layers = {
        name: make(options.inputs, options.hidden, batch_first=True)
        for name, make in LAYERS.items()
    }
    x = torch.rand(options.batch, options.time, options.inputs)
    Console().print(_table(measure(layers, x, options.rounds)))
    return 0


def _table(costs: Mapping[str, Cost]) -> Table:
    table = Table(title=f"Milliseconds over one batch, medians; ratio to {_REFERENCE}")
    table.add_column("layer", no_wrap=True)
    for title in ("forward", "backward", "both", "ratio"):
        table.add_column(title, justify="right")
    for name, cost in costs.items():
        milliseconds = (f"{1e3 * seconds:.1f}" for seconds in cost)
        table.add_row(name, *milliseconds, f"{cost.both / costs[_REFERENCE].both:.2f}")
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
