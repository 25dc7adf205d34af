"""The directory that a race leaves behind, read again."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning_fw.race.entrants import Entrant, shipped
from lightning_fw.race.methods import METHODS
from lightning_fw.race.points import Point, finished, read_points
from lightning_fw.race.tasks import TASKS, Task


@dataclass(frozen=True)
class Results:
    """A race's finished runs, and what they were run with.

    Attributes:
        directory: Where they were read.
        settings: What ``race.json`` holds.
        task: What was raced on, with the race's batch size.
        entrants: The methods that have a finished run, with their settings.
        points: All points of the finished runs.
    """

    directory: Path
    settings: dict[str, Any]
    task: Task
    entrants: Sequence[Entrant]
    points: Sequence[Point]

    @property
    def title(self) -> str:
        """Task and cell."""
        return f"{self.task.title}, {self.settings['cell'].upper()}"


def read_results(directory: Path) -> Results:
    """The results in a directory.

    Raises:
        ValueError: If there are none.
    """
    try:
        settings: dict[str, Any] = json.loads((directory / "race.json").read_text())
        task, budget = TASKS[settings["task"]], settings["budget"]
        methods = {name: METHODS[name] for name in settings["methods"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"`directory` must hold a race, got {directory} ({error}). "
            "Pass what --out of lightning-fw race wrote."
        ) from error
    points = finished(read_points(directory / "race.csv"), budget)
    ran = {point.method for point in points}
    if not ran or not ran <= set(methods):
        raise ValueError(
            f"`directory` must hold finished runs of its methods, got "
            f"{', '.join(sorted(ran)) or 'none'} in {directory}. Run the race to its end."
        )
    tuned_here = _methods_in(directory / "trials.csv")
    known = [(line.method, line.setting) for line in shipped()]
    entrants = [
        Entrant(methods[name], setting, name in tuned_here or (name, setting) in known)
        for name, setting in settings["methods"].items()
        if name in ran
    ]
    task = replace(task, batch_size=settings["batch_size"] or task.batch_size)
    return Results(directory, settings, task, entrants, points)


def _methods_in(path: Path) -> set[str]:
    if not path.exists():
        return set()
    with path.open(newline="") as file:
        return {row["method"] for row in csv.DictReader(file)}
