"""An Elman network with mean squared error, and its gradient by hand.

    h_0 = 0,   h_t = tanh(W_ih x_t + W_hh h_{t−1} + b),   ŷ = W_ho h_T + c
    loss = mean over batch and outputs of (ŷ − y)²

Back-propagation through time: δ_T = (2 (ŷ − y) / n) W_ho ⊙ (1 − h_T²) and
δ_{t−1} = δ_t W_hh ⊙ (1 − h_{t−1}²).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = dict[str, Array]
Batch = tuple[Array, Array]

SHAPES = {"w_ih": (4, 3), "w_hh": (4, 4), "b": (4,), "w_ho": (2, 4), "c": (2,)}


def initial_weights(seed: int) -> Weights:
    """Normal weights of standard deviation 0.5, so that tanh is bent but not saturated."""
    rng = np.random.default_rng(seed)
    return {name: 0.5 * rng.standard_normal(shape) for name, shape in SHAPES.items()}


def sequences(seed: int, count: int = 41, time: int = 3) -> Batch:
    """Random inputs (count, time, 3) and targets (count, 2)."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, time, 3)), rng.standard_normal((count, 2))


def states(weights: Weights, x: Array) -> list[Array]:
    """Hidden states h_0 … h_T, each (batch, 4)."""
    hidden = [np.zeros((x.shape[0], weights["b"].shape[0]))]
    for t in range(x.shape[1]):
        recurrent = hidden[-1] @ weights["w_hh"].T
        hidden.append(np.tanh(x[:, t] @ weights["w_ih"].T + recurrent + weights["b"]))
    return hidden


def loss(weights: Weights, batch: Batch) -> float:
    """The mean squared error on one batch."""
    x, y = batch
    residual = states(weights, x)[-1] @ weights["w_ho"].T + weights["c"] - y
    return float(np.mean(residual**2))


def gradient(weights: Weights, batch: Batch) -> Weights:
    """The gradient of `loss` by back-propagation through time."""
    x, y = batch
    hidden = states(weights, x)
    residual = hidden[-1] @ weights["w_ho"].T + weights["c"] - y
    out = 2.0 * residual / residual.size
    grads = {name: np.zeros_like(value) for name, value in weights.items()}
    grads["w_ho"] = out.T @ hidden[-1]
    grads["c"] = out.sum(axis=0)
    upstream = out @ weights["w_ho"]
    for t in range(x.shape[1], 0, -1):
        delta = upstream * (1.0 - hidden[t] ** 2)
        grads["w_ih"] += delta.T @ x[:, t - 1]
        grads["w_hh"] += delta.T @ hidden[t - 1]
        grads["b"] += delta.sum(axis=0)
        upstream = delta @ weights["w_hh"]
    return grads
