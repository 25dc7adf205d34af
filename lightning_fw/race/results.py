"""The directory that a race leaves behind, read again."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from lightning_fw.nn.cells import cell_title
from lightning_fw.race.entrants import Entrant, shipped
from lightning_fw.race.methods import METHODS
from lightning_fw.race.points import Point, finished, read_points
from lightning_fw.race.settings import WORDS, require_settings
from lightning_fw.race.tasks import TASKS, Task

T = TypeVar("T")

_UNUSUAL = {
    "hidden_size": "{} units",
    **WORDS,
    "batch_size": "batches of {}",
    "devices": "{} ranks",
    "accelerator": "on a GPU",
}
_USUAL = {"devices": 1, "accelerator": "cpu"}


@dataclass(frozen=True)
class Results:
    """A race's finished runs, and what they were run with.

    Attributes:
        directory: Where they were read.
        title: Task and cell, and what else is not as usual.
        settings: What ``race.json`` holds.
        task: What was raced on, with the race's batch size.
        entrants: The methods that have a finished run, with their settings.
        points: All points of the finished runs.
    """

    directory: Path
    title: str
    settings: dict[str, Any]
    task: Task
    entrants: Sequence[Entrant]
    points: Sequence[Point]


def read_results(directory: Path) -> Results:
    """The results in a directory.

    Raises:
        ValueError: If there are none.
    """
    try:
        return _read(directory)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"`directory` must hold a race, got {directory} ({error}). "
            "Pass what --out of lightning-fw race wrote, after a run came to its end."
        ) from error


def those_read(
    directories: Sequence[Path], read: Callable[[Path], T], command: str
) -> tuple[list[T], int]:
    """What can be read, each once, and a status: 1 if one is left out, which is told on stderr.

    Raises:
        ValueError: That of the first directory, if none can be read.
    """
    found, refusals = list[T](), list[ValueError]()
    for directory in {directory.resolve(): directory for directory in directories}.values():
        try:
            found.append(read(directory))
        except ValueError as error:
            refusals.append(error)
    if refusals and not found:
        raise refusals[0]
    for refusal in refusals:
        print(f"lightning-fw {command}: left out: {refusal}", file=sys.stderr)
    return found, int(bool(refusals))


def _read(directory: Path) -> Results:
    settings: dict[str, Any] = json.loads((directory / "race.json").read_text())
    task, held = TASKS[settings["task"]], dict(settings["methods"])
    require_settings(held)
    points = finished(read_points(directory / "race.csv"), settings["budget"])
    ran = {point.method for point in points}
    if not ran or not ran <= set(held):
        raise ValueError(f"finished runs of {', '.join(sorted(ran)) or 'no method'}")
    entrants = [
        Entrant(METHODS[name], setting, _is_tuned(directory, settings, name))
        for name, setting in held.items()
        if name in ran
    ]
    task = replace(task, batch_size=settings.get("batch_size") or task.batch_size)
    return Results(directory, _title(task, settings), settings, task, entrants, points)


def _title(task: Task, settings: dict[str, Any]) -> str:
    held = {**settings, **(settings.get("network") or {})}
    words = [
        word.format(held[name])
        for name, word in _UNUSUAL.items()
        if held.get(name) not in (None, _USUAL.get(name))
    ]
    return ", ".join((task.title, cell_title(settings["cell"]), *words))


def _is_tuned(directory: Path, settings: dict[str, Any], name: str) -> bool:
    """Whether there were trials of the method, or its setting comes with the package."""
    if name in _methods_in(directory / "trials.csv"):
        return True
    if settings.get("network") or settings.get("batch_size"):
        return False
    mine = (settings["task"], settings["cell"], name, settings.get("devices", 1))
    return any(line[:4] == mine and line.setting == settings["methods"][name] for line in shipped())


def _methods_in(path: Path) -> set[str]:
    if not path.exists():
        return set()
    with path.open(newline="") as file:
        return {row["method"] for row in csv.DictReader(file)}
