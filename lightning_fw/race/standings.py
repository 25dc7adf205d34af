"""The command ``lightning-fw standings``: what Frank-Wolfe needs for one evaluation of others.

For each race the medians of ``spectral``, or of another method that is asked for, and of the best
other method of each kind, their ratio, and the geometric mean of the ratios, as Markdown. A method
whose median run does not arrive counts with its budget, which makes Frank-Wolfe look no better than
it is; such a ratio has the sign ≤, and so has a mean with one among them. Where neither arrives
there is no ratio.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from lightning_fw.arguments import Parser, one_of
from lightning_fw.race.method import Family
from lightning_fw.race.methods import METHODS
from lightning_fw.race.points import Point
from lightning_fw.race.results import read_results
from lightning_fw.race.summary import arrival, runs_of
from lightning_fw.race.tasks import Task

Unit = Literal["evaluations", "seconds"]

_CANNOT_START = 2


@dataclass(frozen=True)
class Race:
    """A finished race.

    Attributes:
        title: Task and cell.
        task: The task.
        points: All of its points.
        ours: The method that is compared with the others.
    """

    title: str
    task: Task
    points: Sequence[Point]
    ours: str

    def spent(self, method: str, unit: Unit) -> tuple[float, bool]:
        """Median over the seeds to the target, and whether the median run arrives.

        A run that does not arrive counts with all that it spent.
        """
        found = []
        for run in runs_of(self.points, method).values():
            at_target = arrival(run, self.task)
            found.append((getattr(at_target or run[-1], unit), at_target is not None))
        found.sort(key=lambda run: (not run[1], run[0]))
        median = statistics.median(spent for spent, _ in found)
        return median, found[len(found) // 2][1]

    def final(self, method: str) -> float:
        """Median of the last metric."""
        return statistics.median(run[-1].test_metric for run in self._runs(method))

    def arrived(self, method: str) -> str:
        """How many of the seeds reached the target."""
        runs = self._runs(method)
        reached = sum(arrival(run, self.task) is not None for run in runs)
        return f"{reached} of {len(runs)}"

    def best(self, family: Family, unit: Unit) -> str | None:
        """The method of a family, ours aside, that needs the least; None where none raced."""
        names = {point.method for point in self.points} - {self.ours}
        mine = [name for name in sorted(names) if METHODS[name].family == family]
        return min(mine, key=lambda name: self._order(name, unit), default=None)

    def _order(self, method: str, unit: Unit) -> tuple[bool, float, float]:
        spent, arrives = self.spent(method, unit)
        return not arrives, spent, self.task.rank(self.final(method))

    def _runs(self, method: str) -> list[list[Point]]:
        return list(runs_of(self.points, method).values())


def read_race(directory: Path, ours: str = "spectral") -> Race:
    """The race in a directory.

    Raises:
        ValueError: If there is none, or ``ours`` did not race.
    """
    results = read_results(directory)
    names = [entrant.name for entrant in results.entrants]
    if ours not in names:
        raise ValueError(
            f"`directory` must hold a race with {ours}, got {', '.join(names)} in {directory}. "
            f"Run the race again with --methods {ours}."
        )
    return Race(results.title, results.task, results.points, ours)


def standings(races: Sequence[Race], family: Family, unit: Unit) -> Iterator[str]:
    """The lines of a table: ours, the best of a family, and their ratio, for every race.

    None where no method of the family raced.
    """
    pairs = [(race, best) for race in races if (best := race.best(family, unit)) is not None]
    if not pairs:
        return
    digits: Callable[[float], str] = "{:.0f}".format if unit == "evaluations" else "{:.1f}".format
    title = METHODS[pairs[0][0].ours].title
    headings = (f"{unit} to the target", title, f"best of {family}", "ratio")
    yield f"| {' | '.join(headings)} | at the end |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    ratios, signs = [], set()
    for race, other in pairs:
        mine, arrives = race.spent(race.ours, unit)
        theirs, they_arrive = race.spent(other, unit)
        ratio = mine / theirs if arrives else math.inf
        sign, told = "" if they_arrive else "≤ ", "–"
        if arrives or they_arrive:
            ratios.append(ratio)
            signs.add(sign)
            told = f"{sign}{ratio:.2f}"
        left = f"{digits(mine)} ({race.arrived(race.ours)})"
        right = f"{METHODS[other].title}: {digits(theirs)} ({race.arrived(other)})"
        ends = f"{race.final(race.ours):.4f} / {race.final(other):.4f}"
        yield f"| {race.title} | {left} | {right} | {told} | {ends} |"
    if ratios:
        yield f"| geometric mean | | | {max(signs)}{_geometric_mean(ratios):.2f} | |"


def _geometric_mean(ratios: Sequence[float]) -> float:
    return math.exp(statistics.mean(map(math.log, ratios)))


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    arguments = Parser(
        prog="lightning-fw standings",
        description="Print, as Markdown, how much of the evaluations and seconds of the best other "
        "methods Frank-Wolfe needs to the target, race by race and on the geometric mean.",
        epilog="example: lightning-fw standings runs/adding runs/digits",
    )
    arguments.add_argument(
        "run", nargs="+", type=Path, help="what --out of a race wrote", metavar="RUN"
    )
    arguments.add_argument(
        "--method",
        type=one_of(METHODS),
        default="spectral",
        help="the one that is compared with the others (default: spectral)",
    )
    return arguments


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Args:
        argv: Arguments after ``standings``.

    Returns:
        0, or 2 where a directory holds no race.
    """
    options = parser().parse_args(argv)
    try:
        races = [read_race(directory, options.method) for directory in options.run]
    except ValueError as error:
        print(f"lightning-fw standings: {error}", file=sys.stderr)
        return _CANNOT_START
    for family in ("back-propagation", "one LMO a step", "Frank-Wolfe"):
        for unit in get_args(Unit):
            lines = list(standings(races, family, unit))
            if lines:
                print("\n".join([*lines, ""]))
    return 0
