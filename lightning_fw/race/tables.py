"""The race in a terminal, and its summary in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from lightning_fw.race.methods import Method
from lightning_fw.race.points import Point
from lightning_fw.race.settings import RaceSettings
from lightning_fw.race.summary import Line
from lightning_fw.race.tasks import Task

_HEADINGS = ("reached", "evaluations", "seconds", "final", "worst")


def live_table(
    points: Sequence[Point], methods: Sequence[Method], task: Task, settings: RaceSettings
) -> Table:
    """Where every method's latest run stands."""
    title = f"{task.title}, {settings.cell.upper()}"
    table = _table(title, ("seed", "evaluations", "seconds", "train loss", task.metric))
    for method in methods:
        mine = [point for point in points if point.method == method.name]
        if not mine:
            table.add_row(method.title, *["–"] * 5)
            continue
        last = mine[-1]
        table.add_row(
            method.title,
            str(last.seed),
            f"{last.evaluations} of {settings.budget}",
            f"{last.seconds:.1f}",
            f"{last.train_loss:.4f}",
            f"{last.test_metric:.4f}",
        )
    return table


def summary_table(lines: Sequence[Line], methods: Sequence[Method], task: Task) -> Table:
    """The summary for a terminal."""
    titles: dict[str, str] = {method.name: method.title for method in methods}
    table = _table(f"{task.title}: to {task.metric} {task.goal}", _HEADINGS)
    for line in lines:
        table.add_row(titles[line.method], *_cells(line))
    return table


def markdown(
    lines: Sequence[Line], methods: Sequence[Method], task: Task, settings: RaceSettings
) -> str:
    """The summary in Markdown, with what it means."""
    labels: dict[str, str] = {method.name: method.label for method in methods}
    rows = [
        ("method", *_HEADINGS),
        ("---", *["---:"] * len(_HEADINGS)),
        *((labels[line.method], *_cells(line)) for line in lines),
    ]
    return "\n".join(
        (
            f"{task.title}, {settings.cell.upper()}: gradient evaluations (batches of "
            f"{task.batch_size}) and seconds of training to {task.metric} {task.goal}, measured "
            f"every {settings.every} of {settings.budget} evaluations. Medians over the seeds; – "
            "where the median run does not arrive.",
            "",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
        )
    )


def _cells(line: Line) -> tuple[str, ...]:
    return (
        f"{line.reached} of {line.seeds}",
        "–" if line.evaluations is None else f"{line.evaluations:.0f}",
        "–" if line.seconds is None else f"{line.seconds:.1f}",
        f"{line.final_metric:.4f}",
        f"{line.worst_metric:.4f}",
    )


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title)
    table.add_column("method", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=heading == "evaluations")
    return table
