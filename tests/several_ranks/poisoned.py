"""Fits in which one rank meets NaN, and the same in one process by hand."""

from __future__ import annotations

import torch
from torch.utils.data import TensorDataset

from lightning_fw import InnerLoop
from lightning_fw.window import Window
from tests.several_ranks.joined import BATCH, BATCHES, Joined, samples

A_STEP, A_WINDOW = [1], [0, 1, 2]


class Poisoned(Joined):
    """The last of two ranks, and whoever joins its samples, meets NaN in some batches."""

    def __init__(self, inner_loop: InnerLoop, poisoned: list[int]) -> None:
        super().__init__(inner_loop)
        self.poisoned = poisoned

    def samples(self) -> TensorDataset:
        x, y, branches = samples().tensors
        i = torch.arange(len(x))
        bad = torch.isin(i // BATCH, torch.tensor(self.poisoned)) & (i % 2 == 1)
        return TensorDataset(x, y.masked_fill(bad[:, None], float("nan")), branches)


def by_hand(module: Poisoned, epochs: int = 2) -> torch.Tensor:
    """Both ranks' windows from the same anchor, and SGD along the mean of those that stepped."""
    parameters, steps = list(module.parameters()), module.inner_loop.steps
    outer = torch.optim.SGD(parameters, lr=1.0)
    windows = [Window(module.inner_loop, parameters) for _ in range(2)]
    data = module.samples()
    for start in epochs * list(range(0, BATCHES, steps)):
        directions = []
        for rank, window in enumerate(windows):
            for batch in range(start, min(start + steps, BATCHES)):
                rows = slice(batch * BATCH + rank, (batch + 1) * BATCH, 2)
                with window.displaced():
                    module.training_step(data[rows], batch).backward()
                window.step()
            if window.close().steps:
                directions.append([p.grad.clone() for p in parameters])
            module.zero_grad()
        for p, *ways in zip(parameters, *directions, strict=True):
            p.grad = sum(ways) / len(ways)
        outer.step()
    return module.weights()
