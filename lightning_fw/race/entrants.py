"""A method with the setting that it races with, and where that comes from."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import NamedTuple

from lightning_fw.race.method import Method
from lightning_fw.race.methods import METHODS
from lightning_fw.race.search_space import Setting, read, written


class Tuned(NamedTuple):
    """A line of ``tuned.csv``, as ``lightning-fw race --tune N`` writes it.

    Attributes:
        task: Name of the task.
        cell: Name of the cell.
        method: Name of the method.
        ranks: Processes that trained together.
        setting: The setting chosen.
        trials: How many it was chosen from.
        reached: Tuning seeds that reached the target.
        evaluations: Their mean evaluations to the target; twice the budget counts where one did not
            arrive.
    """

    task: str
    cell: str
    method: str
    ranks: int
    setting: Setting
    trials: int
    reached: int
    evaluations: float

    def row(self) -> list[str]:
        """The line's fields."""
        return [
            self.task,
            self.cell,
            self.method,
            str(self.ranks),
            written(self.setting),
            str(self.trials),
            str(self.reached),
            f"{self.evaluations:g}",
        ]


@dataclass(frozen=True)
class Entrant:
    """A method that races.

    Attributes:
        method: How it trains.
        setting: Its setting; empty where there is nothing to set.
        is_tuned: Whether that was tuned for the task, the cell and so many ranks.
    """

    method: Method
    setting: Setting
    is_tuned: bool = False

    @property
    def name(self) -> str:
        """The method's name."""
        return self.method.name

    @property
    def origin(self) -> str:
        """Whether it was tuned, in words."""
        return "tuned" if self.is_tuned else "not tuned"

    @property
    def label(self) -> str:
        """Title and setting."""
        setting = f": {written(self.setting)}" if self.setting else ""
        return f"{self.method.title} ({self.origin}{setting})"

    @property
    def inner_loop(self) -> str | None:
        """The settings of its inner loop in words, where it has one."""
        if self.method.inner_loop is None:
            return None
        loop = repr(self.method.inner_loop(self.setting))
        return f"{loop}, a step a batch of whole sequences" if self.method.in_chunks else loop

    @property
    def batches_a_message(self) -> int:
        """Batches between two all-reduces of the network's size, where there are ranks."""
        if self.method.inner_loop is None:
            return self.method.accumulate_grad_batches
        loop = self.method.inner_loop(self.setting)
        return loop.steps if loop.sync == "restart" else 1


@cache
def shipped() -> tuple[Tuned, ...]:
    """The settings that come with the package."""
    with as_file(files("lightning_fw.race") / "tuned.csv") as path:
        return tuple(read_tuned(path))


def read_tuned(path: Path) -> list[Tuned]:
    """The lines of a ``tuned.csv``; none where there is no file."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return [
        Tuned(
            row["task"],
            row["cell"],
            row["method"],
            int(row["ranks"]),
            read(row["setting"]),
            int(row["trials"]),
            int(row["reached"]),
            float(row["evaluations"]),
        )
        for row in csv.DictReader(text.splitlines())
    ]


def enter(
    name: str,
    task: str,
    cell: str,
    *,
    ranks: int = 1,
    given: Mapping[str, float] | None = None,
    tuned: Iterable[Tuned] | None = None,
) -> Entrant:
    """The method with its setting for a task and a cell.

    Args:
        name: Its name.
        task: Name of the task.
        cell: Name of the cell.
        ranks: Processes, each with batches of its own.
        given: Values instead of the tuned ones, as far as the method takes them.
        tuned: Where to look settings up; None: in those that come with the package.

    Returns:
        The method; where nothing was tuned for the task, the cell and so many ranks, with what was
        tuned for one, or with usual values.
    """
    method = METHODS[name]
    lines = shipped() if tuned is None else tuned
    mine = {line.ranks: line.setting for line in lines if line[:3] == (task, cell, name)}
    setting = dict(mine.get(ranks, mine.get(1, method.usual)))
    setting.update({key: value for key, value in (given or {}).items() if key in method.space})
    return Entrant(method, setting, is_tuned=bool(setting) and setting == mine.get(ranks))
