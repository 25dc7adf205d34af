"""Who is ahead: evaluations and seconds to the target, and the metric at the end."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning_fw.race.entrants import Entrant
from lightning_fw.race.points import Point, Unit
from lightning_fw.race.rows import write_rows
from lightning_fw.race.tasks import Task


class Line(NamedTuple):
    """One method's line of the summary.

    Attributes:
        method: Name of the method.
        seeds: Finished runs.
        reached: How many of them reached the target.
        evaluations: Median evaluations to the target, where a run that does not arrive comes after
            all that do; None where the median does not arrive.
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

    def cells(self) -> tuple[str, ...]:
        """Its numbers, as tables show them; – where the median run does not arrive."""
        return (
            f"{self.reached} of {self.seeds}",
            "–" if self.evaluations is None else f"{self.evaluations:.10g}",
            "–" if self.seconds is None else f"{self.seconds:.1f}",
            f"{self.final_metric:.4f}",
            f"{self.worst_metric:.4f}",
        )


def runs_of(points: Sequence[Point], method: str) -> list[list[Point]]:
    """The points of a method in order, one list for each seed."""
    runs: dict[int, list[Point]] = {}
    for point in points:
        if point.method == method:
            runs.setdefault(point.seed, []).append(point)
    return list(runs.values())


def summarize(points: Sequence[Point], entrants: Sequence[Entrant], task: Task) -> list[Line]:
    """A line for each method that has a run."""
    lines = []
    for entrant in entrants:
        runs = runs_of(points, entrant.name)
        if not runs:
            continue
        arrivals = [arrival(run, task) for run in runs]
        finals = [run[-1].test_metric for run in runs]
        lines.append(
            Line(
                entrant.name,
                len(runs),
                sum(point is not None for point in arrivals),
                median_spent(arrivals, "evaluations"),
                median_spent(arrivals, "seconds"),
                statistics.median(finals),
                max(finals, key=task.rank),
            )
        )
    return lines


def arrival(run: Sequence[Point], task: Task) -> Point | None:
    """The first point of a run at the target; None where it does not arrive."""
    return next((point for point in run if task.reached(point.test_metric)), None)


def median_spent(arrivals: Sequence[Point | None], unit: Unit) -> float | None:
    """Median evaluations or seconds at the target; None where the median run does not arrive."""
    median = statistics.median(math.inf if p is None else getattr(p, unit) for p in arrivals)
    return median if math.isfinite(median) else None


def by_point(runs: Sequence[Sequence[Point]], unit: Unit) -> tuple[list[float], list[list[float]]]:
    """Of each point the median of the runs' evaluations or seconds, and all of their metrics."""
    columns = list(zip(*runs, strict=True))
    x = [statistics.median(getattr(point, unit) for point in column) for column in columns]
    return x, [[point.test_metric for point in column] for column in columns]


def write_summary(path: Path, lines: Sequence[Line]) -> None:
    """The summary as CSV; an empty field where the median run does not reach the target."""
    write_rows(path, [Line._fields, *lines])


def for_machines(
    lines: Sequence[Line], entrants: Sequence[Entrant], task: Task, **told: object
) -> dict[str, Any]:
    """The summary with what it is of, as ``--json`` writes it.

    Args:
        lines: The summary.
        entrants: The methods in it.
        task: What was raced on.
        **told: What else is known of the race.
    """
    known = {entrant.name: entrant for entrant in entrants}
    return {
        "task": task.name,
        "metric": task.metric,
        "target": task.target,
        **told,
        "methods": [
            {
                **line._asdict(),
                "title": known[line.method].method.title,
                "setting": dict(known[line.method].setting),
            }
            for line in lines
        ],
    }
