"""Who is ahead: evaluations and seconds to the target, and the metric at the end."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

from lightning_fw.race.methods import Method
from lightning_fw.race.points import Point
from lightning_fw.race.tasks import Task


class Line(NamedTuple):
    """One method's line of the summary.

    Attributes:
        method: Name of the method.
        seeds: Finished runs.
        reached: How many of them reached the target.
        evaluations: Median evaluations to the target over the runs that reached it; None if none.
        seconds: Median seconds to the target, likewise.
        final_metric: Median of the last point's metric.
        worst_metric: The worst run's.
    """

    method: str
    seeds: int
    reached: int
    evaluations: float | None
    seconds: float | None
    final_metric: float
    worst_metric: float


def runs_of(points: Sequence[Point], method: str) -> dict[int, list[Point]]:
    """The points of a method by seed, in order."""
    runs: dict[int, list[Point]] = {}
    for point in points:
        if point.method == method:
            runs.setdefault(point.seed, []).append(point)
    return runs


def summarize(points: Sequence[Point], methods: Sequence[Method], task: Task) -> list[Line]:
    """A line for each method that has a run."""
    lines = []
    for method in methods:
        runs = list(runs_of(points, method.name).values())
        if not runs:
            continue
        arrivals = [point for run in runs if (point := _first_at_target(run, task)) is not None]
        finals = [run[-1].test_metric for run in runs]
        lines.append(
            Line(
                method.name,
                len(runs),
                len(arrivals),
                statistics.median(p.evaluations for p in arrivals) if arrivals else None,
                statistics.median(p.seconds for p in arrivals) if arrivals else None,
                statistics.median(finals),
                min(finals) if task.higher_is_better else max(finals),
            )
        )
    return lines


def _first_at_target(run: Sequence[Point], task: Task) -> Point | None:
    return next((point for point in run if task.reached(point.test_metric)), None)


def summary_table(lines: Sequence[Line], methods: Sequence[Method], task: Task) -> Table:
    """The summary for a terminal."""
    titles = {method.name: method.title for method in methods}
    table = Table(title=f"{task.title}: to {task.metric} {task.target:g}")
    table.add_column("method")
    for heading in ("reached", "evaluations", "seconds", f"final {task.metric}", "worst"):
        table.add_column(heading, justify="right")
    for line in lines:
        table.add_row(
            titles[line.method],
            f"{line.reached} of {line.seeds}",
            "–" if line.evaluations is None else f"{line.evaluations:.0f}",
            "–" if line.seconds is None else f"{line.seconds:.1f}",
            f"{line.final_metric:.4f}",
            f"{line.worst_metric:.4f}",
        )
    return table


def write_summary(path: Path, lines: Sequence[Line]) -> None:
    """The summary as CSV; an empty field where no run reached the target."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Line._fields)
        writer.writerows(lines)
