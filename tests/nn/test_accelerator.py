"""The cells on an accelerator."""

from __future__ import annotations

from typing import get_args

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lightning_fw.nn import FrankWolfeRegressor
from lightning_fw.nn.cells import Cell
from tests.accelerator import NEEDS_CUDA

pytestmark = NEEDS_CUDA


def trained(cell: str, accelerator: str) -> dict[str, torch.Tensor]:
    L.seed_everything(0, verbose=False)
    x = torch.rand(40, 10, 2).double()
    model = FrankWolfeRegressor(cell, input_size=2, output_size=1, hidden_size=8).double()
    trainer = L.Trainer(
        max_epochs=1,
        accelerator=accelerator,
        precision="64-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches = DataLoader(TensorDataset(x, x[:, :, 0].mean(1, keepdim=True)), batch_size=4)
    trainer.fit(model, batches, batches)
    return {name: p.detach().cpu() for name, p in model.named_parameters()}


@pytest.mark.parametrize("cell", get_args(Cell))
def test_every_cell_trains_as_on_the_cpu(cell):
    found, expected = trained(cell, "gpu"), trained(cell, "cpu")
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-5, atol=1e-7, msg=name)
