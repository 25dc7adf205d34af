"""One method on one task with one seed."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerStatus
from torch import Tensor
from typing_extensions import override

from lightning_fw.nn import SequenceModel
from lightning_fw.race.methods import Method
from lightning_fw.race.points import Point
from lightning_fw.race.tasks import Task


class Referee(Callback):
    """Counts evaluations and seconds, measures at set points, and ends the run at the budget.

    Args:
        method: Name of the method.
        seed: The seed.
        test_set: Sequences and targets of the test set.
        budget: Gradient evaluations to spend.
        every: Gradient evaluations between two points.
        report: Called with every point.
    """

    def __init__(
        self,
        method: str,
        seed: int,
        test_set: tuple[Tensor, Tensor],
        *,
        budget: int,
        every: int,
        report: Callable[[Point], None],
    ) -> None:
        self._method, self._seed, self._test_set = method, seed, test_set
        self._budget, self._every, self._report = budget, every, report
        self._evaluations = 0
        self._seconds = 0.0
        self._losses: list[Tensor] = []

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._resumed = time.perf_counter()

    @override
    def on_before_backward(
        self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor
    ) -> None:
        self._evaluations += 1
        self._losses.append(loss.detach())

    @override
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        if self._evaluations % self._every and self._evaluations < self._budget:
            return
        if not self._losses:
            return
        self._seconds += time.perf_counter() - self._resumed
        loss = torch.stack(self._losses).mean().item()
        self._losses.clear()
        metric = cast(SequenceModel, pl_module).metric(self._test_set)
        self._report(
            Point(self._method, self._seed, self._evaluations, self._seconds, loss, metric)
        )
        trainer.should_stop = self._evaluations >= self._budget
        self._resumed = time.perf_counter()


def run(
    method: Method,
    task: Task,
    cell: str,
    seed: int,
    *,
    budget: int,
    every: int,
    root: Path,
    report: Callable[[Point], None],
) -> None:
    """Train until the budget is spent. Weights and batches depend on the seed alone.

    Args:
        method: Who trains.
        task: What on.
        cell: Recurrent cell.
        seed: Of initial weights and data.
        budget: Gradient evaluations.
        every: Gradient evaluations between two points.
        root: Directory of data files, where the task has any.
        report: Called with every point.

    Raises:
        KeyboardInterrupt: If the user interrupts it.
    """
    data = task.make_data(seed, root)
    torch.manual_seed(seed)
    model = method.make_model(
        cell=cell, input_size=data.input_size, output_size=data.output_size, kind=data.kind
    )
    x, y = data.split("test").tensors
    referee = Referee(method.name, seed, (x, y), budget=budget, every=every, report=report)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        limit_val_batches=0,
        callbacks=[referee],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **method.trainer,
    )
    with warnings.catch_warnings():
        # The data lies in memory: workers would slow the race down.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*deprecated.*")
        try:
            trainer.fit(model, data)
        except SystemExit:
            # Lightning 2.6.6 turns an interruption into an exit with status 1.
            if trainer.state.status == TrainerStatus.INTERRUPTED:
                raise KeyboardInterrupt from None
            raise
