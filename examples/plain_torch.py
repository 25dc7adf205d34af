"""
The window without Lightning
============================

:class:`lightning_fw.window.Window` needs no Trainer: a loop of your own, or Fabric's, drives it.
"""

import torch
from torch.nn.functional import mse_loss

from lightning_fw import InnerLoop
from lightning_fw.parameters import trainable
from lightning_fw.window import Window

torch.manual_seed(0)


class Adder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(2, 64, batch_first=True)
        self.head = torch.nn.Linear(64, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def batch(size: int = 50, length: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of two marked numbers out of a sequence."""
    numbers, marks = torch.rand(size, length), torch.zeros(size, length)
    half = length // 2
    first, second = torch.randint(half, (size, 1)), torch.randint(half, length, (size, 1))
    marks.scatter_(1, torch.cat([first, second], 1), 1.0)
    return torch.stack([numbers, marks], 2), (numbers * marks).sum(1, keepdim=True)


network = Adder()
inner_loop = InnerLoop.spectral()
outer = inner_loop.outer(network.parameters())
window = Window(inner_loop, *trainable(outer.param_groups, network))

for _ in range(150):
    while not window.is_full:
        x, y = batch()
        with window.displaced():
            loss = mse_loss(network(x), y)
            loss.backward()
        window.step(loss.detach())
    record = window.close()  # the direction is in p.grad now
    outer.step()

x, y = batch(1000)
with torch.no_grad():
    error = mse_loss(network(x), y)
print(f"after {window.restart} windows: error {error:.4f}, radius {record.radius:.4f}")
assert error < 0.05, "predicting 1 has the error 1/6"
