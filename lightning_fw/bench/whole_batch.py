"""What a whole batch costs in the Trainer, beside plain Lightning with Adam."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import lightning as L
import torch
from typing_extensions import override

from lightning_fw.bench.progress import tracked
from lightning_fw.command_line.fitting import fit
from lightning_fw.command_line.quiet import quiet_lightning
from lightning_fw.data import AddingProblem
from lightning_fw.monitor import FWRestartMonitor
from lightning_fw.nn import FrankWolfeRegressor, SequenceModel, SequenceRegressor
from lightning_fw.nn.cells import Cell

PLAIN = "plain Lightning, Adam"
LENGTH, BATCH_SIZE = 100, 50
# Whole windows of 5 and of 2 steps.
_SKIPPED, _TIMED = 10, 40


class _Clock(L.Callback):
    """Notes when batches start."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    @override
    def on_train_batch_start(self, trainer: L.Trainer, *arguments: Any) -> None:
        on_cuda = trainer.strategy.root_device.type == "cuda"
        if on_cuda and len(self.starts) in (_SKIPPED, _SKIPPED + _TIMED):
            torch.cuda.synchronize()
        self.starts.append(time.perf_counter())

    @property
    def seconds_a_batch(self) -> float:
        return (self.starts[_SKIPPED + _TIMED] - self.starts[_SKIPPED]) / _TIMED


def measure_batches(
    cell: Cell, hidden: int, rounds: int, device: torch.device
) -> list[dict[str, Any]]:
    """Milliseconds of a batch in the Trainer, all of it: the adding problem.

    Args:
        cell: Recurrent cell.
        hidden: Its units.
        rounds: Fits of each, in turns.
        device: Where they train.

    Returns:
        Of each ``name``, ``median_ms``, ``range_ms`` and ``ratio`` to plain Lightning's median.
    """
    sizes: dict[str, Any] = {"input_size": 2, "output_size": 1, "hidden_size": hidden}
    paper = partial(FrankWolfeRegressor, cell, preset="paper", **sizes)
    networks: dict[str, Callable[[], SequenceModel]] = {
        PLAIN: partial(SequenceRegressor, cell, optimizer=torch.optim.Adam, **sizes),
        "InnerLoop.paper()": paper,
        "… and monitored": paper,
        "InnerLoop.spectral()": partial(FrankWolfeRegressor, cell, preset="spectral", **sizes),
    }
    data = AddingProblem(LENGTH, train_size=3000, val_size=50, test_size=50, batch_size=BATCH_SIZE)
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for _ in tracked(range(rounds), "timing batches"):
        for name, make in networks.items():
            monitors = [FWRestartMonitor(table=False)] if "monitored" in name else []
            seconds[name].append(_fit(make(), data, monitors, device))
    plain = statistics.median(seconds[PLAIN])
    return [
        {
            "name": name,
            "median_ms": statistics.median(times) * 1e3,
            "range_ms": [min(times) * 1e3, max(times) * 1e3],
            "ratio": statistics.median(times) / plain,
        }
        for name, times in seconds.items()
    ]


def _fit(
    model: SequenceModel,
    data: AddingProblem,
    callbacks: Sequence[L.Callback],
    device: torch.device,
) -> float:
    clock = _Clock()
    with quiet_lightning(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = L.Trainer(
            accelerator=device.type,
            devices=1 if device.index is None else [device.index],
            max_epochs=1,
            limit_train_batches=_SKIPPED + _TIMED + 1,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[clock, *callbacks],
        )
        fit(trainer, model, data)
    return clock.seconds_a_batch
