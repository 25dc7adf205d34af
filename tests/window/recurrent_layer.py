"""A recurrent layer beside a bias and a head, and the windows that given gradients make."""

from __future__ import annotations

import torch
from torch import nn

from lightning_fw import InnerLoop, OpenLoop, SpectralBall
from lightning_fw.parameters import ParameterInfo

LOOP = InnerLoop(
    ball=SpectralBall(radius=0.1, oracle="svd"),
    steps=2,
    step_size=OpenLoop(),
    momentum=0.9,
    recurrent_momentum=0.6,
    nesterov=True,
    direction="displacement",
    whitening=0.8,
)
INFOS = [
    ParameterInfo("rnn.weight_ih_l0", gates=2),
    ParameterInfo("rnn.weight_hh_l0", gates=2),
    ParameterInfo("rnn.bias_ih_l0"),
    ParameterInfo("head.weight"),
]
SHAPES = [(8, 3), (8, 4), (8,), (3, 4)]


def make(dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(s, generator=generator).to(dtype)) for s in SHAPES]


def gradients(step, scale=1.0):
    generator = torch.Generator().manual_seed(100 + step)
    return [
        scale
        * torch.randn(s, generator=generator, dtype=torch.float64)
        @ torch.diag(torch.logspace(0, -1, s[-1], dtype=torch.float64))
        for s in SHAPES
    ]


def run(window, parameters, steps, start=0, missing=(), scale=1.0):
    """Directions of the windows that these steps close."""
    found = []
    for step in range(start, start + steps):
        window.drop_direction()
        for index, (p, g) in enumerate(zip(parameters, gradients(step, scale), strict=True)):
            p.grad = None if (index, step) in missing else g.to(p.dtype)
        window.step()
        if window.is_full:
            window.close()
            found.append([None if p.grad is None else p.grad.clone() for p in parameters])
    return found
