"""The command ``lightning-fw standings``: what Frank-Wolfe needs for one evaluation of others.

For each race the medians of ``spectral``, or of another method that is asked for, and of the best
other method of each kind, their ratio, and the geometric mean of the ratios, as Markdown. A run of
others that does not arrive counts with its budget, which makes Frank-Wolfe look no better than it
is; the ratio to such a median has the sign ≤, and so has a mean with one among them. Where neither
median run arrives there is no ratio, and where that of Frank-Wolfe does not it is infinite. In
parentheses what 95 % of bootstrap samples of the seeds come to.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from lightning_fw.command_line.arguments import Parser, one_of
from lightning_fw.command_line.exit_status import CANNOT_START
from lightning_fw.command_line.json_result import add_json, console_beside, write_json
from lightning_fw.race.bootstrap import Run, interval, median, resampled_ratios
from lightning_fw.race.method import Family
from lightning_fw.race.methods import METHODS
from lightning_fw.race.points import Point, Unit
from lightning_fw.race.results import read_results, those_read
from lightning_fw.race.summary import arrival, runs_of
from lightning_fw.race.tasks import Task

_FAMILIES: tuple[Family, ...] = ("back-propagation", "one LMO a step", "Frank-Wolfe")


@dataclass(frozen=True)
class Race:
    """A finished race.

    Attributes:
        title: That of its results.
        task: The task.
        points: All of its points.
        ours: The method that is compared with the others.
    """

    title: str
    task: Task
    points: Sequence[Point]
    ours: str

    def spent(self, method: str, unit: Unit) -> Run:
        """What the median run over the seeds needs to the target.

        A run that does not arrive counts with all that it spent.
        """
        return median(self.needs(method, unit))

    def needs(self, method: str, unit: Unit) -> dict[int, Run]:
        """What the run of each seed needs."""
        found = {}
        for run in self._runs(method):
            at_target = arrival(run, self.task)
            spent = getattr(at_target or run[-1], unit)
            found[run[0].seed] = Run(spent, at_target is not None)
        return found

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

    def on_seeds_of(self, method: str) -> Race:
        """The race on the seeds that the method ran."""
        seeds = {point.seed for point in self.points if point.method == method}
        return replace(self, points=[point for point in self.points if point.seed in seeds])

    def _order(self, method: str, unit: Unit) -> tuple[bool, float, float]:
        spent, arrives = self.spent(method, unit)
        return not arrives, spent, self.task.rank(self.final(method))

    def _runs(self, method: str) -> list[list[Point]]:
        return runs_of(self.points, method)


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


@dataclass(frozen=True)
class Spent:
    """What a method needed, a median over the seeds.

    Attributes:
        method: Its name.
        spent: Evaluations or seconds, to the target or to the end.
        arrived: Seeds that reached the target, of how many, in words.
        final: The last metric.
    """

    method: str
    spent: float
    arrived: str
    final: float


@dataclass(frozen=True)
class Comparison:
    """Ours beside the best of a family, in one race.

    Attributes:
        race: Its title.
        ours: What ours needed.
        best: What the best other one needed.
        ratio: Of the two; infinite where ours does not arrive, None where neither does.
        is_bound: Whether the other does not arrive, so that the ratio is an upper bound.
        resampled: The ratio in bootstrap samples of the seeds; None where there is no ratio, or
            less than two seeds.
    """

    race: str
    ours: Spent
    best: Spent
    ratio: float | None
    is_bound: bool
    resampled: Tensor | None

    def for_machines(self) -> dict[str, Any]:
        """What programs are told of it."""
        told = asdict(self)
        del told["resampled"]
        return {**told, "interval": interval(self.resampled)}


class Mean(NamedTuple):
    """The geometric mean of ratios.

    Attributes:
        ratio: The mean.
        is_bound: Whether any of them is an upper bound.
        interval: What 95 % of its bootstrap samples lie within; None where a ratio has none.
    """

    ratio: float
    is_bound: bool
    interval: tuple[float, float] | None


def compare(races: Sequence[Race], family: Family, unit: Unit) -> list[Comparison]:
    """Ours and the best of a family in every race in which one of the family raced."""
    found = []
    for whole in races:
        race = whole.on_seeds_of(whole.ours)
        other = race.best(family, unit)
        if other is None:
            continue
        race = race.on_seeds_of(other)
        (mine, arrives), (theirs, they_arrive) = (race.spent(m, unit) for m in (race.ours, other))
        ratio = (mine / theirs if arrives else math.inf) if arrives or they_arrive else None
        ours, best = (
            Spent(name, spent, race.arrived(name), race.final(name))
            for name, spent in ((race.ours, mine), (other, theirs))
        )
        needs = race.needs(race.ours, unit), race.needs(other, unit)
        resampled = None if ratio is None else resampled_ratios(*needs, race.title)
        found.append(Comparison(race.title, ours, best, ratio, not they_arrive, resampled))
    return found


def mean_ratio(comparisons: Sequence[Comparison]) -> Mean | None:
    """The geometric mean of the ratios; None without any."""
    counted = [(each.ratio, each) for each in comparisons if each.ratio is not None]
    if not counted:
        return None
    logarithms = [None if each.resampled is None else each.resampled.log() for _, each in counted]
    known = [logarithm for logarithm in logarithms if logarithm is not None]
    samples = torch.stack(known).mean(dim=0).exp() if len(known) == len(counted) else None
    return Mean(
        math.exp(statistics.mean(math.log(ratio) for ratio, _ in counted)),
        any(each.is_bound for _, each in counted),
        interval(samples),
    )


def table(comparisons: Sequence[Comparison], family: Family, unit: Unit) -> Iterator[str]:
    """The lines of a table of at least one comparison."""
    digits: Callable[[float], str] = "{:.10g}".format if unit == "evaluations" else "{:.1f}".format
    title = METHODS[comparisons[0].ours.method].title
    headings = (f"{unit} to the target", title, f"best of {family}", "ratio (95 %)")
    yield f"| {' | '.join(headings)} | at the end |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for each in comparisons:
        ours, best = each.ours, each.best
        left = f"{digits(ours.spent)} ({ours.arrived})"
        right = f"{METHODS[best.method].title}: {digits(best.spent)} ({best.arrived})"
        told = _signed(each.ratio, each.is_bound, interval(each.resampled))
        ends = f"{ours.final:.4f} / {best.final:.4f}"
        yield f"| {each.race} | {left} | {right} | {told} | {ends} |"
    mean = mean_ratio(comparisons)
    if mean is not None:
        yield f"| geometric mean | | | {_signed(*mean)} | |"


def _signed(ratio: float | None, is_bound: bool, limits: tuple[float, float] | None) -> str:
    if ratio is None:
        return "–"
    sign = "≤ " if is_bound else ""
    told = f"{sign}{ratio:.2f}"
    if limits is None:
        return told
    low, high = limits
    return f"{told} ({sign}{high:.2f})" if is_bound else f"{told} ({low:.2f}–{high:.2f})"


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    arguments = Parser(
        prog="lightning-fw standings",
        description="Print, as Markdown, how much of the evaluations and seconds of the best other "
        "methods Frank-Wolfe needs to the target, race by race and on the geometric mean.",
        epilog="example: lightning-fw standings runs/adding runs/digits",
    )
    arguments.add_argument("run", nargs="+", type=Path, help="--out of a race", metavar="RUN")
    arguments.add_argument(
        "--method",
        type=one_of(METHODS),
        default="spectral",
        help="the one that is compared with the others (default: spectral)",
    )
    add_json(arguments)
    return arguments


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Args:
        argv: Arguments after ``standings``.

    Returns:
        0; 1 where a directory is left out that holds no race, 2 where all are.
    """
    options = parser().parse_args(argv)
    try:
        races, status = those_read(
            options.run, lambda directory: read_race(directory, options.method), "standings"
        )
    except ValueError as error:
        print(f"lightning-fw standings: {error}", file=sys.stderr)
        return CANNOT_START
    console = console_beside(options.json)
    found = []
    for family, unit in product(_FAMILIES, get_args(Unit)):
        comparisons = compare(races, family, unit)
        if not comparisons:
            continue
        lines = "\n".join([*table(comparisons, family, unit), ""])
        console.print(lines, soft_wrap=True, markup=False, highlight=False, emoji=False)
        mean = mean_ratio(comparisons)
        found.append(
            {
                "family": family,
                "unit": unit,
                "mean_ratio": mean and mean.ratio,
                "is_bound": mean is not None and mean.is_bound,
                "interval": mean and mean.interval,
                "races": [each.for_machines() for each in comparisons],
            }
        )
    if not found:
        print(f"lightning-fw standings: {options.method} raced alone", file=sys.stderr)
    write_json(options.json, {"method": options.method, "standings": found})
    return status
