"""One method on one task with one seed."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.states import TrainerStatus
from torch import Tensor
from typing_extensions import override

from lightning_fw.data.sequences import SequenceData, Split
from lightning_fw.nn import SequenceModel
from lightning_fw.race.methods import Method
from lightning_fw.race.points import Point
from lightning_fw.race.tasks import Task


class Referee(Callback):
    """Counts evaluations and seconds, measures at set points, and ends the run.

    Of several ranks, which all evaluate at the same time, each counts its own, and rank 0 measures
    and decides. Seconds are all of training, loading the batches included; measuring is not.

    Args:
        start: Method and seed.
        judge: Sequences and targets to measure the metric on.
        budget: Gradient evaluations to spend.
        every: Gradient evaluations between two points.
        is_over: Whether a point ends the run before the budget does; None: none does, and ranks
            have nothing to tell each other.
        report: Called with every point.
    """

    def __init__(
        self,
        start: tuple[str, int],
        judge: tuple[Tensor, ...],
        *,
        budget: int,
        every: int,
        is_over: Callable[[Point], bool] | None,
        report: Callable[[Point], None],
    ) -> None:
        self._start, self._judge = start, (judge[0], judge[1])
        self._budget, self._every = budget, every
        self._is_over, self._report = is_over, report
        self._evaluations = 0
        self._seconds = 0.0
        self._losses: list[Tensor] = []

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._resumed = perf_counter()

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
        self._seconds += perf_counter() - self._resumed
        reached = trainer.is_global_zero and self._measure(pl_module)
        if self._is_over is not None:
            reached = trainer.strategy.broadcast(reached)
        trainer.should_stop = reached or self._evaluations >= self._budget
        self._resumed = perf_counter()

    def _measure(self, pl_module: L.LightningModule) -> bool:
        """Report a point, and tell whether it ends the run."""
        loss = torch.stack(self._losses).mean().item()
        self._losses.clear()
        metric = cast(SequenceModel, pl_module).metric(self._judge)
        # Where training has diverged: NaN has no place in an order, infinity is the worst.
        metric = math.inf if math.isnan(metric) else metric
        point = Point(*self._start, self._evaluations, self._seconds, loss, metric)
        self._report(point)
        return self._is_over is not None and self._is_over(point)


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
    judge: Split = "test",
    stop_at_target: int | None = None,
    ranks: int = 1,
) -> None:
    """Train until the budget is spent. Weights and batches depend on the seed alone.

    With several ranks each of their processes calls it, as ``on_ranks`` starts them.

    Args:
        method: Who trains.
        task: What on.
        cell: Recurrent cell.
        seed: Of initial weights and data.
        budget: Gradient evaluations.
        every: Gradient evaluations between two points.
        root: Directory of data files, where the task has any.
        report: Called with every point.
        judge: The split that the metric is measured on.
        stop_at_target: The run ends where it is at the task's target after so many evaluations;
            None: where the budget does.
        ranks: Processes that train together, each on batches of its own.

    Raises:
        KeyboardInterrupt: If the user interrupts it.
    """
    data = task.make_data(seed, root)
    torch.manual_seed(seed)
    model = method.make_model(
        cell=cell, input_size=data.input_size, output_size=data.output_size, kind=data.kind
    )

    def is_over(point: Point) -> bool:
        return point.evaluations >= (stop_at_target or 0) and task.reached(point.test_metric)

    referee = Referee(
        (method.name, seed),
        data.split(judge).tensors,
        budget=budget,
        every=every,
        is_over=None if stop_at_target is None else is_over,
        report=report,
    )
    clip = None if method.setting is None else method.setting.clip
    ddp = DDPStrategy(process_group_backend="gloo") if ranks > 1 else "auto"
    _fit(model, data, referee, gradient_clip_val=clip, strategy=ddp, devices=ranks)


def _fit(model: SequenceModel, data: SequenceData, referee: Referee, **settings: Any) -> None:
    with warnings.catch_warnings():
        # The data lies in memory: workers would slow the race down.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*deprecated.*")
        # Networks this small are as fast without one.
        warnings.filterwarnings("ignore", "GPU available but not used.*")
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=-1,
            limit_val_batches=0,
            callbacks=[referee],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **settings,
        )
        try:
            trainer.fit(model, data)
        except SystemExit:
            # Lightning 2.6.6 turns an interruption into an exit with status 1.
            if trainer.state.status == TrainerStatus.INTERRUPTED:
                raise KeyboardInterrupt from None
            raise


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without a line about devices, and about ranks, for each run."""
    loggers = [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
