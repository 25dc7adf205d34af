"""race.csv: one row per evaluation point."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from lightning_fw.race.rows import whole_rows, write_rows

Unit = Literal["evaluations", "seconds"]
"""What a point lies at."""


class Point(NamedTuple):
    """Where a run stands.

    Attributes:
        method: Name of the method.
        seed: Of initial weights and data.
        evaluations: Gradient evaluations spent.
        seconds: Seconds of training spent; measuring the test metric does not count.
        train_loss: Mean loss of the batches since the point before.
        test_metric: Metric on the test set.
    """

    method: str
    seed: int
    evaluations: int
    seconds: float
    train_loss: float
    test_metric: float


def read_points(path: Path) -> list[Point]:
    """The points of a file; none if there is no file.

    Raises:
        ValueError: What the file is, if not a race's; for a caller that knows whence it is.
    """
    if not path.exists():
        return []
    rows = whole_rows(path)
    if not rows or tuple(rows[0]) != Point._fields:
        raise ValueError(f"{path.name} with other columns than {', '.join(Point._fields)}")
    try:
        return [_point(row) for row in rows[1:]]
    except ValueError as error:
        raise ValueError(f"{path.name} with a row that is no point, {error}") from error


def finished(points: Iterable[Point], budget: int) -> list[Point]:
    """The points of the runs that spent their budget; one that lost a point is to run again.

    Each counts once, and in order: a file put together of several, or sorted, says the same.
    """
    runs: dict[tuple[str, int], dict[int, Point]] = {}
    for point in points:
        runs.setdefault((point.method, point.seed), {}).setdefault(point.evaluations, point)
    done = {run: measured for run, measured in runs.items() if max(measured) >= budget}
    most = {name: max(len(done[run]) for run in done if run[0] == name) for name, _ in done}
    whole = [measured for (name, _), measured in done.items() if len(measured) == most[name]]
    return [measured[at] for measured in whole for at in sorted(measured)]


def write_points(path: Path, points: Iterable[Point]) -> None:
    """Write all points anew; the old file stays until the new one is whole."""
    write_rows(path, [Point._fields, *points])


def _point(row: list[str]) -> Point:
    method, seed, evaluations, seconds, train_loss, test_metric = row
    return Point(
        method, int(seed), int(evaluations), float(seconds), float(train_loss), float(test_metric)
    )
