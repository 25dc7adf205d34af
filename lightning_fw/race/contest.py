"""All runs of one race, and the files that they leave."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from lightning_fw.processes import Tell, on_ranks
from lightning_fw.race.methods import Method
from lightning_fw.race.plot import draw, require_matplotlib
from lightning_fw.race.points import Point, append_point, read_points, write_points
from lightning_fw.race.run import quiet_lightning, run
from lightning_fw.race.settings import RaceSettings, agree, require_writable
from lightning_fw.race.summary import summarize, write_summary
from lightning_fw.race.tables import live_table, markdown, summary_table
from lightning_fw.race.tasks import TASKS

_INTERRUPTED = 130
_WARM_UP_EVALUATIONS = 3


class Contest:
    """A race in a directory, which may hold a part of it already.

    Runs follow each other in one process, one seed of every method after the other: runs side by
    side would share the memory's bandwidth, and their seconds would depend on their neighbours.
    With ``--strategy`` each run has processes of its own, as many as it has ranks.

    Args:
        settings: What the user asked for.
        console: Where tables go.

    Raises:
        ValueError: If the directory holds a race with other settings.
        OSError: If the directory cannot be written to, or data files are missing.
        ModuleNotFoundError: If matplotlib is missing, or what reads the task's data.
    """

    def __init__(self, settings: RaceSettings, console: Console) -> None:
        self.settings = settings
        self.console = console
        self.task = TASKS[settings.task]
        require_matplotlib()
        require_writable(settings.out)
        self.methods = agree(settings, self._test_size())
        self.csv = settings.out / "race.csv"
        self.points = _finished(read_points(self.csv), settings.budget)
        write_points(self.csv, self.points)

    def run(self) -> int:
        """Run what is not finished yet, then draw and summarize.

        Returns:
            0, or 130 after an interruption.
        """
        status = 0
        # It moves with each point alone, and processes are not to be forked beside a thread of it.
        live = Live(self._table(), console=self.console, auto_refresh=False)
        with quiet_lightning(), live:
            try:
                if self.settings.devices == 1:
                    self._warm_up()
                for method, seed in self._unfinished():
                    self._run_one(method, seed, live)
            except KeyboardInterrupt:
                # Lightning 2.6.6 leaves the signal ignored.
                signal.signal(signal.SIGINT, signal.default_int_handler)
                status = _INTERRUPTED
        self.console.print()
        self._finish()
        if status:
            self.console.print(
                f"Interrupted: finished runs are kept in {self.settings.out}, the one in progress "
                "starts over. Run the same command again to go on."
            )
        return status

    def _test_size(self) -> int:
        data = self.task.make_data(self.settings.first_seed, self.settings.data)
        try:
            return len(data.split("test"))
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"`--data` must be the directory of MNIST's files, got {self.settings.data} "
                f"({error}) Pass the directory that holds them."
            ) from error

    def _unfinished(self) -> list[tuple[Method, int]]:
        first, asked = self.settings.first_seed, set(self.settings.methods)
        done = {(point.method, point.seed) for point in self.points}
        return [
            (method, seed)
            for seed in range(first, first + self.settings.seeds)
            for method in self.methods
            if method.name in asked and (method.name, seed) not in done
        ]

    def _warm_up(self) -> None:
        """Take a few steps with every method: what a process does once is nobody's cost."""
        for method in {method.name: method for method, _ in self._unfinished()}.values():
            self._run(method, self.settings.first_seed, _WARM_UP_EVALUATIONS, _ignore)

    def _run_one(self, method: Method, seed: int, live: Live) -> None:
        def report(point: Point) -> None:
            append_point(self.csv, point)
            self.points.append(point)
            live.update(self._table(), refresh=True)

        def on_rank(tell: Tell) -> None:
            self._run(method, seed, _WARM_UP_EVALUATIONS, _ignore)
            self._run(method, seed, self.settings.budget, tell)

        if self.settings.devices > 1:
            on_ranks(on_rank, self.settings.devices, report)
        else:
            self._run(method, seed, self.settings.budget, report)

    def _run(self, method: Method, seed: int, budget: int, report: Tell) -> None:
        run(
            method,
            self.task,
            self.settings.cell,
            seed,
            budget=budget,
            every=self.settings.every,
            root=self.settings.data,
            report=report,
            ranks=self.settings.devices,
        )

    def _table(self) -> Table:
        return live_table(self.points, self.methods, self.task, self.settings)

    def _finish(self) -> None:
        out = self.settings.out
        finished = _finished(self.points, self.settings.budget)
        lines = summarize(finished, self.methods, self.task)
        write_summary(out / "summary.csv", lines)
        (out / "summary.md").write_text(markdown(lines, self.methods, self.task, self.settings))
        if not finished:
            self.console.print("No run is finished: there is no picture yet.")
            return
        draw(finished, self.methods, self.task, self.settings, out / "race.png")
        self.console.print(summary_table(lines, self.methods, self.task, self.settings))
        self.console.print(f"{self.csv}, {out / 'race.png'}, {out / 'summary.md'}", soft_wrap=True)


def _ignore(point: Point) -> None:
    """What a warm-up reports."""


def _finished(points: Sequence[Point], budget: int) -> list[Point]:
    """The points of the runs that spent their budget."""
    done = {(point.method, point.seed) for point in points if point.evaluations >= budget}
    return [point for point in points if (point.method, point.seed) in done]
