"""Outer optimizers with torch's meaning of every argument, one learning rate a parameter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from .elman import Weights

Rates = dict[str, float]


class Outer(Protocol):
    """Moves the weights along a direction that plays the gradient's part."""

    def step(self, weights: Weights, grads: Weights) -> Weights: ...


@dataclass
class SGD:
    """g ← g + λw;  b ← μb + g (b = g at first);  w ← w − lr·b, or lr·(g + μb) with Nesterov."""

    rates: Rates
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    buffers: Weights = field(default_factory=dict)

    def step(self, weights: Weights, grads: Weights) -> Weights:
        """The weights after one step."""
        moved = {}
        for name, w in weights.items():
            g = grads[name] + self.weight_decay * w
            old = self.buffers.get(name)
            buffer = g if old is None else self.momentum * old + g
            self.buffers[name] = buffer
            way = g + self.momentum * buffer if self.nesterov else buffer
            moved[name] = w - self.rates[name] * (way if self.momentum else g)
        return moved


@dataclass
class Adam:
    """m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²;  w ← w − lr · m̂ / (√v̂ + ε).

    Weight decay is L2: g ← g + λw before the moments. With `decoupled` it is AdamW's:
    w ← w − lr·λ·w before the step, and the moments see g alone.
    """

    rates: Rates
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled: bool = False
    count: int = 0
    first: Weights = field(default_factory=dict)
    second: Weights = field(default_factory=dict)

    def step(self, weights: Weights, grads: Weights) -> Weights:
        """The weights after one step."""
        self.count += 1
        beta1, beta2 = self.betas
        moved = {}
        for name, w in weights.items():
            rate = self.rates[name]
            shrunk = w * (1.0 - rate * self.weight_decay) if self.decoupled else w
            g = grads[name] if self.decoupled else grads[name] + self.weight_decay * w
            m = beta1 * self.first.get(name, np.zeros_like(w)) + (1.0 - beta1) * g
            v = beta2 * self.second.get(name, np.zeros_like(w)) + (1.0 - beta2) * g**2
            self.first[name], self.second[name] = m, v
            m_hat = m / (1.0 - beta1**self.count)
            v_hat = v / (1.0 - beta2**self.count)
            moved[name] = shrunk - rate * m_hat / (np.sqrt(v_hat) + self.eps)
        return moved
