"""Who counts, measures and ends a run."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from time import perf_counter
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from typing_extensions import override

from lightning_fw.data.chunks import Chunk
from lightning_fw.nn import SequenceModel
from lightning_fw.race.batch_norm import BATCHES
from lightning_fw.race.contestant import measured
from lightning_fw.race.judge import Batches, mean_metric
from lightning_fw.race.points import Point


class Referee(Callback):
    """Counts evaluations and seconds, measures at set points, and ends the run.

    A chunk of a sequence counts as its share of the sequence's time steps.

    Of several ranks, which all evaluate at the same time, each counts its own, and rank 0 measures
    and decides. Seconds are all of training, loading the batches included; measuring is not.

    Args:
        start: Method and seed.
        judge: Batches to measure the metric on.
        budget: Gradient evaluations to spend.
        every: Gradient evaluations between two points.
        is_over: Whether a point ends the run before the budget does; None: none does, and ranks
            have nothing to tell each other.
        report: Called with every point.
    """

    def __init__(
        self,
        start: tuple[str, int],
        judge: Batches,
        *,
        budget: int,
        every: int,
        is_over: Callable[[Point], bool] | None,
        report: Callable[[Point], None],
    ) -> None:
        self._start, self._judge = start, judge
        self._budget, self._every = budget, every
        self._is_over, self._report = is_over, report
        self._evaluations = self._share = Fraction()
        self._next = min(every, budget)
        self._seconds = 0.0
        self._losses: list[Tensor] = []
        self._inputs: deque[Tensor] = deque(maxlen=BATCHES)

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._resumed = perf_counter()

    @override
    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._inputs.append(batch[0])
        self._share = Fraction(*batch.share) if isinstance(batch, Chunk) else Fraction(1)

    @override
    def on_before_backward(
        self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor
    ) -> None:
        self._evaluations += self._share
        # Lightning divides the loss by the batches of a step before this hook.
        self._losses.append(loss.detach() * trainer.accumulate_grad_batches)

    @override
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        if self._evaluations < self._next:
            return
        self._next = min((self._evaluations // self._every + 1) * self._every, self._budget)
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
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
        model = cast(SequenceModel, pl_module)
        with measured(model, self._inputs):
            metric = mean_metric(model, self._judge)
        # Where training has diverged: NaN has no place in an order, infinity is the worst.
        metric = math.inf if math.isnan(metric) else metric
        evaluations = math.floor(self._evaluations)
        point = Point(*self._start, evaluations, self._seconds, loss, metric)
        self._report(point)
        return self._is_over is not None and self._is_over(point)
