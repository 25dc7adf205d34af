"""The command ``lightning-fw race``."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import torch
from rich.console import Console
from rich.live import Live
from rich.table import Table

from lightning_fw.nn.sequence_model import Cell
from lightning_fw.race.methods import Method, MethodName, choose_method
from lightning_fw.race.plot import draw, require_matplotlib
from lightning_fw.race.points import Point, append_point, read_points, write_points
from lightning_fw.race.run import run
from lightning_fw.race.summary import summarize, summary_table, write_summary
from lightning_fw.race.tasks import TASKS, Task

_INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    arguments = argparse.ArgumentParser(
        prog="lightning-fw race",
        description="Train the same network by Frank-Wolfe and by back-propagation, at equal "
        "numbers of gradient evaluations, and compare.",
        epilog="example: lightning-fw race --task adding --seeds 3 --out runs/adding",
    )
    add = arguments.add_argument
    add("--task", choices=sorted(TASKS), default="adding")
    add("--cell", choices=get_args(Cell), default="lstm")
    add(
        "--methods",
        nargs="+",
        choices=get_args(MethodName),
        default=["spectral", "paper", "adam-clip"],
    )
    add("--seeds", type=_positive, default=3, help="runs of each method (default: 3)")
    add("--first-seed", type=int, default=0, help="seed of the first run (default: 0)")
    add("--budget", type=_positive, default=500, help="gradient evaluations (default: 500)")
    add("--every", type=_positive, default=25, help="evaluations between points (default: 25)")
    add("--out", type=Path, default=Path("runs/race"), help="directory of the results")
    add("--data", type=Path, default=Path("data"), help="directory of data files, for mnist")
    add("--threads", type=_positive, default=1, help="torch threads (default: 1)")
    add("--lr", type=float, help="learning rate of the baselines instead of the tuned one")
    add("--clip", type=float, help="largest gradient norm of adam-clip instead of the tuned one")
    return arguments


def _positive(text: str) -> int:
    value = int(text) if text.lstrip("-").isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, got {text}")
    return value


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Args:
        argv: Arguments after ``race``.

    Returns:
        0, 130 after an interruption, 2 where something is in the way of starting.
    """
    options = parser().parse_args(argv)
    torch.set_num_threads(options.threads)
    try:
        return Race(options).run()
    except (OSError, ValueError, ModuleNotFoundError) as error:
        print(f"lightning-fw race: {error}", file=sys.stderr)
        return 2


class Race:
    """All runs of one race, and the files that they leave.

    Args:
        options: What the user asked for.

    Raises:
        ValueError: If the directory holds a race with other settings.
        OSError: If the directory cannot be written to, or data files are missing.
        ModuleNotFoundError: If matplotlib is missing.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.task: Task = TASKS[options.task]
        self.methods: list[Method] = [
            choose_method(name, options.task, options.cell, lr=options.lr, clip=options.clip)
            for name in dict.fromkeys(options.methods)
        ]
        require_matplotlib()
        _require_writable(options.out)
        self.task.make_data(options.first_seed, options.data).split("test")
        self._agree_on_settings()
        self.csv = options.out / "race.csv"
        self.points = _finished(read_points(self.csv), options.budget)
        write_points(self.csv, self.points)

    def _agree_on_settings(self) -> None:
        """Write down the settings, or compare them with those of the race that goes on."""
        path = self.options.out / "race.json"
        mine: dict[str, Any] = {
            name: getattr(self.options, name) for name in ("task", "cell", "budget", "every")
        }
        tuned = {method.name: method.settings for method in self.methods}
        try:
            known = json.loads(path.read_text()) if path.exists() else {**mine, "methods": {}}
            theirs = {**known, "methods": {**tuned, **known["methods"]}}
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"`--out` must hold a race or nothing, got {path}, which is none. "
                "Pass another directory."
            ) from error
        for name, value in {**mine, **{f"methods.{n}": s for n, s in tuned.items()}}.items():
            head, _, method = name.partition(".")
            found = theirs.get(head, {}).get(method) if method else theirs.get(name)
            if found != value:
                raise ValueError(
                    f"`--out` holds a race with another {name}: {found!r}, not {value!r}, in "
                    f"{self.options.out}. Pass another directory, or the same settings to go on."
                )
        path.write_text(json.dumps(theirs, indent=2) + "\n")

    def run(self) -> int:
        """Run what is not finished yet, then draw and summarize.

        Returns:
            The exit status.
        """
        console = Console()
        status = 0
        with _quiet_lightning(), Live(self._table(), console=console) as live:
            try:
                for method, seed in self._unfinished():
                    self._run_one(method, seed, live)
            except KeyboardInterrupt:
                # Lightning 2.6.6 leaves the signal ignored.
                signal.signal(signal.SIGINT, signal.default_int_handler)
                status = _INTERRUPTED
        self._finish(console)
        if status:
            console.print(
                f"Interrupted: finished runs are kept in {self.options.out}. "
                "Run the same command again to go on."
            )
        return status

    def _seeds(self) -> range:
        return range(self.options.first_seed, self.options.first_seed + self.options.seeds)

    def _unfinished(self) -> list[tuple[Method, int]]:
        done = {(point.method, point.seed) for point in self.points}
        everything = [(method, seed) for seed in self._seeds() for method in self.methods]
        return [entry for entry in everything if (entry[0].name, entry[1]) not in done]

    def _run_one(self, method: Method, seed: int, live: Live) -> None:
        def report(point: Point) -> None:
            append_point(self.csv, point)
            self.points.append(point)
            live.update(self._table())

        run(
            method,
            self.task,
            self.options.cell,
            seed,
            budget=self.options.budget,
            every=self.options.every,
            root=self.options.data,
            report=report,
        )

    def _table(self) -> Table:
        table = Table(title=f"{self.task.title}, {self.options.cell}")
        for heading in ("method", "seed", "evaluations", "seconds", "train loss", self.task.metric):
            table.add_column(heading, justify="left" if heading == "method" else "right")
        for method in self.methods:
            mine = [point for point in self.points if point.method == method.name]
            if not mine:
                table.add_row(method.title, *["–"] * 5)
                continue
            last = mine[-1]
            table.add_row(
                method.title,
                str(last.seed),
                f"{last.evaluations} of {self.options.budget}",
                f"{last.seconds:.1f}",
                f"{last.train_loss:.4f}",
                f"{last.test_metric:.4f}",
            )
        return table

    def _finish(self, console: Console) -> None:
        finished = _finished(self.points, self.options.budget)
        lines = summarize(finished, self.methods, self.task)
        write_summary(self.options.out / "summary.csv", lines)
        if self.points:
            picture = self.options.out / "race.png"
            draw(self.points, self.methods, self.task, self.options.cell, picture)
            console.print(summary_table(lines, self.methods, self.task))
            console.print(f"{self.csv}, {picture}")


def _finished(points: Sequence[Point], budget: int) -> list[Point]:
    """The points of the runs that spent their budget."""
    done = {(point.method, point.seed) for point in points if point.evaluations >= budget}
    return [point for point in points if (point.method, point.seed) in done]


def _require_writable(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(
            f"`--out` must be a directory that can be written to, got {directory} ({error}). "
            "Pass another directory."
        ) from error


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without a line about devices for each run."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
