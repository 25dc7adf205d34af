"""`InnerLoop.spectral()` with the exact ball against the reference, window by window, to 1e-6.

Radii are kept in float32, so that no more digits agree. Seven batches an epoch cut its last window
down to one step, which leaves radii as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader

from lightning_fw import FrankWolfeMixin, InnerLoop
from lightning_fw.balls._polar import polar_svd
from lightning_fw.nn import IndRNN
from lightning_fw.window import whitening

from .reference.elman import Weights
from .reference.preset import Gradients, Preset, windows

TOLERANCE = 1e-6
EPOCHS = 3
SYMBOLS = 6


class Network(nn.Module):
    """A recurrent layer, a head, and a layer that only some batches reach."""

    def __init__(self, rnn: nn.Module, features: int) -> None:
        super().__init__()
        self.rnn, self.head = rnn, nn.Linear(features, 3)
        self.sometimes = nn.Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        last = self.rnn(x[..., : self.rnn.input_size])[0][:, -1]
        return self.head(last + self.sometimes(last).tanh() if x[0, 0, 0] > 0 else last)


class Reader(nn.Module):
    """Reads symbols, one-hot or through an embedding."""

    def __init__(self, *, embedded: bool) -> None:
        super().__init__()
        self.reads_symbols = not embedded
        self.embedding = nn.Embedding(SYMBOLS, 3) if embedded else None
        self.rnn = nn.LSTM(3 if embedded else SYMBOLS, 8, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        symbols = (x[..., 0] * 3).long() % SYMBOLS
        one_hot = nn.functional.one_hot(symbols, SYMBOLS).to(x.dtype)
        read = one_hot if self.embedding is None else self.embedding(symbols)
        return self.head(self.rnn(read)[0][:, -1])


def lstm(input_size: int = 4, proj_size: int = 0) -> nn.Module:
    return nn.LSTM(input_size, 8, proj_size=proj_size, batch_first=True)


HEADS = ("head.weight", "sometimes.weight", "embedding.weight")
CASES: dict[str, tuple[Callable[[], nn.Module], Preset]] = {
    "lstm": (lambda: Network(lstm(), 8), Preset(gates=4)),
    "lstm, two values": (lambda: Network(lstm(2), 8), Preset(gates=4)),
    "lstm, three steps": (lambda: Network(lstm(), 8), Preset(gates=4, steps=3)),
    "lstm, projected": (lambda: Network(lstm(proj_size=5), 5), Preset(gates=4)),
    "gru, two layers, both directions": (
        lambda: Network(nn.GRU(4, 6, num_layers=2, bidirectional=True, batch_first=True), 12),
        Preset(gates=3),
    ),
    "rnn": (lambda: Network(nn.RNN(4, 8, batch_first=True), 8), Preset()),
    "indrnn": (lambda: Network(IndRNN(4, 8), 8), Preset(apart=("rnn.weight_ih",))),
    "symbols": (lambda: Reader(embedded=False), Preset(gates=4, symbols=("rnn.weight_ih_l0",))),
    "embedding": (lambda: Reader(embedded=True), Preset(gates=4)),
}


class Fit(FrankWolfeMixin, L.LightningModule):
    """Keeps what every window left."""

    def __init__(self, network: nn.Module, loop: InnerLoop) -> None:
        super().__init__()
        self.network, self.loop = network, loop
        self.seen: list[tuple[Weights, dict[str, float]]] = []

    def configure_frank_wolfe(self):
        return self.loop

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

    def on_restart(self, record):
        weights = {n: p.detach().numpy().copy() for n, p in self.network.named_parameters()}
        self.seen.append(
            (weights, {n.removeprefix("network."): r for n, r in record.radii.items()})
        )


def batches(count: int = 7) -> list[tuple[Tensor, Tensor]]:
    """Random sequences with random labels, as many a batch as a layer has units.

    With fewer, gradients of what reads a single step miss some directions, where whitening finds
    rounding alone, and the exact ball answers it as any other.
    """
    torch.manual_seed(4)
    x = torch.randn(count, 8, 6, 4, dtype=torch.float64)
    return list(zip(x, torch.randint(3, (count, 8)), strict=True))


def network_of(case: str) -> nn.Module:
    torch.manual_seed(0)
    return CASES[case][0]().double()


def by_package(case: str, accumulated: int = 1) -> list[tuple[Weights, dict[str, float]]]:
    loop = InnerLoop.spectral()
    loop = replace(
        loop,
        ball=replace(loop.ball, oracle="svd"),
        steps=CASES[case][1].steps,
        accumulate_grad_batches=accumulated,
    )
    module = Fit(network_of(case), loop)
    L.Trainer(
        accelerator="cpu",
        precision="64-true",
        max_epochs=EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, DataLoader(batches(), batch_size=None))
    return module.seen


def by_reference(
    case: str, accumulated: int = 1, **changes: object
) -> list[tuple[Weights, dict[str, float]]]:
    network = network_of(case)

    def gradient(pairs: list[tuple[Tensor, Tensor]]) -> Callable[[Weights], Weights]:
        def of(weights: Weights) -> Weights:
            point = {n: torch.from_numpy(w).requires_grad_() for n, w in weights.items()}
            for x, y in pairs:
                answer = functional_call(network, point, (x,))
                (nn.functional.cross_entropy(answer, y) / len(pairs)).backward()
            return {n: p.grad.numpy() for n, p in point.items() if p.grad is not None}

        return of

    data = batches()
    epoch: Gradients = [
        gradient(data[i : i + accumulated]) for i in range(0, len(data), accumulated)
    ]
    start = {n: p.detach().numpy().copy() for n, p in network.named_parameters()}
    return list(windows(start, [epoch] * EPOCHS, replace(CASES[case][1], heads=HEADS, **changes)))


def distance(ours, reference) -> float:
    """The largest difference of a weight, in units of the longest way, or relative of a radius."""
    assert len(ours) == len(reference)
    worst = 0.0
    way = max(np.abs(w - reference[0][0][name]).max() for name, w in reference[-1][0].items())
    for (weights, radii), (expected, used) in zip(ours, reference, strict=True):
        assert weights.keys() == expected.keys() == radii.keys()
        apart = max(np.abs(weights[name] - w).max() for name, w in expected.items())
        worst = max(worst, apart / way, *(abs(radii[n] / r - 1) for n, r in used.items()))
    return worst


@pytest.fixture(autouse=True)
def exact_rotations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whitening, "polar_newton_schulz", polar_svd)


@pytest.mark.parametrize("case", CASES)
def test_every_window_of_the_preset_equals_the_reference(case: str) -> None:
    assert distance(by_package(case), by_reference(case)) < TOLERANCE


@pytest.mark.parametrize("case", ["lstm", "indrnn"])
def test_windows_of_accumulated_gradients_equal_the_reference(case: str) -> None:
    assert distance(by_package(case, 2), by_reference(case, 2)) < TOLERANCE


@pytest.mark.parametrize(
    "change",
    [
        {"share": 0.3},
        {"momentum": 0.8},
        {"recurrent_momentum": 0.9},
        {"early_rate": 0.2},
        {"gate_radius": 2.0},
        {"input_radius": 10.0},
        {"input_power": 0.5},
        {"vector_radius": 0.2},
        {"memory": 0.9},
        {"ridge": 1e-6},
        {"symbols": ("rnn.weight_ih_l0",)},
    ],
)
def test_the_tolerance_separates_the_numbers(change: dict[str, object]) -> None:
    assert distance(by_reference("lstm", **change), by_reference("lstm")) > 100 * TOLERANCE


@pytest.mark.parametrize(
    ("case", "change"),
    [("lstm, two values", {"input_limit": 2.5}), ("symbols", {"symbol_radius": 2.0})],
)
def test_the_tolerance_separates_radii_of_narrow_inputs(
    case: str, change: dict[str, object]
) -> None:
    assert distance(by_reference(case, **change), by_reference(case)) > 100 * TOLERANCE
