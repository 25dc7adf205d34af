"""One method on one task with one seed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import DDPStrategy

from lightning_fw.averaging import AnchorAveraging
from lightning_fw.command_line.fitting import fit
from lightning_fw.data import TextData
from lightning_fw.data.chunk_loader import time_steps
from lightning_fw.data.chunks import InChunks
from lightning_fw.data.sequences import Split
from lightning_fw.nn import SequenceModel
from lightning_fw.race.contestant import contestant
from lightning_fw.race.entrants import Entrant
from lightning_fw.race.judge import judged_on
from lightning_fw.race.points import Point
from lightning_fw.race.referee import Referee
from lightning_fw.race.settings import Accelerator
from lightning_fw.race.tasks import Data, Task


@dataclass(frozen=True, kw_only=True)
class Course:
    """What every run of a race shares.

    Attributes:
        task: What on.
        cell: Recurrent cell.
        network: What the network takes besides.
        every: Gradient evaluations between two points.
        root: Directory of data files, where the task has any.
        accelerator: What trains, Lightning's name for it.
        ranks: Processes that train together, each on batches of its own.
        horizon: Gradient evaluations of a whole run, over which some learning rates fall; None:
            none does.
    """

    task: Task
    cell: str
    network: Mapping[str, Any] = field(default_factory=dict)
    every: int
    root: Path
    accelerator: Accelerator = "cpu"
    ranks: int = 1
    horizon: int | None = None


def run(
    entrant: Entrant,
    course: Course,
    seed: int,
    *,
    budget: int,
    report: Callable[[Point], None],
    judge: Split = "test",
    stop_at_target: int | None = None,
    callbacks: Sequence[Callback] = (),
    profiler: Profiler | None = None,
) -> None:
    """Train until the budget is spent. Weights and batches depend on the seed alone.

    With several ranks each of their processes calls it, as ``on_ranks`` starts them.

    Args:
        entrant: Who trains.
        course: What on.
        seed: Of initial weights and data.
        budget: Gradient evaluations.
        report: Called with every point.
        judge: The split that the metric is measured on.
        stop_at_target: The run ends where it is at the task's target after so many evaluations;
            None: where the budget does.
        callbacks: Of the trainer, besides the one that counts.
        profiler: Of the trainer.

    Raises:
        KeyboardInterrupt: If the user interrupts it.
    """
    data = course.task.data(seed, course.root)
    model = make_model(entrant, course, data, seed)

    def is_over(point: Point) -> bool:
        enough = point.evaluations >= (stop_at_target or 0)
        return enough and course.task.reached(point.test_metric)

    referee = Referee(
        (entrant.name, seed),
        judged_on(data, judge),
        budget=budget,
        every=course.every,
        is_over=None if stop_at_target is None else is_over,
        report=report,
    )
    averaging = [AnchorAveraging()] if entrant.method.averaged else []
    _fit(
        model,
        _as_read(data, course.task, entrant),
        [*averaging, referee, *callbacks],
        gradient_clip_val=entrant.setting.get("clip"),
        accumulate_grad_batches=entrant.method.accumulate_grad_batches,
        accelerator=course.accelerator,
        strategy=DDPStrategy(process_group_backend="gloo") if course.ranks > 1 else "auto",
        devices=course.ranks,
        profiler=profiler,
    )


def make_model(entrant: Entrant, course: Course, data: Data, seed: int) -> SequenceModel:
    """The network with initial weights that depend on the seed alone.

    Raises:
        ValueError: If the cell cannot be what ``course.network`` asks for.
    """
    torch.manual_seed(seed)
    size = course.task.embedding_size
    embedding = {} if size is None else {"embedding_size": size}
    return contestant(
        entrant,
        data.kind,
        chunks=_chunks(_as_read(data, course.task, entrant)),
        horizon=course.horizon,
        cell=course.cell,
        input_size=data.input_size,
        output_size=data.output_size,
        **embedding,
        **course.network,
    )


def _as_read(data: Data, task: Task, entrant: Entrant) -> Data | InChunks:
    """The data, cut along time where the method does that; a text's batches are chunks already."""
    length = task.chunk_length
    if not entrant.method.in_chunks or isinstance(data, TextData) or length is None:
        return data
    return InChunks(data, length)


def _chunks(data: Data | InChunks) -> int:
    """Chunks of a sequence; one where it is read whole, or is a text."""
    if not isinstance(data, InChunks):
        return 1
    return math.ceil(time_steps(data.data.split("train")) / data.chunk_length)


def _fit(
    model: SequenceModel, data: Data | InChunks, callbacks: list[Callback], **settings: Any
) -> None:
    with warnings.catch_warnings():
        # The data lies in memory: workers would slow the race down.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*deprecated.*")
        # Networks this small are as fast without one.
        warnings.filterwarnings("ignore", "GPU available but not used.*")
        trainer = L.Trainer(
            max_epochs=-1,
            limit_val_batches=0,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **settings,
        )
        fit(trainer, model, data)
