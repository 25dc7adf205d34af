"""The race in a terminal, and its summary in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from lightning_fw.race.entrants import Entrant
from lightning_fw.race.points import Point
from lightning_fw.race.settings import RaceSettings
from lightning_fw.race.summary import Line
from lightning_fw.race.tasks import Task

_HEADINGS = ("reached", "evaluations", "all-\nreduces", "seconds", "final", "worst")


def live_table(
    points: Sequence[Point], entrants: Sequence[Entrant], task: Task, settings: RaceSettings
) -> Table:
    """Where every method's latest run stands."""
    title = f"{task.title}, {settings.title}{settings.where}"
    table = _table(title, ("seed", "evaluations", "seconds", "train loss", task.metric))
    for entrant in entrants:
        mine = [point for point in points if point.method == entrant.name]
        if not mine:
            table.add_row(entrant.method.title, *["–"] * 5)
            continue
        last = mine[-1]
        table.add_row(
            entrant.method.title,
            str(last.seed),
            f"{last.evaluations} of {settings.budget}",
            f"{last.seconds:.1f}",
            f"{last.train_loss:.4f}",
            f"{last.test_metric:.4f}",
        )
    return table


def bar_of(points: int) -> Progress:
    """How many of the points are there, and how long the others take."""
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("points,"), TimeRemainingColumn())
    bar = Progress(*columns, TextColumn("left"), auto_refresh=False)
    bar.add_task("", total=points)
    return bar


def summary_table(
    lines: Sequence[Line], entrants: Sequence[Entrant], task: Task, settings: RaceSettings
) -> Table:
    """The summary for a terminal."""
    known = {entrant.name: entrant for entrant in entrants}
    title = f"{task.title}{settings.where}: to {task.metric} {task.goal}"
    table = _table(title, _headings(settings))
    for line in lines:
        entrant = known[line.method]
        table.add_row(entrant.method.title, *_cells(line, entrant, settings))
    return table


def markdown(
    lines: Sequence[Line], entrants: Sequence[Entrant], task: Task, settings: RaceSettings
) -> str:
    """The summary in Markdown, with what it means."""
    known = {entrant.name: entrant for entrant in entrants}
    headings = [heading.replace("\n", "") for heading in _headings(settings)]
    rows = [("method", *headings), ("---", *["---:"] * len(headings))]
    for line in lines:
        entrant = known[line.method]
        rows.append((entrant.label, *_cells(line, entrant, settings)))
    return "\n".join(
        (
            f"{task.title}, {settings.title}{settings.where}: {_spent(settings, task)} "
            f"to {task.metric} {task.goal}, measured every {settings.every} of {settings.budget} "
            "evaluations. Medians over the seeds; – where the median run does not arrive.",
            "",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
        )
    )


def _spent(settings: RaceSettings, task: Task) -> str:
    evaluations, seconds = f"(batches of {task.batch_size})", "seconds of training"
    if settings.devices == 1:
        return f"gradient evaluations {evaluations} and {seconds}"
    return (
        f"gradient evaluations of each rank {evaluations}, all-reduces of the network's size and "
        f"{seconds}"
    )


def _headings(settings: RaceSettings) -> tuple[str, ...]:
    """The columns: messages are for several ranks."""
    return tuple(name for name in _HEADINGS if settings.devices > 1 or "reduces" not in name)


def _cells(line: Line, entrant: Entrant, settings: RaceSettings) -> tuple[str, ...]:
    cells, spent = line.cells(), line.evaluations
    if settings.devices == 1:
        return cells
    messages = "–" if spent is None else f"{spent // entrant.batches_a_message:.0f}"
    return (*cells[:2], messages, *cells[2:])


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title)
    table.add_column("method")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=" " not in heading)
    return table
