"""A job as a user starts it: two fits that end, and one that loses its last rank in mid-window.

python -m tests.several_ranks.job FOLDER NODES DEVICES
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy

from tests.several_ranks.joined import Joined, loop

SYNCS = ("step", "restart")
# Three windows an epoch; the rank is lost in the second one of the second epoch.
STEPS_BEFORE = 4


class Mortal(Joined):
    """Its last rank is killed, as the kernel does it where memory runs out."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        is_first_start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
        is_last_rank = self.global_rank == self.trainer.world_size - 1
        if is_first_start and is_last_rank and (self.trainer.current_epoch, batch_idx) == (1, 4):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(batch, batch_idx)


def trainer(nodes: int, devices: int, **settings: Any) -> L.Trainer:
    return L.Trainer(
        **{
            "accelerator": "cpu",
            "num_nodes": nodes,
            "devices": devices,
            # Half an hour by default, in which the others would wait for a rank that hangs.
            "strategy": DDPStrategy(timeout=timedelta(seconds=20)),
            "max_epochs": 2,
            "precision": "64-true",
            "use_distributed_sampler": False,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            **settings,
        }
    )


def undisturbed(sync: str, nodes: int, devices: int, **settings: Any) -> torch.Tensor:
    module = Joined(loop(sync=sync))
    trainer(nodes, devices, **settings).fit(module)
    return module.weights()


def resumed(file: Path, sync: str, ranks: int) -> tuple[int, torch.Tensor]:
    module, mine = Joined(loop(sync=sync)), trainer(1, ranks)
    mine.fit(module, ckpt_path=file)
    return mine.global_step, module.weights()


def main(folder: Path, nodes: int, devices: int) -> None:
    for sync in SYNCS:
        weights = undisturbed(sync, nodes, devices)
        torch.save(weights, folder / f"{sync}-{torch.distributed.get_rank()}.pt")
    save = ModelCheckpoint(folder, every_n_train_steps=1, save_last=True, save_top_k=0)
    last = trainer(nodes, devices, callbacks=[save], enable_checkpointing=True)
    module = Mortal(loop(sync="restart"))
    last.fit(module, ckpt_path="last")
    told = (last.global_step, module.weights())
    torch.save(told, folder / f"again-{last.global_rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
