"""The blocks for four GPUs run as well, with what they name there: on two processes of CPUs."""

from __future__ import annotations

import runpy
import warnings
from pathlib import Path

import pytest

from ..ranks import on_ranks
from ..several_ranks.sharded_fits import NEEDS_FSDP2_ON_CPUS
from .run_page import blocks

PAGE = Path(__file__).parents[2] / "docs" / "several-ranks.md"

BEFORE = """
import lightning as L
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.utils.data import DataLoader

from lightning_fw import FrankWolfeMixin, InnerLoop, L2Ball


class Tagger(FrankWolfeMixin, L.LightningModule):
    pass
"""

# Tagger is by now the page's own, where the page has one.
TRAINED = """
class Trained(Tagger):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(2, 1)

    def configure_frank_wolfe(self):
        return InnerLoop(ball=L2Ball(radius=0.01), steps=2)

    def training_step(self, batch, batch_idx):
        return self.net(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)

    def train_dataloader(self):
        return DataLoader(torch.ones(40, 2), batch_size=5)
"""


def script(named: str) -> str:
    """The page's block that names this, for CPUs, after a module and before its fit."""
    (code,) = [block.code for block in blocks(PAGE.read_text()) if named in block.code]
    for told, here in (('accelerator="gpu"', 'accelerator="cpu", max_epochs=2'), ("=4", "=2")):
        assert told in code, f"{told} is gone from the block with {named}"
        code = code.replace(told, here)
    fit = "trainer.fit(Tagger()"
    before, found, after = code.partition(fit)
    trains = f"trainer.fit(Trained(){after}" if found else "trainer.fit(Trained())\n"
    return f"{BEFORE}{before}{TRAINED}{trains}"


def steps_of(path: Path) -> int:
    # pytest makes errors of warnings; a user's programs warn.
    warnings.resetwarnings()
    steps: int = runpy.run_path(str(path), run_name="__main__")["trainer"].global_step
    return steps


@pytest.mark.parametrize(
    "named", ["DDPStrategy", pytest.param("ModelParallelStrategy", marks=NEEDS_FSDP2_ON_CPUS)]
)
def test_a_block_for_four_gpus_trains_on_two_processes(named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "train.py"
    path.write_text(script(named))
    # Two epochs of four batches a rank, two a window.
    assert on_ranks(steps_of, path, limit=100) == [4, 4]
