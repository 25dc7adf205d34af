"""The NumPy optimizers walk as torch's do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from .elman import initial_weights
from .outer import SGD, Adam, Outer

RATES = {"w_ih": 0.1, "w_hh": 0.1, "b": 0.1, "w_ho": 0.03, "c": 0.03}

PAIRS: dict[str, tuple[Callable[..., Outer], type[torch.optim.Optimizer], dict[str, object]]] = {
    "sgd": (SGD, torch.optim.SGD, {}),
    "sgd momentum": (SGD, torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    "sgd nesterov": (SGD, torch.optim.SGD, {"momentum": 0.5, "nesterov": True}),
    "adam": (Adam, torch.optim.Adam, {}),
    "adam decay": (Adam, torch.optim.Adam, {"weight_decay": 0.1, "betas": (0.8, 0.95)}),
    "adamw": (Adam, torch.optim.AdamW, {"weight_decay": 0.1}),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_thirty_steps_equal_torch(pair: str) -> None:
    ours, theirs, options = PAIRS[pair]
    extra = {"decoupled": True} if pair == "adamw" else {}
    reference = ours(rates=RATES, **options, **extra)
    weights = initial_weights(0)
    params = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in weights.items()}
    optimizer = theirs(
        [{"params": [p], "lr": RATES[name]} for name, p in params.items()], **options
    )
    rng = np.random.default_rng(1)
    for _ in range(30):
        grads = {name: rng.standard_normal(value.shape) for name, value in weights.items()}
        weights = reference.step(weights, grads)
        for name, p in params.items():
            p.grad = torch.from_numpy(grads[name])
        optimizer.step()
    for name, p in params.items():
        np.testing.assert_allclose(weights[name], p.detach().numpy(), rtol=1e-11, atol=1e-13)
