"""Settings by the same rule for every method: N random trials each, on seeds that no race reports.

A trial trains on both tuning seeds, is measured on the validation split, and counts the mean
gradient evaluations to the target; a run that does not arrive counts as twice the budget, and its
trial is not run on the other seed. The fewest win, and among equals the better last metric. A trial
that has spent more than the best one needed cannot win, and is given up. Of methods whose learning
rates fall over the budget every trial spends all of it, so that the last metric decides.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from lightning_fw.race.entrants import Entrant, Tuned, read_tuned
from lightning_fw.race.method import Method
from lightning_fw.race.points import Point
from lightning_fw.race.rows import append_row, whole_rows, write_rows
from lightning_fw.race.search_space import Setting, read, trials, written
from lightning_fw.race.settings import RaceSettings
from lightning_fw.race.tasks import Task

SEEDS = (100, 101)

RunTrial = Callable[[Entrant, int, int], Point]
"""Train an entrant on a seed up to so many evaluations; the last point, at the target or not."""


class Trial(NamedTuple):
    """What a setting came to.

    Attributes:
        method: Name of the method.
        number: Which of the method's trials.
        setting: The setting.
        reached: Tuning seeds that reached the target.
        evaluations: Mean evaluations to the target; infinite where the trial was given up.
        metric: Mean of the last validation metrics.
    """

    method: str
    number: int
    setting: Setting
    reached: int
    evaluations: float
    metric: float

    @property
    def words(self) -> str:
        """What it came to."""
        if math.isinf(self.evaluations):
            return "given up"
        return f"{self.reached} of {len(SEEDS)}, {self.evaluations:g} evaluations"


def best(tried: Sequence[Trial], task: Task) -> Trial:
    """The trial with the fewest evaluations; among equals, the one with the best metric."""
    return min(tried, key=lambda trial: (trial.evaluations, task.rank(trial.metric)))


def tune(
    methods: Sequence[Method],
    task: Task,
    *,
    number: int,
    budget: int,
    cache: Path,
    run_trial: RunTrial,
    tell: Callable[[Trial], None],
) -> dict[str, Trial]:
    """The best of so many trials of each method that has something to tune.

    Args:
        methods: Whom to tune.
        task: What on.
        number: Trials of each.
        budget: Gradient evaluations of a run.
        cache: File of the trials; those that it holds are not made again.
        run_trial: Trains.
        tell: Called with each new trial.
    """
    known = read_trials(cache)
    write_rows(cache, [Trial._fields, *map(_row, known)])
    chosen = {}
    for method in (method for method in methods if method.space):
        done = [trial for trial in known if trial.method == method.name]
        missing = islice(trials(method.name, method.space), len(done), number)
        for index, setting in enumerate(missing, len(done)):
            bar = min((trial.evaluations for trial in done), default=math.inf)
            trial = _try(Entrant(method, setting), index, task, bar, budget, run_trial)
            done.append(trial)
            append_row(cache, _row(trial))
            tell(trial)
        chosen[method.name] = best(done[:number], task)
    return chosen


def _try(
    entrant: Entrant, number: int, task: Task, bar: float, budget: int, run_trial: RunTrial
) -> Trial:
    spent, reached, metrics = 0.0, 0, []
    for left, seed in zip(range(len(SEEDS), 0, -1), SEEDS, strict=True):
        cap = int(min(budget, bar * len(SEEDS) - spent))
        last = run_trial(entrant, seed, cap)
        metrics.append(last.test_metric)
        arrives = task.reached(last.test_metric)
        reached += arrives
        if not (arrives or entrant.method.decays):
            spent += math.inf if cap < budget else 2 * budget * left
            break
        spent += last.evaluations
    metric = statistics.mean(metrics)
    return Trial(entrant.name, number, entrant.setting, reached, spent / len(SEEDS), metric)


def write_tuned(path: Path, chosen: dict[str, Trial], settings: RaceSettings) -> list[Tuned]:
    """Write the chosen settings down, in the columns of the package's own ``tuned.csv``.

    Returns:
        All that the file holds, lines of methods tuned before included.
    """
    lines = [line for line in read_tuned(path) if line.method not in chosen]
    lines += [
        Tuned(
            settings.task,
            settings.cell,
            name,
            settings.devices,
            trial.setting,
            settings.tune,
            trial.reached,
            trial.evaluations,
        )
        for name, trial in chosen.items()
    ]
    write_rows(path, [Tuned._fields, *(line.row() for line in lines)])
    return lines


def read_trials(path: Path) -> list[Trial]:
    """The trials of a file; none if there is no file.

    Raises:
        ValueError: If a row is no trial.
    """
    return [
        Trial(method, int(number), read(setting), int(reached), float(evaluations), float(metric))
        for method, number, setting, reached, evaluations, metric in whole_rows(path)[1:]
    ]


def _row(trial: Trial) -> list[object]:
    return [*trial[:2], written(trial.setting), *trial[3:]]
