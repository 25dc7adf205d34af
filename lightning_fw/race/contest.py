"""All runs of one race, and the files that they leave."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from rich.console import Console, Group
from rich.live import Live
from rich.progress import Progress
from rich.table import Table

from lightning_fw.command_line.exit_status import INTERRUPTED
from lightning_fw.command_line.json_result import write_json
from lightning_fw.command_line.quiet import quiet_lightning
from lightning_fw.data import TextData
from lightning_fw.processes import Tell, on_ranks
from lightning_fw.race.entrants import Entrant, Tuned, read_tuned
from lightning_fw.race.judge import judged_on, judged_size
from lightning_fw.race.methods import METHODS
from lightning_fw.race.plot import draw, require_matplotlib
from lightning_fw.race.points import Point, finished, read_points, write_points
from lightning_fw.race.profiling import BATCHES, tracer
from lightning_fw.race.rows import append_row
from lightning_fw.race.run import Course, make_model, run
from lightning_fw.race.search_space import written
from lightning_fw.race.settings import RaceSettings, agree, agree_on_entrants
from lightning_fw.race.summary import Line, for_machines, summarize, write_summary
from lightning_fw.race.tables import bar_of, live_table, markdown, summary_table
from lightning_fw.race.tasks import TASKS, Data
from lightning_fw.race.tuning import Trial, read_trials, tune, write_tuned

_WARM_UP_EVALUATIONS = 3


class Contest:
    """A race in a directory, which may hold a part of it already.

    Runs follow each other in one process, one seed of every method after the other: runs side by
    side would share the memory's bandwidth, and their seconds would depend on their neighbours.
    With ``--strategy`` each run has processes of its own, as many as it has ranks.

    Args:
        settings: What the user asked for, in a directory that this process holds.
        console: Where tables go.

    Raises:
        ValueError: If the directory holds a race with other settings, or a batch would be larger
            than the training set.
        OSError: If data files are missing.
        ModuleNotFoundError: If matplotlib is missing, or what the task's data or a method needs.
    """

    def __init__(self, settings: RaceSettings, console: Console) -> None:
        self.settings = settings
        self.console = console
        task = TASKS[settings.task]
        self.task = replace(task, batch_size=settings.batch_size or task.batch_size)
        require_matplotlib()
        self._require_trials()
        agree(settings, self._try_out())
        self.entrants = [] if settings.tune else agree_on_entrants(settings, settings.tuned)
        self.csv = settings.out / "race.csv"
        self.points = finished(self._points_so_far(), settings.budget)
        write_points(self.csv, self.points)

    def run(self) -> int:
        """Tune if that is asked for, run what is not finished yet, then draw and summarize.

        Returns:
            0, or 130 after an interruption.
        """
        status = 0
        with quiet_lightning():
            try:
                if self.settings.tune:
                    self.entrants = agree_on_entrants(self.settings, self._tuned())
                if self.settings.profile:
                    self._profile()
                self._race()
            except KeyboardInterrupt:
                status = INTERRUPTED
        self.console.print()
        self._finish()
        if status:
            self.console.print(
                f"Interrupted: finished runs are kept in {self.settings.out}, the one in progress "
                "starts over. Run the same command again to go on.",
                markup=False,
            )
        return status

    def _try_out(self) -> int:
        """Raise what no run could start with, before anything is written; the test set's size."""
        for name in self.settings.methods:
            METHODS[name].require_package()
        data = self.task.data(self.settings.first_seed, self.settings.data)
        try:
            size = judged_size(data)
            data.train_dataloader()
            for split in ("val", "test") if self.settings.tune else ("test",):
                judged_on(data, split)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"`--data` must be the directory of {self.task.files}, got {self.settings.data} "
                f"({error}). Pass the directory that holds them."
            ) from error
        self._require_whole_batches(data)
        # A cell or a method that cannot be as asked for says so.
        for entrant in self.settings.choose(self.settings.tuned):
            make_model(entrant, self._course, data, seed=0).configure_optimizers()
        return size

    def _require_whole_batches(self, data: Data) -> None:
        """Raise where batches would be smaller than tables say."""
        if isinstance(data, TextData):
            return  # refuses more rows than tokens itself
        task, sequences = self.task, len(data.split("train"))
        if task.joined(self.settings.devices).batch_size > sequences:
            raise ValueError(
                f"`--batch-size` must be at most {sequences // self.settings.devices}, got "
                f"{task.batch_size}: {task.title} has {sequences} sequences to train on. "
                "Pass a smaller one."
            )

    def _points_so_far(self) -> list[Point]:
        try:
            return read_points(self.csv)
        except ValueError as error:
            raise ValueError(
                f"`--out` must hold a race or nothing, got {error} in {self.settings.out}. "
                "Pass another directory, or mend the file."
            ) from error

    def _require_trials(self) -> None:
        """Raise where trials cannot go on from what the directory holds."""
        if not self.settings.tune:
            return
        for read, name in ((read_trials, "trials.csv"), (read_tuned, "tuned.csv")):
            try:
                read(self.settings.out / name)
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"`--out` must hold trials or none, got {name} that cannot be read ({error}) "
                    f"in {self.settings.out}. Pass another directory, or mend the file."
                ) from error

    def _tuned(self) -> list[Tuned]:
        """Settings from random trials, which lie in trials.csv, and the chosen in tuned.csv."""
        settings = self.settings
        task = self.task.joined(settings.devices)
        course = replace(self._course, task=task, ranks=1)

        def run_trial(entrant: Entrant, seed: int, budget: int) -> Point:
            def trial(tell: Tell) -> None:
                stop = None if entrant.method.decays else 0
                run(
                    entrant,
                    course,
                    seed,
                    budget=budget,
                    report=tell,
                    judge="val",
                    stop_at_target=stop,
                )

            points: list[Point] = []
            if settings.devices == 1:
                trial(points.append)
            else:
                # Where torch has CUDA no process can be forked after a backward pass.
                on_ranks(trial, 1, points.append)
            return points[-1]

        chosen = tune(
            [METHODS[name] for name in dict.fromkeys(settings.methods)],
            task,
            number=settings.tune,
            budget=settings.budget,
            cache=settings.out / "trials.csv",
            run_trial=run_trial,
            tell=self._tell_trial,
        )
        return write_tuned(settings.out / "tuned.csv", chosen, settings)

    def _tell_trial(self, trial: Trial) -> None:
        self.console.print(
            f"{trial.method}, trial {trial.number + 1} of {self.settings.tune}: "
            f"{written(trial.setting)}: {trial.words}",
            highlight=False,
        )

    def _profile(self) -> None:
        """Trace each method in a run of its own, whose seconds count nowhere."""
        directory = self.settings.out / "profile"
        for entrant in self.entrants:
            run(
                entrant,
                replace(self._course, every=BATCHES),
                self.settings.first_seed,
                budget=BATCHES,
                report=_ignore,
                profiler=tracer(directory, entrant.name),
            )
            self.console.print(f"{directory / entrant.name}.json", soft_wrap=True, markup=False)

    def _race(self) -> None:
        known = {entrant.name: entrant for entrant in self.entrants}
        runs = [(known[name], seed) for name, seed in self.settings.missing(self.points)]
        # It moves with each point alone, and processes are not to be forked beside a thread of it.
        with Live(self._table(), console=self.console, auto_refresh=False) as live:
            if self.settings.devices == 1:
                self._warm_up({entrant.name: entrant for entrant, _ in runs}.values())
            bar = bar_of(len(runs) * -(-self.settings.budget // self.settings.every))
            for entrant, seed in runs:
                self._run_one(entrant, seed, live, bar)
            live.update(self._table())

    def _warm_up(self, entrants: Iterable[Entrant]) -> None:
        """Take a few steps with every method: what a process does once is nobody's cost."""
        for entrant in entrants:
            self._run(entrant, self.settings.first_seed, _WARM_UP_EVALUATIONS, _ignore)

    def _run_one(self, entrant: Entrant, seed: int, live: Live, bar: Progress) -> None:
        def report(point: Point) -> None:
            append_row(self.csv, point)
            self.points.append(point)
            bar.advance(bar.task_ids[0])
            live.update(Group(self._table(), bar), refresh=True)

        def on_rank(tell: Tell) -> None:
            self._run(entrant, seed, _WARM_UP_EVALUATIONS, _ignore)
            self._run(entrant, seed, self.settings.budget, tell)

        if self.settings.devices > 1:
            on_ranks(on_rank, self.settings.devices, report)
        else:
            self._run(entrant, seed, self.settings.budget, report)

    def _run(self, entrant: Entrant, seed: int, budget: int, report: Tell) -> None:
        run(entrant, self._course, seed, budget=budget, report=report)

    def _write_json(self, lines: Sequence[Line], whole: Sequence[Point]) -> None:
        found = for_machines(
            lines,
            self.entrants,
            self.task,
            cell=self.settings.cell,
            budget=self.settings.budget,
            every=self.settings.every,
            # Not after an interruption: without entrants that of the trials.
            complete=bool(self.entrants) and not self.settings.missing(whole),
        )
        write_json(self.settings.json, found)

    @property
    def _course(self) -> Course:
        return Course(
            task=self.task,
            cell=self.settings.cell,
            network=self.settings.network,
            every=self.settings.every,
            root=self.settings.data,
            accelerator=self.settings.accelerator,
            ranks=self.settings.devices,
            horizon=self.settings.budget,
        )

    def _table(self) -> Table:
        return live_table(self.points, self.entrants, self.task, self.settings)

    def _finish(self) -> None:
        out = self.settings.out
        whole = finished(self.points, self.settings.budget)
        lines = summarize(whole, self.entrants, self.task)
        self._write_json(lines, whole)
        if not self.entrants:
            return
        write_summary(out / "summary.csv", lines)
        (out / "summary.md").write_text(
            markdown(lines, self.entrants, self.task, self.settings), encoding="utf-8"
        )
        if not whole:
            self.console.print("No run is finished: there is no picture yet.")
            return
        draw(whole, self.entrants, self.task, self.settings, out / "race.png")
        self.console.print(summary_table(lines, self.entrants, self.task, self.settings))
        files = f"{self.csv}, {out / 'race.png'}, {out / 'summary.md'}"
        self.console.print(files, soft_wrap=True, markup=False)


def _ignore(point: Point) -> None:
    """What a warm-up reports."""
