"""The hand-made gradient is torch's, on the very network that the package will train."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from .elman import gradient, initial_weights, loss, sequences
from .torch_elman import Elman


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("time", [1, 3, 20])
def test_loss_and_gradient_equal_autograd(seed: int, time: int) -> None:
    weights, batch = initial_weights(seed), sequences(seed + 100, count=7, time=time)
    model = Elman(weights)
    value = model.mean_squared_error(tuple(torch.from_numpy(part) for part in batch))
    value.backward()
    assert loss(weights, batch) == pytest.approx(value.item(), rel=1e-13)
    for name, ours in gradient(weights, batch).items():
        theirs = getattr(model, name).grad.numpy()
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-14, err_msg=name)
