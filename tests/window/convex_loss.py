"""Parameters, a convex loss of theirs, and steps of a window on it."""

from __future__ import annotations

import torch
from torch import nn

from lightning_fw import (
    L1Ball,
    L2Ball,
    LinfBall,
    LpBall,
    NuclearBall,
    RMSBall,
    RowBall,
    SpectralBall,
)
from lightning_fw.window import Window

BALLS = [
    L1Ball(radius=0.1),
    L2Ball(radius=0.1),
    L2Ball(radius=0.1, scope="global"),
    RMSBall(radius=0.1),
    LinfBall(radius=0.1),
    LpBall(3.0, radius=0.1),
    SpectralBall(radius=0.1),
    RowBall(radius=0.1),
    NuclearBall(radius=0.1),
]


def make_parameters(dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 3), (4,), (2, 4)]
    return [nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for s in shapes]


def distance_to(parameters: list[nn.Parameter], target: float, scale: float = 1.0) -> torch.Tensor:
    """A convex loss whose gradient depends on where the weights stand."""
    losses = [(p - target).pow(2).sum() + (p - target).cosh().sum() for p in parameters]
    return scale * torch.stack(losses).sum()


def take_steps(window: Window, parameters: list[nn.Parameter], steps: int, scale: float = 1.0):
    for _ in range(steps):
        with window.displaced():
            loss = distance_to(parameters, 0.5, scale)
            loss.backward()
        window.step(loss)


def copies(parameters: list[nn.Parameter]) -> list[torch.Tensor]:
    return [p.detach().clone() for p in parameters]


def all_equal(left, right) -> bool:
    return all(torch.equal(x, y) for x, y in zip(left, right, strict=True))
