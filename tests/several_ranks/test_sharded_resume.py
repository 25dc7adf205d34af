"""Checkpoints of weights in parts (FSDP2): in parts or in one file, for as many ranks or one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from lightning_fw import InnerLoop, L2Ball, SlopeRatio, SpectralBall
from tests.manual.interrupted import Batches, SaveAfter
from tests.ranks import on_ranks
from tests.several_ranks.sharded_fits import NEEDS_FSDP2_ON_CPUS, Sharded, make_trainer, weights

pytestmark = NEEDS_FSDP2_ON_CPUS

MOMENTUM = InnerLoop(
    ball=SpectralBall(radius=0.05),
    steps=3,
    momentum=0.9,
    radius_rule=SlopeRatio(),
    direction="displacement",
)
HELD = InnerLoop(ball=L2Ball(radius=0.05), steps=3, accumulate_grad_batches=2)
LOOPS = {"momentum": MOMENTUM, "held": HELD}
POSITIONS = [1, 3, 4]


class Loader(Batches):
    """The batches of a loader, with their position."""

    def __init__(self, loader: DataLoader) -> None:
        self.batches = list(loader)
        self.position = 0


class Resumable(Sharded):
    def train_dataloader(self) -> Loader:
        return Loader(super().train_dataloader())

    def weights(self) -> torch.Tensor:
        return weights(self)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0, momentum=0.5, nesterov=True)


def fit(loop: InnerLoop, *callbacks: Any, ckpt_path: Path | None = None, **settings: Any) -> Any:
    module = Resumable(loop)
    make_trainer(callbacks=list(callbacks), **settings).fit(module, ckpt_path=ckpt_path)
    return weights(module), module.records


def interrupted_and_not(folder: Path, loop: str, in_parts: bool) -> list[Any]:
    settings = {"distributed_checkpoint": in_parts}
    straight = fit(LOOPS[loop], SaveAfter(folder, POSITIONS), **settings)
    paths = [folder / f"{position}.ckpt" for position in POSITIONS]
    return [straight, *(fit(LOOPS[loop], ckpt_path=path, **settings) for path in paths)]


@pytest.mark.parametrize(
    ("loop", "in_parts"), [("momentum", True), ("momentum", False), ("held", True)]
)
def test_a_fit_goes_on_as_if_it_had_not_been_interrupted(loop, in_parts, tmp_path):
    (straight, *resumed), _ = on_ranks(interrupted_and_not, tmp_path, loop, in_parts)
    for end, records in resumed:
        torch.testing.assert_close(end, straight[0], rtol=1e-12, atol=1e-14)
        for key in ("radius", "gap_first", "cosine", "ball_usage"):
            mine = [record[key] for record in records]
            assert mine == pytest.approx(
                [record[key] for record in straight[1]][-len(mine) :], rel=1e-9, nan_ok=True
            )
    if not in_parts:
        alone, _ = fit(LOOPS[loop], ckpt_path=tmp_path / "3.ckpt")
        torch.testing.assert_close(alone, straight[0], rtol=1e-8, atol=1e-9)


class LooksBack(Resumable):
    """Asks for the anchor within training_step, where FSDP2 has gathered weights that moved."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        with self.frank_wolfe.at_anchor():
            return loss


class SavesWithin(Resumable):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        if batch_idx == 1:
            self.trainer.save_checkpoint(Path(self.trainer.default_root_dir, "within.ckpt"))
        return loss


def refusal(kind: type[Resumable], folder: Path) -> str:
    with pytest.raises(RuntimeError) as error:
        make_trainer(default_root_dir=folder).fit(kind(MOMENTUM))
    return str(error.value)


@pytest.mark.parametrize(
    ("kind", "what"), [(LooksBack, "be at the anchor"), (SavesWithin, "save a checkpoint")]
)
def test_displaced_weights_in_parts_are_not_shown_within_a_step(kind, what, tmp_path):
    for message in on_ranks(refusal, kind, tmp_path):
        assert f"`training_step` cannot {what} within itself with weights in parts" in message
