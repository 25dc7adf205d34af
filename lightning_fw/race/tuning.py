"""Settings of the methods that have something to tune, by the same rule for each of them.

``python -m lightning_fw.race.tuning --task adding --cell lstm`` runs six settings of every such
method on two seeds that no race reports, measures them on the validation split, and takes the one
that needs the fewest evaluations to the target. A run that does not arrive counts as twice the
budget; the mean metric over all points decides between equals. What it prints is what stands in
``methods.py``. For DDP, ``--ranks N`` tunes in one process on the joined batches of N ranks, whose
gradient is the one that DDP averages.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple, get_args

import torch
from rich.console import Console

from lightning_fw.arguments import positive
from lightning_fw.nn.sequence_model import Cell
from lightning_fw.race.methods import MethodName, Setting, with_setting
from lightning_fw.race.points import Point
from lightning_fw.race.run import quiet_lightning, run
from lightning_fw.race.tasks import TASKS, Task

SEEDS = (100, 101)
BUDGETS = {"adding": 1_000, "digits": 500, "mnist": 500}
GRIDS: dict[MethodName, list[Setting]] = {
    "adam": [Setting(lr) for lr in (3e-4, 1e-3, 3e-3, 1e-2, 2e-2, 3e-2)],
    "adam-clip": [Setting(lr, clip) for lr, clip in product((3e-3, 1e-2, 2e-2), (0.1, 1.0))],
    "authors": [Setting(lr) for lr in (3e-4, 1e-3, 3e-3, 1e-2, 2e-2, 3e-2)],
}
_EVERY = 25


class Trial(NamedTuple):
    """What a setting came to.

    Attributes:
        method: Name of the method.
        lr: Learning rate.
        clip: Largest norm of a gradient; None: no clipping.
        reached: Seeds that reached the target.
        evaluations: Mean evaluations to the target, twice the budget where it was not reached.
        metric: Mean validation metric over all points.
    """

    method: MethodName
    lr: float
    clip: float | None
    reached: int
    evaluations: float
    metric: float


def best(trials: Sequence[Trial], task: Task) -> Trial:
    """The trial with the fewest evaluations; among equals, the one with the best metric."""
    return min(trials, key=lambda trial: (trial.evaluations, task.rank(trial.metric)))


def _try(method: MethodName, setting: Setting, options: argparse.Namespace) -> Trial:
    task, budget = TASKS[options.task].joined(options.ranks), BUDGETS[options.task]
    reached, evaluations = 0, 0.0
    metrics: list[float] = []
    for seed in SEEDS:
        points: list[Point] = []
        run(
            with_setting(method, setting),
            task,
            options.cell,
            seed,
            budget=budget,
            every=_EVERY,
            root=options.data,
            report=points.append,
            judge="val",
            stop_at_target=0,
        )
        arrived = task.reached(points[-1].test_metric)
        reached += arrived
        evaluations += (points[-1].evaluations if arrived else 2 * budget) / len(SEEDS)
        metrics += [point.test_metric for point in points]
    return Trial(
        method, setting.lr, setting.clip, reached, evaluations, sum(metrics) / len(metrics)
    )


def _trials(options: argparse.Namespace, out: Path) -> Iterator[Trial]:
    """All trials, each written down as it ends."""
    with out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Trial._fields)
        for method in options.methods:
            for setting in GRIDS[method]:
                trial = _try(method, setting, options)
                writer.writerow(trial)
                file.flush()
                yield trial


def main(argv: Sequence[str]) -> int:
    """Tune, and print the lines of ``methods.py``.

    Args:
        argv: Arguments.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m lightning_fw.race.tuning")
    parser.add_argument("--task", choices=sorted(TASKS), default="adding")
    parser.add_argument("--cell", choices=get_args(Cell), default="lstm")
    parser.add_argument("--methods", nargs="+", choices=list(GRIDS), default=list(GRIDS))
    parser.add_argument("--ranks", type=positive, default=1, help="of DDP (default: 1)")
    parser.add_argument("--out", type=Path, default=Path("runs/tuning"), help="directory")
    parser.add_argument("--data", type=Path, default=Path("data"), help="data files, for mnist")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    console = Console()
    name = "-".join((options.task, options.cell, *([str(options.ranks)] * (options.ranks > 1))))
    with quiet_lightning():
        trials = list(_trials(options, options.out / f"{name}.csv"))
    for method in options.methods:
        chosen = best([trial for trial in trials if trial.method == method], TASKS[options.task])
        clip = "" if chosen.clip is None else f", {chosen.clip:g}"
        console.print(
            f'("{options.task}", "{options.cell}", "{method}", {options.ranks}): '
            f"Setting({chosen.lr:g}{clip}),"
            f"  # {chosen.reached} of {len(SEEDS)}, {chosen.evaluations:.0f} evaluations",
            soft_wrap=True,
            highlight=False,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
