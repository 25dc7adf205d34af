"""How near the rotation by products is where gradients of a layer leave most units alike."""

from __future__ import annotations

import pytest
import torch

from lightning_fw.balls._polar import polar_newton_schulz
from lightning_fw.data import AddingProblem, SequentialDigits
from lightning_fw.nn import SequenceClassifier, SequenceRegressor
from lightning_fw.window.whitening import _cholesky

GATES, UNITS, STEPS, BETA, MEMORY = 4, 128, 30, 0.9, 0.95


def polar(matrices):
    u, _, vh = torch.linalg.svd(matrices)
    return u @ vh


def distances(model, data):
    """∣U L⁻¹ m − its exact value∣ over the latter's length, of each step of Adam."""
    covariance = torch.zeros(GATES, UNITS, UNITS, dtype=torch.float64)
    average, found = 0.0, []
    optimizer = model.configure_optimizers()
    for _, batch in zip(range(STEPS), data.train_dataloader(), strict=False):
        optimizer.zero_grad()
        model.loss(batch).backward()
        optimizer.step()
        weights = (model.rnn.weight_ih_l0, model.rnn.weight_hh_l0)
        gradient = torch.cat([w.grad.double().reshape(GATES, UNITS, -1) for w in weights], dim=-1)
        covariance = MEMORY * covariance + (1 - MEMORY) * gradient @ gradient.mT
        average = BETA * average + (1 - BETA) * gradient
        factors = _cholesky(covariance)
        solved = torch.linalg.solve_triangular(factors, average, upper=False)
        exact = polar(factors) @ solved
        ours = polar_newton_schulz(factors.float()).double() @ solved
        found.append(((ours - exact).norm() / exact.norm()).item())
    return found


@pytest.mark.parametrize("inputs", [1, 2, 8])
def test_products_find_the_white_average_to_a_quarter(inputs):
    torch.manual_seed(0)
    if inputs == 2:
        data = AddingProblem(100, train_size=50 * STEPS)
        model = SequenceRegressor("lstm", input_size=2, output_size=1)
    else:
        data = SequentialDigits("pixel" if inputs == 1 else "row")
        model = SequenceClassifier("lstm", input_size=inputs, output_size=10)
    assert max(distances(model, data)) < 0.25
