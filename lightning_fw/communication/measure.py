"""What a way to train tells other ranks, and what it has learned from as many samples."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lightning_fw.communication.traffic import Counts, Traffic
from lightning_fw.inner_loop import Sync
from lightning_fw.processes import Tell, on_ranks
from lightning_fw.race.entrants import Entrant, enter
from lightning_fw.race.frank_wolfe import windows
from lightning_fw.race.methods import METHODS
from lightning_fw.race.points import Point
from lightning_fw.race.run import Course, run
from lightning_fw.race.summary import arrival, median_spent
from lightning_fw.race.tasks import TASKS

FORMAT = "lightning_fw bench --comm 1"

# Enough for counts a batch that do not depend on where in a window they begin.
_COUNTED_BATCHES = 10


@dataclass(frozen=True, kw_only=True)
class CommunicationSettings:
    """What the user asked for.

    Attributes:
        task: Name of the task.
        cell: Recurrent cell.
        devices: Ranks.
        steps: K of the windows.
        batches: Batches of each rank, after which test metrics are compared.
        budget: Batches of each rank that a run may take to the target.
        every: Batches between two looks at the test metric.
        seeds: Runs of each contender.
        first_seed: Seed of the first run.
        threads: Of torch, in each rank.
    """

    task: str
    cell: str
    devices: int
    steps: Sequence[int]
    batches: int
    budget: int
    every: int
    seeds: int
    first_seed: int
    threads: int


Way = Literal["ddp", "step", "restart"]


class Contender(NamedTuple):
    """A way to train on several ranks; K = ``steps``."""

    title: str
    entrant: Entrant
    way: Way
    steps: int


class Row(NamedTuple):
    """What a contender came to; medians over the seeds.

    Attributes:
        name: Its title.
        way: ``"ddp"``: plain DDP; otherwise when ranks talk, as InnerLoop has it.
        steps: K.
        all_reduces_a_batch: Calls of all-reduce a batch.
        other_calls_a_batch: Calls of other collectives a batch.
        bytes_a_batch: Bytes handed to all collectives, a batch and rank.
        seconds_a_batch: Seconds of training a batch.
        test_metric: After as many batches as the others.
        batches_to_target: Of each rank; None where the median run does not arrive.
    """

    name: str
    way: Way
    steps: int
    all_reduces_a_batch: float
    other_calls_a_batch: float
    bytes_a_batch: float
    seconds_a_batch: float
    test_metric: float
    batches_to_target: float | None

    @property
    def all_reduces_to_target(self) -> int | None:
        """All-reduces until the target; None where the median run does not arrive."""
        if self.batches_to_target is None:
            return None
        # A window in progress has told nothing yet; 180 thirds are 60, however they are rounded.
        return math.floor(round(self.batches_to_target * self.all_reduces_a_batch, 6))

    def cells(self) -> tuple[str, ...]:
        """Its numbers, as tables show them."""
        batches, messages = self.batches_to_target, self.all_reduces_to_target
        return (
            f"{self.all_reduces_a_batch:.2f}",
            f"{self.bytes_a_batch:,.0f}",
            f"{1e3 * self.seconds_a_batch:.0f}",
            f"{self.test_metric:.4f}",
            "–" if batches is None else f"{batches:.0f}",
            "–" if messages is None else f"{messages}",
        )


def list_contenders(settings: CommunicationSettings) -> list[Contender]:
    """DDP with its tuned baseline; a message a step; a message a window."""
    adam = enter("adam-clip", settings.task, settings.cell, ranks=settings.devices)
    found = [Contender(f"DDP, {adam.label}", adam, "ddp", 1)]
    ways: dict[Sync, str] = {"step": "every step", "restart": "local windows"}
    for sync, words in ways.items():
        for steps in settings.steps:
            title = f"{words}, K={steps}"
            loop = partial(windows, steps=steps, sync=sync)
            method = replace(METHODS["local"], inner_loop=loop)
            found.append(Contender(title, Entrant(method, {}), sync, steps))
    return found


def measure(contender: Contender, settings: CommunicationSettings) -> Row:
    """Count its collectives, then train it without counting."""
    task = TASKS[settings.task]
    runs = [
        _train(contender, settings, seed)
        for seed in range(settings.first_seed, settings.first_seed + settings.seeds)
    ]
    return Row(
        contender.title,
        contender.way,
        contender.steps,
        *count(contender, settings),
        statistics.median(map(seconds_a_batch, runs)),
        statistics.median(_at(run, settings.batches).test_metric for run in runs),
        median_spent([arrival(run, task) for run in runs], "evaluations"),
    )


def count(contender: Contender, settings: CommunicationSettings) -> Counts:
    """The collectives of a batch in mid-training: whole windows, after as many others."""
    span = contender.steps * math.ceil(_COUNTED_BATCHES / contender.steps)

    told: list[Counts] = []

    def work(tell: Tell) -> None:
        with Traffic() as traffic:
            _run(
                contender,
                settings,
                settings.first_seed,
                lambda point: tell(traffic.counts),
                budget=2 * span,
                every=span,
            )

    on_ranks(work, settings.devices, told.append)
    before, after = told
    return after.per_batch_since(before, span)


def _train(contender: Contender, settings: CommunicationSettings, seed: int) -> list[Point]:
    points: list[Point] = []

    def work(tell: Tell) -> None:
        _run(
            contender,
            settings,
            seed,
            tell,
            budget=max(settings.batches, settings.budget),
            every=settings.every,
            stop_at_target=settings.batches,
        )

    on_ranks(work, settings.devices, points.append)
    return points


def _run(
    contender: Contender,
    settings: CommunicationSettings,
    seed: int,
    report: Tell,
    *,
    budget: int,
    every: int,
    stop_at_target: int | None = None,
) -> None:
    course = Course(
        task=TASKS[settings.task],
        cell=settings.cell,
        every=every,
        root=Path("data"),
        ranks=settings.devices,
    )
    run(
        contender.entrant,
        course,
        seed,
        budget=budget,
        report=report,
        stop_at_target=stop_at_target,
    )


def _at(points: Sequence[Point], batches: int) -> Point:
    """The first point after so many batches."""
    return next((point for point in points if point.evaluations >= batches), points[-1])


def seconds_a_batch(points: Sequence[Point]) -> float:
    """From the first point of a run, up to which processes warm up, to the last."""
    first, last = points[0], points[-1]
    if first is last:
        return last.seconds / last.evaluations
    return (last.seconds - first.seconds) / (last.evaluations - first.evaluations)


def report(settings: CommunicationSettings, rows: Sequence[Row]) -> dict[str, Any]:
    """The rows and what they were measured with, for a file."""
    return {"format": FORMAT, **asdict(settings), "results": [row._asdict() for row in rows]}
